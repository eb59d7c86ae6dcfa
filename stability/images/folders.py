"""Folders of picture files: one subfolder per class, or the pictures themselves."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stability.images.preparation import fill

if TYPE_CHECKING:
    from PIL import Image

Result = TypeVar("Result")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm")
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)
"""Tag of a photograph's orientation, and its values for width and height exchanged."""
SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I")
"""Modes of pictures with 65,536 grey values."""


def find(root: Path) -> tuple[list[Path], NDArray[np.int64], tuple[str, ...]]:
    """Picture files, their classes and the classes' names, all in the order of the names.

    Args:
        root: a folder whose subfolders are the classes, or one with pictures in it (a single class).

    Raises:
        ValueError: if there is no folder, or no picture, or pictures lie beside subfolders of pictures.
    """
    if not root.is_dir():
        raise ValueError(f"root must be a folder of pictures, got {str(root)!r}; pass a path that is there")
    classes = {folder.name: _pictures(folder) for folder in sorted(root.iterdir()) if _is_class(folder)}
    classes = {name: paths for name, paths in classes.items() if paths}
    loose = _pictures(root)
    if loose and classes:
        raise ValueError(
            f"root must hold pictures or folders of pictures, got both in {str(root)!r} ({loose[0].name} beside "
            f"{next(iter(classes))}); move the loose ones into a folder"
        )
    classes = classes or {root.resolve().name: loose}
    paths = [path for own in classes.values() for path in own]
    if not paths:
        raise ValueError(
            f"root must hold pictures ({', '.join(SUFFIXES)}), got none in {str(root)!r} or the folders in it; check it"
        )
    labels = np.repeat(np.arange(len(classes)), [len(own) for own in classes.values()])
    return paths, labels.astype(np.int64), tuple(classes)


def read(paths: tuple[Path, ...], size: tuple[int, int] | None) -> Tensor:
    """Pictures as they are, or cropped and resampled to a size.

    Args:
        paths: files.
        size: ``(H, W)``, or None for pictures that all have one size.

    Returns:
        ``(B, C, H, W)``, float64 in [0, 1]; C = 3 if one of them has colours, else 1. Transparency is left out.

    Raises:
        ValueError: if a file is torn or no picture.
    """
    pictures = [_opened(path, _pixels) for path in paths]
    channels = max(len(picture) for picture in pictures)
    sized = [picture if size is None else fill(picture, size) for picture in pictures]
    return torch.stack([picture.expand(channels, -1, -1) for picture in sized])


def common_size(paths: tuple[Path, ...]) -> tuple[int, int] | None:
    """``(H, W)`` of all pictures, from the files' headers; None if they differ.

    Raises:
        ValueError: if a file is no picture.
    """
    return _common_size(tuple((path, path.stat().st_mtime_ns, path.stat().st_size) for path in paths))


@functools.lru_cache(maxsize=16)
def _common_size(files: tuple[tuple[Path, int, int], ...]) -> tuple[int, int] | None:
    """Asked again for files that were changed."""
    sizes = {_opened(path, _upright_size) for path, *_ in files}
    return sizes.pop() if len(sizes) == 1 else None


def _opened(path: Path, action: Callable[["Image.Image"], Result]) -> Result:
    from PIL import Image

    try:
        with Image.open(path) as opened:
            return action(opened)
    except Exception as error:  # a torn file fails inside any of the decoders
        raise ValueError(f"{path} must be a whole picture, got {error}; replace it or take it away") from None


def _upright_size(opened: "Image.Image") -> tuple[int, int]:
    width, height = opened.size
    return (width, height) if opened.getexif().get(ORIENTATION) in TURNED else (height, width)


def _pixels(opened: "Image.Image") -> Tensor:
    """``(C, h, w)``, upright, the first frame of several."""
    from PIL import ImageOps

    if opened.mode in SIXTEEN_BITS:
        values = np.asarray(ImageOps.exif_transpose(opened), dtype=np.float64) / 65535.0
    else:
        grey = opened.mode in ("1", "L", "LA")
        values = np.asarray(ImageOps.exif_transpose(opened).convert("L" if grey else "RGB"), dtype=np.float64) / 255.0
    picture = torch.from_numpy(values.copy())
    return picture[None] if picture.ndim == 2 else picture.movedim(-1, 0)


def _is_class(folder: Path) -> bool:
    return folder.is_dir() and not folder.name.startswith(".")


def _pictures(folder: Path) -> list[Path]:
    found = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    return sorted(path for path in found if path.is_file())
