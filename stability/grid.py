r"""The torus (R / NZ)^d, d in {1, 2}, its pixel grid and its frequencies: the one place that knows axis order.

Convention: a ``size`` is a tensor's trailing shape, ``(N,)`` or ``(H, W)``; points and displacements have their
coordinates on the LAST axis in the order ``(x, y)`` = (column, row), in pixels, with the origin at the centre of
the first (top-left) pixel. One function here turns the one order into the other; nothing else does.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

BAND_LIMIT_TOLERANCE = 1e-9
"""Largest share of an image's norm at the Nyquist frequency that still counts as round-off (float64)."""


def check_size(size: Sequence[int]) -> tuple[int, ...]:
    """The grid's side lengths as a tuple of one or two positive integers.

    Args:
        size: ``(N,)`` or ``(H, W)`` in pixels, each at least 2.

    Raises:
        ValueError: if the size has another length or holds anything but integers >= 2.

    >>> check_size([32, 32])
    (32, 32)
    """
    try:
        sides = tuple(int(side) for side in size)
        integral = all(float(side) == float(given) for side, given in zip(sides, size, strict=True))
    except (TypeError, ValueError):
        sides, integral = (), False
    if isinstance(size, str) or not integral or len(sides) not in (1, 2) or min(sides) < 2:
        raise ValueError(f"size must be (N,) or (H, W) with integers >= 2, got {size!r}; pass for example (32, 32)")
    return sides


def spatial_size(images: Tensor, d: int | None = None) -> tuple[int, ...]:
    """The trailing spatial shape of a batch of images ``(..., C, H, W)`` or of signals ``(..., C, N)``.

    Args:
        images: at least d + 1 axes.
        d: number of spatial axes; by default 1 for a tensor ``(B, C, N)`` with three axes, else 2.

    Raises:
        ValueError: if there are too few axes.
    """
    d = d if d is not None else (1 if images.ndim == 3 else 2)
    if images.ndim < d + 1:
        raise ValueError(
            f"images must have shape (..., C, {'N' if d == 1 else 'H, W'}), got {tuple(images.shape)}; "
            "add the batch and channel axes"
        )
    return tuple(images.shape[-d:])


def check_images(images: Tensor, d: int | None = None) -> Tensor:
    """The images themselves, if they are finite floating-point numbers of shape ``(..., C, *size)``.

    Raises:
        ValueError: for integers, NaN, infinities or a wrong shape.
    """
    if not isinstance(images, Tensor):
        raise ValueError(f"images must be a torch tensor, got {type(images).__name__}; use torch.as_tensor")
    check_size(spatial_size(images, d))
    if not images.is_floating_point():
        raise ValueError(f"images must be floating point, got {images.dtype}; use images.double() / 255")
    if not torch.isfinite(images).all():
        bad = int((~torch.isfinite(images)).sum())
        raise ValueError(f"images must be finite, got {bad} NaN or infinite values; clean the input first")
    return images


def is_expanded(images: Tensor) -> bool:
    """Whether the batch ``(B, ...)``, B > 1, is one image over and over in the same memory."""
    return len(images) > 1 and images.stride(0) == 0


def frequencies(n: int, *, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None) -> Tensor:
    """Angular frequencies 2 pi k / n in radians per pixel, in FFT order. Returns ``(n,)``."""
    return 2 * math.pi * torch.fft.fftfreq(n, dtype=dtype, device=device)


def coordinates(
    size: Sequence[int],
    *,
    oversample: int = 1,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> Tensor:
    """Pixel coordinates u of the (oversampled) grid.

    Args:
        size: ``(N,)`` or ``(H, W)``.
        oversample: nodes per pixel and axis, >= 1.

    Returns:
        Tensor ``(*(oversample * size), d)``; last axis (x, y) in pixels.

    Convention: x is the column and varies along the LAST axis of an image.

    >>> coordinates((2, 3))[1, 2]
    tensor([2., 1.], dtype=torch.float64)
    """
    axes = [torch.arange(n * oversample, dtype=dtype, device=device) / oversample for n in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1)


def sides(
    size: Sequence[int], *, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
) -> Tensor:
    """The torus' periods along (x, y), in pixels. Returns ``(d,)``."""
    return torch.tensor(tuple(size)[::-1], dtype=dtype, device=device)


def nyquist_share(images: Tensor, d: int | None = None) -> Tensor:
    """Share of the norm at the Nyquist frequency, ||x - band_limit(x)|| / ||x||. Returns ``images.shape[:-d-1]``."""
    size = spatial_size(images, d)
    norm = torch.linalg.vector_norm(images, dim=tuple(range(-len(size) - 1, 0)))
    alternating = [_alternating(n, images) for n in size]
    along_x = images @ alternating[-1]  # (..., C[, H]): coefficients of (-1)^m / sqrt(n) along x
    energy = along_x.square().sum(tuple(range(-len(size), 0)))
    if len(size) == 2:  # |P_x x|^2 + |P_y x|^2 - |P_y P_x x|^2
        energy = energy + (alternating[0] @ images).square().sum((-1, -2))
        energy = energy - (along_x @ alternating[0]).square().sum(-1)
    outside = energy.clamp_min(0).sqrt()
    return torch.where(norm > 0, outside / norm.clamp_min(torch.finfo(images.dtype).tiny), torch.zeros_like(norm))


def _alternating(n: int, like: Tensor) -> Tensor:
    """The unit vector of the Nyquist mode, (-1)^m / sqrt(n), or 0 for an odd side, ``(n,)``."""
    signs = 1.0 - 2.0 * (torch.arange(n, dtype=like.dtype, device=like.device) % 2)
    return signs / math.sqrt(n) if n % 2 == 0 else 0 * signs


def band_limit(images: Tensor, d: int | None = None) -> Tensor:
    """Orthogonal projection onto trigonometric polynomials with |k| < n / 2 on each axis: no Nyquist row or column.

    On these images the zero field is the identity to round-off and translations are isometries. Idempotent.

    Args:
        images: ``(..., C, H, W)`` or ``(B, C, N)``, floating point.
        d: number of spatial axes; by default 1 for three axes, else 2.

    Returns:
        Tensor of the same shape, dtype and device.

    Raises:
        ValueError: if the images are not finite floating-point tensors of that shape.

    >>> x = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    >>> torch.equal(band_limit(x), x)
    True
    """
    check_images(images, d)
    size = spatial_size(images, d)
    for axis, n in zip(range(-len(size), 0), size, strict=True):
        if n % 2 == 0:
            # The Nyquist mode of an even side is (-1)^m: subtract the projection on it.
            sign = (1.0 - 2.0 * (torch.arange(n, device=images.device) % 2)).to(images.dtype)
            shape = [1] * images.ndim
            shape[axis] = n
            sign = sign.view(shape)
            images = images - sign * (images * sign).mean(axis, keepdim=True)
    return images
