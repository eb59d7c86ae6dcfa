"""The nearest matrix in a ball of the nuclear norm: singular values projected on a ball of their sum."""

import torch
from torch import Tensor


def project_nuclear_norm(matrix: Tensor, radius: float) -> Tensor:
    """argmin ||B - A||_F over ||B||_* <= R: singular values s become max(s - t, 0), t such that they add up to R.

    Args:
        matrix: A, ``(m, n)``.
        radius: R > 0.

    Returns:
        B, ``(m, n)``; A itself if it lies in the ball.

    Reference: Duchi, Shalev-Shwartz, Singer & Chandra 2008 for the projection of the singular values.

    >>> project_nuclear_norm(torch.diag(torch.tensor([3.0, 1.0])), 2.0)
    tensor([[2., 0.],
            [0., 0.]])
    """
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    if float(values.sum()) <= radius:
        return matrix
    means = (values.cumsum(0) - radius) / torch.arange(1, len(values) + 1, dtype=values.dtype, device=values.device)
    threshold = means[int((values > means).nonzero()[-1])]
    return (left * (values - threshold).clamp_min(0.0)) @ right
