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
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from stability.deformations.climbing import climb, starts
from stability.deformations.frequencies import stencil
from stability.deformations.lengths import SIMPLER, Length
from stability.deformations.trigonometric import TrigonometricBatch

NODES_PER_WAVELENGTH = 12
"""Nodes of the first grid per shortest wavelength 2 pi / R and axis.

With 12 the search missed none of 100,000 suprema of |tau| and ||grad tau||_2 of tilted fields, with 10 one.
"""

TAIL = 0.5
"""The search starts from vertices down to this far below the highest, as a share of what nodes may fall short."""

TOLERANCE = 1e-4
"""The certificate is refined until the share that a node may miss is below this."""

ROUND_OFF = 1e-11
"""Relative allowance for round-off in every value that enters an upper bound."""

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
        argument: where the suprema are attained, ``(n, d)`` in pixels, if a search has found out before.
        nodes: of the grid on which the search starts, per shortest wavelength and axis.
    """

    def __init__(
        self,
        fields: TrigonometricBatch,
        length: Length,
        *,
        argument: Tensor | None = None,
        nodes: int = NODES_PER_WAVELENGTH,
    ) -> None:
        self._given, self._nodes = fields, nodes
        self._length = length
        self._argument = argument

    @cached_property
    def _fields(self) -> TrigonometricBatch:
        return self._given.pruned()

    @property
    def lower(self) -> Tensor:
        """The largest value that a search from the maxima of a grid finds, ``(n,)``: attained, so never too large."""
        return self._found[0]

    @property
    def argument(self) -> Tensor:
        """A point at which ``lower`` is attained, ``(n, d)`` in pixels."""
        return self._found[1]

    @cached_property
    def upper(self) -> Tensor:
        """An upper value by the cosine certificate, ``(n,)``: never below the supremum, about ``TOLERANCE`` above."""
        with torch.no_grad():
            return self._certified()

    @cached_property
    def _found(self) -> tuple[Tensor, Tensor]:
        """The largest value of each polynomial and where it is attained."""
        with torch.inference_mode():
            value, argument = self._searched()
        return value.clone(), argument.clone()  # outside: tensors like all others

    def _searched(self) -> tuple[Tensor, Tensor]:
        """The largest of the local maxima that a grid shows, ``(n,)``, and where, ``(n, d)``; of 0 at the origin."""
        if self._argument is not None:
            return self._length(self._at(self._argument)), self._argument
        given = self._fields
        if not given.bandwidth:
            origin = given.sides.new_zeros((len(given), len(given.sides)))
            return self._length([part.real for part in given.coefficients.sum(1).unbind(1)]), origin
        amplitudes = given.amplitudes.clamp_min(1e-300)
        fields, length = self._simpler(given.having(given.coefficients * (1 / amplitudes)[:, None, None]))
        nodes = counts(given, self._nodes)
        cosine, loss = losses(given, spacings(given, nodes))
        start = starts(fields, length, nodes, (cosine, loss / amplitudes), TAIL, hidden=True)
        value, argument = climb(fields, length, start, 1 / given.bandwidth)
        return value * amplitudes, argument

    def _at(self, points: Tensor) -> list[Tensor]:
        """The components of p_i at ``points[i]``, ``(n,)`` each."""
        index = torch.arange(len(points), device=points.device)
        return [part[:, 0] for part in self._given.around(index, points, torch.zeros_like(points[:1]))]

    def _from(self, supremum: Tensor, spacing: Sequence[float], part: slice = slice(None)) -> Tensor:
        """What the node of the maximiser's cell attains at least, ``(n,)``: max(cos(R rho) sup, sup - Q rho^2 / 2)."""
        cosine, loss = losses(self._fields, spacing)
        return torch.maximum(supremum * cosine[part], supremum - loss[part]) * (1 - ROUND_OFF)

    def _to(self, largest: Tensor, spacing: Sequence[float]) -> Tensor:
        """The supremum's upper value, ``(n,)``, from the largest node: min(max / cos(R rho), max + Q rho^2 / 2)."""
        cosine, loss = losses(self._fields, spacing)
        return torch.minimum(largest / cosine, largest + loss)

    def _simpler(self, fields: TrigonometricBatch) -> tuple[TrigonometricBatch, Length]:
        """The same values from fewer operations, where there are such."""
        if fields.coefficients.shape[-1] != 4 or self._length not in SIMPLER:
            return fields, self._length
        matrix, length = SIMPLER[self._length]
        return fields.having(fields.coefficients @ matrix.to(fields.coefficients)), length

    def _grid(self, counts: tuple[int, ...], spacing: Sequence[float]) -> tuple[_Cells, Tensor]:
        """The cells that can hold a maximiser, and the grids' maxima."""
        found, largest = [], []
        for start, components in self._fields.chunks(counts):
            values = self._length(components)  # (chunk, *counts)
            maximum = values.flatten(1).amax(1)
            largest.append(maximum)
            part = slice(start, start + len(maximum))
            threshold = self._from(maximum, spacing, part).view(-1, *([1] * len(counts)))
            position = (values > threshold).nonzero()  # (P, 1 + d)
            points = position[:, 1:].flip(-1) * self._fields.sides.new_tensor(spacing)
            found.append(_Cells(position[:, 0] + start, points, values[tuple(position.T)]))
        return _Cells(*(torch.cat(parts) for parts in zip(*found, strict=True))), torch.cat(largest)

    def _certified(self) -> Tensor:
        """The certified value: cells that can hold the maximiser are cut until their nodes miss little."""
        fields, nodes = self._fields, counts(self._fields, NODES_PER_WAVELENGTH)
        spacing, d = spacings(fields, nodes), len(nodes)
        cells, largest = self._grid(nodes, spacing)
        lower, upper = torch.maximum(self.lower, largest), self._to(largest, spacing)
        thirds = stencil(fields.sides)
        while True:
            load = torch.bincount(cells.owner, minlength=len(fields)) * 3**d
            wanted = (self._to(lower, spacing) > lower * (1 + TOLERANCE)) & (load <= _BUDGET)
            able = wanted[cells.owner] & (cells.values >= self._from(lower, spacing)[cells.owner])
            cells = _Cells(*(part[able] for part in cells))
            if not len(cells.owner):
                return torch.maximum(upper, lower) * (1 + ROUND_OFF)
            spacing = [side / 3 for side in spacing]
            offsets = thirds * fields.sides.new_tensor(spacing)
            values = self._length(fields.around(cells.owner, cells.points, offsets))  # (P, 3^d)
            points = cells.points[:, None] + offsets  # (P, 3^d, d)
            cells = _Cells(cells.owner.repeat_interleave(3**d), points.flatten(0, 1), values.flatten())
            seen = torch.full_like(upper, -1.0).scatter_reduce(0, cells.owner, cells.values, "amax")
            upper = torch.where(seen >= 0, torch.minimum(upper, self._to(seen, spacing)), upper)
            lower = torch.maximum(lower, seen)


def losses(fields: TrigonometricBatch, spacing: Sequence[float]) -> tuple[Tensor, Tensor]:
    """cos(R_i rho) and Q_i rho^2 / 2 for cells of the given sides along (x, y), ``(n,)`` each."""
    rho = math.hypot(*spacing) / 2
    return (fields.bandwidths * rho).cos_(), fields.curvatures * (rho**2 / 2)


def spacings(fields: TrigonometricBatch, counts: tuple[int, ...]) -> list[float]:
    """Of a grid's nodes along (x, y) in pixels."""
    return [side / count for side, count in zip(fields.frequencies.periods, reversed(counts), strict=True)]


def counts(fields: TrigonometricBatch, nodes: int) -> tuple[int, ...]:
    """Nodes per axis in the order of ``size`` for a number per shortest wavelength of the batch."""
    waves = [fields.bandwidth / (2 * math.pi) * side for side in reversed(fields.frequencies.periods)]
    return tuple(max(1, math.ceil(nodes * wave - 1e-9)) for wave in waves)
