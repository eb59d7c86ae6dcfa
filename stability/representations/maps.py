"""What layers of a finite network share, whatever their maps M_k: the input A_0 F x, and A_k with its stride."""

from torch import Tensor

from stability.architecture import Architecture
from stability.grid import spatial_size
from stability.operators.front_end import front_end_output
from stability.operators.pooling import pool, pooling_matrices


def low_passed(architecture: Architecture, images: Tensor, refinement: int = 1) -> Tensor:
    """A_0 F x for images ``(B, C, *size)`` on a grid ``refinement`` times as fine; same shape.

    >>> import torch
    >>> low_passed(Architecture.dyadic(depth=1), torch.ones(1, 1, 4)).round(decimals=6)
    tensor([[[1., 1., 1., 1.]]])
    """
    d = len(spatial_size(images))
    images = front_end_output(architecture, images, d, refinement)
    sigma = (architecture.antialiasing or 0.0) * refinement
    matrices = pooling_matrices(images.shape[-d:], sigma, boundary=architecture.boundary, device=images.device)
    return pool(images, [matrix.to(images.dtype) for matrix in matrices])


def pooled(architecture: Architecture, k: int, maps: Tensor, d: int, refinement: int = 1) -> Tensor:
    """A_k z with the stride of layer k = 0 ... n - 1, for maps ``(B, K, *size_k)`` on that layer's own grid."""
    layer, spacing = architecture.layers[k], architecture.spacings[k]
    sigma = layer.pooling_scale * refinement / spacing
    stride, boundary = layer.subsampling, architecture.boundary
    matrices = pooling_matrices(maps.shape[-d:], sigma, stride, boundary, device=maps.device)
    return pool(maps, [matrix.to(maps.dtype) for matrix in matrices])
