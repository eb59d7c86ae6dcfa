"""What a worker does: the chunks of one block of images and fields, each kept as soon as it is there."""

import copy
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from stability.bounds.form import ClosedForm
from stability.bounds.theorem import Theorem
from stability.representations.base import Representation
from stability.sweeps.build import Fields, build_fields, build_warp, found_fields
from stability.sweeps.cells import Deformed, deform, measure, pair_distances
from stability.sweeps.chunks import ORDER, PAIR, Chunk, Draw, Model
from stability.sweeps.columns import Place, columns
from stability.sweeps.fitting import State, fit
from stability.sweeps.rungs import FieldMemo, further
from stability.sweeps.searching import Kept, find, search_columns
from stability.sweeps.spec import SweepSpec
from stability.sweeps.store import Store, field_file, state_digest
from stability.sweeps.theorem import theorem
from stability.workers import one_thread


@dataclass(frozen=True)
class Task:
    """Chunks that share images and draws, or the pairs of one model.

    Args:
        chunks: one per model, all of the same images and draws.
        spec: the sweep.
        images: ``(I, C, *size)``, those of the chunks.
        labels: the images' classes.
        draws: those of the chunks.
        item: position of the first draw's first size among all fields of the sweep.
        models: model of every chunk.
        representations: what measures every chunk.
        store: where results are kept; None: they are handed back.
    """

    chunks: tuple[Chunk, ...]
    spec: SweepSpec
    images: Tensor
    labels: Sequence[int]
    draws: tuple[Draw, ...]
    item: int
    models: tuple[Model, ...]
    representations: tuple[Representation, ...]
    store: Store | None


@dataclass(frozen=True)
class Outcome:
    """What became of a chunk: its table (None if it was put into the store), or why there is none.

    ``seconds`` is what it took to compute, a share of what the chunks of its task have in common included; keeping it
    is not.
    """

    chunk: Chunk
    table: pa.Table | None = None
    failure: str | None = None
    seconds: float = 0.0


Computed = tuple[Mapping[str, Any], Kept | None]
"""The columns of a chunk, and what else is kept of it."""


def work(task: Task) -> list[Outcome]:
    """Compute the chunks of a task; one that fails does not stop the others."""
    if threading.current_thread() is not threading.main_thread():  # modules are not made to be shared by threads
        task = replace(task, representations=copy.deepcopy(task.representations))
    with one_thread(), torch.no_grad():
        start = time.perf_counter()
        if task.chunks[0].pairs:
            return [_keep(task, chunk, 0.0, _pairs, task, i) for i, chunk in enumerate(task.chunks)]
        if task.chunks[0].search:
            return [_keep(task, chunk, 0.0, _searched, task, i) for i, chunk in enumerate(task.chunks)]
        shared = Shared.of(task, build_fields(task.spec, task.draws))
        common = (time.perf_counter() - start) / len(task.chunks)
        return [_keep(task, chunk, common, _cells, task, i, shared) for i, chunk in enumerate(task.chunks)]


@dataclass(frozen=True)
class Shared:
    """What the models of a task share: fields, deformed images, and what is known of both."""

    fields: Fields
    deformed: Deformed
    forms: dict[Theorem, list[ClosedForm]]
    known: FieldMemo

    @classmethod
    def of(cls, task: Task, fields: Fields) -> "Shared":
        """The images of a task under some fields."""
        deformed = deform(task.images, fields.deformations, build_warp(task.spec))
        return cls(fields, deformed, {}, FieldMemo(task.spec.seed))


def _cells(task: Task, i: int, shared: Shared) -> Computed:
    """The rows of one model."""
    representation, model = task.representations[i], task.models[i]
    fields, deformed = shared.fields, shared.deformed
    measured = measure(representation, deformed, refinement=task.spec.refinement)
    place = Place(task.chunks[i].images[0], task.item, task.labels, model)
    forms = theorem(representation, fields, shared.forms)
    floor = measured.floor[-1]
    rungs = further(task.spec.rungs, representation, deformed, fields, forms, floor, shared.known)
    return columns(task.spec, place, fields, deformed, representation, measured, forms, rungs), None


def _searched(task: Task, i: int) -> Computed:
    """The row of one image and model under the field that was found for them."""
    (draw,), representation, chunk = task.draws, task.representations[i], task.chunks[i]
    search = task.spec.search[draw.family - len(task.spec.deformations)]
    found, kept = find(search, draw, representation, task.images, build_warp(task.spec))
    rows, _ = _cells(task, i, Shared.of(task, found_fields(search, task.draws, found.field)))
    return {**rows, **search_columns(task.spec, search, found, representation, field_file(chunk))}, kept


def _pairs(task: Task, i: int) -> Computed:
    representation, model = task.representations[i], task.models[i]
    medians = pair_distances(representation, task.images).tolist()
    return {ORDER[2]: [model.index] * len(medians), ORDER[3]: list(range(len(medians))), PAIR: medians}, None


def _keep(task: Task, chunk: Chunk, common: float, compute: Any, *arguments: Any) -> Outcome:
    """The result in the store or in the outcome. What the disk refuses is no failure of the chunk and is raised."""
    start = time.perf_counter()
    try:
        found, kept = compute(*arguments)
    except OSError:
        raise
    except Exception as error:  # whatever a user's class raises belongs to its own chunk
        where = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {' '.join(str(error).split())} ({where.filename}:{where.lineno})"
        return Outcome(chunk, failure=reason)
    seconds, table = common + time.perf_counter() - start, pa.table(found)
    if task.store is None:
        return Outcome(chunk, table, seconds=seconds)
    if kept is None:
        task.store.write(chunk, table)
    else:
        task.store.write(chunk, table.replace_schema_metadata(kept.metadata()), kept.file())
    return Outcome(chunk, seconds=seconds)


def learn(model: Model, spec: SweepSpec, address: str, store: Store | None) -> State:
    """What a model learns from images, kept in the store."""
    with one_thread():
        state = fit(model, spec)
    if store is not None:
        from safetensors.torch import save

        plain = {name: value.contiguous() for name, value in state.items()}
        digest = state_digest({name: value.numpy() for name, value in plain.items()})
        with store.replacing_state(address) as temporary:
            temporary.write_bytes(save(plain, {"address": address, "sha256": digest}))
    return state


def remembered(address: str, store: Store | None) -> State | None:
    """What a model learnt earlier, if the store has it whole."""
    if store is None or not store.state(address).is_file() or store.state_fault(address):
        return None  # absent, or damaged: it is learnt again
    from safetensors.torch import load_file

    return dict(load_file(store.state(address)))
