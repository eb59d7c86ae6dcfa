"""The version of the code that computes a cell, part of the address of every result."""

import functools
import hashlib
import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType

from stability import plugins

PACKAGE = Path(__file__).resolve().parents[1]
COUNTS = (
    "grid.py", "kernels", "activations.py", "front_ends.py", "boundaries.py", "architecture.py", "allowances.py",
    "anchors.py", "ladders", "training", "images", "deformations", "operators", "warps", "representations", "bounds",
    "sweeps/build.py", "sweeps/cells.py", "sweeps/columns.py", "sweeps/fitting.py",
)  # fmt: skip
"""Files and folders of the package on which a number in a row depends."""
SEARCH = ("search", "sweeps/searching.py")
"""And those of a row whose field was searched for."""


@functools.cache
def code_version() -> str:
    """SHA-256 of the compiled code of everything that a cell's numbers depend on, without comments and docstrings.

    Compiled code is one version of Python's own: so are the parts of a store.

    >>> len(code_version())
    64
    """
    return _version(COUNTS)


@functools.cache
def search_version() -> str:
    """The same of the search alone: where nothing is searched, a change there changes no address."""
    return _version(SEARCH)


def _version(names: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for path in _files(names):
        digest.update(str(path.relative_to(PACKAGE)).encode())
        _feed(digest, compile(path.read_text(encoding="utf-8"), "", "exec", dont_inherit=True, optimize=2))
    return digest.hexdigest()


def class_version(path: str) -> str:
    """SHA-256 of the source file of a user's class; of its path alone where there is no source."""
    file = inspect.getsourcefile(plugins.load_class(path))
    return hashlib.sha256(Path(file).read_bytes() if file else path.encode()).hexdigest()


def file_version(path: str | Path) -> str:
    """SHA-256 of a file.

    Raises:
        ValueError: if it cannot be read.
    """
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise ValueError(f"checkpoint must be a file that can be read, got {str(path)!r} ({error.strerror})") from None


def _files(names: Sequence[str]) -> Iterator[Path]:
    for name in names:
        path = PACKAGE / name
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]


def _feed(digest: "hashlib._Hash", value: object) -> None:
    """A code object by what it does: instructions, constants and names, without files, lines and docstrings."""
    if isinstance(value, CodeType):
        digest.update(value.co_code + value.co_exceptiontable)
        digest.update(repr((value.co_name, value.co_names, value.co_varnames, value.co_freevars)).encode())
        digest.update(repr((value.co_argcount, value.co_kwonlyargcount, value.co_flags)).encode())
        _feed(digest, value.co_consts)
    elif isinstance(value, tuple | frozenset):
        parts = sorted(value, key=repr) if isinstance(value, frozenset) else value  # sets have no order of their own
        digest.update(f"{type(value).__name__} {len(value)}".encode())
        for part in parts:
            _feed(digest, part)
    else:
        digest.update(f"{type(value).__name__} {value!r};".encode())
