"""The three theorems for one network and the norms of tau: sum, quadrature, depth-free; the smallest is the value."""

import math
from collections.abc import Sequence

from stability.architecture import Architecture
from stability.boundaries import Periodic
from stability.bounds.depth import error_factor, error_growth, ingredients, layer_error
from stability.bounds.field import FieldNorms
from stability.bounds.form import ClosedForm
from stability.bounds.forms import last_pooling, patch_commutator, patch_energy, published_form, split_pooling
from stability.bounds.hoelder import hoelder_terms
from stability.bounds.rows import Row, extra_rows, front_end_rows, patch_spread, terms, times
from stability.bounds.rung import Status, Term
from stability.bounds.table import constants


def combine(architecture: Architecture, norms: FieldNorms) -> ClosedForm:
    """The smallest of all combinations, with its terms and constants."""
    n, scales, rho = architecture.depth, architecture.scales, architecture.lipschitz
    torus = isinstance(architecture.boundary, Periodic)  # where all translations commute with the layers
    offsets = [patch_spread(architecture, k, norms.d) if torus else architecture.patch_radius(k, norms.d)
               for k in range(1, n + 1)]  # fmt: skip
    symmetric = [torus or layer.patch_size % 2 == 1 for layer in architecture.layers]
    gains = [math.prod(rho[k:]) for k in range(n)]  # R_{k-1}
    layers = [patch_commutator(norms, *row) for row in zip(scales, offsets, symmetric, strict=False)]
    # without pooling no energy is removed: such a layer has no energy form and stays outside the root
    energies = [patch_energy(norms, s, c) if s > 0 else None for s, c in zip(scales, offsets, strict=False)]
    last = {"": last_pooling(norms, scales[-1], norms.displacement)}
    if norms.mean > 0 and math.isfinite(norms.residual) and scales[-1] > 0:
        last[", split"] = split_pooling(norms, scales[-1])
    extra = extra_rows(architecture, norms)

    plain, rooted = [], []
    for k, (gain, layer, energy) in enumerate(zip(gains, layers, energies, strict=True), start=1):
        plain.append(Row(f"layer {k}", times(gain, layer.value), layer.status))
        rooted.append(
            plain[-1] if energy is None else Row(f"layer {k}", times(gain, energy.value), energy.status, rooted=True)
        )
    theorems = {"sum": plain, "quadrature": rooted}
    if torus:
        theorems["depth-free"] = _depth_free(norms, scales, offsets, gains, plain)
    combinations = {}
    for suffix, part in last.items():
        for name, rows in theorems.items():
            end = Row("last pooling", part.value, part.status, rooted=name != "sum")
            combinations[name + suffix] = [*rows, end, *extra]
    found = {name: terms(rows) for name, rows in combinations.items()}
    alternatives = {name: sum(float(term.value) for term in parts) for name, parts in found.items()}
    winner = min(alternatives, key=lambda name: alternatives[name])
    shared = math.fsum(row.value for row in extra)
    alternatives["published form"] = published_form(norms, scales, offsets, math.prod(rho)) + shared
    smooth = all(map(math.isfinite, rho))
    value = alternatives[winner] if smooth else math.inf
    status = Status.weakest(*(row.status for row in combinations[winner]))
    notes = [] if smooth else ["a kernel map is not Lipschitz (rho = inf)"]
    if any(layer.subsampling > 1 and layer.pooling_scale == 0 for layer in architecture.layers):
        notes.append("subsampling without pooling: sampling is not bounded on square-integrable functions")
    if norms.mean > 0 and math.isinf(norms.residual):
        notes.append("sup |tau - c| is unknown: no constant is split off")
    by_moduli: tuple[Term, ...] = ()
    if not smooth:
        start = math.fsum(row.value for row in front_end_rows(architecture, norms, 1.0))
        final = min(part.value for part in last.values())
        by_moduli = hoelder_terms(architecture, norms, [part.value for part in layers], final, start)
    return ClosedForm(
        value=value,
        combination=winner,
        status=status if math.isfinite(value) else Status.NOT_COVERED,
        trivial_norms=1 + norms.warp,
        terms=tuple(found[winner]) if smooth else (),
        alternatives=alternatives,
        constants=constants(architecture, norms, layers, energies, last),
        hoelder=None if smooth else math.fsum(float(term.value) for term in by_moduli),
        hoelder_terms=by_moduli,
        notes=tuple(notes),
    )


def _depth_free(
    norms: FieldNorms, scales: Sequence[float], offsets: Sequence[float], gains: Sequence[float], plain: list[Row]
) -> list[Row]:
    """Rows of "depth-free": max C_k and Gamma, added under the root, in the smallest form; layers without pooling."""
    pooled = [k for k, scale in enumerate(scales[:-1]) if scale > 0]
    weights = [gains[k] for k in pooled]
    candidates = []
    for part in ingredients(norms):
        layers = [layer_error(part, scales[k], offsets[k]) for k in pooled]
        factor, growth = error_factor(layers, weights), error_growth(layers, weights)
        candidates.append((factor, growth, Status.weakest(*(layer.status for layer in layers)), part.form))
    factor, growth, status, form = min(candidates, key=lambda row: row[0] + row[1])
    rows = [
        Row("largest layer", factor, status, rooted=True, group="layers"),
        Row(f"growth ({form})", growth, status, rooted=True, group="layers"),
    ]
    return [*rows, *(row for k, row in enumerate(plain) if scales[k] == 0)]
