"""Derivatives of several orders of one field at the same points, with the points along the last axis."""

from collections.abc import Callable

import torch
from torch import Tensor

from stability.deformations.base import Deformation
from stability.deformations.series import FourierSeries

Jet = Callable[[Tensor], list[Tensor]]
"""From points ``(n, d, P)`` to the derivatives of the orders 0, 1, ...: ``(n, d, P)``, ``(n, d, d, P)``, ..."""


def jet(field: Deformation, order: int) -> Jet:
    """u -> tau(u), ..., D^order tau(u) for a flat batch; a trigonometric polynomial has one table for all orders.

    Args:
        field: batch shape ``(n,)``.
        order: 0, 1 or 2.

    >>> from stability.deformations.translation import Translation
    >>> tau, gradient = jet(Translation((3.0, 4.0)).flat(), 1)(torch.zeros(1, 2, 1))
    >>> tau.tolist(), gradient.count_nonzero().item()
    ([[[3.0], [4.0]]], 0)
    """
    if isinstance(field, FourierSeries):
        return _of_series(field, order)

    def evaluate(points: Tensor) -> list[Tensor]:
        return [field.derivative(points.mT, k).movedim(1, -1) for k in range(order + 1)]

    return evaluate


def _of_series(field: FourierSeries, order: int) -> Jet:
    """The coefficients of all orders side by side times [cos(omega u), sin(omega u)]."""
    omega, d = field.frequencies.to(field.dtype), field.d
    # the derivative turns (cos, sin) by a quarter each time: (A, B) -> (B, -A) -> (-A, -B)
    turns = ((field.cosine, field.sine), (field.sine, -field.cosine), (-field.cosine, -field.sine))
    columns = []
    for k in range(order + 1):
        halves = []
        for part in turns[k]:  # (n, M, d)
            for axis in range(k):
                part = part.unsqueeze(-1) * omega.reshape(-1, *(1,) * (axis + 1), d)
            halves.append(part.flatten(2))
        columns.append(torch.cat(halves, dim=1))
    coefficients = torch.cat(columns, dim=-1).mT  # (n, d + d^2 + ..., 2 M)
    sizes = [d ** (k + 1) for k in range(order + 1)]

    def evaluate(points: Tensor) -> list[Tensor]:
        phase = omega @ points
        values = coefficients @ torch.cat([phase.cos(), phase.sin()], dim=1)
        result = [part.unflatten(1, (d,) * (k + 1)) for k, part in enumerate(values.split(sizes, dim=1))]
        result[0] = result[0] + field.mean[:, :, None]
        return result

    return evaluate
