"""Distance versus deformation: translations and smooth fields, raw and mean-removed, below what theory allows."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from stability.plots.captions import closing
from stability.plots.drawing import (
    BOUND_MARK,
    CKN_MARK,
    DISPLACEMENT,
    JACOBIAN,
    LINEAR_MARK,
    PAIRS_MARK,
    RELATIVE,
    TRIVIAL_MARK,
    Drawn,
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
    FAMILIES,
    LINEAR,
    Array,
    Run,
    input_name,
    inputs,
    of_sweep,
    size_axis,
    spread,
    two_images,
)

SWEEP = "curves"
ABSCISSAE = {"translation": ("displacement_norm", DISPLACEMENT), "fourier": ("jacobian_norm", JACOBIAN)}


def distance_versus_deformation(run: Run) -> Drawn:
    """||Phi(L_tau x) - Phi(x)|| / ||x|| against the size of tau, log-log.

    Rows of panels: translations over ||tau|| in px, smooth fields over ||grad tau||; columns: the inputs.

    Args:
        run: needs the sweep "curves".

    Raises:
        ValueError: if the run has no such sweep.
    """
    rows = of_sweep(run, SWEEP)
    families = [family for family in FAMILIES if (rows["family"] == family).any()]
    columns = inputs(rows)
    figure, grid = panels(len(families), len(columns), 0.14 + 0.345 * len(families), sharey=True)
    for family, line_of_axes in zip(families, grid, strict=True):
        for front_end, axes in zip(columns, line_of_axes, strict=True):
            _panel(axes, rows[(rows["family"] == family) & (rows["front_end"] == front_end)], family)
            axes.set_title(f"{FAMILIES[family]}, {input_name(front_end)}")
        line_of_axes[0].set_ylabel(RELATIVE)
    marks = (CKN_MARK, LINEAR_MARK, BOUND_MARK, TRIVIAL_MARK, PAIRS_MARK)
    legend_below(figure, [*map(handle, marks), band_handle(CKN_MARK, "exact CKN, 10\N{EN DASH}90 %")], 3)
    caption = (
        "Distance of the representations of an image and of its deformation, in units of ||x||, median over images "
        "and fields of one asked size with the 10-90 % band. Along the smooth fields ||tau|| grows with ||grad tau|| "
        "(upper axis): the drawn field is scaled, both norms push at once. Where ||grad tau|| >= 1 (grey) the theorem "
        "says nothing; an infinite bound is not drawn. " + closing(rows)
    )
    return Drawn(figure, caption)


def _panel(axes: Axes, rows: pd.DataFrame, family: str) -> None:
    column, label = ABSCISSAE[family]
    sizes = size_axis(rows, column)
    axes.set(xscale="log", yscale="log", xlabel=label)
    ckn, linear = (rows[rows["representation"] == name] for name in (CKN, LINEAR))
    for value, mark in (("bound_closed_form", BOUND_MARK), ("trivial", TRIVIAL_MARK)):
        medians = spread(ckn, "asked_displacement_norm", value)["median"]
        line(axes, sizes[medians.index], medians, mark)
    reference = two_images(ckn)
    if math.isfinite(reference):
        axes.axhline(reference, **(PAIRS_MARK.style() | {"marker": ""}))
    found = spread(ckn, "asked_displacement_norm", DISTANCE)
    x = sizes[found.index]
    band(axes, x, found, CKN_MARK)
    line(axes, x, found["median"], CKN_MARK)
    control = spread(linear, "asked_displacement_norm", DISTANCE)["median"]
    line(axes, sizes[control.index], control, LINEAR_MARK)
    if len(found) > 1:
        _slope(axes, np.asarray(x, dtype=float), np.asarray(found["median"], dtype=float))
    if family == "fourier":
        _not_covered(axes, sizes)
    else:
        plain_log_ticks(axes.xaxis, sizes)


def _slope(axes: Axes, x: Array, y: Array) -> None:
    """The triangle stands below the line, at three quarters of the axis."""
    left, right = np.exp(np.quantile(np.log(x[[0, -1]]), (0.62, 0.80)))
    height = float(np.exp(np.interp(np.log(left), np.log(x), np.log(y))))
    triangle(axes, (float(left), float(right)), height / 5, 1.0)


def _not_covered(axes: Axes, sizes: "pd.Series[float]") -> None:
    """Grey from ||grad tau|| = 1 on, and the asked ||tau|| on the upper axis."""
    left, right = axes.get_xlim()
    if right > 1:
        axes.axvspan(1.0, right, color="#eeeeee", zorder=0, lw=0)
        place = (float(np.sqrt(right)), 0.97)
        words = axes.text(*place, "not covered", transform=axes.get_xaxis_transform(), rotation=90, fontsize="small")
        words.set(ha="center", va="top", color="#555555")
    axes.set_xlim(left, right)
    above = axes.twiny()
    above.set(xscale="log", xlim=(left, right))
    above.grid(visible=False)
    above.spines["top"].set_visible(True)
    above.set_xticks(sizes.to_numpy(dtype=float), [f"{size:g}" for size in sizes.index])
    above.minorticks_off()
    above.set_xlabel(DISPLACEMENT)
