r"""One chunk of a sweep: a batch of images, a batch of fields, one model. Tensors in, tensors out.

Runs in a worker process with one thread: on two cores two processes are faster than two threads, and a neighbour's
load does not make the threads wait for each other.
"""

import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from stability.allowances import is_projection, low_pass_difference, refined_distance
from stability.architecture import Architecture
from stability.boundaries import NetworkBoundary, Periodic, Reflect
from stability.deformations.base import Deformation
from stability.front_ends import FrontEnd
from stability.representations.banded import BandedCKN
from stability.representations.base import Representation
from stability.representations.ckn import CKN
from stability.warps.band_limited import BandLimitedWarp, check_band_limited, project
from stability.warps.base import Warp
from stability.warps.error import QUADRATURE, exact_values, interpolation_error

HALF_A_GREY_LEVEL = 0.5 / 255
"""Less than that clipping changes no picture of eight bits, and does not count."""


@dataclass(eq=False)
class Deformed:
    """Images under fields, shared by all models that see them.

    Args:
        images: ``(I, C, *size)``.
        deformations: batches of fields, F in all.
        warp: how the images were deformed.
        warped: ``(I, F, C, *size)``.
        exact: the exact deformations at the nodes of ``interpolation_error``, one tensor per batch of fields.
        clipped: share of the pixels that clipping changed by more than half a grey level, ``(I, F)``.
    """

    images: Tensor
    deformations: tuple[Deformation, ...]
    warp: Warp
    warped: Tensor
    exact: tuple[Tensor, ...]
    clipped: Tensor
    _errors: dict[float | None, Tensor] = field(default_factory=dict)
    _differences: dict[tuple[float | None, FrontEnd | None, NetworkBoundary], Tensor] = field(default_factory=dict)

    def error(self, antialiasing: float | None) -> Tensor:
        """||A_0 (W x - L x)|| for every image and field, ``(I, F)``."""
        if antialiasing not in self._errors:
            start, found = 0, []
            for fields, exact in zip(self.deformations, self.exact, strict=True):
                stop = start + fields.batch_shape.numel()
                error = interpolation_error(
                    self.images[:, None],
                    fields,
                    self.warp,
                    antialiasing=antialiasing,
                    warped=self.warped[:, start:stop],
                    exact=exact,
                )
                found.append(error.expand(len(self.images), stop - start))
                start = stop
            self._errors[antialiasing] = torch.cat(found, dim=1)
        return self._errors[antialiasing]

    def difference(self, architecture: Architecture) -> Tensor:
        """||A_0 F (W x - x)|| for every image and field, ``(I, F)``."""
        key = architecture.antialiasing, architecture.front_end, architecture.boundary
        if key not in self._differences:
            pairs = zip(self.images, self.warped, strict=True)
            rows = [low_pass_difference(architecture, image[None], warped) for image, warped in pairs]
            self._differences[key] = torch.stack(rows)
        return self._differences[key]


@dataclass(frozen=True)
class Measured:
    """What one model found for a chunk; L layers, I images, F fields.

    Args:
        distance: ``(L, I, F)``.
        norm: ||Phi(x)||, ``(L, I)``.
        floor: ``(L, I)``.
        refinement: change of the distance on a grid twice as fine, ``(L, I, F)``; NaN where it was not asked for, and
            for several layers at once.
        captured_energy: of a finite CKN, ``(I,)``; NaN for others.
        approximation: the most that a finite CKN's distance is off the exact one, ``(I, F)``; NaN for others.
        seconds: of one distance.
    """

    distance: Tensor
    norm: Tensor
    floor: Tensor
    refinement: Tensor
    captured_energy: Tensor
    approximation: Tensor
    seconds: float


def deform(images: Tensor, deformations: tuple[Deformation, ...], warp: Warp) -> Deformed:
    """Every image under every field; in a window, where networks expect pictures, values are clipped to [0, 1]."""
    d, size = images.ndim - 2, tuple(images.shape[2:])
    exact = tuple(exact_values(images[:, None], fields, warp.boundary) for fields in deformations)
    if isinstance(warp, BandLimitedWarp) and warp.oversample == QUADRATURE:  # its projection, without a second look-up
        if isinstance(warp.boundary, Periodic):
            check_band_limited(images, d)
        parts = [project(values, size, warp.boundary) for values in exact]
    else:
        parts = [warp(images[:, None], fields) for fields in deformations]
    warped = torch.cat(parts, dim=1) if parts else images[:, None][:, :0]
    axes = tuple(range(-d - 1, 0))
    if isinstance(warp.boundary, Reflect):
        inside = warped.clamp(0.0, 1.0)
        return Deformed(
            images, deformations, warp, inside, exact, ((inside - warped).abs() > HALF_A_GREY_LEVEL).double().mean(axes)
        )
    return Deformed(images, deformations, warp, warped, exact, torch.zeros(warped.shape[:2], dtype=torch.float64))


def measure(representation: Representation, deformed: Deformed, *, refinement: bool) -> Measured:
    """The distances of one model: x is encoded once, then every W x."""
    images, warped = deformed.images, deformed.warped
    start = time.perf_counter()
    reference = representation.reference(images)
    layers = len(representation.layer_names)
    nothing = images.new_zeros(layers, len(images), 0)  # every field of the chunk is out of reach
    distance = reference.distances(warped) if warped.shape[1] else nothing  # (L, I, F)
    seconds = (time.perf_counter() - start) / max(1, warped.shape[0] * warped.shape[1])
    change = torch.full_like(distance, float("nan"))
    if refinement and warped.shape[1] and layers == 1:
        rows = [_refinement(representation, deformed, i, distance[0, i]) for i in range(len(images))]
        change = torch.stack(rows)[None]
    energy = torch.full((len(images),), float("nan"), dtype=torch.float64)
    if isinstance(representation, CKN):
        energy = representation.captured_energy(images).double().prod(dim=1)
    off = torch.full(warped.shape[:2], float("nan"), dtype=torch.float64)
    if warped.shape[1] and (
        isinstance(representation, BandedCKN) or (isinstance(representation, CKN) and not representation.ridge)
    ):
        of_warped = representation.approximation_error(warped.flatten(0, 1)).view(warped.shape[:2])
        off = representation.approximation_error(images)[:, None] + of_warped
    return Measured(distance, reference.norms, reference.floors, change, energy, off, seconds)


def _refinement(representation: Representation, deformed: Deformed, i: int, distance: Tensor) -> Tensor:
    """|distance on this grid - distance on a grid twice as fine| under the exact warp, ``(F,)`` for image i."""
    image = deformed.images[i : i + 1]
    fine = [refined_distance(representation, image, fields)[0] for fields in deformed.deformations]
    if not is_projection(deformed.warp):
        exact = torch.cat([BandLimitedWarp()(image, fields) for fields in deformed.deformations])
        distance = representation.reference(image).distance(exact[None])[0]
    return (torch.cat(fine) - distance).abs()


def pair_distances(representation: Representation, images: Tensor) -> Tensor:
    """Median of ||Phi(x_i) - Phi(x_j)|| over all pairs i < j, of every layer, ``(L,)``; NaN for a single image."""
    if len(images) < 2:
        return torch.full((len(representation.layer_names),), float("nan"), dtype=torch.float64)
    rows, columns = torch.triu_indices(len(images), len(images), offset=1)
    return representation.distance_matrices(images)[:, rows, columns].quantile(0.5, dim=1)
