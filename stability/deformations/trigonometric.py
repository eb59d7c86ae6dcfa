r"""Batches of vector-valued trigonometric polynomials p_i(u) = Re sum_m Z_im exp(i omega_m . u) on one torus."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

_CHUNK = 2**20
"""Numbers in the largest intermediate tensor: the memory does not depend on the batch."""


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
    def curvatures(self) -> Tensor:
        """Q_i = sum_m |omega_m|^2 sum_c |Z_imc|, ``(n,)``: |<p_i, e>''| <= Q_i along lines for |e_c| <= 1."""
        return (self.coefficients.abs().sum(-1) * self.omega.square().sum(-1)).sum(1)

    def pruned(self) -> "TrigonometricBatch":
        """Without the frequencies whose amplitudes are below round-off in all n polynomials."""
        keep = self._audible.any(0)
        return TrigonometricBatch(self.omega[keep], self.coefficients[:, keep], self.sides)

    @cached_property
    def _audible(self) -> Tensor:
        """Which amplitudes are above 1e-18 of the polynomial's largest, ``(n, M)``."""
        amplitude = self.coefficients.abs().sum(-1)
        return amplitude > 1e-18 * amplitude.sum(1, keepdim=True)

    def chunks(self, counts: tuple[int, ...]) -> Iterator[tuple[int, list[Tensor]]]:
        """Values on the grid u = (x_a, y_b) = (a W / counts[-1], b H / counts[0]), a few polynomials at a time.

        Args:
            counts: nodes per axis in the order of ``size``: (rows, columns) or (n,).

        Yields:
            The first polynomial's index and the C components, each ``(chunk, *counts)``.
        """
        wave, column = torch.unique(self.omega[:, 0], return_inverse=True)
        table_x = torch.polar(*_unit(wave[:, None] * self._axis(0, counts[-1])))  # (K_x, columns)
        n, _, components = self.coefficients.shape
        nodes = int(torch.tensor(counts).prod())
        step = max(1, _CHUNK // (nodes * components))
        if len(counts) == 2:
            wave_y, row = torch.unique(self.omega[:, 1], return_inverse=True)
            phase = self._axis(1, counts[0])[:, None] * wave_y
            table_y = torch.cat([phase.cos(), -phase.sin()], dim=-1)  # (rows, 2 K_y)
        for start in range(0, n, step):
            part = self.coefficients[start : start + step].transpose(1, 2)  # (chunk, C, M)
            if len(counts) == 1:
                dense = part.new_zeros((*part.shape[:2], len(wave))).index_add_(-1, column, part)
                values = (dense @ table_x).real  # (chunk, C, columns)
            else:
                dense = part.new_zeros((*part.shape[:2], len(wave_y) * len(wave)))
                dense = dense.index_add_(-1, row * len(wave) + column, part).unflatten(-1, (len(wave_y), len(wave)))
                lines = dense @ table_x  # (chunk, C, K_y, columns)
                values = table_y @ torch.cat([lines.real, lines.imag], dim=-2)  # (chunk, C, rows, columns)
            yield start, list(values.unbind(1))

    def around(self, index: Tensor, points: Tensor, offsets: Tensor) -> list[Tensor]:
        """Values of polynomial ``index[a]`` at ``points[a] + offsets[b]``: one table for all offsets.

        Args:
            index: ``(P,)`` integers in [0, n).
            points: ``(P, d)`` in pixels.
            offsets: ``(S, d)`` in pixels.

        Returns:
            The C components, each ``(P, S)``.
        """
        phase = offsets @ self.omega.T
        table = torch.cat([phase.cos(), -phase.sin()], dim=-1).T  # (2 M, S)
        step = max(1, _CHUNK // (self.coefficients[0].numel() + 1))
        parts = []
        for chunk, at in zip(index.split(step), points.split(step), strict=True):
            turned = torch.polar(*_unit(at @ self.omega.T))[:, None] * self._by_component[chunk]  # (p, C, M)
            parts.append(torch.cat([turned.real, turned.imag], dim=-1) @ table)  # (p, C, S)
        if not parts:
            return [points.new_zeros((0, len(offsets)))] * self.coefficients.shape[-1]
        return list(torch.cat(parts).unbind(1))

    @cached_property
    def _by_component(self) -> Tensor:
        return self.coefficients.transpose(1, 2).contiguous()  # (n, C, M)

    def _axis(self, axis: int, count: int) -> Tensor:
        return torch.arange(count, dtype=self.sides.dtype, device=self.sides.device) * (self.sides[axis] / count)


def _unit(phase: Tensor) -> tuple[Tensor, Tensor]:
    return torch.ones_like(phase), phase
