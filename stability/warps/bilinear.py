"""``BilinearWarp``: the bilinear look-up that kornia's and torchvision's warps end in."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, pad

from stability.boundaries import Boundary, Periodic, Reflect, check_boundary
from stability.warps.base import Warp, one_to_one

WHOLE_POINTS, CHUNK_POINTS = 2**19, 2**17
"""Points looked up in one call at most; and at a time where there are more: coordinates stay in the cache, and in
memory that is used again, for which the values are copied once."""


@dataclass(frozen=True)
class BilinearWarp(Warp):
    """Bilinear interpolation of x at u - tau(u).

    The warp that deep-learning pipelines use. Its own error grows with the detail of the image and hardly falls with
    the size of the field (see ``interpolation_error``), so that for small fields a sweep measures the interpolation
    and not the representation; and it has no derivative at tau = 0.

    Args:
        boundary: ``Periodic()``, ``Reflect()`` or ``Zero()``: ``scipy.ndimage.map_coordinates(order=1)`` with
            ``mode="grid-wrap"``, ``"reflect"`` or ``"grid-constant"``.

    Convention: on the window equal to ``kornia.geometry.transform.remap(..., align_corners=True)``, without the maps
    that it stacks and normalises (its default flags move even an identity map).
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
        size = tuple(images.shape[-points.shape[-1] :])
        images, points, lead = one_to_one(images, points)
        step = max(1, CHUNK_POINTS // max(1, points.shape[1]))
        if points.shape[0] * points.shape[1] <= WHOLE_POINTS:
            warped = self._sample(images, points)
        elif torch.is_grad_enabled() and (images.requires_grad or points.requires_grad):
            parts = zip(images.split(step), points.split(step), strict=True)
            warped = torch.cat([self._sample(part, where) for part, where in parts])
        else:
            warped = torch.empty_like(images, memory_format=torch.contiguous_format)
            for part, where, out in zip(images.split(step), points.split(step), warped.split(step), strict=True):
                out.copy_(self._sample(part, where))
        return warped.reshape(*lead, warped.shape[1], *size)

    def _sample(self, images: Tensor, points: Tensor) -> Tensor:
        """``(B, C, *size)`` at ``(B, P, d)``; returns ``(B, C, [1,] *size)``."""
        d, torus = points.shape[-1], isinstance(self.boundary, Periodic)
        size = tuple(images.shape[-d:])
        own = points.to(images.dtype)
        if torus:  # from -1 at pixel 0 to 1 at its copy at N: 2 (s - round(s)), s = u / N - 1/2
            places = _scaled(own, [1.0 / n for n in size], [-0.5] * d, spare=own is not points)
            places.sub_(places.round())
            places.add_(places)
            images = pad(images, (0, 1) * d, mode="circular")
        else:  # from border to border
            places = _scaled(own, [2.0 / n for n in size], [1 / n - 1 for n in size], spare=own is not points)
        if d == 1:
            images, places = images.unsqueeze(-2), torch.cat([places, torch.zeros_like(places)], -1)
        beyond = "reflection" if isinstance(self.boundary, Reflect) else "zeros"  # on the torus no point is beyond
        grid = places.unflatten(1, size if d == 2 else (1, *size))
        values: Tensor = grid_sample(images, grid, mode="bilinear", padding_mode=beyond, align_corners=torus)
        return values if d == 2 else values.squeeze(-2)


def _scaled(points: Tensor, factors: list[float], shifts: list[float], *, spare: bool) -> Tensor:
    """``factors * points + shifts``: in place where ``points`` are spare, else in one pass where all axes agree.

    Args:
        points: ``(B, P, d)``, components (x, y).
        factors: One number for each axis of the image, in the order of ``size``, like ``shifts``.
        shifts: Summands.
        spare: Whether ``points`` may be written over: fresh memory costs more than the arithmetic.
    """
    if spare or len(set(factors)) > 1:
        scaled = points.mul_ if spare else points.mul
        return scaled(points.new_tensor(factors[::-1])).add_(points.new_tensor(shifts[::-1]))
    return torch.add(points.new_full((), shifts[0]), points, alpha=factors[0])
