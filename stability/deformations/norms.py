"""Suprema of a batch of fields over the continuum: seen from below, certified from above, computed when asked for."""

import dataclasses
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
        size = factor.abs()
        return self.map(lambda value: torch.where(size.to(value) > 0, size.to(value) * value, torch.zeros_like(value)))

    def __repr__(self) -> str:
        upper = self.__dict__.get("upper", "not computed")
        return f"Interval(lower={self.lower}, upper={upper})"


@final
@dataclass(frozen=True)
class Distortion:
    """Suprema of functions of J = grad tau, with M = I - J, D = det M and singular values s_i of M; all dimensionless.

    They do not scale with tau. Where M can be singular (D <= 0 is not excluded) certified values are inf or -inf.

    Args:
        determinant_infimum: of inf D: ``lower`` is certified, ``upper`` is attained.
        determinant_supremum: of sup D.
        contraction: sup D^{-1/2}, the norm of L_tau on L2.
        weighted_jacobian: sup ||J||_2 D^{-1/2}.
        weighted_strain: sup ||(J + J^T) / 2||_F D^{-1/2}.
        weighted_volume: sup |1 - D| D^{-1/2}.
        weighted_anisotropy: sup (s_1 - s_2) D^{-1/2}; 0 for d = 1.
        weighted_stretch: sup max_i |s_i - 1 / s_i| D^{-1/2}.
        volume_gradient: sup |M^{-T} grad ln D| D^{-1/2} in 1 / pixel.
        density_gradient: sup |M^{-T} grad ln D| / D in 1 / pixel, the Lipschitz constant of (1 / D) at id - tau's
            inverse.
    """

    determinant_infimum: Interval
    determinant_supremum: Interval
    contraction: Interval
    weighted_jacobian: Interval
    weighted_strain: Interval
    weighted_volume: Interval
    weighted_anisotropy: Interval
    weighted_stretch: Interval
    volume_gradient: Interval
    density_gradient: Interval

    def map(self, function: Callable[[Interval], Interval]) -> "Distortion":
        """All intervals through one function."""
        return Distortion(*(function(getattr(self, one.name)) for one in dataclasses.fields(self)))


@final
@dataclass(frozen=True)
class Norms:
    """sup norms over the continuum of a batch of fields, each an ``Interval`` with ends of shape ``batch_shape``.

    Args:
        displacement: a = sup_u |tau(u)|_2 in pixels.
        jacobian: b = sup_u ||grad tau(u)||_2 (spectral norm), dimensionless.
        hessian: H = sup_u sup_{|e| = 1} ||d_e grad tau(u)||_2 in 1 / pixel.
        divergence: sup_u |tr grad tau(u)|, dimensionless.
        oscillation: osc = sup_{u, v} |tau(u) - tau(v)|_2 in pixels.
        distortion: what does not scale with tau; filled in by ``Deformation.norms``.
    """

    displacement: Interval
    jacobian: Interval
    hessian: Interval
    divergence: Interval
    oscillation: Interval
    distortion: Distortion | None = None

    @classmethod
    def zero(cls, like: Tensor) -> "Norms":
        """Those of fields tau = 0, ends like the given tensor."""
        zero = Interval.exact(torch.zeros_like(like))
        return cls(zero, zero, zero, zero, zero)

    def scaled(self, factor: Tensor) -> "Norms":
        """The norms of factor * tau = |factor| * the norms of tau, at no cost; those that do not scale are left out."""
        return Norms(
            self.displacement.scaled(factor),
            self.jacobian.scaled(factor),
            self.hessian.scaled(factor),
            self.divergence.scaled(factor),
            self.oscillation.scaled(factor),
        )

    def refined(self, factor: int) -> "Norms":
        """The norms of u -> factor * tau(u / factor): lengths * factor, hessian / factor, the others the same."""
        size = torch.tensor(float(factor), dtype=torch.float64)
        return Norms(
            self.displacement.scaled(size),
            self.jacobian,
            self.hessian.scaled(1 / size),
            self.divergence,
            self.oscillation.scaled(size),
        )

    def map(self, function: Callable[[Interval], Interval]) -> "Norms":
        """All intervals through one function."""
        return Norms(
            function(self.displacement),
            function(self.jacobian),
            function(self.hessian),
            function(self.divergence),
            function(self.oscillation),
            None if self.distortion is None else self.distortion.map(function),
        )

    def __getitem__(self, index: Index) -> "Norms":
        return self.map(lambda interval: interval.map(lambda value: value[index]))

    @property
    def determinant_infimum(self) -> Interval:
        """inf_u det(I - grad tau(u)): ``lower`` certified, ``upper`` seen."""
        return self._distorted.determinant_infimum

    @property
    def determinant_supremum(self) -> Interval:
        """sup_u det(I - grad tau(u))."""
        return self._distorted.determinant_supremum

    @property
    def weighted_jacobian(self) -> Interval:
        """sup_u ||grad tau||_2 det(I - grad tau)^{-1/2}."""
        return self._distorted.weighted_jacobian

    @property
    def _distorted(self) -> Distortion:
        if self.distortion is None:
            raise ValueError("the distortion must come with a field, got norms alone; read field.norms()")
        return self.distortion
