"""Kernel ridge regression and the support vector machine on a kernel matrix, one class against the rest.

The solvers are scikit-learn's, with ``kernel="precomputed"``; it is the extra ``classifier``.
"""

import abc
import math
from dataclasses import dataclass
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Solution(NamedTuple):
    """f_c(x) = sum_i coefficients_ic K(x_i, x) + intercepts_c."""

    coefficients: Tensor
    """``(n, C)``, float64."""
    intercepts: Tensor
    """``(C,)``, float64."""


def has_sklearn() -> bool:
    """Whether the extra ``classifier`` is installed."""
    return find_spec("sklearn") is not None


class Method(abc.ABC):
    """A way to learn the coefficients of a predictor from a kernel matrix."""

    @abc.abstractmethod
    def solve(self, matrix: Tensor, targets: Tensor) -> Solution:
        """The coefficients.

        Args:
            matrix: K(x_i, x_j), ``(n, n)``, float64, symmetric and positive semi-definite.
            targets: ``(n, C)``, +1 for the image's own class, -1 for the others.

        Raises:
            ImportError: if scikit-learn is not installed.
        """


@dataclass(frozen=True)
class KernelRidge(Method):
    """a = (K + penalty I)^(-1) Y: minimises sum_i (f(x_i) - y_i)^2 + penalty ||f||_H^2 for every class.

    Args:
        penalty: > 0, in units of K.

    >>> KernelRidge(1.0).solve(torch.eye(2, dtype=torch.float64), torch.tensor([[1.0], [-1.0]])).coefficients
    tensor([[ 0.5000],
            [-0.5000]], dtype=torch.float64)
    """

    penalty: float

    def __post_init__(self) -> None:
        _check_positive("penalty", self.penalty)

    def solve(self, matrix: Tensor, targets: Tensor) -> Solution:
        """One linear system for all classes."""
        _check_installed(type(self).__name__)
        from sklearn import kernel_ridge

        model = kernel_ridge.KernelRidge(alpha=self.penalty, kernel="precomputed")
        model.fit(matrix.cpu().numpy(), targets.to("cpu", torch.float64).numpy())
        return Solution(torch.from_numpy(model.dual_coef_).to(matrix.device), matrix.new_zeros(targets.shape[1]))


@dataclass(frozen=True)
class SupportVectorMachine(Method):
    """Minimises ||f||_H^2 / 2 + cost sum_i max(0, 1 - y_i (f(x_i) + b)) for every class.

    Args:
        cost: > 0.

    >>> SupportVectorMachine(1.0).solve(torch.eye(2, dtype=torch.float64), torch.tensor([[1.0], [-1.0]])).coefficients
    tensor([[ 1.],
            [-1.]], dtype=torch.float64)
    """

    cost: float

    def __post_init__(self) -> None:
        _check_positive("cost", self.cost)

    def solve(self, matrix: Tensor, targets: Tensor) -> Solution:
        """One quadratic program per class."""
        _check_installed(type(self).__name__)
        from sklearn import svm

        given = matrix.cpu().numpy()
        coefficients = np.zeros(targets.shape)
        intercepts = np.zeros(targets.shape[1])
        for c, target in enumerate(targets.T.cpu().numpy()):
            model = svm.SVC(C=self.cost, kernel="precomputed").fit(given, target)
            coefficients[model.support_, c] = model.dual_coef_[0]
            intercepts[c] = model.intercept_[0]
        return Solution(*(torch.from_numpy(found).to(matrix.device) for found in (coefficients, intercepts)))


def _check_installed(name: str) -> None:
    if not has_sklearn():
        raise ImportError(
            f'{name} needs scikit-learn, which is not installed: pip install "deformation-stability[classifier]"'
        )


def _check_positive(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a positive number, got {value!r}; choose it by cross_validate")
