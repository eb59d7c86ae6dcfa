"""The parts of a ``SweepSpec`` that can be chosen: images, warps, and what all parts have in common."""

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    field_validator,
)

from stability.architecture import Architecture
from stability.names import unknown
from stability.sweeps.messages import one_line

IMAGE_SETS = ("blobs", "cifar10", "cifar100", "fashion", "folder", "idx", "npz", "photographs")


def _architecture(value: Any) -> Any:
    return Architecture.from_dict(value) if isinstance(value, Mapping) else value


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, int | float | str) and not isinstance(value, bool) else value


def _as_names(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _different(values: tuple[float, ...]) -> tuple[float, ...]:
    """The norms, if no two are the same in twelve digits."""
    if len({f"{value:.12g}" for value in values}) < len(values):
        raise ValueError(f"norms must differ, got {list(values)}; name each once")
    return values


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Norms = Annotated[tuple[Positive, ...], BeforeValidator(_as_tuple), Field(min_length=1), AfterValidator(_different)]
Seed = Annotated[int, Field(ge=0, le=10**12)]
Counts = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
LayerNames = Annotated[tuple[str, ...], BeforeValidator(_as_names), Field(min_length=1)]
ArchitectureField = Annotated[
    Architecture, BeforeValidator(_architecture), PlainSerializer(lambda value: value.to_dict(), return_type=dict)
]


class FrozenDict(dict[str, Any]):
    """A mapping that stays as it is: part of a frozen value."""

    def _refuse(self, *arguments: Any, **keywords: Any) -> Any:
        raise TypeError("a specification is frozen; make another one, for example with model_copy(update=...)")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)


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
    """``images.load(name, count=..., size=..., channels=...)``.

    Args:
        name: the set.
        count: how many images, the first ones of the set.
        size: ``(H, W)`` or ``(N,)`` in pixels.
        channels: 1, or 3 for photographs in colour.
        root: folder with the user's own files of the set; None: the shipped ones.
        domain: "torus" (margin faded, band-limited: the theorem's setting) or "window" (the picture as it is, beyond
            its border its mirror image); by default a window where every representation is a plain module.
    """

    name: str = "fashion"
    count: Annotated[int, Field(ge=1)] = 8
    size: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1, max_length=2)] = (32, 32)
    channels: Literal[1, 3] = 1
    root: str | None = None
    domain: Literal["torus", "window"] | None = None

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in IMAGE_SETS:
            raise ValueError(unknown("image set", name, IMAGE_SETS))
        return name


class BandLimitedWarpSpec(Spec):
    """``BandLimitedWarp(oversample)``: exact."""

    kind: Literal["band_limited"] = "band_limited"
    oversample: Annotated[int, Field(ge=1)] = 4


class SplineWarpSpec(Spec):
    """``SplineWarp(degree=degree)``: cubic or quintic, twice or four times differentiable."""

    kind: Literal["spline"] = "spline"
    degree: Literal[3, 5] = 3


class BilinearWarpSpec(Spec):
    """``BilinearWarp()``: what deep-learning pipelines do."""

    kind: Literal["bilinear"] = "bilinear"


class IndexWarpSpec(Spec):
    """``IndexWarp()``: nearest pixel."""

    kind: Literal["index"] = "index"


class TangentSpec(Spec):
    """``TangentPerturbation(smoothing)``: x - <tau, grad x>, not a deformation; no bound covers its rows."""

    kind: Literal["tangent"] = "tangent"
    smoothing: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


WarpSpec = Annotated[
    BandLimitedWarpSpec | SplineWarpSpec | BilinearWarpSpec | IndexWarpSpec | TangentSpec, Field(discriminator="kind")
]


def directions(angles: int, d: int) -> list[tuple[float, ...]]:
    """Evenly spaced unit vectors (x, y); in 1-D at most two of them.

    >>> directions(3, 1)
    [(1.0,), (-1.0,)]
    """
    if d == 1:
        line: list[tuple[float, ...]] = [(1.0,), (-1.0,)]
        return line[:angles]
    turns = [2 * math.pi * i / angles for i in range(angles)]
    return [(math.cos(turn), math.sin(turn)) for turn in turns]


def check_paths(paths: Iterable[str], depth: int) -> None:
    """Two varied paths to one value would make its name in the rows a lie.

    Raises:
        ValueError: if two of them meet.
    """
    taken: dict[tuple[int, str], str] = {}
    for path in paths:
        head, _, rest = path.partition(".")
        index, _, field = rest.partition(".")
        layers = range(depth) if index == "*" else [int(index) % depth] if index.lstrip("-").isdigit() else [0]
        for place in [(layer, field) for layer in layers] if head == "layers" else [(-1, head)]:
            if place in taken:
                raise ValueError(f"varied paths must not meet, got {taken[place]!r} and {path!r}; vary one of them")
            taken[place] = path
