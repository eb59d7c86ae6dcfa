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
from stability.images import photographs
from stability.images.blobs import Blobs
from stability.images.formats import find_idx, read_idx
from stability.images.preparation import embed, frame
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


def dataset(name: str, root: str | Path | None = None) -> Dataset:
    """A named set of pictures with labels.

    Args:
        name: "fashion" (200 shipped Fashion-MNIST images of the training split, 20 a class; or all 60,000 if the
            user has the files), "photographs" (scikit-image's; extra ``images``), "blobs" (analytic).
        root: folder with the user's own ``train-images-idx3-ubyte[.gz]`` and ``train-labels-idx1-ubyte[.gz]`` for
            "fashion"; by default the environment variable ``STABILITY_DATA``, and without it the shipped images.

    Returns:
        A ``Dataset``. The classes alternate, so that the first ten images are one of each.

    Raises:
        ValueError: for an unknown name (the nearest is named) or a folder without the files.

    >>> data = dataset("fashion")
    >>> data.images.shape, [data.names[i] for i in data.labels[:3]]
    (torch.Size([200, 1, 28, 28]), ['T-shirt/top', 'Trouser', 'Pullover'])
    """
    return resolve("image set", name, _DATASETS)(root)


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
        name: "fashion", "photographs" or "blobs".
        count: number of images, >= 1: the first ones of the set.
        size: ``(H, W)`` in pixels, or ``(N,)`` for signals (the pictures' central rows).
        channels: 1, or 3 for the photographs in colour.
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
    if channels not in ((1, 3) if name == "photographs" else (1,)):
        raise ValueError(f"channels of {name!r} must be 1 (or 3 for 'photographs'), got {channels!r}")
    pictures = loader(count, size, channels, root)
    if not torus:
        return frame(pictures, size)
    return band_limit(pictures, len(size)) if name == "blobs" else embed(pictures, size, margin=margin)


def _fashion(root: str | Path | None) -> Dataset:
    folder = root if root is not None else os.environ.get("STABILITY_DATA")
    if folder is None:
        file = resources.files("stability.images") / "data" / "fashion_200.npz"
        with file.open("rb") as stream, np.load(stream) as arrays:
            images, labels = arrays["images"], arrays["labels"]
        source = "shipped"
    else:
        paths = [find_idx(Path(folder), stem) for stem in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")]
        if paths[0] is None or paths[1] is None:
            raise ValueError(
                f"root must hold train-images-idx3-ubyte[.gz] and train-labels-idx1-ubyte[.gz], got {str(folder)!r} "
                "without them; unset STABILITY_DATA or pass no root for the shipped images"
            )
        images, labels, source = read_idx(paths[0]), read_idx(paths[1]), str(folder)
    order = _alternate(labels)
    pictures = torch.from_numpy(np.ascontiguousarray(images[order])).to(torch.float64).unsqueeze(1) / 255
    return Dataset(pictures, torch.from_numpy(labels[order].astype(np.int64)), FASHION_CLASSES, FASHION_LICENCE, source)


def _alternate(labels: np.ndarray) -> np.ndarray:
    """Order in which the classes alternate: first of each class, second of each class, ..."""
    turn = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        turn[of_class] = np.arange(len(of_class))
    return np.lexsort((labels, turn))


def _photographs(root: str | Path | None) -> Dataset:
    images = photographs.read(len(photographs.NAMES), DATASET_SIZE, 3)
    return Dataset(images, torch.arange(len(images)), photographs.NAMES, photographs.LICENCE, "scikit-image")


def _blobs(root: str | Path | None) -> Dataset:
    images = _draw_blobs(64, (32, 32)).images()
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


def _fashion_pictures(count: int, size: tuple[int, ...], channels: int, root: str | Path | None) -> Tensor:
    images = _fashion(root).images
    _at_most(count, len(images), "fashion")
    return images[:count] if len(size) == 2 else images[:count, :, images.shape[-2] // 2, :]


def _photograph_pictures(count: int, size: tuple[int, ...], channels: int, root: str | Path | None) -> Tensor:
    _at_most(count, len(photographs.NAMES), "photographs")
    return photographs.read(count, size, channels)


def _blob_pictures(count: int, size: tuple[int, ...], channels: int, root: str | Path | None) -> Tensor:
    return _draw_blobs(count, size).images()


_DATASETS: dict[str, Callable[[str | Path | None], Dataset]] = {
    "fashion": _fashion,
    "photographs": _photographs,
    "blobs": _blobs,
}
_LOADERS: dict[str, Callable[[int, tuple[int, ...], int, str | Path | None], Tensor]] = {
    "fashion": _fashion_pictures,
    "photographs": _photograph_pictures,
    "blobs": _blob_pictures,
}
