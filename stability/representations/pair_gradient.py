r"""K(x, y) with derivatives in y: the same recursion out of place, recomputed block by block in the backward pass.

Of a pair only the pooled Grams and, while a block of rows or a layer is differentiated, that block are held.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from stability.operators.patches import shifted
from stability.representations.pair_plan import SMALLEST_NORM, ImageState, LayerPlan, PairPlan

BLOCK_ENTRIES = 2**20
"""Pair entries of layer 1 that are differentiated at a time."""


@dataclass(frozen=True)
class Differentiable:
    """One image of a pair: unit patches of layer 1 ``(N, p)`` and patch norms of the layers known so far ``(N_k,)``."""

    patches: Tensor
    norms: list[Tensor]


def squared_distance(plan: PairPlan, state: ImageState, image: Tensor, tangent: bool) -> Tensor:
    """K(x, x) + K(y, y) - 2 K(x, y), a number that can be differentiated in y.

    Args:
        plan: the layers.
        state: x, completed.
        image: y, ``(C, *size)``, float64.
        tangent: the neural tangent kernel.
    """
    itself, cross = inner_products(plan, state, image, tangent)
    return state.squared_norm + itself - 2.0 * cross


def inner_products(plan: PairPlan, state: ImageState, image: Tensor, tangent: bool) -> tuple[Tensor, Tensor]:
    """K(y, y) and K(x, y), numbers that can be differentiated in y; arguments as in ``squared_distance``."""
    other, itself = _entered(plan, image, tangent)
    return itself, _kernel(plan, Differentiable(state.patches, state.norms), other, tangent)


def inner_products_with(
    plan: PairPlan, states: Sequence[ImageState], image: Tensor, tangent: bool, values: Tensor
) -> Tensor:
    """K(y, y), K(x_1, y), ..., K(x_m, y), ``(1 + m,)``, once differentiable in y: one pair is held at a time.

    Args:
        plan: the layers.
        states: x_i, completed.
        image: y, ``(C, *size)``, float64.
        tangent: the neural tangent kernel.
        values: of the kernels, ``(1 + m,)``, which cost less without derivatives.
    """
    return cast(Tensor, _Several.apply(image, values, plan, tuple(states), tangent))


class _Several(torch.autograd.Function):
    """The derivative of sum_i g_i K(x_i, y), added up pair by pair at the patches and norms of y."""

    @staticmethod
    def forward(
        ctx: Any, image: Tensor, values: Tensor, plan: PairPlan, states: tuple[ImageState, ...], tangent: bool
    ) -> Tensor:
        ctx.save_for_backward(image)
        ctx.rest = plan, states, tangent
        return values.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        plan, states, tangent = ctx.rest
        (image,) = ctx.saved_tensors
        with torch.enable_grad():
            image = image.detach().requires_grad_()
            other, itself = _entered(plan, image, tangent)
            ends = [other.patches, *other.norms]
            leaves = [end.detach().requires_grad_() for end in ends]
            added = [torch.zeros_like(end) for end in leaves]
            for state, factor in zip(states, gradient[1:], strict=True):
                left, right = Differentiable(state.patches, state.norms), Differentiable(leaves[0], leaves[1:])
                parts = torch.autograd.grad(factor * _kernel(plan, left, right, tangent), leaves, allow_unused=True)
                for total, part in zip(added, parts, strict=True):
                    if part is not None:
                        total += part
            (found,) = torch.autograd.grad([itself, *ends], image, [gradient[0], *added])
        return found, None, None, None, None


def _entered(plan: PairPlan, image: Tensor, tangent: bool) -> tuple[Differentiable, Tensor]:
    """y with the norms of all layers, and K(y, y)."""
    patches = plan.patches(image[None])[0]
    norms = _root(patches.square().sum(-1))
    other = Differentiable(patches / torch.where(norms > SMALLEST_NORM, norms, 1.0)[:, None], [norms])
    return other, _kernel(plan, other, other, tangent)  # fills in the norms of the upper layers


def safe_root(values: Tensor) -> Tensor:
    """sqrt(max(v, 0)) with derivative 0 at and below 0, where a distance has none."""
    return _root(values.clamp_min(0.0))


def _root(squares: Tensor) -> Tensor:
    alive = squares > 0
    none = torch.where(squares.isnan(), squares, 0.0)  # what is not a number stays so
    return torch.where(alive, torch.where(alive, squares, 1.0).sqrt(), none)


def _kernel(plan: PairPlan, left: Differentiable, right: Differentiable, tangent: bool) -> Tensor:
    layer, is_self = plan.layers[0], left is right
    (h, w), n = layer.size, len(left.patches)
    step = max(1, BLOCK_ENTRIES // (w * n))
    grams: list[Tensor] | None = None
    for start in range(0, h, step):
        part = slice(start * w, min(start + step, h) * w)

        def block(
            p: Tensor, q: Tensor, of_p: Tensor, of_q: Tensor, start: int = start, part: slice = part
        ) -> tuple[Tensor, ...]:
            cosine = q @ p.T
            found = _layer(layer, cosine, cosine, of_q, of_p, tangent, part.start if is_self else None)
            return _reduced(plan, layer, found, start)

        arguments = (left.patches, right.patches[part], left.norms[0], right.norms[0][part])
        found = checkpoint(block, *arguments, use_reentrant=False)
        grams = list(found) if grams is None else [a + b for a, b in zip(grams, found, strict=True)]
    assert grams is not None
    if not layer.is_last:
        grams = [_pooled(layer, gram.T).T for gram in grams]  # (N', N) with the rows pooled: now the columns
    for k, upper in enumerate(plan.layers[1:], start=1):
        grams = [_sum_over_patch(upper, gram) for gram in grams]
        if is_self:
            left.norms.append(_root(grams[0].diagonal().clamp_min(0.0)))

        def whole(of_p: Tensor, of_q: Tensor, *inner: Tensor, upper: LayerPlan = upper) -> tuple[Tensor, ...]:
            alive = (of_q > SMALLEST_NORM)[:, None] & (of_p > SMALLEST_NORM)
            sizes = torch.where(alive, of_q[:, None] * of_p, 1.0)  # no division by 0, which spoils gradients
            cosine = torch.where(alive, inner[0] / sizes, 0.0)
            tangents = torch.where(alive, inner[-1] / sizes, 0.0)
            found = _layer(upper, cosine, tangents, of_q, of_p, tangent, 0 if is_self else None)
            return _reduced(plan, upper, found, 0)

        grams = list(checkpoint(whole, left.norms[k], right.norms[k], *grams, use_reentrant=False))
        if not upper.is_last:
            grams = [_pooled(upper, gram.T).T for gram in grams]
    return grams[-1] * plan.cell_area


def _layer(
    layer: LayerPlan,
    cosine: Tensor,
    tangents: Tensor,
    rows: Tensor,
    columns: Tensor,
    tangent: bool,
    diagonal: int | None,
) -> list[Tensor]:
    """[S] or [S, T] from cosines, tangent products over |z| |z'|, and norms; ``diagonal``: where row 0 meets itself."""
    if diagonal is not None:  # the cosine of a patch with itself, whatever the patch
        ones = cosine.new_ones(min(cosine.shape[0], cosine.shape[1] - diagonal))
        cosine = cosine.diagonal_scatter(ones, diagonal)
    value = layer.kernel(cosine)
    sizes = rows[:, None] * columns
    if not tangent:
        return [value * sizes]
    return [value * sizes, (value + layer.kernel.derivative(cosine) * tangents) * sizes]


def _reduced(plan: PairPlan, layer: LayerPlan, grams: Sequence[Tensor], start: int) -> tuple[Tensor, ...]:
    """The rows pooled, or, behind the last layer, the trace; of a block of rows from image row ``start`` on."""
    if not layer.is_last:
        return tuple(_pooled(layer, gram, start) for gram in grams)
    (h, w), (rows, columns) = layer.size, plan.trace_weights
    count = grams[-1].shape[0] // w
    along_x = (grams[-1].view(count, w, h, w) * columns[:, None, :]).sum((1, 3))  # (count, h)
    return ((along_x * rows[start : start + count]).sum(),)


def _pooled(layer: LayerPlan, block: Tensor, start: int = 0) -> Tensor:
    """A[:, block] K[block, :], ``(N', n)``."""
    (_, w), (rows, columns) = layer.size, layer.pooling
    count, n = block.shape[0] // w, block.shape[1]
    along_x = torch.matmul(columns, block.reshape(count, w, n))  # (count, w', n)
    return (rows[:, start : start + count] @ along_x.reshape(count, -1)).view(layer.pooled_count, n)


def _sum_over_patch(layer: LayerPlan, gram: Tensor) -> Tensor:
    """The mean of G(u + c, v + c) over the patch, ``(N, N)``."""
    h, w = layer.size
    gram = gram.view(h, w, h, w)
    for axis, offsets in enumerate(layer.offsets):
        if len(offsets) > 1:
            both = [(c, 0, c, 0) if axis == 0 else (0, c, 0, c) for c in offsets]
            gram = torch.stack([shifted(gram, c, layer.boundary) for c in both]).sum(0)
    return gram.view(h * w, h * w) / math.prod(map(len, layer.offsets))
