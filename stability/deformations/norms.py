"""Suprema of a batch of fields over the continuum: seen from below, certified from above, computed when asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from types import EllipsisType
from typing import final

import torch
from torch import Tensor

Index = int | slice | Tensor | EllipsisType | None | tuple[int | slice | Tensor | EllipsisType | None, ...]
"""What a tensor of ``batch_shape`` may be indexed with."""


@final
class Interval:
    """lower <= sup <= upper for each field of a batch; each end is computed once, when it is read.

    Args:
        lower: gives a value that is attained, tensor ``batch_shape``.
        upper: gives a certified upper value, tensor ``batch_shape``.

    >>> interval = Interval.exact(torch.tensor([1.0, 2.0]))
    >>> interval.scaled(torch.tensor(-3.0)).upper
    tensor([3., 6.])
    """

    def __init__(self, lower: Callable[[], Tensor], upper: Callable[[], Tensor]) -> None:
        self._lower = lower
        self._upper = upper

    @classmethod
    def exact(cls, value: Tensor) -> "Interval":
        """lower = upper = value."""
        return cls(lambda: value, lambda: value)

    @cached_property
    def lower(self) -> Tensor:
        """The largest value seen, ``batch_shape``; never above the supremum."""
        return self._lower()

    @cached_property
    def upper(self) -> Tensor:
        """A certified value, ``batch_shape``; never below the supremum."""
        return self._upper()

    def map(self, function: Callable[[Tensor], Tensor]) -> "Interval":
        """Both ends through a non-decreasing function, lazily: nothing of this interval is computed twice."""
        return Interval(lambda: function(self.lower), lambda: function(self.upper))

    def scaled(self, factor: Tensor) -> "Interval":
        """[|factor| lower, |factor| upper], factor broadcasting with ``batch_shape``."""
        return self.map(lambda value: factor.abs().to(value) * value)

    def __repr__(self) -> str:
        upper = self.__dict__.get("upper", "not computed")
        return f"Interval(lower={self.lower}, upper={upper})"


@final
@dataclass(frozen=True)
class Norms:
    """sup norms over the continuum of a batch of fields, each an ``Interval`` with ends of shape ``batch_shape``.

    Args:
        displacement: a = sup_u |tau(u)|_2 in pixels.
        jacobian: b = sup_u ||grad tau(u)||_2 (spectral norm), dimensionless.
        hessian: H = sup_u sup_{|e| = 1} ||d_e grad tau(u)||_2 in 1 / pixel.
        divergence: sup_u |tr grad tau(u)|, dimensionless.
    """

    displacement: Interval
    jacobian: Interval
    hessian: Interval
    divergence: Interval

    def scaled(self, factor: Tensor) -> "Norms":
        """The norms of factor * tau = |factor| * the norms of tau, at no cost."""
        return self.map(lambda interval: interval.scaled(factor))

    def refined(self, factor: int) -> "Norms":
        """The norms of u -> factor * tau(u / factor): displacement * factor, hessian / factor, the others the same."""
        size = torch.tensor(float(factor), dtype=torch.float64)
        return Norms(self.displacement.scaled(size), self.jacobian, self.hessian.scaled(1 / size), self.divergence)

    def map(self, function: Callable[[Interval], Interval]) -> "Norms":
        """All four intervals through one function."""
        return Norms(
            function(self.displacement), function(self.jacobian), function(self.hessian), function(self.divergence)
        )

    def __getitem__(self, index: Index) -> "Norms":
        return self.map(lambda interval: interval.map(lambda value: value[index]))
