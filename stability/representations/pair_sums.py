"""What becomes of a layer's Gram S(u, v), block by block: pooled in both arguments, or, behind the last layer, summed.

sum_u (A S A^T)(u, u) = sum_{u,v} (A^T A)(u, v) S(u, v): the last pooling never has to be formed.
"""

from typing import Protocol

import torch
from torch import Tensor

from stability.representations.pair_memory import PairMemory
from stability.representations.pair_plan import LayerPlan, PairPlan

ROW_ENTRIES = 2**24
"""Up to this many entries (128 MB) a Gram is held with pooled rows; beyond, both sides are pooled at once."""
GROUP_ENTRIES = 2**21
"""Entries of image rows that wait to be pooled vertically: 16 MB."""


class PooledGram(Protocol):
    """A S A^T of a Gram matrix that comes in blocks of rows."""

    def add(self, values: Tensor, start: int, first: int) -> None:
        """S over |z| |z'|, rows from image row ``start``, columns from image row ``first`` on; may be overwritten."""

    def result(self) -> Tensor:
        """G(v', u'), columns first, ``(N', N')``."""


def pooled_gram(layer: LayerPlan, norms: tuple[Tensor, Tensor], memory: PairMemory, which: int) -> PooledGram:
    """The faster of both ways that holds no more than ``ROW_ENTRIES``.

    Args:
        layer: whose Gram it is.
        norms: |z| of rows and columns, ``(N,)`` each.
        memory: where it works.
        which: 0 for S, 1 for the tangent Gram.
    """
    (h, w), (rows, columns) = layer.size, layer.pooling
    kind = RowsFirst if len(rows) * len(columns) * h * w <= ROW_ENTRIES else BothSides
    return kind(layer, norms, memory, which)


class RowsFirst:
    """The rows pooled as they come, then the columns: fast, and holds N' x N entries."""

    def __init__(self, layer: LayerPlan, norms: tuple[Tensor, Tensor], memory: PairMemory, which: int) -> None:
        (h, w), (rows, columns) = layer.size, layer.filled
        self._layer, self._memory, self._which = layer, memory, which
        self._by_row = columns * norms[0].view(h, 1, w)  # (h, w', w): A diag |z|
        self._by_column = self._by_row if norms[0] is norms[1] else columns * norms[1].view(h, 1, w)
        self._sum = memory(f"rows{which}", (len(rows), len(layer.pooling[1]) * h * w))
        self._group = min(h, max(1, GROUP_ENTRIES // (len(columns) * h * w)))
        self._waiting = memory(f"waiting{which}", (self._group, len(columns), h * w))
        self._from = self._count = 0

    def add(self, values: Tensor, start: int, first: int) -> None:
        """A block of rows."""
        _, w = self._layer.size
        for one in values.view(-1, w, values.shape[1]).split(self._group):  # (image rows, w, columns)
            if self._count + len(one) > self._group:
                self._flush()
            target = self._waiting[self._count : self._count + len(one)]
            target[:, :, : first * w].zero_()
            torch.bmm(self._by_row[start : start + len(one)], one, out=target[:, :, first * w :])
            start, self._count = start + len(one), self._count + len(one)

    def _flush(self) -> None:
        rows = self._layer.filled[0][:, self._from : self._from + self._count]
        waiting = self._waiting[: self._count, : len(self._layer.pooling[1])].flatten(1)
        if self._from == 0:
            torch.mm(rows, waiting, out=self._sum)
        else:
            self._sum.addmm_(rows, waiting)
        self._from, self._count = self._from + self._count, 0

    def result(self) -> Tensor:
        """G(v', u')."""
        self._flush()
        (h, w), (rows, columns) = self._layer.size, self._layer.filled
        height, width = (len(matrix) for matrix in self._layer.pooling)
        count = height * width
        along_x = self._memory("along_x", (h, len(columns), count))
        pooled = self._sum[:height].view(count, h, w)
        torch.bmm(self._by_column, pooled.permute(1, 2, 0), out=along_x)
        result = self._memory(f"rows{self._which}", (len(rows), width * count))  # read to its end just before
        return torch.mm(rows, along_x[:, :width].flatten(1), out=result)[:height].view(count, count)


class BothSides:
    """The columns of every block pooled at once, its rows a few image rows later: holds N' x N' entries."""

    def __init__(self, layer: LayerPlan, norms: tuple[Tensor, Tensor], memory: PairMemory, which: int) -> None:
        self._layer, self._norms = layer, norms
        rows, columns = layer.pooling
        width, count = len(columns), len(rows) * len(columns)
        self._sum = memory(f"pooled{which}", (len(rows), width * count)).zero_()
        self._group = max(1, GROUP_ENTRIES // (width * count))
        self._waiting = memory(f"waiting{which}", (self._group, width, count))
        self._from = self._count = 0

    def add(self, values: Tensor, start: int, first: int) -> None:
        """A block of rows."""
        (h, w), (rows, columns) = self._layer.size, self._layer.pooling
        values.mul_(self._norms[0][start * w : start * w + len(values), None]).mul_(self._norms[1][first * w :])
        for one in values.split(w):  # (w, n - first w): an image row
            along_y = torch.matmul(rows[:, first:], one.reshape(w, h - first, w))  # (w, h', w)
            along_x = (along_y.view(-1, w) @ columns.T).view(w, -1)  # (w, N')
            torch.mm(columns, along_x, out=self._waiting[self._count])
            self._count += 1
            if self._count == self._group:
                self._flush()

    def _flush(self) -> None:
        if self._count:
            rows = self._layer.pooling[0][:, self._from : self._from + self._count]
            self._sum.addmm_(rows, self._waiting[: self._count].flatten(1))
            self._from, self._count = self._from + self._count, 0

    def result(self) -> Tensor:
        """G(v', u')."""
        self._flush()
        rows, columns = self._layer.pooling
        count = len(rows) * len(columns)
        return self._sum.view(count, count).T.contiguous()


class PooledTrace:
    """sum_u (A S A^T)(u, u) of the last layer, of one pair or several, summed in float64 over image rows.

    Args:
        plan: the layers.
        norms: |z| of rows and columns, ``(..., N)`` each.
    """

    def __init__(self, plan: PairPlan, norms: tuple[Tensor, Tensor]) -> None:
        self._plan, self._norms = plan, norms
        self.total = norms[0].new_zeros(norms[0].shape[:-1], dtype=torch.float64)

    def add(self, values: Tensor, start: int, first: int) -> None:
        """S over |z| |z'|, rows from image row ``start``, columns from image row ``first`` on; overwritten."""
        h, w = self._plan.layers[-1].size
        pairs, count = values.shape[:-2], values.shape[-2] // w
        weighted = values.view(*pairs, count, w, -1).mul_(self._plan.trace_weights_along_x[:, first * w :])
        rows = self._norms[0][..., start * w : (start + count) * w].reshape(*pairs, count, 1, w)
        along_x = torch.matmul(rows, weighted).squeeze(-2).mul_(self._norms[1][..., None, first * w :])
        along_y = along_x.view(*pairs, count, h - first, w).sum(-1)
        weights = self._plan.trace_weights[0][start : start + count, first:]
        self.total += (along_y * weights).sum((-2, -1), dtype=torch.float64)
