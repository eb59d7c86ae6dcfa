"""Kernels with elementary kappa: exponential, inverse polynomial, polynomial, linear."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stability.kernels import graphs
from stability.kernels.base import Kernel, is_number

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Exponential(Kernel):
    """kappa(u) = exp(alpha (u - 1)): the Gaussian kernel of bandwidth alpha^(-1/2) on the unit sphere.

    Args:
        alpha: inverse squared bandwidth, > 0. kappa'(1) = alpha, so rho > 1 for alpha > 1 (the customary bandwidth
            0.65 has alpha = 2.37 and rho = 1.54 in every layer).

    Reference: Mairal 2016; Bietti & Mairal 2019, section 3.

    >>> Exponential(alpha=4.0).lipschitz
    2.0
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        if not (is_number(self.alpha) and self.alpha > 0):
            raise ValueError(f"alpha must be positive, got {self.alpha!r}; use alpha=1.0 for a non-expansive kernel")
        object.__setattr__(self, "alpha", float(self.alpha))  # equal kernels are written equally

    @property
    def derivative_at_one(self) -> float:
        """alpha."""
        return float(self.alpha)

    @property
    def exponent(self) -> float:
        """alpha."""
        return float(self.alpha)

    def evaluate_(self, cosine: "Tensor") -> "Tensor":
        """exp(alpha (u - 1))."""
        return cosine.sub_(1.0).mul_(self.alpha / math.log(2.0)).exp2_()  # in single precision twice as fast as exp

    def derivative_(self, cosine: "Tensor") -> "Tensor":
        """alpha kappa(u)."""
        return graphs.in_chunks(cosine, self._orders(1), lambda u: self.evaluate_(u).mul_(self.alpha))

    def second_derivative_(self, cosine: "Tensor") -> "Tensor":
        """alpha^2 kappa(u)."""
        return graphs.in_chunks(cosine, self._orders(2), lambda u: self.evaluate_(u).mul_(self.alpha**2))


@dataclass(frozen=True)
class InversePolynomial(Kernel):
    """kappa(u) = 1 / (2 - u); kappa'(1) = 1.

    Reference: Zhang, Lee & Jordan 2016; Bietti & Mairal 2019, section 3.
    """

    @property
    def derivative_at_one(self) -> float:
        """1."""
        return 1.0

    def evaluate_(self, cosine: "Tensor") -> "Tensor":
        """1 / (2 - u)."""
        return cosine.neg_().add_(2.0).reciprocal_()

    def derivative_(self, cosine: "Tensor") -> "Tensor":
        """1 / (2 - u)^2."""
        return graphs.in_chunks(cosine, self._orders(1), lambda u: self.evaluate_(u).square_())

    def second_derivative_(self, cosine: "Tensor") -> "Tensor":
        """2 / (2 - u)^3."""
        return graphs.in_chunks(cosine, self._orders(2), lambda u: self.evaluate_(u).pow_(3).mul_(2.0))


@dataclass(frozen=True)
class Polynomial(Kernel):
    """kappa(u) = ((u + c) / (1 + c))^p; kappa'(1) = p / (1 + c), so rho = 1 if and only if c >= p - 1.

    Args:
        degree: p, an integer >= 1.
        offset: c >= 0.

    Reference: Bietti & Mairal 2019, section 3.

    >>> Polynomial(degree=2, offset=1.0).lipschitz
    1.0
    """

    degree: int = 2
    offset: float = 1.0

    def __post_init__(self) -> None:
        if not is_number(self.degree) or int(self.degree) != self.degree or self.degree < 1:
            raise ValueError(f"degree must be an integer >= 1, got {self.degree!r}; use degree=2")
        if not (is_number(self.offset) and self.offset >= 0):
            raise ValueError(f"offset must be >= 0, got {self.offset!r}; use offset=degree - 1 for rho = 1")
        object.__setattr__(self, "degree", int(self.degree))
        object.__setattr__(self, "offset", float(self.offset))

    @property
    def derivative_at_one(self) -> float:
        """p / (1 + c)."""
        return self.degree / (1.0 + self.offset)

    def evaluate_(self, cosine: "Tensor") -> "Tensor":
        """((u + c) / (1 + c))^p."""
        return cosine.add_(self.offset).div_(1.0 + self.offset).pow_(int(self.degree))

    def derivative_(self, cosine: "Tensor") -> "Tensor":
        """p / (1 + c) ((u + c) / (1 + c))^(p - 1)."""
        return self._power_(cosine, 1, self.derivative_at_one)

    def second_derivative_(self, cosine: "Tensor") -> "Tensor":
        """p (p - 1) / (1 + c)^2 ((u + c) / (1 + c))^(p - 2)."""
        return self._power_(cosine, 2, self.derivative_at_one * (self.degree - 1) / (1.0 + self.offset))

    def _power_(self, cosine: "Tensor", order: int, factor: float) -> "Tensor":
        """factor ((u + c) / (1 + c))^(p - order), in place."""

        def action(u: "Tensor") -> None:
            u.add_(self.offset).div_(1.0 + self.offset).pow_(max(0, self.degree - order)).mul_(factor)

        return graphs.in_chunks(cosine, self._orders(order), action)


@dataclass(frozen=True)
class Linear(Kernel):
    """kappa(u) = u: the linear kernel, under which every layer is a linear filter."""

    @property
    def derivative_at_one(self) -> float:
        """1."""
        return 1.0

    def evaluate_(self, cosine: "Tensor") -> "Tensor":
        """u."""
        return cosine

    def derivative_(self, cosine: "Tensor") -> "Tensor":
        """1."""
        return graphs.in_chunks(cosine, self._orders(1), lambda u: u.fill_(1.0))

    def second_derivative_(self, cosine: "Tensor") -> "Tensor":
        """0."""
        return graphs.in_chunks(cosine, self._orders(2), lambda u: u.zero_())
