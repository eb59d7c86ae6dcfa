r"""The constant s e that may be added to tau until |tau + s e| reaches a bound, everywhere at once.

|tau(u) + s e| = a has one solution s_u >= 0 where |tau(u)| <= a. With x the component of tau / a along e and y the one
across, s_u / a = sqrt(1 - y^2) - x, so the least of the s_u is a (1 - sup F) for the convex function of (x, y)

    F = x + 1 - sqrt(1 - y^2) = x + y^2 / (1 + sqrt(1 - y^2)).

The mean of x is 0, hence sup F >= 0.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from stability.deformations.climbing import climb, starts
from stability.deformations.lengths import euclidean
from stability.deformations.suprema import START_NODES, Supremum, counts
from stability.deformations.trigonometric import TrigonometricBatch

_SHARE, _TAIL = 0.7, 0.1


def least_filling(fields: TrigonometricBatch, direction: Tensor, bound: Tensor) -> Tensor:
    """The least s_u that a search finds, ``(n,)``: not below the true one.

    Args:
        fields: tau of n fields without their means, sup |tau| <= a.
        direction: e, a unit vector ``(d,)``.
        bound: a in pixels, ``(n,)`` > 0.
    """
    turn = direction[None, :1]
    if len(direction) == 2:
        x, y = direction.unbind(0)
        turn = torch.stack([torch.stack([x, -y]), torch.stack([y, x])])  # columns: along e, across
    nodes, scale = counts(fields, START_NODES), 1 / fields.bandwidth
    fields = fields.having(fields.coefficients / bound[:, None, None] @ turn.to(fields.coefficients))
    peaks = climb(fields, _excess, starts(fields, _excess, nodes, _SHARE, _TAIL), scale)
    largest = peaks.best(len(fields))
    return bound * (1 - largest)


def surely_within(fields: TrigonometricBatch, bound: Tensor) -> Tensor:
    """Where sup |tau| <= a follows from values on a grid, ``(n,)`` bool.

    Args:
        fields: tau of n fields.
        bound: a in pixels, ``(n,)`` > 0.
    """
    return Supremum(fields.having(fields.coefficients / bound[:, None, None]), euclidean).glance <= 1


def _excess(components: Sequence[Tensor]) -> Tensor:
    """F."""
    if len(components) == 1:
        return components[0]
    x, y = components
    square = y * y
    return x + square / (1 + (1 - square).clamp_min(0).sqrt())
