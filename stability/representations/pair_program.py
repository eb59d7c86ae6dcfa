r"""K(x, y) over all pairs of positions, streamed by rows: the arithmetic of an exact CKN.

For two images with patches P(u), Q(v) the first layer's Gram is K(u, v) = |P(u)| |Q(v)| kappa(cos). Pooling acts on
both arguments, the next layer's patches average G(u + c, v + c), and the last pooling is a trace,
sum_u (A K A^T)(u, u) = sum_{u,v} (A^T A)(u, v) K(u, v), so that it never has to be formed.

Signals (d = 1) are images with one row; the axes then have patches and pooling of their own.
"""

import math
import threading
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.architecture import Architecture
from stability.kernels import Kernel
from stability.operators.exponential import exponential_
from stability.operators.patches import patch_offsets
from stability.operators.pooling import pool, pooling_matrices

BLOCK_ENTRIES = 2**20
"""Pair entries of layer 1 held at a time: 8 MB in float64, about a core's share of cache."""
COPIED_ENTRIES = 2**17
"""Up to this many pairs a shifted copy costs less than the calls that avoid it."""
SELF_BLOCKS = 4
"""K(x, x) is symmetric: in b blocks of rows only (1 + 1 / b) / 2 of it is computed."""
DENSE_WEIGHT_ENTRIES = 2**21
"""Up to this many pairs the weights A^T A of the last pooling are one dense matrix."""
SMALLEST_NORM = 1e-290
"""Stands for the norm of a zero patch: products with it underflow to zero, and its logarithm is finite."""


@dataclass(frozen=True)
class LayerPlan:
    """One layer on its own grid."""

    kernel: Kernel
    offsets: tuple[tuple[int, ...], tuple[int, ...]]  # patch positions along (rows, columns)
    pooling: tuple[Tensor, Tensor]  # (h', h), (w', w)
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


class PairProgram:
    """The layers of an architecture on a grid, ready to evaluate K(x, y) pair by pair in float64.

    Args:
        architecture: depth, patches, kernels, scales.
        size: ``(N,)`` or ``(H, W)``.
        refinement: r >= 1; the size is that of a grid r times as fine as the architecture's pixels (scales and patch
            spacings are multiplied by r, the strides stay, so every grid of the network is r times as fine).
        device: where the tensors live.
    """

    def __init__(
        self, architecture: Architecture, size: tuple[int, ...], refinement: int, device: torch.device
    ) -> None:
        self.architecture, self.d, self.refinement, self.device = architecture, len(size), refinement, device
        self._memory: dict[tuple[int, str], Tensor] = {}
        grid = (1,) * (2 - self.d) + tuple(size)
        sigma = (architecture.antialiasing or 0.0) * refinement
        self.antialiasing = _two_axes(pooling_matrices(size, sigma, device=device))
        layers: list[LayerPlan] = []
        for k, (layer, spacing) in enumerate(zip(architecture.layers, architecture.spacings, strict=False)):
            offsets = tuple(c * refinement for c in patch_offsets(layer.patch_size))
            sigma = layer.pooling_scale * refinement / spacing
            stride = layer.subsampling
            layers.append(
                LayerPlan(
                    kernel=layer.kernel,
                    offsets=(offsets if self.d == 2 else (0,), offsets),
                    pooling=_two_axes(pooling_matrices(grid[2 - self.d :], sigma, stride, device=device)),
                    is_last=k == architecture.depth - 1,
                )
            )
            grid = (layers[-1].pooling[0].shape[0], layers[-1].pooling[1].shape[0])
        self.layers = tuple(layers)
        self.cell_area = math.prod(size) / math.prod(grid) / refinement**self.d
        rows, columns = (a.T @ a for a in self.layers[-1].pooling)
        self.trace_weights = rows, columns  # (h, h), (w, w)
        n = rows.shape[0] * columns.shape[0]
        self.dense_weights = torch.kron(rows, columns) if n * n <= DENSE_WEIGHT_ENTRIES else None  # (n, n)

    def prepare(self, images: Tensor) -> list[ImageState]:
        """First-layer patches of each image.

        Args:
            images: ``(B, C, *size)``, float64.
        """
        if self.architecture.front_end is not None:
            images = self.architecture.front_end.apply(images, self.d)
        if self.d == 1:
            images = images.unsqueeze(-2)  # (B, C, 1, N)
        images = pool(images, self.antialiasing)
        layer = self.layers[0]
        shifted = [images.roll((-a, -b), (-2, -1)) for a in layer.offsets[0] for b in layer.offsets[1]]
        patches = torch.stack(shifted, dim=-1).div_(math.sqrt(layer.patch_positions))  # (B, C, H, W, e^d)
        patches = patches.movedim(1, -1).flatten(-2).flatten(1, 2)  # (B, N, e^d C)
        norms = patches.square().sum(-1).sqrt()  # (B, N)
        unit = patches / norms.clamp_min(SMALLEST_NORM)[..., None]
        return [ImageState(p, [n]) for p, n in zip(unit, norms, strict=True)]

    def complete(self, state: ImageState) -> ImageState:
        """Fill in the patch norms of the upper layers and ||Phi(x)||^2, from K(x, x)."""
        state.squared_norm = self._evaluate(state, state)
        return state

    def kernel(self, left: ImageState, right: ImageState) -> float:
        """K(x, y) of two completed states."""
        return self._evaluate(left, right)

    def _evaluate(self, left: ImageState, right: ImageState) -> float:
        gram = self._first_layer(left, right)
        for k, layer in enumerate(self.layers[1:], start=1):
            gram = self._sum_over_patch(layer, gram)  # (N_k, N_k)
            if left is right:
                left.norms[k:] = [gram.diagonal().div(layer.patch_positions).clamp_min_(0.0).sqrt_()]
            self._apply_kernel(layer, gram, left.norms[k], right.norms[k], left is right)
            gram = self._trace(gram) if layer.is_last else self._pool(layer, gram)
        return float(gram) * self.cell_area

    def _first_layer(self, left: ImageState, right: ImageState) -> Tensor:
        """A K A^T of layer 1, or its trace if it is the last; K(v, u) in blocks of rows of v."""
        layer = self.layers[0]
        (h, w), n = layer.size, left.patches.shape[0]
        a, b = self._factors(layer.kernel, right, left)
        is_self = left is right
        rows = max(1, min(-(-h // SELF_BLOCKS) if is_self else h, BLOCK_ENTRIES // (w * n)))
        pooled = None if layer.is_last else self._buffer("rows", (layer.pooled_count, n))
        total = a.new_zeros(())
        for start in range(0, h, rows):
            stop = min(start + rows, h)
            part = slice(start * w, stop * w)
            first = start * w if is_self else 0  # K(x, x) is symmetric: left of the diagonal block nothing is computed
            block = torch.mm(a[part], b[first:].T, out=self._buffer("pairs", ((stop - start) * w, n - first)))
            if layer.kernel.exponent is not None:
                exponential_(block)
            else:
                if is_self:
                    block.diagonal().fill_(1.0)  # the cosine of a patch with itself
                layer.kernel.evaluate_(block)
                block.mul_(right.norms[0][part, None]).mul_(left.norms[0][first:])
            if is_self:
                block[:, : block.shape[0]].mul_(0.5)  # K = S + S^T with half of the diagonal blocks in S
            if pooled is None:
                total += self._trace(block, start, first)
            else:
                self._pool_rows(layer, block, pooled, start, first)
        if pooled is None:
            return 2.0 * total if is_self else total
        gram = self._pool_columns(layer, pooled)
        return gram.add_(gram.T.clone()) if is_self else gram

    @staticmethod
    def _factors(kernel: Kernel, left: ImageState, right: ImageState) -> tuple[Tensor, Tensor]:
        """Matrices whose product holds the cosines; for an exponential kernel its whole exponent.

        [alpha P/|P|, log|P| - alpha, 1] . [Q/|Q|, 1, log|Q|] = alpha (cos - 1) + log|P| + log|Q|: one GEMM and one
        exponential give |P| |Q| kappa(cos).
        """
        alpha = kernel.exponent
        if alpha is None:
            return left.patches, right.patches
        logs = [state.norms[0].clamp_min(SMALLEST_NORM).log()[:, None] for state in (left, right)]
        one = torch.ones_like(logs[0])
        return torch.cat([alpha * left.patches, logs[0] - alpha, one], 1), torch.cat([right.patches, one, logs[1]], 1)

    def _pool(self, layer: LayerPlan, gram: Tensor) -> Tensor:
        """A K A^T for K(u, v) ``(N, N)``; returns the same orientation, ``(N', N')``."""
        pooled = self._buffer("rows", (layer.pooled_count, gram.shape[1]))
        self._pool_rows(layer, gram.T, pooled)
        return self._pool_columns(layer, pooled)

    def _pool_rows(self, layer: LayerPlan, block: Tensor, pooled: Tensor, start: int = 0, first: int = 0) -> None:
        """pooled += A[:, block] K[block, first:], the x axis first; a transposed block costs no copy."""
        (_, w), (rows, columns) = layer.size, layer.pooling
        count, n = block.shape[0] // w, pooled.shape[1]
        along_x = self._buffer("along_x", (count, columns.shape[0], n))
        along_x[:, :, :first].zero_()
        torch.bmm(columns.expand(count, -1, -1), block.unflatten(0, (count, w)), out=along_x[:, :, first:])
        flat, part = pooled.view(rows.shape[0], -1), rows[:, start : start + count]
        if start == 0:
            torch.mm(part, along_x.view(count, -1), out=flat)
        else:
            flat.addmm_(part, along_x.view(count, -1))

    def _pool_columns(self, layer: LayerPlan, pooled: Tensor) -> Tensor:
        """(A K) A^T as A (A K)^T: from K(v, u) with pooled rows to G(u', v'), ``(N', N')``."""
        result = self._buffer("pooled", (layer.pooled_count, layer.pooled_count))
        self._pool_rows(layer, pooled.T, result)
        return result

    def _sum_over_patch(self, layer: LayerPlan, gram: Tensor) -> Tensor:
        """sum_c G(u + c, v + c) over the patch, one axis after the other; ``(N, N)``."""
        h, w = layer.size
        gram = gram.view(h, w, h, w)
        for name, axes, offsets in zip(("patch_y", "patch_x"), ((0, 2), (1, 3)), layer.offsets, strict=True):
            if len(offsets) > 1:
                total = self._buffer(name, (h, w, h, w))
                for i, c in enumerate(offsets):
                    if gram.numel() > COPIED_ENTRIES:
                        _add_shifted(total, gram, c, axes, overwrite=i == 0)
                    elif i == 0:
                        total.copy_(gram.roll((-c, -c), axes))
                    else:
                        total.add_(gram.roll((-c, -c), axes))
                gram = total
        return gram.view(h * w, h * w)

    @staticmethod
    def _apply_kernel(layer: LayerPlan, gram: Tensor, left: Tensor, right: Tensor, is_self: bool) -> None:
        """|z| |z'| kappa(cos), in place, from inner products summed over the patch ``(N, N)`` and norms ``(N,)``."""
        inverse_left, inverse_right = (
            torch.where(norm > SMALLEST_NORM, 1.0 / norm.clamp_min(SMALLEST_NORM), 0.0) for norm in (left, right)
        )
        gram.mul_((inverse_left / layer.patch_positions)[:, None]).mul_(inverse_right)
        if is_self:
            gram.diagonal().fill_(1.0)
        alpha = layer.kernel.exponent
        if alpha is None:
            layer.kernel.evaluate_(gram)
        else:
            exponential_(gram.sub_(1.0).mul_(alpha))
        gram.mul_(left[:, None]).mul_(right)

    def _trace(self, block: Tensor, start: int = 0, first: int = 0) -> Tensor:
        """sum (A^T A)(u, v) K(u, v) over the block of rows u from image row ``start`` and of columns v >= ``first``."""
        rows, columns = self.trace_weights
        w = self.layers[-1].size[1]
        if self.dense_weights is not None:
            weights = self.dense_weights[start * w : start * w + block.shape[0], first:]
            return torch.dot(block.reshape(-1), weights.reshape(-1))
        count = block.shape[0] // w
        along_x = (block.view(count, w, -1, w) * columns[:, None, :]).sum((1, 3))  # (count, rows of v)
        return (along_x * rows[start : start + count, first // w :]).sum()

    def _buffer(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Uninitialised memory under a name, kept between pairs: fresh pages cost as much as the arithmetic.

        Each thread has its own: a program may be shared by several.
        """
        count, key = math.prod(shape), (threading.get_ident(), name)
        if key not in self._memory or self._memory[key].numel() < count:
            self._memory[key] = torch.empty(count, dtype=torch.float64, device=self.device)
        return self._memory[key][:count].view(shape)

    def __getstate__(self) -> dict[str, object]:
        """Pickled without the memory that it works in."""
        return {**vars(self), "_memory": {}}


def _two_axes(matrices: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Matrices for (rows, columns); a signal has one row."""
    one = torch.ones(1, 1, dtype=torch.float64, device=matrices[0].device)
    return (one, matrices[0]) if len(matrices) == 1 else (matrices[0], matrices[1])


def _add_shifted(total: Tensor, source: Tensor, c: int, axes: tuple[int, int], overwrite: bool) -> None:
    """total(u, v) += source(u + c, v + c) with periodic wrap, for one spatial axis of u and of v, without copies."""
    n = total.shape[axes[0]]
    c %= n
    pieces = [(0, c, n - c), (n - c, 0, c)] if c else [(0, 0, n)]  # (target start, source start, length)
    for to_u, from_u, length_u in pieces:
        for to_v, from_v, length_v in pieces:
            target = total.narrow(axes[0], to_u, length_u).narrow(axes[1], to_v, length_v)
            part = source.narrow(axes[0], from_u, length_u).narrow(axes[1], from_v, length_v)
            if overwrite:
                target.copy_(part)
            else:
                target.add_(part)
