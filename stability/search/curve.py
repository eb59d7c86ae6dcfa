r"""``worst_case_curve``: the largest objective found versus the size of the deformation."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor, nn

from stability.deformations.base import Deformation
from stability.representations.base import Representation
from stability.search.chances import CHANCES
from stability.search.checks import check_given, check_images_of_search, check_norm, is_number
from stability.search.constraints import Constraint, check_constraints
from stability.search.families import Fields
from stability.search.found import MEANING, Found
from stability.search.objectives import Objective
from stability.search.starts import Given, Start
from stability.search.worst import CUBIC, DISTANCE, KEPT, PIECEWISE_LINEAR, STARTS, STEPS, worst_case
from stability.warps.base import Warp

if TYPE_CHECKING:
    from stability.plots.drawing import Drawn

SIZES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0)


@dataclass(frozen=True, repr=False)
class Curve:
    """The largest objective found over C(t a, t b), for every size t and image.

    Args:
        sizes: t, ``(K,)``, increasing.
        found: the search at every size, K of them.
    """

    sizes: Tensor
    found: tuple[Found, ...]

    @property
    def largest_found(self) -> Tensor:
        """``(K, B)``, non-decreasing along the sizes: a field found at one size is a start at the next."""
        return torch.stack([one.largest_found for one in self.found])

    def to_frame(self) -> pd.DataFrame:
        """One row per size and image."""
        parts = [one.to_frame().assign(size=t) for t, one in zip(self.sizes.tolist(), self.found, strict=True)]
        return pd.concat(parts, ignore_index=True)

    def plot(self) -> "Drawn":
        """The largest found against the size, log-log: image by image and the median; with its caption.

        Raises:
            ValueError: if nothing above round-off was found.
        """
        from stability.plots.curve import versus_size  # matplotlib loads when something is drawn
        from stability.plots.drawing import on_paper, settled

        with on_paper():
            drawn = versus_size(self.to_frame())
            settled(drawn.figure)
        return drawn

    def __repr__(self) -> str:
        shown = pd.DataFrame(self.largest_found.tolist(), index=self.sizes.tolist())
        return f"Largest found versus size, {MEANING}:\n{shown.to_string()}"


def worst_case_curve(
    representation: Representation | nn.Module,
    images: Tensor,
    *,
    displacement_norm: float | Tensor,
    jacobian_norm: float | Tensor,
    generator: torch.Generator,
    sizes: Sequence[float] = SIZES,
    objective: Objective = DISTANCE,
    fields: Fields = PIECEWISE_LINEAR,
    constraints: Sequence[Constraint] = (),
    warp: Warp = CUBIC,
    starts: Sequence[Start] = STARTS,
    kept: int = KEPT,
    steps: int = STEPS,
    chances: int = CHANCES,
) -> Curve:
    r"""t -> max ||Phi(L_tau x) - Phi(x)|| over C(t a, t b), from below and non-decreasing.

    Every size is searched from all starts, each but the smallest also from the field found before (as it is, and
    enlarged). Since sets grow with t and no ascent falls, the curve is monotone by construction.

    Args:
        representation: as in ``worst_case``, likewise the others that are not named here.
        images: x, ``(B, C, *size)``.
        displacement_norm: a at size 1.
        jacobian_norm: b at size 1.
        generator: of the starts.
        sizes: t > 0, increasing.
        objective: what is made large.
        fields: among which is searched; grids of candidates are no curve, since a finer set holds other ones.
        constraints: linear, so that a field found at one size fulfils them at the next.
        warp: L_tau.
        starts: at every size.
        kept: of the starts.
        steps: of every ascent, at most.
        chances: second ones of starts that end behind, at most.

    Raises:
        ValueError: if the sizes do not increase, or as in ``worst_case``.
    """
    t, constraints = check_sizes(sizes), check_constraints(constraints)
    check_family(fields)
    starts = check_given("starts", starts, Start, "Linearised(20)")
    images = check_images_of_search(images)
    a, b = (
        check_norm("displacement_norm", displacement_norm, images),
        check_norm("jacobian_norm", jacobian_norm, images),
    )
    found: list[Found] = []
    for k, size in enumerate(t.tolist()):
        own = (*(warm(found[-1].field, size / float(t[k - 1])) if found else ()), *starts)
        found.append(
            worst_case(
                representation,
                images,
                displacement_norm=size * a,
                jacobian_norm=size * b,
                generator=generator,
                objective=objective,
                fields=fields,
                constraints=constraints,
                warp=warp,
                starts=own,
                kept=kept,
                steps=steps,
                chances=chances,
            )
        )
    return Curve(t, tuple(found))


def check_family(fields: Fields) -> None:
    """That fields of one size may be scaled to another one within their set.

    Raises:
        ValueError: for anything else than a ``Fields``.
    """
    if not isinstance(fields, Fields):
        raise ValueError(
            f"fields must be PiecewiseLinear(), Spline(...) or Fourier(...) for a curve over sizes, got {fields!r}; "
            "call worst_case for each size"
        )


def check_sizes(sizes: Sequence[float] | Tensor) -> Tensor:
    """The sizes, float64, if they are positive and increase.

    Raises:
        ValueError: otherwise.
    """
    sizes = sizes.tolist() if isinstance(sizes, Tensor) else sizes
    several = list(sizes) if isinstance(sizes, Iterable) and not isinstance(sizes, str) else []
    t = torch.tensor(several if all(map(is_number, several)) else [], dtype=torch.float64)
    if not len(t) or not bool(torch.isfinite(t).all()) or float(t[0]) <= 0 or bool((t.diff() <= 0).any()):
        raise ValueError(f"sizes must be positive and increasing, got {sizes!r}; use (0.25, 0.5, 1.0)")
    return t


def warm(field: Deformation, ratio: float | Tensor) -> tuple[Start, ...]:
    """Starts from what was found in sets of another size.

    Args:
        field: found, batch shape ``(B,)``.
        ratio: new size over old size, a number or ``(B,)``.
    """
    return (Given(field), Given(field.scaled(ratio)))
