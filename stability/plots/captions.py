"""The sentences that every caption ends with: what is proof, what is estimate, what the sample is."""

import decimal

import pandas as pd

from stability.plots.reading import CKN, DISTANCE, LINEAR, architecture_words, measured


def sample_words(rows: pd.DataFrame) -> str:
    """How many images and fields stand behind the medians of a table."""
    there = measured(rows)
    fields = there[there["family"] != "translation"]["field_seed"].nunique()
    directions = there[there["family"] == "translation"]["field_seed"].nunique()
    parts = [f"{there['image'].nunique()} images"]
    parts += [f"{fields} smooth fields per size"] if fields else []
    parts += [f"{directions} directions per translation"] if directions else []
    return ", ".join(parts)


def status_words(rows: pd.DataFrame) -> str:
    """Every status of the closed form in a table, with its number of rows."""
    counts = rows["status_closed_form"].value_counts()
    return ", ".join(f"{status} ({count} rows)" for status, count in counts.items())


def percent_up(share: float) -> str:
    """A share in per cent, rounded up to two significant digits: for words like "at most".

    >>> percent_up(0.0926), percent_up(0.10401), percent_up(0.0)
    ('9.3 %', '11 %', '0 %')
    """
    up = decimal.Context(prec=2, rounding=decimal.ROUND_CEILING).create_decimal(100 * share)
    return f"{up.normalize():f} %"


def closing(rows: pd.DataFrame, *, statuses: bool = True) -> str:
    """What is measured on what, and how far each kind of number can be trusted.

    Args:
        rows: the rows behind the figure.
        statuses: list the statuses of the closed form.
    """
    there = measured(rows)
    moved = there[there["representation"].isin((CKN, LINEAR)) & (there[DISTANCE] > 0)]
    share = float((moved["interpolation_error"] / moved[DISTANCE]).max()) if len(moved) else 0.0
    sentences = [
        f"Measured: exact kernel computation ({architecture_words(rows)}; {sample_words(rows)}); medians describe this "
        f"sample, they are no worst case; the warp adds at most {percent_up(share)} of the distance.",
        "The linear kernel of the same architecture is the control; the reference 'two different images' is the CKN's "
        "own median distance between two images of the set, in the same unit.",
    ]
    if statuses:
        sentences.append(
            f"Status of the closed form: {status_words(rows)}; it speaks of every image and every field with these "
            "norms. Trivial: the images' own distance after the first low-pass times the Lipschitz constants; a proof "
            "for this image and this field only."
        )
    return " ".join(sentences)
