"""How long a distance takes, as a formula: chunks are cut by it, and ``stability plan`` adds it up.

The constants were read off one core of an ordinary server and are good to a factor of two or three. They decide how
much is lost when a run is killed, never what is computed.
"""

import math

from stability.architecture import Architecture
from stability.sweeps.marks import OF_CERTIFICATES, OF_MAPS, OF_NORMS
from stability.sweeps.models import (
    CKNSpec,
    CNNSpec,
    ConvexifiedSpec,
    GaussianCKNSpec,
    GramSpec,
    LeNetSpec,
    LinearSpec,
    NTKSpec,
    RepresentationSpec,
    counts,
)
from stability.sweeps.searches import (
    FourierSpace,
    LinearisedStartSpec,
    PiecewiseLinearSpace,
    RigidMotionsSpace,
    SearchSpec,
    SplineSpace,
    TranslationsSpace,
)
from stability.sweeps.spec import SweepSpec

EVALUATION = 4e-10
"""Seconds per point and coefficient of an exact warp."""
LOOK_UP = 3e-8
"""Seconds per pixel of a warp by look-up."""
PAIR = 1.3e-8
"""Seconds per pair of positions and layer of an exact kernel."""
MULTIPLICATION = 2.5e-10
"""Seconds per multiplication of a finite network."""
OVERHEAD = 2e-4
"""Seconds of a distance however small."""
MODULE = 2e-3
"""Seconds of an unknown module."""
K_MEANS, BACKWARD = 20.0, 4.0
"""Iterations of k-means in units of an encoding; a training step in units of a distance."""
DRAW, TILTED_DRAW = 8e-3, 6e-2
"""Seconds to draw a field and certify its norms; to meet two norms at once."""


MAPS = 1.2e-9
"""Seconds per cube of the number of positions and layer, to decompose the maps of an exact kernel and deform them."""
COLUMNS = 4e-9
"""Seconds per squared number of positions and channel, to deform the maps of a finite network."""
CERTIFICATES, OPERATOR_NORMS = 0.1, {1: 0.03, 2: 2.0}
"""Seconds a field: certified, and enclosed, norms of the theorem's operators; these by the number of axes."""
GRADIENT, EXACT_GRADIENT = 4.0, 20.0
"""Gradients in a search in units of a distance; of an exact kernel's distance."""
LINEAR_STEP, STEP_OF_A_PIXEL, DENSE_STEP = 1e-3, 1e-5, 1e-6
"""Seconds of a search's linear step; for every pixel; for the squared number of dimensions where matrices are dense."""
SCREENING, SCREENED, TRIED, LASTING = 4, 2, 2, 4
"""Steps after which only some starts of a search go on, and how many times ``kept`` take them; lengths tried in a step;
further steps after which most ascents gain too little."""


def distance_cost(chosen: RepresentationSpec, architecture: Architecture, spec: SweepSpec) -> float:
    """Seconds of one distance on one core.

    Args:
        chosen: the representation.
        architecture: the varied one.
        spec: gives the size of the images.
    """
    pixels, d = math.prod(spec.images.size), len(spec.images.size)
    positions = [pixels / s**d for s in architecture.spacings]
    seconds = OVERHEAD
    if isinstance(chosen, GramSpec | NTKSpec):
        seconds += PAIR * (3 if isinstance(chosen, NTKSpec) else 1) * sum(n * n for n in positions[:-1])
    elif isinstance(chosen, LinearSpec):
        seconds += MULTIPLICATION * pixels * sum(spec.images.size) * 4
    elif (channels := counts(chosen)) is not None:
        before: int = spec.images.channels
        for layer, count, n in zip(architecture.layers, channels, positions, strict=False):
            seconds += MULTIPLICATION * n * count * (before * layer.patch_size**d + count + 20)
            before = count
    else:
        seconds += MODULE
    if any(name in OF_MAPS for name in spec.rungs):
        seconds += _maps_cost(chosen, positions, spec)
    fine = 2 ** (2 * d)  # pairs of positions on a grid twice as fine
    return seconds * (1 + fine) if spec.refinement else seconds


def _maps_cost(chosen: RepresentationSpec, positions: list[float], spec: SweepSpec) -> float:
    """Seconds of the rungs that look at the network's maps, of one image and field."""
    if isinstance(chosen, GramSpec | LinearSpec):
        return MAPS * sum(n**3 for n in positions[:-1])
    if isinstance(chosen, CKNSpec | GaussianCKNSpec | CNNSpec):
        widths = chosen.widths if isinstance(chosen, CNNSpec) else chosen.filters
        return COLUMNS * sum(n * n * width for n, width in zip(positions, widths, strict=False))
    return 0.0


def field_cost(spec: SweepSpec) -> float:
    """Seconds of the rungs of one field, shared by all images and models of a chunk."""
    certified = CERTIFICATES if any(name in OF_CERTIFICATES for name in spec.rungs) else 0.0
    enclosed = OPERATOR_NORMS[len(spec.images.size)] if any(name in OF_NORMS for name in spec.rungs) else 0.0
    return certified + enclosed


def fit_cost(chosen: RepresentationSpec, architecture: Architecture, spec: SweepSpec, available: int) -> float:
    """Seconds to learn a model before it measures; 0 for one that learns nothing.

    Args:
        chosen: the representation.
        architecture: the varied one.
        spec: gives the size of the images.
        available: images that a training without a number of its own sees.
    """
    one = distance_cost(chosen, architecture, spec.model_copy(update={"refinement": False}))
    if isinstance(chosen, ConvexifiedSpec):
        return (chosen.images or available) * one * K_MEANS
    if isinstance(chosen, GaussianCKNSpec):
        return chosen.images * one * (K_MEANS + chosen.iterations)
    choice = chosen.images * one * K_MEANS if isinstance(chosen, CKNSpec) and chosen.checkpoint is None else 0.0
    if isinstance(chosen, CKNSpec | CNNSpec | LeNetSpec) and chosen.training is not None:
        return choice + chosen.training.epochs * (chosen.training.images or available) * one * BACKWARD
    return choice


def warp_cost(spec: SweepSpec) -> float:
    """Seconds to deform one image and to compare with the exact deformation."""
    pixels, d = math.prod(spec.images.size) * spec.images.channels, len(spec.images.size)
    exact = EVALUATION * 4**d * pixels * math.prod(spec.images.size)
    return OVERHEAD + exact + LOOK_UP * pixels


def draw_cost(two_norms: bool) -> float:
    """Seconds to draw one field, give it its sizes and certify its norms."""
    return TILTED_DRAW if two_norms else DRAW


def search_cost(search: SearchSpec, chosen: RepresentationSpec, architecture: Architecture, spec: SweepSpec) -> float:
    """Seconds of one search: one image, one pair of norms.

    Args:
        search: says how many starts and steps.
        chosen: the representation.
        architecture: the varied one.
        spec: gives the size of the images.
    """
    bare = spec.model_copy(update={"refinement": False, "rungs": ()})
    value = distance_cost(chosen, architecture, bare) + warp_cost(bare)
    match search.fields:
        case TranslationsSpace(angles=angles, radii=radii):
            return value * angles * radii
        case RigidMotionsSpace(rotations=rotations, angles=angles, radii=radii):
            return value * (2 * rotations + 1) * angles * (radii + 1)
    starts, gradients = sum(start.count for start in search.starts), gradient_count(search)
    step = LINEAR_STEP + STEP_OF_A_PIXEL * math.prod(spec.images.size) + DENSE_STEP * _dense(search, spec) ** 2
    gradient = value * (EXACT_GRADIENT if isinstance(chosen, GramSpec | NTKSpec) else GRADIENT)
    return gradients * (gradient + step) + starts * step + (2 * starts + TRIED * gradients) * value


def gradient_count(search: SearchSpec) -> int:
    """Gradients that an ascent from every start takes, about: it may stop before its last step, or go on.

    >>> gradient_count(SearchSpec(displacement_norm=1.0, jacobian_norm=0.25))
    136
    """
    starts = sum(start.count for start in search.starts)
    slopes = sum(one.count * one.steps for one in search.starts if isinstance(one, LinearisedStartSpec))
    kept = min(starts, search.kept)
    screened = min(starts, SCREENED * kept) if search.steps > SCREENING else kept
    first = min(SCREENING, search.steps)
    return slopes + first * screened + min(search.steps - first, LASTING) * kept


def _dense(search: SearchSpec, spec: SweepSpec) -> float:
    """Dimensions of the space of fields where a linear step works on dense matrices; 0 where it does not."""
    size = spec.images.size
    match search.fields:
        case FourierSpace(cutoff=cutoff):
            return len(size) * (2 * cutoff + 1) ** len(size)
        case SplineSpace(lattice=lattice):
            sides = lattice
        case PiecewiseLinearSpace(lattice=lattice) if search.constraints:
            sides = size if lattice is None else lattice
        case _:
            return 0.0
    return len(size) * (sides ** len(size) if isinstance(sides, int) else math.prod(sides))


def chunk_memory(spec: SweepSpec, cells: int) -> float:
    """Bytes that a chunk of so many cells holds at most, by the arrays of its warp."""
    d = len(spec.images.size)
    return 8.0 * cells * math.prod(spec.images.size) * spec.images.channels * (4 * 4**d + 4)
