r"""K(x, y) from the pairs of positions that truncated poolings read: a band along the image's rows.

With taps up to R_k along the rows, the trace behind layer n reads pairs whose rows are at most D_n = 2 R_n apart, and
pooling layer k for rows at most D_{k+1} apart reads rows at most D_k = s_k D_{k+1} + 2 R_k apart; patches shift both
positions alike. A Gram is held as S(u, x, j, x'): the positions are (u, x) and (v, x'), v = u - D + j on the torus.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from stability.representations import pair_blocks
from stability.representations.band_sums import BandPooled, BandTrace, column_norms
from stability.representations.pair_blocks import kappa_
from stability.representations.pair_plan import ImageState, LayerPlan, PairPlan
from stability.representations.pair_program import PairProgram


def reaches(radii: Sequence[int], strides: Sequence[int]) -> tuple[int, ...]:
    """D_k = s_k D_{k+1} + 2 R_k, D_{n+1} = 0: how far apart the rows of a pair of layer k may be.

    >>> reaches((7, 7), (2, 2))
    (42, 14)
    """
    found = [0]
    for radius, stride in zip(reversed(radii), reversed(strides), strict=True):
        found.append(stride * found[-1] + 2 * radius)
    return tuple(reversed(found[1:]))


def rows_together(width: int, columns: int, height: int) -> int:
    """Image rows of a block."""
    return min(height, max(1, pair_blocks.BLOCK_ENTRIES // (width * columns**2)))


class BandedProgram(PairProgram):
    """The layers of a plan with truncated poolings, ready to evaluate K(x, y) on the band.

    Args:
        plan: with radii, on the torus; every layer has at least 2 D_k + 1 rows.
    """

    def __init__(self, plan: PairPlan) -> None:
        super().__init__(plan)
        if plan.radii is None:
            raise ValueError("plan must have radii for a band, got None; use PairProgram for poolings with all taps")
        self.reaches = reaches(plan.radii, [layer.subsampling for layer in plan.architecture.layers])
        for layer, reach in zip(self.layers, self.reaches, strict=True):
            if 2 * reach + 1 > layer.size[0]:
                raise ValueError(
                    f"radii must leave a band within {layer.size[0]} rows, got {2 * reach + 1}; use PairProgram"
                )

    def kernels(self, pairs: Sequence[tuple[ImageState, ImageState]]) -> list[float]:
        """K(x, y) of pairs of states that are completed, or earlier in the list with themselves."""
        values = list[float]()
        for left, right in pairs:
            values.append(self._kernel(left, right))
            if left is right:
                left.squared_norm = values[-1]
        return values

    def _kernel(self, left: ImageState, right: ImageState) -> float:
        is_self, gram = left is right, None
        for k, layer in enumerate(self.layers):
            norms, reach = (left.norms[k], right.norms[k]), self.reaches[k]
            if gram is None:
                blocks = self._first_layer(left.patches, right.patches, is_self)
            else:
                blocks = self._upper_layer(k, gram, norms, is_self)
            if layer.is_last:
                trace = BandTrace(self.plan, reach, norms, is_self)
                for start, values in blocks:
                    trace.add(values, start)
                return float(trace.total) * self.plan.cell_area * (1 + is_self)
            pooled = BandPooled(self.plan, k, self.reaches[k : k + 2], norms, self.memory, is_self)
            for start, values in blocks:
                pooled.add(values, start)
            gram = pooled.result()
            if is_self:
                left.norms[k + 1 :] = [self._patch_norms(self.layers[k + 1], gram, self.reaches[k + 1])]
        raise AssertionError("a plan has a last layer")

    def _first_layer(self, rows: Tensor, columns: Tensor, is_self: bool) -> Iterator[tuple[int, Tensor]]:
        """kappa(cos) of image rows from ``start`` on, ``(count, w, J, w)``; of x with itself j >= D, j = D halved."""
        layer, reach = self.layers[0], self.reaches[0]
        (h, w), n = layer.size, len(rows)
        exponent = layer.kernel.exponent
        if exponent is not None:  # the product is the exponent in base 2, as in pair_blocks.first_layer
            binary = exponent / math.log(2.0)
            rows = torch.cat([binary * rows, rows.new_full((n, 1), -binary)], 1)
            columns = torch.cat([columns, columns.new_ones(n, 1)], 1)
        first = reach if is_self else 0
        width = 2 * reach + 1 - first
        read = torch.arange(first - reach, h + reach, device=rows.device) % h
        around = columns.reshape(h, -1)[read].view(len(read) * w, -1)  # ((h + J - 1) w, p)
        windows = around.unfold(0, width * w, w)  # (h, p, J w), a view
        rows = rows.reshape(h, w, -1)
        step = rows_together(width, w, h)
        for start in range(0, h, step):
            stop = min(start + step, h)
            target = self.memory("values", (stop - start, w, width * w))
            cosine = torch.bmm(rows[start:stop], windows[start:stop], out=target).view(-1, w, width, w)
            if is_self:
                _same_position(cosine).fill_(1.0 if exponent is None else 0.0)
            values = kappa_(layer.kernel, cosine) if exponent is None else cosine.exp2_()
            yield start, _halved(values, is_self)

    def _upper_layer(
        self, k: int, gram: Tensor, norms: tuple[Tensor, Tensor], is_self: bool
    ) -> Iterator[tuple[int, Tensor]]:
        """The same of layer k from the pooled Gram below, ``(h, w, 2 D + 1, w)``."""
        layer, reach = self.layers[k], self.reaches[k]
        h, w = layer.size
        first = reach if is_self else 0
        width = 2 * reach + 1 - first
        inverse = [torch.where(norm > 0, 1.0 / norm, 0.0) for norm in norms]
        of_rows = inverse[0].view(h, w) / layer.patch_positions
        of_columns = column_norms(inverse[1], layer, reach, first)  # (h, J, w)
        step = rows_together(width, w, h)
        down, right = layer.offsets
        for start in range(0, h, step):
            stop = min(start + step, h)
            index = torch.arange(start, stop, device=gram.device)
            along_y = self.memory("patch_y", (stop - start, w, width, w)).zero_()
            for c in down:
                along_y.add_(gram[:, :, first:].index_select(0, (index + c) % h))
            values = self.memory("values", tuple(along_y.shape)).zero_()
            for c in right:
                values.add_(along_y.roll((-c, -c), (1, 3)) if c else along_y)
            values.mul_(of_rows[start:stop, :, None, None]).mul_(of_columns[start:stop, None])
            if is_self:
                _same_position(values).fill_(1.0)
            yield start, _halved(kappa_(layer.kernel, values), is_self)

    def _patch_norms(self, layer: LayerPlan, gram: Tensor, reach: int) -> Tensor:
        """|z(u)| of layer k from the pooled Gram of x with itself below, ``(N,)``."""
        same = gram[:, :, reach].diagonal(dim1=1, dim2=2)  # (h, w)
        squares = torch.zeros_like(same)
        for a in layer.offsets[0]:
            for b in layer.offsets[1]:
                squares += same.roll((-a, -b), (0, 1))
        norm = squares.div_(layer.patch_positions).clamp_min_(0.0).sqrt_().flatten()
        return torch.where(norm > self.plan.smallest_norm, norm, 0.0)


def _same_position(half: Tensor) -> Tensor:
    """Entries of a half band ``(count, w, D + 1, w)`` where both positions are one, a view."""
    return half[:, :, 0].diagonal(dim1=1, dim2=2)


def _halved(values: Tensor, is_self: bool) -> Tensor:
    if is_self:
        values[:, :, 0].mul_(0.5)
    return values
