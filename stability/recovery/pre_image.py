r"""``PreImage``: the image from an exact kernel, by ridge regression from the Hilbert space to pixels."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from stability.grid import check_images
from stability.recovery.decoder import relative
from stability.representations.base import KernelRepresentation
from stability.representations.matrix import kernel_matrix

RIDGES = tuple(10.0**-power for power in range(14, -1, -1))
"""To choose from, in units of the mean of K(x_i, x_i)."""


class PreImage:
    r"""x^ = sum_i K(x, x_i) a_i with a = (K + r I)^(-1) X: of all linear maps of Phi(x) the ridge regression on pixels.

    An exact kernel's features cannot be held; what can be computed of Phi(x) is K(x, x_i) with known images x_i. The
    prediction is a combination of these images: it can be no nearer to x than their span is (``span_errors``), and one
    learns how much of x the kernel's values with so many images tell, not how much Phi(x) does.

    Args:
        representation: whose kernel it is.
        images: x_i, ``(n, C, *size)``.
        coefficients: a, ``(n, C, *size)``; use ``fit``.
        ridge: r with which they were fitted, in units of the mean of K(x_i, x_i).
        left_out: relative root-mean-square error of images left out one at a time, for that ridge.

    Reference: Bakir, Weston & Schoelkopf 2004 (Learning to find pre-images).

    >>> from stability.architecture import Architecture
    >>> from stability.images import load
    >>> from stability.representations.linear import LinearGram
    >>> x = load("blobs", count=5, size=(8, 8))
    >>> pre_image = PreImage.fit(LinearGram(Architecture.dyadic(depth=1)), x, ridges=(1e-14,))
    >>> torch.allclose(pre_image.recover(x[:2]), x[:2], atol=1e-6)  # an image of the set
    True
    """

    def __init__(
        self,
        representation: KernelRepresentation,
        images: Tensor,
        coefficients: Tensor,
        ridge: float,
        left_out: float,
    ) -> None:
        self.representation, self.images, self.coefficients = representation, images, coefficients
        self.ridge, self.left_out = ridge, left_out

    @classmethod
    def fit(
        cls,
        representation: KernelRepresentation,
        images: Tensor,
        *,
        ridges: Sequence[float] = RIDGES,
        matrix: Tensor | None = None,
    ) -> "PreImage":
        """The ridge with the least error on images left out one at a time: e_i = a_i / ((K + r I)^(-1))_ii.

        Args:
            representation: whose kernel it is.
            images: ``(n, C, *size)``, n >= 2.
            ridges: to choose from, > 0, in units of the mean of K(x_i, x_i).
            matrix: ``st.kernel_matrix(representation, images)`` if it is there; None: computed.

        Raises:
            ValueError: for a representation without a kernel, fewer than two images, or ridges that are not positive.
        """
        if not isinstance(representation, KernelRepresentation):
            raise ValueError(
                f"representation must have a kernel matrix, got {type(representation).__name__}; use GramCKN or a CKN"
            )
        if len(check_images(images)) < 2:
            raise ValueError(f"images must be two or more to learn from, got {len(images)}; give more")
        if not ridges or not all(0 < ridge < math.inf for ridge in ridges):
            raise ValueError(f"ridges must be positive numbers, got {tuple(ridges)}; use for example (1e-8, 1e-4)")
        gram = (kernel_matrix(representation, images) if matrix is None else matrix).to(torch.float64)
        if gram.shape != (len(images), len(images)):
            raise ValueError(f"matrix must be {(len(images),) * 2}, got {tuple(gram.shape)}; leave it out")
        pixels = images.detach().double().flatten(1)  # (n, P)
        values, vectors = torch.linalg.eigh((gram + gram.T) / 2)
        unit = float(gram.diagonal().mean()) or 1.0  # black images: any ridge will do, and all coefficients vanish
        found = []
        for ridge in ridges:
            inverse = 1.0 / (values.clamp_min(0.0) + ridge * unit)
            coefficients = vectors @ (inverse[:, None] * (vectors.T @ pixels))
            errors = coefficients / (vectors.square() @ inverse)[:, None]
            norm = float(pixels.norm())
            found.append((float(errors.norm()) / norm if norm else math.nan, ridge, coefficients))
        left_out, ridge, coefficients = min(found, key=lambda one: one[0])
        return cls(representation, images, coefficients.view(images.shape), ridge, left_out)

    def recover(self, images: Tensor, *, cross: Tensor | None = None) -> Tensor:
        """x^, ``(B, C, *size)``, float64.

        Args:
            images: ``(B, C, *size)``; only their kernel with the known images is used.
            cross: ``st.kernel_matrix(representation, images, pre_image.images)`` if it is there; None: computed.
        """
        cross = kernel_matrix(self.representation, images, self.images) if cross is None else cross
        return (cross.to(torch.float64) @ self.coefficients.flatten(1)).view(-1, *self.images.shape[1:])

    def errors(self, images: Tensor) -> Tensor:
        """||x^ - x|| / ||x||, ``(B,)``; NaN where x = 0."""
        return relative(self.recover(images), images.detach().double())

    def span_errors(self, images: Tensor) -> Tensor:
        """Distance of x from the span of the known images, over ||x||, ``(B,)``: no prediction is nearer."""
        known = self.images.detach().double().flatten(1)
        _, values, right = torch.linalg.svd(known, full_matrices=False)
        basis = right[values > torch.finfo(torch.float64).eps * len(known) * values[0]]
        flat = images.detach().double().flatten(1)
        return relative((flat @ basis.T) @ basis, flat)
