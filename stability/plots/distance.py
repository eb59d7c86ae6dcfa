"""Distance versus deformation: every family over its own size, below what theory allows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from stability.plots.architectures import setting_words, with_settings
from stability.plots.captions import closing, listed
from stability.plots.drawing import (
    BOUND_MARK,
    DISPLACEMENT,
    IN_PAIRS,
    JACOBIAN,
    PAIRS_MARK,
    RELATIVE,
    TRIVIAL_MARK,
    Drawn,
    Mark,
    band,
    band_handle,
    handle,
    legend_below,
    line,
    panels,
    plain_log_ticks,
    round_log_ticks,
    same_limits,
    triangle,
)
from stability.plots.reading import (
    DISTANCE,
    PAIRS,
    Array,
    Run,
    input_name,
    inputs,
    measured,
    part,
    size_axis,
    spread,
    two_images,
)
from stability.plots.series import (
    ABSCISSA,
    ASKED,
    BOTH,
    CONTROL,
    DEFORMATION,
    DISPLACED,
    EXACT,
    KIND,
    SEARCH,
    SERIES,
    SETTING,
    SIZE,
    THEORY,
    deformations,
    main_series,
    plural,
    theory,
)
from stability.plots.styles import marks, own_bounds, setting_markers

SWEEP = "curves"
NAMED_BOUNDS = 3
"""Bounds of other lines that are named one by one."""
TITLE_CHARACTERS = 105
"""Letters of a title that fit beside each other over the width of a figure."""


@dataclass(frozen=True)
class Lines:
    """How the lines of all panels look, and which of them stands for the theory."""

    marks: Mapping[str, Mark]
    settings: Mapping[str, str]  # words of a varied value -> marker; one entry "" where nothing varies
    main: str | None
    others: list[str]  # lines with a bound of their own

    @property
    def banded(self) -> bool:
        """More than two bands on top of each other tell nothing."""
        return self.main is not None and len(self.settings) < 3


def distance_versus_deformation(run: Run) -> Drawn:
    """||Phi(L_tau x) - Phi(x)|| / ||x|| against the size of tau, log-log; one line per representation and architecture.

    Panels: translations over ||tau|| in px, other families over ||grad tau||, each for every input. Representations
    without theory are drawn in units of the distance of two images, beside the others in the same unit.

    Args:
        run: needs a family with two or more sizes; of a quickstart the sweep "curves".

    Raises:
        ValueError: if the run has none.
    """
    rows = needed(run)
    fields, columns, units = deformations(rows), inputs(rows), _units(rows)
    main = main_series(rows)
    lines = Lines(marks(rows), setting_markers(setting_words(rows)), main, own_bounds(measured(rows), main))
    wide = len(columns) == 1 and len(fields) > 1  # one input: the families stand side by side
    places = [(field, unit) for field in fields for unit in units]
    shape = (len(units), len(fields)) if wide else (len(places), len(columns))
    height = 0.62 if shape == (1, 1) else 0.345 * shape[0]
    figure, grid = panels(*shape, 0.14 + height + 0.02 * _legend_rows(lines), sharey=len(units) == 1)
    drawn: dict[str, list[Axes]] = {unit: [] for unit in units}
    for row, (field, unit) in enumerate(places):
        for column, front_end in enumerate(columns):
            across = fields.index(field)
            axes = grid[units.index(unit), across] if wide else grid[row, column]
            chosen = rows[(rows[DEFORMATION] == field) & (rows["front_end"] == front_end)]
            shown = measured(theory(chosen) if unit == DISTANCE and len(units) > 1 else chosen)
            axes.set_title(_title(plural(field), input_name(front_end), shape[1]))
            if shown.empty:
                _nothing(axes)
                continue
            _panel(axes, shown, unit, lines)
            drawn[unit].append(axes)
            if (across if wide else column) == 0:
                axes.set_ylabel(RELATIVE if unit == DISTANCE else IN_PAIRS)
    if len(units) > 1:
        for shared in drawn.values():
            same_limits(shared)
    _legend(figure, rows, lines)
    return Drawn(figure, _caption(rows, lines, units))


def needed(run: Run) -> pd.DataFrame:
    """The rows that the figure is drawn from; ``ValueError`` if the run has none."""
    rows = part(run, SWEEP)
    rows = rows[(rows[ASKED] != BOTH) & (rows["family"] != SEARCH)]  # of these the figure of what was found speaks
    sizes = measured(rows).groupby(DEFORMATION)[SIZE].nunique()
    rows = rows[rows[DEFORMATION].isin(sizes.index[sizes > 1])]
    if rows.empty:
        raise ValueError(
            "rows must hold two or more sizes of one family, got one of each (or pairs of norms, which are a plane); "
            "ask for several displacement_norm"
        )
    return with_settings(rows)


def _units(rows: pd.DataFrame) -> list[str]:
    """Units of ||x|| where a theorem speaks; those of two images as well where models are compared."""
    there = measured(rows)
    if there[KIND].isin(THEORY).all() or not (there[PAIRS] > 0).any():
        return [DISTANCE]
    return [DISTANCE, PAIRS] if len(theory(there)) else [PAIRS]


def _panel(axes: Axes, rows: pd.DataFrame, unit: str, lines: Lines) -> None:
    asked = rows[ASKED].iloc[0]
    sheared = rows[ABSCISSA].iloc[0] == "jacobian_norm"
    sizes = size_axis(rows)
    axes.set(xscale="log", yscale="log", xlabel=JACOBIAN if sheared else DISPLACEMENT)
    main = rows[rows[SERIES] == lines.main]
    several = len(lines.settings) > 1
    if unit == PAIRS:
        axes.axhline(1.0, **(PAIRS_MARK.style() | {"marker": ""}))
    for setting, own in main.groupby(SETTING) if unit == DISTANCE else ():
        marker = {"marker": lines.settings.get(str(setting), "")} if several else {}
        for value, mark in (("bound_closed_form", BOUND_MARK), ("trivial", TRIVIAL_MARK)):
            medians = spread(own, SIZE, value)["median"]
            line(axes, sizes[medians.index], medians, mark, **marker)
        reference = two_images(own)
        if math.isfinite(reference) and several:
            line(axes, sizes, [reference] * len(sizes), PAIRS_MARK, markevery=[len(sizes) - 1], **marker)
        elif math.isfinite(reference):
            axes.axhline(reference, **(PAIRS_MARK.style() | {"marker": ""}))
    for words in lines.others if unit == DISTANCE else ():
        for setting, own in rows[rows[SERIES] == words].groupby(SETTING):
            look = {"color": lines.marks[words].color, "label": f"bound of {words}"}
            look |= {"marker": lines.settings.get(str(setting), "")} if several else {}
            medians = spread(own, SIZE, "bound_closed_form")["median"]
            line(axes, sizes[medians.index], medians, BOUND_MARK, **look)
    for words, mark in lines.marks.items():
        for setting, own in rows[rows[SERIES] == words].groupby(SETTING):
            found = spread(own[own[unit] > 0], SIZE, unit)
            x = sizes[found.index]
            if words == lines.main and lines.banded:
                band(axes, x, found, mark)
            marker = {"marker": lines.settings[str(setting)]} if several and str(setting) in lines.settings else {}
            line(axes, x, found["median"], mark, **marker)
    slope_of = main if len(main) else rows
    lowest = spread(slope_of[slope_of[unit] > 0], SIZE, unit)["low"]
    if len(lowest) > 1:
        _slope(axes, np.asarray(sizes[lowest.index], dtype=float), np.asarray(lowest, dtype=float))
    if asked == DISPLACED and sheared:
        round_log_ticks(axes.xaxis, sizes)
    else:
        plain_log_ticks(axes.xaxis, sizes)
    if sheared:
        _not_covered(
            axes, sizes, asked == DISPLACED, bool(len(main)), len(theory(rows)) == len(rows) and unit == DISTANCE
        )


def _slope(axes: Axes, x: Array, y: Array) -> None:
    """The triangle stands below the line, at three quarters of the axis."""
    left, right = np.exp(np.quantile(np.log(x[[0, -1]]), (0.62, 0.80)))
    height = float(np.exp(np.interp(np.log(left), np.log(x), np.log(y))))
    triangle(axes, (float(left), float(right)), height / 5, 1.0)


def _title(field: str, shown: str, columns: int) -> str:
    """Both on one line where they fit over a panel."""
    line = f"{field}, {shown}"
    return line if len(line) * columns < TITLE_CHARACTERS else f"{field},\n{shown}"


def _nothing(axes: Axes) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color="#555555")


def _not_covered(axes: Axes, sizes: "pd.Series[float]", asked: bool, covered: bool, high: bool) -> None:
    """Grey from ||grad tau|| = 1 on where a theorem speaks, and the asked ||tau|| on the upper axis."""
    left, right = axes.get_xlim()
    if right > 1 and covered:
        axes.axvspan(1.0, right, color="#eeeeee", zorder=0, lw=0)
        place = (0.975, 0.97 if high else 0.03)  # away from the lines
        words = axes.text(*place, "not covered", transform=axes.transAxes, rotation=90, fontsize="small")
        words.set(ha="right", va="top" if high else "bottom", color="#555555")
    axes.set_xlim(left, right)
    if not asked:
        return
    above = axes.twiny()
    above.set(xscale="log", xlim=(left, right))
    above.grid(visible=False)
    above.spines["top"].set_visible(True)
    step = max(1, math.ceil(len(sizes) / 7))
    words_above = [f"{size:g}" if i % step == 0 else "" for i, size in enumerate(sizes.index)]
    above.set_xticks(sizes.to_numpy(dtype=float), words_above)
    above.minorticks_off()
    above.set_xlabel(DISPLACEMENT)


def _legend_rows(lines: Lines) -> int:
    return max(0, len(lines.marks) - 2) // 2 + (len(lines.settings) if len(lines.settings) > 1 else 0) // 3


def _legend(figure: Any, rows: pd.DataFrame, lines: Lines) -> None:
    several, there = len(lines.settings) > 1, theory(rows)
    entries = list(lines.marks.values())
    bounds = np.isfinite(there["bound_closed_form"].to_numpy(dtype=float)).any()
    entries += [BOUND_MARK] if bounds else []
    entries += [TRIVIAL_MARK] if np.isfinite(there["trivial"].to_numpy(dtype=float)).any() else []
    entries += [PAIRS_MARK] if (measured(rows)[PAIRS] > 0).any() else []
    if len(lines.others) <= NAMED_BOUNDS:
        entries += [
            replace(BOUND_MARK, label=f"bound of {name}", color=lines.marks[name].color) for name in lines.others
        ]
    else:
        entries.append(replace(BOUND_MARK, label="bounds of the others, each in its colour", color="#888888"))
    varied = set(rows.loc[rows["architecture"] != "", SERIES]) if several else set()
    handles: list[Any] = [handle(mark, **({"marker": ""} if mark.label in varied else {})) for mark in entries]
    if lines.main is not None and lines.banded:
        handles.append(band_handle(lines.marks[lines.main], f"{lines.main}, 10\N{EN DASH}90 %"))
    keys = [Mark(words, "#333333", "none", marker) for words, marker in lines.settings.items() if several]
    legend_below(figure, [*handles, *map(handle, keys)])


def _caption(rows: pd.DataFrame, lines: Lines, units: list[str]) -> str:
    sheared = ((rows[ABSCISSA] == "jacobian_norm") & (rows[ASKED] == DISPLACED)).any()
    words = [
        f"Distance of the representations of an image and of its deformation, in units of "
        f"{'||x||' if units[0] == DISTANCE else 'the distance between two images'}, median over images and fields of "
        "one asked size" + (" with the 10-90 % band." if lines.banded else "."),
    ]
    if len(units) > 1:
        words.append(
            "Panels in units of the distance between two images hold every representation: only this unit may be "
            "compared between models. Those in units of ||x|| hold the ones that the theorem speaks of."
        )
    if len(lines.settings) > 1:
        words.append("Colour and dashes tell the representation, the marker the architecture.")
    if sheared:
        words.append(
            "Along the smooth fields ||tau|| grows with ||grad tau|| (upper axis): the drawn field is scaled, both "
            "norms push at once."
        )
    if lines.main and (rows["family"] != "translation").any():
        words.append("Where ||grad tau|| >= 1 (grey) the theorem says nothing; an infinite bound is not drawn.")
    if lines.others:
        words.append(f"The closed-form bound is the {lines.main}'s; {listed(lines.others)}: by its own weights.")
    kinds = set(rows[KIND])
    if {EXACT, CONTROL} <= kinds:
        words.append("Where the CKN and its control agree, one line covers the other.")
    return " ".join([*words, closing(rows)])
