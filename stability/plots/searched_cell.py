"""One search as it is drawn: of a ``Found`` or of a store, with its value and what was measured in words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stability.plots.drawing import plain
from stability.plots.sampled import Array, Sampled, sample
from stability.plots.series import WORDS
from stability.sweeps.pictures import as_picture
from stability.sweeps.result import ROUND_OFF
from stability.sweeps.search_words import at_fixed_norm, fields_in_words, found_in_words, is_angle

if TYPE_CHECKING:
    from stability.search.found import Found

UNITS = {"distance": "distance", "radian": "angle"}
"""Units of an objective that are those of a row's, and its name there."""


@dataclass(frozen=True)
class Cell:
    """One search.

    Args:
        before: x, ``size``.
        after: L_tau x, ``size``; at fixed norm as long as x.
        sampled: tau and its gradient on a fine grid.
        norms: a in px and b that were asked for.
        certified: those of the field found, from above.
        trace: the objective after every step of every start, ``(T, S)``; NaN: no such step.
        words: what was searched.
        value: in words.
        objective: in words.
        fixed: whether it was measured at fixed norm.
    """

    before: Array
    after: Array
    sampled: Sampled
    norms: tuple[float, float]
    certified: tuple[float, float]
    trace: Array
    words: str
    value: str
    objective: str
    fixed: bool


def cell_of_found(found: "Found", index: int) -> Cell:
    """One image of a search."""
    one = found.field.flat()[index]
    norms = one.suprema()
    objective, after = found.objective, found.deformed[index].double()
    name = objective.name
    largest, norm_x = float(found.largest_found[index]), float(found.norm_x[index])
    value = f"{largest:.4g}"
    if objective.unit in UNITS:
        value = found_in_words(UNITS[objective.unit], largest, norm_x)
    if objective.fixes_norm:
        after = after * (norm_x / (float(after.norm()) or 1.0))
    return Cell(
        before=as_picture(found.images[index].double().cpu().numpy()),
        after=as_picture(after.cpu().numpy()),
        sampled=sample(one),
        norms=(float(found.asked_displacement_norm[index]), float(found.asked_jacobian_norm[index])),
        certified=(float(norms.displacement.upper), float(norms.jacobian.upper)),
        trace=found.trace[:, index].double().cpu().numpy(),
        words=f"image {index}",
        value=f"{name} {value} ({found.meanings[index]})",
        objective=name + (" (rad)" if objective.unit == "radian" else ""),
        fixed=objective.fixes_norm,
    )


def cell_of_store(arrays: Mapping[str, Any], k: int, setting: str = "") -> Cell:
    """Search k of the arrays of ``searched.npz``.

    Args:
        arrays: see above.
        k: which one.
        setting: what else tells the network from others of the run, in words.
    """
    axes = tuple(arrays[name] for name in ("x", "y") if name in arrays)
    own = {name: arrays[name][k] for name in arrays if name not in ("x", "y")}
    objective, fixed = str(own["objective"]), at_fixed_norm(str(own["objective"]))
    said = objective.replace("_", " ")
    value = found_in_words(objective, float(own["largest_found"]), float(own["norm_x"]))
    below = float(own["distance_over_input_norm"]) <= float(own.get("floor", np.nan))
    value = f"{said} {value} ({ROUND_OFF if below else own['status_largest_found']})"
    if objective == "distance" and np.isfinite(own["bound_supremum"]):  # of other objectives it is none
        status = f" ({own['status_supremum']})" if "status_supremum" in own else ""
        value += f"\nbound of the supremum: {own['bound_supremum']:.3g} ||x||{status}"
    length = np.linalg.norm(own["before"]) / (np.linalg.norm(own["after"]) or 1.0)
    among = fields_in_words(str(own["family_parameters"]))
    name = plain(WORDS.get(str(own["representation"]), str(own["representation"])))
    return Cell(
        before=own["before"],
        after=own["after"] * length if fixed else own["after"],
        sampled=Sampled(axes, own["displacement"].astype(float), own["jacobian"].astype(float)),
        norms=(float(own["asked_displacement_norm"]), float(own["asked_jacobian_norm"])),
        certified=(float(own["displacement_norm_upper"]), float(own["jacobian_norm_upper"])),
        trace=_of_steps(own["trace"]),
        words=", ".join(
            word
            for word in (name, setting, f"image {int(own['image'])}", "" if among == "all fields" else among)
            if word
        ),
        value=value,
        objective=said + (" (rad)" if is_angle(objective) else ""),
        fixed=fixed,
    )


def _of_steps(trace: Array) -> Array:
    """Without the rows and columns that pad it to the longest trace of the store."""
    known = np.isfinite(trace)
    return trace[known.any(axis=1)][:, known.any(axis=0)]
