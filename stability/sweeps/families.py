"""Families of deformations in a specification: which fields are drawn, and how large they are made."""

import itertools
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from stability import plugins
from stability.sweeps.parts import Norms, Spec, directions

Pair = tuple[float | None, float | None]
"""(displacement_norm, jacobian_norm) asked for; None: left free."""


class _Sized(Spec):
    """Fields drawn at random and rescaled to the norms asked for."""

    displacement_norm: Norms | None = None
    jacobian_norm: Norms | None = None

    @model_validator(mode="after")
    def _some_norm(self) -> "_Sized":
        if self.displacement_norm is None and self.jacobian_norm is None:
            raise ValueError("displacement_norm or jacobian_norm must be given, got neither; ask for at least one size")
        return self

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Every size asked for."""
        return tuple(itertools.product(self.displacement_norm or (None,), self.jacobian_norm or (None,)))

    @property
    def two_norms(self) -> bool:
        """Whether both norms are prescribed, so that some pairs may be out of reach."""
        return self.displacement_norm is not None and self.jacobian_norm is not None


class FourierSpec(_Sized):
    """Mean-free band-limited fields with prescribed norms; without ``shift`` the mean stays zero.

    One list of norms: the drawn field is rescaled. Two lists: every pair, met at once by ``control``.
    """

    kind: Literal["fourier"] = "fourier"
    cutoff: Annotated[float, Field(ge=1)] = 3
    shift: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _shift_needs_both(self) -> "FourierSpec":
        if self.shift is not None and not self.two_norms:
            raise ValueError("shift must come with both norms, got one; give displacement_norm and jacobian_norm")
        if self.shift is not None and not any(self.shift):
            raise ValueError(f"shift must be a direction, got {self.shift}; use for example (1.0, 0.0)")
        return self


class CompactSpec(_Sized):
    """``CompactField``: a smooth window times a Fourier field, zero at the border; one norm is prescribed.

    Args:
        cutoff: of the Fourier field, cycles per shorter side.
        border: width of the frame in which the field is zero, px.
        rise: width over which the window rises, px; None: a quarter of the side.
    """

    kind: Literal["compact"] = "compact"
    cutoff: Annotated[float, Field(ge=1)] = 3
    border: Annotated[float, Field(ge=0)] = 0.0
    rise: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _one_norm(self) -> "CompactSpec":
        if self.two_norms:
            raise ValueError("a compact field must have one norm prescribed, got both; leave one out")
        return self


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


class CustomFamilySpec(_Sized):
    """The user's own family: ``class_path`` names a ``Deformation`` with a class method ``sample``.

    ``Class.sample(size, generator=generator, **init_args)`` draws one field, which ``control`` then rescales (two norms
    need a field with a spectrum).
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


KINDS = ("fourier", "compact", "translation", "custom")


def _own(data: Any) -> Any:
    data = plugins.as_class_path(data, plugins.DEFORMATIONS, KINDS, ("displacement_norm", "jacobian_norm"))
    return {"kind": "custom", **data} if isinstance(data, dict) and "class_path" in data else data


DeformationSpec = Annotated[
    Annotated[FourierSpec | CompactSpec | TranslationSpec | CustomFamilySpec, Field(discriminator="kind")],
    BeforeValidator(_own),
]
