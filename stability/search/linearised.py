r"""``linearised``: the largest slope of the distance at zero over C(a, b), in an interval, and its field."""

import math
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn

from stability.bounds.rung import Status
from stability.deformations.checks import check_generator
from stability.deformations.linear_step import linear_step
from stability.deformations.piecewise_linear import PiecewiseLinearField
from stability.representations.base import Representation
from stability.search.checks import check_images_of_search, check_norm
from stability.search.compared import compared
from stability.search.jacobian import FieldJacobian
from stability.search.piecewise import PiecewiseLinear
from stability.search.weights import Weights, largest_eigenvalue, missed
from stability.warps.base import Warp
from stability.warps.spline import SplineWarp

STARTS, POWERS = 4, 30
"""Power iterations, and their steps at most."""

CONVERGED = 800
"""Iterations of the linear step whose multipliers are the weights."""

MOVES, SHORT, LONG, RATE = 12, 24, 100, 0.4
"""Moves of the weights, Lanczos steps of each and of the certificate, and how far the weights move."""

CUBIC = SplineWarp()

FAILURE = 1e-6
"""Probability with which Lanczos' method misses more than is allowed for."""


@dataclass(frozen=True, repr=False)
class Slope:
    """lower <= sup ||J tau|| over C(a, b) <= upper, J = d Phi(L_tau x) / d tau at 0, for every image.

    For small t the largest distance over C(t a, t b) is t times that slope, up to terms of order t^2.

    Args:
        field: has the slope ``lower``, batch shape ``(B,)``: the predicted worst field, at the norms a and b.
        lower: attained, ``(B,)``.
        upper: ``(B,)``, over fields that are linear on the triangles of the pixel grid.
        norm_x: ||x||, ``(B,)``.
        status: of the upper value.
    """

    field: PiecewiseLinearField
    lower: Tensor
    upper: Tensor
    norm_x: Tensor
    status: Status = Status.PROBABLE

    @property
    def width(self) -> Tensor:
        """upper / lower - 1, ``(B,)``; NaN where nothing moves."""
        return torch.where(self.lower > 0, self.upper / self.lower - 1, torch.nan)

    def to_frame(self) -> pd.DataFrame:
        """One row per image."""
        names = ("lower", "upper", "width", "norm_x")
        columns: dict[str, object] = {name: getattr(self, name).tolist() for name in names}
        frame = pd.DataFrame({"image": range(len(self.lower)), **columns})
        frame["status"] = str(self.status)
        return frame

    def __repr__(self) -> str:
        return f"Slope of the distance at zero:\n{self.to_frame().to_string()}"


def linearised(
    representation: Representation | nn.Module,
    images: Tensor,
    *,
    displacement_norm: float | Tensor,
    jacobian_norm: float | Tensor,
    generator: torch.Generator,
    warp: Warp = CUBIC,
) -> Slope:
    r"""sup ||J tau|| over {sup |tau| <= a, sup ||grad tau||_2 <= b}, from both sides, J = d Phi(L_tau x) / d tau at 0.

    From below by tau <- argmax <J^T J tau, s> over C(a, b), which never lowers ||J tau||; from above by the largest
    eigenvalue of J^T J relative to a quadratic form that is at most 1 on C(a, b) (see ``weights``), which holds except
    with probability 1e-6. J is never formed.

    Args:
        representation: with features that have second derivatives.
        images: x, ``(B, C, *size)``, floating point, none of them 0.
        displacement_norm: a > 0 in pixels, a number or ``(B,)``.
        jacobian_norm: b > 0, a number or ``(B,)``.
        generator: of the starts.
        warp: L_tau, differentiable at tau = 0 and looking up at pixels: ``SplineWarp``.

    Returns:
        The interval and the field with the lower value.

    Raises:
        ValueError: for an exact kernel, images that are 0, norms that are not positive, or NaN.
        TypeError: if there is no generator.

    Reference: Journee, Nesterov, Richtarik & Sepulchre 2010 (from below); Nesterov 1998 (from above).

    >>> from stability import Architecture, CKN, images
    >>> x = images.load("fashion", count=2, size=(8, 8))
    >>> rng = torch.Generator().manual_seed(0)
    >>> ckn = CKN.fit(Architecture.dyadic(depth=1), x, filters=(8,), generator=rng)
    >>> slope = linearised(ckn, x[:1], displacement_norm=1.0, jacobian_norm=0.25, generator=rng)
    >>> bool((slope.lower <= slope.upper).all())
    True
    """
    check_generator(generator)
    images = check_images_of_search(images)
    a, b = (
        check_norm(name, value, images)
        for name, value in (("displacement_norm", displacement_norm), ("jacobian_norm", jacobian_norm))
    )
    fixed, rows = compared(representation, images), []
    for i, image in enumerate(images):
        rows.append(
            _one(FieldJacobian(fixed, image, warp, STARTS), FieldJacobian(fixed, image, warp), a[i], b[i], generator)
        )
    fields, lower, upper = zip(*rows, strict=True)
    return Slope(
        PiecewiseLinearField(torch.stack(fields), tuple(images.shape[2:])),
        a.new_tensor(lower),
        a.new_tensor(upper),
        images.flatten(1).norm(dim=1),
    )


def _one(
    several: FieldJacobian, single: FieldJacobian, a: Tensor, b: Tensor, generator: torch.Generator
) -> tuple[Tensor, float, float]:
    """Field, lower and upper value of one image."""
    field, lower = _lower(several, a, b, generator)
    if lower == 0:
        probe = torch.randn(single.shape, generator=generator, dtype=torch.float64, device=generator.device).to(
            a.device
        )
        if not bool(single.apply(probe).any()):
            return field, 0.0, 0.0
    return field, lower, max(lower, _upper(single, field, float(a), float(b), generator))


def _lower(jacobian: FieldJacobian, a: Tensor, b: Tensor, generator: torch.Generator) -> tuple[Tensor, float]:
    """The best of several generalised power iterations."""
    n, *lattice, d = jacobian.shape
    space = PiecewiseLinear().space(tuple(lattice), a.expand(n), b.expand(n))
    step = space.step(space.directions(generator), None, 120)
    best, at = torch.zeros(n, dtype=torch.float64, device=a.device), step.parameters
    for _ in range(POWERS):
        rows = jacobian.apply(step.parameters)
        value = rows.norm(dim=1)
        if not bool(torch.isfinite(value).all()):
            raise ValueError(
                "the derivative of the representation must be finite, got NaN; look for a root, a logarithm or a "
                "division by 0 in it"
            )
        better = value > best
        at = torch.where(better.reshape(-1, *[1] * (d + 1)), step.parameters, at)
        going = bool((value > best * (1 + 1e-4)).any())
        best = torch.maximum(best, value)
        if not going:
            break
        step = space.step(jacobian.adjoint(rows), step.state, 80)
    return at[int(best.argmax())], float(best.max())


def _upper(jacobian: FieldJacobian, field: Tensor, a: float, b: float, generator: torch.Generator) -> float:
    """The smallest of the certified values of a sequence of weights."""
    cells = (1.0,) * field.shape[-1]
    polished = linear_step(jacobian.gram(field[None]), cells, a, b, iterations=CONVERGED, precision=torch.float64)
    weights = Weights.of(polished.splitting, cells, a, b)
    best, chosen, start = math.inf, weights, field
    for move in range(MOVES + 1):
        value, vector = _relative_eigenvalue(jacobian, weights, start, SHORT)
        if value < best:
            best, chosen = value, weights
        if move < MOVES:
            weights, start = weights.moved(vector, RATE / (1 + move / 4)), vector
    draw = torch.randn(field.shape, generator=generator, dtype=torch.float64, device=generator.device).to(field.device)
    steps = min(LONG, draw.numel())
    certain, _ = _relative_eigenvalue(jacobian, chosen, draw, LONG, random=True)
    loss = missed(steps, draw.numel(), FAILURE)
    return math.sqrt(certain / (1 - loss)) if steps < draw.numel() and loss < 1 else math.sqrt(certain)


def _relative_eigenvalue(
    jacobian: FieldJacobian, weights: Weights, start: Tensor, steps: int, random: bool = False
) -> tuple[float, Tensor]:
    """The largest v^T J^T J v / v^T M v that Lanczos' method sees, and v with v^T M v = 1.

    Args:
        jacobian: J for one field.
        weights: of M = R R^T.
        start: v, or R^T v, which is uniformly distributed in direction, if it is random.
        steps: of Lanczos' method.
        random: see above.
    """
    factor = weights.factor()
    shape = start.shape
    d = shape[-1]

    def unfolded(u: Tensor) -> Tensor:
        """v = R^{-T} u."""
        return torch.linalg.solve_triangular(factor.T, u.reshape(-1, d), upper=True)

    def operator(u: Tensor) -> Tensor:
        image = jacobian.gram(unfolded(u).reshape(1, *shape))
        return torch.linalg.solve_triangular(factor, image.reshape(-1, d), upper=False).flatten()

    first = start.reshape(-1, d) if random else factor.T @ start.reshape(-1, d)
    value, vector = largest_eigenvalue(operator, first.flatten(), steps)
    return value, unfolded(vector).reshape(shape)
