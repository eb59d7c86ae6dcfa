r"""``Compression``: the matrices of L, L^T L and L L^T between frequencies of two balls, with their errors.

    G_mk = <e_m, L e_k>,   (L^T L)_kk' = mean of exp(i (omega_k' - omega_k) . phi),   (L L^T)_mm' = coefficient of 1 / D

at frequency omega_m - omega_m', D = det(I - grad tau): L^T L and L L^T multiply by functions, so that what lies beyond
a ball is known exactly and none of it has to be computed.
"""

import math
from functools import cached_property

import torch
from torch import Tensor

from stability.deformations.base import Deformation
from stability.operator_norms import sampling
from stability.operator_norms.ball import Ball, at

CHUNK = 2**21
"""Complex numbers held at a time."""
TOLERANCE = 1e-16
"""Aliasing allowed in a coefficient of a trigonometric field."""


class Compression:
    """Matrices of a single field, computed when they are read.

    Args:
        field: batch shape ``()``, jacobian norm below 1.
        inner: frequencies of the functions that are deformed.
        outer: frequencies in which the result is expanded.
        finer: factor of the number of nodes per pixel where no error is proved.
    """

    def __init__(self, field: Deformation, inner: Ball, outer: Ball, finer: float = 1.0) -> None:
        self.field, self.inner, self.outer = field, inner, outer
        self._margin = sampling.MARGIN * finer
        self.strip = sampling.strip(field)
        b = float(field.norms().jacobian.upper)
        self.warp_norm = (1 - b) ** (-field.d / 2)
        self._stretch = 1 + b

    @property
    def proved(self) -> bool:
        """Whether the errors are proved; otherwise they are 0 here, and finer sampling has to show them."""
        return self.strip is not None

    @cached_property
    def _waves(self) -> tuple[Tensor, float]:
        offset, wave = self.outer.radius + self.inner.radius, self.inner.radius
        if self.strip is not None:
            known = self.strip
            density = sampling.finest(lambda x: known.waves(x, offset, wave), TOLERANCE, offset / (2 * math.pi))
            return self._coefficients(density), known.waves(density, offset, wave) * self._entries
        return self._coefficients(self._margin * (self.outer.radius + self._stretch * wave) / (2 * math.pi)), 0.0

    @property
    def matrix(self) -> Tensor:
        """G, ``(M_outer, M_inner)`` complex."""
        return self._waves[0]

    @property
    def error(self) -> float:
        """Of G, in the Frobenius norm."""
        return self._waves[1]

    @cached_property
    def _squares(self) -> tuple[Tensor, float]:
        offset, count = 2 * self.inner.radius, len(self.inner)
        if self.strip is not None:
            known = self.strip
            density = sampling.finest(lambda x: known.waves(x, offset, offset), TOLERANCE, offset / (2 * math.pi))
            return self._means(density), known.waves(density, offset, offset) * count
        return self._means(self._margin * (1 + self._stretch) * self.inner.radius / (2 * math.pi)), 0.0

    @cached_property
    def squares(self) -> Tensor:
        """L^T L on the inner ball, ``(M_inner, M_inner)`` complex."""
        zero = tuple(2 * k for k in self.inner.highest)
        return _toeplitz(self._squares[0], self.inner, zero).mT  # (k, k'): coefficient at omega_k' - omega_k

    @property
    def squares_error(self) -> float:
        """Of L^T L, in the Frobenius norm."""
        return self._squares[1]

    def outer_squares(self, ball: Ball) -> tuple[Tensor, float]:
        """L L^T on a ball, ``(M, M)`` complex, and its error in the Frobenius norm."""
        offset, zero = 2 * ball.radius, (0,) * self.field.d
        if self.strip is not None:
            known, start = self.strip, offset / (2 * math.pi)
            density = sampling.finest(lambda x: known.inverse_density(x, offset), TOLERANCE, start)
            table = _toeplitz(self._densities(density), ball, zero)
            return table, known.inverse_density(density, offset) * len(ball)
        density = 4 * self._margin * (1 + self._stretch) * ball.radius / (2 * math.pi)  # 1 / D may jump
        return _toeplitz(self._densities(density), ball, zero), 0.0

    @property
    def _entries(self) -> float:
        return math.sqrt(len(self.inner) * len(self.outer))

    def _axes(self, points: Tensor, highest: tuple[int, ...]) -> list[Tensor]:
        """exp(i 2 pi k x / side) per axis of (x, y), k from -highest to highest, ``(2 highest + 1, Q)``."""
        tables = []
        for axis, (n, top) in enumerate(zip(self.field.size[::-1], highest[::-1], strict=True)):
            k = torch.arange(-top, top + 1, dtype=torch.float64)
            angle = k[:, None] * (torch.remainder(points[:, axis], n) * (2 * math.pi / n))
            tables.append(torch.polar(torch.ones_like(angle), angle))
        return tables

    def _coefficients(self, density: float) -> Tensor:
        """G by the fast Fourier transform of exp(i omega_k . phi) on a grid."""
        shape = sampling.counts(self.field.size, density)
        tables = self._axes(sampling.moved(self.field, shape), self.inner.highest)
        axes = tuple(range(-len(shape), 0))
        columns = self.inner.modes[: 1 + self.inner.half]  # those of -k follow by conjugation
        half = torch.empty(len(self.outer), len(columns), dtype=torch.complex128)
        step = max(1, CHUNK // math.prod(shape))
        for first in range(0, len(columns), step):
            some = columns[first : first + step]
            wave = tables[0][some[:, 0] + self.inner.highest[-1]]
            if len(shape) == 2:
                wave = wave * tables[1][some[:, 1] + self.inner.highest[0]]
            spectrum = torch.fft.fftn(wave.view(-1, *shape), dim=axes, norm="forward")
            half[:, first : first + step] = at(spectrum, self.outer).T
        return torch.cat([half, half[self.outer.opposite][:, 1:].conj()], dim=1)

    def _means(self, density: float) -> Tensor:
        """Means of exp(i omega_j . phi) for |j| <= twice the highest inner frequency, j = -2K ... 2K per axis."""
        shape = sampling.counts(self.field.size, density)
        tables = self._axes(sampling.moved(self.field, shape), tuple(2 * k for k in self.inner.highest))
        if len(shape) == 1:
            return tables[0].mean(1)
        return tables[1] @ tables[0].mT / math.prod(shape)

    def _densities(self, density: float) -> Tensor:
        """Fourier coefficients of 1 / D, in the order of the transform."""
        shape = sampling.counts(self.field.size, density)
        return torch.fft.fftn(sampling.inverse_density(self.field, shape), norm="forward")


def _toeplitz(coefficients: Tensor, ball: Ball, zero: tuple[int, ...]) -> Tensor:
    """c(omega_m - omega_m'), ``(M, M)``, from coefficients per axis whose frequency 0 stands at the index ``zero``."""
    index = []
    for axis, (n, start) in enumerate(zip(coefficients.shape, zero, strict=True)):
        k = ball.modes[:, -1 - axis]
        index.append((k[:, None] - k + start) % n)
    return coefficients[tuple(index)]
