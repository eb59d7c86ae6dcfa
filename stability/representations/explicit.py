"""``ExplicitRepresentation``: one with a feature map, known through ``forward``."""

import abc
import math
from functools import cached_property

import torch
from torch import Tensor

from stability.grid import check_images, is_expanded, spatial_size
from stability.representations.base import KernelRepresentation, Reference, paired
from stability.representations.round_off import measured_floor

BATCH = 16
"""Images encoded at a time."""


class ExplicitReference(Reference):
    """Phi(x) held fixed: the features themselves."""

    def __init__(self, representation: "ExplicitRepresentation", images: Tensor) -> None:
        self._representation, self._images = representation, images
        self._features = representation.vectors(images)
        self.norm = self._features.norm(dim=1)

    @cached_property
    def floor(self) -> Tensor:  # when asked for: it takes three more passes
        """What round-off leaves of a distance, as measured at x, ``(B,)``."""
        phi, several = self._representation, is_expanded(self._images)
        jumps = phi.architecture is not None and not all(map(math.isfinite, phi.architecture.lipschitz))
        images, known = (part[:1] if several else part for part in (self._images, self._features))
        eps = torch.finfo(phi.dtype).eps
        (floor,) = measured_floor(lambda again: [phi.vectors(again)], images, [known], eps, jumps=jumps)
        return floor.expand(len(self._images))

    def distance(self, others: Tensor) -> Tensor:
        """||Phi(x_i) - Phi(y_i...)||, ``(B,)`` or ``(B, ...)``."""
        d = len(spatial_size(self._images))
        extra = paired(self._images, check_images(others, d), d)
        rows = [
            (self._representation.vectors(row.reshape(-1, *row.shape[-d - 1 :])) - features).norm(dim=1)
            for row, features in zip(others, self._features, strict=True)
        ]
        return torch.stack(rows).view(-1, *extra)


class ExplicitRepresentation(KernelRepresentation):
    """A representation with a feature map; ``forward`` gives raw features, ``norm`` and ``distance`` carry the area."""

    @abc.abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Phi(x), ``(B, K, *size')`` for images ``(B, C, *size)``, in the module's dtype."""

    @property
    @abc.abstractmethod
    def dtype(self) -> torch.dtype:
        """In what the features are computed."""

    @abc.abstractmethod
    def cell_area(self, size: tuple[int, ...], features: Tensor) -> float:
        """Area of an output position in input pixels, for images of a size and their features."""

    def entered(self, images: Tensor) -> Tensor:
        """The images as ``forward`` takes them: a front end works in their own precision, the rest in the module's."""
        if self.architecture is not None and self.architecture.front_end is not None:
            return images
        return images.to(self.dtype)

    def retract_(self) -> None:
        """Bring parameters back to where they must be after a step of an optimiser; here, anywhere."""

    def vectors(self, images: Tensor) -> Tensor:
        """sqrt(cell area) Phi(x) as rows, ``(B, K')``, float64, encoded a few images at a time."""
        size = spatial_size(check_images(images))
        parts = []
        with torch.no_grad():
            for part in images.split(BATCH):
                features = self(self.entered(part))
                area = math.sqrt(self.cell_area(size, features))
                parts.append(features.flatten(1).to(torch.float64) * area)
        return torch.cat(parts)

    def reference(self, images: Tensor) -> ExplicitReference:
        """The features of the images."""
        return ExplicitReference(self, images)

    def kernel_matrix(self, images: Tensor, others: Tensor | None = None) -> Tensor:
        """<Phi(x_i), Phi(y_j)>, ``(Bx, By)``, float64."""
        left = self.vectors(images)
        return left @ (left if others is None else self.vectors(others)).T

    def distance_matrices(self, images: Tensor) -> Tensor:
        """||Phi(x_i) - Phi(x_j)|| from the features, without the cancellation of a Gram matrix, ``(1, B, B)``."""
        rows = self.vectors(images)
        return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")[None]
