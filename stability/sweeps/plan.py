"""``stability plan``: what a run would do, before it does it."""

import math

from stability import images as image_sets
from stability.sweeps.build import check_reach
from stability.sweeps.chunks import Cut, total_seconds
from stability.sweeps.costs import chunk_memory, fit_cost
from stability.sweeps.inspection import duration
from stability.sweeps.job import Job
from stability.sweeps.spec import SweepSpec
from stability.sweeps.store import Store
from stability.workers import one_thread

PROCESS = 4e8
"""Bytes of a worker process before it does anything."""
UNREACHABLE = "record"
SEARCHED_AT_ONCE = 32
"""Cells whose arrays a search holds: a batch of fields, twice for its gradient."""


def plan(spec: SweepSpec, *, jobs: int = 1, store: Store | None = None) -> list[str]:
    """Cells, chunks, memory, pairs out of reach and an estimate of time, in lines.

    Args:
        spec: the sweep.
        jobs: worker processes; -1: one per core.
        store: where a part of it may be already.

    Raises:
        ValueError: if a size does not fit the architecture, or the store holds something else.
    """
    import joblib

    workers = joblib.cpu_count() if jobs == -1 else jobs
    cut = Cut(spec)
    cells = [chunk for chunk in cut.chunks if not chunk.pairs]
    largest = max(chunk.cells for chunk in cells)
    fields = sum(len(draw.pairs) for draw in cut.draws)
    lines = [
        f"spec      {spec.hash[:12]}",
        f"cells     {sum(chunk.cells for chunk in cells)}: {spec.images.count} images x {fields} fields x "
        f"{len(cut.models)} models",
        f"chunks    {len(cut.chunks)}: {len(cells)} of at most {largest} cells, {len(cut.models)} of pairs of images",
    ]
    recorded = spec.model_copy(update={"on_unreachable": UNREACHABLE})
    Job(Cut(recorded), None, 1, progress=False).prepare(cut.chunks)  # what a run would refuse, plan refuses
    with one_thread():
        unreachable = check_reach(recorded, cut.draws)
    pairs = sum(len(draw.pairs) for draw in cut.draws if spec.families[draw.family].two_norms)
    if pairs:
        what = "rows without numbers" if spec.on_unreachable == UNREACHABLE else "the run will refuse them"
        found = f"reach     {unreachable} of {pairs} fields with two norms are out of reach"
        lines.append(f"{found}: {what}" if unreachable else found)
    else:
        both = {None not in pair for draw in cut.draws for pair in draw.pairs}
        words = {False: "one norm is prescribed", True: "two norms are limits that a field stays within"}
        lines.append(f"reach     {'; '.join(words[two] for two in sorted(both))}: every size can be reached")
    todo = list(cut.chunks)
    if store is not None:
        store.check(spec)
        todo = store.missing(cut.chunks)
    searches = [chunk for chunk in todo if chunk.search]
    if searches:
        took = math.fsum(map(cut.seconds, searches))
        lines.append(f"search    {len(searches)} searches, about {duration(took / workers)} of the time")
        largest = max(largest, SEARCHED_AT_ONCE)
    memory = workers * (PROCESS + chunk_memory(spec, largest))
    lines.append(f"memory    about {memory / 1e9:.1g} GB, {workers} process{'es' if workers > 1 else ''}")
    if store is not None:
        lines.append(f"store     {len(cut.chunks) - len(todo)} chunks are there")
    available = len(image_sets.dataset(spec.images.name, root=spec.images.root).labels) - spec.images.count
    fits = {model.index: fit_cost(model.chosen, model.architecture, spec, available) for model in cut.models}
    learning = math.fsum(fits[i] for i in {chunk.model for chunk in todo})
    learnt = sum(fits[i] > 0 for i in {chunk.model for chunk in todo})
    if learnt:
        lines.append(f"models    {learnt} are learnt first, about {duration(learning / workers)}")
    whole = total_seconds(cut) + math.fsum(fits.values())
    left = math.fsum(cut.seconds(chunk) for chunk in todo) + learning
    lines.append(f"time      about {duration(left / workers)} on {workers} core{'s' if workers > 1 else ''}")
    if todo and len(todo) < len(cut.chunks):
        lines[-1] += f" (of {duration(whole / workers)})"
    return lines
