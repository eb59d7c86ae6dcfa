r"""``operator_weighted``: ||[A, L]||^2 <= lambda_max(P) lambda_max(R), the strain averaged by the heat semigroup.

X = M^T - M^(-1), h = M^(-T) grad ln D, W_1 = (X X^T)^(1/2) D^(-1/2), W_2 = ((X^T X)^(1/2) D^(-1/2)) o psi,
V_1 = |h| D^(-1/2), V_2 = (h h^T / |h| D^(-1/2)) o psi, psi = (id - tau)^(-1); with weights k, k_4 and n > 0,
g(r) = e^(k (2 r - 1)) and g_4(r) = e^(k_4 (2 r - 1)),

    P = t int_0^1 g T_r (-div W_1 grad) T_r dr + n sqrt(t) int_0^1 g_4 T_r V_1 T_r dr,
    R = t int_0^1 g T_r (-div W_2 grad) T_r dr + (t sqrt(t) / n) int_0^1 g_4 T_r (-div V_2 grad) T_r dr.

Replacing W and V by their suprema gives the form "hessian" of ``FieldCertificates.commutator``.
"""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy
import torch
from torch import Tensor

from stability.bounds.field import non_negative
from stability.bounds.rung import Status
from stability.certificates.certificate import Certificate, Form
from stability.certificates.lanczos import largest_eigenvalue
from stability.certificates.suprema import FieldSuprema
from stability.deformations.base import Deformation
from stability.grid import coordinates, frequencies

NODES = 16
"""Of the quadrature over r, in the variable sqrt(r): T_r varies fast near 0."""

REACH = 5.0
"""The grid's Nyquist frequency times sigma, at least."""

TILTS, BEND_TILT = (1.0, 1.5), 0.6
"""Values of k that are tried, and k_4."""

BALANCES = (0.35, 0.5, 0.7, 1.0, 1.4)
"""Values of n that are tried."""

GLANCE = 12
"""Steps of Lanczos' method that choose among them; the bound comes from runs of their own."""


def operator_weighted(
    deformation: Deformation,
    sigma: float,
    generator: torch.Generator,
    *,
    failure: float = 1e-3,
    steps: int = 60,
) -> Certificate:
    """||[A, L]|| <= (lambda_max(P) lambda_max(R))^(1/2), see the module; about 1.5 times the norm for smooth fields.

    P and R act on the functions of a grid fine enough for sigma, multiplications at its points, derivatives by FFT:
    spectrally accurate for smooth fields, not an enclosure. Their largest eigenvalues come from Lanczos' method.

    Args:
        deformation: fields of the torus with two derivatives; fields with b >= 1, or of a window at whose border they
            do not vanish, are not covered.
        sigma: scale of A in pixels, > 0.
        generator: for the random starts.
        failure: probability, in (0, 1), with which the method may miss an eigenvalue, over all fields together.
        steps: of Lanczos' method.

    Raises:
        ValueError: if sigma, failure or steps are out of range.

    >>> from stability import FourierField
    >>> rng = torch.Generator().manual_seed(0)
    >>> field = FourierField.sample((16, 16), cutoff=1, generator=rng)
    >>> found = operator_weighted(field * (0.1 / field.norms().jacobian.upper), 2.0, rng)
    >>> str(found.status), bool(found.value < 0.08)
    ('high probability', True)
    """
    sigma = non_negative("sigma", sigma)
    if sigma == 0 or not 0 < failure < 1 or steps < 2:
        raise ValueError(
            f"sigma must be > 0, failure in (0, 1), steps >= 2, got {sigma!r}, {failure!r}, {steps!r}; "
            "use for example failure=1e-3, steps=60"
        )
    suprema = FieldSuprema(deformation)
    bends = torch.isfinite(suprema.bend).tolist()  # infinite where grad tau jumps, and where nothing is covered
    share = failure / (2 * max(1, len(bends)))
    rows: list[list[Form]] = []
    for i, smooth in enumerate(bends):
        rows.append([])
        if smooth:
            with torch.no_grad():
                value = _bound(suprema.field[i : i + 1], sigma, generator, share, steps)
            rows[-1].append(Form(value, "operator weighted", Status.PROBABLE))
    return Certificate.smallest(rows, suprema.field.device)


def _bound(field: Deformation, sigma: float, generator: torch.Generator, failure: float, steps: int) -> float:
    """For one field, batch shape ``(1,)``: weights from short runs, the bound from a long run of each operator."""
    oversample = max(1, math.ceil(REACH / (math.pi * sigma)))
    points = coordinates(field.size, oversample=oversample, dtype=torch.float64, device=field.device)
    size, points = tuple(points.shape[:-1]), points.reshape(1, -1, field.d)
    b = float(field.norms().jacobian.upper)
    sources = points
    for _ in range(math.ceil(math.log(1e-14) / math.log(max(b, 1e-14)))):  # u = v + tau(u) contracts by b
        sources = points + field.derivative(sources, 0)
    heat, here, there, t = (
        _Heat(size, oversample, sigma, field.device),
        _weights(field, points),
        _weights(field, sources),
        sigma**2 / 2,
    )

    def top(f: Callable[[Tensor], Tensor], most: int, chance: float) -> float:
        return largest_eigenvalue(f, points.shape[1], generator, steps=most, failure=chance, device=points.device)

    def operators(tilt: float, n: float) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        def p(f: Tensor) -> Tensor:
            bend = heat.multiplication(f, here.bend, n * math.sqrt(t), BEND_TILT)
            return heat.divergence(f, here.left, t, tilt) + bend

        def r(f: Tensor) -> Tensor:
            bend = heat.divergence(f, there.bends, t * math.sqrt(t) / n, BEND_TILT)
            return heat.divergence(f, there.right, t, tilt) + bend

        return p, r

    def glance(weights: tuple[float, float]) -> float:
        return math.prod(top(operator, GLANCE, 0.9) for operator in operators(*weights))

    best = min(itertools.product(TILTS, BALANCES), key=glance)
    return math.sqrt(math.prod(top(operator, steps, failure) for operator in operators(*best)))


class _Weights(NamedTuple):
    """Multipliers at points, times D^(-1/2): (X X^T)^(1/2), (X^T X)^(1/2), |h| and h h^T / |h|."""

    left: Tensor  # (P, d, d)
    right: Tensor  # (P, d, d)
    bend: Tensor  # (P,)
    bends: Tensor  # (P, d, d)


def _weights(field: Deformation, points: Tensor) -> _Weights:
    jacobian, hessian = (field.derivative(points, order)[0] for order in (1, 2))
    m = torch.eye(field.d, dtype=torch.float64, device=points.device) - jacobian
    inverse, weight = torch.linalg.inv(m), torch.linalg.det(m).rsqrt()
    x = m.mT - inverse
    gradient = -torch.einsum("pij,pjik->pk", inverse, hessian)  # of ln D
    h = (inverse.mT @ gradient[..., None])[..., 0]
    length, each = h.norm(dim=-1), weight[:, None, None]
    bends = h[:, :, None] * h[:, None, :] / length.clamp_min(1e-300)[:, None, None]
    return _Weights(_root(x @ x.mT) * each, _root(x.mT @ x) * each, length * weight, bends * each)


def _root(square: Tensor) -> Tensor:
    """S^(1/2) = (S + sqrt(det S)) / (tr S + 2 sqrt(det S))^(1/2) of positive semi-definite matrices ``(P, d, d)``."""
    if square.shape[-1] == 1:
        return square.clamp_min(0.0).sqrt()
    root = torch.linalg.det(square).clamp_min(0.0).sqrt()[:, None, None]
    trace = square.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
    eye = torch.eye(2, dtype=square.dtype, device=square.device)
    return (square + root * eye) / (trace + 2 * root).clamp_min(1e-300).sqrt()


class _Heat:
    """int_0^1 e^(k (2 r - 1)) T_r Q T_r dr on a grid, Q = -div W grad or a multiplication."""

    def __init__(self, size: tuple[int, ...], oversample: int, sigma: float, device: torch.device) -> None:
        self._size, self._axes = size, tuple(range(-len(size), 0))
        axes = [frequencies(n, device=device) * oversample for n in size]
        omega = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1])  # (d, *size), x first
        omega = omega[..., : size[-1] // 2 + 1]
        nodes, weights = (torch.from_numpy(part).to(device) for part in numpy.polynomial.legendre.leggauss(NODES))
        s = (nodes + 1) / 2
        self._r, self._dr = s.square(), weights * s  # dr = 2 s ds, ds = 1/2 of the weights
        shape = (-1, *[1] * len(size))
        self._decay = (-self._r.view(shape) * (sigma * sigma / 2) * omega.square().sum(0)).exp()  # (NODES, *size)
        nyquist = (omega.abs() >= math.pi * oversample - 1e-9).any(0)
        self._derivative = torch.where(nyquist, 0.0, omega) * 1j

    def divergence(self, f: Tensor, weight: Tensor, factor: float, k: float) -> Tensor:
        """Factor * int e^(k (2 r - 1)) T_r (-div W grad) T_r f dr, W ``(P, d, d)``."""
        spectrum = self._transformed(f) * self._decay  # (NODES, *size)
        gradient = torch.fft.irfftn(spectrum[:, None] * self._derivative, s=self._size, dim=self._axes)
        flux = torch.einsum("pij,rjp->rip", weight, gradient.flatten(2)).unflatten(2, self._size)
        inner = -(torch.fft.rfftn(flux, dim=self._axes) * self._derivative).sum(1)
        return self._gathered(inner, factor, k)

    def multiplication(self, f: Tensor, weight: Tensor, factor: float, k: float) -> Tensor:
        """Factor * int e^(k (2 r - 1)) T_r w T_r f dr, w ``(P,)``."""
        smooth = torch.fft.irfftn(self._transformed(f) * self._decay, s=self._size, dim=self._axes)
        return self._gathered(torch.fft.rfftn(smooth * weight.reshape(self._size), dim=self._axes), factor, k)

    def _transformed(self, f: Tensor) -> Tensor:
        return torch.fft.rfftn(f.reshape(self._size), dim=self._axes)

    def _gathered(self, inner: Tensor, factor: float, k: float) -> Tensor:
        share = factor * self._dr * (k * (2 * self._r - 1)).exp()
        total = (inner * self._decay * share.view(-1, *[1] * len(self._size))).sum(0)
        return torch.fft.irfftn(total, s=self._size, dim=self._axes).flatten()
