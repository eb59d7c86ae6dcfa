"""The largest objective found against the size of the deformation: image by image, median, slope."""

import numpy as np
import pandas as pd

from stability.plots.drawing import (
    DISPLACEMENT,
    RELATIVE,
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
from stability.plots.reading import spread

FOUND = Mark("largest found, median over images", "#D55E00", "-", "*", 1.3)
EACH = Mark("one image", "#9a9a9a", "-", width=0.5)
BAND = "10-90 % of images"
UNITLESS = "distance"


def versus_size(table: pd.DataFrame) -> Drawn:
    """Log-log; distances over ||x||, other objectives in their own unit. What is not above round-off is left out.

    Args:
        table: ``Curve.to_frame()``.

    Raises:
        ValueError: if nothing above round-off was found.
    """
    above = table[table["largest_found"] > table["objective_floor"]]
    if above.empty:
        raise ValueError(f"a curve must have values above 0 and round-off, got {len(table)} others; take larger norms")
    distance = table["unit"].iloc[0] == UNITLESS
    value = above["largest_found"] / above["norm_x"] if distance else above["largest_found"]
    common = above.groupby("size")[["asked_displacement_norm", "asked_jacobian_norm"]].nunique().max(axis=None) == 1
    x = above["asked_displacement_norm"] if common else above["size"]
    above = above.assign(x=x, value=value)
    figure, grid = panels(1, 1, 0.66)
    axes, count = grid[0, 0], above["image"].nunique()
    medians = spread(above, "x", "value")
    for _, own in above.groupby("image"):
        line(axes, own["x"], own["value"], EACH)
    band(axes, medians.index, medians, FOUND)
    line(axes, medians.index, medians["median"], FOUND, markersize=9)
    axes.set(xscale="log", yscale="log", xlabel=f"asked {DISPLACEMENT}" if common else "size t")
    plain_log_ticks(axes.xaxis, medians.index)
    name, unit = str(table["objective"].iloc[0]), str(table["unit"].iloc[0])
    axes.set_ylabel(RELATIVE if name == UNITLESS else f"{name} / " + r"$\|x\|$" if distance else f"{name} ({unit})")
    if common:
        ratio = float(above["asked_jacobian_norm"].iloc[0] / above["asked_displacement_norm"].iloc[0])
        axes.set_title(rf"$\|\nabla\tau\|_\infty\leq$ {ratio:.3g}/px $\cdot$ asked $\|\tau\|_\infty$")
    if len(medians) > 1:
        left, right = (float(medians.index[i]) for i in (0, 1))
        least = float(above["value"].min())
        triangle(axes, (left, right), 0.5 * least, 1.0)
        axes.set_ylim(bottom=0.4 * least)
    legend_below(figure, [handle(FOUND), *([handle(EACH), band_handle(FOUND, BAND)] if count > 1 else [])])
    return Drawn(figure, _caption(table, above, common))


def _caption(table: pd.DataFrame, above: pd.DataFrame, common: bool) -> str:
    images, name = table["image"].nunique(), table["objective"].iloc[0]
    words = [
        f"The largest {name} that a search found at every size, {images} image{'s' if images > 1 else ''}: "
        "a lower bound of the supremum, which grows with the size by construction: a field found at one size is a "
        "start at the next. Medians describe this sample. Triangle: slope 1, that of a supremum near 0."
    ]
    if not common:
        words.append("Size t: fields with t times the norms of each image, which differ.")
    if (lost := len(table) - len(above)) > 0:
        words.append(f"Left out: {lost} of {len(table)} values, not above 0 and round-off.")
    spreads = above.loc[above["starts"] > 1, "spread"].dropna()
    if len(spreads):
        words.append(f"Starts differ by {100 * float(np.median(spreads)):.2g} % (median).")
    return " ".join(words)
