r"""``Taper``: the smooth window w(u) = prod_a s(t_a), t_a = (distance from the border of axis a - border) / rise.

s(t) = t^4 (35 - 84 t + 70 t^2 - 20 t^3) climbs from 0 to 1 on [0, 1] and is three times continuously differentiable,
its fourth derivative is bounded:

    s' = 140 q^3,    s'' = 420 q^2 (1 - 2 t),    s''' = 840 q (1 - 5 q),    q = t (1 - t).
"""

import math
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from stability.grid import check_size

STEEPEST = (1.0, 35 / 16, 84 / (5 * math.sqrt(5)), 52.5, 840.0)
"""sup |s|, |s'|, ..., |s''''|: at t = 1, 1/2, q = 1/5, t = 1/2 and the ends."""

ORDERS = len(STEEPEST) - 1
"""Derivatives of w that are bounded."""

_DIRECTIONS = 4096


@dataclass(frozen=True)
class Taper:
    """w, exactly 0 up to ``border`` px from the border, exactly 1 from ``border + rise`` px on, monotone between.

    Args:
        size: ``(N,)`` or ``(H, W)``.
        border: width of the margin where w = 0, in pixels, >= 0.
        rise: width of the rise in pixels, >= 1; None: a quarter of each side.
        edge: how far the border lies before the centre of the first pixel, in pixels: the window is
            [-edge, N - edge] on each axis.

    Raises:
        ValueError: if a value is out of range or the rises do not fit.

    >>> w = Taper((8,), border=1.0, rise=2.0)
    >>> w.derivatives(torch.tensor([[0.0], [1.5], [4.0], [7.5]]), 0)[0]
    tensor([0.0000, 0.5000, 1.0000, 0.0000])
    """

    size: tuple[int, ...]
    border: float = 0.0
    rise: float | None = None
    edge: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", check_size(self.size))  # equal tapers compare equal
        border = _number("border", self.border, 0.0, "no margin")
        if self.rise is not None:
            _number("rise", self.rise, 1.0, "None for a quarter of each side")
        _number("edge", self.edge, -math.inf, "0.5 for pixel cells")
        for side, rise in zip(self.size, self.rises[::-1], strict=True):
            if rise < 1 or border + rise > side / 2 * (1 + 1e-12):
                raise ValueError(
                    f"border + rise must be at most half of every side with rise >= 1 px, got {border:g} + {rise:g} "
                    f"on a side of {side}; use a smaller border or rise, or a larger image"
                )

    @property
    def rises(self) -> tuple[float, ...]:
        """The rises along (x, y) in pixels."""
        return tuple(side / 4 if self.rise is None else float(self.rise) for side in reversed(self.size))

    def refined(self, factor: int) -> "Taper":
        """w_f with w_f(f u) = w(u), on ``factor`` times as many pixels per side."""
        size = tuple(factor * side for side in self.size)
        return Taper(size, self.border * factor, None if self.rise is None else self.rise * factor, self.edge * factor)

    def derivatives(self, points: Tensor, order: int) -> list[Tensor]:
        """w and its derivatives up to ``order`` <= 2, continued periodically.

        Args:
            points: ``(..., d)`` in pixels.
            order: 0, 1 or 2.

        Returns:
            ``[w (...), grad w (..., d), second derivatives (..., d, d)]``, the first ``order + 1`` of them.
        """
        d = len(self.size)
        tables = [self._along(points[..., axis], axis) for axis in range(d)]

        def partial(*axes: int) -> Tensor:
            return reduce(torch.mul, (tables[axis][axes.count(axis)] for axis in range(d)))

        result = [partial()]
        if order >= 1:
            result.append(torch.stack([partial(j) for j in range(d)], dim=-1))
        if order >= 2:
            rows = [torch.stack([partial(j, k) for k in range(d)], dim=-1) for j in range(d)]
            result.append(torch.stack(rows, dim=-2))
        return result

    def constants(self) -> tuple[float, ...]:
        """W_k >= sup over points and unit e of |d_e^k w|, k = 0, ..., ``ORDERS``, in 1 / pixel^k.

        For d = 2, d_e^k w = sum_j binom(k, j) cos^j sin^(k - j) p^(j) q^(k - j) is bounded by the same sum of the
        suprema, a trigonometric polynomial of degree k in the angle of e: largest node / cos(k * half the spacing).
        """
        steepest = [[top / rise**k for k, top in enumerate(STEEPEST)] for rise in self.rises]
        if len(steepest) == 1:
            return tuple(steepest[0])
        p, q = steepest
        half = math.pi / 4 / _DIRECTIONS
        angle = torch.arange(_DIRECTIONS + 1, dtype=torch.float64) * (
            2 * half
        )  # [0, pi / 2]: all terms are positive there
        cosine, sine = angle.cos(), angle.sin()
        bounds = []
        for k in range(ORDERS + 1):
            terms = (math.comb(k, j) * p[j] * q[k - j] * cosine**j * sine ** (k - j) for j in range(k + 1))
            bounds.append(float(reduce(torch.add, terms).max()) / math.cos(k * half))
        return tuple(bounds)

    def _along(self, x: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
        """The factor of one axis with its first and second derivative."""
        side, rise = self.size[len(self.size) - 1 - axis], self.rises[axis]
        offset = torch.remainder(x + self.edge, side) - side / 2  # from the window's centre
        t = ((side / 2 - self.border - offset.abs()) / rise).clamp(0, 1)
        q = t * (1 - t)
        return (
            t**4 * (35 + t * (-84 + t * (70 - 20 * t))),
            q**3 * (-140 / rise) * offset.sign(),
            q.square() * (1 - 2 * t) * (420 / rise**2),
        )


def _number(name: str, value: float, least: float, advice: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < least:
        limit = "finite" if least == -math.inf else f"finite and at least {least:g} px"
        raise ValueError(f"{name} must be {limit}, got {value!r}; use {name}={advice}")
    return float(value)
