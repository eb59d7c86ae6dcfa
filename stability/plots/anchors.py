"""Nyström convergence: how far the finite CKN's distance is from the exact one, against the number of anchors."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from stability.plots.architectures import setting_words, with_settings
from stability.plots.captions import listed, sample_words
from stability.plots.drawing import (
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
from stability.plots.reading import DISTANCE, Run, input_name, inputs, measured, spread
from stability.plots.series import DEFORMATION, EXACT, FINITE, KIND, SETTING, deformations, drawn
from stability.plots.series import anchors as count

ERROR, COUNT, ENERGY = "error", "anchors", "captured_energy"
RELATIVE_ERROR = r"$|d_\mathrm{finite}-d_\mathrm{exact}|\,/\,d_\mathrm{exact}$"
KEYS = [
    "image", "family", "cutoff", "field_seed", "search", "architecture", "front_end", "asked_displacement_norm",
    "asked_jacobian_norm", "layer",
]  # fmt: skip
LOOKS = (
    ("#332288", "-", "o"), ("#CC6677", (0, (5, 1.5)), "s"), ("#117733", (0, (6, 1.5, 1, 1.5)), "^"),
    ("#AA4499", (0, (2, 1)), "D"), ("#882255", (0, (8, 2)), "v"), ("#999933", (0, (1.2, 1.2)), "P"),
)  # fmt: skip
"""Lines of deformations: none of the colours that stand for a representation elsewhere."""


def anchors(run: Run) -> Drawn:
    """|d_finite - d_exact| / d_exact against the number of anchors, log-log, above the share of energy they capture.

    Args:
        run: needs rows of a finite CKN with two numbers of anchors and of the exact CKN of the same architecture,
            image and field.

    Raises:
        ValueError: if the run has none.
    """
    rows = needed(run)
    columns = inputs(rows)
    captured = ENERGY in rows and bool(rows[ENERGY].notna().any())
    names = [f"{field}{', ' + word if word else ''}" for field, word in _lines(rows)]
    looks = [Mark(name, *LOOKS[i % len(LOOKS)]) for i, name in enumerate(names)]
    height = 0.62 if len(columns) == 1 else 0.46
    shape = (2 if captured else 1, len(columns))
    ratios = [2.2, 1.0][: shape[0]]
    figure, grid = panels(
        *shape, height + 0.2 * (shape[0] - 1), sharex=True, sharey="row", gridspec_kw={"height_ratios": ratios}
    )
    for column, front_end in enumerate(columns):
        own = rows[rows["front_end"] == front_end]
        _errors(grid[0, column], own, list(zip(_lines(rows), looks, strict=True)))
        grid[0, column].set_title(input_name(front_end))
        if captured:
            _energies(grid[1, column], own)
        grid[-1, column].set_xlabel("anchors of all layers\n(below: of each layer)")
        ticks = own.groupby(COUNT)["filters"].first()
        plain_log_ticks(grid[-1, column].xaxis, ticks.index)
        lean = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if len(ticks) > 7 else {}
        labels = [f"{total:g}\n{each}" for total, each in ticks.items()]
        grid[-1, column].set_xticks(ticks.index.to_numpy(dtype=float), labels, **lean)
    grid[0, 0].set_ylabel(RELATIVE_ERROR)
    if captured:
        grid[1, 0].set_ylabel("captured\nenergy")
    legend_below(figure, [*map(handle, looks), band_handle(looks[0], "10\N{EN DASH}90 %")])
    return Drawn(figure, _caption(rows, captured))


def paired(rows: pd.DataFrame) -> pd.DataFrame:
    """Every row of a finite CKN with the exact distance of the same image, field and architecture.

    Args:
        rows: complete rows.

    Returns:
        The rows that have such a partner, with ``error`` = |d_finite - d_exact| / d_exact and ``anchors``.
    """
    there = drawn(measured(rows))
    keys = [key for key in ("sweep", *KEYS) if key in there]
    exact = there[(there[KIND] == EXACT) & (there[DISTANCE] > 0)].drop_duplicates(keys)
    finite = there[(there[KIND] == FINITE) & (there["filters"] != "")]
    both = finite.merge(exact[[*keys, DISTANCE]], on=keys, suffixes=("", "_exact"))
    error = (both[DISTANCE] - both[f"{DISTANCE}_exact"]).abs() / both[f"{DISTANCE}_exact"]
    return both.assign(**{ERROR: error, COUNT: both["filters"].map(count)})


def needed(run: Run) -> pd.DataFrame:
    """The rows that the figure is drawn from; ``ValueError`` if the run has none."""
    rows = paired(run.complete())
    if rows.empty:
        raise ValueError(
            "rows must hold a finite CKN beside the exact one, got none of the same image, field and architecture; "
            "run a spec with the representations gram and ckn"
        )
    several = rows.groupby("architecture")[COUNT].nunique()
    rows = rows[rows["architecture"].isin(several.index[several > 1])]
    if rows.empty:
        raise ValueError("filters must hold two or more numbers of anchors, got one; add more ckn to representations")
    return with_settings(rows)


def _lines(rows: pd.DataFrame) -> list[tuple[str, str]]:
    return [(field, word) for field in deformations(rows) for word in setting_words(rows)]


def _errors(axes: Axes, rows: pd.DataFrame, lines: list[tuple[tuple[str, str], Mark]]) -> None:
    axes.set(xscale="log", yscale="log")
    lowest = []
    for (field, word), mark in lines:
        own = rows[(rows[DEFORMATION] == field) & (rows[SETTING] == word) & (rows[ERROR] > 0)]
        found = spread(own, COUNT, ERROR)
        if found.empty:
            continue
        band(axes, found.index, found, mark)
        line(axes, found.index, found["median"], mark)
        lowest.append(found["low"])
    below = pd.concat(lowest).groupby(level=0).min() if lowest else pd.Series(dtype=float)
    if len(below) > 1:
        x = below.index.to_numpy(dtype=float)
        left, right = np.exp(np.quantile(np.log(x[[0, -1]]), (0.08, 0.26)))
        height = float(np.exp(np.interp(np.log(right), np.log(x), np.log(below.to_numpy(dtype=float)))))
        triangle(axes, (float(left), float(right)), height / 2, -1.0)


def _energies(axes: Axes, rows: pd.DataFrame) -> None:
    """Lines of different architectures overlap: grey says that colour means nothing here."""
    axes.set(xscale="log")
    for turn, (_, own) in enumerate(rows.groupby(SETTING)):
        found = spread(own, COUNT, ENERGY)
        line(axes, found.index, found["median"], Mark("captured energy", "#333333", LOOKS[turn % 6][1], ".", 0.8))


def _caption(rows: pd.DataFrame, captured: bool) -> str:
    fields = listed(deformations(rows))
    words = (
        "How far the distance under a deformation that the finite CKN measures is from the exact one of the same "
        f"image, field and architecture ({fields}; all sizes together); median with the 10-90 % band. The triangle is "
        "a ruler of slope -1, no prediction: nothing is proved about this rate. Anchors are learnt by k-means from "
        f"images of the same set. Sample: {sample_words(rows)}; an estimate for it, no bound."
    )
    if captured:
        words += " Captured energy: the share of the patches' kernel energy that lies in the span of the anchors."
    return words
