"""One knob at a time: distance versus the last pooling scale, distance versus the patch size."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from stability.plots.captions import closing
from stability.plots.drawing import (
    BOUND_MARK,
    CKN_MARK,
    IN_PAIRS,
    LINEAR_MARK,
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
)
from stability.plots.reading import (
    CKN,
    DISTANCE,
    FIELD,
    LINEAR,
    PAIRS,
    Array,
    Run,
    input_name,
    inputs,
    measured,
    of_sweep,
    spread,
    two_images,
)

MARKERS = {"translation": "o", "fourier": "s"}
PLURAL = {"o": "circles", "s": "squares"}


@dataclass(frozen=True)
class Knob:
    """One varied number: sweep and column, axis label, scale of the x axis, and whether theory gives slope -1 in it."""

    column: str
    label: str
    log: bool
    inverse: bool


POOLING = Knob("pooling_scale", r"last pooling scale $\sigma_n$ (px)", log=True, inverse=True)
PATCH = Knob("patch_size", "patch size (px)", log=False, inverse=False)


def pooling_scale(run: Run) -> Drawn:
    """Distance against sigma_n: bound T(c / sigma_n) <= c / sigma_n (times a constant), so slope -1 at large sigma_n.

    Args:
        run: needs the sweep "pooling_scale".

    Raises:
        ValueError: if the run has no such sweep.
    """
    words = (
        "Upper row: in units of ||x||, which is what the theorem bounds; a large sigma_n wins because it blurs the "
        "image away, and the distance of two different images falls with it. Lower row: in units of the distance "
        "between two images; only this may be compared between models. For translations the closed form is T(c / "
        "sigma_n), slope -1 where c << sigma_n; for smooth fields it levels off at what the layers' commutators cost. "
    )
    return _figure(run, POOLING, words)


def patch_size(run: Run) -> Drawn:
    """Distance against the patch size: the bound of smooth fields grows, translations commute with patches.

    Args:
        run: needs the sweep "patch_size".

    Raises:
        ValueError: if the run has no such sweep.
    """
    words = (
        "Every layer has this patch size. A translation commutes with patch extraction: its bound does not see the "
        "patch. The bound of smooth fields grows with the patch; the measured distance need not, and the linear "
        "control does not see the patch at all. Upper row: in units of ||x||; lower row: in units of the distance "
        "between two images. "
    )
    return _figure(run, PATCH, words)


def _figure(run: Run, knob: Knob, words: str) -> Drawn:
    rows = of_sweep(run, knob.column)
    columns = inputs(rows)
    figure, grid = panels(2, len(columns), 0.8, sharex=True, sharey="row")
    sizes = measured(rows).groupby("family")["asked_displacement_norm"].first()
    for column, front_end in enumerate(columns):
        part = measured(rows[rows["front_end"] == front_end])
        _panel(grid[0, column], part, knob, DISTANCE)
        _panel(grid[1, column], part, knob, PAIRS)
        grid[0, column].set_title(input_name(front_end))
        grid[1, column].set_xlabel(knob.label)
    grid[0, 0].set_ylabel(RELATIVE)
    grid[1, 0].set_ylabel(IN_PAIRS)
    keys = [
        handle(Mark(f"{PLURAL[marker]}: {FIELD[family]}, {sizes[family]:g} px", "#333333", "none", marker))
        for family, marker in MARKERS.items()
        if family in sizes
    ]
    marks = [CKN_MARK, LINEAR_MARK, BOUND_MARK, TRIVIAL_MARK, PAIRS_MARK]
    lines = [handle(mark, marker="") for mark in marks]
    legend_below(figure, [*lines, band_handle(CKN_MARK, "exact CKN, 10\N{EN DASH}90 %"), *keys], 4)
    fields = ", ".join(
        f"{PLURAL[marker]}: {FIELD[family]} of {sizes[family]:g} px"
        for family, marker in MARKERS.items()
        if family in sizes
    )
    caption = (
        f"Distance against the {knob.column.replace('_', ' ')} with everything else held fixed; medians, bands "
        f"10-90 %. Colour and line style tell what is drawn, the marker only the field ({fields}); where CKN and "
        f"control agree, the control's dashes and markers cover the CKN's. {words}{closing(rows)}"
    )
    return Drawn(figure, caption)


def _panel(axes: Axes, rows: pd.DataFrame, knob: Knob, value: str) -> None:
    axes.set(xscale="log" if knob.log else "linear", yscale="log")
    settings = np.unique(rows[knob.column].to_numpy(dtype=float))
    ckn, linear = (rows[rows["representation"] == name] for name in (CKN, LINEAR))
    line(axes, settings, _reference(ckn, knob, settings, value), PAIRS_MARK)
    for family, marker in MARKERS.items():
        own, control = (part[part["family"] == family] for part in (ckn, linear))
        if own.empty:
            continue
        if value == DISTANCE:
            for column, mark in (("bound_closed_form", BOUND_MARK), ("trivial", TRIVIAL_MARK)):
                allowed = spread(own, knob.column, column)["median"]
                line(axes, allowed.index, allowed, mark, marker=marker, zorder=1.9)  # below what is measured
        found = spread(own, knob.column, value)
        band(axes, found.index, found, CKN_MARK)
        line(axes, found.index, found["median"], CKN_MARK, marker=marker)
        medians = spread(control, knob.column, value)["median"]
        line(axes, medians.index, medians, LINEAR_MARK, marker=marker)
    if knob.inverse and value == DISTANCE and len(settings) > 1 and len(ckn):
        lows = [spread(part, knob.column, value)["low"].iloc[0] for _, part in ckn.groupby("family")]
        _slope(axes, settings, float(min(lows)))
    axes.xaxis.set_tick_params(which="minor", bottom=False)
    if knob.log:
        plain_log_ticks(axes.xaxis, settings)
    else:
        axes.set_xticks(settings)


def _reference(rows: pd.DataFrame, knob: Knob, settings: Array, value: str) -> list[float]:
    """The distance of two different images at each setting: a number in units of ||x||, 1 in its own unit."""
    if value == PAIRS:
        return [1.0] * len(settings)
    return [two_images(rows[rows[knob.column] == setting]) for setting in settings]


def _slope(axes: Axes, x: Array, lowest: float) -> None:
    """The triangle stands below all lines, over the first half of the axis."""
    left, right = np.exp(np.quantile(np.log(x[[0, -1]]), (0.12, 0.34)))
    triangle(axes, (float(left), float(right)), lowest / 2, -1.0)
