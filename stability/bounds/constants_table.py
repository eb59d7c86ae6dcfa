r"""The constants as a table for papers: every closed form, divided by b where it vanishes with b."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stability.bounds.constants import COMMUTATOR, DIVERGENCE, HESSIAN, SLOPE, c2, translation
from stability.bounds.depth import Ingredients, layer_error
from stability.bounds.field import contraction, dimension, non_negative
from stability.bounds.mixed import mixed_commutator
from stability.bounds.patches import STRAIN_ENERGY, c1, joint, joint_energy
from stability.bounds.rung import Status
from stability.bounds.sampling import aliasing


class ConstantRow(NamedTuple):
    """One constant: what it bounds, its formula, one value per b, its status."""

    name: str
    formula: str
    values: tuple[float, ...]
    status: Status


@dataclass(frozen=True)
class ConstantsTable:
    """Constants for dimension d at several b; ``fixed`` holds those that do not depend on b.

    Args:
        d: 1 or 2.
        b: the values of sup ||grad tau||; 0 is the limit b -> 0.
        rows: one ``ConstantRow`` per constant, with one value per b.
        fixed: the same with a single value.
    """

    d: int
    b: tuple[float, ...]
    rows: tuple[ConstantRow, ...]
    fixed: tuple[ConstantRow, ...]

    def to_text(self) -> str:
        """Columns: constant, formula, one per b, status."""
        numerical = "*"
        head = ["constant", "formula", *(f"b={b:g}" if b else "b->0" for b in self.b)]
        body = [[row.name, row.formula, *(f"{value:.4f}" for value in row.values)] for row in self.rows]
        marks = [numerical if row.status is Status.NUMERICAL else "" for row in self.rows]
        table = [[*head, ""], *([*cells, mark] for cells, mark in zip(body, marks, strict=True))]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in table]
        lines += ["", "independent of b"]
        width = max(len(row.name) for row in self.fixed)
        wide = max(len(row.formula) for row in self.fixed)
        for row in self.fixed:
            mark = f"  {numerical}" if row.status is Status.NUMERICAL else ""
            lines.append(f"{row.name:<{width}}  {row.formula:<{wide}}  {row.values[0]:.5f}{mark}")
        return "\n".join([f"d = {self.d}", *lines, "", f"{numerical} {Status.NUMERICAL}; otherwise {Status.PROOF}"])


def constants_table(
    b: Sequence[float] = (0.0, 0.05, 0.1, 0.25, 0.5), *, d: int = 2, kappa_rms: Sequence[float] = (0.0, 0.5, 1.0, 2.0)
) -> ConstantsTable:
    """Every constant of the bounds in closed form: plain rows, and a text by ``to_text``.

    Args:
        b: values of sup ||grad tau|| in [0, 1); 0: the limit.
        d: 1 or 2.
        kappa_rms: root-mean-square patch offsets over sigma for which the patch constants are listed.

    Raises:
        ValueError: if a value is out of range.

    >>> table = constants_table((0.0, 0.5))
    >>> [(row.name, [round(value, 3) for value in row.values]) for row in table.rows[:2]]
    [('C2', [0.607, 0.841]), ('||[A,L]|| / b', [1.456, 2.913])]
    """
    d, values = dimension(d), tuple(contraction(one) for one in b)
    kappas = tuple(non_negative("kappa_rms", kappa) for kappa in kappa_rms)
    rows = [*_pooling_rows(values, d), *_patch_rows(values, d, kappas)]
    proof, numerical = Status.PROOF, Status.NUMERICAL
    fixed = [
        ConstantRow(f"T({r:g})", "||A L_c - A||, |c| = r sigma", (translation(r),), proof) for r in (0.1, 0.5, 1, 2, 5)
    ]
    fixed += [
        ConstantRow("e^(-1/2)", "sigma ||grad A||", (SLOPE,), proof),
        ConstantRow("2/e", "sigma^2 ||grad^2 A||", (2 / math.e,), proof),
        ConstantRow("c_d", "||[A,L]|| <= c_d b (1-b)^(-d/2)", (COMMUTATOR[d],), numerical),
        ConstantRow("1/e", "strain", (1 / math.e,), proof),
        ConstantRow("strain, energy form", "sup (1-e^-y)/(2y)^(1/2)", (STRAIN_ENERGY,), numerical),
        ConstantRow("volume", "factor of sup |1-D| D^(-1/2)", (DIVERGENCE,), numerical),
        ConstantRow("Hessian", "factor of sigma sup |M^-T grad ln D| D^(-1/2)", (HESSIAN,), numerical),
        ConstantRow("aliasing", "||Q A - A||, sigma = spacing", (aliasing(1.0, 1.0, d),), numerical),
    ]
    return ConstantsTable(d, values, tuple(rows), tuple(fixed))


def _pooling_rows(b: tuple[float, ...], d: int) -> list[ConstantRow]:
    """Constants without a patch."""

    def power(one: float) -> float:
        return float((1 - one) ** (-d / 2))

    proof, numerical = Status.PROOF, Status.NUMERICAL
    rows = [
        ConstantRow("C2", "||LA-A|| <= C2 a/sigma", tuple(c2(one, d) for one in b), proof),
        ConstantRow(
            "||[A,L]|| / b", "min(1/b, c_d) (1-b)^(-d/2)",
            tuple(min(1 / one if one else math.inf, COMMUTATOR[d]) * power(one) for one in b), numerical,
        ),
        ConstantRow("  mixed / b", "min over r, s of Phi(F, B)", tuple(_mixed(one, d) for one in b), numerical),
        ConstantRow("  at least", "((1-b^2)^-d - 1)^(1/2) / b", tuple(_zigzag(one, d) for one in b), proof),
        ConstantRow(
            "  Hessian form, strain / b", "(2-b)/(e(1-b)) (1-b)^(-d/2)",
            tuple((2 - one) / (math.e * (1 - one)) * power(one) for one in b), proof,
        ),
        ConstantRow(
            "  Hessian form, / sigma H", "0.4513 d (1-b)^(-2-d/2)",
            tuple(HESSIAN * d * (1 - one) ** -2 * power(one) for one in b), numerical,
        ),
    ]  # fmt: skip
    if d == 2:
        rows += [
            ConstantRow(
                "  volume preserving / b", "(2+b)/(e(1+b))", tuple((2 + one) / (1 + one) / math.e for one in b), proof
            ),
            ConstantRow(
                "  mixed, sup |div tau| = b / 2, / b", "min over r, s of Phi(F, B)",
                tuple(_mixed(one, d, 0.5) for one in b), numerical,
            ),
            ConstantRow(
                "  divergence form, strain / b", "2/(e(1-b^2)^(1/2))",
                tuple(2 / math.e / math.sqrt(1 - one * one) for one in b), proof,
            ),
        ]  # fmt: skip
    rows += [
        ConstantRow(
            "direct ||AL-A||, volume / b", "((1-b)^-d - 1) / b",
            tuple(math.expm1(-d * math.log1p(-one)) / one if one else float(d) for one in b), proof,
        ),
        ConstantRow("mean removal / b", "((1-b^2)^-d - 1)^(1/2) / b", tuple(_zigzag(one, d) for one in b), proof),
    ]  # fmt: skip
    return rows


def _patch_rows(b: tuple[float, ...], d: int, kappas: tuple[float, ...]) -> list[ConstantRow]:
    """Constants of pooling and patch together, in units of b."""
    power = [(1 - one) ** (-d / 2) for one in b]
    rows = []
    for kappa in kappas:
        of = f"kappa={kappa:g}"
        values = tuple(c1(kappa, one, d) for one in b)
        rows.append(ConstantRow(f"C1, {of}", "||[PA,L]|| <= C1 b, additive", values, Status.NUMERICAL))
        values = tuple(joint(kappa, d) * one for one in power)
        rows.append(ConstantRow(f"J, {of}", "||[PA,L]|| <= J b", values, Status.NUMERICAL))
        values = tuple(joint_energy(kappa, d) * one for one in power)
        rows.append(ConstantRow(f"j, {of}", "||[PA,L]z|| <= j b Delta(z)^(1/2)", values, Status.NUMERICAL))
        if d == 2:
            values = tuple(layer_error(_shear(one), 1.0, kappa).factor for one in b)
            rows.append(ConstantRow(f"C, {of}", "depth-free, volume preserving, / b", values, Status.PROOF))
    return rows


def _shear(b: float) -> Ingredients:
    """The suprema of a volume-preserving field in d = 2, divided by b."""
    return Ingredients((2 + b) / (1 + b), shift=1.0, inverse_shift=1.0)


def _mixed(b: float, d: int, share: float | None = None) -> float:
    """Of ``mixed_commutator`` in units of b; sup |div tau| is a share of b."""
    b = b or 1e-9  # the limit, to 1e-8 of itself
    return mixed_commutator(b, d, None if share is None else share * b) / b


def _zigzag(b: float, d: int) -> float:
    return math.sqrt(math.expm1(-d * math.log1p(-b * b))) / b if b else math.sqrt(d)
