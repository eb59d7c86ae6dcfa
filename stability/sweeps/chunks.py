r"""The chunks of a sweep: images x draws x one model, each with the address of its result. Plain data, no torch.

A chunk shares images, fields and model and is one batched tensor program. How a sweep is cut follows from its spec
alone, so that shards, resumed runs and different numbers of workers meet the same chunks.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from stability.architecture import Architecture
from stability.plain_data import describe
from stability.sweeps.costs import chunk_memory, distance_cost, draw_cost, field_cost, search_cost, warp_cost
from stability.sweeps.families import TranslationSpec
from stability.sweeps.models import (
    CKNSpec,
    CNNSpec,
    ConvexifiedSpec,
    GaussianCKNSpec,
    LeNetSpec,
    ModuleSpec,
    RepresentationSpec,
)
from stability.sweeps.sized import Pair
from stability.sweeps.spec import SweepSpec, is_plain_module
from stability.sweeps.version import class_version, code_version, file_version, search_version

CHUNK_SECONDS = 1.0
"""About how long the slowest chunk of a sweep takes on one core."""
CHUNK_BYTES = 2**29
"""What the arrays of a chunk's warp may take."""
SEEDS_PER_SWEEP = 100_000
ORDER = ("_image", "_item", "_model", "_layer")
"""Columns of a part by which the rows of a sweep are put in order, and which are then dropped."""
PAIR = "pair_distance"
"""The column of a part that holds a model's distance between images."""


class Draw(NamedTuple):
    """One field of a family with all its sizes."""

    family: int  # position in spec.families
    seed: int  # of the generator; for translations the index of the direction
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Model:
    """One representation of one point of the varied architectures."""

    index: int
    chosen: RepresentationSpec
    point: dict[str, Any]
    architecture: Architecture


@dataclass(frozen=True)
class Chunk:
    """Images [first, last), draws [first, last) and one model; ``pairs``: the model's distances between images."""

    address: str
    model: int
    images: tuple[int, int]
    draws: tuple[int, int]
    cells: int
    pairs: bool = False
    search: bool = False  # one image, one pair of norms, one model; the field found is kept as well


class Cut:
    """A spec cut into chunks.

    Args:
        spec: the sweep.

    >>> from stability.sweeps.spec import TranslationSpec as T
    >>> cut = Cut(SweepSpec(deformations=[T(displacement_norm=[1, 2], angles=4)]))
    >>> len(cut.models), len(cut.draws), sum(chunk.cells for chunk in cut.chunks if not chunk.pairs)
    (2, 4, 128)
    """

    def __init__(self, spec: SweepSpec) -> None:
        self.spec = spec
        self.models = _models(spec)
        self.draws = _draws(spec)

    @cached_property
    def chunks(self) -> tuple[Chunk, ...]:
        """Pairs of images first, then the cells, those of one task beside each other."""
        count = self.spec.images.count
        found = [
            Chunk(
                self._address(model, (0, count), None), model.index, (0, count), (0, 0), count * (count - 1) // 2, True
            )
            for model in self.models
        ]
        for images, draws in self.blocks:
            cells = (images[1] - images[0]) * sum(len(draw.pairs) for draw in self.draws[slice(*draws)])
            search = self.draws[draws[0]].family >= len(self.spec.deformations)
            found += [
                Chunk(self._address(model, images, draws), model.index, images, draws, cells, search=search)
                for model in self.models
            ]
        return tuple(found)

    @cached_property
    def blocks(self) -> tuple[tuple[tuple[int, int], tuple[int, int]], ...]:
        """Blocks of images and of draws; a draw is never cut, families are not mixed, a search stands alone."""
        most = self.cells_per_chunk
        count = self.spec.images.count
        images = [(i, min(i + most, count)) for i in range(0, count, most)]
        fields_at_once = max(1, most // min(most, count))
        drawn = [draw for draw in self.draws if draw.family < len(self.spec.deformations)]
        draws, start, load = [], 0, 0
        for i, draw in enumerate(drawn):
            if i > start and (load + len(draw.pairs) > fields_at_once or draw.family != self.draws[start].family):
                draws.append((start, i))
                start, load = i, 0
            load += len(draw.pairs)
        draws += [(start, len(drawn))] if drawn else []
        found = [(block, fields) for fields in draws for block in images]
        searched = range(len(drawn), len(self.draws))
        return tuple(found + [((i, i + 1), (k, k + 1)) for k in searched for i in range(count)])

    @cached_property
    def cells_per_chunk(self) -> int:
        """As many cells as the dearest model computes in about ``CHUNK_SECONDS``."""
        slowest = max(distance_cost(model.chosen, model.architecture, self.spec) for model in self.models)
        fit = int(CHUNK_BYTES // chunk_memory(self.spec, 1))
        return max(1, min(fit, int(CHUNK_SECONDS / (warp_cost(self.spec) + slowest))))

    def seconds(self, chunk: Chunk) -> float:
        """What a chunk is expected to take on one core, its share of the warp included."""
        model = self.models[chunk.model]
        own = chunk.cells * distance_cost(model.chosen, model.architecture, self.spec)
        if chunk.pairs:
            return own
        if chunk.search:
            (draw,) = self.draws[slice(*chunk.draws)]
            search = self.spec.search[draw.family - len(self.spec.deformations)]
            return own + field_cost(self.spec) + search_cost(search, model.chosen, model.architecture, self.spec)
        draws = sum(draw_cost(self.spec.families[draw.family].two_norms) for draw in self.draws[slice(*chunk.draws)])
        rungs = field_cost(self.spec) * chunk.cells / max(1, chunk.images[1] - chunk.images[0])
        return own + (chunk.cells * warp_cost(self.spec) + draws + rungs) / len(self.models)

    def fit_address(self, model: Model) -> str:
        """Where the learnt state of a model is kept."""
        return _hash({"code": code_version(), "fit": self.model_data(model), "images": self.images_data})

    @cached_property
    def images_data(self) -> dict[str, Any]:
        """The images as data; how many are measured belongs to a chunk."""
        return self.spec.images.model_dump(mode="json", exclude={"count"})

    def model_data(self, model: Model) -> dict[str, Any]:
        """Everything that a model's numbers depend on."""
        chosen = model.chosen
        data: dict[str, Any] = {"chosen": chosen.model_dump(mode="json"), "point": _plain(model.point)}
        if not is_plain_module(chosen):
            data["architecture"] = model.architecture.to_dict()
        if isinstance(chosen, ModuleSpec):
            data["class"] = class_version(chosen.class_path)
        if isinstance(chosen, CKNSpec | CNNSpec | LeNetSpec | ModuleSpec) and chosen.checkpoint is not None:
            data["checkpoint"] = file_version(chosen.checkpoint)
        learnt = isinstance(chosen, CKNSpec | CNNSpec | LeNetSpec) and chosen.training is not None
        if learnt or isinstance(chosen, ConvexifiedSpec):
            data["measured"] = self.spec.images.count  # training leaves the measured images out
        return data

    def _address(self, model: Model, images: tuple[int, int], draws: tuple[int, int] | None) -> str:
        spec = self.spec
        data: dict[str, Any] = {"code": code_version(), "images": self.images_data, "which": images}
        data["place"] = (model.index, draws)  # a part holds the places of its rows
        data["model"] = self._models_data[model.index]
        if draws is not None:
            data |= {
                "draws": self._draws_data[draws], "warp": spec.warp.model_dump() if spec.warp else None,
                "rungs": spec.rungs, "refinement": spec.refinement,
            }  # fmt: skip
            if self.draws[draws[0]].family >= len(spec.deformations):
                data["search"] = search_version()
        return _hash(data)

    @cached_property
    def _models_data(self) -> list[dict[str, Any]]:
        return [self.model_data(model) for model in self.models]

    @cached_property
    def _draws_data(self) -> dict[tuple[int, int], list[Any]]:
        norms = {"displacement_norm", "jacobian_norm"}
        families = [family.model_dump(mode="json", exclude=norms) for family in self.spec.families]
        return {
            block: [(families[draw.family], draw.seed, draw.pairs) for draw in self.draws[slice(*block)]]
            for _, block in self.blocks
        }


def needs_fit(chosen: RepresentationSpec) -> bool:
    """Whether a model learns from images before it measures."""
    if isinstance(chosen, CKNSpec):
        return chosen.checkpoint is None
    trained = isinstance(chosen, CNNSpec | LeNetSpec) and chosen.training is not None
    return trained or isinstance(chosen, ConvexifiedSpec | GaussianCKNSpec)


def _models(spec: SweepSpec) -> tuple[Model, ...]:
    found: list[Model] = []
    for i, (point, architecture) in enumerate(spec.architectures()):
        for chosen in spec.representations:
            if is_plain_module(chosen):
                if i == 0:  # it sees nothing of the architecture
                    found.append(Model(len(found), chosen, dict.fromkeys(point), architecture))
            else:
                found.append(Model(len(found), chosen, point, architecture))
    return tuple(found)


def _draws(spec: SweepSpec) -> tuple[Draw, ...]:
    found = []
    for family, chosen in enumerate(spec.deformations):
        if isinstance(chosen, TranslationSpec):
            seeds = list(range(len(chosen.directions(len(spec.images.size)))))
        else:
            seeds = [SEEDS_PER_SWEEP * spec.seed + j for j in range(spec.fields)]
        found += [Draw(family, seed, chosen.pairs) for seed in seeds]
    for family, search in enumerate(spec.search, start=len(spec.deformations)):
        found += [Draw(family, SEEDS_PER_SWEEP * spec.seed, (pair,)) for pair in search.pairs]
    return tuple(found)


def _plain(point: dict[str, Any]) -> dict[str, Any]:
    return {path: cell(value) for path, value in point.items()}


def cell(value: Any) -> Any:
    """A varied value as a table can hold it: numbers stay, objects become their names."""
    if value is None or isinstance(value, int | float | str):
        return "none" if value is None else value
    return describe(value)


def _hash(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def total_seconds(cut: Cut) -> float:
    """What a whole sweep is expected to take on one core."""
    return math.fsum(cut.seconds(chunk) for chunk in cut.chunks)
