"""The plane of the two norms: what is measured as colour, what theory allows as level lines."""

import itertools
import json
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import cm, colors
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from stability.architecture import Architecture
from stability.bounds.closed_form import closed_form
from stability.plots.architectures import setting_words, with_settings
from stability.plots.captions import closing, listed
from stability.plots.drawing import (
    DISPLACEMENT,
    IN_PAIRS,
    JACOBIAN,
    PAIRS_MARK,
    RELATIVE,
    Drawn,
    Mark,
    handle,
    legend_below,
    panels,
    plain,
    plain_log_ticks,
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
    two_images,
)
from stability.plots.series import (
    ASKED,
    BOTH,
    DEFORMATION,
    KIND,
    SEARCH,
    SERIES,
    SETTING,
    THEORY,
    deformations,
    main_series,
    plural,
    series_of,
)

SWEEP = "plane"
LEVELS = (0.1, 0.2, 0.5, 1.0, 2.0)
RESOLUTION = 25
REACHED = 1e-3
"""Share of a norm that a field with exactly this norm may lack."""
TICKS = [m * 10.0**e for e in range(-8, 4) for m in (1, 2, 5)]
MOST = 4
"""Columns of panels: more would be too small to read."""
UNITS = {DISTANCE: f"median measured {RELATIVE}", PAIRS: "median measured " + IN_PAIRS}


@dataclass(frozen=True)
class Column:
    """What the panels of one column share."""

    field: str
    front_end: str
    setting: str

    def of(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows of the column; a representation without an architecture is in all of them."""
        own = rows[(rows[DEFORMATION] == self.field) & (rows["front_end"] == self.front_end)]
        return own[own[SETTING].isin((self.setting, ""))]


def plane(run: Run) -> Drawn:
    """Median distance over (||tau||, ||grad tau||) as colour, level lines of the closed form; a row of panels for each
    representation.

    Args:
        run: needs one family with two or more of both norms; of a quickstart the sweep "plane".

    Raises:
        ValueError: if the run has none.
    """
    rows = needed(run)
    there, names, columns = measured(rows), series_of(rows), _columns(rows)
    covered = there.loc[there[KIND].isin(THEORY), SERIES].unique()
    units = {name: DISTANCE if name in covered or not (there[PAIRS] > 0).any() else PAIRS for name in names}
    names.sort(key=lambda name: units[name] == PAIRS)
    shown = columns[:MOST]
    places, shape = _places(names, units, len(shown))
    figure, grid = panels(*shape, _height(*shape), sharex="col", sharey=True)
    handles: list[Any] = [
        handle(PAIRS_MARK, color="black", linewidth=1.0, label="closed-form bound (level lines)"),
        Patch(facecolor="white", edgecolor="#999999", hatch="////", label="no such field"),
    ]
    told: list[str] = []
    for unit in dict.fromkeys(units.values()):
        chosen = [i for i, name in enumerate(names) if units[name] == unit]
        block = there[there[SERIES].isin([names[i] for i in chosen])]
        main = block[block[SERIES] == (main_series(block) or names[chosen[0]])]
        references = [two_images(column.of(main)) if unit == DISTANCE else float("nan") for column in shown]
        known = {column: value for column, value in zip(shown, references, strict=True) if np.isfinite(value)}
        norm = _norm(block, unit, list(known.values()))
        mesh: Any = None
        for name, (j, column) in itertools.product([names[i] for i in chosen], enumerate(shown)):
            row, across = places[name]
            axes = grid[row, across + j]
            mesh = _panel(axes, column.of(rows[rows[SERIES] == name]), norm, unit) or mesh
            axes.set_title(f"{plain(name)},{' ' if len(name) < 24 else chr(10)}{_title(column, columns)}")
        block_rows = sorted({places[names[i]][0] for i in chosen})
        bar = figure.colorbar(
            mesh, ax=grid[block_rows], label=UNITS[unit], shrink=0.9, pad=0.02, aspect=16 * len(block_rows)
        )
        low, high = mesh.get_clim()
        ticks = [value for value in TICKS if low <= value <= high]
        bar.set_ticks(ticks, labels=[f"{value:g}" for value in ticks])
        bar.ax.minorticks_off()
        for (column, value), fill in zip(known.items(), ("black", "white", *["grey"] * MOST), strict=False):
            mark = Mark(f"{PAIRS_MARK.label}, {_title(column, columns)}", "black", "none", ">")
            bar.ax.plot([0.0], [value], **(mark.style() | {"markerfacecolor": fill}), clip_on=False, zorder=9)
            handles.append(handle(mark, markerfacecolor=fill))
            told.append(f"{value:.2g} ({_title(column, columns)})")
    _outer(grid)
    legend_below(figure, handles, 2)
    return Drawn(figure, _caption(rows, units, told, len(columns)))


def needed(run: Run) -> pd.DataFrame:
    """The rows that the figure is drawn from; ``ValueError`` if the run has none."""
    rows = part(run, SWEEP)
    rows = rows[rows[ASKED] == BOTH]
    if measured(rows).empty:
        raise ValueError(
            "rows must hold two or more of both norms, got at most one of them; ask for displacement_norm and "
            "jacobian_norm of one family"
        )
    return with_settings(rows)


def _columns(rows: pd.DataFrame) -> list[Column]:
    there = measured(rows)
    columns = [
        Column(field, front_end, word)
        for field in deformations(there)
        for word in setting_words(rows)
        for front_end in inputs(there)
    ]
    return [column for column in columns if not column.of(there).empty]


def _title(column: Column, columns: list[Column]) -> str:
    several = len({other.field for other in columns}) > 1
    return ", ".join([input_name(column.front_end), *[word for word in (column.setting,) if word]]) + (
        f",\n{plural(column.field)}" if several else ""
    )


def _places(
    names: list[str], units: dict[str, str], columns: int
) -> tuple[dict[str, tuple[int, int]], tuple[int, int]]:
    """Representation -> row and first column of its panels, and rows x columns of the figure.

    Every representation has a row of its own; where that is one panel, two of them in the same unit share it.
    """
    places: dict[str, tuple[int, int]] = {}
    for name in names:
        before = [other for other in places if units[other] == units[name]]
        row = 1 + max((place[0] for place in places.values()), default=-1)
        beside = columns == 1 and len(before) % 2 == 1
        places[name] = (row - 1, 1) if beside else (row, 0)
    wide = max(place[1] for place in places.values()) + columns
    return places, (1 + max(place[0] for place in places.values()), wide)


def _height(rows: int, columns: int) -> float:
    """Panels a little wider than high."""
    return 0.12 + {1: 0.46, 2: 0.36}.get(columns, 0.3) * rows


def _outer(grid: Any) -> None:
    """Words on the outer axes only; a panel with an empty place below is an outer one."""
    for row, column in np.ndindex(grid.shape):
        axes = grid[row, column]
        if not axes.get_title():
            axes.set_axis_off()
            continue
        below = row + 1 < grid.shape[0] and grid[row + 1, column].get_title()
        axes.tick_params(labelbottom=not below, labelleft=column == 0)
        axes.set(xlabel="" if below else DISPLACEMENT, ylabel="" if column else JACOBIAN)


def _norm(rows: pd.DataFrame, unit: str, references: list[float]) -> colors.LogNorm:
    keys = [SERIES, SETTING, DEFORMATION, "front_end", "asked_jacobian_norm", "asked_displacement_norm"]
    medians = rows[rows[unit] > 0].groupby(keys)[unit].median()
    return colors.LogNorm(float(medians.min()), 1.05 * max([float(medians.max()), *references]))


def _panel(axes: Axes, rows: pd.DataFrame, norm: colors.LogNorm, unit: str) -> cm.ScalarMappable | None:
    """One heat map with its lines."""
    if measured(rows).empty:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color="#555555")
        return None
    table = rows.pivot_table(
        index="asked_jacobian_norm", columns="asked_displacement_norm", values=unit, aggfunc="median", dropna=False
    )
    x, y = (np.asarray(axis, dtype=float) for axis in (table.columns, table.index))
    across, up = _edges(x), _edges(y)
    values = np.ma.masked_invalid(table.to_numpy(dtype=float))
    axes.set(xscale="log", yscale="log")
    axes.grid(visible=False)
    mesh = axes.pcolormesh(across, up, values, norm=norm, cmap="viridis", edgecolors="white", linewidth=0.6)
    for i, j in np.argwhere(np.ma.getmaskarray(values)):
        width, height = across[j + 1] - across[j], up[i + 1] - up[i]
        empty = Rectangle((across[j], up[i]), width, height, hatch="////", facecolor="white", linewidth=0.0)
        empty.set_edgecolor("#999999")
        axes.add_patch(empty)
    if (
        unit == DISTANCE
        and rows[KIND].isin(THEORY).all()
        and np.isfinite(rows["bound_closed_form"].to_numpy(dtype=float)).any()
    ):
        _level_lines(axes, rows, across, up)
    plain_log_ticks(axes.xaxis, x)
    plain_log_ticks(axes.yaxis, y)
    return mesh


def _caption(rows: pd.DataFrame, units: dict[str, str], told: list[str], columns: int) -> str:
    outside = [name for name, unit in units.items() if unit == PAIRS]
    exact = rows[~rows[DEFORMATION].isin(_within(rows))]
    words = [
        "Colour: median distance of the representations in units of ||x||. Lines: the closed form of the theorem for "
        "every field with these two norms (nothing else of the field is used)."
    ]
    if len(exact):
        words.append(
            f"{_told(deformations(exact))} have exactly these two norms; "
            "their mean shift is split off, so that the bound in their rows may be lower. Hatched: no field of this "
            "family has such a pair of norms (a large gradient at a small displacement needs higher frequencies). At "
            "one ||tau|| a larger ||grad tau|| leaves less of it to the common shift."
        )
    if len(exact) < len(rows):
        words.append(f"{_told(_within(rows))} stay within these two norms.")
    if (rows["family"] == SEARCH).any():
        words.append("A search shows what the supremum is at least: that of the distance if it was its objective.")
    if outside:
        words.append(f"{listed(outside)}: in units of the distance between two images, with a colour bar of its own.")
    if told:
        words.append(f"Marks on the colour bar: median distance / ||x|| of two images, {', '.join(told)}.")
    if columns > MOST:
        words.append(f"The first {MOST} of {columns} combinations of input, family and architecture.")
    return " ".join([*words, closing(rows)]).replace("\n", " ")


def _told(fields: list[str]) -> str:
    words = listed([plural(name) for name in fields])
    return words[:1].upper() + words[1:]


def _within(rows: pd.DataFrame) -> list[str]:
    """Deformations some of which have smaller norms than were asked for."""
    there = measured(rows)
    smaller = pd.concat(
        [there[norm] < (1 - REACHED) * there[f"asked_{norm}"] for norm in ("displacement_norm", "jacobian_norm")],
        axis=1,
    ).any(axis=1)
    return deformations(there[smaller])


def _level_lines(axes: Axes, rows: pd.DataFrame, across: Array, up: Array) -> None:
    """The theorem from the two norms alone, evaluated between the cells too."""
    architecture = Architecture.from_dict(json.loads(str(rows["architecture"].iloc[0])))
    a, b = (np.geomspace(axis[0], axis[-1], RESOLUTION) for axis in (across, up))
    far = np.inf  # rows with a bound: where a border of zeros asks for it, their fields vanish near the border
    allowed = np.array(
        [
            [closed_form(architecture, displacement_norm=c, jacobian_norm=g, vanishing_border=far).value for c in a]
            for g in b
        ],
        dtype=float,
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
