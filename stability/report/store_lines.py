"""The lines of a store that is no quickstart: whatever is there, computed from the rows."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from stability.plots.anchors import COUNT, ERROR
from stability.plots.anchors import paired as finite_and_exact
from stability.plots.architectures import setting_words
from stability.plots.captions import listed
from stability.plots.reading import Run, input_name, inputs, measured
from stability.plots.series import (
    ASKED,
    BOTH,
    DEFORMATION,
    KIND,
    SERIES,
    SETTING,
    SHEARED,
    SIZE,
    THEORY,
    TRANSLATION,
    deformations,
    drawn,
    main_series,
    plural,
    series_of,
    theory,
    up_to,
)
from stability.report.numbers import apart_from_linear, medians, percent
from stability.report.searched_lines import searched_lines

PIXELS, GRADIENT = 1.0, 0.1
"""The sizes that the lines speak of: the nearest ones in the rows."""
MOST = 8
"""Names in one sentence."""


def store_headline(run: Run) -> str:
    """What the first deformation does to the representation that stands for the others."""
    rows = _there(run)
    if not len(drawn(rows)):
        return searched_lines(rows)[0]  # every model has fields of its own
    field = deformations(drawn(rows))[0]
    group, size = _at_one_size(rows, field)
    main = main_series(rows)
    if main is None or group[group[SERIES] == main].empty:
        name = str(group[SERIES].iloc[0])
        pairs = _span(group.loc[group[SERIES] == name, "pairs"])
        return f"{_moving(field, size)} moves {name} by {pairs} of the distance between two images."
    own = group[group[SERIES] == main]
    bound = _span(own["bound"])
    allows = f"the theorem allows {bound}" if np.isfinite(own["bound"]).all() else "the theorem says nothing here"
    return f"{_moving(field, size)} moves the {main} by {_span(own['measured'])} of the image's norm; {allows}."


def store_lines(run: Run) -> list[str]:
    """What was measured, every deformation, the control, models in one unit, anchors.

    Args:
        run: any store.

    Raises:
        ValueError: if there is no number in it.
    """
    rows = _there(run)
    lines = [_content(rows), *[_deformation(rows, field) for field in deformations(drawn(rows))[:MOST]]]
    lines += searched_lines(rows)
    apart = apart_from_linear(rows)
    if apart:
        words = listed([f"{percent(value)} on {input_name(name)}" for name, value in apart.items()])
        lines.append(
            f"The control: the exact CKN's distance is {words} (median) away from the linear kernel's of the same "
            "architecture, a Gaussian blur."
        )
    covered = theory(rows)[SERIES].unique()
    outside = [name for name in series_of(rows) if name not in covered]
    if outside or not rows[KIND].isin(THEORY).all():
        lines.append(_models(rows, outside))
    both = finite_and_exact(rows)
    if len(both):
        best = both[both[COUNT] == both[COUNT].max()]
        error = percent(float(best[ERROR].median()))
        lines.append(
            f"With {best['filters'].iloc[0]} anchors the finite CKN's distance is {error} (median) away from the exact "
            "one of the same image, field and architecture."
        )
    return lines


def _there(run: Run) -> pd.DataFrame:
    rows = measured(run.complete())
    if rows.empty:
        raise ValueError("rows must hold a measured distance, got none; measure something with `stability run`")
    return rows


def _content(rows: pd.DataFrame) -> str:
    names, fields = series_of(rows), [plural(field) for field in deformations(rows)]
    settings = setting_words(rows)
    images = rows["image"].nunique()
    words = (
        f"Measured: {images} image{'s' if images > 1 else ''} ({listed([input_name(name) for name in inputs(rows)])}) "
        f"under {_some(fields)}, by {_some(names)}"
    )
    return words + (f"; {len(settings)} architectures: {_some(settings)}." if len(settings) > 1 else ".")


def _some(names: list[str]) -> str:
    return listed(names if len(names) <= MOST else [*names[: MOST - 1], f"{len(names) - MOST + 1} more"])


def _at_one_size(rows: pd.DataFrame, field: str) -> tuple[pd.DataFrame, str]:
    """The medians of a deformation at the size nearest to ``PIXELS`` or ``GRADIENT``, of one input."""
    own = rows[rows[DEFORMATION] == field]
    own = own[own["front_end"] == inputs(own)[0]]
    asked = own[ASKED].iloc[0]
    sizes = own[SIZE].to_numpy(dtype=float)
    own = own[own[SIZE] == _nearest(sizes, GRADIENT if asked == SHEARED else PIXELS)]
    up = up_to(str(own["family"].iloc[0]))
    size = f"gradient {up}{own[SIZE].iloc[0]:g}" if asked == SHEARED else f"{up}{own[SIZE].iloc[0]:g} px"
    if asked == BOTH:
        gradient = _nearest(own["asked_jacobian_norm"].to_numpy(dtype=float), GRADIENT)
        own = own[own["asked_jacobian_norm"] == gradient]
        size += f" and gradient {up}{gradient:g}"
    found = medians(rows.loc[own.index])
    return found, size


def _nearest(values: npt.NDArray[np.float64], wanted: float) -> float:
    there = np.unique(values[values > 0])
    return float(there[np.argmin(np.abs(np.log(there / wanted)))])


def _moving(field: str, size: str) -> str:
    if field == TRANSLATION:
        count = size.removesuffix(" px")
        return f"Shifting an image by {count} pixel{'' if count == '1' else 's'}"
    name, comma, rest = field.partition(", ")
    return f"A {name} of {size}{comma}{rest}"


def _deformation(rows: pd.DataFrame, field: str) -> str:
    """Measured, bound and trivial medians at one size; a range where architectures differ."""
    found, size = _at_one_size(rows, field)
    main = main_series(rows[rows[DEFORMATION] == field])
    front_end = input_name(str(found["front_end"].iloc[0]))
    between = ", " if "up to" in field else " of "
    start = f"{plural(field)[:1].upper()}{plural(field)[1:]}{between}{size}, {front_end}:"
    if main is None:
        name = series_of(rows[rows[DEFORMATION] == field])[0]
        pairs = _span(found.loc[found[SERIES] == name, "pairs"])
        return f"{start} {name} moves by {pairs} of the distance between two images (median); no bound is known."
    own = found[found[SERIES] == main]
    over = " (smallest to largest median over the architectures)" if own[SETTING].nunique() > 1 else " (median)"
    words = f"{start} the {main} moves by {_span(own['measured'])} of ||x||{over}"
    if np.isfinite(own["bound"]).all():
        words += f"; the theorem allows {_span(own['bound'])}"
    else:
        words += "; the theorem says nothing here"
    if np.isfinite(own["trivial"]).all():
        words += f", the trivial bound {_span(own['trivial'])}"
        if (own["bound"] > own["trivial"]).all() and np.isfinite(own["bound"]).all():
            words += ": here the theorem's constants are larger than what the image itself allows"
    return words + "."


def _models(rows: pd.DataFrame, outside: list[str]) -> str:
    shared = drawn(rows)  # a field that was searched belongs to one model alone
    other, values = shared[~shared[KIND].isin(THEORY)], []
    if len(other):
        field = deformations(other)[0]
        found, size = _at_one_size(shared, field)
        there = [name for name in series_of(shared) if found.loc[found[SERIES] == name, "pairs"].notna().any()]
        values = [f"{name} {_span(found.loc[found[SERIES] == name, 'pairs'])}" for name in there]
    compared = (
        f"In units of the distance between two images, the only one to compare between models "
        f"({plural(field)} of {size}): {_some(values)}. "
        if values
        else ""
    )
    nothing = f"About {_some(outside)} the theory says nothing: no bound, only this sample." if outside else ""
    return (compared + nothing).strip()


def _span(values: "pd.Series[float]") -> str:
    """One share, or the smallest and the largest."""
    there = values.dropna()
    if there.empty:
        return "an unknown share"
    low, high = percent(float(there.min())), percent(float(there.max()))
    return low if low == high else f"{low} to {high}"
