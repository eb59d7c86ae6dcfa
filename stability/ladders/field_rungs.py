"""Rungs from the theorem's operators for the given field, certified or enclosed: for every image and for this one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from stability.architecture import Architecture
from stability.boundaries import Zero
from stability.bounds.form import ClosedForm
from stability.bounds.rung import Parts, Rung, Scope, Status, Term
from stability.ladders.closed import THIS, of_strided_maps
from stability.ladders.energies import Spectra
from stability.ladders.field_constants import FieldConstants

EVERY_IMAGE = Scope(every_image=True, every_field=False)
NOT_COVERED = Parts({"not covered": math.inf}, "none")


@dataclass(frozen=True)
class FieldRungs:
    """What all rungs of given fields have in common, row by row.

    Args:
        architecture: strides, boundary, front end.
        lipschitz: rho_1, ..., rho_n of the layers.
        keeps_norms: whether the layers keep norms.
        forms: closed forms of the rows: what strides and the subtraction of means add.
        norm_x: ||x||, ``(B,)``.
        status: what the grid allows at best.
        allowances: of rungs that speak of functions on the torus.
    """

    architecture: Architecture
    lipschitz: tuple[float, ...]
    keeps_norms: bool
    forms: Sequence[ClosedForm]
    norm_x: Tensor
    status: Status
    allowances: Mapping[str, Tensor]

    def every_image(self, name: str, constants: Sequence[FieldConstants]) -> Rung:
        """The rung for every image and the field of the row.

        Args:
            name: of the rung.
            constants: of one field for all rows, or of each row's.
        """
        rows = []
        for own, form in zip(self._each(constants), self.forms, strict=True):
            extra = further(self.architecture, form, filtered=own.filtered)
            found = own.of_every_image(self.lipschitz, self.keeps_norms)
            rows.append(NOT_COVERED if extra is None else found._replace(terms=found.terms | extra))
        return self._rung(name, rows, EVERY_IMAGE, constants)

    def this_image(self, name: str, constants: Sequence[FieldConstants], spectra: Sequence[Spectra | None]) -> Rung:
        """The rung for this image and this field: the same norms times centred norms and removed energies of its maps.

        Args:
            name: of the rung.
            constants: of one field for all rows, or of each row's.
            spectra: of the maps of every row; None: not covered.
        """
        rows = []
        columns = self._each(constants), self.forms, spectra, self.norm_x.tolist()
        for own, form, powers, norm in zip(*columns, strict=True):
            extra = further(self.architecture, form, filtered=own.filtered)
            if extra is None or powers is None:
                rows.append(NOT_COVERED)
                continue
            terms, told = own.of_image(self.lipschitz, powers)
            for key, value in extra.items():
                amount = powers.maps[0].centred if key == "mean removal" else of_strided_maps(form) * norm
                terms[key] = value * amount
            rows.append(Parts({key: value / norm if norm else math.nan for key, value in terms.items()}, told))
        return self._rung(name, rows, THIS, constants)

    def _each(self, constants: Sequence[FieldConstants]) -> Sequence[FieldConstants]:
        return constants if len(constants) == len(self.forms) else list(constants) * len(self.forms)

    def _rung(self, name: str, rows: Sequence[Parts], scope: Scope, constants: Sequence[FieldConstants]) -> Rung:
        names = list(dict.fromkeys(key for row in rows for key in row.terms))
        terms = tuple(Term(key, self.norm_x.new_tensor([row.terms.get(key, 0.0) for row in rows])) for key in names)
        value = self.norm_x.new_tensor([math.fsum(row.terms.values()) for row in rows])
        covered = [own.status for own in constants if own.status is not Status.NOT_COVERED]
        known = any(math.isfinite(one) for one in value.tolist())
        status = Status.weakest(self.status, *covered) if known else Status.NOT_COVERED
        return Rung(name, value, status, scope, terms, self.allowances, tuple(row.form for row in rows))


def further(architecture: Architecture, form: ClosedForm, *, filtered: bool) -> dict[str, float] | None:
    """What strides and the subtraction of means add to the theorem, in units of ||x||; None where nothing is proved.

    Args:
        architecture: the network.
        form: its closed form.
        filtered: whether the norms are enclosed ones: the first is that of [P_1 F A_0, L], so that the front end adds
            nothing; and they are those of the torus, no bound with zeros beyond the border.
    """
    zero = isinstance(architecture.boundary, Zero)
    if form.terms and not (filtered and zero):
        names = ("aliasing",) if filtered else ("aliasing", "mean removal")
        return {term.name: float(term.value) for term in form.terms if term.name.startswith(names)}
    is_filter = architecture.front_end is not None and not architecture.front_end.in_closed_form
    whole = architecture.spacings[-1] == 1 and not zero
    return {} if filtered and is_filter and whole else None


def sampling_status(architecture: Architecture) -> Status:
    """A proof without strides; numerically evaluated if each follows a pooling as wide as the new spacing."""
    places = zip(architecture.layers, architecture.spacings[1:], strict=True)
    strides = [(layer.pooling_scale, spacing) for layer, spacing in places if layer.subsampling > 1]
    if not strides:
        return Status.PROOF
    return Status.NUMERICAL if all(sigma >= spacing for sigma, spacing in strides) else Status.ESTIMATE
