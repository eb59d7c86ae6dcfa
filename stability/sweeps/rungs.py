"""The rungs of a ladder that a sweep asks for beyond the closed form: for every image and field of a chunk."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from stability.allowances import divides, is_projection
from stability.bounds.form import ClosedForm
from stability.bounds.rung import Rung, Status
from stability.certificates import FieldCertificates
from stability.ladders.field_constants import FieldConstants, certified, enclosed
from stability.ladders.field_rungs import FieldRungs, sampling_status
from stability.ladders.layerwise import Row, layerwise
from stability.operator_norms import OperatorNorms
from stability.operators.pooling import sampling_gains
from stability.representations.base import Representation
from stability.sweeps.build import Fields
from stability.sweeps.cells import Deformed
from stability.sweeps.marks import DISCRETE, OF_CERTIFICATES, OF_MAPS, OF_NORMS, OUT_OF_REACH, Column, over_items

FURTHER = (
    "x_specific", "early_stop", "centred_operator_norms", "centred_certificates", "operator_norms", "certificates",
    "energy",
)  # fmt: skip
"""By name, from the sharpest scope to the widest."""


@dataclass(frozen=True)
class Further:
    """Rungs of all images and fields.

    Args:
        rungs: by name; values ``(I F,)``, images outermost.
        commutation: commutation defect, ``(I F,)``; None if no rung needs it.
    """

    rungs: dict[str, Rung]
    commutation: Tensor | None


@dataclass
class FieldMemo:
    """Certificates and norms of a chunk's fields, shared by all its models.

    Args:
        seed: of the iterations for large operator norms.
    """

    seed: int
    _certificates: list[FieldCertificates] = field(default_factory=list)
    _norms: list[OperatorNorms] = field(default_factory=list)

    def certificates(self, fields: Fields) -> list[FieldCertificates]:
        """One per batch of fields."""
        if not self._certificates:
            self._certificates = [FieldCertificates(deformation) for deformation in fields.deformations]
        return self._certificates

    def norms(self, fields: Fields) -> list[OperatorNorms]:
        """One per batch of fields."""
        if not self._norms:
            rng = torch.Generator().manual_seed(self.seed)
            self._norms = [OperatorNorms(deformation, rng) for deformation in fields.deformations]
        return self._norms


def further(
    names: Sequence[str],
    representation: Representation,
    deformed: Deformed,
    fields: Fields,
    forms: Sequence[ClosedForm] | None,
    floor: Tensor,
    memo: FieldMemo,
) -> Further:
    """The rungs of these names; an empty answer where the theory is silent.

    Args:
        names: of the rungs.
        representation: what is measured.
        deformed: images under fields.
        fields: the fields.
        forms: the theorem in closed form for every field.
        floor: of the distances, ``(I,)``, in the unit of ||x||.
        memo: what is known of the fields.
    """
    architecture, images, count = representation.architecture, deformed.images, deformed.warped.shape[1]
    wanted = [name for name in FURTHER if name in names]
    if not wanted or architecture is None or forms is None or not count or not deformed.warp.deforms:
        return Further({}, None)
    norm_x = images.flatten(1).norm(dim=1).repeat_interleave(count)  # (I F,)
    certain = is_projection(deformed.warp) and divides(architecture, tuple(images.shape[2:]))
    best = sampling_status(architecture) if certain else Status.ESTIMATE
    theorem = representation.theorem
    assert theorem is not None
    own, commutation, spectra = theorem.lipschitz, None, None
    found: dict[str, Rung] = {}
    if any(name in OF_MAPS for name in wanted):
        singles = [batch.flat()[i] for batch in fields.deformations for i in range(batch.batch_shape.numel())]
        rows = (
            Row(image, warped, one, form)
            for image, all_warped in zip(images, deformed.warped, strict=True)
            for warped, one, form in zip(all_warped, singles, forms, strict=True)
        )
        gains = sampling_gains(architecture, tuple(images.shape[2:]))
        seen = layerwise(representation, rows, deformed.warp, own, gains)
        if seen is not None:
            lower, commutation, energy = seen.in_units_of(norm_x, floor.repeat_interleave(count) / norm_x)
            status = Status.weakest(best, *(form.status for form in forms))
            found |= {rung.name: rung for rung in (*lower, energy(status, {}))}
            spectra = seen.spectra
    made = FieldRungs(architecture, own, theorem.own is None, list(forms) * len(images), norm_x, best, {})
    for kind, asked in (("certificates", OF_CERTIFICATES), ("operator_norms", OF_NORMS)):
        if not any(name in asked for name in wanted):
            continue
        constants: list[FieldConstants] = []
        if kind == "certificates":
            constants = [row for one in memo.certificates(fields) for row in certified(one, architecture)]
        else:
            constants = [row for one in memo.norms(fields) for row in enclosed(one, architecture)]
        rows_of = constants * len(images)
        found[kind] = made.every_image(kind, rows_of)
        if spectra is not None:
            found[f"centred_{kind}"] = made.this_image(f"centred_{kind}", rows_of, spectra)
    return Further({name: found[name] for name in wanted if name in found}, commutation)


def rung_columns(
    names: Sequence[str],
    found: Further,
    fields: Fields,
    shape: tuple[int, int, int],
    spread: Callable[[Tensor], Column],
) -> dict[str, Column]:
    """Bound, status and scope of every rung asked for, and the commutation defect of those of the discrete theorem.

    Args:
        names: of the rungs.
        found: what was computed.
        fields: which of the items have a field.
        shape: images, items, layers.
        spread: from ``(I, F)`` to a column over all items.
    """
    images, count, _ = shape
    there, columns = len(fields.present), {}

    def words(text: str, absent: str) -> Column:
        return over_items([text if i in fields.present else absent for i in range(count)], shape)

    nothing = torch.full((images, there), math.inf, dtype=torch.float64)
    for name in (one for one in FURTHER if one in names):
        rung = found.rungs.get(name)
        status, scope = (str(Status.NOT_COVERED), "") if rung is None else (str(rung.status), str(rung.scope))
        columns[f"bound_{name}"] = spread(nothing if rung is None else rung.value.view(images, there))
        columns[f"status_{name}"], columns[f"scope_{name}"] = words(status, OUT_OF_REACH), words(scope, "")
    if any(name in DISCRETE for name in names):
        defect = torch.full_like(nothing, math.nan) if found.commutation is None else found.commutation
        columns["commutation_defect"] = spread(defect.view(images, there))
    return columns
