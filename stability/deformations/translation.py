"""Translations: constant displacement fields."""

from collections.abc import Sequence
from typing import Self, final

import torch
from torch import Tensor

from stability.deformations.base import Deformation, Scalar, check_factor, check_points
from stability.deformations.norms import Index, Interval, Norms
from stability.grid import check_size


@final
class Translation(Deformation):
    """tau(u) = c; all norms are exact: sup |tau| = |c|, all derivatives are 0.

    Args:
        vector: c = (x, y) in pixels, a sequence of d numbers or a tensor ``(*batch_shape, d)``. (3, 0) moves the
            content 3 px to the right.
        size: ``(N,)`` or ``(H, W)``.

    Raises:
        ValueError: if the vector is not finite or its last axis is not d.

    >>> Translation((3.0, 4.0)).norms().displacement.upper
    tensor(5., dtype=torch.float64)
    """

    def __init__(self, vector: Sequence[float] | Tensor, size: Sequence[int] = (32, 32)) -> None:
        self._size = check_size(size)
        value = vector if isinstance(vector, Tensor) else torch.tensor(vector, dtype=torch.float64)
        value = value if value.is_floating_point() else value.to(torch.float64)
        if value.ndim == 0 or value.shape[-1] != len(self._size) or not torch.isfinite(value).all():
            raise ValueError(
                f"vector must hold {len(self._size)} finite numbers for size {self._size}, got {vector!r}; "
                f"use {'(3.0, 0.0)' if len(self._size) == 2 else '(3.0,)'}"
            )
        self._vector = value

    @property
    def size(self) -> tuple[int, ...]:
        """``(N,)`` or ``(H, W)`` of the torus in pixels."""
        return self._size

    @property
    def mean(self) -> Tensor:
        """c, ``(*batch_shape, d)``."""
        return self._vector

    def displacement(self, points: Tensor) -> Tensor:
        """C at every point, ``(*batch_shape, ..., d)``."""
        return self._constant(points, self._vector)

    def jacobian(self, points: Tensor) -> Tensor:
        """0, ``(*batch_shape, ..., d, d)``."""
        return self._constant(points, self._vector.new_zeros((*self.batch_shape, self.d, self.d)))

    def hessian(self, points: Tensor) -> Tensor:
        """0, ``(*batch_shape, ..., d, d, d)``."""
        return self._constant(points, self._vector.new_zeros((*self.batch_shape, self.d, self.d, self.d)))

    def norms(self) -> Norms:
        """|c| and zeros, exact."""
        length = self._vector.detach().to(torch.float64).norm(dim=-1)
        zero = Interval.exact(torch.zeros_like(length))
        return Norms(Interval.exact(length), zero, zero, zero)

    def scaled(self, factor: Scalar) -> Self:
        """factor * c."""
        value = torch.as_tensor(factor, dtype=self.dtype, device=self.device)
        return type(self)(self._vector * value[..., None], self._size)

    def __getitem__(self, index: Index) -> Self:
        positions = torch.arange(self.batch_shape.numel(), device=self.device).reshape(self.batch_shape)[index]
        return type(self)(self._vector.reshape(-1, self.d)[positions], self._size)

    def refined(self, factor: int) -> Self:
        """factor * c on a torus with factor times as many pixels per side."""
        check_factor(factor)
        return type(self)(self._vector * factor, tuple(factor * side for side in self._size))

    def without_mean(self) -> Self:
        """The zero translation."""
        return type(self)(torch.zeros_like(self._vector), self._size)

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        """The same translation with another floating-point type or on another device."""
        return type(self)(self._vector.to(dtype=dtype, device=device), self._size)

    def plus(self, other: Deformation) -> Self | None:
        """c + c', a translation; None for another family."""
        return type(self)(self._vector + other.mean, self._size) if isinstance(other, Translation) else None

    def _constant(self, points: Tensor, value: Tensor) -> Tensor:
        leading = check_points(points, self.d).shape[:-1]
        batch = len(self.batch_shape)
        value = value.reshape(*value.shape[:batch], *([1] * len(leading)), *value.shape[batch:])
        return value.expand(*value.shape[:batch], *leading, *value.shape[batch + len(leading) :])
