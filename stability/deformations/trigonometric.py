r"""Batches of vector-valued trigonometric polynomials p_i(u) = Re sum_m Z_im exp(i omega_m . u) on one torus."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from stability.deformations.frequencies import Frequencies

_CHUNK = 2**18
"""Numbers in the largest intermediate tensor: it stays in the cache, and the memory does not depend on the batch."""

_GRID_CHUNK = 2**20
"""Numbers of a grid's values at a time: where they are few, calls cost more than memory."""


@dataclass(frozen=True, eq=False)
class TrigonometricBatch:
    """n polynomials with values in R^C and common frequencies.

    Args:
        frequencies: omega and the torus.
        coefficients: complex Z, ``(n, M, C)``.
    """

    frequencies: Frequencies
    coefficients: Tensor

    def __len__(self) -> int:
        return int(self.coefficients.shape[0])

    @property
    def omega(self) -> Tensor:
        """Frequencies ``(M, d)`` in radians per pixel, last axis (x, y)."""
        return self.frequencies.omega

    @property
    def sides(self) -> Tensor:
        """The torus' periods along (x, y) in pixels, ``(d,)``."""
        return self.frequencies.sides

    @cached_property
    def bandwidths(self) -> Tensor:
        """R_i = max |omega| over the frequencies of p_i, ``(n,)`` in radians per pixel.

        Along every line each scalar <p_i, e> is of exponential type R_i. Amplitudes below round-off do not count.
        """
        if not len(self.omega):
            return self.sides.new_zeros(len(self))
        return (self._audible * self.frequencies.lengths).amax(1)

    @cached_property
    def bandwidth(self) -> float:
        """The largest R_i, 0 without polynomials."""
        return float(self.bandwidths.max()) if len(self) else 0.0

    @cached_property
    def curvatures(self) -> Tensor:
        """Q_i = sum_m |omega_m|^2 sum_c |Z_imc|, ``(n,)``: |<p_i, e>''| <= Q_i along lines for |e_c| <= 1."""
        return self._modulus @ self.frequencies.squares

    @cached_property
    def amplitudes(self) -> Tensor:
        """sum_m sum_c |Z_imc|, ``(n,)``: |p_i(u)| is at most this."""
        return self._modulus.sum(1)

    def pruned(self) -> "TrigonometricBatch":
        """Without the frequencies whose amplitudes are below round-off in all n polynomials."""
        keep = self._audible.any(0)
        if bool(keep.all()):
            return self
        return TrigonometricBatch(Frequencies(self.omega[keep], self.sides), self.coefficients[:, keep])

    @cached_property
    def _modulus(self) -> Tensor:
        """sum_c |Z_imc|, ``(n, M)``."""
        return self.coefficients.abs().sum(-1)

    @cached_property
    def _audible(self) -> Tensor:
        """Which amplitudes are above 1e-18 of the polynomial's largest, ``(n, M)``."""
        return self._modulus > 1e-18 * self.amplitudes[:, None]

    def on_grid(self, counts: tuple[int, ...]) -> Tensor:
        """Values at u = (x_a, y_b) = (a W / counts[-1], b H / counts[0]), differentiable in the coefficients.

        Args:
            counts: nodes per axis in the order of ``size``: (rows, columns) or (n,).

        Returns:
            Tensor ``(n, *counts, C)`` in the coefficients' precision.
        """
        grid = self.frequencies.grid(counts)
        lines = grid.lines(self.coefficients.transpose(1, 2))  # (n, C, 2 K_y, columns)
        lines = lines.permute(0, 2, 3, 1).flatten(2)  # (n, 2 K_y, columns C): components side by side in the result
        values = grid.columns(lines)  # (n, rows, columns C)
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
        grid = self.frequencies.grid(counts)
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
        return [part.T for part in self.near(index, points, self.frequencies.table(offsets))]

    def near(self, index: Tensor, points: Tensor, table: Tensor) -> list[Tensor]:
        """``around`` with ``Frequencies.table`` of the offsets, made before; the C components ``(S, P)``."""
        components = self._by_component
        count, _, waves = components.shape
        step = max(1, _CHUNK // (count * waves + 1))
        if len(index) <= step:
            turned = components.index_select(1, index) * self.frequencies.waves(points)  # (C, P, M)
            values = table @ torch.view_as_real(turned).view(count * len(index), 2 * waves).T  # (S, C P)
            return list(values.view(len(table), count, len(index)).unbind(1))
        parts = [self.near(*chunk, table) for chunk in zip(index.split(step), points.split(step), strict=True)]
        return [torch.cat(part, dim=1) for part in zip(*parts, strict=True)]

    @cached_property
    def _by_component(self) -> Tensor:
        return self.coefficients.permute(2, 0, 1).contiguous()  # (C, n, M)

    def having(self, coefficients: Tensor) -> "TrigonometricBatch":
        """Other polynomials ``(n', M, C')`` with the same frequencies."""
        return TrigonometricBatch(self.frequencies, coefficients)
