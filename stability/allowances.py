r"""What grid and warp add to the theorem, which speaks of functions on the torus and of the exact L_tau.

The network that is evaluated samples its kernel maps, and the warp that is applied may not be exact. Nothing here is a
bound of the grid's error: ``refined_distance`` shows it by evaluating the same distance on a finer grid.
"""

import math

from torch import Tensor

from stability.architecture import Architecture
from stability.boundaries import Periodic
from stability.bounds.theorem import Theorem
from stability.deformations.base import Deformation
from stability.grid import is_expanded
from stability.operators.front_end import front_end_output
from stability.operators.pooling import pool, pooling_matrices
from stability.representations.base import Representation
from stability.warps.band_limited import BandLimitedWarp, refine
from stability.warps.base import Warp

REFINEMENT = 2
"""The grid on which the discretisation is checked is this many times as fine."""
AFFORDABLE_PAIRS = 2**24
"""Pairs of positions of an upper layer (0.8 GB in all) up to which the finer grid is evaluated without being asked."""
AFFORDABLE_FIRST_PAIRS = 2**28
"""Likewise for the streamed pairs of layer 1 (seconds of work, little memory)."""


def is_projection(warp: Warp) -> bool:
    """Whether W x is the L2 projection of the exact L_tau x: then ||W x|| <= ||L_tau x||."""
    return isinstance(warp, BandLimitedWarp) and warp.oversample > 1


def pushed(theorem: Theorem, gains: tuple[float, ...], errors: Tensor, sizes: Tensor) -> Tensor:
    """The most that errors after A_0 can become at the output: prod rho_k gain_k times, or by the moduli if rho = inf.

    Args:
        theorem: the constants of the layers.
        gains: ``sampling_gains``.
        errors: ``(B,)``, distances after A_0.
        sizes: ``(B,)``, square roots of the products of the two norms.

    Returns:
        ``(B,)``.
    """
    pairs = zip(errors.tolist(), sizes.tolist(), strict=True)
    return errors.new_tensor([theorem.through(error, size, gains) for error, size in pairs])


def low_pass_difference(architecture: Architecture, images: Tensor, warped: Tensor) -> Tensor:
    """||A_0 F (W x - x)||, ``(...)`` for images and warped images ``(..., C, *size)`` that broadcast."""
    d = images.ndim - 2
    difference = front_end_output(architecture, warped - images, d)
    sigma, boundary = architecture.antialiasing or 0.0, architecture.boundary
    matrices = pooling_matrices(images.shape[-d:], sigma, boundary=boundary, device=images.device)
    return pool(difference, matrices).flatten(-d - 1).norm(dim=-1)


def input_smoothing(architecture: Architecture) -> float | None:
    """sigma_0 where A_0 is that of the torus, through which a warp's error may be looked at; None: as it stands.

    With zeros beyond the border 1 A_0 1 does not damp what is wrong at the border as A_0 does on the torus; but it does
    not expand, so that the error itself is a bound.
    """
    return architecture.antialiasing if isinstance(architecture.boundary, Periodic) else None


def divides(architecture: Architecture, size: tuple[int, ...]) -> bool:
    """Whether the last stride leaves no remainder, so that every grid of the network is a torus."""
    return all(n % architecture.spacings[-1] == 0 for n in size)


def refinement_fits(architecture: Architecture, size: tuple[int, ...]) -> bool:
    """Whether the finer grid takes at most seconds and 0.8 GB."""
    first = math.prod(n * REFINEMENT for n in size)
    upper = 1 if architecture.depth == 1 else first // architecture.spacings[1] ** len(size)
    return upper**2 <= AFFORDABLE_PAIRS and first**2 <= AFFORDABLE_FIRST_PAIRS


def refined_distance(
    representation: Representation, images: Tensor, deformation: Deformation
) -> tuple[Tensor, Tensor, Tensor]:
    """The distance under the exact warp on a grid ``REFINEMENT`` times as fine.

    Args:
        representation: known through ``refined``.
        images: ``(B, C, *size)``, band-limited, float64.
        deformation: batch shape ``()`` or ``(B,)``.

    Returns:
        The distance ``(B,)``, the finer images and the finer warped images.
    """
    fine = refine(images[:1] if is_expanded(images) else images, REFINEMENT, deformation.d)
    warped = BandLimitedWarp()(fine, deformation.refined(REFINEMENT))
    fine = fine.expand_as(warped)
    return representation.refined(REFINEMENT).reference(fine).distance(warped), fine, warped
