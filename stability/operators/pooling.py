r"""Gaussian pooling A_sigma x = h_sigma * x on the torus: the Fourier symbol exp(-sigma^2 |omega|^2 / 2).

The symbol is separable, so A_sigma is one dense circulant matrix per axis, exact at any sigma. Subsampling keeps
every s-th row of it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from stability.grid import frequencies


def pooling_matrix(n: int, sigma: float, stride: int = 1, *, device: torch.device | str | None = None) -> Tensor:
    """One axis of "pool, then keep every stride-th pixel": rows of the circulant of symbol exp(-sigma^2 w^2 / 2).

    Args:
        n: side of the grid.
        sigma: standard deviation in pixels OF THIS GRID, >= 0; 0 gives the identity.
        stride: subsampling factor; divides n.

    Returns:
        Tensor ``(n / stride, n)``, float64; rows sum to 1.

    >>> pooling_matrix(6, 0.0, stride=3)
    tensor([[1., 0., 0., 0., 0., 0.],
            [0., 0., 0., 1., 0., 0.]], dtype=torch.float64)
    """
    if sigma == 0:
        return torch.eye(n, dtype=torch.float64, device=device)[::stride].contiguous()
    symbol = torch.exp(-0.5 * (sigma * frequencies(n, device=device)).square())
    taps = torch.fft.ifft(symbol).real  # (n,), even
    index = torch.arange(n, device=device)
    return taps[(index[::stride, None] - index) % n]


def pool(images: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Apply one pooling matrix per trailing axis: A_sigma x, then subsampling.

    Args:
        images: ``(..., *size)``.
        matrices: one ``(n', n)`` matrix for each of the trailing axes, in their order.

    Returns:
        ``(..., *size')``.
    """
    d = len(matrices)
    images = images @ matrices[-1].T
    return images if d == 1 else torch.matmul(matrices[0], images)


def pooling_matrices(
    size: Sequence[int], sigma: float, stride: int = 1, *, device: torch.device | str | None = None
) -> tuple[Tensor, ...]:
    """``pooling_matrix`` of every axis of a grid."""
    return tuple(pooling_matrix(n, sigma, stride, device=device) for n in size)
