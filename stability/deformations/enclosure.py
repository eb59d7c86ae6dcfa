r"""Suprema over the torus of lengths with bounded second derivatives: seen by search, certified by branch and bound.

Let |p(u)| be a supremum of scalars <p, e> whose second derivatives along lines are at most Q. At a maximiser u* of
|p| the scalar that attains it is largest too, so its gradient vanishes and Taylor's formula gives, for cells of half
diagonal rho around their nodes,

    |p(node)| >= sup |p| - Q rho^2 / 2    for the node of the cell that holds u*.

Hence sup <= largest node + Q rho^2 / 2, and a node below a value already attained by more than Q rho^2 / 2 cannot have
the maximiser in its cell. The other cells, and only they, are cut into 3^d until that loss is small.
"""

import itertools
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

TOLERANCE = 1e-3
"""The certificate is refined until it is at most this share above the value seen."""

ROUND_OFF = 1e-11
"""Relative allowance for round-off in every value that enters an upper bound."""

_BUDGET = 1_000_000
"""Most cells that one function may have in the certificate; it then keeps the last valid upper value."""

_HALVINGS = 26
"""Of the stencil of the local search, from half the grid's spacing on: values are right to its square."""

_MOVES = 4
"""Of the local search for each width of its stencil."""

_SHARE = 0.25
"""How far below the largest node of its function a start of the local search may be; halved with the stencil."""


class Lengths(Protocol):
    """n functions on one torus, evaluated on grids and around points."""

    @property
    def sides(self) -> Tensor:
        """The periods along (x, y) in pixels, ``(d,)``."""

    def __len__(self) -> int: ...

    def chunks(self, counts: tuple[int, ...]) -> Iterator[tuple[int, Tensor]]:
        """First index and values ``(chunk, *counts)`` on the grid u = (a W / counts[-1], b H / counts[0])."""

    def around(self, index: Tensor, points: Tensor, offsets: Tensor) -> Tensor:
        """Function ``index[a]`` at ``points[a] + offsets[b]``, ``(P, S)``."""


class _Cells(NamedTuple):
    owner: Tensor  # (P,) which function
    points: Tensor  # (P, d) nodes in pixels
    values: Tensor  # (P,) at the nodes

    def where(self, keep: Tensor) -> "_Cells":
        return _Cells(self.owner[keep], self.points[keep], self.values[keep])


class Enclosure:
    """lower <= sup |p_i| <= upper for n functions, computed when asked for.

    Args:
        functions: u -> |p_i(u)|.
        counts: nodes of the first grid per axis, in the order of ``size``.
        curvatures: gives Q_i, ``(n,)``; called for ``upper`` only.
        bounds: gives upper values known beforehand, ``(n,)``; called for ``upper`` only.
    """

    def __init__(
        self,
        functions: Lengths,
        counts: tuple[int, ...],
        curvatures: Callable[[], Tensor],
        bounds: Callable[[], Tensor],
    ) -> None:
        self._functions = functions
        self._counts = counts
        self._curvatures = curvatures
        self._bounds = bounds

    @cached_property
    def lower(self) -> Tensor:
        """The largest value found after local search, ``(n,)``: attained, so never above the supremum."""
        with torch.no_grad():
            return self._search()

    @cached_property
    def upper(self) -> Tensor:
        """A certified value, ``(n,)``: never below the supremum, about ``TOLERANCE`` above ``lower``."""
        with torch.no_grad():
            return self._certify()

    @cached_property
    def _spacing(self) -> Tensor:
        sides = self._functions.sides
        return sides / sides.new_tensor(self._counts[::-1])

    def _nodes(self, position: Tensor) -> Tensor:
        return position[:, 1:].flip(-1).to(self._spacing.dtype) * self._spacing

    def _search(self) -> Tensor:
        """From every maximum of the grid to the best neighbour on stencils that shrink."""
        starts, tops = [], []
        for start, values in self._functions.chunks(self._counts):
            top = values.flatten(1).amax(1)
            floor = (top * (1 - _SHARE)).view(-1, *[1] * len(self._counts))
            position = (_is_top(values) & (values >= floor) & (values > 0)).nonzero()
            starts.append(_Cells(position[:, 0] + start, self._nodes(position), values[tuple(position.T)]))
            tops.append(top)
        cells, best = _joined(starts), torch.cat(tops)
        unit, share = _stencil(self._spacing), _SHARE
        width = self._spacing / 2
        for _ in range(_HALVINGS):
            for _ in range(_MOVES):
                near = self._functions.around(cells.owner, cells.points, unit * width)  # (P, 3^d)
                value, node = near.max(1)
                better = value > cells.values
                points = torch.where(better[:, None], cells.points + (unit * width)[node], cells.points)
                cells = _Cells(cells.owner, points, torch.maximum(value, cells.values))
            best = best.scatter_reduce(0, cells.owner, cells.values, "amax")
            share /= 2
            cells = cells.where(cells.values >= (1 - share) * best[cells.owner])  # the others are lower peaks
            width = width / 2
        return best

    def _certify(self) -> Tensor:
        functions, spacing, curvature = self._functions, self._spacing, self._curvatures()
        d = len(self._counts)
        loss = curvature * spacing.square().sum() / 8  # Q rho^2 / 2
        lower = self.lower
        found, tops = [], []
        for start, values in functions.chunks(self._counts):
            part = slice(start, start + len(values))
            threshold = (lower[part] - loss[part]) * (1 - ROUND_OFF)
            position = (values >= threshold.view(-1, *[1] * d)).nonzero()
            found.append(_Cells(position[:, 0] + start, self._nodes(position), values[tuple(position.T)]))
            tops.append(values.flatten(1).amax(1))
        cells, largest = _joined(found), torch.cat(tops)
        upper = torch.minimum(self._bounds(), largest + loss)
        thirds = _stencil(spacing)
        while True:
            load = torch.bincount(cells.owner, minlength=len(functions)) * 3**d
            wanted = (upper > lower * (1 + TOLERANCE)) & (load <= _BUDGET)
            threshold = torch.where(wanted, (lower - loss) * (1 - ROUND_OFF), torch.inf)
            cells = cells.where(cells.values >= threshold[cells.owner])
            if not len(cells.owner):
                break
            spacing, loss = spacing / 3, loss / 9
            values = functions.around(cells.owner, cells.points, thirds * spacing)  # (P, 3^d)
            points = cells.points[:, None] + thirds * spacing  # (P, 3^d, d)
            cells = _Cells(cells.owner.repeat_interleave(3**d), points.flatten(0, 1), values.flatten())
            seen = torch.full_like(upper, -1.0).scatter_reduce(0, cells.owner, cells.values, "amax")
            upper = torch.where(seen >= 0, torch.minimum(upper, seen + loss), upper)
            lower = torch.maximum(lower, seen)
        return torch.maximum(upper, lower) * (1 + ROUND_OFF)


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
