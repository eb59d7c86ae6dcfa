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

import math
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from stability.deformations.climbing import Peaks, climb, few, starts, stencil
from stability.deformations.lengths import SIMPLER, Length
from stability.deformations.trigonometric import TrigonometricBatch

NODES_PER_WAVELENGTH = 12
"""Nodes of the first grid per shortest wavelength 2 pi / R and axis."""

TOLERANCE = 1e-4
"""The certificate is refined until the share that a node may miss is below this."""

ROUND_OFF = 1e-11
"""Relative allowance for round-off in every value that enters an upper bound."""

START_NODES = 8
"""Nodes per shortest wavelength and axis of the grid on which the search for ``lower`` starts."""

_SHARE, _TAIL = 0.8, 0.05
"""Starts of the search: nodes above this share of the grid's maximum, vertices at most this share below the highest."""

_APART = 0.1
"""Distance from the maximum that was found, in units of 1 / R, from which on a cell may belong to another one."""

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
        """The largest value found, ``(n,)``: attained, so never above the supremum.

        A search from the maxima of a grid, and from every cell that the certificate could not exclude.
        """
        return self._ends[0]

    @property
    def argument(self) -> Tensor:
        """A point at which ``lower`` is attained, ``(n, d)`` in pixels."""
        return self._ends[1]

    @cached_property
    def quick(self) -> tuple[Tensor, Tensor]:
        """What the search from a grid's maxima finds, and where: about once in a thousand fields not the largest."""
        with torch.no_grad():
            return self._search()

    @cached_property
    def value(self) -> Tensor:
        """p at ``argument``, ``(n, C)``."""
        index = torch.arange(len(self._fields), device=self.argument.device)
        at = self._fields.around(index, self.argument, torch.zeros_like(self.argument[:1]))
        return torch.cat(at, dim=-1)

    @cached_property
    def glance(self) -> Tensor:
        """An upper value from a coarse grid in single precision, ``(n,)``, up to a sixth too large.

        For lengths of numbers that single precision can hold; its round-off is allowed for.
        """
        nodes = counts(self._fields, START_NODES)
        fields, length = self._simpler(self._fields)
        seen = [length(components).flatten(1).amax(1) for _, components in fields.chunks(nodes, torch.complex64)]
        spacing = fields.sides / fields.sides.new_tensor(nodes[::-1])
        return self._to(torch.cat(seen) + 1e-5 * self._fields.amplitudes, spacing)

    @property
    def upper(self) -> Tensor:
        """An upper value by the cosine certificate, ``(n,)``: never below the supremum, about ``TOLERANCE`` above."""
        return self._ends[2]

    @cached_property
    def _ends(self) -> tuple[Tensor, Tensor, Tensor]:
        with torch.no_grad():
            return self._enclosed()

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

    def _simpler(self, fields: TrigonometricBatch) -> tuple[TrigonometricBatch, Length]:
        """The same values from fewer operations, where there are such."""
        if fields.coefficients.shape[-1] != 4 or self._length not in SIMPLER:
            return fields, self._length
        matrix, length = SIMPLER[self._length]
        return fields.having(fields.coefficients @ matrix.to(fields.coefficients)), length

    def _grid(self, counts: tuple[int, ...], spacing: Tensor) -> tuple[_Cells, Tensor]:
        """The cells that can hold a maximiser, and the grids' maxima."""
        found, largest = [], []
        for start, components in self._fields.chunks(counts):
            values = self._length(components)  # (chunk, *counts)
            maximum = values.flatten(1).amax(1)
            largest.append(maximum)
            part = slice(start, start + len(maximum))
            threshold = self._from(maximum, spacing, part).view(-1, *([1] * len(counts)))
            position = (values > threshold).nonzero()  # (P, 1 + d)
            points = position[:, 1:].flip(-1).to(spacing.dtype) * spacing
            found.append(_Cells(position[:, 0] + start, points, values[tuple(position.T)]))
        return _Cells(*(torch.cat(parts) for parts in zip(*found, strict=True))), torch.cat(largest)

    def _search(self) -> tuple[Tensor, Tensor]:
        """The largest of the local maxima above the grid's, and where."""
        if not self._fields.bandwidth:
            values = self._length([part.real for part in self._fields.coefficients.sum(1).unbind(1)])
            return values, self._fields.sides.new_zeros((len(values), len(self._fields.sides)))
        fields, length = self._unit
        return self._climbed(starts(fields, length, counts(fields, START_NODES), _SHARE, _TAIL))

    @cached_property
    def _unit(self) -> tuple[TrigonometricBatch, Length]:
        """The polynomials with amplitudes of sum 1."""
        unit = self._fields.amplitudes.clamp_min(1e-300)
        return self._simpler(self._fields.having(self._fields.coefficients / unit[:, None, None]))

    def _climbed(self, start: Peaks) -> tuple[Tensor, Tensor]:
        """The highest maxima above the given points, ``(n,)``, and where; 0 at the origin where there are none."""
        n, (fields, length) = len(self._fields), self._unit
        peaks = climb(fields, length, start, 1 / self._fields.bandwidth)
        best = peaks.best(n)
        winners = (peaks.values >= best[peaks.owner]).nonzero()[:, 0]
        points = best.new_zeros((n, len(fields.sides)))  # the zero field: the origin
        points[peaks.owner[winners]] = peaks.points[winners]
        return best * self._fields.amplitudes.clamp_min(1e-300), points

    def _elsewhere(self, cells: list[_Cells], lower: Tensor, argument: Tensor) -> tuple[Tensor, Tensor]:
        """The search again from the cells that could hold the maximiser and do not touch the one that was found."""
        owner = torch.cat([one.owner for one in cells])
        points, values = torch.cat([one.points for one in cells]), torch.cat([one.values for one in cells])
        sides = self._fields.sides
        apart = torch.remainder(points - argument[owner] + sides / 2, sides) - sides / 2
        far = (apart.norm(dim=1) * self._fields.bandwidth > _APART) & (values > 0)
        if not bool(far.any()):
            return lower, argument
        value, place = self._climbed(few(Peaks(owner[far], points[far], values[far]), len(lower)))
        better = value > lower
        return torch.where(better, value, lower), torch.where(better[:, None], place, argument)

    def _enclosed(self) -> tuple[Tensor, Tensor, Tensor]:
        """Seen value, its place, certified value."""
        fields, nodes = self._fields, counts(self._fields, NODES_PER_WAVELENGTH)
        spacing = fields.sides / fields.sides.new_tensor(nodes[::-1])
        d = len(nodes)
        cells, largest = self._grid(nodes, spacing)
        seen_at, argument = self.quick
        lower = torch.maximum(seen_at, largest)
        left = []  # cells that could hold the maximiser when their field was done
        thirds = stencil(spacing)
        upper = self._to(largest, spacing)
        while True:
            load = torch.bincount(cells.owner, minlength=len(fields)) * 3**d
            wanted = (self._to(lower, spacing) > lower * (1 + TOLERANCE)) & (load <= _BUDGET)
            able = _Cells(*(part[cells.values >= self._from(lower, spacing)[cells.owner]] for part in cells))
            left.append(_Cells(*(part[~wanted[able.owner]] for part in able)))
            cells = _Cells(*(part[wanted[able.owner]] for part in able))
            if not len(cells.owner):
                break
            spacing = spacing / 3
            values = self._length(fields.around(cells.owner, cells.points, thirds * spacing))  # (P, 3^d)
            points = cells.points[:, None] + thirds * spacing  # (P, 3^d, d)
            cells = _Cells(cells.owner.repeat_interleave(3**d), points.flatten(0, 1), values.flatten())
            seen = torch.full_like(upper, -1.0).scatter_reduce(0, cells.owner, cells.values, "amax")
            upper = torch.where(seen >= 0, torch.minimum(upper, self._to(seen, spacing)), upper)
            lower = torch.maximum(lower, seen)
        seen_at, argument = self._elsewhere(left, seen_at, argument)
        return seen_at, argument, torch.maximum(upper, torch.maximum(lower, seen_at)) * (1 + ROUND_OFF)


def counts(fields: TrigonometricBatch, nodes: int) -> tuple[int, ...]:
    """Nodes per axis in the order of ``size`` for a number per shortest wavelength of the batch."""
    waves = [fields.bandwidth / (2 * math.pi) * side for side in reversed(fields.sides.tolist())]
    return tuple(max(1, math.ceil(nodes * wave - 1e-9)) for wave in waves)
