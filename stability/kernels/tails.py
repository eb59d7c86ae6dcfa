r"""What stands for the Hermite degrees of an activation above J: powers u^m, m = b, 2 b, 4 b, ... (+ 1 if odd).

A kink of f gives c_j^2 about j^(-5/2), a jump j^(-3/2), times what their sizes say: a law j^(-p), whose sum over an
octave of degrees is about m^(1 - p). The weights of the powers follow that law, and the first ones make up for its
beginning, so that the sum tau and, for Lipschitz f, the slope tau_1 = sum j c_j^2 are those of f. So kappa(1) -
kappa(u), however small, has the order and nearly the size that it has for f: where f jumps, that of (1 - u)^(1/2).
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

HIGHEST = 1 << 56
"""Degree up to which powers are taken: u^m tells cosines from 1 that differ from it by 1 / m."""


@dataclass(frozen=True)
class Tail:
    """The degrees of one parity above J.

    Args:
        first: the lowest one.
        rest: tau, their share of E[f^2].
        slope: tau_1, that of E[f'^2]; infinite if f jumps.
        weights: of the degrees first, ..., in which the even number below or at ``first`` is doubled again and again.
    """

    first: int
    rest: float
    slope: float
    weights: tuple[float, ...]

    @property
    def terms(self) -> tuple[tuple[int, float], ...]:
        """(degree, weight)."""
        return tuple(zip(_degrees(self.first, len(self.weights)), self.weights, strict=True))

    @property
    def spread(self) -> float:
        """The most by which the powers may differ from the degrees of f, over [-1, 1].

        With v = |u|, m = tau_1 / tau: both add up to something between tau v^m (Jensen: v^j is convex in j) and
        tau v^first. Without a slope, between 0 and tau.
        """
        ratio = self.slope / (self.rest * self.first)
        if not 1.0 < ratio < math.inf:
            return self.rest
        top = ratio ** (-1.0 / (ratio - 1.0))  # v^first at the maximum of v^first - v^m
        return self.rest * (top - top**ratio)

    def divided(self, total: float) -> "Tail":
        """In other units."""
        return Tail(self.first, self.rest / total, self.slope / total, tuple(w / total for w in self.weights))

    def add_(self, total: "Tensor", u: "Tensor", order: int) -> None:
        """The derivative of an order, added to the total in place; cosines in [-1, 1]."""
        import torch

        parity, factor = self.first % 2, torch.zeros_like(u)
        power = power_of(u, self.first - parity)
        for degree, weight in self.terms:
            if weight:
                factor.add_(power, alpha=float(math.perm(degree, order)) * weight)
            power.square_()
        if order > parity:  # the powers vanish long before 1 / u grows
            factor.mul_(torch.where(u.abs() > 1e-3, 1.0 / u, 0.0).pow_(order - parity))
        elif order < parity:
            factor.mul_(u)
        total.add_(factor)


@dataclass(frozen=True)
class Law:
    """c_j^2 = size j^(-p), in units of E[f^2]."""

    p: float
    size: float


def tail(first: int, rest: float, slope: float, law: Law) -> Tail:
    """Powers with the right sum and slope, the high ones with the right law.

    Args:
        first: lowest degree left out, of one parity.
        rest: tau > 0.
        slope: tau_1 or infinity.
        law: of the high degrees.
    """
    count = 1 + int(math.log2(HIGHEST / first))
    degrees = [float(degree) for degree in _degrees(first, count)]
    size = math.log(2.0) / 2.0 * law.size  # of an octave of every second degree
    weights = [size * degree ** (1.0 - law.p) for degree in degrees]
    start, left, left_slope = count, rest, slope
    for i in range(count - 1, 0, -1):  # as far down as the sums allow
        less, less_slope = left - weights[i], left_slope - weights[i] * degrees[i]
        if less < 0.0 or less_slope < degrees[0] * less:
            break
        start, left, left_slope = i, less, less_slope
    if slope < math.inf:
        low = _two(degrees, left, left_slope)
    else:  # the beginning of the law, larger or smaller
        below = math.fsum(weights[:start])
        low = tuple(weight * left / below for weight in weights[:start])
    total = [0.0] * count
    for i, weight in enumerate(low):
        total[i] += weight
    for i in range(start, count):
        total[i] += weights[i]
    return Tail(first, rest, slope, tuple(total))


def law(first: int, rest: float, slope: float, head: float, jumps: float, kinks: float) -> Law:
    """The law of the high degrees of one parity.

    Jumps s of f at t: kappa(1) - kappa(u) = E[(f(a) - f(b))^2] / 2 is about sum s^2 phi(t) ((1 - u) / pi)^(1/2), which
    is that of c_j^2 = sum s^2 phi(t) / pi j^(-3/2) in every second degree. Kinks: the same of f', j c_j^2. Otherwise
    p is told by the degrees below, and the size by the slope.

    Args:
        first: lowest degree left out.
        rest: tau.
        slope: tau_1 or infinity.
        head: share of the degrees of this parity in the octave below ``first``.
        jumps: sum s^2 phi(t) of f, in units of E[f^2]; 0: none.
        kinks: the same of f'.
    """
    if jumps:
        return Law(1.5, jumps / math.pi)
    if kinks and slope < math.inf:
        return Law(2.5, kinks / math.pi)
    p = 1.0 + math.log2(1.0 + head / rest)  # head / rest = 2^(p - 1) - 1 for a law
    if not slope < math.inf:  # a root of |t|, for example
        p = min(max(p, 1.5), 2.0)
        return Law(p, 2.0 * (p - 1.0) * rest * (first - 1.0) ** (p - 1.0))
    p = max(p, 2.6)
    return Law(p, 2.0 * (p - 2.0) * slope * (first - 1.0) ** (p - 2.0))


def power_of(u: "Tensor", degree: int) -> "Tensor":
    """u^degree by repeated squaring."""
    result, square = None, u.clone()
    while degree:
        if degree % 2:
            result = square.clone() if result is None else result.mul_(square)
        square.square_()
        degree //= 2
    return u.new_ones(u.shape) if result is None else result


def _two(degrees: list[float], rest: float, slope: float) -> tuple[float, ...]:
    """The first power and the next one that is not below the mean degree."""
    if rest <= 0.0 or slope <= degrees[0] * rest:
        return (max(rest, 0.0),)
    at = min((i for i in range(1, len(degrees)) if degrees[i] * rest >= slope), default=len(degrees) - 1)
    weight = (slope - degrees[0] * rest) / (degrees[at] - degrees[0])
    return (rest - weight, *([0.0] * (at - 1)), weight)


def _degrees(first: int, count: int) -> list[int]:
    parity = first % 2
    return [((first - parity) << i) + parity for i in range(count)]
