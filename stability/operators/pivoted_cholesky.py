"""Pivoted Cholesky: anchors chosen one after the other where the kernel map is worst represented so far."""

import torch
from torch import Tensor

from stability.kernels import Kernel

EXHAUSTED = 1e-12
"""Of kappa(1) = 1: a residual that round-off alone leaves."""


def pivoted_cholesky(points: Tensor, count: int, kernel: Kernel) -> tuple[Tensor, Tensor]:
    """Pivots i_1, ..., i_m: i_j maximises |phi(x_i)|^2 - |projection on phi(x_{i_1}), ..., phi(x_{i_{j-1}})|^2.

    Args:
        points: ``(N, p)``, unit rows; computed in float64, with an array ``(m, N)``.
        count: m, between 1 and N.
        kernel: kappa.

    Returns:
        Indices ``(r,)`` of the pivots, r <= m: fewer where every point lies in the span of the first r; and what the
        projection then loses, max_i |phi(x_i)|^2 - |Pi phi(x_i)|^2 after each pivot, ``(r,)``.

    Reference: Fine & Scheinberg 2001; Harbrecht, Peters & Schneider 2012.

    >>> from stability.kernels import Linear
    >>> points = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    >>> pivots, lost = pivoted_cholesky(points, 3, Linear())
    >>> pivots, bool(lost[-1] < 1e-6)
    (tensor([0, 2]), True)
    """
    points = points.to(torch.float64)
    residual = points.new_ones(len(points))
    rows, pivots, lost = points.new_zeros(count, len(points)), [], []
    for j in range(count):
        pivot = int(residual.argmax())
        if float(residual[pivot]) <= EXHAUSTED:
            break
        column = kernel.evaluate_((points @ points[pivot]).clamp_(-1.0, 1.0))
        column[pivot] = 1.0
        column -= rows[:j, pivot] @ rows[:j]
        rows[j] = column / residual[pivot].sqrt()
        residual = (residual - rows[j].square()).clamp_min_(0.0)
        residual[pivot] = 0.0
        pivots.append(pivot)
        lost.append(float(residual.max()))
    return torch.tensor(pivots, device=points.device), torch.tensor(lost, dtype=torch.float64)
