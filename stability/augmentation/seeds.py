"""Where the random numbers of a call come from, also in the worker processes of a ``DataLoader``."""

import hashlib

import torch
from torch.utils.data import get_worker_info

_LARGEST = 2**63 - 1


class Seeds:
    """A new generator for every call, from one seed of 63 bits.

    Without a generator the seed comes from torch's default one, which a ``DataLoader`` seeds anew in each worker. With
    one it comes from that; a worker has a copy of it, in the state in which the process was started, so there another
    generator takes its place, seeded by the copy's next number and the worker's own seed. The loader draws the
    workers' seeds (``DataLoader(generator=...)``, or torch's default generator) at the start of every epoch.

    Args:
        generator: the source, or None.

    Raises:
        ValueError: if it is something else.
    """

    def __init__(self, generator: torch.Generator | None) -> None:
        self._given = None if generator is None else check_generator(generator)
        self._of_worker: tuple[int, torch.Generator] | None = None

    def next(self) -> torch.Generator:
        """The generator of the next call, on the device of the one that was given, else on the CPU."""
        source = self._source()
        seed = int(
            torch.randint(_LARGEST, (), generator=source, device="cpu" if source is None else source.device).item()
        )
        return torch.Generator("cpu" if source is None else source.device).manual_seed(seed)

    def _source(self) -> torch.Generator | None:
        worker = get_worker_info()
        if worker is None or self._given is None:
            return self._given
        if self._of_worker is None or self._of_worker[0] != worker.seed:
            copy = torch.Generator(self._given.device)
            copy.set_state(self._given.get_state())
            own = int(torch.randint(_LARGEST, (), generator=copy, device=copy.device).item())
            self._of_worker = worker.seed, torch.Generator(copy.device).manual_seed(mixed(own, worker.seed))
        return self._of_worker[1]


def check_generator(generator: object) -> torch.Generator:
    """The generator, if it is one.

    Raises:
        ValueError: otherwise.
    """
    if not isinstance(generator, torch.Generator):
        raise ValueError(
            f"generator must be a torch.Generator, got {generator!r}; use torch.Generator().manual_seed(0)"
        )
    return generator


def mixed(*numbers: int) -> int:
    """One seed of 63 bits for a tuple of integers; for example of an epoch and a sample's index.

    >>> mixed(0, 1) == mixed(0, 1), mixed(0, 1) == mixed(1, 0)
    (True, False)
    """
    digest = hashlib.blake2b("/".join(map(str, numbers)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
