"""Kernels and front ends as plain data: ``kind`` and fields, or ``class_path`` and ``init_args`` of the user's own."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from stability import front_ends, kernels, plugins
from stability.names import resolve, unknown

KERNELS: dict[str, type[kernels.Kernel]] = {
    "exponential": kernels.Exponential,
    "inverse_polynomial": kernels.InversePolynomial,
    "polynomial": kernels.Polynomial,
    "arc_cosine": kernels.ArcCosine,
    "linear": kernels.Linear,
}
FRONT_ENDS: dict[str, type[front_ends.FrontEnd]] = {"mean_removal": front_ends.MeanRemoval}


def plain(value: Any) -> dict[str, Any]:
    """A kernel or a front end as data: its ``kind`` and its fields; the user's own as ``class_path``, ``init_args``."""
    names = {kind: name for table in (KERNELS, FRONT_ENDS) for name, kind in table.items()}
    fields = dataclasses.asdict(value)
    if type(value) in names:
        return {"kind": names[type(value)], **fields}
    return {"class_path": f"{type(value).__module__}.{type(value).__qualname__}", "init_args": fields}


def describe(value: kernels.Kernel | front_ends.FrontEnd) -> str:
    """A kernel or front end in one word, with the parameters that are not the default ones.

    >>> describe(kernels.Exponential()), describe(kernels.Exponential(4)), describe(kernels.ArcCosine(degree=0))
    ('exponential', 'exponential(alpha=4)', 'arc_cosine(degree=0)')
    """
    data = plain(value)
    kind = data.pop("kind", type(value).__name__)
    usual = {field.name: field.default for field in dataclasses.fields(value)}
    data = data.get("init_args", data)
    changed = [f"{name}={_short(number)}" for name, number in data.items() if number != usual[name]]
    return f"{kind}({', '.join(changed)})" if changed else str(kind)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def check_keys(what: str, data: Mapping[str, Any], known: list[str]) -> None:
    """Raise ``ValueError`` for a key that is not known; the nearest is named."""
    for key in data:
        if key not in known:
            raise ValueError(unknown(f"a key of the {what}", key, known))


def build(what: str, data: Any, table: Mapping[str, type]) -> Any:
    """An instance of the class that ``data`` names; instances pass through."""
    if isinstance(data, (*table.values(), kernels.Kernel)):
        return data
    if table is KERNELS:
        data = plugins.as_class_path(data, plugins.KERNELS, table)
        if isinstance(data, Mapping) and "class_path" in data:
            return plugins.build(data, kernels.Kernel)
    if not isinstance(data, Mapping) or "kind" not in data:
        raise ValueError(f"{what} must be a mapping with a key 'kind', got {data!r}; known kinds: {', '.join(table)}")
    values = dict(data)
    kind = resolve(f"the kind of the {what}", values.pop("kind"), table)
    check_keys(what, values, [field.name for field in dataclasses.fields(kind)])
    return kind(**values)


def from_plain(name: str, value: Any) -> Any:
    """The kernel or front end that plain data under the field ``name`` stands for; other values pass through."""
    if isinstance(value, Mapping | str) and name in ("kernel", "front_end"):
        return build(name, value, KERNELS if name == "kernel" else FRONT_ENDS)
    return value
