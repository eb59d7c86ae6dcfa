"""Processes with one thread each: on two cores two processes are faster than two threads, which wait for each other."""

import contextlib
from collections.abc import Iterator

import joblib
import torch


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread inside, the caller's number afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def worker_count(jobs: int) -> int:
    """The number of processes; -1: one per core.

    Raises:
        ValueError: for anything but a positive integer or -1.
    """
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs == 0 or jobs < -1:
        raise ValueError(f"jobs must be a positive integer, or -1 for one per core, got {jobs!r}; use jobs=1")
    return joblib.cpu_count() if jobs == -1 else jobs
