r"""``ladder``: for each image and field, what is observed and every bound that stands above it.

    observed <= rung + its allowances,    all in units of ||x||.

The rungs of the discrete theorem (``x_specific``, ``early_stop``) hold for the network as it is sampled; their one
allowance is computed. The others speak of functions on the torus and of the exact L_tau; what the grid and the warp
add is computed and printed. On a grid twice as fine the exact warp loses next to nothing, so that the change from one
grid to the other holds what the projection does to the distance, and only what is lost on the finer grid remains.
"""

import math
from dataclasses import replace

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
from stability.boundaries import Periodic
from stability.bounds.rung import Rung, Status
from stability.certificates import FieldCertificates
from stability.deformations.base import Deformation
from stability.grid import band_limit, check_images
from stability.ladders.closed import (
    THIS,
    aliasing_part,
    closed_form_rung,
    closed_forms,
    covered_status,
    hoelder_rung,
    trivial_norms,
    trivial_status,
)
from stability.ladders.field_constants import certified, enclosed
from stability.ladders.field_rungs import FieldRungs, sampling_status
from stability.ladders.layerwise import Row, layerwise, maps_fit
from stability.ladders.result import Ladder
from stability.operator_norms import OperatorNorms
from stability.operators.pooling import sampling_gains
from stability.representations.base import Representation
from stability.warps.band_limited import BandLimitedWarp, check_band_limited
from stability.warps.base import Warp
from stability.warps.error import interpolation_error


def ladder(
    representation: Representation,
    images: Tensor,
    deformation: Deformation,
    *,
    warp: Warp | None = None,
    refinement: bool | None = None,
    maps: bool | None = None,
    certificates: FieldCertificates | bool = True,
    operator_norms: OperatorNorms | None = None,
) -> Ladder:
    """Observed distance and every bound above it, for image i and field i.

    Args:
        representation: one with an ``architecture`` (``GramCKN``, ``GramNTK``, ``LinearGram``, ``CKN``, ``CNN``).
        images: ``(B, C, *size)``, band-limited.
        deformation: batch shape ``()``, ``(1,)`` or ``(B,)``; or any ``(F,)`` for a single image.
        warp: how the images are deformed; by default ``BandLimitedWarp()``.
        refinement: evaluate the distance on a grid twice as fine as well (16 times the work in 2-D). By default
            where it takes seconds and at most 0.8 GB. Without it ``refinement`` is NaN and the closed form of an
            inexact warp is an estimate.
        maps: evaluate the rungs that look at the network's maps of x as well: ``x_specific``, ``early_stop`` and
            ``energy``. By default where it takes seconds.
        certificates: bounds of the theorem's operators for the given field; False: leave them out. An object of the
            same fields is asked, and keeps what it computed for the next images.
        operator_norms: ``OperatorNorms(deformation, generator)`` of the same fields: their enclosed norms as well,
            which take seconds a field.

    Returns:
        A ``Ladder`` with the rungs ``x_specific``, ``early_stop``, ``trivial``, ``centred_operator_norms``,
        ``centred_certificates`` (this image, this field), ``operator_norms``, ``certificates`` (every image, this
        field), ``energy`` (this image, every field with these norms), ``closed_form`` and ``trivial_norms`` (every
        image, every field with these norms), the latter with ``hoelder`` where a layer is not Lipschitz, as far as
        they were asked for and there is a way to compute them.

    Raises:
        ValueError: for images that are not finite or do not fit the field, or a representation without architecture.

    Reference: docs/theory.md; Bietti & Mairal 2019, theorem 7.
    """
    warp = warp if warp is not None else BandLimitedWarp()
    _check_kinds(representation, warp, refinement, maps, certificates, operator_norms)
    architecture = representation.architecture
    if architecture is None:
        raise ValueError("representation must have an architecture for bounds, got None; measure its distance instead")
    theorem = representation.theorem
    if theorem is None or theorem.silent:
        raise ValueError(
            f"representation must be Lipschitz for bounds, got {type(representation).__name__}, which is not; measure "
            "its distance instead"
        )
    suprema = FieldCertificates(deformation) if certificates is True else certificates or None
    _check_same(deformation, certificates=suprema, operator_norms=operator_norms)
    check_images(images, deformation.d)
    if images.ndim != deformation.d + 2:
        raise ValueError(f"images must have shape (B, C, *size), got {tuple(images.shape)}; add the batch axis")
    if not len(images):
        raise ValueError(f"images must be one at least, got {tuple(images.shape)}; leave the call out")
    check_band_limited(images, deformation.d)
    images, deformation = _paired(band_limit(images.double(), deformation.d), deformation)
    rows, exact = len(images), is_projection(warp)
    norm_x, warped = images.flatten(1).norm(dim=1), warp(images, deformation)
    norm_warped = warped.flatten(1).norm(dim=1)
    reference = representation.reference(images)
    observed = reference.distance(warped)
    forms = closed_forms(theorem, deformation, rows)
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
    trivial = pushed(theorem, gains, difference, (norm_x * norm_warped).sqrt())
    best = sampling_status(architecture)
    if not (exact or change.isfinite().all()) or not divides(architecture, deformation.size):
        best = Status.ESTIMATE
    status = covered_status(forms, best)

    def allowance(errors: Tensor) -> Tensor:
        return pushed(theorem, gains, errors, norm_warped + errors) / norm_x

    floor, defect = reference.floor / norm_x, allowance(remaining)
    sampling = {"floor": floor, "defect": defect, "refinement": change / norm_x}
    trusted = trivial_status(theorem, best, bool(trivial.isfinite().any()))
    allowances = sampling if theorem.tangent else {"floor": floor}
    lower = [Rung("trivial", trivial / norm_x, trusted, THIS, allowances=allowances)]
    commutation, spectra, energies = torch.full_like(observed, math.nan), None, []
    own = theorem.lipschitz
    if maps_fit(architecture, representation, deformation.size) if maps is None else maps:
        several = len(deformation.batch_shape) > 0
        ones = [deformation[i % deformation.batch_shape[0]] for i in range(rows)] if several else [deformation] * rows
        found = layerwise(representation, map(Row, images, warped, ones, forms), warp, own, gains)
        if found is not None:
            first, commutation, energy = found.in_units_of(norm_x, floor)
            of_maps = {**sampling, "commutation defect": commutation}  # their spectra are those of sampled maps
            lower, energies, spectra = [*first, *lower], [energy(status, of_maps)], found.spectra
    made = FieldRungs(architecture, own, theorem.own is None, forms, norm_x, best, sampling)
    constants = {"operator_norms": enclosed(operator_norms, architecture)} if operator_norms is not None else {}
    constants |= {"certificates": certified(suprema, architecture)} if suprema is not None else {}
    middle = [made.every_image(name, rows) for name, rows in constants.items()]
    if spectra is not None:
        image = replace(made, allowances={**sampling, "commutation defect": commutation})
        middle = [image.this_image(f"centred_{name}", rows, spectra) for name, rows in constants.items()] + middle
    rungs = [
        *lower,
        *middle,
        *energies,
        closed_form_rung(forms, norm_x, status, sampling),
        *([hoelder_rung(forms, norm_x, best, sampling)] if math.inf in own else []),
        trivial_norms(forms, math.prod(gains), theorem.growth, norm_warped / norm_x, exact, sampling),
    ]
    return Ladder(
        observed=observed / norm_x,
        rungs=tuple(rungs),
        interpolation_error=allowance(error),
        commutation_defect=commutation,
        defect=defect,
        refinement=change / norm_x,
        aliasing=norm_x.new_tensor([aliasing_part(form) for form in forms]),
        floor=floor,
        norm_x=norm_x,
        norm_phi=reference.norm,
    )


def _check_kinds(
    representation: Representation,
    warp: Warp,
    refinement: bool | None,
    maps: bool | None,
    certificates: FieldCertificates | bool,
    operator_norms: OperatorNorms | None,
) -> None:
    """Raise ``ValueError`` for arguments of another kind, and for warps about which the theorem says nothing."""
    for name, value, kinds, what, use in (
        ("representation", representation, Representation, "a Representation", "GramCKN(architecture)"),
        ("warp", warp, Warp, "a Warp", "BandLimitedWarp()"),
        ("refinement", refinement, bool | None, "True, False or None", "None"),
        ("maps", maps, bool | None, "True, False or None", "None"),
        ("certificates", certificates, bool | FieldCertificates, "FieldCertificates, True or False", "True"),
        ("operator_norms", operator_norms, OperatorNorms | None, "OperatorNorms or None", "OperatorNorms(deformation)"),
    ):
        if not isinstance(value, kinds):
            raise ValueError(f"{name} must be {what}, got {value!r}; use {use}")
    if not warp.deforms:
        raise ValueError(f"warp must deform the images for bounds on deformations, got {warp!r}; use BandLimitedWarp()")
    if not isinstance(warp.boundary, Periodic):
        raise ValueError(
            f"warp must be periodic for bounds on the torus, got {warp.boundary!r}; "
            "a field that vanishes at the border needs no other one"
        )


def _check_same(deformation: Deformation, **given: FieldCertificates | OperatorNorms | None) -> None:
    """Whether what was computed of fields belongs to these."""
    for name, one in given.items():
        if one is not None and one.deformation is not deformation:
            raise ValueError(
                f"{name} must belong to the deformation of the ladder, got those of another object; "
                f"build them from the same one, {type(one).__name__}(deformation)"
            )


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
