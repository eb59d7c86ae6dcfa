"""What a bound says of itself: its status, its scope, its terms."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Status(enum.StrEnum):
    """How far a printed bound can be trusted, from a closed-form proof down to nothing at all."""

    PROOF = "proof"
    NUMERICAL = "proof, numerically evaluated"
    ENCLOSURE = "enclosure"
    PROBABLE = "high probability"
    ESTIMATE = "estimate"
    NOT_COVERED = "not covered"

    @staticmethod
    def weakest(*statuses: "Status") -> "Status":
        """The status of a bound made of parts: that of its weakest part.

        >>> Status.weakest(Status.PROOF, Status.ESTIMATE)
        <Status.ESTIMATE: 'estimate'>
        """
        order = list(Status)
        return max(statuses, key=order.index, default=Status.PROOF)


@dataclass(frozen=True)
class Scope:
    """For which images and which fields a bound speaks. Only "every field" may certify a label or a radius."""

    every_image: bool
    every_field: bool

    def __str__(self) -> str:
        image = "every image" if self.every_image else "this image"
        field = "every field with these norms" if self.every_field else "this field"
        return f"{image}, {field}"


class Parts(NamedTuple):
    """The addends of one row's bound by name, and in words which theorem and which form of its constants gave them."""

    terms: dict[str, float]
    form: str


def told(combination: str, forms: Sequence[str], last: str = "") -> str:
    """Which theorem won with which forms: those of the layers once each, then that of the last pooling.

    >>> told("quadrature", ["mixed, joint", "mixed, joint"], "direct")
    'quadrature: mixed, joint; last pooling: direct'
    """
    found = list(dict.fromkeys(forms)) + ([f"last pooling: {last}"] if last else [])
    return f"{combination}: {'; '.join(found)}" if found else combination


class Term(NamedTuple):
    """One addend of a bound: its name and its value (a float or a tensor with one value per image)."""

    name: str
    value: "float | Tensor"


@dataclass(frozen=True)
class Rung:
    """One bound of the ladder, in units of ||x||: ||Phi(L_tau x) - Phi(x)|| / ||x|| <= value (+ allowances).

    Args:
        name: for example "closed_form".
        value: one value per image, tensor ``(B,)``, dimensionless.
        status: proof, enclosure, estimate ... the weakest among the rows.
        scope: which images and fields it speaks of.
        terms: the addends, one per layer and one for the last pooling.
        allowances: what sampling and round-off may add to the observed distance beside this bound, by name, ``(B,)``
            each in the same unit; the theorem on the torus knows nothing of them.
        forms: for every row which theorem and which form of its constants is the smallest; empty where there is one.
    """

    name: str
    value: "Tensor"
    status: Status
    scope: Scope
    terms: tuple[Term, ...] = ()
    allowances: "Mapping[str, Tensor]" = field(default_factory=dict)
    forms: tuple[str, ...] = ()


def certifying(rung: Rung) -> Rung:
    """The rung, if it may certify a label or a radius: a proof, for every field with the given norms.

    Raises:
        ValueError: if it speaks of one field only, or is no proof.

    >>> import torch
    >>> one = Rung("x_specific", torch.ones(1), Status.NUMERICAL, Scope(every_image=False, every_field=False))
    >>> certifying(one)
    Traceback (most recent call last):
    ValueError: a certificate must hold for every field with these norms, got the rung 'x_specific' (this image, \
this field); use closed_form or energy
    """
    if not rung.scope.every_field:
        raise ValueError(
            f"a certificate must hold for every field with these norms, got the rung {rung.name!r} ({rung.scope}); "
            "use closed_form or energy"
        )
    if rung.status not in (Status.PROOF, Status.NUMERICAL):
        raise ValueError(
            f"a certificate must be a proof, got the rung {rung.name!r} with the status {str(rung.status)!r}; use a "
            "field and an architecture that the theorem covers"
        )
    return rung
