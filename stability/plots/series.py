"""What is drawn as one line: a representation, at one layer, with one number of anchors; and its words."""

import json
import math
from typing import Any

import numpy as np
import pandas as pd

from stability.sweeps.search_words import objective_in_words, searches_in_words

KIND, SERIES, SETTING, DEFORMATION = "representation_kind", "series", "setting", "deformation"
ASKED, SIZE, ABSCISSA = "asked", "size", "abscissa"
EXACT, CONTROL, FINITE, NETWORK = "gram", "linear", "ckn", "cnn"
KINDS = (EXACT, "ntk", CONTROL, FINITE, "gaussian_ckn", "random_features", "convexified", NETWORK, "module", "custom")
THEORY = (EXACT, FINITE, CONTROL)
"""Kinds whose distance over ||x|| the theorem bounds, the one that stands for the others first."""
WORDS = {
    EXACT: "exact CKN",
    "ntk": "NTK",
    CONTROL: "linear kernel (control)",
    FINITE: "finite CKN",
    "gaussian_ckn": "CKN of 2014",
    "random_features": "random features",
    "convexified": "convexified CNN",
    NETWORK: "CNN",
    "lenet": "LeNet",
}
FIELD = {
    "original": "original",
    "translation": "translation",
    "fourier": "smooth field",
    "gradient": "gradient field",
    "divergence_free": "divergence-free field",
    "gaussian": "Gaussian-smoothed field",
    "max_entropy": "max-entropy field",
    "spline": "B-spline field",
    "piecewise_linear": "piecewise linear field",
    "saturated": "saturated field",
    "mixed": "mixed random field",
    "bump": "bump",
    "local_affine": "local affine map",
    "affine": "affine map",
    "thin_plate": "thin-plate spline",
    "flow": "flow",
    "compact": "compact field",
    "search": "searched field",
}
PLURAL = {
    "translation": "translations",
    "smooth field": "smooth mean-free fields",
    "smooth field with a shift": "smooth fields with a shift",
    "compact field": "compactly supported fields",
    **{
        name: f"{name}s"
        for name in FIELD.values()
        if name not in ("original", "translation", "smooth field", "compact field")
    },
}
TRANSLATION, SEARCH = "translation", "search"
LIMITED = ("mixed", "saturated", SEARCH)
"""Families of which both norms are limits that a field stays within."""
DISPLACED, SHEARED, BOTH = "displacement", "jacobian", "both"
DEFAULTS: dict[str, Any] = {
    "front_end": "none", "architecture": "", "filters": "", "layer": "", "cutoff": math.nan, "search": False,
    "bound_closed_form": math.nan, "status_closed_form": "not asked", "scope_closed_form": "", "trivial": math.nan,
    "status_trivial": "not recorded",
    "interpolation_error": math.nan, "floor": math.nan, "distance_over_pairs": math.nan, "antialiasing": math.nan,
    "asked_jacobian_norm": math.nan, "asked_displacement_norm": math.nan,
    "mean_displacement": math.nan, "family_parameters": "",
}  # fmt: skip


def complete(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with every optional column, and with the columns by which figures group them.

    ``representation_kind`` (of ``KINDS``), ``series`` (the words of a line), ``deformation`` (family, and what tells
    two specs of one family apart), ``asked`` (which norms were asked for), ``size`` (the asked one) and ``abscissa``
    (the column of the realised norm over which it is drawn).
    """
    found = filled(rows)
    found[SERIES] = _series(found)
    return _deformations(found)


def filled(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with every optional column and with ``representation_kind``, without the words of ``complete``."""
    found = rows.copy()
    for column, value in DEFAULTS.items():
        if column not in found:
            found[column] = value
    label = found["representation"].astype(str)
    kind = found[KIND].fillna(label) if KIND in found else label
    found[KIND] = kind.where(kind.isin(KINDS), "custom").mask(kind == "lenet", "module")
    for column in ("architecture", "filters", "layer", "front_end"):
        found[column] = found[column].where(found[column].notna(), "").astype(str)
    found["front_end"] = found["front_end"].replace("", "none")
    return found


def _series(rows: pd.DataFrame) -> "pd.Series[str]":
    keys = [KIND, "representation", "filters", "layer", "architecture"]
    distinct = rows[keys].drop_duplicates()
    layers = distinct.groupby(["representation", "filters", "architecture"])["layer"].nunique().groupby(level=0).max()
    filters = distinct.groupby("representation")["filters"].nunique()
    words: dict[tuple[str, str, str, str], str] = {}
    for kind, label, chosen, layer in distinct[keys[:4]].itertuples(index=False, name=None):
        parts = [WORDS.get(str(label), str(label)) if label in (kind, "lenet") else str(label)]
        if chosen and kind == FINITE:
            parts.append(f"{chosen} anchors")
        elif chosen and filters[label] > 1:
            parts.append(f"widths {chosen}")
        if layer and layers[label] > 1:
            parts.append(f"layer {layer}" if layer.isdigit() else layer)
        words[kind, str(label), chosen, layer] = ", ".join(parts)
    cells = zip(*(rows[key] for key in keys[:4]), strict=True)
    return pd.Series([words[kind, str(label), f, layer] for kind, label, f, layer in cells], rows.index, dtype=object)


def _deformations(rows: pd.DataFrame) -> pd.DataFrame:
    """Sizes that belong on one axis: the same family, cut-off, asked norms and kind of search."""
    a, b = rows["asked_displacement_norm"].notna(), rows["asked_jacobian_norm"].notna()
    rows[ASKED] = np.where(a & b, BOTH, np.where(b, SHEARED, DISPLACED))
    fixed = pd.Series("", rows.index, dtype=object)
    groups = rows[rows[ASKED] == BOTH].groupby(["family", "cutoff"], dropna=False)
    for (family, _), part in groups:
        up = up_to(str(family))
        displacements, jacobians = part["asked_displacement_norm"].unique(), part["asked_jacobian_norm"].unique()
        if len(jacobians) == 1:
            rows.loc[part.index, ASKED] = DISPLACED
            fixed[part.index] = f"gradient {up}{jacobians[0]:g}"
        elif len(displacements) == 1:
            rows.loc[part.index, ASKED] = SHEARED
            fixed[part.index] = f"{up}{displacements[0]:g} px"
    rows[SIZE] = rows["asked_jacobian_norm"].where(rows[ASKED] == SHEARED, rows["asked_displacement_norm"])
    across = (rows["family"] == TRANSLATION) | ((rows[ASKED] == DISPLACED) & (fixed != ""))
    rows[ABSCISSA] = np.where(across, "displacement_norm", "jacobian_norm")
    cutoffs = rows.groupby("family")["cutoff"].nunique()
    asked = rows.groupby("family")[ASKED].nunique()
    searched = rows["search"].fillna(False).astype(bool)
    names = {DISPLACED: "asked by ||tau||", SHEARED: "asked by the gradient", BOTH: "both norms asked"}
    means = rows["mean_displacement"].groupby([rows["family"], rows["cutoff"], rows[ASKED]], dropna=False)
    shifted = (means.transform("max") > 1e-6) & (rows["family"] == "fourier")
    words = []
    chosen = parameter_words(rows)
    cells = zip(
        rows["family"], rows["cutoff"], rows["family_parameters"], rows[ASKED], fixed, searched, shifted, strict=True
    )
    for family, cutoff, parameters, norm, other, found, mean in cells:
        parts = [FIELD.get(family, str(family)) + (" with a shift" if mean else "")]
        parts += [f"cut-off {cutoff:g}"] if cutoffs[family] > 1 and family != SEARCH else []
        parts += [told] if (told := chosen.get(parameters, "")) else []
        parts += [other] if other else [names[norm]] if asked[family] > 1 else []
        parts += ["largest found"] if found and family != SEARCH else []
        words.append(", ".join(parts))
    rows[DEFORMATION] = words
    return rows


def parameter_words(rows: pd.DataFrame) -> dict[str, str]:
    """Parameters of a family in words, as far as they tell two of its specs apart; keyed by their JSON."""
    found: dict[str, str] = {}
    for family, texts in rows.groupby("family")["family_parameters"]:
        data = {text: json.loads(text) for text in texts.unique() if text}
        if family == SEARCH:
            found |= searches_in_words(data) if len(data) > 1 else {text: objective_in_words(text) for text in data}
            continue
        for text, values in data.items():
            found[text] = ", ".join(
                f"{name.replace('_', ' ')} {told_value(value)}"
                for name, value in values.items()
                if name not in ("cutoff", "shift") and any(other.get(name) != value for other in data.values())
            )
    return found


def told_value(value: Any) -> str:
    """A parameter in words: of a part its kind and what else it says.

    >>> told_value([{"kind": "translation_free"}, {"kind": "fixed_border", "width": 1.0}]), told_value(2.5)
    ('translation free and fixed border width 1.0', '2.5')
    """
    if isinstance(value, list):
        return " and ".join(map(told_value, value)) or "none"
    if not isinstance(value, dict):
        return str(value)
    rest = [f"{name.replace('_', ' ')} {told_value(one)}" for name, one in value.items() if name != "kind"]
    return " ".join([str(value.get("kind", "")).replace("_", " "), *rest]).strip()


def deformations(rows: pd.DataFrame) -> list[str]:
    """The deformations of a table in the order of a figure: translations, smooth fields, others."""
    first = rows.drop_duplicates(DEFORMATION)
    order = list(FIELD)
    keys = {
        words: (order.index(family) if family in order else len(order), words)
        for words, family in zip(first[DEFORMATION], first["family"], strict=True)
    }
    return sorted(keys, key=keys.__getitem__)


def plural(words: str) -> str:
    """The words of a deformation, for a title.

    >>> plural("translation"), plural("smooth field, cut-off 3"), plural("Swirl")
    ('translations', 'smooth mean-free fields, cut-off 3', 'Swirl')
    """
    name, comma, rest = words.partition(", ")
    return PLURAL.get(name, name) + comma + rest


def size_words(part: pd.DataFrame) -> str:
    """The asked size of rows that share one."""
    value, asked, up = part[SIZE].iloc[0], part[ASKED].iloc[0], up_to(part["family"].iloc[0])
    return f"{up}{value:g} px" if asked == DISPLACED else f"gradient {up}{value:g}"


def up_to(family: str) -> str:
    """What stands before the asked norms of a family."""
    return "up to " if family in LIMITED else ""


def series_of(rows: pd.DataFrame) -> list[str]:
    """The lines of a table: exact CKN, control, finite CKN, networks, modules; layers as they follow each other."""
    first = rows.drop_duplicates(SERIES)
    labels = list(dict.fromkeys(first["representation"]))
    cells = zip(first[SERIES], first[KIND], first["representation"], first["filters"], strict=True)
    keys = {
        words: (KINDS.index(kind), labels.index(label), anchors(filters), turn)
        for turn, (words, kind, label, filters) in enumerate(cells)
    }
    return sorted(keys, key=keys.__getitem__)


def theory(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose distance over ||x|| a theorem speaks of."""
    return rows[rows[KIND].isin(THEORY) | np.isfinite(rows["bound_closed_form"].to_numpy(dtype=float))]


def drawn(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose field no search chose: all representations see it, and may be compared under it."""
    return rows[~rows["search"].fillna(False).astype(bool)]


def main_series(rows: pd.DataFrame) -> str | None:
    """The line that stands for the architecture: the exact CKN, else a finite one, else the control."""
    there = theory(rows)
    for kind in (*THEORY, NETWORK):
        names = series_of(there[there[KIND] == kind])
        if names:
            return names[-1]
    return None


def anchors(filters: str) -> int:
    """The number of anchors of all layers.

    >>> anchors("16-32"), anchors("")
    (48, 0)
    """
    numbers = [int(part) for part in str(filters).split("-") if part.isdigit()]
    return sum(numbers)
