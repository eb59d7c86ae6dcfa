"""Searches in a specification: the field of given norms that moves a representation most, as far as one is found."""

import itertools
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from stability.sweeps.parts import BilinearWarpSpec, IndexWarpSpec, Norms, Spec
from stability.sweeps.sized import Cutoff, Lattice, Pair

Count = Annotated[int, Field(ge=1, le=10_000)]


def _named(value: Any) -> Any:
    """``translation-free`` stands for ``{kind: translation_free}``."""
    return {"kind": value.replace("-", "_")} if isinstance(value, str) else value


def _listed(value: Any) -> Any:
    """One part may be given without its list."""
    values = value if isinstance(value, list | tuple) else [value]
    return tuple(_named(one) for one in values)


class DistanceSpec(Spec):
    """||Phi(L_tau x) - Phi(x)||, what the theorem bounds."""

    kind: Literal["distance"] = "distance"


class AngleSpec(Spec):
    """The angle between Phi(L_tau x) and Phi(x), in radians."""

    kind: Literal["angle"] = "angle"


class PiecewiseLinearSpace(Spec):
    """Fields linear on two triangles a cell of a lattice (None: a pixel)."""

    kind: Literal["piecewise_linear"] = "piecewise_linear"
    lattice: Lattice | None = None


class SplineSpace(Spec):
    """Cubic B-splines on a lattice of control points."""

    kind: Literal["spline"] = "spline"
    lattice: Lattice = 8


class FourierSpace(Spec):
    """Band-limited fields with a constant; ``cutoff`` in cycles per shorter side."""

    kind: Literal["fourier"] = "fourier"
    cutoff: Cutoff = 3


class TranslationsSpace(Spec):
    """Constant fields on a polar grid, all of which are tried."""

    kind: Literal["translations"] = "translations"
    angles: Count = 64
    radii: Count = 3


class RigidMotionsSpace(Spec):
    """Rotations about the centre with translations, all of which are tried; no theorem of the torus covers them."""

    kind: Literal["rigid_motions"] = "rigid_motions"
    rotations: Count = 8
    angles: Count = 16
    radii: Count = 2


class TranslationFreeSpec(Spec):
    """The mean of tau is 0."""

    kind: Literal["translation_free"] = "translation_free"


class DivergenceFreeConstraintSpec(Spec):
    """div tau = 0."""

    kind: Literal["divergence_free"] = "divergence_free"


class FixedBorderSpec(Spec):
    """tau = 0 within ``width`` px of the window's border."""

    kind: Literal["fixed_border"] = "fixed_border"
    width: Annotated[float, Field(ge=0.5, allow_inf_nan=False)] = 1.0


class SaturatedStartSpec(Spec):
    """Fields near both norms on much of the image, without a look at Phi."""

    kind: Literal["saturated"] = "saturated"
    count: Count = 4


class LinearisedStartSpec(Spec):
    """Maximisers of the slope at 0; ``steps``: gradients that each of them costs."""

    kind: Literal["linearised"] = "linearised"
    count: Count = 20
    steps: Count = 2


ObjectiveSpec = Annotated[
    Annotated[DistanceSpec | AngleSpec, Field(discriminator="kind")], BeforeValidator(_named)
]  # fmt: skip
SpaceSpec = Annotated[
    Annotated[
        PiecewiseLinearSpace | SplineSpace | FourierSpace | TranslationsSpace | RigidMotionsSpace,
        Field(discriminator="kind"),
    ],
    BeforeValidator(_named),
]
ConstraintSpec = Annotated[
    TranslationFreeSpec | DivergenceFreeConstraintSpec | FixedBorderSpec, Field(discriminator="kind")
]
StartSpec = Annotated[SaturatedStartSpec | LinearisedStartSpec, Field(discriminator="kind")]


class SearchSpec(Spec):
    """``worst_case`` for every image, representation and pair of norms: a lower bound of the supremum.

    Args:
        displacement_norm: a > 0, px.
        jacobian_norm: b > 0; every a with every b.
        objective: what is made large: the ``distance`` or the ``angle``.
        fixed_norm: whether L_tau x is first given the norm of x, so that mass moved into the image gains nothing.
        fields: among which is searched: ``piecewise_linear``, ``spline``, ``fourier``; or all ``translations`` or
            ``rigid_motions``.
        constraints: ``translation_free``, ``divergence_free`` (with ``fourier``), ``fixed_border``.
        starts: ``saturated`` and ``linearised``, with their counts.
        kept: how many starts go on after the first steps.
        steps: of every ascent, at most.
        chances: second ones of a start that ends behind, at most; 0: none.
    """

    kind: ClassVar[str] = "search"
    two_norms: ClassVar[bool] = False
    """No pair is out of reach."""

    displacement_norm: Norms
    jacobian_norm: Norms
    objective: ObjectiveSpec = DistanceSpec()
    fixed_norm: bool = False
    fields: SpaceSpec = PiecewiseLinearSpace()
    constraints: Annotated[tuple[ConstraintSpec, ...], BeforeValidator(_listed)] = ()
    starts: Annotated[tuple[StartSpec, ...], BeforeValidator(_listed), Field(min_length=1)] = (
        SaturatedStartSpec(),
        LinearisedStartSpec(),
    )
    kept: Count = 8
    steps: Count = 20
    chances: Annotated[int, Field(ge=0, le=100)] = 3

    @model_validator(mode="after")
    def _fit(self) -> "SearchSpec":
        kinds = [one.kind for one in self.constraints]
        if len(set(kinds)) < len(kinds):
            raise ValueError(f"constraints must differ, got {kinds}; drop one")
        if kinds and self.tries_all:
            raise ValueError(f"constraints must be left out for {self.fields.kind}, got {kinds}; take another 'fields'")
        if "divergence_free" in kinds and self.fields.kind != "fourier":
            raise ValueError(
                f"divergence_free must come with fields of kind 'fourier', got {self.fields.kind!r}: of others little "
                "more than constants is left; use fields: fourier"
            )
        if "fixed_border" in kinds and self.fields.kind == "fourier":
            raise ValueError(
                "fixed_border must come with fields of local support, got 'fourier', of which nothing but 0 vanishes "
                "at a border; use fields: {kind: piecewise_linear, lattice: 16}"
            )
        return self

    @property
    def tries_all(self) -> bool:
        """Whether there are so few fields that all are tried."""
        return isinstance(self.fields, TranslationsSpace | RigidMotionsSpace)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Every pair of norms."""
        return tuple(itertools.product(self.displacement_norm, self.jacobian_norm))

    @property
    def cutoff(self) -> float:
        """Of Fourier fields; 0 for others."""
        return float(getattr(self.fields, "cutoff", 0.0))


def check_searched(domain: str, warp: Spec | None, representations: Sequence[Any]) -> None:
    """What a search asks of the rest of a specification.

    Raises:
        ValueError: for a window, a warp without derivatives, or several layers at once.
    """
    if domain == "window":
        raise ValueError(
            "images.domain must be 'torus' where something is searched, got 'window'; give images: {domain: torus}"
        )
    if isinstance(warp, BilinearWarpSpec | IndexWarpSpec):
        raise ValueError(f"a search needs a warp with derivatives, got {warp.kind!r}; use band_limited or spline")
    for chosen in representations:
        layers = getattr(chosen, "layers", None) or ()
        if len(layers) > 1:
            raise ValueError(
                f"a searched representation must have one layer, got {chosen.label!r} with {list(layers)}; name one "
                "representation for each layer"
            )
