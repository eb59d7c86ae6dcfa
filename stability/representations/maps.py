"""What layers of a finite network share, whatever their maps M_k: the input A_0 F x, and A_k with its stride."""

import functools

import torch
from torch import Tensor

from stability.architecture import Architecture
from stability.boundaries import NetworkBoundary
from stability.grid import spatial_size
from stability.operators.front_end import front_end_output
from stability.operators.pooling import pool, pooling_matrices


def low_passed(
    architecture: Architecture, images: Tensor, refinement: int = 1, dtype: torch.dtype | None = None
) -> Tensor:
    """A_0 F x for images ``(B, C, *size)`` on a grid ``refinement`` times as fine; same shape.

    F in double precision, since differences and means cancel; the rest in the dtype, by default that of the images.

    >>> import torch
    >>> low_passed(Architecture.dyadic(depth=1), torch.ones(1, 1, 4)).round(decimals=6)
    tensor([[[1., 1., 1., 1.]]])
    """
    d = len(spatial_size(images))
    dtype = images.dtype if dtype is None else dtype
    if architecture.front_end is not None:
        images = front_end_output(architecture, images.double(), d, refinement)
    images = images.to(dtype)
    if architecture.antialiasing is None:
        return images
    sigma, boundary = architecture.antialiasing * refinement, architecture.boundary
    return pool(images, _matrices(tuple(images.shape[-d:]), sigma, 1, boundary, images.device, images.dtype))


def pooled(architecture: Architecture, k: int, maps: Tensor, d: int, refinement: int = 1) -> Tensor:
    """A_k z with the stride of layer k = 0 ... n - 1, for maps ``(B, K, *size_k)`` on that layer's own grid."""
    layer, spacing = architecture.layers[k], architecture.spacings[k]
    sigma = layer.pooling_scale * refinement / spacing
    size, stride, boundary = tuple(maps.shape[-d:]), layer.subsampling, architecture.boundary
    return pool(maps, _matrices(size, sigma, stride, boundary, maps.device, maps.dtype))


@functools.lru_cache(maxsize=64)
def _matrices(
    size: tuple[int, ...],
    sigma: float,
    stride: int,
    boundary: NetworkBoundary,
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[Tensor, ...]:
    """``pooling_matrices`` in a dtype, kept: networks ask for the same few at every batch."""
    with torch.inference_mode(False):  # what is kept must serve in a graph, too
        return tuple(matrix.to(dtype) for matrix in pooling_matrices(size, sigma, stride, boundary, device=device))
