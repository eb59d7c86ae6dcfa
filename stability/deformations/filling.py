r"""The constant s e that may be added to tau until |tau + s e| reaches a bound, everywhere at once.

|tau(u) + s e| = a has one solution s_u >= 0 where |tau(u)| <= a. With x the component of tau / a along e and y the one
across, s_u / a = sqrt(1 - y^2) - x, so the least of the s_u is a (1 - sup F) for the convex function of (x, y)

    F = x + 1 - sqrt(1 - y^2) = x + y^2 / (1 + sqrt(1 - y^2)).

The mean of x is 0, hence sup F >= 0. At the maximiser of F, |tau + s e| has its largest value a: by the values of this
length on a grid, ``suprema`` tells which nodes may have it in their cells.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from stability.deformations.climbing import climb, starts
from stability.deformations.suprema import NODES_PER_WAVELENGTH, TAIL, counts, losses, spacings
from stability.deformations.trigonometric import TrigonometricBatch

SMOOTH = 0.8
"""Where |tau| is at most this share of a, |dF/dy| <= 4/3, and a grid shows where F is largest."""


class Filling(NamedTuple):
    """For each of n fields the constant's length, where it fills up the bound, and what the field reaches without it.

    Args:
        s: the least s_u that a search finds, in pixels, ``(n,)``.
        place: u, ``(n, d)`` in pixels.
        alone: an upper value of sup |tau| / a, up to a twelfth too large, ``(n,)``.
    """

    s: Tensor
    place: Tensor
    alone: Tensor


def filling(fields: TrigonometricBatch, direction: Tensor, bound: Tensor) -> Filling:
    """The constant s e that fills up the bound.

    Args:
        fields: tau of n fields without their means, none of them 0.
        direction: e, a unit vector ``(d,)``.
        bound: a in pixels, ``(n,)`` > 0. Where sup |tau| > a, only ``alone`` has a meaning.
    """
    with torch.inference_mode():
        found = _filling(fields, direction, bound)
    return Filling(*(part.clone() for part in found))  # outside: tensors like all others


def _filling(fields: TrigonometricBatch, direction: Tensor, bound: Tensor) -> Filling:
    """By the values on a grid, then Newton's iteration."""
    turn = direction[None, :1]
    if len(direction) == 2:
        x, y = direction.unbind(0)
        turn = torch.stack([torch.stack([x, -y]), torch.stack([y, x])])  # columns: along e, across
    fields = fields.having(fields.coefficients * (1 / bound)[:, None, None] @ turn.to(fields.coefficients))
    nodes = counts(fields, NODES_PER_WAVELENGTH)
    cosine, loss = losses(fields, spacings(fields, nodes))
    seen = []

    def filled(components: Sequence[Tensor]) -> Tensor:
        """(|tau + s e| / a)^2 at the nodes, s = min sqrt(1 - y^2) - x filling up the bound at them."""
        along, across = components[0], components[1] if len(components) == 2 else None
        if across is None:
            least, square = 1 - along, along.square()
        else:
            square = across.square()
            least = (1 - square).clamp_min_(0).sqrt_().sub_(along)
            square.addcmul_(along, along)
        seen.append(square.flatten(1).amax(1))
        s = least.flatten(1).amin(1).view(-1, *(1,) * len(nodes))
        # |tau|^2 + 2 s <tau, e> + s^2
        return square.addcmul_(along, 2 * s).add_(s.square())

    start = starts(fields, filled, nodes, (cosine, loss), TAIL, hidden=True, squared=True)
    alone = torch.cat(seen).to(bound.dtype).sqrt() * (1 + 1e-5)  # single precision
    most, place = climb(fields, _excess, start, 1 / fields.bandwidth)
    s = bound * (1 - most).clamp_min_(0.0)
    return Filling(s, place, torch.minimum(alone / cosine, alone + loss))


def _excess(components: Sequence[Tensor]) -> Tensor:
    """F."""
    if len(components) == 1:
        return components[0]
    x, y = components
    square = y * y
    return square.div((1 - square).clamp_min_(0).sqrt_().add_(1)).add_(x)
