r"""What a search makes large: functions of Phi(x) and Phi(L_tau x) that are 0 where the two agree."""

import abc
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.representations.pair_gradient import safe_root
from stability.representations.round_off import UNITS, measured_value
from stability.search.checks import is_number
from stability.search.compared import Compared
from stability.search.heads import Head, check_head, column_of, outputs_of, unit_of

Score = Callable[[Tensor, Tensor], Tensor]
"""Images ``(n, C, *size)`` and the indices ``(n,)`` of the images that they come from, to values ``(n,)``, float64."""


class Objective(abc.ABC):
    """A function of Phi(x) and Phi(y), differentiable in y."""

    name: str
    """What it is called in tables and figures."""
    unit: str
    """What its values are measured in."""
    fixes_norm: bool = False
    """Whether L_tau x is given the norm of x first."""

    @abc.abstractmethod
    def score(self, compared: Compared, images: Tensor) -> Score:
        """The objective with all that belongs to x computed once.

        Args:
            compared: Phi(x_i).
            images: x_i, ``(B, C, *size)``.
        """

    def floor(self, compared: Compared, images: Tensor) -> Tensor:
        """What round-off leaves of a value, ``(B,)``: measured at x, an estimate."""
        return _measured(self.score(compared, images), images, compared.unit)


@dataclass(frozen=True)
class Distance(Objective):
    """||Phi(L_tau x) - Phi(x)||, what the theorem bounds."""

    name, unit = "distance", "distance"

    def score(self, compared: Compared, images: Tensor) -> Score:
        """The distance itself."""
        return compared.distance

    def floor(self, compared: Compared, images: Tensor) -> Tensor:
        """That of the representation."""
        return compared.floor


@dataclass(frozen=True)
class Angle(Objective):
    """The angle between Phi(L_tau x) and Phi(x), in radians: a deformation that only makes the image larger is none."""

    name, unit = "angle", "radian"

    def score(self, compared: Compared, images: Tensor) -> Score:
        """The angle itself."""
        return compared.angle

    def floor(self, compared: Compared, images: Tensor) -> Tensor:
        """Measured, and at least the angle that the floor of a distance makes."""
        seen = _measured(self.score(compared, images), images, compared.unit)
        return torch.maximum(seen, torch.where(compared.norm > 0, compared.floor / compared.norm, 0.0))


@dataclass(frozen=True)
class DistanceOverPairs(Objective):
    """||Phi(L_tau x) - Phi(x)|| over the median distance of two different images: to compare representations.

    Args:
        unit_distance: the median distance of two different images, > 0, as in a sweep's ``distance_over_pairs``:
            ``DistanceOverPairs(float(distances[upper].median()))`` for ``Representation.distance_matrices``.

    Raises:
        ValueError: if it is not positive.
    """

    unit_distance: float

    name, unit = "distance over pairs", "median distance of two images"

    def __post_init__(self) -> None:
        if not (is_number(self.unit_distance) and 0 < self.unit_distance < float("inf")):
            raise ValueError(f"unit_distance must be positive and finite, got {self.unit_distance!r}; use a median")

    def score(self, compared: Compared, images: Tensor) -> Score:
        """The distance over its unit."""
        return lambda others, owner: compared.distance(others, owner) / self.unit_distance

    def floor(self, compared: Compared, images: Tensor) -> Tensor:
        """That of the representation."""
        return compared.floor / self.unit_distance


@dataclass(frozen=True)
class Change(Objective):
    """|h(Phi(L_tau x)) - h(Phi(x))|, the change of a prediction (Euclidean over the outputs).

    Args:
        head: h, from features to outputs, or a ``Predictor`` of the representation.
    """

    head: Head

    name, unit = "change of a prediction", "prediction"

    def __post_init__(self) -> None:
        check_head(self.head)

    def score(self, compared: Compared, images: Tensor) -> Score:
        """The norm of the difference of outputs."""
        outputs = outputs_of(self.head, compared)
        with torch.no_grad():
            before = outputs(images)

        def change(others: Tensor, owner: Tensor) -> Tensor:
            return safe_root((outputs(others) - before[owner]).square().sum(1))

        return change

    def floor(self, compared: Compared, images: Tensor) -> Tensor:
        """Measured, and at least some units in the last place of the outputs."""
        with torch.no_grad():
            size = outputs_of(self.head, compared)(images).norm(dim=1)
        return _of_outputs(self, self.head, compared, images, size)


@dataclass(frozen=True)
class Margin(Objective):
    """m(x) - m(L_tau x), m = h_label - max of the other outputs: what the right class loses.

    Args:
        head: h, from features to outputs, at least two, or a ``Predictor`` of the representation.
        label: the class of every image, a number, or a tensor ``(B,)``; of a predictor among its classes.
    """

    head: Head
    label: int | Tensor

    name, unit = "loss of margin", "margin"

    def __post_init__(self) -> None:
        check_head(self.head)
        if isinstance(self.label, bool) or not isinstance(self.label, int | Tensor):
            raise ValueError(
                f"label must be an integer or a tensor of them, got {self.label!r}; see dataset(...).labels"
            )

    def margins(self, compared: Compared, images: Tensor) -> tuple[Score, Tensor]:
        """m as a function of images and the indices of those that they come from, and m(x), ``(B,)``.

        Positive where the label is predicted.

        Raises:
            ValueError: if the label is no class.
        """
        outputs = outputs_of(self.head, compared)
        with torch.no_grad():
            before = outputs(images)
        own = column_of(self.head, self.label, len(images), before.shape[1], before.device)

        def margins(others: Tensor, owner: Tensor) -> Tensor:
            return _margin(outputs(others), own[owner])

        return margins, _margin(before, own)

    def score(self, compared: Compared, images: Tensor) -> Score:
        """The loss of margin."""
        margins, before = self.margins(compared, images)
        return lambda others, owner: before[owner] - margins(others, owner)

    def floor(self, compared: Compared, images: Tensor) -> Tensor:
        """Measured, and at least some units in the last place of the two outputs that make the margin."""
        with torch.no_grad():
            outputs = outputs_of(self.head, compared)(images)
        own = column_of(self.head, self.label, len(images), outputs.shape[1], outputs.device)
        label = outputs.gather(1, own[:, None])[:, 0]
        runner_up = outputs.scatter(1, own[:, None], -torch.inf).amax(1)
        return _of_outputs(self, self.head, compared, images, torch.maximum(label.abs(), runner_up.abs()))


@dataclass(frozen=True)
class AtFixedNorm(Objective):
    """Another objective for y = ||x|| L_tau x / ||L_tau x||: what moves mass into the image gains nothing by it.

    Args:
        objective: of x and y.
    """

    objective: Objective

    def __post_init__(self) -> None:
        check_objective(self.objective)

    fixes_norm = True

    @property
    def name(self) -> str:  # type: ignore[override]
        """That of the objective, and how it is measured."""
        return f"{self.objective.name} at fixed norm"

    @property
    def unit(self) -> str:  # type: ignore[override]
        """That of the objective."""
        return self.objective.unit

    def score(self, compared: Compared, images: Tensor) -> Score:
        """The objective of the rescaled image; an image that became 0 stays 0."""
        inner, norms = self.objective.score(compared, images), images.flatten(1).norm(dim=1)

        def rescaled(others: Tensor, owner: Tensor) -> Tensor:
            sizes = safe_root(others.flatten(1).square().sum(1))
            factor = norms[owner] / torch.where(sizes > 0, sizes, 1.0)
            return inner(others * factor.reshape(-1, *[1] * (others.ndim - 1)), owner)

        return rescaled

    def floor(self, compared: Compared, images: Tensor) -> Tensor:
        """That of the objective."""
        return self.objective.floor(compared, images)


def check_objective(objective: object) -> None:
    """Raise ``ValueError`` unless it is an objective."""
    if not isinstance(objective, Objective):
        raise ValueError(f"objective must be one like Distance(), got {objective!r}; use Distance()")


def _margin(outputs: Tensor, own: Tensor) -> Tensor:
    """The output of the own class minus the largest of the others, ``(n,)``."""
    others = outputs.scatter(1, own[:, None], -torch.inf)
    return outputs.gather(1, own[:, None])[:, 0] - others.amax(1)


def _measured(score: Score, images: Tensor, unit: float) -> Tensor:
    owner = torch.arange(len(images), device=images.device)
    return measured_value(lambda others: score(others, owner), images, unit)


def _of_outputs(objective: Objective, head: Head, compared: Compared, images: Tensor, size: Tensor) -> Tensor:
    """What is measured, and some units in the last place of outputs of a size ``(B,)`` in the head's arithmetic."""
    own = unit_of(head, compared)
    seen = _measured(objective.score(compared, images), images, max(own, compared.unit))
    return torch.maximum(seen, UNITS * own * size)
