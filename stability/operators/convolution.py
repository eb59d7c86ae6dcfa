"""W P y as one convolution: what extracting patches and multiplying gives, without holding the patches."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from stability.boundaries import PERIODIC, NetworkBoundary, Periodic
from stability.operators.patches import patch_offsets
from stability.operators.precision import without_tf32


def filtered(
    maps: Tensor, weight: Tensor, patch_size: int, d: int, dilation: int = 1, boundary: NetworkBoundary = PERIODIC
) -> Tensor:
    """W P y, ``(B, m, *size)``: equal to ``weight @ extract_patches(maps, ...)`` up to round-off.

    Args:
        maps: y, ``(B, C, *size)``, d spatial axes.
        weight: ``(m, e^d C)``, columns as ``extract_patches`` stacks them (offsets outer, channels inner).
        patch_size: e.
        d: 1 or 2.
        dilation: distance of neighbouring patch positions, in pixels of this grid.
        boundary: what a patch reads beyond the border.

    Raises:
        ValueError: for maps with another number of channels than the weight has columns for.

    >>> filtered(torch.ones(1, 2, 5), torch.ones(3, 6), 3, d=1)[0, :, 0]  # 6 ones over sqrt(3)
    tensor([3.4641, 3.4641, 3.4641])
    """
    channels = maps.shape[1]
    if weight.shape[1] != patch_size**d * channels:
        raise ValueError(
            f"patches must have {weight.shape[1]} entries (channels x positions) for these filters, got {channels} x "
            f"{patch_size**d}; give images with the channels and axes that the network was made for"
        )
    kernel = weight.unflatten(1, (*(patch_size,) * d, channels)).movedim(-1, 1) / math.sqrt(patch_size**d)
    offsets = patch_offsets(patch_size)
    before, after = -offsets[0] * dilation, offsets[-1] * dilation
    mode = "circular" if isinstance(boundary, Periodic) else "constant"
    padded = functional.pad(maps, (before, after) * d, mode=mode)
    if d == 2 and maps.dtype == torch.float32:  # single precision is faster with the channels of a pixel side by side
        padded = padded.contiguous(memory_format=torch.channels_last)
    convolve = functional.conv1d if d == 1 else functional.conv2d
    with without_tf32(padded):
        return torch.as_tensor(convolve(padded, kernel, dilation=dilation))
