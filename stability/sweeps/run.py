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
from stability.architecture import plain
from stability.bounds.closed_form import ClosedForm
from stability.bounds.rung import Status
from stability.ladders import closed_forms, divides, lipschitz_gain
from stability.sweeps.build import Group, Measure, build_fields, build_measures, build_warp
from stability.sweeps.cells import Chunk, Measured, measure, pair_distance
from stability.sweeps.result import check_folder, image_digest, write_run
from stability.sweeps.spec import SweepSpec


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
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs == 0:
        raise ValueError(f"jobs must be a positive integer, or -1 for one per core, got {jobs!r}; use jobs=1")
    if out is not None:
        check_folder(Path(out), spec)
    measures, groups = build_measures(spec), build_fields(spec)
    images = image_sets.load(
        spec.images.name, count=spec.images.count, size=spec.images.size, channels=spec.images.channels
    )
    data = image_sets.dataset(spec.images.name)
    labels = data.labels[: spec.images.count].tolist()
    labels += [-1] * (spec.images.count - len(labels))

    measurable = [group for group in groups if group.deformation is not None]
    chunks = [
        Chunk(images[i : i + 1], group.deformation, build_warp(spec.warp), tuple(m.representation for m in measures))
        for i, group in itertools.product(range(len(images)), measurable)
        if group.deformation is not None
    ]
    tasks = [joblib.delayed(_tagged)(i, measure, chunk) for i, chunk in enumerate(chunks)]
    tasks += [
        joblib.delayed(_tagged)(len(chunks) + i, pair_distance, measurement.representation, images)
        for i, measurement in enumerate(measures)
    ]
    results: dict[int, Any] = {}
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
    with tqdm(total=len(tasks), unit="chunk", disable=not progress, leave=False) as bar:
        for index, result in parallel(tasks):
            results[index] = result
            bar.update()

    found = [results[i] for i in range(len(chunks))]
    pairs = [results[len(chunks) + i] for i in range(len(measures))]
    frame = _assemble(spec, images, labels, groups, measurable, measures, found, pairs)
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
    measurable: Sequence[Group],
    measures: Sequence[Measure],
    found: Sequence[Measured],
    pairs: Sequence[float],
) -> pd.DataFrame:
    norm_x = images.flatten(1).norm(dim=1).tolist()
    norms = {id(group): _norm_columns(group) for group in measurable}
    bounds = {
        (id(group), m.architecture): closed_forms(m.architecture, group.deformation, len(group.asked))
        for group in measurable
        for m in measures
        if group.deformation is not None
    }
    gains = {m.architecture: lipschitz_gain(m.architecture, spec.images.size) for m in measures}
    of_chunk = dict(zip(itertools.product(range(len(images)), map(id, measurable)), found, strict=True))
    rows: list[dict[str, Any]] = []
    for i, group, (j, m) in itertools.product(range(len(images)), groups, enumerate(measures)):
        measured = of_chunk.get((i, id(group)))
        forms = bounds.get((id(group), m.architecture), [None] * len(group.asked))
        for f, asked in enumerate(group.asked):
            row = _identity(spec, i, labels[i], group, m)
            row |= dict(zip(("asked_displacement_norm", "asked_jacobian_norm"), asked, strict=True))
            row |= norms[id(group)][f] if measured else {}
            row |= _numbers(measured, j, f, norm_x[i], pairs[j], gains[m.architecture]) if measured else {}
            row |= _bounds(spec, forms[f], m, measured, j, f, norm_x[i], gains[m.architecture])
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
        "layer": architecture.depth,
        "depth": architecture.depth,
        "antialiasing": architecture.antialiasing or 0.0,
        "boundary": "periodic",
        "front_end": _cell(architecture.front_end),
        "patch_size": last.patch_size,
        "pooling_scale": last.pooling_scale,
        "subsampling": last.subsampling,
        "kernel": architecture.to_dict()["layers"][-1]["kernel"]["kind"],
        "architecture": architecture.to_json(),
        "search": False,
        **{path: _cell(value) for path, value in m.point.items()},
    }


def _cell(value: Any) -> Any:
    """A varied value as a table can hold it: numbers stay, objects become their names."""
    if value is None or isinstance(value, int | float | str):
        return "none" if value is None else value
    return plain(value)["kind"]


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


def _numbers(measured: Measured, j: int, f: int, norm_x: float, pair: float, gain: float) -> dict[str, float | str]:
    """Distances in every unit; a ratio without a denominator is NaN and the floor says so."""
    distance, norm_phi = measured.distance[j][f], measured.norm_phi[j]
    return {
        "distance": distance,
        "distance_over_input_norm": _ratio(distance, norm_x),
        "distance_over_representation_norm": _ratio(distance, norm_phi),
        "distance_over_pairs": _ratio(distance, pair),
        "norm_x": norm_x,
        "norm_phi": norm_phi,
        "interpolation_error": _ratio(gain * measured.interpolation_error[j][f], norm_x),
        "floor": measured.floor[j] / norm_x if norm_x > 0 else "undefined",
        "seconds": measured.seconds[j],
    }


def _bounds(
    spec: SweepSpec,
    form: ClosedForm | None,
    m: Measure,
    measured: Measured | None,
    j: int,
    f: int,
    norm_x: float,
    gain: float,
) -> dict[str, float | str]:
    """The rungs asked for, with status and scope."""
    row: dict[str, float | str] = {}
    if "closed_form" in spec.rungs:
        row["bound_closed_form"] = form.value if form else math.nan
        row["status_closed_form"] = str(_status(spec, form, m)) if form else "out of reach"
        row["scope_closed_form"] = str(form.scope) if form else ""
    if "trivial" in spec.rungs:
        row["trivial"] = _ratio(gain * measured.low_pass[j][f], norm_x) if measured else math.nan
        by_norms = form.trivial_norms if form else math.nan
        if math.isinf(by_norms) and measured:
            by_norms = 1.0 + _ratio(measured.warped_norm[f], norm_x)
        row["trivial_norms"] = by_norms * (gain / math.prod(m.architecture.lipschitz) if math.isfinite(gain) else 1.0)
    return row


def _status(spec: SweepSpec, form: ClosedForm, m: Measure) -> Status:
    """A closed form is an estimate under an inexact warp (no refinement in a sweep) or where a stride leaves a rest."""
    if spec.warp.kind != "band_limited" or not divides(m.architecture, spec.images.size):
        return Status.weakest(form.status, Status.ESTIMATE)
    return form.status


def _ratio(value: float, denominator: float) -> float:
    return value / denominator if denominator > 0 else math.nan
