"""Translations: constant displacement fields."""

from collections.abc import Sequence
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from stability.deformations.base import Deformation
from stability.deformations.checks import check_factor
from stability.deformations.family import Family
from stability.deformations.norms import Interval, Norms
from stability.grid import check_size


@final
class Translation(Family):
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

    AXES: ClassVar = {"vector": 1}
    LINEAR: ClassVar = frozenset(AXES)

    def __init__(self, vector: Sequence[float] | Tensor, size: Sequence[int] = (32, 32)) -> None:
        size = check_size(size)
        value = vector if isinstance(vector, Tensor) else torch.tensor(vector, dtype=torch.float64)
        value = value if value.is_floating_point() else value.to(torch.float64)
        if value.ndim == 0 or value.shape[-1] != len(size) or not torch.isfinite(value).all():
            raise ValueError(
                f"vector must hold {len(size)} finite numbers for size {size}, got {vector!r}; "
                f"use {'(3.0, 0.0)' if len(size) == 2 else '(3.0,)'}"
            )
        self._keep(size, {"vector": value})

    @property
    def mean(self) -> Tensor:
        """c, ``(*batch_shape, d)``."""
        return self._tensors["vector"]

    @property
    def volume_preserving(self) -> Tensor:
        """All."""
        return torch.ones(self.batch_shape, dtype=torch.bool, device=self.device)

    def derivative(self, points: Tensor, order: int) -> Tensor:
        """C at every point, or zeros."""
        vector = self._rows("vector")
        shape = (len(vector), points.shape[1], *(self.d,) * (order + 1))
        return vector[:, None].expand(shape) if order == 0 else vector.new_zeros(shape)

    def suprema(self) -> Norms:
        """|c| and zeros, exact."""
        length = self.mean.detach().to(torch.float64).norm(dim=-1)
        zero = Interval.exact(torch.zeros_like(length))
        return Norms(Interval.exact(length), zero, zero, zero, zero)

    def derivative_bounds(self) -> list[Tensor]:
        """|c| and zeros."""
        length = self.norms().displacement.upper.reshape(-1)
        return [length, *(torch.zeros_like(length),) * 4]

    def refined(self, factor: int) -> Self:
        """factor * c on a torus with factor times as many pixels per side."""
        check_factor(factor)
        return type(self)(self.mean * factor, tuple(factor * side for side in self.size))

    def without_mean(self) -> Self:
        """The zero translation."""
        return self.scaled(0.0)

    def plus(self, other: Deformation) -> Deformation | None:
        """c + c', a translation; None for another family."""
        return type(self)(self.mean + other.mean, self.size) if isinstance(other, Translation) else None
