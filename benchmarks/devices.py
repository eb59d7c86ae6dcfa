"""The same numbers on another device: exact distances, features of a finite CKN and a search, timed and compared.

    python benchmarks/devices.py [--device cuda] [--out FILE]

Wall time, the device idle before and after. Exact kernels: two layers, patches 3, exponential kernel, float64, one warp
of a sweep (K(x, y) and K(y, y)). The CPU works on one thread.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from kernels import CASES, LARGE, architecture, images

import stability as st
from stability import kernels

REPEATS = 5


def seconds(device: torch.device, call: Callable[[], object], repeats: int = REPEATS) -> float:
    """The least of some runs, after one to warm up."""
    times = []
    for _ in range(1 + repeats):
        synchronise(device)
        start = time.perf_counter()
        call()
        synchronise(device)
        times.append(time.perf_counter() - start)
    return min(times[1:]) if repeats else times[0]


def synchronise(device: torch.device) -> None:
    """Wait for what has been asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def exact(device: torch.device) -> list[str]:
    """A row a case of ``kernels``."""
    lines = [f"{'exact distance':>18} {'CPU, ms':>9} {'device, ms':>11} {'ratio':>7} {'MB':>6}  difference / ||x||"]
    for case, (size, channels, strides) in (CASES | LARGE).items():
        large, found, times = size[0] > 64, [], []
        for place in (torch.device("cpu"), device):
            x, y = (image.to(place) for image in images(size, channels))
            reference = st.GramCKN(architecture(kernels.Exponential(), strides)).reference(x)
            if place.type == "cuda":
                torch.cuda.reset_peak_memory_stats(place)
            distances: list[torch.Tensor] = []
            repeats = 0 if large and place.type == "cpu" else REPEATS
            warp = partial(reference.distance, y)
            times.append(1e3 * seconds(place, lambda warp=warp, into=distances: into.append(warp()), repeats))
            found.append(float(distances[-1]))
        held = f"{torch.cuda.max_memory_allocated(device) / 2**20:6.0f}" if device.type == "cuda" else f"{'-':>6}"
        apart = abs(found[0] - found[1]) / float(x.norm())
        lines.append(f"{case:>18} {times[0]:9.1f} {times[1]:11.1f} {times[0] / times[1]:7.1f} {held}  {apart:.1e}")
    return lines


def learned(device: torch.device) -> list[str]:
    """Features of 64 images, and a search for four."""
    x = st.images.load("fashion", count=64, size=(32, 32)).double()
    generator = torch.Generator().manual_seed(0)
    ckn = st.CKN.fit(st.Architecture.dyadic(depth=2), x, filters=(64, 128), generator=generator)
    lines, there = [], ckn.to("cpu")
    for name, count, repeats, run in (
        ("features of 64 images", 64, REPEATS, lambda phi, y: phi.vectors(y)),
        ("search of 4 images", 4, 0, lambda phi, y: st.worst_case(
            phi, y, displacement_norm=2.0, jacobian_norm=0.25, generator=torch.Generator().manual_seed(0)
        ).largest_found),
    ):  # fmt: skip
        times, found = [], []
        for place in (torch.device("cpu"), device):
            there, y, results = ckn.to(place), x[:count].to(place), list[torch.Tensor]()
            call = partial(run, there, y)
            times.append(seconds(place, lambda call=call, into=results: into.append(call()), repeats))
            found.append(results[-1].cpu())
        apart = float((found[0] - found[1]).norm() / found[0].norm())
        both = f"CPU {times[0]:.3f}, device {times[1]:.3f}, ratio {times[0] / times[1]:.1f}"
        lines.append(f"{name}, s: {both}; difference {apart:.1e}")
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    name = torch.cuda.get_device_name(options.device) if options.device.type == "cuda" else str(options.device)
    lines = [f"{name}, torch {torch.__version__}, beside one thread of its host", ""]
    lines += [*exact(options.device), "", *learned(options.device)]
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
