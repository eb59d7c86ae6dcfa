"""The plane of the two norms: what is measured as colour, what theory allows as level lines."""

import itertools
import json
import math
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import cm, colors
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from stability.architecture import Architecture
from stability.bounds.closed_form import closed_form
from stability.plots.captions import closing
from stability.plots.drawing import (
    DISPLACEMENT,
    JACOBIAN,
    PAIRS_MARK,
    RELATIVE,
    Drawn,
    Mark,
    handle,
    legend_below,
    panels,
    plain_log_ticks,
)
from stability.plots.reading import (
    CKN,
    DISTANCE,
    LINEAR,
    Array,
    Run,
    input_name,
    inputs,
    measured,
    of_sweep,
    two_images,
)

SWEEP = "plane"
LEVELS = (0.1, 0.2, 0.5, 1.0, 2.0)
RESOLUTION = 25
NAMES = {CKN: "exact CKN", LINEAR: "linear kernel (control)"}


def plane(run: Run) -> Drawn:
    """Median distance / ||x|| over (||tau||, ||grad tau||) as colour; level lines of the closed form.

    Args:
        run: needs the sweep "plane".

    Raises:
        ValueError: if the run has no such sweep.
    """
    rows = of_sweep(run, SWEEP)
    columns = inputs(rows)
    there = measured(rows)
    keys = ["representation", "front_end", "asked_jacobian_norm", "asked_displacement_norm"]
    medians = there.groupby(keys)[DISTANCE].median()
    references = [two_images(there[(there["representation"] == CKN) & (there["front_end"] == f)]) for f in columns]
    largest = max([float(medians.max()), *filter(math.isfinite, references)])
    norm = colors.LogNorm(float(medians.min()), 1.05 * largest)
    names = {name: words for name, words in NAMES.items() if (there["representation"] == name).any()}
    figure, grid = panels(len(names), len(columns), 0.12 + 0.36 * len(names), sharex=True, sharey=True)
    mesh: Any = None
    for (name, line_of_axes), (column, front_end) in itertools.product(
        zip(names, grid, strict=True), enumerate(columns)
    ):
        axes = line_of_axes[column]
        part = rows[(rows["representation"] == name) & (rows["front_end"] == front_end)]
        mesh = _panel(axes, part, norm)
        axes.set_title(f"{names[name]}, {input_name(front_end)}")
        axes.label_outer()
    bar = figure.colorbar(mesh, ax=grid, label=f"median measured {RELATIVE}", shrink=0.9, pad=0.02, aspect=32)
    low, high = mesh.get_clim()
    ticks = [value for value in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if low <= value <= high]
    bar.set_ticks(ticks, labels=[f"{value:g}" for value in ticks])
    bar.ax.minorticks_off()
    handles: list[Any] = [
        handle(PAIRS_MARK, color="black", linewidth=1.0, label="closed-form bound (level lines)"),
        Patch(facecolor="white", edgecolor="#999999", hatch="////", label="no such field"),
    ]
    for front_end, value, fill in zip(columns, references, ("black", "white", *["grey"] * len(columns)), strict=False):
        mark = Mark(f"{PAIRS_MARK.label}, {input_name(front_end)}", "black", "none", ">")
        bar.ax.plot([0.0], [value], **(mark.style() | {"markerfacecolor": fill}), clip_on=False, zorder=9)
        handles.append(handle(mark, markerfacecolor=fill))
    legend_below(figure, handles, 2)
    caption = (
        "Colour: median distance of the representations in units of ||x|| at exactly these two norms. Lines: the "
        "closed form of the theorem for every field with these two norms (nothing else of the field is used); the "
        "measured fields have their mean shift split off, so that the bound in their rows may be lower. Hatched: no "
        "field of this family has such a pair of norms (a large gradient at a small displacement needs higher "
        "frequencies). At one ||tau|| a larger ||grad tau|| leaves less of it to the common shift. "
        "Marks on the colour bar: median distance / ||x|| of two images, "
        + ", ".join(f"{value:.2g} ({input_name(f)})" for f, value in zip(columns, references, strict=True))
        + ". "
        + closing(rows)
    )
    return Drawn(figure, caption)


def _panel(axes: Axes, rows: pd.DataFrame, norm: colors.LogNorm) -> cm.ScalarMappable:
    """One heat map with its lines."""
    table = rows.pivot_table(
        index="asked_jacobian_norm", columns="asked_displacement_norm", values=DISTANCE, aggfunc="median", dropna=False
    )
    x, y = (np.asarray(axis, dtype=float) for axis in (table.columns, table.index))
    across, up = _edges(x), _edges(y)
    values = np.ma.masked_invalid(table.to_numpy(dtype=float))
    axes.set(xscale="log", yscale="log", xlabel=DISPLACEMENT, ylabel=JACOBIAN)
    axes.grid(visible=False)
    mesh = axes.pcolormesh(across, up, values, norm=norm, cmap="viridis", edgecolors="white", linewidth=0.6)
    for i, j in np.argwhere(np.ma.getmaskarray(values)):
        width, height = across[j + 1] - across[j], up[i + 1] - up[i]
        empty = Rectangle((across[j], up[i]), width, height, hatch="////", facecolor="white", linewidth=0.0)
        empty.set_edgecolor("#999999")
        axes.add_patch(empty)
    _level_lines(axes, rows, across, up)
    plain_log_ticks(axes.xaxis, x)
    plain_log_ticks(axes.yaxis, y)
    return mesh


def _level_lines(axes: Axes, rows: pd.DataFrame, across: Array, up: Array) -> None:
    """The theorem from the two norms alone, evaluated between the cells too."""
    architecture = Architecture.from_dict(json.loads(str(rows["architecture"].iloc[0])))
    a, b = (np.geomspace(axis[0], axis[-1], RESOLUTION) for axis in (across, up))
    allowed = np.array(
        [[closed_form(architecture, displacement_norm=c, jacobian_norm=g).value for c in a] for g in b], dtype=float
    )
    finite = np.ma.masked_invalid(allowed)
    levels = [level for level in LEVELS if finite.min() < level < finite.max()]
    if not levels:
        return
    lines = axes.contour(a, b, finite, levels=levels, colors="black", linewidths=1.0)
    size = 0.85 * float(mpl.rcParams["font.size"])
    for text in axes.clabel(lines, fmt=lambda level: f"{level:g}", fontsize=size, inline=False):
        text.set_bbox({"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85})
        text.set_rotation(0)


def _edges(centres: Array) -> Array:
    """Cell borders half-way between the centres on a log axis."""
    logs = np.log(centres)
    if len(logs) == 1:
        return np.exp(np.array([logs[0] - 0.5, logs[0] + 0.5]))
    middle = (logs[1:] + logs[:-1]) / 2
    return np.exp(np.concatenate([[2 * logs[0] - middle[0]], middle, [2 * logs[-1] - middle[-1]]]))
