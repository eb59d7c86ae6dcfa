r"""K(x, y) over all pairs of positions, streamed by rows: the arithmetic of exact CKNs and neural tangent kernels.

For two images with patches P(u), Q(v) the first layer's Gram is S(u, v) = |P(u)| |Q(v)| kappa(cos). Pooling acts on
both arguments, the next layer's patches average G(u + c, v + c), and the last pooling is a trace.

The neural tangent kernel carries a second Gram along, T = S + kappa'(cos) T', T' being that of the layer below after
pooling and patches (of layer 1: the inner products themselves), and ends in its trace.
"""

from torch import Tensor

from stability.representations.pair_blocks import first_layer, patch_norms, upper_layer
from stability.representations.pair_memory import PairMemory
from stability.representations.pair_plan import ImageState, PairPlan
from stability.representations.pair_sums import PooledTrace, pooled_gram

TILE = 1024
"""Side of the tiles in which a matrix is added to its transpose."""


class PairProgram:
    """The layers of a plan, ready to evaluate K(x, y) pair by pair in the plan's dtype; the last sum is in float64.

    Args:
        plan: the layers on their grids.
        tangent: the neural tangent kernel instead of the CKN's.
    """

    def __init__(self, plan: PairPlan, tangent: bool = False) -> None:
        self.plan, self.layers, self.tangent = plan, plan.layers, tangent
        self.memory = PairMemory(plan.dtype, plan.device)

    def complete(self, state: ImageState) -> ImageState:
        """Fill in the patch norms of the upper layers and ||Phi(x)||^2, from K(x, x)."""
        state.squared_norm = self._evaluate(state, state)
        return state

    def kernel(self, left: ImageState, right: ImageState) -> float:
        """K(x, y) of two completed states."""
        return self._evaluate(left, right)

    def _evaluate(self, left: ImageState, right: ImageState) -> float:
        rows, columns, is_self, memory = right, left, left is right, self.memory
        grams: list[Tensor] = []  # of the layer below, [G] or [G, T']
        for k, layer in enumerate(self.layers):
            if is_self and k:
                rows.norms[k:] = [patch_norms(layer, grams[0], self.plan.smallest_norm)]
            norms = rows.norms[k], columns.norms[k]
            if k:
                blocks = upper_layer(layer, grams, norms, memory, is_self=is_self)
            else:
                patches = rows.patches, columns.patches
                blocks = first_layer(layer, *patches, memory, is_self=is_self, tangent=self.tangent)
            if layer.is_last:
                trace = PooledTrace(self.plan, norms)
                for block in blocks:
                    trace.add(block.grams[-1], block.start, block.first)
                return float(trace.total) * self.plan.cell_area * (1 + is_self)
            pooled = [pooled_gram(layer, norms, memory, i) for i in range(1 + self.tangent)]
            for block in blocks:
                for gram, sums in zip(block.grams, pooled, strict=True):
                    sums.add(gram, block.start, block.first)
            grams = [sums.result() for sums in pooled]  # columns first
            if is_self:
                grams = [_symmetric_(gram) for gram in grams]
            rows, columns = columns, rows
        raise AssertionError("the last layer returns")


def _symmetric_(gram: Tensor) -> Tensor:
    """G + G^T in place, tile by tile."""
    for i in range(0, len(gram), TILE):
        for j in range(i, len(gram), TILE):
            upper, lower = gram[i : i + TILE, j : j + TILE], gram[j : j + TILE, i : i + TILE]
            total = upper + lower.T
            upper.copy_(total)
            lower.copy_(total.T)
    return gram
