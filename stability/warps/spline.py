r"""``SplineWarp``: interpolating B-splines of degree 3 or 5, with every derivative in image and points."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.boundaries import Boundary, Periodic, Reflect, Zero, check_boundary
from stability.warps.b_spline import BSpline, coefficients, pole
from stability.warps.base import Warp, one_to_one
from stability.warps.look_up import look

DEGREES = (3, 5)


@dataclass(frozen=True)
class SplineWarp(Warp):
    r"""B-spline interpolation of x at u - tau(u): error O(h^4), C^2 in tau; with ``degree=5`` O(h^6), C^4.

    For any image, band-limited or not: where ``BandLimitedWarp`` is exact and dear, and ``BilinearWarp`` is cheap and
    has no derivative at tau = 0, this is the warp for gradients, Jacobian-vector products and slopes at zero. The cubic
    one is what ``scipy.ndimage.map_coordinates(order=3)`` computes with ``mode="grid-wrap"`` or ``"reflect"``.

    The coefficients c = x / prod over the axes of sum_k beta(k) cos(k w) come from one Fourier transform, the values
    from 4 (cubic) or 9 (quintic) bilinear look-ups. Derivatives are look-ups of the spline's derivatives and not
    derivatives of the look-ups, so that they are right at whole pixels too, where a search from tau = 0 starts.

    Args:
        boundary: ``Periodic()``, ``Reflect()`` or ``Zero()``: x is 0 at all pixels beyond the window; the spline passes
            through them and dies out like .27^k (cubic) or .43^k (quintic) at k pixels from the border.
        degree: 3 or 5.

    Raises:
        ValueError: for another degree.

    Convention: sides >= 2 px. Half precision is computed in float32, in which a look-up is placed to about 1e-7 of the
    side. A point that is not finite gives NaN.

    >>> from stability.deformations.translation import Translation
    >>> x = torch.zeros(1, 1, 4, 5, dtype=torch.float64); x[..., 2, 1] = 1.0
    >>> y = SplineWarp()(x, Translation((3.0, 0.0), size=(4, 5)))
    >>> torch.allclose(y, x.roll(3, -1))
    True
    """

    boundary: Boundary = Periodic()
    degree: int = 3

    def __post_init__(self) -> None:
        check_boundary(self.boundary)
        if self.degree not in DEGREES:
            raise ValueError(f"degree must be 3 or 5, got {self.degree!r}; 3 is the default")

    @property
    def points_per_pixel(self) -> int:
        """1."""
        return 1

    def sample(self, images: Tensor, points: Tensor) -> Tensor:
        """Spline values, ``(..., C, *size)``."""
        d, size = points.shape[-1], tuple(images.shape[-points.shape[-1] :])
        precise = images.to(torch.promote_types(images.dtype, torch.float32))
        table, spline = spline_table(precise, d, self.degree, self.boundary)
        table, points, lead = one_to_one(table, points)
        values = look(spline, table, points)
        return values.reshape(*lead, values.shape[1], *size).to(images.dtype)


def spline_table(images: Tensor, d: int, degree: int, boundary: Boundary) -> tuple[Tensor, BSpline]:
    """The coefficients of the interpolating spline, and how it is evaluated.

    Args:
        images: ``(..., C, *size)``, float32 or float64.
        d: number of spatial axes.
        degree: 3 or 5.
        boundary: how x is continued.

    Returns:
        A table ``(..., C, *shape)`` and its ``BSpline``.
    """
    size = tuple(images.shape[-d:])
    far = math.ceil(math.log(torch.finfo(images.dtype).eps) / math.log(pole(degree)))  # beyond it: round-off
    spline = BSpline(degree, boundary, size, far if isinstance(boundary, Zero) else 1)
    frames = []
    for axis, n in zip(range(-d, 0), size, strict=True):  # the seam of the torus must not be felt
        frames.append(_frame(n, boundary, far + spline.half))
        images = _framed(images, axis, frames[-1], boundary)
    table = coefficients(images, d, degree)
    for axis, n, frame in zip(range(-d, 0), size, frames, strict=True):
        table = _cut(table, axis, frame - spline.before, n + spline.before + spline.after)
    return table, spline


def _frame(n: int, boundary: Boundary, far: int) -> int:
    """Pixels before and behind an axis that separate the window from the seam of a torus (0: no seam)."""
    return far if isinstance(boundary, Zero) or (isinstance(boundary, Reflect) and 2 * far < n) else 0


def _framed(images: Tensor, axis: int, frame: int, boundary: Boundary) -> Tensor:
    """x on a torus: itself, beside its mirror image (or between parts of it), or between zeros."""
    n = images.shape[axis]
    if isinstance(boundary, Reflect):
        mirror = images.flip(axis)
        return torch.cat([mirror.narrow(axis, n - frame, frame), images, mirror.narrow(axis, 0, frame or n)], axis)
    if isinstance(boundary, Zero):
        zeros = torch.zeros_like(images.narrow(axis, 0, 1)).expand(
            *(frame if k == images.ndim + axis else s for k, s in enumerate(images.shape))
        )
        return torch.cat([zeros, images, zeros], axis)
    return images


def _cut(table: Tensor, axis: int, first: int, count: int) -> Tensor:
    """``count`` pixels of a torus from pixel ``first`` on."""
    n, parts = table.shape[axis], []
    while count > 0:
        start = first % n
        taken = min(count, n - start)
        parts.append(table.narrow(axis, start, taken))
        first, count = first + taken, count - taken
    return parts[0] if len(parts) == 1 else torch.cat(parts, axis)
