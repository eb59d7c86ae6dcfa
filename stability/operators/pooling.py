r"""Gaussian pooling A_sigma x = h_sigma * x: the Fourier symbol exp(-sigma^2 |omega|^2 / 2).

The symbol is separable, so A_sigma is one dense matrix per axis, exact at any sigma. Subsampling keeps every s-th row.

* ``Periodic()``: the circulant matrix with this symbol.
* ``Zero()``: 1 A 1, the compression to the window of the convolution on the infinite line with the taps of this symbol
  on |omega| <= pi (``gaussian_taps``): a Toeplitz matrix, not renormalised: rows near the border sum to less than 1.

Both are symmetric without a stride, and of norm at most 1: the symbol is, and a compression does not expand.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from stability.architecture import Architecture
from stability.boundaries import PERIODIC, NetworkBoundary, Periodic
from stability.grid import frequencies
from stability.operators.gaussian_taps import gaussian_taps


def pooling_matrix(
    n: int,
    sigma: float,
    stride: int = 1,
    boundary: NetworkBoundary = PERIODIC,
    *,
    device: torch.device | str | None = None,
) -> Tensor:
    """One axis of "pool, then keep every stride-th pixel": rows of the matrix of symbol exp(-sigma^2 w^2 / 2).

    Args:
        n: side of the grid.
        sigma: standard deviation in pixels OF THIS GRID, >= 0; 0 gives the identity.
        stride: subsampling factor.
        boundary: ``Periodic()``: circulant; ``Zero()``: Toeplitz, what would come from beyond the border is 0.

    Returns:
        Tensor ``(ceil(n / stride), n)``, float64; on the torus rows sum to 1.

    >>> pooling_matrix(6, 0.0, stride=3)
    tensor([[1., 0., 0., 0., 0., 0.],
            [0., 0., 0., 1., 0., 0.]], dtype=torch.float64)
    >>> from stability.boundaries import Zero
    >>> pooling_matrix(6, 1.0, 3, Zero()).sum(1).round(decimals=4)  # the rest of their mass lies outside
    tensor([0.6992, 0.9952], dtype=torch.float64)
    """
    if sigma == 0:
        return torch.eye(n, dtype=torch.float64, device=device)[::stride].contiguous()
    index = torch.arange(n, device=device)
    steps = index[::stride, None] - index
    if not isinstance(boundary, Periodic):
        return gaussian_taps(n, sigma, device=device)[steps.abs()]
    symbol = torch.exp(-0.5 * (sigma * frequencies(n, device=device)).square())
    taps = torch.fft.ifft(symbol).real  # (n,), even
    return taps[steps % n]


def pool(images: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Apply one pooling matrix per trailing axis: A_sigma x, then subsampling.

    Args:
        images: ``(..., *size)``.
        matrices: one ``(n', n)`` matrix for each of the trailing axes, in their order.

    Returns:
        ``(..., *size')``.
    """
    d = len(matrices)
    if d == 2 and images.ndim == 4 and not images.is_contiguous() and images.movedim(1, -1).is_contiguous():
        along = images.movedim(1, -1).flatten(2)  # (B, H, W C): memory is read in its order
        rows = torch.bmm(matrices[0].expand(len(along), -1, -1), along)
        return torch.matmul(matrices[1], rows.unflatten(2, (images.shape[3], -1))).movedim(-1, 1)
    images = images @ matrices[-1].T
    return images if d == 1 else torch.matmul(matrices[0], images)


def pooling_matrices(
    size: Sequence[int],
    sigma: float,
    stride: int = 1,
    boundary: NetworkBoundary = PERIODIC,
    *,
    device: torch.device | str | None = None,
) -> tuple[Tensor, ...]:
    """``pooling_matrix`` of every axis of a grid."""
    return tuple(pooling_matrix(n, sigma, stride, boundary, device=device) for n in size)


def sampling_gains(architecture: Architecture, size: tuple[int, ...], refinement: int = 1) -> tuple[float, ...]:
    """Norm of every layer's "pool, then subsample" in area-weighted norms, at least 1.

    Args:
        architecture: scales, strides, boundary.
        size: sides of the image's grid.
        refinement: that grid is so many times as fine as the architecture's pixels.

    Returns:
        One number per layer: 1 without a stride, and to 1e-16 where the scale is at least the new spacing. The norm of
        the matrices themselves, whatever the boundary; with zeros it is at most ``bounds.sampling_gain``, that of the
        infinite line, of which it is a compression.
    """
    boundary = architecture.boundary
    gains = []
    for layer, spacing in zip(architecture.layers, architecture.spacings, strict=False):
        gain = 1.0
        if layer.subsampling > 1:
            grid = [n // spacing for n in size]
            sigma = layer.pooling_scale * refinement / spacing
            for matrix in pooling_matrices(grid, sigma, layer.subsampling, boundary):
                cell = matrix.shape[1] / matrix.shape[0]
                gain *= max(1.0, float(torch.linalg.matrix_norm(matrix, ord=2)) * math.sqrt(cell))
        gains.append(gain)
    return tuple(gains)
