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
    b, a = (end.clone() for end in ends)
    f_b, f_a = (value.clone() for value in values)
    c, f_c = b.clone(), f_b.clone()
    share = torch.full_like(a, 0.5)
    for _ in range(iterations):
        best = torch.minimum(f_a.abs(), f_b.abs())
        active = ((best > tolerance) & ((a - b).abs() > 4e-16 * (1 + a.abs()))).nonzero()[:, 0]
        if not len(active):
            break
        x = a[active] + share[active] * (b[active] - a[active])
        f_x = function(active, x)
        same = f_x.sign() == f_a[active].sign()
        c[active] = torch.where(same, a[active], b[active])
        f_c[active] = torch.where(same, f_a[active], f_b[active])
        b[active] = torch.where(same, b[active], a[active])
        f_b[active] = torch.where(same, f_b[active], f_a[active])
        a[active], f_a[active] = x, f_x
        xi = (a - b) / (c - b)
        phi = (f_a - f_b) / (f_c - f_b)
        inverse = f_a / (f_b - f_a) * f_c / (f_b - f_c) + (c - a) / (b - a) * f_a / (f_c - f_a) * f_b / (f_c - f_b)
        good = (phi * phi < xi) & ((1 - phi) ** 2 < 1 - xi) & torch.isfinite(inverse)
        share = torch.where(good, inverse.clamp(1e-6, 1 - 1e-6), 0.5)
    return torch.where(f_a.abs() <= f_b.abs(), a, b)
