"""Files that a user may have: MNIST-like IDX files, gzipped or not."""

import gzip
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

IDX_UNSIGNED_BYTE = 0x08


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
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != IDX_UNSIGNED_BYTE:
        raise ValueError(f"{path.name} must be an IDX file of unsigned bytes, got another header; check the download")
    axes = data[3]
    shape = tuple(int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(axes))
    body = data[4 + 4 * axes :]
    if len(body) != math.prod(shape):
        raise ValueError(f"{path.name} must hold {math.prod(shape)} bytes, got {len(body)}; download it again")
    return np.frombuffer(body, dtype=np.uint8).reshape(shape)
