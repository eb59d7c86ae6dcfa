r"""One chunk of a sweep: one image, every field, every representation. Tensors in, plain numbers out.

Runs in a worker process with one thread: on two cores two processes are faster than two threads, and a neighbour's
load does not make the threads wait for each other.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.allowances import is_projection, low_pass_difference, refined_distance
from stability.architecture import Architecture
from stability.deformations.base import Deformation
from stability.representations.base import KernelRepresentation, Reference, Representation
from stability.warps.band_limited import BandLimitedWarp
from stability.warps.base import Warp
from stability.warps.error import interpolation_error


@dataclass(frozen=True)
class Chunk:
    """One unit of work."""

    image: Tensor  # (1, C, *size)
    deformations: tuple[Deformation, ...]  # batches of fields, F in all
    warp: Warp
    representations: tuple[KernelRepresentation, ...]
    refinement: bool


@dataclass(frozen=True)
class Measured:
    """What a chunk found: lists over representations (outer) and fields (inner)."""

    distance: list[list[float]]
    refinement: list[list[float]]  # change of the distance on a grid twice as fine; NaN where it was not asked for
    norm_phi: list[float]
    floor: list[float]
    interpolation_error: list[list[float]]  # ||A_0 (W x - L x)||
    low_pass: list[list[float]]  # ||A_0 F (W x - x)||
    warped_norm: list[float]  # ||W x||
    seconds: list[float]  # per distance, of each representation


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread inside, the caller's number afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def measure(chunk: Chunk) -> Measured:
    """Warp the image by every field once, then ask every representation for the distances."""
    with one_thread(), torch.no_grad():
        image = chunk.image
        parts = [chunk.warp(image, fields) for fields in chunk.deformations]
        warped = torch.cat(parts)  # (F, C, *size)
        errors: dict[float | None, list[float]] = {}
        differences: dict[tuple[float | None, object], list[float]] = {}
        distance, refinement, norm_phi, floor, seconds, error_rows, difference_rows = [], [], [], [], [], [], []
        for representation in chunk.representations:
            architecture = _architecture(representation)
            sigma, front_end = architecture.antialiasing, architecture.front_end
            if sigma not in errors:
                errors[sigma] = []
                for fields, part in zip(chunk.deformations, parts, strict=True):
                    error = interpolation_error(image, fields, chunk.warp, antialiasing=sigma, warped=part)
                    errors[sigma] += error.tolist()
            if (sigma, front_end) not in differences:
                differences[sigma, front_end] = low_pass_difference(architecture, image, warped).tolist()
            start = time.perf_counter()
            reference = representation.reference(image)
            distance.append(reference.distance(warped[None])[0].tolist())
            seconds.append((time.perf_counter() - start) / len(warped))
            refinement.append(_refinement(chunk, representation, reference, distance[-1]))
            norm_phi.append(float(reference.norm))
            floor.append(float(reference.floor))
            error_rows.append(errors[sigma])
            difference_rows.append(differences[sigma, front_end])
        warped_norm = warped.flatten(1).norm(dim=1).tolist()
        return Measured(distance, refinement, norm_phi, floor, error_rows, difference_rows, warped_norm, seconds)


def _refinement(
    chunk: Chunk, representation: KernelRepresentation, reference: Reference, distance: list[float]
) -> list[float]:
    """|distance on this grid - distance on a grid twice as fine| under the exact warp, for every field."""
    if not chunk.refinement:
        return [float("nan")] * len(distance)
    fine = [refined_distance(representation, chunk.image, fields)[0] for fields in chunk.deformations]
    coarse = chunk.image.new_tensor(distance)
    if not is_projection(chunk.warp):
        exact = torch.cat([BandLimitedWarp()(chunk.image, fields) for fields in chunk.deformations])
        coarse = reference.distance(exact[None])[0]
    return (torch.cat(fine) - coarse).abs().tolist()


def pair_distance(representation: KernelRepresentation, images: Tensor) -> float:
    """Median of ||Phi(x_i) - Phi(x_j)|| over all pairs i < j; NaN for a single image."""
    with one_thread(), torch.no_grad():
        gram = representation.kernel_matrix(images)
        squared = gram.diagonal()[:, None] + gram.diagonal() - 2.0 * gram
        rows, columns = torch.triu_indices(len(images), len(images), offset=1)
        return float(squared[rows, columns].clamp_min(0.0).sqrt().median()) if len(rows) else float("nan")


def _architecture(representation: Representation) -> Architecture:
    assert representation.architecture is not None  # a sweep builds its representations from architectures
    return representation.architecture
