"""Random fields with the norms asked for, and requests that a law cannot meet refused before the first draw."""

import functools
from typing import Protocol

import torch
from torch import Tensor

from stability.augmentation.strength import Strength
from stability.deformations.base import Deformation
from stability.deformations.control import control, reachable
from stability.deformations.fourier import FourierField
from stability.deformations.spectral import Steerable, Tiltable
from stability.deformations.stack import stack

_PROBES = 16
_ROUNDS = 50


class Law(Protocol):
    """Draws fields: ``functools.partial(FourierField.sample, cutoff=3)``, or another family's ``sample`` likewise."""

    def __call__(
        self, size: tuple[int, ...], /, *, batch_shape: tuple[int, ...], generator: torch.Generator
    ) -> Deformation:
        """``batch_shape`` independent fields on a grid of this size."""
        ...


SMOOTH: Law = functools.partial(FourierField.sample, cutoff=3)
"""Stationary Gaussian fields with wavelengths down to a third of the shorter side."""


def draw(
    law: Law, strength: Strength, size: tuple[int, ...], s: Tensor, *, injective: bool, generator: torch.Generator
) -> Deformation:
    """Fields with the norms that the numbers s stand for.

    A field that cannot be given them, or that would fold although ``injective`` is asked for, is drawn again: the law
    is that of the family, given that the request is met.

    Args:
        law: of the fields.
        strength: of the fields.
        size: ``(H, W)``.
        s: ``(n,)`` in (0, 1].
        injective: whether ||grad tau|| < 1 has to be certified (or id - tau injective by construction).
        generator: where the random numbers come from.

    Raises:
        ValueError: if 50 rounds were not enough, or the family cannot have its norms prescribed.
    """
    a, b = strength.requests(size, s)
    field = _checked(law(size, batch_shape=(len(s),), generator=generator), size, len(s))
    for _ in range(_ROUNDS):
        tau, missed = _controlled(field, a, b, injective)
        if tau is not None and not bool(missed.any()):
            return tau
        rows = missed.nonzero()[:, 0].tolist()
        other = law(size, batch_shape=(len(rows),), generator=generator)
        fresh = {row: other[i] for i, row in enumerate(rows)}
        field = stack([fresh[i] if i in fresh else field[i] for i in range(len(s))])
    raise ValueError(
        f"the norms must be such that fields of this law can have them, got {len(rows)} of {len(s)} that cannot after "
        f"{_ROUNDS} rounds; ask for smaller norms or a ratio nearer to the middle of reachable(field)"
    )


def check_reach(law: Law, strength: Strength, size: tuple[int, ...], *, injective: bool) -> None:
    """Refuse a request unless nearly all fields of the law can meet it: 16 of them, drawn for this, have to.

    Raises:
        ValueError: with the interval that can be reached.
    """
    ends = strength.ends(size)
    a_1, b_1 = ends[1]
    if a_1 is None or (b_1 is None and not injective):
        return
    generator = torch.Generator().manual_seed(0)
    field = _checked(law(size, batch_shape=(_PROBES,), generator=generator), size, _PROBES)
    if b_1 is None:
        _check_folding(field, a_1, size)
    elif isinstance(field, Tiltable):
        _check_ratios(field, [(a, b) for a, b in ends if a is not None and b is not None], size)
    elif not isinstance(field, Steerable):
        raise ValueError(
            f"one norm alone must be given for {type(field).__name__}, whose spectrum is fixed, got both; leave one "
            "out, or use FourierField"
        )


def _check_folding(field: Deformation, a: float, size: tuple[int, ...]) -> None:
    tau = control(field, displacement_norm=a)
    folds = _folds(tau)
    if bool(folds.any()):
        most = a / float(tau.norms().jacobian.upper.max())
        raise ValueError(
            f"displacement_norm must be at most {most:.4g} px = Share({most / min(size):.3g}) for fields of this law "
            f"on {size} not to fold, got {a:.4g} px; ask for less, lower the cutoff, give jacobian_norm as well, or "
            "pass injective=False"
        )


def _check_ratios(field: Tiltable, pairs: list[tuple[float, float]], size: tuple[int, ...]) -> None:
    found = reachable(field)
    low, high = float(found.lower.max()), float(found.upper.min())
    for a, b in pairs:
        if not low * a <= b <= high * a:
            raise ValueError(
                f"jacobian_norm / displacement_norm must lie in [{low:.4g}, {high:.4g}] 1/px at both ends of the "
                f"ranges for fields of this law on {size}, got {b:.4g} with {a:.4g} px; with jacobian_norm {b:.4g} "
                f"ask for displacement_norm between {b / high:.4g} and {b / low:.4g} px, change the cutoff, or give "
                "one norm only"
            )


def _controlled(
    field: Deformation, a: Tensor | None, b: Tensor | None, injective: bool
) -> tuple[Deformation | None, Tensor]:
    """The fields with their norms, or None, and those that cannot have them."""
    try:
        tau = control(field, displacement_norm=a, jacobian_norm=b)
    except ValueError:
        if a is None or b is None or not isinstance(field, Tiltable):
            raise
        found = reachable(field)
        missed = (b < found.lower * a) | (b > found.upper * a)
        if not bool(missed.any()):
            raise
        return None, missed
    return tau, _folds(tau) if injective else torch.zeros_like(tau.norms().jacobian.lower, dtype=torch.bool)


def _folds(field: Deformation) -> Tensor:
    """Where u - tau(u) is not certainly injective, bool ``(n,)``."""
    sure = field.norms().jacobian.upper < 1
    return ~(sure if field.injective is None else sure | field.injective)


def _checked(field: object, size: tuple[int, ...], count: int) -> Deformation:
    if not isinstance(field, Deformation) or tuple(field.batch_shape) != (count,) or field.size != size:
        raise ValueError(
            f"fields must draw {count} deformations on {size}, got {field!r}; use functools.partial(FourierField."
            "sample, cutoff=3)"
        )
    return field
