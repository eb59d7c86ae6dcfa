"""One mark for every line of a store: colours of Okabe & Ito and of Tol, dashes and markers that survive grey print."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from stability.plots.drawing import CKN_MARK, LINEAR_MARK, Mark
from stability.plots.series import (
    ASKED,
    CONTROL,
    EXACT,
    FINITE,
    KIND,
    NETWORK,
    SERIES,
    SETTING,
    SIZE,
    drawn,
    series_of,
    theory,
)

FINITE_MARK = Mark("finite CKN", "#56B4E9", (0, (7, 2)), "s", hollow=True)
RANDOM_MARK = Mark("CNN", "#E69F00", (0, (3, 1.2)), "^")
TRAINED_MARK = Mark("CNN, trained", "#CC79A7", (0, (8, 1.5, 1.5, 1.5)), "v")
FIXED = {EXACT: CKN_MARK, CONTROL: LINEAR_MARK, FINITE: FINITE_MARK}
OTHERS = ("#882255", "#999933", "#332288", "#44AA99", "#661100", "#AA4499")
"""Modules and classes of the user, one colour after the other."""
DASHES: tuple[Any, ...] = (
    (0, (5, 1.5, 1, 1.5, 1, 1.5)), (0, (2, 1)), (0, (10, 3)), (0, (1.2, 1.2)), (0, (6, 1, 2, 1)), "-",
)  # fmt: skip
MARKERS = ("D", "P", "X", "*", "<", ">", "h", "p", "d", "8", "H")
STARTS = {EXACT: (4, 7), CONTROL: (1, 10), FINITE: (3, 5), NETWORK: (2, 9), "trained": (5, 2)}
"""Kind -> where its further lines begin in ``DASHES`` and ``MARKERS``: no two kinds meet in grey print."""
SETTING_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h", "p")


def marks(rows: pd.DataFrame) -> Mapping[str, Mark]:
    """Line -> its mark, in the order of a legend; the same kind looks the same in every figure.

    The first exact CKN, control, finite CKN, random and trained CNN have marks of their own; further ones of a kind
    keep its colour, a little darker, and take other dashes and markers. Modules take one colour after the other.

    Args:
        rows: complete rows.
    """
    kinds = rows.drop_duplicates(SERIES).set_index(SERIES)[KIND].to_dict()
    used: dict[str, int] = {}
    found: dict[str, Mark] = {}
    for words in series_of(rows):
        kind = str(kinds[words])
        base = FIXED.get(kind)
        if kind == NETWORK:
            learnt = "trained" in words.lower() and "untrained" not in words.lower()
            kind, base = ("trained", TRAINED_MARK) if learnt else (kind, RANDOM_MARK)
        elif base is None:
            kind = "others"
        turn = used.get(kind, 0)
        used[kind] = turn + 1
        if base is None:
            mark = Mark(words, OTHERS[turn % len(OTHERS)], DASHES[turn % len(DASHES)], MARKERS[turn % len(MARKERS)])
        elif turn:
            dash, shape = (start + turn - 1 for start in STARTS[kind])
            color = _darker(base.color, 0.75) if turn == 1 else OTHERS[(turn - 2) % len(OTHERS)]
            mark = Mark(words, color, DASHES[dash % len(DASHES)], MARKERS[shape % len(MARKERS)])
        else:
            mark = replace(base, label=words)
        found[words] = mark
    return found


def own_bounds(rows: pd.DataFrame, main: str | None) -> list[str]:
    """Lines whose bound is not the one of the line that stands for the architecture: a CNN's, by its weights.

    Args:
        rows: complete rows with a number and a setting.
        main: the line that stands for the architecture.
    """
    there = drawn(theory(rows))
    keys = ["image", "family", "cutoff", "field_seed", "search", "front_end", SETTING, ASKED, SIZE]
    of_main = there[there[SERIES] == main].drop_duplicates(keys)[[*keys, "bound_closed_form"]]
    both = there[there[KIND] == NETWORK].merge(of_main, on=keys, how="left", suffixes=("", "_main"))
    same = np.isclose(both["bound_closed_form"], both["bound_closed_form_main"], rtol=1e-6)
    other = both[np.isfinite(both["bound_closed_form"].to_numpy(dtype=float)) & ~same]
    return [name for name in series_of(other) if name != main]


def setting_markers(words: list[str]) -> dict[str, str]:
    """A marker for every varied value; they cycle, and from the second turn on the legend says so."""
    return {name: SETTING_MARKERS[i % len(SETTING_MARKERS)] for i, name in enumerate(words)}


def _darker(color: str, share: float) -> str:
    return "#" + "".join(f"{round(int(color[i : i + 2], 16) * share):02x}" for i in (1, 3, 5))
