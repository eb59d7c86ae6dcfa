"""Fields as a dictionary of tensors with one row per sample, and back: what parameters of a container can be.

Containers copy parameters, repeat them, and pick the rows of single samples; so every tensor has the batch as its first
axis, also those that all fields share (expanded, without a copy) and the text that says what they belong to.
"""

import importlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from stability.deformations.base import Deformation
from stability.deformations.family import Family, Plain
from stability.deformations.files import Kept

PREFIX = "field"
"""What the names of the tensors begin with."""


def packed(field: Deformation) -> dict[str, Tensor]:
    """The tensors of fields ``(B,)`` and the text of their header, ``(B, ...)`` each.

    Raises:
        ValueError: if the batch is no row, or a field does not say what it is made of.

    >>> from stability.deformations.translation import Translation
    >>> rows = packed(Translation(torch.tensor([[3.0, 0.0], [0.0, 1.0]])))
    >>> unpacked({name: value[1:] for name, value in rows.items()}).mean
    tensor([[0., 1.]])
    """
    if len(field.batch_shape) != 1:
        raise ValueError(f"fields must be a row of samples, got batch shape {tuple(field.batch_shape)}; use flat()")
    count = field.batch_shape[0]
    rows: dict[str, Tensor] = {}
    text = json.dumps(_node(field, PREFIX, count, rows)).encode()
    rows[PREFIX] = torch.tensor(list(text), dtype=torch.uint8).expand(count, -1)
    return rows


def unpacked(rows: Mapping[str, Tensor]) -> Deformation:
    """The fields whose rows these are, at least one; other entries of the dictionary are left alone.

    Raises:
        ValueError: if there is no header.
    """
    if PREFIX not in rows or not len(rows[PREFIX]):
        raise ValueError("parameters must hold at least one field, got none; draw them by forward_parameters")
    return _built(json.loads(bytes(rows[PREFIX][0].tolist())), PREFIX, rows)


def _node(field: Deformation, place: str, count: int, rows: dict[str, Tensor]) -> dict[str, Any]:
    """The header of a field; its tensors become rows under their places."""
    if not isinstance(field, Kept):
        raise ValueError(
            f"fields must say what they are made of by state(), got {type(field).__name__}; derive it from Family"
        )
    contents, settings = field.state()
    kind = type(field)
    node: dict[str, Any] = {
        "module": kind.__module__, "name": kind.__qualname__, "settings": dict(settings), "own": [], "shared": [],
        "parts": {},
    }  # fmt: skip
    for key, value in contents.items():
        here = f"{place}/{key}"
        if isinstance(value, Tensor):
            own = _has_rows(field, key, value, count)
            node["own" if own else "shared"].append(key)
            rows[here] = value.detach() if own else value.detach().expand(count, *value.shape)
        elif isinstance(value, Deformation):
            node["parts"][key] = _node(value, here, count, rows)
        else:
            node["parts"][key] = [_node(part, f"{here}/{i}", count, rows) for i, part in enumerate(value)]
    return node


def _has_rows(field: Deformation, key: str, value: Tensor, count: int) -> bool:
    """Whether the tensor has a row for each sample; parts of a compound may have none."""
    batch = tuple(field.batch_shape)
    if batch not in ((count,), ()):
        raise ValueError(f"parts of a field must have batch ({count},) or (), got {batch}; expand them")
    if isinstance(field, Family):
        return key in field.AXES and batch == (count,)
    return tuple(value.shape[:1]) == (count,)


def _built(node: Mapping[str, Any], place: str, rows: Mapping[str, Tensor]) -> Deformation:
    """The field of a node."""
    arguments: dict[str, Any] = {key: _plain(value) for key, value in node["settings"].items()}
    arguments |= {key: rows[f"{place}/{key}"] for key in node["own"]}
    arguments |= {key: rows[f"{place}/{key}"][0] for key in node["shared"]}
    for key, part in node["parts"].items():
        here = f"{place}/{key}"
        if isinstance(part, list):
            arguments[key] = [_built(one, f"{here}/{i}", rows) for i, one in enumerate(part)]
        else:
            arguments[key] = _built(part, here, rows)
    return _family(node["module"], node["name"])(**arguments)


def _family(module: str, name: str) -> type[Deformation]:
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        if part == "<locals>":
            raise ValueError(f"families must be defined at the top of a module, got {name}; move the class there")
        found = getattr(found, part)
    if not isinstance(found, type) or not issubclass(found, Deformation):
        raise ValueError(f"parameters must name a family of fields, got {module}.{name}; draw them anew")
    return found


def _plain(value: Any) -> Plain:
    """Lists as the tuples that they were."""
    return tuple(map(_plain, value)) if isinstance(value, list) else value
