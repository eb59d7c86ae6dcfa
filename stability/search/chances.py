r"""Second chances: an ascent that ended well below the best one of its image goes on from elsewhere.

What keeps ascents at lesser maxima are above all -tau where tau is better, which are equal to first order only, and
shapes that grow or shrink about a point where they had better be shifted. Hence the tries

    -tau,    tau +- a e_i.

The latter are outside C(a, b), but f has a gradient there, and its linear step leads back into the set.
"""

import torch
from torch import Tensor

from stability.deformations.translation import Translation
from stability.search.frank_wolfe import COLD, PHASES, Ascent, ascend
from stability.search.problem import Problem

BEHIND = 0.045
"""A start has a second chance if it ends below the best one of its image by more than this share."""

CHANCES = 3
"""How often, as long as it helps."""

SIFTING = 2
"""Frank-Wolfe steps after which only the best ``PURSUED`` tries of a start go on."""
PURSUED = 2


def second_chances(problem: Problem, ascent: Ascent, images: int, steps: int, chances: int) -> Ascent:
    """Starts that ended behind, once more from their mirror image and from themselves shifted, if that ends higher.

    Args:
        problem: of n rows, equally many for each image, those of one image together.
        ascent: where they ended.
        images: how many.
        steps: of every try that goes on.
        chances: of a start, at most.

    Returns:
        The same with better ends for some rows; none is lower.
    """
    helped = torch.ones_like(problem.owner, dtype=torch.bool)
    for _ in range(chances):
        values = ascent.trace[-1].unflatten(0, (images, -1))
        best = values.amax(1, keepdim=True)
        behind = (best > 0) & (values < (1 - BEHIND) * best)
        rows = (behind.flatten() & helped).nonzero()[:, 0]
        if not len(rows):
            break
        tries = _tries(problem[rows], ascent.parameters[rows])  # (n, m, *shape)
        every = problem[rows.repeat_interleave(tries.shape[1])]
        step = every.space.step(every.gradients(tries.flatten(0, 1))[1], None, COLD)
        sifted = ascend(every, step.parameters, min(SIFTING, steps), PHASES[:1])
        pursued = _best_of_each(sifted.trace[-1], len(rows), PURSUED)
        again = ascend(every[pursued], sifted.parameters[pursued], steps)
        again = again.rows(_best_of_each(again.trace[-1], len(rows), 1))
        better = again.trace[-1] > ascent.trace[-1, rows]
        ascent = ascent.replaced(rows[better], again.rows(better.nonzero()[:, 0]))
        helped[rows[~better]] = False
    return ascent


def _best_of_each(values: Tensor, groups: int, most: int) -> Tensor:
    """Where the best values of groups of equal length are, group by group."""
    grouped = values.unflatten(0, (groups, -1))
    first = grouped.shape[1] * torch.arange(groups, device=values.device)[:, None]
    return (grouped.topk(most, dim=1).indices + first).flatten()


def _tries(problem: Problem, parameters: Tensor) -> Tensor:
    """-tau and tau +- a e_i, ``(n, 1 + 2 d, *shape)``."""
    size = tuple(problem.images.shape[2:])
    unit = torch.eye(len(size), dtype=torch.float64, device=parameters.device)
    a = problem.space.a[:, None]
    shifts = [problem.space.inside(Translation(a * direction, size)) for direction in (*unit, *-unit)]
    return torch.stack([-parameters, *(parameters + shift for shift in shifts)], 1)
