r"""``SweepSpec``: what a sweep measures, as frozen data.

Equal specs hash equally; unknown keys and names are answered with the nearest. Each part that can be chosen carries a
``kind``, by which plain data (JSON, YAML) name it; the user's own class is ``class_path`` and ``init_args``.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_serializer, field_validator, model_validator

from stability import plugins
from stability.architecture import Architecture
from stability.boundaries import NetworkBoundary
from stability.front_ends import FrontEnd
from stability.kernels import Kernel
from stability.names import unknown
from stability.plain_data import from_plain, plain
from stability.sweeps.families import (
    AffineSpec,
    BumpSpec,
    CompactSpec,
    DeformationSpec,
    DivergenceFreeSpec,
    FlowSpec,
    FourierSpec,
    GaussianSpec,
    GradientSpec,
    LocalAffineSpec,
    MaxEntropySpec,
    MixedSpec,
    PiecewiseLinearSpec,
    SaturatedSpec,
    SplineFieldSpec,
    ThinPlateSpec,
    TranslationSpec,
)
from stability.sweeps.learning import TrainingSpec
from stability.sweeps.marks import CHEAP_RUNGS, RUNGS
from stability.sweeps.models import (
    MODULES,
    CKNSpec,
    CNNSpec,
    ConvexifiedSpec,
    GaussianCKNSpec,
    GramSpec,
    LeNetSpec,
    LinearSpec,
    ModuleSpec,
    NTKSpec,
    RandomFeaturesSpec,
    RepresentationSpec,
    check_layers,
    counts,
)
from stability.sweeps.parts import (
    ArchitectureField,
    BandLimitedWarpSpec,
    BilinearWarpSpec,
    FrozenDict,
    ImagesSpec,
    IndexWarpSpec,
    Seed,
    Spec,
    SplineWarpSpec,
    TangentSpec,
    WarpSpec,
    check_paths,
)
from stability.sweeps.searches import SearchSpec, check_searched

__all__ = [
    "AffineSpec", "BandLimitedWarpSpec", "BilinearWarpSpec", "BumpSpec", "CKNSpec", "CNNSpec", "CompactSpec",
    "ConvexifiedSpec", "DivergenceFreeSpec", "FlowSpec", "FourierSpec", "GaussianCKNSpec", "GaussianSpec",
    "GradientSpec", "GramSpec", "ImagesSpec", "IndexWarpSpec", "LeNetSpec", "LinearSpec", "LocalAffineSpec",
    "MaxEntropySpec", "MixedSpec", "ModuleSpec", "NTKSpec", "PiecewiseLinearSpec", "RandomFeaturesSpec",
    "SaturatedSpec", "SearchSpec", "SplineFieldSpec", "SplineWarpSpec", "SweepSpec", "TangentSpec", "ThinPlateSpec",
    "TrainingSpec", "TranslationSpec",
]  # fmt: skip

PREFIX = "architecture."
"""May stand before a varied path."""
OBJECTS = Kernel | FrontEnd | NetworkBoundary
"""What a varied value may be beside numbers."""
COMPACT_SIZES = (0.5, 1.0, 2.0)
"""Sizes in px of the deformations that plain modules are measured under where the spec names none."""


class SweepSpec(Spec):
    """Images x deformations x representations x varied architectures.

    Args:
        images: which images, how many, on which grid.
        architecture: the base point; an ``Architecture`` or its ``to_dict()``.
        vary: dotted path into the architecture -> values, for example ``{"layers.-1.pooling_scale": [1, 2, 4, 8]}``;
            several paths are combined as a product.
        zip: groups of varied paths that move together, ``[["layers.0.pooling_scale", "layers.1.pooling_scale"]]``:
            first value with first value, second with second.
        representations: what is measured for every architecture; a plain module is measured once.
        deformations: families with their sizes; by default compactly supported fields where every representation is a
            plain module.
        fields: number of independent fields of every random family.
        warp: how images are deformed; by default exactly (torus) or by cubic splines (window).
        rungs: the bounds that go into the rows: "closed_form" and "trivial", and those of ``ladder`` that take longer
            than a distance: "x_specific", "early_stop", "energy" (the maps of every image), "certificates",
            "operator_norms" (seconds a field), "centred_certificates", "centred_operator_norms" (both); "hoelder":
            the bound by square-root moduli, for step and tangent kernels, whose closed form is not covered.
        refinement: evaluate every distance on a grid twice as fine as well (16 times the work in 2-D) and report the
            change: the only sight of the grid's own error.
        on_unreachable: a pair of norms that a field cannot have is an error before any work ("refuse"), or a row
            without numbers ("record").
        seed: field j of a family is drawn with the seed ``100000 * seed + j``, which stands in its rows.

    Raises:
        ValueError: one line that says which key is wrong and names the nearest.

    >>> spec = SweepSpec(deformations=[TranslationSpec(displacement_norm=1)])
    >>> spec == SweepSpec.from_json(spec.to_json()), len(spec.hash)
    (True, 64)
    """

    images: ImagesSpec = ImagesSpec()
    architecture: ArchitectureField = Architecture.dyadic(depth=2)
    vary: dict[str, tuple[Any, ...]] = {}
    zip: tuple[tuple[str, ...], ...] = ()
    representations: Annotated[tuple[RepresentationSpec, ...], Field(min_length=1)] = (GramSpec(), LinearSpec())
    deformations: tuple[DeformationSpec, ...] = ()
    search: tuple[SearchSpec, ...] = ()
    fields: Annotated[int, Field(ge=1, le=100_000)] = 8
    warp: WarpSpec | None = None
    rungs: tuple[str, ...] = CHEAP_RUNGS
    refinement: bool = False
    on_unreachable: Literal["refuse", "record"] = "refuse"
    seed: Seed = 0

    @field_validator("rungs")
    @classmethod
    def _known_rungs(cls, rungs: tuple[str, ...]) -> tuple[str, ...]:
        for name in rungs:
            if name not in RUNGS:
                raise ValueError(unknown("rung", name, RUNGS))
        return tuple(name for name in RUNGS if name in rungs)

    @field_validator("search", mode="before")
    @classmethod
    def _searches(cls, search: Any) -> Any:
        """One search may be given without its list."""
        return list(search) if isinstance(search, list | tuple) else [search]

    @field_validator("vary", mode="before")
    @classmethod
    def _canonical(cls, vary: Any) -> Any:
        """Objects given as data become kernels, front ends ..., 2.0 becomes 2: equal specs are written equally."""
        if not isinstance(vary, Mapping):
            return vary

        def canonical(path: str, value: Any) -> Any:
            value = from_plain(path.rpartition(".")[2], value)
            return int(value) if isinstance(value, float) and value.is_integer() else value

        for path, values in vary.items():
            if isinstance(values, list | tuple) and not values:
                raise ValueError(f"the values of {path!r} must be at least one, got none; drop the path or give values")
            if isinstance(values, list | tuple) and any(value in values[:i] for i, value in enumerate(values)):
                raise ValueError(f"the values of {path!r} must differ, got {list(values)}; drop the repeated one")
        short = {str(path).removeprefix(PREFIX): values for path, values in vary.items()}
        return {
            path: tuple(canonical(path, value) for value in (values if isinstance(values, list | tuple) else [values]))
            for path, values in sorted(short.items())  # the order in which paths were written means nothing
        }

    @field_validator("vary", mode="after")
    @classmethod
    def _frozen(cls, vary: dict[str, Any]) -> dict[str, Any]:
        return FrozenDict(vary)

    @field_serializer("vary")
    def _data(self, vary: dict[str, tuple[Any, ...]]) -> dict[str, list[Any]]:
        return {
            path: [plain(value) if isinstance(value, OBJECTS) else value for value in values]
            for path, values in vary.items()
        }

    @field_validator("zip", mode="before")
    @classmethod
    def _groups(cls, groups: Any) -> Any:
        """One group may be given without its outer list; prefixes go."""
        if not isinstance(groups, list | tuple):
            return groups
        groups = [groups] if groups and all(isinstance(path, str) for path in groups) else groups
        if not all(isinstance(group, list | tuple) for group in groups):
            return groups
        return sorted(sorted(str(path).removeprefix(PREFIX) for path in group) for group in groups)

    @model_validator(mode="after")
    def _complete(self) -> "SweepSpec":
        """What was left open follows from the representations."""
        domain = self.images.domain or ("window" if self._only_modules else "torus")
        if domain == "window" and not self._only_modules:
            name = next(chosen.label for chosen in self.representations if not is_plain_module(chosen))
            raise ValueError(
                f"the domain must be 'torus' where a representation has an architecture of the theory, got 'window' "
                f"with {name!r}; leave images.domain out"
            )
        object.__setattr__(self, "images", self.images.model_copy(update={"domain": domain}))
        for name, parts in (("deformations", self.deformations), ("search", self.search)):
            for i, part in enumerate(parts):
                if part in parts[:i]:
                    raise ValueError(f"{name} must differ, got number {parts.index(part)} again as {i}; drop one")
        if not self.deformations and not self.search:
            if domain == "torus":
                raise ValueError("deformations must be at least one family, got none; for example {kind: fourier, ...}")
            object.__setattr__(self, "deformations", (CompactSpec(displacement_norm=COMPACT_SIZES),))
        if self.refinement and any(is_plain_module(chosen) for chosen in self.representations):
            raise ValueError(
                "refinement must be false where a plain module is measured, got true; a module has its own grid"
            )
        if self.warp is None:
            object.__setattr__(self, "warp", SplineWarpSpec() if domain == "window" else BandLimitedWarpSpec())
        if self.search:
            check_searched(domain, self.warp, self.representations)
        return self

    @model_validator(mode="after")
    def _paths_lead_somewhere(self) -> "SweepSpec":
        self._check_zip()
        check_paths(self.vary, self.architecture.depth)
        for _, architecture in self.architectures():
            for chosen in self.representations:
                check_layers(chosen, architecture)
        labels = [
            repr((chosen.label, counts(chosen) if isinstance(chosen, CKNSpec | RandomFeaturesSpec) else None))
            for chosen in self.representations
        ]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(
                    f"representations must differ in name (or filters, widths), got {label} twice; give 'name'"
                )
        return self

    def _check_zip(self) -> None:
        tied = [path for group in self.zip for path in group]
        for path in tied:
            if path not in self.vary:
                raise ValueError(unknown("a path in zip", path, self.vary or ["(vary is empty)"]))
            if tied.count(path) > 1:
                raise ValueError(f"a path may be in one group of zip, got {path!r} twice; take one out")
        for group in self.zip:
            counts = {path: len(self.vary[path]) for path in group}
            if len(set(counts.values())) > 1:
                raise ValueError(f"zipped paths must have equally many values, got {counts}; pair them one to one")

    @property
    def families(self) -> tuple[DeformationSpec | SearchSpec, ...]:
        """Where fields come from: families of deformations, then searches."""
        return (*self.deformations, *self.search)

    @property
    def _only_modules(self) -> bool:
        return all(is_plain_module(chosen) for chosen in self.representations)

    def architectures(self) -> list[tuple[dict[str, Any], Architecture]]:
        """Every combination of the varied values, with the architecture that it gives; the base point if none."""
        groups = [group for group in self.zip if group]
        tied = {path: group for group in groups for path in group}
        axes: list[list[dict[str, Any]]] = []
        for path, values in self.vary.items():
            group = tied.get(path, (path,))
            if path == next(one for one in self.vary if one in group):  # a group stands where its first path stands
                axes.append([{one: self.vary[one][i] for one in group} for i in range(len(values))])
        points = []
        for parts in itertools.product(*axes):
            merged = {path: value for part in parts for path, value in part.items()}
            chosen, architecture = {path: merged[path] for path in self.vary}, self.architecture
            for path, value in chosen.items():
                architecture = architecture.replace(path, value)
            points.append((chosen, architecture))
        return points

    def to_json(self) -> str:
        """The spec as compact JSON with sorted keys; ``search`` is there where something is searched."""
        data = self.model_dump(mode="json", exclude=None if self.search else {"search"})
        return json.dumps(data, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "SweepSpec":
        """Inverse of ``to_json``."""
        return cls(**json.loads(text))

    def __hash__(self) -> int:
        return hash(self.to_json())

    @property
    def hash(self) -> str:
        """SHA-256 of ``to_json``."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def is_plain_module(chosen: Any) -> bool:
    """Whether the theory knows no architecture of it: a network of its own, on pictures as they are."""
    if chosen.kind not in MODULES:
        return False
    bases = plugins.load_class(chosen.class_path).__mro__ if isinstance(chosen, ModuleSpec) else ()
    return not any(base.__module__ == "stability.representations.base" for base in bases)
