"""The rungs that look at a network's own maps of x: x-specific and early stop for this field, energy for every one."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.architecture import Architecture
from stability.boundaries import Periodic
from stability.bounds.field import FieldNorms
from stability.bounds.form import ClosedForm
from stability.bounds.rung import Parts, Rung, Scope, Status, Term
from stability.deformations.base import Deformation
from stability.ladders.closed import THIS
from stability.ladders.energies import Spectra, spectra
from stability.ladders.energy import energy_terms
from stability.ladders.grid_warp import grid_warp
from stability.ladders.x_specific import Telescope, telescope
from stability.representations.base import Representation
from stability.representations.explicit import ExplicitRepresentation
from stability.warps.base import Warp

EVERY_FIELD = Scope(every_image=False, every_field=True)
NOT_COVERED = Parts({"not covered": math.inf}, "none")
"""The energy rung is one of the torus: with zeros beyond the border a spectrum is none of the pooled map."""
AFFORDABLE_POSITIONS = 40**2
"""Positions of a grid up to which the maps of an exact kernel are decomposed without being asked."""
AFFORDABLE_MATRIX = 64**2
"""Positions up to which a deformation is held as a matrix without being asked."""


@dataclass(frozen=True)
class Layerwise:
    """What was found row by row, in the unit of ||x||; no spectra with zeros beyond the border."""

    telescopes: tuple[Telescope, ...]
    energies: tuple[Parts, ...]
    spectra: tuple[Spectra | None, ...]

    def in_units_of(
        self, norm_x: Tensor, floor: Tensor
    ) -> tuple[list[Rung], Tensor, Callable[[Status, Mapping[str, Tensor]], Rung]]:
        """The rungs for this field, their commutation defect, and the rung for every field, given its status."""

        def column(values: Sequence[float]) -> Tensor:
            return norm_x.new_tensor(values) / norm_x

        early = [steps.early for steps in self.telescopes]
        stopped = column([bound for _, bound, _ in early])
        hidden = column([steps.floor for steps in self.telescopes]) + floor
        commutation = column([steps.defect for steps in self.telescopes])
        value = column([steps.value for steps in self.telescopes])
        status = Status.NUMERICAL if bool(torch.isfinite(value).all()) else Status.NOT_COVERED
        names = [f"layer {k}" for k in range(1, len(self.telescopes[0].commutators) + 1)] + ["last pooling"]
        columns = zip(*(steps.terms for steps in self.telescopes), strict=True)
        terms = tuple(Term(name, column(values)) for name, values in zip(names, columns, strict=True))
        lower = [
            Rung("x_specific", value, status, THIS, terms, {"floor": hidden, "commutation defect": commutation}),
            Rung(
                "early_stop",
                stopped,
                Status.NUMERICAL if bool(torch.isfinite(stopped).all()) else Status.NOT_COVERED,
                THIS,
                (Term("layers before the stop", norm_x.new_tensor([float(j) for j, _, _ in early])),),
                {"floor": hidden, "commutation defect": column([defect for _, _, defect in early])},
            ),
        ]

        def energy(status: Status, allowances: Mapping[str, Tensor]) -> Rung:
            rows = [row.terms for row in self.energies]
            names = list(dict.fromkeys(name for row in rows for name in row))
            parts = tuple(Term(name, column([row.get(name, 0.0) for row in rows])) for name in names)
            total = column([math.fsum(row.values()) for row in rows])
            known = status if bool(torch.isfinite(total).any()) else Status.NOT_COVERED
            forms = tuple(row.form for row in self.energies)
            return Rung("energy", total, known, EVERY_FIELD, parts, allowances, forms)

        return lower, commutation, energy


@dataclass(frozen=True)
class Row:
    """One image under one field.

    Args:
        image: x, ``(C, *size)``; rows of the same image share the tensor's memory.
        warped: W x as the representation gets it.
        field: one field, batch shape ``()``.
        form: the closed form for its norms.
    """

    image: Tensor
    warped: Tensor
    field: Deformation
    form: ClosedForm


def layerwise(
    representation: Representation,
    rows: Iterable[Row],
    warp: Warp,
    lipschitz: tuple[float, ...],
    gains: tuple[float, ...],
) -> Layerwise | None:
    """Telescoped sum and energies of every row; None for a representation that does not show its maps.

    Consecutive rows of one image decompose its maps once.
    """
    architecture = representation.architecture
    assert architecture is not None
    telescopes, energies, seen, stages, last, norm = [], [], [], None, None, 0.0
    powers: Spectra | None = None
    for row in rows:
        if stages is None or row.image.data_ptr() != last:
            stages, last = representation.stages(row.image), row.image.data_ptr()
            if stages is None:
                return None
            norm = float(row.image.norm())
            powers = spectra(stages) if isinstance(architecture.boundary, Periodic) else None
        warps = {spacing: grid_warp(row.field, warp, spacing) for spacing in set(architecture.spacings[:-1])}
        telescopes.append(telescope(stages, row.warped, warps, lipschitz, gains))
        known = energy_terms(row.form, field_norms(row.form), powers.maps, lipschitz, norm) if powers else NOT_COVERED
        energies.append(known)
        seen.append(powers)
    return Layerwise(tuple(telescopes), tuple(energies), tuple(seen))


def maps_fit(architecture: Architecture, representation: Representation, size: tuple[int, ...]) -> bool:
    """Whether the maps and their deformations take seconds and at most a few hundred megabytes."""
    explicit = isinstance(representation, ExplicitRepresentation)
    return math.prod(size) <= (AFFORDABLE_MATRIX if explicit else AFFORDABLE_POSITIONS)


def field_norms(form: ClosedForm) -> FieldNorms:
    """The norms that a closed form was given."""
    given = form.constants
    if not form.terms:
        return FieldNorms(math.inf, 0.0)
    return FieldNorms(
        displacement=given["a"],
        jacobian=given["b"],
        hessian=given["H"],
        mean=given["mean"],
        residual=given["residual"],
        divergence=None if math.isnan(given["divergence"]) else given["divergence"],
        volume_preserving=given["volume_preserving"],
        d=given["d"],
    )
