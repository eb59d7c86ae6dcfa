"""From a specification to the objects that are measured with: images, warps, fields."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stability import images as image_sets
from stability import plugins
from stability.boundaries import Boundary, Periodic, Reflect
from stability.deformations.base import Deformation
from stability.deformations.control import MARGIN, control, reachable
from stability.deformations.spectral import Steerable
from stability.deformations.stack import stack
from stability.deformations.translation import Translation
from stability.sweeps.chunks import Draw
from stability.sweeps.families import CustomFamilySpec, DeformationSpec, TranslationSpec
from stability.sweeps.parts import BandLimitedWarpSpec, BilinearWarpSpec, IndexWarpSpec, SplineWarpSpec, TangentSpec
from stability.sweeps.searches import SearchSpec
from stability.sweeps.sized import BandLimitedSpec, DrawnSpec, Pair, Sized, WithinSpec
from stability.sweeps.spec import SweepSpec
from stability.warps.band_limited import BandLimitedWarp
from stability.warps.base import Warp
from stability.warps.bilinear import BilinearWarp
from stability.warps.index import IndexWarp
from stability.warps.spline import SplineWarp
from stability.warps.tangent import TangentPerturbation

AT_THE_END = 1e-6
"""Relative distance from the end of the reachable interval that still counts as inside, as in ``control``."""


@dataclass(frozen=True)
class Fields:
    """Some draws of one family at every size asked for.

    Args:
        family: its name in the rows.
        cutoff: of the family; 0 where it has none.
        parameters: everything but the sizes that its fields depend on, as compact JSON.
        items: (seed, displacement_norm, jacobian_norm) asked for, one per field.
        present: positions of the items that have a field; the others are out of reach.
        deformations: batches of fields, in the order of ``present``.
        search: whether a search chose them.
    """

    family: str
    cutoff: float
    parameters: str
    items: tuple[tuple[int, float | None, float | None], ...]
    present: tuple[int, ...]
    deformations: tuple[Deformation, ...]
    search: bool = False


def load_images(spec: SweepSpec, count: int) -> Tensor:
    """The first images of the set, prepared for the sweep's domain, ``(count, C, *size)``."""
    chosen = spec.images
    return image_sets.load(
        chosen.name, count=count, size=chosen.size, channels=chosen.channels, root=chosen.root, torus=torus(spec)
    )


def torus(spec: SweepSpec) -> bool:
    """Whether the images live on the torus."""
    return spec.images.domain != "window"


def build_warp(spec: SweepSpec) -> Warp:
    """The warp of a spec, with the boundary of its domain."""
    boundary: Boundary = Periodic() if torus(spec) else Reflect()
    match spec.warp:
        case SplineWarpSpec(degree=degree):
            return SplineWarp(boundary=boundary, degree=degree)
        case BilinearWarpSpec():
            return BilinearWarp(boundary=boundary)
        case IndexWarpSpec():
            return IndexWarp(boundary=boundary)
        case BandLimitedWarpSpec(oversample=oversample):
            return BandLimitedWarp(oversample, boundary=boundary)
        case TangentSpec(smoothing=smoothing):
            return TangentPerturbation(smoothing, boundary=boundary)
        case None:
            raise AssertionError("a complete spec has a warp")


def build_fields(spec: SweepSpec, draws: Sequence[Draw]) -> Fields:
    """The fields of draws of one family.

    Args:
        spec: gives the family and the size.
        draws: of the same family.

    Raises:
        ValueError: if a field cannot have a pair of norms and the spec says "refuse".
    """
    family, size = spec.deformations[draws[0].family], spec.images.size
    items = items_of(draws)
    own = (_name(family), float(getattr(family, "cutoff", 0.0)), _parameters(family), items)
    seeds, pairs = [draw.seed for draw in draws], draws[0].pairs
    if isinstance(family, WithinSpec):
        within = [family.sample_within(size, pair, _generator(seed)) for seed in seeds for pair in pairs]
        return Fields(*own, tuple(range(len(items))), (stack(within),))
    if isinstance(family, TranslationSpec):
        vectors = torch.tensor([family.directions(len(size))[seed] for seed in seeds], dtype=torch.float64)
        lengths = torch.tensor(family.displacement_norm, dtype=torch.float64)
        moved = Translation((lengths[None, :, None] * vectors[:, None]).flatten(0, 1), size=size)
        return Fields(*own, tuple(range(len(items))), (moved,))
    fields = _sampled(family, size, seeds)
    if isinstance(family, CustomFamilySpec):
        controlled = [_controlled(family, field, pairs, seed) for field, seed in zip(fields, seeds, strict=True)]
        return Fields(*own, tuple(range(len(items))), tuple(controlled))
    (stacked,) = fields
    inside = within_reach(family, stacked, pairs)
    if bool(inside.all()):
        both = _controlled(family, stacked[:, None], pairs, seeds[0])
        return Fields(*own, tuple(range(len(items))), (_flat(both),))
    if spec.on_unreachable == "refuse":
        refuse(family, stacked, pairs, seeds, inside)
    parts = []
    for i, row in enumerate(inside.tolist()):
        reached = tuple(pair for pair, good in zip(pairs, row, strict=True) if good)
        parts += [_controlled(family, stacked[i], reached, seeds[i])] if reached else []
    return Fields(*own, tuple(inside.flatten().nonzero()[:, 0].tolist()), tuple(parts))


def items_of(draws: Sequence[Draw]) -> tuple[tuple[int, float | None, float | None], ...]:
    """(seed, displacement_norm, jacobian_norm) of every field that is asked for."""
    return tuple((draw.seed, *pair) for draw in draws for pair in draw.pairs)


def found_fields(search: SearchSpec, draws: Sequence[Draw], deformation: Deformation) -> Fields:
    """The one field that a search chose, as those of a family."""
    items = items_of(draws)
    return Fields(_name(search), search.cutoff, _parameters(search), items, (0,), (deformation,), search=True)


def check_reach(spec: SweepSpec, draws: Sequence[Draw]) -> int:
    """How many pairs of norms are out of reach; the first one is an error if the spec says "refuse".

    Raises:
        ValueError: says what can be reached.
    """
    found = 0
    for position, family in enumerate(spec.deformations):
        own = [draw for draw in draws if draw.family == position]
        if not own or not isinstance(family, DrawnSpec) or not family.two_norms:
            continue
        (fields,) = _sampled(family, spec.images.size, [draw.seed for draw in own])
        inside = within_reach(family, fields, own[0].pairs)
        found += int((~inside).sum())
        if found and spec.on_unreachable == "refuse":
            refuse(family, fields, own[0].pairs, [draw.seed for draw in own], inside)
    return found


def within_reach(family: DeformationSpec, fields: Deformation, pairs: Sequence[Pair]) -> Tensor:
    """Which of the fields ``(S,)`` can have which pair of norms, ``(S, P)`` bool."""
    (count,) = fields.batch_shape
    if not family.two_norms:
        return torch.ones(count, len(pairs), dtype=torch.bool)
    a, b = torch.tensor(pairs, dtype=torch.float64).T
    if isinstance(fields, Steerable):
        return torch.tensor([[_steers(fields[i], *pair) for pair in pairs] for i in range(count)])
    if isinstance(family, BandLimitedSpec) and family.shift is not None:
        n = fields.norms()
        alone = n.displacement.lower[:, None] * b / n.jacobian.lower[:, None]
        return alone <= a * (1 + MARGIN)
    lower, upper = reachable(fields)
    ratio = b / a
    return (ratio >= lower[:, None] * (1 - AT_THE_END)) & (ratio <= upper[:, None] * (1 + AT_THE_END))


def refuse(
    family: DeformationSpec, fields: Deformation, pairs: Sequence[Pair], seeds: Sequence[int], inside: Tensor
) -> None:
    """Raise the error of the first field that cannot have a pair of norms."""
    i, j = (~inside).nonzero()[0].tolist()
    _controlled(family, fields[i], [pairs[j]], seeds[i])


def _sampled(family: DeformationSpec, size: tuple[int, ...], seeds: Sequence[int]) -> list[Deformation]:
    """One batch ``(S,)`` of the seeds' fields, or for a user's family one field per seed."""
    if isinstance(family, CustomFamilySpec):
        return [_own(family, size, _generator(seed)) for seed in seeds]
    assert isinstance(family, DrawnSpec)
    return [stack([family.sample(size, _generator(seed)) for seed in seeds])]


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _steers(field: Deformation, displacement_norm: float | None, jacobian_norm: float | None) -> bool:
    """Whether a field without a known interval of ratios can have two norms: it is tried."""
    try:
        control(field, displacement_norm=displacement_norm, jacobian_norm=jacobian_norm)
    except ValueError:
        return False
    return True


def _own(family: CustomFamilySpec, size: tuple[int, ...], generator: torch.Generator) -> Deformation:
    sample: Any = getattr(plugins.load_class(family.class_path), "sample", None)
    try:
        field = sample(size, generator=generator, **family.init_args)
    except TypeError as error:
        raise ValueError(f"init_args must fit {family.class_path}.sample, got {family.init_args}: {error}") from None
    if not isinstance(field, Deformation) or tuple(field.size) != tuple(size):
        raise ValueError(
            f"{family.class_path}.sample must return a Deformation on the torus {size}, got {field!r}; mend the class"
        )
    return field


def _controlled(family: DeformationSpec, field: Deformation, pairs: Sequence[Pair], seed: int) -> Deformation:
    def column(index: int) -> Tensor | None:
        values = [pair[index] for pair in pairs]
        return None if values[0] is None else torch.tensor(values, dtype=torch.float64)

    if isinstance(family, Sized) and family.as_drawn:
        return field
    shift = family.shift if isinstance(family, BandLimitedSpec) else None
    try:
        return control(field, displacement_norm=column(0), jacobian_norm=column(1), shift=shift)
    except ValueError as error:
        raise ValueError(f"field {seed} of the family {_name(family)!r}: {error}, or on_unreachable='record'") from None


def _parameters(family: DeformationSpec | SearchSpec) -> str:
    data = family.model_dump(mode="json", exclude={"displacement_norm", "jacobian_norm"})
    return json.dumps(data, sort_keys=True, separators=(",", ":"))


def _name(family: DeformationSpec | SearchSpec) -> str:
    return family.name if isinstance(family, CustomFamilySpec) else family.kind


def _flat(fields: Deformation) -> Deformation:
    """A batch ``(S, P)`` as ``(S P,)``."""
    count = fields.batch_shape.numel()
    return fields[torch.unravel_index(torch.arange(count), fields.batch_shape)]


def check_sizes(spec: SweepSpec) -> None:
    """Raise ``ValueError`` unless every varied architecture fits the images."""
    for _, architecture in spec.architectures():
        architecture.check_size(spec.images.size)


def labels(spec: SweepSpec) -> list[int]:
    """The measured images' classes; -1 where the set has none."""
    chosen = spec.images
    found = image_sets.dataset(chosen.name, root=chosen.root, count=chosen.count).labels.tolist()
    return found + [-1] * (spec.images.count - len(found))
