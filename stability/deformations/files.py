"""Fields in files: tensors as they are, and a JSON header that says what they belong to. Nothing in a file is executed.

Schema, version 1: the header is ``{"format": "stability-deformation", "version": 1, **node}``,

    node = {"family": name, "settings": {name: plain value},
            "tensors": {name: {"dtype": "float64", "shape": [4, 2]}}, "parts": {name: node or [node, ...]}}.

The tensor ``name`` of a node is the entry "tensors/name" of the file, with the names and numbers of the parts that lead
to the node before it: "tensors/inner/cosine", "tensors/parts/0/vector". An npz file holds the header as the text
"header" beside its arrays, a safetensors file as the metadata "header". Settings, tensors and parts are the keyword
arguments of the family's constructor, as ``Family.state`` gives them; norms are computed again when they are read.
"""

import importlib
import io
import json
import os
import threading
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from stability.deformations.base import Deformation
from stability.deformations.family import Plain, State
from stability.names import resolve

FORMAT = "stability-deformation"
VERSION = 1
FAMILIES: Mapping[str, str] = {
    name: f"stability.deformations.{module}"
    for name, module in {
        "AffineField": "affine",
        "BumpField": "bump",
        "CompactField": "compact",
        "Composition": "composition",
        "DivergenceFreeField": "divergence_free",
        "FlowField": "flow",
        "FourierField": "fourier",
        "FourierSeries": "series",
        "GaussianField": "gaussian",
        "GradientField": "gradient",
        "Inverse": "inverse_field",
        "LocalAffineField": "local_affine",
        "MaxEntropyField": "max_entropy",
        "MixedField": "mixed",
        "PiecewiseLinearField": "piecewise_linear",
        "SplineField": "bspline",
        "Sum": "sum",
        "ThinPlateField": "thin_plate",
        "Translation": "translation",
    }.items()
}
"""Every family that a file may name, and its module."""

_DAMAGE = (
    OSError, EOFError, ValueError, TypeError, KeyError, IndexError, RuntimeError, OverflowError, MemoryError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What readers and constructors raise for bytes that are not what ``save`` wrote."""


@runtime_checkable
class Kept(Protocol):
    """A field that says what it is made of."""

    def state(self) -> State:
        """Keyword arguments of the constructor: tensors and fields, and plain settings."""
        ...


class Format(NamedTuple):
    """How header and tensors become bytes, and how they are read from a file."""

    pack: Callable[[str, Mapping[str, Tensor]], bytes]
    unpack: Callable[[Path], tuple[str, dict[str, Tensor]]]


def save(field: Deformation, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a batch of fields to one file; ``load_deformation`` gives the same fields, bit for bit.

    (Thin-plate splines are solved again from their control points: the same up to round-off.) Tensors keep their type;
    their device and gradients are not kept, nor is the solver of an inverse. The file appears when it is complete.

    Args:
        field: of a family in ``FAMILIES``; sums and other compounds of such fields too.
        path: ends in .npz (numpy) or .safetensors; its folder exists.
        overwrite: whether a file that is there may be replaced.

    Returns:
        The path.

    Raises:
        ValueError: for another suffix, a missing folder, an existing file, a family that is not in the list, or a type
            of numbers that the format does not have.

    >>> import tempfile
    >>> from stability.deformations.translation import Translation
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     load_deformation(save(Translation((3.0, 0.0)), folder + "/shift.npz")).mean
    tensor([3., 0.], dtype=torch.float64)
    """
    path = Path(path)
    form = _format(path)
    if not path.parent.is_dir():
        raise ValueError(f"path must be in a folder that exists, got {str(path)!r}; make the folder first")
    if path.is_dir() or (path.exists() and not overwrite):
        raise _taken(path)
    tensors: dict[str, Tensor] = {}
    header = {"format": FORMAT, "version": VERSION, **_node(field, ("tensors",), tensors)}
    try:
        content = form.pack(json.dumps(header), tensors)
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(
            f"tensors and settings must be such that {path.suffix} files can hold them, got {error}; "
            "use .safetensors, or field.to(dtype=torch.float64)"
        ) from None
    _put(content, path, overwrite)
    return path


def load_deformation(path: str | Path, *, device: torch.device | str | None = None) -> Deformation:
    """The fields that ``save`` wrote.

    Args:
        path: of a .npz or .safetensors file.
        device: where the fields are put, by default the CPU.

    Returns:
        A field of the family that was saved, with its batch and type.

    Raises:
        ValueError: if the file is missing, torn, foreign or of a later version, names an unknown family, or its tensors
            are not those of the family.
    """
    path = Path(path)
    form = _format(path)
    if not path.is_file():
        raise ValueError(f"path must be a file, got {str(path)!r}; write one by field.save(path)")
    from safetensors import SafetensorError

    try:
        text, tensors = form.unpack(path)
        header = json.loads(text)
    except (*_DAMAGE, SafetensorError) as error:
        raise _foreign(path, error) from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise _foreign(path, f"its header lacks the format {FORMAT!r}")
    if header.get("version") != VERSION:
        raise ValueError(
            f"version of {str(path)!r} must be {VERSION}, got {header.get('version')!r:.20}; "
            "read it with the version of this package that wrote it"
        )
    try:
        field = _built(header, ("tensors",), tensors)
        field.batch_shape, field.size  # noqa: B018  # what a part cannot say, its whole cannot either
    except _DAMAGE as error:
        raise _foreign(path, error) from None
    if tensors:
        raise _foreign(path, f"nothing in the header names the tensors {', '.join(sorted(tensors))}")
    return field if device is None else field.to(device=device)


def _node(field: Deformation, place: tuple[str, ...], tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The header of a field; its tensors are put under their places."""
    name = type(field).__name__
    if not isinstance(field, Kept) or name not in FAMILIES or _family(name) is not type(field):
        raise ValueError(f"field must be of a family that files know, got {name}; use one of {', '.join(FAMILIES)}")
    contents, settings = field.state()
    node: dict[str, Any] = {"family": name, "settings": dict(settings), "tensors": {}, "parts": {}}
    for key, value in contents.items():
        here = (*place, key)
        if isinstance(value, Tensor):
            tensors["/".join(here)] = value.detach().cpu().contiguous().clone()
            node["tensors"][key] = _description(value)
        elif isinstance(value, Deformation):
            node["parts"][key] = _node(value, here, tensors)
        else:
            node["parts"][key] = [_node(part, (*here, str(i)), tensors) for i, part in enumerate(value)]
    return node


def _built(node: Any, place: tuple[str, ...], tensors: dict[str, Tensor]) -> Deformation:
    """The field of a node; the tensors that it uses are taken out."""
    if not isinstance(node, dict) or not isinstance(node.get("family"), str):
        raise ValueError(f"a field must have a family, got {node!r:.60}")
    cls = _family(node["family"])
    arguments: dict[str, Any] = {key: _plain(value) for key, value in _mapping(node, "settings").items()}
    for key, expected in _mapping(node, "tensors").items():
        name = "/".join((*place, key))
        if name not in tensors:
            raise ValueError(f"the tensor {name} is missing")
        arguments[key] = tensors.pop(name)
        if _description(arguments[key]) != expected:
            raise ValueError(f"{name} must be {expected}, got {_description(arguments[key])}")
    for key, part in _mapping(node, "parts").items():
        here = (*place, key)
        if isinstance(part, list):
            arguments[key] = [_built(one, (*here, str(i)), tensors) for i, one in enumerate(part)]
        else:
            arguments[key] = _built(part, here, tensors)
    return cls(**arguments)


def _mapping(node: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = node.get(name)
    if not isinstance(value, dict):
        raise ValueError(f"the header of {node['family']} must have {name}, got {value!r:.60}")
    return value


def _plain(value: Any) -> Plain:
    """Lists as the tuples that they were."""
    if isinstance(value, list):
        return tuple(map(_plain, value))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"a setting must be plain, got {value!r:.60}")


def _description(tensor: Tensor) -> dict[str, Any]:
    return {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape)}


def _family(name: str) -> Callable[..., Deformation]:
    module = resolve("family", name, FAMILIES)
    return getattr(importlib.import_module(module), name)


def _format(path: Path) -> Format:
    return resolve("suffix of path", path.suffix.lower(), _FORMATS)


def _pack_npz(header: str, tensors: Mapping[str, Tensor]) -> bytes:
    stream = io.BytesIO()
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in tensors.items()}
    np.savez(stream, header=np.array(header), **arrays)
    return stream.getvalue()


def _unpack_npz(path: Path) -> tuple[str, dict[str, Tensor]]:
    if not zipfile.is_zipfile(path):
        raise ValueError("no npz file, or a torn one")
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        header = str(arrays["header"].item())
        return header, {name: torch.from_numpy(arrays[name]) for name in arrays.files if name != "header"}


def _pack_safetensors(header: str, tensors: Mapping[str, Tensor]) -> bytes:
    from safetensors.torch import save as packed

    return packed(dict(tensors), metadata={"header": header})


def _unpack_safetensors(path: Path) -> tuple[str, dict[str, Tensor]]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        names = file.keys()  # a list; the file itself is no mapping
        return (file.metadata() or {})["header"], {name: file.get_tensor(name).clone() for name in names}


_FORMATS: Mapping[str, Format] = {
    ".npz": Format(_pack_npz, _unpack_npz),
    ".safetensors": Format(_pack_safetensors, _unpack_safetensors),
}


def _put(content: bytes, path: Path, overwrite: bool) -> None:
    """The whole file under its name, or nothing: written beside it, then moved."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        temporary.write_bytes(content)
        if overwrite:
            temporary.replace(path)
            return
        try:
            os.link(temporary, path)  # refuses, unlike a move, if the name was taken meanwhile
        except FileExistsError:
            raise _taken(path) from None
        except OSError:  # a file system without hard links
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _taken(path: Path) -> ValueError:
    return ValueError(
        f"path must be a new file, got {str(path)!r}, which exists; pass overwrite=True to replace a file"
    )


def _foreign(path: Path, reason: object) -> ValueError:
    words = " ".join(str(reason).split()) or type(reason).__name__
    return ValueError(
        f"path must be a file of fields, got {str(path)!r} ({words}); write one by field.save(path, overwrite=True)"
    )
