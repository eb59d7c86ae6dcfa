"""Local search for the maxima of many functions at once: Newton's iteration with differences on shrinking stencils."""

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

_SHARE = 0.25
"""How far below the largest node a start may be, as a share of the values' range."""

_STARTS = 32
"""Most starts per function: plateaus have as many tops as nodes."""

_FINALISTS = 4
"""Of them that are followed to the end, if they are equally high."""

_ROUNDS = ((0.4, 0.2), (0.4, 0.1), (0.2, 0.05), (0.1, 0.02), (0.1, 0.01), (0.03, 1e-3), (0.01, 1e-4), (2e-3, 1e-5))
"""Widths of the stencil in cells, and how far below the best a start may be afterwards, as a share of the range."""

_HALVINGS = 22
"""Of the stencil, for maxima on a crease or at a border, where Newton's iteration does not settle."""

_MOVES = 2
"""For each of those widths."""

_SETTLED = 1e-11
"""Gain of the last round, as a share of the range, below which a maximum is found."""


class Lengths(Protocol):
    """n functions on one torus or window, evaluated on grids and around points."""

    @property
    def sides(self) -> Tensor:
        """Lengths of the domain along (x, y) in pixels, ``(d,)``."""

    def __len__(self) -> int: ...

    def origin(self, spacing: Tensor) -> Tensor:
        """The grid's first node, ``(d,)`` in pixels; the cells around the nodes cover the domain."""

    def chunks(self, counts: tuple[int, ...]) -> Iterator[tuple[int, Tensor]]:
        """First index and values ``(chunk, *counts)`` on the grid origin + (a W / counts[-1], b H / counts[0])."""

    def around(self, index: Tensor, points: Tensor, offsets: Tensor) -> Tensor:
        """Function ``index[a]`` at ``points[a] + offsets[b]``, ``(P, S)``."""


class Grid(NamedTuple):
    """The nodes of a grid.

    Args:
        origin: the first node, ``(d,)`` in pixels.
        spacing: ``(d,)`` along (x, y) in pixels.
        counts: nodes per axis, in the order of ``size``.
    """

    origin: Tensor
    spacing: Tensor
    counts: tuple[int, ...]

    @classmethod
    def of(cls, functions: Lengths, counts: tuple[int, ...]) -> "Grid":
        """The one whose values ``functions.chunks(counts)`` gives."""
        spacing = functions.sides / functions.sides.new_tensor(counts[::-1])
        return cls(functions.origin(spacing), spacing, counts)

    def nodes(self, position: Tensor) -> Tensor:
        """In pixels, from rows (function, *indices)."""
        return self.origin + position[:, 1:].flip(-1).to(self.spacing.dtype) * self.spacing

    @property
    def outermost(self) -> Tensor:
        """Which nodes have cells at the border, bool ``counts``."""
        edge = torch.ones(self.counts, dtype=torch.bool, device=self.spacing.device)
        edge[(slice(1, -1),) * len(self.counts)] = False
        return edge


class Climbers(NamedTuple):
    """Points on their way up, sorted by owner."""

    owner: Tensor  # (P,) which function
    centres: Tensor  # (P, d) of the stencils
    points: Tensor  # (P, d) where the values are attained
    values: Tensor  # (P,)

    def where(self, keep: Tensor) -> "Climbers":
        """Those that are kept."""
        return Climbers(*(part[keep] for part in self))

    def highest(self, most: int) -> "Climbers":
        """At most so many per owner."""
        order = self.values.argsort(descending=True, stable=True)
        order = order[self.owner[order].argsort(stable=True)]
        owner = self.owner[order]
        rank = torch.arange(len(owner), device=owner.device) - torch.searchsorted(owner, owner)
        return self.where(order[rank < most])

    def moved(self, functions: Lengths, stencil: Tensor, *, newton: bool) -> "Climbers":
        """One evaluation of the stencil ``(3^d, d)`` in pixels around the centres; values never decrease."""
        near = functions.around(self.owner, self.centres, stencil)  # (P, 3^d)
        value, node = near.max(1)
        points = torch.where((value > self.values)[:, None], self.centres + stencil[node], self.points)
        centres, width = points, stencil.amax(0)
        if newton:
            move = newton_step(near)
            # a step that went astray is taken back
            safe = (move.abs() <= 3).all(1) & (value >= self.values)
            centres = torch.where(safe[:, None], self.centres + move * width, points)
        return Climbers(self.owner, centres, points, torch.maximum(value, self.values))


class Approach(NamedTuple):
    """Maxima found to about ``_ROUNDS[-1]``: far closer than a grid, not yet to round-off.

    Args:
        climbers: that are left.
        best: values attained, ``(n,)``.
        argument: points where, ``(n, d)`` in pixels.
        settled: whether the last round gained next to nothing, bool ``(n,)``.
        reach: range of the values on the grid, ``(n,)``.
        unit: the stencil of one cell, ``(3^d, d)`` in pixels.
    """

    climbers: Climbers
    best: Tensor
    argument: Tensor
    settled: Tensor
    reach: Tensor
    unit: Tensor


def approach(functions: Lengths, counts: tuple[int, ...]) -> Approach:
    """The maxima of a grid and a few rounds of Newton's iteration.

    Args:
        functions: n functions.
        counts: nodes of the grid per axis, in the order of ``size``.
    """
    grid, found, tops, ranges = Grid.of(functions, counts), [], [], []
    for start, values in functions.chunks(counts):
        tops.append(values.flatten(1).amax(1))
        ranges.append(tops[-1] - values.flatten(1).amin(1))
        floor = (tops[-1] - _SHARE * ranges[-1]).view(-1, *[1] * len(counts))
        position = (_is_top(values) & (values >= floor)).nonzero()
        nodes = grid.nodes(position)
        found.append(Climbers(position[:, 0] + start, nodes, nodes, values[tuple(position.T)]).highest(_STARTS))
    climbers = Climbers(*(torch.cat(columns) for columns in zip(*found, strict=True)))
    best, reach = torch.cat(tops), torch.cat(ranges)
    argument = grid.origin.expand(len(best), -1).clone()
    unit, gain = stencil(grid.spacing) * grid.spacing, torch.full_like(best, math.inf)
    for width, share in _ROUNDS:
        climbers = climbers.moved(functions, unit * width, newton=True)
        best, argument, gain = _best(climbers, best, argument)
        climbers = climbers.where(climbers.values >= (best - share * reach)[climbers.owner])  # others: lower peaks
    return Approach(climbers, best, argument, gain <= _SETTLED * reach, reach, unit)


def ascend(functions: Lengths, found: Approach) -> tuple[Tensor, Tensor]:
    """Values attained, ``(n,)``, and points where, ``(n, d)`` in pixels: the maxima approached, to round-off.

    Args:
        functions: n functions.
        found: where their maxima are, nearly.
    """
    climbers, best, argument, settled, reach, unit = found
    climbers = climbers.highest(_FINALISTS)
    climbers = climbers._replace(centres=climbers.points)
    for _ in range(2):  # where Newton's iteration has converged it repeats itself
        climbers = climbers.moved(functions, unit * _ROUNDS[-1][0], newton=True)
        best, argument, gain = _best(climbers, best, argument)
        settled = settled & (gain <= _SETTLED * reach)
    lost = (climbers.centres == climbers.points).all(1) | ~settled[climbers.owner]
    climbers, width = climbers._replace(centres=climbers.points).where(lost), _ROUNDS[0][0]
    for _ in range(_HALVINGS if len(climbers.owner) else 0):
        width /= 2
        for _ in range(_MOVES):
            climbers = climbers.moved(functions, unit * width, newton=False)
    best, argument, _ = _best(climbers, best, argument)
    return best, argument


def stencil(like: Tensor) -> Tensor:
    """{-1, 0, 1}^d, ``(3^d, d)``, x slowest."""
    return like.new_tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=like.shape[-1])))


def newton_step(near: Tensor) -> Tensor:
    """-(second derivative)^(-1) gradient by differences, in stencil widths ``(P, d)``; NaN where that is no maximum."""
    if near.shape[1] == 3:
        left, centre, right = near.unbind(1)
        curvature = left - 2 * centre + right
        return torch.where(curvature < 0, (left - right) / (2 * curvature), math.nan)[:, None]
    f = near.unflatten(1, (3, 3))  # (P, x, y)
    x, y = (f[:, 2, 1] - f[:, 0, 1]) / 2, (f[:, 1, 2] - f[:, 1, 0]) / 2
    xx, yy = f[:, 2, 1] - 2 * f[:, 1, 1] + f[:, 0, 1], f[:, 1, 2] - 2 * f[:, 1, 1] + f[:, 1, 0]
    xy = (f[:, 2, 2] - f[:, 0, 2] - f[:, 2, 0] + f[:, 0, 0]) / 4
    determinant = xx * yy - xy * xy
    move = torch.stack([xy * y - yy * x, xy * x - xx * y], dim=-1) / determinant[:, None]
    return torch.where(((determinant > 0) & (xx < 0))[:, None], move, math.nan)


def _best(climbers: Climbers, best: Tensor, argument: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The best values, where they are attained, and what was gained."""
    top = best.scatter_reduce(0, climbers.owner, climbers.values, "amax")
    winners = (climbers.values >= top[climbers.owner]).nonzero()[:, 0]
    return top, argument.index_put((climbers.owner[winners],), climbers.points[winners]), top - best


def _is_top(values: Tensor) -> Tensor:
    """Whether each node ``(chunk, *counts)`` is at least as high as its neighbours on the torus."""
    axes = tuple(range(1, values.ndim))
    top = torch.ones_like(values, dtype=torch.bool)
    for shift in itertools.product((-1, 0, 1), repeat=len(axes)):
        top &= values >= values.roll(shift, axes)
    return top
