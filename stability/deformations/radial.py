r"""The smooth compact window psi(|u - c| / r) on the torus: its derivatives, its constants, the fields made of it.

    psi(t) = exp(1 - 1 / (1 - t^2)) for t < 1, else 0;    psi(t) = g(t^2),    g(q) = exp(1 - w),    w = 1 / (1 - q).

With g^(k) = G_k(w) exp(1 - w), G_0 = 1 and G_(k + 1) = w^2 (G_k' - G_k), every constant below is the supremum over
w >= 1 of t^j |P(w)| exp(1 - w), P a polynomial and t^2 = 1 - 1 / w. It is attained at w = 1 or where

    (j / 2) P + w (w - 1) (P' - P) = 0.

An error delta of such a root changes the value by O(delta^2): with the roots of an eigenvalue solver (1e-12 and better)
values are right to round-off, which ``enclosure.ROUND_OFF`` covers.
"""

import abc
import math
from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Self

import torch
from numpy.polynomial import Polynomial
from torch import Tensor

from stability.deformations.base import Deformation
from stability.deformations.checks import check_factor
from stability.deformations.enclosure import ROUND_OFF
from stability.deformations.family import Family, State
from stability.deformations.norms import Interval
from stability.deformations.parameters import Numbers, parameter, same
from stability.deformations.spectral import Tiltable
from stability.grid import sides

SMALLEST_RADIUS = 2.0
"""Where control of two norms stops to make a window narrower, in pixels."""

_EDGE = 1 - 1 / 745
"""From this q on exp(1 - w) is below the smallest number of float64."""

_W = Polynomial([0.0, 1.0])


class Peak(NamedTuple):
    """A supremum over t in [0, 1) and where it is attained."""

    value: float
    place: float


def _peak(polynomial: Polynomial, power: int = 0) -> Peak:
    """sup over t in [0, 1) of t^power |P(w)| exp(1 - w)."""
    critical = power / 2 * polynomial + _W * (_W - 1) * (polynomial.deriv() - polynomial)
    # the real parts of complex roots do no harm: every value is attained
    candidates = [1.0, *(max(1.0, float(root.real)) for root in critical.roots())]

    def value(w: float) -> float:
        return abs(float(polynomial(w))) * (1 - 1 / w) ** (power / 2) * math.exp(1 - w)

    best = max(candidates, key=value)
    return Peak(value(best), (1 - 1 / best) ** 0.5)


def _times_q(polynomial: Polynomial) -> Polynomial:
    """q P(w), q = (w - 1) / w, for a polynomial that w divides."""
    return polynomial // _W * (_W - 1)


_G = [Polynomial([1.0])]
while len(_G) < 5:
    _G.append(_W**2 * (_G[-1].deriv() - _G[-1]))

# psi^(k) = t^(k mod 2) P_k(w) exp(1 - w), by Faa di Bruno's formula for g(t^2)
_P = [
    _G[0],
    2 * _G[1],
    4 * _times_q(_G[2]) + 2 * _G[1],
    8 * _times_q(_G[3]) + 12 * _G[2],
    16 * _times_q(_times_q(_G[4])) + 48 * _times_q(_G[3]) + 12 * _G[2],
]

SLOPE = _peak(_P[1], 1)
"""S_1 = sup |psi'|, at t = 3^(-1/4)."""

CURVATURE = max(_peak(_P[2]), _peak(_P[1]))
"""S_2 = sup of the norm of the second derivative of u -> psi(|u|): of |psi''| and |psi'| / t; the first is larger."""

THIRD, FOURTH = _peak(_P[3], 1), _peak(_P[4])
r"""S_3 = sup |psi'''| and S_4 = sup |psi''''|, bounds of the derivatives of u -> psi(|u|) along lines in any direction.

At an angle with cosine c to the radius, y = c t, those are 8 y^3 g''' + 12 y g'' and
16 y^4 g'''' + 48 y^2 g''' + 12 g''. Between c = 0 and 1 they are extreme only where y^2 = -g'' / (2 g''') or
-3 g''' / (2 g''''), with values of at most 8 t |g''| < 50 and 12 |g''| + 24 t^2 |g'''| < 1813 in size: less than
S_3 = 506.7 and S_4 = 22604.9.
"""

REACH = _peak(_P[0], 1)
"""sup t psi(t), at t^2 = 2 - sqrt(3)."""

STRETCH = _peak(_P[0] + _times_q(_P[1]))
"""sup |(t psi)'|, at w = (3 + sqrt(7)) / 2; |psi| is at most 1 < 1.501."""

BEND = _peak(2 * _P[1] + _P[2], 1)
"""sup |(t psi)''|."""

THIRD_BOUND = _peak(_times_q(_P[3])).value + 3 * CURVATURE.value
"""sup |t psi'''| + 3 S_2 bounds the third derivatives of s -> s psi(|s|) along lines: s D^3 psi + 3 e D^2 psi."""

FOURTH_BOUND = _peak(_P[4], 1).value + 4 * THIRD.value
"""sup |t psi''''| + 4 S_3, likewise for the fourth."""


def profile(q: Tensor, order: int) -> list[Tensor]:
    """g(q), g'(q), ... up to the order <= 2, exactly 0 for q >= 1.

    >>> profile(torch.tensor([0.0, 1.0]), 0)[0]
    tensor([1., 0.])
    """
    inside = q < _EDGE
    w = 1 / (1 - torch.where(inside, q, 0.0))
    g = torch.where(inside, (1 - w).exp(), 0.0)
    return [g, -w * w * g, (w - 2) * w**3 * g][: order + 1]


class RadialField(Family, Tiltable, abc.ABC):
    """Fields that are linear in one tensor times psi(|u - c| / r): 0 from the distance r of the centre c on.

    The distance is that to the nearest image of c on the torus, and 2 r is at most the shorter side: images do not
    overlap, tau is infinitely often differentiable.

    A family adds the tensor to ``AXES`` and names those that are lengths in pixels. The radius is held with one more
    axis of length 1.
    """

    LENGTHS: ClassVar[frozenset[str]]
    """The tensors that grow with the resolution."""

    @property
    def centre(self) -> Tensor:
        """c in pixels, ``(*batch_shape, d)``."""
        return self._tensors["centre"]

    @property
    def radius(self) -> Tensor:
        """r in pixels, ``batch_shape``."""
        return self._tensors["radius"][..., 0]

    @property
    def vanishing_border(self) -> float | None:
        """The least distance of a disc from the border of the pixels' cells; None where one crosses it."""
        centre = self._double("centre") + 0.5  # from the left and upper border
        period = sides(self.size, dtype=torch.float64, device=self.device)
        gap = torch.minimum(centre, period - centre).amin(-1) - self._width()
        return float(gap.min()) if gap.numel() and bool((gap >= 0).all()) else None

    def state(self) -> State:
        """Tensors and size: the constructor's keyword arguments."""
        return {**self._tensors, "radius": self.radius}, {"size": self.size}

    def tilted(self, theta: Tensor) -> Self:
        """The same field with another radius r(theta), decreasing, ln r(theta) = ln r - theta + O(theta^2).

        theta = -inf gives half the shorter side, theta = inf ``SMALLEST_RADIUS`` (the field's own radius or the
        largest one where those are smaller).
        """
        radius = self.radius.to(torch.float64)
        largest = torch.full_like(radius, min(self.size) / 2)
        smallest = radius.detach().clamp_max(SMALLEST_RADIUS)
        end = torch.where(theta > 0, smallest, largest)
        span = (end / radius).log().abs()
        finite = torch.where(torch.isinf(theta), 0.0, theta)
        step = finite * span / (span + finite.abs()).clamp_min(1e-300)
        moved = radius * (-step).exp()
        moved = torch.where(moved > largest, largest, torch.where(moved < smallest, smallest, moved))
        return self._with({"radius": torch.where(torch.isinf(theta), end, moved)[..., None].to(self.dtype)})

    def refined(self, factor: int) -> Self:
        """The same field with ``factor`` times as many pixels per side: tau_f(f u) = f tau(u)."""
        check_factor(factor)
        lengths = {name: self._tensors[name] * factor for name in self.LENGTHS}
        result = self._with(lengths, self.norms().refined(factor))
        result._size = tuple(factor * side for side in self.size)
        return result

    def plus(self, other: Deformation) -> Deformation | None:
        """The sum of two fields of one family with equal centres and radii; None otherwise."""
        if (
            not isinstance(other, RadialField)
            or type(other) is not type(self)
            or not same(self.centre, other.centre)
            or not same(self.radius, other.radius)
        ):
            return None
        return self._with({name: self._tensors[name] + other._tensors[name] for name in self.LINEAR})

    def _from_centre(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """(u - c) / r ``(n, P, d)``, c the nearest image, and r ``(n, 1)``."""
        period = sides(self.size, dtype=self.dtype, device=self.device)
        offset = points - self._rows("centre")[:, None]
        radius = self._rows("radius")
        return (offset - period * (offset / period).round()) / radius[..., None], radius

    def _double(self, name: str) -> Tensor:
        """A tensor for the norms: detached, in double precision."""
        return self._tensors[name].detach().to(torch.float64)

    def _width(self) -> Tensor:
        """The radius for the norms, ``batch_shape``."""
        return self._double("radius")[..., 0]


def covered(value: Tensor) -> Interval:
    """A supremum known up to round-off."""
    return Interval(lambda: value, lambda: value * (1 + ROUND_OFF))


def place_and_width(
    centre: Numbers | None, radius: Numbers, size: tuple[int, ...], like: Tensor
) -> tuple[Tensor, Tensor]:
    """Centre ``(*batch_shape, d)``, by default the image's, and radius ``(*batch_shape, 1)`` as tensors.

    Raises:
        ValueError: if one is not finite, or the radius is not in (0, half the shorter side].
    """
    middle: Sequence[float] = [(side - 1) / 2 for side in reversed(size)]
    d = len(size)
    c = parameter("centre", middle if centre is None else centre, (d,), f"use {tuple(middle)}", like)
    r = parameter("radius", radius, (), f"use {min(size) / 4}", like)
    if not bool(((r > 0) & (r <= min(size) / 2)).all()):
        raise ValueError(
            f"radius must be positive and at most {min(size) / 2} px, half the shorter side of {size}, "
            f"got {radius!r}; use {min(size) / 4}"
        )
    return c, r[..., None]


def draw_places(
    size: tuple[int, ...], radius: Numbers | None, batch_shape: Sequence[int], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Centres uniform on the torus, and the radius, or radii uniform between 1/8 and 1/2 of the shorter side."""
    place = torch.rand((*batch_shape, len(size) + 1), generator=generator, device=generator.device, dtype=torch.float64)
    centre = place[..., 1:] * sides(size, device=generator.device)
    drawn = (1 + 3 * place[..., 0]) / 8 * min(size)
    return centre, drawn if radius is None else parameter("radius", radius, (), f"use {min(size) / 4}", centre)
