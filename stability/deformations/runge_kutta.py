r"""Autonomous differential equations y' = F(y) over [0, 1] by equal steps of an explicit Runge-Kutta method of order 8.

Reference: Cooper & Verner 1972, SIAM Journal on Numerical Analysis 9(3) (11 stages, order 8).
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

ORDER = 8
"""The global error falls like steps^-8 for smooth F."""

_S = math.sqrt(21)

_STAGES: tuple[dict[int, float], ...] = (
    {},
    {0: 1 / 2},
    {0: 1 / 4, 1: 1 / 4},
    {0: 1 / 7, 1: (-7 - 3 * _S) / 98, 2: (21 + 5 * _S) / 49},
    {0: (11 + _S) / 84, 2: (18 + 4 * _S) / 63, 3: (21 - _S) / 252},
    {0: (5 + _S) / 48, 2: (9 + _S) / 36, 3: (-231 + 14 * _S) / 360, 4: (63 - 7 * _S) / 80},
    {
        0: (10 - _S) / 42, 2: (-432 + 92 * _S) / 315, 3: (633 - 145 * _S) / 90, 4: (-504 + 115 * _S) / 70,
        5: (63 - 13 * _S) / 35,
    },
    {0: 1 / 14, 4: (14 - 3 * _S) / 126, 5: (13 - 3 * _S) / 63, 6: 1 / 9},
    {0: 1 / 32, 4: (91 - 21 * _S) / 576, 5: 11 / 72, 6: (-385 - 75 * _S) / 1152, 7: (63 + 13 * _S) / 128},
    {
        0: 1 / 14, 4: 1 / 9, 5: (-733 - 147 * _S) / 2205, 6: (515 + 111 * _S) / 504, 7: (-51 - 11 * _S) / 56,
        8: (132 + 28 * _S) / 245,
    },
    {
        4: (-42 + 7 * _S) / 18, 5: (-18 + 28 * _S) / 45, 6: (-273 - 53 * _S) / 72, 7: (301 + 53 * _S) / 72,
        8: (28 - 28 * _S) / 45, 9: (49 - 7 * _S) / 18,
    },
)  # fmt: skip
"""a_ij: the weights of the earlier slopes in stage i."""

_WEIGHTS = {0: 1 / 20, 7: 49 / 180, 8: 16 / 45, 9: 49 / 180, 10: 1 / 20}
"""b_j: the weights of the slopes in the step."""


def integrate(slope: Callable[[Tensor], Tensor], start: Tensor, steps: int) -> Tensor:
    """y(1) for y' = F(y), y(0) = start; an automatic derivative of it is the derivative of the discrete map.

    Args:
        slope: F, from a tensor to one of its shape.
        start: y(0).
        steps: number of equal steps, >= 1.

    >>> end = integrate(lambda y: y, torch.ones(1, dtype=torch.float64), 4)
    >>> float((end - math.e).abs()) < 1e-9
    True
    """
    y = start
    for _ in range(steps):
        slopes: list[Tensor] = []
        for row in _STAGES:
            slopes.append(slope(_moved(y, slopes, row, 1 / steps)))
        y = _moved(y, slopes, _WEIGHTS, 1 / steps)
    return y


def _moved(y: Tensor, slopes: Sequence[Tensor], weights: dict[int, float], length: float) -> Tensor:
    """y + length * sum_j weights_j slopes_j."""
    for j, weight in weights.items():
        y = torch.add(y, slopes[j], alpha=weight * length)
    return y
