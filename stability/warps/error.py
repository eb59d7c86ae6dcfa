r"""``interpolation_error``: what a warp gets wrong, seen through A_0."""

from torch import Tensor

from stability.deformations.base import Deformation
from stability.grid import coordinates
from stability.warps.band_limited import check_band_limited, evaluate, low_pass_norm, project, refine
from stability.warps.base import Warp

QUADRATURE = 4
"""Nodes per pixel and axis at which the exact L_tau x is compared."""


def interpolation_error(
    images: Tensor,
    deformation: Deformation,
    warp: Warp,
    *,
    antialiasing: float | None = 1.0,
    warped: Tensor | None = None,
) -> Tensor:
    r"""(||A_0 (W x - Q L_tau x)||^2 + ||A_0 (Q L_tau x - L_tau x)||^2)^(1/2), Q the projection on band-limited images.

    The first norm is that of images on the grid, as the network sees them; the second is what no image on this grid
    can hold (the two are orthogonal), and all that is left for ``BandLimitedWarp``. Times prod rho it bounds how much
    of a distance belongs to the warp and not to the deformation, because Phi is prod rho-Lipschitz after A_0.

    Args:
        images: ``(..., C, *size)``, band-limited.
        deformation: batch shape broadcasts against the leading dimensions.
        warp: the warp in question.
        antialiasing: sigma_0 in pixels; None: no A_0.
        warped: W x if it is at hand.

    Returns:
        ``(...)``, float64, in the unit of ||x||.
    """
    d = deformation.d
    check_band_limited(images, d)
    warped = warp(images, deformation) if warped is None else warped
    u = coordinates(deformation.size, oversample=QUADRATURE, device=images.device).flatten(0, -2)
    exact = evaluate(images.double(), u - deformation.displacement(u).double())
    exact = exact.unflatten(-1, tuple(n * QUADRATURE for n in deformation.size))  # (..., C, *(4 size))
    projected = project(exact, deformation.size)
    lost = low_pass_norm(exact - refine(projected, QUADRATURE, d), antialiasing, QUADRATURE, d)
    return lost.hypot(low_pass_norm(warped.double() - projected, antialiasing, 1, d))
