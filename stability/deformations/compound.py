"""``Compound``: fields made of other fields by an equation that is not linear, times a factor."""

import abc
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from stability.deformations.base import Deformation, Scalar, common_shape
from stability.deformations.batches import expanded
from stability.deformations.checks import check_factor
from stability.deformations.domains import narrowest
from stability.deformations.norms import Index


class Compound(Deformation, abc.ABC):
    """factor * tau, tau given by parts on one torus or window; batches of parts and factor broadcast.

    Only the factor scales: tau is not linear in its parts. ``injective`` and what else belongs to the equation holds
    for factor 1.
    """

    _parts: tuple[Deformation, ...]
    factor: Tensor
    """Of the displacement, ``batch_shape``."""

    def _keep(self, parts: Sequence[Deformation], factor: Scalar) -> None:
        """Called once by the constructor."""
        first = parts[0]
        value = torch.as_tensor(factor, dtype=first.dtype, device=first.device)
        shape = torch.Size(common_shape(value.shape, *(part.batch_shape for part in parts)))
        self._parts = tuple(expanded(part, shape) for part in parts)
        self.factor = value.expand(shape)
        self._norms = None

    @abc.abstractmethod
    def _remade(self, parts: Sequence[Deformation], factor: Tensor) -> Self:
        """The same settings with other parts and another factor."""

    @abc.abstractmethod
    def _unit(self, points: Tensor, order: int) -> Tensor:
        """The derivative for factor 1, as ``derivative`` gives it."""

    @abc.abstractmethod
    def _unit_bounds(self) -> list[Tensor]:
        """``derivative_bounds`` for factor 1."""

    @property
    def size(self) -> tuple[int, ...]:
        """``(N,)`` or ``(H, W)`` in pixels."""
        return self._parts[0].size

    @property
    def vanishing_border(self) -> float | None:
        """The width on which all parts vanish: there every part is the identity."""
        return narrowest(part.vanishing_border for part in self._parts)

    @property
    def mean(self) -> Tensor:
        """0, ``(*batch_shape, d)``: no constant is split off."""
        return torch.zeros_like(self._parts[0].mean)

    @property
    def requires_grad(self) -> bool:
        """Whether a part or the factor requires a gradient."""
        return self.factor.requires_grad or any(part.requires_grad for part in self._parts)

    def derivative(self, points: Tensor, order: int) -> Tensor:
        """factor * the derivative of tau."""
        return self.factor.reshape(-1, *(1,) * (order + 2)) * self._unit(points, order)

    def derivative_bounds(self) -> list[Tensor]:
        """|factor| * the bounds for tau, which follow from those of the parts."""
        size = self.factor.detach().to(torch.float64).abs().reshape(-1)
        bounds = (bound.detach().to(torch.float64).nan_to_num(torch.inf, torch.inf) for bound in self._unit_bounds())
        return [torch.where(size > 0, size * bound, 0.0) for bound in bounds]

    def scaled(self, factor: Scalar) -> Self:
        """factor * tau; the norms are |factor| times those of tau, at no cost."""
        value = torch.as_tensor(factor, dtype=self.dtype, device=self.device)
        result = self._remade(self._parts, self.factor * value)
        result._norms = self.norms().scaled(value.detach())
        return result

    def __getitem__(self, index: Index) -> Self:
        result = self._remade([part[index] for part in self._parts], self.factor[index])
        result._norms = self.norms()[index]
        return result

    def refined(self, factor: int) -> Self:
        """Made of the refined parts: tau_f(f u) = f tau(u)."""
        check_factor(factor)
        result = self._remade([part.refined(factor) for part in self._parts], self.factor)
        result._norms = self.norms().refined(factor)
        return result

    def without_mean(self) -> Self:
        """The field itself."""
        return self

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        """The same field with another floating-point type or on another device; its norms are kept."""
        parts = [part.to(dtype=dtype, device=device) for part in self._parts]
        result = self._remade(parts, self.factor.to(dtype=dtype, device=device))
        result._norms = self.norms().map(lambda interval: interval.map(lambda value: value.to(result.device)))
        return result

    @property
    def plain(self) -> bool:
        """Whether the factor is 1 throughout."""
        return bool((self.factor.detach() == 1).all()) and not self.factor.requires_grad
