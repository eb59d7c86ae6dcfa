"""Families of deformations in a specification: which fields are drawn, and how large they are made."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from stability import plugins
from stability.sweeps.parts import Norms, Positive, Spec, directions
from stability.sweeps.sized import BandLimitedSpec, Cutoff, DrawnSpec, Lattice, Pair, Sized, WithinSpec


class FourierSpec(BandLimitedSpec):
    """Mean-free band-limited fields with prescribed norms; without ``shift`` the mean stays zero.

    One list of norms: the drawn field is rescaled. Two lists: every pair, met at once by ``control``.
    """

    family = "fourier.FourierField"
    kind: Literal["fourier"] = "fourier"


class GradientSpec(BandLimitedSpec):
    """Band-limited gradient fields, tau = grad phi: local dilations and contractions without rotation."""

    family = "gradient.GradientField"
    kind: Literal["gradient"] = "gradient"


class DivergenceFreeSpec(BandLimitedSpec):
    """Band-limited fields with div tau = 0 (2-D)."""

    family = "divergence_free.DivergenceFreeField"
    kind: Literal["divergence_free"] = "divergence_free"


class GaussianSpec(DrawnSpec):
    """Gaussian-smoothed white noise (Simard's elastic transform); ``smoothing``: its standard deviation in px."""

    family = "gaussian.GaussianField"
    kind: Literal["gaussian"] = "gaussian"
    smoothing: Positive = 4.0


class MaxEntropySpec(DrawnSpec):
    """Sine series with variances T / |k|^2 (Petrini et al. 2021), sized by norms or by the parameters of the law.

    Args:
        cutoff: largest |k|, half waves per side.
        temperature: T; the fields stay as drawn, whatever their norms.
        typical_displacement: in px, turned into T; likewise.
    """

    family = "max_entropy.MaxEntropyField"
    kind: Literal["max_entropy"] = "max_entropy"
    cutoff: Cutoff = 3
    temperature: Positive | None = None
    typical_displacement: Positive | None = None

    @property
    def as_drawn(self) -> bool:
        """Whether the law's own parameter gives the size."""
        given = [value is not None for value in (self.temperature, self.typical_displacement)]
        sized = self.displacement_norm is not None or self.jacobian_norm is not None
        if sum(given) + sized > 1:
            raise ValueError("norms, temperature and typical_displacement must not be mixed; give one of them")
        return any(given)

    def arguments(self) -> dict[str, Any]:
        """The law's parameters; where norms are asked for, a typical displacement of 1 px before they are met."""
        given = super().arguments()
        return given if self.as_drawn else {**given, "typical_displacement": 1.0}


class SplineFieldSpec(DrawnSpec):
    """Cubic B-splines; ``lattice``: control points on the shorter side, or per axis in the order of ``size``."""

    family = "bspline.SplineField"
    kind: Literal["spline"] = "spline"
    lattice: Lattice = 8


class PiecewiseLinearSpec(DrawnSpec):
    """Linear on two triangles a lattice cell (None: a pixel); both sup norms exact."""

    family = "piecewise_linear.PiecewiseLinearField"
    kind: Literal["piecewise_linear"] = "piecewise_linear"
    cutoff: Cutoff = 3
    lattice: Lattice | None = None


class SaturatedSpec(WithinSpec):
    """Piecewise linear fields that meet both norms on a large share of the image: the worst case in mind."""

    family = "piecewise_linear.PiecewiseLinearField"
    method = "saturated"
    kind: Literal["saturated"] = "saturated"
    cutoff: Cutoff = 3
    lattice: Lattice | None = None


class MixedSpec(WithinSpec):
    """The baseline law of worst-case search: mixed cutoffs, spectra and constants; the tighter norm binds."""

    family = "mixed.MixedField"
    kind: Literal["mixed"] = "mixed"


class BumpSpec(DrawnSpec):
    """A vector times a smooth bump, zero outside a disc of ``radius`` px (None: drawn); both norms move the radius."""

    family = "bump.BumpField"
    kind: Literal["bump"] = "bump"
    radius: Positive | None = None


class LocalAffineSpec(DrawnSpec):
    """A random affine map made local by a smooth bump of ``radius`` px (None: drawn)."""

    family = "local_affine.LocalAffineField"
    kind: Literal["local_affine"] = "local_affine"
    radius: Positive | None = None


class AffineSpec(DrawnSpec):
    """Random affine maps about the centre of a window; no theorem of the torus covers them."""

    knob = False
    family = "affine.AffineField"
    kind: Literal["affine"] = "affine"


class ThinPlateSpec(DrawnSpec):
    """Thin-plate splines through jittered control points, ``lattice`` per side, of a window; norms seen only."""

    knob = False
    family = "thin_plate.ThinPlateField"
    kind: Literal["thin_plate"] = "thin_plate"
    lattice: Annotated[int, Field(ge=2, le=16)] = 4


class FlowSpec(DrawnSpec):
    """Time-1 flows of band-limited velocities: diffeomorphisms at any Jacobian norm."""

    family = "flow.FlowField"
    kind: Literal["flow"] = "flow"
    cutoff: Cutoff = 3


class CompactSpec(DrawnSpec):
    """``CompactField``: a smooth window times a Fourier field, zero at the border.

    Args:
        cutoff: of the Fourier field, cycles per shorter side.
        border: width of the frame in which the field is zero, px.
        rise: width over which the window rises, px; None: a quarter of the side.
    """

    family = "compact.CompactField"
    kind: Literal["compact"] = "compact"
    cutoff: Cutoff = 3
    border: Annotated[float, Field(ge=0)] = 0.0
    rise: Annotated[float, Field(gt=0)] | None = None


class TranslationSpec(Spec):
    """Translations by the given lengths, in ``angles`` evenly spaced directions (1-D: right and left)."""

    kind: Literal["translation"] = "translation"
    displacement_norm: Norms
    angles: Annotated[int, Field(ge=1, le=3600)] = 8

    def directions(self, d: int) -> list[tuple[float, ...]]:
        """Unit vectors (x, y); in 1-D at most two of them."""
        return directions(self.angles, d)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Every length asked for."""
        return tuple((norm, None) for norm in self.displacement_norm)

    @property
    def two_norms(self) -> bool:
        """False."""
        return False


class CustomFamilySpec(Sized):
    """The user's own family: ``class_path`` names a ``Deformation`` with a class method ``sample``.

    ``Class.sample(size, generator=generator, **init_args)`` draws one field, which ``control`` then rescales (two norms
    need a field with a knob for their ratio, see ``Tiltable``).
    """

    kind: Literal["custom"] = "custom"
    class_path: str
    init_args: dict[str, Any] = {}

    @field_validator("class_path")
    @classmethod
    def _found(cls, path: str) -> str:
        if not callable(getattr(plugins.load_class(path), "sample", None)):
            raise ValueError(f"class_path must name a class with a method 'sample', got {path!r}; add it")
        return path

    @property
    def name(self) -> str:
        """The class' own name: the column ``family``."""
        return self.class_path.rpartition(".")[2]


OWN = (
    FourierSpec, GradientSpec, DivergenceFreeSpec, GaussianSpec, MaxEntropySpec, SplineFieldSpec, PiecewiseLinearSpec,
    SaturatedSpec, MixedSpec, BumpSpec, LocalAffineSpec, AffineSpec, ThinPlateSpec, FlowSpec, CompactSpec,
    TranslationSpec,
)  # fmt: skip
"""The toolkit's families."""

KINDS = (*(spec.model_fields["kind"].default for spec in OWN), "custom")


def _own(data: Any) -> Any:
    data = plugins.as_class_path(data, plugins.DEFORMATIONS, KINDS, ("displacement_norm", "jacobian_norm"))
    return {"kind": "custom", **data} if isinstance(data, dict) and "class_path" in data else data


DeformationSpec = Annotated[
    Annotated[
        FourierSpec | GradientSpec | DivergenceFreeSpec | GaussianSpec | MaxEntropySpec | SplineFieldSpec
        | PiecewiseLinearSpec | SaturatedSpec | MixedSpec | BumpSpec | LocalAffineSpec | AffineSpec | ThinPlateSpec
        | FlowSpec | CompactSpec | TranslationSpec | CustomFamilySpec,
        Field(discriminator="kind"),
    ],
    BeforeValidator(_own),
]  # fmt: skip
