r"""A layer's Gram matrix over all pairs of positions, in blocks that stay in a core's cache.

A block holds kappa(cos) and, for the neural tangent kernel, kappa(cos) + kappa'(cos) T' / (|z| |z'|), T' being the
tangent Gram of the layer below after pooling and patches (of layer 1: the inner products themselves). Its entries
times |z| |z'| are the Gram's; what pools or sums the block multiplies small matrices by the norms instead.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.boundaries import Periodic
from stability.kernels import Kernel
from stability.representations.pair_memory import PairMemory
from stability.representations.pair_plan import LayerPlan

BLOCK_ENTRIES = 2**18
"""Pair entries worked on at a time, 2 MB in float64: less stays in the cache better, but takes more calls."""
SELF_BLOCKS = 4
"""K(x, x) is symmetric: in b blocks only (1 + 1 / b) / 2 of it is computed."""


@dataclass(frozen=True)
class Part:
    """Image rows ``top`` ... ``bottom`` of the rows' positions, ``left`` ... ``right`` of the columns' ones.

    Of a symmetric matrix the parts are the blocks on the diagonal, halved, with what is right of them (blocks of rows)
    or above them (blocks of columns): the whole is S + S^T.
    """

    top: int
    bottom: int
    left: int
    right: int


@dataclass(frozen=True)
class Block:
    """A part of a Gram over |z| |z'|, ``((bottom - top) w, (right - left) w)``."""

    grams: list[Tensor]  # [S] or, with tangents, [S, T]
    part: Part


def first_layer(
    layer: LayerPlan, rows: Tensor, columns: Tensor, memory: PairMemory, *, is_self: bool, tangent: bool
) -> Iterator[Block]:
    """Blocks of layer 1.

    For kappa(u) = exp(alpha (u - 1)) the product of [a P/|P|, -a] and [Q/|Q|, 1], a = alpha / log 2, is the whole
    exponent in base 2: one GEMM and one pass.

    Args:
        layer: the first one.
        rows: unit patches ``(N, p)``.
        columns: unit patches ``(N, p)``.
        memory: where the block is.
        is_self: rows and columns belong to one image.
        tangent: with the tangent kernel.
    """
    w, n = layer.size[1], len(rows)
    kernel = layer.kernel
    fused = kernel.exponent is not None and not tangent
    if kernel.exponent is not None and fused:
        binary = kernel.exponent / math.log(2.0)
        rows = _with_column(rows, binary, -binary, memory("rows", (n, rows.shape[1] + 1)))
        columns = _with_column(columns, 1.0, 1.0, memory("columns", (n, columns.shape[1] + 1)))
    for part in _parts(layer, SELF_BLOCKS if is_self else 1, is_self, 1 + tangent):
        one, other = rows[part.top * w : part.bottom * w], columns[part.left * w : part.right * w]
        shape = (len(one), len(other))
        cosine = torch.mm(one, other.T, out=memory("pairs0", shape))
        if is_self:
            _on_diagonal(cosine, part, w).diagonal().fill_(0.0 if fused else 1.0)  # the exponent, or the cosine
        if fused:
            grams = [cosine.exp2_()]
        elif tangent:
            slope = kernel.derivative_(memory("pairs1", shape).copy_(cosine)).mul_(cosine)  # kappa'(cos) cos
            grams = [kappa_(kernel, cosine)]
            grams.append(slope.add_(cosine))
        else:
            grams = [kappa_(kernel, cosine)]
        yield _halved(grams, part, w, is_self)


def upper_layer(
    layer: LayerPlan, grams: list[Tensor], norms: tuple[Tensor, Tensor], memory: PairMemory, *, is_self: bool
) -> Iterator[Block]:
    """Blocks of a layer above the first, of one pair of images.

    Args:
        layer: the layer.
        grams: [G] or, with tangents, [G, T']: Grams of the layer below, ``extended`` ``(H, W, H, W)``.
        norms: |z| of rows and columns, ``(N,)`` each, 0 for patches too small to have a direction.
        memory: where the block is.
        is_self: rows and columns belong to one image.
    """
    w, several = layer.size[1], is_self and math.prod(layer.size) ** 2 > BLOCK_ENTRIES
    for part in _parts(layer, SELF_BLOCKS if several else 1, is_self):
        some = norms[0][part.top * w : part.bottom * w], norms[1][part.left * w : part.right * w]
        values = _values(layer, grams, some, part, memory, [()] if is_self else [])
        yield _halved(values, part, w, is_self)


def whole_layer(
    layer: LayerPlan, grams: list[Tensor], norms: tuple[Tensor, Tensor], memory: PairMemory, selves: list[int]
) -> Tensor:
    """S (or T) over |z| |z'| of a layer above the first, of several pairs at once, ``(M, N, N)``.

    Args:
        layer: the layer.
        grams: [G] or [G, T'], ``extended`` ``(M, H, W, H, W)``.
        norms: |z| of rows and columns, ``(M, N)`` each.
        memory: where the values are.
        selves: which of the pairs are an image with itself.
    """
    height = layer.size[0]
    return _values(layer, grams, norms, Part(0, height, 0, height), memory, [(pair,) for pair in selves])[-1]


def _values(
    layer: LayerPlan,
    grams: list[Tensor],
    norms: tuple[Tensor, Tensor],
    part: Part,
    memory: PairMemory,
    selves: Sequence[tuple[int, ...]],
) -> list[Tensor]:
    """[kappa(cos)], with tangents [kappa, kappa + kappa' T' / (|z| |z'|)]; selves: images with themselves."""
    kernel = layer.kernel
    sums = [_sum_over_patch(layer, gram, part, f"{i}", memory) for i, gram in enumerate(grams)]
    of_rows, of_columns = (torch.where(norm > 0, 1.0 / norm, 0.0) for norm in norms)
    of_rows = of_rows / layer.patch_positions
    for one in sums:
        one.mul_(of_rows[..., None]).mul_(of_columns[..., None, :])
    cosine = sums[0]
    for of_self in selves:
        _on_diagonal(cosine[of_self], part, layer.size[1]).diagonal().fill_(1.0)
    if len(sums) > 1:
        sums[1].mul_(kernel.derivative_(memory("slope", tuple(cosine.shape)).copy_(cosine)))
    kappa_(kernel, cosine)
    if len(sums) > 1:
        sums[1].add_(cosine)
    return sums


def _with_column(patches: Tensor, factor: float, last: float, target: Tensor) -> Tensor:
    """[factor P, last]."""
    torch.mul(patches, factor, out=target[:, :-1])
    target[:, -1].fill_(last)
    return target


def _parts(layer: LayerPlan, least: int, is_self: bool, grams: int = 1) -> Iterator[Part]:
    """At least so many, all of about the same size: blocks of columns to be pooled, of rows behind the last layer."""
    h, w = layer.size
    step = -(-h // max(least, -(-h * w * h * w * grams // BLOCK_ENTRIES)))
    for start in range(0, h, step):
        stop = min(start + step, h)
        if layer.is_last:
            yield Part(start, stop, start if is_self else 0, h)
        else:
            yield Part(0, stop if is_self else h, start, stop)


def _on_diagonal(gram: Tensor, part: Part, w: int) -> Tensor:
    """The block whose rows and columns are the same positions."""
    first, end = max(part.top, part.left), min(part.bottom, part.right)
    return gram[(first - part.top) * w : (end - part.top) * w, (first - part.left) * w : (end - part.left) * w]


def patch_norms(layer: LayerPlan, gram: Tensor, least: float) -> Tensor:
    """|z(u)| from ``extended`` G of an image with itself ``(H, W, H, W)``, ``(N,)``; 0 where at most ``least``."""
    (h, w), (down, right) = layer.size, layer.shifts
    n = math.prod(layer.extended_size)
    diagonal = gram.reshape(n, n).diagonal().view(layer.extended_size)
    along_y = diagonal.unfold(0, h, 1)[:: _spacing(down)].sum(0)  # (W, h)
    squares = along_y.unfold(0, w, 1)[:: _spacing(right)].sum(0)  # (h, w)
    norm = squares.div_(layer.patch_positions).clamp_min_(0.0).sqrt_().flatten()
    return torch.where(norm > least, norm, 0.0)


def _spacing(along: tuple[int, ...]) -> int:
    """Between the positions of a patch along an axis."""
    return along[1] - along[0] if len(along) > 1 else 1


def extended(layer: LayerPlan, gram: Tensor, target: Tensor) -> Tensor:
    """G ``(N, N)`` copied to all positions that the layer's patches read, ``target`` ``(H, W, H, W)``."""
    if layer.pairs_read is not None:
        torch.index_select(gram.view(-1), 0, layer.pairs_read, out=target.view(-1))
    else:
        _extend(layer, gram.view(layer.size + layer.size), target)
    return target


def _extend(layer: LayerPlan, source: Tensor, target: Tensor) -> None:
    """Copy ``(h, w, ...)``, axes in turn vertical and horizontal, into ``(H, W, ...)``: wrapped, or 0 beyond."""
    before = tuple(-min(along) for along in layer.offsets)
    periodic = isinstance(layer.boundary, Periodic)
    if not periodic:
        target.zero_()
    inside = target
    for axis, n in enumerate(source.shape):
        inside = inside.narrow(axis, before[axis % 2], n)
    inside.copy_(source)
    for axis, n in enumerate(source.shape) if periodic else ():
        start, end = before[axis % 2], target.shape[axis]
        target.narrow(axis, 0, start).copy_(target.narrow(axis, n, start))
        target.narrow(axis, start + n, end - start - n).copy_(target.narrow(axis, start, end - start - n))


def _sum_over_patch(layer: LayerPlan, gram: Tensor, part: Part, name: str, memory: PairMemory) -> Tensor:
    """sum_c G(u + c, v + c) for the part's u and v, one axis at a time."""
    w, (down, right) = layer.size[1], layer.shifts
    count, kept, pairs = part.bottom - part.top, part.right - part.left, tuple(gram.shape[:-4])
    along_y = [gram[..., part.top + a : part.bottom + a, :, part.left + a : part.right + a, :] for a in down]
    total = along_y[0]
    if len(along_y) > 1:
        total = _sum(along_y, memory("along_x", (*pairs, count, gram.shape[-3], kept, gram.shape[-1])))
    along_x = [total[..., b : b + w, :, b : b + w] for b in right]
    return _sum(along_x, memory(f"pairs{name}", (*pairs, count, w, kept, w))).view(*pairs, count * w, kept * w)


def _sum(parts: list[Tensor], total: Tensor) -> Tensor:
    if len(parts) == 1:
        return total.copy_(parts[0])
    torch.add(parts[0], parts[1], out=total)
    for part in parts[2:]:
        total.add_(part)
    return total


def kappa_(kernel: Kernel, cosine: Tensor) -> Tensor:
    """kappa(cosine) in place; exp(alpha (u - 1)) as a power of 2, which takes half of the time in float32."""
    if kernel.exponent is None:
        return kernel.evaluate_(cosine)
    return cosine.sub_(1.0).mul_(kernel.exponent / math.log(2.0)).exp2_()


def _halved(grams: list[Tensor], part: Part, w: int, is_self: bool) -> Block:
    for gram in grams if is_self else ():
        _on_diagonal(gram, part, w).mul_(0.5)
    return Block(grams, part)
