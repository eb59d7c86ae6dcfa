r"""Batches of vector-valued trigonometric polynomials p_i(u) = Re sum_m Z_im exp(i omega_m . u) on one torus."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy
import torch
from torch import Tensor

_CHUNK = 2**18
"""Numbers in the largest intermediate tensor: it stays in the cache, and the memory does not depend on the batch."""

_GRID_CHUNK = 2**20
"""Numbers of a grid's values at a time: where they are few, calls cost more than memory."""

_LARGE = 2**22
"""Numbers in a result from which on its memory is large."""


@dataclass(frozen=True, eq=False)
class TrigonometricBatch:
    """n polynomials with values in R^C and common frequencies.

    Args:
        omega: frequencies ``(M, d)`` in radians per pixel, last axis (x, y).
        coefficients: complex Z, ``(n, M, C)``.
        sides: the torus' periods along (x, y) in pixels, ``(d,)``.
    """

    omega: Tensor
    coefficients: Tensor
    sides: Tensor
    _tables: "Tables" = field(default_factory=lambda: Tables(), repr=False)

    def __len__(self) -> int:
        return int(self.coefficients.shape[0])

    @cached_property
    def bandwidths(self) -> Tensor:
        """R_i = max |omega| over the frequencies of p_i, ``(n,)`` in radians per pixel.

        Along every line each scalar <p_i, e> is of exponential type R_i. Amplitudes below round-off do not count.
        """
        if not len(self.omega):
            return self.sides.new_zeros(len(self))
        return torch.where(self._audible, self.omega.norm(dim=-1), 0.0).amax(1)

    @cached_property
    def bandwidth(self) -> float:
        """The largest R_i, 0 without polynomials."""
        return float(self.bandwidths.max()) if len(self) else 0.0

    @cached_property
    def curvatures(self) -> Tensor:
        """Q_i = sum_m |omega_m|^2 sum_c |Z_imc|, ``(n,)``: |<p_i, e>''| <= Q_i along lines for |e_c| <= 1."""
        return (self._modulus * self.omega.square().sum(-1)).sum(1)

    @cached_property
    def amplitudes(self) -> Tensor:
        """sum_m sum_c |Z_imc|, ``(n,)``: |p_i(u)| is at most this."""
        return self._modulus.sum(1)

    def pruned(self) -> "TrigonometricBatch":
        """Without the frequencies whose amplitudes are below round-off in all n polynomials."""
        keep = self._audible.any(0)
        if bool(keep.all()):
            return self
        return TrigonometricBatch(self.omega[keep], self.coefficients[:, keep], self.sides)

    @cached_property
    def _modulus(self) -> Tensor:
        """sum_c |Z_imc|, ``(n, M)``."""
        return self.coefficients.abs().sum(-1)

    @cached_property
    def _audible(self) -> Tensor:
        """Which amplitudes are above 1e-18 of the polynomial's largest, ``(n, M)``."""
        return self._modulus > 1e-18 * self._modulus.sum(1, keepdim=True)

    def on_grid(self, counts: tuple[int, ...]) -> Tensor:
        """Values at u = (x_a, y_b) = (a W / counts[-1], b H / counts[0]), differentiable in the coefficients.

        Args:
            counts: nodes per axis in the order of ``size``: (rows, columns) or (n,).

        Returns:
            Tensor ``(n, *counts, C)`` in the coefficients' precision.
        """
        lines = self.grid(counts).lines(self.coefficients.transpose(1, 2))  # (n, C, 2 K_y, columns)
        lines = lines.permute(0, 2, 3, 1).flatten(2)  # (n, 2 K_y, columns C): components side by side in the result
        values = self.grid(counts).columns(lines)  # (n, rows, columns C)
        return values.reshape(len(self), *counts, -1)

    def chunks(self, counts: tuple[int, ...], dtype: torch.dtype | None = None) -> Iterator[tuple[int, list[Tensor]]]:
        """Values on the grid of ``on_grid``, a few polynomials at a time.

        Args:
            counts: nodes per axis in the order of ``size``: (rows, columns) or (n,).
            dtype: complex type to compute in; the coefficients' own by default.

        Yields:
            The first polynomial's index and the C components, each ``(chunk, *counts)``.
        """
        coefficients = self.coefficients.permute(2, 0, 1).to(dtype or self.coefficients.dtype)  # (C, n, M)
        components, n, _ = coefficients.shape
        step = max(1, _GRID_CHUNK // (math.prod(counts) * components))
        grid = self.grid(counts)
        for start in range(0, n, step):
            lines = grid.lines(coefficients[:, start : start + step])  # (C, chunk, 2 K_y, columns)
            values = grid.columns(lines.flatten(0, 1)).reshape(components, -1, *counts)
            yield start, list(values.unbind(0))

    def around(self, index: Tensor, points: Tensor, offsets: Tensor) -> list[Tensor]:
        """Values of polynomial ``index[a]`` at ``points[a] + offsets[b]``: one table for all offsets.

        Args:
            index: ``(P,)`` integers in [0, n).
            points: ``(P, d)`` in pixels.
            offsets: ``(S, d)`` in pixels.

        Returns:
            The C components, each ``(P, S)``.
        """
        return self.near(index, points, self.table(offsets))

    def table(self, offsets: Tensor) -> Tensor:
        """What ``near`` needs of the offsets ``(S, d)``: cos and -sin of omega . offset, ``(2 M, S)``."""
        phase = self.omega @ offsets.T
        return torch.stack([phase.cos(), -phase.sin()], dim=1).flatten(0, 1)

    def near(self, index: Tensor, points: Tensor, table: Tensor) -> list[Tensor]:
        """``around`` with a table that was made before."""
        components = self._by_component
        step = max(1, _CHUNK // (components[:1].numel() + 1))
        if len(index) <= step:
            turned = _unit(points @ self.omega.T)[:, None] * components.index_select(0, index)  # (P, C, M)
            return list((torch.view_as_real(turned).flatten(2) @ table).unbind(1))
        parts = [self.near(*chunk, table) for chunk in zip(index.split(step), points.split(step), strict=True)]
        return [torch.cat(part) for part in zip(*parts, strict=True)]

    @cached_property
    def _by_component(self) -> Tensor:
        return self.coefficients.transpose(1, 2).contiguous()  # (n, C, M)

    def having(self, coefficients: Tensor) -> "TrigonometricBatch":
        """Other polynomials ``(n', M, C')`` with the same frequencies; tables of their powers are shared."""
        return replace(self, coefficients=coefficients)

    def grid(self, counts: tuple[int, ...]) -> "Grid":
        """Tables for the grid of ``on_grid``."""
        return self._tables.grid(self.omega, self.sides, counts)


class Tables:
    """What polynomials with the same frequencies share: each table is made once."""

    def __init__(self) -> None:
        self._made_for: tuple[Tensor, Tensor] | None = None
        self._grids: dict[tuple[int, ...], Grid] = {}

    def grid(self, omega: Tensor, sides: Tensor, counts: tuple[int, ...]) -> "Grid":
        """That of ``counts`` nodes; other frequencies or sides than before begin anew."""
        with torch.inference_mode(False):  # they outlive the search that asks first
            if not self._fit(omega, sides):
                self._made_for, self._grids, self._axes = (omega, sides), {}, Axes.of(omega)
            if counts not in self._grids:
                self._grids[counts] = Grid.make(self._axes, sides, counts)
            return self._grids[counts]

    def _fit(self, omega: Tensor, sides: Tensor) -> bool:
        pairs = zip(self._made_for or (), (omega, sides), strict=False)
        same = [old is new or (old.device == new.device and torch.equal(old, new)) for old, new in pairs]
        return bool(same) and all(same)

    def __reduce__(self) -> tuple[type["Tables"], tuple[()]]:
        return Tables, ()  # pickled without its tables


class Axes(NamedTuple):
    """Frequencies omega_m = (x_j, y_k) by axes.

    Args:
        x: the different x_j, ``(K_x,)``.
        y: the different y_k, ``(K_y,)``; for d = 1 only 0.
        place: where in a row of the M coefficients, and a zero after them, the frequency (j, k) is, ``(K_y K_x,)``.
    """

    x: Tensor
    y: Tensor
    place: Tensor

    @classmethod
    def of(cls, omega: Tensor) -> "Axes":
        """The axes of ``(M, d)`` frequencies."""
        x, column = torch.unique(omega[:, 0], return_inverse=True)
        y, row = torch.unique(omega[:, 1:].sum(1), return_inverse=True)
        place = torch.full((len(y) * len(x),), len(omega), device=omega.device)
        place[row * len(x) + column] = torch.arange(len(omega), device=omega.device)
        return cls(x, y, place)


@dataclass(frozen=True, eq=False)
class Grid:
    """Sums along one axis after the other: p(x, y) = Re sum_k exp(i k y) sum_j Z_jk exp(i j x).

    Args:
        counts: nodes per axis in the order of ``size``.
        place: see ``Axes``.
        along: cos, sin of j x_a as real matrices ``(2 K_x, 2 columns)``: complex rows times it are complex rows.
        across: cos, -sin of k y_b, ``(rows, 2 K_y)``; for d = 1 only (1, 0).
    """

    counts: tuple[int, ...]
    place: Tensor
    along: Tensor
    across: Tensor

    @classmethod
    def make(cls, axes: Axes, sides: Tensor, counts: tuple[int, ...]) -> "Grid":
        """The grid of ``counts`` nodes for frequencies by axes."""
        phase = axes.x[:, None] * _nodes(sides[0], counts[-1])
        cosine, sine = phase.cos(), phase.sin()
        along = torch.stack([torch.cat([cosine, sine], dim=1), torch.cat([-sine, cosine], dim=1)], dim=1).flatten(0, 1)
        phase = _nodes(sides[-1], counts[0] if len(counts) == 2 else 1)[:, None] * axes.y
        across = torch.stack([phase.cos(), -phase.sin()], dim=-1).flatten(1)
        return cls(counts, axes.place, along, across)

    @cached_property
    def neighbours(self) -> Tensor:
        """For each node, row by row, the nodes of the stencil {-1, 0, 1}^d around it, x slowest, ``(nodes, 3^d)``."""
        near = torch.arange(-1, 2, device=self.place.device)
        axes = [
            (torch.arange(count, device=near.device)[:, None] + near) % count for count in self.counts
        ]  # (count, 3)
        if len(axes) == 1:
            return axes[0]
        rows, columns = axes
        return (rows[:, None, None, :] * self.counts[1] + columns[:, :, None]).flatten(2).flatten(0, 1)

    def lines(self, coefficients: Tensor) -> Tensor:
        """Sums over j at all x_a, real and imaginary parts as rows: ``(..., M)`` to ``(..., 2 K_y, columns)``."""
        padded = torch.cat([coefficients, torch.zeros_like(coefficients[..., :1])], dim=-1)
        rows, columns = self.across.shape[1], self.along.shape[1] // 2
        dense = torch.view_as_real(padded[..., self.place]).reshape(*padded.shape[:-1], rows // 2, len(self.along))
        return (dense @ self.along.to(dense.dtype)).reshape(*padded.shape[:-1], rows, columns)

    def columns(self, lines: Tensor) -> Tensor:
        """Sums over k at all y_b: ``(n, 2 K_y, N)`` to ``(n, rows, N)``."""
        across = self.across.to(lines.dtype)
        shape = (len(lines), len(self.across), lines.shape[2])
        if lines.device.type != "cpu" or lines.requires_grad or math.prod(shape) < _LARGE:
            return across @ lines
        # numpy asks for huge pages: the first touch of large memory costs more than the product
        out = torch.from_numpy(numpy.empty(shape, numpy.float64 if lines.dtype == torch.float64 else numpy.float32))
        return torch.bmm(across.expand(len(lines), -1, -1), lines, out=out)


def _nodes(side: Tensor, count: int) -> Tensor:
    return torch.arange(count, dtype=side.dtype, device=side.device) * (side / count)


def _unit(phase: Tensor) -> Tensor:
    return torch.complex(phase.cos(), phase.sin())
