"""Worst-case search beside its alternatives: value, processor time, gradients. All fields are in the same C(a, b).

    python benchmarks/worst_case.py --images 3 --random 1000

For every pair (a, b), medians over images of the largest distance found relative to the best of the random fields of
the law ``MixedField``, with seconds of one image. Methods:

    random          the best of N fields of ``MixedField``: the unit
    saturated       the best of N / 4 fields ``PiecewiseLinearField.saturated``
    translations    a polar grid
    projected       gradient ascent of fixed length, projected onto C(a, b)
    adef            steps along the smoothed gradient (Alaifari, Alberti & Gauksson 2019), scaled into C(a, b)
    stadv           distance minus a soft penalty, by Adam (after Xiao et al. 2018), scaled into C(a, b)
    cold            Frank-Wolfe with 200 iterations from zero in each linear step, in double precision like everything
                    else, all starts to the end
    same            ``worst_case`` from as many starts of the same kind as cold, without second chances
    chanced         the same with them
    once            ``worst_case`` without second chances
    search          ``worst_case``
    long            ``worst_case`` from 200 starts, 40 of which take up to 40 steps: what a larger search would find

Gradients are counted in deformed images. ``--only`` names methods to run. Every method draws from a generator of
its own with the image's seed, so that searches of one kind of starts have the same ones.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pictures
import torch
from torch import Tensor

import stability as st
from stability.deformations.linear_step import ball, clip, linear_step
from stability.deformations.piecewise_linear import PiecewiseLinearField
from stability.deformations.triangulation import (
    component_gradients,
    component_gradients_adjoint,
    gram_symbol,
    largest_displacement,
    largest_gradient,
)
from stability.operators.pooling import pool, pooling_matrices
from stability.search import worst
from stability.search.chances import CHANCES
from stability.search.compared import compared
from stability.search.families import PiecewiseLinear
from stability.search.objectives import Distance
from stability.search.problem import Problem
from stability.search.starts import Start, signed

PAIRS = ((1.0, 0.1), (2.0, 0.25), (4.0, 0.5), (0.5, 0.5))
SIZE, CELLS = (32, 32), (1.0, 1.0)
STARTS, STEPS = 8, 20


class Outcome(NamedTuple):
    """What one method found."""

    value: float
    gradients: int
    spread: float = math.nan  # over the starts that a search kept


@dataclass(frozen=True)
class Case:
    """One image and one pair of norms."""

    ckn: st.CKN
    image: Tensor  # (1, 1, H, W)
    a: float
    b: float
    generator: torch.Generator
    random: int

    def problem(self, count: int) -> Problem:
        """The distance of the image's representation for ``count`` fields."""
        norms = (torch.full((count,), value, dtype=torch.float64) for value in (self.a, self.b))
        space = PiecewiseLinear().space(SIZE, *norms)
        score = Distance().score(compared(self.ckn, self.image), self.image)
        return Problem(score, self.image, st.SplineWarp(), space, torch.zeros(count, dtype=torch.long))

    def starts(self, problem: Problem) -> Tensor:
        """Saturated fields, tried with both signs."""
        return signed(problem, problem.space.step(problem.space.directions(self.generator), None, 120).parameters)

    def scaled(self, values: Tensor) -> Tensor:
        """The largest multiples in C(a, b)."""
        share = torch.maximum(largest_displacement(values) / self.a, largest_gradient(values, CELLS) / self.b)
        return values / share.clamp_min(1e-300).reshape(-1, 1, 1, 1)


def random(case: Case) -> Outcome:
    """The best of N fields of the law ``MixedField``."""
    law = {"displacement_norm": case.a, "jacobian_norm": case.b, "batch_shape": (case.random,)}
    return Outcome(_best(case, st.MixedField.sample(SIZE, generator=case.generator, **law)), 0)


def saturated(case: Case) -> Outcome:
    """The best of N / 4 saturated fields."""
    law = {"displacement_norm": case.a, "jacobian_norm": case.b, "batch_shape": (max(1, case.random // 4),)}
    return Outcome(_best(case, PiecewiseLinearField.saturated(SIZE, generator=case.generator, **law)), 0)


def _best(case: Case, fields: st.Deformation) -> float:
    return float(case.ckn.reference(case.image).distance(st.SplineWarp()(case.image[:, None], fields)).max())


def translations(case: Case) -> Outcome:
    """A polar grid."""
    found = st.worst_case(case.ckn, case.image, displacement_norm=case.a, jacobian_norm=case.b,
                          fields=st.search.Translations(), generator=case.generator)  # fmt: skip
    return Outcome(float(found.largest_found), 0)


def projected(case: Case) -> Outcome:
    """tau <- P(tau + 2 a g / rms(g)), P the projection."""
    problem = case.problem(STARTS)
    values = case.starts(problem)
    best = problem.values(values)
    for _ in range(STEPS):
        gradient = problem.gradients(values)[1]
        size = gradient.square().sum(-1).flatten(1).mean(1).sqrt().clamp_min(1e-300).reshape(-1, 1, 1, 1)
        values = projection(values + 2 * case.a * gradient / size, case.a, case.b)
        best = torch.maximum(best, problem.values(values))
    return Outcome(float(best.max()), problem.counts.gradients)


def projection(values: Tensor, a: float, b: float, iterations: int = 60) -> Tensor:
    """The nearest fields of C(a, b), by the alternating direction method of multipliers, then scaled inside."""
    v, length, rho = values.movedim(-1, 0) / a, a / b, 1.0
    inverse = 1 / (1 + rho + rho * length**2 * gram_symbol(SIZE, CELLS))
    p, q = ball(v), clip(length * component_gradients(v, CELLS))
    y, w = torch.zeros_like(p), torch.zeros_like(q)
    for _ in range(iterations):
        right = v + rho * (p - y) + rho * length * component_gradients_adjoint(q - w, CELLS)
        x = torch.fft.irfftn(torch.fft.rfftn(right, dim=(-2, -1)) * inverse, s=SIZE, dim=(-2, -1))
        slope = length * component_gradients(x, CELLS)
        p, q = ball(x + y), clip(slope + w)
        y, w = y + x - p, w + slope - q
    result = a * x.movedim(0, -1)
    share = torch.maximum(largest_displacement(result) / a, largest_gradient(result, CELLS) / b)
    return result / share.clamp_min(1.0).reshape(-1, 1, 1, 1)


def adef(case: Case) -> Outcome:
    """tau <- tau + step G g / max |G g|, G a Gaussian of 2 px, scaled into C(a, b) before each step and at the end."""
    problem, matrices = case.problem(STARTS), pooling_matrices(SIZE, 2.0)
    values = case.starts(problem)
    best = problem.values(values)
    for _ in range(STEPS):
        smooth = pool(problem.gradients(values)[1].movedim(-1, 1), matrices).movedim(1, -1)
        largest = smooth.norm(dim=-1).flatten(1).amax(1).clamp_min(1e-300).reshape(-1, 1, 1, 1)
        values = case.scaled(values + case.a / 2 * smooth / largest)
        best = torch.maximum(best, problem.values(values))
    return Outcome(float(best.max()), problem.counts.gradients)


PENALTIES, SOFT_STEPS = (0.5, 1.0, 2.0), 60


def stadv(case: Case, penalties: Sequence[float] = PENALTIES) -> Outcome:
    """Adam on distance / ||Phi(x)|| - penalty mean (excess over the norms)^2, scaled into C(a, b); the best penalty.

    The flow loss of the original, which knows no norms, ends below its starts for every weight that was tried: what it
    leaves rough is scaled away. One step size for all nodes (the second moment is averaged over them), for the same
    reason, and three times as many steps as the others have.
    """
    problem, size = case.problem(STARTS), float(case.ckn.reference(case.image).norm)
    starts = case.starts(problem)
    best = problem.values(starts)
    for penalty in penalties:
        values, first, second = starts, torch.zeros_like(starts), torch.zeros(STARTS, 1, 1, 1)
        for k in range(1, SOFT_STEPS + 1):
            part = values.detach().requires_grad_()
            steepness = component_gradients(part.movedim(-1, 0), CELLS).square().sum((0, 1))
            lengths = part.square().sum(-1)
            both = (steepness, case.b), (lengths, case.a)
            excess = [((square + 1e-12).sqrt() / most - 1).clamp_min(0) for square, most in both]
            loss = torch.stack([one.square().flatten(1).mean(1).sum() for one in excess]).sum()
            gradient = problem.gradients(values)[1] / size - penalty * torch.autograd.grad(loss, part)[0]
            first = 0.9 * first + 0.1 * gradient
            second = 0.99 * second + 0.01 * gradient.square().mean((1, 2, 3), keepdim=True)
            values = values + case.a / 10 * (first / (1 - 0.9**k)) / ((second / (1 - 0.99**k)).sqrt() + 1e-12)
            best = torch.maximum(best, problem.values(case.scaled(values)))
    return Outcome(float(best.max()), problem.counts.gradients)


def cold(case: Case) -> Outcome:
    """The straightforward Frank-Wolfe: nothing is warm, nothing stops, every step length is tried."""
    problem = case.problem(STARTS)
    values = case.starts(problem)
    best = problem.values(values)
    for _ in range(STEPS):
        gradient = problem.gradients(values)[1]
        end = linear_step(gradient, CELLS, case.a, case.b, iterations=200, precision=torch.float64).values
        chosen = values
        for gamma in (1.0, 0.4, 0.16, 0.064):
            tried = torch.lerp(values, end, gamma)
            reached = problem.values(tried)
            better = reached > best
            best = torch.where(better, reached, best)
            chosen = torch.where(better.reshape(-1, 1, 1, 1), tried, chosen)
        values = chosen
    return Outcome(float(best.max()), problem.counts.gradients)


def same(case: Case) -> Outcome:
    """``worst_case`` from eight saturated fields, all of which go on, without second chances like cold."""
    return searched(case, (st.search.Saturated(STARTS),), STARTS, STEPS, chances=0)


def search(case: Case) -> Outcome:
    """``worst_case``."""
    return searched(case, worst.STARTS, worst.KEPT, worst.STEPS)


def once(case: Case) -> Outcome:
    """``worst_case`` without second chances."""
    return searched(case, worst.STARTS, worst.KEPT, worst.STEPS, chances=0)


def chanced(case: Case) -> Outcome:
    """``worst_case`` from eight saturated fields, all of which go on, with second chances."""
    return searched(case, (st.search.Saturated(STARTS),), STARTS, STEPS)


def long(case: Case) -> Outcome:
    """``worst_case`` from eight times as many starts, with twice as many steps."""
    return searched(case, (st.search.Saturated(40), st.search.Linearised(160)), 40, 40)


def searched(case: Case, starts: Sequence[Start], kept: int, steps: int, chances: int = CHANCES) -> Outcome:
    """The largest found, once the norms have been looked at."""
    found = st.worst_case(case.ckn, case.image, displacement_norm=case.a, jacobian_norm=case.b, starts=starts,
                          kept=kept, steps=steps, chances=chances, generator=case.generator)  # fmt: skip
    within = float(found.displacement_norm) <= case.a * (1 + 1e-6), float(found.jacobian_norm) <= case.b * (1 + 1e-6)
    assert all(within), "a constraint is not met"
    return Outcome(float(found.largest_found), found.gradient_evaluations, float(found.spread))


METHODS: tuple[Callable[[Case], Outcome], ...] = (
    random, saturated, translations, projected, adef, stadv, cold, same, chanced, once, search, long,
)  # fmt: skip


COMPARED = (("same", "cold"), ("search", "cold"), ("chanced", "same"), ("search", "once"), ("search", "long"))


def summary(frame: pd.DataFrame) -> str:
    """Medians over the images, how far starts disagree, and every search beside the others of the same run."""
    pairs = frame.groupby(["a", "b", "method"], sort=False)
    columns = {"least": ("factor", "min"), "largest": ("factor", "max"), "most spread": ("spread", "max")}
    medians = pairs[["factor", "seconds", "gradients"]].median().join(pairs.agg(**columns))
    medians["above 5 %"] = (
        frame.assign(over=frame["spread"] > 0.05).groupby(["a", "b", "method"], sort=False)["over"].sum()
    )
    parts = [medians.to_string()]
    wide = frame.pivot_table(index=["a", "b", "image"], columns="method", values=["value", "seconds"], sort=False)
    for one, other in COMPARED:
        if {("value", one), ("value", other)} <= set(wide.columns):
            ratios = pd.DataFrame({"value": wide["value"][one] / wide["value"][other],
                                   "times faster": wide["seconds"][other] / wide["seconds"][one]})  # fmt: skip
            found = ratios.groupby(level=["a", "b"], sort=False).agg(["median", "min", "max"])
            parts += [f"{one} beside {other}", found.to_string(), ratios.agg(["median", "min", "max"]).to_string()]
    return "\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and print; ``--out`` keeps the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pictures.add_source(parser)
    parser.add_argument("--random", type=int, default=1000)
    parser.add_argument("--filters", type=int, nargs=2, default=(64, 128))
    parser.add_argument("--only", nargs="*", choices=[method.__name__ for method in METHODS])
    parser.add_argument("--pairs", type=int, default=len(PAIRS), help="the first so many pairs (a, b)")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    images, chosen = pictures.load(given, SIZE)
    generator = torch.Generator().manual_seed(0)
    ckn = st.CKN.fit(st.Architecture.dyadic(depth=2), images, filters=given.filters, generator=generator)
    rows = []
    for i, image in enumerate(chosen[:, None], start=given.first):
        for a, b in PAIRS[: given.pairs]:
            unit = None
            for method in METHODS:
                if given.only and method.__name__ not in (*given.only, "random"):
                    continue
                case = Case(ckn, image, a, b, torch.Generator().manual_seed(i), given.random)
                start = time.process_time()
                value, gradients, spread = method(case)
                seconds = time.process_time() - start
                unit = value if unit is None else unit
                row = {"source": given.source, "image": i, "a": a, "b": b, "method": method.__name__, "value": value,
                       "factor": value / unit, "seconds": seconds, "gradients": gradients,
                       "spread": spread}  # fmt: skip
                rows.append(row)
                print(json.dumps(row), flush=True)
    frame = pd.DataFrame(rows)
    if given.out:
        frame.to_csv(given.out, index=False)
    print(summary(frame))


if __name__ == "__main__":
    main()
