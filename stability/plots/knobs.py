"""One knob at a time: distance versus the last pooling scale, distance versus the patch size."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from stability.plots.architectures import Split, controls, every_patch, last_patch, last_scale, settings, varying
from stability.plots.captions import closing
from stability.plots.drawing import (
    BOUND_MARK,
    IN_PAIRS,
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
    triangle,
    wrapped,
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
    spread,
    two_images,
)
from stability.plots.series import (
    ASKED,
    BOTH,
    DEFORMATION,
    SERIES,
    SIZE,
    deformations,
    main_series,
    size_words,
    theory,
)
from stability.plots.styles import marks

MARKERS = ("o", "s", "^", "D", "v", "P")
PLURAL = {"o": "circles", "s": "squares", "^": "triangles", "D": "diamonds", "v": "tips down", "P": "crosses"}
MOST = 4
"""Columns of panels: more would be too small to read."""


@dataclass(frozen=True)
class Knob:
    """One varied number: sweep and words, axis label, scale of the x axis, and whether theory gives slope -1 in it."""

    column: str
    label: str
    log: bool
    inverse: bool


POOLING = Knob("pooling_scale", r"last pooling scale $\sigma_n$ (px)", log=True, inverse=True)
PATCH = Knob("patch_size", "patch size (px)", log=False, inverse=False)
VALUE, REST = "knob", "rest"


def pooling_scale(run: Run) -> Drawn:
    """Distance against sigma_n: bound T(c / sigma_n) <= c / sigma_n (times a constant), so slope -1 at large sigma_n.

    Args:
        run: needs two architectures that differ in the last pooling scale alone; of a quickstart the sweep
            "pooling_scale".

    Raises:
        ValueError: if the run has none.
    """
    words = (
        "Upper row: in units of ||x||, which is what the theorem bounds; a large sigma_n wins because it blurs the "
        "image away, and the distance of two different images falls with it. Lower row: in units of the distance "
        "between two images; only this may be compared between models. For translations the closed form is T(c / "
        "sigma_n), slope -1 where c << sigma_n; for smooth fields it levels off at what the layers' commutators cost. "
    )
    return _figure(needed_for_pooling_scale(run), POOLING, words)


def patch_size(run: Run) -> Drawn:
    """Distance against the patch size: the bound of smooth fields grows, translations commute with patches.

    Args:
        run: needs two architectures that differ in the patch size alone; of a quickstart the sweep "patch_size".

    Raises:
        ValueError: if the run has none.
    """
    rows = needed_for_patch_size(run)
    every = all(every_patch(text) is not None for text in rows["architecture"].unique())
    words = (
        f"{'Every layer has this patch size' if every else 'The last layer has this patch size'}. A translation "
        "commutes with patch extraction: its bound does not see the patch. The bound of smooth fields grows with the "
        "patch; the measured distance need not, and a linear kernel does not see the patch at all. Upper row: in units "
        "of ||x||; lower row: in units of the distance between two images. "
    )
    return _figure(rows, PATCH, words)


def needed_for_pooling_scale(run: Run) -> pd.DataFrame:
    """The rows that differ in the pooling scale alone; ``ValueError`` if the run has none."""
    return _rows(run, POOLING)


def needed_for_patch_size(run: Run) -> pd.DataFrame:
    """The rows that differ in the patch size alone; ``ValueError`` if the run has none."""
    return _rows(run, PATCH)


def _rows(run: Run, knob: Knob) -> pd.DataFrame:
    """The rows of architectures that differ in the knob alone, at one size of every deformation."""
    rows = part(run, knob.column)
    rows = rows[rows[ASKED] != BOTH]
    texts = [str(text) for text in rows["architecture"].unique()]
    found = _split(texts, knob)
    rows = rows[rows["architecture"].isin(found) & rows[SIZE].notna()]
    if rows.empty or measured(rows).empty:
        raise ValueError(
            f"{knob.column} must vary with everything else held fixed, got one value; run a spec with vary "
            + ("'layers.-1.pooling_scale': [1, 2, 4, 8]" if knob is POOLING else "'layers.*.patch_size': [1, 3, 5]")
        )
    one = {text: other.rest for text, other in found.items()}
    rest = settings(one.values(), {one[text] for text in controls(rows)})
    rows = rows.copy()
    rows[VALUE] = [found[text].value for text in rows["architecture"]]
    rows[REST] = [rest[one[text]] for text in rows["architecture"]]
    chosen = measured(rows).groupby(DEFORMATION)[SIZE].unique().map(lambda sizes: sorted(sizes)[len(sizes) // 2])
    return rows[rows[SIZE] == rows[DEFORMATION].map(chosen)]


def _split(texts: list[str], knob: Knob) -> Mapping[str, Split]:
    if knob is POOLING:
        return varying(texts, last_scale)
    return varying(texts, every_patch) or varying(texts, last_patch)


def _figure(rows: pd.DataFrame, knob: Knob, words: str) -> Drawn:
    there = measured(rows)
    fields, kinds = deformations(there)[: len(MARKERS)], there[DEFORMATION].nunique()
    markers = dict(zip(fields, MARKERS, strict=False))
    columns = [(rest, front_end) for rest in there[REST].unique() for front_end in inputs(there)]
    units = [DISTANCE, PAIRS] if (there[PAIRS] > 0).any() else [DISTANCE]
    shown = columns[:MOST]
    looks, main = marks(there), main_series(there)
    extra = 0.02 * max(0, len(looks) - 2)
    figure, grid = panels(len(units), len(shown), 0.1 + extra + 0.35 * len(units), sharex=True, sharey="row")
    for column, (rest, front_end) in enumerate(shown):
        chosen = there[(there["front_end"] == front_end) & (there[REST] == rest)]
        for unit, axes in zip(units, grid[:, column], strict=True):
            _panel(axes, chosen, knob, unit, markers, main)
        grid[0, column].set_title(input_name(front_end) + (f"\n{rest}" if rest else ""))
        grid[-1, column].set_xlabel(knob.label)
    grid[0, 0].set_ylabel(RELATIVE)
    if len(units) > 1:
        grid[1, 0].set_ylabel(IN_PAIRS)
    sizes = {field: size_words(there[there[DEFORMATION] == field]) for field in fields}
    keys = [
        handle(Mark("", "#333333", "none", marker), label=wrapped(f"{PLURAL[marker]}: {field}, {sizes[field]}"))
        for field, marker in markers.items()
    ]
    lines = [handle(mark, marker="") for mark in _entries(there, looks)]
    bands = [band_handle(looks[main], f"{main}, 10\N{EN DASH}90 %")] if main and len(markers) < 3 else []
    legend_below(figure, [*lines, *bands, *keys])
    told = ", ".join(f"{PLURAL[marker]}: {field} of {sizes[field]}" for field, marker in markers.items())
    owned = "Bound, trivial bound and band" if bands else "Bound and trivial bound"
    caption = (
        f"Distance against the {knob.column.replace('_', ' ')} with everything else held fixed; medians"
        f"{', bands 10-90 %' if bands else ''}. Colour and line style tell what is drawn, the marker only the field "
        f"({told}); where CKN and control agree, the control's dashes and markers cover the CKN's. {words}"
        + (f"{owned} are those of the {main}. " if len(looks) > 2 and main else "")
        + (f"The first {len(fields)} of {kinds} kinds of fields. " if kinds > len(fields) else "")
        + (f"The first {MOST} of {len(columns)} combinations of the other values. " if len(columns) > MOST else "")
        + closing(rows)
    )
    return Drawn(figure, caption)


def _entries(rows: pd.DataFrame, looks: Mapping[str, Mark]) -> list[Mark]:
    there = theory(rows)
    entries = list(looks.values())
    for column, mark in (("bound_closed_form", BOUND_MARK), ("trivial", TRIVIAL_MARK)):
        entries += [mark] if np.isfinite(there[column].to_numpy(dtype=float)).any() else []
    return entries + ([PAIRS_MARK] if (rows[PAIRS] > 0).any() else [])


def _panel(
    axes: Axes, rows: pd.DataFrame, knob: Knob, value: str, markers: Mapping[str, str], main: str | None
) -> None:
    axes.set(xscale="log" if knob.log else "linear", yscale="log")
    settings = np.unique(rows[VALUE].to_numpy(dtype=float))
    covered = theory(rows) if value == DISTANCE else rows
    looks, own = marks(rows), rows[rows[SERIES] == main]
    line(axes, settings, _reference(own, settings, value), PAIRS_MARK)
    for field, marker in markers.items():
        here = covered[covered[DEFORMATION] == field]
        if value == DISTANCE:
            for column, mark in (("bound_closed_form", BOUND_MARK), ("trivial", TRIVIAL_MARK)):
                allowed = spread(own[own[DEFORMATION] == field], VALUE, column)["median"]
                line(axes, allowed.index, allowed, mark, marker=marker, zorder=1.9)  # below what is measured
        for words, mark in looks.items():
            found = spread(here[here[SERIES] == words], VALUE, value)
            if found.empty:
                continue
            if words == main and len(markers) < 3:  # more bands on top of each other tell nothing
                band(axes, found.index, found, mark)
            line(axes, found.index, found["median"], mark, marker=marker)
    if knob.inverse and value == DISTANCE and len(settings) > 1 and len(own):
        lows = [spread(part, VALUE, value)["low"].iloc[0] for _, part in own.groupby(DEFORMATION)]
        _slope(axes, settings, float(min(lows)))
    axes.xaxis.set_tick_params(which="minor", bottom=False)
    if knob.log:
        plain_log_ticks(axes.xaxis, settings)
    else:
        axes.set_xticks(settings)


def _reference(rows: pd.DataFrame, settings: Array, value: str) -> list[float]:
    """The distance of two different images at each setting: a number in units of ||x||, 1 in its own unit."""
    if value == PAIRS:
        return [1.0] * len(settings)
    return [two_images(rows[rows[VALUE] == setting]) for setting in settings]


def _slope(axes: Axes, x: Array, lowest: float) -> None:
    """The triangle stands below all lines, over the first half of the axis."""
    left, right = np.exp(np.quantile(np.log(x[[0, -1]]), (0.12, 0.34)))
    triangle(axes, (float(left), float(right)), lowest / 2, -1.0)
