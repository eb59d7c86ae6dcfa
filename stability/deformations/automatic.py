"""Derivatives of fields that have no closed form, by automatic differentiation."""

from collections.abc import Callable

import torch
from torch import Tensor


def differentiated(function: Callable[[Tensor], Tensor], points: Tensor, order: int) -> Tensor:
    """D^order of a function that acts on each point separately, by forward mode along the axes.

    Args:
        function: ``(n, P, d)`` to ``(n', P, ...)``; its value at a point depends on that point only.
        points: ``(n, P, d)``.
        order: 0, 1 or 2.

    Returns:
        Tensor ``(n', P, ..., d, ..., d)``: one more axis of length d per order, at the end.

    >>> points = torch.tensor([[[2.0], [3.0]]])
    >>> differentiated(lambda u: u**3, points, 2).flatten()
    tensor([12., 18.])
    """
    if order == 0:
        return function(points)

    def lower(at: Tensor) -> Tensor:
        return differentiated(function, at, order - 1)

    columns = []
    for axis in range(points.shape[-1]):
        tangent = torch.zeros_like(points)
        tangent[..., axis] = 1.0
        columns.append(torch.func.jvp(lower, (points,), (tangent,))[1])
    return torch.stack(columns, dim=-1)
