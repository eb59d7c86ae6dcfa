r"""``Operator``: one of the theorem's operators for one field, enclosed by matrices or by Lanczos iterations."""

import abc
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stability.deformations.base import Deformation
from stability.operator_norms.ball import Ball
from stability.operator_norms.compression import Compression
from stability.operator_norms.enclosure import Ends

ROUND_OFF = 2e-13
"""Allowed in the eigenvalue of a Gram matrix, in units of (1 + ||L||)^2."""


@dataclass(frozen=True)
class Effort:
    """How far the balls of frequencies reach, in radians per pixel, and what is expected.

    Args:
        inner: radius of the ball of inputs.
        outer: radius of the ball of outputs of V L.
        expected: about ||K||: parts much smaller than it are bounded, not computed.
        finer: factor of the number of nodes per pixel for fields whose quadrature has no proved error.
    """

    inner: float
    outer: float
    expected: float
    finer: float = 1.0

    def at_least(self, size: tuple[int, ...]) -> "Effort":
        """The same with some frequencies in the inner ball, however small its radius."""
        return replace(self, inner=max(self.inner, 3.1 * 2 * math.pi / min(size)))


class Operator(abc.ABC):
    """K, linear on L2 of the torus, made of filters of norm at most 1 and of L. Values that can be compared."""

    @abc.abstractmethod
    def start(self, jacobian: float, expected: float) -> Effort:
        """A first guess for b = ``jacobian`` and ||K|| about ``expected``."""

    @abc.abstractmethod
    def grown(self, effort: Effort, lower: float) -> Effort:
        """The next one, when ||K|| >= ``lower`` is known."""

    @abc.abstractmethod
    def of_translation(self, field: Deformation) -> Ends:
        """||K|| for a constant field of batch shape ``()``, exactly."""

    @abc.abstractmethod
    def by_matrices(self, field: Deformation, effort: Effort) -> Ends:
        """Lower <= ||K|| <= upper from the eigenvalues of matrices; ``field``: batch shape ``()``, b < 1."""

    @abc.abstractmethod
    def by_iterations(
        self, field: Deformation, effort: Effort, generator: torch.Generator, failure: float, tolerance: float
    ) -> Ends:
        """The same by Lanczos iterations: the upper end holds with probability at least 1 - ``failure``."""


GROWTH = 1.2
"""By how much the balls of frequencies grow when an enclosure is too wide."""
SMALLEST = 1e-7
"""Norms below it are not told from 0 better than that."""


def root(value: float, error: float) -> tuple[float, float]:
    """Ends of the square root of an eigenvalue known up to ``error``."""
    return math.sqrt(max(0.0, value - error)), math.sqrt(max(0.0, value) + error)


def largest(matrix: Tensor) -> float:
    """The largest eigenvalue of a symmetric matrix."""
    return float(torch.linalg.eigvalsh(matrix)[-1])


def round_off(warp_norm: float) -> float:
    """Allowed in an eigenvalue of K^T K."""
    return ROUND_OFF * (1 + warp_norm) ** 2


def rows(warp: Compression, ball: Ball) -> Tensor:
    """The rows of G that belong to a ball inside the outer one, ``(M, M_inner)`` complex."""
    left, right = ball.places(warp.outer)
    matrix = warp.matrix.new_empty(len(ball), len(warp.inner))
    matrix[left] = warp.matrix[right]
    return matrix
