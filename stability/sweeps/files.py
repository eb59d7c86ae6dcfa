"""A ``SweepSpec`` from a file and from settings ``a.b value``: the same data as in Python."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from stability.names import unknown
from stability.sweeps.spec import SweepSpec

VARY, SEARCH = "vary", "search"


def setting_names() -> list[str]:
    """The keys that a setting may begin with: those of a specification."""
    return list(SweepSpec.model_fields)


def read_spec(path: str | None, settings: Sequence[tuple[str, str]] = ()) -> SweepSpec:
    """The specification of a JSON or YAML file, changed by settings.

    Args:
        path: the file; None: only the settings.
        settings: dotted path and value as text, for example ``("images.count", "4")``; the value is read as YAML.

    Raises:
        ValueError: one line about a file, a path or a value that is wrong.

    >>> read_spec(None, [("deformations", "[{kind: translation, displacement_norm: 1}]"), ("fields", "3")]).fields
    3
    """
    data = {} if path is None else _read(Path(path))
    _check_keys(data)
    for name, text in settings:
        _set(data, name, _value(name, text))
    return SweepSpec(**data)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"spec must be a JSON or YAML file, got {str(path)!r}, which is none; check the path")
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix == ".json" else yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"spec must be valid {path.suffix[1:] or 'YAML'}, got {path.name}: {error}; mend it") from None
    if not isinstance(data, dict):
        raise ValueError(f"spec must be a mapping of keys, got {type(data).__name__} in {path.name}; see docs/spec.md")
    return data


class _Loader(yaml.SafeLoader):
    """A key that is there twice is a slip: YAML would drop the first one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping, if its keys differ."""
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for i, key in enumerate(keys):
            if key in keys[:i]:
                raise yaml.YAMLError(f"the key {key!r} twice in line {node.value[i][0].start_mark.line + 1}")
        return super().construct_mapping(node, deep)


def _value(name: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ValueError(f"the value of --{name} must be YAML, got {text!r}; quote it, for example '[1, 2]'") from None


def _set(data: dict[str, Any], name: str, value: Any) -> None:
    """One value deep inside plain data; what is left out there is taken from the defaults."""
    head, _, rest = name.partition(".")
    if head not in SweepSpec.model_fields:
        raise ValueError(unknown("a key of SweepSpec", head, SweepSpec.model_fields))
    if not rest:
        data[head] = value
        return
    if head not in data:
        default = SweepSpec.model_fields[head].default
        if head == VARY or default is None:
            data[head] = {}
        else:
            data[head] = SweepSpec.model_construct(**{head: default}).model_dump(mode="json")[head]
    if head == SEARCH and not data[head]:
        data[head] = {}  # one search may be given without its list
    if head == VARY:
        data[VARY] = dict(data[VARY]) | {rest: value}
        return
    owner, steps = data[head], rest.split(".")
    for step in steps[:-1]:
        owner = _child(owner, step, name)
    last = steps[-1]
    if isinstance(owner, list):
        _child(owner, last, name)  # there must be such an entry
        owner[int(last)] = value
    elif isinstance(owner, dict):
        owner[last] = value
    else:
        raise ValueError(f"--{name} must lead to a key, got a plain value at {last!r}; see docs/spec.md")


def _child(owner: Any, step: str, name: str) -> Any:
    if isinstance(owner, list):
        try:
            return owner[int(step)]
        except (ValueError, IndexError):
            raise ValueError(
                f"--{name} must name an entry from 0 to {len(owner) - 1} (or {-len(owner)} to -1), got {step!r}"
            ) from None
    if isinstance(owner, dict):
        return owner.setdefault(step, {})
    raise ValueError(f"--{name} must lead to a key, got a plain value before {step!r}; see docs/spec.md")


def _check_keys(data: object) -> None:
    """Keys of a specification are names: YAML also reads numbers as keys."""
    if isinstance(data, dict):
        for key, value in data.items():
            if not isinstance(key, str):
                raise ValueError(f"a key of the spec must be a name, got {key!r}; see docs/spec.md")
            _check_keys(value)
    elif isinstance(data, list):
        for value in data:
            _check_keys(value)
