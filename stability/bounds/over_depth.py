"""The bound against depth: every theorem for a sequence of networks, side by side."""

import math
from collections.abc import Sequence
from dataclasses import replace

from stability.architecture import Architecture
from stability.bounds.closed_form import form_of
from stability.bounds.field import FieldNorms
from stability.bounds.form import ClosedForm

THEOREMS = ("published form", "sum", "quadrature", "depth-free")


def first_layers(architecture: Architecture) -> tuple[Architecture, ...]:
    """The networks of the first n = 1, ..., depth layers; each ends with the pooling of its own last layer.

    >>> [one.depth for one in first_layers(Architecture.dyadic(depth=3))]
    [1, 2, 3]
    """
    return tuple(replace(architecture, layers=architecture.layers[:n]) for n in range(1, architecture.depth + 1))


def over_depth(
    architectures: Sequence[Architecture], norms: FieldNorms, *, vanishing_border: float | None = None
) -> tuple[ClosedForm, ...]:
    """``closed_form`` of every architecture for the same norms of tau.

    Args:
        architectures: for example ``first_layers(architecture)``, or networks of equal total pooling.
        norms: the norms of tau (``bounds.field_norms``).
        vanishing_border: as in ``closed_form``.

    >>> from stability.bounds.field import field_norms
    >>> norms = field_norms(displacement_norm=1.0, jacobian_norm=0.1, volume_preserving=True)
    >>> forms = over_depth(first_layers(Architecture.dyadic(depth=4, subsampling=1)), norms)
    >>> [form.combination for form in forms]
    ['quadrature', 'quadrature', 'quadrature', 'depth-free']
    """
    return tuple(form_of(architecture, norms, vanishing_border=vanishing_border) for architecture in architectures)


def to_text(architectures: Sequence[Architecture], forms: Sequence[ClosedForm]) -> str:
    """One line per network: depth, every theorem (the smaller one where a constant was split off), the smallest."""
    lines = [["n", *THEOREMS, "norms alone", "smallest"]]
    for architecture, form in zip(architectures, forms, strict=True):
        found = form.alternatives
        values = [min((found[key] for key in (name, f"{name}, split") if key in found), default=math.inf)
                  for name in THEOREMS]  # fmt: skip
        cells = [f"{value:.4g}" for value in (*values, form.trivial_norms)]
        lines.append([str(architecture.depth), *cells, form.combination if math.isfinite(form.value) else "none"])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
