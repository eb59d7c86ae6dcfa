r"""``ladder``: for each image and field, what is observed and every bound that stands above it.

    observed <= rung + (remaining error + refinement + floor),    all in units of ||x||,

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

from stability.architecture import Architecture
from stability.bounds.closed_form import ClosedForm, closed_form
from stability.bounds.rung import Rung, Scope, Status, Term
from stability.deformations.base import Deformation
from stability.grid import check_images
from stability.operators.pooling import pool, pooling_matrices
from stability.representations.base import Representation
from stability.warps.band_limited import BandLimitedWarp, refine
from stability.warps.base import Warp
from stability.warps.error import interpolation_error

REFINEMENT = 2
"""The grid on which the discretisation is checked is this many times as fine."""
AFFORDABLE_PAIRS = 2**25
"""Pairs of positions of one upper layer (0.3 GB) up to which the finer grid is evaluated without being asked for."""
ALLOWANCES = ("interpolation_error", "remaining_error", "refinement", "aliasing", "floor")
THIS = Scope(every_image=False, every_field=False)


@dataclass(frozen=True)
class Ladder:
    """Observed distance, allowances and rungs, one row per image, all in units of ||x||.

    Args:
        observed: ||Phi(W x) - Phi(x)|| / ||x||, ``(B,)``; NaN for a zero image.
        rungs: the bounds, from the sharpest scope to the widest.
        interpolation_error: prod rho ||A_0 (W x - L_tau x)|| / ||x||: the most that the warp can add.
        remaining_error: the part of it that the refinement does not show: for the exact warp the same quantity on the
            finer grid, otherwise (or without refinement) all of it.
        refinement: |observed on this grid - observed on the grid twice as fine|: what sampling adds between the
            layers; NaN if it was not evaluated.
        aliasing: what subsampling adds; already inside the closed form's terms, printed here.
        floor: distances below it are round-off.
        norm_x: ||x||.
        norm_phi: ||Phi(x)||.
    """

    observed: Tensor
    rungs: tuple[Rung, ...]
    interpolation_error: Tensor
    remaining_error: Tensor
    refinement: Tensor
    aliasing: Tensor
    floor: Tensor
    norm_x: Tensor
    norm_phi: Tensor
    meaning: str = field(
        default="a violation is an observed distance above a bound by more than every allowance: a bug in the code or "
        "in a norm that it was given, not a discovery",
        repr=False,
    )

    @property
    def allowance(self) -> Tensor:
        """remaining_error + refinement (0 where not evaluated) + floor, ``(B,)``."""
        return self.remaining_error + self.refinement.nan_to_num(0.0) + self.floor

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
        representation: one with an ``architecture`` (``GramCKN``, ``LinearGram``).
        images: ``(B, C, *size)``, band-limited.
        deformation: batch shape ``()``, ``(1,)`` or ``(B,)``; or any ``(F,)`` for a single image.
        warp: how the images are deformed; by default ``BandLimitedWarp()``.
        refinement: evaluate the distance on a grid twice as fine as well (16 times the work in 2-D). By default
            where that fits into 0.3 GB a layer. Without it ``refinement`` is NaN, and the closed form of an inexact
            warp is an estimate.

    Returns:
        A ``Ladder`` with the rungs ``trivial`` (this image, this field), ``closed_form`` and ``trivial_norms`` (every
        image, every field with these norms).

    Raises:
        ValueError: for images that are not finite or do not fit the field, or a representation without architecture.

    Reference: docs/theory.md; Bietti & Mairal 2019, theorem 7.
    """
    warp = warp if warp is not None else BandLimitedWarp()
    architecture = representation.architecture
    if architecture is None:
        raise ValueError("representation must have an architecture for bounds, got None; measure its distance instead")
    check_images(images, deformation.d)
    images, deformation = _paired(images.double(), deformation)
    rows, exact = len(images), isinstance(warp, BandLimitedWarp)
    norm_x = images.flatten(1).norm(dim=1)
    warped = warp(images, deformation)
    reference = representation.reference(images)
    observed = reference.distance(warped)
    forms = closed_forms(architecture, deformation, rows)
    gain = lipschitz_gain(architecture, deformation.size)
    error = interpolation_error(images, deformation, warp, antialiasing=architecture.antialiasing, warped=warped)
    change, remaining = torch.full_like(observed, math.nan), error
    if refinement is None:
        refinement = largest_grid(architecture, deformation.size, REFINEMENT) ** 2 <= AFFORDABLE_PAIRS
    if refinement:
        fine_images, fine_field = refine(images, REFINEMENT, deformation.d), deformation.refined(REFINEMENT)
        fine_warped = BandLimitedWarp()(fine_images, fine_field)
        fine = representation.refined(REFINEMENT).reference(fine_images).distance(fine_warped)
        coarse = observed if exact else reference.distance(BandLimitedWarp()(images, deformation))
        change = (fine - coarse).abs()
        if exact:
            remaining = interpolation_error(
                fine_images,
                fine_field,
                BandLimitedWarp(),
                antialiasing=(architecture.antialiasing or 0.0) * REFINEMENT,
                warped=fine_warped,
            ).div(REFINEMENT ** (deformation.d / 2))
    trivial = gain * low_pass_difference(architecture, images, warped)
    status = Status.weakest(*(form.status for form in forms))
    if not (exact or refinement) or not divides(architecture, deformation.size):
        status = Status.weakest(status, Status.ESTIMATE)
    every = Scope(every_image=True, every_field=True)
    rungs = (
        Rung("trivial", trivial / norm_x, Status.PROOF, THIS),
        Rung("closed_form", _column(forms, "value", norm_x), status, every, _terms(forms, norm_x)),
        Rung("trivial_norms", trivial_norms(forms, gain, warped, norm_x), Status.PROOF, every),
    )
    return Ladder(
        observed=observed / norm_x,
        rungs=rungs,
        interpolation_error=gain * error / norm_x,
        remaining_error=gain * remaining / norm_x,
        refinement=change / norm_x,
        aliasing=norm_x.new_tensor([aliasing_part(form) for form in forms]),
        floor=reference.floor / norm_x,
        norm_x=norm_x,
        norm_phi=reference.norm,
    )


def closed_forms(architecture: Architecture, deformation: Deformation, rows: int) -> list[ClosedForm]:
    """The theorem in closed form for each field, from its certified norms; one entry per row."""
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
        )
        for a, b, h, divergence, mean, rest in values
    ]
    return forms if len(forms) == rows else forms * rows


def lipschitz_gain(architecture: Architecture, size: tuple[int, ...]) -> float:
    """Lipschitz constant of the sampled network after A_0: prod rho_k times the norm of each "pool, then subsample".

    Args:
        architecture: kernels, scales and strides.
        size: the image's sides in pixels.

    Returns:
        prod rho without subsampling; with it, at scales at least the grid spacing, the same to 1e-16.
    """
    gain = math.prod(architecture.lipschitz)
    for layer, spacing in zip(architecture.layers, architecture.spacings, strict=False):
        if layer.subsampling > 1:
            grid = [n // spacing for n in size]
            for matrix in pooling_matrices(grid, layer.pooling_scale / spacing, layer.subsampling):
                cell = matrix.shape[1] / matrix.shape[0]
                gain *= max(1.0, float(torch.linalg.matrix_norm(matrix, ord=2)) * math.sqrt(cell))
    return gain


def low_pass_difference(architecture: Architecture, images: Tensor, warped: Tensor) -> Tensor:
    """||A_0 F (W x - x)||, ``(...)`` for images and warped images ``(..., C, *size)`` that broadcast."""
    d = images.ndim - 2
    difference = warped - images
    if architecture.front_end is not None:
        difference = architecture.front_end.apply(difference, d)
    matrices = pooling_matrices(images.shape[-d:], architecture.antialiasing or 0.0, device=images.device)
    return pool(difference, matrices).flatten(-d - 1).norm(dim=-1)


def trivial_norms(forms: Sequence[ClosedForm], gain: float, warped: Tensor, norm_x: Tensor) -> Tensor:
    """(1 + (1-b)^(-d/2)): both representations are at most as long as their images; beyond b = 1, as measured.

    The kernel maps preserve norms, so that prod rho does not enter; only sampling can (``gain`` / prod rho).
    """
    by_norms = _column(forms, "trivial_norms", norm_x)
    measured = 1.0 + warped.flatten(1).norm(dim=1) / norm_x
    return torch.where(by_norms.isfinite(), by_norms, measured) * gain


def divides(architecture: Architecture, size: tuple[int, ...]) -> bool:
    """Whether the last stride leaves no remainder, so that every grid of the network is a torus."""
    return all(n % architecture.spacings[-1] == 0 for n in size)


def largest_grid(architecture: Architecture, size: tuple[int, ...], refinement: int) -> int:
    """Positions on the grid of layer 2, the largest one whose pairs are held at once (1 for a single layer)."""
    if architecture.depth == 1:
        return 1
    return math.prod(n * refinement // architecture.spacings[1] for n in size)


def aliasing_part(form: ClosedForm) -> float:
    """Sum of a closed form's aliasing terms."""
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
