r"""f(K) = (K + ridge I)^(-1/2) of a symmetric matrix, and its derivative, stable where eigenvalues meet.

With K = V diag(lambda) V^T and a_i = sqrt(lambda_i + ridge),

    f(K) = V diag(1 / a_i) V^T,    df(K)[H] = V (F o V^T H V) V^T,    F_ij = -1 / (a_i a_j (a_i + a_j)),

since (1 / a_i - 1 / a_j) / (a_i^2 - a_j^2) = -1 / (a_i a_j (a_i + a_j)): no difference of eigenvalues is left, and
equal ones need no care. Differentiating through the eigenvectors would divide by lambda_i - lambda_j.

Reference: Daleckii & Krein 1965; Higham 2008, Functions of Matrices, theorem 3.11.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _InverseSquareRoot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor, ridge: float, tolerance: float) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        shifted = values.clamp_min(0.0) + ridge
        kept = shifted > tolerance * values[-1]
        root = torch.where(kept, shifted, 1.0).sqrt()
        ctx.save_for_backward(vectors, root, kept)
        scaled = vectors[:, kept] / root[kept].sqrt()
        return scaled @ scaled.T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        vectors, a, kept = ctx.saved_tensors
        quotients = -1.0 / (a[:, None] * a * (a[:, None] + a))
        # where one of the two is left out, as zero: (1 / a_i - 0) / (a_i^2 - 0); where both are, nothing
        crossed = torch.where(kept, a.pow(-3), 0.0)
        quotients = torch.where(
            kept[:, None] & kept, quotients, torch.where(kept[:, None] | kept, crossed[:, None] + crossed, 0.0)
        )
        inner = vectors.T @ ((gradient + gradient.T) / 2) @ vectors
        return vectors @ (quotients * inner) @ vectors.T, None, None


def inverse_square_root(matrix: Tensor, ridge: float, tolerance: float) -> Tensor:
    """(K + ridge I)^(-1/2), pseudo-inverse, differentiable once.

    Args:
        matrix: K, ``(m, m)``, symmetric, positive semi-definite up to round-off, float64.
        ridge: >= 0.
        tolerance: eigenvalues with lambda + ridge at most this share of the largest one count as zero. The derivative
            is then that among matrices of this rank; f is not continuous where the rank changes. A ridge above
            ``tolerance`` times the largest eigenvalue keeps all of them, and f is smooth.

    >>> inverse_square_root(torch.diag(torch.tensor([4.0, 0.0], dtype=torch.float64)), 0.0, 1e-12)
    tensor([[0.5000, 0.0000],
            [0.0000, 0.0000]], dtype=torch.float64)
    """
    result: Tensor = _InverseSquareRoot.apply(matrix, ridge, tolerance)
    return result
