"""The lines of the searches of a store: what each found, among which fields, under which architecture."""

import numpy as np
import pandas as pd

from stability.plots.architectures import setting_words, with_settings
from stability.plots.reading import DISTANCE, input_name, inputs, resolved
from stability.plots.series import SERIES, SETTING, series_of
from stability.report.numbers import percent
from stability.sweeps.result import ROUND_OFF
from stability.sweeps.search_words import at_fixed_norm, bounded_in_words, is_angle, searches_in_words

A, B = "asked_displacement_norm", "asked_jacobian_norm"
SAME = [SERIES, SETTING, "front_end"]
"""What must agree where fields are compared."""
AMONG, WHOLE = "among", "all fields"
MOST = 8
"""Lines; the others are counted."""


def searched_lines(rows: pd.DataFrame) -> list[str]:
    """One line for every search, representation, architecture and front end, at the largest norms.

    Args:
        rows: complete and measured.
    """
    if "largest_found" not in rows:
        return []
    rows = with_settings(rows)
    searched = rows["search"].fillna(False).astype(bool)
    found, drawn = rows[searched], rows[~searched]
    if found.empty:
        return []
    words = {
        (objective, parameters): text
        for objective, own in found.groupby("objective")
        for parameters, text in searches_in_words(own["family_parameters"]).items()
    }
    cells = zip(found["objective"], found["family_parameters"], strict=True)
    found = found.assign(among=[words[cell] for cell in cells])
    found = found.assign(kind=found["objective"] != "distance")  # distances first: of them the theorem speaks
    orders = (series_of(rows), setting_words(rows), inputs(rows))
    places = {
        f"place of {name}": found[name].map({word: place for place, word in enumerate(order)})
        for name, order in zip(SAME, orders, strict=True)
    }
    found = pd.concat([found, pd.DataFrame(places)], axis=1).assign(part=found[AMONG] != WHOLE)
    first, *others = places
    lines = []
    for _, own in found.groupby(["kind", *others, "part", AMONG, "objective", first, *SAME], dropna=False):
        largest = own.sort_values([A, B], kind="stable").iloc[-1]
        same = [*SAME, A, B]
        at_largest, within = (part[(part[same] == largest[same]).all(axis=1)] for part in (own, drawn))
        lines.append(_line(at_largest, within, [name for name in SAME[1:] if found[name].nunique() > 1]))
    more = len(lines) - MOST
    if more <= 0:
        return lines
    told = "1 more search is" if more == 1 else f"{more} more searches are"
    return [*lines[:MOST], f"{told} in the rows."]


def _line(found: pd.DataFrame, drawn: pd.DataFrame, told: list[str]) -> str:
    """What one search found within two norms, the bound of the supremum, and the largest random field."""
    first, above = found.iloc[0], resolved(found)
    words = f"Largest found among {first[AMONG]} with ||tau|| <= {first[A]:g} px and ||grad tau|| <= {first[B]:g}"
    where = [word for name in told if (word := input_name(first[name]) if name == "front_end" else first[name])]
    words += f" ({', '.join(where)}): " if where else ": "
    distance, over = first["objective"] == "distance", bounded_in_words(first["family_parameters"])
    bound = f"{percent(float(first['bound_supremum']))} ({first['status_supremum']})"
    covered = distance and np.isfinite(first["bound_supremum"])
    if above.empty:
        words += f"nothing for the {first[SERIES]}, {ROUND_OFF}"
        return words + (f"; the closed form bounds the supremum over {over} by {bound}." if covered else ".")
    words += f"{_value(found, above)}, a lower bound of the supremum"
    if covered:
        words += f" over {over}, which the closed form bounds by {bound}"
    elif distance:
        words += f" over {over}, of which the closed form says nothing here ({first['status_supremum']})"
    if len(drawn) and distance and first[AMONG] == WHOLE:
        largest = drawn.groupby("image")[DISTANCE].max().median()
        count = drawn.groupby(["family", "family_parameters"])["field_seed"].nunique().sum()
        words += f"; the largest of {count} random fields within these norms by {percent(float(largest))}"
    return words + "."


def _value(found: pd.DataFrame, above: pd.DataFrame) -> str:
    """The median of what is above round-off, in the unit of the objective."""
    objective, name = str(found["objective"].iloc[0]), str(found[SERIES].iloc[0])
    if is_angle(objective):
        words = f"the {name} turns by {above['largest_found'].median():.2g} rad"
    else:
        words = f"the {name} moves by {percent(float((above['largest_found'] / above['norm_x']).median()))} of ||x||"
    below = len(found) - len(above)
    words += f" (median; {below} of {len(found)} {ROUND_OFF})" if below else " (median)"
    return words + (", where L_tau x is given the norm of x first" if at_fixed_norm(objective) else "")
