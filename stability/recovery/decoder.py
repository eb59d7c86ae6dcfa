r"""``Decoder``: an image from the features of a finite network, layer by layer: linear decoder, then deconvolution."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.grid import check_images, spatial_size
from stability.operators.front_end import front_end_output
from stability.recovery.pooled_patches import PooledPatches
from stability.representations.explicit import BATCH, ExplicitRepresentation
from stability.representations.stages import ExplicitStages

RIDGES = (1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2)
"""Tried for the linear decoders, in units of the mean square of a feature."""
REGULARISATIONS = tuple(10.0**-power for power in range(18, 0, -1))
"""Tried for the deconvolutions, in units of the largest squared singular value 1."""


@dataclass(frozen=True, eq=False)
class LayerDecoder:
    """From the features of a layer to what entered it.

    Args:
        matrix: D, ``(p, m)``: the patch from the kernel map's value, D psi(z) = z as well as may be.
        patch_error: ||D psi(P y) - P y|| / ||P y|| over the training images; 0 for A_0, which has no kernel map.
        operator: T = S A P, to be undone.
        ridge: with which D was fitted.
        regularisation: with which T is undone.
    """

    matrix: Tensor
    patch_error: float
    operator: PooledPatches
    ridge: float
    regularisation: float

    def __call__(self, features: Tensor) -> Tensor:
        """The maps that entered, ``(B, C, *size)`` for features ``(B, m, *size')``."""
        decoded = (self.matrix @ features.flatten(2)).unflatten(2, features.shape[2:])
        return self.operator.solve(self.operator.arrange(decoded), self.regularisation)


class Decoder:
    r"""x^ = what n linear decoders and deconvolutions make of Phi(x); the last deconvolution undoes A_0.

    Every layer computes A_k M_k P_k y with a stride. A linear map D_k with D_k psi_k(z) = z commutes with the pooling,
    so that D_k applied to the features gives T_k y, T_k = S A_k P_k (``PooledPatches``), and y follows by Tikhonov's
    deconvolution. With patches at least as large as the stride this is possible, with an error that the condition
    number cond(T_k) <= (ceil(e / s) / floor(e / s))^(d/2) e^{sigma^2 w^2 / 2} amplifies; with smaller patches T_k has a
    null space and part of y is lost, however exact D_k is.

    D_k is least squares over the training images' patches; its ridge and the regularisation of the deconvolution are
    the ones with the least error on the training images, from the last layer to the first. Errors on other images are
    measured, not bounded.

    Args:
        representation: whose features are decoded.
        layers: from the last layer to the first, then A_0; use ``fit``.

    Reference: Bietti & Mairal 2019, section 2.2.

    >>> from stability.architecture import Architecture, Layer
    >>> from stability.images import load
    >>> from stability.representations.ckn import CKN
    >>> x = load("fashion", count=6, size=(16, 16))
    >>> arch = Architecture((Layer(2, 1.0, 2),), antialiasing=None)  # patches as large as the stride
    >>> ckn = CKN.fit(arch, x[:4], filters=(64,), generator=torch.Generator().manual_seed(0))
    >>> decoder = Decoder.fit(ckn, x[:4])
    >>> bool((decoder.errors(x[4:]) < 0.05).all())
    True
    """

    def __init__(self, representation: ExplicitRepresentation, layers: Sequence[LayerDecoder]) -> None:
        self.representation, self.layers = representation, tuple(layers)
        self.refinement = layers[0].operator.dilation

    @classmethod
    def fit(
        cls,
        representation: ExplicitRepresentation,
        images: Tensor,
        *,
        ridges: Sequence[float] = RIDGES,
        regularisations: Sequence[float] = REGULARISATIONS,
    ) -> "Decoder":
        """Decoders of all layers from training images.

        Args:
            representation: a finite network with an architecture: ``CKN``, ``RandomFeatures``, ``CNN``.
            images: ``(B, C, *size)``.
            ridges: to choose from, > 0, in units of the mean square of a feature.
            regularisations: to choose from, > 0.

        Raises:
            ValueError: for a representation that does not show its maps, or numbers that are not positive.
        """
        size = spatial_size(check_images(images))
        for name, numbers in (("ridges", ridges), ("regularisations", regularisations)):
            if not numbers or not all(0 < number < math.inf for number in numbers):
                raise ValueError(f"{name} must be positive numbers, got {tuple(numbers)}; use for example (1e-8, 1e-4)")
        if not isinstance(representation, ExplicitRepresentation) or representation.architecture is None:
            raise ValueError(
                f"representation must be a finite network with an architecture, got {type(representation).__name__}; "
                "use PreImage for exact kernels, invert for anything else"
            )
        images = images.detach().double()
        stages = [representation.stages(image) for image in images]
        shown = [each for each in stages if isinstance(each, ExplicitStages)]
        if len(shown) < len(stages):
            raise ValueError(
                f"representation must show its maps, got {type(representation).__name__} without stages; use invert"
            )
        architecture, fine = representation.architecture, shown[0].refinement
        features = torch.stack([each.pooled(architecture.depth, each.maps[-1]) for each in shown])
        found, device = [], images.device
        for k in range(architecture.depth, 0, -1):
            layer, spacing = architecture.layers[k - 1], architecture.spacings[k - 1]
            grid, scale = [n // spacing for n in size], layer.pooling_scale * fine / spacing
            operator = PooledPatches(
                grid, layer.patch_size, scale, layer.subsampling, fine, architecture.boundary, device
            )
            truth = torch.stack([each.smoothed(k, each.maps[k - 1]) for each in shown])
            decoder = _best(features, truth, operator, _matrices(shown, k, ridges), regularisations)
            found.append(decoder)
            features = decoder(features)
        sigma = (architecture.antialiasing or 0.0) * fine
        operator = PooledPatches(size, 1, sigma, 1, boundary=architecture.boundary, device=device)
        identity = [(0.0, torch.eye(features.shape[1], dtype=torch.float64, device=device), 0.0)]
        seen = front_end_output(architecture, images, len(size), fine)
        found.append(_best(features, seen, operator, identity, regularisations))
        return cls(representation, found)

    @property
    def conditions(self) -> tuple[float, ...]:
        """cond(T_n), ..., cond(T_1), cond(A_0); infinity where the patches are smaller than the stride."""
        return tuple(layer.operator.condition for layer in self.layers)

    def __call__(self, features: Tensor) -> Tensor:
        """x^ from raw features, ``(B, C, *size)`` for ``(B, m_n, *size')``; with a front end F, an estimate of F x."""
        found = features.detach().double()
        for layer in self.layers:
            found = layer(found)
        return found

    def recover(self, images: Tensor) -> Tensor:
        """x^ from Phi(x), ``(B, C, *size)``, float64."""
        with torch.no_grad():
            parts = check_images(images).to(self.representation.dtype).split(BATCH)
            return torch.cat([self(self.representation(part)) for part in parts])

    def errors(self, images: Tensor) -> Tensor:
        """||x^ - F x|| / ||F x||, ``(B,)``; NaN where F x = 0."""
        architecture, images = self.representation.architecture, images.detach().double()
        assert architecture is not None
        seen = front_end_output(architecture, images, len(spatial_size(images)), self.refinement)
        return relative(self.recover(images), seen)


def relative(found: Tensor, truth: Tensor) -> Tensor:
    """||x^ - x|| / ||x|| of every image, ``(B,)``; NaN where x = 0."""
    norm = truth.flatten(1).norm(dim=1)
    return torch.where(norm > 0, (found - truth).flatten(1).norm(dim=1) / norm, math.nan)


def _matrices(stages: Sequence[ExplicitStages], k: int, ridges: Sequence[float]) -> list[tuple[float, Tensor, float]]:
    """Ridge, D and its relative error on the patches, for every ridge; normal equations summed image by image."""
    gram = cross = energy = torch.zeros((), dtype=torch.float64, device=stages[0].maps[0].device)
    for each in stages:
        patches, mapped = each.entering(k, each.maps[k - 1]).flatten(1), each.maps[k].flatten(1)  # (p, N), (m, N)
        gram, cross = gram + mapped @ mapped.T, cross + patches @ mapped.T
        energy = energy + patches.square().sum()
    values, vectors = torch.linalg.eigh(gram)
    projected, unit, found = cross @ vectors, float(values.clamp_min(0.0).mean()), []
    for ridge in ridges:
        inverse = 1.0 / (values.clamp_min(0.0) + max(ridge * unit, torch.finfo(torch.float64).tiny))
        # sum |D psi - z|^2 = energy - 2 tr(D C^T) + tr(D G D^T)
        share = projected.square() * inverse * (2.0 - values * inverse)
        left = max(float(energy - share.sum()), 0.0)
        error = math.sqrt(left / float(energy)) if float(energy) else 0.0
        found.append((ridge, (projected * inverse) @ vectors.T, error))
    return found


def _best(
    features: Tensor,
    truth: Tensor,
    operator: PooledPatches,
    matrices: Sequence[tuple[float, Tensor, float]],
    regularisations: Sequence[float],
) -> LayerDecoder:
    """The decoder with the least squared error, summed over the images."""
    choices = [
        LayerDecoder(matrix, error, operator, ridge, regularisation)
        for ridge, matrix, error in matrices
        for regularisation in regularisations
    ]
    return min(choices, key=lambda choice: float((choice(features) - truth).square().sum()))
