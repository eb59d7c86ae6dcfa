"""Names typed by people, resolved once at the boundary: an unknown one is answered with the nearest."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

Value = TypeVar("Value")


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """One line for an unknown name: what was asked, the nearest known name, all known names.

    >>> unknown("image set", "fashoin", ["blobs", "fashion"])
    "image set must be one of 'blobs', 'fashion', got 'fashoin'; did you mean 'fashion'?"
    >>> unknown("model", "cnk", ["ckn", "ntk"])
    "model must be one of 'ckn', 'ntk', got 'cnk'; did you mean 'ckn'?"
    """
    names = sorted(known)
    typed = str(name)
    longer = [one for one in names if typed and one.startswith(typed)]  # the beginning of a name is meant as that name
    swapped = [one for one in names if sorted(one) == sorted(typed)]
    nearest = longer or swapped or difflib.get_close_matches(typed, names, n=1, cutoff=0.4)
    advice = f"did you mean {nearest[0]!r}?" if nearest else "choose one of these"
    return f"{what} must be one of {', '.join(map(repr, names))}, got {name!r}; {advice}"


def resolve(what: str, name: str, table: Mapping[str, Value]) -> Value:
    """``table[name]``; an unknown name is a ``ValueError`` that names the nearest one.

    Args:
        what: what the name stands for, used in the message.
        name: the name that was typed.
        table: known names and their values.

    Returns:
        The value of the name.

    Raises:
        ValueError: if the name is not in the table.

    >>> resolve("image set", "fashion", {"fashion": 1})
    1
    """
    if name not in table:
        raise ValueError(unknown(what, name, table))
    return table[name]
