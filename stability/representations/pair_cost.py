"""What an exact kernel and a finite network cost, counted: seconds on one core, and bytes.

Seconds are counts over two rates of an ordinary core, good to a factor of two or three; the same on every machine, so
that a choice by them is, too. Bytes of exact kernels are those of the buffers that they hold.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stability.architecture import Architecture
from stability.representations import pair_blocks, pair_plan, pair_sums

FLOPS = 1.2e10
"""Additions and multiplications per second in float64, in matrix products as thin as those of pooling."""
PASS = 3e-9
"""Seconds per entry of a nonlinearity with the passes around it."""
OF_A_WARP = 1.5
"""Kernels per deformed image: K(x, y), and half of K(y, y), which is symmetric."""
ITEM = 8
"""Bytes of a number."""


@dataclass(frozen=True)
class Cost:
    """Of the distance of one more image from a reference: seconds, and bytes held."""

    seconds: float
    memory: float


def exact_cost(architecture: Architecture, channels: int, size: Sequence[int], refinement: int = 1) -> Cost:
    """Cost of ``GramCKN``.

    Args:
        architecture: the network.
        channels: of the images, behind the front end.
        size: of the images.
        refinement: their grid is so many times as fine as the architecture's pixels.
    """
    flops = entries = 0.0
    buffers: dict[str, float] = {}
    grid = (1,) * (2 - len(size)) + tuple(size)
    for k, layer in enumerate(architecture.layers):
        h, w = grid
        n, pooled = h * w, (math.ceil(h / layer.subsampling) if len(size) == 2 else 1, math.ceil(w / layer.subsampling))
        entries += n * n
        rows = math.ceil(h / max(1, math.ceil(n * n / pair_blocks.BLOCK_ENTRIES)))  # or columns, of a block
        chunk = rows * w * n
        if k == 0:
            patches = channels * layer.patch_size ** len(size) + 1
            flops += 2.0 * n * n * patches
            buffers["pairs0"] = chunk
            buffers["rows and columns"] = 2 * n * patches if layer.kernel.exponent is not None else 0
        else:
            reach = layer.patch_size - 1 if layer.patch_size > 1 else 0
            down, right = (reach * refinement if len(size) == 2 else 0), reach * refinement
            extended = ((h + down) * (w + right)) ** 2
            is_last = k == architecture.depth - 1
            pairs = max(1, pair_blocks.BLOCK_ENTRIES // extended) if is_last else 1
            _hold(buffers, "extended" if is_last else "lower", pairs * extended)
            sums = rows * h * (w + right) ** 2
            _hold(buffers, "along_x", pairs * sums if down else 0)
            _hold(buffers, "pairs0", pairs * chunk)
        if k < architecture.depth - 1:
            flops += _pooling(buffers, (h, w), pooled, rows)
        grid = pooled
    return Cost(OF_A_WARP * (flops / FLOPS + PASS * entries), ITEM * sum(buffers.values()))


def _pooling(buffers: dict[str, float], grid: tuple[int, int], pooled: tuple[int, int], block: int) -> float:
    """Operations of A S A^T in blocks of so many image rows; its buffers are entered."""
    (h, w), (rows, columns) = grid, pooled
    n, count = h * w, rows * columns
    height, width = (side + -side % pair_plan.ROWS_OF_A_PRODUCT for side in pooled)
    _hold(buffers, "weighted", 2 * h * width * w)
    _hold(buffers, "along_x", h * width * block * w)
    _hold(buffers, "along_y", height * columns * block * w)
    _hold(buffers, "waiting", min(h, max(1, pair_sums.WAITING_ENTRIES // (width * count))) * width * count)
    _hold(buffers, "pooled", height * columns * count)
    _hold(buffers, "waiting", count * count)  # transposed
    ways = columns * w * h + rows * h * columns  # of one column of the Gram: horizontally, then vertically
    return 2.0 * ways * (n + count)


def _hold(buffers: dict[str, float], name: str, entries: float) -> None:
    buffers[name] = max(buffers.get(name, 0.0), entries)


def finite_cost(architecture: Architecture, channels: int, size: Sequence[int], filters: Sequence[int]) -> Cost:
    """Cost of ``CKN``: every layer's convolution, kernel, pooling and inverse root.

    Args:
        architecture: the network.
        channels: of the images, behind the front end.
        size: of the images.
        filters: anchors of every layer.
    """
    d, grid, before = len(size), list(size), channels
    flops = entries = widest = anchors = 0.0
    for layer, count in zip(architecture.layers, filters, strict=True):
        n, patch = math.prod(grid), before * layer.patch_size**d
        pooled = [math.ceil(side / layer.subsampling) for side in grid]
        flops += 2.0 * n * count * (patch + sum(grid)) + 2.0 * math.prod(pooled) * count * count
        entries += n * count
        widest = max(widest, n * (before + 3.0 * count))
        anchors += count * (patch + 2.0 * count)
        grid, before = pooled, count
    return Cost(flops / FLOPS + PASS * entries, ITEM * (widest + anchors))
