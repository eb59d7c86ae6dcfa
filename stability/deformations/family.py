"""``Family``: fields given by tensors with one row per field; indexing, scaling, types and devices in one place."""

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from stability.deformations.base import Deformation, Scalar, own_state
from stability.deformations.norms import Index, Norms
from stability.grid import check_size

Plain = bool | int | float | str | None | tuple["Plain", ...]
"""What a file's header can hold."""


class Family(Deformation, abc.ABC):
    """Fields tau that depend on tensors ``(*batch_shape, ...)``, on some of them linearly.

    A family's constructor takes, by these names, its tensors, the tensors that all fields share and plain settings,
    and hands them to ``_keep``; that is what files hold too.
    """

    AXES: ClassVar[Mapping[str, int]]
    """Names of the tensors, and how many axes each has behind ``batch_shape``."""

    LINEAR: ClassVar[frozenset[str]]
    """The tensors that are multiplied when the field is; the others stay."""

    _tensors: dict[str, Tensor]
    _shared: Mapping[str, Tensor]
    _settings: Mapping[str, Plain]
    _size: tuple[int, ...]

    def _keep(
        self,
        size: Sequence[int],
        tensors: Mapping[str, Tensor],
        *,
        shared: Mapping[str, Tensor] | None = None,
        settings: Mapping[str, Plain] | None = None,
    ) -> None:
        """Called once by the constructor; batches of the tensors broadcast."""
        self._size, self._shared, self._settings, self._norms = check_size(size), shared or {}, settings or {}, None
        self._tensors = self._aligned(tensors)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Plain]]:
        """Tensors and settings: the constructor's keyword arguments."""
        return {**self._shared, **self._tensors}, {"size": self._size, **self._settings}

    @classmethod
    def from_state(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Plain]) -> Self:
        """The field of ``state()``."""
        arguments: dict[str, Any] = {**tensors, **settings}  # the constructor checks them
        return cls(**arguments)

    @property
    def size(self) -> tuple[int, ...]:
        """``(N,)`` or ``(H, W)`` in pixels."""
        return self._size

    @property
    def mean(self) -> Tensor:
        """The constant part in pixels, ``(*batch_shape, d)``: 0 where a family does not split one off."""
        return torch.zeros((*self.batch_shape, self.d), dtype=self.dtype, device=self.device)

    def without_mean(self) -> Self:
        """tau - mean: the field itself where nothing is split off."""
        return self

    @property
    def batch_shape(self) -> torch.Size:
        """Shape of the batch of fields."""
        name, axes = next(iter(self.AXES.items()))
        value = self._tensors[name]
        return value.shape[: value.ndim - axes]

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the displacements."""
        return self._tensors[next(iter(self.AXES))].dtype

    @property
    def device(self) -> torch.device:
        """Where the field's tensors are."""
        return self._tensors[next(iter(self.AXES))].device

    def scaled(self, factor: Scalar) -> Self:
        """factor * tau; the norms are |factor| times those of tau, at no cost."""
        value = torch.as_tensor(factor, dtype=self.dtype, device=self.device)
        shape = torch.broadcast_shapes(value.shape, self.batch_shape)
        changed = {
            name: tensor * value[(..., *(None,) * self.AXES[name])] if name in self.LINEAR
            else tensor.expand(*shape, *tensor.shape[tensor.ndim - self.AXES[name] :])
            for name, tensor in self._tensors.items()
        }  # fmt: skip
        return self._with(changed, self.norms().scaled(value.detach()))

    def __getitem__(self, index: Index) -> Self:
        positions = torch.arange(self.batch_shape.numel(), device=self.device).reshape(self.batch_shape)[index]
        return self._with({name: self._rows(name)[positions] for name in self._tensors}, self.norms()[index])

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        """The same field with another floating-point type or on another device; its norms are kept."""
        moved = {name: tensor.to(dtype=dtype, device=device) for name, tensor in self._tensors.items()}
        where = next(iter(moved.values())).device
        result = self._with(moved, self.norms().map(lambda interval: interval.map(lambda value: value.to(where))))
        result._shared = {
            name: tensor.to(dtype=dtype if tensor.is_floating_point() else None, device=device)
            for name, tensor in self._shared.items()
        }
        return result

    def _rows(self, name: str) -> Tensor:
        """The tensor with its batch flattened, ``(n, ...)``."""
        tensor = self._tensors[name]
        return tensor.reshape(self.batch_shape.numel(), *tensor.shape[tensor.ndim - self.AXES[name] :])

    def _with(self, tensors: Mapping[str, Tensor], norms: Norms | None = None) -> Self:
        """The same settings with other tensors: they were checked before."""
        result = object.__new__(type(self))
        result.__dict__.update(own_state(self))
        result._norms = norms
        result._tensors = self._aligned({**self._tensors, **tensors})
        return result

    def _aligned(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Every tensor with the common batch."""
        axes = self.AXES
        shape = torch.broadcast_shapes(*(tensors[name].shape[: tensors[name].ndim - axes[name]] for name in axes))
        return {
            name: tensors[name].expand(*shape, *tensors[name].shape[tensors[name].ndim - axes[name] :]) for name in axes
        }
