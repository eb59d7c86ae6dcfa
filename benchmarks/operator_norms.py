"""Operator norms: what the closed forms lose on random fields, and what an enclosure costs.

    python benchmarks/operator_norms.py [--all] [--out FILE]

Ratios closed form / enclosed norm (upper end): medians, an interval that holds the law's median in 95 % of draws
(order statistics), and ranges, over random fields with b = sup ||grad tau|| in {.05, .1, .25, .5}: d = 1, 64 pixels,
cutoffs 2 and 6, sigma 1, 2, 4 (48 fields); d = 2, 24 x 24 pixels, cutoffs 1 and 3, sigma 1.5 and 3: generic,
divergence-free, gradient (48 of each; "all": together). Times: one field, one thread, CPU seconds, sides
28 and 56, with ``--all`` 112, sigma 1, 2, 4.
"""

import argparse
import itertools
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

import stability as st
from stability import bounds, front_ends
from stability.bounds.field import FieldNorms
from stability.bounds.forms import last_pooling, patch_commutator, patch_energy, pooling_commutator
from stability.deformations.base import Deformation
from stability.operator_norms import Enclosure

JACOBIANS = (0.05, 0.1, 0.25, 0.5)
CLAIMS = {"[A,L], b only, d = 2, generic": 4.3, "LA-A, closed form, d = 2, all": 1.9}
NORMS = 20.0  # seconds for [P_1 A_0, L], [P_2 A_1, L], A_2 L - A_2 at 28 x 28


def fields() -> Iterator[tuple[str, Deformation, float]]:
    """(kind, field, sigma)."""
    seeds = itertools.count(1)

    def drawn(family: Any, size: tuple[int, ...], cutoff: int, b: float) -> Deformation:
        generator = torch.Generator().manual_seed(next(seeds))
        return st.control(family.sample(size, cutoff=cutoff, generator=generator), jacobian_norm=b)

    for b, cutoff, sigma, _ in itertools.product(JACOBIANS, (2, 6), (1.0, 2.0, 4.0), range(2)):
        yield "d = 1", drawn(st.FourierField, (64,), cutoff, b), sigma
    kinds = {"generic": st.FourierField, "divergence-free": st.DivergenceFreeField, "gradient": st.GradientField}
    for kind, family in kinds.items():
        for b, cutoff, sigma, _ in itertools.product(JACOBIANS, (1, 3), (1.5, 3.0), range(3)):
            yield f"d = 2, {kind}", drawn(family, (24, 24), cutoff, b), sigma


def ratios() -> dict[str, list[float]]:
    """Closed form over enclosed norm, by quantity and kind; asserts that none is below 1."""
    found: dict[str, list[float]] = {}

    def add(name: str, kind: str, closed: float, norm: Enclosure) -> None:
        assert closed >= float(norm.lower), (name, kind, closed, norm)
        for held in (kind, "d = 2, all") if kind.startswith("d = 2") else (kind,):
            found.setdefault(f"{name}, {held}", []).append(closed / float(norm.upper))

    for kind, field, sigma in fields():
        d, known = field.d, field.norms()
        a, b, h, divergence = (
            float(one.upper) for one in (known.displacement, known.jacobian, known.hessian, known.divergence)
        )
        norms = st.OperatorNorms(field, torch.Generator().manual_seed(0), tolerance=1e-3)
        full, known_b = FieldNorms(a, b, h, divergence=divergence, d=d), FieldNorms(a, b, d=d)
        radius = st.Architecture((st.Layer(3, sigma),)).patch_radius(1, d)
        add("[A,L], c_d b (1-b)^(-d/2)", kind, bounds.commutator(b, d), norms.commutator(sigma))
        add("[A,L], b only", kind, pooling_commutator(known_b, sigma).value, norms.commutator(sigma))
        add("[A,L], best closed form", kind, pooling_commutator(full, sigma).value, norms.commutator(sigma))
        best = patch_commutator(full, sigma, radius, symmetric=True).value
        joint = patch_commutator(known_b, sigma, radius, symmetric=True).value
        add("[PA,L], b only", kind, joint, norms.patch_commutator(sigma, 3))
        add("[PA,L], best closed form", kind, best, norms.patch_commutator(sigma, 3))
        energy = patch_energy(known_b, sigma, radius).value
        add("[PA,L] energy, b only", kind, energy, norms.patch_commutator(sigma, 3, energy=True))
        add("LA-A, closed form", kind, bounds.c2(b, d) * a / sigma, norms.warp_difference(sigma))
        add("AL-A, a and b only", kind, bounds.pooling_difference(a, b, sigma, d), norms.pooling_difference(sigma))
        add("AL-A, best closed form", kind, last_pooling(full, sigma, a).value, norms.pooling_difference(sigma))
    return found


def cost(run: Callable[[], Enclosure]) -> tuple[float, Enclosure]:
    """CPU seconds and what came out."""
    start = time.process_time()
    found = run()
    return time.process_time() - start, found


def times(sides: tuple[int, ...]) -> list[dict[str, object]]:
    """CPU seconds of every quantity."""
    rows: list[dict[str, object]] = []
    for side in sides:
        field = st.FourierField.sample((side, side), cutoff=3, generator=torch.Generator().manual_seed(0))
        field = st.control(field, jacobian_norm=0.3)
        field.norms().jacobian.upper  # noqa: B018  (certified once, not part of the times)
        norms = st.OperatorNorms(field, torch.Generator().manual_seed(1))
        for sigma in (1.0, 2.0, 4.0):
            runs: dict[str, Callable[[], Enclosure]] = {
                "[A,L]": partial(norms.commutator, sigma),
                "[PA,L]": partial(norms.patch_commutator, sigma, 3),
                "[PA,L] energy": partial(norms.patch_commutator, sigma, 3, energy=True),
                "[P gradient A,L]": partial(norms.front_end_commutator, front_ends.Gradient(), sigma, 3),
                "AL-A": partial(norms.pooling_difference, sigma),
                "LA-A": partial(norms.warp_difference, sigma),
            }
            for name, run in runs.items():
                seconds, found = cost(run)
                row = {"side": side, "sigma": sigma, "norm": name, "seconds": seconds}
                row |= {"lower": float(found.lower), "gap": float(found.gap), "status": str(found.status)}
                rows.append(row | {"form": found.form})
                print(
                    "{side:4d} {sigma:4g}  {norm:18} {seconds:8.2f} s  {lower:.8f}  {gap:.1e}  {form}".format(
                        **rows[-1]
                    )
                )
    return rows


def interval(values: list[float]) -> tuple[float, float]:
    """The order statistics between which the law's median lies with probability 0.95 at least."""
    ordered, n = sorted(values), len(values)
    outside, k = 0.5**n, 0  # P(at most k values below the median)
    while outside + math.comb(n, k + 1) * 0.5**n <= 0.025:
        k += 1
        outside += math.comb(n, k) * 0.5**n
    return ordered[k], ordered[n - 1 - k]


def architecture_time() -> float:
    """CPU seconds of the three norms of two layers at 28 x 28, sigma 1, 2, 4."""
    field = st.FourierField.sample((28, 28), cutoff=3, generator=torch.Generator().manual_seed(0))
    norms = st.OperatorNorms(st.control(field, jacobian_norm=0.3), torch.Generator().manual_seed(1))
    start = time.process_time()
    norms.patch_commutator(1.0, 3, 1.0)
    norms.patch_commutator(2.0, 3, 1.0)
    norms.pooling_difference(4.0)
    return time.process_time() - start


def main() -> None:
    """Print everything; write it as JSON with ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="side 112 too")
    parser.add_argument("--out", type=Path, help="JSON file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = ratios()
    for name, values in found.items():
        low, high = interval(values)
        spread = f"({low:.2f} to {high:.2f})  [{min(values):.2f}, {max(values):.2f}] n = {len(values)}"
        claim = f"  (claimed: {CLAIMS[name]})" if name in CLAIMS else ""
        print(f"{name:49} {statistics.median(values):6.2f} {spread}{claim}")
    seconds = architecture_time()
    print(f"two layers at 28 x 28, three norms: {seconds:.1f} s (claimed: {NORMS:g} s)")
    rows = times((28, 56, 112) if arguments.all else (28, 56))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps({"ratios": found, "two_layers": seconds, "times": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
