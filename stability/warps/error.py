r"""``interpolation_error``: what a warp gets wrong, seen through A_0."""

import torch
from torch import Tensor

from stability.deformations.base import Deformation
from stability.grid import coordinates
from stability.warps.band_limited import check_band_limited, evaluate, low_pass_norm
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
    r"""||A_0 (W x - L_tau x)||: the distance of the warp's image W x, as a trigonometric image, from the true L_tau x.

    For ``BandLimitedWarp`` this is what its projection loses. Times prod rho it bounds how much of a measured distance
    belongs to the warp and not to the deformation, because Phi is prod rho-Lipschitz after A_0.

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
    exact = exact.unflatten(-1, tuple(n * QUADRATURE for n in deformation.size))
    return low_pass_norm(exact - upsample(warped.double(), d), antialiasing, QUADRATURE, d)


def upsample(warped: Tensor, d: int) -> Tensor:
    """Point samples as a trigonometric image on the finer grid; their Nyquist mode, if any, as its cosine."""
    size = warped.shape[-d:]
    for axis, n in zip(range(-d, 0), size, strict=True):
        spectrum = torch.fft.rfft(warped, dim=axis)
        if n % 2 == 0:
            spectrum = spectrum.clone()
            spectrum.narrow(axis, n // 2, 1).mul_(0.5)
        warped = torch.fft.irfft(spectrum * QUADRATURE, n=n * QUADRATURE, dim=axis)
    return warped
