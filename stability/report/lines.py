"""The five lines that matter, each computed from the rows."""

import pandas as pd

from stability.plots.reading import CKN, DISTANCE, PAIRS, Run, is_quickstart, measured, of_sweep
from stability.plots.series import filled
from stability.report.numbers import (
    NEARLY_LINEAR,
    apart_from_linear,
    kernel_words,
    nearest,
    paired,
    percent,
    table,
    unit_slope,
    violations,
)
from stability.report.store_lines import store_headline, store_lines

SIZE = 1.0
"""The size in px that the first two lines speak of (the nearest one in the rows)."""


def headline(run: Run) -> str:
    """The one honest number in a sentence: what is measured, what a blur does, what theory allows."""
    if not is_quickstart(run):
        return store_headline(run)
    row = _row(run, "translation")
    size = row["asked_displacement_norm"]
    return (
        f"Shifting an image by {size:g} pixel{'' if size == 1 else 's'} moves the exact CKN by "
        f"{percent(row['measured'])} of the image's norm. A plain Gaussian blur moves by {percent(row['linear'])}; "
        f"the theorem allows {percent(row['bound'])}."
    )


def summary(run: Run) -> list[str]:
    """The lines that matter.

    Of a quickstart five: a translation, a smooth field, the linear control, pooling, the count of rows. Of any other
    store: what was measured, each deformation, the control, the models in one unit, the anchors, the count of rows.

    Args:
        run: any run.

    Raises:
        ValueError: if there is no number in it, or a quickstart without raw images.
    """
    if not is_quickstart(run):
        return [*store_lines(run), _count(run)]
    return [_translation(run), _smooth(run), _linear(run), _pooling(run), _count(run)]


def _row(run: Run, family: str) -> "pd.Series[float]":
    row = nearest(table(of_sweep(run, "curves")), family, "none", SIZE)
    if row is None:
        raise ValueError(f"rows must hold {family} rows of raw images, got none; run `stability quickstart`")
    return row


def _translation(run: Run) -> str:
    row = _row(run, "translation")
    return (
        f"Raw images, translation by {row['asked_displacement_norm']:g} px: the exact CKN moves by "
        f"{percent(row['measured'])} of ||x|| (median); the theorem allows {percent(row['bound'])}, the trivial bound "
        f"{percent(row['trivial'])}."
    )


def _smooth(run: Run) -> str:
    row = _row(run, "fourier")
    useless = row["bound"] > row["trivial"]
    return (
        f"Raw images, smooth field with ||tau|| = {row['displacement_norm']:.2g} px and ||grad tau|| = "
        f"{row['jacobian_norm']:.2g}: the exact CKN moves by {percent(row['measured'])} of ||x||; the theorem allows "
        f"{percent(row['bound'])}, the trivial bound {percent(row['trivial'])}"
        + (": here the theorem's constants are larger than what the image itself allows." if useless else ".")
    )


def _linear(run: Run) -> str:
    rows = of_sweep(run, "curves")
    apart = apart_from_linear(rows)
    if "none" not in apart:
        return "No linear control was measured on raw images: nothing says how much of this the kernel does."
    raw, removed = apart["none"], apart.get("mean_removal")
    depths = " or ".join(map(str, sorted(rows["depth"].unique().tolist())))
    both = paired(rows)
    mean = both[both["front_end"] == "mean_removal"]
    factor = float((mean["ckn"] / mean["linear"]).median()) if len(mean) else 1.0
    hardly = raw <= NEARLY_LINEAR and unit_slope(rows)
    words = (
        f"Over the curves, at depth {depths} and with the kernel {kernel_words(rows)}, the CKN's distance on raw grey "
        f"images is {percent(raw)} (median) away from the linear kernel's, a Gaussian blur"
    )
    if hardly:
        words = (
            f"Raw grey images hardly see a kernel with kappa'(1) = 1 (here: {kernel_words(rows)}): over the curves, at "
            f"depth {depths}, the CKN's distance is {percent(raw)} (median) away from the linear kernel's, a Gaussian "
            "blur"
        )
    if removed is not None:
        words += f"; with the mean removed it is {percent(removed)} away ({factor:.2f} times the linear one)"
    return words + (". A kernel with kappa'(1) > 1 is further away, on raw images too." if hardly else ".")


def _pooling(run: Run) -> str:
    rows = measured(of_sweep(run, "pooling_scale"))
    rows = rows[(rows["representation"] == CKN) & (rows["family"] == "translation") & (rows["front_end"] == "none")]
    medians = rows.groupby("pooling_scale")[[DISTANCE, "bound_closed_form", PAIRS]].median()
    if len(medians) < 2:
        raise ValueError(
            "pooling_scale must hold two scales of raw translations, got fewer; run `stability quickstart`"
        )
    first, last = medians.iloc[0], medians.iloc[-1]
    factor = first / last
    size = rows["asked_displacement_norm"].median()
    return (
        f"Pooling: from sigma_n = {medians.index[0]:g} to {medians.index[-1]:g} px the distance under a {size:g} px "
        f"translation falls {factor[DISTANCE]:.2g} times in units of ||x|| and its bound "
        f"{factor['bound_closed_form']:.2g} times; but only {factor[PAIRS]:.2g} times in units of the distance "
        "between two images, because pooling brings different images together too."
    )


def _count(run: Run) -> str:
    there, broken = measured(run.rows), len(violations(run.rows))
    statuses = ", ".join(
        f"{status} {count}" for status, count in filled(run.rows)["status_closed_form"].value_counts().items()
    )
    found = "no violation" if broken == 0 else f"{broken} VIOLATION{'S' if broken > 1 else ''}: look closer"
    return f"{len(run.rows)} rows, {len(there)} of them measured; {found} of a bound. Statuses: {statuses}."
