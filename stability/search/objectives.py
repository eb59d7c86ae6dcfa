r"""What a search makes large: functions of Phi(x) and Phi(L_tau x) that are 0 where the two agree."""

import abc
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stability.representations.pair_gradient import safe_root
from stability.search.checks import is_number
from stability.search.compared import Compared

Head = Callable[[Tensor], Tensor]
"""Features ``(n, K, *size')`` to outputs ``(n, classes)``, differentiable; ``torch.nn.Identity()`` for logits."""

Score = Callable[[Tensor, Tensor], Tensor]
"""Images ``(n, C, *size)`` and the indices ``(n,)`` of the images that they come from, to values ``(n,)``, float64."""


class Objective(abc.ABC):
    """A function of Phi(x) and Phi(y), differentiable in y."""

    unit: str
    """What its values are measured in."""

    @abc.abstractmethod
    def score(self, compared: Compared, images: Tensor) -> Score:
        """The objective with all that belongs to x computed once.

        Args:
            compared: Phi(x_i).
            images: x_i, ``(B, C, *size)``.
        """


@dataclass(frozen=True)
class Distance(Objective):
    """||Phi(L_tau x) - Phi(x)||, what the theorem bounds."""

    unit = "distance"

    def score(self, compared: Compared, images: Tensor) -> Score:
        """The distance itself."""
        return compared.distance


@dataclass(frozen=True)
class Angle(Objective):
    """The angle between Phi(L_tau x) and Phi(x), in radians: a deformation that only makes the image larger is none."""

    unit = "radian"

    def score(self, compared: Compared, images: Tensor) -> Score:
        """The angle itself."""
        return compared.angle


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

    unit = "median distance of two images"

    def __post_init__(self) -> None:
        if not (is_number(self.unit_distance) and 0 < self.unit_distance < float("inf")):
            raise ValueError(f"unit_distance must be positive and finite, got {self.unit_distance!r}; use a median")

    def score(self, compared: Compared, images: Tensor) -> Score:
        """The distance over its unit."""
        return lambda others, owner: compared.distance(others, owner) / self.unit_distance


@dataclass(frozen=True)
class Change(Objective):
    """|h(Phi(L_tau x)) - h(Phi(x))|, the change of a prediction (Euclidean over the outputs).

    Args:
        head: h, from features to outputs.
    """

    head: Head

    unit = "prediction"

    def __post_init__(self) -> None:
        _check_head(self.head)

    def score(self, compared: Compared, images: Tensor) -> Score:
        """The norm of the difference of outputs."""
        with torch.no_grad():
            before = _outputs(self.head, compared, images)

        def change(others: Tensor, owner: Tensor) -> Tensor:
            return safe_root((_outputs(self.head, compared, others) - before[owner]).square().sum(1))

        return change


@dataclass(frozen=True)
class Margin(Objective):
    """m(x) - m(L_tau x), m = h_label - max of the other outputs: what the right class loses.

    Args:
        head: h, from features to outputs, at least two.
        label: the class of every image, a number, or a tensor ``(B,)``.
    """

    head: Head
    label: int | Tensor

    unit = "margin"

    def __post_init__(self) -> None:
        _check_head(self.head)
        if isinstance(self.label, bool) or not isinstance(self.label, int | Tensor):
            raise ValueError(
                f"label must be an integer or a tensor of them, got {self.label!r}; see dataset(...).labels"
            )

    def margins(self, compared: Compared, images: Tensor, owner: Tensor) -> Tensor:
        """m, ``(n,)``; positive where the label is predicted.

        Raises:
            ValueError: if the label is no class.
        """
        outputs = _outputs(self.head, compared, images)
        label = torch.as_tensor(self.label, device=outputs.device).reshape(-1)
        count = len(compared.norm)
        if label.is_floating_point() or label.dtype == torch.bool or len(label) not in (1, count):
            raise ValueError(
                f"label must be an integer, or one for each of {count} images, got {self.label!r}; use the "
                "labels of dataset(...)"
            )
        label = label.long()
        label = label.expand(len(owner)) if len(label) == 1 else label[owner]
        classes = outputs.shape[1]
        if classes < 2 or bool(((label < 0) | (label >= classes)).any()):
            raise ValueError(f"label must be a class from 0 to {classes - 1}, got {label.tolist()}; see the head")
        own = outputs.gather(1, label[:, None])[:, 0]
        others = outputs.scatter(1, label[:, None], -torch.inf)
        return own - others.amax(1)

    def score(self, compared: Compared, images: Tensor) -> Score:
        """The loss of margin."""
        with torch.no_grad():
            before = self.margins(compared, images, torch.arange(len(images), device=images.device))
        return lambda others, owner: before[owner] - self.margins(compared, others, owner)


@dataclass(frozen=True)
class AtFixedNorm(Objective):
    """Another objective for y = ||x|| L_tau x / ||L_tau x||: what moves mass into the image gains nothing by it.

    Args:
        objective: of x and y.
    """

    objective: Objective

    def __post_init__(self) -> None:
        check_objective(self.objective)

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


def check_objective(objective: object) -> None:
    """Raise ``ValueError`` unless it is an objective."""
    if not isinstance(objective, Objective):
        raise ValueError(f"objective must be one like Distance(), got {objective!r}; use Distance()")


def _check_head(head: object) -> None:
    if not callable(head):
        raise ValueError(f"head must map features to outputs, got {head!r}; use torch.nn.Linear(features, classes)")


def _outputs(head: Head, compared: Compared, images: Tensor) -> Tensor:
    features = compared.features(images)
    if isinstance(head, nn.Module):  # networks compute in their own precision
        features = features.to(next((p.dtype for p in head.parameters() if p.is_floating_point()), features.dtype))
    try:
        outputs = head(features)
    except RuntimeError as error:  # torch's words for shapes that do not fit
        raise ValueError(
            f"head must take features of shape {tuple(features.shape)}, got {error}; flatten them or fit its layers"
        ) from error
    if outputs.ndim != 2 or len(outputs) != len(images):
        raise ValueError(
            f"head must give outputs ({len(images)}, classes), got {tuple(outputs.shape)}; end it with a linear layer"
        )
    return outputs.to(torch.float64)
