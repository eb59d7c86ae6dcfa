r"""``evaluate``: x(u) of trigonometric images at any points, by matrix products or finufft."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from stability.boundaries import PERIODIC, Boundary, Periodic, Reflect
from stability.deformations.base import common_shape
from stability.warps.look_up import Interpolant, look
from stability.warps.nonuniform import NonuniformFFT, has_finufft
from stability.warps.trigonometric import Trigonometric

DENSE_SIDE = 64
"""Up to this side matrix products are as fast as the nonuniform transform, and exact to round-off."""


class Evaluation(Protocol):
    """A way to evaluate trigonometric images."""

    def interpolant(self, boundary: Boundary) -> Interpolant:
        """How tables, that is images, are looked up."""
        ...


@dataclass(frozen=True)
class MatrixProducts:
    """Exact to round-off, differentiable to every order, on every device; O(N^d) operations a point."""

    def interpolant(self, boundary: Boundary) -> Interpolant:
        """``Trigonometric``."""
        return Trigonometric(boundary)


def check_evaluation(evaluation: Evaluation | None) -> None:
    """Raise ``ValueError`` if it is none."""
    if evaluation is not None and not isinstance(evaluation, MatrixProducts | NonuniformFFT):
        raise ValueError(
            f"evaluation must be MatrixProducts(), NonuniformFFT(tolerance) or None, got {evaluation!r}; None chooses"
        )


def chosen(evaluation: Evaluation | None, images: Tensor, size: tuple[int, ...]) -> Evaluation:
    """The evaluation; None: the nonuniform transform for large images on the CPU if finufft is installed."""
    if evaluation is not None:
        return evaluation
    fast = max(size) > DENSE_SIDE and len(size) == 2 and images.device.type == "cpu" and has_finufft()
    return NonuniformFFT() if fast else MatrixProducts()


def evaluate(
    images: Tensor, points: Tensor, boundary: Boundary = PERIODIC, evaluation: Evaluation | None = None
) -> Tensor:
    """x at arbitrary points: of the torus, for band-limited x, or of the plane, for any x that is reflected.

    Args:
        images: ``(..., C, *size)``, float64.
        points: ``(..., P, d)`` in pixels, float64; leading dimensions broadcast.
        boundary: ``Periodic()`` or ``Reflect()``: how x is continued.
        evaluation: how; None: by matrix products, or for larger images by finufft if it is installed.

    Returns:
        Tensor ``(..., C, P)``, differentiable to every order in images and points.

    Raises:
        ValueError: for ``Zero()``: no trigonometric image is zero beyond a window.
    """
    if not isinstance(boundary, Periodic | Reflect):
        raise ValueError(
            f"boundary must be Periodic() or Reflect() for an exact warp, got {boundary!r}; use SplineWarp, or put the "
            "images into a frame of zeros"
        )
    d = points.shape[-1]
    size = tuple(images.shape[-d:])
    lead = common_shape(images.shape[: -d - 1], points.shape[:-2])
    images = images.reshape(*(1,) * (len(lead) + d + 1 - images.ndim), *images.shape)
    points = points.reshape(*(1,) * (len(lead) + 2 - points.ndim), *points.shape)
    own = [axis for axis in range(len(lead)) if points.shape[axis] > 1]  # axes with points of their own
    shared = [axis for axis in range(len(lead)) if points.shape[axis] == 1]  # images at the same points: as channels
    order = [*own, *shared]
    images = images.permute(*order, *range(len(lead), images.ndim))
    images = images.expand(*(lead[axis] for axis in order), *images.shape[-d - 1 :])
    channels = images.shape[len(own) : -d]
    table = images.reshape(-1, *images.shape[len(own) :]).flatten(1, -d - 1)  # (sets, images at one set x C, *size)
    where = points.permute(*order, -2, -1).reshape(-1, *points.shape[-2:])
    values = look(chosen(evaluation, images, size).interpolant(boundary), table, where)
    values = values.reshape(*(lead[axis] for axis in own), *channels, points.shape[-2])
    back = sorted(range(len(order)), key=order.__getitem__)
    return values.permute(*back, -2, -1)
