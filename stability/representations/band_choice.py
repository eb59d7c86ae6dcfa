r"""Whether a band pays: radii of truncated poolings from a tolerance, their proved error, and what both ways cost.

Costs are counted as in ``pair_cost``, for one channel, so that the choice depends on the grid alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stability.architecture import Architecture
from stability.operators.truncation import truncation_norms, truncation_radius
from stability.representations.band_program import reaches, rows_together
from stability.representations.pair_cost import FLOPS, ITEM, OF_A_WARP, PASS, Cost, exact_cost

ADDITION = 1e-9
"""Seconds per entry that is added to a sum in memory."""
GAIN = 0.8
"""The band is taken where it costs at most this share of all pairs: counts are not better than that."""
ROUND_OFF = 1e-15
"""Of a symbol's discrete Fourier transform."""


@dataclass(frozen=True)
class Truncation:
    """Radii of every layer's pooling along the rows, in pixels of its grid, and the error over ||A_0 F x||."""

    radii: tuple[int, ...]
    error: float


@dataclass(frozen=True)
class BandChoice:
    """What ``BandedCKN`` does on one grid, and why."""

    truncation: Truncation | None
    """None: all taps and all pairs, without error."""
    reaches: tuple[int, ...]
    """Rows of a pair are at most so far apart, for every layer, if the poolings are truncated."""
    rows: tuple[int, ...]
    """Rows of every layer's grid."""
    banded: Cost | None
    """Per deformed image, counted; None where the band would be all pairs."""
    dense: Cost

    @property
    def error(self) -> float:
        """At most ||Phi'(x) - Phi(x)|| / ||A_0 F x||; 0 with all pairs."""
        return 0.0 if self.truncation is None else self.truncation.error

    def __str__(self) -> str:
        band = ", ".join(f"{min(2 * d + 1, h)} of {h}" for d, h in zip(self.reaches, self.rows, strict=True))
        dense = f"{self.dense.seconds:.3g} s"
        if self.banded is None:
            return f"all pairs, no error: the band would be all of them ({band} rows)"
        banded = f"{self.banded.seconds:.3g} s"
        if self.truncation is None:
            return f"all pairs, no error: {dense}, band of {band} rows {banded} (counted): it does not pay"
        return f"band of {band} rows, error {self.error:.1e} ||A_0 F x||: {banded}, all pairs {dense} (counted)"


def band_choice(architecture: Architecture, size: Sequence[int], tolerance: float, refinement: int = 1) -> BandChoice:
    """A band or all pairs, whichever is counted to be faster.

    Args:
        architecture: the network, on the torus.
        size: of the images.
        tolerance: of the error over ||A_0 F x||.
        refinement: their grid is so many times as fine as the architecture's pixels.
    """
    truncation = truncate(architecture, size, tolerance, refinement)
    found = reaches(truncation.radii, [layer.subsampling for layer in architecture.layers])
    rows = tuple(size[0] // spacing for spacing in architecture.spacings[: architecture.depth])
    dense, banded = exact_cost(architecture, 1, size, refinement), None
    if all(2 * reach + 1 <= h for reach, h in zip(found, rows, strict=True)):
        banded = banded_cost(architecture, 1, size, truncation.radii)
    pays = banded is not None and truncation.error <= tolerance and banded.seconds <= GAIN * dense.seconds
    return BandChoice(truncation if pays else None, found, rows, banded, dense)


def truncate(architecture: Architecture, size: Sequence[int], tolerance: float, refinement: int = 1) -> Truncation:
    r"""The least radii with ||A_k - A_k'|| prod_{j<k} ||A_j'|| prod_{j>k} rho_j ||A_j|| <= tolerance / n for every k.

    The sum over k bounds ||Phi'(x) - Phi(x)|| / ||A_0 F x||: docs/kernels.md.

    Args:
        architecture: the network, on the torus.
        size: of the images.
        tolerance: of the sum.
        refinement: their grid is so many times as fine as the architecture's pixels.
    """
    layers, grids = architecture.layers, [[n // s for n in size] for s in architecture.spacings[: architecture.depth]]
    sigmas = [
        layer.pooling_scale * refinement / spacing
        for layer, spacing in zip(layers, architecture.spacings, strict=False)
    ]
    full = [
        [truncation_norms(n, sigma, layer.subsampling, n)[1] for n in grid]
        for layer, sigma, grid in zip(layers, sigmas, grids, strict=True)
    ]
    before, error, radii = 1.0, 0.0, list[int]()
    for k, (layer, sigma, grid) in enumerate(zip(layers, sigmas, grids, strict=True)):
        across = math.prod(full[k][1:])
        behind = math.prod(
            upper.kernel.lipschitz * math.prod(full[k + 1 + j]) for j, upper in enumerate(layers[k + 1 :])
        )
        factor = before * across * behind
        radius = truncation_radius(grid[0], sigma, layer.subsampling, tolerance / len(layers) / factor - ROUND_OFF)
        dropped, kept = truncation_norms(grid[0], sigma, layer.subsampling, radius)
        error += factor * (dropped + ROUND_OFF)
        before *= kept * across
        radii.append(radius)
    return Truncation(tuple(radii), error)


def banded_cost(architecture: Architecture, channels: int, size: Sequence[int], radii: Sequence[int]) -> Cost:
    """Cost of ``BandedCKN`` with these radii.

    Args:
        architecture: the network.
        channels: of the images, behind the front end.
        size: of the images.
        radii: of every layer's pooling.
    """
    strides = [layer.subsampling for layer in architecture.layers]
    found = (*reaches(radii, strides), 0)
    (h, w), seconds, held, worked = (*size, 1)[:2], 0.0, 0.0, 0.0
    block = patch = 0
    for k, (layer, radius, stride) in enumerate(zip(architecture.layers, radii, strides, strict=True)):
        width = 2 * found[k] + 1
        entries, together = h * w * width * w, rows_together(width, w, h)
        block, patch = max(block, together * w * width * w), patch if not k else max(patch, together * w * width * w)
        seconds += PASS * entries
        norms = h * width * w
        if not k:
            patches = channels * layer.patch_size ** len(size) + 1
            seconds += 2.0 * entries * patches / FLOPS
            norms += (2 * h + width) * w * patches
        pooled, narrow = math.ceil(h / stride), math.ceil(w / stride) if len(size) == 2 else 1
        working = float(norms)
        if k < architecture.depth - 1:
            reach = found[k + 1]
            above = 2 * (reach + (stride - 1 + radius) // stride) + 1
            seconds += 2.0 * h * w * above * (width * w + narrow * w + narrow * narrow) / FLOPS
            band = pooled * narrow * (2 * reach + 1) * narrow
            seconds += ADDITION * band * (2 * radius + 1)
            held += band
            working += math.ceil(together / stride) * w * (width * w + above * (w + narrow)) + narrow * w * h
        if k:
            working += 2 * together * w * width * w  # a copy of what is read, and of what is shifted
        worked = max(worked, working)
        h, w = pooled, narrow
    return Cost(OF_A_WARP * seconds, ITEM * (held + block + patch + worked))
