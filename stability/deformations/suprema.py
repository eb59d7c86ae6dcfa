r"""Suprema over the continuum of lengths of band-limited fields, seen and certified.

Let f be real, |f| <= 1 on the line and of exponential type R. Bernstein-Szegoe: f'^2 + R^2 f^2 <= R^2, that is
|(arccos f)'| <= R; so f(u* + s) >= cos(R |s|) for R |s| <= pi where f(u*) = 1. A length |p(u)| that is a supremum of
scalars <p, e> of type R along every line is attained by one of them at the maximiser, hence, for cells of half
diagonal rho around their nodes,

    |p(node)| >= cos(R rho) sup |p|    for the node of the cell that holds the maximiser.

The largest node gives sup <= max / cos(R rho); a node below cos(R rho) times a value already attained cannot have the
maximiser in its cell. The other cells, and only they, are cut into 3^d until 1 / cos(R rho) - 1 is small.

Where a constant or low frequencies prevail, Taylor's formula does better: the first derivative of <p, e> vanishes at
the maximiser and the second is at most Q = sum_m |omega_m|^2 |Z_m|, so |p(node)| >= sup |p| - Q rho^2 / 2. The smaller
loss of the two counts.

Reference: Bernstein 1926; van der Corput & Schaake 1935; Duffin & Schaeffer 1938 (f'^2 + R^2 f^2 <= R^2).
"""

import itertools
import math
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from stability.deformations.lengths import Length
from stability.deformations.trigonometric import TrigonometricBatch

NODES_PER_WAVELENGTH = 12
"""Nodes of the first grid per shortest wavelength 2 pi / R and axis."""

TOLERANCE = 1e-4
"""The certificate is refined until the share that a node may miss is below this."""

ROUND_OFF = 1e-11
"""Relative allowance for round-off in every value that enters an upper bound."""

_STEPS = (
    *((0.2, 0.05), (0.2, 0.05), (0.2, 0.05), (0.1, 0.02), (0.1, 0.01)),  # wide first: next to a crease of the length
    *((0.05, 5e-3), (0.05, 2e-3), (0.02, 1e-4), (0.006, 1e-5), (0.001, 1e-5)),  # Newton's step fails, starts must walk
)
"""Local refinement: stencil widths in units of 1 / R, and how far below the best of its field a start may then be."""

_BUDGET = 200_000
"""Most cells that one field may have in the certificate; it then keeps the last valid upper value."""


class _Cells(NamedTuple):
    owner: Tensor  # (P,) which field
    points: Tensor  # (P, d) nodes in pixels
    values: Tensor  # (P,) lengths at the nodes


class Supremum:
    """sup over the torus of length(p_i(u)) for a batch of n trigonometric polynomials, computed when asked for.

    Args:
        fields: the polynomials p_i.
        length: a supremum of scalars <p, e>, see ``lengths``.
    """

    def __init__(self, fields: TrigonometricBatch, length: Length) -> None:
        self._fields = fields
        self._length = length

    @property
    def lower(self) -> Tensor:
        """The largest value found after local refinement, ``(n,)``: attained, so never above the supremum."""
        return self._peaks[0]

    @property
    def argument(self) -> Tensor:
        """A point at which ``lower`` is attained, ``(n, d)`` in pixels."""
        return self._peaks[1]

    @cached_property
    def value(self) -> Tensor:
        """p at ``argument``, ``(n, C)``."""
        index = torch.arange(len(self._fields), device=self.argument.device)
        at = self._fields.around(index, self.argument, torch.zeros_like(self.argument[:1]))
        return torch.cat(at, dim=-1)

    @cached_property
    def upper(self) -> Tensor:
        """An upper value by the cosine certificate, ``(n,)``: never below the supremum, about ``TOLERANCE`` above."""
        with torch.no_grad():
            return self._certify()

    @cached_property
    def _bandwidth(self) -> float:
        """The largest R of the batch, which sets the grid."""
        return float(self._fields.bandwidths.max()) if len(self._fields) else 0.0

    def _from(self, supremum: Tensor, spacing: Tensor, part: slice = slice(None)) -> Tensor:
        """What the node of the maximiser's cell attains at least, ``(n,)``: max(cos(R rho) sup, sup - Q rho^2 / 2)."""
        cosine, loss = self._losses(spacing)
        return torch.maximum(supremum * cosine[part], supremum - loss[part]) * (1 - ROUND_OFF)

    def _to(self, largest: Tensor, spacing: Tensor) -> Tensor:
        """The supremum's upper value, ``(n,)``, from the largest node: min(max / cos(R rho), max + Q rho^2 / 2)."""
        cosine, loss = self._losses(spacing)
        return torch.minimum(largest / cosine, largest + loss)

    def _losses(self, spacing: Tensor) -> tuple[Tensor, Tensor]:
        """cos(R_i rho) and Q_i rho^2 / 2 for cells of the given sides, ``(n,)`` each."""
        rho = spacing.norm() / 2
        return (self._fields.bandwidths * rho).cos(), self._fields.curvatures * rho.square() / 2

    @cached_property
    def _counts(self) -> tuple[int, ...]:
        """Nodes per axis in the order of ``size``."""
        waves = self._bandwidth / (2 * math.pi) * self._fields.sides.flip(0)
        return tuple(max(1, math.ceil(NODES_PER_WAVELENGTH * float(wave) - 1e-9)) for wave in waves)

    @cached_property
    def _spacing(self) -> Tensor:
        """Grid spacing along (x, y), ``(d,)`` in pixels."""
        return self._fields.sides / self._fields.sides.new_tensor(self._counts[::-1])

    @cached_property
    def _grid(self) -> tuple[_Cells, Tensor, Tensor]:
        """The cells that can hold a maximiser, which are maxima among their neighbours, and the grids' maxima."""
        fields, counts = self._fields, self._counts
        found, tops, largest = [], [], []
        for start, components in fields.chunks(counts):
            values = self._length(components)  # (chunk, *counts)
            maximum = values.flatten(1).amax(1)
            largest.append(maximum)
            part = slice(start, start + len(maximum))
            threshold = self._from(maximum, self._spacing, part).view(-1, *([1] * len(counts)))
            position = (values > threshold).nonzero()  # (P, 1 + d)
            value = values[tuple(position.T)]
            found.append(
                _Cells(position[:, 0] + start, position[:, 1:].flip(-1).to(value.dtype) * self._spacing, value)
            )
            tops.append(_is_top(values, position, value))
        cells = _Cells(*(torch.cat(parts) for parts in zip(*found, strict=True)))
        return cells, torch.cat(tops), torch.cat(largest)

    @cached_property
    def _peaks(self) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            cells, tops, best = self._grid
            starts = _Cells(*(part[tops] for part in cells))
            top = self._refine(starts)
            best = best.scatter_reduce(0, top.owner, top.values, "amax")
            first = torch.full_like(best, len(top.owner), dtype=torch.long)
            order = torch.arange(len(top.owner), device=best.device)
            winners = top.values >= best[top.owner]
            first = first.scatter_reduce(0, top.owner[winners], order[winners], "amin")
            points = torch.cat([top.points, top.points.new_zeros(1, top.points.shape[1])])  # the zero field: the origin
            return best, points[first]

    def _refine(self, cells: _Cells) -> _Cells:
        """Newton's iteration with differences on shrinking stencils, from every grid maximum; values never decrease."""
        d = len(self._counts)
        if not self._bandwidth:
            return cells
        index, seen, values = cells  # seen: where the value is attained
        points, unit = seen, _stencil(seen)
        for step, share in _STEPS:
            width = step / self._bandwidth
            stencil = self._length(self._fields.around(index, points, unit * width))  # (P, 3^d)
            best, node = stencil.max(1)
            better = best > values
            seen = torch.where(better[:, None], points + width * unit[node], seen)
            move = _newton(stencil, d)
            safe = (move.abs().amax(1) <= 3.0) & torch.isfinite(move).all(1) & (best >= values * (1 - ROUND_OFF))
            values = torch.maximum(values, best)
            points = torch.where(safe[:, None], points + width * move, seen)  # a step that went astray is taken back
            # a start still below the best of its field by more than the steps to come can gain is another, lower peak
            top = values.new_zeros(len(self._fields)).scatter_reduce(0, index, values, "amax")
            keep = values >= (1 - share) * top[index]
            index, points, seen, values = index[keep], points[keep], seen[keep], values[keep]
        final = self._length(self._fields.around(index, points, unit[:1] * 0.0))[:, 0]
        return _Cells(index, torch.where((final > values)[:, None], points, seen), torch.maximum(values, final))

    def _certify(self) -> Tensor:
        fields, spacing = self._fields, self._spacing
        d = len(self._counts)
        cells, _, largest = self._grid
        lower = torch.maximum(self.lower, largest)
        thirds = _stencil(spacing)
        upper = self._to(largest, spacing)
        while True:
            load = torch.bincount(cells.owner, minlength=len(fields)) * 3**d
            wanted = (self._to(lower, spacing) > lower * (1 + TOLERANCE)) & (load <= _BUDGET)
            threshold = torch.where(wanted, self._from(lower, spacing), torch.inf)
            cells = _Cells(*(part[cells.values >= threshold[cells.owner]] for part in cells))
            if not len(cells.owner):
                break
            spacing = spacing / 3
            values = self._length(fields.around(cells.owner, cells.points, thirds * spacing))  # (P, 3^d)
            points = cells.points[:, None] + thirds * spacing  # (P, 3^d, d)
            cells = _Cells(cells.owner.repeat_interleave(3**d), points.flatten(0, 1), values.flatten())
            seen = torch.full_like(upper, -1.0).scatter_reduce(0, cells.owner, cells.values, "amax")
            upper = torch.where(seen >= 0, torch.minimum(upper, self._to(seen, spacing)), upper)
            lower = torch.maximum(lower, seen)
        return torch.maximum(upper, lower) * (1 + ROUND_OFF)


def _stencil(like: Tensor) -> Tensor:
    """{-1, 0, 1}^d, ``(3^d, d)``, x slowest."""
    return like.new_tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=like.shape[-1])))


def _is_top(values: Tensor, position: Tensor, value: Tensor) -> Tensor:
    """Whether each node is a maximum among its neighbours on the torus; of equal ones the first counts."""
    counts = values.new_tensor(values.shape[1:], dtype=torch.long)
    top = torch.ones(len(value), dtype=torch.bool, device=value.device)
    for shift in itertools.product((-1, 0, 1), repeat=len(counts)):
        if any(shift):
            at = (position[:, 1:] + position.new_tensor(shift)) % counts
            other = values[(position[:, 0], *at.T)]
            top &= (value > other) | ((value == other) & _before(position[:, 1:], at))
    return top


def _before(first: Tensor, second: Tensor) -> Tensor:
    """Lexicographic first <= second for integer rows ``(P, d)``."""
    weight = int(max(int(first.max()), int(second.max())) + 1) if len(first) else 1
    weights = first.new_tensor([weight**k for k in range(first.shape[1])][::-1])
    return (first * weights).sum(1) <= (second * weights).sum(1)


def _newton(stencil: Tensor, d: int) -> Tensor:
    """-(Hessian)^-1 gradient by differences, in stencil widths; NaN where the Hessian is not negative definite."""
    if d == 1:
        left, centre, right = stencil.unbind(1)
        curvature = left - 2 * centre + right
        return torch.where(curvature < 0, (left - right) / (2 * curvature), math.nan)[:, None]
    grid = stencil.unflatten(1, (3, 3))  # (P, x, y)
    centre = grid[:, 1, 1]
    g_x, g_y = (grid[:, 2, 1] - grid[:, 0, 1]) / 2, (grid[:, 1, 2] - grid[:, 1, 0]) / 2
    h_xx, h_yy = grid[:, 2, 1] - 2 * centre + grid[:, 0, 1], grid[:, 1, 2] - 2 * centre + grid[:, 1, 0]
    h_xy = (grid[:, 2, 2] - grid[:, 0, 2] - grid[:, 2, 0] + grid[:, 0, 0]) / 4
    determinant = h_xx * h_yy - h_xy * h_xy
    move = torch.stack([h_xy * g_y - h_yy * g_x, h_xy * g_x - h_xx * g_y], dim=-1) / determinant[:, None]
    return torch.where(((determinant > 0) & (h_xx < 0))[:, None], move, math.nan)
