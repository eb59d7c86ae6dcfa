"""``History``: what a training did."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from stability.training.classifier import Classifier


@dataclass(frozen=True, eq=False)
class History:
    """What a training did, epoch by epoch.

    Args:
        loss: mean loss of the epoch's batches, each before its step.
        accuracy: share of right answers in them.
        test_accuracy: share of right answers on the test images after each epoch; empty without test images.
        classifier: what maps images to scores: the network itself, or a ``Classifier`` of network and head.
        validation_accuracy: share of right answers on the validation images after each epoch; empty without them.
        best_epoch: whose weights the classifier has, counted from 1: the last one unless early stopping went back.
    """

    loss: tuple[float, ...]
    accuracy: tuple[float, ...]
    test_accuracy: tuple[float, ...]
    classifier: nn.Module
    validation_accuracy: tuple[float, ...] = ()
    best_epoch: int = 0

    @property
    def epochs(self) -> int:
        """Number of passes over the images."""
        return len(self.loss)

    @property
    def head(self) -> nn.Linear | None:
        """The linear head that was trained with a representation; None for a network that gives scores itself."""
        return self.classifier.head if isinstance(self.classifier, Classifier) else None

    def metadata(self, *, seed: int, images: str) -> dict[str, Any]:
        """What ``save`` is to keep: seed, name of the images, epochs, last accuracies (test: None without)."""
        return {
            "seed": seed,
            "images": images,
            "epochs": self.epochs,
            "accuracy": self.accuracy[-1],
            "test_accuracy": self.test_accuracy[-1] if self.test_accuracy else None,
        }
