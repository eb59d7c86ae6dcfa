r"""Frequencies omega_m of trigonometric polynomials on one torus, and the tables that are made of them once."""

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy
import torch
from torch import Tensor

_LARGE = 2**22
"""Numbers in a result from which on its memory is large."""

_KEPT = 2**17
"""Numbers in the tables of a grid up to which they are kept: larger ones cost little beside the values on the grid."""


class Frequencies:
    """M frequencies on a torus; polynomials with the same ones share their tables.

    Args:
        omega: ``(M, d)`` in radians per pixel, last axis (x, y).
        sides: the torus' periods along (x, y) in pixels, ``(d,)``.
    """

    def __init__(self, omega: Tensor, sides: Tensor) -> None:
        self.omega, self.sides = omega, sides
        self._grids: dict[tuple[int, ...], Grid] = {}
        self._stencils: dict[float, Tensor] = {}

    @cached_property
    def periods(self) -> tuple[float, ...]:
        """The sides as numbers."""
        return tuple(self.sides.tolist())

    @cached_property
    def lengths(self) -> Tensor:
        """|omega|, ``(M,)``."""
        with torch.inference_mode(False):  # like the other tables it outlives the search that asks first
            return self.omega.norm(dim=-1)

    @cached_property
    def squares(self) -> Tensor:
        """|omega|^2, ``(M,)``."""
        with torch.inference_mode(False):
            return self.omega.square().sum(-1)

    @cached_property
    def _turning(self) -> tuple[Tensor, Tensor]:
        """omega twice in turn, ``(d, 2 M)``, and 0 and -pi / 2 in turn: phases whose cosines are cos, sin in turn."""
        with torch.inference_mode(False):
            turn = self.omega.new_tensor([0.0, -math.pi / 2]).repeat(len(self.omega))
            return turn, self.omega.repeat_interleave(2, dim=0).T.contiguous()

    def waves(self, points: Tensor) -> Tensor:
        """exp(i omega_m . u) at points u ``(P, d)``: complex ``(P, M)``."""
        return torch.addmm(self._turning[0], points, self._turning[1]).cos_().view(torch.complex128)

    def table(self, offsets: Tensor) -> Tensor:
        """cos and -sin of omega_m . offset in turn for offsets ``(S, d)``: ``(S, 2 M)``."""
        phase = offsets @ self.omega.T
        return torch.stack([phase.cos(), -phase.sin()], dim=-1).flatten(1)

    def stencil(self, width: float) -> Tensor:
        """The table of the offsets ``width`` times {-1, 0, 1}^d, see ``stencil``."""
        if width not in self._stencils:
            with torch.inference_mode(False):
                self._stencils[width] = self.table(width * stencil(self.sides))
        return self._stencils[width]

    def grid(self, counts: tuple[int, ...]) -> "Grid":
        """Tables for the nodes u = (x_a, y_b) = (a W / counts[-1], b H / counts[0])."""
        if counts in self._grids:
            return self._grids[counts]
        with torch.inference_mode(False):
            made = Grid.make(self._axes, self.sides, counts)
        if made.along.numel() + made.across.numel() <= _KEPT:
            self._grids[counts] = made
        return made

    @cached_property
    def _axes(self) -> "Axes":
        with torch.inference_mode(False):
            return Axes.of(self.omega)


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
        spacing: of the nodes along (x, y) in pixels, ``(d,)``.
        place: see ``Axes``.
        along: cos, sin of j x_a as real matrices ``(2 K_x, 2 columns)``: complex rows times it are complex rows.
        across: cos, -sin of k y_b, ``(rows, 2 K_y)``; for d = 1 only (1, 0).
        rounded: the same in single precision.
    """

    counts: tuple[int, ...]
    spacing: Tensor
    place: Tensor
    along: Tensor
    across: Tensor
    rounded: tuple[Tensor, Tensor]

    @classmethod
    def make(cls, axes: Axes, sides: Tensor, counts: tuple[int, ...]) -> "Grid":
        """The grid of ``counts`` nodes for frequencies by axes."""
        phase = axes.x[:, None] * _nodes(sides[0], counts[-1])
        cosine, sine = phase.cos(), phase.sin()
        along = torch.stack([torch.cat([cosine, sine], dim=1), torch.cat([-sine, cosine], dim=1)], dim=1).flatten(0, 1)
        phase = _nodes(sides[-1], counts[0] if len(counts) == 2 else 1)[:, None] * axes.y
        across = torch.stack([phase.cos(), -phase.sin()], dim=-1).flatten(1)
        spacing = sides / sides.new_tensor(counts[::-1])
        return cls(counts, spacing, axes.place, along, across, (along.to(torch.float32), across.to(torch.float32)))

    @cached_property
    def _steps(self) -> list[Tensor]:
        """For each axis and node the nodes before, at and after it, ``(3, count)``."""
        with torch.inference_mode(False):
            near = torch.arange(-1, 2, device=self.place.device)[:, None]
            return [(torch.arange(count, device=near.device) + near) % count for count in self.counts]

    def neighbours(self, place: tuple[Tensor, ...]) -> Tensor:
        """The nodes of the stencil {-1, 0, 1}^d around P nodes.

        Args:
            place: of the nodes, (columns,) or (rows, columns), ``(P,)`` each.

        Returns:
            Positions among the nodes row by row, ``(3^d, P)``, x slowest.
        """
        near = [steps.index_select(1, at) for steps, at in zip(self._steps, place, strict=True)]  # (3, P)
        if len(near) == 1:
            return near[0]
        return torch.add(near[1][:, None], near[0], alpha=self.counts[1]).flatten(0, 1)

    def lines(self, coefficients: Tensor) -> Tensor:
        """Sums over j at all x_a, real and imaginary parts as rows: ``(..., M)`` to ``(..., 2 K_y, columns)``."""
        padded = torch.cat([coefficients, torch.zeros_like(coefficients[..., :1])], dim=-1)
        dense = torch.view_as_real(padded.index_select(-1, self.place))  # (..., K_y K_x, 2)
        along, across = self._in(dense.dtype)
        rows, columns = across.shape[1], along.shape[1] // 2
        dense = dense.view(*padded.shape[:-1], rows // 2, len(along))
        return (dense @ along).view(*padded.shape[:-1], rows, columns)

    def columns(self, lines: Tensor) -> Tensor:
        """Sums over k at all y_b: ``(n, 2 K_y, N)`` to ``(n, rows, N)``."""
        across = self._in(lines.dtype)[1]
        shape = (len(lines), len(across), lines.shape[2])
        if lines.device.type != "cpu" or lines.requires_grad or math.prod(shape) < _LARGE:
            return across @ lines
        # numpy asks for huge pages: the first touch of large memory costs more than the product
        out = torch.from_numpy(numpy.empty(shape, numpy.float64 if lines.dtype == torch.float64 else numpy.float32))
        return torch.bmm(across.expand(len(lines), -1, -1), lines, out=out)

    def _in(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """along, across in a type."""
        if dtype == torch.float32:
            return self.rounded
        return self.along.to(dtype), self.across.to(dtype)


def stencil(like: Tensor) -> Tensor:
    """{-1, 0, 1}^d, ``(3^d, d)``, x slowest, for a tensor ``(..., d)``."""
    return like.new_tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=like.shape[-1])))


def _nodes(side: Tensor, count: int) -> Tensor:
    return torch.arange(count, dtype=side.dtype, device=side.device) * (side / count)
