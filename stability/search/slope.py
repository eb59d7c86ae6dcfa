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
from stability.search.checks import check_differentiable, check_images_of_search, check_norm
from stability.search.compared import compared
from stability.search.families import LEAST
from stability.search.frank_wolfe import COLD
from stability.search.metric import Metric, metrics_at_zero
from stability.search.piecewise import PiecewiseLinearSpace
from stability.search.space import Step
from stability.search.weights import Weights, largest_eigenvalues, missed
from stability.warps.base import Warp
from stability.warps.spline import SplineWarp

STARTS, POWERS, GAIN = 4, 30, 1e-4
"""Power iterations, their steps at most, and the gain below which all are done."""

WARM, CONVERGED = 80, 800
"""Iterations of a linear step in them, and of the one whose multipliers are the weights."""

ENOUGH = 1.02
"""Ratio of the two ends at which the weights are no longer moved."""

MOVES, RATE, EVEN = 48, 0.5, 0.02
"""Moves of the weights, how far the first goes, and the share that it makes even."""

SLOWER, UNEVEN = 15, 6
"""After how many moves they go half as far, and make a quarter of that share even."""

TOPS, SHARP = 6, 15.0
"""Eigenvectors that share in a move, and how much more the top one counts."""

SHORT, LONG = 12, 100
"""Lanczos steps for each move, and for the certificate."""

FAILURE = 1e-6
"""Probability with which Lanczos' method misses more than is allowed for."""

STEEPEST = 1e-5
"""b / (a / px) that the upper value is found for, at least: the quadratic form of smaller ones has no digits left. The
set is larger then, by fields that differ from translations by less than that."""

PRECISE = 1e-4
"""Share of the lower value up to which round-off, which is counted in both ends, does not count in the status."""

CUBIC = SplineWarp()


@dataclass(frozen=True, repr=False)
class Slope:
    """lower <= sup ||J tau|| over the pixel grid's C(a, b) <= upper, J = d Phi(L_tau x) / d tau at 0, for every image.

    The fields are those of C(a, b) that are linear on the triangles of the pixel grid. For small t the largest distance
    that they reach in C(t a, t b) is t times that slope, up to terms of order t^2. Other periodic fields of C(a, b) may
    have more in the plane (a cone around a pixel between two others); all are below the upper value for (a, 2^(1/2) b).

    Args:
        field: has the slope ``lower``, batch shape ``(B,)``: the predicted worst field, at the norms a and b.
        lower: attained, ``(B,)``, less the round-off.
        upper: ``(B,)``, and the round-off.
        norm_x: ||x||, ``(B,)``.
        round_off: of ||J tau|| as measured at the field, ``(B,)``: an estimate.
        status: of the upper value; "estimate" if round-off is more than 1e-4 of a lower value.
    """

    field: PiecewiseLinearField
    lower: Tensor
    upper: Tensor
    norm_x: Tensor
    round_off: Tensor
    status: Status

    @property
    def width(self) -> Tensor:
        """upper / lower - 1, ``(B,)``; NaN where nothing moves."""
        return torch.where(self.lower > 0, self.upper / self.lower - 1, torch.nan)

    def to_frame(self) -> pd.DataFrame:
        """One row per image."""
        names = ("lower", "upper", "width", "norm_x", "round_off")
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

    The fields are periodic and linear on the triangles of the pixel grid (between pixels, in one dimension). Any
    periodic field of C(a, b) has the same values at the pixels as one of these with a gradient of at most 2^(1/2) b (b
    in one dimension): the upper value for a and 2^(1/2) b holds for all of them, not for fields that jump at the
    window's border, as rotations do.

    From below by tau <- argmax <J^T J tau, s> over C(a, b), which never lowers ||J tau||; from above by the largest
    eigenvalue of J^T J relative to a quadratic form that is at most 1 on C(a, b) (see ``weights``), which holds except
    with probability 1e-6. J is never formed; of a kernel, J^T J tau is a difference of gradients (see ``metric``).

    Args:
        representation: with features that have second derivatives, or an exact kernel whose Phi has a derivative.
        images: x, ``(B, C, *size)``, floating point, none of them 0.
        displacement_norm: a > 0 in pixels, a number or ``(B,)``.
        jacobian_norm: b > 0, a number or ``(B,)``.
        generator: of the starts.
        warp: L_tau, differentiable at tau = 0 and looking up at pixels: ``SplineWarp``.

    Returns:
        The interval and the field with the lower value.

    Raises:
        ValueError: for a kernel whose Phi has no derivative (a step, the tangent kernel of ReLU, patches that are 0),
            images that are 0, norms that are not positive, or NaN.
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
    check_differentiable(warp)
    if min(images.shape[2:]) < LEAST:
        raise ValueError(
            f"images must have at least {LEAST} pixels along each side to be linearised, got "
            f"{tuple(images.shape[2:])}; use worst_case with small norms and another family of fields"
        )
    fixed, rows = compared(representation, images), []
    for i in range(len(images)):
        several, single = metrics_at_zero(fixed, images, i, warp, (STARTS, 1), generator)
        rows.append(_one(several, single, a[i], b[i], generator))
    fields, attained, above, error = zip(*rows, strict=True)
    lower, upper, round_off = a.new_tensor(attained), a.new_tensor(above), a.new_tensor(error)
    lower = (lower - round_off).clamp_min(0.0)
    precise = bool((round_off <= PRECISE * lower).logical_or(round_off == 0).all())
    return Slope(
        field=PiecewiseLinearField(torch.stack(fields), tuple(images.shape[2:])),
        lower=lower,
        upper=upper + round_off,
        norm_x=images.flatten(1).norm(dim=1),
        round_off=round_off,
        status=Status.PROBABLE if precise else Status.ESTIMATE,
    )


def _one(
    several: Metric, single: Metric, a: Tensor, b: Tensor, generator: torch.Generator
) -> tuple[Tensor, float, float, float]:
    """Field, lower and upper value of one image, and the round-off of the lower one."""
    n, *lattice = several.shape[:-1]
    space = PiecewiseLinearSpace(tuple(lattice), tuple(lattice), a.expand(n), b.expand(n))
    field, lower = _climbed(several, space, space.step(space.directions(generator), None, COLD))
    if lower == 0:
        return field, 0.0, 0.0 if _silent(single, generator) else math.inf, 0.0
    upper, vectors = _upper(single, field, lower, float(a), float(torch.maximum(b, STEEPEST * a)), generator)
    # the relaxation's own top eigenvectors, one by one and together, are near the maximiser where it is tight
    both = vectors[:1] + vectors[1:2] if len(vectors) > 1 else vectors
    other = vectors[:1] - vectors[1:2] if len(vectors) > 1 else vectors
    ends = torch.cat([vectors[:2], both, other])[:n]
    ends = torch.cat([ends, ends[:1].expand(n - len(ends), *ends.shape[1:])])
    again, value = _climbed(several, space, space.step(several.gram(ends), None, COLD))
    field, lower = (again, value) if value > lower else (field, lower)
    return field, lower, max(lower, upper), single.round_off(field)


def _silent(metric: Metric, generator: torch.Generator) -> bool:
    """Whether J^T J maps a random field to 0, thus all but surely J every field."""
    probe = torch.randn(metric.shape, generator=generator, dtype=torch.float64, device=generator.device)
    return not bool(metric.gram(probe.to(metric.device)).any())


def _climbed(metric: Metric, space: PiecewiseLinearSpace, step: Step) -> tuple[Tensor, float]:
    """The best end of generalised power iterations, and its ||J tau|| = <tau, J^T J tau>^(1/2)."""
    best, at = torch.zeros(len(space.a), dtype=torch.float64, device=space.a.device), step.parameters
    for _ in range(POWERS):
        image = metric.gram(step.parameters)
        if not bool(torch.isfinite(image).all()):
            raise ValueError(
                "the derivative of the representation must be finite, got NaN; look for a root, a logarithm or a "
                "division by 0 in it"
            )
        value = (step.parameters * image).flatten(1).sum(1).clamp_min(0.0).sqrt()
        going = bool((value > best * (1 + GAIN)).any())
        at = torch.where((value > best).reshape(-1, *[1] * (at.ndim - 1)), step.parameters, at)
        best = torch.maximum(best, value)
        if not going:
            break
        step = space.step(image, step.state, WARM)
    return at[int(best.argmax())], float(best.max())


def _upper(
    metric: Metric, field: Tensor, lower: float, a: float, b: float, generator: torch.Generator
) -> tuple[float, Tensor]:
    """The certified value of the best of a sequence of weights, and the top eigenvectors of those."""
    cells = (1.0,) * field.shape[-1]
    polished = linear_step(metric.gram(field[None]), cells, a, b, iterations=CONVERGED, precision=torch.float64)
    weights = Weights.of(polished.splitting, cells, a, b)
    best, chosen, start, tops = math.inf, weights, field, field[None]
    for move in range(MOVES + 1):
        values, vectors = _relative_eigenvalues(metric, weights, start, SHORT)
        if float(values[0]) < best:
            best, chosen, tops = float(values[0]), weights, vectors
        if best <= (ENOUGH * lower) ** 2:
            break
        shares = torch.softmax(SHARP * (values / values[0] - 1), 0)
        rate, even = RATE / (1 + move / SLOWER), EVEN / (1 + move / UNEVEN) ** 2
        weights, start = weights.moved(vectors, shares, rate, even), vectors.sum(0)
    draw = torch.randn(field.shape, generator=generator, dtype=torch.float64, device=generator.device).to(field.device)
    values, _ = _relative_eigenvalues(metric, chosen, draw, LONG, random=True)
    if draw.numel() <= LONG:
        return math.sqrt(float(values[0])), tops  # Lanczos' method has ended
    loss = missed(LONG, draw.numel(), FAILURE)
    return math.sqrt(float(values[0]) / (1 - loss)), tops


def _relative_eigenvalues(
    metric: Metric, weights: Weights, start: Tensor, steps: int, random: bool = False
) -> tuple[Tensor, Tensor]:
    """The largest v^T J^T J v / v^T M v that Lanczos' method sees, ``(m,)``, and v with v^T M v = 1.

    Args:
        metric: J^T J for one field.
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
        image = metric.gram(unfolded(u).reshape(1, *shape))
        return torch.linalg.solve_triangular(factor, image.reshape(-1, d), upper=False).flatten()

    first = start.reshape(-1, d) if random else factor.T @ start.reshape(-1, d)
    values, vectors = largest_eigenvalues(operator, first.flatten(), steps, TOPS)
    return values, torch.stack([unfolded(vector).reshape(shape) for vector in vectors])
