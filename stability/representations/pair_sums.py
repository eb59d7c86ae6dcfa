"""What becomes of a layer's Gram S(u, v), block by block: pooled in both arguments, or, behind the last layer, summed.

sum_u (A S A^T)(u, u) = sum_{u,v} (A^T A)(u, v) S(u, v): the last pooling never has to be formed.
"""

import torch
from torch import Tensor

from stability.representations.pair_blocks import Part
from stability.representations.pair_memory import PairMemory
from stability.representations.pair_plan import LayerPlan, PairPlan

WAITING_ENTRIES = 2**24
"""Up to this many entries (128 MB), three of whose four axes are pooled, wait for the last one to be pooled at once."""


class PooledGram:
    """A S A^T of a Gram matrix that comes in blocks of columns.

    A block is pooled along three axes while it is in the cache: both of the rows, and the columns' horizontal one. The
    vertical one waits until all blocks have come, or as many as may be held.

    Args:
        layer: whose Gram it is.
        norms: |z| of rows and columns, ``(N,)`` each.
        memory: where it works.
        which: 0 for S, 1 for the tangent Gram.
    """

    def __init__(self, layer: LayerPlan, norms: tuple[Tensor, Tensor], memory: PairMemory, which: int) -> None:
        (h, w), self._filled, self._memory = layer.size, layer.filled, memory
        self._w = w
        self._height, self._width = (len(matrix) for matrix in layer.pooling)
        count, (rows, columns) = layer.pooled_count, (len(matrix) for matrix in layer.filled)
        weighted = [  # (h, w', w): A diag |z|
            torch.mul(layer.filled[1], norm.view(h, 1, w), out=memory(f"weighted{i}", (h, columns, w)))
            for i, norm in enumerate(norms)
        ]
        self._by_row, self._by_column = weighted
        self._held = min(h, max(1, WAITING_ENTRIES // (columns * count)))
        self._name = f"waiting{which}"  # at the end free for the transposed Gram
        self._waiting = memory(self._name, (self._held, columns, count))
        self._sum = memory(f"pooled{which}", (rows, self._width * count))
        self._from = self._count = 0

    def add(self, values: Tensor, part: Part) -> None:
        """S over |z| |z'|, columns from image row ``part.left`` on, rows down to ``part.bottom`` (0 below)."""
        h, w, width = part.bottom, self._w, self._width
        rows, columns = self._filled
        n = values.shape[1]
        along_x = self._memory("along_x", (h, len(columns), n))
        torch.bmm(self._by_row[:h], values.view(h, w, n), out=along_x)
        along_y = self._memory("along_y", (len(rows), width * n))
        torch.mm(rows[:, :h], along_x[:, :width].flatten(1), out=along_y)
        pooled = along_y[: self._height].view(-1, n // w, w).permute(1, 2, 0)  # (image rows, w, N')
        for start in range(part.left, part.right, self._held):
            some = pooled[start - part.left : min(start + self._held, part.right) - part.left]
            if self._count + len(some) > self._held:
                self._flush()
            target = self._waiting[self._count : self._count + len(some)]
            torch.bmm(self._by_column[start : start + len(some)], some, out=target)
            self._count += len(some)

    def _flush(self) -> None:
        rows = self._filled[0][:, self._from : self._from + self._count]
        waiting = self._waiting[: self._count, : self._width].flatten(1)
        if self._from == 0:
            torch.mm(rows, waiting, out=self._sum)
        else:
            self._sum.addmm_(rows, waiting)
        self._from, self._count = self._from + self._count, 0

    def result(self, is_self: bool) -> Tensor:
        """G(v', u'), columns first, ``(N', N')``.

        Args:
            is_self: the blocks were those on and above the diagonal: G + G^T.
        """
        self._flush()
        count = self._height * self._width
        gram = self._sum[: self._height].view(count, count)
        return gram.add_(self._memory(self._name, (count, count)).copy_(gram.T)) if is_self else gram


class PooledTrace:
    """sum_u (A S A^T)(u, u) of the last layer, of one pair or several, summed in float64 over image rows.

    Args:
        plan: the layers.
        norms: |z| of rows and columns, ``(..., N)`` each.
    """

    def __init__(self, plan: PairPlan, norms: tuple[Tensor, Tensor]) -> None:
        self._plan, self._norms = plan, norms
        self.total = norms[0].new_zeros(norms[0].shape[:-1], dtype=torch.float64)

    def add(self, values: Tensor, part: Part) -> None:
        """S over |z| |z'|; overwritten."""
        w, pairs, count = self._plan.layers[-1].size[1], values.shape[:-2], part.bottom - part.top
        of_rows, of_columns = slice(part.top * w, part.bottom * w), slice(part.left * w, part.right * w)
        weighted = values.view(*pairs, count, w, -1).mul_(self._plan.trace_weights_along_x[:, of_columns])
        rows = self._norms[0][..., of_rows].reshape(*pairs, count, 1, w)
        along_x = torch.matmul(rows, weighted).squeeze(-2).mul_(self._norms[1][..., None, of_columns])
        along_y = along_x.view(*pairs, count, part.right - part.left, w).sum(-1)
        weights = self._plan.trace_weights[0][part.top : part.bottom, part.left : part.right]
        self.total += (along_y * weights).sum((-2, -1), dtype=torch.float64)
