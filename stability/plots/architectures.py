"""Architectures in words, told apart by what varies between them. Plain data: the JSON of the column, no torch."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stability.plots.series import CONTROL, EXACT, KIND, SETTING

Data = Mapping[str, Any]


def settings(texts: Iterable[str], controls: Iterable[str] = ()) -> dict[str, str]:
    """Architecture as JSON -> the values in which it differs from the others; the front end does not count.

    Args:
        texts: cells of the column ``architecture``; "" for a module, which has none.
        controls: those of the linear control alone, whose kernel is linear whatever the others' is.

    Returns:
        The words of every text, ordered by what varies; "" where nothing does.

    >>> one, two = ({"layers": [{"patch_size": e, "pooling_scale": 2.0}]} for e in (1, 3))
    >>> list(settings([json.dumps(two), json.dumps(one)]).values())
    ['patches 1 px', 'patches 3 px']
    """
    parsed = {text: json.loads(text) for text in dict.fromkeys(texts) if text}
    plain = set(controls) if set(controls) < set(parsed) else set()
    same_below = len({json.dumps([len(_scales(d)), *_scales(d)[:-1]]) for d in parsed.values()}) < 2
    found = {text: _features(data, same_below) for text, data in parsed.items()}
    for text in plain:
        found[text]["kernels"] = ([], "")
    seen = {name: {found[text][name][1] for text in found if name != "kernels" or text not in plain} for name in ORDER}
    varied = [name for name in ORDER if len(seen[name]) > 1]
    keys = {text: [features[name][0] for name in varied] for text, features in found.items()}
    words = {
        text: ", ".join(word for name in varied if (word := found[text][name][1]))
        for text in sorted(found, key=keys.__getitem__)
    }
    return words | dict.fromkeys((text for text in texts if not text), "")


def with_settings(rows: pd.DataFrame) -> pd.DataFrame:
    """Complete rows with the column ``setting``: the varied values of the architecture in words."""
    words = settings(rows["architecture"].unique(), controls(rows))
    return rows.assign(**{SETTING: rows["architecture"].map(words)})


def setting_words(rows: pd.DataFrame) -> list[str]:
    """The varied values of a table in their own order, without those of the control alone; [""] if nothing varies."""
    alone = controls(rows)
    words = settings(rows["architecture"].unique(), alone)
    return list(dict.fromkeys(word for text, word in words.items() if word and text not in alone)) or [""]


def controls(rows: pd.DataFrame) -> set[str]:
    """The architectures that only the linear control has."""
    linear = rows[KIND] == CONTROL
    return set(rows.loc[linear, "architecture"]) - set(rows.loc[~linear, "architecture"])


def _scales(data: Data) -> list[float]:
    return [float(layer.get("pooling_scale") or 0) for layer in data["layers"]]


def _features(data: Data, same_below: bool) -> dict[str, tuple[Any, str]]:
    """Name of a feature -> (what it is sorted by, its words)."""
    layers = data["layers"]
    scales, first = _scales(data), float(data.get("antialiasing") or 0)
    patches = [int(layer.get("patch_size") or 0) for layer in layers]
    strides = [int(layer.get("subsampling") or 1) for layer in layers]
    kernels = [_kernel(layer.get("kernel") or {}) for layer in layers]
    rest = {key: value for key, value in data.items() if key not in ("layers", "antialiasing", "front_end")}
    last = f"last scale {scales[-1]:g} px" if same_below else f"scales {_each(scales)} px"
    return {
        "depth": (len(layers), f"{len(layers)} layer{'s' if len(layers) > 1 else ''}"),
        "antialiasing": (first, f"first low-pass {first:g} px"),
        "patches": (patches, f"patches {_each(patches)} px"),
        "scales": (scales, last),
        "strides": (strides, f"subsampling {_each(strides)}"),
        "kernels": (kernels, f"kernel {' / '.join(dict.fromkeys(kernels))}"),
        "rest": (json.dumps(rest, sort_keys=True), ", ".join(f"{key} {_plain(value)}" for key, value in rest.items())),
    }


ORDER = ("depth", "antialiasing", "patches", "scales", "strides", "kernels", "rest")


def _each(values: list[Any]) -> str:
    """One number where all layers agree, else the list."""
    words = [f"{value:g}" for value in values]
    return words[0] if len(set(words)) == 1 else "(" + ", ".join(words) + ")"


def _kernel(data: Data) -> str:
    numbers = [f"{value:g}" for key, value in data.items() if key != "kind" and isinstance(value, int | float)]
    return " ".join([str(data.get("kind", "")).replace("_", " "), *numbers]).strip()


def _plain(value: Any) -> str:
    return str(value.get("kind", value)) if isinstance(value, Mapping) else str(value)


def skeleton(text: str) -> str:
    """An architecture without kernels and front end: what the exact CKN and its linear control share."""
    if not text:
        return ""
    data = json.loads(text)
    data.pop("front_end", None)
    return json.dumps(data | {"layers": [dict(layer) | {"kernel": None} for layer in data["layers"]]}, sort_keys=True)


@dataclass(frozen=True)
class Split:
    """An architecture as the value of one knob and everything else."""

    value: float
    rest: str


def last_scale(text: str) -> Split | None:
    """The last pooling scale apart from the rest; None without an architecture."""
    return _split(text, "pooling_scale", slice(-1, None))


def last_patch(text: str) -> Split | None:
    """The patch size of the last layer apart from the rest; None without an architecture."""
    return _split(text, "patch_size", slice(-1, None))


def every_patch(text: str) -> Split | None:
    """The patch size of all layers apart from the rest; None where the layers differ."""
    if not text or len({layer["patch_size"] for layer in json.loads(text)["layers"]}) > 1:
        return None
    return _split(text, "patch_size", slice(None))


def _split(text: str, key: str, layers: slice) -> Split | None:
    if not text:
        return None
    data = json.loads(text)
    data.pop("front_end", None)
    value = float(data["layers"][-1][key])
    for layer in data["layers"][layers]:
        layer[key] = 0
    return Split(value, json.dumps(data, sort_keys=True))


def varying(texts: Iterable[str], split: Callable[[str], Split | None]) -> dict[str, Split]:
    """The architectures of which another one differs in this knob alone."""
    parts = {text: part for text in texts if (part := split(text)) is not None}
    values: dict[str, set[float]] = {}
    for part in parts.values():
        values.setdefault(part.rest, set()).add(part.value)
    return {text: part for text, part in parts.items() if len(values[part.rest]) > 1}


def architecture_words(rows: pd.DataFrame) -> str:
    """The architecture of the exact CKN in words (without one: of what has one); what varies is given as a list."""
    exact = rows[rows[KIND] == EXACT] if KIND in rows else rows[rows["representation"] == EXACT]
    cells = (exact if len(exact) else rows)["architecture"].fillna("").unique()
    texts = [json.loads(text) for text in cells if text]
    if not texts:
        return "no architecture that the theory sees"

    def values(*path: str) -> str:
        found: dict[str, None] = {}
        for text in texts:
            for layer in text["layers"]:
                part: Any = layer
                for key in path:
                    part = part.get(key, "unknown") if isinstance(part, Mapping) else part
                found[f"{part:g}" if isinstance(part, int | float) else str(part).replace("_", " ")] = None
        return " or ".join(found)

    depths = sorted({len(text["layers"]) for text in texts})
    scales = " or ".join(
        dict.fromkeys(
            "(" + ", ".join(f"{s or 0:g}" for s in (text.get("antialiasing"), *_scales(text))) + ")" for text in texts
        )
    )
    stride = values("subsampling")
    return (
        f"{' or '.join(map(str, depths))} layer{'s' if depths != [1] else ''}, patches {values('patch_size')} px wide, "
        f"{values('kernel', 'kind')} kernel, scales {scales} px, "
        + ("no subsampling" if stride == "1" else f"subsampling {stride}")
    )
