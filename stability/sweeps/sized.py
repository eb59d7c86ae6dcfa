"""What the families of a specification have in common: sizes asked for, and how one field is drawn."""

import itertools
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, model_validator

from stability import plugins
from stability.sweeps.parts import Norms, Spec

if TYPE_CHECKING:  # torch loads when a field is drawn
    from torch import Generator

    from stability.deformations.base import Deformation

Pair = tuple[float | None, float | None]
"""(displacement_norm, jacobian_norm) asked for; None: left free."""

Cutoff = Annotated[float, Field(ge=1)]
"""Cycles per shorter side."""

Lattice = Annotated[int, Field(ge=4)] | tuple[Annotated[int, Field(ge=4)], ...]
"""Nodes on the shorter side, or per axis in the order of ``size``."""


class Sized(Spec):
    """Fields drawn at random and given the norms asked for."""

    knob: ClassVar[bool] = True
    """Whether ``control`` can meet both norms at once."""

    displacement_norm: Norms | None = None
    jacobian_norm: Norms | None = None

    @property
    def as_drawn(self) -> bool:
        """Whether the fields keep the size with which they are drawn."""
        return False

    @model_validator(mode="after")
    def _some_norm(self) -> "Sized":
        if not self.as_drawn and self.displacement_norm is None and self.jacobian_norm is None:
            raise ValueError("displacement_norm or jacobian_norm must be given, got neither; ask for at least one size")
        if self.two_norms and not self.knob:
            kind = str(getattr(self, "kind", "")).replace("_", " ")
            raise ValueError(f"a family of kind '{kind}' must have one norm prescribed, got both; leave one out")
        return self

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Every size asked for."""
        return tuple(itertools.product(self.displacement_norm or (None,), self.jacobian_norm or (None,)))

    @property
    def two_norms(self) -> bool:
        """Whether both norms are prescribed, so that some pairs may be out of reach."""
        return self.displacement_norm is not None and self.jacobian_norm is not None


class DrawnSpec(Sized):
    """A family of the toolkit: its keys, but for the sizes, are the arguments of the family's ``sample``."""

    family: ClassVar[str]
    """Module and class below ``stability.deformations``."""

    def sample(self, size: tuple[int, ...], generator: "Generator") -> "Deformation":
        """One field, batch shape ``()``, before it is given its norms."""
        return _load(self.family).sample(size, generator=generator, **self.arguments())

    def arguments(self) -> dict[str, Any]:
        """What ``sample`` is called with besides size and generator."""
        return _own_keys(self, ("shift",))


class BandLimitedSpec(DrawnSpec):
    """Fields with frequencies in a disc, and on request a constant that fills up the displacement norm."""

    cutoff: Cutoff = 3
    shift: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _shift_needs_both(self) -> "BandLimitedSpec":
        if self.shift is not None and not self.two_norms:
            raise ValueError("shift must come with both norms, got one; give displacement_norm and jacobian_norm")
        if self.shift is not None and not any(self.shift):
            raise ValueError(f"shift must be a direction, got {self.shift}; use for example (1.0, 0.0)")
        return self


class WithinSpec(Spec):
    """Families that are drawn with both norms: at most these, at least one attained."""

    method: ClassVar[str] = "sample"
    """The class method that draws them."""

    family: ClassVar[str]
    """Module and class below ``stability.deformations``."""

    displacement_norm: Norms
    jacobian_norm: Norms

    def sample_within(self, size: tuple[int, ...], pair: Pair, generator: "Generator") -> "Deformation":
        """One field with norms at most the pair's, batch shape ``()``."""
        draw = getattr(_load(self.family), self.method)
        a, b = pair
        field: Deformation = draw(size, displacement_norm=a, jacobian_norm=b, generator=generator, **_own_keys(self))
        return field

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Every size asked for."""
        return tuple(itertools.product(self.displacement_norm, self.jacobian_norm))

    @property
    def two_norms(self) -> bool:
        """False: no pair is out of reach."""
        return False


def _own_keys(spec: Spec, without: tuple[str, ...] = ()) -> dict[str, Any]:
    hidden = {"kind", "displacement_norm", "jacobian_norm", *without}
    return {name: getattr(spec, name) for name in type(spec).model_fields if name not in hidden}


def _load(path: str) -> Any:
    return plugins.load_class(f"stability.deformations.{path}")
