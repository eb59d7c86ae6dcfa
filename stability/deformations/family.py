"""``Family``: fields given by tensors with one row per field; indexing, scaling, types and devices in one place."""

import abc
from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor

from stability.deformations.base import Deformation, Scalar, common_shape, own_state
from stability.deformations.norms import Index, Norms
from stability.grid import check_size

Plain = bool | int | float | str | None | tuple["Plain", ...]
"""What a file's header can hold."""

State = tuple[Mapping[str, Tensor | Deformation | Sequence[Deformation]], Mapping[str, Plain]]
"""What a field is made of, tensors and fields, and plain settings: together the constructor's keyword arguments."""


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

    def state(self) -> State:
        """Tensors and settings: the constructor's keyword arguments."""
        return {**self._shared, **self._tensors}, {"size": self._size, **self._settings}

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

    @property
    def requires_grad(self) -> bool:
        """Whether a tensor of the family requires a gradient."""
        return any(tensor.requires_grad for tensor in self._tensors.values())

    def scaled(self, factor: Scalar) -> Self:
        """factor * tau; the norms are |factor| times those of tau, at no cost."""
        value = torch.as_tensor(factor, dtype=self.dtype, device=self.device)
        shape = common_shape(value.shape, self.batch_shape)
        changed = {
            name: tensor * value[(..., *(None,) * self.AXES[name])] if name in self.LINEAR
            else tensor.expand((*shape, *tensor.shape[tensor.ndim - self.AXES[name] :]))
            for name, tensor in self._tensors.items()
        }  # fmt: skip
        return self._with(changed, self.homogeneous_norms().scaled(value.detach()))

    def __getitem__(self, index: Index) -> Self:
        positions = torch.arange(self.batch_shape.numel(), device=self.device).reshape(self.batch_shape)[index]
        return self._with({name: self._rows(name)[positions] for name in self._tensors}, self.norms()[index])

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        """The same field with another floating-point type or on another device; its norms are kept."""
        if dtype in (None, self.dtype) and (device is None or torch.device(device) == self.device):
            return self
        moved = {name: tensor.to(dtype=dtype, device=device) for name, tensor in self._tensors.items()}
        where = next(iter(moved.values())).device
        result = self._with(moved, self.norms().map(lambda interval: interval.map(lambda value: value.to(where))))
        result._shared = {
            name: tensor.to(dtype=dtype if tensor.is_floating_point() else None, device=device)
            for name, tensor in self._shared.items()
        }
        return result

    def stackable(self, other: "Family") -> bool:
        """Whether both have the same shared tensors and settings, so that they fit into one batch."""
        same = self._settings == other._settings and self.batch_shape == other.batch_shape
        same = same and all(value.shape == other._tensors[name].shape for name, value in self._tensors.items())
        return same and all(torch.equal(value, other._shared[name]) for name, value in self._shared.items())

    def stacked(self, fields: "Sequence[Family]") -> Self:
        """Fields like this one along a new first axis of the batch."""
        return self._with({name: torch.stack([one._tensors[name] for one in fields]) for name in self.AXES})

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
        own = {name: tensors[name].shape[tensors[name].ndim - axes :] for name, axes in self.AXES.items()}
        batches = (tensors[name].shape[: tensors[name].ndim - axes] for name, axes in self.AXES.items())
        shape = common_shape(*batches)
        return {name: tensors[name].expand((*shape, *inner)) for name, inner in own.items()}
