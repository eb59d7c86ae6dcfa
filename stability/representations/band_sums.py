"""What becomes of a band of a layer's Gram: pooled in both arguments, or, behind the last layer, summed.

Blocks are S(u, x, j, x') over |z| |z'|, ``(count, w, J, w)``, of image rows u from ``start`` on; v = u - D + first + j.
Of an image with itself first = D, and the whole is S + S^T.
"""

import torch
from torch import Tensor

from stability.representations.pair_memory import PairMemory
from stability.representations.pair_plan import LayerPlan, PairPlan


def column_norms(norms: Tensor, layer: LayerPlan, reach: int, first: int) -> Tensor:
    """n(v, x') with v = u - D + first + j on the torus, ``(h, J, w)``."""
    h, w = layer.size
    return norms.view(h, w)[band_rows(h, reach, first, norms.device)]


def band_rows(h: int, reach: int, first: int, device: torch.device) -> Tensor:
    """v = u - D + first + j on the torus, ``(h, J)``."""
    return (torch.arange(h, device=device)[:, None] + torch.arange(first - reach, reach + 1, device=device)) % h


class BandTrace:
    """sum_u (A' S A'^T)(u, u) of the last layer, in float64.

    Args:
        plan: the layers.
        reach: D of the last one.
        norms: |z| of rows and columns, ``(N,)`` each.
        is_self: of an image with itself: half of the sum.
    """

    def __init__(self, plan: PairPlan, reach: int, norms: tuple[Tensor, Tensor], is_self: bool) -> None:
        layer, first = plan.layers[-1], reach if is_self else 0
        rows, self._along_x = plan.trace_weights
        self._along_y = rows.gather(1, band_rows(len(rows), reach, first, rows.device))  # (h, J)
        self._by_row = norms[0].view(layer.size)
        self._by_column = column_norms(norms[1], layer, reach, first)
        self.total = norms[0].new_zeros((), dtype=torch.float64)

    def add(self, values: Tensor, start: int) -> None:
        """A block; overwritten."""
        count, w, width, _ = values.shape
        part = slice(start, start + count)
        weighted = values.mul_(self._along_x[:, None]).view(count, w, -1)
        along_x = torch.bmm(self._by_row[part, None], weighted).view(count, width, w)
        along_y = along_x.mul_(self._by_column[part]).sum(-1)
        self.total += (along_y * self._along_y[part]).sum(dtype=torch.float64)


class BandPooled:
    """A' S A'^T on the band of the layer above.

    Args:
        plan: the layers.
        k: which one is pooled, from 0.
        reach: D of this layer and of the one above.
        norms: |z| of rows and columns, ``(N,)`` each.
        memory: where the result is.
        is_self: of an image with itself.
    """

    def __init__(
        self,
        plan: PairPlan,
        k: int,
        reach: tuple[int, ...],
        norms: tuple[Tensor, Tensor],
        memory: PairMemory,
        is_self: bool,
    ) -> None:
        layer = plan.layers[k]
        assert plan.radii is not None
        (h, w), (rows, self._columns) = layer.size, layer.pooling
        self._stride, self._is_self, self._above = plan.architecture.layers[k].subsampling, is_self, reach[1]
        stride, first, radius = self._stride, reach[0] if is_self else 0, plan.radii[k]
        self._by_row = self._columns * norms[0].view(h, 1, w)  # (h, w', w)
        self._by_column = column_norms(norms[1], layer, reach[0], first)
        self._taps = rows[0]  # h'(-v), even
        self._moves = (stride - 1 + radius) // stride  # |u' - q| at most, u = s q + r
        edge = self._edge = reach[1] + self._moves  # v' = q - edge + i
        steps = torch.arange(first - reach[0], reach[0] + 1, device=rows.device)  # v - u
        self._weights: list[tuple[int, Tensor]] = []
        self._radius = radius
        for phase in range(stride):
            least = edge + -((radius - phase) // stride) if is_self else 0  # where v >= u first has a tap
            pooled = torch.arange(least, 2 * edge + 1, device=rows.device) - edge  # v' - q
            off = stride * pooled[:, None] - phase - steps  # s v' - v
            self._weights.append((least, torch.where(off.abs() <= radius, self._taps[off % h], 0.0)))
        shape = (len(rows), len(self._columns), 2 * reach[1] + 1, len(self._columns))
        self._sum = memory(f"band{k}", shape).zero_()

    def add(self, values: Tensor, start: int) -> None:
        """A block; overwritten."""
        count, stride = len(values), self._stride
        values.mul_(self._by_column[start : start + count, None])
        for phase, (least, weights) in enumerate(self._weights):
            skip = (phase - start) % stride
            if skip >= count:
                continue
            along_y = torch.matmul(weights, values[skip::stride])  # (c, w, I, w)
            along_x = torch.matmul(along_y, self._columns.T)  # (c, w, I, w')
            by_row = self._by_row[start + skip : start + count : stride]
            both = torch.bmm(by_row, along_x.flatten(2)).view(len(by_row), by_row.shape[1], -1, by_row.shape[1])
            self._spread(both, (start + skip) // stride, phase, least)

    def _spread(self, both: Tensor, q: int, phase: int, least: int) -> None:
        """Rows u = s q + r, s (q + 1) + r, ... to all u' = q + m that pool them."""
        for move in range(-self._moves, self._moves + 1):
            off = self._stride * move - phase  # s u' - u
            if abs(off) > self._radius:
                continue
            start = move + self._edge - self._above  # i of v' = u' - D'
            low = max(start, least)
            part = both[:, :, low - least : start + 2 * self._above + 1 - least]
            target, height = self._sum[:, :, low - start :], len(self._sum)
            tap, row = float(self._taps[off % len(self._taps)]), (q + move) % height
            before = min(len(part), height - row)
            target[row : row + before].add_(part[:before], alpha=tap)
            if before < len(part):
                target[: len(part) - before].add_(part[before:], alpha=tap)

    def result(self) -> Tensor:
        """G(u', x, j, x'), ``(h', w', 2 D' + 1, w')``."""
        if self._is_self:
            for step in range(self._above + 1):
                right, left = self._sum[:, :, self._above + step], self._sum[:, :, self._above - step]
                total = right + left.roll(-step, 0).transpose(1, 2)
                right.copy_(total)
                left.copy_(total.roll(step, 0).transpose(1, 2))
        return self._sum
