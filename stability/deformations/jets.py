r"""Bounds of functions of grad tau and of their first two derivatives along lines, by the rules of calculus.

With M = I - J, J = grad tau, N = M^{-1} and derivatives along a unit-speed line of any direction,

    N' = N J' N,    N'' = N J'' N + 2 N J' N J' N,
    (ln det M)' = -tr(N J'),    (ln det M)'' = -tr(N J'') - tr(N J' N J'),    |tr(A B)| <= d ||A||_2 ||B||_2,

so bounds of ||J||, ||J'||, ||J''|| and ||N|| bound every function of J.
"""

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor


class Jet(NamedTuple):
    """|f| <= value, |f'| <= first, |f''| <= second along every unit-speed line; f a number, vector or matrix.

    Args:
        value: ``(n,)``.
        first: ``(n,)``.
        second: ``(n,)``.
    """

    value: Tensor
    first: Tensor
    second: Tensor

    def plus(self, other: "Jet") -> "Jet":
        """Of f + g.

        >>> one = torch.ones(1)
        >>> Jet(one, one, one).plus(Jet(one, 2 * one, 3 * one)).second
        tensor([4.])
        """
        return Jet(self.value + other.value, self.first + other.first, self.second + other.second)

    def times(self, other: "Jet") -> "Jet":
        """Of f g, any bilinear product with |f g| <= |f| |g|: (f g)'' = f'' g + 2 f' g' + f g''.

        >>> one = torch.ones(1)
        >>> Jet(one, 2 * one, 3 * one).times(Jet(one, one, 0 * one)).second
        tensor([7.])
        """
        return Jet(
            self.value * other.value,
            self.first * other.value + self.value * other.first,
            self.second * other.value + 2 * self.first * other.first + self.value * other.second,
        )

    def scaled(self, factor: float) -> "Jet":
        """Of factor * f, factor >= 0."""
        return Jet(factor * self.value, factor * self.first, factor * self.second)

    def within(self, value: Tensor) -> "Jet":
        """Of f, if |f| <= value is known besides."""
        return self._replace(value=torch.minimum(self.value, value))

    def power(self, exponent: float, floor: Tensor) -> "Jet":
        """Of f^p, p <= 0, for f >= floor: (f^p)'' = p (p - 1) f^(p - 2) f'^2 + p f^(p - 1) f''; inf for floor <= 0.

        >>> one = torch.ones(1)
        >>> Jet(one, 2 * one, one).power(-0.5, floor=one).second
        tensor([3.5000])
        """
        p, m = exponent, floor.clamp_min(0.0)
        first = abs(p) * m ** (p - 1) * self.first
        second = p * (p - 1) * m ** (p - 2) * self.first.square() + abs(p) * m ** (p - 1) * self.second
        return Jet(*(torch.where(floor > 0, part, torch.inf) for part in (m**p, first, second)))


class GradientJets:
    """Jets of functions of J = grad tau, each computed when asked for; inf where M = I - J may be singular.

    Args:
        bounds: A_1, A_2, A_3, A_4 of the field, ``(n,)`` each.
        floor: gives a certified lower value of inf D, D = det M, ``(n,)``; called when D is divided by.
        d: 1 or 2.
        slope: a bound of |grad D| that is known besides.
        farthest: A_0, if ``displacement`` is asked for.
    """

    def __init__(
        self,
        bounds: Sequence[Tensor],
        floor: Callable[[], Tensor],
        d: int,
        slope: Tensor | None = None,
        farthest: Tensor | None = None,
    ) -> None:
        self.jacobian = Jet(*bounds[:3])
        self._second_derivative = Jet(*bounds[1:4])
        self._find = floor
        self._d = d
        self._slope = slope
        self._farthest = farthest

    def near(self, index: Tensor, here: Sequence[Tensor], rho: float) -> "GradientJets":
        """Bounds that hold within rho of points, ``(P, S)`` each, by Taylor's formula.

        Args:
            index: which field, ``(P,)``.
            here: ||J||_2, ||grad J||, D and |grad D| at the points, ``(P, S)`` each.
            rho: in pixels.
        """
        norm, bend, determinant, slope = here
        b, h, a3, a4 = (bound[index, None] for bound in (*self.jacobian, self._second_derivative.second))
        h = torch.minimum(h, bend + a3 * rho)
        b = torch.minimum(b, norm + torch.minimum(h, bend + a3 * (rho / 2)) * rho)
        _, first, second = GradientJets((b, h, a3, a4), self._find, self._d).volume
        steepest = torch.minimum(first, slope + second * rho)
        drop = torch.minimum(steepest, slope + second * (rho / 2)) * rho
        floor = torch.maximum(self._floor[index, None], determinant - drop)
        farthest = None if self._farthest is None else self._farthest[index, None]
        return GradientJets((b, h, a3, a4), lambda: floor, self._d, steepest, farthest)

    @cached_property
    def _floor(self) -> Tensor:
        return self._find()

    @cached_property
    def displacement(self) -> Jet:
        """Tau itself."""
        b, h, _ = self.jacobian
        return Jet(torch.full_like(b, torch.inf) if self._farthest is None else self._farthest, b, h)

    @cached_property
    def strain(self) -> Jet:
        """(J + J^T) / 2 in the Frobenius norm: at most sqrt(d) ||J||_2."""
        return self.jacobian.scaled(math.sqrt(self._d))

    @cached_property
    def anisotropy(self) -> Jet:
        """The anticonformal part (a - d, b + c) of J, for d = 2: at most 2 ||J||_2."""
        return self.jacobian.scaled(2.0)

    @cached_property
    def volume(self) -> Jet:
        """1 - D: D' = -tr(adj(M) J'), D'' = -tr(adj(M) J'') + 2 det J' for d = 2."""
        b, first, second = self.jacobian
        jet = self.jacobian
        if self._d == 2:
            jet = Jet(2 * b + b * b, 2 * (1 + b) * first, 2 * (1 + b) * second + 2 * first * first)
        return jet if self._slope is None else jet._replace(first=torch.minimum(jet.first, self._slope))

    @cached_property
    def weight(self) -> Jet:
        """w = D^(-1/2): by the rule for powers, or w' = -w (ln D)' / 2 and w'' = w ((ln D)'^2 / 4 - (ln D)'' / 2)."""
        power = self.volume.power(-0.5, self._floor)
        n, j = self._inverse.value, self.jacobian
        first, second = self._d * n * j.first, self._d * (n * j.second + (n * j.first).square())
        return Jet(
            power.value,
            torch.minimum(power.first, power.value * first / 2),
            torch.minimum(power.second, power.value * (first.square() / 4 + second / 2)),
        )

    @cached_property
    def stretch(self) -> Jet:
        """M^T - M^(-1), singular values |s_i - 1 / s_i|; s_i lies in [1 - b, 1 + b]."""
        b, first, second = self.jacobian
        small = torch.where(b < 1, (2 * b - b * b) / (1 - b), torch.inf)
        return Jet(1 + b, first, second).plus(self._inverse).within(small)

    @cached_property
    def volume_gradient(self) -> Jet:
        """M^(-T) grad ln D: with <grad ln D, e> = -tr(N d_e J), or with grad D over D; the less of both bounds."""
        product = self._inverse.times(self._second_derivative).scaled(float(self._d))
        quotient = self._determinant_gradient.times(self.volume.power(-1.0, self._floor))
        less = (torch.minimum(*pair) for pair in zip(product, quotient, strict=True))
        return self._inverse.times(Jet(*less))

    @cached_property
    def _determinant_gradient(self) -> Jet:
        """Of grad D. D''' = -tr(adj(M) J''') + 2 tr(adj(J') J'') + tr(adj(J'') J') for d = 2."""
        b, h, third = self.jacobian
        fourth = self._second_derivative.second
        _, first, second = self.volume
        return Jet(first, second, fourth if self._d == 1 else 2 * (1 + b) * fourth + 6 * h * third)

    @cached_property
    def _inverse(self) -> Jet:
        """N: ||N||_2 is at most 1 / (1 - b), and ||adj M||_2 / D."""
        b, first, second = self.jacobian
        n = torch.where(b < 1, 1 / (1 - b), torch.inf)
        n = torch.minimum(n, torch.where(self._floor > 0, (1 + b) ** (self._d - 1) / self._floor, torch.inf))
        return Jet(n, n.square() * first, n.square() * second + 2 * n**3 * first.square())
