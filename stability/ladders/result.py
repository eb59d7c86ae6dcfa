"""``Ladder``: what is observed, every bound above it, what the grid may add, and whether theory and numbers agree."""

from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import Tensor

from stability.bounds.rung import Rung, Scope
from stability.ladders.verdict import Verdicts, verdicts

ALLOWANCES = ("interpolation_error", "commutation_defect", "defect", "refinement", "aliasing", "floor")


@dataclass(frozen=True, repr=False)
class Ladder:
    """Observed distance, allowances and rungs, one row per image, all in units of ||x||.

    Args:
        observed: ||Phi(W x) - Phi(x)|| / ||x||, ``(B,)``; NaN for a zero image.
        rungs: the bounds, from the sharpest scope to the widest.
        interpolation_error: prod rho ||A_0 (W x - L_tau x)|| / ||x||: the most that the warp can add.
        commutation_defect: how far W and the kernel maps do not commute on the network's grids, pushed to the output:
            the one allowance of the x-specific rung; NaN where that was not evaluated.
        defect: the part of ``interpolation_error`` that the refinement does not show: for the exact warp the same
            quantity on the finer grid, otherwise (or without refinement) all of it.
        refinement: |observed on this grid - observed on the grid twice as fine|: an estimate of what sampling adds
            between the layers (kernel maps are not band-limited); NaN if it was not evaluated.
        aliasing: what subsampling adds; already inside the closed form's terms, printed here; NaN where the closed
            form is not covered.
        floor: distances below it are round-off.
        norm_x: ||x||.
        norm_phi: ||Phi(x)||.
    """

    observed: Tensor
    rungs: tuple[Rung, ...]
    interpolation_error: Tensor
    commutation_defect: Tensor
    defect: Tensor
    refinement: Tensor
    aliasing: Tensor
    floor: Tensor
    norm_x: Tensor
    norm_phi: Tensor
    meaning: str = field(
        default="a violation is an observed distance above a bound by more than every allowance. The refinement is an "
        "estimate of the grid's error and no bound of it: look at a finer grid first, then for a wrong norm or a bug; "
        "it is not a discovery",
        repr=False,
    )

    @property
    def allowance(self) -> Tensor:
        """defect + refinement (0 where not evaluated) + floor, ``(B,)``: beside the theorems of the torus."""
        return self.defect + self.refinement.nan_to_num(0.0) + self.floor

    @property
    def trivial(self) -> Tensor:
        """prod rho ||A_0 F (W x - x)|| / ||x||: no bound above it carries information, ``(B,)``."""
        return self["trivial"].value

    def __getitem__(self, name: str) -> Rung:
        for rung in self.rungs:
            if rung.name == name:
                return rung
        raise KeyError(f"no rung {name!r}; the ladder has {', '.join(rung.name for rung in self.rungs)}")

    @property
    def violation(self) -> Verdicts:
        """For every row: "none", "explained by ..." (which allowances) or "THEORY VIOLATED".

        Only the last one counts as true: ``ladder.violation.any()``.
        """
        return verdicts(self.observed, self.rungs)

    def least(self, rung: Rung) -> Tensor:
        """The smallest bound whose scope contains this rung's, ``(B,)``: the running minimum from the widest downwards.

        A certificate may lie above a closed form, though it knows more; what it allows is the smaller of the two.
        """
        wider = [other.value for other in self.rungs if contains(other.scope, rung.scope)]
        return torch.stack(wider).amin(0)

    def __repr__(self) -> str:
        columns = ["observed", *(f"bound_{rung.name}" for rung in self.rungs), *ALLOWANCES, "violation"]
        return f"Ladder, in units of ||x||:\n{self.to_frame()[columns].to_string()}"

    def to_frame(self) -> pd.DataFrame:
        """One row per image: observed, bounds with running minimum, status, scope and the form that won, allowances."""
        columns: dict[str, object] = {"observed": self.observed.tolist(), "trivial": self.trivial.tolist()}
        for rung in self.rungs:
            columns[f"bound_{rung.name}"] = rung.value.tolist()
            columns[f"least_{rung.name}"] = self.least(rung).tolist()
            columns[f"status_{rung.name}"] = str(rung.status)
            columns[f"scope_{rung.name}"] = str(rung.scope)
            if rung.forms:
                columns[f"form_{rung.name}"] = list(rung.forms)
        for name in (*ALLOWANCES, "norm_x", "norm_phi"):
            columns[name] = getattr(self, name).tolist()
        columns["violation"] = list(self.violation)
        return pd.DataFrame(columns)


def contains(wide: Scope, narrow: Scope) -> bool:
    """Whether all that the narrow scope speaks of is in the wide one."""
    return wide.every_image >= narrow.every_image and wide.every_field >= narrow.every_field
