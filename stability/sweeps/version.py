"""The version of the code that computes a cell, part of the address of every result."""

import ast
import functools
import hashlib
import inspect
from collections.abc import Iterator
from pathlib import Path

from stability import plugins

PACKAGE = Path(__file__).resolve().parents[1]
COUNTS = (
    "grid.py", "kernels.py", "activations.py", "front_ends.py", "boundaries.py", "architecture.py", "allowances.py",
    "ladders.py", "training.py", "images", "deformations", "operators", "warps", "representations", "bounds",
    "sweeps/build.py", "sweeps/cells.py", "sweeps/columns.py", "sweeps/fitting.py",
)  # fmt: skip
"""Files and folders of the package on which a number in a row depends."""


@functools.cache
def code_version() -> str:
    """SHA-256 of the syntax trees of everything that a cell's numbers depend on: comments and docstrings do not count.

    >>> len(code_version())
    64
    """
    digest = hashlib.sha256()
    for path in _files():
        digest.update(str(path.relative_to(PACKAGE)).encode())
        _feed(digest, ast.parse(path.read_text(encoding="utf-8")))
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


def _files() -> Iterator[Path]:
    for name in COUNTS:
        path = PACKAGE / name
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]


def _feed(digest: "hashlib._Hash", node: object) -> None:
    """A node's type and its fields in order, without what is empty: the same for every version of Python."""
    if isinstance(node, ast.AST):
        digest.update(type(node).__name__.encode())
        for name in node._fields:
            value = getattr(node, name, None)
            if name == "body" and isinstance(value, list) and value and _is_docstring(value[0]):
                value = value[1:]
            if value is not None and value != []:
                digest.update(b"." + name.encode())
                _feed(digest, value)
    elif isinstance(node, list):
        digest.update(b"[")
        for item in node:
            _feed(digest, item)
        digest.update(b"]")
    else:
        digest.update(repr(node).encode())


def _is_docstring(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
