"""Kernels and front ends as plain data: ``kind`` and fields, or ``class_path`` and ``init_args`` of the user's own."""

import dataclasses
import importlib
import sys
from collections.abc import Mapping
from typing import Any

from stability import activations, front_ends, kernels, plugins
from stability.boundaries import NetworkBoundary, Periodic, Zero
from stability.names import resolve, unknown

KERNELS: dict[str, type[kernels.Kernel]] = {
    "exponential": kernels.Exponential,
    "inverse_polynomial": kernels.InversePolynomial,
    "polynomial": kernels.Polynomial,
    "arc_cosine": kernels.ArcCosine,
    "linear": kernels.Linear,
    "leaky_relu": kernels.LeakyReLU,
    "erf": kernels.Erf,
    "gelu": kernels.GELU,
    "cosine": kernels.Cosine,
    "sign": kernels.Sign,
    "from_activation": kernels.FromActivation,
}
FRONT_ENDS: dict[str, type[front_ends.FrontEnd]] = {
    "mean_removal": front_ends.MeanRemoval,
    "gradient": front_ends.Gradient,
    "whitening": front_ends.Whitening,
}
BOUNDARIES: dict[str, type] = {"periodic": Periodic, "zero": Zero}
TABLES: dict[str, dict[str, type]] = {"kernel": KERNELS, "front_end": FRONT_ENDS, "boundary": BOUNDARIES}
"""The kinds of the fields that hold an object."""


def plain(value: Any) -> dict[str, Any]:
    """A kernel, front end or boundary as data: ``kind`` and fields; the user's own: ``class_path``, ``init_args``."""
    names = {kind: name for table in TABLES.values() for name, kind in table.items()}
    fields = {field.name: _plain_field(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if type(value) in names:
        return {"kind": names[type(value)], **fields}
    return {"class_path": f"{type(value).__module__}.{type(value).__qualname__}", "init_args": fields}


def _plain_field(value: Any) -> Any:
    """A field as data: functions by the name under which they can be imported, tuples as lists."""
    if isinstance(value, activations.Activation):
        return plain(value)
    if callable(value) and not isinstance(value, type):
        return function_path(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return list(value) if isinstance(value, tuple) else value


def function_path(function: Any) -> str:
    """``package.module.function``, under which a function can be imported.

    Raises:
        ValueError: for a lambda, a module with weights or another object without such a name.

    >>> function_path(describe)
    'stability.plain_data.describe'
    """
    name = getattr(function, "__qualname__", "").rpartition(".")[2]
    for module in ("torch", "torch.nn.functional", "torch.special", getattr(function, "__module__", None)):
        if name and module in sys.modules and getattr(sys.modules[module], name, None) is function:
            return f"{module}.{name}"
    raise ValueError(
        f"activation must be a function of a module or an Activation where it is written to a file, got {function!r}; "
        "define it by def at the top of a module"
    )


def load_function(path: Any) -> Any:
    """The function at ``package.module.function``, or the activation that ``class_path`` and ``init_args`` describe.

    Raises:
        ValueError: if there is none.

    >>> load_function("stability.plain_data.describe") is describe
    True
    """
    if isinstance(path, Mapping):
        return plugins.build(path, activations.Activation)
    if not isinstance(path, str):
        return path
    name, _, attribute = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"activation must be package.module.function, got {path!r} ({error}); use for example torch.tanh"
        ) from None
    return found


def describe(value: kernels.Kernel | front_ends.FrontEnd | NetworkBoundary) -> str:
    """A kernel, front end or boundary in one word, with the parameters that are not the default ones.

    >>> describe(kernels.Exponential()), describe(kernels.Exponential(4)), describe(kernels.ArcCosine(degree=0))
    ('exponential', 'exponential(alpha=4)', 'arc_cosine(degree=0)')
    """
    data = plain(value)
    kind = data.pop("kind", type(value).__name__)
    usual = {
        field.name: None if field.default is dataclasses.MISSING else _plain_field(field.default)
        for field in dataclasses.fields(value)
    }
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
    if kind is kernels.FromActivation:
        if "activation" not in values:
            raise ValueError(f"the {what} must have a key 'activation', got {data!r}; use for example torch.tanh")
        values["activation"] = load_function(values["activation"])
    return kind(**values)


def from_plain(name: str, value: Any) -> Any:
    """The kernel, front end or boundary that plain data under the field ``name`` stands for; others pass through."""
    if isinstance(value, Mapping | str) and name in TABLES:
        return build(name, value, TABLES[name])
    return value
