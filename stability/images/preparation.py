r"""From pictures to trigonometric images on the torus: centre, fade the margin to zero, band-limit."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from stability.grid import band_limit, check_images, check_size

GREY = (0.2125, 0.7154, 0.0721)
"""Weights of red, green and blue in the luminance (ITU-R BT.709)."""


def fade(images: Tensor, margin: int, d: int | None = None) -> Tensor:
    """Multiply by a window that rises from the border like sin^2(pi (i + 1/2) / (2 margin)) over ``margin`` pixels.

    The periodic continuation of the result has no jump at the seam.

    Args:
        images: ``(..., C, *size)``.
        margin: width in pixels, >= 0; at most half of each side.
        d: number of spatial axes; by default 1 for three axes, else 2.

    Returns:
        Tensor of the same shape.
    """
    check_images(images, d)
    d = d if d is not None else (1 if images.ndim == 3 else 2)
    for axis in range(-d, 0):
        n = images.shape[axis]
        if not 0 <= margin <= n // 2:
            raise ValueError(f"margin must be between 0 and half the side ({n // 2} px), got {margin}; use {n // 8}")
        from_border = torch.arange(n, dtype=images.dtype, device=images.device)
        from_border = torch.minimum(from_border, n - 1 - from_border) + 0.5
        window = torch.sin(0.5 * math.pi * (from_border / max(margin, 1)).clamp_max(1.0)).square()
        images = images * (window if margin else torch.ones_like(window)).view(-1, *(1,) * (-axis - 1))
    return images


def embed(images: Tensor, size: Sequence[int], *, margin: int | None = None) -> Tensor:
    """Pictures as band-limited images on a torus: centred on black, margin faded, then ``grid.band_limit``.

    Pictures larger than the size are shrunk to fit (anti-aliased); smaller ones keep their pixels.

    Args:
        images: ``(B, C, h, w)`` in [0, 1], or signals ``(B, C, n)``.
        size: ``(H, W)`` or ``(N,)`` of the torus in pixels.
        margin: width of the fading border in pixels; by default an eighth of the shorter side.

    Returns:
        Tensor ``(B, C, *size)``, float64; values may leave [0, 1] by about 0.1, nothing is clipped.

    Raises:
        ValueError: for non-finite images, a wrong shape or a margin beyond half the side.
    """
    framed = frame(images, size)
    d = len(framed.shape) - 2
    return band_limit(fade(framed, min(framed.shape[2:]) // 8 if margin is None else margin, d), d)


def frame(images: Tensor, size: Sequence[int]) -> Tensor:
    """Pictures in a window, as they are: shrunk to fit if they are larger, centred on black if they are smaller.

    Args:
        images: ``(B, C, h, w)`` in [0, 1], or signals ``(B, C, n)``.
        size: ``(H, W)`` or ``(N,)`` of the window in pixels.

    Returns:
        Tensor ``(B, C, *size)``, float64, in [0, 1].

    Raises:
        ValueError: for non-finite images or a wrong shape.

    >>> frame(torch.ones(1, 1, 2, 2), (4, 4)).sum()
    tensor(4., dtype=torch.float64)
    """
    size = check_size(size)
    d = len(size)
    check_images(images, d)
    if images.ndim != d + 2:
        raise ValueError(f"images must have shape (B, C, *size) with {d} spatial axes, got {tuple(images.shape)}")
    images = images.to(torch.float64)
    scale = min(1.0, *(n / m for n, m in zip(size, images.shape[2:], strict=True)))
    if scale < 1.0:
        images = resize(images, tuple(max(2, round(m * scale)) for m in images.shape[2:]))
    padding: list[int] = []
    for n, m in zip(size[::-1], images.shape[:1:-1], strict=True):
        padding += [(n - m) // 2, n - m - (n - m) // 2]
    return functional.pad(images, padding)


def resize(images: Tensor, size: tuple[int, ...]) -> Tensor:
    """Anti-aliased resampling of ``(B, C, h, w)`` or ``(B, C, n)`` to another size."""
    if len(size) == 1:
        return resize(images.unsqueeze(-2), (1, *size)).squeeze(-2)
    return functional.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)


def fill(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """The largest centred part of a picture ``(C, h, w)`` with the aspect ratio of a size, resampled to it.

    >>> fill(torch.ones(1, 30, 20), (8, 8)).shape
    torch.Size([1, 8, 8])
    """
    scale = min(m / n for m, n in zip(picture.shape[1:], size, strict=True))
    crop = [max(1, math.floor(n * scale)) for n in size]
    top, left = ((m - c) // 2 for m, c in zip(picture.shape[1:], crop, strict=True))
    return resize(picture[None, :, top : top + crop[0], left : left + crop[1]], size)[0]


def luminance(images: Tensor) -> Tensor:
    """Grey values of colour pictures, ``(B, 1, H, W)`` for ``(B, 3, H, W)``."""
    return torch.tensordot(images, torch.tensor(GREY, dtype=images.dtype), dims=([1], [0])).unsqueeze(1)
