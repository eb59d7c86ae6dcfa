"""Image sets by name: ``dataset`` gives the pictures, ``load`` the prepared images."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stability.grid import band_limit, check_size
from stability.images import own, photographs
from stability.images.blobs import Blobs
from stability.images.formats import Arrays, read_idx_pair
from stability.images.own import Pictures, from_arrays
from stability.images.preparation import embed, frame, luminance
from stability.names import resolve

FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
FASHION_LICENCE = "Fashion-MNIST, (c) 2017 Zalando SE, MIT (Expat) licence; text in stability/images/data/COPYRIGHT"
DATASET_SIZE = (256, 256)
"""Size at which ``dataset("photographs")`` hands out its pictures; ``load`` reads them at any size."""

MOST_PIXELS = 2**28
"""Pixels that ``load`` hands out at once."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Pictures as they are stored.

    Args:
        images: ``(B, C, H, W)``, float64 in [0, 1].
        labels: ``(B,)``, int64.
        names: what label i is called.
        licence: one line.
        source: "shipped", or the folder that the files came from.
    """

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]
    licence: str
    source: str = "shipped"


def dataset(name: str, root: str | Path | None = None, *, count: int | None = None) -> Dataset:
    """A named set of pictures with labels.

    Args:
        name: shipped or generated: "fashion" (200 shipped Fashion-MNIST images of the training split, 20 a class; or
            all 60,000 if the user has the files), "photographs" (scikit-image's; extra ``images``), "blobs"
            (analytic). The user's own files: "idx" (MNIST-like, gzipped or not), "npz", "cifar10", "cifar100" (binary
            or Python version), "folder" (picture files, one subfolder per class).
        root: where the user's files are (docs/data.md); by default the environment variable ``STABILITY_DATA``, and
            without it, for "fashion", the shipped images. A path to the file itself will do for "npz".
        count: only the first so many pictures; None: all.

    Returns:
        A ``Dataset``. The classes alternate, so that the first ten images of ten classes are one of each.

    Raises:
        ValueError: for an unknown name (the nearest is named), a folder without the files, or a torn file.

    >>> data = dataset("fashion")
    >>> data.images.shape, [data.names[i] for i in data.labels[:3]]
    (torch.Size([200, 1, 28, 28]), ['T-shirt/top', 'Trouser', 'Pullover'])
    """
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise ValueError(f"count must be an integer >= 1 or None, got {count!r}; use None for all images")
    return resolve("image set", name, _DATASETS)(root, count)


def load(
    name: str,
    *,
    count: int = 8,
    size: Sequence[int] = (32, 32),
    channels: int = 1,
    margin: int | None = None,
    root: str | Path | None = None,
    torus: bool = True,
) -> Tensor:
    """Prepared images on a torus (embedded, margin faded, then band-limited), or pictures in a window as they are.

    Args:
        name: as in ``dataset``.
        count: number of images, >= 1: the first ones of the set.
        size: ``(H, W)`` in pixels, or ``(N,)`` for signals (the pictures' central rows).
        channels: 1 (luminance of colours), or 3 for sets in colour: photographs, CIFAR, and the user's own colours.
        margin: width of the fading border in pixels; by default an eighth of the shorter side. Blobs have none: they
            are periodic.
        root: as in ``dataset``.
        torus: whether the images are prepared for the torus, the theorem's setting; False: only brought to the size.

    Returns:
        Tensor ``(count, channels, *size)``, float64, about [0, 1].

    Raises:
        ValueError: for an unknown name, or a count, size or number of channels that the set does not have.

    >>> load("fashion", count=2, size=(32, 32)).shape
    torch.Size([2, 1, 32, 32])
    """
    loader = resolve("image set", name, _LOADERS)
    size = check_size(size)
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"count must be an integer >= 1, got {count!r}; ask for at least one image")
    if count * channels * math.prod(size) > MOST_PIXELS:
        raise ValueError(
            f"count x size must be at most {MOST_PIXELS} pixels (2 GB), got {count} images of {size}; ask for fewer"
        )
    if channels not in (1, 3) or (channels == 3 and name in _GREY):
        raise ValueError(f"channels of {name!r} must be 1 (or 3 for sets in colour), got {channels!r}")
    pictures = loader(count, size, channels, root)
    if not torus:
        return frame(pictures, size)
    return band_limit(pictures, len(size)) if name == "blobs" else embed(pictures, size, margin=margin)


def _own(open_set: Callable[[Path], Pictures]) -> Callable[[str | Path | None], Pictures]:
    """A set of the user's: there is none without files."""

    def found(root: str | Path | None) -> Pictures:
        chosen = root if root is not None else os.environ.get("STABILITY_DATA")
        if chosen is None:
            raise ValueError(
                "root must say where the files are, got None; pass the folder, or set the environment variable "
                "STABILITY_DATA"
            )
        return open_set(Path(chosen))

    return found


def _fashion(root: str | Path | None) -> Pictures:
    folder = root if root is not None else os.environ.get("STABILITY_DATA")
    if folder is not None:
        return from_arrays(read_idx_pair(Path(folder)), FASHION_CLASSES, FASHION_LICENCE, str(folder))
    file = resources.files("stability.images") / "data" / "fashion_200.npz"
    with file.open("rb") as stream, np.load(stream) as arrays:
        shipped = Arrays(arrays["images"][:, None], arrays["labels"].astype(np.int64))
    return from_arrays(shipped, FASHION_CLASSES, FASHION_LICENCE, "shipped")


def _dataset_of(
    open_set: Callable[[str | Path | None], Pictures],
) -> Callable[[str | Path | None, int | None], Dataset]:
    def found(root: str | Path | None, count: int | None) -> Dataset:
        pictures = open_set(root)
        images, labels = pictures.first(len(pictures.labels) if count is None else count, DATASET_SIZE)
        return Dataset(images, torch.from_numpy(labels), pictures.names, pictures.licence, pictures.source)

    return found


def _loader_of(name: str, open_set: Callable[[str | Path | None], Pictures]) -> "Loader":
    def found(count: int, size: tuple[int, ...], channels: int, root: str | Path | None) -> Tensor:
        pictures = open_set(root)
        _at_most(count, len(pictures.labels), name)
        images, _ = pictures.first(count, (size[0], size[-1]))
        if channels == 1 and images.shape[1] == 3:
            images = luminance(images)
        if channels == 3 and images.shape[1] == 1 and name != "folder":
            raise ValueError(f"channels of these pictures must be 1, got 3; they are grey in {pictures.source!r}")
        images = images.expand(-1, channels, -1, -1)
        return images if len(size) == 2 else images[..., images.shape[-2] // 2, :]

    return found


def _photographs(root: str | Path | None, count: int | None) -> Dataset:
    images = photographs.read(min(len(photographs.NAMES), count or len(photographs.NAMES)), DATASET_SIZE, 3)
    return Dataset(images, torch.arange(len(images)), photographs.NAMES, photographs.LICENCE, "scikit-image")


def _blobs(root: str | Path | None, count: int | None) -> Dataset:
    images = _draw_blobs(count or 64, (32, 32)).images()
    return Dataset(images, torch.zeros(len(images), dtype=torch.int64), ("blobs",), "generated")


def _draw_blobs(count: int, size: tuple[int, ...]) -> Blobs:
    """The same blobs at every call: image i is drawn with the seed i, however many there are."""
    drawn = [Blobs.sample(size, count=1, generator=torch.Generator().manual_seed(i)) for i in range(count)]
    centres, widths, amplitudes = (
        torch.cat([getattr(one, name) for one in drawn]) for name in ("centres", "widths", "amplitudes")
    )
    return Blobs(centres, widths, amplitudes, size)


def _at_most(count: int, available: int, name: str) -> None:
    if count > available:
        raise ValueError(f"count must be at most {available}, the size of the set {name!r}, got {count}; ask for fewer")


def _photograph_pictures(count: int, size: tuple[int, ...], channels: int, root: str | Path | None) -> Tensor:
    _at_most(count, len(photographs.NAMES), "photographs")
    return photographs.read(count, size, channels)


def _blob_pictures(count: int, size: tuple[int, ...], channels: int, root: str | Path | None) -> Tensor:
    return _draw_blobs(count, size).images()


Loader = Callable[[int, tuple[int, ...], int, str | Path | None], Tensor]
_FILES: dict[str, Callable[[str | Path | None], Pictures]] = {
    "fashion": _fashion,
    "idx": _own(own.idx),
    "npz": _own(own.npz),
    "cifar10": _own(own.cifar10),
    "cifar100": _own(own.cifar100),
    "folder": _own(own.folder),
}
_GREY = ("fashion", "blobs", "idx")
_DATASETS: dict[str, Callable[[str | Path | None, int | None], Dataset]] = {
    "photographs": _photographs,
    "blobs": _blobs,
    **{name: _dataset_of(open_set) for name, open_set in _FILES.items()},
}
_LOADERS: dict[str, Loader] = {
    "photographs": _photograph_pictures,
    "blobs": _blob_pictures,
    **{name: _loader_of(name, open_set) for name, open_set in _FILES.items()},
}
