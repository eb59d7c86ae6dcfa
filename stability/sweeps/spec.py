r"""``SweepSpec``: what a sweep measures, as frozen data.

Equal specs hash equally; unknown keys and names are answered with the nearest. Each part that can be chosen carries a
``kind``, by which plain data (JSON, YAML) name it.
"""

import hashlib
import itertools
import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from stability.architecture import Architecture, from_plain, plain
from stability.front_ends import FrontEnd
from stability.kernels import Kernel
from stability.names import unknown
from stability.sweeps.messages import one_line

RUNGS = ("closed_form", "trivial")
IMAGE_SETS = ("blobs", "fashion", "photographs")


def _architecture(value: Any) -> Any:
    return Architecture.from_dict(value) if isinstance(value, Mapping) else value


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, int | float) and not isinstance(value, bool) else value


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Norms = Annotated[tuple[Positive, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
ArchitectureField = Annotated[
    Architecture, BeforeValidator(_architecture), PlainSerializer(lambda value: value.to_dict(), return_type=dict)
]


class Spec(BaseModel):
    """Frozen, closed data: an unknown key is an error, told in one line that names the nearest key."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    def __init__(self, **data: Any) -> None:
        for key in data:
            if key not in type(self).model_fields:
                raise ValueError(unknown(f"a key of {type(self).__name__}", key, type(self).model_fields))
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise ValueError(one_line(type(self).__name__, error)) from None


class ImagesSpec(Spec):
    """``images.load(name, count=..., size=..., channels=...)``."""

    name: str = "fashion"
    count: Annotated[int, Field(ge=1)] = 8
    size: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1, max_length=2)] = (32, 32)
    channels: Literal[1, 3] = 1

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in IMAGE_SETS:
            raise ValueError(unknown("image set", name, IMAGE_SETS))
        return name


class GramSpec(Spec):
    """The exact CKN, ``GramCKN(architecture)``."""

    kind: Literal["gram"] = "gram"


class LinearSpec(Spec):
    """The linear kernel of the same architecture, ``LinearGram(architecture)``: the control."""

    kind: Literal["linear"] = "linear"


class CKNSpec(Spec):
    """The finite-dimensional CKN, ``CKN.fit(architecture, images, filters=...)``, on images of the same set.

    Args:
        filters: number of anchors of every layer.
        images: how many images of the set k-means learns from; at most what the set has.
        seed: of the generator that draws patches and starts k-means.
    """

    kind: Literal["ckn"] = "ckn"
    filters: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
    images: Annotated[int, Field(ge=1)] = 32
    seed: Annotated[int, Field(ge=0)] = 0


class FourierSpec(Spec):
    """Mean-free band-limited fields with prescribed norms; without ``shift`` the mean stays zero.

    One list of norms: the drawn field is rescaled. Two lists: every pair, met at once by ``control``.
    """

    kind: Literal["fourier"] = "fourier"
    cutoff: Annotated[float, Field(ge=1)] = 3
    displacement_norm: Norms | None = None
    jacobian_norm: Norms | None = None
    shift: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _some_norm(self) -> "FourierSpec":
        if self.displacement_norm is None and self.jacobian_norm is None:
            raise ValueError("displacement_norm or jacobian_norm must be given, got neither; ask for at least one size")
        if self.shift is not None and (self.displacement_norm is None or self.jacobian_norm is None):
            raise ValueError("shift must come with both norms, got one; give displacement_norm and jacobian_norm")
        if self.shift is not None and not any(self.shift):
            raise ValueError(f"shift must be a direction, got {self.shift}; use for example (1.0, 0.0)")
        return self

    @property
    def pairs(self) -> tuple[tuple[float | None, float | None], ...]:
        """(displacement_norm, jacobian_norm) of every size asked for."""
        return tuple(itertools.product(self.displacement_norm or (None,), self.jacobian_norm or (None,)))


class TranslationSpec(Spec):
    """Translations by the given lengths, in ``angles`` evenly spaced directions (1-D: right and left)."""

    kind: Literal["translation"] = "translation"
    displacement_norm: Norms
    angles: Annotated[int, Field(ge=1, le=3600)] = 8

    def directions(self, d: int) -> list[tuple[float, ...]]:
        """Unit vectors (x, y); in 1-D at most two of them."""
        if d == 1:
            line: list[tuple[float, ...]] = [(1.0,), (-1.0,)]
            return line[: self.angles]
        turns = [2 * math.pi * i / self.angles for i in range(self.angles)]
        return [(math.cos(turn), math.sin(turn)) for turn in turns]


class BandLimitedWarpSpec(Spec):
    """``BandLimitedWarp(oversample)``: exact."""

    kind: Literal["band_limited"] = "band_limited"
    oversample: Annotated[int, Field(ge=1)] = 4


class SplineWarpSpec(Spec):
    """``SplineWarp()``: cubic, twice differentiable."""

    kind: Literal["spline"] = "spline"


class BilinearWarpSpec(Spec):
    """``BilinearWarp()``: what deep-learning pipelines do."""

    kind: Literal["bilinear"] = "bilinear"


class IndexWarpSpec(Spec):
    """``IndexWarp()``: nearest pixel."""

    kind: Literal["index"] = "index"


RepresentationSpec = Annotated[GramSpec | LinearSpec | CKNSpec, Field(discriminator="kind")]
DeformationSpec = Annotated[FourierSpec | TranslationSpec, Field(discriminator="kind")]
WarpSpec = Annotated[
    BandLimitedWarpSpec | SplineWarpSpec | BilinearWarpSpec | IndexWarpSpec, Field(discriminator="kind")
]


class SweepSpec(Spec):
    """Images x deformations x representations x varied architectures.

    Args:
        images: which images, how many, on which grid.
        architecture: the base point; an ``Architecture`` or its ``to_dict()``.
        vary: dotted path into the architecture -> values, for example ``{"layers.-1.pooling_scale": [1, 2, 4, 8]}``;
            several paths are combined as a product.
        representations: what is measured for every architecture.
        deformations: families with their sizes.
        fields: number of independent fields of every random family.
        warp: how images are deformed.
        rungs: the bounds that go into the rows, of "closed_form", "trivial".
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
    representations: Annotated[tuple[RepresentationSpec, ...], Field(min_length=1)] = (GramSpec(), LinearSpec())
    deformations: Annotated[tuple[DeformationSpec, ...], Field(min_length=1)]
    fields: Annotated[int, Field(ge=1, le=100_000)] = 8
    warp: WarpSpec = BandLimitedWarpSpec()
    rungs: tuple[str, ...] = RUNGS
    refinement: bool = False
    on_unreachable: Literal["refuse", "record"] = "refuse"
    seed: Annotated[int, Field(ge=0, le=10**12)] = 0

    @field_validator("rungs")
    @classmethod
    def _known_rungs(cls, rungs: tuple[str, ...]) -> tuple[str, ...]:
        for name in rungs:
            if name not in RUNGS:
                raise ValueError(unknown("rung", name, RUNGS))
        return rungs

    @field_validator("vary", mode="before")
    @classmethod
    def _canonical(cls, vary: Any) -> Any:
        """Kernels and front ends given as data become objects, 2.0 becomes 2: equal specs are written equally."""
        if not isinstance(vary, Mapping):
            return vary

        def canonical(path: str, value: Any) -> Any:
            value = from_plain(path.rpartition(".")[2], value)
            return int(value) if isinstance(value, float) and value.is_integer() else value

        for path, values in vary.items():
            if isinstance(values, list | tuple) and not values:
                raise ValueError(f"the values of {path!r} must be at least one, got none; drop the path or give values")
        return {
            path: tuple(canonical(path, value) for value in (values if isinstance(values, list | tuple) else [values]))
            for path, values in vary.items()
        }

    @field_serializer("vary")
    def _data(self, vary: dict[str, tuple[Any, ...]]) -> dict[str, list[Any]]:
        return {
            path: [plain(value) if isinstance(value, Kernel | FrontEnd) else value for value in values]
            for path, values in vary.items()
        }

    @model_validator(mode="after")
    def _paths_lead_somewhere(self) -> "SweepSpec":
        for _, architecture in self.architectures():
            for chosen in self.representations:
                if isinstance(chosen, CKNSpec) and len(chosen.filters) != architecture.depth:
                    raise ValueError(
                        f"filters must have one number per layer ({architecture.depth}), got {chosen.filters}; "
                        "use for example (64, 128)"
                    )
        return self

    def architectures(self) -> list[tuple[dict[str, Any], Architecture]]:
        """Every combination of the varied values, with the architecture that it gives; the base point if none."""
        points = []
        for values in itertools.product(*self.vary.values()):
            chosen, architecture = dict(zip(self.vary, values, strict=True)), self.architecture
            for path, value in chosen.items():
                architecture = architecture.replace(path, value)
            points.append((chosen, architecture))
        return points

    def to_json(self) -> str:
        """The spec as compact JSON with sorted keys."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

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
