r"""Fields with prescribed norms: sup |tau| = a and sup ||grad tau||_2 = b, one of them or both.

The result's norms are at most the targets and fall short of them by ``MARGIN`` and round-off: a statement for all
fields with norms at most (a, b) covers it. (The displacement norm of a ``Sum`` is seen on a grid only and may exceed
its target by what the grid misses.)
"""

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from stability.deformations.attached import differentiates, followed, lengths_at_places, with_derivative_of
from stability.deformations.base import Deformation, Scalar, common_shape
from stability.deformations.spectral import Shiftable, Steerable, Tiltable, length_of_shift
from stability.deformations.tilt import Tilt
from stability.deformations.translation import Translation

MARGIN = 1e-9
"""Relative distance kept from the targets."""

SHORTFALL = 1e-3
"""Relative distance below a target from which on a ``ShortfallWarning`` is given."""

Field = TypeVar("Field", bound=Deformation)


class ShortfallWarning(UserWarning):
    """A realised norm lies noticeably below its target."""


class Reachable(NamedTuple):
    """Interval of jacobian_norm / displacement_norm in 1 / pixel; two tensors ``batch_shape``."""

    lower: Tensor
    upper: Tensor


def reachable(field: Deformation) -> Reachable:
    """The ratios jacobian_norm / displacement_norm that ``control`` can give a field by tilting its spectrum.

    Args:
        field: mean-free, with a spectrum (``FourierField``).

    Returns:
        The interval for each field; every ratio inside can be met. The true range may be up to 2 % longer at each end.

    Raises:
        ValueError: if a field is zero, has a mean or has no spectrum.

    >>> from stability.deformations.fourier import FourierField
    >>> field = FourierField.sample((32, 32), cutoff=3, generator=torch.Generator().manual_seed(0))
    >>> lower, upper = reachable(field)
    >>> bool(lower < 0.25 < upper)
    True
    """
    tiltable = _tiltable(field)
    _check_mean(tiltable)
    with torch.no_grad():
        lower, _, upper, _ = Tilt(tiltable.flat()).extremes()
    return Reachable(lower.reshape(field.batch_shape), upper.reshape(field.batch_shape))


def control(
    field: Field,
    *,
    displacement_norm: Scalar | None = None,
    jacobian_norm: Scalar | None = None,
    shift: Sequence[float] | Tensor | None = None,
) -> Field:
    """The field with the wanted sup norms over the continuum: at most the targets, 1e-9 below them.

    One norm: the field is rescaled. Both norms: its spectrum is tilted by exp(theta |omega|^2 / R^2) until
    sup ||grad tau||_2 / sup |tau| is right, then it is rescaled; the mean stays zero. Both norms and ``shift``: the
    field is rescaled to ``jacobian_norm`` and a constant s e, s >= 0, fills up ``displacement_norm``.

    Args:
        field: any field for one norm; a mean-free field with a spectrum (``FourierField``) for two.
        displacement_norm: a = sup |tau| > 0 in pixels, a number or a tensor that broadcasts with ``batch_shape``:
            ``(T, 1)`` against ``(B,)`` gives ``(T, B)``.
        jacobian_norm: b = sup ||grad tau||_2 > 0, dimensionless, likewise. From 1 on tau need not be invertible.
        shift: direction of the constant, d numbers, not all zero; its length does not matter.

    Returns:
        A field of the same family; batch shape as broadcast.

    Raises:
        ValueError: if a norm is not positive and finite, a field is zero, or the pair is out of reach; the message then
            says what can be reached.

    >>> from stability.deformations.fourier import FourierField
    >>> field = FourierField.sample((32, 32), cutoff=3, generator=torch.Generator().manual_seed(0))
    >>> norms = control(field, displacement_norm=2.0, jacobian_norm=0.5).norms()
    >>> round(norms.displacement.lower.item(), 6), round(norms.jacobian.lower.item(), 6)
    (2.0, 0.5)
    """
    a, b = _target("displacement_norm", displacement_norm, field), _target("jacobian_norm", jacobian_norm, field)
    if shift is not None and (a is None or b is None):
        raise ValueError("shift needs both norms, got one; pass displacement_norm and jacobian_norm")
    if a is None and b is None:
        raise ValueError(
            "control needs displacement_norm, jacobian_norm or both, got neither; use displacement_norm=2.0"
        )
    found = cast(Field, _solved(field, a, b, shift))  # every way stays in the family
    if shift is None:  # with one both are met by construction
        _tell(found, a, b)
    return found


def _solved(
    field: Deformation, a: Tensor | None, b: Tensor | None, shift: Sequence[float] | Tensor | None
) -> Deformation:
    if isinstance(field, Steerable):
        if shift is not None:
            raise ValueError("shift must be None for a flow, got a direction; control both norms without it")
        return field.steered(a, b)
    if a is None or b is None:
        return _rescaled(field, a, b)
    tiltable = _tiltable(field)
    _check_mean(tiltable)
    return _tilted(tiltable, a, b) if shift is None else _shifted(tiltable, a, b, shift)


def _tell(field: Deformation, a: Tensor | None, b: Tensor | None) -> None:
    """Warn if a realised norm lies more than ``SHORTFALL`` below its target."""
    norms = field.norms()
    for name, target, norm in (("displacement_norm", a, norms.displacement), ("jacobian_norm", b, norms.jacobian)):
        if target is None:
            continue
        lower = norm.lower
        if bool((lower < target * (1 - SHORTFALL)).any()):
            share = (1 - lower / target.detach()).flatten()
            worst = int(share.argmax())
            warnings.warn(
                f"{name} falls short of its target by {float(share[worst]):.2g} of it for field {worst} "
                f"({int((share > SHORTFALL).sum())} of {len(share)} fields); read the realised value from norms()",
                ShortfallWarning,
                stacklevel=3,
            )


def _rescaled(field: Field, a: Tensor | None, b: Tensor | None) -> Field:
    """The field times the one factor that gives it its displacement norm a or its Jacobian norm b."""
    norms = field.homogeneous_norms()
    name, norm = ("displacement_norm", norms.displacement) if b is None else ("jacobian_norm", norms.jacobian)
    target = cast(Tensor, a if b is None else b)
    if not bool((norm.lower > 0).all()):
        raise ValueError(
            f"{name} of a field cannot be controlled where it is 0, got a zero or constant field; use FourierField"
        )
    if isinstance(field, Tiltable) and differentiates(field, target):
        far, steep = lengths_at_places(field)
        return field.scaled(target / with_derivative_of(far if b is None else steep, norm.lower) * (1 - MARGIN))
    if torch.is_grad_enabled() and field.requires_grad:
        if not isinstance(field, Translation):
            raise ValueError(
                f"coefficients must not require gradients to control a {type(field).__name__}, whose norms have no "
                "derivative here; use a field with a spectrum (FourierField), or control it under torch.no_grad()"
            )
        return field.scaled(target / with_derivative_of(field.mean.norm(dim=-1), norm.lower) * (1 - MARGIN))
    return field.scaled(target / norm.lower * (1 - MARGIN))


def _tilted(field: Tiltable, a: Tensor, b: Tensor) -> Tiltable:
    shape = common_shape(field.batch_shape, a.shape, b.shape)
    owner = (
        torch.arange(field.batch_shape.numel(), device=field.device).reshape(field.batch_shape).expand(shape).flatten()
    )
    a, b = a.expand(shape).flatten(), b.expand(shape).flatten()
    fields = field.flat()
    with torch.no_grad():
        tilt = Tilt(fields)
        target = b / a
        solved, theta, met = tilt.solve(owner, target)
        if not bool(met.all()):
            extremes = tilt.extremes()
            lower, upper = extremes.lower[owner], extremes.upper[owner]
            first = int((~met).nonzero()[0, 0])
            low, high, size = float(lower[first]), float(upper[first]), float(a[first])
            shift = (1, 0) if field.d == 2 else (1,)
            advice = "or draw another field"
            if isinstance(field, Shiftable):
                advice = f"raise the cutoff, or pass shift={shift}"
            raise ValueError(
                f"jacobian_norm / displacement_norm must lie in [{low:.6g}, {high:.6g}] 1/px for this field, got "
                f"{float(target[first]):.6g} (request {first} of {len(target)}); ask for jacobian_norm between "
                f"{low * size:.6g} and {high * size:.6g}, {advice}"
            )
        norms = solved.norms()
        factor = torch.minimum(a / norms.displacement.lower, b / norms.jacobian.lower) * (1 - MARGIN)
    if differentiates(field, a, b):
        solved, factor = followed(fields[owner], theta, a, b, solved.places(), factor)
    return solved.scaled(factor)[torch.arange(len(a), device=field.device).reshape(shape)]


def _shifted(field: Tiltable, a: Tensor, b: Tensor, shift: Sequence[float] | Tensor) -> Tiltable:
    """tau + s e with sup |tau + s e| = a, s >= 0, after tau was scaled."""
    if not isinstance(field, Shiftable):
        raise ValueError(
            f"shift needs a field to which a constant can be added, got {type(field).__name__}; control both norms "
            "without shift"
        )
    direction = torch.as_tensor(shift, dtype=torch.float64, device=field.device)
    length = math.hypot(*direction.flatten().tolist())
    if direction.shape != (field.d,) or not 0 < length < math.inf:
        raise ValueError(f"shift must be a direction of {field.d} numbers, not all 0, got {shift!r}; use (1.0, 0.0)")
    e = (direction / length).to(field.dtype)
    shape = common_shape(field.batch_shape, a.shape, b.shape)
    a, b = a.expand(shape), b.expand(shape)
    scaled = _rescaled(field, None, b)
    bound = a * (1 - MARGIN)
    found = scaled.filled(e, bound.detach())
    if bool((found.alone > a).any()):
        _check_alone(scaled.norms().displacement.lower, a, b)
    if differentiates(scaled, a, b):
        again = length_of_shift(scaled.displacement(found.place.to(field.dtype), each=True), e, bound)
        return scaled.shifted((found.s + (again - again.detach()))[..., None] * e)
    return found.field


def _check_alone(alone: Tensor, a: Tensor, b: Tensor) -> None:
    """Raise if a field without its constant is too large."""
    if bool((alone > a * (1 + MARGIN)).any()):
        first = int((alone > a * (1 + MARGIN)).flatten().nonzero()[0, 0])
        size, got = float(a.flatten()[first]), float(b.flatten()[first])
        high = got * size / float(alone.flatten()[first])
        raise ValueError(
            f"jacobian_norm must be at most {high:.6g} for this field with displacement_norm {size:.6g}, got {got:.6g} "
            f"(request {first} of {a.numel()}): the field alone moves points by "
            f"{float(alone.flatten()[first]):.6g} px; "
            "ask for a smaller jacobian_norm or a larger displacement_norm, or raise the cutoff"
        )


def _tiltable(field: Deformation) -> Tiltable:
    if isinstance(field, Tiltable):
        if not bool(field.varies.all()):
            raise ValueError("control needs fields that vary, got a zero or constant one; draw another field")
        return field
    raise ValueError(
        f"two norms at once need a field with a spectrum, got {type(field).__name__}; "
        "use FourierField, or control one norm"
    )


def _check_mean(field: Tiltable) -> None:
    if not bool(field.mean.any()):
        return
    mean = field.mean.norm(dim=-1)
    share = max(1e-12, 4 * torch.finfo(field.dtype).eps)  # round-off of sums over a lattice
    if bool((mean > share * field.norms().displacement.lower).any()):
        raise ValueError(
            f"the field's mean must be 0 to control both norms, got {float(mean.max()):.6g} px; "
            "use field.without_mean()"
        )


def _target(name: str, value: Scalar | None, field: Deformation) -> Tensor | None:
    if value is None:
        return None
    target = torch.as_tensor(value, dtype=torch.float64, device=field.device)
    known = target.detach()
    if not (bool(((known > 0) & (known < torch.inf)).all()) if known.ndim else 0 < float(known) < torch.inf):
        raise ValueError(
            f"{name} must be positive and finite, got {value!r}; for no deformation use Translation((0.0, 0.0))"
        )
    try:
        common_shape(target.shape, field.batch_shape)
    except ValueError:
        raise ValueError(
            f"{name} must broadcast with the batch {tuple(field.batch_shape)}, got shape {tuple(target.shape)}; "
            "use shape (T, 1) for T requests per field"
        ) from None
    return target
