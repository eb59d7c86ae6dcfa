r"""The largest eigenvalue of a positive semi-definite operator, from above with high probability.

After k steps of Lanczos' method from a random direction in R^n the largest Ritz value lambda_k satisfies

    P(lambda_k < (1 - eps) lambda_max) <= 1.648 sqrt(n) exp(-sqrt(eps) (2 k - 1)).

Reference: Kuczynski & Wozniakowski 1992, SIAM J. Matrix Anal. Appl. 13(4), theorem 4.2.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def shortfall(n: int, steps: int, failure: float) -> float:
    """eps such that lambda_k >= (1 - eps) lambda_max with probability 1 - failure.

    Args:
        n: dimension.
        steps: k.
        failure: in (0, 1).

    >>> round(shortfall(4096, 60, 1e-3), 4)
    0.0094
    """
    return (math.log(1.648 * math.sqrt(n) / failure) / (2 * steps - 1)) ** 2


def largest_eigenvalue(
    operator: Callable[[Tensor], Tensor],
    n: int,
    generator: torch.Generator,
    *,
    steps: int,
    failure: float,
    device: torch.device | None = None,
) -> float:
    """An upper value of lambda_max(operator), wrong with probability ``failure`` at most.

    Args:
        operator: symmetric and positive semi-definite on float64 vectors ``(n,)``.
        n: dimension.
        generator: for the random start.
        steps: most steps of Lanczos' method, with full reorthogonalisation.
        failure: in (0, 1).
        device: of the vectors; None: the generator's.

    Returns:
        lambda_k / (1 - eps), infinity if the steps are too few for eps < 1. If the method ends early the Ritz value is
        the eigenvalue itself, with probability one.
    """
    start = torch.randn(n, generator=generator, dtype=torch.float64, device=generator.device).to(device)
    basis = torch.zeros(steps, n, dtype=torch.float64, device=start.device)
    basis[0] = start / start.norm()
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    for k in range(steps):
        image = operator(basis[k])
        diagonal.append(basis[k] @ image)
        for _ in range(2):  # twice is enough
            image = image - basis[: k + 1].T @ (basis[: k + 1] @ image)
        beside.append(image.norm())
        if k + 1 == steps or bool(beside[-1] <= 1e-14 * torch.stack(diagonal).abs().max()):
            break
        basis[k + 1] = image / beside[-1]
    taken = len(diagonal)
    off = torch.stack(beside)[: taken - 1]
    ritz = float(torch.linalg.eigvalsh(torch.stack(diagonal).diag() + off.diag(1) + off.diag(-1))[-1])
    if taken < steps:
        return max(ritz, 0.0)
    eps = shortfall(n, steps, failure)
    return max(ritz, 0.0) / (1 - eps) if eps < 1 else math.inf
