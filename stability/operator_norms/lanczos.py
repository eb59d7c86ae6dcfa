r"""The largest eigenvalue of a symmetric operator by Lanczos iterations, with an upper end that holds with probability.

Let x be uniform on the unit sphere of R^n, K = sum_i lambda_i v_i v_i^T >= 0, t = failure (pi / (2 (n-1)))^(1/2). Then
|<x, v_1>| >= t with probability at least 1 - failure and, for the orthonormal polynomials pi_0, ..., pi_k of the
measure sum_i <x, v_i>^2 at lambda_i, which are those of the tridiagonal matrix,

    t^2 sum_j pi_j(lambda_1)^2 <= 1,

and the left side increases beyond the largest Ritz value: this bounds lambda_1. Under the same event the largest Ritz
value theta of k steps has theta >= (1 - eps) lambda_1 for cosh((2k-1) artanh(eps^(1/2))) = 1 / t, the form of
Kuczynski & Wozniakowski 1992. The smaller of both bounds is used. Proofs: docs/theory-norms.md.

Reference: Kuczynski & Wozniakowski 1992; van Dorsselaer, Hochstenbach & van der Vorst 2001.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

EVERY = 5
"""Steps between two looks at the Ritz values."""


@dataclass(frozen=True)
class Largest:
    """lower <= lambda_1 <= upper.

    Args:
        lower: the largest Ritz value.
        upper: holds with probability at least 1 - failure.
        steps: products with the operator.
    """

    lower: float
    upper: float
    steps: int


def largest_eigenvalue(
    product: Callable[[Tensor], Tensor], start: Tensor, n: int, *, failure: float, tolerance: float, steps: int = 300
) -> Largest:
    """The largest eigenvalue of a symmetric positive semidefinite operator on n dimensions.

    Args:
        product: x -> K x for tensors of the shape of ``start``.
        start: a Gaussian vector of the n-dimensional space, of any norm > 0: its direction is uniform.
        n: dimension of that space.
        failure: in (0, 1).
        tolerance: (upper - lower) / upper at which iterations end.
        steps: the most that are made.

    >>> generator = torch.Generator().manual_seed(0)
    >>> values = torch.linspace(0, 1, 200, dtype=torch.float64)
    >>> start = torch.randn(200, generator=generator, dtype=torch.float64)
    >>> found = largest_eigenvalue(lambda x: values * x, start, 200, failure=1e-3, tolerance=1e-6)
    >>> round(found.lower, 8), found.upper < 1 + 2e-6, found.steps < 120
    (1.0, True, True)
    """
    steps = min(steps, n)
    vectors = [(start / start.norm()).flatten()]
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        image = product(vectors[-1].reshape(start.shape)).flatten()
        diagonal.append(float(image @ vectors[-1]))
        known = torch.stack(vectors)
        for _ in range(2):
            image = image - (known @ image) @ known
        beside.append(float(image.norm()))
        k = len(diagonal)
        exhausted = beside[-1] <= 1e-13 * max(map(abs, diagonal)) or beside[-1] == 0
        if k % EVERY == 0 or k >= steps or exhausted:
            found = _bounded(diagonal, beside, n, failure, exhausted)
            if exhausted or k >= steps or found.upper - found.lower <= tolerance * found.upper:
                return found
        vectors.append(image / beside[-1])


def _bounded(diagonal: list[float], beside: list[float], n: int, failure: float, exhausted: bool) -> Largest:
    """Both ends after k steps."""
    k = len(diagonal)
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    if k > 1:
        above = torch.tensor(beside[:-1], dtype=torch.float64)
        matrix = matrix + torch.diag(above, 1) + torch.diag(above, -1)
    ritz = max(0.0, float(torch.linalg.eigvalsh(matrix)[-1]))
    if exhausted or n == 1:  # every eigenvector that x is not orthogonal to has been found
        return Largest(ritz, ritz, k)
    t = min(1.0, failure * math.sqrt(math.pi / (2 * (n - 1))))
    shrink = math.tanh(math.acosh(1 / t) / (2 * k - 1)) ** 2
    low, high = ritz, ritz / (1 - shrink) if shrink < 1 else math.inf
    if not math.isfinite(high):
        return Largest(ritz, high, k)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _exceeds(diagonal, beside, middle, 1 / t) else (middle, high)
    return Largest(ritz, high, k)


def _exceeds(diagonal: list[float], beside: list[float], value: float, limit: float) -> bool:
    """Whether sum_j pi_j(value)^2 > limit^2: beta_{j+1} pi_{j+1} = (value - alpha_j) pi_j - beta_j pi_{j-1}."""
    before, now, total, last = 0.0, 1.0, 1.0, 0.0
    for alpha, beta in zip(diagonal, beside, strict=True):
        before, now = now, ((value - alpha) * now - last * before) / beta
        last = beta
        total += now * now
        if total > limit * limit:
            return True
    return False
