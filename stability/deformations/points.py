r"""Key points, boxes and label masks that move with the image's content.

L_tau x(u) = x(u - tau(u)), so what was at p appears at the v with v - tau(v) = p: v = p - sigma(p), sigma the inverse.

Convention: on the torus moved points are not taken modulo the sides: content that crosses the border keeps moving.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from stability.deformations.base import Deformation
from stability.deformations.batches import expanded
from stability.deformations.inverse import Inverse, inverse
from stability.grid import coordinates, sides

_TOLERANCE = 0.01
"""How much larger than the smallest a box may be at each side, in pixels."""

_MOST = 100_000
"""Most points per edge of a box."""


def push_points(tau: Deformation, points: Tensor) -> Tensor:
    """v with v - tau(v) = p: where the content at p appears after the warp.

    Args:
        tau: fields whose id - tau are diffeomorphisms.
        points: p, ``(..., K, d)`` in pixels, last axis (x, y); leading dimensions broadcast with the batch of fields.

    Returns:
        Tensor ``(..., K, d)`` in the field's type.

    Raises:
        ValueError: if shapes do not fit or a field has no inverse.

    >>> from stability.deformations.translation import Translation
    >>> push_points(Translation((3.0, 0.0)), torch.tensor([[1.0, 2.0]]))
    tensor([[4., 2.]], dtype=torch.float64)
    """
    points = _check(points, tau, (tau.d,), f"(..., K, {tau.d})", "points")
    return _moved(inverse(tau), points)


def push_boxes(tau: Deformation, boxes: Tensor) -> Tensor:
    """Axis-parallel boxes that contain the moved boxes, larger than the smallest ones by at most 0.01 px a side.

    A homeomorphism takes the border of a box to the border of its image, so the extreme coordinates are those of moved
    border points. Between points at a distance h along an edge a coordinate exceeds both ends by at most
    min(L h / 2, H h^2 / 8), L and H certified bounds of the first and second derivative of the inverse map.

    Args:
        tau: fields of the plane whose id - tau are diffeomorphisms with a certified Jacobian norm.
        boxes: ``(..., K, 4)`` as (x_0, y_0, x_1, y_1) in pixels, x_0 <= x_1 and y_0 <= y_1; leading dimensions
            broadcast with the batch of fields.

    Returns:
        Tensor ``(..., K, 4)``.

    Raises:
        ValueError: if shapes do not fit, a box is empty, a field has no inverse or nothing is certified of it.

    >>> from stability.deformations.translation import Translation
    >>> push_boxes(Translation((3.0, 0.0)), torch.tensor([[1.0, 2.0, 5.0, 4.0]]))
    tensor([[4., 2., 8., 4.]], dtype=torch.float64)
    """
    if tau.d != 2:
        raise ValueError(f"boxes need fields of the plane, got d = {tau.d}; push the interval's ends by push_points")
    boxes = _check(boxes, tau, (4,), "(..., K, 4)", "boxes")
    low, high = boxes[..., :2], boxes[..., 2:]
    if not bool((low <= high).all()):
        raise ValueError("boxes must be (x_0, y_0, x_1, y_1) with x_0 <= x_1 and y_0 <= y_1, got others; sort the ends")
    sigma = inverse(tau)
    known = _Rates.of(sigma)
    if not bool(torch.isfinite(known.first).all()):
        raise ValueError(
            "boxes need fields with a certified inverse, got a bound of inf; control them to jacobian_norm < 1, "
            "or push the corners by push_points"
        )
    longest = float((high - low).max()) if boxes.numel() else 0.0
    count = known.count(longest)
    share = torch.linspace(0, 1, count + 1, dtype=boxes.dtype, device=boxes.device)[:, None]
    x, y = (high - low).unsqueeze(-2).mul(share).add(low.unsqueeze(-2)).unbind(-1)  # (..., K, count + 1)
    edges = [
        torch.stack(torch.broadcast_tensors(*pair), dim=-1)
        for pair in ((x, y[..., :1]), (x, y[..., -1:]), (x[..., :1], y), (x[..., -1:], y))
    ]
    border = torch.cat(edges, dim=-2)  # (..., K, E, 2)
    moved = _moved(sigma, border.flatten(-3, -2)).unflatten(-2, border.shape[-3:-1])
    allowance = known.between(longest / count).reshape(*sigma.batch_shape, 1, 1)
    if isinstance(sigma, Inverse):
        allowance = allowance + sigma.error[..., None, None]
    allowance = allowance.to(moved.dtype)
    return torch.cat([moved.amin(-2) - allowance, moved.amax(-2) + allowance], dim=-1)


def push_masks(tau: Deformation, masks: Tensor) -> Tensor:
    """mask(u - tau(u)) at the nearest pixel, periodic: labels stay labels, nothing is interpolated.

    Args:
        tau: any fields.
        masks: ``(..., *size)``, bool or integer labels; leading dimensions broadcast with the batch of fields.

    Returns:
        Tensor ``(..., *size)`` of the masks' type.

    Raises:
        ValueError: if the masks are not integers or live on another grid.

    >>> from stability.deformations.translation import Translation
    >>> push_masks(Translation((1.0,), size=(4,)), torch.tensor([7, 0, 0, 5]))
    tensor([5, 7, 0, 0])
    """
    size, d = tau.size, tau.d
    if not isinstance(masks, Tensor) or masks.is_floating_point() or masks.is_complex():
        got = masks.dtype if isinstance(masks, Tensor) else type(masks).__name__
        raise ValueError(f"masks must be bool or integer labels, got {got}; warp images by BandLimitedWarp")
    if tuple(masks.shape[-d:]) != size:
        raise ValueError(f"masks must live on the field's grid {size}, got {tuple(masks.shape)}; resample them")
    _check_device(masks, tau, "masks")
    shape = _broadcast(tau, masks.shape[:-d], "masks")
    u = coordinates(size, dtype=tau.dtype, device=tau.device).reshape(-1, d)
    with torch.no_grad():
        nearest = torch.floor(u - tau.displacement(u) + 0.5).long()  # (*batch_shape, P, d)
    pixel = nearest % sides(size, device=tau.device).long()
    index = pixel[..., 0] if d == 1 else pixel[..., 1] * size[1] + pixel[..., 0]
    values = masks.flatten(-d).expand(*shape, -1)
    return values.gather(-1, index.expand(*shape, -1)).unflatten(-1, size)


class _Rates(NamedTuple):
    """Bounds of the first and second derivative of u - sigma(u), ``(n,)`` each."""

    first: Tensor
    second: Tensor

    @classmethod
    def of(cls, sigma: Deformation) -> "_Rates":
        bounds = sigma.derivative_bounds()
        return cls(1 + bounds[1], bounds[2])

    def between(self, spacing: float) -> Tensor:
        """How much a coordinate can exceed its values at the ends of an interval, ``(n,)``."""
        curved = torch.where(torch.isfinite(self.second), self.second * spacing**2 / 8, torch.inf)
        return torch.minimum(self.first * spacing / 2, curved)

    def count(self, length: float) -> int:
        """Intervals of an edge such that at most ``_TOLERANCE`` is missed between points."""
        steep = self.first * length / (2 * _TOLERANCE)
        curved = (self.second * length**2 / (8 * _TOLERANCE)).sqrt()
        wanted = float(torch.minimum(steep, curved).max()) if len(steep) else 1.0
        return min(max(1, math.ceil(wanted)), _MOST)


def _moved(sigma: Deformation, points: Tensor) -> Tensor:
    """p - sigma(p), batches broadcast."""
    shape = _broadcast(sigma, points.shape[:-2], "points")
    points = points.expand(*shape, *points.shape[-2:])
    return points - expanded(sigma, shape).displacement(points, each=True)


def _check(points: Tensor, tau: Deformation, last: tuple[int, ...], expected: str, name: str) -> Tensor:
    if not isinstance(points, Tensor) or points.ndim < 2 or tuple(points.shape[-1:]) != last:
        got = tuple(points.shape) if isinstance(points, Tensor) else type(points).__name__
        raise ValueError(f"{name} must be a tensor {expected} in pixels, got {got}; add an axis for K = 1")
    _check_device(points, tau, name)
    _broadcast(tau, points.shape[:-2], name)
    return points.to(dtype=tau.dtype)


def _check_device(values: Tensor, tau: Deformation, name: str) -> None:
    if values.device != tau.device:
        raise ValueError(f"{name} must be on the field's device {tau.device}, got {values.device}; move them there")


def _broadcast(tau: Deformation, leading: torch.Size, name: str) -> torch.Size:
    try:
        return torch.broadcast_shapes(tau.batch_shape, leading)
    except RuntimeError:
        raise ValueError(
            f"leading dimensions of {name} must broadcast with the batch {tuple(tau.batch_shape)}, got "
            f"{tuple(leading)}; use {name}[:, None] for all pairs"
        ) from None
