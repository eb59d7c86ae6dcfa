r"""``Found``: what a search found, for every image: a lower bound of the supremum, and how much to trust it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from stability.deformations.base import Deformation
from stability.search.objectives import Objective

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEANING = "lower bound of the supremum"
BELOW_FLOOR = "below floor: round-off"
"""What is written instead where the value found is not above what round-off leaves."""
NOTHING = "nothing found: every field that was tried is worse than 0"
"""What is written where a margin only grew: the zero field stands for it, with the value 0."""


@dataclass(frozen=True, repr=False)
class Found:
    """The best field of every image and its objective, which the supremum over C(a, b) is at least.

    Args:
        field: batch shape ``(B,)``.
        images: x, ``(B, C, *size)``.
        deformed: L_tau x, ``(B, C, *size)``.
        largest_found: the objective at the field, ``(B,)``, float64.
        distance: ||Phi(L_tau x) - Phi(x)|| at the field, ``(B,)``.
        angle: between Phi(L_tau x) and Phi(x) in radians, ``(B,)``: small where the distance is mostly mass.
        norm_x: ||x||, ``(B,)``.
        norm_phi: ||Phi(x)||, ``(B,)``.
        floor: what round-off leaves of a distance, ``(B,)``: a search that finds less has found round-off.
        objective_floor: and of the objective, ``(B,)``.
        asked_displacement_norm: a in pixels, ``(B,)``.
        asked_jacobian_norm: b, ``(B,)``.
        of_starts: the end of every start that was kept, second chances included, ``(B, S)``; below 0 where a margin
            grew.
        trace: the objective at the start and after every step of every start, ``(T, B, S)``, non-decreasing along T;
            second chances follow, and those that end lower do not show.
        objective: what was made large.
        value_evaluations: deformed images whose objective was evaluated without a gradient, all images together.
        gradient_evaluations: and with one.
    """

    field: Deformation
    images: Tensor
    deformed: Tensor
    largest_found: Tensor
    distance: Tensor
    angle: Tensor
    norm_x: Tensor
    norm_phi: Tensor
    floor: Tensor
    objective_floor: Tensor
    asked_displacement_norm: Tensor
    asked_jacobian_norm: Tensor
    of_starts: Tensor
    trace: Tensor
    objective: Objective
    value_evaluations: int
    gradient_evaluations: int
    meaning: str = MEANING

    @property
    def resolved(self) -> Tensor:
        """Whether the value found is more than round-off, ``(B,)``."""
        return self.largest_found > self.objective_floor

    @property
    def meanings(self) -> list[str]:
        """What the value of every image is."""
        best = self.of_starts.amax(1)
        known = zip(self.resolved.tolist(), (best < 0).tolist(), strict=True)
        return [self.meaning if resolved else NOTHING if worse else BELOW_FLOOR for resolved, worse in known]

    @property
    def relative(self) -> Tensor:
        """distance / ||x||, the unit of the bounds, ``(B,)``."""
        return self.distance / self.norm_x

    @property
    def displacement_norm(self) -> Tensor:
        """sup |tau| of the field found, certified from above, ``(B,)`` in pixels."""
        return self.field.norms().displacement.upper

    @property
    def jacobian_norm(self) -> Tensor:
        """sup ||grad tau||_2 of the field found, certified from above, ``(B,)``."""
        return self.field.norms().jacobian.upper

    @property
    def spread(self) -> Tensor:
        """1 - least / best of the starts that were kept, ``(B,)``: 0 if all agree; NaN of one, or if all found 0."""
        best = self.of_starts.amax(1)
        known = (best > 0) & (self.of_starts.shape[1] > 1)
        return torch.where(known, 1 - self.of_starts.amin(1) / best, torch.nan)

    @property
    def median_spread(self) -> Tensor:
        """1 - median / best of the starts, ``(B,)``: what a single start misses half of the time."""
        best = self.of_starts.amax(1)
        known = (best > 0) & (self.of_starts.shape[1] > 1)
        return torch.where(known, 1 - self.of_starts.median(1).values / best, torch.nan)

    def to_frame(self) -> pd.DataFrame:
        """One row per image; ``search`` is true and ``meaning`` says what the value is.

        Numbers of evaluations are those of all images together, in every row.
        """
        columns: dict[str, object] = {"image": range(len(self.norm_x))}
        for name in (
            "largest_found", "objective_floor", "relative", "distance", "floor", "angle", "norm_x", "norm_phi",
            "displacement_norm", "jacobian_norm", "asked_displacement_norm", "asked_jacobian_norm", "spread",
            "median_spread",
        ):  # fmt: skip
            columns[name] = getattr(self, name).tolist()
        frame = pd.DataFrame(columns)
        frame["starts"] = self.of_starts.shape[1]
        frame["value_evaluations"], frame["gradient_evaluations"] = self.value_evaluations, self.gradient_evaluations
        frame["objective"], frame["unit"] = self.objective.name, self.objective.unit
        frame["search"] = True
        frame["meaning"] = self.meanings
        return frame

    def plot(self, index: int = 0) -> "Figure":
        """A figure of one image: before and after, the grid carried along, |tau|, ||grad tau||_2 and the trace.

        Args:
            index: which image.

        Raises:
            ValueError: if there is no such image.
        """
        from stability.plots.searched import draw  # matplotlib loads when something is drawn

        return draw(self, index)

    def __repr__(self) -> str:
        shown = ["largest_found", "relative", "angle", "displacement_norm", "jacobian_norm", "spread"]
        frame = self.to_frame()
        shown += ["meaning"] if not bool(self.resolved.all()) else []
        return f"Found, {self.meaning}:\n{frame[shown].to_string()}"
