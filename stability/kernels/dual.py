r"""Closed forms of smooth dual kernels kappa(u) = E[f(a) f(b)] / E[f(a)^2]: erf, GELU, cosine.

(a, b) is standard Gaussian with correlation u. kappa' is the dual kernel of f' up to a factor (Mehler's formula):
kappa'(u) = E[f'(a) f'(b)] / E[f(a)^2], the derivative kernel of the neural tangent kernel.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stability.kernels import graphs
from stability.kernels.base import Kernel, is_number

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Erf(Kernel):
    """kappa(u) = asin(beta u) / asin(beta), beta = 2 w^2 / (1 + 2 w^2): the dual kernel of f(t) = erf(w t).

    Args:
        scale: w > 0; w -> infinity gives ``Sign``. kappa'(1) = beta / (asin(beta) sqrt(1 - beta^2)) > 1.

    Reference: Williams 1997 (the "arcsine kernel").

    >>> round(Erf(scale=1.0).derivative_at_one, 4)
    1.2257
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        if not (is_number(self.scale) and self.scale > 0):
            raise ValueError(f"scale must be positive and finite, got {self.scale!r}; use Sign() for infinity")
        object.__setattr__(self, "scale", float(self.scale))

    @property
    def beta(self) -> float:
        """2 w^2 / (1 + 2 w^2), in (0, 1)."""
        return 2.0 * self.scale**2 / (1.0 + 2.0 * self.scale**2)

    @property
    def derivative_at_one(self) -> float:
        """beta / (asin(beta) sqrt(1 - beta^2)) with 1 - beta^2 = (1 + 4 w^2) / (1 + 2 w^2)^2."""
        root = math.sqrt(1.0 + 4.0 * self.scale**2) / (1.0 + 2.0 * self.scale**2)
        return self.beta / (math.atan2(self.beta, root) * root)

    def evaluate_(self, cosine: "Tensor") -> "Tensor":
        """asin(beta u) / asin(beta)."""

        def action(u: "Tensor") -> None:
            u.clamp_(-1.0, 1.0).mul_(self.beta).asin_().mul_(1.0 / math.asin(self.beta))

        return graphs.in_chunks(cosine, self._orders(), action)

    def derivative_(self, cosine: "Tensor") -> "Tensor":
        """beta / (asin(beta) sqrt(1 - beta^2 u^2))."""

        def action(u: "Tensor") -> None:
            u.clamp_(-1.0, 1.0).mul_(self.beta).square_().neg_().add_(1.0).rsqrt_()
            u.mul_(self.beta / math.asin(self.beta))

        return graphs.in_chunks(cosine, self._orders(1), action)

    def second_derivative_(self, cosine: "Tensor") -> "Tensor":
        """beta^3 u / (asin(beta) (1 - beta^2 u^2)^(3/2))."""

        def action(u: "Tensor") -> None:
            factor = (u * self.beta).square_().neg_().add_(1.0).pow_(-1.5)
            u.mul_(factor).mul_(self.beta**3 / math.asin(self.beta))

        return graphs.in_chunks(cosine, self._orders(2), action)


@dataclass(frozen=True)
class GELU(Kernel):
    """kappa(u) = q(u) / q(1): the dual kernel of f(t) = t Phi(t), Phi the normal distribution function.

        q(u) = u / 4 + u asin(u / 2) / (2 pi) + 1 / (2 pi sqrt(4 - u^2)).

    Gaussian integration by parts, four times: E[a Phi(a) b Phi(b)] = u E[Phi(a) Phi(b)] + E[phi(a) phi(b)], where
    E[Phi(a) Phi(b)] = 1/4 + asin(u / 2) / (2 pi) is the probability of a quadrant. kappa'(1) = 1.0720.

    Reference: the closed form is in Tsuchida, Pearce, van der Heide, Roosta & Gallagher 2021 for any variance.

    >>> round(GELU().derivative_at_one, 4)
    1.072
    """

    @property
    def derivative_at_one(self) -> float:
        """(1/3 + 2 / (3 sqrt(3) pi)) / q(1)."""
        return (1.0 / 3.0 + 2.0 / (3.0 * math.sqrt(3.0) * math.pi)) / GELU_SQUARE

    def evaluate_(self, cosine: "Tensor") -> "Tensor":
        """The closed form above."""

        def action(u: "Tensor") -> None:
            u.clamp_(-1.0, 1.0)
            root = (u * u).neg_().add_(4.0).rsqrt_()
            u.mul_((u * 0.5).asin_().add_(math.pi / 2.0)).add_(root).mul_(1.0 / (2.0 * math.pi * GELU_SQUARE))

        return graphs.in_chunks(cosine, self._orders(), action)

    def derivative_(self, cosine: "Tensor") -> "Tensor":
        """(1/4 + asin(u / 2) / (2 pi) + u / (2 pi sqrt(4 - u^2)) + u / (2 pi (4 - u^2)^(3/2))) / q(1)."""

        def action(u: "Tensor") -> None:
            u.clamp_(-1.0, 1.0)
            root = (u * u).neg_().add_(4.0).rsqrt_()
            angle = (u * 0.5).asin_().add_(math.pi / 2.0)
            u.mul_(root.add_(root.pow(3))).add_(angle).mul_(1.0 / (2.0 * math.pi * GELU_SQUARE))

        return graphs.in_chunks(cosine, self._orders(1), action)

    def second_derivative_(self, cosine: "Tensor") -> "Tensor":
        """(r + 5 r^3 + 3 u^2 r^5) / (2 pi q(1)), r = (4 - u^2)^(-1/2)."""

        def action(u: "Tensor") -> None:
            square = u * u
            root = (4.0 - square).rsqrt()
            u.copy_((root + 5.0 * root.pow(3) + 3.0 * square * root.pow(5)) / (2.0 * math.pi * GELU_SQUARE))

        return graphs.in_chunks(cosine, self._orders(2), action)


GELU_SQUARE = 1.0 / 3.0 + 1.0 / (2.0 * math.sqrt(3.0) * math.pi)
"""E[(a Phi(a))^2] = q(1)."""


@dataclass(frozen=True)
class Cosine(Kernel):
    """Dual kernel of f(t) = sqrt(2) cos(w t + b): exp(w^2 (u - 1)) for a random phase b, else cosh(w^2 u) / cosh(w^2).

    With b uniform on [0, 2 pi) these are random Fourier features of the Gaussian kernel: the same function as
    ``Exponential(alpha=w**2)``, under the name of its activation. Without a phase (b = 0), the even part of it.

    Args:
        frequency: w > 0. kappa'(1) = w^2, or w^2 tanh(w^2) without a phase.
        random_phase: whether the expectation runs over the phase too.

    Reference: Rahimi & Recht 2007.

    >>> Cosine(frequency=2.0).lipschitz
    2.0
    """

    frequency: float = 1.0
    random_phase: bool = True

    def __post_init__(self) -> None:
        if not (is_number(self.frequency) and self.frequency > 0):
            raise ValueError(f"frequency must be positive, got {self.frequency!r}; use frequency=1.0 for rho = 1")
        if not isinstance(self.random_phase, bool):
            raise ValueError(f"random_phase must be True or False, got {self.random_phase!r}; use True")
        object.__setattr__(self, "frequency", float(self.frequency))

    @property
    def derivative_at_one(self) -> float:
        """w^2, or w^2 tanh(w^2)."""
        alpha = self.frequency**2
        return alpha if self.random_phase else alpha * math.tanh(alpha)

    @property
    def exponent(self) -> float | None:
        """w^2 with a random phase: the fast path of ``Exponential``."""
        return self.frequency**2 if self.random_phase else None

    def evaluate_(self, cosine: "Tensor") -> "Tensor":
        """The closed forms above."""
        return self._exponentials_(cosine, 0)

    def derivative_(self, cosine: "Tensor") -> "Tensor":
        """w^2 exp(w^2 (u - 1)), or w^2 sinh(w^2 u) / cosh(w^2)."""
        return self._exponentials_(cosine, 1)

    def second_derivative_(self, cosine: "Tensor") -> "Tensor":
        """w^4 kappa(u)."""
        return self._exponentials_(cosine, 2)

    def _exponentials_(self, cosine: "Tensor", order: int) -> "Tensor":
        """alpha^order (e^(alpha (u - 1)) + (-1)^order e^(-alpha (u + 1))) / (1 + e^(-2 alpha)), in place."""
        alpha = self.frequency**2

        def action(u: "Tensor") -> None:
            mirrored = None if self.random_phase else (u + 1.0).mul_(-alpha).exp_()
            u.sub_(1.0).mul_(alpha).exp_()
            if mirrored is not None:
                u.add_(mirrored, alpha=(-1.0) ** order).mul_(1.0 / (1.0 + math.exp(-2.0 * alpha)))
            u.mul_(alpha**order)

        return graphs.in_chunks(cosine, self._orders(order), action)
