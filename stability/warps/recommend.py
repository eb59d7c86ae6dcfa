"""``recommend_warp``: the cheapest warp whose error is below a tolerance."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from stability.boundaries import PERIODIC, Boundary, Zero, check_boundary
from stability.deformations.base import Deformation
from stability.warps.band_limited import BandLimitedWarp
from stability.warps.base import Warp
from stability.warps.bilinear import BilinearWarp
from stability.warps.error import exact_values, interpolation_error
from stability.warps.index import IndexWarp
from stability.warps.spline import SplineWarp


def candidates(boundary: Boundary) -> tuple[Warp, ...]:
    """The warps that obey a boundary rule, from the cheapest to the dearest (``benchmarks/warps.py``).

    >>> [type(warp).__name__ for warp in candidates(Zero())]
    ['IndexWarp', 'BilinearWarp', 'SplineWarp', 'SplineWarp']
    """
    look_ups = (IndexWarp(boundary), BilinearWarp(boundary), SplineWarp(boundary), SplineWarp(boundary, degree=5))
    if isinstance(boundary, Zero):
        return look_ups
    return (*look_ups, BandLimitedWarp(1, boundary), BandLimitedWarp(boundary=boundary))


def recommend_warp(
    images: Tensor,
    deformation: Deformation,
    tolerance: float,
    *,
    boundary: Boundary = PERIODIC,
    antialiasing: float | None = 1.0,
    warps: Sequence[Warp] | None = None,
) -> Warp:
    """The first warp with max over images and fields of ``interpolation_error`` / ||x|| at most the tolerance.

    Args:
        images: ``(..., C, *size)``, band-limited if the boundary is periodic.
        deformation: batch shape broadcasts against the leading dimensions of the images.
        tolerance: > 0, relative to ||x||.
        boundary: how x is continued.
        antialiasing: sigma_0 in pixels of the A_0 through which the error is seen; None: no A_0.
        warps: to choose from, from the cheapest to the dearest; None: ``candidates(boundary)``.

    Returns:
        A warp. Its error was measured against the exact L_tau x and is no estimate.

    Raises:
        ValueError: if the tolerance is not positive, if no warp reaches it (the message has every error), or as
            ``interpolation_error``.

    >>> from stability.deformations.translation import Translation
    >>> x = torch.zeros(1, 1, 9, dtype=torch.float64); x[..., 4] = 1.0
    >>> recommend_warp(x, Translation((2.0,), size=(9,)), 1e-9)
    IndexWarp(boundary=Periodic())
    >>> recommend_warp(x, Translation((0.5,), size=(9,)), 1e-9)
    BandLimitedWarp(oversample=1, boundary=Periodic(), evaluation=None)
    """
    check_boundary(boundary)
    if not isinstance(tolerance, int | float) or not 0 < tolerance < math.inf:
        raise ValueError(f"tolerance must be positive, got {tolerance!r}; 0.01 is one percent of ||x||")
    choice = tuple(warps) if warps is not None else candidates(boundary)
    if not choice or any(warp.boundary != boundary for warp in choice):
        raise ValueError(f"warps must be at least one, all with boundary {boundary!r}, got {choice!r}")
    exact = exact_values(images, deformation, boundary)
    norms = torch.linalg.vector_norm(images.double(), dim=tuple(range(-deformation.d - 1, 0)))
    errors = []
    for warp in choice:
        error = interpolation_error(images, deformation, warp, antialiasing=antialiasing, exact=exact)
        relative = torch.where(norms > 0, error / norms, torch.where(error > 0, math.inf, 0.0))
        errors.append(float(relative.max()))
        if errors[-1] <= tolerance:
            return warp
    measured = ", ".join(f"{error:.1e} for {warp}" for error, warp in zip(errors, choice, strict=True))
    raise ValueError(f"tolerance must be reached by a warp, got {tolerance:g} and errors {measured}; refine the grid")
