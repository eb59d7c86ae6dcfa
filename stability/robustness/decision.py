r"""How far a representation may move before the label can change: min_j (f_y - f_j)(x) / ||f_y - f_j||.

f_y(x') - f_j(x') >= f_y(x) - f_j(x) - ||f_y - f_j|| ||Phi(x') - Phi(x)|| by Cauchy-Schwarz, which stays positive while
the distance is below the quotient. For an affine head W z + b on features z, f_y - f_j = (w_y - w_j) . z + b_y - b_j
and ||f_y - f_j|| = |w_y - w_j| / (cell area)^(1/2): the quotient is the distance to the decision boundary.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from stability.grid import spatial_size
from stability.representations.base import Representation
from stability.representations.explicit import ExplicitRepresentation
from stability.representations.module import ModuleRepresentation
from stability.rkhs.predictor import Predictor
from stability.search.compared import compared
from stability.search.heads import Head as Searched
from stability.training.classifier import Classifier

BATCH = 16
"""Images encoded at a time."""


@dataclass(frozen=True, eq=False)
class AffineHead:
    """Outputs W z + b of the flattened features z, in float64.

    Args:
        weight: W, ``(classes, K)``, at least two classes.
        bias: b, ``(classes,)``; None: zero.

    Raises:
        ValueError: for other shapes, or values that are not finite.

    >>> head = AffineHead(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([0.5, 0.0]))
    >>> head(torch.tensor([[2.0, 3.0]])).tolist(), head.distances(head(torch.tensor([[2.0, 3.0]]))).tolist()
    ([[2.5, -2.0]], [2.25])
    """

    weight: Tensor
    bias: Tensor | None = None

    def __post_init__(self) -> None:
        weight = self.weight.detach().to(torch.float64)
        if weight.ndim != 2 or len(weight) < 2 or not weight.shape[1]:
            raise ValueError(
                f"weight must be (classes, K) with at least two classes, got {tuple(weight.shape)}; one output for "
                "each class"
            )
        bias = weight.new_zeros(len(weight)) if self.bias is None else self.bias.detach().to(weight)
        if bias.shape != weight.shape[:1]:
            raise ValueError(f"bias must be ({len(weight)},), got {tuple(bias.shape)}; one number for each class")
        if not bool(torch.isfinite(weight).all() and torch.isfinite(bias).all()):
            raise ValueError("the head must be finite, got NaN or infinite weights; train it again")
        object.__setattr__(self, "weight", weight)
        object.__setattr__(self, "bias", bias)

    @classmethod
    def of(cls, head: "Head") -> "AffineHead":
        """The affine map of a linear layer, a ``Classifier``, or a ``Flatten`` followed by a linear layer.

        Raises:
            ValueError: for anything else: only affine heads have a distance to their boundary in closed form.
        """
        if isinstance(head, AffineHead):
            return head
        last: object = head.head if isinstance(head, Classifier) else head
        if isinstance(last, nn.Sequential) and len(last) == 2 and isinstance(last[0], nn.Flatten):
            last = last[1]
        if isinstance(last, nn.Linear):
            return cls(last.weight, last.bias)
        raise ValueError(
            f"head must be affine, got {type(head).__name__}; use torch.nn.Linear, a Classifier, AffineHead(weight, "
            "bias) or a Predictor"
        )

    def __call__(self, features: Tensor) -> Tensor:
        """``(n, classes)``, float64, for features ``(n, K, *size')``."""
        rows, weight, bias = features.flatten(1).to(torch.float64), self.weight, self.bias
        if rows.shape[1] != weight.shape[1]:
            raise ValueError(
                f"the head must take the {rows.shape[1]} features of an image, got one for {weight.shape[1]}; fit it "
                "on representation(images).flatten(1)"
            )
        assert bias is not None
        return rows @ weight.to(rows.device).T + bias.to(rows.device)

    def distances(self, outputs: Tensor, round_off: Tensor | float = 0.0) -> Tensor:
        """min_j (h_y - h_j - round-off) / |w_y - w_j|, y the largest output, ``(n,)``, in the unit of the features.

        Infinite if no class has another weight and all have a smaller bias: such a head predicts y for every image.
        """
        own = outputs.argmax(1)
        weight = self.weight.to(outputs.device)
        # pairs one by one: |w_y - w_j| from |w_y|^2 + |w_j|^2 - 2 w_y . w_j would lose all digits for near classes
        norms = torch.stack([(weight - one).norm(dim=1) for one in weight])[own]  # (n, classes)
        gaps = outputs.gather(1, own[:, None]) - outputs - torch.as_tensor(round_off, device=outputs.device)
        ratios = torch.where(gaps > 0, gaps / norms, 0.0).scatter(1, own[:, None], torch.inf)
        return ratios.amin(1)


Head = nn.Linear | nn.Sequential | Classifier | AffineHead | Predictor
"""What decides: an affine head on features, or a predictor of the kernel's Hilbert space."""


class Decision(NamedTuple):
    """The prediction of every image and how far its representation may move.

    Args:
        predicted: labels, ``(B,)``, int64.
        distance: between representations, ``(B,)``: no y with ||Phi(y) - Phi(x)|| below it is labelled otherwise.
        head: what a search asks: from features to outputs, or a predictor.
        classes: all labels that it may give, ``(C,)``.
    """

    predicted: Tensor
    distance: Tensor
    head: Searched
    classes: Tensor


def decide(representation: Representation, head: Head, images: Tensor) -> Decision:
    """The predictions of a head and the distances to its decision boundary.

    Args:
        representation: with features for an affine head; that of the predictor for a predictor.
        head: ``torch.nn.Linear``, ``Classifier``, ``AffineHead`` or ``Predictor``.
        images: ``(B, C, *size)``, float64.

    Raises:
        ValueError: for a head that is not affine or does not fit the features.

    Reference: Cauchy-Schwarz; Bietti & Mairal 2019, section 4 (margins).
    """
    if isinstance(head, Predictor):
        if head.representation is not representation:
            raise ValueError("representation must be that of the predictor, got another; pass predictor.representation")
        values = head(images)
        if values.shape[1] < 2:
            raise ValueError(f"head must have at least two classes, got {values.shape[1]}; one function for each class")
        distance = head.certified_distance(values, representation.norm(images))
        return Decision(head.labels(values), distance, head, head.classes)
    affine = AffineHead.of(head)
    if not isinstance(representation, ExplicitRepresentation | ModuleRepresentation):
        raise ValueError(
            f"representation must have features for an affine head, got {type(representation).__name__}; use CKN.fit, "
            "or a Predictor on the exact kernel"
        )
    fixed = compared(representation, images)
    with torch.no_grad():
        outputs, sizes, area = [], [], 1.0
        for part in images.split(BATCH):
            features = fixed.features(part)
            area = representation.cell_area(spatial_size(part), features)
            outputs.append(affine(features))
            sizes.append(features.flatten(1).to(torch.float64).norm(dim=1))
        found, norms = torch.cat(outputs), torch.cat(sizes)
        assert affine.bias is not None
        most = affine.weight.norm(dim=1).amax() * affine.weight.shape[1] ** 0.5
        error = 4.0 * torch.finfo(torch.float64).eps * (most * norms + affine.bias.abs().amax())
        distance = affine.distances(found, error[:, None]) * math.sqrt(area)
    return Decision(found.argmax(1), distance, affine, torch.arange(found.shape[1], device=found.device))
