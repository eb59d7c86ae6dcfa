r"""``PoolingDifference`` A L - A and ``WarpDifference`` L A - A: one ball of frequencies, no part left uncomputed.

    (A L - A)(A L - A)^T = A (L L^T - L - L^T + 1) A,    (L A - A)^T (L A - A) = A (L^T L - L - L^T + 1) A,

where L L^T and L^T L multiply by functions. Beyond the ball A is small, on the side of the outputs or of the inputs.
"""

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.bounds.rung import Status
from stability.deformations.base import Deformation
from stability.operator_norms.ball import Ball, real_form
from stability.operator_norms.compression import Compression
from stability.operator_norms.enclosure import Ends
from stability.operator_norms.filters import Patches
from stability.operator_norms.lanczos import largest_eigenvalue
from stability.operator_norms.operators import (
    GROWTH,
    SMALLEST,
    Effort,
    Operator,
    largest,
    root,
    round_off,
)
from stability.operator_norms.products import TRANSFORM, Products


@dataclass(frozen=True)
class _Difference(Operator):
    """What both have in common.

    Args:
        pooling: A, without patches and front end.
    """

    pooling: Patches

    def start(self, jacobian: float, expected: float) -> Effort:
        """Beyond the ball A is 1e-3 of the norm."""
        radius = self.pooling.radius(min(0.5, 1e-3 * expected))
        return Effort(radius, radius, expected)

    def grown(self, effort: Effort, lower: float) -> Effort:
        """A larger ball, for the norm that is known by now."""
        expected = max(lower, SMALLEST)
        radius = max(GROWTH * effort.inner, self.pooling.radius(min(0.5, 1e-3 * expected)))
        return Effort(radius, radius, expected)

    def of_translation(self, field: Deformation) -> Ends:
        """max over the torus' frequencies of 2 |sin(omega . c / 2)| exp(-sigma^2 |omega|^2 / 2)."""
        level = 0.5
        while True:
            ball = Ball(field.size, self.pooling.radius(level))
            turn = (ball.omega @ field.mean.to(ball.omega) / 2).sin().abs()
            value = float((2 * turn * self.pooling.pooling(ball)).max())
            if value >= 2 * self.pooling.decay(ball.next) or level < 1e-14:
                return Ends(value, value, Status.PROOF, "translation")
            level = level**2

    @abc.abstractmethod
    def squares(self, warp: Compression) -> tuple[Tensor, float]:
        """L L^T or L^T L on the ball, and its error."""

    def by_matrices(self, field: Deformation, effort: Effort) -> Ends:
        """The largest eigenvalue of the product on the ball, and (1 + ||L||) ||A|| beyond it."""
        ball = Ball(field.size, effort.inner)
        warp = Compression(field, ball, ball, effort.finer)
        squares, error = self.squares(warp)
        matrix, symbol = real_form(warp.matrix), self.pooling.pooling(ball)
        total = real_form(squares) - matrix - matrix.T
        total.diagonal().add_(1.0)
        error += 2 * warp.error + round_off(warp.warp_norm)
        lower, upper = root(largest(symbol[:, None] * total * symbol), error)
        tail = (1 + warp.warp_norm) * self.pooling.decay(ball.next)
        return Ends(lower, math.hypot(upper, tail), Status.ENCLOSURE if warp.proved else Status.ESTIMATE, "matrix")

    def by_iterations(
        self, field: Deformation, effort: Effort, generator: torch.Generator, failure: float, tolerance: float
    ) -> Ends:
        """The same eigenvalue."""
        ball = Ball(field.size, effort.inner)
        warp = Products(field, ball, ball, effort.finer)
        squares, error = self.square_products(warp)
        table = warp.multiplier(self.pooling.pooling(ball)[None], ball, warp.image)
        project = warp.multiplier(torch.ones(1, len(ball)), ball, warp.image)

        def product(image: Tensor) -> Tensor:
            pooled = warp.filtered(image, table)
            there = warp.forward(pooled)
            back = warp.filtered(warp.adjoint(warp.resampled(pooled, ball, warp.grid)), project)
            change = squares(pooled, there) - warp.resampled(there, ball, warp.image) - back + pooled
            return warp.filtered(change, table)

        start = warp.start(ball, warp.image, generator)
        found = largest_eigenvalue(product, start, len(ball), failure=failure, tolerance=tolerance)
        norm = warp.warp_norm
        error += 3 * warp.error + TRANSFORM * (1 + norm) ** 2
        tail = (1 + norm) * self.pooling.decay(ball.next)
        lower, upper = root(found.lower, error)[0], root(found.upper, error)[1]
        narrow = math.hypot(upper, tail) - upper <= upper - lower
        status = Status.PROBABLE if warp.proved else Status.ESTIMATE
        return Ends(lower, math.hypot(upper, tail), status, "Lanczos", narrow)

    @abc.abstractmethod
    def square_products(self, warp: Products) -> tuple[Callable[[Tensor, Tensor], Tensor], float]:
        """f, L f -> L L^T f or L^T L f on the ball, and the error."""


@dataclass(frozen=True)
class PoolingDifference(_Difference):
    """A L - A: outputs beyond the ball are pooled away."""

    def squares(self, warp: Compression) -> tuple[Tensor, float]:
        """L L^T."""
        return warp.outer_squares(warp.inner)

    def square_products(self, warp: Products) -> tuple[Callable[[Tensor, Tensor], Tensor], float]:
        """f / det(I - grad tau)."""
        density, error = warp.inverse_density(warp.inner)
        shape = tuple(density.shape)

        def product(image: Tensor, there: Tensor) -> Tensor:
            return warp.resampled(density * warp.resampled(image, warp.inner, shape), warp.inner, warp.image)

        return product, error


@dataclass(frozen=True)
class WarpDifference(_Difference):
    """L A - A: inputs beyond the ball are pooled away."""

    def squares(self, warp: Compression) -> tuple[Tensor, float]:
        """L^T L."""
        return warp.squares, warp.squares_error

    def square_products(self, warp: Products) -> tuple[Callable[[Tensor, Tensor], Tensor], float]:
        """L^T (L f)."""
        project = warp.multiplier(torch.ones(1, len(warp.inner)), warp.inner, warp.image)
        return lambda image, there: warp.filtered(warp.adjoint(there), project), 0.0
