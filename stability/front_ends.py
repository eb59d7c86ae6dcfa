"""Linear maps applied to the image before A_0. Frozen values without tensors, part of an ``Architecture``."""

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FrontEnd(abc.ABC):
    """A linear map F of images with ||F|| <= 1 that commutes with translations."""

    @abc.abstractmethod
    def apply(self, images: "Tensor", d: int) -> "Tensor":
        """F x for images ``(..., C, *size)`` with d spatial axes; same shape."""


@dataclass(frozen=True)
class MeanRemoval(FrontEnd):
    """F x = x - mean(x), the mean over the pixels of each image and channel.

    F is an orthogonal projection and commutes with A_0. It does not commute with a deformation that changes areas:
    mean(L_tau x) - mean(x) is a constant image, and the bound carries one more term for it (see
    ``stability.bounds.mean_removal``). On raw grey images all kernels act almost linearly; mean-removed inputs show
    the kernel.
    """

    def apply(self, images: "Tensor", d: int) -> "Tensor":
        """x - mean(x)."""
        return images - images.mean(tuple(range(-d, 0)), keepdim=True)
