"""Whether an observed distance above a bound is round-off, the grid's doing, or against the theory."""

import math
from collections.abc import Iterable, Sequence

from torch import Tensor

from stability.bounds.rung import Rung, Status

ROUND_OFF = 1e-12
"""Of a bound: what arithmetic may hide."""
UNRESOLVED = 0.25
"""Share of a distance that changes from a grid to one twice as fine, above which neither of them is fine enough."""
NONE, VIOLATED = "none", "THEORY VIOLATED"
PROVED = (Status.PROOF, Status.NUMERICAL, Status.ENCLOSURE, Status.PROBABLE)


class Verdict(str):
    """ "none", "explained by ..." or "THEORY VIOLATED"; true only if it is the last."""

    def __bool__(self) -> bool:
        return self == VIOLATED


class Verdicts(tuple[Verdict, ...]):
    """One verdict per row."""

    def any(self) -> bool:
        """Whether the theory is violated in some row."""
        return any(bool(verdict) for verdict in self)

    def all(self) -> bool:
        """Whether the theory is violated in every row."""
        return all(bool(verdict) for verdict in self)

    def tolist(self) -> list[bool]:
        """Whether the theory is violated, row by row."""
        return [bool(verdict) for verdict in self]


def verdicts(observed: Tensor, rungs: Sequence[Rung]) -> Verdicts:
    """The verdict of every row over all rungs.

    Args:
        observed: ``(B,)``; NaN (a zero image) violates nothing.
        rungs: with their allowances. One that is NaN was not evaluated and counts as nothing; without a refinement, or
            with one that is a quarter of the distance, a rung that speaks of functions is never called violated.
    """
    return Verdicts(_row(observed, rungs, i) for i in range(len(observed)))


def _row(observed: Tensor, rungs: Sequence[Rung], i: int) -> Verdict:
    distance, reasons = float(observed[i]), dict[str, None]()
    for rung in rungs:
        value = float(rung.value[i])
        if not distance > value * (1.0 + ROUND_OFF):
            continue
        if rung.status not in PROVED:
            reasons[f"{rung.name}: {rung.status}"] = None
            continue
        allowances = {name: float(amount[i].nan_to_num(0.0)) for name, amount in rung.allowances.items()}
        needed = _needed(distance - value * (1.0 + ROUND_OFF), allowances)
        if needed is None:
            needed = _unknown(rung, i, distance)
            if needed is None:
                return Verdict(VIOLATED)
        reasons |= dict.fromkeys(needed)
    return Verdict(f"explained by {', '.join(reasons)}" if reasons else NONE)


def _unknown(rung: Rung, i: int, distance: float) -> Iterable[str] | None:
    """Why the grid may be to blame all the same: nobody looked, or it is too coarse for the difference to say how much.

    The change from a grid to one twice as fine is an estimate, good where it is small.
    """
    if "refinement" not in rung.allowances:
        return None
    change = float(rung.allowances["refinement"][i])
    if math.isnan(change):
        return ["refinement, which was not evaluated"]
    return ["a grid that is not resolved"] if change > UNRESOLVED * distance else None


def _needed(excess: float, allowances: dict[str, float]) -> Iterable[str] | None:
    """The fewest allowances, from the largest, that make up the excess; None if all do not."""
    used = []
    for name in sorted(allowances, key=allowances.__getitem__, reverse=True):
        used.append(name)
        excess -= allowances[name]
        if excess <= 0:
            return used
    return None
