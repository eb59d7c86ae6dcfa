r"""``Commutator``: [V, L] = V L - L V for a stack V of filters: pooling, patches after pooling, front ends, wavelets.

With P the projection on a ball of frequencies, ||K P||^2 <= ||K||^2 <= ||K P||^2 + ||K (1-P)||^2. K P comes from its
Gram matrix; ||V L (1-P)||^2 = ||V (L L^T - L P L^T) V^T|| likewise, with L L^T the multiplication by
1 / det(I - grad tau); L V (1-P) is filtered first, hence small. Proof and the list of all errors: docs/theory-norms.md.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.bounds.rung import Status
from stability.deformations.base import Deformation
from stability.operator_norms.ball import Ball, real_form
from stability.operator_norms.compression import Compression
from stability.operator_norms.enclosure import Ends
from stability.operator_norms.filters import Filters
from stability.operator_norms.lanczos import largest_eigenvalue
from stability.operator_norms.operators import (
    GROWTH,
    SMALLEST,
    Effort,
    Operator,
    largest,
    root,
    round_off,
    rows,
)
from stability.operator_norms.products import TRANSFORM, Products, Stack


@dataclass(frozen=True)
class Commutator(Operator):
    """[V, L], or [V, L] (1 - A^2)^(-1/2) on functions of mean 0.

    Args:
        filters: V.
        energy: sigma of A for the second, else None.
    """

    filters: Filters
    energy: float | None = None

    def start(self, jacobian: float, expected: float) -> Effort:
        """L moves a frequency omega to (1-b) |omega| at least: there V must be small."""
        inner = self.filters.radius(min(0.5, 0.003 * expected)) / max(0.25, 1 - jacobian)
        return Effort(inner, self.outer(expected), expected)

    def grown(self, effort: Effort, lower: float) -> Effort:
        """A larger ball of inputs; that of the outputs for the norm that is known by now."""
        expected = max(lower, SMALLEST)
        return Effort(GROWTH * effort.inner, self.outer(expected), expected)

    def of_translation(self, field: Deformation) -> Ends:
        """0: filters commute with translations."""
        return Ends(0.0, 0.0, Status.PROOF, "translation")

    def outer(self, expected: float) -> float:
        """Beyond it V is less than 4e-7 of the norm."""
        return self.filters.radius(min(0.5, 4e-7 * expected))

    def by_matrices(self, field: Deformation, effort: Effort) -> Ends:
        """Two largest eigenvalues: of the Gram matrix of K P, and of V L (1-P) L^T V^T."""
        inner, outer = Ball(field.size, effort.inner), Ball(field.size, effort.outer)
        warp = Compression(field, inner, outer, effort.finer)
        weight = float(self.weights(inner).max())
        lower, upper = root(largest(self.gram(warp)), self.gram_error(warp) * weight**2)
        slack = self.slack(warp) * weight
        tail = self.beyond(inner, warp.warp_norm, self.rough(warp, effort.expected))
        status = Status.ENCLOSURE if warp.proved else Status.ESTIMATE
        return Ends(max(0.0, lower - slack), math.hypot(upper + slack, tail), status, "matrix")

    def by_iterations(
        self, field: Deformation, effort: Effort, generator: torch.Generator, failure: float, tolerance: float
    ) -> Ends:
        """The same eigenvalues; each may fail with probability ``failure`` / 2."""
        inner, outer = Ball(field.size, effort.inner), Ball(field.size, effort.outer)
        warp, weights = Products(field, inner, outer, effort.finer), self.weights(inner)
        products, weight = Stack(warp, self.filters, weights), float(weights.max())
        found = largest_eigenvalue(
            lambda x: products.adjoint(products.forward(x)),
            warp.start(inner, warp.image, generator),
            len(inner),
            failure=failure / 2,
            tolerance=tolerance,
        )
        norm = warp.warp_norm
        error = (9 * (1 + norm) * warp.error + 3 * warp.error**2 + TRANSFORM * (1 + norm) ** 2) * weight**2
        slack = self.filters.decay(outer.next) * norm * weight
        tail = self.beyond(inner, norm, self.rough_by_iterations(warp, effort.expected, generator, failure / 2))
        lower, upper = root(found.lower, error)[0], root(found.upper, error)[1]
        narrow = math.hypot(upper + slack, tail) - upper <= upper - lower  # larger balls would not help
        status = Status.PROBABLE if warp.proved else Status.ESTIMATE
        return Ends(max(0.0, lower - slack), math.hypot(upper + slack, tail), status, "Lanczos", narrow)

    def rough_by_iterations(self, warp: Products, expected: float, generator: torch.Generator, failure: float) -> float:
        """``rough`` without matrices."""
        ball = Ball(warp.field.size, min(self.filters.radius(min(0.5, 1e-3 * expected)), warp.outer.radius))
        density, error = warp.inverse_density(ball)
        shape = tuple(density.shape)
        table = warp.multiplier(self.filters.lengths(ball)[None], ball, shape)
        project = warp.multiplier(torch.ones(1, len(warp.inner)), warp.inner, warp.image)

        def product(values: Tensor) -> Tensor:
            values = warp.filtered(values, table)
            back = warp.filtered(warp.adjoint(warp.resampled(values, ball, warp.grid)), project)
            again = warp.resampled(warp.forward(back), ball, shape)
            return warp.filtered(density * values - again, table)

        found = largest_eigenvalue(
            product, warp.start(ball, shape, generator), len(ball), failure=failure, tolerance=0.2
        )
        error += (2 * warp.error + TRANSFORM) * (1 + warp.warp_norm) ** 2
        return math.hypot(root(found.upper, error)[1], self.filters.decay(ball.next) * warp.warp_norm)

    def gram(self, warp: Compression) -> Tensor:
        """K^T K on the inner ball, V L cut to the outer one, in real coordinates, ``(M, M)``.

        L^T V^T V L - L^T V^T L V - (...)^T + V^T L^T L V: the middle one is G^T (G o S), S = sum_c conj(v_c) v_c.
        """
        filters, inner, outer = self.filters, warp.inner, warp.outer
        plain = real_form(warp.matrix)
        mixed = real_form(warp.matrix * filters.overlap(outer, inner))
        half = plain * (0.5 * filters.lengths(outer).square()[:, None]) - mixed
        product = plain.T @ half
        total = product + product.T + real_form(warp.squares * filters.overlap(inner, inner))
        weights = self.weights(inner)
        return weights[:, None] * total * weights

    @staticmethod
    def gram_error(warp: Compression) -> float:
        """What quadrature and round-off change in an eigenvalue of ``gram``, without weights."""
        e, norm = warp.error, warp.warp_norm
        return 8 * (1 + norm) * e + 3 * e * e + warp.squares_error + round_off(norm)

    def slack(self, warp: Compression) -> float:
        """||V L|| beyond the outer ball."""
        return self.filters.decay(warp.outer.next) * warp.warp_norm

    def beyond(self, inner: Ball, warp_norm: float, rough: float) -> float:
        """||K (1-P)|| <= (||V L (1-P)|| + ||L V (1-P)||) times the largest weight outside."""
        weight = 1.0
        if self.energy is not None:
            weight = 1 / math.sqrt(-math.expm1(-((self.energy * inner.next) ** 2)))
        return (rough + warp_norm * self.filters.decay(inner.next)) * weight

    def rough(self, warp: Compression, expected: float) -> float:
        """A bound of ||V L (1-P)||. Rows with |V| below 1e-3 of the norm are bounded by |V| ||L||."""
        ball = Ball(warp.field.size, min(self.filters.radius(min(0.5, 1e-3 * expected)), warp.outer.radius))
        squares, error = warp.outer_squares(ball)
        part = real_form(rows(warp, ball))
        lengths = self.filters.lengths(ball)
        value = largest(lengths[:, None] * (real_form(squares) - part @ part.T) * lengths)
        error += 2 * warp.warp_norm * warp.error + warp.error**2 + round_off(warp.warp_norm)
        return math.hypot(root(value, error)[1], self.filters.decay(ball.next) * warp.warp_norm)

    def weights(self, ball: Ball) -> Tensor:
        """(1 - exp(-sigma^2 |omega|^2))^(-1/2) and 0 at omega = 0; 1 without an energy, ``(M,)``."""
        if self.energy is None:
            return torch.ones(len(ball), dtype=torch.float64)
        removed = -torch.expm1(-(self.energy * ball.omega).square().sum(-1))
        return torch.where(removed > 0, removed.clamp_min(1e-300).rsqrt(), 0.0)
