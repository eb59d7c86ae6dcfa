r"""``linearised``: the largest slope of the distance at zero over C(a, b), in an interval, and its field."""

import math
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn

from stability.bounds.rung import Status
from stability.deformations.checks import check_generator
from stability.deformations.piecewise_linear import PiecewiseLinearField
from stability.deformations.triangulation import largest_displacement, largest_gradient
from stability.representations.base import Representation
from stability.search.checks import check_differentiable, check_images_of_search, check_norm
from stability.search.compared import compared
from stability.search.families import LEAST
from stability.search.frank_wolfe import COLD
from stability.search.lifted import relaxed
from stability.search.metric import Metric, metrics_at_zero
from stability.search.piecewise import PiecewiseLinearSpace
from stability.search.space import Step
from stability.search.weights import Weights, largest_eigenvalue, missed
from stability.warps.base import Warp
from stability.warps.spline import SplineWarp

STARTS, POWERS, GAIN = 4, 30, 1e-4
"""Power iterations, their steps at most, and the gain below which all are done."""

WARM = 80
"""Iterations of a linear step in them."""

EVEN = (1e-3, 0.01, 0.03)
"""Shares of the weights that are made even; the best one counts."""

BELOW = 1 - 1e-9
"""Of both norms, lest round-off exceeds them."""

COMBINED, APART = 64, 0.9
"""Combinations of the relaxed fields that are looked at, and the cosine of J tau below which two are different."""

SHORT, LONG = 24, 160
"""Lanczos steps to choose it, and for the certificate."""

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
    start, upper = _upper(several, single, float(a), float(torch.maximum(b, STEEPEST * a)), generator)
    others, slopes = _combined(several, start, float(a), float(b), generator)
    field, lower = (others[0], float(slopes[0])) if float(slopes[0]) > lower else (field, lower)
    again, value = _climbed(several, space, space.step(several.gram(others), None, COLD))
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


def _upper(several: Metric, single: Metric, a: float, b: float, generator: torch.Generator) -> tuple[Tensor, float]:
    """The fields of the relaxation, ``(n, *size, d)``, and a value that holds but with probability ``FAILURE``."""
    shape, cells = several.shape, (1.0,) * several.shape[-1]
    # all at random: near a maximiser of one field the iteration would stay there
    start = torch.randn(shape, generator=generator, dtype=torch.float64, device=generator.device).to(several.device)
    point = relaxed(several.gram, start, cells, a, b)
    # what the certificate starts from must not have chosen its weights
    glance, first = torch.randn(2, start[0].numel(), generator=generator, dtype=torch.float64, device=generator.device)
    glance, first = glance.to(several.device), first.to(several.device)
    factors = [Weights(point.nodes, point.right, point.left, cells, a, b, even).factor() for even in EVEN]
    factor = min(factors, key=lambda factor: _relative_eigenvalue(single, factor, glance, SHORT))
    value = _relative_eigenvalue(single, factor, first, LONG)
    if len(factor) > LONG:  # otherwise Lanczos' method has ended
        value /= 1 - missed(LONG, len(factor), FAILURE)
    return point.fields, math.sqrt(max(value, 0.0))


def _relative_eigenvalue(metric: Metric, factor: Tensor, start: Tensor, steps: int) -> float:
    """The largest v^T J^T J v / v^T M v that Lanczos' method sees.

    Args:
        metric: J^T J for one field.
        factor: R of M = R R^T.
        start: R^T v, uniformly distributed in direction.
        steps: of Lanczos' method.
    """
    shape = (1, metric.shape[-1], *metric.shape[1:-1])

    def operator(u: Tensor) -> Tensor:
        """R^{-1} J^T J R^{-T} u, components first."""
        v = torch.linalg.solve_triangular(factor.T, u[:, None], upper=True).view(shape)
        image = metric.gram(v.movedim(1, -1)).movedim(-1, 1).reshape(-1, 1)
        return torch.linalg.solve_triangular(factor, image, upper=False)[:, 0]

    return largest_eigenvalue(operator, start, steps)


def _translations(field: Tensor) -> Tensor:
    """One along each axis, as long as the field, ``(d, *size, d)``."""
    unit = torch.eye(field.shape[-1], dtype=field.dtype, device=field.device)
    return field.norm() * torch.stack([axis.expand_as(field) / axis.expand_as(field).norm() for axis in unit])


def _combined(
    metric: Metric, relaxed_fields: Tensor, a: float, b: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Combinations of relaxed fields, and of translations, that have the largest slopes in C(a, b), and these slopes.

    Where the relaxation is tight its fields are multiples of the maximiser; otherwise that is often near one of these.
    """
    n, device = len(relaxed_fields), relaxed_fields.device
    shifts = _translations(relaxed_fields[0])
    known = torch.cat([relaxed_fields, shifts])
    padded = torch.cat([shifts, torch.zeros_like(relaxed_fields)])[:n]
    images = torch.cat([metric.gram(relaxed_fields), metric.gram(padded)])[: len(known)]
    inner = known.flatten(1) @ images.flatten(1).T
    inner = (inner + inner.T) / 2  # <J tau, J sigma>
    draw = torch.randn(COMBINED, n, generator=generator, dtype=torch.float64, device=generator.device).to(device)
    shares = torch.block_diag(
        torch.cat([torch.eye(n, dtype=draw.dtype, device=device), draw]),
        torch.linalg.eigh(inner[n:, n:]).eigenvectors.T,
    )
    fields = (shares @ known.flatten(1)).unflatten(1, known.shape[1:])
    size = torch.maximum(largest_displacement(fields) / a, largest_gradient(fields, (1.0,) * fields.shape[-1]) / b)
    shares = shares * (BELOW / size.clamp_min(torch.finfo(size.dtype).tiny))[:, None]
    slopes = torch.einsum("km,ml,kl->k", shares, inner, shares).clamp_min(0.0).sqrt()
    cosines = (shares @ inner @ shares.T).abs() / (slopes[:, None] * slopes).clamp_min(torch.finfo(size.dtype).tiny)
    chosen: list[int] = []
    for k in slopes.argsort(descending=True).tolist():
        if len(chosen) < n and (not chosen or float(cosines[k, chosen].max()) < APART):
            chosen.append(k)
    chosen += chosen[:1] * (n - len(chosen))
    return (shares[chosen] @ known.flatten(1)).unflatten(1, known.shape[1:]), slopes[chosen]
