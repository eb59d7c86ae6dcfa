"""Scores: a linear head on a representation, its accuracy, and what labels and images must be."""

import torch
from torch import Tensor, nn

from stability.grid import check_images
from stability.representations.explicit import ExplicitRepresentation


class Classifier(nn.Module):
    """Scores of a linear head on the flattened last map of a representation with a feature map: W Phi(x) + w_0.

    Args:
        representation: for example a ``CNN``; its parameters are shared, not copied.
        head: takes all of a map's K H' W' entries.
    """

    def __init__(self, representation: ExplicitRepresentation, head: nn.Linear) -> None:
        super().__init__()
        self.representation, self.head = representation, head

    def forward(self, images: Tensor) -> Tensor:
        """Scores ``(B, classes)`` for images ``(B, C, *size)``."""
        return self.head(self.representation(images).flatten(1))


def accuracy(classifier: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int = 256) -> float:
    """Share of the images whose label has the largest score, in evaluation mode (in which the classifier is left).

    Args:
        classifier: maps images to scores ``(B, classes)``.
        images: ``(N, C, *size)``.
        labels: ``(N,)``, int64.
        batch_size: images per pass.
    """
    check_labels(images, labels)
    classifier.eval()
    with torch.no_grad():
        answers = [classifier(placed(classifier, part)).argmax(dim=1).to(labels) for part in images.split(batch_size)]
    return float((torch.cat(answers) == labels).double().mean())


def new_head(representation: ExplicitRepresentation, images: Tensor, classes: int) -> nn.Linear:
    """A linear map of the flattened features, zero at first: Adam then starts at log(classes), without randomness."""
    with torch.no_grad():
        features = representation(placed(representation, images[:1])).flatten(1)
    head = nn.utils.skip_init(nn.Linear, features.shape[1], classes, dtype=features.dtype, device=features.device)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    return head


def placed(network: nn.Module, images: Tensor) -> Tensor:
    """The images in the dtype and on the device of the network's first floating-point parameter."""
    for parameter in network.parameters():
        if parameter.is_floating_point():
            return images.to(parameter.device, parameter.dtype)
    return images


def check_classes(classifier: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Every label must have a score; one image is passed through to see how many there are."""
    classifier.eval()
    with torch.no_grad():
        scores = classifier(placed(classifier, images[:1]))
    if scores.ndim != 2 or int(labels.max()) >= scores.shape[1]:
        raise ValueError(
            f"the network must give a score for each of the labels 0 ... {int(labels.max())}, got scores of shape "
            f"{tuple(scores.shape)} for one image; give it more classes"
        )


def check_labels(images: Tensor, labels: Tensor) -> None:
    """Raise ``ValueError`` unless there is one class for each image."""
    check_images(images)
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1] or not len(labels) or int(labels.min()) < 0:
        raise ValueError(
            f"labels must be one int64 number >= 0 per image ({len(images)},), got {labels.dtype} of shape "
            f"{tuple(labels.shape)}; use dataset(...).labels"
        )
