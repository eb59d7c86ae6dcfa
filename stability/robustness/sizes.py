r"""The largest t for which some bound at (t a, t b) stays below a distance: bisection whose answer was evaluated."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from stability.bounds.rung import Rung, Status, certifying

Rungs = Callable[[Tensor, Tensor], Sequence[Rung]]
"""From a and b, ``(B,)`` each, to bounds for every field with these norms, in units of ||x||."""

SMALLEST, LARGEST = 2.0**-40, 1e12
"""Of the largest t there is, or of a pixel: where no bound is below the distance there, the radius is 0. And up to how
many pixels sizes are looked at."""
BELOW_ONE = 1.0 - 1e-9
"""t b stays below 1: beyond it u - tau(u) need not be invertible."""
BISECTIONS = 21
"""Of the logarithm of t: to a share of 3e-5."""
NONE = "none"


class Certified(NamedTuple):
    """What was certified, image by image.

    Args:
        size: t, ``(B,)``; 0 where nothing is.
        by: name of the smallest rung at t; "none" where t = 0.
        status: of that rung; "not covered" where t = 0.
    """

    size: Tensor
    by: tuple[str, ...]
    status: tuple[Status, ...]


def certified_sizes(rungs: Rungs, distance: Tensor, *, displacement_norm: Tensor, jacobian_norm: Tensor) -> Certified:
    r"""max { t : t b < 1, t a <= 1e12 px, min_rungs value(t a, t b) + floor < distance }, from below.

    Every rung passes ``stability.bounds.certifying``. The t that is returned was evaluated: since C(s a, s b) lies in
    C(t a, t b) for s <= t, all smaller sizes are certified with it, whether or not the bounds are monotone.

    Args:
        rungs: bounds as functions of a and b; where there are none, nothing is certified.
        distance: in units of ||x||, ``(B,)``; at 0 or below, the radius is 0.
        displacement_norm: a at t = 1, ``(B,)`` in pixels.
        jacobian_norm: b at t = 1, ``(B,)``.

    Raises:
        ValueError: if a rung may not certify: it is no proof, or speaks of one field.

    >>> from stability.bounds import Scope
    >>> every = Scope(every_image=True, every_field=True)
    >>> one = torch.ones(1, dtype=torch.float64)
    >>> found = certified_sizes(lambda a, b: [Rung("a", a, Status.PROOF, every)], 0.5 * one,
    ...                         displacement_norm=one, jacobian_norm=one)
    >>> round(float(found.size), 3), found.by, bool(found.size < 0.5)
    (0.5, ('a',), True)
    """
    most = torch.minimum(BELOW_ONE / jacobian_norm, LARGEST / displacement_norm)  # (B,)

    def at(t: Tensor) -> tuple[list[Rung], Tensor]:
        found = [certifying(rung) for rung in rungs(t * displacement_norm, t * jacobian_norm)]
        return found, torch.stack([torch.full_like(t, torch.inf), *map(_with_floor, found)])  # (1 + R, B)

    def holds(t: Tensor) -> Tensor:
        return at(t)[1].amin(0) < distance  # NaN: no

    low, high = SMALLEST * torch.minimum(most, 1.0 / displacement_norm), most
    some, all_ = holds(low) & (distance > 0), holds(high)
    low = torch.where(some & all_, most, low)
    for _ in range(BISECTIONS):
        middle = low.sqrt() * high.sqrt()  # their product may underflow
        now = holds(middle)
        low, high = torch.where(now, middle, low), torch.where(now, high, middle)
    found, values = at(low)
    best, kept = values.nan_to_num(torch.inf).argmin(0).tolist(), some.tolist()
    chosen = [found[k - 1] if known else None for k, known in zip(best, kept, strict=True)]
    by = tuple(rung.name if rung else NONE for rung in chosen)
    status = tuple(rung.status if rung else Status.NOT_COVERED for rung in chosen)
    return Certified(torch.where(some, low, 0.0), by, status)


def _with_floor(rung: Rung) -> Tensor:
    """The bound and the round-off of the distance below it; other allowances are not of every field."""
    return rung.value + rung.allowances.get("floor", torch.zeros_like(rung.value))
