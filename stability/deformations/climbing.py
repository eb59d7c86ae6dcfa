"""Local maxima of functions of trigonometric polynomials: starts from a coarse grid, then Newton's iteration."""

import itertools
from typing import NamedTuple

import numpy
import torch
from torch import Tensor

from stability.deformations.lengths import Length
from stability.deformations.trigonometric import TrigonometricBatch

_WIDTH = 1e-3
"""Of the stencil for differences in units of 1 / R, R the largest frequency: derivatives are right to its square."""

_GAIN = 1e-11
"""A point has arrived when Newton's model promises less than this share of its value."""

_INSIDE = 0.6
"""Half the side, in spacings, of the cell around a node in which a vertex must lie: 1/2 and a margin."""

_BEHIND = 0.005
"""How far below the best of its polynomial, a share, a point must be after a step to be left out."""

_FLAT = 1e-9
"""Curvatures below this share of the value are round-off."""

_TRUST = 0.5
"""Longest step in units of 1 / R."""

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
        index = keep.nonzero()[:, 0] if keep.dtype == torch.bool else keep
        return Peaks(*(part.index_select(0, index) for part in self))

    def best(self, count: int) -> Tensor:
        """The largest value of each of ``count`` polynomials, ``(count,)``; 0 where none is positive."""
        return self.values.new_zeros(count).scatter_reduce_(0, self.owner, self.values, "amax")


def starts(
    fields: TrigonometricBatch,
    length: Length,
    counts: tuple[int, ...],
    losses: tuple[Tensor, Tensor],
    tail: float,
    *,
    hidden: bool,
) -> Peaks:
    """Maxima among the nodes of a grid, moved to the vertex of the quadratic through 3^d nodes.

    In single precision: the values only choose starts.

    Args:
        fields: n polynomials of sizes that single precision can hold.
        length: f_i(u) = length(p_i(u)).
        counts: nodes per axis in the order of ``size``.
        losses: c_i and l_i, ``(n,)`` each: the node next to the maximiser is not below max(c sup f, sup f - l), see
            ``suprema.losses``. Lower nodes are left out.
        tail: so are vertices this far below the highest one, as a share of what nodes may fall short.
        hidden: whether nodes with higher neighbours count, too, where the vertex lies in their cell or close by: of
            two maxima on a ridge aslant to the grid one may hide among the nodes of the other's flank.
    """
    d = len(counts)
    spacing = fields.sides / fields.sides.new_tensor(counts[::-1])
    neighbours = fields.grid(counts).neighbours  # (nodes, 3^d)
    cosine, loss = (value.to(torch.float32) for value in losses)
    found, missed = [], []
    for start, components in fields.chunks(counts, torch.complex64):
        values = length(components).flatten(1)  # (chunk, nodes)
        largest, part = values.amax(1), slice(start, start + len(values))
        least = torch.maximum(largest * cosine[part], largest - loss[part])
        owner, node = _above(values, least)
        near = neighbours.index_select(0, node) + (owner * values.shape[1])[:, None]  # (P, 3^d)
        found.append((owner + start, node, values.flatten().index_select(0, near.flatten()).view(near.shape)))
        missed.append(largest - least)
    owner, node, near = (torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*found, strict=True))
    centre = near[:, 3**d // 2]
    step, promise = _vertex(_differences(near[:1, :d], 1.0), near)  # in units of the spacing, (x, y)
    inside = (step.abs().amax(1) <= _INSIDE) & (promise >= 0)
    values = torch.where(inside, centre + promise, centre)
    best = values.new_zeros(len(fields)).scatter_reduce_(0, owner, values, "amax")
    high = values >= (best - tail * torch.cat(missed)).index_select(0, owner)
    top = near.amax(1) == centre
    counted = (high & (inside | top if hidden else top)).nonzero()[:, 0]
    owner, node, values = (part.index_select(0, counted) for part in (owner, node, values))
    step = torch.where(inside[:, None], step, 0.0).index_select(0, counted)
    place = torch.stack([node % counts[-1], node // counts[-1]][:d], dim=1) + step.to(spacing.dtype)
    return few(Peaks(owner, place * spacing, values), len(fields))


def summits(values: Tensor, neighbours: Tensor) -> Tensor:
    """Largest values ``(n,)`` by the quadratic through the largest of the nodes ``(n, N)`` and its neighbours."""
    near = values.gather(1, neighbours.index_select(0, values.argmax(1)))  # (n, 3^d)
    d = 1 if near.shape[1] == 3 else 2
    _, promise = _vertex(_differences(near[:1, :d], 1.0), near)
    centre = near[:, 3**d // 2]
    return centre + promise.nan_to_num(0.0).clamp_min(0.0).minimum(0.1 * centre)


def _above(values: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of the entries of ``(n, N)`` values that are above ``least[row]``."""
    high = (values > least[:, None]).flatten()
    try:  # five times as fast as torch's nonzero
        place = torch.from_numpy(numpy.flatnonzero(high.numpy()))
    except (RuntimeError, TypeError):  # on another device, or inside a transformation of torch.func
        place = high.nonzero()[:, 0]
    row = torch.div(place, values.shape[1], rounding_mode="floor")
    return row, place - row * values.shape[1]


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
        self._differences = _differences(fields.sides[None], _WIDTH)

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


def climb(fields: TrigonometricBatch, length: Length, peaks: Peaks, scale: float) -> Peaks:
    """From each point to the local maximum above it, leaving out those that lead to lower maxima than others.

    Args:
        fields: n polynomials.
        length: f_i(u) = length(p_i(u)).
        peaks: where to begin; their values are not read.
        scale: 1 / R in pixels.
    """
    newton, top = Newton(fields, length, scale), peaks.points.new_zeros(len(fields))
    owner, points, move = peaks.owner, peaks.points, torch.zeros_like(peaks.points)
    values, gain = torch.full_like(points[:, 0], -1.0), torch.zeros_like(points[:, 0])
    arrived = []
    for k in range(_STEPS):
        trial = points + move
        value, step, promise = newton.step(fields, owner, trial)
        better = value >= values
        if bool(better.all()):
            points, values, move, gain = trial, value, step, promise
        else:  # some steps were too long: shorter ones, until they are round-off
            points, values = torch.where(better[:, None], trial, points), torch.maximum(values, value)
            move, gain = torch.where(better[:, None], step, move / 4), torch.where(better, promise, gain)
            gain = torch.where(move.abs().amax(1) > _HALT * scale, gain, 0.0)
        top = top.scatter_reduce(0, owner, values, "amax")
        high = torch.add(values, gain, alpha=4) >= ((1 - _BEHIND * 0.5**k) * top).index_select(0, owner)
        on = (high & (gain > _GAIN * values)).nonzero()[:, 0]
        if len(on) < len(owner) or not len(on):
            arrived.append(Peaks(owner, points, values).where((high & (gain <= _GAIN * values)).nonzero()[:, 0]))
            if not len(on):
                break
            owner, values, gain = (part.index_select(0, on) for part in (owner, values, gain))
            points, move = points.index_select(0, on), move.index_select(0, on)
    else:
        arrived.append(Peaks(owner, points, values))
    found = Peaks(*(torch.cat(parts) for parts in zip(*arrived, strict=True)))
    return found.where((found.values >= top.index_select(0, found.owner)).nonzero()[:, 0])


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
    """From values on the stencil to f_x, f_xx, ``(2, 3)``, or f_x, f_y, f_y, f_x, f_yy, f_xx, f_xy, ``(7, 9)``."""
    rows: list[tuple[float, ...]]
    if like.shape[1] == 1:
        rows = [(x / 2 / width, (1.0 if x else -2.0) / width**2) for x in (-1, 0, 1)]
    else:
        rows = []
        for x, y in itertools.product((-1, 0, 1), repeat=2):
            f_x, f_y = x * (not y) / 2 / width, y * (not x) / 2 / width
            f_xx, f_yy = (1 if x else -2) * (not y) / width**2, (1 if y else -2) * (not x) / width**2
            rows.append((f_x, f_y, f_y, f_x, f_yy, f_xx, x * y / 4 / width**2))
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
    derivatives = differences @ near.T
    if len(differences) == 2:
        slope, curved = derivatives.unbind(0)
        size = -curved if flat is None else torch.maximum(curved.abs(), flat * near[:, 1])
        step = slope / size
        return step[:, None], slope * step / 2
    # -H^-1 g = (h_xy (g_y, g_x) - (h_yy g_x, h_xx g_y)) / det H
    slope, swapped, curved, mixed = derivatives[:2], derivatives[2:4], derivatives[4:6], derivatives[6]
    determinant = torch.addcmul(curved[0] * curved[1], mixed, mixed, value=-1)
    step = torch.addcmul(mixed * swapped, curved, slope, value=-1) / determinant  # (2, P)
    if flat is not None:
        floor = flat * near[:, 4]
        astray = (curved[1] >= 0) | (torch.addcmul(determinant, floor, curved[1]) <= 0)
        if bool(astray.any()):
            rest = astray.nonzero()[:, 0]
            step[:, rest] = _uphill(slope[:, rest], curved[:, rest], mixed[rest], floor[rest])
    return step.T, (slope * step).sum(0) / 2


def _uphill(slope: Tensor, curved: Tensor, h_xy: Tensor, flat: Tensor) -> Tensor:
    """|H|^-1 g, ``(2, P)``, with eigenvalues of at least ``flat``: away from a saddle, too."""
    (g_x, g_y), (h_yy, h_xx) = slope, curved
    middle, half = (h_xx + h_yy) / 2, (h_xx - h_yy) / 2
    radius = torch.hypot(half, h_xy).clamp_min(1e-300)
    first, second = 1 / torch.maximum((middle + radius).abs(), flat), 1 / torch.maximum((middle - radius).abs(), flat)
    # |H|^-1 = even I + odd [half, h_xy; h_xy, -half]
    even, odd = (first + second) / 2, (first - second) / (2 * radius)
    return torch.stack([even * g_x + odd * (half * g_x + h_xy * g_y), even * g_y + odd * (h_xy * g_x - half * g_y)])
