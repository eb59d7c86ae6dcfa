"""The theorem in closed form for every row of a ladder, from the certified norms of its field."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from stability.bounds.field import field_norms
from stability.bounds.form import EVERY, ClosedForm
from stability.bounds.rung import Rung, Scope, Status, Term
from stability.bounds.theorem import Theorem
from stability.deformations.base import Deformation
from stability.deformations.domains import Window

THIS = Scope(every_image=False, every_field=False)


def covered_status(forms: Sequence[ClosedForm], best: Status) -> Status:
    """The weakest among the rows that are covered: what is infinite in a row takes nothing from the others.

    Args:
        forms: of the rows.
        best: what the grid allows.
    """
    covered = [form.status for form in forms if math.isfinite(form.value)]
    return Status.weakest(best, *covered) if covered else Status.NOT_COVERED


def trivial_status(theorem: Theorem, best: Status, known: bool = True) -> Status:
    """How far the trivial bound can be trusted, ||Phi(y) - Phi(x)|| <= g prod rho ||A_0 F (y - x)||.

    Of a tangent kernel its step needs poolings that keep signs, as those of functions do and sampled ones nearly do.

    Args:
        theorem: of the representation.
        best: what the grid and the warp allow.
        known: whether there is a finite number at all.

    >>> from stability.architecture import Architecture
    >>> arch = Architecture.dyadic(depth=2, subsampling=2)
    >>> [str(trivial_status(Theorem(arch, tangent=tangent), Status.PROOF)) for tangent in (False, True)]
    ['proof', 'estimate']
    """
    if not known:
        return Status.NOT_COVERED
    if not theorem.tangent:
        return Status.PROOF
    return Status.ESTIMATE if theorem.architecture.spacings[-1] > 1 else best


def closed_form_rung(
    forms: Sequence[ClosedForm], norm_x: Tensor, status: Status, allowances: Mapping[str, Tensor]
) -> Rung:
    """The closed forms of all rows as one rung."""
    value = norm_x.new_tensor([form.value for form in forms])
    terms = _terms([form.terms for form in forms], norm_x)
    return Rung("closed_form", value, status, EVERY, terms, allowances, tuple(form.form for form in forms))


def hoelder_rung(forms: Sequence[ClosedForm], norm_x: Tensor, best: Status, allowances: Mapping[str, Tensor]) -> Rung:
    """The bounds by square-root moduli of all rows as one rung, where the theorem in closed form has infinite rho."""
    value = norm_x.new_tensor([math.inf if form.hoelder is None else form.hoelder for form in forms])
    known = bool(value.isfinite().any())
    status = Status.weakest(Status.NUMERICAL, best) if known else Status.NOT_COVERED
    return Rung("hoelder", value, status, EVERY, _terms([form.hoelder_terms for form in forms], norm_x), allowances)


def closed_forms(theorem: Theorem, deformation: Deformation, rows: int) -> list[ClosedForm]:
    """The theorem in closed form for each field, from its certified norms; one entry per row.

    A field of a window that does not vanish at the border jumps at the torus' seam: not covered.
    """
    domain = deformation.domain
    if isinstance(domain, Window) and not domain.vanishing:
        note = "the field lives on a window and does not vanish at its border: on the torus it jumps"
        return [ClosedForm(math.inf, "none", Status.NOT_COVERED, math.inf, notes=(note,))] * rows
    norms = deformation.norms()
    residual = deformation.without_mean().norms().displacement.upper
    columns = torch.broadcast_tensors(
        norms.displacement.upper,
        norms.jacobian.upper,
        norms.hessian.upper,
        norms.divergence.upper,
        deformation.mean.norm(dim=-1),
        residual,
        deformation.volume_preserving.to(residual),
    )
    values = torch.stack(columns, dim=-1).reshape(-1, len(columns)).tolist()
    forms = [
        theorem.form(
            field_norms(
                displacement_norm=a,
                jacobian_norm=b,
                hessian_norm=h if math.isfinite(h) else None,
                divergence_norm=divergence,
                mean_displacement=mean,
                residual_displacement=rest,
                volume_preserving=bool(preserving),
                d=deformation.d,
            ),
            deformation.vanishing_border,
        )
        for a, b, h, divergence, mean, rest, preserving in values
    ]
    return forms if len(forms) == rows else forms * rows


def trivial_norms_of_every_field(
    forms: Sequence[ClosedForm], gain: float, like: Tensor, allowances: Mapping[str, Tensor]
) -> Rung:
    """gain (1 + (1-b)^(-d/2)): both representations are at most as long as their images (gain: what strides add).

    Kernel maps preserve norms, so that prod rho does not enter; of other layers it does (``trivial_norms`` has it
    already). Infinite from b = 1 on.
    """
    value = gain * like.new_tensor([form.trivial_norms for form in forms])
    status = Status.PROOF if bool(value.isfinite().any()) else Status.NOT_COVERED
    return Rung("trivial_norms", value, status, EVERY, allowances=allowances)


def trivial_norms(
    forms: Sequence[ClosedForm],
    gain: float,
    growth: float,
    ratio: Tensor,
    exact: bool,
    allowances: Mapping[str, Tensor],
) -> Rung:
    """The same with the measured ||W x|| / ||x|| where a field has b >= 1, or the warp is no projection of L_tau x.

    It then speaks of this image and this field, and prod rho enters as ``growth`` (1 for kernel maps).
    """
    by_norms = trivial_norms_of_every_field(forms, gain, ratio, allowances)
    if exact and bool(by_norms.value.isfinite().all()):
        return by_norms
    return Rung("trivial_norms", gain * growth * (1.0 + ratio), Status.PROOF, THIS, allowances=allowances)


def of_strided_maps(form: ClosedForm) -> float:
    """2 ||L|| / (1 + ||L||): what a stride adds where the maps are the strided network's own, over what it adds to the
    theorem for the network without strides (docs/theory.md, section 7)."""
    norm = (1.0 - form.constants["b"]) ** (-form.constants["d"] / 2)
    return float(2.0 * norm / (1.0 + norm))


def aliasing_part(form: ClosedForm) -> float:
    """Sum of a closed form's aliasing terms; NaN where it is not covered."""
    if not form.terms:
        return math.nan
    return math.fsum(float(term.value) for term in form.terms if term.name.startswith("aliasing"))


def _terms(rows: Sequence[Sequence[Term]], like: Tensor) -> tuple[Term, ...]:
    names = list(dict.fromkeys(term.name for row in rows for term in row))
    values = [{term.name: float(term.value) for term in row} for row in rows]
    return tuple(Term(name, like.new_tensor([row.get(name, 0.0) for row in values])) for name in names)
