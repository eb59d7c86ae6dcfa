"""``IndexWarp``: the nearest pixel, the exact discrete theorem."""

from dataclasses import dataclass

import torch
from torch import Tensor

from stability.boundaries import Boundary, Periodic, Zero, check_boundary
from stability.deformations.base import common_shape
from stability.grid import sides
from stability.warps.base import Warp, unfold


@dataclass(frozen=True)
class IndexWarp(Warp):
    """L_pi x(u) = x(pi(u)), pi(u) = the pixel nearest to u - tau(u) (halves round up).

    An index map commutes exactly with everything pointwise, so that without subsampling the discrete theorem holds
    to round-off. On the pixel grid a field below half a pixel is the identity: use it to check, not to measure.

    Args:
        boundary: ``Periodic()``, ``Reflect()`` or ``Zero()``: how pixels beyond the border are found.
    """

    boundary: Boundary = Periodic()

    def __post_init__(self) -> None:
        check_boundary(self.boundary)

    @property
    def points_per_pixel(self) -> int:
        """1."""
        return 1

    def sample(self, images: Tensor, points: Tensor) -> Tensor:
        """Values at the nearest pixels, ``(..., C, *size)``."""
        d = points.shape[-1]
        size = tuple(images.shape[-d:])
        index = torch.floor(points + 0.5).long()  # (..., P, d)
        beyond = None
        if isinstance(self.boundary, Zero):
            beyond = ((index < 0) | (index >= sides(size, device=points.device))).any(-1).unsqueeze(-2)  # (..., 1, P)
        else:
            images = unfold(images, d, self.boundary)
        torus = images.shape[-d:]
        index = index % sides(torus, device=points.device).long()
        flat = index[..., 0] if d == 1 else index[..., 1] * torus[1] + index[..., 0]  # (..., P)
        values = images.flatten(-d)  # (..., C, P)
        lead = common_shape(values.shape[:-2], flat.shape[:-1])
        values = values.expand(*lead, *values.shape[-2:])
        flat = flat.unsqueeze(-2).expand(*lead, values.shape[-2], -1)
        found = values.gather(-1, flat)
        return (found if beyond is None else found.masked_fill(beyond, 0)).unflatten(-1, size)
