r"""``PairPlan``: the layers of an architecture on one grid, and what a kernel K(x, y) needs of each image alone.

Signals (d = 1) are images with one row; the axes then have patches and pooling of their own.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.architecture import Architecture
from stability.boundaries import NetworkBoundary
from stability.kernels import Kernel
from stability.operators.front_end import front_end_output
from stability.operators.patches import patch_offsets, shifted
from stability.operators.pooling import pool, pooling_matrices

DENSE_WEIGHT_ENTRIES = 2**21
"""Up to this many pairs the weights A^T A of the last pooling are one dense matrix."""
SMALLEST_NORM = 1e-290
"""Stands for the norm of a zero patch: products with it underflow to zero, and its logarithm is finite."""
SMALLEST_SINGLE_NORM = 1e-30
"""The same in single precision."""


@dataclass(frozen=True)
class LayerPlan:
    """One layer on its own grid."""

    kernel: Kernel
    offsets: tuple[tuple[int, ...], tuple[int, ...]]  # patch positions along (rows, columns)
    pooling: tuple[Tensor, Tensor]  # (h', h), (w', w)
    boundary: NetworkBoundary
    is_last: bool

    @property
    def size(self) -> tuple[int, int]:
        """The grid on which this layer's patches live."""
        return self.pooling[0].shape[1], self.pooling[1].shape[1]

    @property
    def pooled_count(self) -> int:
        """N', number of positions after pooling and subsampling."""
        return self.pooling[0].shape[0] * self.pooling[1].shape[0]

    @property
    def patch_positions(self) -> int:
        """Number of positions in a patch."""
        return len(self.offsets[0]) * len(self.offsets[1])


@dataclass
class ImageState:
    """What belongs to one image alone: unit patches of layer 1, patch norms of every layer, ||Phi(x)||^2."""

    patches: Tensor  # (N, p), unit rows (zero rows for zero patches)
    norms: list[Tensor]  # layer k: (N_k,)
    squared_norm: float = math.nan


class PairPlan:
    """The layers of an architecture on a grid.

    Args:
        architecture: depth, patches, kernels, scales.
        size: ``(N,)`` or ``(H, W)``.
        refinement: r >= 1; the size is that of a grid r times as fine as the architecture's pixels (scales and patch
            spacings are multiplied by r, the strides stay, so every grid of the network is r times as fine).
        device: where the tensors live.
        dtype: of the kernel's arithmetic, float64 or float32; first-layer patches are found in float64 all the same.
    """

    def __init__(
        self,
        architecture: Architecture,
        size: tuple[int, ...],
        refinement: int,
        device: torch.device,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self.architecture, self.d, self.refinement, self.device = architecture, len(size), refinement, device
        self.dtype, self.smallest_norm = dtype, SMALLEST_NORM if dtype == torch.float64 else SMALLEST_SINGLE_NORM
        grid = (1,) * (2 - self.d) + tuple(size)
        sigma = (architecture.antialiasing or 0.0) * refinement
        boundary = architecture.boundary
        self.antialiasing = _two_axes(pooling_matrices(size, sigma, boundary=boundary, device=device))
        layers: list[LayerPlan] = []
        for k, (layer, spacing) in enumerate(zip(architecture.layers, architecture.spacings, strict=False)):
            offsets = tuple(c * refinement for c in patch_offsets(layer.patch_size))
            sigma = layer.pooling_scale * refinement / spacing
            stride = layer.subsampling
            layers.append(
                LayerPlan(
                    kernel=layer.kernel,
                    offsets=(offsets if self.d == 2 else (0,), offsets),
                    pooling=_two_axes(
                        pooling_matrices(grid[2 - self.d :], sigma, stride, boundary, device=device), dtype
                    ),
                    boundary=boundary,
                    is_last=k == architecture.depth - 1,
                )
            )
            grid = (layers[-1].pooling[0].shape[0], layers[-1].pooling[1].shape[0])
        self.layers = tuple(layers)
        self.cell_area = math.prod(size) / math.prod(grid) / refinement**self.d
        rows, columns = (a.T @ a for a in self.layers[-1].pooling)  # in single precision they lose no more than A does
        self.trace_weights = rows, columns  # (h, h), (w, w)
        n = rows.shape[0] * columns.shape[0]
        self.dense_weights = torch.kron(rows, columns) if n * n <= DENSE_WEIGHT_ENTRIES else None  # (n, n)

    def prepare(self, images: Tensor) -> list[ImageState]:
        """First-layer patches of each image.

        Args:
            images: ``(B, C, *size)``, float64.
        """
        patches = self.patches(images)
        norms = patches.square().sum(-1).sqrt()  # (B, N)
        unit = (patches / norms.clamp_min(SMALLEST_NORM)[..., None]).to(self.dtype)
        return [ImageState(p, [n]) for p, n in zip(unit, norms.to(self.dtype), strict=True)]

    def patches(self, images: Tensor) -> Tensor:
        """P_1 A_0 F x, ``(B, N, e^d C)``; differentiable.

        Args:
            images: ``(B, C, *size)``, float64.
        """
        images = front_end_output(self.architecture, images, self.d, self.refinement)
        if self.d == 1:
            images = images.unsqueeze(-2)  # (B, C, 1, N)
        images = pool(images, self.antialiasing)
        layer = self.layers[0]
        copies = [shifted(images, (a, b), layer.boundary) for a in layer.offsets[0] for b in layer.offsets[1]]
        patches = torch.stack(copies, dim=-1).div(math.sqrt(layer.patch_positions))  # (B, C, H, W, e^d)
        return patches.movedim(1, -1).flatten(-2).flatten(1, 2)  # (B, N, e^d C)


def _two_axes(matrices: tuple[Tensor, ...], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Matrices for (rows, columns); a signal has one row."""
    one = torch.ones(1, 1, dtype=torch.float64, device=matrices[0].device)
    rows, columns = (one, matrices[0]) if len(matrices) == 1 else (matrices[0], matrices[1])
    return rows.to(dtype), columns.to(dtype)
