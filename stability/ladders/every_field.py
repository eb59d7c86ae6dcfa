r"""``EveryField``: the rungs of given images that speak of every field, as functions of the two norms alone."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from stability.allowances import divides
from stability.boundaries import Periodic
from stability.bounds.field import field_norms
from stability.bounds.rung import Rung, Status, Term
from stability.bounds.theorem import Theorem
from stability.grid import band_limit, check_images
from stability.ladders.at_input import input_change
from stability.ladders.closed import closed_form_rung, covered_status, trivial_norms_of_every_field
from stability.ladders.energies import Spectra, spectra, spectrum
from stability.ladders.energy import energy_terms
from stability.ladders.field_rungs import sampling_status
from stability.ladders.layerwise import EVERY_FIELD, maps_fit
from stability.operators.pooling import sampling_gains
from stability.representations.base import Representation
from stability.warps.band_limited import check_band_limited


def check_covered(representation: Representation) -> Theorem:
    """What bounds it, if the theory has something to say.

    Raises:
        ValueError: without an architecture, or where a layer is not Lipschitz.
    """
    architecture = representation.architecture if isinstance(representation, Representation) else None
    if architecture is None:
        raise ValueError(
            f"representation must have an architecture for bounds, got {type(representation).__name__}; use CKN.fit, "
            "GramCKN or cnn; st.smallest_deformation searches without a certificate"
        )
    theorem = representation.theorem
    if theorem is None or math.inf in theorem.lipschitz:
        raise ValueError(
            f"representation must be Lipschitz for bounds, got {type(representation).__name__}, which is not; use "
            "another kernel"
        )
    return theorem


class EveryField:
    r"""Rungs for the images x_i and every tau with sup |tau| <= a_i and sup ||grad tau||_2 <= b_i.

    Called with a and b, it gives ``input``, ``energy`` (where the network's maps of x are known), ``closed_form`` and
    ``trivial_norms``. Only ``input`` speaks of the network as it is sampled; the others speak of functions on the
    torus: what the grid adds depends on the field, so that their allowances are NaN, not evaluated.

    Args:
        representation: with an ``architecture``.
        images: ``(B, C, *size)``, band-limited.
        maps: evaluate ``energy``; None: where it takes seconds.

    Raises:
        ValueError: for a representation that the theory does not cover, or images that are not band-limited.

    >>> from stability import Architecture, GramCKN, images
    >>> from stability.grid import band_limit
    >>> x = band_limit(images.load("fashion", count=1, size=(12, 12)), 2)
    >>> rungs = EveryField(GramCKN(Architecture.dyadic(depth=1, subsampling=1)), x)
    >>> found = rungs(torch.tensor([0.1]).double(), torch.tensor([0.05]).double())
    >>> [rung.name for rung in found], {str(rung.scope.every_field) for rung in found}
    (['input', 'energy', 'closed_form', 'trivial_norms'], {'True'})
    """

    def __init__(self, representation: Representation, images: Tensor, *, maps: bool | None = None) -> None:
        self._theorem = check_covered(representation)
        architecture = self._theorem.architecture
        check_images(images)
        if images.ndim not in (3, 4):
            raise ValueError(f"images must have shape (B, C, *size), got {tuple(images.shape)}; add the batch axis")
        self._d, self._size = images.ndim - 2, tuple(images.shape[2:])
        check_band_limited(images, self._d)
        images = band_limit(images.double(), self._d)
        self.norm_x = images.flatten(1).norm(dim=1)
        self.floor = representation.reference(images).floor / self.norm_x
        self._gains = sampling_gains(architecture, self._size)
        self._sampling = sampling_status(architecture) if divides(architecture, self._size) else Status.ESTIMATE
        torus = isinstance(architecture.boundary, Periodic)
        scale = architecture.scales[0] if torus else 0.0  # beyond the torus A_0 is only known not to expand
        self._images = [spectrum(image, 1.0, scale) for image in images]
        self._maps: list[Spectra] = []
        fits = maps_fit(architecture, representation, self._size) if maps is None else maps
        for image in images if fits and torus else ():
            stages = representation.stages(image)
            if stages is None:
                break
            self._maps.append(spectra(stages))

    def __call__(self, displacement_norm: Tensor, jacobian_norm: Tensor) -> tuple[Rung, ...]:
        """The rungs at a ``(B,)`` in pixels and b ``(B,)``, in units of ||x||."""
        pairs = list(zip(displacement_norm.tolist(), jacobian_norm.tolist(), strict=True))
        fields = [field_norms(displacement_norm=a, jacobian_norm=b, d=self._d) for a, b in pairs]
        forms = [self._theorem.form(norms) for norms in fields]
        status = covered_status(forms, self._sampling)
        unknown = torch.full_like(self.norm_x, math.nan)
        torus = {"floor": self.floor, "defect": unknown, "refinement": unknown}
        found = list(self.as_sampled(displacement_norm, jacobian_norm))
        if self._maps:
            parts = [
                energy_terms(form, norms, one.maps, self._theorem.lipschitz, norm)
                for form, norms, one, norm in zip(forms, fields, self._maps, self.norm_x.tolist(), strict=True)
            ]
            energy = self._rung("energy", [one.terms for one in parts], status, torus | {"commutation defect": unknown})
            found.append(replace(energy, forms=tuple(one.form for one in parts)))
        found.append(closed_form_rung(forms, self.norm_x, status, torus))
        return (*found, trivial_norms_of_every_field(forms, math.prod(self._gains), self.norm_x, torus))

    def as_sampled(self, displacement_norm: Tensor, jacobian_norm: Tensor) -> tuple[Rung, ...]:
        """The rungs that hold for the network as it is sampled."""
        gain = math.prod(self._gains) * math.prod(self._theorem.lipschitz)
        rows = []
        for a, b, image in zip(displacement_norm.tolist(), jacobian_norm.tolist(), self._images, strict=True):
            norms = field_norms(displacement_norm=a, jacobian_norm=b, d=self._d)
            rows.append({"image": gain * input_change(norms, image) if norms.jacobian < 1 else math.inf})
        covered = any(math.isfinite(row["image"]) for row in rows)
        status = Status.NUMERICAL if covered else Status.NOT_COVERED
        return (self._rung("input", rows, status, {"floor": self.floor}),)

    def _rung(self, name: str, rows: list[dict[str, float]], status: Status, allowances: dict[str, Tensor]) -> Rung:
        names = list(dict.fromkeys(key for row in rows for key in row))
        columns = {key: self.norm_x.new_tensor([row.get(key, 0.0) for row in rows]) / self.norm_x for key in names}
        terms = tuple(Term(key, value) for key, value in columns.items())
        value = self.norm_x.new_tensor([math.fsum(row.values()) for row in rows]) / self.norm_x
        return Rung(name, value, status, EVERY_FIELD, terms, allowances)
