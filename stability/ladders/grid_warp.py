r"""The deformation on every grid of a network, as a matrix: (W z)(u) = z(u - tau(u)), z looked up between grid points.

The commutators and defects of the discrete theorem are those of these matrices. Any W would do; the better it
interpolates, the smaller the defect.
"""

import torch
from torch import Tensor

from stability.boundaries import PERIODIC
from stability.deformations.base import Deformation
from stability.warps.band_limited import BandLimitedWarp
from stability.warps.base import Warp, WarpOperator, nodes
from stability.warps.trigonometric import basis


def grid_warp(deformation: Deformation, warp: Warp, spacing: int) -> Tensor:
    """W on the grid of a spacing, rows u and columns v, ``(N, N)``, float64.

    Args:
        deformation: one field, on the image's grid.
        warp: how images are looked up; for the exact one maps are interpolated trigonometrically, and point by point.
        spacing: of the grid, in pixels of the image's grid; divides its sides.

    >>> from stability.deformations.translation import Translation
    >>> w = grid_warp(Translation((2.0,), size=(8,)), BandLimitedWarp(), spacing=2)
    >>> w.round().int().argmax(1).tolist()
    [3, 0, 1, 2]
    """
    size = tuple(n // spacing for n in deformation.size)
    exact = isinstance(warp, BandLimitedWarp)
    u = nodes(size, 1 if exact else warp.points_per_pixel, PERIODIC, device=deformation.device)
    points = u - deformation.displacement(u * spacing).reshape(u.shape) / spacing
    if exact:
        return _interpolation(points.double(), size)
    count = u.new_empty(0).double()
    pixels = torch.eye(len(nodes(size, 1, PERIODIC)), dtype=torch.float64, device=count.device)
    images = WarpOperator(warp, points.double(), size)(pixels.unflatten(1, size)[:, None])  # (N, 1, *size)
    return images.flatten(1).T.contiguous()


def _interpolation(points: Tensor, size: tuple[int, ...]) -> Tensor:
    """z(p) of the trigonometric interpolant, the Nyquist mode a cosine, so that it is the identity on the grid."""
    axes = [_axis(points[:, i], size[-1 - i]) for i in range(len(size))]  # x, then y
    if len(axes) == 1:
        return axes[0]
    return (axes[1][:, :, None] * axes[0][:, None, :]).flatten(1)


def _axis(points: Tensor, n: int) -> Tensor:
    """The interpolation kernel of one axis, ``(P, n)``."""
    grid = torch.arange(n, dtype=points.dtype, device=points.device)
    values = basis(points, n, PERIODIC).T @ basis(grid, n, PERIODIC)
    if n % 2 == 0:
        values += torch.cos(torch.pi * points)[:, None] * torch.cos(torch.pi * grid) / n
    return values
