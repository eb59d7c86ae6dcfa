"""Fields with a spectrum that can be tilted from low to high frequencies: what two norms at once need."""

import abc
from typing import Self

from torch import Tensor

from stability.deformations.base import Deformation


class Spectral(Deformation, abc.ABC):
    """A field of finitely many frequencies omega, |omega| <= R, whose amplitudes can be re-weighted."""

    @abc.abstractmethod
    def tilted(self, theta: Tensor) -> Self:
        """The field with its coefficients times exp(theta |omega|^2 / R^2), up to a positive factor.

        The largest weight is 1. In the limits theta = -inf and inf only the lowest and the highest frequency with a
        nonzero coefficient are left.

        Args:
            theta: dimensionless, any sign, -inf and inf included; broadcasts with ``batch_shape``.
        """

    @abc.abstractmethod
    def shifted(self, vector: Tensor) -> Self:
        """tau + vector, a tensor ``(*batch_shape, d)`` in pixels."""

    @abc.abstractmethod
    def largest_displacement(self) -> Tensor:
        """tau(u*) at a point u* where |tau| is largest, ``(*batch_shape, d)`` in pixels."""
