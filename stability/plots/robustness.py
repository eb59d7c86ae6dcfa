"""Certified and found radii of a test set: image by image, and as accuracy against the size of the deformation."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from stability.plots.drawing import Drawn, Mark, handle, legend_below, line, panels, round_log_ticks

SAMPLED = Mark("certified: the network as it is sampled", "#0072B2", "-", "o")
CERTIFIED = Mark("certified: the network of functions on the torus", "#56B4E9", (0, (5, 1.5)), "s", hollow=True)
FOUND = Mark("a field that changes the label was found", "#D55E00", (0, (6, 1.5, 1, 1.5)), "v")
NOT_FOUND = Mark("none was found up to the largest size searched", "#D55E00", "none", "^", hollow=True)
COLUMNS = {"certified": CERTIFIED, "as_sampled": SAMPLED, "found": FOUND}


def radii(
    table: pd.DataFrame, curve: pd.DataFrame, displacement_norm: float, jacobian_norm: float, largest_size: float
) -> Drawn:
    """Left: radii of every image with the right label, in the order of the certified ones. Right: accuracy by size.

    Args:
        table: ``RobustnessRadii.table()``.
        curve: ``RobustnessRadii.curve()``.
        displacement_norm: a at t = 1, px.
        jacobian_norm: b at t = 1.
        largest_size: t up to which was searched.
    """
    figure, axes = panels(1, 2, 0.5)
    left, right = axes.ravel()
    missed = _images(left, table[table["right"]], displacement_norm * largest_size)
    _accuracy(right, table, curve)
    ratio = f"{jacobian_norm / displacement_norm:.3g}"
    left.set_title(f"{int(table['right'].sum())} images with the right label")
    right.set_title(rf"accuracy under all fields, $\|\nabla\tau\|_\infty$ = {ratio}/px $\cdot\|\tau\|_\infty$")
    searched = bool(curve["found"].notna().any())
    marks = [SAMPLED, CERTIFIED, *([FOUND] if searched else []), *([NOT_FOUND] if missed else [])]
    legend_below(figure, [handle(mark) for mark in marks], columns=2)
    return Drawn(figure, caption(table, displacement_norm, jacobian_norm))


def _images(axes: Axes, table: pd.DataFrame, most: float) -> bool:
    """One column of marks for each image; whether some label was never changed."""
    ordered = table.sort_values(["as_sampled_displacement_px", "certified_displacement_px"], ignore_index=True)
    rank = np.arange(1, len(ordered) + 1)
    found = ordered["found_displacement_px"].to_numpy(dtype=float)
    for name, mark in COLUMNS.items():
        values = ordered[f"{name}_displacement_px"].to_numpy(dtype=float)
        line(axes, rank, np.where(np.isfinite(values) & (values > 0), values, np.nan), mark, linestyle="none")
    line(axes, rank, np.where(np.isinf(found), most, np.nan), NOT_FOUND)
    axes.vlines(rank, ordered["as_sampled_displacement_px"], np.where(np.isinf(found), most, found),
                color="#bbbbbb", linewidth=0.8, zorder=0)  # fmt: skip
    shown = ordered[[f"{name}_displacement_px" for name in COLUMNS]].to_numpy(dtype=float)
    axes.set(yscale="log", xlabel="image, by certified radius", ylabel=r"radius, $\|\tau\|_\infty$ (px)")
    if (positive := shown[np.isfinite(shown) & (shown > 0)]).size:
        round_log_ticks(axes.yaxis, positive)
    return bool(np.isinf(found).any())


def _accuracy(axes: Axes, table: pd.DataFrame, curve: pd.DataFrame) -> None:
    """Steps: the share of images with the right label beyond each size."""
    sizes = curve["displacement_px"].to_numpy(dtype=float)
    start = sizes[0] / 2
    for name, mark in COLUMNS.items():
        values = curve[name].to_numpy(dtype=float)
        if np.isfinite(values).any():
            first = float(table["right"].mean())
            axes.step([start, *sizes], [first, *values], where="post", color=mark.color, linestyle=mark.linestyle)
    axes.set(xscale="log", ylim=(0, 1), xlabel=r"largest $\|\tau\|_\infty$ (px)", ylabel="share of images, label right")
    round_log_ticks(axes.xaxis, sizes)


def caption(table: pd.DataFrame, displacement_norm: float, jacobian_norm: float) -> str:
    """What is proof, what was found, and for which fields."""
    count, right = len(table), int(table["right"].sum())
    zero = int((table["certified_displacement_px"] == 0).sum())
    certified = table.loc[table["certified_displacement_px"] > 0, "status_certified"]
    statuses = ", ".join(f"{name} ({number} images)" for name, number in certified.value_counts().items()) or "none"
    words = [
        f"Two-sided robustness radii of {count} test images, {right} of them with the right label. A radius is a size "
        f"t: all fields with sup |tau| <= {displacement_norm:g} t px and sup ||grad tau|| <= {jacobian_norm:g} t.",
        f"Certified (proof): no field of that size or below changes the label; statuses: {statuses}; {zero} of {count} "
        "certified radii are 0. Filled, solid: for the network as it is sampled, under the exact L_tau. Hollow, "
        "dashed: by all bounds for every field, for the network of functions on the torus: what the grid adds to "
        "a distance depends on the "
        "field and is not counted.",
    ]
    if table["found_displacement_px"].isna().all():
        words.append("There was no search from above.")
    else:
        words.append(
            "Found (search): a field of that size changes the label, so that the smallest such size is at most this; "
            "smaller ones may exist. The accuracy under all fields of a size lies between the solid curve and this one."
        )
    return " ".join(words)
