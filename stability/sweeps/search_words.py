"""A search in words: among which fields it looked, over which fields its bound stands, what it found."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

CONSTRAINTS = {
    "translation_free": "without a mean",
    "divergence_free": "without divergence",
    "fixed_border": "0 within {width:g} px of the border",
}


def is_angle(objective: str) -> bool:
    """Whether a row's ``objective`` is in radians; of the others it is a distance."""
    return objective.startswith("angle")


def fields_in_words(parameters: str) -> str:
    """Among which fields a search looked.

    Args:
        parameters: a row's ``family_parameters``.

    >>> fields_in_words('{"constraints": [], "fields": {"kind": "piecewise_linear", "lattice": null}}')
    'all fields'
    >>> fields_in_words('{"constraints": [{"kind": "translation_free"}], "fields": {"kind": "fourier", "cutoff": 3}}')
    'Fourier fields of cut-off 3, without a mean'
    """
    fields, kind, constraints = _parts(parameters)
    lattice = fields.get("lattice")
    if kind == "piecewise_linear" and lattice is None and not constraints:
        return "all fields"
    nodes = "" if lattice is None else f" on {told_lattice(lattice)} nodes"
    words = {
        "piecewise_linear": f"piecewise linear fields{nodes}",
        "spline": f"splines{nodes}",
        "fourier": f"Fourier fields of cut-off {fields.get('cutoff', 0):g}",
    }.get(kind, kind.replace("_", " "))
    limits = [CONSTRAINTS.get(one["kind"], one["kind"].replace("_", " ")).format(**one) for one in constraints]
    return ", ".join([words, *limits])


def searches_in_words(parameters: Iterable[str]) -> dict[str, str]:
    """Every search by its fields, and by what else tells it from those among the same fields; keyed by its JSON.

    >>> told = '{"fields": {"kind": "translations", "angles": %d}, "steps": 20}'
    >>> list(searches_in_words([told % 8, told % 16]).values())
    ['translations, angles 8', 'translations, angles 16']
    """
    among = {text: fields_in_words(text) for text in dict.fromkeys(parameters)}
    found = {}
    for text, words in among.items():
        own, *others = (_settings(one) for one in [text, *among] if among[one] == words)
        extra = [
            f"{name.replace('_', ' ')} {value}"
            for name, value in own.items()
            if any(other.get(name) != value for other in others) or (name == "objective" and value != "distance")
        ]
        found[text] = ", ".join([words, *extra])
    return found


def objective_in_words(parameters: str) -> str:
    """The objective of a search, if it is not the distance.

    >>> objective_in_words('{"objective": {"kind": "angle"}, "fixed_norm": true}'), objective_in_words("{}")
    ('objective angle at fixed norm', '')
    """
    objective = _settings(parameters)["objective"]
    return "" if objective == "distance" else f"objective {objective}"


def _parts(parameters: str) -> tuple[dict[str, Any], str, list[dict[str, Any]]]:
    """Of a row's ``family_parameters`` the fields, their kind and the constraints."""
    data = json.loads(parameters) if parameters else {}
    fields = data.get("fields") or {}
    return fields, fields.get("kind", "piecewise_linear"), data.get("constraints") or []


def _settings(parameters: str) -> dict[str, str]:
    """The settings of a search that its fields' words may leave out, in words."""
    data = dict(json.loads(parameters)) if parameters else {}
    fields = data.pop("fields", None) or {}
    data.pop("constraints", None)
    objective = (data.pop("objective", None) or {}).get("kind", "distance")
    fixed = " at fixed norm" if data.pop("fixed_norm", False) else ""
    starts = [" ".join(map(str, one.values())) for one in data.pop("starts", None) or []]
    own = {name: str(value) for name, value in (*fields.items(), *data.items()) if name != "kind"}
    return own | {"objective": f"{objective}{fixed}", "starts": " and ".join(starts)}


def bounded_in_words(parameters: str) -> str:
    """The fields over whose supremum the bound of a search stands: it knows norms, constants and a border alone.

    Args:
        parameters: a row's ``family_parameters``.

    >>> bounded_in_words('{"constraints": [], "fields": {"kind": "spline", "lattice": 8}}')
    'all fields'
    >>> bounded_in_words('{"constraints": [{"kind": "fixed_border", "width": 2.0}], "fields": {"kind": "spline"}}')
    'all fields that are 0 within 2 px of the border'
    """
    _, kind, constraints = _parts(parameters)
    if kind in ("translations", "rigid_motions"):
        return f"all {kind.replace('_', ' ')}"
    borders = [one for one in constraints if one["kind"] == "fixed_border"]
    return " ".join(["all fields", *(f"that are {CONSTRAINTS['fixed_border'].format(**one)}" for one in borders)])


def told_lattice(lattice: int | Sequence[int]) -> str:
    """``8``, or ``6 x 8``."""
    return " x ".join(map(str, lattice)) if isinstance(lattice, Sequence) else str(lattice)


def at_fixed_norm(objective: str) -> bool:
    """Whether a row's ``objective`` gave L_tau x the norm of x first."""
    return objective.endswith("_at_fixed_norm")


def found_in_words(objective: str, largest_found: float, norm_x: float) -> str:
    """What was found, with its unit; over ||x|| the objective itself, not the distance at the field.

    >>> found_in_words("distance_at_fixed_norm", 1.0, 4.0), found_in_words("angle", 0.5, 4.0)
    ('1 = 0.25 ||x||', '0.5 rad')
    """
    if is_angle(objective):
        return f"{largest_found:.4g} rad"
    return f"{largest_found:.4g} = {largest_found / norm_x:.4g} ||x||"
