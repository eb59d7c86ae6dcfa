r"""``smallest_deformation``: the smallest size at which a search reaches a level or flips a prediction."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn

from stability.deformations.base import Deformation
from stability.deformations.stack import stack
from stability.representations.base import Representation
from stability.search.chances import CHANCES
from stability.search.checks import check_images_of_search, check_norm, check_positive
from stability.search.compared import Compared, compared
from stability.search.constraints import Constraint, check_constraints
from stability.search.curve import SIZES, check_sizes, warm, worst_case_curve
from stability.search.families import Fields
from stability.search.heads import Head
from stability.search.objectives import Margin, Objective, Score, check_objective
from stability.search.starts import Saturated, Start
from stability.search.worst import CUBIC, DISTANCE, KEPT, PIECEWISE_LINEAR, STARTS, STEPS, worst_case
from stability.warps.base import Warp

RAY = 64
"""Sizes along a ray at which the objective is looked at before the crossing is bisected."""

BISECTIONS, RAY_BISECTIONS = 4, 30
"""Of the size by searches, and of the place on the ray."""


class Target(abc.ABC):
    """An objective and the value that it must reach."""

    objective: Objective

    @abc.abstractmethod
    def level(self, compared: Compared, images: Tensor) -> Tensor:
        """The value, ``(B,)``, positive."""


@dataclass(frozen=True)
class Level(Target):
    """The objective reaches a number.

    Args:
        value: > 0, a number or ``(B,)``.
        objective: what must reach it.
    """

    value: float | Tensor
    objective: Objective = DISTANCE

    def __post_init__(self) -> None:
        check_objective(self.objective)
        check_positive("value", self.value)

    def level(self, compared: Compared, images: Tensor) -> Tensor:
        """The number, if there is one for each image."""
        return check_norm("value", self.value, images)


@dataclass(frozen=True)
class Flip(Target):
    """Another class than the label is predicted, or as much so: the margin is lost.

    Args:
        head: from features to outputs, or a ``Predictor`` of the representation.
        label: the predicted class, a number or ``(B,)``; of a predictor among its classes.
    """

    head: Head
    label: int | Tensor

    @property
    def objective(self) -> Objective:  # type: ignore[override]
        """The loss of margin."""
        return Margin(self.head, self.label)

    def level(self, compared: Compared, images: Tensor) -> Tensor:
        """The margin of the image itself.

        Raises:
            ValueError: if the label is not predicted.
        """
        margins = Margin(self.head, self.label).margins(compared, images)[1]
        if not bool((margins > 0).all()):
            at = int((~(margins > 0)).nonzero()[0])
            raise ValueError(
                f"label must be what is predicted for the image itself, got a margin of {float(margins[at]):.6g} for "
                f"image {at}; leave wrongly classified images out"
            )
        return margins


@dataclass(frozen=True, repr=False)
class Smallest:
    """The smallest sizes found at which the target is reached: upper values of the smallest size there is.

    Args:
        size: t of C(t a, t b), ``(B,)``; inf where the target was not reached (``partial=True``), and there
            ``field`` and ``reached`` are the best that was found at size 1.
        along_ray: the first t at which t tau reaches the target, tau what was found at size 1 or below, ``(B,)``;
            inf where that does not.
        field: reaches the target at ``size``, batch shape ``(B,)``.
        level: that had to be reached, ``(B,)``.
        reached: the objective at the field, ``(B,)``: the level or more, up to round-off.
        displacement_norm: size a, ``(B,)`` in pixels.
        jacobian_norm: size b, ``(B,)``.
    """

    size: Tensor
    along_ray: Tensor
    field: Deformation
    level: Tensor
    reached: Tensor
    displacement_norm: Tensor
    jacobian_norm: Tensor
    meaning: str = "upper value of the smallest size"

    def to_frame(self) -> pd.DataFrame:
        """One row per image."""
        names = ("size", "along_ray", "level", "reached", "displacement_norm", "jacobian_norm")
        columns: dict[str, object] = {name: getattr(self, name).tolist() for name in names}
        return pd.DataFrame({"image": range(len(self.size)), **columns}).assign(meaning=self.meaning)

    def __repr__(self) -> str:
        return f"Smallest deformation found, {self.meaning}:\n{self.to_frame().drop(columns='meaning').to_string()}"


def smallest_deformation(
    representation: Representation | nn.Module,
    images: Tensor,
    target: Target,
    *,
    displacement_norm: float | Tensor,
    jacobian_norm: float | Tensor,
    generator: torch.Generator,
    sizes: Sequence[float] = SIZES,
    fields: Fields = PIECEWISE_LINEAR,
    constraints: Sequence[Constraint] = (),
    warp: Warp = CUBIC,
    starts: Sequence[Start] = STARTS,
    kept: int = KEPT,
    steps: int = STEPS,
    chances: int = CHANCES,
    partial: bool = False,
) -> Smallest:
    r"""min t such that some field of C(t a, t b) reaches the target, from above.

    A curve of searches up to size 1, then bisection between the sizes around the first success, each search from the
    field of the last one, then the first crossing along the ray through the field found. A smaller field may exist: no
    search shows that there is none.

    Args:
        representation: as in ``worst_case``, likewise the others that are not named here.
        images: x, ``(B, C, *size)``.
        target: ``Level(value)`` or ``Flip(head, label)``.
        displacement_norm: a at size 1, the largest that is looked at.
        jacobian_norm: b at size 1.
        generator: of the starts.
        sizes: of the curve, increasing, the last one at most 1.
        fields: among which is searched, as in ``worst_case_curve``.
        constraints: on the fields.
        warp: L_tau.
        starts: at every size, and at the first that halves the interval in which the level is reached.
        kept: of the starts.
        steps: of every ascent, at most.
        chances: second ones of starts that end behind, at most.
        partial: whether images whose target is not reached at the largest size may be among them: their size is inf.

    Raises:
        ValueError: if the target is not reached at the largest size; the message says what was.
    """
    images = check_images_of_search(images)
    a, b = (
        check_norm("displacement_norm", displacement_norm, images),
        check_norm("jacobian_norm", jacobian_norm, images),
    )
    if not isinstance(target, Target):
        raise ValueError(f"target must be one like Level(0.5) or Flip(head, label), got {target!r}; use Level(0.5)")
    if not isinstance(partial, bool):
        raise ValueError(f"partial must be True or False, got {partial!r}; use partial=True")
    t, constraints = check_sizes(sizes), check_constraints(constraints)
    if float(t[-1]) > 1:
        raise ValueError(f"sizes must be at most 1, got {tuple(sizes)}; ask for larger norms instead")
    fixed = compared(representation, images)
    level, score = target.level(fixed, images), target.objective.score(fixed, images)
    floor = target.objective.floor(fixed, images)
    if isinstance(target, Level) and bool((level <= floor).any()):  # it would be reached by round-off
        at = int((level <= floor).nonzero()[0])
        raise ValueError(
            f"the level must be above round-off, {float(floor[at]):.3g} for image {at}, got {float(level[at]):.6g}; "
            "ask for a higher level, or compute in double precision"
        )
    curve = worst_case_curve(
        representation,
        images,
        displacement_norm=a,
        jacobian_norm=b,
        generator=generator,
        sizes=sizes,
        objective=target.objective,
        fields=fields,
        constraints=constraints,
        warp=warp,
        starts=starts,
        kept=kept,
        steps=steps,
        chances=chances,
    )
    values = curve.largest_found  # (K, B)
    within = on_ray = values[-1] >= level
    if not (partial or bool(within.all())):
        at = int((values[-1] < level).nonzero()[0])
        raise ValueError(
            f"the target must be within reach of displacement_norm {float(t[-1] * a[at]):.6g} and jacobian_norm "
            f"{float(t[-1] * b[at]):.6g}, got {float(values[-1, at]):.6g} of {float(level[at]):.6g} for image {at}; "
            "ask for larger norms or a lower level"
        )
    first = torch.where(within, (values >= level).to(torch.int8).argmax(0), len(values) - 1)  # (B,)
    t = t.to(a.device)
    high, low = t[first], torch.where(first > 0, t[(first - 1).clamp_min(0)], 0.0)
    rows = torch.arange(len(images), device=a.device)
    field = _rows([one.field for one in curve.found], first)
    ray = high * _crossing(score, images, warp, field, level)
    field, high = field.scaled(ray / high), ray
    for bisection in range(BISECTIONS if bool(within.any()) else 0):
        low = torch.minimum(low, high)
        middle = (low + high) / 2
        found = worst_case(
            representation,
            images,
            displacement_norm=middle * a,
            jacobian_norm=middle * b,
            generator=generator,
            objective=target.objective,
            fields=fields,
            constraints=constraints,
            warp=warp,
            starts=(*warm(field, middle / high)[1:], *(starts if bisection == 0 else (Saturated(2),))),
            kept=kept,
            steps=steps,
            chances=chances,
        )
        success = found.largest_found >= level
        within = within | success
        # where the search succeeds, the ray through its field may cross the level earlier still
        share = torch.where(success, _crossing(score, images, warp, found.field, level), 1.0)
        field = _rows([field, found.field.scaled(share)], success.long())
        high, low = torch.where(success, middle * share, high), torch.where(success, low, middle)
    with torch.no_grad():
        reached = score(warp(images, field), rows)
    high, ray = (torch.where(where, size, torch.inf) for where, size in ((within, high), (on_ray, ray)))
    return Smallest(high, ray, field, level, reached, high * a, high * b)


def _crossing(score: Score, images: Tensor, warp: Warp, field: Deformation, level: Tensor) -> Tensor:
    """The first t in (0, 1] at which t tau reaches the level, ``(B,)``, 1 where it does so nowhere before."""
    rows = torch.arange(len(images), device=images.device)

    def reaches(t: Tensor) -> Tensor:
        with torch.no_grad():
            return score(warp(images, field.scaled(t)), rows) >= level

    high, known = torch.ones_like(level), torch.zeros_like(level, dtype=torch.bool)
    for k in range(1, RAY):
        t = torch.full_like(level, k / RAY)
        now = reaches(t) & ~known
        high, known = torch.where(now, t, high), known | now
        if bool(known.all()):
            break
    low = high - 1 / RAY
    for _ in range(RAY_BISECTIONS):
        middle = (low + high) / 2
        success = reaches(middle)
        high, low = torch.where(success, middle, high), torch.where(success, low, middle)
    return high


def _rows(fields: Sequence[Deformation], choice: Tensor) -> Deformation:
    """Field ``choice[i]`` of image i, for fields of one family."""
    return stack(fields)[choice, torch.arange(len(choice), device=choice.device)]
