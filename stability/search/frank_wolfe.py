r"""Frank-Wolfe ascent (generalised power iteration) of many fields at once.

    s = argmax <grad f(tau), s> over C(a, b),    tau <- tau + gamma (s - tau),

with the first gamma of {1, .4, .16, .064} that raises f, counted from the one before that of the last step.

No step size has to be chosen, the sets' norms hold at every iterate since they are convex, and f never falls. Where f
is convex along the segment, gamma = 1 raises it. A field that no gamma improves, or only by a small share, is done.

References: Frank & Wolfe 1956; Journee, Nesterov, Richtarik & Sepulchre 2010 (generalised power method).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from stability.search.problem import Problem

GAMMAS = (1.0, 0.4, 0.16, 0.064)
"""Line search."""

COLD = 80
"""Iterations of a linear step that starts from nothing."""


class Phase(NamedTuple):
    """Steps of one kind.

    Args:
        iterations: of the linear step, which starts where the last one of the phase ended.
        gain: the share of its value that a field must gain in a step to go on.
        best: only the best field of every image goes on.
    """

    iterations: int
    gain: float
    best: bool = False


PHASES = (Phase(40, 1e-3), Phase(40, 5e-4), Phase(60, 2e-4, best=True))
"""First from the starts, then from the boundary of the sets, at last with linear steps that are good to 2 %."""


class Ascent(NamedTuple):
    """The end of an ascent.

    Args:
        parameters: ``(n, *shape)``.
        trace: the objective at the start and after every step, ``(T, n)``, non-decreasing; fields that are done wait.
    """

    parameters: Tensor
    trace: Tensor

    def rows(self, rows: Tensor) -> "Ascent":
        """Those of some fields."""
        return Ascent(self.parameters[rows], self.trace[:, rows])

    def best(self, groups: int, most: int) -> Tensor:
        """The rows of the highest ends, not more than asked for of each of so many groups of neighbours."""
        values = self.trace[-1].unflatten(0, (groups, -1))
        count = values.shape[1]
        first = count * torch.arange(groups, device=values.device)[:, None]
        return (values.topk(min(most, count), dim=1).indices + first).flatten()

    def continued(self, rows: Tensor, other: "Ascent") -> "Ascent":
        """Some fields end where another, higher ascent does; the others wait."""
        later = self.trace[-1:].repeat(len(other.trace), 1)
        later[:, rows] = torch.maximum(later[:, rows], other.trace)
        parameters = self.parameters.clone()
        parameters[rows] = other.parameters
        return Ascent(parameters, torch.cat([self.trace, later]))


def ascend(problem: Problem, parameters: Tensor, steps: int, phases: Sequence[Phase] = PHASES) -> Ascent:
    """Frank-Wolfe from given fields; between two phases fields are enlarged up to the sets' norms where that helps.

    Args:
        problem: of n rows.
        parameters: fields of the sets, ``(n, *shape)``.
        steps: at most, over all phases; each costs one gradient a field.
        phases: one after the other.
    """
    parameters, value = parameters.clone(), problem.values(parameters)
    left = torch.full((len(value),), steps, device=value.device)  # steps that a field may still take
    first = torch.zeros_like(left)  # of GAMMAS, where its line search begins
    trace = [value.clone()]
    for number, (iterations, gain, best) in enumerate(phases):
        going = left > 0
        if best:
            going &= _best_of_each(value, problem.owner)
        active, state = going.nonzero()[:, 0], None
        while len(active):
            part, before = problem[active], value[active]
            enough = iterations if state is not None else max(iterations, COLD)
            step = part.space.step(part.gradients(parameters[active])[1], state, enough)
            parameters[active], value[active], first[active] = _searched(
                part, parameters[active], step.parameters, before, first[active]
            )
            trace.append(value.clone())
            left[active] -= 1
            going = (value[active] > before + gain * before.abs()) & (left[active] > 0)
            active, state = active[going], part.space.state_of(step.state, going.nonzero()[:, 0])
        if number < len(phases) - 1:
            _enlarge(problem, parameters, value)
            trace[-1] = value.clone()  # no step may follow: the trace ends at the value of the fields that are returned
    return Ascent(parameters, torch.stack(trace))


def _best_of_each(value: Tensor, owner: Tensor) -> Tensor:
    """Which rows are the first best ones of their image, ``(n,)``."""
    same = owner[:, None] == owner
    ahead = (value > value[:, None]) | ((value == value[:, None]) & torch.ones_like(same).tril(-1))
    return ~(same & ahead).any(1)


def _enlarge(problem: Problem, parameters: Tensor, value: Tensor) -> None:
    """Fields on the boundary of their sets where that is better, in place."""
    larger = problem.space.enlarged(parameters)
    tried = problem.values(larger)
    better = tried > value
    parameters[better], value[better] = larger[better], tried[better]


def _searched(
    problem: Problem, start: Tensor, end: Tensor, value: Tensor, first: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The first point of the line search that is better, or the start; its objective; where the next one begins."""
    found, best, level = start.clone(), value.clone(), first.clone()
    gammas = start.new_tensor(GAMMAS)
    left = torch.arange(len(start), device=start.device)
    while len(left):
        gamma = gammas[level[left]].reshape(-1, *[1] * (start.ndim - 1))
        candidate = torch.lerp(start[left], end[left], gamma)
        tried = problem[left].values(candidate)
        better = tried > value[left]
        found[left[better]], best[left[better]] = candidate[better], tried[better]
        left = left[~better]
        left = left[level[left] < len(GAMMAS) - 1]
        level[left] += 1
    return found, best, (level - 1).clamp_min(0)
