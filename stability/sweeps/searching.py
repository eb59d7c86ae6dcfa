"""A search of a sweep: ``worst_case`` for one image, one model and one pair of norms; its field and its columns."""

import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from stability.allowances import divides, is_projection
from stability.bounds.field import field_norms
from stability.bounds.form import EVERY
from stability.bounds.rung import Scope, Status
from stability.deformations.base import Deformation
from stability.representations.base import Representation
from stability.search.candidates import Candidates
from stability.search.compared import compared
from stability.search.constraints import Constraint, DivergenceFree, FixedBorder, TranslationFree
from stability.search.families import Fields, Fourier, PiecewiseLinear, Spline
from stability.search.found import Found
from stability.search.grids import RigidMotions, Translations
from stability.search.objectives import Angle, AtFixedNorm, Distance, Objective
from stability.search.starts import Linearised, Saturated, Start
from stability.search.worst import worst_case
from stability.sweeps.build import build_warp
from stability.sweeps.chunks import Draw
from stability.sweeps.marks import Column, over_items
from stability.sweeps.searches import (
    AngleSpec,
    ConstraintSpec,
    DivergenceFreeConstraintSpec,
    FixedBorderSpec,
    FourierSpace,
    LinearisedStartSpec,
    PiecewiseLinearSpace,
    RigidMotionsSpace,
    SaturatedStartSpec,
    SearchSpec,
    SplineSpace,
    StartSpec,
    TranslationFreeSpec,
    TranslationsSpace,
)
from stability.sweeps.spec import SweepSpec
from stability.warps.base import Warp

TRACE = "trace"
"""Key of a part's metadata: the objective after every step of every start, ``(T, S)``."""


@dataclass(frozen=True)
class Kept:
    """What is kept of a search beside its row.

    Args:
        field: batch shape ``(1,)``.
        trace: the objective after every step of every start, ``(T, S)``.
    """

    field: Deformation
    trace: Tensor

    def metadata(self) -> dict[str, str]:
        """The trace as words of a table's schema."""
        return {TRACE: json.dumps(self.trace.tolist())}

    def file(self) -> bytes:
        """The field as ``Deformation.save`` writes it."""
        with tempfile.TemporaryDirectory() as folder:
            return self.field.save(Path(folder) / "field.npz").read_bytes()


def find(
    search: SearchSpec, draw: Draw, representation: Representation, image: Tensor, warp: Warp
) -> tuple[Found, Kept]:
    """``worst_case`` as a specification asks for it.

    Args:
        search: what is searched.
        draw: one pair of norms, and the seed of the generator.
        representation: what is measured.
        image: ``(1, C, *size)``.
        warp: that of the sweep.
    """
    ((a, b),) = draw.pairs
    assert a is not None
    assert b is not None
    found = worst_case(
        representation,
        image,
        displacement_norm=a,
        jacobian_norm=b,
        generator=torch.Generator().manual_seed(draw.seed),
        objective=_objective(search),
        fields=_fields(search),
        constraints=[_constraint(one) for one in search.constraints],
        warp=warp,
        starts=[_start(one) for one in search.starts],
        kept=search.kept,
        steps=search.steps,
        chances=search.chances,
    )
    return found, Kept(found.field, found.trace[:, 0])


def search_columns(
    spec: SweepSpec, search: SearchSpec, found: Found, representation: Representation, file: str
) -> dict[str, Column]:
    """What a search says of the value that it found, and the bound of the supremum that it is a lower bound of.

    Args:
        spec: the sweep.
        search: what was searched.
        found: of one image.
        representation: what was measured; every layer has a row.
        file: where a store keeps the field.
    """
    shape = (1, 1, len(representation.layer_names))
    bound, status, scope = _bound(spec, search, found, representation)
    numbers = {
        "largest_found": found.largest_found, "spread": found.spread, "median_spread": found.median_spread,
        "angle": found.angle, "bound_supremum": torch.tensor([bound], dtype=torch.float64),
    }  # fmt: skip
    counts = {
        "starts": found.of_starts.shape[1], "value_evaluations": found.value_evaluations,
        "gradient_evaluations": found.gradient_evaluations,
    }  # fmt: skip
    name = search.objective.kind + ("_at_fixed_norm" if search.fixed_norm else "")
    words = {
        "status_largest_found": found.meanings[0], "status_supremum": str(status), "scope_supremum": str(scope),
        "objective": name, "field_file": file,
    }  # fmt: skip
    columns = {key: value.double().expand(math.prod(shape)).numpy() for key, value in numbers.items()}
    columns |= {key: torch.full((math.prod(shape),), float(value)).double().numpy() for key, value in counts.items()}
    return columns | {key: over_items([word], shape) for key, word in words.items()}


def check_search(
    spec: SweepSpec, index: int, search: SearchSpec, image: Tensor, representations: Sequence[Representation]
) -> None:
    """Raise ``ValueError`` for fields that no pair of norms has, or a representation without derivatives."""
    fields, constraints = _fields(search), [_constraint(one) for one in search.constraints]
    a, b = (torch.ones(1, dtype=torch.float64) for _ in range(2))
    try:
        if isinstance(fields, Candidates):
            fields.fields(spec.images.size, 1.0, 1.0)
        else:
            fields.space(spec.images.size, a, b, constraints)
        build_warp(spec)
        for representation in representations:
            compared(representation, image)
    except ValueError as error:
        raise ValueError(f"search.{index}: {error}") from None


def _bound(
    spec: SweepSpec, search: SearchSpec, found: Found, representation: Representation
) -> tuple[float, Status, Scope]:
    """The theorem for every field of C(a, b), over ||x||, with status and scope: what no search can exceed."""
    theorem, warp = representation.theorem, build_warp(spec)
    outside = isinstance(search.fields, RigidMotionsSpace) or not warp.deforms
    if theorem is None or theorem.silent or outside:
        return math.inf, Status.NOT_COVERED, EVERY
    constant = isinstance(search.fields, TranslationsSpace)
    norms = field_norms(
        displacement_norm=float(found.asked_displacement_norm),
        jacobian_norm=0.0 if constant else float(found.asked_jacobian_norm),
        d=len(spec.images.size),
    )
    form = theorem.form(norms, _border(search))
    certain = is_projection(warp) and divides(theorem.architecture, spec.images.size)
    return form.value, form.status if certain else Status.weakest(form.status, Status.ESTIMATE), form.scope


def _border(search: SearchSpec) -> float | None:
    """Width in which all fields of a search vanish, px; None: they need not."""
    return next((one.width for one in search.constraints if isinstance(one, FixedBorderSpec)), None)


def _objective(search: SearchSpec) -> Objective:
    own = Angle() if isinstance(search.objective, AngleSpec) else Distance()
    return AtFixedNorm(own) if search.fixed_norm else own


def _fields(search: SearchSpec) -> Fields | Candidates:
    match search.fields:
        case PiecewiseLinearSpace(lattice=lattice):
            return PiecewiseLinear(lattice)
        case SplineSpace(lattice=lattice):
            return Spline(lattice)
        case FourierSpace(cutoff=cutoff):
            return Fourier(cutoff)
        case TranslationsSpace(angles=angles, radii=radii):
            return Translations(angles, radii)
        case RigidMotionsSpace(rotations=rotations, angles=angles, radii=radii):
            return RigidMotions(rotations, angles, radii)


def _constraint(chosen: ConstraintSpec) -> Constraint:
    match chosen:
        case TranslationFreeSpec():
            return TranslationFree()
        case DivergenceFreeConstraintSpec():
            return DivergenceFree()
        case FixedBorderSpec(width=width):
            return FixedBorder(width)


def _start(chosen: StartSpec) -> Start:
    match chosen:
        case SaturatedStartSpec(count=count):
            return Saturated(count)
        case LinearisedStartSpec(count=count, steps=steps):
            return Linearised(count, steps)
