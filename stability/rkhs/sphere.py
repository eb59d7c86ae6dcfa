r"""The normalised kernel K(x, y) / sqrt(K(x, x) K(y, y)): features on the unit sphere, Phi(x) / ||Phi(x)||.

A zero feature has the direction 0.
"""

import math

import torch
from torch import Tensor


def normalise(matrix: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """K_ij / (||Phi(x_i)|| ||Phi(y_j)||), and 0 where a norm is 0.

    Args:
        matrix: K(x_i, y_j), ``(Bx, By)``.
        rows: ||Phi(x_i)||, ``(Bx,)``.
        columns: ||Phi(y_j)||, ``(By,)``.

    Returns:
        Tensor ``(Bx, By)``, the dtype of the matrix.

    >>> normalise(torch.tensor([[4.0, 3.0], [3.0, 9.0]]), torch.tensor([2.0, 3.0]), torch.tensor([2.0, 3.0]))
    tensor([[1.0000, 0.5000],
            [0.5000, 1.0000]])
    """
    left, right = (torch.where(norm > 0, 1.0 / norm, 0.0).to(matrix) for norm in (rows, columns))
    return matrix * left[:, None] * right


def largest_chord(distance: Tensor, norm: Tensor) -> Tensor:
    """max |u/|u| - v/|v|| over |u - v| <= d: 2 sin(arcsin(d / |u|) / 2) for d < |u|, else 2.

    Args:
        distance: d >= 0, any shape.
        norm: |u|, a shape that broadcasts with it.

    >>> largest_chord(torch.tensor([0.0, 0.6, 1.0]), torch.tensor(1.0))
    tensor([0.0000, 0.6325, 2.0000])
    """
    ratio = torch.where(norm > 0, distance / norm, torch.where(distance > 0, math.inf, 0.0))
    return torch.where(ratio < 1.0, 2.0 * torch.sin(0.5 * torch.arcsin(ratio.clamp_max(1.0))), 2.0)


def safe_distance(chord: Tensor, norm: Tensor) -> Tensor:
    """The largest d such that |u - v| < d implies |u/|u| - v/|v|| < t: |u| sin(2 arcsin(t / 2)), inf from t > 2 on.

    Args:
        chord: t >= 0, any shape.
        norm: |u|, a shape that broadcasts with it.

    >>> safe_distance(torch.tensor([0.0, 0.6325, 1.9, 2.1]), torch.tensor(1.0))
    tensor([0.0000, 0.6000, 1.0000,    inf])
    """
    angle = 2.0 * torch.arcsin((0.5 * chord).clamp_max(1.0))
    return torch.where(chord > 2.0, math.inf, norm * torch.sin(angle.clamp_max(0.5 * math.pi)))
