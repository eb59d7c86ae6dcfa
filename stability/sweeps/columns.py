"""From what a chunk measured to columns: distances in every unit, bounds with status and scope. No loop over cells."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stability.allowances import divides, input_smoothing, is_projection, pushed
from stability.architecture import Architecture
from stability.bounds.form import ClosedForm
from stability.bounds.rung import Status
from stability.bounds.theorem import Theorem
from stability.ladders.closed import trivial_status
from stability.ladders.field_rungs import sampling_status
from stability.operators.pooling import sampling_gains
from stability.plain_data import describe
from stability.representations.base import Representation
from stability.representations.cnn import CNN
from stability.sweeps.build import Fields, torus
from stability.sweeps.cells import Deformed, Measured
from stability.sweeps.chunks import ORDER, Model, cell
from stability.sweeps.marks import OUT_OF_REACH, Column, over_items
from stability.sweeps.models import counts
from stability.sweeps.rungs import Further, rung_columns
from stability.sweeps.spec import SweepSpec

ZERO = 1e-12
"""A representation shorter than this share of its image is zero up to round-off."""

NORMS = (
    "displacement_norm", "jacobian_norm", "hessian_norm", "divergence_norm", "displacement_norm_upper",
    "jacobian_norm_upper", "hessian_norm_upper", "divergence_norm_upper", "mean_displacement",
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where a chunk stands: its first image, its first item, the images' labels, the model."""

    image: int
    item: int
    labels: Sequence[int]
    model: Model


def columns(
    spec: SweepSpec,
    place: Place,
    fields: Fields,
    deformed: Deformed,
    representation: Representation,
    measured: Measured,
    forms: Sequence[ClosedForm] | None,
    rungs: Further,
) -> dict[str, Column]:
    """The rows of a chunk as columns, over images, then items, then layers.

    Args:
        spec: what was asked.
        place: where the chunk stands.
        fields: its fields, also those out of reach.
        deformed: its images under the fields that there are.
        representation: its model.
        measured: what the model found.
        forms: the theorem for every field; None: the theory says nothing about this representation.
        rungs: those that were asked for beyond it.
    """
    layers, images, count = len(representation.layer_names), len(deformed.images), len(fields.items)
    shape = (images, count, layers)
    present = torch.tensor(fields.present, dtype=torch.long)

    def spread(values: Tensor, fill: float = math.nan) -> Column:
        """``(I, F)`` or ``(L, I, F)`` over the fields that there are, as a column over all items."""
        values = values if values.ndim == 3 else values.expand(layers, *values.shape)
        whole = values.new_full((layers, images, count), fill)
        whole[:, :, present] = values
        return whole.movedim(0, -1).reshape(-1).numpy()

    norm_x = deformed.images.flatten(1).norm(dim=1)[:, None]  # (I, 1)
    numbers = _numbers(deformed, representation, measured, norm_x)
    identity = _identity(spec, place, fields, representation, shape)
    found: dict[str, Column] = dict(identity)
    found |= {name: spread(value.expand(images, -1)) for name, value in norm_columns(fields).items()}
    found |= {name: spread(value) for name, value in numbers.items()}
    found |= _bounds(spec, deformed, representation, forms, norm_x, shape, fields, spread)
    found |= rung_columns(spec.rungs, rungs, fields, shape, spread)
    found["interpolation_error"] = spread(_warp_error(deformed, representation, norm_x))
    found["refinement"] = spread(_over(measured.refinement, norm_x))
    found["clipped"] = spread(deformed.clipped)
    energy = measured.captured_energy[:, None].expand(images, len(present))
    found["captured_energy"] = spread(energy)
    found["approximation_error"] = spread(_over(measured.approximation, norm_x))
    vanishes = measured.norm <= ZERO * norm_x[:, 0]  # (L, I): a constant image without its mean, for example
    floor = torch.where(vanishes, math.nan, _over(measured.floor[..., None], norm_x)[..., 0])
    found["floor"] = spread(floor[..., None].expand(layers, images, len(present)))
    found["seconds"] = spread(torch.full((images, len(present)), measured.seconds, dtype=torch.float64))
    return found


def _identity(
    spec: SweepSpec, place: Place, fields: Fields, representation: Representation, shape: tuple[int, int, int]
) -> dict[str, Column]:
    """What was measured: the columns by which rows are chosen and grouped."""
    model, architecture = place.model, representation.architecture
    seeds = np.array([item[0] for item in fields.items], dtype=np.int64)
    displacement, jacobian = (np.array([item[i] for item in fields.items], dtype=float) for i in (1, 2))

    def over(values: Any, axis: int) -> Column:
        array = np.asarray(values)
        one = [1, 1, 1]
        one[axis] = len(array)
        return np.broadcast_to(array.reshape(one), shape).reshape(-1)

    def same(value: Any) -> Column:
        dtype: Any = object if value is None or isinstance(value, str) else None
        return np.full(math.prod(shape), value, dtype=dtype)

    images = np.arange(place.image, place.image + shape[0])
    assert spec.warp is not None
    boundary = "periodic" if torus(spec) else "reflect"
    positions = (over(images, 0), over(np.arange(place.item, place.item + shape[1]), 1), same(model.index))
    own = _architecture(architecture, representation, boundary)
    point = {path: value for path, value in model.point.items() if path not in own}  # "antialiasing" is there already
    return {
        **dict(zip(ORDER, (*positions, over(np.arange(shape[2]), 2)), strict=True)),
        "image_set": same(spec.images.name),
        "size": same("x".join(map(str, spec.images.size))),
        "image": over(images, 0),
        "label": over(np.array(place.labels), 0),
        "family": same(fields.family),
        "cutoff": same(fields.cutoff),
        "field_seed": over(seeds, 1),
        "family_parameters": same(fields.parameters),
        "warp": same(spec.warp.kind),
        "representation": same(model.chosen.label),
        "representation_kind": same(model.chosen.kind),
        "filters": same(_counts(model)),
        "layer": over(np.array(representation.layer_names, dtype=object), 2),
        **{name: same(value) for name, value in own.items()},
        "search": same(fields.search),
        **{path: same(_varied(spec, path, value, architecture)) for path, value in point.items()},
        "asked_displacement_norm": over(displacement, 1),
        "asked_jacobian_norm": over(jacobian, 1),
    }


def _architecture(architecture: Architecture | None, representation: Representation, boundary: str) -> dict[str, Any]:
    """The columns that belong to the theory's architecture; empty where there is none."""
    if architecture is None:
        return {
            "depth": 0, "antialiasing": math.nan, "boundary": boundary, "front_end": "none", "patch_size": math.nan,
            "pooling_scale": math.nan, "subsampling": math.nan, "kernel": "", "architecture": "",
        }  # fmt: skip
    last = architecture.layers[-1]
    activation = representation.activation if isinstance(representation, CNN) else None
    return {
        "depth": architecture.depth,
        "antialiasing": architecture.antialiasing or 0.0,
        "boundary": cell(architecture.boundary),
        "front_end": cell(architecture.front_end),
        "patch_size": float(last.patch_size),
        "pooling_scale": last.pooling_scale,
        "subsampling": float(last.subsampling),
        "kernel": describe(last.kernel) if activation is None else str(activation),
        "architecture": architecture.to_json(),
    }


def _varied(spec: SweepSpec, path: str, value: Any, architecture: Architecture | None) -> Any:
    """A varied value as its column holds it: numbers where all values are numbers, else words; empty for a module."""
    if all(isinstance(one, int | float) and not isinstance(one, bool) for one in spec.vary[path]):
        return math.nan if architecture is None else float(value)
    return "" if architecture is None else str(cell(value))


def _counts(model: Model) -> str:
    return "-".join(map(str, counts(model.chosen) or ()))


def norm_columns(fields: Fields) -> Mapping[str, Tensor]:
    """Realised and certified norms of every field that there is, ``(F,)`` each."""
    found: dict[str, list[Tensor]] = {name: [torch.zeros(0, dtype=torch.float64)] for name in NORMS}
    for deformation in fields.deformations:
        n, count = deformation.norms(), deformation.batch_shape.numel()
        values = (
            n.displacement.lower,
            n.jacobian.lower,
            n.hessian.lower,
            n.divergence.lower,
            n.displacement.upper,
            n.jacobian.upper,
            n.hessian.upper,
            n.divergence.upper,
            deformation.mean.norm(dim=-1),
        )
        for name, value in zip(NORMS, values, strict=True):
            found[name].append(value.double().expand(deformation.batch_shape).reshape(count))
    return {name: torch.cat(parts) for name, parts in found.items()}


def _numbers(
    deformed: Deformed, representation: Representation, measured: Measured, norm_x: Tensor
) -> dict[str, Tensor]:
    """Distances in every unit; a ratio without a denominator is NaN and the floor says so."""
    distance, norm = measured.distance, measured.norm[..., None]
    vanishes = norm <= ZERO * norm_x
    return {
        "distance": distance,
        "distance_over_input_norm": _over(distance, norm_x),
        "distance_over_representation_norm": torch.where(vanishes, math.nan, distance / norm),
        "norm_x": norm_x.expand(distance.shape),
        "norm_phi": norm.expand(distance.shape),
    }


def _bounds(
    spec: SweepSpec,
    deformed: Deformed,
    representation: Representation,
    forms: Sequence[ClosedForm] | None,
    norm_x: Tensor,
    shape: tuple[int, int, int],
    fields: Fields,
    spread: Any,
) -> dict[str, Column]:
    """The rungs asked for, with status and scope."""
    images, count, _ = shape
    architecture, exact = representation.architecture, is_projection(deformed.warp)
    found: dict[str, Column] = {}
    there = len(fields.present)
    covered = forms if deformed.warp.deforms else None  # no theorem about L_tau speaks of another perturbation
    certain = architecture is not None and exact and divides(architecture, spec.images.size)
    for rung in [name for name in ("closed_form", "hoelder") if name in spec.rungs]:
        values, statuses = [math.inf] * there, [Status.NOT_COVERED] * there
        if covered is not None and rung == "closed_form":
            values, statuses = [form.value for form in covered], [form.status for form in covered]
        elif covered is not None:
            values = [math.inf if form.hoelder is None else form.hoelder for form in covered]
            statuses = [Status.NUMERICAL if math.isfinite(value) else Status.NOT_COVERED for value in values]
        names, scopes, words = [OUT_OF_REACH] * count, [""] * count, [""] * count
        for i, position in enumerate(fields.present):
            names[position] = str(statuses[i] if certain else Status.weakest(statuses[i], Status.ESTIMATE))
            scopes[position] = "" if covered is None else str(covered[i].scope)
            words[position] = "" if covered is None else covered[i].form
        found[f"bound_{rung}"] = spread(torch.tensor(values, dtype=torch.float64).expand(images, there))
        found[f"status_{rung}"], found[f"scope_{rung}"] = over_items(names, shape), over_items(scopes, shape)
        if rung == "closed_form":
            found["form_closed_form"] = over_items(words, shape)
    if "trivial" in spec.rungs:
        trivial = by_norms = torch.full((images, there), math.nan, dtype=torch.float64)
        theorem, trusted = representation.theorem, Status.NOT_COVERED
        if theorem is not None and forms is not None:
            warped = deformed.warped.flatten(2).norm(dim=2)  # (I, F)
            gains = sampling_gains(theorem.architecture, spec.images.size)
            difference = _pushed(theorem, gains, deformed.difference(theorem.architecture), (norm_x * warped).sqrt())
            trivial = _over(difference, norm_x)
            best = sampling_status(theorem.architecture) if certain else Status.ESTIMATE
            trusted = trivial_status(theorem, best, bool(trivial.isfinite().any()))
            stated = torch.tensor([form.trivial_norms if exact else math.inf for form in forms], dtype=torch.float64)
            measured = (1.0 + _over(warped, norm_x)) * theorem.growth
            by_norms = math.prod(gains) * torch.where(stated.isfinite(), stated.expand_as(measured), measured)
        found["trivial"], found["trivial_norms"] = spread(trivial), spread(by_norms)
        words = [str(trusted) if i in fields.present else OUT_OF_REACH for i in range(count)]
        found["status_trivial"] = over_items(words, shape)
    return found


def _warp_error(deformed: Deformed, representation: Representation, norm_x: Tensor) -> Tensor:
    """The most that the warp can add to a distance, over ||x||; for a plain module what it adds to the image."""
    theorem = representation.theorem
    if not deformed.warped.shape[1]:
        return torch.zeros(len(deformed.images), 0, dtype=torch.float64)
    if theorem is None:
        return _over(deformed.error(None), norm_x)
    architecture = theorem.architecture
    error = deformed.error(input_smoothing(architecture))
    size = deformed.warped.flatten(2).norm(dim=2) + error
    if theorem.silent:
        return torch.full(error.shape, math.inf, dtype=torch.float64)
    gains = sampling_gains(architecture, deformed.images.shape[2:])
    return _over(_pushed(theorem, gains, error, size), norm_x)


def _pushed(theorem: Theorem, gains: tuple[float, ...], errors: Tensor, sizes: Tensor) -> Tensor:
    return pushed(theorem, gains, errors.flatten(), sizes.flatten()).reshape(errors.shape)


def _over(values: Tensor, norm: Tensor) -> Tensor:
    return torch.where(norm > 0, values / norm, math.nan)
