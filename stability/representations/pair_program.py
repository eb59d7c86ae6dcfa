r"""K(x, y) over all pairs of positions, streamed by rows: the arithmetic of exact CKNs and neural tangent kernels.

For two images with patches P(u), Q(v) the first layer's Gram is S(u, v) = |P(u)| |Q(v)| kappa(cos). Pooling acts on
both arguments, the next layer's patches average G(u + c, v + c), and the last pooling is a trace,
sum_u (A S A^T)(u, u) = sum_{u,v} (A^T A)(u, v) S(u, v), so that it never has to be formed.

The neural tangent kernel carries a second Gram along, T = S + kappa'(cos) T', T' being that of the layer below after
pooling and patches (of layer 1: the inner products themselves), and ends in its trace.
"""

import math
import threading
from typing import Protocol

import torch
from torch import Tensor

from stability.boundaries import Periodic
from stability.kernels import Kernel
from stability.operators.exponential import exponential_
from stability.representations.pair_plan import ImageState, LayerPlan, PairPlan

BLOCK_ENTRIES = 2**20
"""Pair entries of layer 1 held at a time: 8 MB in float64, about a core's share of cache."""
COPIED_ENTRIES = 2**17
"""Up to this many pairs a shifted copy costs less than the calls that avoid it."""
ROW_ENTRIES = 2**24
"""Up to this many entries (128 MB) the first layer's Gram is held with pooled rows; beyond, both sides are pooled."""
GROUP_ENTRIES = 2**22
"""Entries of rows that wait to be pooled, when both sides are pooled at once: 32 MB."""
SELF_BLOCKS = 4
"""K(x, x) is symmetric: in b blocks of rows only (1 + 1 / b) / 2 of it is computed."""


class PairProgram:
    """The layers of a plan, ready to evaluate K(x, y) pair by pair in the plan's dtype; the last sum is in float64.

    Args:
        plan: the layers on their grids.
        tangent: the neural tangent kernel instead of the CKN's.
    """

    def __init__(self, plan: PairPlan, tangent: bool = False) -> None:
        self.plan, self.layers, self.tangent = plan, plan.layers, tangent
        self._memory: dict[tuple[int, str], Tensor] = {}

    def complete(self, state: ImageState) -> ImageState:
        """Fill in the patch norms of the upper layers and ||Phi(x)||^2, from K(x, x)."""
        state.squared_norm = self._evaluate(state, state)
        return state

    def kernel(self, left: ImageState, right: ImageState) -> float:
        """K(x, y) of two completed states."""
        return self._evaluate(left, right)

    def _evaluate(self, left: ImageState, right: ImageState) -> float:
        grams = self._first_layer(left, right)  # [S], with tangents [S, T]
        for k, layer in enumerate(self.layers[1:], start=1):
            grams = [self._sum_over_patch(layer, gram, i) for i, gram in enumerate(grams)]  # (N_k, N_k) each
            if left is right:
                left.norms[k:] = [grams[0].diagonal().div(layer.patch_positions).clamp_min_(0.0).sqrt_()]
            self._apply_kernel(layer, grams, left.norms[k], right.norms[k], left is right)
            if layer.is_last:
                grams = [self._trace(grams[-1])]
            else:
                grams = [self._pool(layer, gram, i) for i, gram in enumerate(grams)]
        return float(grams[-1]) * self.plan.cell_area

    def _first_layer(self, left: ImageState, right: ImageState) -> list[Tensor]:
        """A S A^T (and A T A^T) of layer 1, or the trace if it is the last; S(v, u) in blocks of rows of v."""
        layer = self.layers[0]
        (h, w), n = layer.size, left.patches.shape[0]
        is_self, tangent = left is right, self.tangent
        fused = layer.kernel.exponent is not None and not tangent
        a, b = self._factors(layer.kernel, right, left) if fused else (right.patches, left.patches)
        rows = max(1, min(-(-h // SELF_BLOCKS) if is_self else h, BLOCK_ENTRIES // (1 + tangent) // (w * n)))
        pooled: list[_Pooled] = []
        if not layer.is_last:
            kind = _Rows if layer.pooled_count * n <= ROW_ENTRIES else _Both
            pooled = [kind(self, layer, n, i) for i in range(1 + tangent)]
        total = a.new_zeros((), dtype=torch.float64)
        for start in range(0, h, rows):
            stop = min(start + rows, h)
            part = slice(start * w, stop * w)
            first = start * w if is_self else 0  # K(x, x) is symmetric: left of the diagonal block nothing is computed
            block = torch.mm(a[part], b[first:].T, out=self._buffer("pairs0", ((stop - start) * w, n - first)))
            blocks = [block]
            if fused:
                exponential_(block)
            else:
                if is_self:
                    block.diagonal().fill_(1.0)  # the cosine of a patch with itself
                if tangent:
                    slope = layer.kernel.derivative_(self._buffer("pairs1", tuple(block.shape)).copy_(block))
                    blocks.append(slope.mul_(block))  # kappa'(cos) cos
                layer.kernel.evaluate_(block)
                if tangent:
                    blocks[1].add_(block)
                for one in blocks:
                    one.mul_(right.norms[0][part, None]).mul_(left.norms[0][first:])
            for one in blocks:
                if is_self:
                    one[:, : one.shape[0]].mul_(0.5)  # K = S + S^T with half of the diagonal blocks in S
            if not pooled:
                total += self._trace(blocks[-1], start, first)
            for one, sums in zip(blocks, pooled, strict=False):
                sums.add(one, start, first)
        if not pooled:
            return [2.0 * total if is_self else total]
        grams = [sums.result() for sums in pooled]
        return [gram.add_(gram.T.clone()) for gram in grams] if is_self else grams

    def _factors(self, kernel: Kernel, left: ImageState, right: ImageState) -> tuple[Tensor, Tensor]:
        """Matrices whose product is the whole exponent of an exponential kernel.

        [alpha P/|P|, log|P| - alpha, 1] . [Q/|Q|, 1, log|Q|] = alpha (cos - 1) + log|P| + log|Q|: one GEMM and one
        exponential give |P| |Q| kappa(cos).
        """
        alpha = kernel.exponent
        assert alpha is not None
        logs = [state.norms[0].clamp_min(self.plan.smallest_norm).log()[:, None] for state in (left, right)]
        one = torch.ones_like(logs[0])
        return torch.cat([alpha * left.patches, logs[0] - alpha, one], 1), torch.cat([right.patches, one, logs[1]], 1)

    def _pool(self, layer: LayerPlan, gram: Tensor, which: int) -> Tensor:
        """A K A^T for K(u, v) ``(N, N)``; returns the same orientation, ``(N', N')``."""
        pooled = self._buffer("rows0", (layer.pooled_count, gram.shape[1]))
        self._pool_rows(layer, gram.T, pooled)
        return self._pool_columns(layer, pooled, which)

    def _pool_rows(self, layer: LayerPlan, block: Tensor, pooled: Tensor, start: int = 0, first: int = 0) -> None:
        """pooled += A[:, block] K[block, first:]; a transposed block costs no copy."""
        (h, w), (rows, columns) = layer.size, layer.pooling
        count, n = block.shape[0] // w, pooled.shape[1]
        if count == h and first == 0 and block.is_contiguous():  # y first: one fat product, and fewer small ones
            along_y = self._buffer("along_y", (rows.shape[0], w * n))
            torch.mm(rows, block.view(h, w * n), out=along_y)
            out = pooled.view(rows.shape[0], columns.shape[0], n)
            torch.bmm(columns.expand(rows.shape[0], -1, -1), along_y.view(-1, w, n), out=out)
            return
        along_x = self._buffer("along_x", (count, columns.shape[0], n))
        along_x[:, :, :first].zero_()
        torch.bmm(columns.expand(count, -1, -1), block.unflatten(0, (count, w)), out=along_x[:, :, first:])
        flat, part = pooled.view(rows.shape[0], -1), rows[:, start : start + count]
        if start == 0:
            torch.mm(part, along_x.view(count, -1), out=flat)
        else:
            flat.addmm_(part, along_x.view(count, -1))

    def _pool_columns(self, layer: LayerPlan, pooled: Tensor, which: int) -> Tensor:
        """(A K) A^T as A (A K)^T: from K(v, u) with pooled rows to G(u', v'), ``(N', N')``."""
        result = self._buffer(f"pooled{which}", (layer.pooled_count, layer.pooled_count))
        self._pool_rows(layer, pooled.T, result)
        return result

    def _sum_over_patch(self, layer: LayerPlan, gram: Tensor, which: int) -> Tensor:
        """sum_c G(u + c, v + c) over the patch, one axis after the other; ``(N, N)``."""
        (h, w), periodic = layer.size, isinstance(layer.boundary, Periodic)
        gram = gram.view(h, w, h, w)
        for name, axes, offsets in zip(("patch_y", "patch_x"), ((0, 2), (1, 3)), layer.offsets, strict=True):
            if len(offsets) > 1:
                total = self._buffer(f"{name}{which}", (h, w, h, w))
                for i, c in enumerate(offsets):
                    if gram.numel() > COPIED_ENTRIES or not periodic:
                        _add_shifted(total, gram, c, axes, periodic, overwrite=i == 0)
                    elif i == 0:
                        total.copy_(gram.roll((-c, -c), axes))
                    else:
                        total.add_(gram.roll((-c, -c), axes))
                gram = total
        return gram.view(h * w, h * w)

    def _apply_kernel(self, layer: LayerPlan, grams: list[Tensor], left: Tensor, right: Tensor, is_self: bool) -> None:
        """S = |z| |z'| kappa(cos) (and T = S + kappa'(cos) T'), in place, from sums over the patch ``(N, N)``."""
        gram, least = grams[0], self.plan.smallest_norm
        inverse_left, inverse_right = (
            torch.where(norm > least, 1.0 / norm.clamp_min(least), 0.0) for norm in (left, right)
        )
        gram.mul_((inverse_left / layer.patch_positions)[:, None]).mul_(inverse_right)
        if is_self:
            gram.diagonal().fill_(1.0)
        if self.tangent:
            slope = layer.kernel.derivative_(self._buffer("pairs1", tuple(gram.shape)).copy_(gram))
            alive = ((inverse_left > 0).to(gram.dtype) / layer.patch_positions, (inverse_right > 0).to(gram.dtype))
            grams[1].mul_(slope).mul_(alive[0][:, None]).mul_(alive[1])  # a zero patch has no direction
        alpha = layer.kernel.exponent
        if alpha is None:
            layer.kernel.evaluate_(gram)
        else:
            exponential_(gram.sub_(1.0).mul_(alpha))
        gram.mul_(left[:, None]).mul_(right)
        if self.tangent:
            grams[1].add_(gram)

    def _trace(self, block: Tensor, start: int = 0, first: int = 0) -> Tensor:
        """sum (A^T A)(u, v) K(u, v) over the block of rows u from image row ``start`` and of columns v >= ``first``."""
        rows, columns = self.plan.trace_weights
        w = self.layers[-1].size[1]
        if self.plan.dense_weights is not None:
            weights = self.plan.dense_weights[start * w : start * w + block.shape[0], first:]
            if block.dtype == torch.float32:  # rows are short; what is summed over many of them is in float64
                return (block * weights).sum(1).sum(dtype=torch.float64)
            return torch.dot(block.reshape(-1), weights.reshape(-1))
        count = block.shape[0] // w
        along_x = (block.view(count, w, -1, w) * columns[:, None, :]).sum((1, 3))  # (count, rows of v)
        return (along_x * rows[start : start + count, first // w :]).sum(dtype=torch.float64)

    def _buffer(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Uninitialised memory under a name, kept between pairs: fresh pages cost as much as the arithmetic.

        Each thread has its own: a program may be shared by several.
        """
        count, key = math.prod(shape), (threading.get_ident(), name)
        if key not in self._memory or self._memory[key].numel() < count:
            self._memory[key] = torch.empty(count, dtype=self.plan.dtype, device=self.plan.device)
        return self._memory[key][:count].view(shape)

    def __getstate__(self) -> dict[str, object]:
        """Pickled without the memory that it works in."""
        return {**vars(self), "_memory": {}}


class _Pooled(Protocol):
    """A S A^T of a Gram matrix that comes in blocks of rows."""

    def add(self, block: Tensor, start: int, first: int) -> None:
        """Rows from image row ``start``, columns from ``first`` on."""

    def result(self) -> Tensor:
        """G(u', v'), ``(N', N')``."""


class _Rows:
    """The rows pooled as they come, then the columns: fast, and holds N' x N entries."""

    def __init__(self, program: PairProgram, layer: LayerPlan, n: int, which: int) -> None:
        self._program, self._layer, self._which = program, layer, which
        self._rows = program._buffer(f"rows{which}", (layer.pooled_count, n))

    def add(self, block: Tensor, start: int, first: int) -> None:
        self._program._pool_rows(self._layer, block, self._rows, start, first)

    def result(self) -> Tensor:
        return self._program._pool_columns(self._layer, self._rows, self._which)


class _Both:
    """The columns of every block pooled at once, its rows a few image rows later: holds N' x N' entries."""

    def __init__(self, program: PairProgram, layer: LayerPlan, n: int, which: int) -> None:
        self._program, self._layer = program, layer
        rows, columns = layer.pooling
        self._sum = program._buffer(f"pooled{which}", (rows.shape[0], columns.shape[0] * layer.pooled_count)).zero_()
        self._group = max(1, GROUP_ENTRIES // (columns.shape[0] * layer.pooled_count))
        shape = (self._group, columns.shape[0], layer.pooled_count)
        self._waiting, self._from, self._count = program._buffer(f"waiting{which}", shape), 0, 0

    def add(self, block: Tensor, start: int, first: int) -> None:
        (h, w), (rows, columns) = self._layer.size, self._layer.pooling
        skipped, width = first // w, columns.shape[0]
        for one in block.split(w):  # (w, n - first): an image row
            along_y = torch.matmul(rows[:, skipped:], one.reshape(w, h - skipped, w))  # (w, h', w)
            along_x = (along_y.view(-1, w) @ columns.T).view(w, -1)  # (w, N')
            torch.mm(columns, along_x, out=self._waiting[self._count].view(width, -1))
            self._count += 1
            if self._count == self._group:
                self._flush()

    def _flush(self) -> None:
        if self._count:
            rows = self._layer.pooling[0][:, self._from : self._from + self._count]
            self._sum.addmm_(rows, self._waiting[: self._count].flatten(1))
            self._from, self._count = self._from + self._count, 0

    def result(self) -> Tensor:
        self._flush()
        count = self._layer.pooled_count
        return self._sum.view(count, count).T.contiguous()  # rows of v so far: G(u', v')


def _add_shifted(total: Tensor, source: Tensor, c: int, axes: tuple[int, int], periodic: bool, overwrite: bool) -> None:
    """total(u, v) += source(u + c, v + c), wrapped or 0 beyond, for one spatial axis of u and of v, without copies."""
    n = total.shape[axes[0]]
    pieces = [(max(-c, 0), max(c, 0), n - abs(c))]  # (target start, source start, length)
    if periodic:
        c %= n
        pieces = [(0, c, n - c), (n - c, 0, c)] if c else [(0, 0, n)]
    elif overwrite:
        total.zero_()
    for to_u, from_u, length_u in pieces:
        for to_v, from_v, length_v in pieces:
            target = total.narrow(axes[0], to_u, length_u).narrow(axes[1], to_v, length_v)
            part = source.narrow(axes[0], from_u, length_u).narrow(axes[1], from_v, length_v)
            if overwrite:
                target.copy_(part)
            else:
                target.add_(part)
