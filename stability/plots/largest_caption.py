"""What is said below the largest distance found: of which fields it speaks, and of which fields every bound."""

import numpy as np
import pandas as pd

from stability.plots.captions import closing, listed, percent_up, trivial_words
from stability.plots.reading import DISTANCE, resolved
from stability.plots.series import FIELD, SERIES, TRANSLATION, series_of
from stability.sweeps.result import ROUND_OFF, below_floor
from stability.sweeps.search_words import bounded_in_words, fields_in_words

A, B = "asked_displacement_norm", "asked_jacobian_norm"
SUPREMUM = "bound_supremum"
TRIVIAL = "trivial bound at the field found"


def caption(rows: pd.DataFrame, *, more: bool) -> str:
    """The caption of ``largest_found``.

    Args:
        rows: what it is drawn from, with what is left out.
        more: whether there are panels that are not drawn.
    """
    every = rows[rows["search"]]
    found = resolved(every)
    images = found["image"].nunique()
    among = listed(list(dict.fromkeys(map(fields_in_words, found["family_parameters"]))))
    words = [
        f"The largest distance that a search found among {among} with the two norms, over ||x||: medians over "
        f"{images} image{'s' if images > 1 else ''} with the 10-90 % band. It is a lower bound of the supremum over "
        "the fields that were searched, and over all fields of the torus"
        + (", to which rigid motions do not belong." if "rigid motions" in among else ".")
    ]
    words += [
        _bound(over, own) for over, own in every.groupby(every["family_parameters"].map(bounded_in_words), sort=False)
    ]
    trusted = trivial_words(found)
    if trusted:
        words.append(
            "The trivial bound speaks of one image and of the field found there, in the colour of its search where "
            f"there are several (status: {trusted})."
        )
    random = sorted({FIELD.get(name, name) for name in rows.loc[_beside(rows), "family"]})
    if random:
        words.append(
            f"Beside it {listed([f'{name}s' for name in random])} within the same norms: of every image the largest "
            "field, medians over images."
        )
    spreads = found.loc[found["starts"] > 1, "spread"].dropna()
    if len(spreads):
        words.append(
            f"Starts that were kept differ by {100 * spreads.median():.2g} % (median), at most "
            f"{percent_up(float(spreads.max()))}."
        )
    lost = {"searched": below_floor(every), "random": below_floor(rows[~rows["search"]])}
    left_out = [f"{below.sum()} of {len(below)} {name} distances" for name, below in lost.items() if below.any()]
    if left_out:
        words.append(f"Left out: {listed(left_out)}, {ROUND_OFF}.")
    if more:
        words.append("Only the first of each kind of panel are drawn.")
    return " ".join([*words, closing(rows, reference=False)])


def _beside(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Which rows are random fields within the norms of a search, or translations of its length."""
    asked = rows.loc[rows["search"], [A, B]]
    both = pd.MultiIndex.from_frame(rows[[A, B]]).isin(pd.MultiIndex.from_frame(asked))
    return ~rows["search"] & (both | ((rows["family"] == TRANSLATION) & rows[A].isin(asked[A])))


def _bound(over: str, rows: pd.DataFrame) -> str:
    """The bound of the supremum over one set of fields: what it is, or that there is none; and the gap."""
    covered = rows[np.isfinite(rows[SUPREMUM].to_numpy(dtype=float))]
    if covered.empty:
        return f"Of the supremum over {over} the closed form says nothing here (not covered)."
    statuses = listed(sorted(covered["status_supremum"].unique()))
    words = f"The closed form bounds the supremum over {over} with the two norms (status: {statuses})"
    searched = resolved(covered)
    whole = searched[searched["family_parameters"].map(fields_in_words).isin((over, over.removeprefix("all ")))]
    ratios = (whole[SUPREMUM] / whole[DISTANCE]).groupby(whole[SERIES])
    if len(whole):
        above = [
            f"{ratio.median():.2g} times above what was found{' for the ' + name if ratios.ngroups > 1 else ''} "
            f"(median; {ratio.min():.3g} to {ratio.max():.3g})"
            for name, ratio in ((name, ratios.get_group(name)) for name in series_of(whole))
        ]
        words += f": largest found <= supremum <= bound, which stands {listed(above)}"
    return words + "."
