r"""Dot-product kernels kappa of a homogeneous layer, K(z, z') = |z| |z'| kappa(cos(z, z')).

Every kappa(u) = sum_j b_j u^j has b_j >= 0 and kappa(1) = 1, so that ||phi(z)|| = |z|, and (Bietti & Mairal 2019,
section 3)

    ||phi(z) - phi(z')|| <= rho |z - z'|,    rho = max(1, sqrt(kappa'(1))),

because 1 - u^j <= j (1 - u) on [-1, 1] gives 1 - kappa(u) <= kappa'(1) (1 - u). The constant is sharp.

This module imports no torch: the kernels act on tensors through the tensors' own methods, and the bounds need only
``derivative_at_one``.
"""

import abc
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Kernel(abc.ABC):
    """A function kappa on [-1, 1] with kappa(1) = 1 and non-negative Taylor coefficients."""

    @property
    @abc.abstractmethod
    def derivative_at_one(self) -> float:
        """kappa'(1), dimensionless; ``inf`` if the kernel map is not Lipschitz."""

    @abc.abstractmethod
    def evaluate_(self, cosine: "Tensor") -> "Tensor":
        """kappa(cosine), elementwise, in place: the argument is overwritten and returned."""

    @property
    def exponent(self) -> float | None:
        """alpha if kappa(u) = exp(alpha (u - 1)): norms then join the exponent and one GEMM gives it; else None."""
        return None

    @property
    def lipschitz(self) -> float:
        """rho = max(1, sqrt(kappa'(1))): the Lipschitz constant of the kernel map phi."""
        return max(1.0, math.sqrt(self.derivative_at_one))

    def __call__(self, cosine: "Tensor") -> "Tensor":
        """kappa(cosine), elementwise; the argument in [-1, 1] is left as it is."""
        return self.evaluate_(cosine.clone())


def _is_number(value: object) -> bool:
    """Whether a parameter is a finite number (and no string that looks like one)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


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
        if not (_is_number(self.alpha) and self.alpha > 0):
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
        return cosine.sub_(1.0).mul_(self.alpha).exp_()


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
        if not _is_number(self.degree) or int(self.degree) != self.degree or self.degree < 1:
            raise ValueError(f"degree must be an integer >= 1, got {self.degree!r}; use degree=2")
        if not (_is_number(self.offset) and self.offset >= 0):
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


@dataclass(frozen=True)
class ArcCosine(Kernel):
    """Arc-cosine kernels: degree 1 (ReLU) (u (pi - acos u) + sqrt(1 - u^2)) / pi; degree 0 (step) 1 - acos(u) / pi.

    Args:
        degree: 0 or 1. Degree 1 has kappa'(1) = 1. Degree 0 has kappa'(1) = inf: not Lipschitz, only
            ||phi(z) - phi(z')|| <= |z - z'|^(1/2) on the unit sphere, since 2 theta / pi <= 2 sin(theta / 2).

    Reference: Cho & Saul 2009; Bietti & Mairal 2019 (NTK paper), section 3.

    >>> ArcCosine(degree=0).lipschitz
    inf
    """

    degree: int = 1

    def __post_init__(self) -> None:
        if self.degree not in (0, 1):
            raise ValueError(f"degree must be 0 or 1, got {self.degree!r}; use ArcCosine(degree=1) for ReLU")
        object.__setattr__(self, "degree", int(self.degree))

    @property
    def derivative_at_one(self) -> float:
        """1 for degree 1, infinity for degree 0."""
        return 1.0 if self.degree == 1 else math.inf

    def evaluate_(self, cosine: "Tensor") -> "Tensor":
        """The closed forms above; cosines beyond 1 by round-off count as 1."""
        cosine = cosine.clamp_(-1.0, 1.0)
        if self.degree == 1:
            supplement, root = math.pi - cosine.acos(), ((1.0 - cosine) * (1.0 + cosine)).sqrt_()
            return cosine.mul_(supplement).add_(root).div_(math.pi)
        # acos magnifies round-off at 1 (1 - 1e-16 has the angle 1.5e-8): within 8 units in the last place it is 1
        return cosine.masked_fill_(cosine > 1.0 - 1.8e-15, 1.0).acos_().div_(-math.pi).add_(1.0)


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
