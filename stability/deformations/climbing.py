"""Local maxima of functions of trigonometric polynomials: starts from a coarse grid, then Newton's iteration."""

import functools
import itertools
from typing import NamedTuple

import numpy
import torch
from torch import Tensor

from stability.deformations.frequencies import Grid
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

_SINGLE = 1e-6
"""Values in single precision that differ by less than this share may be equal: of a nearly constant field all are."""

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


def starts(
    fields: TrigonometricBatch,
    length: Length,
    counts: tuple[int, ...],
    losses: tuple[Tensor, Tensor],
    tail: float,
    *,
    hidden: bool,
    squared: bool = False,
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
        squared: whether the length gives f^2 instead, of which it is enough to take the root at few nodes.
    """
    d = len(counts)
    grid = fields.frequencies.grid(counts)
    cosine, loss = (value.to(torch.float32) for value in losses)
    found, missed = [], []
    for start, components in fields.chunks(counts, torch.complex64):
        values = length(components).flatten(1)  # (chunk, nodes)
        largest, part = values.amax(1), slice(start, start + len(values))
        largest = largest.sqrt() if squared else largest
        least = torch.maximum(largest * cosine[part], largest - loss[part]).minimum(largest * (1 - _SINGLE))
        owner, node = _above(values, least.square() if squared else least, counts)
        near = torch.add(grid.neighbours(node), owner, alpha=values.shape[1])  # (3^d, P)
        near = values.flatten().index_select(0, near.flatten()).view(near.shape)
        near = near.clamp_min_(0).sqrt_() if squared else near
        found.append((owner + start if start else owner, torch.stack(node[::-1]), near))
        missed.append(largest - least)
    owner, place, near = (torch.cat(p, dim=-1) if len(p) > 1 else p[0] for p in zip(*found, strict=True))
    centre = near[3**d // 2]
    step, promise = _vertex(differences(d, 1.0, near.dtype, near.device), near)  # in units of the spacing, (x, y)
    inside = (step.abs().amax(0) <= _INSIDE) & (promise >= 0)
    values = torch.where(inside, centre + promise, centre)
    best = values.new_zeros(len(fields)).scatter_reduce_(0, owner, values, "amax")
    high = values >= (best - tail * torch.cat(missed)).index_select(0, owner)
    top = near.amax(0) == centre
    counted = (high & (inside | top if hidden else top)).nonzero()[:, 0]
    owner, values = owner.index_select(0, counted), values.index_select(0, counted)
    place = (torch.where(inside, step, 0.0).to(grid.spacing.dtype) + place).index_select(1, counted)  # (d, P)
    return few(Peaks(owner, place.T * grid.spacing, values), len(fields))


def summits(values: Tensor, grid: Grid) -> Tensor:
    """Largest values ``(n,)`` by the quadratic through the largest of the nodes ``(n, N)`` and its neighbours."""
    d, node = len(grid.counts), values.argmax(1)
    place = (node // grid.counts[1], node % grid.counts[1]) if d == 2 else (node,)
    near = values.gather(1, grid.neighbours(place).T).T  # (3^d, n)
    _, promise = _vertex(differences(d, 1.0, near.dtype, near.device), near)
    centre = near[3**d // 2]
    return centre + promise.nan_to_num(0.0).clamp_min(0.0).minimum(0.1 * centre)


def _above(values: Tensor, least: Tensor, counts: tuple[int, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Rows i of the entries of ``(n, N)`` values that are above ``least[i]``, and their places on the grid."""
    try:  # several times as fast as torch's comparison and nonzero
        place = torch.from_numpy(numpy.flatnonzero(values.numpy() > least.numpy()[:, None]))
    except (RuntimeError, TypeError):  # on another device, or inside a transformation of torch.func
        place = (values > least[:, None]).flatten().nonzero()[:, 0]
    line = torch.div(place, counts[-1], rounding_mode="floor")
    column = place - line * counts[-1]
    if len(counts) == 1:
        return line, (column,)
    owner = torch.div(line, counts[0], rounding_mode="floor")
    return owner, (line - owner * counts[0], column)


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
        self._table = fields.frequencies.stencil(scale * _WIDTH)
        self._differences = differences(len(fields.sides), _WIDTH, self._table.dtype, self._table.device)

    def step(self, fields: TrigonometricBatch, owner: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """f, Newton's step with |H| for the Hessian H, and its promise g . step / 2.

        Args:
            fields: the p_i.
            owner: i, ``(P,)``.
            points: in pixels, ``(d, P)``.

        Returns:
            Tensors ``(P,)``, ``(d, P)`` in units of 1 / R, at most ``_TRUST`` long, and ``(P,)``.
        """
        near = self._length(fields.near(owner, points.T, self._table))  # (3^d, P)
        step, promise = _vertex(self._differences, near, _FLAT)
        if len(owner) and not float(step.abs().max()) <= _TRUST:
            share = _TRUST / step.norm(dim=0).clamp_min(_TRUST)
            step, promise = step * share, promise * share
        return near[len(near) // 2], step, promise


def climb(fields: TrigonometricBatch, length: Length, peaks: Peaks, scale: float) -> tuple[Tensor, Tensor]:
    """The largest of the local maxima above given points, for each polynomial.

    Points that lead to lower maxima than others are left out on the way.

    Args:
        fields: n polynomials.
        length: f_i(u) = length(p_i(u)).
        peaks: where to begin; their values are not read.
        scale: 1 / R in pixels.

    Returns:
        The values ``(n,)`` and where they are attained, ``(n, d)`` in pixels; 0 at the origin where none is positive.
    """
    newton, n = Newton(fields, length, scale), len(fields)
    owner, points = peaks.owner, peaks.points.T  # (P,), (d, P)
    top, place = points.new_zeros(n), points.new_zeros(len(points), n + 1)  # the last place is for those left behind
    if not len(owner):
        return top, place[:, :n].T
    values, move, gain = newton.step(fields, owner, points)
    for k in range(_STEPS):
        if k:
            trial = torch.add(points, move, alpha=scale)
            value, step, promise = newton.step(fields, owner, trial)
            if float((value - values).min()) >= 0:
                points, values, move, gain = trial, value, step, promise
            else:  # some steps were too long: shorter ones, until they are round-off
                better = value >= values
                points, values = torch.where(better, trial, points), torch.maximum(values, value)
                move, gain = torch.where(better, step, move / 4), torch.where(better, promise, gain)
                gain = torch.where(move.abs().amax(0) > _HALT, gain, 0.0)
        best = top.scatter_reduce_(0, owner, values, "amax").index_select(0, owner)
        place.index_copy_(1, owner.masked_fill(values < best, n), points)
        high = torch.add(values, gain, alpha=4) >= best * (1 - _BEHIND * 0.5**k)
        on = high.logical_and_(gain > values * _GAIN).nonzero()[:, 0]
        if len(on) < len(owner):
            owner, values, gain = (part.index_select(0, on) for part in (owner, values, gain))
            points, move = points.index_select(1, on), move.index_select(1, on)
        if not len(on):
            break
    return top, place[:, :n].T


def few(peaks: Peaks, n: int) -> Peaks:
    """At most ``_MOST_STARTS`` per polynomial, the highest ones, if there are more on average."""
    if len(peaks.owner) <= _MOST_STARTS * n:
        return peaks
    order = peaks.values.argsort(descending=True)
    peaks = peaks.where(order[peaks.owner[order].argsort(stable=True)])
    place = torch.arange(len(order), device=order.device) - torch.searchsorted(peaks.owner, peaks.owner)
    return peaks.where(place < _MOST_STARTS)


@functools.cache
def differences(d: int, width: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """From values on the stencil to f_x, -f_xx, ``(2, 3)``, or f_x, f_y, f_y, f_x, -f_yy, -f_xx, f_xy, ``(7, 9)``."""
    rows: list[tuple[float, ...]]
    if d == 1:
        rows = [(x / 2 / width, (-1.0 if x else 2.0) / width**2) for x in (-1, 0, 1)]
    else:
        rows = []
        for x, y in itertools.product((-1, 0, 1), repeat=2):
            f_x, f_y = x * (not y) / 2 / width, y * (not x) / 2 / width
            f_xx, f_yy = (1 if x else -2) * (not y) / width**2, (1 if y else -2) * (not x) / width**2
            rows.append((f_x, f_y, f_y, f_x, -f_yy, -f_xx, x * y / 4 / width**2))
    with torch.inference_mode(False):  # they outlive the search that asks first
        return torch.tensor(list(zip(*rows, strict=True)), dtype=dtype, device=device)


def _vertex(weights: Tensor, near: Tensor, flat: float | None = None) -> tuple[Tensor, Tensor]:
    """The step |H|^-1 g to the vertex of the quadratic through values on the stencil, and the rise g . step / 2.

    Args:
        weights: see ``differences``.
        near: values on the stencil, ``(3^d, P)``.
        flat: share of the value that eigenvalues of H count as at least; None: -H^-1 g, whatever H is.

    Returns:
        Tensors ``(d, P)``, in the unit of the differences, and ``(P,)``.
    """
    derivatives = weights @ near
    if len(weights) == 2:
        slope, curved = derivatives[:1], derivatives[1]
        step = slope / (curved if flat is None else torch.maximum(curved.abs(), flat * near[1]))
        return step, slope[0] * step[0] / 2
    # -H^-1 g = (h_xy (g_y, g_x) + (-h_yy g_x, -h_xx g_y)) / det H
    (slope, swapped, curved), mixed = derivatives[:6].view(3, 2, -1), derivatives[6]  # (2, P), (P,)
    c_yy, c_xx = curved.unbind()
    determinant = torch.addcmul(c_yy * c_xx, mixed, mixed, value=-1)
    step = torch.addcmul(mixed * swapped, curved, slope).div_(determinant)  # (2, P)
    if flat is not None:
        # a maximum with h_xx < 0 and det H / h_xx < -floor; elsewhere, as at a NaN, one by one
        least = torch.addcmul(determinant, near[4], c_xx, value=-flat).minimum(c_xx)
        if near.shape[1] and not float(least.min()) > 0:
            step = torch.where(least <= 0, _uphill(slope, -curved, mixed, flat * near[4]), step)
    return step, (slope * step).sum(0).mul_(0.5)


def _uphill(slope: Tensor, curved: Tensor, h_xy: Tensor, flat: Tensor) -> Tensor:
    """|H|^-1 g, ``(2, P)``, with eigenvalues of at least ``flat``: away from a saddle, too."""
    (g_x, g_y), (h_yy, h_xx) = slope, curved
    middle, half = (h_xx + h_yy) / 2, (h_xx - h_yy) / 2
    radius = torch.hypot(half, h_xy).clamp_min(1e-300)
    first, second = 1 / torch.maximum((middle + radius).abs(), flat), 1 / torch.maximum((middle - radius).abs(), flat)
    # |H|^-1 = even I + odd [half, h_xy; h_xy, -half]
    even, odd = (first + second) / 2, (first - second) / (2 * radius)
    return torch.stack([even * g_x + odd * (half * g_x + h_xy * g_y), even * g_y + odd * (h_xy * g_x - half * g_y)])
