r"""``ladder``: for each image and field, what is observed and every bound that stands above it.

    observed <= rung + (defect + refinement + floor),    all in units of ||x||,

where a rung is the theorem in closed form or a trivial bound, and the allowances are what the grid and the warp add:
each is computed and printed. On a grid twice as fine the exact warp loses next to nothing, so that the change from one
grid to the other holds what the projection does to the distance, and only what is lost on the finer grid remains.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import Tensor

from stability.allowances import (
    REFINEMENT,
    divides,
    input_smoothing,
    is_projection,
    low_pass_difference,
    pushed,
    refined_distance,
    refinement_fits,
)
from stability.architecture import Architecture
from stability.boundaries import Periodic
from stability.bounds.closed_form import ClosedForm, closed_form
from stability.bounds.rung import Rung, Scope, Status, Term
from stability.deformations.base import Deformation
from stability.deformations.domains import Window
from stability.grid import band_limit, check_images
from stability.operators.pooling import sampling_gains
from stability.representations.base import Representation, own_lipschitz
from stability.warps.band_limited import BandLimitedWarp, check_band_limited
from stability.warps.base import Warp
from stability.warps.error import interpolation_error

ALLOWANCES = ("interpolation_error", "defect", "refinement", "aliasing", "floor")
THIS, EVERY = Scope(every_image=False, every_field=False), Scope(every_image=True, every_field=True)


@dataclass(frozen=True, repr=False)
class Ladder:
    """Observed distance, allowances and rungs, one row per image, all in units of ||x||.

    Args:
        observed: ||Phi(W x) - Phi(x)|| / ||x||, ``(B,)``; NaN for a zero image.
        rungs: the bounds, from the sharpest scope to the widest.
        interpolation_error: prod rho ||A_0 (W x - L_tau x)|| / ||x||: the most that the warp can add.
        defect: the part of it that the refinement does not show: for the exact warp the same quantity on the
            finer grid, otherwise (or without refinement) all of it.
        refinement: |observed on this grid - observed on the grid twice as fine|: an estimate of what sampling adds
            between the layers (kernel maps are not band-limited); NaN if it was not evaluated.
        aliasing: what subsampling adds; already inside the closed form's terms, printed here; NaN where the closed
            form is not covered.
        floor: distances below it are round-off.
        norm_x: ||x||.
        norm_phi: ||Phi(x)||.
    """

    observed: Tensor
    rungs: tuple[Rung, ...]
    interpolation_error: Tensor
    defect: Tensor
    refinement: Tensor
    aliasing: Tensor
    floor: Tensor
    norm_x: Tensor
    norm_phi: Tensor
    meaning: str = field(
        default="a violation is an observed distance above a bound by more than every allowance. The refinement is an "
        "estimate of the grid's error and no bound of it: look at a finer grid first, then for a wrong norm or a bug; "
        "it is not a discovery",
        repr=False,
    )

    @property
    def allowance(self) -> Tensor:
        """defect + refinement (0 where not evaluated) + floor, ``(B,)``."""
        return self.defect + self.refinement.nan_to_num(0.0) + self.floor

    @property
    def trivial(self) -> Tensor:
        """prod rho ||A_0 F (W x - x)|| / ||x||: no bound above it carries information, ``(B,)``."""
        return self["trivial"].value

    def __getitem__(self, name: str) -> Rung:
        for rung in self.rungs:
            if rung.name == name:
                return rung
        raise KeyError(f"no rung {name!r}; the ladder has {', '.join(rung.name for rung in self.rungs)}")

    @property
    def violation(self) -> Tensor:
        """Whether some bound lies below the observed distance by more than the allowances, ``(B,)`` bool.

        The trivial bound needs no allowance but the floor: it holds for the network and the warped image as computed.
        """
        violated = torch.zeros_like(self.observed, dtype=torch.bool)
        for rung in self.rungs:
            allowance = self.floor if rung.name == "trivial" else self.allowance
            violated |= self.observed > (rung.value + allowance) * (1.0 + 1e-12)
        return violated

    def __repr__(self) -> str:
        columns = ["observed", *(f"bound_{rung.name}" for rung in self.rungs), *ALLOWANCES, "violation"]
        return f"Ladder, in units of ||x||:\n{self.to_frame()[columns].to_string()}"

    def to_frame(self) -> pd.DataFrame:
        """One row per image: observed, bounds with their status and scope, allowances."""
        columns: dict[str, object] = {"observed": self.observed.tolist(), "trivial": self.trivial.tolist()}
        for rung in self.rungs:
            columns[f"bound_{rung.name}"] = rung.value.tolist()
            columns[f"status_{rung.name}"] = str(rung.status)
            columns[f"scope_{rung.name}"] = str(rung.scope)
        for name in (*ALLOWANCES, "norm_x", "norm_phi", "violation"):
            columns[name] = getattr(self, name).tolist()
        return pd.DataFrame(columns)


def ladder(
    representation: Representation,
    images: Tensor,
    deformation: Deformation,
    *,
    warp: Warp | None = None,
    refinement: bool | None = None,
) -> Ladder:
    """Observed distance and every bound above it, for image i and field i.

    Args:
        representation: one with an ``architecture`` (``GramCKN``, ``LinearGram``, ``CKN``, ``CNN``).
        images: ``(B, C, *size)``, band-limited.
        deformation: batch shape ``()``, ``(1,)`` or ``(B,)``; or any ``(F,)`` for a single image.
        warp: how the images are deformed; by default ``BandLimitedWarp()``.
        refinement: evaluate the distance on a grid twice as fine as well (16 times the work in 2-D). By default
            where it takes seconds and at most 0.8 GB. Without it ``refinement`` is NaN and the closed form of an
            inexact warp is an estimate.

    Returns:
        A ``Ladder`` with the rungs ``trivial`` (this image, this field), ``closed_form`` and ``trivial_norms`` (every
        image, every field with these norms).

    Raises:
        ValueError: for images that are not finite or do not fit the field, or a representation without architecture.

    Reference: docs/theory.md; Bietti & Mairal 2019, theorem 7.
    """
    warp = warp if warp is not None else BandLimitedWarp()
    if not isinstance(representation, Representation):
        raise ValueError(
            f"representation must be a Representation, got {type(representation).__name__}; use GramCKN(architecture)"
        )
    if not warp.deforms:
        raise ValueError(f"warp must deform the images for bounds on deformations, got {warp!r}; use BandLimitedWarp()")
    if not isinstance(warp.boundary, Periodic):
        raise ValueError(
            f"warp must be periodic for bounds on the torus, got {warp.boundary!r}; "
            "a field that vanishes at the border needs no other one"
        )
    architecture = representation.architecture
    if architecture is None:
        raise ValueError("representation must have an architecture for bounds, got None; measure its distance instead")
    lipschitz = own_lipschitz(representation)
    if lipschitz is not None and math.inf in lipschitz:
        raise ValueError(
            f"representation must be Lipschitz for bounds, got {type(representation).__name__}, which is not; measure "
            "its distance instead"
        )
    check_images(images, deformation.d)
    if images.ndim != deformation.d + 2:
        raise ValueError(f"images must have shape (B, C, *size), got {tuple(images.shape)}; add the batch axis")
    check_band_limited(images, deformation.d)
    images, deformation = _paired(band_limit(images.double(), deformation.d), deformation)
    rows, exact = len(images), is_projection(warp)
    norm_x, warped = images.flatten(1).norm(dim=1), warp(images, deformation)
    norm_warped = warped.flatten(1).norm(dim=1)
    reference = representation.reference(images)
    observed = reference.distance(warped)
    forms = closed_forms(architecture, deformation, rows, lipschitz, representation.keeps_zero)
    gains = sampling_gains(architecture, deformation.size)
    error = interpolation_error(images, deformation, warp, antialiasing=input_smoothing(architecture), warped=warped)
    change, remaining = torch.full_like(observed, math.nan), error
    if refinement_fits(architecture, deformation.size) if refinement is None else refinement:
        fine, fine_images, fine_warped = refined_distance(representation, images, deformation)
        coarse = observed if exact else reference.distance(BandLimitedWarp()(images, deformation))
        change = (fine - coarse).abs()
        fine_error = interpolation_error(
            fine_images,
            deformation.refined(REFINEMENT),
            BandLimitedWarp(),
            antialiasing=(input_smoothing(architecture) or 0.0) * REFINEMENT,
            warped=fine_warped,
        ).div(REFINEMENT ** (deformation.d / 2))
        remaining = fine_error if exact else error + fine_error
    difference = low_pass_difference(architecture, images, warped)
    trivial = pushed(architecture, gains, difference, (norm_x * norm_warped).sqrt(), lipschitz)
    status = Status.weakest(*(form.status for form in forms))
    if not (exact or change.isfinite().all()) or not divides(architecture, deformation.size):
        status = Status.weakest(status, Status.ESTIMATE)
    rungs = (
        Rung("trivial", trivial / norm_x, Status.PROOF, THIS),
        Rung("closed_form", _column(forms, "value", norm_x), status, EVERY, _terms(forms, norm_x)),
        _trivial_norms(forms, math.prod(gains), math.prod(lipschitz or ()), norm_warped / norm_x, exact),
    )

    def allowance(errors: Tensor) -> Tensor:
        return pushed(architecture, gains, errors, norm_warped + errors, lipschitz) / norm_x

    return Ladder(
        observed=observed / norm_x,
        rungs=rungs,
        interpolation_error=allowance(error),
        defect=allowance(remaining),
        refinement=change / norm_x,
        aliasing=norm_x.new_tensor([aliasing_part(form) for form in forms]),
        floor=reference.floor / norm_x,
        norm_x=norm_x,
        norm_phi=reference.norm,
    )


def closed_forms(
    architecture: Architecture,
    deformation: Deformation,
    rows: int,
    lipschitz: Sequence[float] | None = None,
    keeps_zero: bool = True,
) -> list[ClosedForm]:
    """The theorem in closed form for each field, from its certified norms; one entry per row; rho_k if given.

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
    )
    values = torch.stack(columns, dim=-1).reshape(-1, 6).tolist()
    forms = [
        closed_form(
            architecture,
            displacement_norm=a,
            jacobian_norm=b,
            hessian_norm=h if math.isfinite(h) else None,
            divergence_norm=divergence,
            mean_displacement=mean,
            residual_displacement=rest,
            d=deformation.d,
            lipschitz=lipschitz,
            vanishing_border=deformation.vanishing_border,
            keeps_zero=keeps_zero,
        )
        for a, b, h, divergence, mean, rest in values
    ]
    return forms if len(forms) == rows else forms * rows


def _trivial_norms(forms: Sequence[ClosedForm], gain: float, rho: float, ratio: Tensor, exact: bool) -> Rung:
    """gain (1 + (1-b)^(-d/2)): both representations are at most as long as their images (gain: what strides add).

    Kernel maps preserve norms, so that prod rho does not enter (rho = 1); of other layers it does (``trivial_norms``
    has it already). Beyond b = 1, and for a warp that is no projection of L_tau x, the measured ||W x|| / ||x|| stands
    for (1-b)^(-d/2), for this image and this field.
    """
    by_norms = _column(forms, "trivial_norms", ratio)
    if exact and bool(by_norms.isfinite().all()):
        return Rung("trivial_norms", gain * by_norms, Status.PROOF, EVERY)
    return Rung("trivial_norms", gain * rho * (1.0 + ratio), Status.PROOF, THIS)


def aliasing_part(form: ClosedForm) -> float:
    """Sum of a closed form's aliasing terms; NaN where it is not covered."""
    if not form.terms:
        return math.nan
    return math.fsum(float(term.value) for term in form.terms if term.name.startswith("aliasing"))


def _paired(images: Tensor, deformation: Deformation) -> tuple[Tensor, Deformation]:
    shape, count = tuple(deformation.batch_shape), len(images)
    if len(shape) > 1 or (len(shape) == 1 and shape[0] not in (1, count) and count != 1):
        raise ValueError(
            f"the batch of fields must be (), (1,) or ({count},) for {count} images, got {shape}; pair image i with "
            "field i, or loop over the images"
        )
    if len(shape) == 1 and count == 1 and shape[0] > 1:
        images = images.expand(shape[0], *images.shape[1:])
    return images, deformation


def _column(forms: Sequence[ClosedForm], name: str, like: Tensor) -> Tensor:
    return like.new_tensor([getattr(form, name) for form in forms])


def _terms(forms: Sequence[ClosedForm], like: Tensor) -> tuple[Term, ...]:
    names = list(dict.fromkeys(term.name for form in forms for term in form.terms))
    values = [{term.name: float(term.value) for term in form.terms} for form in forms]
    return tuple(Term(name, like.new_tensor([row.get(name, 0.0) for row in values])) for name in names)
