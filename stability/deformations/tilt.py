r"""Two norms at once by tilting the spectrum: r(theta) = sup ||grad tau_theta||_2 / sup |tau_theta| is continuous.

theta runs over [-inf, inf] through s in [-1, 1], theta(s) = sign(s) (exp(2 |s| / (1 - |s|)) - 1). Between two points r
takes all values between its values there, so every ratio between the smallest and the largest r seen can be met,
whether or not r is monotone.
"""

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from stability.deformations.ratios import Ratios, ratio
from stability.deformations.roots import bracketed_roots
from stability.deformations.spectral import Tiltable

_SAMPLES = 21
_LIMITS = 3
_ZOOMS = 3
_FLAT = 1e-3

_STRIDE = 0.2
"""Of the first look for a sign change, in s."""

_LOOKS = 3
"""Most further looks inside the interval: what is left over then is a matter of few requests."""

_TOLERANCE = 1e-9
"""Of ln r in the end."""

_ALMOST = 1e-7
"""Of ln r where a secant's slope is known to a hundredth or better: one more step is right to 1e-8."""

_CLOSE = 1e-8
"""Of ln r by the norms of the outcome, whose coefficients are rounded to a few parts in 1e16 or 1e7."""

_SECANTS = 16
_NEWTON = 2
"""Of Newton's steps of the maxima for every value of r that a bracket relies on."""

_LONGEST = 0.1
"""Step in s of the search near a place."""

_WIDENINGS = 8
_AT_THE_END = 1e-6
"""How far outside the extremes, relatively, a request still counts as one for them."""


class Extremes(NamedTuple):
    """Smallest and largest ratio seen for each of n fields, with their places: four tensors ``(n,)``."""

    lower: Tensor
    lower_place: Tensor
    upper: Tensor
    upper_place: Tensor


class Solution(NamedTuple):
    """Tilted fields, batch shape ``(Q,)``, with their theta, and which of them have the wanted ratio, ``(Q,)`` each."""

    fields: Tiltable
    theta: Tensor
    met: Tensor


class Tilt:
    """r over s in [-1, 1] for a flat batch of n mean-free, nonzero fields.

    Args:
        fields: batch shape ``(n,)``.
    """

    def __init__(self, fields: Tiltable) -> None:
        self._fields = fields
        self._close = max(_CLOSE, 16 * torch.finfo(fields.dtype).eps)
        self._ratios: Ratios = fields.ratios()

    @cached_property
    def _samples(self) -> tuple[Tensor, Tensor]:
        """Places s and values r, ``(S, n)`` each."""
        (n,) = self._fields.batch_shape
        places = torch.linspace(-1.0, 1.0, _SAMPLES, dtype=torch.float64, device=self._fields.device)
        # near the limits few frequencies are left: apart from the others they are cheap
        groups = places.tensor_split((_LIMITS, _SAMPLES - _LIMITS))
        ratios = torch.cat([ratio(self._fields.tilted(theta(group)[:, None])) for group in groups])
        return places[:, None].expand(_SAMPLES, n), ratios

    def extremes(self) -> Extremes:
        """The range of r: the extremes of the samples, each followed into the two neighbouring intervals."""
        return Extremes(*self._follow(-1.0), *self._follow(1.0))

    def solve(self, owner: Tensor, target: Tensor) -> Solution:
        """Fields with r = target, tilted as little as possible.

        A look at r from s = 0 outwards finds an interval that holds a solution; there r is followed precisely, and
        the norms of the outcome decide whether it is one. Where this fails, or finds nothing, 21 precise samples and
        the extremes between them give the interval.

        Args:
            owner: which field, ``(Q,)`` in [0, n).
            target: ratios in 1 / pixel, ``(Q,)``.

        Returns:
            The fields, not yet scaled; where ``met`` is False the target is outside the range of r.
        """
        goal = target.log()
        place, slope = self._glanced(owner, goal)
        met = torch.zeros_like(goal, dtype=torch.bool)
        search = (
            () if self._ratios.tolerance <= _TOLERANCE else (self._by_secants, self._by_brackets, self._by_brackets)
        )
        for way in search or (None,):
            left = (~met & torch.isfinite(place)).nonzero()[:, 0]
            if not len(left):
                break
            found = place[left] if way is None else way(owner[left], goal[left], place[left], slope[left])
            left, found = left[torch.isfinite(found)], found[torch.isfinite(found)]
            solved = self._fields[owner[left]].tilted(theta(found))
            met[left] = (ratio(solved).log() - goal[left]).abs() <= self._close
            place[left] = found
            if len(left) == len(goal) and bool(met.all()):
                return Solution(solved, theta(place), met)
        left = (~met).nonzero()[:, 0]
        if len(left):
            fields, index = torch.unique(owner[left], return_inverse=True)
            place[left], met[left] = Tilt(self._fields[fields])._between_samples(index, goal[left])
        return Solution(self._fields[owner].tilted(theta(place)), theta(place), met)

    def _glanced(self, owner: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
        """Places where r seems to be right, NaN where there seem to be none, and slopes of ln r in s, ``(Q,)`` each.

        The sign of ln r - goal is followed from s = 0 outwards, at first to the side to which a monotone r would lead.
        """
        (n,) = self._fields.batch_shape
        far = round(1 / _STRIDE)
        places = torch.linspace(-1.0, 1.0, 2 * far + 1, dtype=torch.float64, device=goal.device)
        table = goal.new_full((n * len(places),), torch.nan)

        def look(index: Tensor, column: Tensor) -> Tensor:
            cell = owner[index] * len(places) + column
            new = torch.unique(cell[table[cell].isnan()])
            if len(new):
                which = torch.div(new, len(places), rounding_mode="floor")
                table[new] = self._ratios.glance(which, theta(places[new % len(places)])).log()
            return table[cell] - goal[index]

        every = torch.arange(len(goal), device=goal.device)
        centre = look(every, torch.full_like(every, far))
        uphill = torch.where(centre < 0, 1, -1)
        ends = torch.full((2, len(goal)), torch.nan, dtype=goal.dtype, device=goal.device)
        values = ends.clone()
        left = every
        for side in (1, -1):
            index, before = left, centre[left]
            for step in range(1, far + 1):
                column = far + side * step * uphill[index]
                now = look(index, column)
                change = before * now <= 0
                found = index[change]
                ends[:, found] = torch.stack([places[column - side * uphill[index]], places[column]])[:, change]
                values[:, found] = torch.stack([before, now])[:, change]
                index, before = index[~change], now[~change]
                if not len(index):
                    break
            left = index
            if not len(left):
                break
        slope = (values[1] - values[0]) / (ends[1] - ends[0])
        place = ends[0].clone()
        known = torch.isfinite(place).nonzero()[:, 0]

        def residual(index: Tensor, at: Tensor) -> Tensor:
            return self._ratios.glance(owner[known[index]], theta(at)).log() - goal[known[index]]

        if len(known):
            at, value = ends[:, known], values[:, known]
            exact = self._ratios.tolerance <= _TOLERANCE
            place[known] = bracketed_roots(
                residual,
                (at[0], at[1]),
                (value[0], value[1]),
                tolerance=self._ratios.tolerance,
                iterations=60 if exact else _LOOKS,
            )
        return place, slope

    def _by_secants(self, owner: Tensor, goal: Tensor, place: Tensor, slope: Tensor) -> Tensor:
        """Solutions near the places, NaN where the secant method does not reach one, ``(Q,)``.

        The maxima move by one of Newton's steps each time: they and the places converge together. A secant that leaves
        the interval between the latest values of either sign is replaced by its middle.
        """
        ratios = self._ratios.follow(owner, theta(place), 1)
        ratios(torch.arange(len(goal), device=goal.device), theta(place))  # the first step of the maxima is the largest
        solved, left = torch.full_like(place, torch.nan), torch.arange(len(goal), device=goal.device)
        place, slope = place.clone(), slope.clone()
        below, above = torch.full_like(place, torch.nan), torch.full_like(place, torch.nan)
        before, step = torch.full_like(place, torch.nan), torch.zeros_like(place)
        for _ in range(_SECANTS):
            value = ratios(left, theta(place)).log() - goal[left]
            secant = (value - before) / step
            slope = torch.where(secant.isfinite() & (secant != 0), secant, slope)
            below, above = torch.where(value < 0, place, below), torch.where(value < 0, above, place)
            move = place + (-value / slope).clamp(-_LONGEST, _LONGEST)
            outside = (move - below) * (move - above) >= 0  # False where one of them is not known
            move = torch.where(outside, (below + above) / 2, move).clamp(-1.0, 1.0)
            there = value.abs() <= torch.where(before.isnan(), _TOLERANCE, _ALMOST)
            solved[left[there]] = move[there]
            on = (~there).nonzero()[:, 0]
            if not len(on):
                break
            state = (left, move, slope, below, above, value, move - place)
            left, place, slope, below, above, before, step = (part[on] for part in state)
        return solved

    def _by_brackets(self, owner: Tensor, goal: Tensor, place: Tensor, slope: Tensor) -> Tensor:
        """Solutions near the places, NaN where ln r - goal keeps its sign, ``(Q,)``."""
        ratios = self._ratios.follow(owner, theta(place), _NEWTON)

        def residual(index: Tensor, at: Tensor) -> Tensor:
            return ratios(index, theta(at)).log() - goal[index]

        index = torch.arange(len(goal), device=goal.device)
        first, value = place.clone(), residual(index, place)
        second, beyond = first.clone(), value.clone()
        step = (-1.2 * value / slope).nan_to_num(0.01).clamp(-_LONGEST, _LONGEST)
        index = (value.abs() > _TOLERANCE).nonzero()[:, 0]
        for _ in range(_WIDENINGS):
            if not len(index):
                break
            second[index] = (first[index] + step[index]).clamp(-1.0, 1.0)
            beyond[index] = residual(index, second[index])
            index = index[value[index] * beyond[index] > 0]
            first[index], value[index] = second[index], beyond[index]
            step[index] *= 2
        found = bracketed_roots(residual, (first, second), (value, beyond), tolerance=_TOLERANCE)
        return found.index_fill(0, index, torch.nan)

    def _between_samples(self, owner: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
        """Places where r is right, and whether the goal is in its range, ``(Q,)`` each."""
        extremes = self.extremes()
        lower, upper = extremes.lower[owner].log(), extremes.upper[owner].log()
        met = (goal >= lower - _AT_THE_END) & (goal <= upper + _AT_THE_END)
        goal = goal.clamp(lower, upper)
        places, ratios = self._samples
        places = torch.cat([places, extremes.lower_place[None], extremes.upper_place[None]])
        ratios = torch.cat([ratios, extremes.lower[None], extremes.upper[None]])
        places, order = places.sort(dim=0)
        places, ratios = places[:, owner], ratios.gather(0, order)[:, owner]  # (S + 2, Q)
        value = ratios.log() - goal
        change = value[:-1] * value[1:] <= 0
        distance = torch.where(change, (places[:-1] + places[1:]).abs(), torch.inf)
        first = distance.argmin(0)[None]  # (1, Q)
        ends = places.gather(0, first)[0], places.gather(0, first + 1)[0]
        values = value.gather(0, first)[0], value.gather(0, first + 1)[0]

        def residual(index: Tensor, place: Tensor) -> Tensor:
            return ratio(self._fields[owner[index]].tilted(theta(place))).log() - goal[index]

        return bracketed_roots(residual, ends, values, tolerance=max(_TOLERANCE, self._close / 8)), met

    def _follow(self, sign: float) -> tuple[Tensor, Tensor]:
        """The largest sign * r and its place: the best sample, followed by halving steps where it is a clear peak."""
        places, ratios = self._samples
        values = sign * ratios
        best, at = values.max(0)
        place = places.gather(0, at[None])[0]
        beside = torch.stack([(at - 1).clamp_min(0), (at + 1).clamp_max(_SAMPLES - 1)])
        drop = (best - values.gather(0, beside)).amin(0)  # 0 at both ends of the samples
        chosen = (drop > _FLAT * best.abs()).nonzero()[:, 0]
        if not len(chosen):
            return sign * best, place
        fields, peak, centre = self._fields[chosen], best[chosen], place[chosen]
        step = 2.0 / (_SAMPLES - 1)
        for _ in range(_ZOOMS):
            step /= 2
            near = torch.stack([centre, centre - step, centre + step])  # (3, n')
            seen = torch.cat([peak[None], sign * ratio(fields.tilted(theta(near[1:])))])
            peak, which = seen.max(0)
            centre = near.gather(0, which[None])[0]
        return sign * best.index_copy(0, chosen, peak), place.index_copy(0, chosen, centre)


def theta(place: Tensor) -> Tensor:
    """sign(s) (exp(2 |s| / (1 - |s|)) - 1), infinite at s = -1 and 1.

    >>> theta(torch.tensor([-1.0, 0.0, 0.5]))
    tensor([  -inf, 0.0000, 6.3891])
    """
    size = place.abs()
    return torch.copysign(torch.expm1(2 * size / (1 - size)), place)
