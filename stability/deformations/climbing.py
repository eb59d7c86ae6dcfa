"""Local maxima of functions of trigonometric polynomials: starts from a coarse grid, then Newton's iteration."""

import itertools
from typing import NamedTuple

import torch
from torch import Tensor

from stability.deformations.lengths import Length
from stability.deformations.trigonometric import TrigonometricBatch

_WIDTH = 1e-3
"""Of the stencil for differences in units of 1 / R, R the largest frequency: derivatives are right to its square."""

_GAIN = 1e-11
"""A point has arrived when Newton's model promises less than this share of its value."""

_NEARLY = 1e-7
"""Where Newton's model promises less than this share, one more step gains all of it up to round-off."""

_BEHIND = 0.02
"""How far below the best of its polynomial, a share, a point must be after some steps to be left out."""

_FLAT = 1e-9
"""Curvatures below this share of the value are round-off."""

_TRUST = 0.5
"""Longest step in units of 1 / R."""

_CLOSE = 0.6
"""Farther from its start, in units of 1 / R and per axis, plain Newton's iteration may have left the start's hill."""

_HALT = 1e-9
"""Steps shorter than this in units of 1 / R end the iteration."""

_STEPS = 60
_MOST_STARTS = 64
"""Per polynomial on average: a ridge has as many grid maxima as nodes."""


class Peaks(NamedTuple):
    """P points: of which polynomial ``(P,)``, where ``(P, d)`` in pixels, the function's value there ``(P,)``."""

    owner: Tensor
    points: Tensor
    values: Tensor

    def where(self, keep: Tensor) -> "Peaks":
        """Some of them: a mask or positions."""
        return Peaks(self.owner[keep], self.points[keep], self.values[keep])

    def best(self, count: int) -> Tensor:
        """The largest value of each of ``count`` polynomials, ``(count,)``; 0 where none is positive."""
        return self.values.new_zeros(count).scatter_reduce_(0, self.owner, self.values, "amax")


def starts(fields: TrigonometricBatch, length: Length, counts: tuple[int, ...], share: float, tail: float) -> Peaks:
    """Maxima among the nodes of a grid, moved to the vertex of the quadratic through their neighbours.

    In single precision: the values only choose starts.

    Args:
        fields: n polynomials of sizes that single precision can hold.
        length: f_i(u) = length(p_i(u)).
        counts: nodes per axis in the order of ``size``.
        share: nodes below this share of their grid's maximum are left out.
        tail: so are vertices below the highest one by more than this share.
    """
    d = len(counts)
    spacing = fields.sides / fields.sides.new_tensor(counts[::-1])
    neighbours = fields.grid(counts).neighbours  # (nodes, 3^d)
    found = []
    for start, components in fields.chunks(counts, torch.complex64):
        values = length(components).flatten(1)  # (chunk, nodes)
        owner, node = (values > share * values.amax(1, keepdim=True)).nonzero().unbind(1)
        near = values.flatten()[neighbours[node] + (owner * values.shape[1])[:, None]]  # (P, 3^d)
        top = (near.amax(1) == near[:, 3**d // 2]).nonzero()[:, 0]
        found.append((owner[top] + start, node[top], near[top]))
    owner, node, near = (torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*found, strict=True))
    near = near.to(spacing.dtype)  # (P, 3^d)
    centre = near[:, 3**d // 2]
    step, promise = _vertex(_differences(spacing[None], 1.0), near)  # in units of the spacing, (x, y)
    good = (step.abs() <= 1.0).all(1) & (promise >= 0)
    place = torch.stack([node % counts[-1], node // counts[-1]][:d], dim=1) + torch.where(good[:, None], step, 0.0)
    peaks = Peaks(owner, place * spacing, centre + torch.where(good, promise, tail * centre))
    return few(peaks.where(peaks.values >= (1 - tail) * peaks.best(len(fields))[owner]), len(fields))


class Newton:
    """Newton's steps for f_i(u) = length(p_i(u)), the p_i with frequencies up to R.

    Args:
        fields: polynomials with the frequencies in question; their coefficients are not read.
        length: see above.
        scale: 1 / R in pixels.
    """

    def __init__(self, fields: TrigonometricBatch, length: Length, scale: float) -> None:
        self._length = length
        self.scale = scale
        self._table = fields.table(scale * _WIDTH * stencil(fields.sides[None]))
        self._centre = self._table[:, self._table.shape[1] // 2 :][:, :1]
        self._differences = _differences(fields.sides[None], _WIDTH)

    def value(self, fields: TrigonometricBatch, owner: Tensor, points: Tensor) -> Tensor:
        """f at ``points[a]`` of polynomial ``owner[a]``, ``(P,)``."""
        return self._length(fields.near(owner, points, self._centre))[:, 0]

    def step(self, fields: TrigonometricBatch, owner: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """f, Newton's step ``(P, d)`` in pixels with |H| for the Hessian H, and its promise g . step / 2, ``(P,)``.

        The steps are at most ``_TRUST`` / R long.
        """
        near = self._length(fields.near(owner, points, self._table))  # (P, 3^d)
        value = near[:, near.shape[1] // 2]
        step, promise = _vertex(self._differences, near, _FLAT)
        if bool((step.abs() > _TRUST).any()):
            longest = step.norm(dim=1).clamp_min(_TRUST)
            step, promise = step * (_TRUST / longest)[:, None], promise * (_TRUST / longest)
        return value, self.scale * step, promise


def climb(fields: TrigonometricBatch, length: Length, peaks: Peaks, scale: float, tail: float = 0.0) -> Peaks:
    """From each point to the local maximum above it, leaving out those that lead to lower maxima than others.

    Args:
        fields: n polynomials.
        length: f_i(u) = length(p_i(u)).
        peaks: where to begin; their values are not read.
        scale: 1 / R in pixels.
        tail: share below the best of its polynomial that a maximum may be and still be kept.
    """
    newton = Newton(fields, length, scale)
    owner, points = peaks.owner, peaks.points
    first, step, _ = newton.step(fields, owner, points)
    points = points + step
    second, step, _ = newton.step(fields, owner, points)
    points = points + step
    third, step, promise = newton.step(fields, owner, points)
    points = points + step
    values = newton.value(fields, owner, points)
    now = Peaks(owner, points, values)
    top = (1 - tail) * now.best(len(fields))[owner]
    lower = values + 4 * promise < (1 - _BEHIND) * top
    least_rise = torch.minimum(torch.minimum(second - first, third - second), values - third)
    arrived = promise <= _NEARLY * values
    close = ((points - peaks.points).abs() <= _CLOSE * scale).all(1)
    settled = (arrived | lower) & close & (least_rise >= -_GAIN * values)
    if not bool(settled.all()):
        rest = _carefully(newton, fields, peaks.where(~settled), now.where(settled & arrived), tail)
        now = Peaks(*(torch.cat(parts) for parts in zip(now.where(settled & arrived), rest, strict=True)))
        top = (1 - tail) * now.best(len(fields))[now.owner]
    return now.where((now.values >= top).nonzero()[:, 0])


def _carefully(newton: Newton, fields: TrigonometricBatch, peaks: Peaks, others: Peaks, tail: float) -> Peaks:
    """From points from which plain Newton steps went astray: in a trust region, so that values never decrease."""
    owner, points = peaks.owner, peaks.points
    values, gain = torch.full_like(peaks.values, -1.0), torch.zeros_like(peaks.values)
    move, top = torch.zeros_like(points), others.best(len(fields))
    arrived = []
    for k in range(_STEPS):
        trial = points + move
        value, step, promise = newton.step(fields, owner, trial)
        better = value >= values
        points, values = torch.where(better[:, None], trial, points), torch.maximum(values, value)
        move, gain = torch.where(better[:, None], step, move / 4), torch.where(better, promise, gain)
        top = top.scatter_reduce(0, owner, values, "amax")
        behind = max(tail, _BEHIND * 0.5**k)
        keep = values + 2 * gain >= (1 - behind) * top[owner]
        still = keep & (gain > _GAIN * values) & (move.abs().amax(1) > _HALT * newton.scale)
        arrived.append(Peaks(owner, points, values).where(keep & ~still))
        owner, points, values, move, gain = (part[still] for part in (owner, points, values, move, gain))
        if not len(owner):
            break
    else:
        arrived.append(Peaks(owner, points, values))
    return Peaks(*(torch.cat(parts) for parts in zip(*arrived, strict=True)))


def few(peaks: Peaks, n: int) -> Peaks:
    """At most ``_MOST_STARTS`` per polynomial, the highest ones, if there are more on average."""
    if len(peaks.owner) <= _MOST_STARTS * n:
        return peaks
    order = peaks.values.argsort(descending=True)
    peaks = peaks.where(order[peaks.owner[order].argsort(stable=True)])
    place = torch.arange(len(order), device=order.device) - torch.searchsorted(peaks.owner, peaks.owner)
    return peaks.where(place < _MOST_STARTS)


def stencil(like: Tensor) -> Tensor:
    """{-1, 0, 1}^d, ``(3^d, d)``, x slowest, for a tensor ``(..., d)``."""
    return like.new_tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=like.shape[-1])))


def _differences(like: Tensor, width: float) -> Tensor:
    """From values on the stencil to f_x, f_xx, ``(2, 3)``, or f_x, f_y, f_xx, f_yy, f_xy, ``(5, 9)``."""
    rows: list[tuple[float, ...]]
    if like.shape[1] == 1:
        rows = [(x / 2 / width, (1.0 if x else -2.0) / width**2) for x in (-1, 0, 1)]
    else:
        rows = [
            (
                x * (not y) / 2 / width,
                y * (not x) / 2 / width,
                (1 if x else -2) * (not y) / width**2,
                (1 if y else -2) * (not x) / width**2,
                x * y / 4 / width**2,
            )
            for x, y in itertools.product((-1, 0, 1), repeat=2)
        ]
    return like.new_tensor(list(zip(*rows, strict=True)))


def _vertex(differences: Tensor, near: Tensor, flat: float | None = None) -> tuple[Tensor, Tensor]:
    """The step |H|^-1 g to the vertex of the quadratic through values on the stencil, and the rise g . step / 2.

    Args:
        differences: see ``_differences``.
        near: values on the stencil, ``(P, 3^d)``.
        flat: share of the value that eigenvalues of H count as at least; None: -H^-1 g, whatever H is.

    Returns:
        Tensors ``(P, d)``, in the unit of the differences, and ``(P,)``.
    """
    if len(differences) == 2:
        slope, curved = (differences @ near.T).unbind(0)
        size = -curved if flat is None else torch.maximum(curved.abs(), flat * near[:, 1])
        step = slope / size
        return step[:, None], slope * step / 2
    g_x, g_y, h_xx, h_yy, h_xy = (differences @ near.T).unbind(0)
    determinant = torch.addcmul(h_xx * h_yy, h_xy, h_xy, value=-1)
    x = torch.addcmul(h_xy * g_y, h_yy, g_x, value=-1) / determinant
    y = torch.addcmul(h_xy * g_x, h_xx, g_y, value=-1) / determinant
    if flat is not None:
        floor = flat * near[:, 4]
        astray = (h_xx >= 0) | (torch.addcmul(determinant, floor, h_xx) <= 0)
        if bool(astray.any()):
            rest = astray.nonzero()[:, 0]
            x[rest], y[rest] = _uphill(*(part[rest] for part in (g_x, g_y, h_xx, h_yy, h_xy, floor)))
    return torch.stack([x, y], dim=1), torch.addcmul(g_x * x, g_y, y) / 2


def _uphill(g_x: Tensor, g_y: Tensor, h_xx: Tensor, h_yy: Tensor, h_xy: Tensor, flat: Tensor) -> tuple[Tensor, Tensor]:
    """|H|^-1 g with eigenvalues of at least ``flat``: away from a saddle, too."""
    middle, half = (h_xx + h_yy) / 2, (h_xx - h_yy) / 2
    radius = torch.hypot(half, h_xy).clamp_min(1e-300)
    first, second = 1 / torch.maximum((middle + radius).abs(), flat), 1 / torch.maximum((middle - radius).abs(), flat)
    # |H|^-1 = even I + odd [half, h_xy; h_xy, -half]
    even, odd = (first + second) / 2, (first - second) / (2 * radius)
    return even * g_x + odd * (half * g_x + h_xy * g_y), even * g_y + odd * (h_xy * g_x - half * g_y)
