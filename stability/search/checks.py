"""What every search asks of its images and norms."""

import torch
from torch import Tensor

from stability.grid import check_images


def check_images_of_search(images: Tensor) -> Tensor:
    """The images in float64.

    Raises:
        ValueError: if their shape or a number is wrong, or one is 0.
    """
    check_images(images)
    if images.ndim not in (3, 4):
        raise ValueError(f"images must be (B, C, H, W) or (B, C, N), got {tuple(images.shape)}; add the batch axis")
    zero = ~images.flatten(1).any(1)
    if not len(images) or bool(zero.any()):
        at = f"image {int(zero.nonzero()[0])} is" if len(images) else "no images"
        raise ValueError(f"images must not be 0, got {at} of {len(images)}; nothing moves when a zero image does")
    return images.detach().to(torch.float64)


def check_norm(name: str, value: float | Tensor, images: Tensor) -> Tensor:
    """A target as float64 ``(B,)``.

    Raises:
        ValueError: if it is not positive and finite, or has another number of elements.
    """
    target = torch.as_tensor(value, dtype=torch.float64, device=images.device).detach()
    fits = target.numel() == 1 or tuple(target.shape) == (len(images),)
    if not fits or not bool((torch.isfinite(target) & (target > 0)).all()):
        raise ValueError(
            f"{name} must be positive and finite, one number or one for each of {len(images)} images, got {value!r}; "
            f"use {name}=0.25"
        )
    return target.reshape(-1).expand(len(images))
