"""The engine of a run: models are built or learnt, chunks go to workers, a worker that dies is replaced."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import joblib
import torch
from joblib.externals.loky.process_executor import BrokenProcessPool
from tqdm.auto import tqdm

from stability.representations.base import Representation
from stability.sweeps.build import build_fields, check_reach, check_sizes, labels, load_images
from stability.sweeps.chunks import Chunk, Cut, needs_fit
from stability.sweeps.fitting import State, build, check_fit
from stability.sweeps.models import LeNetSpec, ModuleSpec
from stability.sweeps.searching import check_search
from stability.sweeps.spec import SweepSpec, is_plain_module
from stability.sweeps.store import Store
from stability.sweeps.tasks import Outcome, Task, learn, remembered, work
from stability.workers import one_thread

TASKS_PER_WORKER = 4
"""With fewer tasks than that the models of a block are shared out among the workers."""
ATTEMPTS = 3
"""Pools of workers that may break in a row without a single new result."""


class Job:
    """The objects of one run: images, models, and the engine that computes chunks.

    Args:
        cut: the sweep.
        store: where results go; None: they are handed back.
        workers: processes.
        progress: show a progress bar.
    """

    def __init__(self, cut: Cut, store: Store | None, workers: int, progress: bool) -> None:
        self.cut, self.store, self.workers, self.progress = cut, store, workers, progress
        self.learnt_in = store
        spec = cut.spec
        if not all(is_plain_module(chosen) for chosen in spec.representations):
            check_sizes(spec)
        self.images = load_images(spec, spec.images.count)
        self.labels = labels(spec)
        self.representations: dict[int, Representation] = {}
        self.prepared = False

    def prepare(self, chunks: Sequence[Chunk]) -> None:
        """Everything that can be wrong with a spec, before anything is written."""
        spec = self.cut.spec
        if spec.on_unreachable == "refuse" and not (self.store and self.store.begun):
            with one_thread():
                check_reach(spec, self.cut.draws)
        for i in sorted({chunk.model for chunk in chunks}):
            model = self.cut.models[i]
            if not needs_fit(model.chosen):
                self.representations[i] = build(model, spec)
                if isinstance(model.chosen, LeNetSpec | ModuleSpec):
                    self._try(i)
            else:
                check_fit(model, spec)
        for i, search in enumerate(spec.search):
            with one_thread():
                check_search(spec, i, search, self.images[:1], list(self.representations.values()))
        for family in range(len(spec.deformations)):
            one = next(draw for draw in self.cut.draws if draw.family == family)
            with one_thread():
                build_fields(spec.model_copy(update={"on_unreachable": "record"}), [one])
        self.prepared = True

    def _try(self, index: int) -> None:
        """Whether a class of the user's takes such images at all.

        Raises:
            ValueError: names the representation and says what it said.
        """
        label = self.cut.models[index].chosen.label
        try:
            with one_thread(), torch.no_grad():
                self.representations[index].reference(self.images[:1])
        except Exception as error:
            said = " ".join(str(error).split())
            shape = tuple(self.images[:1].shape)
            raise ValueError(f"representation {label!r} must take images of shape {shape}, got: {said}") from None

    def compute(self, chunks: Sequence[Chunk]) -> Iterator[Outcome]:
        """The outcomes of chunks, in any order; a worker that is killed costs what it was at, and no more."""
        if not self.prepared:
            self.prepare(chunks)
        left = {chunk.address: chunk for chunk in chunks}
        with tqdm(total=len(left), unit="chunk", disable=None if self.progress else True, leave=False) as bar:
            attempts = 0
            while left:
                before = len(left)
                try:
                    self._learn(list(left.values()))
                    for outcomes in self._parallel(work, [(task,) for task in self._tasks(list(left.values()))]):
                        for outcome in outcomes:
                            del left[outcome.chunk.address]
                            bar.update()
                            yield outcome
                except BrokenProcessPool:
                    for chunk in [] if self.store is None else self._written(list(left.values())):
                        del left[chunk.address]
                        bar.update()
                        yield Outcome(chunk)
                    attempts = attempts + 1 if len(left) == before else 1
                    if attempts >= ATTEMPTS:
                        raise RuntimeError(
                            f"workers were killed {ATTEMPTS} times without a result (out of memory?); use fewer: -j 1"
                        ) from None

    def _written(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        assert self.store is not None
        absent = {chunk.address for chunk in self.store.missing(chunks)}
        return [chunk for chunk in chunks if chunk.address not in absent]

    def _learn(self, chunks: Sequence[Chunk]) -> None:
        """Models that learn from images: from the store if it has them, else now, each in a worker."""
        wanted = [self.cut.models[i] for i in sorted({chunk.model for chunk in chunks} - set(self.representations))]
        states: dict[int, State] = {}
        todo = []
        for model in wanted:
            address = self.cut.fit_address(model)
            state = remembered(address, self.learnt_in)
            if state is None:
                todo.append((model, self.cut.spec, address, self.store))
            else:
                states[model.index] = state
        states |= dict(self._parallel(_learnt, todo))
        for model in wanted:
            self.representations[model.index] = build(model, self.cut.spec, states[model.index])

    def _tasks(self, chunks: Sequence[Chunk]) -> list[Task]:
        """Chunks of one block together, so that its fields are drawn and its images deformed once."""
        groups: dict[Any, list[Chunk]] = {}
        for chunk in chunks:
            key = (chunk.model,) if chunk.pairs else (chunk.images, chunk.draws)
            groups.setdefault(key, []).append(chunk)
        pieces = math.ceil(TASKS_PER_WORKER * self.workers / len(groups)) if self.workers > 1 else 1
        found = []
        for group in groups.values():
            size = math.ceil(len(group) / pieces)
            found += [self._task(group[i : i + size]) for i in range(0, len(group), size)]
        return found

    def _task(self, chunks: list[Chunk]) -> Task:
        first, (start, stop) = chunks[0], chunks[0].images
        return Task(
            chunks=tuple(chunks),
            spec=self.cut.spec,
            images=self.images[start:stop].clone(),
            labels=self.labels[start:stop],
            draws=self.cut.draws[slice(*first.draws)],
            item=sum(len(draw.pairs) for draw in self.cut.draws[: first.draws[0]]),
            models=tuple(self.cut.models[chunk.model] for chunk in chunks),
            representations=tuple(self.representations[chunk.model] for chunk in chunks),
            store=self.store,
        )

    def _parallel(self, function: Any, arguments: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        calls = [joblib.delayed(function)(*one) for one in arguments]
        if not calls:
            return
        backend, _ = joblib.parallel.get_active_backend()
        streams = backend.supports_return_generator or self.workers == 1
        engine = joblib.Parallel(
            n_jobs=min(self.workers, len(calls)),
            return_as="generator_unordered" if streams else "list",
            batch_size=1,
            pre_dispatch="all",
        )
        yield from engine(calls)


def _learnt(model: Any, spec: SweepSpec, address: str, store: Store | None) -> tuple[int, State]:
    return model.index, learn(model, spec, address, store)
