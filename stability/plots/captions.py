"""The sentences that every caption ends with: what is proof, what is estimate, what the sample is."""

import decimal

import numpy as np
import pandas as pd

from stability.plots.architectures import architecture_words
from stability.plots.reading import DISTANCE, PAIRS, measured
from stability.plots.series import (
    CONTROL,
    EXACT,
    FIELD,
    FINITE,
    KIND,
    SERIES,
    TRANSLATION,
    complete,
    series_of,
    theory,
)


def sample_words(rows: pd.DataFrame) -> str:
    """How many images and fields stand behind the medians of a table."""
    there = measured(rows)
    fields = there.groupby("family")["field_seed"].nunique()
    images = there["image"].nunique()
    parts = [f"{images} image{'s' if images > 1 else ''}"]
    for family, count in fields.items():
        if family != TRANSLATION:
            parts.append(f"{count} {FIELD.get(str(family), str(family))}{'s' if count > 1 else ''} per size")
    if TRANSLATION in fields:
        parts.append(f"{fields[TRANSLATION]} direction{'s' if fields[TRANSLATION] > 1 else ''} per translation")
    return ", ".join(parts)


def status_words(rows: pd.DataFrame) -> str:
    """Every status of the closed form in a table, with its number of rows."""
    counts = rows["status_closed_form"].value_counts()
    return ", ".join(f"{status} ({count} rows)" for status, count in counts.items())


def trivial_words(rows: pd.DataFrame) -> str:
    """How far the trivial bounds of a table can be trusted: their status, or every status with its number of rows.

    >>> trivial_words(pd.DataFrame({"trivial": [0.1, 0.2], "status_trivial": ["proof", "estimate"]}))
    'proof (1 rows), estimate (1 rows)'
    """
    counts = rows.loc[np.isfinite(rows["trivial"].to_numpy(dtype=float)), "status_trivial"].value_counts()
    return ", ".join(f"{status} ({count} rows)" if len(counts) > 1 else str(status) for status, count in counts.items())


def percent_up(share: float) -> str:
    """A share in per cent, rounded up to two significant digits: for words like "at most".

    >>> percent_up(0.0926), percent_up(0.10401), percent_up(0.0)
    ('9.3 %', '11 %', '0 %')
    """
    up = decimal.Context(prec=2, rounding=decimal.ROUND_CEILING).create_decimal(100 * share)
    return f"{up.normalize():f} %"


def listed(words: list[str]) -> str:
    """Words as a list in a sentence; words with commas of their own are set apart by semicolons.

    >>> listed(["a"]), listed(["a", "b", "c"]), listed(["CNN, random", "CNN, trained"])
    ('a', 'a, b and c', 'CNN, random; CNN, trained')
    """
    if any(", " in word for word in words):
        return "; ".join(words)
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def closing(rows: pd.DataFrame, *, statuses: bool = True, reference: bool = True) -> str:
    """What is measured on what, and how far each kind of number can be trusted.

    Args:
        rows: the rows behind the figure.
        statuses: list the statuses of the closed form.
        reference: explain the distance of two different images, where it is drawn.
    """
    rows = complete(rows)
    there = measured(rows)
    kinds, covered = set(there[KIND]), theory(rows)
    sentences = [_measured(there)]
    if FINITE in kinds:
        sentences.append(
            "The finite CKN is a Nyström approximation with anchors learnt from images of the same set; it is a "
            "network of its own with the same bound."
        )
    if CONTROL in kinds:
        sentences.append("The linear kernel of the same architecture is the control.")
    if reference and (there[PAIRS] > 0).any():
        whose = "the CKN's" if EXACT in kinds else "a representation's"
        sentences.append(
            f"The reference 'two different images' is {whose} own median distance between two images of the set, in "
            "the same unit."
        )
    if statuses and len(covered):
        speaks = np.isfinite(covered["bound_closed_form"].to_numpy(dtype=float)).any()
        rest = "; it speaks of every image and every field with these norms." if speaks else "."
        sentences.append(f"Status of the closed form: {status_words(covered)}{rest}")
    trusted = trivial_words(there)
    if statuses and trusted:
        sentences.append(
            "Trivial: the images' own distance after the first low-pass times the Lipschitz constants, for this image "
            f"and this field only; status: {trusted}."
        )
    outside = series_of(there[~there[SERIES].isin(covered[SERIES])])
    if outside:
        sentences.append(
            f"For {listed(outside)} there is no bound: the theory says nothing, what is shown is measured on this "
            "sample only."
        )
    return " ".join(sentences)


def _measured(there: pd.DataFrame) -> str:
    kinds = set(there[KIND])
    how = "exact kernel computation" if EXACT in kinds else "distances of features"
    moved = there[there[KIND].isin((EXACT, CONTROL, FINITE)) & (there[DISTANCE] > 0)]
    share = (moved["interpolation_error"] / moved[DISTANCE]).max() if len(moved) else float("nan")
    words = (
        f"Measured: {how} ({architecture_words(there)}; {sample_words(there)}); medians describe this sample, they are "
        "no worst case"
    )
    if pd.notna(share):
        words += f"; the warp adds at most {percent_up(float(share))} of the distance"
        words += " of kernel networks and their controls" if kinds - {EXACT, CONTROL, FINITE} else ""
    if "clipped" in there and float(there["clipped"].fillna(0).max()) > 0:
        words += f"; up to {percent_up(float(there['clipped'].max()))} of an image's pixels were clipped to [0, 1]"
    return words + "."
