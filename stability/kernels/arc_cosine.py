r"""Kernels made of the angle theta = acos(u): arc-cosine of degrees 1 and 0, leaky ReLU, sign.

    kappa_1(u) = (u (pi - acos u) + sqrt(1 - u^2)) / pi,     kappa_1' = kappa_0 = 1 - acos(u) / pi = 1/2 + asin(u) / pi.

Evaluation of kappa_1: with v = |u|, s = 1 - v, because kappa_1(u) - kappa_1(-u) = u,

    kappa_1(u) = max(u, 0) + s^(3/2) g(v),    g(v) = (sqrt(1 - v^2) - v acos v) / (pi s^(3/2)),

where g is analytic but for a cut on v <= -1. One rational function of type (5, 5) with positive coefficients, hence
without cancellation, gives s^(3/2) g on [0, 1] to 1.2e-16: about three exponentials' worth of time, where the formula
with acos takes more than a dozen. kappa_1(1) = 1 and kappa_1(-1) = 0 are exact.
"""

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stability.kernels import graphs
from stability.kernels.base import Kernel, is_number

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NUMERATOR = (
    0.31830988618379067175, 0.58877787585494643367, 0.36462726406344083532,
    0.087190405367552631699, 0.0068402001515678121362, 0.000085232030101166168954,
)  # fmt: skip
DENOMINATOR = (
    1.0, 1.9204965761769561151, 1.2626689274916947673, 0.3349362544419168023, 0.032339666957941040974,
    0.00072855532666325361316,
)  # fmt: skip
"""g = N / D in ascending powers of v: rational interpolation of g at extrema of a Chebyshev polynomial on [0, 1], with
60 digits; |N / D - g| s^(3/2) <= 1.17e-16 at 1500 points."""
AT_ONE = 1.0 - 1.8e-15
"""Cosines above count as 1 (below its negative, as -1) where kappa has an infinite slope: acos magnifies round-off
there (1 - 1e-16 has the angle 1.5e-8), and 8 units in the last place are the round-off of an inner product."""


@dataclass(frozen=True)
class ArcCosine(Kernel):
    """Arc-cosine kernels: degree 1 (ReLU) (u (pi - acos u) + sqrt(1 - u^2)) / pi; degree 0 (step) 1 - acos(u) / pi.

    Args:
        degree: 0 or 1. Degree 1 has kappa'(1) = 1. Degree 0 has kappa'(1) = inf: not Lipschitz, only
            ||phi(z) - phi(z')|| <= |z - z'|^(1/2) on the unit sphere, since 2 theta / pi <= 2 sin(theta / 2).

    kappa_1' = kappa_0 and kappa_0'(u) = 1 / (pi sqrt(1 - u^2)), infinite at 1 and -1.

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
        if self.degree == 1:
            return graphs.with_buffers(cosine, self._orders(), relu_, 4)
        return graphs.in_chunks(cosine, self._orders(), step_)

    def derivative_(self, cosine: "Tensor") -> "Tensor":
        """Degree 1: the kernel of degree 0. Degree 0: 1 / (pi sqrt(1 - u^2)), infinite at 1 and -1."""
        return graphs.in_chunks(cosine, self._orders(1), step_ if self.degree == 1 else step_slope_)

    def second_derivative_(self, cosine: "Tensor") -> "Tensor":
        """Degree 1: 1 / (pi sqrt(1 - u^2)). Degree 0: u / (pi (1 - u^2)^(3/2))."""
        return graphs.in_chunks(cosine, self._orders(2), step_slope_ if self.degree == 1 else step_curvature_)

    def _slope_(self, cosine: "Tensor") -> "Tensor":
        return self.derivative_(cosine) if self.degree == 1 else flat_at_one_(cosine, self.derivative_)

    def _curvature_(self, cosine: "Tensor") -> "Tensor":
        return flat_at_one_(cosine, self.second_derivative_)


@dataclass(frozen=True)
class LeakyReLU(Kernel):
    """kappa(u) = ((1 - c)^2 kappa_1(u) + 2 c u) / (1 + c^2): the dual kernel of f(t) = max(t, 0) + c min(t, 0).

    E[f(a) f(b)] = (1 + c^2) kappa_1(u) / 2 - c kappa_1(-u), and kappa_1(-u) = kappa_1(u) - u.

    Args:
        slope: c, finite. 0: ReLU, ``ArcCosine(1)``. 1: ``Linear()``. -1: the modulus |t|. kappa'(1) = 1 for all, as for
            every positively homogeneous f (t f' = f, so that E[f'^2] = E[f^2]).

    Reference: Cho & Saul 2009; Tsuchida, Roosta & Gallagher 2018.

    >>> LeakyReLU(slope=0.2).lipschitz
    1.0
    """

    slope: float = 0.01

    def __post_init__(self) -> None:
        if not is_number(self.slope):
            raise ValueError(f"slope must be a finite number, got {self.slope!r}; use slope=0.01")
        object.__setattr__(self, "slope", float(self.slope))

    @property
    def derivative_at_one(self) -> float:
        """1."""
        return 1.0

    @property
    def weights(self) -> tuple[float, float]:
        """(1 - c)^2 / (1 + c^2) of kappa_1 and 2 c / (1 + c^2) of u."""
        linear = 2.0 * self.slope / (1.0 + self.slope**2)
        return 1.0 - linear, linear  # their sum rounds to 1: kappa(1) = 1

    def evaluate_(self, cosine: "Tensor") -> "Tensor":
        """The closed form above."""
        weight, linear = self.weights

        def action(chunk: "Tensor", work: "Tensor") -> None:
            part = work[4].copy_(chunk).clamp_(-1.0, 1.0).mul_(linear)
            relu_(chunk, work)
            chunk.mul_(weight).add_(part)

        return graphs.with_buffers(cosine, self._orders(), action, 5)

    def derivative_(self, cosine: "Tensor") -> "Tensor":
        """((1 - c)^2 kappa_0(u) + 2 c) / (1 + c^2)."""
        weight, linear = self.weights

        def action(chunk: "Tensor") -> None:
            step_(chunk)
            chunk.mul_(weight).add_(linear)

        return graphs.in_chunks(cosine, self._orders(1), action)

    def second_derivative_(self, cosine: "Tensor") -> "Tensor":
        """(1 - c)^2 / (1 + c^2) / (pi sqrt(1 - u^2))."""
        weight = self.weights[0]

        def action(chunk: "Tensor") -> None:
            step_slope_(chunk)
            chunk.mul_(weight) if weight else chunk.zero_()

        return graphs.in_chunks(cosine, self._orders(2), action)

    def _curvature_(self, cosine: "Tensor") -> "Tensor":
        return flat_at_one_(cosine, self.second_derivative_)


@dataclass(frozen=True)
class Sign(Kernel):
    """kappa(u) = (2 / pi) asin(u) = 2 kappa_0(u) - 1: the dual kernel of the sign; kappa'(1) = inf, not Lipschitz.

    Reference: Williams 1997 (the limit of ``Erf`` for an infinite scale).

    >>> Sign().lipschitz
    inf
    """

    @property
    def derivative_at_one(self) -> float:
        """Infinity."""
        return math.inf

    def evaluate_(self, cosine: "Tensor") -> "Tensor":
        """(2 / pi) asin(u)."""

        def action(chunk: "Tensor") -> None:
            step_(chunk)
            chunk.mul_(2.0).sub_(1.0)

        return graphs.in_chunks(cosine, self._orders(), action)

    def derivative_(self, cosine: "Tensor") -> "Tensor":
        """2 / (pi sqrt(1 - u^2)), infinite at 1 and -1."""
        return graphs.in_chunks(cosine, self._orders(1), lambda chunk: step_slope_(chunk).mul_(2.0))

    def second_derivative_(self, cosine: "Tensor") -> "Tensor":
        """2 u / (pi (1 - u^2)^(3/2))."""
        return graphs.in_chunks(cosine, self._orders(2), lambda chunk: step_curvature_(chunk).mul_(2.0))

    def _slope_(self, cosine: "Tensor") -> "Tensor":
        return flat_at_one_(cosine, self.derivative_)

    def _curvature_(self, cosine: "Tensor") -> "Tensor":
        return flat_at_one_(cosine, self.second_derivative_)


def relu_(chunk: "Tensor", work: "Tensor") -> None:
    """kappa_1 of a contiguous vector of n, in place, by the rational function above; four buffers ``(4, n)``."""
    import torch

    v, s, pair = work[0], work[1], work[2:4]  # pair: numerator and denominator, one pass for both
    one, *coefficients = _coefficients(chunk.dtype, chunk.device)
    torch.abs(chunk, out=v)
    v.clamp_max_(1.0)
    torch.sub(one, v, out=s)
    torch.add(v, coefficients[-1], out=pair)
    for coefficient in coefficients[-2::-1]:
        torch.addcmul(coefficient, pair, v, out=pair)
    numerator, denominator = pair[0], pair[1]
    denominator.mul_(s.pow_(3).rsqrt_())  # 1 / s^(3/2), infinite at s = 0, where N / infinity = 0
    chunk.clamp_(0.0, 1.0)
    torch.addcdiv(chunk, numerator, denominator, value=NUMERATOR[-1] / DENOMINATOR[-1], out=chunk)


@functools.lru_cache(maxsize=8)
def _coefficients(dtype: "torch.dtype", device: "torch.device") -> tuple["Tensor", ...]:
    """1, then the coefficients of (N, D) but for the leading ones, by which they are divided, ``(2, 1)``, ascending."""
    import torch

    monic = [[value / polynomial[-1] for value in polynomial[:-1]] for polynomial in (NUMERATOR, DENOMINATOR)]
    pairs = torch.tensor(monic, dtype=torch.float64).T[:, :, None].to(device, dtype)
    return torch.ones((), dtype=pairs.dtype, device=pairs.device), *pairs


def step_(chunk: "Tensor") -> None:
    """kappa_0 = 1/2 + asin(u) / pi, in place; cosines within 8 units in the last place of 1 or -1 count as such."""
    edge = _edge(chunk)
    if chunk.device.type != "cpu" or not max(abs(float(end)) for end in chunk.aminmax()) <= edge:  # rare
        chunk.masked_fill_(chunk > edge, 1.0).masked_fill_(chunk < -edge, -1.0)
    chunk.asin_().mul_(1.0 / math.pi).add_(0.5)


def flat_at_one_(cosine: "Tensor", function: graphs.InPlace) -> "Tensor":
    """The function in place, 0 where ``step_`` takes cosines for 1 or -1 and so is constant."""
    constant = cosine.abs() > _edge(cosine)
    return function(cosine).masked_fill_(constant, 0.0)


def _edge(cosine: "Tensor") -> float:
    return AT_ONE if cosine.element_size() == 8 else 1.0 - 8 * 1.2e-7


def step_slope_(chunk: "Tensor") -> "Tensor":
    """kappa_0' = 1 / (pi sqrt((1 - u) (1 + u))), in place; infinite at 1 and -1 and beyond."""
    complement = 1.0 - chunk
    return chunk.add_(1.0).mul_(complement).clamp_min_(0.0).rsqrt_().mul_(1.0 / math.pi)


def step_curvature_(chunk: "Tensor") -> "Tensor":
    """kappa_0'' = u / (pi ((1 - u) (1 + u))^(3/2)), in place."""
    product = ((1.0 - chunk) * (1.0 + chunk)).clamp_min_(0.0)
    return chunk.mul_(product.rsqrt_().pow_(3)).mul_(1.0 / math.pi)
