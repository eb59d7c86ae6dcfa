"""``RobustnessRadii``: what is certified and what was found, image by image, and over a test set."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from stability.bounds.rung import Status
from stability.search.smallest import Smallest

if TYPE_CHECKING:
    from stability.plots.drawing import Drawn

MEANING = (
    "as_sampled <= certified; every field of a size below as_sampled keeps the label of the network as it is sampled "
    "(under the exact L_tau); below certified, that of the network of functions on the torus, what the grid adds not "
    "counted; a field of the size found changes it, and a smaller one may"
)

NOT_SEARCHED = "not searched"


@dataclass(frozen=True, repr=False)
class RobustnessRadii:
    """certified <= smallest size that changes the label <= found, sizes t of C(t a, t b), one per image.

    Args:
        predicted: labels, ``(B,)``.
        right: whether the label is the true one, ``(B,)``; all, if none were given.
        distance: to the decision boundary in the representation, in units of ||x||, ``(B,)``; 0 for wrong labels.
        certified: by the smallest rung of scope "every field"; 0 for wrong labels and where no rung is small enough.
        by: name of that rung; "none" where the radius is 0.
        status: of that rung.
        as_sampled: by the rungs that hold for the network as it is sampled.
        status_as_sampled: of those.
        found: at which a search changed the label: inf where it did not up to the largest size searched, NaN if there
            was no search.
        displacement_norm: a, ``(B,)`` in pixels.
        jacobian_norm: b, ``(B,)``.
        largest_size: t up to which was searched.
        left_out: rungs that may not certify, and why.
        smallest: the search on the images with right labels; None without one.
    """

    predicted: Tensor
    right: Tensor
    distance: Tensor
    certified: Tensor
    by: tuple[str, ...]
    status: tuple[Status, ...]
    as_sampled: Tensor
    status_as_sampled: tuple[Status, ...]
    found: Tensor
    displacement_norm: Tensor
    jacobian_norm: Tensor
    largest_size: float
    left_out: Mapping[str, str] = field(default_factory=dict)
    smallest: Smallest | None = None
    meaning: str = field(default=MEANING, repr=False)

    @property
    def searched(self) -> bool:
        """Whether there was a search."""
        return not bool(self.found.isnan().any())

    @property
    def contradictory(self) -> Tensor:
        """Whether a label was changed below a certified size, ``(B,)``: never below ``as_sampled`` by the exact warp.

        Below ``certified`` it is what the grid adds, if the search used the exact warp; otherwise look for a bug.
        """
        return self.found < self.certified

    @property
    def accuracy(self) -> float:
        """Share of right labels."""
        return float(self.right.double().mean())

    @property
    def share_zero(self) -> float:
        """Share of images whose certified radius is 0."""
        return float((self.certified == 0).double().mean())

    def table(self) -> pd.DataFrame:
        """One row per image; radii of displacements in pixels, of Jacobians without unit."""
        columns: dict[str, object] = {
            "image": range(len(self.predicted)),
            "predicted": self.predicted.tolist(),
            "right": self.right.tolist(),
            "boundary_distance_over_input_norm": self.distance.tolist(),
        }
        for name, sizes in (("certified", self.certified), ("as_sampled", self.as_sampled), ("found", self.found)):
            columns[f"{name}_displacement_px"] = (sizes * self.displacement_norm).tolist()
            columns[f"{name}_jacobian"] = (sizes * self.jacobian_norm).tolist()
        columns["certified_by"] = list(self.by)
        columns["status_certified"] = _words(self.status, self.certified)
        columns["status_as_sampled"] = _words(self.status_as_sampled, self.as_sampled)
        columns["certified_speaks_of"] = "functions on the torus, every field"
        columns["as_sampled_speaks_of"] = "the sampled network, every field"
        columns["status_found"] = [self._status_found(size) for size in self.found.tolist()]
        return pd.DataFrame(columns)

    def _status_found(self, size: float) -> str:
        """What the size found says; nothing where the label was wrong, or as good as lost, from the beginning."""
        if math.isnan(size):
            return NOT_SEARCHED
        if math.isinf(size):
            return f"none found up to t = {self.largest_size:g}"
        return "upper value of the smallest size" if size > 0 else ""

    def curve(self, sizes: Tensor | Sequence[float] | None = None) -> pd.DataFrame:
        """Share of images with a right label under every field of a size, from both sides.

        ``as_sampled`` and ``certified``: at least this share, those whose radius exceeds t; ``found``: at most this
        share, those that no field found up to t changes (NaN beyond the largest size that was searched).

        Args:
            sizes: t; None: where a curve jumps.
        """
        a = self.displacement_norm
        last = torch.full_like(self.found, self.largest_size)
        jumps = torch.cat([self.certified, self.as_sampled, self.found, last])
        chosen = jumps[jumps.isfinite() & (jumps > 0)].unique() if sizes is None else sizes
        t = torch.as_tensor(chosen, dtype=torch.float64).to(self.certified).reshape(-1)
        low, sampled = ((radii[:, None] > t).double().mean(0) for radii in (self.certified, self.as_sampled))
        high = torch.where(t <= self.largest_size, (self.found[:, None] > t).double().mean(0), torch.nan)
        columns = {
            "size": t, "displacement_px": t * a[0], "jacobian": t * self.jacobian_norm[0], "as_sampled": sampled,
            "certified": low, "found": high if self.searched else torch.full_like(t, torch.nan),
        }  # fmt: skip
        return pd.DataFrame({name: values.tolist() for name, values in columns.items()})

    def summary(self) -> "pd.Series[float]":
        """Accuracy, medians over all images in pixels, the share of certified radii that are 0, how often rungs won.

        The median of ``found`` is inf where more than half of the images kept their label.
        """
        a = self.displacement_norm
        values: dict[str, float] = {
            "images": float(len(self.predicted)),
            "accuracy": self.accuracy,
            "share_certified_zero": self.share_zero,
            "median_as_sampled_px": _median(self.as_sampled * a),
            "median_certified_px": _median(self.certified * a),
            "median_found_px": _median(self.found * a),
            "median_found_over_certified": _median((self.found / self.certified)[self.certified > 0]),
            "contradictory": float(self.contradictory.sum()),
        }
        for name in sorted(set(self.by)):
            values[f"certified_by_{name}"] = float(self.by.count(name))
        return pd.Series(values)

    def plot(self) -> "Drawn":
        """Radii of every image, and the certified and the attacked accuracy against the size; with its caption."""
        from stability.plots.drawing import on_paper, settled  # matplotlib loads when something is drawn
        from stability.plots.robustness import radii

        with on_paper():
            norms = float(self.displacement_norm[0]), float(self.jacobian_norm[0])
            drawn = radii(self.table(), self.curve(), *norms, self.largest_size)
            settled(drawn.figure)
        return drawn

    def __repr__(self) -> str:
        shown = ["predicted", "right", "as_sampled_displacement_px", "certified_displacement_px",
                 "found_displacement_px", "certified_by"]  # fmt: skip
        return f"Robustness radii, px:\n{self.table()[shown].to_string()}"


def _words(statuses: tuple[Status, ...], radii: Tensor) -> list[str]:
    """The status of every radius; none where it is 0, since nothing is claimed."""
    return [str(status) if size > 0 else "" for status, size in zip(statuses, radii.tolist(), strict=True)]


def _median(values: Tensor) -> float:
    """The middle one, or the mean of the two in the middle; NaN if there are none."""
    if not len(values) or bool(values.isnan().any()):
        return float("nan")
    return float(pd.Series(values.tolist()).median())
