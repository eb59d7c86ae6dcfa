"""A kernel matrix on disk: one file per finished tile, and a header that says whose matrix it is.

    matrix.json                  schema, representation, images, others, shape, dtype, block
    tiles/ROW-COLUMN.safetensors one per tile, with the header's key and a digest of its numbers inside

A tile appears under a temporary name and is then moved into place, so that no half-written file ever bears the name of
a whole one. Several processes may fill one store. Nothing that is there is written again.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stability.files import replacing, sweep_away
from stability.representations.base import Representation

SCHEMA = 1
HEADER, TILES, SUFFIX = "matrix.json", "tiles", ".safetensors"
ADVICE = {
    "schema": "the store was written by another version of this package",
    "representation": "the store holds another representation's matrix",
    "images": "the store holds the matrix of other images",
    "others": "the store holds the matrix with other second images",
    "shape": "the store holds the matrix of another number of images",
    "dtype": "ask for the dtype of the store",
    "block": "leave block out to take that of the store",
}


def tensor_digest(tensor: Tensor) -> str:
    """SHA-256 of shape, dtype and numbers."""
    tensor = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{tuple(tensor.shape)} {tensor.dtype};".encode())
    digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def representation_digest(representation: Representation) -> str:
    """SHA-256 of what a representation states of itself: class, public settings, architecture, layers, weights.

    Not seen: private attributes, functions, and what submodules do not say in ``extra_repr``; ``kernel_matrix``
    therefore computes one entry of a store again before it goes on with it.
    """
    digest = hashlib.sha256(repr(representation.layer_names).encode())
    for key, value in sorted(vars(representation).items()):
        if not key.startswith("_") and key != "training" and " at 0x" not in (shown := repr(value)):
            digest.update(f"{key}={shown};".encode())
    for name, part in representation.named_modules():
        stated = part.extra_repr() if name else ""
        digest.update(f"{name}: {type(part).__module__}.{type(part).__qualname__}({stated});".encode())
    for tensors in (representation.named_parameters(), representation.named_buffers()):
        for name, tensor in tensors:
            digest.update(f"{name} {tensor_digest(tensor)};".encode())
    return digest.hexdigest()


class MatrixStore:
    """A folder with the tiles of one kernel matrix.

    Args:
        folder: where it is.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.tiles = self.folder / TILES
        self.key = ""

    def entries(self) -> dict[str, Any]:
        """The header; empty if there is none.

        Raises:
            ValueError: if it cannot be read, or the folder holds other files.
        """
        path = self.folder / HEADER
        if path.is_file():
            try:
                return dict(json.loads(path.read_text()))
            except (OSError, ValueError, TypeError):
                raise ValueError(
                    f"{path} must be the header of a store, got an unreadable file; move it away"
                ) from None
        if self.folder.exists() and (not self.folder.is_dir() or any(not _hidden(p) for p in self.folder.iterdir())):
            raise ValueError(
                f"store must be a new or empty folder, or one with a {HEADER}, got {str(self.folder)!r} with something "
                "else; choose another folder"
            )
        return {}

    def open(self, header: Mapping[str, Any]) -> None:
        """Make the folder for a matrix, or find that it is this matrix's.

        Args:
            header: the entries that must be those of the store.

        Raises:
            ValueError: if the store belongs to another matrix (the entry that differs is named), or cannot be written.
        """
        there = self.entries()
        for name, value in header.items() if there else ():
            if there.get(name) != value:
                raise ValueError(
                    f"{name} must be that of the store {str(self.folder)!r} ({_shown(there.get(name))}), got "
                    f"{_shown(value)}: {ADVICE[name]}; choose another folder or put the old value back"
                )
        text = json.dumps(dict(header), indent=2) + "\n"
        self.key = hashlib.sha256(text.encode()).hexdigest()
        try:
            self.tiles.mkdir(parents=True, exist_ok=True)
            sweep_away(self.folder, self.tiles)
            if not there:
                with replacing(self.folder / HEADER) as temporary:
                    temporary.write_text(text)
        except OSError as error:
            raise ValueError(
                f"store must be a folder that can be written, got {str(self.folder)!r} ({error.strerror}); choose "
                "another"
            ) from None

    def __contains__(self, tile: tuple[int, int]) -> bool:
        return self._path(tile).is_file()

    def write(self, tile: tuple[int, int], values: Tensor) -> None:
        """One finished tile; one that is there already stays."""
        if tile in self:
            return
        own = {"key": self.key, "sha256": tensor_digest(values)}
        with replacing(self._path(tile)) as temporary:
            save_file({"values": values.cpu().contiguous()}, temporary, metadata=own)

    def read(self, tile: tuple[int, int]) -> Tensor:
        """One finished tile.

        Raises:
            ValueError: if the file is damaged or belongs to another matrix.
        """
        path = self._path(tile)
        try:
            with safe_open(path, framework="pt") as file:
                written, values = file.metadata() or {}, file.get_tensor("values")
        except (OSError, SafetensorError) as error:
            raise ValueError(f"tile {path.name} must be a whole file, got a torn one ({error}); remove it") from None
        if (written.get("key"), written.get("sha256")) != (self.key, tensor_digest(values)):
            raise ValueError(f"tile {path.name} must hold what was computed for this store, got others; remove it")
        return values

    def _path(self, tile: tuple[int, int]) -> Path:
        return self.tiles / f"{tile[0]:05d}-{tile[1]:05d}{SUFFIX}"


def _hidden(path: Path) -> bool:
    return path.name.startswith(".")


def _shown(value: object) -> str:
    """An entry in an error message; a digest by its beginning."""
    return value[:12] if isinstance(value, str) else repr(value)
