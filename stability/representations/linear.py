r"""``LinearGram``: the linear kernel of the same architecture, the control that every CKN figure carries."""

import math

import torch
from torch import Tensor

from stability.architecture import Architecture
from stability.boundaries import Periodic
from stability.grid import check_images, spatial_size
from stability.kernels import Linear
from stability.operators.front_end import front_end_output
from stability.operators.patches import extract_patches
from stability.operators.pooling import pool, pooling_matrices
from stability.representations.base import KernelRepresentation, Reference, as_float64, paired
from stability.representations.stages import PairStages

BATCH = 8
"""Images whose features are held at once: with strides or a boundary of zeros there are e^(d depth) channels."""


class LinearReference(Reference):
    """x held fixed; a linear map needs nothing else."""

    def __init__(self, representation: "LinearGram", images: Tensor) -> None:
        self._representation, self._images = representation, images
        self.norm = representation.features(images).flatten(1).norm(dim=1)

    @property
    def floor(self) -> Tensor:
        """Ten times the machine's precision times ||x|| or, if larger, ||Phi(x)||, ``(B,)``."""
        norm_x = as_float64(self._images).flatten(1).norm(dim=1)
        return 10.0 * torch.finfo(torch.float64).eps * torch.maximum(self.norm, norm_x)

    def distance(self, others: Tensor) -> Tensor:
        """||Phi(x - y)||, ``(B,)`` or ``(B, ...)``."""
        d = self._representation.spatial_axes(self._images)
        extra = paired(self._images, check_images(others, d), d)
        images = self._images.view(-1, *(1,) * len(extra), *self._images.shape[1:])
        difference = images - as_float64(others)
        flat = difference.reshape(-1, *difference.shape[-d - 1 :])
        norms = [self._representation.features(part).flatten(1).norm(dim=1) for part in flat.split(BATCH)]
        return torch.cat(norms).view(-1, *extra)


class LinearGram(KernelRepresentation):
    r"""Phi_n = A_n P_n A_{n-1} ... P_1 A_0 F: every kernel map replaced by the identity, kappa(u) = u.

    Its distance is that of a linear filter, ||Phi (x - y)||: on the torus without subsampling exactly a Gaussian blur
    with variance sum_k sigma_k^2. How far a CKN is from it says how much the kernel does.

    Args:
        architecture: patches, scales and strides; its kernels are replaced by ``kernels.Linear()``.
        refinement: as in ``GramCKN``.

    >>> arch = Architecture.dyadic(depth=2, subsampling=1)
    >>> LinearGram(arch).norm(torch.ones(1, 1, 8, 8, dtype=torch.float64))
    tensor([8.], dtype=torch.float64)
    """

    architecture: Architecture

    def __init__(self, architecture: Architecture, refinement: int = 1) -> None:
        super().__init__()
        self.architecture = architecture.replace("layers.*.kernel", Linear())
        self.refinement = refinement

    @staticmethod
    def spatial_axes(images: Tensor) -> int:
        """d of a batch of images ``(B, C, *size)``."""
        return len(spatial_size(images))

    def features(self, images: Tensor) -> Tensor:
        """sqrt(cell area) Phi(x), ``(B, K, *size')``, so that plain norms are L2 norms.

        Args:
            images: ``(B, C, *size)``, float64.
        """
        d, boundary = self.spatial_axes(images), self.architecture.boundary
        device, fine = images.device, self.refinement
        size, sigma = images.shape[-d:], (self.architecture.antialiasing or 0.0) * fine
        maps = front_end_output(self.architecture, images, d, fine)
        maps = pool(maps, pooling_matrices(size, sigma, boundary=boundary, device=device))
        # on a torus without subsampling the shifts of a patch do not change a norm
        stacked = self.architecture.spacings[-1] > 1 or not isinstance(boundary, Periodic)
        for layer, spacing in zip(self.architecture.layers, self.architecture.spacings, strict=False):
            if stacked:
                maps = extract_patches(maps, layer.patch_size, d, fine, boundary)
            sigma = layer.pooling_scale * fine / spacing
            maps = pool(maps, pooling_matrices(maps.shape[-d:], sigma, layer.subsampling, boundary, device=device))
        cell_area = math.prod(size) / math.prod(maps.shape[-d:]) / fine**d
        return maps * math.sqrt(cell_area)

    def refined(self, factor: int) -> "LinearGram":
        """The same filters on grids ``factor`` times as fine."""
        return LinearGram(self.architecture, self.refinement * factor)

    def stages(self, image: Tensor) -> PairStages:
        """z_0, ..., z_n in coordinates."""
        return PairStages(self.architecture, self.refinement, image)

    def reference(self, images: Tensor) -> LinearReference:
        """The images themselves and ||Phi(x)||."""
        return LinearReference(self, self._checked(images))

    def kernel_matrix(self, images: Tensor, others: Tensor | None = None) -> Tensor:
        """<Phi(x_i), Phi(y_j)>, ``(Bx, By)``."""
        left = self.features(self._checked(images)).flatten(1)
        right = left if others is None else self.features(self._checked(others)).flatten(1)
        return left @ right.T

    def distance_matrices(self, images: Tensor) -> Tensor:
        """||Phi(x_i) - Phi(x_j)|| from the features, without the cancellation of a Gram matrix, ``(1, B, B)``."""
        rows = self.features(self._checked(images)).flatten(1)
        return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")[None]

    def _checked(self, images: Tensor) -> Tensor:
        size = spatial_size(check_images(images))
        self.architecture.check_size(tuple(n // self.refinement for n in size))
        return as_float64(images)
