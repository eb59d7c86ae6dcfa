"""Pickles of plain data and byte arrays, such as CIFAR's: nothing that a file names is imported or called.

A pickle is a program. This reader knows six names, which old and new versions of numpy write for an array of bytes,
and puts harmless stand-ins in their place; any other name is refused.
"""

import io
import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray


class _Bytes:
    """Stands for ``numpy.ndarray``: made empty, then given (version, shape, dtype, Fortran order, bytes)."""

    array: NDArray[np.uint8]

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, raw = state
        if not isinstance(kind, _Kind) or kind.name not in ("u1", "|u1", "uint8"):
            raise pickle.UnpicklingError("an array of something else than bytes")
        data = raw if isinstance(raw, bytes) else str(raw).encode("latin1")
        self.array = np.frombuffer(data, dtype=np.uint8).reshape(shape, order="F" if fortran else "C")


class _Kind:
    """Stands for ``numpy.dtype``."""

    def __init__(self, name: Any = "", *_: Any) -> None:
        self.name = name.decode("latin1") if isinstance(name, bytes) else name

    def __setstate__(self, state: Any) -> None:
        """Byte order and fields mean nothing for bytes."""


def _reconstruct(*_: Any) -> _Bytes:
    return _Bytes()


def _from_buffer(raw: Any, kind: Any, shape: Any, order: Any = "C") -> _Bytes:
    found = _Bytes()
    found.__setstate__((1, shape, kind, order == "F", bytes(raw)))
    return found


def _encode(text: Any, *_: Any) -> bytes:
    """Bytes as Python 3 writes them in old protocols: text in latin1."""
    return str(text).encode("latin1")


KNOWN: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("numpy", "ndarray"): _Bytes,
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _encode,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """One of ``KNOWN``."""
        if (module, name) not in KNOWN:
            raise pickle.UnpicklingError(f"the name {module}.{name}, which pictures do not need")
        return KNOWN[module, name]


def read_pickle(name: str, data: bytes) -> dict[str, Any]:
    """The dictionary that a pickle holds, byte arrays as numpy arrays, keys as text.

    Args:
        name: of the file, for messages.
        data: its contents.

    Raises:
        ValueError: if it is torn, names anything but arrays of bytes, or holds no dictionary.

    >>> import pickle
    >>> read_pickle("batch", pickle.dumps({b"data": np.zeros((1, 2), np.uint8), b"labels": [3]}, protocol=2))["data"]
    array([[0, 0]], dtype=uint8)
    """
    try:
        found = _Reader(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # a torn pickle fails in any way
        raise ValueError(f"{name} must be a whole pickle of plain data, got {error}; download it again") from None
    if not isinstance(found, dict):
        raise ValueError(f"{name} must hold a dictionary, got {type(found).__name__}; check the file")
    return {
        key.decode("latin1") if isinstance(key, bytes) else str(key): getattr(value, "array", value)
        for key, value in found.items()
    }
