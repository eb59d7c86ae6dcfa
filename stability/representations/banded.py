r"""``BandedCKN``: the exact CKN with truncated poolings, whose kernel needs a band of pairs only."""

import torch
from torch import Tensor

from stability.architecture import Architecture
from stability.boundaries import Periodic
from stability.grid import check_images, spatial_size
from stability.representations.band_choice import BandChoice, band_choice
from stability.representations.band_program import BandedProgram
from stability.representations.pair_plan import PairPlan
from stability.representations.pair_program import PairProgram
from stability.representations.pairs import PairRepresentation
from stability.representations.stages import PairStages

BATCH = 16
"""Images whose patches are held at a time."""


class BandedCKN(PairRepresentation):
    r"""||Phi'_n(x) - Phi'_n(y)||, exact for Phi'_n = A_n' M_n P_n ... A_1' M_1 P_1 A_0, and near that of ``GramCKN``.

    A_k' keeps the taps of A_k within R_k pixels along the first image axis. Pairs of positions farther apart along it
    than a band are then not needed. The radii are the least with

        ||Phi'(x) - Phi(x)|| <= sum_k ||A_k - A_k'|| prod_{j<k} ||A_j'|| prod_{j>k} rho_j ||A_j|| ||A_0 F x||

    at most ``tolerance`` ||A_0 F x||, so that distances are off by at most ``approximation_error`` of both images: a
    proof, numerically evaluated. On grids where the band is not counted to be faster all taps are kept and all pairs
    computed, without error; ``choice`` says what is done.

    Small deformations have small distances: a tolerance of 1e-3 says nothing about a distance of 1e-3 ||x||. No bound
    of the theorem speaks of A_k', so that the attribute ``architecture`` is None; ``network`` is what was given, and
    the bounds of ``GramCKN(network)`` hold for these distances with the error added.

    Args:
        architecture: kernels, patches, scales and strides; periodic boundary.
        tolerance: > 0 and below 1.
        refinement: as in ``GramCKN``.

    Raises:
        ValueError: for another boundary or a tolerance out of range.

    Distances can be differentiated in the second image, at the cost of all pairs.

    Reference: docs/kernels.md; Bietti & Mairal 2019, section 2.

    >>> import torch
    >>> from stability.architecture import Layer
    >>> banded = BandedCKN(Architecture((Layer(3, 1.5),)), tolerance=1e-2)
    >>> print(banded.choice((64, 16)))
    band of 17 of 64 rows, error 2.2e-03 ||A_0 F x||: ... s, all pairs ... s (counted)
    >>> print(banded.choice((16, 64)))
    all pairs, no error: the band would be all of them (16 of 16 rows)
    """

    def __init__(self, architecture: Architecture, tolerance: float = 1e-3, refinement: int = 1) -> None:
        super().__init__(architecture, refinement)
        if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 < tolerance < 1:
            raise ValueError(f"tolerance must be > 0 and < 1, got {tolerance!r}; use GramCKN for exact distances")
        if not isinstance(architecture.boundary, Periodic):
            raise ValueError(f"boundary must be Periodic() for a band, got {architecture.boundary!r}; use GramCKN")
        self.architecture, self.network, self.tolerance = None, architecture, float(tolerance)
        self._choices: dict[tuple[int, ...], BandChoice] = {}

    def refined(self, factor: int) -> "BandedCKN":
        """The network of the same tolerance on grids ``factor`` times as fine, with radii of their own."""
        return BandedCKN(self.network, self.tolerance, self.refinement * factor)

    def stages(self, image: Tensor) -> PairStages | None:
        """None: the theory says nothing about truncated poolings."""
        return None

    def choice(self, size: tuple[int, ...]) -> BandChoice:
        """Radii, band, error and counted costs on a grid.

        Args:
            size: ``(H, W)`` or ``(N,)``.
        """
        size = tuple(size)
        if size not in self._choices:
            self.network.check_size(tuple(n // self.refinement for n in size))
            self._choices[size] = band_choice(self.network, size, self.tolerance, self.refinement)
        return self._choices[size]

    def approximation_error(self, images: Tensor) -> Tensor:
        """At least ||Phi'(x) - Phi(x)||: the choice's error times ||A_0 F x||.

        |distance of this network - exact distance| is at most the sum of the two images' errors.

        Args:
            images: ``(B, C, *size)``.

        Returns:
            ``(B,)``, float64, in the unit of ||x||.
        """
        size = spatial_size(check_images(images))
        error, program = self.choice(size).error, self.program(images.double())
        cell = 1.0 / self.refinement ** len(size)
        parts = [program.plan.patches(part).square().sum((1, 2)) for part in images.detach().double().split(BATCH)]
        return error * (cell * torch.cat(parts)).sqrt()

    def _made(self, images: Tensor, dtype: torch.dtype) -> PairProgram:
        size = spatial_size(images)
        truncation = self.choice(size).truncation
        if truncation is None:
            return super()._made(images, dtype)
        plan = PairPlan(self.network, size, self.refinement, images.device, dtype, truncation.radii)
        return BandedProgram(plan)
