"""The largest distance found beside random fields and the bound of the supremum, over the size of the deformation."""

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from stability.plots.architectures import with_settings
from stability.plots.drawing import (
    BOUND_MARK,
    DISPLACEMENT,
    JACOBIAN,
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
    wrapped,
)
from stability.plots.largest_caption import SUPREMUM, TRIVIAL, caption
from stability.plots.reading import DISTANCE, Run, input_name, measured, part, resolved, spread
from stability.plots.series import FIELD, SERIES, SETTING, TRANSLATION, parameter_words, series_of
from stability.sweeps.result import BELOW
from stability.sweeps.search_words import bounded_in_words, searches_in_words

A, B = "asked_displacement_norm", "asked_jacobian_norm"
FOUND_MARK = Mark("largest found", "#D55E00", "-", "*", 1.3)
RANDOM_MARK = Mark("random", "#0072B2", (0, (1, 1.2)), "o", 0.9)
SUPREMUM_MARK = replace(BOUND_MARK, label="bound of the supremum (closed form)")
FOUND_COLORS = ("#D55E00", "#CC79A7", "#882255", "#E69F00", "#661100", "#DDAA33", "#AA3377", "#000000")
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
    bound of the supremum over the same fields. A row of panels for each representation, a column for each of the norms
    that stays. What is not above round-off is left out.

    Args:
        run: needs searched distances of an exact or finite network, one of them above round-off.

    Raises:
        ValueError: if the run has none.
    """
    every = needed(run)
    rows = resolved(every)
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
    searches = _searches(every)
    looks: dict[str, Mark] = {}
    for (series, setting, front_end), own_axes in zip(kinds[: shape[0]], grid, strict=True):
        block, whole = (
            part[(part[SERIES] == series) & (part[SETTING] == setting) & (part["front_end"] == front_end)]
            for part in (rows, every)
        )
        for value, axes in zip(across[: shape[1]], own_axes, strict=True):
            for curve in _curves(block, fixed, value, searches):
                looks.setdefault(curve.mark.label, curve.mark)
                _draw(axes, curve, moving)
            searched, asked = (part[part["search"] & (part[fixed] == value)] for part in (block, whole))
            for curve, column in [*_bounds(asked, searches), *_trivial_bounds(searched, searches)]:
                medians = spread(curve.rows, moving, column)["median"]
                if len(medians):
                    key = curve.mark if curve.mark.label != TRIVIAL else replace(curve.mark, color=TRIVIAL_MARK.color)
                    looks.setdefault(key.label, key)
                    line(
                        axes, medians.index, medians, curve.mark, marker="_" if len(medians) == 1 else "", markersize=14
                    )
            held = rf"$\|\nabla\tau\|_\infty\leq{value:g}$" if fixed == B else rf"$\|\tau\|_\infty\leq{value:g}$ px"
            words = [plain(series), *([setting] if setting and found[SETTING].nunique() > 1 else [])]
            words += [input_name(front_end)] if found["front_end"].nunique() > 1 else []
            axes.set_title(f"{', '.join(words)}\n{held}")
            axes.set(xscale="log", yscale="log")
            plain_log_ticks(axes.xaxis, sorted(found[moving].unique()))
        own_axes[0].set_ylabel(RELATIVE)
    for axes in grid[-1]:
        axes.set_xlabel("asked " + (DISPLACEMENT if moving == A else JACOBIAN))
    legend_below(figure, [handle(mark, label=wrapped(mark.label)) for mark in looks.values()])
    return Drawn(figure, caption(every, more=len(kinds) > MOST or len(across) > MOST))


def needed(run: Run) -> pd.DataFrame:
    """Searched distances, and the random ones with the same representation.

    Raises:
        ValueError: if nothing was searched, or nothing found but round-off.
    """
    rows = part(run, "curves")
    rows = measured(rows)
    searched = rows["search"].fillna(False).astype(bool)
    objective = rows["objective"] if "objective" in rows else pd.Series("", rows.index)
    rows = rows.assign(search=searched)[~searched | (objective == "distance")]
    if not rows["search"].any():
        other = sorted({str(name) for name in objective[searched]})
        got, use = (" and ".join(other), "objective: distance") if other else ("none", "a search")
        raise ValueError(f"rows must hold a searched distance, got {got}; give the specification {use}")
    if not resolved(rows)["search"].any():
        raise ValueError(
            f"rows must hold a searched distance above round-off, got {int(rows['search'].sum())} {BELOW}; search "
            "within larger norms"
        )
    return with_settings(rows)


@dataclass(frozen=True)
class Search:
    """One search of a run.

    Args:
        parameters: its cell in ``family_parameters``.
        words: what tells it from the others; "" if it is the only one.
        color: its own.
        bounded: the fields over whose supremum its bound stands.
    """

    parameters: str
    words: str
    color: str
    bounded: str


def _searches(rows: pd.DataFrame) -> list[Search]:
    """Every search of a table."""
    told = searches_in_words(map(str, rows.loc[rows["search"], "family_parameters"]))
    return [
        Search(text, words if len(told) > 1 else "", FOUND_COLORS[i % len(FOUND_COLORS)], bounded_in_words(text))
        for i, (text, words) in enumerate(told.items())
    ]


def _bounds(searched: pd.DataFrame, searches: list[Search]) -> list[tuple[Curve, str]]:
    """The bound of the supremum over every set of fields, in the colour of the first search in this set."""
    first: dict[str, Search] = {}
    for search in searches:
        first.setdefault(search.bounded, search)
    sets = searched["family_parameters"].map({search.parameters: search.bounded for search in searches})
    curves = []
    for bounded, search in first.items():
        told = replace(SUPREMUM_MARK, label=f"{SUPREMUM_MARK.label}, {bounded}", color=search.color)
        mark = told if len(first) > 1 else SUPREMUM_MARK
        curves.append((Curve(searched[sets == bounded], mark), SUPREMUM))
    return curves


def _trivial_bounds(searched: pd.DataFrame, searches: list[Search]) -> list[tuple[Curve, str]]:
    """The trivial bound at the fields of every search, which is a bound of that search alone."""
    curves = []
    for search in searches:
        mark = replace(TRIVIAL_MARK, label=TRIVIAL, color=search.color if search.words else TRIVIAL_MARK.color)
        curves.append((Curve(searched[searched["family_parameters"] == search.parameters], mark), "trivial"))
    return curves


def _curves(block: pd.DataFrame, fixed: str, value: float, searches: list[Search]) -> list[Curve]:
    """Every search, and of every random family within the same norms the largest field of each image."""
    told = parameter_words(block)
    own = block[block[fixed] == value]
    curves = []
    for search in searches:
        rows = own[own["search"] & (own["family_parameters"] == search.parameters)]
        label = FOUND_MARK.label + (f", {search.words}" if search.words else "")
        curves += [Curve(rows, replace(FOUND_MARK, label=label, color=search.color))] if len(rows) else []
    both = own[~own["search"] & own[A].notna() & own[B].notna()]
    shifts = block[(block["family"] == TRANSLATION) & block[A].isin(own.loc[own["search"], A].unique())]
    groups = list(both.groupby(["family", "family_parameters"], sort=False))
    groups += list(shifts.groupby(["family", "family_parameters"], sort=False))
    drawn = block.loc[~block["search"], ["family", "family_parameters"]].drop_duplicates()
    names = [(str(family), str(parameters)) for family, parameters in drawn.itertuples(index=False, name=None)]
    places = sorted(names, key=lambda name: name[0] == TRANSLATION)  # the same in every panel
    for _, rows in groups:
        family, parameters = str(rows["family"].iloc[0]), str(rows["family_parameters"].iloc[0])
        extra = told.get(parameters, "")
        largest = rows.groupby(["image", A, B], dropna=False)[DISTANCE].max().reset_index()
        if family == TRANSLATION:  # within every gradient
            gradients = own.loc[own["search"], B].unique()
            largest = pd.concat([largest.assign(**{B: gradient}) for gradient in gradients])
        name = FIELD.get(family, family)
        label = f"{name}s{', ' + extra if extra else ''}: largest of {rows['field_seed'].nunique()}"
        i = places.index((family, parameters))
        color, shape = RANDOM_COLORS[i % len(RANDOM_COLORS)], RANDOM_SHAPES[i % len(RANDOM_SHAPES)]
        curves.append(Curve(largest, replace(RANDOM_MARK, label=label, color=color, marker=shape)))
    return curves


def _draw(axes: Axes, curve: Curve, moving: str) -> None:
    found = spread(curve.rows[curve.rows[DISTANCE] > 0], moving, DISTANCE)
    if curve.mark.marker == FOUND_MARK.marker:
        band(axes, found.index, found, curve.mark)
    style: dict[str, Any] = {"markersize": 9} if curve.mark.marker == FOUND_MARK.marker else {}
    line(axes, found.index, found["median"], curve.mark, **style)
