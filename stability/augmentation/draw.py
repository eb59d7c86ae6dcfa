"""``Draw``: the fields of one batch of samples, the norms they have, and all that moves with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor

from stability.deformations.base import Deformation
from stability.deformations.inverse import inverse
from stability.deformations.points import push_boxes, push_points
from stability.grid import coordinates
from stability.warps.base import Warp
from stability.warps.index import IndexWarp

if TYPE_CHECKING:
    from pandas import DataFrame

NAMES = ("displacement_norm", "displacement_norm_upper", "jacobian_norm", "jacobian_norm_upper")
"""The norms that are reported: seen (attained), and certified upper values, as in the rows of a sweep."""


@final
@dataclass(frozen=True, eq=False, repr=False)
class DrawnNorms:
    """The norms that were drawn, one row per sample; tensors ``(B,)``, lengths in pixels.

    Args:
        displacement_norm: sup |tau|, attained.
        displacement_norm_upper: certified upper value.
        jacobian_norm: sup ||grad tau||_2, attained.
        jacobian_norm_upper: certified upper value.
        applied: which samples were deformed, bool.
    """

    displacement_norm: Tensor
    displacement_norm_upper: Tensor
    jacobian_norm: Tensor
    jacobian_norm_upper: Tensor
    applied: Tensor

    @classmethod
    def of(cls, field: Deformation, applied: Tensor) -> DrawnNorms:
        """Those of fields ``(B,)``."""
        if not len(applied):
            none = torch.empty(0, dtype=torch.float64, device=field.device)
            return cls(none, none, none, none, applied)
        n = field.norms()
        return cls(n.displacement.lower, n.displacement.upper, n.jacobian.lower, n.jacobian.upper, applied)

    def to_frame(self) -> DataFrame:
        """A table, one row per sample."""
        import pandas  # loads when a table is asked for

        columns = {name: getattr(self, name).cpu().numpy() for name in (*NAMES, "applied")}
        return pandas.DataFrame(columns)

    def __repr__(self) -> str:
        return self.to_frame().to_string()


@final
@dataclass(frozen=True, eq=False)
class Draw:
    """Fields tau_i, one per sample, and what they do to images, masks, key points and boxes.

    Args:
        field: batch shape ``(B,)``.
        applied: which samples are deformed, bool ``(B,)``; the others stay as they are, bit for bit.
        warp: moves the pixels of images; masks follow its boundary rule.
        clamp: (low, high) to which the values of deformed images are cut, or None.
    """

    field: Deformation
    applied: Tensor
    warp: Warp
    clamp: tuple[float, float] | None = None

    @property
    def size(self) -> tuple[int, ...]:
        """``(H, W)``."""
        return self.field.size

    @property
    def norms(self) -> DrawnNorms:
        """The norms that were drawn, seen and certified."""
        return DrawnNorms.of(self.field, self.applied)

    def inverse(self) -> Draw:
        """The draw that undoes this one: its fields are the inverse ones, exact at every point.

        Raises:
            ValueError: if a field that is applied folds.
        """
        return replace(self, field=inverse(self.field))

    def images(self, images: Tensor) -> Tensor:
        """x(u - tau(u)), ``(B, C, H, W)`` floating point; type and device are kept."""
        check_floating(images)
        self._check_size(images, "images")
        return self._rows(images, self._warped)

    def masks(self, masks: Tensor) -> Tensor:
        """The mask at the pixel nearest to u - tau(u), ``(B, ..., H, W)`` of any type: labels stay labels."""
        self._check_size(masks, "masks")
        return self._rows(masks, self._nearest)

    def points(self, points: Tensor) -> Tensor:
        """v with v - tau(v) = p: where the content at p appears, ``(B, K, 2)`` in pixels (x, y); NaN stays NaN.

        Raises:
            ValueError: if a field folds.
        """
        return self._rows(points, _pushed_points)

    def boxes(self, boxes: Tensor) -> Tensor:
        """Axis-parallel boxes (x_0, y_0, x_1, y_1) that enclose the moved ones, ``(B, K, 4)`` in pixels.

        Raises:
            ValueError: if a box is empty or a field folds.
        """
        return self._rows(boxes, _pushed_boxes)

    def _warped(self, images: Tensor, tau: Deformation) -> Tensor:
        moved = self.warp(images, tau)
        return moved if self.clamp is None else moved.clamp(*self.clamp)

    def _nearest(self, masks: Tensor, tau: Deformation) -> Tensor:
        u = coordinates(self.size, dtype=torch.float64, device=masks.device).flatten(0, -2)
        flat = masks.flatten(1, -3) if masks.ndim > 3 else masks.unsqueeze(1)  # (n, C, H, W)
        moved = IndexWarp(boundary=self.warp.boundary).sample(flat, u - tau.displacement(u))
        return moved.reshape(masks.shape)

    def _rows(self, values: Tensor, function: Callable[[Tensor, Deformation], Tensor]) -> Tensor:
        """The function of the samples that are deformed; the others are copied."""
        count = len(self.applied)
        if values.shape[:1] != (count,):
            raise ValueError(
                f"values must have one row for each of the {count} samples that were drawn, got shape "
                f"{tuple(values.shape)}; draw anew for another batch"
            )
        rows = self.applied.nonzero()[:, 0]
        if not len(rows) or not values.numel():
            return values.clone()
        if len(rows) == count:
            return function(values, self.field.to(device=values.device)).to(values.dtype)
        tau = self.field[rows.to(self.field.device)].to(device=values.device)
        rows = rows.to(values.device)
        return values.index_copy(0, rows, function(values[rows], tau).to(values.dtype))

    def _check_size(self, values: Tensor, name: str) -> None:
        if tuple(values.shape[-2:]) != self.size:
            raise ValueError(
                f"{name} must have the size {self.size} for which the fields were drawn, got "
                f"{tuple(values.shape[-2:])}; resize {name}, or draw for that size"
            )


def check_floating(images: object) -> None:
    """Refuse images that are no floating-point tensors."""
    if not isinstance(images, Tensor):
        raise ValueError(f"images must be a torch tensor, got {type(images).__name__}; convert them first")
    if not images.is_floating_point():
        raise ValueError(
            f"images must be floating point, got {images.dtype}; use images.float() / 255 (torchvision: "
            "ToDtype(torch.float32, scale=True)) before this transform"
        )


def _pushed_points(points: Tensor, tau: Deformation) -> Tensor:
    known = torch.isfinite(points).all(-1, keepdim=True)  # a missing point must not disturb the others
    moved = push_points(tau, torch.where(known, points, 0.0))
    moved = torch.where(known, moved, points.to(moved.dtype))
    return moved if points.is_floating_point() else moved.round()


def _pushed_boxes(boxes: Tensor, tau: Deformation) -> Tensor:
    return push_boxes(tau, boxes)
