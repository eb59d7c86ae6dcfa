"""Memory that exact kernels work in, kept between pairs: fresh pages cost as much as the arithmetic."""

import math
import threading

import torch
from torch import Tensor


class PairMemory:
    """Uninitialised tensors under names; each thread has its own, so that a program may be shared by several.

    Args:
        dtype: of the tensors.
        device: where they live.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype, self.device = dtype, device
        self._held: dict[tuple[int, str], Tensor] = {}

    def __call__(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """A tensor of this shape, whatever is in it."""
        count, key = math.prod(shape), (threading.get_ident(), name)
        if key not in self._held or self._held[key].numel() < count:
            self._held[key] = torch.empty(count, dtype=self.dtype, device=self.device)
        return self._held[key][:count].view(shape)

    @property
    def held(self) -> int:
        """Bytes."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self._held.values())

    def __getstate__(self) -> dict[str, object]:
        """Pickled without what is held."""
        return {**vars(self), "_held": {}}
