"""What u -> u - tau(u) does near a point: functions of J = grad tau; M = I - J, D = det M, s_i singular values of M."""

import torch
from torch import Tensor

from stability.deformations import lengths

SINGULAR = 1e-12
"""Smaller determinants count as this where they are divided by: the value is then below the true one."""


def swell(jacobian: Tensor) -> Tensor:
    """det(I - J) - 1 of ``(..., d, d)``, without cancellation: -tr J + det J."""
    if jacobian.shape[-1] == 1:
        return -jacobian[..., 0, 0]
    a, b, c, d = jacobian.flatten(-2).unbind(-1)
    return a * d - b * c - (a + d)


def strain(jacobian: Tensor) -> Tensor:
    """||(J + J^T) / 2||_F."""
    return ((jacobian + jacobian.mT) / 2).flatten(-2).norm(dim=-1)


def anisotropy(jacobian: Tensor) -> Tensor:
    """|(a - d, b + c)| of J, for d = 2: s_1 - s_2 where det(I - J) > 0. For d = 1: 0."""
    if jacobian.shape[-1] == 1:
        return torch.zeros_like(jacobian[..., 0, 0])
    a, b, c, d = jacobian.flatten(-2).unbind(-1)
    return lengths.euclidean((a - d, b + c))


def stretch(jacobian: Tensor) -> Tensor:
    """||M^T - M^(-1)||_2 = max |s_i - 1 / s_i|, M = I - J: of (v I - D J^T + adj J) / D, v = D - 1."""
    v = swell(jacobian)
    determinant = (1 + v).clamp_min(SINGULAR)
    if jacobian.shape[-1] == 1:
        j = jacobian[..., 0, 0]
        return (j * (2 - j)).abs() / determinant  # (1 - j)^2 - 1
    a, b, c, d = jacobian.flatten(-2).unbind(-1)
    parts = (v - (1 + v) * a + d, -(1 + v) * c - b, -(1 + v) * b - c, v - (1 + v) * d + a)
    return lengths.spectral(parts) / determinant


def swell_gradient(jacobian: Tensor, hessian: Tensor) -> Tensor:
    """-grad D, ``(..., d)``: component k is tr(adj(M) d_k J), from J ``(..., d, d)`` and ``(..., d, d, d)``."""
    if jacobian.shape[-1] == 1:
        return hessian[..., 0, 0, :]
    a, b, c, d = jacobian.unsqueeze(-1).flatten(-3, -2).unbind(-2)  # (..., 1) each
    xx, xy, yx, yy = hessian.flatten(-3, -2).unbind(-2)  # d_k of J's entries
    return (1 - d) * xx + b * yx + c * xy + (1 - a) * yy  # adj(M) = [[1 - d, b], [c, 1 - a]]


def volume_gradient(jacobian: Tensor, hessian: Tensor) -> Tensor:
    """|M^(-T) grad ln D| D^(-1/2) = |adj(M)^T grad D| D^(-5/2)."""
    power = (1 + swell(jacobian)).clamp_min(SINGULAR) ** -2.5
    g = swell_gradient(jacobian, hessian)
    if jacobian.shape[-1] == 1:
        return g[..., 0].abs() * power
    a, b, c, d = jacobian.flatten(-2).unbind(-1)
    x, y = g.unbind(-1)
    return lengths.euclidean(((1 - d) * x + c * y, b * x + (1 - a) * y)) * power


def weight(jacobian: Tensor) -> Tensor:
    """D^(-1/2)."""
    return (1 + swell(jacobian)).clamp_min(SINGULAR).rsqrt()
