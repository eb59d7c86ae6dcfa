r"""K(x, y) over all pairs of positions, streamed by rows: the arithmetic of exact CKNs and neural tangent kernels.

For two images with patches P(u), Q(v) the first layer's Gram is S(u, v) = |P(u)| |Q(v)| kappa(cos). Pooling acts on
both arguments, the next layer's patches average G(u + c, v + c), and the last pooling is a trace.

The neural tangent kernel carries a second Gram along, T = S + kappa'(cos) T', T' being that of the layer below after
pooling and patches (of layer 1: the inner products themselves), and ends in its trace.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from stability.representations import pair_blocks
from stability.representations.pair_blocks import (
    Block,
    Part,
    extended,
    first_layer,
    patch_norms,
    upper_layer,
    whole_layer,
)
from stability.representations.pair_memory import PairMemory
from stability.representations.pair_plan import ImageState, PairPlan
from stability.representations.pair_sums import PooledGram, PooledTrace


def pairs_together(plan: PairPlan, tangent: bool) -> int:
    """How many pairs' last layers fit into one block."""
    entries = (1 + tangent) * math.prod(plan.layers[-1].extended_size) ** 2
    return max(1, pair_blocks.BLOCK_ENTRIES // entries) if len(plan.layers) > 1 else 1


class PairProgram:
    """The layers of a plan, ready to evaluate K(x, y) pair by pair in the plan's dtype; the last sum is in float64.

    Args:
        plan: the layers on their grids.
        tangent: the neural tangent kernel instead of the CKN's.
    """

    def __init__(self, plan: PairPlan, tangent: bool = False) -> None:
        self.plan, self.layers, self.tangent = plan, plan.layers, tangent
        self.memory = PairMemory(plan.dtype, plan.device)

    def complete(self, states: Sequence[ImageState]) -> Sequence[ImageState]:
        """Fill in the patch norms of the upper layers and ||Phi(x)||^2, from K(x, x)."""
        self.kernels([(state, state) for state in states])
        return states

    def kernels(self, pairs: Sequence[tuple[ImageState, ImageState]]) -> list[float]:
        """K(x, y) of pairs of states that are completed, or earlier in the list with themselves.

        A state with itself is thereby completed. The last layers of as many pairs as fit into a block go together: a
        call of torch takes as long as thousands of entries.
        """
        together, values = pairs_together(self.plan, self.tangent), list[float]()
        for start in range(0, len(pairs), together):
            part = pairs[start : start + together]
            found = self._together(part) if len(part) > 1 else [self._alone(*part[0])]
            for (left, right), value in zip(part, found, strict=True):
                if left is right:
                    left.squared_norm = value
            values += found
        return values

    def _alone(self, left: ImageState, right: ImageState) -> float:
        """K(x, y), every layer in blocks."""
        grams, rows, columns = self._last_grams(left, right, None)
        k = len(self.layers) - 1
        trace = PooledTrace(self.plan, (rows.norms[k], columns.norms[k]))
        for block in self._blocks(k, rows, columns, grams):
            trace.add(block.grams[-1], block.part)
        return float(trace.total) * self.plan.cell_area * (1 + (left is right))

    def _together(self, pairs: Sequence[tuple[ImageState, ImageState]]) -> list[float]:
        """K(x, y) of each pair, the last layer of all at once."""
        k, last = len(self.layers) - 1, self.layers[-1]
        shape = (len(pairs), *last.extended_size, *last.extended_size)
        grams = [self.memory(f"extended{i}", shape) for i in range(1 + self.tangent)]
        sides = [self._last_grams(*pair, [gram[i] for gram in grams])[1:] for i, pair in enumerate(pairs)]
        norms = torch.stack([one[0].norms[k] for one in sides]), torch.stack([one[1].norms[k] for one in sides])
        selves = [i for i, (left, right) in enumerate(pairs) if left is right]
        trace = PooledTrace(self.plan, norms)
        trace.add(whole_layer(last, grams, norms, self.memory, selves), Part(0, last.size[0], 0, last.size[0]))
        return [value * self.plan.cell_area for value in trace.total.tolist()]

    def _last_grams(
        self, left: ImageState, right: ImageState, targets: list[Tensor] | None
    ) -> tuple[list[Tensor], ImageState, ImageState]:
        """What the last layer reads, ``extended``, into targets if given; and whose rows and columns these are."""
        rows, columns, is_self = right, left, left is right
        grams: list[Tensor] = []
        for k, layer in enumerate(self.layers[:-1]):
            norms = rows.norms[k], columns.norms[k]
            pooled = [PooledGram(layer, norms, self.memory, i) for i in range(1 + self.tangent)]
            for block in self._blocks(k, rows, columns, grams):
                for gram, sums in zip(block.grams, pooled, strict=True):
                    sums.add(gram, block.part)
            upper, is_last = self.layers[k + 1], k + 2 == len(self.layers)
            grams = [sums.result(is_self) for sums in pooled]
            if targets is None or not is_last:
                size = upper.extended_size + upper.extended_size
                name = "extended" if is_last else "lower"
                into = [self.memory(f"{name}{i}", size) for i in range(1 + self.tangent)]
            else:
                into = targets
            grams = [extended(upper, gram, target) for gram, target in zip(grams, into, strict=True)]
            if is_self:
                rows.norms[k + 1 :] = [patch_norms(upper, grams[0], self.plan.smallest_norm)]
            rows, columns = columns, rows  # pooled Grams have columns first
        return grams, rows, columns

    def _blocks(self, k: int, rows: ImageState, columns: ImageState, grams: list[Tensor]) -> Iterator[Block]:
        """Layer k = 0 ... n - 1."""
        layer, is_self = self.layers[k], rows is columns
        if not k:
            patches = rows.patches, columns.patches
            return first_layer(layer, *patches, self.memory, is_self=is_self, tangent=self.tangent)
        return upper_layer(layer, grams, (rows.norms[k], columns.norms[k]), self.memory, is_self=is_self)
