"""``ClosedForm``: a bound from the norms of tau alone, with everything that it is made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stability.bounds.rung import Scope, Status, Term, told

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
        hoelder: if some rho is infinite (step kernels, neural tangent kernels): the bound by square-root moduli, of
            order b^(1/2); otherwise None.
        hoelder_terms: its addends.
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
    hoelder_terms: tuple[Term, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def form(self) -> str:
        """Which theorem is the smallest, and which forms of the operators' norms in it."""
        combination = self.combination.partition(",")[0]
        if combination not in ("sum", "quadrature", "depth-free"):
            return self.combination
        rows = self.constants["layers"]
        if combination == "depth-free":
            forms = [term.name for term in self.terms if term.name.startswith("growth")]
        else:
            rooted = combination == "quadrature"
            forms = [row["energy_form"] if rooted and row["energy_form"] != "none" else row["form"] for row in rows]
        last = "last, split, form" if ", split" in self.combination else "last, form"
        return told(self.combination, forms, self.constants[last])

    def to_text(self) -> str:
        """A table to read: value, terms, combinations, constants."""
        lines = [f"||Phi(L_tau x) - Phi(x)|| / ||x||  <=  {self.value:.6g}", f"  {self.status}; {self.scope}"]
        lines += [f"  {self.form}"] if self.terms else []
        smallest = min(self.value, self.value if self.hoelder is None else self.hoelder)
        less = ", which is less: use it" if self.trivial_norms < smallest else ""
        lines += [f"  {'the norms alone allow':<28} {self.trivial_norms:.6g}{less}"]
        if self.hoelder is not None:
            lines.append(f"  {'by square-root moduli':<28} {self.hoelder:.6g}")
        lines += [f"  note: {note}" for note in self.notes]
        if self.terms:
            rooted = self.combination.startswith(("quadrature", "depth-free"))
            shares = ": shares, square / root" if rooted else ""
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


def _text(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
