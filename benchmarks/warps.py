"""Seconds and errors of warping 64 RGB images by 64 fields, ours beside other packages.

    python benchmarks/warps.py [--out FILE] [--rounds 5] [--budget 30]

One thread. Every round runs each method once, so that a disturbance of the machine hits all of them; medians over the
rounds. The truth is analytic: images are random trigonometric polynomials, evaluated in double precision where the
field puts the pixels. Methods whose package is not installed are told apart: pip install kornia monai scipy SimpleITK
torch-interpol finufft pytorch-finufft.
"""

import argparse
import importlib.metadata
import math
import platform
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import warp_peers as peers  # sets the number of threads, before torch is imported

# isort: split
import torch
from deformations import Cell, interleaved
from torch import Tensor

import stability as st

SIZES, COUNT, CHANNELS = (32, 224), 64, 3
DISPLACEMENT, JACOBIAN, CUTOFF = 1 / 16, 0.3, 3
"""Of the fields: sup |tau| as a share of the side, sup ||grad tau||_2, cycles a side; a constant fills up sup |tau|."""

SHARES = (0.25, 0.5, 0.8)
"""Cut-offs of the images, as shares of the Nyquist frequency. The images that are timed have the second."""

MORE = 5
"""Times as many rounds at the smaller size, where a run takes milliseconds."""

SIDE, FEW = 64, 4
"""Of the table of errors: pixels a side, images."""

PERIOD = math.sqrt(2)
"""Of the images that are not periodic, in sides."""


class Row(NamedTuple):
    """Of one method in one case: its time, and the relative L2 error of the images that were timed."""

    cell: Cell
    error: float = math.nan


Table = dict[int, list[Row | None]]
"""For every side one row a method; None where it is not run."""


# --- the truth --------------------------------------------------------------------------------------------------------


def waves(places: Tensor, period: float, cutoff: int) -> Tensor:
    """1, cos and sin of 2 pi k u / period for k = 1, ..., cutoff, ``(P, 2 cutoff + 1)``."""
    angles = places[:, None] * torch.arange(cutoff + 1) * (2 * math.pi / period)
    return torch.cat([angles.cos(), angles[:, 1:].sin()], dim=1)


def on_grid(coefficients: Tensor, side: int, period: float) -> Tensor:
    """Trigonometric polynomials ``(B, C, M, M)`` at the pixels, ``(B, C, side, side)``."""
    table = waves(torch.arange(side, dtype=torch.float64), period, coefficients.shape[-1] // 2)
    return table @ coefficients @ table.T


def at_points(coefficients: Tensor, points: Tensor, period: float) -> Tensor:
    """The same at points ``(B, side, side, 2)``."""
    values = []
    for image, where in zip(coefficients, points.flatten(1, 2), strict=True):
        x, y = (waves(where[:, i], period, coefficients.shape[-1] // 2) for i in range(2))
        values.append(torch.stack([((y @ channel) * x).sum(-1) for channel in image]))
    return torch.stack(values).unflatten(-1, points.shape[1:3])


def draw(side: int, count: int, share: float, period: float = 1.0) -> tuple[peers.Task, Callable[[int], Tensor]]:
    """Images with a cut-off at ``share`` of the Nyquist frequency and a field for each; the truth for the first few."""
    rng = torch.Generator().manual_seed(0)
    cutoff = int(share * period * side / 2)
    shape = (count, CHANNELS, 2 * cutoff + 1, 2 * cutoff + 1)
    coefficients = torch.randn(shape, generator=rng, dtype=torch.float64) / (2 * cutoff + 1)
    field = st.FourierField.sample((side, side), cutoff=CUTOFF, batch_shape=(count,), generator=rng)
    angle = 2 * math.pi * torch.rand((), generator=rng, dtype=torch.float64)
    direction = torch.stack([angle.cos(), angle.sin()])
    field = st.control(field, displacement_norm=DISPLACEMENT * side, jacobian_norm=JACOBIAN, shift=direction)
    task = peers.Task(on_grid(coefficients, side, period * side), field.on_grid(), field)
    return task, lambda few: at_points(coefficients[:few], task.points[:few], period * side)


def relative(found: Tensor, truth: Tensor, margin: int = 0) -> float:
    """Relative L2 error, ``margin`` pixels at every border left out."""
    inside = slice(margin, truth.shape[-1] - margin)
    truth = truth[..., inside, inside]
    return float((found.double()[..., inside, inside] - truth).norm() / truth.norm())


# --- measurements -----------------------------------------------------------------------------------------------------


def measure(rounds: int, budget: float) -> Table:
    """Each method at each size."""
    table: Table = {}
    for side in SIZES:
        task, truth = draw(side, COUNT, SHARES[1])
        one, few = draw(side, 1, SHARES[1])[0], truth(FEW)
        rows: list[Row | None] = []
        runs = {}
        for i, method in enumerate(peers.METHODS):
            rows.append(None)
            if side not in method.sides:
                continue
            try:
                method.make(one.to(method.dtype))()  # what is done once: imports, memory
                run = method.make(task.to(method.dtype))
            except ImportError:
                rows[i] = Row(Cell(None, "not installed"))
                continue
            rows[i] = Row(Cell(None), relative(run()[:FEW], few))
            runs[str(i)] = run
        for name, cell in interleaved(runs, rounds * (MORE if side == min(SIZES) else 1), budget).items():
            row = rows[int(name)]
            assert row is not None
            rows[int(name)] = row._replace(cell=cell)
        table[side] = rows
    return table


def times(table: Table) -> list[str]:
    """Milliseconds, the ratio to a bare look-up in the same case, and the error."""
    lines = [f"{'':44}" + "".join(f"{f'{side}^2: ms, ratio':>22}{'error':>10}" for side in table)]
    for i, method in enumerate(peers.METHODS):
        if not method.sides:
            continue
        line = f"{method.name:44}"
        for side in table:
            row = table[side][i]
            if row is None:
                line += f"{'-':>22}{'-':>10}"
            elif row.cell.seconds is None:
                line += f"{row.cell.remark:>32}"
            else:
                ratio = row.cell.seconds / seconds(table, side, peers.BARE)
                text = f"{1e3 * row.cell.seconds:.1f} x{ratio:.2f}{row.cell.remark and '*'}"
                line += f"{text:>22}{row.error:10.1e}"
        lines.append(line)
    if any("*" in line for line in lines):
        lines.append("* fewer rounds than the others: over the budget of seconds")
    return lines


def errors() -> list[str]:
    """Every method in double precision: periodic images, and images that do not fit the torus."""
    cases = [(f"up to {share:g} Nyquist", share, 1.0) for share in SHARES] + [("not periodic", SHARES[0], PERIOD)]
    drawn = [(draw(SIDE, FEW, share, period)) for _, share, period in cases]
    tasks = [(task, truth(FEW)) for task, truth in drawn]
    lines = [f"{'':44}" + "".join(f"{name:>22}" for name, *_ in cases)]
    for method in peers.METHODS:
        if not method.accuracy:
            continue
        line = f"{method.name.removesuffix(', float64'):44}"
        try:
            for task, truth in tasks:
                found = method.make(task)()
                line += f"{relative(found, truth, SIDE // 6):11.1e} / {relative(found, truth):.1e} "
        except ImportError:
            line += f"{'not installed':>22}"
        lines.append(line.rstrip())
    return lines


# --- claims -----------------------------------------------------------------------------------------------------------


def row_of(table: Table, side: int, name: str) -> Row | None:
    """The row of a method, if it was run."""
    (i,) = [i for i, method in enumerate(peers.METHODS) if method.name == name]
    row = table[side][i]
    return None if row is None or row.cell.seconds is None else row


def seconds(table: Table, side: int, name: str) -> float:
    """Of a method that was run."""
    row = row_of(table, side, name)
    assert row is not None
    assert row.cell.seconds is not None
    return row.cell.seconds


def claims(table: Table) -> list[str]:
    """What is claimed, with the figures of this run."""
    lines = []

    def compare(side: int, above: str, below: str, claimed: str | None) -> None:
        rows = [row_of(table, side, name) for name in (above, below)]
        text = f"{side}^2: {above} / {below}"
        if rows[0] is None or rows[1] is None:
            lines.append(f"{text}: not measured")
            return
        text += f" {seconds(table, side, above) / seconds(table, side, below):.2f}"
        errors = " and ".join(f"{row.error:.1e}" for row in rows if row is not None)
        lines.append(f"{text} ({f'claimed: {claimed}' if claimed else 'no claim'}), errors {errors}")

    for side in SIZES:
        compare(side, peers.INTERPOL.format(3), peers.CUBIC, "at least 2, at equal errors")
        compare(side, peers.INTERPOL.format(5), peers.QUINTIC, "at least 2, at equal errors")
        compare(side, peers.BILINEAR, peers.BARE, "at most 1.5")
    compare(32, peers.DENSE, peers.EXACT, "at most 1")
    compare(32, peers.DENSE, peers.PACKED, None)
    compare(32, peers.FAST, peers.EXACT, None)
    compare(224, peers.FAST, peers.EXACT, None)
    compare(224, peers.FAST, peers.PACKED, None)
    return lines


def versions() -> str:
    """Of the packages that are installed."""
    listed = []
    for package in dict.fromkeys(["torch", *(method.package for method in peers.METHODS if method.package)]):
        try:
            listed.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            listed.append(f"{package} not installed")
    return f"one thread, Python {platform.python_version()}, " + ", ".join(listed)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--budget", type=float, default=30.0, help="seconds for a method in a case, all rounds")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # other packages' own
    table = measure(options.rounds, options.budget)
    lines = [
        versions(),
        "",
        f"{COUNT} images of {CHANNELS} channels, each with a field of its own: cutoff {CUTOFF} cycles a side, "
        f"sup |tau| = side / {1 / DISPLACEMENT:.0f}, sup ||grad tau|| = {JACOBIAN}.",
        "Clocked: from the images and u - tau(u) (or tau) on the pixel grid, in the layout that the method takes, to "
        "the warped images; float32 unless said.",
        "Bare grid_sample is given its normalised grid. scipy, SimpleITK, finufft: image by image (finufft: point "
        "samples, one plan, the channels as n_trans).",
        "two channels in one: as real and imaginary part of one transform, as ours.",
        "Prefilters and spectra are made inside unless said.",
        f"Medians of {options.rounds} interleaved rounds (at {min(SIZES)}^2 {MORE * options.rounds}) in processor ms; "
        "x the ratio to a bare bilinear look-up;",
        f"relative L2 error of {FEW} of these images (up to {SHARES[1]} Nyquist) on the whole torus: methods without a "
        "periodic rule (grid_sample, kornia, MONAI, SimpleITK) pay at the border.",
        "",
        *times(table),
        "",
        *claims(table),
        "",
        f"Relative L2 errors in double precision, {SIDE} x {SIDE} pixels, {FEW} images: {SIDE // 6} px off the border "
        "/ everywhere.",
        f"Not periodic: up to {SHARES[0]} Nyquist, period {PERIOD:.2f} sides; each method's border rule is in the "
        "second number. Exact warps are given the band-limited part.",
        "",
        *errors(),
    ]
    text = "\n".join(lines) + "\n"
    print(text, end="", flush=True)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
