r"""Patch extraction P y(u) = (y(u + c))_c, normalised so that ||P y|| = ||y||: an average over the patch positions.

Beyond the border of the map a patch reads the torus, or zeros; then ||P y|| <= ||y||.

Convention: an odd side e covers the offsets -(e-1)/2 ... (e-1)/2, an even one -(e/2 - 1) ... e/2.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from stability.boundaries import PERIODIC, NetworkBoundary, Periodic


def patch_offsets(patch_size: int) -> range:
    """Offsets of a patch along one axis, in pixels of its grid.

    >>> list(patch_offsets(3)), list(patch_offsets(2))
    ([-1, 0, 1], [0, 1])
    """
    start = -((patch_size - 1) // 2)
    return range(start, start + patch_size)


def shifted(maps: Tensor, offset: Sequence[int], boundary: NetworkBoundary = PERIODIC) -> Tensor:
    """y(. + c).

    Args:
        maps: y, ``(..., *size)``.
        offset: c, one number for each of the trailing axes, in their order.
        boundary: what lies beyond the border.

    >>> from stability.boundaries import Zero
    >>> x = torch.arange(4.0)
    >>> shifted(x, (1,)), shifted(x, (1,), Zero())
    (tensor([1., 2., 3., 0.]), tensor([1., 2., 3., 0.]))
    >>> shifted(x, (-1,)), shifted(x, (-1,), Zero())
    (tensor([3., 0., 1., 2.]), tensor([0., 0., 1., 2.]))
    """
    if isinstance(boundary, Periodic):
        return maps.roll([-c for c in offset], tuple(range(-len(offset), 0)))
    sizes = maps.shape[-len(offset) :]
    maps = pad(maps, [width for c in reversed(offset) for width in (max(-c, 0), max(c, 0))])
    for axis, (c, n) in enumerate(zip(offset, sizes, strict=True), start=-len(offset)):
        maps = maps.narrow(axis, max(c, 0), n)
    return maps


def extract_patches(
    images: Tensor, patch_size: int, d: int, dilation: int = 1, boundary: NetworkBoundary = PERIODIC
) -> Tensor:
    """P y: the shifted copies y(. + c) stacked as channels and divided by e^(d/2).

    Args:
        images: ``(..., C, *size)``, d spatial axes.
        patch_size: e.
        d: number of spatial axes.
        dilation: distance of neighbouring patch positions, in pixels of this grid.
        boundary: what a patch reads beyond the border.

    Returns:
        ``(..., C e^d, *size)``; its norm is that of the images on the torus, and at most that with ``Zero()``.

    >>> x = torch.arange(4.0).view(1, 4)
    >>> extract_patches(x, 3, d=1).square().sum().round(decimals=4)
    tensor(14.)
    """
    offsets = [c * dilation for c in patch_offsets(patch_size)]
    copies = [shifted(images, offset, boundary) for offset in itertools.product(offsets, repeat=d)]
    return torch.cat(copies, dim=-d - 1) / math.sqrt(patch_size**d)
