"""What the experiments with labels share: pictures, parts of them, and a linear head on a finite network's features."""

import copy
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stability.images import dataset
from stability.representations.ckn import CKN
from stability.representations.explicit import ExplicitRepresentation
from stability.rkhs.methods import KernelRidge
from stability.rkhs.validation import one_against_rest
from stability.training import Cosine, ExactHead, StochasticHead, train

PENALTIES = (1e1, 1e0, 1e-1, 1e-2, 1e-3)
"""Of a ridge head on features of unit norm, the strongest first."""


class Labelled(NamedTuple):
    """Images ``(N, C, *size)``, float32, and their labels ``(N,)``."""

    images: Tensor
    labels: Tensor

    def part(self, start: int, stop: int) -> "Labelled":
        """The images from one place to another."""
        return Labelled(self.images[start:stop], self.labels[start:stop])


def labelled(given: Mapping[str, Any]) -> Labelled:
    """The first ``count`` pictures of a set, in which the classes alternate.

    Args:
        given: ``name``: "digits" (scikit-learn's 1,797 digits of 8 x 8 pixels; extra ``sklearn``), or a set of
            ``stability.images``, the user's files by ``STABILITY_DATA``; ``count``.

    Raises:
        ValueError: if the set has fewer.
    """
    if given["name"] == "digits":
        from sklearn.datasets import load_digits  # its files come with scikit-learn

        found = load_digits()
        images, labels = torch.from_numpy(found.images)[:, None] / 16, torch.from_numpy(found.target).long()
    else:
        data = dataset(given["name"], count=given["count"])
        images, labels = data.images, data.labels
    if len(images) < given["count"]:
        raise ValueError(
            f"count of {given['name']!r} must be at most {len(images)}, got {given['count']}; set STABILITY_DATA to "
            "the folder with all of its files"
        )
    return Labelled(images[: given["count"]].float(), labels[: given["count"]])


def rows(network: ExplicitRepresentation, images: Tensor) -> Tensor:
    """Features of unit norm, ``(N, K)``, float64."""
    found = network.vectors(images)
    return found / found.norm(dim=1, keepdim=True)


def accuracies(learnt: Tensor, labels: Tensor, judged: Tensor, truth: Tensor, penalties: tuple[float, ...]) -> Tensor:
    """Share of right answers of a ridge head, one class against the rest, for each penalty.

    Args:
        learnt: features from which the head is learnt, ``(n, K)``.
        labels: theirs.
        judged: features of other images.
        truth: theirs.
        penalties: as ``KernelRidge`` takes them.
    """
    classes, places = labels.unique(return_inverse=True)
    matrix, cross = learnt @ learnt.T, judged @ learnt.T
    targets = one_against_rest(places, torch.arange(len(classes)))
    scores = [cross @ KernelRidge(penalty).solve(matrix, targets).coefficients for penalty in penalties]
    return torch.stack([(classes[one.argmax(1)] == truth).double().mean() for one in scores])


def judge(network: ExplicitRepresentation, train: Labelled, test: Labelled, held: int) -> float:
    """Accuracy on the test images; the penalty is chosen on the last ``held`` training images."""
    learnt, judged = rows(network, train.images), rows(network, test.images)
    tried = accuracies(learnt[:-held], train.labels[:-held], learnt[-held:], train.labels[-held:], PENALTIES)
    penalty = PENALTIES[int(tried.argmax())]  # the strongest of equal ones
    return float(accuracies(learnt, train.labels, judged, test.labels, (penalty,)))


def learnt(start: CKN, known: Labelled, wanted: Mapping[str, Any], generator: torch.Generator) -> CKN:
    """A copy of a network whose anchors learn with labels, by a cosine schedule.

    Args:
        start: the network to begin with.
        known: training images.
        wanted: ``epochs`` and ``steps``, as many of both at least; ``batch_size``; ``learning_rate``; ``penalty`` of
            the exact head that it begins with.
        generator: of the batches.
    """
    network, batches = copy.deepcopy(start).requires_grad_(True), math.ceil(len(known.images) / wanted["batch_size"])
    train(
        network, *known, epochs=max(wanted["epochs"], math.ceil(wanted["steps"] / batches)), generator=generator,
        batch_size=wanted["batch_size"], learning_rate=wanted["learning_rate"], schedule=Cosine(),
        head=StochasticHead(ExactHead(wanted["penalty"])),
    )  # fmt: skip
    return network.requires_grad_(False)
