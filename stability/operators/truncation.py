r"""Poolings whose taps beyond a radius are dropped: A' keeps h(j) for |j| <= R, along one axis of the torus.

On n points A and A' are convolutions with even taps, so that their norms are read off the discrete Fourier transform:
with stride s dividing n, ||S A||^2 = max_w sum_l |a(w + 2 pi l / s)|^2 in area-weighted norms, a the symbol (S keeps
every s-th value, and a kept value stands for s pixels).
"""

import math

import torch
from torch import Tensor

from stability.grid import frequencies
from stability.operators.pooling import pooling_matrix


def truncated_pooling_matrix(
    n: int, sigma: float, stride: int, radius: int, *, device: torch.device | str | None = None
) -> Tensor:
    """``pooling_matrix`` of the torus, with entries farther than ``radius`` pixels from the diagonal set to 0.

    Args:
        n: side of the grid.
        sigma: standard deviation in pixels of this grid, >= 0.
        stride: subsampling factor.
        radius: R >= 0 in pixels of this grid.
        device: where the matrix is put.

    Returns:
        Tensor ``(ceil(n / stride), n)``, float64; rows are not renormalised.

    >>> truncated_pooling_matrix(5, 1.0, 2, 1).count_nonzero(1)
    tensor([3, 3, 3])
    """
    index = torch.arange(n, device=device)
    steps = (index[::stride, None] - index) % n
    near = torch.minimum(steps, n - steps) <= radius
    return torch.where(near, pooling_matrix(n, sigma, stride, device=device), 0.0)


def truncation_norms(n: int, sigma: float, stride: int, radius: int) -> tuple[float, float]:
    """||S (A - A')|| and ||S A'|| along one axis, in area-weighted norms; at most so much if the stride leaves a rest.

    Args:
        n: side of the grid.
        sigma: standard deviation in pixels of this grid, >= 0.
        stride: subsampling factor.
        radius: R >= 0 in pixels of this grid.

    >>> dropped, kept = truncation_norms(64, 2.0, 2, 8)
    >>> round(dropped, 6), round(kept, 6)
    (2.3e-05, 0.999982)
    """
    symbol = torch.exp(-0.5 * (sigma * frequencies(n)).square())
    index = torch.arange(n)
    near = torch.minimum(index, n - index) <= radius
    kept = torch.fft.fft(torch.where(near, torch.fft.ifft(symbol).real, 0.0)).real  # even taps: real
    return _sampled_norm(symbol - kept, stride), _sampled_norm(kept, stride)


def truncation_radius(n: int, sigma: float, stride: int, most: float) -> int:
    """The least R with ||S (A - A')|| <= ``most``; n // 2, which drops nothing, if no smaller one has it.

    >>> truncation_radius(64, 2.0, 2, 1e-3), truncation_radius(64, 2.0, 2, 1e-6), truncation_radius(64, 1.0, 2, 1e-3)
    (7, 10, 12)
    """
    for radius in range(n // 2):
        if truncation_norms(n, sigma, stride, radius)[0] <= most:
            return radius
    return n // 2


def _sampled_norm(symbol: Tensor, stride: int) -> float:
    """Norm of "convolve, then keep every stride-th value" from the symbol of the convolution ``(n,)``."""
    n = len(symbol)
    if n % stride:  # sampling does not expand sums of squares
        return float(symbol.abs().max()) * math.sqrt(n / math.ceil(n / stride))
    return math.sqrt(float(symbol.square().view(stride, n // stride).sum(0).max()))
