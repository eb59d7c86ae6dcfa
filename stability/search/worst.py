r"""``worst_case``: the field of C(a, b) that moves a representation most, as far as a search finds it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stability.deformations.base import Deformation
from stability.deformations.checks import check_generator
from stability.deformations.translation import Translation
from stability.representations.base import Representation
from stability.search.candidates import Candidates, best_of
from stability.search.chances import CHANCES, second_chances
from stability.search.checks import (
    check_count,
    check_differentiable,
    check_given,
    check_images_of_search,
    check_norm,
)
from stability.search.compared import Compared, compared
from stability.search.constraints import Constraint, check_constraints
from stability.search.families import Fields, PiecewiseLinear
from stability.search.found import Found
from stability.search.frank_wolfe import PHASES, Ascent, ascend
from stability.search.grids import Translations
from stability.search.objectives import Distance, Objective
from stability.search.problem import Counts, Problem
from stability.search.starts import Linearised, Saturated, Start, signed
from stability.warps.base import Warp
from stability.warps.spline import SplineWarp

STEPS = 20
"""Frank-Wolfe steps of a start, at most."""

STARTS = (Saturated(4), Linearised(20))
KEPT = 8
SCREENED = 2
"""Of all starts of an image the best ``SCREENED * KEPT`` take steps at all."""
SCREENING = 4
"""Frank-Wolfe steps after which only the best ``KEPT`` starts of an image go on: by then wrong basins show."""

SHIFTS = Translations(16, 2)
"""Translations that a search is compared with in the end."""

DISTANCE, PIECEWISE_LINEAR, CUBIC = Distance(), PiecewiseLinear(), SplineWarp()


def worst_case(
    representation: Representation | nn.Module,
    images: Tensor,
    *,
    displacement_norm: float | Tensor,
    jacobian_norm: float | Tensor,
    generator: torch.Generator,
    objective: Objective = DISTANCE,
    fields: Fields | Candidates = PIECEWISE_LINEAR,
    constraints: Sequence[Constraint] = (),
    warp: Warp = CUBIC,
    starts: Sequence[Start] = STARTS,
    kept: int = KEPT,
    steps: int = STEPS,
    chances: int = CHANCES,
) -> Found:
    r"""max ||Phi(L_tau x) - Phi(x)|| over C(a, b) = {sup |tau| <= a, sup ||grad tau||_2 <= b}, from below.

    Frank-Wolfe from several starts, all images and starts at once; should a translation be better than where these
    end, once more from there. Every field on the way is in C(a, b), so that the best one shows what the supremum is at
    least, and no search can show more: worst found <= supremum <= bound.

    Args:
        representation: with features (a CKN, a CNN, any torch module) or an exact kernel.
        images: x, ``(B, C, *size)``, floating point, none of them 0.
        displacement_norm: a > 0 in pixels, a number or ``(B,)``.
        jacobian_norm: b > 0, a number or ``(B,)``; from 1 on a field need not be invertible.
        generator: source of randomness of the starts.
        objective: what is made large.
        fields: among which is searched: ``PiecewiseLinear``, ``Spline``, ``Fourier``; or ``Translations`` or
            ``RigidMotions``, all of which are tried.
        constraints: that fields must fulfil beside their norms.
        warp: L_tau, differentiable at tau = 0 (``BilinearWarp`` is not: its derivative there is one-sided).
        starts: how fields to start from are made, 24 for each image by default, most of which cost two gradients.
        kept: how many starts go on after four steps, the best of each image; all if there are not more. Twice as many
            take these steps. With four steps or fewer, the best ones from the beginning.
        steps: of every ascent, at most, and once more of one by a second chance; an ascent stops when it gains less
            than 5e-4 of its value, the best one 2e-4.
        chances: second ones, at most, of a start that ends more than 4.5 % below the best: from its negative and from
            itself shifted or stretched, further each time. With 0 the spread is that of single ascents. None where
            starts may take four steps or fewer in the end.

    Returns:
        Fields, values and how far the starts agree.

    Raises:
        ValueError: for images that are 0 or not finite, norms that are not positive, or gradients that are not finite.
        TypeError: if there is no generator.

    Reference: Frank & Wolfe 1956; Bietti & Mairal 2019 (the supremum that their stability theorem bounds).

    >>> from stability import Architecture, CKN, images
    >>> x = images.load("fashion", count=2, size=(16, 16))
    >>> rng = torch.Generator().manual_seed(0)
    >>> ckn = CKN.fit(Architecture.dyadic(depth=1), x, filters=(8,), generator=rng)
    >>> found = worst_case(ckn, x, displacement_norm=1.0, jacobian_norm=0.25, generator=rng, steps=4)
    >>> bool((found.displacement_norm <= 1.0).all()), bool((found.jacobian_norm <= 0.25).all())
    (True, True)
    """
    check_generator(generator)
    images = check_images_of_search(images)
    a, b = (
        check_norm(name, value, images)
        for name, value in (("displacement_norm", displacement_norm), ("jacobian_norm", jacobian_norm))
    )
    check_count("steps", steps, STEPS)
    check_count("kept", kept, KEPT)
    check_count("chances", chances, CHANCES, least=0)
    starts = check_given("starts", starts, Start, "Linearised(20)")
    constraints = check_constraints(constraints)
    for value, kind, name, use in (
        (objective, Objective, "objective", "Distance()"), (warp, Warp, "warp", "SplineWarp()"),
        (fields, (Fields, Candidates), "fields", "PiecewiseLinear()"),
    ):  # fmt: skip
        if not isinstance(value, kind):
            raise ValueError(f"{name} must be one like {use}, got {value!r}; use {use}")
    if isinstance(fields, Fields):
        check_differentiable(warp)
    fixed = compared(representation, images)
    score, floor, counts, parts = objective.score(fixed, images), objective.floor(fixed, images), Counts(), []
    if isinstance(fields, Candidates):
        if constraints:
            raise ValueError(f"constraints must be left out for {type(fields).__name__}, got {constraints!r}")
        field, values, counts.values = best_of(fields, score, images, warp, a, b)
        return _found(images, fixed, objective, floor, warp, field, values, values[None, :, None], (a, b), counts)
    indices, size = torch.arange(len(images), device=images.device), tuple(images.shape[2:])
    for start in starts:
        owner = indices.repeat_interleave(start.count)
        problem = Problem(
            score, images, warp, fields.space(size, a[owner], b[owner], constraints), owner, counts, fixed.together
        )
        parts.append(signed(problem, start.draw(problem, generator)).unflatten(0, (len(images), start.count)))
    parameters = torch.cat(parts, 1)  # (B, S, *shape)
    count = parameters.shape[1]
    owner = indices.repeat_interleave(count)
    problem = Problem(
        score, images, warp, fields.space(size, a[owner], b[owner], constraints), owner, counts, fixed.together
    )
    ascent = Ascent(parameters.flatten(0, 1), problem.values(parameters.flatten(0, 1))[None])
    if count > kept and steps > SCREENING:
        rows = ascent.best(len(images), SCREENED * kept)
        problem, ascent = problem[rows], ascent.rows(rows)
        ascent, steps = ascend(problem, ascent.parameters, SCREENING, PHASES[:1]), steps - SCREENING
    if count > kept:
        rows = ascent.best(len(images), kept)
        problem, ascent, count = problem[rows], ascent.rows(rows), kept
    last = ascend(problem, ascent.parameters, steps)
    last = _not_below_translations(problem, last, len(images), steps)
    if steps > SCREENING:  # ends of short ascents say nothing
        last = second_chances(problem, last, floor, steps, chances)
    # values of other batches differ by round-off
    trace = torch.cat([ascent.trace[:-1], last.trace]).unflatten(1, (len(images), count)).cummax(0).values
    values, at = trace[-1].max(1)
    rows = indices * count + at
    field = problem[rows].space.field(last.parameters[rows])
    return _found(images, fixed, objective, floor, warp, field, values, trace, (a, b), counts)


def _not_below_translations(problem: Problem, ascent: Ascent, images: int, steps: int) -> Ascent:
    """Where one of a few translations is better than all that was found, an ascent from it takes the least one's place.

    On smooth signals and on noise, and in spaces of few dimensions, ascents may end below a mere shift.
    """
    device = ascent.trace.device
    values = ascent.trace[-1].unflatten(0, (images, -1))
    first = values.shape[1] * torch.arange(images, device=device)
    size = tuple(problem.images.shape[2:])
    unit = SHIFTS.fields(size, 1.0, 1.0).displacement(torch.zeros(1, len(size), dtype=torch.float64))[:, 0]  # (m, d)
    space = problem.space[first]
    lengths = space.a.repeat_interleave(len(unit))
    shifts = Translation(lengths[:, None] * unit.to(device).repeat(images, 1), size)
    every = problem[first.repeat_interleave(len(unit))]
    parameters = every.space.inside(shifts)
    reached, at = every.values(parameters).unflatten(0, (images, -1)).max(1)
    better = (reached > values.amax(1)).nonzero()[:, 0]
    if not len(better):
        return ascent
    rows = first[better] + values[better].argmin(1)
    again = ascend(problem[rows], parameters[better * len(unit) + at[better]], steps)
    return ascent.continued(rows, again)


def _found(
    images: Tensor,
    fixed: Compared,
    objective: Objective,
    floor: Tensor,
    warp: Warp,
    field: Deformation,
    values: Tensor,
    trace: Tensor,
    asked: tuple[Tensor, Tensor],
    counts: Counts,
) -> Found:
    """The best fields with what else is measured at them; 0, which is in every set, where nothing better was found."""
    if bool((values < 0).any()):
        field, values = field.scaled((values >= 0).to(torch.float64)), values.clamp_min(0.0)
    with torch.no_grad():
        deformed, owner = warp(images, field), torch.arange(len(images), device=images.device)
        distance, angle = (measure(deformed, owner) for measure in (fixed.distance, fixed.angle))
    return Found(
        field=field,
        images=images,
        deformed=deformed,
        largest_found=values,
        distance=distance,
        angle=angle,
        norm_x=images.flatten(1).norm(dim=1),
        norm_phi=fixed.norm,
        floor=fixed.floor,
        objective_floor=floor,
        asked_displacement_norm=asked[0],
        asked_jacobian_norm=asked[1],
        of_starts=trace[-1],
        trace=trace,
        objective=objective,
        value_evaluations=counts.values,
        gradient_evaluations=counts.gradients,
    )
