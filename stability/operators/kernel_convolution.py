r"""|P y| kappa(Z P y / |P y|) as a convolution: a kernel map without the patches, and without its inverse root.

The rest of the kernel map, the matrix kappa(Z^T Z)^(-1/2), acts on channels only and commutes with pooling and
subsampling, which act on positions only: it is a 1 x 1 convolution that may come last, on the few positions left.
"""

import math

import torch
from torch import Tensor

from stability.boundaries import PERIODIC, NetworkBoundary
from stability.kernels import Kernel
from stability.operators.convolution import filtered
from stability.operators.patches import patch_offsets, shifted

CHUNK = 2**16
"""Numbers on which all pointwise passes are made before the next ones: they stay in a core's cache."""


def kernel_convolution(
    kernel: Kernel,
    anchors: Tensor,
    maps: Tensor,
    patch_size: int,
    d: int,
    dilation: int = 1,
    boundary: NetworkBoundary = PERIODIC,
) -> Tensor:
    """|P y| kappa(Z P y / |P y|), 0 where P y = 0; differentiable in maps and anchors (with gradient 0 there).

    Args:
        kernel: kappa.
        anchors: Z, ``(m, C e^d)``, unit rows, columns as ``extract_patches`` stacks them.
        maps: y, ``(B, C, *size)``, d spatial axes.
        patch_size: e.
        d: 1 or 2.
        dilation: distance of neighbouring patch positions, in pixels of this grid.
        boundary: what a patch reads beyond the border.

    Returns:
        ``(B, m, *size)``.

    >>> from stability.kernels import Exponential
    >>> kernel_convolution(Exponential(), torch.tensor([[1.0]]), torch.tensor([[[2.0, 0.0]]]), 1, d=1)
    tensor([[[2., 0.]]])
    """
    square = _patch_squares(maps, patch_size, d, dilation, boundary)
    norms = torch.where(square > 0, square, 1.0).sqrt()  # the root's slope at 0 is infinite
    inner = filtered(maps, anchors, patch_size, d, dilation, boundary)
    if torch.is_grad_enabled() and (maps.requires_grad or anchors.requires_grad):
        return kernel((inner / norms).clamp(-1.0, 1.0)) * torch.where(square > 0, norms, 0.0)
    back = inner.movedim(-d - 1, -1).is_contiguous()  # pixels, then channels: the order in memory
    factors = norms.reciprocal(), torch.where(square > 0, norms, 0.0)
    cosines, inverses, lengths = (part.movedim(-d - 1, -1) if back else part for part in (inner, *factors))
    for part, inverse, length in zip(
        *(t.split(max(1, CHUNK // math.prod(inner.shape[1:]))) for t in (cosines, inverses, lengths)), strict=True
    ):
        part.copy_(kernel.evaluate_(part.mul_(inverse).clamp_(-1.0, 1.0)).mul_(length))
    return inner


def _patch_squares(maps: Tensor, patch_size: int, d: int, dilation: int, boundary: NetworkBoundary) -> Tensor:
    """|P y|^2, ``(B, 1, *size)``: sums of |y|^2 along one axis after the other."""
    square = maps.square().sum(-d - 1, keepdim=True) / patch_size**d
    for axis in range(d):
        steps = [[c * dilation * (other == axis) for other in range(d)] for c in patch_offsets(patch_size)]
        square = torch.stack([shifted(square, step, boundary) for step in steps]).sum(0)
    return square
