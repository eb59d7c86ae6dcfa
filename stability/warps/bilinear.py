"""``BilinearWarp``: kornia's bilinear look-up."""

from dataclasses import dataclass

import torch
from torch import Tensor

from stability.boundaries import Boundary, Periodic, check_boundary
from stability.warps.base import Warp, one_to_one, unfold, wrap


@dataclass(frozen=True)
class BilinearWarp(Warp):
    """Bilinear interpolation of x at u - tau(u), by ``kornia.geometry.transform.remap(align_corners=True)``.

    The warp that deep-learning pipelines use. Its own error grows with the detail of the image and hardly falls with
    the size of the field (see ``interpolation_error``), so that for small fields a sweep measures the interpolation
    and not the representation; and it has no derivative at tau = 0.

    Args:
        boundary: ``Periodic()`` or ``Reflect()`` (then ``scipy.ndimage.map_coordinates(order=1, mode="reflect")``).

    Convention: ``align_corners=True`` (kornia's default moves even an identity map).
    """

    boundary: Boundary = Periodic()

    def __post_init__(self) -> None:
        check_boundary(self.boundary)

    @property
    def points_per_pixel(self) -> int:
        """1."""
        return 1

    def sample(self, images: Tensor, points: Tensor) -> Tensor:
        """Bilinear values, ``(..., C, *size)``."""
        from kornia.geometry.transform import remap  # half a second to import, and only this warp needs it

        d = points.shape[-1]
        size = tuple(images.shape[-d:])
        images = unfold(images, d, self.boundary)
        images, points, lead = one_to_one(images, wrap(points, tuple(images.shape[-d:])))
        points = points.unflatten(1, size)  # (B, *size, d)
        if d == 1:
            images, points = images.unsqueeze(-2), points.unsqueeze(-3)  # (B, C, 1, N), (B, 1, N, 1)
        padded = torch.cat([images, images[..., :1]], -1)  # one more column and row: the first ones again
        padded = torch.cat([padded, padded[..., :1, :]], -2)
        x = points[..., 0].to(images.dtype)
        y = points[..., 1].to(images.dtype) if d == 2 else torch.zeros_like(x)
        warped = remap(padded, x, y, mode="bilinear", padding_mode="border", align_corners=True)
        return warped.reshape(*lead, warped.shape[1], *size)
