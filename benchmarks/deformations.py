"""Seconds for fields with prescribed norms on the pixel grid, and the norms realised, beside other generators.

    python benchmarks/deformations.py [--out FILE] [--rounds 7] [--budget 30] [--sizes 32 128 512]

One thread. Every round runs each generator once, so that a disturbance of the machine hits all of them; medians over
the rounds. Generators that are not installed are told apart: pip install kornia monai torchio batchgeneratorsv2
voxelmorph scipy. None of them controls a norm of the field's gradient.
"""

import argparse
import importlib.metadata
import itertools
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import field_generators as peers  # sets the number of threads, before torch is imported
import torch
from torch import Tensor

import stability as st

SIZES, FIELDS = (32, 128, 512), (1, 64)
SIDE, COUNT, REFINEMENT = 64, 64, 8
"""Of the table of norms: pixels a side, fields, nodes per pixel and axis."""

SHIFT, SPECTRUM = "ours: both norms, shift mode", "ours: both norms, spectrum mode"
NAMED = ("kornia", "monai", "torchio", "batchgeneratorsv2")
"""The packages that the claim at 128 x 128 names."""

Case = tuple[int, int]


class Cell(NamedTuple):
    """Median seconds of a case, if there is a measurement, and what must be said of it."""

    seconds: float | None
    remark: str = ""


def timed(run: Callable[[], object]) -> float:
    """Processor seconds, of the one thread that everything runs on: neighbours cost less than on the clock."""
    start = time.process_time()
    run()
    return time.process_time() - start


def interleaved(runs: dict[str, Callable[[], object]], rounds: int, budget: float) -> dict[str, Cell]:
    """Medians over rounds; what would take more than ``budget`` seconds in all is run once or twice only, and says so.

    The first run, of which the estimate is made, is not counted where there are others.
    """
    first = {name: timed(run) for name, run in runs.items()}
    often = {name: max(0, min(rounds, int(budget / seconds))) for name, seconds in first.items()}
    seen: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds):
        for name, run in runs.items():
            if i < often[name]:
                seen[name].append(timed(run))
    cells = {}
    for name, values in seen.items():
        count = len(values) or 1
        cells[name] = Cell(statistics.median(values or [first[name]]), "" if count == rounds else f"({count} run)")
    return cells


def measure_times(sizes: Sequence[int], rounds: int, budget: float) -> dict[Case, dict[str, Cell]]:
    """Each generator in each case."""
    table: dict[Case, dict[str, Cell]] = {}
    for side, fields in itertools.product(sizes, FIELDS):
        runs, missing = {}, {}
        for generator in peers.GENERATORS:
            try:
                generator.make(side, 1)[0]()  # what is done once: imports, memory
                runs[generator.name] = generator.make(side, fields)[0]
            except ImportError:
                missing[generator.name] = Cell(None, "not installed")
        table[side, fields] = interleaved(runs, rounds, budget) | missing
    return table


def certificates(sizes: Sequence[int], rounds: int) -> list[str]:
    """Seconds of the certified upper values of both norms of fields with both norms controlled."""
    lines = []
    for side, fields in itertools.product(sizes, FIELDS):
        rng = torch.Generator().manual_seed(0)
        seconds, excess = [], []
        for _ in range(rounds):
            field = st.FourierField.sample((side, side), cutoff=peers.CUTOFF, batch_shape=(fields,), generator=rng)
            norms = peers.spectrum_mode(field, side).norms()
            seconds.append(timed(lambda norms=norms: (norms.displacement.upper, norms.jacobian.upper)))
            ends = (norms.displacement, norms.jacobian)
            excess.append(max(float((end.upper / end.lower).max()) for end in ends))
        lines.append(f"{side:4d} x {side:<4d} {fields:3d} {1e3 * statistics.median(seconds):9.1f} {max(excess):12.6f}")
    return [f"{'size':>8} {'fields':>6} {'ms':>9} {'upper / seen':>14}", *lines]


def shown(table: dict[Case, dict[str, Cell]]) -> list[str]:
    """Milliseconds, and the ratio to our spectrum mode in the same case."""
    cases = list(table)
    lines = [f"{'':36}" + "".join(f"{f'{side}^2, {fields}':>20}" for side, fields in cases)]
    for generator in peers.GENERATORS:
        line = f"{generator.name:36}"
        for case in cases:
            seconds, remark = table[case][generator.name]
            ours = table[case][SPECTRUM].seconds
            assert ours is not None
            text = remark if seconds is None else f"{1e3 * seconds:.1f} x{seconds / ours:.2f}{remark and '*'}"
            line += f"{text:>20}"
        lines.append(line)
    if any(cell.remark == "(1 run)" for cells in table.values() for cell in cells.values()):
        lines.append("* fewer rounds than the others: over the budget of seconds")
    return lines


def claims(table: dict[Case, dict[str, Cell]]) -> list[str]:
    """What is claimed for 64 fields of the sizes in the table, with the figures of this run."""
    others = [g for g in peers.GENERATORS if not g.ours]
    sizes = {side for side, _ in table}

    def fastest(side: int, which: list[peers.Generator]) -> tuple[float, str]:
        known = [(table[side, 64][g.name].seconds, g.name) for g in which]
        return min((seconds, name) for seconds, name in known if seconds is not None)

    def ours(side: int, name: str) -> float:
        seconds = table[side, 64][name].seconds
        assert seconds is not None
        return seconds

    lines = []
    for package in NAMED if 128 in sizes else ():
        rows = [g for g in others if g.package == package]
        if any(table[128, 64][g.name].seconds for g in rows):
            seconds, name = fastest(128, rows)
            text = f"128^2: {name} / ours, shift mode {seconds / ours(128, SHIFT):.2f}"
            lines.append(f"{text}, spectrum mode {seconds / ours(128, SPECTRUM):.2f} (claimed: above 1)")
    if 512 in sizes:
        seconds, name = fastest(512, others)
        text = f"512^2: {name}, the fastest, / ours, shift mode {seconds / ours(512, SHIFT):.2f}"
        lines.append(f"{text}, spectrum mode {seconds / ours(512, SPECTRUM):.2f} (claimed: above 1)")
    if 32 in sizes:
        seconds, name = fastest(32, [g for g in others if not g.bare])
        text = f"32^2: ours / {name}, the fastest but a bare Fourier transform,"
        lines.append(
            f"{text} shift mode {ours(32, SHIFT) / seconds:.1f} (claimed: at most 5), "
            f"spectrum mode {ours(32, SPECTRUM) / seconds:.1f} (claimed: at most 20)"
        )
    return lines


def realised(field: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """sup |tau|, sup ||grad tau||_2 and whether det(I + grad tau) <= 0 somewhere, ``(fields,)`` each.

    The pixels are continued by the bicubic spline through them and looked at on a grid 8 times as fine, from the first
    to the last pixel, as one reads these fields. (I + grad tau: other packages sample at u + tau(u); ours are read with
    the other sign.)
    """
    from scipy.interpolate import RectBivariateSpline

    n = field.shape[1]
    fine = torch.linspace(0, n - 1, REFINEMENT * (n - 1) + 1, dtype=torch.float64).numpy()
    pixels = torch.arange(n, dtype=torch.float64).numpy()
    far, steep, folded = [], [], []
    for one in field.to(torch.float64):
        splines = [RectBivariateSpline(pixels, pixels, one[..., i].numpy()) for i in range(2)]
        x, y = (torch.as_tensor(spline(fine, fine)) for spline in splines)
        (a, c), (b, d) = (
            [torch.as_tensor(spline(fine, fine, dx=dx, dy=1 - dx)) for spline in splines] for dx in (0, 1)
        )  # rows are y: dx = 1 differentiates along y
        far.append(torch.hypot(x, y).max())
        steep.append(((torch.hypot(a + d, c - b) + torch.hypot(a - d, b + c)) / 2).max())
        folded.append(((1 + a) * (1 + d) - b * c).min() <= 0)
    return torch.stack(far), torch.stack(steep), torch.stack(folded)


def norms() -> list[str]:
    """Requested and realised norms of each generator."""
    asked = peers.DISPLACEMENT * SIDE
    lines = [
        f"{'':36}{'asked for':>20}{'sup |tau| / a: median [min, max]':>36}"
        f"{'sup ||grad tau||: median [min, max]':>38}{'folded':>9}"
    ]
    for generator in peers.GENERATORS:
        try:
            run, field = generator.make(SIDE, COUNT)
            values = field(run())
        except ImportError:
            lines.append(f"{generator.name:36}{'not installed':>20}")
            continue
        far, steep, folded = realised(-values if generator.ours else values)
        far = far / asked
        text = [f"{v.median():.3f} [{v.min():.3f}, {v.max():.3f}]" for v in (far, steep)]
        lines.append(
            f"{generator.name:36}{generator.request:>20}{text[0]:>36}{text[1]:>38}{int(folded.sum()):6d}/{COUNT}"
        )
    return lines


def versions() -> str:
    """Of the packages that are installed."""
    found = []
    for package in ("torch", *dict.fromkeys(g.package for g in peers.GENERATORS if g.package)):
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{package} not installed")
    return f"one thread, Python {platform.python_version()}, " + ", ".join(found)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--budget", type=float, default=30.0, help="seconds for a generator in a case, all rounds")
    parser.add_argument("--sizes", type=int, nargs="+", choices=SIZES, default=SIZES, help="of the times, in pixels")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # other packages' own
    table = measure_times(options.sizes, options.rounds, options.budget)
    share = peers.DISPLACEMENT
    lines = [
        versions(),
        "",
        f"Fields on the pixel grid: ours of cutoff {peers.CUTOFF} cycles a side, sup |tau| = a = side / "
        f"{1 / share:.0f} (shift mode: 3 a), sup ||grad tau|| = {peers.JACOBIAN}; others:",
        f"Gaussian filters of standard deviation side / {peers.SMOOTHING}, lattices of spacing side / 8, "
        f"sines up to {peers.CUTOFF} half waves a side; no norm controlled.",
        "TorchIO: a volume of one slice, its field alone; MONAI, TorchIO, batchgeneratorsv2: one field a call; scipy, "
        "max-entropy: one component a call; all hand over one tensor.",
        f"Medians of {options.rounds} interleaved rounds in processor ms, and x the ratio to our spectrum mode. "
        "Columns: pixels, fields.",
        "",
        *shown(table),
        "",
        *claims(table),
        "",
        "Certified upper values of both norms after spectrum mode:",
        *certificates(options.sizes, options.rounds),
    ]
    print("\n".join(lines), flush=True)
    rest = [
        "",
        f"Norms of {COUNT} fields of {SIDE} x {SIDE} pixels continued by bicubic splines, on a grid {REFINEMENT} times "
        f"as fine; a = {share * SIDE:.3g} px:",
        "",
    ]
    try:
        rest += norms()
    except ModuleNotFoundError:
        rest.append("scipy is not installed")
    print("\n".join(rest))
    if options.out:
        options.out.write_text("\n".join([*lines, *rest]) + "\n")


if __name__ == "__main__":
    main()
