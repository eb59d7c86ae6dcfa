"""Exact kernels: time and memory of a warp in a sweep, beside the least that the arithmetic can cost and a peer.

    python benchmarks/kernels.py [--peer PYTHON] [--large] [--out FILE]

Two layers, patches 3, float64, one thread. A warp in a sweep: x is cached, K(x, y) and K(y, y) are evaluated, of 20
warps together (64 pixels and more: of one), a twentieth. K(x, y): alone, both norms known. A pair: K(x, x), K(x, y) and
K(y, y). The floor, measured in the same run on the same thread: one power of 2 per pair of
positions that a distance cannot do without (cross and half of the symmetric self kernel, every layer), the GEMM of
the first layer's patches, the four GEMMs of its pooling, each alone and at its shape, and the four additions a pair of
second layer's patches. "x exp": over the same with exponentials, which cost three times as much.
Memory: the highest over that of the process before, in a process of its own.

``--peer`` names the Python of an environment with neural-tangents (jax and jaxlib 0.4.34, tf2jax 0.3.6). It evaluates
the nearest architectures that it has, without Gaussian pooling and A_0: averages over periodic boxes of the variance of
our Gaussians ("equal boxes"), and over boxes as wide as the stride, side by side ("stride boxes"), the cheapest pooling
that there is and none at all with strides of 1. Float64, jit, both self-kernels included, since it keeps nothing of x.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

import stability as st
from stability import kernels

CASES = {
    "28x28x1 (2,5)": ((28, 28), 1, (2, 5)),
    "28x28x1 (1,1)": ((28, 28), 1, (1, 1)),
    "32x32x3 (1,1)": ((32, 32), 3, (1, 1)),
    "64x64x3 (2,4)": ((64, 64), 3, (2, 4)),
    "64x64x3 (1,1)": ((64, 64), 3, (1, 1)),
}
LARGE = {"224x224x3 (4,2)": ((224, 224), 3, (4, 2))}
CLAIMS = {  # of what, ms, MB
    "28x28x1 (2,5)": ("a warp", 8.0, 100.0),
    "28x28x1 (1,1)": ("a warp", 40.0, None),
    "32x32x3 (1,1)": ("a warp", 80.0, None),
    "64x64x3 (2,4)": ("K(x, y)", 150.0, 100.0),
    "64x64x3 (1,1)": ("a warp", 3000.0, 600.0),
    "224x224x3 (4,2)": ("a warp", 60_000.0, 1000.0),
}
WARPS = 20
"""Of a sweep, up to 32 pixels."""
KINDS = {
    "exponential": (st.GramCKN, kernels.Exponential()),
    "arc-cosine 1": (st.GramCKN, kernels.ArcCosine(1)),
    "inverse polynomial": (st.GramCKN, kernels.InversePolynomial()),
    "NTK (ReLU)": (st.GramNTK, kernels.ArcCosine(1)),
}


def median(run: Callable[[], object], seconds: float = 2.0) -> float:
    """Median processor seconds of the runs that fit into a budget, after one to warm up."""
    run()
    times: list[float] = []
    while not times or (sum(times) < seconds and len(times) < 25):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return statistics.median(times)


def images(size: tuple[int, int], channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two images of noise."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 1, channels, *size, generator=generator, dtype=torch.float64)
    return x, y


def architecture(kernel: kernels.Kernel, strides: tuple[int, int]) -> st.Architecture:
    """Two layers of patches 3."""
    return st.Architecture(
        (
            st.Layer(3, 1.0 * strides[0], strides[0], kernel),
            st.Layer(3, 1.0 * strides[0] * strides[1], strides[1], kernel),
        )
    )


def floor(size: tuple[int, int], channels: int, strides: tuple[int, int]) -> tuple[float, float]:
    """Powers of 2, GEMMs and additions of 1.5 kernels (cross, and half of self), in seconds; with exponentials."""
    (h, w), n, s = size, size[0] * size[1], strides[0]
    rows, columns = -(-h // s), -(-w // s)
    count = rows * columns
    patches, block = 9 * channels + 1, min(n, 2**18 // n + 1)
    products = (  # m, k, n of A @ B, and how often
        (block, patches, n, n / block),
        (columns, w, n, h),
        (rows, h, columns * n, 1),
        (columns, w, count, h),
        (rows, h, columns * count, 1),
    )
    seconds = 0.0
    for m, k, columns_of_b, times in products:
        a, b = torch.rand(m, k, dtype=torch.float64), torch.rand(k, columns_of_b, dtype=torch.float64)
        out = torch.empty(m, columns_of_b, dtype=torch.float64)
        seconds += times * median(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), 0.5)
    entries = torch.randn(2**18, dtype=torch.float64).abs().neg()
    target = torch.empty_like(entries)
    powers = [median(lambda f=f: f(entries, out=target), 0.5) / len(entries) for f in (torch.exp2, torch.exp)]
    addition = median(lambda: target.add_(entries), 0.5) / len(entries)
    least, usual = (1.5 * (seconds + one * (n**2 + count**2) + 4 * addition * count**2) for one in powers)
    return least, usual


def machine() -> str:
    """What an exponential and a product of matrices cost here."""
    entries = torch.randn(2**17, dtype=torch.float64)
    exponential = median(lambda: torch.exp(entries), 0.5) / len(entries)
    square, out = torch.rand(1024, 1024, dtype=torch.float64), torch.empty(1024, 1024, dtype=torch.float64)
    product = 2 * 1024**3 / median(lambda: torch.mm(square, square, out=out), 1.0)
    return f"exp {1e9 * exponential:.2f} ns an entry, a product of matrices {product / 1e9:.0f} GFlop/s"


def memory(case: str) -> float:
    """MB that a warp needs over the process before it, measured in a process of its own."""
    here = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {here!r}); import kernels; kernels.print_memory({case!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def print_memory(case: str) -> None:
    """The body of ``memory``."""
    torch.set_num_threads(1)
    size, channels, strides = (CASES | LARGE)[case]
    x, y = images(size, channels)
    small = st.GramCKN(architecture(kernels.Exponential(), (2, 2)))
    small.distance(*images((8, 8), channels))  # everything is loaded
    before = peak()
    st.GramCKN(architecture(kernels.Exponential(), strides)).reference(x).distance(y)
    print((peak() - before) / 1024)


def peak() -> int:
    """The largest resident memory so far in kB (Linux; the limits of ``getrusage`` are those of the parent)."""
    (line,) = [row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmHWM")]
    return int(line.split()[1])


class Peer:
    """neural-tangents in another environment, asked case by case, so that its turns and ours alternate."""

    def __init__(self, python: str) -> None:
        worker = Path(__file__).with_name("neural_tangents_worker.py")
        self.process = subprocess.Popen(
            [python, str(worker)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def seconds(self, case: tuple[tuple[int, int], int, tuple[int, int]], kind: str, boxes: str) -> float:
        """Median seconds of one pair, compiled before."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"case": case, "kind": kind, "boxes": boxes}) + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def table(cases: dict[str, tuple[tuple[int, int], int, tuple[int, int]]], peer: Peer | None) -> list[str]:
    """One row a case and kernel."""
    load = " ".join(f"{one:.1f}" for one in os.getloadavg())
    lines = [
        f"one thread, torch {torch.__version__}, two layers, patches 3, float64; processor times in ms",
        f"load average {load} on {os.cpu_count()} cores at the start: neighbours slow the floor, too",
        f"{machine()} (the claims' times are of a machine with 1.6 ns and 43 GFlop/s)",
        "",
        f"{'image (strides)':>16} {'kernel':>19} {'a warp':>9} {'K(x, y)':>9} {'a pair':>9} {'x exponential':>14}"
        f" {'floor':>8} {'x floor':>8} {'x exp':>6} {'MB':>6}   "
        "peer, a pair: equal boxes, / our warp; stride boxes, / our warp",
    ]
    for case, (size, channels, strides) in cases.items():
        print(case, flush=True)
        (least, usual), first = floor(size, channels, strides), None
        for kind, (representation, kernel) in KINDS.items():
            if (size[0] > 64 or (size[0] == 64 and strides == (1, 1))) and kind != "exponential":
                continue
            x, y = images(size, channels)
            phi = representation(architecture(kernel, strides))
            reference = phi.reference(x)
            others = y[None].expand(1, WARPS if size[0] <= 32 else 1, -1, -1, -1)
            warp = median(lambda reference=reference, others=others: reference.distance(others)) / others.shape[1]
            program = phi.program(x)
            both = [program.complete(program.plan.prepare(image))[0] for image in (x, y)]
            cross = median(lambda program=program, both=both: program.kernels([(both[0], both[1])]))
            pair = median(lambda phi=phi, x=x, y=y: phi.distance(x, y)) if size[0] < 224 else float("nan")
            theirs = [float("nan")] * 2
            if peer is not None and size[0] <= 32 and kind in ("exponential", "NTK (ReLU)"):
                theirs[0] = peer.seconds((size, channels, strides), kind, "variance")
                theirs[1] = peer.seconds((size, channels, strides), kind, "strides")
            first = warp if first is None else first
            held = memory(case) if kind == "exponential" else float("nan")
            times = f"{1e3 * warp:9.1f} {1e3 * cross:9.1f} {1e3 * pair:9.1f} {warp / first:14.2f} {1e3 * least:8.1f}"
            rest = f"{warp / least:8.2f} {warp / usual:6.2f} {held:6.0f} " + "".join(
                f"{1e3 * t:11.1f} {t / warp:6.1f}" for t in theirs
            )
            lines.append(f"{case:>16} {kind:>19} {times} {rest}".replace("nan", "  -"))
            if kind == "exponential":
                what, claimed, most = CLAIMS[case]
                verdict = f"claimed: {what} at most {claimed:g} ms" + (f", {most:g} MB" if most else "")
                lines.append(f"{'':>16} {verdict}")
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="Python of an environment with neural-tangents")
    parser.add_argument("--large", action="store_true", help="a pair of 224 x 224 RGB images as well (a minute or two)")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = table(CASES | LARGE if options.large else CASES, Peer(options.peer) if options.peer else None)
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
