r"""``BSpline``: sum_k c_k beta(u - k) with few bilinear look-ups, beta the centred B-spline of odd degree.

Of the p + 1 taps of an axis, two neighbours with weights v, w of one sign are (v + w) times the linear interpolation
between them at the place w / (v + w): a bilinear look-up, which every device does fast, serves up to four taps. Where
the weights' signs differ (in derivatives) a tap is looked up alone.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from stability.boundaries import Boundary, Periodic, Reflect
from stability.grid import frequencies
from stability.warps.look_up import Interpolant, Orders

CHUNK_POINTS = 2**16
"""Points looked up at a time: half a megabyte for each of their coordinates stays in the cache."""
_BILINEAR, _BORDER = 0, 1  # of torch's look-up: its mode and its padding, which no point inside the table needs


@cache
def tap_polynomials(degree: int, order: int) -> tuple[tuple[Fraction, ...], ...]:
    """D^order beta(t + h - 1 - j), h = (degree + 1) / 2: the weight of pixel floor(u) - h + 1 + j, t = u - floor(u).

    Args:
        degree: p, odd, >= 1.
        order: of the derivative, >= 0.

    Returns:
        For every tap j = 0, ..., p the coefficients of 1, t, ..., t^p.

    >>> [float(6 * a) for a in tap_polynomials(3, 0)[3]], [float(6 * sum(w)) for w in tap_polynomials(3, 0)]
    ([0.0, 0.0, 0.0, 1.0], [0.0, 1.0, 4.0, 1.0])
    """
    taps = []
    for j in range(degree + 1):
        polynomial = [Fraction(0)] * (degree + 1)
        for i in range(degree + 1 - j):  # truncated powers (t + p - j - i)_+^p that are positive on [0, 1]
            sign = Fraction((-1) ** i * math.comb(degree + 1, i), math.factorial(degree))
            for power in range(degree + 1):
                polynomial[power] += sign * math.comb(degree, power) * Fraction(degree - j - i) ** (degree - power)
        for _ in range(order):
            polynomial = [k * polynomial[k] for k in range(1, degree + 1)] + [Fraction(0)]
        taps.append(tuple(polynomial))
    return tuple(taps)


@cache
def look_ups(degree: int, order: int) -> tuple[tuple[int, int], ...]:
    """(first tap, number of taps) of every look-up of an axis: neighbours whose weights have one sign on [0, 1].

    >>> look_ups(3, 0), look_ups(3, 1), look_ups(5, 1), len(look_ups(3, 2))
    (((0, 2), (2, 2)), ((0, 2), (2, 2)), ((0, 2), (2, 1), (3, 1), (4, 2)), 4)
    """
    taps = tap_polynomials(degree, order)
    places = [Fraction(k, 64) for k in range(65)]
    values = [[sum(a * t**k for k, a in enumerate(tap)) for t in places] for tap in taps]
    groups: list[tuple[int, int]] = []
    for j in range(0, degree + 1, 2):
        pairs = list(zip(values[j], values[j + 1], strict=True))
        if all(v >= 0 and w >= 0 and v + w > 0 for v, w in pairs) or all(
            v <= 0 and w <= 0 and v + w < 0 for v, w in pairs
        ):
            groups.append((j, 2))
        else:
            groups += [(j, 1), (j + 1, 1)]
    return tuple(groups)


@cache
def _weights(degree: int, order: int) -> tuple[tuple[int, tuple[float, ...], tuple[float, ...] | None], ...]:
    """Of every look-up of an axis its first tap, the polynomial of its weight, and that of its second tap, if any."""
    taps, found = tap_polynomials(degree, order), []
    for j, count in look_ups(degree, order):
        total = taps[j] if count == 1 else tuple(a + b for a, b in zip(taps[j], taps[j + 1], strict=True))
        found.append((j, _floats(total), None if count == 1 else _floats(taps[j + 1])))
    return tuple(found)


def _floats(polynomial: tuple[Fraction, ...]) -> tuple[float, ...]:
    """Its coefficients up to the last that is not 0."""
    last = max((k for k, a in enumerate(polynomial) if a), default=0)
    return tuple(map(float, polynomial[: last + 1]))


def _horner(polynomial: tuple[float, ...], t: Tensor) -> Tensor:
    """sum_k a_k t^k."""
    value = torch.full_like(t, polynomial[-1])
    for a in reversed(polynomial[:-1]):
        value = value.mul_(t).add_(a)
    return value


@dataclass(frozen=True)
class BSpline(Interpolant):
    """f_c(u) = sum_k c_k beta(u_x - k_x) beta(u_y - k_y), continued to all u; C^2 (cubic) or C^4 (quintic).

    Args:
        degree: p = 3 or 5.
        boundary: how f_c is continued beyond the window.
        size: the window.
        margin: where an image that is continued by zeros counts as 0: so many pixels from the border.

    Convention: pixel 0 of the window is pixel ``before`` of a table, pixel N - 1 has ``after`` behind it. A point that
    is not finite gives NaN.
    """

    degree: int
    boundary: Boundary
    size: tuple[int, ...]
    margin: int

    @property
    def half(self) -> int:
        """h = (p + 1) / 2: taps on either side of a point."""
        return (self.degree + 1) // 2

    @property
    def before(self) -> int:
        """Pixels of a table before the window's first."""
        return self.half - 1 + (0 if isinstance(self.boundary, Periodic) else self.margin)

    @property
    def after(self) -> int:
        """Pixels of a table behind the window's last (one for a point that round-off puts at N)."""
        return self.half + (1 if isinstance(self.boundary, Periodic) else self.margin)

    def look(self, table: Tensor, points: Tensor, orders: Orders) -> Tensor:
        """D^a f_c at the points, ``(B, C, P)``."""
        images = max(1, CHUNK_POINTS // max(1, points.shape[1]))
        parts = zip(table.split(images), points.split(images), strict=True)
        return torch.cat(
            [
                torch.cat([self._look(part, near, orders) for near in where.split(CHUNK_POINTS, 1)], -1)
                for part, where in parts
            ]
        )

    def _look(self, table: Tensor, points: Tensor, orders: Orders) -> Tensor:
        planes = table if len(self.size) == 2 else table.unsqueeze(-2)
        value = None
        for grid, weight in self._places(points, orders, table.dtype):
            found = grid_sample(planes, grid, mode="bilinear", padding_mode="border", align_corners=True).squeeze(2)
            value = found * weight if value is None else torch.addcmul(value, found, weight)
        assert value is not None  # there is at least one look-up
        return value

    def spread(self, values: Tensor, points: Tensor, orders: Orders, shape: tuple[int, ...]) -> Tensor:
        """The transpose of ``look``: ``(B, C, P)`` to ``(B, C, *shape)``."""
        images = max(1, CHUNK_POINTS // max(1, points.shape[1]))
        parts = zip(values.split(images), points.split(images), strict=True)
        return torch.cat([self._spread(part, where, orders, shape) for part, where in parts])

    def _spread(self, values: Tensor, points: Tensor, orders: Orders, shape: tuple[int, ...]) -> Tensor:
        planes = values.new_zeros(*values.shape[:2], *((1, *shape) if len(shape) == 1 else shape))
        total = torch.zeros_like(planes)
        for grid, weight in self._places(points, orders, values.dtype):
            lit = (values * weight).unsqueeze(2)
            moved, _ = torch.ops.aten.grid_sampler_2d_backward(
                lit, planes, grid, _BILINEAR, _BORDER, True, [True, False]
            )
            total = total + moved
        return total.view(*values.shape[:2], *shape)

    def _places(self, points: Tensor, orders: Orders, dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
        """Every look-up: its places ``(B, 1, P, 2)`` in [-1, 1]^2 and its weights ``(B, 1, P)``."""
        axes = [self._axis(points[..., k], order, self.size[-1 - k], dtype) for k, order in enumerate(orders)]
        if len(axes) == 1:
            for x, weight in axes[0]:
                yield torch.stack([x, torch.zeros_like(x)], -1).unsqueeze(1), weight.unsqueeze(1)
            return
        for (y, of_y), (x, of_x) in itertools.product(axes[1], axes[0]):
            yield torch.stack([x, y], -1).unsqueeze(1), (of_x * of_y).unsqueeze(1)

    def _axis(self, u: Tensor, order: int, n: int, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
        """Look-ups of one axis: places ``(B, P)`` in [-1, 1] (the table's first pixel at -1) and weights ``(B, P)``."""
        u, sign = self._fold(u, n)
        corner = torch.floor(u)
        t = (u - corner).to(dtype)
        scale = 2 / (n + self.before + self.after - 1)
        first = (corner + (self.before - self.half + 1)).to(dtype).mul_(scale).sub_(1)
        found = []
        for j, total, second in _weights(self.degree, order):
            weight = _horner(total, t)
            if second is None:
                place = first + j * scale
            else:
                place = (_horner(second, t) / weight).add_(j).mul_(scale).add_(first)
            found.append((place, weight if sign is None or order % 2 == 0 else weight * sign))
        return found

    def _fold(self, u: Tensor, n: int) -> tuple[Tensor, Tensor | None]:
        """The place in the window (or its margin) with the value of f_c at u, and the slope of that map (None: 1)."""
        if isinstance(self.boundary, Periodic):
            return u - n * torch.floor(u / n), None
        if isinstance(self.boundary, Reflect):
            behind = u + 0.5 - n  # of the border between the window and its mirror image
            behind = behind - (2 * n) * torch.floor((behind + n) / (2 * n))  # in [-n, n]
            return (n - 0.5) - behind.abs(), torch.where(behind < 0, 1.0, -1.0).to(u.dtype)
        return u.clamp(-self.margin, n - 1 + self.margin), None


def pole(degree: int) -> float:
    """The slowest decay of the coefficients that interpolate one pixel, |c_k| ~ pole^|k|; degree 3 or 5."""
    return 2 - math.sqrt(3) if degree == 3 else 6.5 - math.sqrt(105 / 4) - math.sqrt(135 / 2 - math.sqrt(17745 / 4))


def coefficients(images: Tensor, d: int, degree: int) -> Tensor:
    """c with f_c = x at the pixels of a torus: x over the symbol sum_k beta(k) cos(k w) of every axis.

    Args:
        images: ``(..., C, *size)``, float32 or float64.
        d: number of spatial axes.
        degree: p, odd.

    Returns:
        Tensor of the same shape. Linear in x, commutes with translations by whole pixels.

    >>> x = torch.tensor([[0.0, 0.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    >>> c = coefficients(x, 1, 3)
    >>> torch.allclose((c.roll(1, -1) + 4 * c + c.roll(-1, -1)) / 6, x)
    True
    """
    axes, size, half = tuple(range(-d, 0)), tuple(images.shape[-d:]), (degree + 1) // 2
    at_pixels = [float(tap[0]) for tap in tap_polynomials(degree, 0)]  # beta(h - 1 - j)
    spectrum = torch.fft.rfftn(images, dim=axes)
    for axis, n in zip(axes, size, strict=True):
        w = frequencies(n, dtype=images.dtype, device=images.device)
        symbol = torch.full_like(w, at_pixels[half - 1])
        for k in range(1, half):
            symbol = symbol + 2 * at_pixels[half - 1 - k] * torch.cos(k * w)
        spectrum = spectrum / symbol[: spectrum.shape[axis]].view(-1, *(1,) * (-axis - 1))
    return torch.fft.irfftn(spectrum, s=size, dim=axes)
