"""The largest distance found beside random fields and the bound of the supremum, over the size of the deformation."""

import textwrap
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from stability.plots.architectures import with_settings
from stability.plots.captions import closing, listed
from stability.plots.drawing import (
    BOUND_MARK,
    DISPLACEMENT,
    JACOBIAN,
    LONGEST,
    RELATIVE,
    TRIVIAL_MARK,
    Drawn,
    Mark,
    band,
    handle,
    legend_below,
    line,
    panels,
    plain,
    plain_log_ticks,
)
from stability.plots.reading import DISTANCE, Run, input_name, measured, part, spread
from stability.plots.series import FIELD, SERIES, SETTING, TRANSLATION, parameter_words, series_of
from stability.sweeps.searches import fields_in_words

A, B = "asked_displacement_norm", "asked_jacobian_norm"
SUPREMUM = "bound_supremum"
FOUND_MARK = Mark("largest found", "#D55E00", "-", "*", 1.3)
RANDOM_MARK = Mark("random", "#0072B2", (0, (1, 1.2)), "o", 0.9)
SUPREMUM_MARK = replace(BOUND_MARK, label="bound of the supremum (closed form)")
FOUND_COLORS = ("#D55E00", "#CC79A7", "#882255", "#E69F00")
RANDOM_COLORS = ("#0072B2", "#56B4E9", "#009E73", "#332288", "#44AA99", "#999933")
RANDOM_SHAPES = ("o", "s", "^", "D", "v", "P")
MOST = 4
"""Rows and columns of panels."""


@dataclass(frozen=True)
class Curve:
    """One line: its rows, and how it looks."""

    rows: pd.DataFrame
    mark: Mark


def largest_found(run: Run) -> Drawn:
    """The largest distance found, over ||x||, against the size: beside the largest of the random fields, below the
    bound of the supremum. A row of panels for each representation, a column for each of the norms that stays.

    Args:
        run: needs searched distances of an exact or finite network.

    Raises:
        ValueError: if the run has none.
    """
    rows = needed(run)
    found = rows[rows["search"]]
    moving, fixed = (A, B) if found[A].nunique() >= found[B].nunique() else (B, A)
    names = [name for name in series_of(rows) if (found[SERIES] == name).any()]
    distinct = found[[SERIES, SETTING, "front_end"]].drop_duplicates()
    kinds = sorted(
        [(str(a), str(b), str(c)) for a, b, c in distinct.itertuples(index=False, name=None)],
        key=lambda kind: names.index(kind[0]),
    )
    across = sorted(found[fixed].unique())
    shape = (min(len(kinds), MOST), min(len(across), MOST))
    figure, grid = panels(*shape, 0.16 + (0.62 if shape == (1, 1) else 0.33 * shape[0]), sharey="row", sharex=True)
    looks: dict[str, Mark] = {}
    for (series, setting, front_end), own_axes in zip(kinds[: shape[0]], grid, strict=True):
        block = rows[(rows[SERIES] == series) & (rows[SETTING] == setting) & (rows["front_end"] == front_end)]
        for value, axes in zip(across[: shape[1]], own_axes, strict=True):
            for curve in _curves(block, fixed, value):
                looks.setdefault(curve.mark.label, curve.mark)
                _draw(axes, curve, moving)
            searched = block[block["search"] & (block[fixed] == value)]
            bounds = [(searched, SUPREMUM, SUPREMUM_MARK), *_trivial_bounds(searched)]
            for own, column, mark in bounds:
                medians = spread(own, moving, column)["median"]
                if len(medians):
                    looks.setdefault(mark.label, mark if mark.label != _TRIVIAL else replace(mark, color=_GREY))
                    line(axes, medians.index, medians, mark, marker="." if len(medians) == 1 else "")
            held = rf"$\|\nabla\tau\|_\infty\leq{value:g}$" if fixed == B else rf"$\|\tau\|_\infty\leq{value:g}$ px"
            words = [plain(series), *([setting] if setting and found[SETTING].nunique() > 1 else [])]
            words += [input_name(front_end)] if found["front_end"].nunique() > 1 else []
            axes.set_title(f"{', '.join(words)}\n{held}")
            axes.set(xscale="log", yscale="log")
            plain_log_ticks(axes.xaxis, sorted(found[moving].unique()))
        own_axes[0].set_ylabel(RELATIVE)
    for axes in grid[-1]:
        axes.set_xlabel("asked " + (DISPLACEMENT if moving == A else JACOBIAN))
    legend_below(figure, [handle(mark, label=_wrapped(mark.label)) for mark in looks.values()])
    return Drawn(figure, _caption(rows, kinds, across))


_TRIVIAL, _GREY = "trivial bound at the field found", TRIVIAL_MARK.color


def _wrapped(label: str) -> str:
    """In lines that fit into a legend."""
    return "\n".join(map(plain, textwrap.wrap(label, LONGEST)))


def needed(run: Run) -> pd.DataFrame:
    """Searched distances, and the random ones with the same representation; ``ValueError`` if nothing was searched."""
    rows = part(run, "curves")
    rows = measured(rows)
    searched = rows["search"].fillna(False).astype(bool)
    objective = rows["objective"] if "objective" in rows else pd.Series("", rows.index)
    rows = rows.assign(search=searched)[~searched | (objective == "distance")]
    if not rows["search"].any():
        raise ValueError("rows must hold a searched distance, got none; give the specification a search")
    return with_settings(rows)


def _sets(searched: pd.DataFrame) -> list[tuple[str, pd.DataFrame, str]]:
    """Every search, what tells it from others, and its colour."""
    told = parameter_words(searched)
    among = {str(text): fields_in_words(str(text)) for text in searched["family_parameters"].unique()}
    by_set = len(set(among.values())) == len(among)  # else starts or steps differ, too
    found = []
    for i, (parameters, rows) in enumerate(searched.groupby("family_parameters", sort=False)):
        words = among[str(parameters)] if by_set else told.get(str(parameters), "")
        extra = f", {words}" if words and len(among) > 1 else ""
        found.append((extra, rows, FOUND_COLORS[i % len(FOUND_COLORS)]))
    return found


def _trivial_bounds(searched: pd.DataFrame) -> list[tuple[pd.DataFrame, str, Mark]]:
    """The trivial bound at the fields of every search, which is a bound of that search alone."""
    return [
        (rows, "trivial", replace(TRIVIAL_MARK, label=_TRIVIAL, color=color if extra else _GREY))
        for extra, rows, color in _sets(searched)
    ]


def _curves(block: pd.DataFrame, fixed: str, value: float) -> list[Curve]:
    """Every search, and of every random family within the same norms the largest field of each image."""
    told = parameter_words(block)
    own = block[block[fixed] == value]
    curves = [
        Curve(rows, replace(FOUND_MARK, label=FOUND_MARK.label + extra, color=color))
        for extra, rows, color in _sets(own[own["search"]])
    ]
    both = own[~own["search"] & own[A].notna() & own[B].notna()]
    shifts = block[(block["family"] == TRANSLATION) & block[A].isin(own.loc[own["search"], A].unique())]
    groups = list(both.groupby(["family", "family_parameters"], sort=False))
    groups += list(shifts.groupby(["family", "family_parameters"], sort=False))
    for i, (_, rows) in enumerate(groups):
        family, parameters = str(rows["family"].iloc[0]), str(rows["family_parameters"].iloc[0])
        extra = told.get(parameters, "")
        largest = rows.groupby(["image", A, B], dropna=False)[DISTANCE].max().reset_index()
        if family == TRANSLATION and fixed == B:
            largest[B] = value
        elif family == TRANSLATION:
            continue  # no size of theirs moves along this axis
        name = FIELD.get(family, family)
        label = f"{name}s{', ' + extra if extra else ''}: largest of {rows['field_seed'].nunique()}"
        color, shape = RANDOM_COLORS[i % len(RANDOM_COLORS)], RANDOM_SHAPES[i % len(RANDOM_SHAPES)]
        curves.append(Curve(largest, replace(RANDOM_MARK, label=label, color=color, marker=shape)))
    return curves


def _draw(axes: Axes, curve: Curve, moving: str) -> None:
    found = spread(curve.rows[curve.rows[DISTANCE] > 0], moving, DISTANCE)
    if curve.mark.marker == FOUND_MARK.marker:
        band(axes, found.index, found, curve.mark)
    style: dict[str, Any] = {"markersize": 9} if curve.mark.marker == FOUND_MARK.marker else {}
    line(axes, found.index, found["median"], curve.mark, **style)


def _caption(rows: pd.DataFrame, kinds: list[Any], across: list[float]) -> str:
    found = rows[rows["search"]]
    images = found["image"].nunique()
    among = listed(list(dict.fromkeys(fields_in_words(str(text)) for text in found["family_parameters"])))
    words = [
        f"The largest distance that a search found among {among} with the two norms, over ||x||: medians over "
        f"{images} image{'s' if images > 1 else ''} with the 10-90 % band. It is a lower bound of the supremum over "
        "all fields: largest found <= supremum <= bound of the supremum, the closed form for the norms that were "
        "asked for."
    ]
    random = sorted({FIELD.get(name, name) for name in rows.loc[~rows["search"], "family"]})
    if random:
        words.append(
            f"Beside it {listed([f'{name}s' for name in random])} within the same norms: of every image the largest "
            "field, medians over images."
        )
    whole = found[[fields_in_words(str(text)) == "all fields" for text in found["family_parameters"]]]
    ratio = (whole[SUPREMUM] / whole[DISTANCE]).replace(np.inf, np.nan).dropna()
    if len(ratio):
        words.append(
            f"The bound stands {ratio.median():.2g} times above what was found (median; {ratio.min():.3g} to "
            f"{ratio.max():.3g}): the supremum lies between."
        )
    spreads = found.loc[found["starts"] > 1, "spread"].dropna()
    if len(spreads):
        words.append(f"Starts that were kept differ by {spreads.median():.0%} (median), at most {spreads.max():.0%}.")
    if len(kinds) > MOST or len(across) > MOST:
        words.append(f"Only the first {MOST} of each kind of panel are drawn.")
    return " ".join([*words, closing(rows)])
