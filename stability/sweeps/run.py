r"""``sweep`` and ``run``: a specification in, a tidy table out; what is there already is not computed again."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from torch import Tensor

from stability.sweeps.chunks import Chunk, Cut
from stability.sweeps.job import Job
from stability.sweeps.result import SEARCHED, STRIP, image_digest, read_rows
from stability.sweeps.searched import searched
from stability.sweeps.spec import SweepSpec
from stability.sweeps.store import Store, TornPartError
from stability.sweeps.strip import SHOWN_IMAGES, strip
from stability.sweeps.table import assemble, finish
from stability.workers import one_thread, worker_count


@dataclass(frozen=True)
class Shard:
    """Part ``index`` of ``count``, 1 <= index <= count."""

    index: int
    count: int


@dataclass(frozen=True)
class Progress:
    """What a run found and did.

    Args:
        computed: chunks that this run computed.
        missing: chunks of the sweep that the store still lacks.
        total: chunks of the sweep.
        failures: why chunks of this run have no result.
        torn: names of damaged parts that were computed again.
        seconds: wall time of the run.
        seconds_in_cells: processor time that went into cells, over all workers; the rest is machinery: cutting,
            hashing, handing out, writing, the table.
    """

    computed: int
    missing: int
    total: int
    failures: tuple[str, ...] = field(default=())
    torn: tuple[str, ...] = field(default=())
    seconds: float = 0.0
    seconds_in_cells: float = 0.0


def sweep(spec: SweepSpec, *, jobs: int = 1, out: str | Path | None = None, progress: bool = False) -> pd.DataFrame:
    """Measure every distance that a spec asks for, next to what the theory allows.

    Args:
        spec: what to measure.
        jobs: worker processes, each with one thread; -1: one per core.
        out: folder of a store, in which what is there is not computed again; None: nothing is written.
        progress: show a progress bar on stderr.

    Returns:
        One row per image, field, representation and layer; the columns are listed in docs/columns.md.
        ``distance_over_input_norm``, ``bound_*``, ``trivial``, ``interpolation_error`` and ``floor`` are in units of
        ||x||.

    Raises:
        ValueError: before any work, if the spec cannot be run: a pair of norms out of reach, a size that the strides
            do not divide, a folder that holds something else.
        RuntimeError: if a representation failed on a chunk.
    """
    if not isinstance(spec, SweepSpec):
        raise ValueError(f"spec must be a SweepSpec, got {type(spec).__name__}; use SweepSpec(**data)")
    if out is not None:
        found = run(spec, out, jobs=jobs, progress=progress)
        if found.failures:
            raise RuntimeError(found.failures[0])
        return read_rows(out)
    cut = Cut(spec)
    job = Job(cut, None, worker_count(jobs), progress)
    outcomes = list(job.compute(cut.chunks))
    for outcome in outcomes:
        if outcome.failure:
            raise RuntimeError(outcome.failure)
    return assemble(cut, {outcome.chunk.address: outcome.table for outcome in outcomes if outcome.table is not None})


def run(
    spec: SweepSpec, folder: str | Path, *, jobs: int = 1, shard: Shard | None = None, progress: bool = False
) -> Progress:
    """Compute the chunks that a store lacks; write the whole table once all are there.

    Args:
        spec: what to measure.
        folder: the store: new, empty, or begun with the same spec.
        jobs: worker processes, each with one thread; -1: one per core. Another engine: ``joblib.parallel_config``.
        shard: which share of the chunks, None: all; processes on several machines may fill one store.
        progress: show a progress bar on stderr.

    Raises:
        ValueError: before anything is written, if the spec cannot be run or the folder holds something else.
    """
    start = time.perf_counter()
    workers, store, cut = worker_count(jobs), Store(folder), Cut(spec)
    store.check(spec)
    torn = _torn(store, cut)
    missing = set(store.missing(cut.chunks)) | set(torn)
    own = [chunk for chunk in share(cut, shard or Shard(1, 1)) if chunk in missing]
    job = Job(cut, store, workers, progress)
    if own:
        job.prepare(own)
    store.open(spec, {"images_sha256": image_digest(job.images)})
    for chunk in set(torn) & set(own):
        store.discard(chunk)  # a damaged part must not pass for one that was written
    outcomes = list(job.compute(own)) if own else []
    failures = tuple(outcome.failure for outcome in outcomes if outcome.failure)
    left = len(store.missing(cut.chunks))
    if left == 0 and (own or not store.table_is_whole):
        _finish(store, cut, job.images)
    return Progress(
        computed=len(own) - len(failures),
        missing=left,
        total=len(cut.chunks),
        failures=failures,
        torn=tuple(chunk.address[:12] for chunk in torn),
        seconds=time.perf_counter() - start,
        seconds_in_cells=math.fsum(outcome.seconds for outcome in outcomes),
    )


def _finish(store: Store, cut: Cut, images: Tensor) -> None:
    """The whole table, a strip of deformed images to look at, and some of the fields that were searched."""
    if len(cut.spec.images.size) == 2:
        with one_thread(), store.replacing(STRIP) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **strip(cut.spec, images[:SHOWN_IMAGES]))
    if cut.spec.search:
        with one_thread(), store.replacing(SEARCHED) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **searched(store, cut, images))
    finish(store, cut)


def share(cut: Cut, shard: Shard) -> list[Chunk]:
    """The chunks of a shard: whole blocks where there are enough of them, else chunks in turn.

    Raises:
        ValueError: unless 1 <= index <= count.
    """
    index, count = shard.index, shard.count
    if not 1 <= index <= count:
        raise ValueError(f"shard must be i/N with 1 <= i <= N, got {index}/{count}; the first of two is 1/2")
    turn = {block: i for i, block in enumerate(cut.blocks)}
    found = []
    for i, chunk in enumerate(cut.chunks):
        place = i if chunk.pairs or len(turn) < count else turn[chunk.images, chunk.draws]
        if place % count == index - 1:
            found.append(chunk)
    return found


def recompute(cut: Cut, store: Store, chunks: Sequence[Chunk]) -> list[pa.Table]:
    """The tables of chunks, computed again and not kept; learnt models are taken from the store.

    Raises:
        RuntimeError: if one fails.
    """
    job = Job(cut, None, 1, progress=False)
    job.learnt_in = store
    found = {outcome.chunk.address: outcome for outcome in job.compute(chunks)}
    for outcome in found.values():
        if outcome.failure:
            raise RuntimeError(outcome.failure)
    tables = [found[chunk.address].table for chunk in chunks]
    return [table for table in tables if table is not None]


def _torn(store: Store, cut: Cut) -> list[Chunk]:
    """Parts that are there but damaged; they are computed again."""
    found, there = [], store.there()
    for chunk in cut.chunks:
        if chunk.address in there:
            try:
                store.read(chunk)
            except TornPartError:
                found.append(chunk)
    return found
