"""From a specification to the objects that measure: fields, warps, representations."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stability.architecture import Architecture
from stability.deformations.base import Deformation
from stability.deformations.control import control
from stability.deformations.fourier import FourierField
from stability.deformations.translation import Translation
from stability.representations.base import KernelRepresentation
from stability.representations.ckn import CKN
from stability.representations.gram import GramCKN
from stability.representations.linear import LinearGram
from stability.sweeps.spec import (
    BandLimitedWarpSpec,
    BilinearWarpSpec,
    CKNSpec,
    FourierSpec,
    GramSpec,
    IndexWarpSpec,
    LinearSpec,
    SplineWarpSpec,
    SweepSpec,
    TranslationSpec,
)
from stability.warps.band_limited import BandLimitedWarp
from stability.warps.base import Warp
from stability.warps.bilinear import BilinearWarp
from stability.warps.index import IndexWarp
from stability.warps.spline import SplineWarp

SEEDS_PER_SWEEP = 100_000


@dataclass(frozen=True)
class Group:
    """Fields of one family and one seed, a batch over their sizes; ``deformation`` None: sizes out of reach."""

    family: str
    cutoff: float
    field_seed: int
    deformation: Deformation | None
    asked: tuple[tuple[float | None, float | None], ...]  # (displacement_norm, jacobian_norm) of each field


@dataclass(frozen=True)
class Measure:
    """One representation of one point of the varied architectures."""

    name: str
    filters: str  # "64-128" for a finite-dimensional CKN, else ""
    point: dict[str, Any]
    architecture: Architecture
    representation: KernelRepresentation


def build_warp(spec: BandLimitedWarpSpec | SplineWarpSpec | BilinearWarpSpec | IndexWarpSpec) -> Warp:
    """The warp that a spec names."""
    match spec:
        case BandLimitedWarpSpec():
            return BandLimitedWarp(spec.oversample)
        case SplineWarpSpec():
            return SplineWarp()
        case BilinearWarpSpec():
            return BilinearWarp()
        case IndexWarpSpec():
            return IndexWarp()


def check_sizes(spec: SweepSpec) -> None:
    """Raise ``ValueError`` unless every varied architecture fits the images."""
    for _, architecture in spec.architectures():
        architecture.check_size(spec.images.size)


def build_measures(spec: SweepSpec, load: Callable[[int], Tensor]) -> list[Measure]:
    """Every representation of every varied architecture.

    Args:
        spec: what is measured.
        load: gives the first n images of the set; a finite-dimensional CKN learns its anchors from them.
    """
    measures = []
    for point, architecture in spec.architectures():
        for chosen in spec.representations:
            filters = ""
            match chosen:
                case GramSpec():
                    representation: KernelRepresentation = GramCKN(architecture)
                case LinearSpec():
                    representation = LinearGram(architecture)
                case CKNSpec():
                    rng = torch.Generator().manual_seed(chosen.seed)
                    representation = CKN.fit(architecture, load(chosen.images), filters=chosen.filters, generator=rng)
                    filters = "-".join(map(str, chosen.filters))
            seen = representation.architecture or architecture
            measures.append(Measure(chosen.kind, filters, point, seen, representation))
    return measures


def build_fields(spec: SweepSpec) -> list[Group]:
    """Every field at every size asked for.

    Raises:
        ValueError: if a field cannot have a pair of norms and the spec says "refuse".
    """
    groups = []
    for family in spec.deformations:
        match family:
            case FourierSpec():
                for index in range(spec.fields):
                    groups += _fourier(spec, family, SEEDS_PER_SWEEP * spec.seed + index)
            case TranslationSpec():
                groups += _translations(family, spec.images.size)
    return groups


def _fourier(spec: SweepSpec, family: FourierSpec, seed: int) -> list[Group]:
    field = FourierField.sample(spec.images.size, cutoff=family.cutoff, generator=torch.Generator().manual_seed(seed))
    groups: list[Group] = []
    pairs = list(family.pairs)
    if spec.on_unreachable == "record":
        reached = []
        for pair in pairs:
            try:
                _control(field, family, [pair])
            except ValueError:
                groups.append(Group(family.kind, family.cutoff, seed, None, (pair,)))
            else:
                reached.append(pair)
        pairs = reached
    if pairs:
        try:
            controlled = _control(field, family, pairs)
        except ValueError as error:
            raise ValueError(f"field {seed} of the family 'fourier': {error}, or on_unreachable='record'") from None
        groups.append(Group(family.kind, family.cutoff, seed, controlled, tuple(pairs)))
    return groups


def _control(field: FourierField, family: FourierSpec, pairs: list[tuple[float | None, float | None]]) -> FourierField:
    def column(index: int) -> Tensor | None:
        values = [pair[index] for pair in pairs]
        return None if values[0] is None else torch.tensor(values, dtype=torch.float64)

    return control(field, displacement_norm=column(0), jacobian_norm=column(1), shift=family.shift)


def _translations(family: TranslationSpec, size: tuple[int, ...]) -> list[Group]:
    groups = []
    for index, direction in enumerate(family.directions(len(size))):
        vectors = torch.tensor(family.displacement_norm, dtype=torch.float64)[:, None] * torch.tensor(
            direction, dtype=torch.float64
        )
        asked = tuple((norm, None) for norm in family.displacement_norm)
        groups.append(Group(family.kind, 0.0, index, Translation(vectors, size=size), asked))
    return groups
