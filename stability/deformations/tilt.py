r"""Two norms at once by tilting the spectrum: r(theta) = sup ||grad tau_theta||_2 / sup |tau_theta| is continuous.

theta runs over [-inf, inf] through s in [-1, 1], theta(s) = sign(s) (exp(2 |s| / (1 - |s|)) - 1). Between two points r
takes all values between its values there, so every ratio between the smallest and the largest r seen can be met,
whether or not r is monotone.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from stability.deformations.roots import bracketed_roots
from stability.deformations.spectral import Tiltable

_SAMPLES = 21
_LIMITS = 3
_ZOOMS = 3
_FLAT = 1e-3


class Extremes(NamedTuple):
    """Smallest and largest ratio seen for each of n fields, with their places: four tensors ``(n,)``."""

    lower: Tensor
    lower_place: Tensor
    upper: Tensor
    upper_place: Tensor


class Tilt:
    """r over s in [-1, 1] for a flat batch of n mean-free, nonzero fields.

    Args:
        fields: batch shape ``(n,)``.
    """

    def __init__(self, fields: Tiltable) -> None:
        self._fields = fields
        (n,) = fields.batch_shape
        places = torch.linspace(-1.0, 1.0, _SAMPLES, dtype=torch.float64, device=fields.device)
        self._places = places[:, None].expand(_SAMPLES, n)  # (S, n)
        # near the limits few frequencies are left: apart from the others they are cheap
        groups = places.tensor_split((_LIMITS, _SAMPLES - _LIMITS))
        self._ratios = torch.cat([ratio(fields.tilted(theta(group)[:, None])) for group in groups])  # (S, n)

    def extremes(self) -> Extremes:
        """The range of r: the extremes of the samples, each followed into the two neighbouring intervals."""
        lower, lower_place = self._follow(-1.0)
        upper, upper_place = self._follow(1.0)
        return Extremes(lower, lower_place, upper, upper_place)

    def solve(self, owner: Tensor, target: Tensor, extremes: Extremes) -> Tensor:
        """theta with r = target, the fields tilted as little as possible.

        Args:
            owner: which field, ``(Q,)`` in [0, n).
            target: ratios in 1 / pixel, ``(Q,)``, between the extremes of their fields.
            extremes: those of ``extremes()``.

        Returns:
            Tensor ``(Q,)``; -inf and inf included.
        """
        places = torch.cat([self._places, extremes.lower_place[None], extremes.upper_place[None]])
        ratios = torch.cat([self._ratios, extremes.lower[None], extremes.upper[None]])
        places, order = places.sort(dim=0)
        places, ratios = places[:, owner], ratios.gather(0, order)[:, owner]  # (S + 2, Q)
        goal = target.log()
        value = ratios.log() - goal
        change = value[:-1] * value[1:] <= 0
        distance = torch.where(change, (places[:-1] + places[1:]).abs(), torch.inf)
        first = distance.argmin(0)[None]  # (1, Q)
        ends = places.gather(0, first)[0], places.gather(0, first + 1)[0]
        values = value.gather(0, first)[0], value.gather(0, first + 1)[0]

        def residual(index: Tensor, place: Tensor) -> Tensor:
            return ratio(self._fields[owner[index]].tilted(theta(place))).log() - goal[index]

        return theta(bracketed_roots(residual, ends, values))

    def _follow(self, sign: float) -> tuple[Tensor, Tensor]:
        """The largest sign * r and its place: the best sample, followed by halving steps where it is a clear peak."""
        values = sign * self._ratios
        best, at = values.max(0)
        place = self._places.gather(0, at[None])[0]
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


def ratio(fields: Tiltable) -> Tensor:
    """sup ||grad tau||_2 / sup |tau| in 1 / pixel, ``batch_shape``."""
    norms = fields.norms()
    return norms.jacobian.lower / norms.displacement.lower
