r"""``BandLimitedWarp``: trigonometric images evaluated exactly at any point, and their projection on a grid."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.boundaries import PERIODIC, Boundary, Periodic, Zero, check_boundary
from stability.grid import BAND_LIMIT_TOLERANCE, frequencies, nyquist_share
from stability.warps.base import Warp, unfold
from stability.warps.evaluation import Evaluation, check_evaluation, evaluate
from stability.warps.trigonometric import grid_bases, transform


@dataclass(frozen=True)
class BandLimitedWarp(Warp):
    r"""The L2 projection of L_tau x on the band-limited images of the same grid, exact to round-off for band-limited x.

    ``boundary=Reflect()``: on the cosine polynomials of the window, exact for every x (see the module).

    L_tau x is evaluated exactly on a grid ``oversample`` times as fine, and its Fourier coefficients are taken by that
    quadrature. What the projection loses is ``interpolation_error``. ``oversample=1`` gives the point samples
    x(u - tau(u)) instead.

    Args:
        oversample: nodes per pixel and axis, >= 1.
        boundary: ``Periodic()`` or ``Reflect()``.
        evaluation: ``MatrixProducts()``, ``NonuniformFFT(tolerance)`` (the extra ``finufft``) or None: the products
            up to 64 pixels a side, beyond them finufft to 1e-12 if it is installed.

    Raises:
        ValueError: for ``Zero()``, which no trigonometric image obeys; when a periodic one is called with an image that
            is not band-limited; ``st.grid.band_limit`` makes it so.

    Convention: Differentiable in the image and in the points; float64 inside, the images' dtype outside.

    >>> from stability.deformations.translation import Translation
    >>> x = torch.zeros(1, 1, 5, 5, dtype=torch.float64); x[..., 2, 1] = 1.0
    >>> y = BandLimitedWarp()(x, Translation((3.0, 0.0), size=(5, 5)))
    >>> int(y.flatten().argmax()) == 2 * 5 + 4
    True
    """

    oversample: int = 4
    boundary: Boundary = Periodic()
    evaluation: Evaluation | None = None

    def __post_init__(self) -> None:
        check_boundary(self.boundary)
        check_evaluation(self.evaluation)
        if isinstance(self.boundary, Zero):
            raise ValueError(
                "boundary must be Periodic() or Reflect() for an exact warp, got Zero(); use SplineWarp(Zero()), or "
                "put the images into a frame of zeros"
            )
        if isinstance(self.oversample, bool) or not isinstance(self.oversample, int) or self.oversample < 1:
            raise ValueError(f"oversample must be an integer >= 1, got {self.oversample!r}; the default is 4")

    @property
    def points_per_pixel(self) -> int:
        """oversample."""
        return self.oversample

    def sample(self, images: Tensor, points: Tensor) -> Tensor:
        """The projection (or the point samples) of the image at the points, ``(..., C, *size)``."""
        d = points.shape[-1]
        size = tuple(images.shape[-d:])
        if isinstance(self.boundary, Periodic):
            check_band_limited(images, d)
        values = evaluate(images.double(), points.double(), self.boundary, self.evaluation)
        values = values.unflatten(-1, tuple(n * self.oversample for n in size))
        if self.oversample > 1:
            values = project(values, size, self.boundary)
        return values.to(images.dtype)


def project(values: Tensor, size: tuple[int, ...], boundary: Boundary = PERIODIC) -> Tensor:
    """L2 projection on the band-limited images (or cosine polynomials) of a grid, by quadrature.

    Args:
        values: ``(..., *(s size))``: samples on a grid s times as fine, at the ``nodes`` of the boundary rule.
        size: the coarse grid.
        boundary: which of the two spaces.

    Returns:
        ``(..., *size)``.
    """
    oversample = values.shape[-1] // size[-1]
    fine, coarse = (grid_bases(size, s, boundary, values.device) for s in (oversample, 1))
    return transform(values, [b.T @ f / oversample for f, b in zip(fine, coarse, strict=True)])


def check_band_limited(images: Tensor, d: int) -> None:
    """Raise ``ValueError`` if more than round-off of an image lies at the Nyquist frequency."""
    tolerance = max(BAND_LIMIT_TOLERANCE, 10 * torch.finfo(images.dtype).eps)
    share = float(nyquist_share(images.detach(), d).max()) if images.numel() else 0.0
    if share > tolerance:
        raise ValueError(
            f"images must be band-limited for BandLimitedWarp, got {share:.1e} of the norm at the Nyquist frequency; "
            "call st.grid.band_limit(images) first"
        )


def refine(images: Tensor, factor: int, d: int, boundary: Boundary = PERIODIC) -> Tensor:
    """The same functions at the ``nodes`` of a grid ``factor`` times as fine, ``(..., C, *(factor size))``."""
    size = tuple(images.shape[-d:])
    fine, coarse = (grid_bases(size, s, boundary, images.device) for s in (factor, 1))
    return transform(images.double(), [f.T @ b for f, b in zip(fine, coarse, strict=True)])


def low_pass_norm(
    images: Tensor, antialiasing: float | None, oversample: int, d: int, boundary: Boundary = PERIODIC
) -> Tensor:
    """||A_0 y|| of images on a grid ``oversample`` times as fine, in units of the coarse grid's pixels.

    Args:
        images: ``(..., C, *size)``, float64.
        antialiasing: sigma_0 in coarse pixels; None or 0: no A_0.
        oversample: nodes per pixel and axis.
        d: number of spatial axes.
        boundary: ``Reflect()``: A_0 acts on the mirrored torus, the norm is that of the window.

    Returns:
        ``(...)``.
    """
    axes, area = tuple(range(-d, 0)), math.prod(images.shape[-d:])
    images = unfold(images, d, boundary)
    copies = math.prod(images.shape[-d:]) // area  # of the window on the torus
    energy = torch.fft.fftn(images, dim=axes, norm="ortho").abs().square()
    for axis, n in zip(axes, images.shape[-d:], strict=True):
        scaled = (antialiasing or 0.0) * oversample * frequencies(n, device=images.device)
        shape = [1] * d
        shape[axis] = n
        energy = energy * torch.exp(-scaled.square()).view(shape)
    return energy.sum((*axes, -d - 1)).div(oversample**d * copies).sqrt()
