"""What is done to the images of a batch before the network learns from them."""

import abc
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad


class Augmentation(abc.ABC):
    """Random changes of images that leave their class; one of your own needs ``apply`` (make it a frozen dataclass).

    ``train`` writes its ``repr`` into the state of a training, so that another one is refused.
    """

    @abc.abstractmethod
    def apply(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Changed copies.

        Args:
            images: a batch ``(B, C, *size)``.
            generator: that of the training, on the CPU: all randomness must come from it.

        Returns:
            The same shape, dtype and device.
        """


@dataclass(frozen=True)
class ShiftAndFlip(Augmentation):
    """x(u - c) with c uniform on {-shift, ..., shift}^d, and with a probability mirrored along the last axis.

    What comes in from beyond the border is 0.

    Args:
        shift: in pixels, >= 0.
        flip: probability of the mirror image, in [0, 1].

    >>> x = torch.arange(3.0).view(1, 1, 3)
    >>> ShiftAndFlip(flip=1.0).apply(x, torch.Generator())
    tensor([[[2., 1., 0.]]])
    """

    shift: int = 0
    flip: float = 0.5

    def __post_init__(self) -> None:
        if isinstance(self.shift, bool) or not isinstance(self.shift, int) or self.shift < 0:
            raise ValueError(f"shift must be an integer >= 0, got {self.shift!r}; use 1")
        if isinstance(self.flip, bool) or not isinstance(self.flip, int | float) or not 0 <= self.flip <= 1:
            raise ValueError(f"flip must be a probability, got {self.flip!r}; use 0.5, or 0 for none")

    def apply(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Each image on its own."""
        size, count = images.shape[2:], len(images)
        turned = torch.rand(count, generator=generator, device=generator.device).to(images.device) < self.flip
        images = torch.where(turned.view(-1, *(1,) * (images.ndim - 1)), images.flip(-1), images)
        if not self.shift:
            return images
        starts = torch.randint(
            0, 2 * self.shift + 1, (count, len(size)), generator=generator, device=generator.device
        ).tolist()
        wide = pad(images, (self.shift,) * (2 * len(size)))
        parts = []
        for image, start in zip(wide, starts, strict=True):
            for axis, (first, n) in enumerate(zip(start, size, strict=True), start=1):
                image = image.narrow(axis, first, n)
            parts.append(image)
        return torch.stack(parts)
