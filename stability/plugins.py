"""The user's own classes: named by ``class_path``, or by the name under which a package registers them.

Entry points: a package that declares, say, ``[project.entry-points."stability.kernels"] gauss = "mine:Gauss"`` makes
``kind: gauss`` mean ``class_path: mine.Gauss``.
"""

import difflib
import importlib
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any

from stability.names import unknown

DEFORMATIONS, REPRESENTATIONS, KERNELS = (
    "stability.deformations", "stability.representations", "stability.kernels",
)  # fmt: skip
CLASS_KEYS = ("class_path", "init_args")


def registered(group: str) -> dict[str, str]:
    """Name -> class path of every class that installed packages register under a group.

    Args:
        group: one of ``DEFORMATIONS``, ``REPRESENTATIONS``, ``KERNELS``.
    """
    return {point.name: point.value.replace(":", ".") for point in metadata.entry_points(group=group)}


def as_class_path(data: Any, group: str, known: Iterable[str], settings: Iterable[str] = ()) -> Any:
    """Plain data with a registered ``kind`` as ``class_path`` and ``init_args``; other data as they are.

    Args:
        data: what stands in a specification.
        group: where the kind may be registered.
        known: the kinds of this package: no registered class takes their place.
        settings: keys that are not arguments of the class and stay beside ``class_path``.
    """
    if not isinstance(data, Mapping) or data.get("kind") in (None, *known) or "class_path" in data:
        return data
    paths = registered(group)
    if data["kind"] not in paths:
        return data
    rest = {key: value for key, value in data.items() if key != "kind"}
    beside = {key: rest.pop(key) for key in list(rest) if key in settings}
    return {"class_path": paths[data["kind"]], "init_args": rest.pop("init_args", {}) | rest, **beside}


def load_class(path: str) -> type:
    """The class at ``package.module.Class``.

    Raises:
        ValueError: if there is no such module or class; the nearest class of the module is named.

    >>> load_class("stability.kernels.Linear").__name__
    'Linear'
    """
    name, _, attribute = path.rpartition(".") if isinstance(path, str) else ("", "", "")
    if not name:
        raise ValueError(f"class_path must be package.module.Class, got {path!r}; use for example my_module.MyKernel")
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"class_path must name a module that can be imported, got {path!r} ({error}); install it or run beside it"
        ) from None
    found = getattr(module, attribute, None)
    if not isinstance(found, type):
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        nearest = difflib.get_close_matches(attribute, classes, n=1, cutoff=0.4)
        advice = f"did you mean {nearest[0]!r}?" if nearest else "look at what the module defines"
        raise ValueError(f"class_path must name a class of {name}, got {attribute!r}; {advice}")
    return found


def build(data: Mapping[str, Any], base: type, **more: Any) -> Any:
    """An instance of the class that ``class_path`` names.

    Args:
        data: ``class_path`` and, if the class takes arguments, ``init_args``.
        base: what the class must be a subclass of.
        more: arguments that are added to ``init_args``.

    Raises:
        ValueError: for another key, a class of another kind, or arguments that the class refuses.
    """
    for key in data:
        if key not in CLASS_KEYS:
            raise ValueError(unknown("a key beside class_path", key, CLASS_KEYS))
    kind = load_class(data["class_path"])
    arguments = data.get("init_args") or {}
    if not issubclass(kind, base):
        raise ValueError(
            f"class_path must name a {base.__name__}, got {data['class_path']!r}; subclass {base.__name__}"
        )
    if not isinstance(arguments, Mapping):
        raise ValueError(f"init_args must be a mapping, got {arguments!r}; give the arguments by name")
    try:
        return kind(**arguments, **more)
    except TypeError as error:
        raise ValueError(
            f"init_args of {data['class_path']} must fit its arguments: {error}; see its docstring"
        ) from None
