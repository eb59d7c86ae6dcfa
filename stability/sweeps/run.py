r"""``sweep``: a specification in, a tidy table out; images x fields x representations, one row each."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
from torch import Tensor
from tqdm.auto import tqdm

from stability import images as image_sets
from stability.allowances import divides, is_projection, sampling_gains
from stability.architecture import Architecture, describe
from stability.bounds.closed_form import ClosedForm
from stability.bounds.hoelder import through_network
from stability.bounds.rung import Status
from stability.ladders import closed_forms
from stability.sweeps.build import Group, Measure, build_fields, build_measures, build_warp, check_sizes
from stability.sweeps.cells import Chunk, Measured, measure, one_thread, pair_distance
from stability.sweeps.result import UNDEFINED, check_folder, image_digest, write_run
from stability.sweeps.spec import SweepSpec

Gains = tuple[float, ...]
Row = dict[str, float | str]
OUT_OF_REACH = "out of reach"
ZERO = 1e-12
"""A representation shorter than this share of its image is zero up to round-off."""


def sweep(spec: SweepSpec, *, jobs: int = 1, out: str | Path | None = None, progress: bool = False) -> pd.DataFrame:
    """Measure every distance that a spec asks for, next to what the theory allows.

    Args:
        spec: what to measure.
        jobs: worker processes, each with one thread; -1: one per core.
        out: folder for ``rows.parquet`` and ``run.json``; None: nothing is written.
        progress: show a progress bar on stderr.

    Returns:
        One row per image, field and representation; the columns are listed in docs/columns.md.
        ``distance_over_input_norm``, ``bound_*``, ``trivial``, ``interpolation_error`` and ``floor`` are in units of
        ||x||.

    Raises:
        ValueError: before any work, if the spec cannot be run: a pair of norms out of reach, a size that the strides
            do not divide, a folder that holds another run.
    """
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs == 0 or jobs < -1:
        raise ValueError(f"jobs must be a positive integer, or -1 for one per core, got {jobs!r}; use jobs=1")
    if out is not None:
        check_folder(Path(out), spec)
    check_sizes(spec)
    groups = build_fields(spec)

    def load(count: int) -> Tensor:
        return image_sets.load(spec.images.name, count=count, size=spec.images.size, channels=spec.images.channels)

    images = load(spec.images.count)
    with one_thread():
        measures = build_measures(spec, load)
    data = image_sets.dataset(spec.images.name)
    labels = data.labels[: spec.images.count].tolist()
    labels += [-1] * (spec.images.count - len(labels))

    fields = tuple(group.deformation for group in groups if group.deformation is not None)
    representations = tuple(m.representation for m in measures)
    warp = build_warp(spec.warp)
    chunks = [
        Chunk(images[i : i + 1], fields, warp, representations, spec.refinement)
        for i in range(len(images) if fields else 0)
    ]
    tasks = [joblib.delayed(_tagged)(i, measure, chunk) for i, chunk in enumerate(chunks)]
    tasks += [
        joblib.delayed(_tagged)(len(chunks) + i, pair_distance, measurement.representation, images)
        for i, measurement in enumerate(measures)
    ]
    results: dict[int, Any] = {}
    workers = joblib.cpu_count() if jobs == -1 else jobs
    parallel = joblib.Parallel(n_jobs=min(workers, len(tasks)), return_as="generator_unordered", batch_size=1)
    with tqdm(total=len(tasks), unit="chunk", disable=None if progress else True, leave=False) as bar:
        for index, result in parallel(tasks):
            results[index] = result
            bar.update()

    found = [results[i] for i in range(len(chunks))]
    pairs = [results[len(chunks) + i] for i in range(len(measures))]
    frame = _assemble(spec, images, labels, groups, measures, found, pairs)
    if out is not None:
        write_run(Path(out), frame, spec, {"images_sha256": image_digest(images), "images_source": data.source})
    return frame


def _tagged(index: int, function: Any, *arguments: Any) -> tuple[int, Any]:
    """Results come back in any order; the tag says which one it is."""
    return index, function(*arguments)


def _assemble(
    spec: SweepSpec,
    images: Tensor,
    labels: Sequence[int],
    groups: Sequence[Group],
    measures: Sequence[Measure],
    found: Sequence[Measured],
    pairs: Sequence[float],
) -> pd.DataFrame:
    norm_x = images.flatten(1).norm(dim=1).tolist()
    exact = is_projection(build_warp(spec.warp))
    gains = {m.architecture: sampling_gains(m.architecture, spec.images.size) for m in measures}
    norms: dict[int, list[dict[str, float]]] = {}
    bounds: dict[tuple[int, Architecture], list[ClosedForm]] = {}
    first: dict[int, int] = {}  # where a group's fields begin in the results of an image
    for group in groups:
        if group.deformation is not None:
            first[id(group)] = sum(map(len, norms.values()))
            norms[id(group)] = _norm_columns(group)
            for architecture in gains:
                bounds[id(group), architecture] = closed_forms(architecture, group.deformation, len(group.asked))
    rows: list[dict[str, Any]] = []
    for i, group, (j, m) in itertools.product(range(len(images)), groups, enumerate(measures)):
        measured = found[i] if id(group) in norms else None
        for k, asked in enumerate(group.asked):
            form = bounds[id(group), m.architecture][k] if measured else None
            f = first.get(id(group), 0) + k
            row = _identity(spec, i, labels[i], group, m)
            row |= dict(zip(("asked_displacement_norm", "asked_jacobian_norm"), asked, strict=True))
            row |= norms[id(group)][k] if measured else {}
            row |= _numbers(measured, j, f, norm_x[i], pairs[j], m, gains[m.architecture]) if measured else {}
            row |= _bounds(spec, exact, form, m, measured, j, f, norm_x[i], gains[m.architecture])
            rows.append(row)
    return pd.DataFrame(rows)


def _identity(spec: SweepSpec, image: int, label: int, group: Group, m: Measure) -> dict[str, Any]:
    """What was measured: the columns by which rows are chosen and grouped."""
    last, architecture = m.architecture.layers[-1], m.architecture
    return {
        "image": image,
        "label": label,
        "family": group.family,
        "cutoff": group.cutoff,
        "field_seed": group.field_seed,
        "warp": spec.warp.kind,
        "representation": m.name,
        "filters": m.filters,
        "layer": architecture.depth,
        "depth": architecture.depth,
        "antialiasing": architecture.antialiasing or 0.0,
        "boundary": "periodic",
        "front_end": _cell(architecture.front_end),
        "patch_size": last.patch_size,
        "pooling_scale": last.pooling_scale,
        "subsampling": last.subsampling,
        "kernel": describe(last.kernel),
        "architecture": architecture.to_json(),
        "search": False,
        **{path: _cell(value) for path, value in m.point.items()},
    }


def _cell(value: Any) -> Any:
    """A varied value as a table can hold it: numbers stay, objects become their names."""
    if value is None or isinstance(value, int | float | str):
        return "none" if value is None else value
    return describe(value)


def _norm_columns(group: Group) -> list[dict[str, float]]:
    """Realised and certified norms of every field of a group."""
    assert group.deformation is not None
    n, count = group.deformation.norms(), len(group.asked)
    columns = {
        "displacement_norm": n.displacement.lower,
        "jacobian_norm": n.jacobian.lower,
        "hessian_norm": n.hessian.lower,
        "divergence_norm": n.divergence.lower,
        "displacement_norm_upper": n.displacement.upper,
        "jacobian_norm_upper": n.jacobian.upper,
        "mean_displacement": group.deformation.mean.norm(dim=-1),
    }
    lists = {name: value.expand(count).tolist() for name, value in columns.items()}
    return [{name: values[f] for name, values in lists.items()} for f in range(count)]


def _numbers(measured: Measured, j: int, f: int, norm_x: float, pair: float, m: Measure, gains: Gains) -> Row:
    """Distances in every unit; a ratio without a denominator is NaN and the floor says so."""
    distance, norm_phi = measured.distance[j][f], measured.norm_phi[j]
    vanishes = norm_phi <= ZERO * norm_x  # a constant image without its mean, for example
    error, size = measured.interpolation_error[j][f], measured.warped_norm[f]
    return {
        "distance": distance,
        "distance_over_input_norm": _ratio(distance, norm_x),
        "distance_over_representation_norm": math.nan if vanishes else distance / norm_phi,
        "distance_over_pairs": _ratio(distance, pair),
        "norm_x": norm_x,
        "norm_phi": norm_phi,
        "interpolation_error": _ratio(through_network(m.architecture, error, size + error, gains), norm_x),
        "refinement": _ratio(measured.refinement[j][f], norm_x),
        "floor": UNDEFINED if vanishes else measured.floor[j] / norm_x,
        "seconds": measured.seconds[j],
    }


def _bounds(
    spec: SweepSpec,
    exact: bool,
    form: ClosedForm | None,
    m: Measure,
    measured: Measured | None,
    j: int,
    f: int,
    norm_x: float,
    gains: Gains,
) -> Row:
    """The rungs asked for, with status and scope."""
    row: Row = {}
    if "closed_form" in spec.rungs:
        row["bound_closed_form"] = form.value if form else math.nan
        row["status_closed_form"] = str(_status(spec, exact, form, m)) if form else OUT_OF_REACH
        row["scope_closed_form"] = str(form.scope) if form else ""
    if "trivial" in spec.rungs:
        row["trivial"] = row["trivial_norms"] = math.nan
        if form and measured:
            warped = measured.warped_norm[f]
            difference = through_network(m.architecture, measured.low_pass[j][f], math.sqrt(norm_x * warped), gains)
            row["trivial"] = _ratio(difference, norm_x)
            by_norms = form.trivial_norms if exact else math.inf
            longest = by_norms if math.isfinite(by_norms) else 1.0 + _ratio(warped, norm_x)
            row["trivial_norms"] = math.prod(gains) * longest
    return row


def _status(spec: SweepSpec, exact: bool, form: ClosedForm, m: Measure) -> Status:
    """A closed form is an estimate under an inexact warp or where a stride leaves a rest."""
    if not exact or not divides(m.architecture, spec.images.size):
        return Status.weakest(form.status, Status.ESTIMATE)
    return form.status


def _ratio(value: float, denominator: float) -> float:
    return value / denominator if denominator > 0 else math.nan
