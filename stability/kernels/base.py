r"""Dot-product kernels kappa of a homogeneous layer, K(z, z') = |z| |z'| kappa(cos(z, z')).

Every kappa(u) = sum_j b_j u^j has b_j >= 0 and kappa(1) = 1, so that ||phi(z)|| = |z|, and (Bietti & Mairal 2019,
section 3)

    ||phi(z) - phi(z')|| <= rho |z - z'|,    rho = max(1, sqrt(kappa'(1))),

because 1 - u^j <= j (1 - u) on [-1, 1] gives 1 - kappa(u) <= kappa'(1) (1 - u). The constant is sharp.

Big Gram blocks go through ``evaluate_`` and ``derivative_``, in place and without a graph; ``kernel(cosine)`` and
``kernel.derivative(cosine)`` leave their argument alone and are differentiable: the backward pass keeps the cosines
and nothing else, and multiplies by kappa' in closed form, so that a gradient at cos = 1 is that of kappa and not
0 times infinity, as it is when acos(u) and sqrt(1 - u^2) are differentiated one by one.
"""

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stability.kernels import graphs

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Kernel(abc.ABC):
    """A function kappa on [-1, 1] with kappa(1) = 1 and non-negative Taylor coefficients.

    A kernel of your own needs ``derivative_at_one`` and ``evaluate_``; ``derivative_`` (for neural tangent kernels and
    gradients) is then found by automatic differentiation of ``evaluate_``, unless you give a formula.
    """

    @property
    @abc.abstractmethod
    def derivative_at_one(self) -> float:
        """kappa'(1), dimensionless; ``inf`` if the kernel map is not Lipschitz."""

    @abc.abstractmethod
    def evaluate_(self, cosine: "Tensor") -> "Tensor":
        """kappa(cosine), elementwise, in place: the argument is overwritten and returned."""

    def derivative_(self, cosine: "Tensor") -> "Tensor":
        """kappa'(cosine), elementwise, in place: the argument is overwritten and returned."""
        return cosine.copy_(self._automatic(self.evaluate_, cosine))

    def second_derivative_(self, cosine: "Tensor") -> "Tensor":
        """kappa''(cosine), elementwise, in place: the gradient of ``derivative``."""
        return cosine.copy_(self._automatic(self.derivative_, cosine))

    @property
    def exponent(self) -> float | None:
        """alpha if kappa(u) = exp(alpha (u - 1)): norms then join the exponent and one GEMM gives it; else None."""
        return None

    @property
    def lipschitz(self) -> float:
        """rho = max(1, sqrt(kappa'(1))): the Lipschitz constant of the kernel map phi."""
        return max(1.0, math.sqrt(self.derivative_at_one))

    def __call__(self, cosine: "Tensor") -> "Tensor":
        """kappa(cosine), elementwise, differentiable; the argument in [-1, 1] is left as it is."""
        return graphs.apply(self._orders(), cosine)

    def derivative(self, cosine: "Tensor") -> "Tensor":
        """kappa'(cosine), elementwise, differentiable; the argument is left as it is.

        The neural tangent kernel of a layer is Theta = |z| |z'| kappa(cos) + kappa'(cos) T, with T the tangent kernel
        of the layers below, summed over the patch.
        """
        return graphs.apply(self._orders(1), cosine)

    def _orders(self, order: int = 0) -> tuple["graphs.InPlace", ...]:
        """kappa, kappa' or kappa'', each in place, followed by the derivatives that backward passes multiply by."""
        functions = self.evaluate_, self.derivative_, self.second_derivative_
        return functions[order], *(self._slope_, self._curvature_)[order:]

    def _slope_(self, cosine: "Tensor") -> "Tensor":
        """The derivative of what ``evaluate_`` computes: 0, not infinite, where it takes cosines near 1 for 1."""
        return self.derivative_(cosine)

    def _curvature_(self, cosine: "Tensor") -> "Tensor":
        """The derivative of what ``derivative_`` computes, likewise."""
        return self.second_derivative_(cosine)

    def _automatic(self, function: Callable[["Tensor"], "Tensor"], cosine: "Tensor") -> "Tensor":
        """The derivative of an in-place function by automatic differentiation."""
        try:
            return graphs.automatic_derivative(function, cosine)
        except RuntimeError as error:
            name = type(self).__name__
            raise ValueError(
                f"evaluate_ of {name} must be differentiable by torch, got {error}; define derivative_ of {name}"
            ) from error


def is_number(value: object) -> bool:
    """Whether a parameter is a finite number (and no string that looks like one)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
