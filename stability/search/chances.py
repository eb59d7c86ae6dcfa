r"""Second chances: an ascent that ended well below the best one of its image goes on from elsewhere.

What keeps ascents at lesser maxima are above all -tau where tau is better, which are equal to first order only, and
shapes that grow or shrink where they had better be shifted, or the other way round. Hence the tries of the k-th chance

    -tau,    tau +- k a e_i,    tau +- k a (sin 2 pi u_i / N_i)_i:

from some maxima a short way does not lead out, from others a long one goes too far. All but the first are outside
C(a, b), but f has a gradient there, and its linear step leads back into the set.
"""

import torch
from torch import Tensor

from stability.deformations.base import Deformation
from stability.deformations.series import FourierSeries
from stability.deformations.translation import Translation
from stability.search.frank_wolfe import COLD, PHASES, Ascent, ascend
from stability.search.problem import Problem

BEHIND = 0.045
"""A start has a second chance if it ends below the best one of its image by more than this share."""

CHANCES = 3
"""How often, as long as the start is behind."""

SIFTING = 2
"""Frank-Wolfe steps after which only the best ``PURSUED`` tries of a start go on, each if the start is still behind."""
PURSUED = 2

BEYOND = 1e6
"""Times the norms: where a try may be."""


def second_chances(problem: Problem, ascent: Ascent, floor: Tensor, steps: int, chances: int) -> Ascent:
    """Starts that ended behind, once more from their mirror image and from themselves moved, if that ends higher.

    Args:
        problem: of n rows, equally many for each image, those of one image together.
        ascent: where they ended.
        floor: what round-off leaves of an objective, ``(images,)``: where nothing more was found, nothing is behind.
        steps: of every try that goes on.
        chances: of a start, at most.

    Returns:
        The same with better ends for some rows; none is lower.
    """
    new = torch.zeros_like(problem.owner, dtype=torch.bool)
    for chance in range(1, chances + 1):
        rows = _behind(ascent, floor).nonzero()[:, 0]
        if not len(rows):
            break
        tries = _tries(problem[rows], ascent.parameters[rows], chance)  # (n, m, *shape)
        every = problem[rows.repeat_interleave(tries.shape[1])]
        step = every.space.step(every.gradients(tries.flatten(0, 1))[1], None, COLD)
        sifted = ascend(every, step.parameters, min(SIFTING, steps), PHASES[:1])
        for pursued in sifted.best(len(rows), PURSUED).unflatten(0, (len(rows), -1)).T:
            left = _behind(ascent, floor)[rows]
            if not bool(left.any()):
                break
            again = ascend(every[pursued[left]], sifted.parameters[pursued[left]], steps, PHASES[:2])
            better = again.trace[-1] > ascent.trace[-1, rows[left]]
            higher = rows[left][better]
            new[higher] = True
            ascent = ascent.continued(higher, again.rows(better.nonzero()[:, 0]))
    leading = ascent.best(len(floor), 1)
    leading = leading[new[leading]]
    if not len(leading):
        return ascent
    return ascent.continued(leading, ascend(problem[leading], ascent.parameters[leading], steps, PHASES[2:]))


def _behind(ascent: Ascent, floor: Tensor) -> Tensor:
    """Which rows have a second chance, ``(n,)``."""
    values = ascent.trace[-1].unflatten(0, (len(floor), -1))
    best = values.amax(1, keepdim=True)
    return ((best > floor[:, None]) & (values < (1 - BEHIND) * best)).flatten()


def _tries(problem: Problem, parameters: Tensor, far: int) -> Tensor:
    """-tau, tau +- far a e_i and tau +- far a (sin 2 pi u_i / N_i)_i, ``(n, 3 + 2 d, *shape)``."""
    size = tuple(problem.images.shape[2:])
    unit = torch.eye(len(size), dtype=torch.float64, device=parameters.device)
    a, anywhere = far * problem.space.a, problem.space.scaled(BEYOND)
    waves = a[:, None, None] * unit  # (n, M, d), one mode along each axis
    others: list[Deformation] = [Translation(a[:, None] * axis, size) for axis in unit]
    others.append(FourierSeries(unit.long(), torch.zeros_like(waves), waves, size=size))
    moved = [parameters + sign * anywhere.inside(other) for other in others for sign in (1, -1)]
    return torch.stack([-parameters, *moved], 1)
