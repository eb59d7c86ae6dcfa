"""CIFAR-10 and CIFAR-100 as their authors distribute them: the binary version and the pickles of the Python version."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stability.images.formats import Arrays, check_labels
from stability.images.unpickling import read_pickle

SIDE = 32
PIXELS = 3 * SIDE * SIDE


@dataclass(frozen=True)
class Edition:
    """Where one of the two sets keeps its training pictures.

    Args:
        folders: names of the unpacked archives, binary and Python.
        stems: names of the training files; the binary ones end in ``.bin``.
        label_bytes: before the pixels of a record of the binary version; the last one is used.
        labels_key: of the pickles.
        names_file: one name per line, in the binary version.
        meta: pickle with the names, and its key.
        classes: how many.
    """

    folders: tuple[str, str]
    stems: tuple[str, ...]
    label_bytes: int
    labels_key: str
    names_file: str
    meta: tuple[str, str]
    classes: int


TEN = Edition(
    ("cifar-10-batches-bin", "cifar-10-batches-py"), tuple(f"data_batch_{i}" for i in range(1, 6)), 1, "labels",
    "batches.meta.txt", ("batches.meta", "label_names"), 10,
)  # fmt: skip
HUNDRED = Edition(
    ("cifar-100-binary", "cifar-100-python"), ("train",), 2, "fine_labels", "fine_label_names.txt",
    ("meta", "fine_label_names"), 100,
)  # fmt: skip


def read(root: Path, edition: Edition) -> tuple[Arrays, tuple[str, ...]]:
    """Training pictures, labels and what they are called; the numbers themselves where no file says.

    Args:
        root: the folder with the files, or the one in which the archive was unpacked.
        edition: ``TEN`` or ``HUNDRED``.

    Raises:
        ValueError: if there are no files, or one is torn.
    """
    for folder in (root, *(root / name for name in edition.folders)):
        binary = [path for stem in edition.stems if (path := folder / f"{stem}.bin").is_file()]
        python = [path for stem in edition.stems if (path := folder / stem).is_file()]
        if binary or python:
            parts = [_binary(path, edition) for path in binary] or [_python(path, edition) for path in python]
            images, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
            return Arrays(images, labels), _names(folder, edition)
    raise ValueError(
        f"root must hold {edition.stems[0]}[.bin], or a folder {edition.folders[0]} or {edition.folders[1]} with it, "
        f"got {str(root)!r} without them; unpack the archive there"
    )


def _binary(path: Path, edition: Edition) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Records of label bytes and three planes of 32 x 32 bytes."""
    record, data = edition.label_bytes + PIXELS, np.frombuffer(path.read_bytes(), dtype=np.uint8)
    if not len(data) or len(data) % record:
        raise ValueError(
            f"{path.name} must hold records of {record} bytes, got {len(data)} bytes in all; download it again"
        )
    records = data.reshape(-1, record)
    images = records[:, edition.label_bytes :].reshape(-1, 3, SIDE, SIDE)
    return images, _within(path, check_labels(path.name, records[:, edition.label_bytes - 1], len(records)), edition)


def _python(path: Path, edition: Edition) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A pickled dictionary with "data" ``(n, 3072)`` and a list of labels."""
    batch = read_pickle(path.name, path.read_bytes())
    data, labels = batch.get("data"), batch.get(edition.labels_key)
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != PIXELS or not len(data):
        raise ValueError(f"{path.name} must hold 'data' of n x {PIXELS} bytes, got another; download it again")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise ValueError(
            f"{path.name} must hold a list {edition.labels_key!r} of integers, got another; download again"
        )
    numbers = np.array(labels, dtype=np.int64)
    return data.reshape(-1, 3, SIDE, SIDE), _within(path, check_labels(path.name, numbers, len(data)), edition)


def _within(path: Path, labels: NDArray[np.int64], edition: Edition) -> NDArray[np.int64]:
    if int(labels.max()) >= edition.classes:
        raise ValueError(
            f"labels in {path.name} must be below {edition.classes}, got {int(labels.max())}; this is another set"
        )
    return labels


def _names(folder: Path, edition: Edition) -> tuple[str, ...]:
    found: Sequence[object] = ()
    if (text := folder / edition.names_file).is_file():
        found = text.read_text(encoding="utf-8", errors="replace").split()
    elif (meta := folder / edition.meta[0]).is_file():
        found = read_pickle(meta.name, meta.read_bytes()).get(edition.meta[1], ())
    words = [one.decode("latin1") if isinstance(one, bytes) else str(one) for one in found]
    return tuple(words) if len(words) == edition.classes else tuple(map(str, range(edition.classes)))
