"""Seconds of one distance of an exact CKN (reference cached), beside the least that its arithmetic can cost.

    python benchmarks/gram.py [--out FILE]

The floor, measured in the same run on the same thread: one exponential per pair of positions that a distance cannot
do without (cross and half of the symmetric self kernel, every layer) and the GEMM of the first layer's patches. Ratios,
not milliseconds, carry over to another machine. Targets: 8 ms with strides (2, 5) and 40 ms with (1, 1) at 28 x 28.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

import stability as st

CASES = [
    ((28, 28), 1, (2, 5)),
    ((28, 28), 1, (1, 1)),
    ((32, 32), 1, (1, 1)),
    ((32, 32), 3, (2, 2)),
    ((64, 64), 1, (2, 4)),
]


def median(run: Callable[[], object], repeats: int) -> float:
    """Median wall-clock seconds after two warm-up runs."""
    times = []
    for i in range(repeats + 2):
        start = time.perf_counter()
        run()
        if i >= 2:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def floor(size: tuple[int, int], channels: int, strides: tuple[int, int], repeats: int) -> float:
    """Exponentials and first-layer GEMMs of 1.5 kernels (cross, and half of self)."""
    pairs = (size[0] * size[1]) ** 2
    upper = (size[0] * size[1] // strides[0] ** 2) ** 2
    patches = torch.randn(size[0] * size[1], 9 * channels + 2, dtype=torch.float64) * 0.1
    out = torch.empty(size[0] * size[1], size[0] * size[1], dtype=torch.float64)
    gemm = median(lambda: torch.mm(patches, patches.T, out=out), repeats)
    entries = torch.randn(2**20, dtype=torch.float64).neg().abs().neg()
    target = torch.empty_like(entries)
    exponential = median(lambda: torch.exp(entries, out=target), repeats) / len(entries)
    return 1.5 * (gemm + exponential * (pairs + upper))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = [f"one thread, torch {torch.__version__}, two layers, patch 3, exponential kernel, float64", ""]
    lines.append(f"{'image':>12} {'strides':>8} {'ms a warp':>10} {'floor ms':>9} {'ratio':>6}")
    generator = torch.Generator().manual_seed(0)
    for size, channels, strides in CASES:
        x, y = torch.rand(2, 1, channels, *size, generator=generator, dtype=torch.float64)
        arch = st.Architecture((st.Layer(3, 2.0, strides[0]), st.Layer(3, 4.0, strides[1])))
        reference = st.GramCKN(arch).reference(x)
        repeats = 5 if size[0] == 64 else 25
        seconds = median(lambda reference=reference, y=y: reference.distance(y), repeats)
        least = floor(size, channels, strides, repeats)
        label = f"{size[0]}x{size[1]}x{channels}"
        lines.append(f"{label:>12} {strides!s:>8} {1e3 * seconds:10.1f} {1e3 * least:9.1f} {seconds / least:6.2f}")
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
