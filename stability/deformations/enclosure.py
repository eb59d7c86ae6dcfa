r"""Suprema over the continuum of functions with bounded curvature: seen by search, certified by branch and bound.

Let |p(u)| be a supremum of scalars <p, e> whose second derivatives along lines are at most Q. At a maximiser u* of
|p| the scalar that attains it is largest too, so its gradient vanishes and Taylor's formula gives, for cells of half
diagonal rho around their nodes,

    |p(node)| >= sup |p| - Q rho^2 / 2    for the node of the cell that holds u*.

Hence sup <= largest node + Q rho^2 / 2, and a node below a value already attained by more than Q rho^2 / 2 cannot have
the maximiser in its cell. The other cells, and only they, are cut into 3^d until that loss is small. A maximiser at the
border of a window need not be a critical point: cells that touch it lose L rho, L a bound of the first derivative. So
does every cell for which L rho is the smaller loss. Q and L need to hold in the cell only.
"""

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from stability.deformations.ascent import Approach, Grid, Lengths, approach, ascend, stencil

TOLERANCE = 5e-4
"""The certificate is refined until it is at most this share above the value seen."""

ROUND_OFF = 1e-11
"""Relative allowance for round-off in every value that enters an upper bound."""

_BUDGET = 200_000
"""Most cells that one function may have in the certificate; it then keeps the last valid upper value."""

_TOTAL = 1_000_000
"""Few functions may have more: their share of this."""

_LEVELS = 14
"""Most times that cells are cut: what they may miss is below round-off then."""

_PART = 2**16
"""Cells evaluated at a time: the memory depends on those that survive."""

Local = Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, "Losses"]]
"""From index ``(P,)``, points ``(P, d)``, offsets ``(S, d)`` and rho to the values and to Q and L that hold within rho
of the nodes, ``(P, S)`` each."""


class Losses(NamedTuple):
    """What the node of the maximiser's cell may miss: the less of Q rho^2 / 2 and L rho, rho half the diagonal.

    Args:
        curvature: Q, bounds of second derivatives along lines, ``(n,)``; None or inf: unknown.
        slope: L, bounds of first derivatives along lines, ``(n,)``; None or inf: unknown.
    """

    curvature: Tensor | None = None
    slope: Tensor | None = None

    def at(self, rho: float) -> tuple[Tensor, Tensor]:
        """For cells inside, and for those at the border of a window, ``(n,)`` each."""
        known = self.slope if self.slope is not None else self.curvature
        if known is None:
            raise ValueError("losses must have a curvature or a slope, got none; give one of them")
        border = torch.full_like(known, torch.inf) if self.slope is None else self.slope * rho
        return border if self.curvature is None else torch.minimum(self.curvature * (rho * rho / 2), border), border


class Box(NamedTuple):
    """A window.

    Args:
        low: its lowest corner, ``(d,)`` in pixels.
        high: its highest corner.
    """

    low: Tensor
    high: Tensor

    def clamped(self, points: Tensor) -> Tensor:
        """The nearest points of the window."""
        return torch.minimum(torch.maximum(points, self.low), self.high)

    def touched(self, points: Tensor, spacing: Tensor) -> Tensor:
        """Which cells with nodes ``(..., d)`` touch the border; a quarter of a cell allows for round-off."""
        reach = 0.75 * spacing
        return ((points - reach < self.low) | (points + reach > self.high)).any(-1)


class Enclosure:
    """lower <= sup f_i <= upper for n functions, computed when asked for.

    Args:
        functions: u -> f_i(u): lengths |p_i(u)|, or any smooth scalar functions.
        counts: nodes of the first grid per axis, in the order of ``size``.
        losses: gives Q_i and L_i; called for ``upper`` only.
        bounds: gives upper values known beforehand, ``(n,)``; called for ``upper`` only.
        scale: from the values seen to what the tolerance is relative to, ``(n,)`` each; by default their size.
        box: the window, if the domain has a border.
        local: values, and Q and L that hold in single cells: for functions that are tame almost everywhere.
    """

    def __init__(
        self,
        functions: Lengths,
        counts: tuple[int, ...],
        losses: Callable[[], Losses],
        bounds: Callable[[], Tensor],
        scale: Callable[[Tensor], Tensor] = torch.abs,
        box: Box | None = None,
        local: Local | None = None,
    ) -> None:
        self._functions = functions
        self._counts = counts
        self._losses = losses
        self._bounds = bounds
        self._scale = scale
        self._box = box
        self._local = local

    @property
    def lower(self) -> Tensor:
        """The largest value found, ``(n,)``: attained, so never above the supremum."""
        return self._peaks[0]

    @property
    def argument(self) -> Tensor:
        """A point at which ``lower`` is attained, ``(n, d)`` in pixels."""
        return self._peaks[1]

    @cached_property
    def upper(self) -> Tensor:
        """A certified value, ``(n,)``: never below the supremum, about ``TOLERANCE`` above ``lower``."""
        with torch.no_grad():
            lower, bounds = self._approach.best, self._bounds()  # near enough to cut cells and to stop
            unit = self._scale(lower)
            slack, allowance = TOLERANCE * unit, ROUND_OFF * torch.maximum(lower.abs(), unit)
            enough = torch.where(bounds <= lower + slack, torch.inf, -torch.inf)
            arguments = self._functions, self._counts, self._losses(), lower, enough, allowance, self._box
            found = certified(*arguments, local=self._local, slack=slack)
            return torch.maximum(torch.minimum(found, bounds), lower) + allowance

    @cached_property
    def _approach(self) -> Approach:
        with torch.no_grad():
            return approach(self._functions, self._counts)

    @cached_property
    def _peaks(self) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            best, argument = ascend(self._functions, self._approach)
            return best, argument if self._box is None else self._box.clamped(argument)


def certified(
    functions: Lengths,
    counts: tuple[int, ...],
    losses: Losses,
    lower: Tensor,
    enough: Tensor,
    allowance: Tensor,
    box: Box | None = None,
    local: Local | None = None,
    slack: Tensor | None = None,
) -> Tensor:
    """Upper values of sup f_i by branch and bound, ``(n,)``; inf where the losses are.

    Args:
        functions: u -> f_i(u).
        counts: nodes of the first grid.
        losses: Q_i and L_i.
        lower: values that are attained, or -inf, ``(n,)``.
        enough: upper values that need not be improved, ``(n,)``, -inf: none.
        allowance: for round-off in the values, ``(n,)``.
        box: the window, if the domain has a border.
        local: see ``Enclosure``.
        slack: how far above the values seen an upper value may stay, ``(n,)``.
    """
    grid, d = Grid.of(functions, counts), len(counts)
    inside, border = losses.at(float(grid.spacing.norm()) / 2)
    edge = grid.outermost if box is not None else torch.zeros_like(grid.outermost)
    found, ceilings, tops = [], [], []
    for start, values in functions.chunks(counts):
        part, view = slice(start, start + len(values)), (-1, *[1] * d)
        ceiling = values + torch.where(edge, border[part].view(view), inside[part].view(view))
        ceilings.append(ceiling.flatten(1).amax(1))
        tops.append(torch.maximum(lower[part], values.flatten(1).amax(1)))
        wanted = torch.isfinite(ceilings[-1]) & (ceilings[-1] > enough[part])
        position = ((ceiling >= (tops[-1] - allowance[part]).view(view)) & wanted.view(view)).nonzero()
        found.append(_Cells(position[:, 0] + start, grid.nodes(position)))
    cells, upper, lower = _joined(found), torch.cat(ceilings), torch.cat(tops)
    spacing, offsets = grid.spacing, torch.zeros_like(grid.spacing)[None]
    budget = max(_BUDGET, _TOTAL // max(1, len(functions)))
    for level in range(_LEVELS):
        if level or local is None:  # the grid's own nodes are worth a look with local losses
            spacing = spacing / 3
            offsets = stencil(spacing) * spacing
        load = torch.bincount(cells.owner, minlength=len(functions)) * len(offsets)
        good = enough if slack is None else torch.maximum(enough, lower + slack)
        cells = cells.where(((upper > good) & (load <= budget))[cells.owner])
        if not len(cells.owner):
            break
        rho = float(spacing.norm()) / 2
        top, survivors = torch.full_like(upper, -torch.inf), []
        for few in cells.split(_PART):
            values, inside, border = _evaluated(functions, losses, local, few, offsets, rho)
            owner, points = few.owner.repeat_interleave(len(offsets)), (few.points[:, None] + offsets).flatten(0, 1)
            if box is not None:
                inside = torch.where(box.touched(points, spacing), border, inside)
            ceiling = values + inside
            top = top.scatter_reduce(0, owner, ceiling, "amax")
            lower = lower.scatter_reduce(0, owner, values, "amax")
            keep = ceiling >= (lower - allowance)[owner]
            survivors.append(_Cells(owner[keep], points[keep]))
        cells = _joined(survivors)
        upper = torch.where(torch.isfinite(top), torch.minimum(upper, torch.maximum(top, lower)), upper)
    return upper


class _Cells(NamedTuple):
    owner: Tensor  # (P,) which function
    points: Tensor  # (P, d) nodes in pixels

    def where(self, keep: Tensor) -> "_Cells":
        return _Cells(self.owner[keep], self.points[keep])

    def split(self, size: int) -> list["_Cells"]:
        return [_Cells(*pair) for pair in zip(self.owner.split(size), self.points.split(size), strict=True)]


def _joined(parts: list[_Cells]) -> _Cells:
    return _Cells(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def _evaluated(
    functions: Lengths, losses: Losses, local: Local | None, cells: _Cells, offsets: Tensor, rho: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Values and losses, inside and at a border, at the nodes and offsets, ``(P S,)`` each."""
    inside, border = (loss[cells.owner, None].expand(-1, len(offsets)).flatten() for loss in losses.at(rho))
    if local is None:
        return functions.around(cells.owner, cells.points, offsets).flatten(), inside, border
    values, near = local(cells.owner, cells.points, offsets, rho)
    inside_near, border_near = (loss.flatten() for loss in near.at(rho))
    return values.flatten(), torch.minimum(inside, inside_near), torch.minimum(border, border_near)
