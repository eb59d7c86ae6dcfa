"""A sweep on disk: one file per chunk, named by the address of its content, and the whole table when all are there.

    spec.json       the specification, its hash, and the digest of the images
    parts/          ADDRESS.parquet, one per chunk; ADDRESS.safetensors, one per learnt model; ADDRESS.npz, the field
                    of a chunk that was searched
    rows.parquet    the whole table
    run.json        versions, commit, command, hashes
    searched.npz    a few of the fields that were searched, as arrays to draw

A file appears under a temporary name and is then moved into place, so that no half-written file ever bears the name of
a whole one. Several processes, on several machines, may write into one store. No torch.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stability.files import replacing, sweep_away
from stability.sweeps.chunks import Chunk, Cut
from stability.sweeps.result import ROWS, RUN, check_writable
from stability.sweeps.spec import SweepSpec

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

SPEC, PARTS = "spec.json", "parts"
PART, STATE, FIELD = ".parquet", ".safetensors", ".npz"


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def state_digest(arrays: "Mapping[str, npt.NDArray[Any]]") -> str:
    """SHA-256 of named arrays: names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape};".encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()


def field_file(chunk: Chunk) -> str:
    """Where a store keeps the field that a chunk found, relative to its folder."""
    return f"{PARTS}/{chunk.address}{FIELD}"


class TornPartError(ValueError):
    """A part that is not what its name says."""


class Store:
    """A folder with the results of one spec.

    Args:
        folder: where it is.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.parts = self.folder / PARTS

    def open(self, spec: SweepSpec, extra: Mapping[str, Any]) -> None:
        """Make the folder for a spec, or find that it is the one of this spec.

        Args:
            spec: whose results it will hold.
            extra: more entries of ``spec.json``, such as the digest of the images; they must not have changed.

        Raises:
            ValueError: if it belongs to another spec, to other images or to something else, or cannot be written.
        """
        check_writable(self.folder)
        self.check(spec)
        there = self._entries() if (self.folder / SPEC).is_file() else {}
        for name, value in extra.items():
            if there.get(name, value) != value:
                raise ValueError(
                    f"{name} must be that of the store {str(self.folder)!r}, got another one: the files behind the "
                    "image set have changed; choose another folder"
                )
        self.parts.mkdir(parents=True, exist_ok=True)
        sweep_away(self.folder, self.parts)
        if not there:
            entries = {"hash": spec.hash, "spec": json.loads(spec.to_json()), **extra}
            with replacing(self.folder / SPEC) as temporary:
                temporary.write_text(json.dumps(entries, indent=2) + "\n")

    def check(self, spec: SweepSpec) -> None:
        """Raise ``ValueError`` if the folder holds anything but (the beginning of) this spec's results."""
        if (self.folder / SPEC).is_file():
            there = self._entries().get("hash", "unreadable")
            if there != spec.hash:
                raise ValueError(
                    f"store must be a new folder or hold the same spec, got {str(self.folder)!r} with the spec "
                    f"{str(there)[:12]} (wanted: {spec.hash[:12]}); choose another folder"
                )
        elif self.folder.is_dir() and any(not path.name.startswith(".") for path in self.folder.iterdir()):
            cure = "choose another folder"
            if self.parts.is_dir():
                cure = f"put {SPEC} back, or move {PARTS} into the store of a new run, which uses what fits"
            raise ValueError(
                f"store must be a new or empty folder, or one with a {SPEC}, got {str(self.folder)!r} with other "
                f"files; {cure}"
            )

    def spec(self) -> SweepSpec:
        """The specification that the store belongs to.

        Raises:
            ValueError: if the folder is no store.
        """
        if not (self.folder / SPEC).is_file():
            raise ValueError(
                f"store must be a folder with a {SPEC}, got {str(self.folder)!r}; make one with `stability run`"
            )
        try:
            return SweepSpec(**self._entries()["spec"])
        except KeyError:
            raise ValueError(f"{SPEC} of {str(self.folder)!r} must hold a spec, got none; it was changed") from None

    def entries(self) -> dict[str, Any]:
        """``spec.json``."""
        return self._entries()

    def there(self) -> set[str]:
        """Addresses of the parts in the folder."""
        return {path.stem for path in self.parts.glob(f"*{PART}") if not path.name.startswith(".")}

    def missing(self, chunks: Iterable[Chunk]) -> list[Chunk]:
        """Chunks without a part."""
        there = self.there()
        return [chunk for chunk in chunks if chunk.address not in there]

    def write(self, chunk: Chunk, table: "pa.Table", field: bytes | None = None) -> None:
        """One chunk's result, with its address inside; before it the field that it found, whose digest is inside too.

        Args:
            chunk: what was computed.
            table: its rows.
            field: an npz file as bytes.
        """
        import pyarrow.parquet as pq

        own = {"address": chunk.address, "cells": str(chunk.cells)}
        if field is not None:
            own["field_sha256"] = hashlib.sha256(field).hexdigest()
            with replacing(self.folder / field_file(chunk)) as temporary:
                temporary.write_bytes(field)
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), **own})
        with replacing(self._path(chunk)) as temporary:
            pq.write_table(table, temporary, write_page_checksum=True, write_statistics=False)

    def read(self, chunk: Chunk) -> "pa.Table":
        """One chunk's result.

        Raises:
            TornPartError: if the file, or its field's, is damaged or was written for another chunk.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self._path(chunk)
        try:
            table = pq.ParquetFile(path, page_checksum_verification=True).read()
        except (OSError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())[:80]
            raise TornPartError(f"part {path.name} must be a whole parquet file, got a torn one ({reason})") from None
        written = (table.schema.metadata or {}).get(b"address", b"").decode()
        if written != chunk.address:
            raise TornPartError(f"part {path.name} must hold the chunk of its name, got {written[:12] or 'no address'}")
        if chunk.search:
            self._check_field(chunk, (table.schema.metadata or {}).get(b"field_sha256", b"").decode())
        return table

    def _check_field(self, chunk: Chunk, digest: str) -> None:
        path = self.folder / field_file(chunk)
        found = file_digest(path) if path.is_file() else "none"
        if found != digest:
            raise TornPartError(f"field {path.name} must be the one that its part was measured with, got {found[:12]}")

    def discard(self, chunk: Chunk) -> None:
        """Remove a part, so that it is computed again."""
        self._path(chunk).unlink(missing_ok=True)
        (self.folder / field_file(chunk)).unlink(missing_ok=True)

    def state(self, address: str) -> Path:
        """Where a learnt model is kept."""
        return self.parts / f"{address}{STATE}"

    def state_fault(self, address: str) -> str:
        """What is wrong with a learnt model in the folder; "" if it is whole."""
        from safetensors import SafetensorError, safe_open

        path = self.state(address)
        try:
            with safe_open(path, framework="np") as file:
                written, names = file.metadata() or {}, list(file.keys())
                found = state_digest({name: file.get_tensor(name) for name in names})
        except (OSError, SafetensorError) as error:
            return f"model {path.name} must be a whole safetensors file, got a torn one ({error})"
        if (written.get("address"), written.get("sha256")) != (address, found):
            return f"model {path.name} must hold what was learnt for its name, got other numbers"
        return ""

    @property
    def table_is_whole(self) -> bool:
        """Whether the whole table is there as it was written."""
        try:
            written = json.loads((self.folder / RUN).read_text()).get("rows_sha256")
            return bool(written == file_digest(self.folder / ROWS))
        except (OSError, ValueError, AttributeError):
            return False

    def strangers(self, cut: Cut) -> list[str]:
        """Parts that belong to no chunk: written by another version of the code."""
        return sorted(self.there() - {chunk.address for chunk in cut.chunks})

    @contextlib.contextmanager
    def replacing_state(self, address: str) -> Iterator[Path]:
        """A temporary path that takes the place of a learnt model if the block succeeds."""
        with replacing(self.state(address)) as temporary:
            yield temporary

    @contextlib.contextmanager
    def replacing(self, name: str) -> Iterator[Path]:
        """A temporary path beside the file ``name`` that takes its place if the block succeeds."""
        with replacing(self.folder / name) as temporary:
            yield temporary

    @property
    def begun(self) -> bool:
        """Whether a run has written into the store."""
        return (self.folder / SPEC).is_file()

    @property
    def finished(self) -> bool:
        """Whether the whole table has been written."""
        return (self.folder / ROWS).is_file() and (self.folder / RUN).is_file()

    def _path(self, chunk: Chunk) -> Path:
        return self.parts / f"{chunk.address}{PART}"

    def _entries(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.folder / SPEC).read_text()))
        except (OSError, ValueError, TypeError):
            return {"hash": "unreadable"}
