r"""``Products``: L and its exact adjoint between a ball of frequencies and a grid, by nonuniform Fourier transforms.

A function with frequencies in the ball is an image of 2 K + 1 pixels a side, its values divided by the root of their
number; L f is known by its values at the nodes of a finer grid, divided likewise: Euclidean norms are L2 norms.
"""

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from stability.boundaries import PERIODIC
from stability.deformations.base import Deformation
from stability.grid import sides
from stability.operator_norms import sampling
from stability.operator_norms.ball import Ball, at
from stability.operator_norms.filters import Filters
from stability.warps.evaluation import chosen
from stability.warps.look_up import Interpolant

TOLERANCE = 1e-14
"""Aliasing allowed in a coefficient of a trigonometric field."""
TRANSFORM = 1e-11
"""Relative error of the transforms, with a margin: 1e-12 is asked of the nonuniform one."""


class Products:
    """L from the inner ball to a grid that holds the outer one.

    Args:
        field: batch shape ``()``, jacobian norm below 1.
        inner: frequencies of the functions that are deformed.
        outer: frequencies that are read from the result.
        finer: factor of the number of nodes per pixel where no error is proved.
    """

    def __init__(self, field: Deformation, inner: Ball, outer: Ball, finer: float = 1.0) -> None:
        self.field, self.inner, self.outer = field, inner, outer
        b = float(field.norms().jacobian.upper)
        self.warp_norm = (1 - b) ** (-field.d / 2)
        self.strip = sampling.strip(field)
        start = 2.02 * max(outer.radius, inner.radius) / (2 * math.pi)  # no two frequencies of a ball coincide
        if self.strip is not None:
            self._density = sampling.finest(self._alias, TOLERANCE, start)
        else:
            self._density = sampling.MARGIN * finer * (1 + b) * start
        self.grid = sampling.counts(field.size, self._density)
        self.image = tuple(2 * k + 1 for k in inner.highest)
        self._axes = tuple(range(-field.d, 0))
        scale = torch.tensor(self.image[::-1], dtype=torch.float64) / sides(field.size)
        self._points = (sampling.moved(field, self.grid) * scale).unsqueeze(0)
        self._factor = math.sqrt(math.prod(self.image) / math.prod(self.grid))

    @property
    def error(self) -> float:
        """Of the matrices of L and L^T L on the balls, in the Frobenius norm; 0 where none is proved."""
        count = math.sqrt(len(self.inner) * max(len(self.inner), len(self.outer)))
        return self._alias(self._density) * count if self.strip is not None else 0.0

    @property
    def proved(self) -> bool:
        """Whether the errors are proved; otherwise finer sampling has to show them."""
        return self.strip is not None

    def _alias(self, density: float) -> float:
        if self.strip is None:
            return math.inf
        inner, outer = self.inner.radius, self.outer.radius
        return max(self.strip.waves(density, inner + outer, inner), self.strip.waves(density, 2 * inner, 2 * inner))

    @cached_property
    def _interpolant(self) -> Interpolant:
        return chosen(None, self._points, self.image).interpolant(PERIODIC)

    def forward(self, images: Tensor) -> Tensor:
        """L f at the nodes, ``(C, *grid)``, for ``(C, *image)``."""
        values = self._interpolant.look(images.unsqueeze(0), self._points, (0,) * self.field.d)
        return values.reshape(-1, *self.grid) * self._factor

    def adjoint(self, values: Tensor) -> Tensor:
        """L^T g, ``(C, *image)``, for ``(C, *grid)``: the transpose of ``forward``."""
        flat = values.reshape(1, len(values), -1).contiguous()
        return self._interpolant.spread(flat, self._points, (0,) * self.field.d, self.image)[0] * self._factor

    def multiplier(self, symbol: Tensor, ball: Ball, shape: Sequence[int]) -> Tensor:
        """Symbols ``(C, M)`` on a ball as arrays ``(C, *shape)`` in the order of the Fourier transform, 0 elsewhere."""
        table = torch.zeros(len(symbol), *shape, dtype=torch.complex128)
        index = ball.index(shape)
        table.flatten(1)[:, index[0] if len(index) == 1 else index[0] * shape[1] + index[1]] = symbol.to(
            torch.complex128
        )
        return table

    def filtered(self, images: Tensor, table: Tensor) -> Tensor:
        """Each of the symbols applied: ``(C, *shape)`` from ``(C or 1, *shape)``."""
        return torch.fft.ifftn(torch.fft.fftn(images, dim=self._axes) * table, dim=self._axes).real

    def resampled(self, values: Tensor, ball: Ball, shape: Sequence[int]) -> Tensor:
        """The part with frequencies in the ball on another grid, ``(C, *shape)``, with the same Euclidean norm."""
        spectrum = at(torch.fft.fftn(values, dim=self._axes, norm="ortho"), ball)
        return torch.fft.ifftn(self.multiplier(spectrum, ball, shape), dim=self._axes, norm="ortho").real

    def inverse_density(self, ball: Ball) -> tuple[Tensor, float]:
        """1 / det(I - grad tau), cut to differences of frequencies of the ball, on a grid that multiplies without
        aliasing in the ball; and the error of L L^T on the ball, in the operator norm.
        """
        wide = Ball(ball.size, 2 * ball.radius * (1 + 1e-12))
        start = wide.radius / (2 * math.pi)
        shape = sampling.counts(ball.size, 4.02 * ball.radius / (2 * math.pi))
        if self.strip is not None:
            known = self.strip
            density = sampling.finest(lambda x: known.inverse_density(x, wide.radius), TOLERANCE, start)
            error = known.inverse_density(density, wide.radius) * len(wide)
        else:
            density, error = 4 * max(self._density, start), 0.0  # 1 / det may jump
        fine = sampling.counts(ball.size, density)
        values = sampling.inverse_density(self.field, fine)
        spectrum = at(torch.fft.fftn(values, norm="forward")[None], wide)
        return torch.fft.ifftn(self.multiplier(spectrum, wide, shape)[0], norm="forward").real, error

    def start(self, ball: Ball, shape: tuple[int, ...], generator: torch.Generator, mean: bool = True) -> Tensor:
        """A Gaussian function with frequencies in the ball, ``(1, *shape)``; without its mean if not ``mean``."""
        symbol = torch.ones(1, len(ball))
        symbol[0, 0] = float(mean)
        noise = torch.randn(1, *shape, generator=generator, dtype=torch.float64, device=generator.device).cpu()
        return self.filtered(noise, self.multiplier(symbol, ball, shape))


class Stack:
    """K = V L - L V (1 - A^2)^(-1/2) as products: forward on images, adjoint on the grid.

    Args:
        warp: L.
        filters: V.
        weights: what inputs are multiplied by, ``(M,)``.
    """

    def __init__(self, warp: Products, filters: Filters, weights: Tensor) -> None:
        self.warp = warp
        self._inner = warp.multiplier(filters.symbol(warp.inner), warp.inner, warp.image)
        self._outer = warp.multiplier(filters.symbol(warp.outer), warp.outer, warp.grid)
        self._weights = warp.multiplier(weights[None], warp.inner, warp.image)

    def forward(self, image: Tensor) -> Tensor:
        """K f, ``(C, *grid)``, for ``(1, *image)``."""
        warp = self.warp
        image = warp.filtered(image, self._weights)
        both = warp.forward(torch.cat([image, warp.filtered(image, self._inner)]))
        return warp.filtered(both[:1], self._outer) - both[1:]

    def adjoint(self, values: Tensor) -> Tensor:
        """K^T g, ``(1, *image)``, for ``(C, *grid)``."""
        warp = self.warp
        pooled = warp.filtered(values, self._outer.conj()).sum(0, keepdim=True)
        both = warp.adjoint(torch.cat([pooled, values]))
        image = both[:1] - warp.filtered(both[1:], self._inner.conj()).sum(0, keepdim=True)
        return warp.filtered(image, self._weights)
