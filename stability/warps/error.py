r"""``interpolation_error``: what a warp gets wrong, seen through A_0."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from stability.boundaries import PERIODIC, Boundary, Periodic, Zero
from stability.deformations.base import Deformation
from stability.grid import check_images
from stability.warps.band_limited import check_band_limited, low_pass_norm, project, refine
from stability.warps.base import Warp, nodes
from stability.warps.evaluation import evaluate

QUADRATURE = 4
"""Nodes per pixel and axis at which the exact L_tau x is compared."""


def exact_values(images: Tensor, deformation: Deformation, boundary: Boundary) -> Tensor:
    """x(u - tau(u)) at ``QUADRATURE`` nodes per pixel and axis, exactly.

    Args:
        images: ``(..., C, *size)``, band-limited if the boundary is periodic.
        deformation: batch shape broadcasts against the leading dimensions.
        boundary: how x is continued. ``Zero()``: the band-limited function of a torus that holds the window and a
            frame of zeros; 0 beyond the frame.

    Returns:
        ``(..., C, *(4 size))``, float64: what ``BandLimitedWarp(4)`` projects.
    """
    d, size = deformation.d, deformation.size
    u = nodes(size, QUADRATURE, boundary, device=images.device)
    points = u - deformation.displacement(u).double()
    images = images.double()
    if isinstance(boundary, Zero):
        before = points.new_tensor([_frame(n)[0] for n in reversed(size)])
        behind = points.new_tensor([_frame(n)[1] + n - 1 for n in reversed(size)])
        points = torch.minimum(torch.maximum(points, -before), behind) + before
        images, boundary = framed(images, d, 1), PERIODIC
    values = evaluate(images, points, boundary)
    return values.unflatten(-1, tuple(n * QUADRATURE for n in size))


def _frame(n: int) -> tuple[int, int]:
    """Pixels of zeros before and behind an axis: half a side each, an odd number in all (no Nyquist mode)."""
    before = (n + 1) // 2
    return before, before + 1 - n % 2


def framed(values: Tensor, d: int, per_pixel: int) -> Tensor:
    """Values on the nodes of a window in a frame of zeros, ``(..., *(per_pixel * size))`` on a torus.

    Args:
        values: ``(..., *(per_pixel * size))``.
        d: number of spatial axes.
        per_pixel: nodes per pixel and axis.
    """
    widths = [per_pixel * width for n in reversed(values.shape[-d:]) for width in _frame(n // per_pixel)]
    return pad(values, widths)


def interpolation_error(
    images: Tensor,
    deformation: Deformation,
    warp: Warp,
    *,
    antialiasing: float | None = 1.0,
    warped: Tensor | None = None,
    exact: Tensor | None = None,
) -> Tensor:
    r"""(||A_0 (W x - Q L_tau x)||^2 + ||A_0 (Q L_tau x - L_tau x)||^2)^(1/2), Q the projection on band-limited images.

    The first norm is that of images on the grid, as the network sees them; the second is what no image on this grid
    can hold (the two are orthogonal), and all that is left for ``BandLimitedWarp``. Times prod rho it bounds how much
    of a distance belongs to the warp and not to the deformation, because Phi is prod rho-Lipschitz after A_0.

    If the warp reflects, L_tau x is that of the mirrored image, Q the projection on the cosine polynomials of the
    window and A_0 the Gaussian of the mirrored torus. If it continues by zeros, L_tau x is that of ``exact_values``,
    cut off beyond the window, and Q and A_0 are those of the torus with its frame.

    Args:
        images: ``(..., C, *size)``, band-limited if the warp is periodic.
        deformation: batch shape broadcasts against the leading dimensions.
        warp: the warp in question.
        antialiasing: sigma_0 in pixels; None: no A_0.
        warped: W x if it is at hand.
        exact: ``exact_values`` if they are at hand.

    Returns:
        ``(...)``, float64, in the unit of ||x||.

    Raises:
        ValueError: if the warp is periodic and the images are not band-limited, or no floating-point numbers.
    """
    d, boundary = deformation.d, warp.boundary
    check_images(images, d)
    if isinstance(boundary, Periodic):
        check_band_limited(images, d)
    warped = warp(images, deformation) if warped is None else warped
    exact = exact_values(images, deformation, boundary) if exact is None else exact
    size = deformation.size
    if isinstance(boundary, Zero):
        boundary, warped, exact = PERIODIC, framed(warped, d, 1), framed(exact, d, QUADRATURE)
        size = tuple(warped.shape[-d:])
    projected = project(exact, size, boundary)
    lost = low_pass_norm(exact - refine(projected, QUADRATURE, d, boundary), antialiasing, QUADRATURE, d, boundary)
    return lost.hypot(low_pass_norm(warped.double() - projected, antialiasing, 1, d, boundary))
