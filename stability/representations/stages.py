r"""``Stages``: what the layers of a network make of one image, z_0 = x and z_k = M_k P_k A_{k-1} z_{k-1}, as maps.

The theorem speaks of these maps: of how far a deformation commutes with pooling and patches on them, and of the
energy that a pooling removes from them. Those of a finite network are its features. Those of an exact kernel live in
an infinite-dimensional space; N of its vectors span at most N dimensions, in which ``PairStages`` gives coordinates.
"""

import abc
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from stability.architecture import Architecture
from stability.boundaries import PERIODIC, NetworkBoundary
from stability.kernels import Kernel
from stability.operators.patches import extract_patches
from stability.operators.pooling import pool, pooling_matrices
from stability.representations.maps import low_passed, pooled

KEPT = 1e-15
"""Share of the largest eigenvalue of a Gram matrix below which its eigenvalues are round-off."""
FEW = 64
"""Maps with at most so many channels are not worth rotating."""


class Stages(abc.ABC):
    """z_0, ..., z_n of one image.

    Args:
        architecture: pooling, patches, strides.
        refinement: the grids are so many times as fine as the architecture's pixels.
        maps: z_0, ..., z_n, ``(K_k, *size_k)`` each, float64; z_0 is the image.
        lost: how far the maps are from the true ones, in the norm, in the unit of ||x||.
    """

    def __init__(
        self, architecture: Architecture, refinement: int, maps: tuple[Tensor, ...], lost: tuple[float, ...]
    ) -> None:
        self.architecture, self.refinement, self.maps, self.lost = architecture, refinement, maps, lost

    @property
    def d(self) -> int:
        """Number of spatial axes."""
        return self.maps[0].ndim - 1

    def cell(self, k: int) -> float:
        """Area of a cell of the grid of z_k in pixels of the architecture."""
        return (self.spacing(k) / self.refinement) ** self.d

    def spacing(self, k: int) -> int:
        """Of the grid of z_k, in pixels of the image's own grid; k = n + 1: of the grid of the output."""
        return self.architecture.spacings[max(k - 1, 0)]

    def entering(self, k: int, maps: Tensor) -> Tensor:
        """P_k A_{k-1} z with the stride of A_{k-1}, k = 1 ... n, ``(K e^d, *size_k)`` (k = 1: P_1 A_0 F z)."""
        return entering(self.architecture, k, maps, self.refinement)

    def smoothed(self, k: int, maps: Tensor) -> Tensor:
        """A_{k-1} z with its stride, k = 1 ... n (k = 1: A_0 F z), ``(K, *size_k)``."""
        return smoothed(self.architecture, k, maps, self.refinement)

    def patches(self, k: int, maps: Tensor) -> Tensor:
        """P_k y, ``(K e^d, *size_k)``."""
        layer, boundary = self.architecture.layers[k - 1], self.architecture.boundary
        return extract_patches(maps, layer.patch_size, self.d, self.refinement, boundary)

    def pooled(self, k: int, maps: Tensor) -> Tensor:
        """A_k z with its stride, k = 1 ... n."""
        return pooled(self.architecture, k - 1, maps[None], self.d, self.refinement)[0]

    @abc.abstractmethod
    def defect(self, k: int, warp: Tensor) -> float:
        """||A_k (M_k W y - W M_k y)|| with y = P_k A_{k-1} z_{k-1}: how far W and the kernel map do not commute.

        Args:
            k: the layer, 1 ... n.
            warp: W on the grid of z_k, ``(N, N)``.

        Returns:
            The norm, in the unit of ||x||.
        """


class ExplicitStages(Stages):
    """Those of a finite network.

    Args:
        layer_maps: M_1, ..., M_n, each on patches ``(p, N)``.
    """

    def __init__(
        self,
        architecture: Architecture,
        refinement: int,
        image: Tensor,
        layer_maps: Sequence[Callable[[Tensor], Tensor]],
    ) -> None:
        maps = [image.double()]
        for k, layer_map in enumerate(layer_maps, start=1):
            patches = entering(architecture, k, maps[-1], refinement)
            maps.append(layer_map(patches.flatten(1)).unflatten(1, patches.shape[1:]))
        super().__init__(architecture, refinement, tuple(maps), (0.0,) * len(maps))
        self._layer_maps = layer_maps

    @property
    def layer_maps(self) -> tuple[Callable[[Tensor], Tensor], ...]:
        """M_1, ..., M_n."""
        return tuple(self._layer_maps)

    def defect(self, k: int, warp: Tensor) -> float:
        """||A_k (M_k W y - W M_k y)||."""
        patches = self.entering(k, self.maps[k - 1])
        difference = self._layer_maps[k - 1](patches.flatten(1) @ warp.T) - self.maps[k].flatten(1) @ warp.T
        reduced = self.pooled(k, difference.unflatten(1, patches.shape[1:]))
        return float(reduced.norm()) * math.sqrt(self.cell(k + 1))


class PairStages(Stages):
    r"""Those of an exact kernel, in coordinates: z_k(u)^T z_k(v) = K_k(u, v), from an eigenvalue decomposition.

    Eigenvalues below 1e-15 of the largest are round-off and dropped; ``lost`` is the root of what they add up to.
    """

    def __init__(self, architecture: Architecture, refinement: int, image: Tensor) -> None:
        maps, grams, lost = [image.double()], [], [0.0]
        for k, layer in enumerate(architecture.layers, start=1):
            smooth = smoothed(architecture, k, maps[-1], refinement)
            flat = smooth.flatten(1)
            gram = _patch_gram(flat.T @ flat, smooth.shape[1:], layer.patch_size, refinement, architecture.boundary)
            grams.append(gram)
            norms = gram.diagonal().clamp_min(0.0).sqrt()
            coordinates, dropped = _coordinates(homogeneous(layer.kernel, gram, norms, norms))
            maps.append(coordinates.unflatten(1, smooth.shape[1:]))
            cell = (architecture.spacings[k - 1] / refinement) ** (image.ndim - 1)
            lost.append(math.sqrt(dropped * cell))
        super().__init__(architecture, refinement, tuple(maps), tuple(lost))
        self._grams = grams

    def defect(self, k: int, warp: Tensor) -> float:
        """||A_k (M_k W y - W M_k y)||, by the kernel of M_k."""
        kernel, gram = self.architecture.layers[k - 1].kernel, self._grams[k - 1]
        cross = warp @ gram  # <W y(u), y(v)>
        moved = cross @ warp.T
        norms, still = moved.diagonal().clamp_min(0.0).sqrt(), gram.diagonal().clamp_min(0.0).sqrt()
        mixed = homogeneous(kernel, cross, norms, still) @ warp.T
        mapped = warp @ homogeneous(kernel, gram, still, still) @ warp.T
        difference = homogeneous(kernel, moved, norms, norms) - mixed - mixed.T + mapped  # (N, N)
        size = self.maps[k].shape[1:]
        layer, spacing = self.architecture.layers[k - 1], self.architecture.spacings[k - 1]
        sigma = layer.pooling_scale * self.refinement / spacing
        matrices = pooling_matrices(size, sigma, layer.subsampling, self.architecture.boundary, device=warp.device)
        once = pool(difference.unflatten(1, size), matrices).flatten(1)  # (N, N')
        twice = pool(once.T.unflatten(1, size), matrices).flatten(1)  # (N', N')
        return math.sqrt(max(float(twice.diagonal().sum()), 0.0) * self.cell(k + 1))


def smoothed(architecture: Architecture, k: int, maps: Tensor, refinement: int = 1) -> Tensor:
    """A_{k-1} z with its stride for z = z_{k-1} ``(K, *size_{k-1})``; A_0 F z for k = 1."""
    if k == 1:
        return low_passed(architecture, maps[None], refinement)[0]
    return pooled(architecture, k - 2, maps[None], maps.ndim - 1, refinement)[0]


def entering(architecture: Architecture, k: int, maps: Tensor, refinement: int = 1) -> Tensor:
    """P_k A_{k-1} z with the stride of A_{k-1}, ``(K e^d, *size_k)`` for z = z_{k-1} ``(K, *size_{k-1})``."""
    smooth = smoothed(architecture, k, maps, refinement)
    layer = architecture.layers[k - 1]
    return extract_patches(smooth, layer.patch_size, maps.ndim - 1, refinement, architecture.boundary)


def _patch_gram(
    gram: Tensor, size: torch.Size, patch_size: int, dilation: int, boundary: NetworkBoundary = PERIODIC
) -> Tensor:
    """<P y(u), P y(v)> = the mean over offsets c of <y(u + c), y(v + c)>, ``(N, N)``; y = 0 beyond zeros."""
    d, count = len(size), gram.shape[0]
    gram = torch.nn.functional.pad(gram, (1, 0, 1, 0))  # place 0: beyond the border
    places = torch.arange(1, count + 1, dtype=torch.float64, device=gram.device).view(1, *size)
    own = extract_patches(places, patch_size, d, dilation, boundary).flatten(1) * math.sqrt(patch_size**d)
    total = gram.new_zeros(count, count)
    for there in own.round().long():
        total += gram[there][:, there]
    return total / patch_size**d


def homogeneous(kernel: Kernel, gram: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """|z| |z'| kappa(<z, z'> / (|z| |z'|)) for all pairs; 0 where a norm is.

    Args:
        kernel: kappa.
        gram: <z, z'>, ``(N, N')``.
        left: |z|, ``(N,)``.
        right: |z'|, ``(N',)``.
    """
    scale = left[:, None] * right
    cosine = (gram / scale.clamp_min(torch.finfo(gram.dtype).tiny)).clamp_(-1.0, 1.0)
    if gram.shape[0] == gram.shape[1] and left is right:
        cosine.fill_diagonal_(1.0)
    return kernel(cosine) * scale


def _coordinates(gram: Tensor) -> tuple[Tensor, float]:
    """Z ``(r, N)`` with Z^T Z = the Gram matrix but for eigenvalues that are round-off, and the sum of their moduli."""
    values, vectors = torch.linalg.eigh((gram + gram.T) / 2)
    kept = values > KEPT * values[-1].clamp_min(torch.finfo(gram.dtype).tiny)
    kept[-1] = True  # of a zero image, a zero map
    return (vectors[:, kept] * values[kept].clamp_min(0.0).sqrt()).T.contiguous(), float(values[~kept].abs().sum())


def compressed(maps: Sequence[Tensor]) -> tuple[list[Tensor], float]:
    """The same maps in fewer coordinates: rotated, and what is then round-off left out.

    Args:
        maps: ``(K, *size)`` each, the same K; norms and inner products among them are kept.

    Returns:
        The maps ``(K', *size)`` and the norm of what was left out of all together.
    """
    if maps[0].shape[0] <= FEW:
        return list(maps), 0.0
    flat = torch.cat([part.flatten(1) for part in maps], dim=1)  # (K, N + ...)
    values, vectors = torch.linalg.eigh(flat @ flat.T)
    kept = values > KEPT * values[-1].clamp_min(torch.finfo(flat.dtype).tiny)
    rotation = vectors[:, kept]  # (K, K')
    left_out = (vectors[:, ~kept].T @ flat).norm()
    return [(rotation.T @ part.flatten(1)).unflatten(1, part.shape[1:]) for part in maps], float(left_out)
