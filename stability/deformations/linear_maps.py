"""Linear maps of an image's content, and the matrices of the displacement fields that effect them.

L_tau x(u) = x(u - tau(u)) moves the content by u -> c + B (u - c) where u - tau(u) = c + B^{-1} (u - c), that is

    tau(u) = (I - B^{-1}) (u - c).

Convention: coordinates (x, y) = (column, row), y downwards.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from stability.deformations.base import Scalar
from stability.deformations.checks import check_generator
from stability.deformations.modes import ROOT_MEAN_SQUARE

SINGULAR = 1e-12
"""Ratio of singular values at or below which a matrix counts as singular."""


def rotation(angle: Scalar, d: int) -> Tensor:
    """B = [[cos, -sin], [sin, cos]], from the x axis towards the y axis: clockwise on the screen.

    Args:
        angle: in radians, a number or a tensor ``batch_shape``.
        d: must be 2.

    Returns:
        Tensor ``(*batch_shape, 2, 2)``.

    >>> rotation(0.0, 2)
    tensor([[1., -0.],
            [0., 1.]], dtype=torch.float64)
    """
    _check_plane("a rotation", d)
    value = _number("angle", angle)
    cosine, sine = value.cos(), value.sin()
    return torch.stack([torch.stack([cosine, -sine], dim=-1), torch.stack([sine, cosine], dim=-1)], dim=-2)


def dilation(factor: Scalar, d: int) -> Tensor:
    """B = factor * I: content grows for factor > 1.

    Args:
        factor: positive, a number or a tensor ``batch_shape``.
        d: 1 or 2.

    Returns:
        Tensor ``(*batch_shape, d, d)``.
    """
    value = _number("factor", factor)
    if not bool((value > 0).all()):
        raise ValueError(f"factor must be positive, got {factor!r}; use 1.1 for content that is a tenth larger")
    return value[..., None, None] * torch.eye(d, dtype=value.dtype, device=value.device)


def shear(amount: Scalar, axis: int, d: int) -> Tensor:
    """B = I + amount * e_axis (x) e_other: content moves along one axis in proportion to the other coordinate.

    Args:
        amount: tangent of the angle of shear, a number or a tensor ``batch_shape``.
        axis: along which the content moves: 0 for x, 1 for y.
        d: must be 2.

    Returns:
        Tensor ``(*batch_shape, 2, 2)``.
    """
    _check_plane("a shear", d)
    if isinstance(axis, bool) or axis not in (0, 1):
        raise ValueError(f"axis must be 0 (x) or 1 (y), got {axis!r}; use axis=0 to move rows along x")
    value = _number("amount", amount)
    unit = torch.zeros(2, 2, dtype=value.dtype, device=value.device)
    unit[axis, 1 - axis] = 1.0
    return torch.eye(2, dtype=value.dtype, device=value.device) + value[..., None, None] * unit


def inverse_of(matrix: Tensor, what: str) -> Tensor:
    """M^{-1} of ``(*batch_shape, d, d)``.

    Raises:
        ValueError: if a matrix is singular.
    """
    if bool(singular(matrix).any()):
        first = int(singular(matrix).flatten().nonzero()[0, 0])
        raise ValueError(
            f"{what} must be invertible, got the singular {matrix.reshape(-1, *matrix.shape[-2:])[first].tolist()} "
            f"for field {first}; change its entries"
        )
    return torch.linalg.inv(matrix)


def displacement_matrix(content: Tensor) -> Tensor:
    """A = I - B^{-1}, ``(*batch_shape, d, d)``.

    Raises:
        ValueError: if B is singular.
    """
    identity = torch.eye(content.shape[-1], dtype=content.dtype, device=content.device)
    return identity - inverse_of(content, "the linear map of the content")


def singular(matrix: Tensor) -> Tensor:
    """Whether the smallest singular value is at most ``SINGULAR`` times the largest, ``batch_shape`` bool."""
    values = torch.linalg.svdvals(matrix.detach())
    # in one dimension the ratio is 1 unless the number is 0
    return values[..., -1] <= SINGULAR * values[..., 0]


def draw_matrices(d: int, batch_shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Independent Gaussian entries of standard deviation sqrt(12) / (32 d), ``(*batch_shape, d, d)``.

    On a square window of side N about its centre the mean of |A (u - c)|^2 is then (N / 32)^2.
    """
    check_generator(generator)
    draw = torch.randn((*batch_shape, d, d), generator=generator, device=generator.device, dtype=torch.float64)
    return draw * (ROOT_MEAN_SQUARE * math.sqrt(12) / d)


def _number(name: str, value: Scalar) -> Tensor:
    """As a finite floating-point tensor."""
    tensor = value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
    tensor = tensor if tensor.is_floating_point() else tensor.to(torch.float64)
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{name} must be finite, got {value!r}; use a number")
    return tensor


def _check_plane(what: str, d: int) -> None:
    if d != 2:
        raise ValueError(f"{what} must have a size (H, W), got a signal (N,); use a dilation")
