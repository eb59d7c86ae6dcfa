"""Roots of many continuous functions of one variable at once, each inside its bracket."""

from collections.abc import Callable

import torch
from torch import Tensor


def bracketed_roots(
    function: Callable[[Tensor, Tensor], Tensor],
    ends: tuple[Tensor, Tensor],
    values: tuple[Tensor, Tensor],
    *,
    tolerance: float = 1e-9,
    iterations: int = 60,
) -> Tensor:
    """Points x_i with |f_i(x_i)| <= tolerance, by Chandrupatla's mixture of bisection and inverse quadratic steps.

    Args:
        function: ``function(index, x)`` gives f_index(x) for the functions still under way, both of shape ``(A,)``.
        ends: the brackets, two tensors ``(n,)``.
        values: f at the ends, ``(n,)`` each; f_i must change its sign between them or vanish at one.
        tolerance: on |f|, > 0.
        iterations: most steps.

    Returns:
        The points, ``(n,)``; where the tolerance was not reached the best point seen.

    Reference: Chandrupatla 1997, Advances in Engineering Software 28(3).

    >>> targets = torch.tensor([2.0, 3.0], dtype=torch.float64)
    >>> low, high = torch.zeros_like(targets), torch.full_like(targets, 2.0)
    >>> bracketed_roots(lambda index, x: x * x - targets[index], (low, high), (-targets, 4 - targets))
    tensor([1.4142, 1.7321], dtype=torch.float64)
    """
    (b, a), (f_b, f_a) = ends, values
    c, f_c = b, f_b
    share = (f_a / (f_a - f_b)).nan_to_num(0.5).clamp(0.05, 0.95)  # at first the chord
    index = torch.arange(len(a), device=a.device)
    found = torch.where(f_a.abs() <= f_b.abs(), a, b)
    for _ in range(iterations):
        wide = (a - b).abs() > 4e-16 * (1 + a.abs())
        open_ = (wide & (torch.minimum(f_a.abs(), f_b.abs()) > tolerance)).nonzero()[:, 0]
        if not len(open_):
            break
        if len(open_) < len(index):
            state = (index, a, b, c, f_a, f_b, f_c, share)
            index, a, b, c, f_a, f_b, f_c, share = (part[open_] for part in state)
        x = a + share * (b - a)
        f_x = function(index, x)
        same = f_x * f_a > 0
        c, f_c = torch.where(same, a, b), torch.where(same, f_a, f_b)
        b, f_b = torch.where(same, b, a), torch.where(same, f_b, f_a)
        a, f_a = x, f_x
        found[index] = torch.where(f_a.abs() <= f_b.abs(), a, b)
        xi = (a - b) / (c - b)
        phi = (f_a - f_b) / (f_c - f_b)
        inverse = f_a / (f_b - f_a) * f_c / (f_b - f_c) + (c - a) / (b - a) * f_a / (f_c - f_a) * f_b / (f_c - f_b)
        good = (phi * phi < xi) & ((1 - phi) ** 2 < 1 - xi) & torch.isfinite(inverse)
        share = torch.where(good, inverse.clamp(1e-6, 1 - 1e-6), 0.5)
    return found
