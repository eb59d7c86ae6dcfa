r"""Suprema over the torus of lengths with bounded second derivatives: seen by search, certified by branch and bound.

Let |p(u)| be a supremum of scalars <p, e> whose second derivatives along lines are at most Q. At a maximiser u* of
|p| the scalar that attains it is largest too, so its gradient vanishes and Taylor's formula gives, for cells of half
diagonal rho around their nodes,

    |p(node)| >= sup |p| - Q rho^2 / 2    for the node of the cell that holds u*.

Hence sup <= largest node + Q rho^2 / 2, and a node below a value already attained by more than Q rho^2 / 2 cannot have
the maximiser in its cell. The other cells, and only they, are cut into 3^d until that loss is small. Where a maximiser
need not be a critical point (at the border of a window) the loss is L rho, L a bound of the first derivative.
"""

import itertools
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

TOLERANCE = 5e-4
"""The certificate is refined until it is at most this share above the value seen."""

ROUND_OFF = 1e-11
"""Relative allowance for round-off in every value that enters an upper bound."""

_BUDGET = 1_000_000
"""Most cells that one function may have in the certificate; it then keeps the last valid upper value."""

_HALVINGS = 26
"""Of the stencil of the local search, from half the grid's spacing on: values are right to its square."""

_MOVES = 4
"""Of the local search for each width of its stencil."""

_STARTS = 256
"""Most starts of the local search per function."""

_SHARE = 0.25
"""How far below the largest node of its function a start of the local search may be; halved with the stencil."""


class Lengths(Protocol):
    """n functions on one torus, evaluated on grids and around points."""

    @property
    def sides(self) -> Tensor:
        """The periods along (x, y) in pixels, ``(d,)``."""

    def __len__(self) -> int: ...

    def origin(self, spacing: Tensor) -> Tensor:
        """The grid's first node, ``(d,)`` in pixels; the cells around the nodes cover the domain."""

    def chunks(self, counts: tuple[int, ...]) -> Iterator[tuple[int, Tensor]]:
        """First index and values ``(chunk, *counts)`` on the grid origin + (a W / counts[-1], b H / counts[0])."""

    def around(self, index: Tensor, points: Tensor, offsets: Tensor) -> Tensor:
        """Function ``index[a]`` at ``points[a] + offsets[b]``, ``(P, S)``."""


class _Cells(NamedTuple):
    owner: Tensor  # (P,) which function
    points: Tensor  # (P, d) nodes in pixels
    values: Tensor  # (P,) at the nodes

    def where(self, keep: Tensor) -> "_Cells":
        return _Cells(self.owner[keep], self.points[keep], self.values[keep])

    def few(self) -> "_Cells":
        """Of cells sorted by owner at most ``_STARTS`` per owner: plateaus have as many tops as nodes."""
        first = torch.searchsorted(self.owner, self.owner)
        place = torch.arange(len(self.owner), device=self.owner.device) - first
        return self.where(place < _STARTS)


class Losses(NamedTuple):
    """What the node of the maximiser's cell may miss: the least of Q rho^2 / 2 and L rho, rho half the diagonal.

    Args:
        curvature: Q, bounds of second derivatives along lines, ``(n,)``; only where a maximiser is a critical point.
        slope: L, bounds of first derivatives along lines, ``(n,)``.
    """

    curvature: Tensor | None = None
    slope: Tensor | None = None

    def at(self, spacing: Tensor) -> Tensor:
        """For cells of the given sides, ``(n,)``."""
        rho = spacing.norm() / 2
        parts = [] if self.curvature is None else [self.curvature * rho.square() / 2]
        parts += [] if self.slope is None else [self.slope * rho]
        return torch.stack(parts).amin(0)


class Enclosure:
    """lower <= sup f_i <= upper for n functions, computed when asked for.

    Args:
        functions: u -> f_i(u): lengths |p_i(u)|, or any smooth scalar functions.
        counts: nodes of the first grid per axis, in the order of ``size``.
        losses: gives Q_i and L_i; called for ``upper`` only.
        bounds: gives upper values known beforehand, ``(n,)``; called for ``upper`` only.
        scale: what tolerances are relative to, ``(n,)``; None: the value seen.
    """

    def __init__(
        self,
        functions: Lengths,
        counts: tuple[int, ...],
        losses: Callable[[], Losses],
        bounds: Callable[[], Tensor],
        scale: Tensor | None = None,
    ) -> None:
        self._functions = functions
        self._counts = counts
        self._losses = losses
        self._bounds = bounds
        self._scale = scale

    @property
    def lower(self) -> Tensor:
        """The largest value found after local search, ``(n,)``: attained, so never above the supremum."""
        return self._peaks[0]

    @property
    def argument(self) -> Tensor:
        """A point at which ``lower`` is attained, ``(n, d)`` in pixels."""
        return self._peaks[1]

    @cached_property
    def upper(self) -> Tensor:
        """A certified value, ``(n,)``: never below the supremum, about ``TOLERANCE`` above ``lower``."""
        with torch.no_grad():
            return self._certify()

    @cached_property
    def _spacing(self) -> Tensor:
        sides = self._functions.sides
        return sides / sides.new_tensor(self._counts[::-1])

    @cached_property
    def _origin(self) -> Tensor:
        """The first node."""
        return self._functions.origin(self._spacing)

    def _nodes(self, position: Tensor) -> Tensor:
        return self._origin + position[:, 1:].flip(-1).to(self._spacing.dtype) * self._spacing

    def _unit(self, lower: Tensor) -> Tensor:
        return lower.abs() if self._scale is None else self._scale

    @cached_property
    def _peaks(self) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return self._search()

    def _search(self) -> tuple[Tensor, Tensor]:
        """From every maximum of the grid to the best neighbour on stencils that shrink."""
        starts, tops = [], []
        for start, values in self._functions.chunks(self._counts):
            top = values.flatten(1).amax(1)
            unit = top.abs() if self._scale is None else self._scale[start : start + len(top)]
            floor = (top - _SHARE * unit).view(-1, *[1] * len(self._counts))
            position = (_is_top(values) & (values >= floor)).nonzero()
            starts.append(_Cells(position[:, 0] + start, self._nodes(position), values[tuple(position.T)]).few())
            tops.append(top)
        cells, best = _joined(starts), torch.cat(tops)
        stencil, share, scale = _stencil(self._spacing), _SHARE, self._unit(best)
        width = self._spacing / 2
        for _ in range(_HALVINGS):
            for _ in range(_MOVES):
                near = self._functions.around(cells.owner, cells.points, stencil * width)  # (P, 3^d)
                value, node = near.max(1)
                better = value > cells.values
                points = torch.where(better[:, None], cells.points + (stencil * width)[node], cells.points)
                cells = _Cells(cells.owner, points, torch.maximum(value, cells.values))
            best = best.scatter_reduce(0, cells.owner, cells.values, "amax")
            share /= 2
            cells = cells.where(cells.values >= (best - share * scale)[cells.owner])  # the others are lower peaks
            width = width / 2
        best = best.scatter_reduce(0, cells.owner, cells.values, "amax")
        first = torch.full_like(best, len(cells.owner), dtype=torch.long)
        winners = (cells.values >= best[cells.owner]).nonzero()[:, 0]
        first = first.scatter_reduce(0, cells.owner[winners], winners, "amin")
        return best, torch.cat([cells.points, self._origin[None]])[first]

    def _certify(self) -> Tensor:
        functions, spacing, losses = self._functions, self._spacing, self._losses()
        d = len(self._counts)
        loss = losses.at(spacing)
        lower = self.lower
        unit = self._unit(lower)
        found, tops = [], []
        for start, values in functions.chunks(self._counts):
            part = slice(start, start + len(values))
            threshold = (lower - loss - ROUND_OFF * unit)[part]
            position = (values >= threshold.view(-1, *[1] * d)).nonzero()
            found.append(_Cells(position[:, 0] + start, self._nodes(position), values[tuple(position.T)]))
            tops.append(values.flatten(1).amax(1))
        cells, largest = _joined(found), torch.cat(tops)
        upper = torch.minimum(self._bounds(), largest + loss)
        thirds = _stencil(spacing)
        while True:
            load = torch.bincount(cells.owner, minlength=len(functions)) * 3**d
            wanted = (upper > lower + TOLERANCE * unit) & (load <= _BUDGET)
            threshold = torch.where(wanted, lower - loss - ROUND_OFF * unit, torch.inf)
            cells = cells.where(cells.values >= threshold[cells.owner])
            if not len(cells.owner):
                break
            spacing = spacing / 3
            loss = losses.at(spacing)
            values = functions.around(cells.owner, cells.points, thirds * spacing)  # (P, 3^d)
            points = cells.points[:, None] + thirds * spacing  # (P, 3^d, d)
            cells = _Cells(cells.owner.repeat_interleave(3**d), points.flatten(0, 1), values.flatten())
            seen = torch.full_like(upper, -torch.inf).scatter_reduce(0, cells.owner, cells.values, "amax")
            upper = torch.where(torch.isfinite(seen), torch.minimum(upper, seen + loss), upper)
            lower = torch.maximum(lower, seen)
        return torch.maximum(upper, lower) + ROUND_OFF * unit


def _joined(parts: list[_Cells]) -> _Cells:
    return _Cells(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def _stencil(like: Tensor) -> Tensor:
    """{-1, 0, 1}^d, ``(3^d, d)``."""
    return like.new_tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=like.shape[-1])))


def _is_top(values: Tensor) -> Tensor:
    """Whether each node ``(chunk, *counts)`` is at least as high as its neighbours on the torus."""
    axes = tuple(range(1, values.ndim))
    top = torch.ones_like(values, dtype=torch.bool)
    for shift in itertools.product((-1, 0, 1), repeat=len(axes)):
        top &= values >= values.roll(shift, axes)
    return top
