"""What a page says, computed from the rows: medians, violations, distance from linear. No torch."""

import json
import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from stability.architecture import Architecture
from stability.bounds.rung import Status
from stability.plots.architectures import skeleton, with_settings
from stability.plots.reading import DISTANCE, PAIRS, measured
from stability.plots.series import (
    CONTROL,
    DEFORMATION,
    EXACT,
    KIND,
    SERIES,
    SETTING,
    SIZE,
    complete,
    deformations,
    drawn,
    filled,
    series_of,
)

OUT_OF_REACH = "out of reach"
GLOSSARY: Mapping[str, str] = {
    Status.PROOF: "a closed formula with a proof on paper",
    Status.NUMERICAL: "a proof whose constants are evaluated numerically, in floating point",
    Status.ENCLOSURE: "computed between rigorous lower and upper ends",
    Status.PROBABLE: "holds with a stated probability",
    Status.ESTIMATE: "computed without a proof: a hint, no guarantee",
    Status.NOT_COVERED: "the theorem says nothing here (for example ||grad tau|| >= 1); the bound is infinite",
    OUT_OF_REACH: "no field of the family has this pair of norms; nothing was measured",
}
SAFE_ANTIALIASING = 0.7
"""Below this sigma_0, in px, sampling between the layers is no longer negligible."""
NEARLY_LINEAR = 0.1
"""Up to this median |CKN - linear| / linear the page says that the kernel hardly matters."""
KEYS = (
    "sweep", "image", "family", "cutoff", "field_seed", "search", "front_end", "skeleton", "asked_displacement_norm",
    "asked_jacobian_norm", "layer",
)  # fmt: skip
GROUPS = ["front_end", DEFORMATION, SETTING, SERIES, SIZE]


def violations(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows whose distance is above a bound by more than its allowances; there should be none.

    distance / ||x|| > bound + interpolation_error + refinement (where evaluated) + floor,   or   > trivial + floor.

    A violation asks for a look at a finer grid first (the refinement estimates the grid's error, it does not bound it),
    then for a bug.

    Args:
        rows: the rows of a run.

    Returns:
        The rows that violate; rows without a number are never among them.
    """
    there = measured(filled(rows))
    floor = pd.to_numeric(there["floor"], errors="coerce").fillna(0.0)
    error = there["interpolation_error"].fillna(0.0)
    if "refinement" in there:
        error = error + there["refinement"].fillna(0.0)
    above = there[DISTANCE] > there["bound_closed_form"] + error + floor
    return there[above | (there[DISTANCE] > there["trivial"] + floor)]


def paired(rows: pd.DataFrame) -> pd.DataFrame:
    """The exact CKN and its linear control side by side: the same image, field and architecture.

    A field that was searched belongs to one representation alone and is left out.

    Returns:
        Columns ``KEYS``, ``ckn`` and ``linear`` (distance / ||x||) and ``apart`` = |ckn - linear| / linear.
    """
    there = drawn(measured(filled(rows)))
    shapes = {text: skeleton(text) for text in there["architecture"].unique()}
    there = there.assign(skeleton=there["architecture"].map(shapes))
    keys = [key for key in KEYS if key in there]
    ckn, linear = (
        there.loc[there[KIND] == kind, [*keys, DISTANCE]].rename(columns={DISTANCE: column})
        for kind, column in ((EXACT, "ckn"), (CONTROL, "linear"))
    )
    both = ckn.merge(linear, on=keys)
    both = both[both["linear"] > 0]
    return both.assign(apart=(both["ckn"] - both["linear"]).abs() / both["linear"])


def apart_from_linear(rows: pd.DataFrame) -> dict[str, float]:
    """Front end -> median of |d_CKN - d_linear| / d_linear over images, fields and sizes."""
    medians = paired(rows).groupby("front_end")["apart"].median()
    return {str(name): float(value) for name, value in medians.items()}


def unit_slope(rows: pd.DataFrame) -> bool:
    """Whether kappa'(1) = 1 in every layer of the exact CKN: nearly parallel patches then keep their distance."""
    layers = (layer for architecture in _architectures(rows) for layer in architecture.layers)
    return all(math.isclose(layer.kernel.derivative_at_one, 1.0) for layer in layers)


def kernel_words(rows: pd.DataFrame) -> str:
    """The kernels of the exact CKN's layers with all their parameters."""
    found: dict[str, None] = {}
    for architecture in _architectures(rows):
        for layer in architecture.to_dict()["layers"]:
            data = dict(layer["kernel"])
            kind = str(data.pop("kind")).replace("_", " ")
            found[", ".join([kind, *(f"{name} = {value:g}" for name, value in data.items())])] = None
    return " or ".join(found)


def _architectures(rows: pd.DataFrame) -> list[Architecture]:
    rows = filled(rows)
    texts = rows.loc[rows[KIND] == EXACT, "architecture"].unique()
    return [Architecture.from_dict(json.loads(text)) for text in texts]


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Medians for each input, family and size.

    Args:
        rows: the rows of one sweep over sizes.

    Returns:
        One row per front end, family and asked size: the realised norms, ``measured``, ``linear``, ``pairs`` (in units
        of the distance between two images), ``bound``, ``trivial`` and ``ratio`` = median of bound / measured.
    """
    there = measured(filled(rows))
    keys = ["front_end", "family", "asked_displacement_norm"]
    ckn = there[there[KIND] == EXACT]
    ckn = ckn.assign(ratio=ckn["bound_closed_form"] / ckn[DISTANCE].where(ckn[DISTANCE] > 0))
    found = ckn.groupby(keys)[
        ["displacement_norm", "jacobian_norm", DISTANCE, PAIRS, "bound_closed_form", "trivial", "ratio"]
    ].median()
    names = {DISTANCE: "measured", PAIRS: "pairs", "bound_closed_form": "bound"}
    linear = there[there[KIND] == CONTROL].groupby(keys)[DISTANCE].median()
    return found.rename(columns=names).assign(linear=linear).reset_index()


def medians(rows: pd.DataFrame) -> pd.DataFrame:
    """Medians for each input, deformation, architecture, representation and size: no median across architectures.

    Args:
        rows: the rows of any store.

    Returns:
        One row per group with the realised norms, ``measured`` (over ||x||), ``pairs`` (over the distance of two
        images), ``trivial``, ``bound`` (infinite where the theorem says nothing), ``ratio`` = median of bound /
        measured, and ``rows``, how many are behind it.
    """
    there = with_settings(measured(complete(rows)))
    there = there.assign(
        ratio=there["bound_closed_form"] / there[DISTANCE].where(there[DISTANCE] > 0), rows=1, pair=0.0
    )
    places = {
        column: {name: i for i, name in enumerate(names)}
        for column, names in ((DEFORMATION, deformations(there)), (SERIES, series_of(there)))
    }
    pair = there["asked_jacobian_norm"].where(there["asked_displacement_norm"].notna(), np.nan)
    groups = there.assign(pair=pair).groupby([*GROUPS, "pair"], dropna=False)
    numbers = ["displacement_norm", "jacobian_norm", DISTANCE, PAIRS, "trivial", "bound_closed_form", "ratio"]
    found = groups[numbers].median().assign(rows=groups["rows"].sum()).reset_index()
    found = found.rename(columns={DISTANCE: "measured", PAIRS: "pairs", "bound_closed_form": "bound"})
    order = found.assign(**{column: found[column].map(known) for column, known in places.items()})
    order["front_end"] = order["front_end"] != "none"
    index = order.sort_values(["front_end", DEFORMATION, SETTING, SERIES, SIZE, "pair"], kind="stable").index
    return found.loc[index].reset_index(drop=True)


def nearest(found: pd.DataFrame, family: str, front_end: str, size: float) -> "pd.Series[float] | None":
    """The row of ``table`` whose asked size is nearest to a size in px, on a log axis; None without any."""
    there = found[(found["family"] == family) & (found["front_end"] == front_end)]
    if there.empty:
        return None
    gap = np.abs(np.log(there["asked_displacement_norm"].to_numpy(dtype=float) / size))
    return there.iloc[int(np.argmin(gap))]


def percent(value: float) -> str:
    """A share in per cent with two significant digits.

    >>> percent(0.0516), percent(1.784), percent(float("inf"))
    ('5.2 %', '178 %', 'no finite share')
    """
    if not math.isfinite(value):
        return "no finite share"
    share = 100 * value
    return f"{share:.0f} %" if share >= 10 else f"{share:.2g} %"
