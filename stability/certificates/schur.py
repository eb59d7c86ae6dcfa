r"""``schur`` and ``perron_schur``: ||[A, L]|| from the kernel itself, on a grid; a check that shares no lemma.

[A, L] f(u) = int [h(u - v) - h(phi(u) - phi(v)) D(v)] f(phi(v)) dv, h the periodic Gaussian. ||(f o phi) D^(1/2)|| is
||f||, so its norm is that of the operator with the kernel

    k(u, v) = (h(u - v) - h(phi(u) - phi(v)) D(v)) D(v)^(-1/2).

Schur: ||k||^2 <= max_u int |k(u, v)| dv max_v int |k(u, v)| du. Perron-Schur: for every p > 0, with Q = |k|^T |k|,
||k||^2 <= max_v (Q p)(v) / p(v); p after some power steps of Q is nearly the best.

Reference: Schur 1911; Collatz 1942 and Wielandt 1950 (the quotient (Q p) / p).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from stability.bounds.field import non_negative
from stability.bounds.rung import Status
from stability.certificates.certificate import Certificate, Form
from stability.certificates.suprema import FieldSuprema
from stability.deformations.base import Deformation
from stability.grid import coordinates

POWER_STEPS = 30

MOST_POINTS = 10_000
"""Points of the grid: the kernel is a dense matrix of their square."""


def schur(deformation: Deformation, sigma: float, *, oversample: int = 1) -> Certificate:
    """||[A, L]|| <= (max_u int |k| dv  max_v int |k| du)^(1/2), integrals and maxima over a grid: an estimate.

    Args:
        deformation: fields; those with b >= 1, and windows at whose border a field does not vanish, are not covered.
        sigma: scale of A in pixels, > 0; at least about 1.5 / oversample for the sums to be close to the integrals.
        oversample: nodes per pixel and axis.

    Raises:
        ValueError: if sigma is not positive or the grid has too many points.

    >>> from stability import Translation
    >>> schur(Translation((1.0, 2.0), (16, 16)), 2.0).value < 1e-12
    tensor([True])
    """
    return _checked(deformation, sigma, oversample, _schur, "schur")


def perron_schur(deformation: Deformation, sigma: float, *, oversample: int = 1) -> Certificate:
    """||[A, L]|| <= max (Q p / p)^(1/2), Q = |k|^T |k|, p > 0 after 30 power steps; arguments as for ``schur``.

    >>> from stability import FourierField
    >>> field = FourierField.sample((32,), cutoff=2, generator=torch.Generator().manual_seed(0))
    >>> field = field * (0.2 / field.norms().jacobian.upper)
    >>> bool(perron_schur(field, 2.0).value < schur(field, 2.0).value)
    True
    """
    return _checked(deformation, sigma, oversample, _perron, "perron-schur")


def _checked(
    deformation: Deformation, sigma: float, oversample: int, bound: Callable[[Tensor], Tensor], name: str
) -> Certificate:
    """The bound of |k| per field."""
    if non_negative("sigma", sigma) == 0:
        raise ValueError(f"sigma must be > 0, got {sigma!r}; without pooling the commutator is 0")
    count = math.prod(side * oversample for side in deformation.size)
    if count > MOST_POINTS:
        raise ValueError(
            f"the grid must have at most {MOST_POINTS} points, got {count}: the kernel is a dense matrix; "
            "use FieldCertificates or operator_weighted for large fields"
        )
    suprema = FieldSuprema(deformation)
    rows: list[list[Form]] = []
    for i, fits in enumerate(suprema.covered.tolist()):
        rows.append([])
        if fits:
            with torch.no_grad():
                value = float(bound(_kernel(suprema.field[i : i + 1], sigma, oversample)))
            rows[-1].append(Form(value, name, Status.ESTIMATE))
    return Certificate.smallest(rows, suprema.field.device)


def _schur(kernel: Tensor) -> Tensor:
    return (kernel.sum(1).amax() * kernel.sum(0).amax()).sqrt()


def _perron(kernel: Tensor) -> Tensor:
    p = kernel.new_ones(len(kernel))
    for _ in range(POWER_STEPS):
        p = kernel.T @ (kernel @ p)
        p = p / p.amax().clamp_min(1e-300) + 1e-9  # positive where the field does nothing
    return (kernel.T @ (kernel @ p) / p).amax().sqrt()


def _kernel(field: Deformation, sigma: float, oversample: int) -> Tensor:
    """|k| times the area of a cell on the grid, ``(P, P)``, for one field of batch shape ``(1,)``."""
    points = coordinates(field.size, oversample=oversample, dtype=torch.float64, device=field.device)
    points = points.reshape(-1, field.d)
    eye = torch.eye(field.d, dtype=torch.float64, device=points.device)
    determinant = torch.linalg.det(eye - field.derivative(points[None], 1)[0])
    moved = points - field.derivative(points[None], 0)[0]
    kernel = _gaussian(points, field.size, sigma) - _gaussian(moved, field.size, sigma) * determinant
    return kernel.abs_() * (determinant.rsqrt() / oversample**field.d)


def _gaussian(points: Tensor, size: tuple[int, ...], sigma: float) -> Tensor:
    """h(points[a] - points[b]), periodic with the size, ``(P, P)``."""
    product = points.new_ones(1)
    for column, side in zip(points.unbind(1), reversed(size), strict=True):
        difference = column[:, None] - column
        images = math.ceil(0.5 + 8 * sigma / side)
        values = torch.zeros_like(difference)
        for image in range(-images, images + 1):
            values += (
                ((difference - torch.round(difference / side) * side + image * side) / sigma).square_().div_(-2).exp_()
            )
        product = product * values.div_(sigma * math.sqrt(2 * math.pi))
    return product
