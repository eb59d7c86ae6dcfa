"""What every search asks of its images, norms, warp and starts."""

from collections.abc import Iterable
from numbers import Real
from typing import Any, TypeGuard

import torch
from torch import Tensor

from stability.grid import check_images
from stability.representations.pairs import check_scale
from stability.warps.base import Warp
from stability.warps.bilinear import BilinearWarp
from stability.warps.index import IndexWarp


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a real number, and no truth value."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_count(name: str, value: object, use: int, least: int = 1) -> None:
    """Raise ``ValueError`` unless it is an integer that is large enough."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}; use {use}")


def check_differentiable(warp: object) -> None:
    """Raise ``ValueError`` unless it is a warp with a derivative at tau = 0, as far as that is known of its kind."""
    if torch.is_inference_mode_enabled():
        raise ValueError(
            "a search must run where gradients can be taken, got torch.inference_mode(); leave it before searching "
            "(torch.no_grad() does no harm)"
        )
    if not isinstance(warp, Warp) or isinstance(warp, BilinearWarp | IndexWarp):
        raise ValueError(
            f"warp must have a derivative at tau = 0, got {warp!r}; use SplineWarp() (a bilinear one has one-sided "
            "derivatives only)"
        )


def check_given(name: str, values: object, kind: type, use: str) -> tuple[Any, ...]:
    """The values, if they are several of a kind, at least one.

    Raises:
        ValueError: otherwise.
    """
    several = tuple(values) if isinstance(values, Iterable) and not isinstance(values, str) else ()
    if not several or not all(isinstance(one, kind) for one in several):
        raise ValueError(f"{name} must be one or more like {use}, got {values!r}; use ({use},)")
    return several


def check_images_of_search(images: Tensor) -> Tensor:
    """The images in float64.

    Raises:
        ValueError: if their shape or a number is wrong, one is 0, or squares of their numbers overflow or vanish.
    """
    check_images(images)
    if images.ndim not in (3, 4):
        raise ValueError(f"images must be (B, C, H, W) or (B, C, N), got {tuple(images.shape)}; add the batch axis")
    zero = ~images.flatten(1).any(1)
    if not len(images) or bool(zero.any()):
        at = f"image {int(zero.nonzero()[0])} is" if len(images) else "no images"
        raise ValueError(f"images must not be 0, got {at} of {len(images)}; nothing moves when a zero image does")
    return check_scale(images.detach().to(torch.float64))


def check_norm(name: str, value: float | Tensor, images: Tensor) -> Tensor:
    """A target as float64 ``(B,)``.

    Raises:
        ValueError: if it is not positive and finite, or has another number of elements.
    """
    target = check_positive(name, value).to(images.device)
    if target.numel() != 1 and tuple(target.shape) != (len(images),):
        raise ValueError(
            f"{name} must be one number or one for each of {len(images)} images, got {value!r}; use {name}=0.25"
        )
    return target.reshape(-1).expand(len(images))


def check_positive(name: str, value: float | Tensor) -> Tensor:
    """A number, or one for each image, as float64.

    Raises:
        ValueError: if it is none, or not positive and finite.
    """
    if not isinstance(value, Tensor) and not is_number(value):
        raise ValueError(
            f"{name} must be a number, or a tensor with one for each image, got {value!r}; use {name}=0.25"
        )
    target = torch.as_tensor(value, dtype=torch.float64).detach()
    if not bool((torch.isfinite(target) & (target > 0)).all()):
        raise ValueError(
            f"{name} must be positive and finite, one number or one for each image, got {value!r}; use {name}=0.25"
        )
    return target
