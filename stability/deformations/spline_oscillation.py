"""osc(tau) of spline fields, from control points in all directions."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from stability.deformations.bernstein import BezierSupremum, signed
from stability.deformations.bezier import Patches

_SECTORS = 16
"""Directions of the first round."""

_CHUNK = 2**22
"""Control points held at once."""


class Oscillation(NamedTuple):
    """lower <= sup_{u, v} |tau(u) - tau(v)|_2 <= upper, tensors ``(n,)`` in pixels; lower is attained."""

    lower: Tensor
    upper: Tensor


def oscillation(field: Patches, tolerance: float = 1e-4) -> Oscillation:
    r"""osc(tau) = sup_{u, v} |tau(u) - tau(v)|_2 = sup over unit e of w(e), w(e) = sup <tau, e> - inf <tau, e>.

    If tau(u) - tau(v) lies within an angle delta of e, its length is at most w(e) / cos delta. So the directions are
    covered by sectors; those whose bound is above a width already attained by more than the tolerance, and only they,
    are cut in three.

    Args:
        field: tau by its control points, ``bezier.patches(..., order=0)``.
        tolerance: share of ``lower`` by which ``upper`` may exceed it.

    >>> from stability.deformations import bezier
    >>> c = torch.tensor([[[0.0], [6.0], [0.0], [0.0]]])
    >>> oscillation(bezier.patches(c, torch.tensor([1.0]), order=0)).lower
    tensor([4.], dtype=torch.float64)
    """
    with torch.no_grad():
        corner = field.control.flatten(2 + field.d).flatten(1, field.d)[:, 0, :, 0]  # tau(0), (d, n): a mean cancels
        control = field.control - corner.reshape(field.d, *[1] * field.d, -1, *[1] * field.d)
        centred = Patches(control, field.cells)
        if field.d == 1:
            return _widths(centred, tolerance)
        n, half = len(field), math.pi / (2 * _SECTORS)
        owner = torch.arange(n, device=control.device).repeat_interleave(_SECTORS)
        angle = 2 * half * torch.arange(_SECTORS, dtype=control.dtype, device=control.device).repeat(n)
        lower = upper = control.new_zeros(n)
        while len(owner):
            share = max(tolerance / 10, half * half / 8)  # a quarter of 1 / cos(half) - 1
            width = _widths_along(centred, owner, angle, share)
            lower = lower.scatter_reduce(0, owner, width.lower, "amax")
            bound = width.upper / math.cos(half)
            keep = bound > (lower * (1 + tolerance))[owner]
            upper = upper.scatter_reduce(0, owner, bound.masked_fill(keep, 0.0), "amax")
            half /= 3
            thirds = 2 * half * control.new_tensor([-1.0, 0.0, 1.0])
            owner, angle = owner[keep].repeat_interleave(3), (angle[keep][:, None] + thirds).flatten()
        return Oscillation(lower, torch.maximum(upper, lower))


def _widths_along(field: Patches, owner: Tensor, angle: Tensor, tolerance: float) -> Oscillation:
    """w(e) of the fields ``owner`` for e = (cos angle, sin angle), ``(S,)`` each."""
    parts = []
    count = max(1, _CHUNK * len(field) // field.control.numel())
    for index, at in zip(owner.split(count), angle.split(count), strict=True):
        x, y = field.control.index_select(1 + field.d, index)
        shape = (1, 1, -1, 1, 1)
        along = x * at.cos().reshape(shape) + y * at.sin().reshape(shape)
        parts.append(_widths(Patches(along[None], field.cells), tolerance))
    lower, upper = (torch.cat(ends) for ends in zip(*parts, strict=True))
    return Oscillation(lower, upper)


def _widths(scalar: Patches, tolerance: float) -> Oscillation:
    """sup - inf of one component, ``(n,)`` each."""
    highest, lowest = BezierSupremum(scalar, signed, tolerance), BezierSupremum(-scalar, signed, tolerance)
    return Oscillation(highest.lower + lowest.lower, highest.upper + lowest.upper)
