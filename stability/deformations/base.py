"""``Deformation``: a batch of smooth displacement fields tau, d in {1, 2}. Functions, not arrays."""

import abc
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from stability.deformations.norms import Index, Norms

Scalar = float | Tensor


@dataclass(frozen=True)
class Torus:
    """The torus R^d / (W Z x H Z) on which a field lives.

    Args:
        size: ``(N,)`` or ``(H, W)`` in pixels.
    """

    size: tuple[int, ...]

    @property
    def d(self) -> int:
        """Number of axes, 1 or 2."""
        return len(self.size)


@dataclass(frozen=True)
class Window:
    """The window [-edge, N - edge] per axis, by default the cells of all pixels.

    Args:
        size: ``(N,)`` or ``(H, W)`` in pixels.
        edge: how far the border lies before the centre of the first pixel, in pixels.
        vanishing: whether the field vanishes at the border with its derivatives, so that, repeated with the image's
            period, it is a field of the torus with the same norms. Otherwise no theorem of the torus covers it.
    """

    size: tuple[int, ...]
    edge: float = 0.5
    vanishing: bool = False

    @property
    def d(self) -> int:
        """Number of axes, 1 or 2."""
        return len(self.size)


class Deformation(abc.ABC):
    """Displacement fields tau: L_tau x(u) = x(u - tau(u)), a batch with independent fields.

    Convention: points and displacements have their coordinates on the last axis in the order (x, y) = (column, row),
    in pixels; J[i, j] = d tau_i / d u_j.

    Fields form a vector space: ``0.5 * tau``, ``-tau``, ``tau / 2``, ``f + g``, ``f - g``. Fields of one family add
    inside the family; others give a ``Sum``.
    """

    @property
    @abc.abstractmethod
    def size(self) -> tuple[int, ...]:
        """``(N,)`` or ``(H, W)`` of the torus in pixels."""

    @property
    @abc.abstractmethod
    def mean(self) -> Tensor:
        """The constant part, ``(*batch_shape, d)`` in pixels."""

    @abc.abstractmethod
    def displacement(self, points: Tensor) -> Tensor:
        """tau(u).

        Args:
            points: ``(..., d)`` in pixels, the same points for every field.

        Returns:
            Tensor ``(*batch_shape, ..., d)`` in pixels.
        """

    @abc.abstractmethod
    def jacobian(self, points: Tensor) -> Tensor:
        """grad tau(u), ``(*batch_shape, ..., d, d)`` with [i, j] = d tau_i / d u_j; points ``(..., d)``."""

    @abc.abstractmethod
    def hessian(self, points: Tensor) -> Tensor:
        """Second derivatives, ``(*batch_shape, ..., d, d, d)`` with [i, j, k] = d^2 tau_i / d u_j d u_k, 1 / pixel."""

    @abc.abstractmethod
    def norms(self) -> Norms:
        """Suprema over the torus, computed when they are read."""

    @abc.abstractmethod
    def scaled(self, factor: Scalar) -> Self:
        """factor * tau.

        Args:
            factor: a number, or a tensor that broadcasts with ``batch_shape``: ``(T, 1)`` against ``(B,)`` gives
                ``(T, B)``.
        """

    @abc.abstractmethod
    def __getitem__(self, index: Index) -> Self: ...

    @abc.abstractmethod
    def refined(self, factor: int) -> Self:
        """The same field with ``factor`` times as many pixels per side: tau_f(f u) = f tau(u), factor >= 1."""

    @abc.abstractmethod
    def without_mean(self) -> Self:
        """tau - mean."""

    @abc.abstractmethod
    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        """The same field with another floating-point type or on another device; its norms are kept."""

    @abc.abstractmethod
    def plus(self, other: "Deformation") -> Self | None:
        """tau + other as one field of this family, or None if it is not in the family."""

    @property
    def d(self) -> int:
        """Dimension, 1 or 2."""
        return len(self.size)

    @property
    def domain(self) -> Torus | Window:
        """Where the field lives and its norms are taken; a torus unless the family says otherwise."""
        return Torus(self.size)

    @property
    def batch_shape(self) -> torch.Size:
        """Shape of the batch of fields."""
        return self.mean.shape[:-1]

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the displacements."""
        return self.mean.dtype

    @property
    def device(self) -> torch.device:
        """Where the field's coefficients are."""
        return self.mean.device

    def __mul__(self, factor: Scalar) -> Self:
        return self.scaled(factor)

    def __rmul__(self, factor: Scalar) -> Self:
        return self.scaled(factor)

    def __truediv__(self, divisor: Scalar) -> Self:
        return self.scaled(1 / divisor)

    def __neg__(self) -> Self:
        return self.scaled(-1.0)

    def __add__(self, other: "Deformation") -> "Deformation":
        from stability.deformations.sum import add  # a sum is itself a deformation

        return add(self, other)

    def __sub__(self, other: "Deformation") -> "Deformation":
        return self + -other

    def __getstate__(self) -> dict[str, object]:
        """Pickled without its cached norms, which are computed again when they are read."""
        return {name: None if name == "_norms" else value for name, value in vars(self).items() if name != "_farthest"}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(size={self.size}, batch_shape={tuple(self.batch_shape)})"


def check_points(points: Tensor, d: int) -> Tensor:
    """The points, if their last axis has length d.

    Raises:
        ValueError: for any other shape.
    """
    if not isinstance(points, Tensor) or points.ndim == 0 or points.shape[-1] != d:
        got = tuple(points.shape) if isinstance(points, Tensor) else type(points).__name__
        raise ValueError(
            f"points must be a tensor (..., {d}) in pixels, got {got}; use stability.grid.coordinates(size)"
        )
    return points


def check_factor(factor: int) -> int:
    """The factor of ``refined``, if it is an integer >= 1.

    Raises:
        ValueError: otherwise.
    """
    if isinstance(factor, bool) or not isinstance(factor, int) or factor < 1:
        raise ValueError(f"factor must be an integer >= 1, got {factor!r}; use factor=2 for twice as many pixels")
    return factor
