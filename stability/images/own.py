"""Sets that the user has as files: what is known of each before its pictures are read, and how they are read."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stability.images import cifar, folders
from stability.images.formats import Arrays, read_idx_pair, read_npz

LICENCE = "the user's own files; their licence is not known"
CIFAR_LICENCE = "CIFAR (Krizhevsky 2009); its authors state no licence"


@dataclass(frozen=True, eq=False)
class Pictures:
    """A set whose pictures are read when they are asked for. The classes alternate.

    Args:
        labels: ``(N,)``.
        names: what label i is called.
        licence: one line.
        source: the folder that the files came from, or "shipped".
        read: pictures ``(B, C, H, W)``, float64 in [0, 1], by their positions among the files, and the size that
            pictures of different sizes are brought to.
    """

    labels: NDArray[np.int64]
    names: tuple[str, ...]
    licence: str
    source: str
    read: Callable[[NDArray[np.int64], tuple[int, int]], Tensor]

    def first(self, count: int, size: tuple[int, int]) -> tuple[Tensor, NDArray[np.int64]]:
        """The first pictures, one of each class, then the second ones, and so on; and their labels."""
        order = alternate(self.labels)[:count]
        return self.read(order, size), self.labels[order]


def from_arrays(arrays: Arrays, names: tuple[str, ...] | None, licence: str, source: str) -> Pictures:
    """A set that lies in memory, as bytes or floats; names: None for the numbers themselves."""
    if names is None:
        names = tuple(map(str, range(int(arrays.labels.max()) + 1)))

    def read(positions: NDArray[np.int64], size: tuple[int, int]) -> Tensor:
        chosen = torch.from_numpy(np.ascontiguousarray(arrays.images[positions])).to(torch.float64)
        return chosen / 255 if arrays.images.dtype == np.uint8 else chosen

    return Pictures(arrays.labels, names, licence, source, read)


def idx(root: Path) -> Pictures:
    """An MNIST-like folder."""
    return from_arrays(read_idx_pair(root), None, LICENCE, str(root))


def npz(root: Path) -> Pictures:
    """An npz archive."""
    return from_arrays(read_npz(root), None, LICENCE, str(root))


def cifar10(root: Path) -> Pictures:
    """CIFAR-10."""
    arrays, names = cifar.read(root, cifar.TEN)
    return from_arrays(arrays, names, CIFAR_LICENCE, str(root))


def cifar100(root: Path) -> Pictures:
    """CIFAR-100 with its 100 fine labels."""
    arrays, names = cifar.read(root, cifar.HUNDRED)
    return from_arrays(arrays, names, CIFAR_LICENCE, str(root))


def folder(root: Path) -> Pictures:
    """Picture files."""
    paths, labels, names = folders.find(root)

    def read(positions: NDArray[np.int64], size: tuple[int, int]) -> Tensor:
        same = folders.common_size(tuple(paths)) is not None
        return folders.read(tuple(paths[i] for i in positions), None if same else size)

    return Pictures(labels, names, LICENCE, str(root), read)


def alternate(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Order in which the classes alternate: first of each class, second of each class, ...

    >>> alternate(np.array([1, 1, 0, 0])).tolist()
    [2, 0, 3, 1]
    """
    turn = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        turn[of_class] = np.arange(len(of_class))
    return np.lexsort((labels, turn))
