r"""``PairPlan``: the layers of an architecture on one grid, and what a kernel K(x, y) needs of each image alone.

Signals (d = 1) are images with one row; the axes then have patches and pooling of their own. With truncated poolings
signals are images with one column: only what is pooled along columns is truncated.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.architecture import Architecture
from stability.boundaries import NetworkBoundary, Periodic
from stability.kernels import Kernel
from stability.operators.front_end import front_end_output
from stability.operators.patches import patch_offsets, shifted
from stability.operators.pooling import pool, pooling_matrices
from stability.operators.truncation import truncated_pooling_matrix

GATHERED_ENTRIES = 2**18
"""Up to this many pairs a Gram is extended beyond its border by one gather; beyond, by copies of its sides."""
ROWS_OF_A_PRODUCT = 4
"""Products of thin matrices with 14 rows take longer than with 16: their cores work on this many rows at a time."""
SMALLEST_NORM = 1e-290
"""Patches of at most this norm have no direction and count as zero."""
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
    pairs_read: Tensor | None  # indices of all pairs (u + c, v + c') that patches read, if few, on the torus
    filled: tuple[Tensor, Tensor]  # pooling with rows of zeros, up to a multiple of ROWS_OF_A_PRODUCT

    @property
    def size(self) -> tuple[int, int]:
        """The grid on which this layer's patches live."""
        return self.pooling[0].shape[1], self.pooling[1].shape[1]

    @property
    def pooled_count(self) -> int:
        """N', number of positions after pooling and subsampling."""
        return self.pooling[0].shape[0] * self.pooling[1].shape[0]

    @property
    def shifts(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Patch positions counted from the first row and column of what the layer below hands on."""
        down, right = (tuple(c - min(along) for c in along) for along in self.offsets)
        return down, right

    @property
    def extended_size(self) -> tuple[int, int]:
        """The grid of all positions that patches read, wrapped or beyond the border."""
        (h, w), (down, right) = self.size, self.shifts
        return h + max(down), w + max(right)

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
        radii: of the taps that every layer's pooling keeps along the first axis, on the torus; None: all of them.
    """

    def __init__(
        self,
        architecture: Architecture,
        size: tuple[int, ...],
        refinement: int,
        device: torch.device,
        dtype: torch.dtype = torch.float64,
        radii: Sequence[int] | None = None,
    ) -> None:
        self.radii = None if radii is None else tuple(radii)
        self.architecture, self.d, self.refinement, self.device = architecture, len(size), refinement, device
        self.dtype, self.smallest_norm = dtype, SMALLEST_NORM if dtype == torch.float64 else SMALLEST_SINGLE_NORM
        upright = radii is not None and self.d == 1  # a signal along the rows
        grid = (size[0], 1) if upright else (1,) * (2 - self.d) + tuple(size)
        sigma = (architecture.antialiasing or 0.0) * refinement
        boundary = architecture.boundary
        self.antialiasing = _two_axes(pooling_matrices(size, sigma, boundary=boundary, device=device), upright)
        layers: list[LayerPlan] = []
        for k, (layer, spacing) in enumerate(zip(architecture.layers, architecture.spacings, strict=False)):
            sigma = layer.pooling_scale * refinement / spacing
            sides = grid[: self.d] if upright else grid[2 - self.d :]
            matrices = pooling_matrices(sides, sigma, layer.subsampling, boundary, device=device)
            if radii is not None:
                first = truncated_pooling_matrix(sides[0], sigma, layer.subsampling, radii[k], device=device)
                matrices = (first, *matrices[1:])
            pooling, is_last = _two_axes(matrices, upright, dtype), k == architecture.depth - 1
            offsets = tuple(c * refinement for c in patch_offsets(layer.patch_size))
            both = (offsets, (0,)) if upright else (offsets if self.d == 2 else (0,), offsets)
            read = _pairs_read((grid[0], grid[1]), both) if k and isinstance(boundary, Periodic) else None
            read = read.to(device) if read is not None else None
            filled = _filled(pooling[0]), _filled(pooling[1])
            layers.append(LayerPlan(layer.kernel, both, pooling, boundary, is_last, read, filled))
            grid = (len(pooling[0]), len(pooling[1]))
        self.layers = tuple(layers)
        self.cell_area = math.prod(size) / math.prod(grid) / refinement**self.d
        rows, columns = (a.T @ a for a in self.layers[-1].pooling)  # in single precision they lose no more than A does
        self.trace_weights = rows, columns  # (h, h), (w, w)
        self.trace_weights_along_x = columns.repeat(1, len(rows))  # (w, h w): columns(u, v) under every image row of v

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
            images = images.unsqueeze(-2 if self.radii is None else -1)  # (B, C, 1, N) or (B, C, N, 1)
        images = pool(images, self.antialiasing)
        layer = self.layers[0]
        copies = [shifted(images, (a, b), layer.boundary) for a in layer.offsets[0] for b in layer.offsets[1]]
        patches = torch.stack(copies, dim=-1).div(math.sqrt(layer.patch_positions))  # (B, C, H, W, e^d)
        return patches.movedim(1, -1).flatten(-2).flatten(1, 2)  # (B, N, e^d C)


def _two_axes(matrices: tuple[Tensor, ...], upright: bool, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Matrices for (rows, columns); a signal has one row, or, upright, one column."""
    one = torch.ones(1, 1, dtype=torch.float64, device=matrices[0].device)
    rows, columns = (*matrices, one) if upright else ((one, *matrices) if len(matrices) == 1 else matrices)
    return rows.to(dtype), columns.to(dtype)


def _filled(matrix: Tensor) -> Tensor:
    """The matrix with rows of zeros below."""
    return torch.nn.functional.pad(matrix, (0, 0, 0, -len(matrix) % ROWS_OF_A_PRODUCT))


def _pairs_read(size: tuple[int, int], offsets: tuple[tuple[int, ...], tuple[int, ...]]) -> Tensor | None:
    """Flat indices u N + v of all pairs of positions u + c and v + c' on the torus; None if they are many."""
    y, x = (torch.arange(min(along), n + max(along)) % n for n, along in zip(size, offsets, strict=True))
    positions = (size[1] * y[:, None] + x).flatten()
    if len(positions) ** 2 > GATHERED_ENTRIES:
        return None
    return (math.prod(size) * positions[:, None] + positions).flatten()
