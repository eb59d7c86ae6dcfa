r"""The theorem as a calculator: ||Phi(L_tau x) - Phi(x)|| <= value ||x|| for every x and every tau with these norms.

    sum:         sum_k R_{k-1} ||[P_k A_{k-1}, L]|| + ||A_n L - A_n||
    quadrature:  (sum_k R_{k-1}^2 g_k^2 + ||A_n L - A_n||^2)^(1/2)
    depth-free:  ((max_k R_{k-1} C_k + Gamma)^2 + ||A_n L - A_n||^2)^(1/2), see ``stability.bounds.depth``

with R_{k-1} = prod_{j >= k} rho_j and ||[P_k A_{k-1}, L] z|| <= g_k (||z||^2 - ||A_{k-1} z||^2)^(1/2): what one pooling
removes no later one can see. The smallest one is the value. Proofs: docs/theory.md, docs/theory-depth.md.

Reference: Bietti & Mairal 2019, stability theorem (the sum, without numerical constants).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stability.architecture import Architecture
from stability.boundaries import Periodic, Zero
from stability.bounds.border import open_border
from stability.bounds.depth import error_factor, error_growth, ingredients, layer_error
from stability.bounds.field import FieldNorms, field_norms, non_negative
from stability.bounds.forms import last_pooling, patch_commutator, patch_energy, published_form, split_pooling
from stability.bounds.hoelder import given_lipschitz, hoelder_bound
from stability.bounds.rows import Row, extra_rows, front_end_rows, patch_spread, terms, times
from stability.bounds.rung import Scope, Status, Term
from stability.bounds.table import constants
from stability.kernels import Linear

EVERY = Scope(every_image=True, every_field=True)


@dataclass(frozen=True)
class ClosedForm:
    """A bound of ||Phi(L_tau x) - Phi(x)|| / ||x|| with everything it is made of.

    Args:
        value: the bound, dimensionless; infinity where the theorem says nothing.
        combination: the theorem that gave it: "sum", "quadrature" or "depth-free"; with ", split" if a constant was
            split off, ", centred" if the norm of x - mean x was used.
        status: the weakest among the parts used.
        scope: every image, every field with these norms.
        terms: addends of ``value``: layers, last pooling, mean removal, aliasing. Those under a root are shares,
            square / root, so that the terms add up to the value all the same.
        alternatives: the value of every combination, and "published form", which is never the smallest: its shape is
            that of the literature, C1 (1 + n) b + C2 a / sigma_n.
        constants: every constant that entered; ``constants["layers"]`` has one mapping per layer.
        trivial_norms: 1 + ||L_tau|| <= 1 + (1-b)^(-d/2), what the two norms alone allow (times prod rho where the
            layers do not preserve norms). Not folded into ``value``.
        hoelder: if some rho is infinite (step kernels): the bound by the kernels' square-root moduli; otherwise None.
        notes: in words, what is not covered and why.
    """

    value: float
    combination: str
    status: Status
    trivial_norms: float
    scope: Scope = EVERY
    terms: tuple[Term, ...] = ()
    alternatives: Mapping[str, float] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    hoelder: float | None = None
    notes: tuple[str, ...] = ()

    def to_text(self) -> str:
        """A table to read: value, terms, combinations, constants."""
        lines = [f"||Phi(L_tau x) - Phi(x)|| / ||x||  <=  {self.value:.6g}", f"  {self.status}; {self.scope}"]
        less = ", which is less: use it" if self.trivial_norms < self.value else ""
        lines += [f"  {'the norms alone allow':<28} {self.trivial_norms:.6g}{less}"]
        if self.hoelder is not None:
            lines.append(f"  {'by square-root moduli':<28} {self.hoelder:.6g}")
        lines += [f"  note: {note}" for note in self.notes]
        if self.terms:
            shares = ": shares, square / root" if not self.combination.startswith("sum") else ""
            lines.append(f"terms ({self.combination}{shares})")
            lines += [f"  {term.name:<28} {term.value:.6g}" for term in self.terms]
        if self.alternatives:
            lines.append("combinations")
            lines += [f"  {name:<28} {value:.6g}" for name, value in self.alternatives.items()]
        lines.append("constants")
        lines += [f"  {name:<28} {_text(value)}" for name, value in self.constants.items() if name != "layers"]
        rows = self.constants.get("layers", ())
        if rows:
            table = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
            widths = [max(map(len, column)) for column in zip(*table, strict=True)]
            lines += ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in table]
        return "\n".join(lines)


def closed_form(
    architecture: Architecture,
    *,
    displacement_norm: float,
    jacobian_norm: float,
    hessian_norm: float | None = None,
    mean_displacement: float = 0.0,
    residual_displacement: float | None = None,
    divergence_norm: float | None = None,
    volume_preserving: bool = False,
    d: int = 2,
    lipschitz: Sequence[float] | None = None,
    centred_norm: float = 1.0,
    vanishing_border: float | None = None,
    keeps_zero: bool = True,
) -> ClosedForm:
    """||Phi(L_tau x) - Phi(x)|| / ||x|| from the norms of tau alone.

    Args:
        architecture: the network; its kernels preserve norms, as all of ``stability.kernels`` do.
        displacement_norm: a = sup |tau| in pixels.
        jacobian_norm: b = sup of the spectral norm of grad tau; >= 1 is not covered (value infinity).
        hessian_norm: H per pixel, or None if unknown.
        mean_displacement: |c| of a constant c to split off, in pixels, and
        residual_displacement: sup |tau - c|; None: unknown, nothing is split off.
        divergence_norm: sup |div tau|, or None if unknown.
        volume_preserving: whether det(I - grad tau) = 1 everywhere.
        d: 1 or 2.
        lipschitz: rho_1, ..., rho_n >= 0 of pointwise layers that take the place of the kernel maps and need not
            preserve norms (spectral norms of a ``CNN``). The bound is then prod rho times that for rho = 1.
        centred_norm: at least ||x - mean x|| / ||x|| of the images that the bound is for; 1: every image. Below 1 the
            combinations ", centred" are tried too: prod rho times the bound for rho = 1, times this number.
        vanishing_border: width in pixels of the strip along the image's border in which tau = 0; 0: at the border
            only; None: it need not vanish. Asked for with the boundary ``Zero()``: covered is a tau that vanishes as
            far from the border as patches reach (``Architecture.patch_reach``); no constant is split off then.
        keeps_zero: whether the layers of ``lipschitz`` map 0 to 0, which ``Zero()`` asks for too.

    Raises:
        ValueError: if a norm is negative, NaN or no number, or the architecture is none.

    >>> from stability.architecture import Architecture
    >>> bound = closed_form(Architecture.dyadic(depth=2, subsampling=1), displacement_norm=1.0, jacobian_norm=0.1)
    >>> round(bound.value, 4), bound.combination, str(bound.status)
    (0.3713, 'quadrature', 'proof, numerically evaluated')
    >>> round(closed_form(Architecture.dyadic(depth=2), displacement_norm=4.0, jacobian_norm=0.0).terms[-1].value, 4)
    0.0203
    >>> arch = Architecture.dyadic(depth=2, subsampling=1)
    >>> round(closed_form(arch, displacement_norm=1.0, jacobian_norm=0.1, lipschitz=(2.0, 0.5)).value, 4)
    0.3713
    """
    if not isinstance(architecture, Architecture):
        raise ValueError(
            f"architecture must be an Architecture, got {architecture!r}; use Architecture.dyadic(depth=3)"
        )
    norms = field_norms(
        displacement_norm=displacement_norm,
        jacobian_norm=jacobian_norm,
        hessian_norm=hessian_norm,
        mean_displacement=mean_displacement,
        residual_displacement=residual_displacement,
        divergence_norm=divergence_norm,
        volume_preserving=volume_preserving,
        d=d,
    )
    border = None if vanishing_border is None else non_negative("vanishing_border", vanishing_border)
    centred = non_negative("centred_norm", centred_norm)
    if centred > 1:
        raise ValueError(f"centred_norm must be at most 1, got {centred_norm!r}; 1 stands for every image")
    given, b = None if lipschitz is None else given_lipschitz(architecture, lipschitz), norms.jacobian
    if b >= 1:
        note = f"jacobian_norm = {b:g} >= 1: id - tau need not be a diffeomorphism; scale the field down"
        return _uncovered(note, norms)
    reason = None
    if architecture.front_end is not None and not architecture.front_end.in_closed_form:
        name = type(architecture.front_end).__name__
        reason = f"front end {name}: a filter before A_0; [P_1 F A_0, L] has no closed form"
    elif isinstance(architecture.boundary, Zero):
        reason = open_border(architecture.patch_reach, border, keeps_zero)
        norms = replace(norms, mean=0.0, residual=math.inf)  # a constant does not vanish at the border
        centred = 1.0  # nor does it pass through the layers as a constant
    if reason is not None:
        return _uncovered(reason, norms, (1 + norms.warp) * math.prod(given or ()))
    if given is not None:
        return _scaled(_combine(architecture.replace("layers.*.kernel", Linear()), norms), given, centred)
    form = _combine(architecture, norms)
    return form if centred == 1 or math.inf in architecture.lipschitz else _centred(architecture, norms, form, centred)


def _uncovered(note: str, norms: FieldNorms, trivial: float = math.inf) -> ClosedForm:
    """Nothing but what the norms allow, and why."""
    constants = {"a": norms.displacement, "b": norms.jacobian, "d": norms.d}
    return ClosedForm(math.inf, "none", Status.NOT_COVERED, trivial, constants=constants, notes=(note,))


def _centred(architecture: Architecture, norms: FieldNorms, form: ClosedForm, centred: float) -> ClosedForm:
    """The smaller one of the bound in ||x|| and prod rho times that for rho = 1 in ||x - mean x||.

    On the torus constants pass through every layer as constants, so that ||z_k - mean z_k|| never exceeds
    rho_1 ... rho_k ||x - mean x||, and no operator of the theorem sees them.
    """
    flat = _combine(architecture.replace("layers.*.kernel", Linear()), norms)
    other = _scaled(flat, architecture.lipschitz, centred)
    both = {**form.alternatives, **other.alternatives}
    chosen = other if other.value < form.value else form
    return replace(chosen, alternatives=both, trivial_norms=form.trivial_norms)


def _scaled(form: ClosedForm, rho: tuple[float, ...], centred: float = 1.0) -> ClosedForm:
    """prod rho times a bound for rho = 1: Phi / prod rho is a network of the maps y -> M_k(R y) / (R rho_k).

    R = rho_1 ... rho_{k-1}; these maps are 1-Lipschitz and vanish at 0, all that the theorem asks. For rho_k < 1 the
    factor of the terms before layer k is less than 1 as well: ||z_{k-1}|| <= R ||x||. The same without the means.
    """
    gain, suffix = math.prod(rho) * centred, ", centred" if centred < 1 else ""
    rows = [row | {"rho": own, "R": math.prod(rho)} for row, own in zip(form.constants["layers"], rho, strict=True)]
    return replace(
        form,
        value=times(form.value, gain),  # gain = 0: the network is constant, whatever else is infinite
        combination=form.combination + suffix,
        scope=Scope(every_image=centred == 1, every_field=True),
        trivial_norms=math.prod(rho) * form.trivial_norms,
        terms=tuple(Term(term.name, times(float(term.value), gain)) for term in form.terms),
        alternatives={name + suffix: times(value, gain) for name, value in form.alternatives.items()},
        constants={**form.constants, "layers": tuple(rows)},
    )


def _combine(architecture: Architecture, norms: FieldNorms) -> ClosedForm:
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
    hoelder = None
    if not smooth:
        start = math.fsum(row.value for row in front_end_rows(architecture, norms, 1.0))
        final = min(part.value for part in last.values())
        hoelder = hoelder_bound(architecture, norms, [part.value for part in layers], final, start)
    return ClosedForm(
        value=value,
        combination=winner,
        status=status if math.isfinite(value) else Status.NOT_COVERED,
        trivial_norms=1 + norms.warp,
        terms=tuple(found[winner]) if smooth else (),
        alternatives=alternatives,
        constants=constants(architecture, norms, layers, energies, last),
        hoelder=hoelder,
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


def _text(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
