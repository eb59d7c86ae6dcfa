r"""Patch extraction P y(u) = (y(u + c))_c, normalised so that ||P y|| = ||y||: an average over the patch positions.

Convention: an odd side e covers the offsets -(e-1)/2 ... (e-1)/2, an even one -(e/2 - 1) ... e/2.
"""

import itertools
import math

import torch
from torch import Tensor


def patch_offsets(patch_size: int) -> range:
    """Offsets of a patch along one axis, in pixels of its grid.

    >>> list(patch_offsets(3)), list(patch_offsets(2))
    ([-1, 0, 1], [0, 1])
    """
    start = -((patch_size - 1) // 2)
    return range(start, start + patch_size)


def extract_patches(images: Tensor, patch_size: int, d: int, dilation: int = 1) -> Tensor:
    """P y: the shifted copies y(. + c) stacked as channels and divided by e^(d/2).

    Args:
        images: ``(..., C, *size)`` on the torus, d spatial axes.
        patch_size: e.
        d: number of spatial axes.
        dilation: distance of neighbouring patch positions, in pixels of this grid.

    Returns:
        ``(..., C e^d, *size)``; its norm is that of the images.

    >>> x = torch.arange(4.0).view(1, 4)
    >>> extract_patches(x, 3, d=1).square().sum().round(decimals=4)
    tensor(14.)
    """
    axes = tuple(range(-d, 0))
    offsets = [c * dilation for c in patch_offsets(patch_size)]
    shifted = [images.roll([-c for c in offset], axes) for offset in itertools.product(offsets, repeat=d)]
    return torch.cat(shifted, dim=-d - 1) / math.sqrt(patch_size**d)
