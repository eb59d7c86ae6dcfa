"""Files that a user may have, read without trusting them: MNIST-like IDX files, gzipped or not, and npz archives."""

import gzip
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

IDX_UNSIGNED_BYTE = 0x08
TRAINING_IMAGES, TRAINING_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
NPZ_IMAGES = ("images", "x_train", "train_images", "X", "x")
"""Names of the array of pictures in an npz archive, the first one that is there."""
NPZ_LABELS = ("labels", "y_train", "train_labels", "Y", "y")
COLOURS = (1, 3)
"""How many channels a picture may have."""


class Arrays(NamedTuple):
    """Pictures ``(N, C, H, W)``, uint8 or floating point in [0, 1], and their labels ``(N,)``."""

    images: NDArray[Any]
    labels: NDArray[np.int64]


def find_idx(root: Path, stem: str) -> Path | None:
    """The file ``stem`` or ``stem.gz`` in a folder, if there is one."""
    for path in (root / stem, root / f"{stem}.gz"):
        if path.is_file():
            return path
    return None


def read_idx(path: Path) -> NDArray[np.uint8]:
    """An array of unsigned bytes from an IDX file.

    Raises:
        ValueError: if the file is not a complete IDX file of unsigned bytes.
    """
    try:
        with cast(IO[bytes], gzip.open(path) if path.suffix == ".gz" else path.open("rb")) as stream:
            head = stream.read(4)
            if len(head) < 4 or head[:2] != b"\0\0" or head[2] != IDX_UNSIGNED_BYTE:
                raise ValueError(
                    f"{path.name} must be an IDX file of unsigned bytes, got another header; check the download"
                )
            sides = stream.read(4 * head[3])
            if len(sides) < 4 * head[3]:
                raise ValueError(f"{path.name} must have a whole header, got its beginning; download it again")
            shape = tuple(int.from_bytes(sides[i : i + 4], "big") for i in range(0, 4 * head[3], 4))
            expected = math.prod(shape)
            body = stream.read(expected + 1)  # no more than the header promises, however far a gzip file would go
    except (OSError, EOFError, MemoryError, OverflowError, zlib.error) as error:
        raise ValueError(f"{path.name} must be a whole file, got {error or 'too much'}; download it again") from None
    if len(body) != expected:
        got = f"{len(body)}" if len(body) < expected else "more"
        raise ValueError(f"{path.name} must hold {expected} bytes, got {got}; download it again")
    return np.frombuffer(body, dtype=np.uint8).reshape(shape)


def read_idx_pair(root: Path) -> Arrays:
    """Training pictures and labels of an MNIST-like folder.

    Raises:
        ValueError: if a file is missing or torn, or the two do not fit.
    """
    paths = [find_idx(root, stem) for stem in (TRAINING_IMAGES, TRAINING_LABELS)]
    if paths[0] is None or paths[1] is None:
        raise ValueError(
            f"root must hold {TRAINING_IMAGES}[.gz] and {TRAINING_LABELS}[.gz], got {str(root)!r} without them; pass "
            "the folder of the files (for the shipped images pass no root and unset STABILITY_DATA)"
        )
    images, labels = read_idx(paths[0]), read_idx(paths[1])
    if images.ndim != 3 or not images.size:
        raise ValueError(f"{paths[0].name} must hold pictures (N, H, W), got the shape {images.shape}; check the file")
    return Arrays(images[:, None], check_labels(paths[1].name, labels, len(images)))


def read_npz(root: Path) -> Arrays:
    """Pictures and labels from an npz archive: arrays named as in ``NPZ_IMAGES`` and ``NPZ_LABELS``.

    Args:
        root: the archive, or a folder with a single one.

    Raises:
        ValueError: if the file is torn or holds Python objects, or an array is missing or has another shape or range.
    """
    path = root
    if root.is_dir():
        found = sorted(root.glob("*.npz"))
        if len(found) != 1:
            raise ValueError(f"root must hold one npz file, got {len(found)} in {str(root)!r}; name the file itself")
        path = found[0]
    if not path.is_file():
        raise ValueError(f"root must be an npz file or its folder, got {str(root)!r}; pass a path that is there")
    try:
        with (
            path.open("rb") as stream,
            np.load(stream, allow_pickle=False) as archive,
        ):  # without pickle no code of the file is run
            chosen = {name: archive[name] for name in _present(archive.files)}
    except Exception as error:  # a torn archive fails inside zipfile, zlib, numpy's header or its shapes
        raise ValueError(f"{path.name} must be a whole npz file of plain arrays, got {error}; save it again") from None
    images, labels = (_one_of(path.name, chosen, names) for names in (NPZ_IMAGES, NPZ_LABELS))
    if images is None:
        raise ValueError(
            f"{path.name} must hold pictures under one of the names {', '.join(NPZ_IMAGES)}, got none of them; rename"
        )
    pictures = check_pictures(path.name, images)
    if labels is None:
        return Arrays(pictures, np.zeros(len(pictures), dtype=np.int64))
    flat = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    return Arrays(pictures, check_labels(path.name, flat, len(pictures)))


def check_pictures(name: str, images: NDArray[Any]) -> NDArray[Any]:
    """Pictures as ``(N, C, H, W)``, from ``(N, H, W)``, ``(N, H, W, C)`` or ``(N, C, H, W)``.

    Raises:
        ValueError: if the shape is none of these or could be two, or values are neither bytes nor in [0, 1].
    """
    first, last = (images.ndim == 4 and images.shape[axis] in COLOURS for axis in (1, 3))
    if images.ndim == 3:
        images = images[:, None]
    elif first and last:
        raise ValueError(
            f"{name} must say where its channels are, got the shape {images.shape}; save grey pictures as (N, H, W), "
            "or with sides other than 1 and 3"
        )
    elif last:
        images = np.moveaxis(images, 3, 1)
    elif not first:
        raise ValueError(
            f"{name} must hold pictures (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels, got the shape "
            f"{images.shape}; reshape them"
        )
    if not images.size:
        raise ValueError(f"{name} must hold at least one pixel, got the shape {images.shape}; save it again")
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind not in "fb":
        raise ValueError(f"{name} must hold pictures as uint8 or floats in [0, 1], got {images.dtype}; convert them")
    low, high = float(images.min()), float(images.max())  # NaN if there is one
    if not 0.0 <= low <= high <= 1.0:
        raise ValueError(f"{name} must hold floats in [0, 1], got values from {low:g} to {high:g}; divide by 255")
    return images


def check_labels(name: str, labels: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Labels as int64.

    Raises:
        ValueError: unless they are integers >= 0, one per picture.
    """
    if labels.shape != (count,) or labels.dtype.kind not in "iub" or (count and int(labels.min()) < 0):
        raise ValueError(
            f"{name} must hold one integer label >= 0 for each of {count} pictures, got {labels.dtype} {labels.shape}; "
            "check that both files belong together"
        )
    return labels.astype(np.int64)


def _present(files: Sequence[str]) -> list[str]:
    return [name for name in files if name in (*NPZ_IMAGES, *NPZ_LABELS)]


def _one_of(file: str, arrays: Mapping[str, NDArray[Any]], names: Sequence[str]) -> NDArray[Any] | None:
    return next((arrays[name] for name in names if name in arrays), None)
