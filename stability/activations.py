r"""Pointwise activations s of a CNN's layer, z -> s(W z). All are 1-Lipschitz, so that rho = ||W||_2.

This module imports no torch: the activations act on tensors through the tensors' own methods.
"""

import abc
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Activation(abc.ABC):
    """A function s of one real variable, applied to every channel at every position."""

    @property
    @abc.abstractmethod
    def lipschitz(self) -> float:
        """sup |s'|."""

    @property
    @abc.abstractmethod
    def at_zero(self) -> float:
        """s(0)."""

    @abc.abstractmethod
    def __call__(self, values: "Tensor") -> "Tensor":
        """s(t), elementwise, differentiable; the argument is left as it is."""


@dataclass(frozen=True)
class ReLU(Activation):
    """s(t) = max(t, 0).

    >>> ReLU().lipschitz
    1.0
    """

    @property
    def lipschitz(self) -> float:
        """1."""
        return 1.0

    @property
    def at_zero(self) -> float:
        """0."""
        return 0.0

    def __call__(self, values: "Tensor") -> "Tensor":
        """max(t, 0)."""
        return values.relu()


@dataclass(frozen=True)
class SmoothedReLU(Activation):
    """s(t) = (t (1 + erf(sqrt(c) t)) + exp(-c t^2) / sqrt(pi c)) / 2, the mean of max(t + g, 0), g Gaussian.

    g has variance 1 / (2c). The Lipschitz constant is 1, without overshoot: in

        2 s'(t) = 1 + erf(sqrt(c) t) + 2 sqrt(c / pi) t exp(-c t^2) - 2 c t exp(-c t^2) / sqrt(pi c)

    the last two terms cancel, and s' = (1 + erf(sqrt(c) t)) / 2 rises from 0 to 1. So 0 < s(t) - max(t, 0) <= s(0).

    Args:
        c: sharpness, > 0 and finite; c -> infinity gives the ReLU.

    Reference: Bietti & Mairal 2019 (smoothed activations that the kernels' RKHS contains).

    >>> round(SmoothedReLU(c=1.0).at_zero, 4), SmoothedReLU(c=1.0).lipschitz
    (0.2821, 1.0)
    """

    c: float = 1.0

    def __post_init__(self) -> None:
        number = isinstance(self.c, int | float) and not isinstance(self.c, bool)
        if not (number and 0 < self.c < math.inf):
            raise ValueError(f"c must be a positive finite number, got {self.c!r}; use ReLU() for c = infinity")
        object.__setattr__(self, "c", float(self.c))  # equal activations are written equally

    @property
    def lipschitz(self) -> float:
        """1: the supremum of s' = (1 + erf(sqrt(c) t)) / 2, not attained."""
        return 1.0

    @property
    def at_zero(self) -> float:
        """1 / (2 sqrt(pi c))."""
        return 0.5 / math.sqrt(math.pi * self.c)

    def __call__(self, values: "Tensor") -> "Tensor":
        """t erfc(-sqrt(c) t) / 2 + s(0) exp(-c t^2): for t << 0 no 1 - 1 as in the form with erf."""
        return 0.5 * values * (-math.sqrt(self.c) * values).erfc() + self.at_zero * (-self.c * values.square()).exp()
