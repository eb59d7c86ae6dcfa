"""Distances measured with every warp: where interpolation measures itself and not the representation.

One family of fields, scaled; one sweep a warp. ||A_0 (W x - L_tau x)|| bounds what a warp W adds to a distance.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from common import HERE, Settings
from matplotlib.figure import Figure

from stability.files import replacing
from stability.plots.drawing import (
    DISPLACEMENT,
    PAPER,
    SCREEN,
    Mark,
    legend_below,
    line,
    panels,
    plain_log_ticks,
    triangle,
)
from stability.sweeps.files import read_spec
from stability.sweeps.result import read_rows
from stability.sweeps.run import run as run_sweep

WARPS = {
    "band-limited": ("{kind: band_limited}", Mark("band-limited: exact", "#000000", "-", "o")),
    "quintic": ("{kind: spline, degree: 5}", Mark("quintic spline", "#0072B2", (0, (5, 1.5)), "D", hollow=True)),
    "cubic": ("{kind: spline}", Mark("cubic spline", "#009E73", (0, (1.5, 1.5)), "s", hollow=True)),
    "bilinear": ("{kind: bilinear}", Mark("bilinear", "#D55E00", "-", "^")),
    "index": ("{kind: index}", Mark("nearest pixel", "#CC79A7", (0, (6, 1.5, 1, 1.5)), "v")),
}
"""What stands in the specification, and how it is drawn."""

WANTED = Mark("the distance, exact warp", "#666666", (0, (6, 2)))
EXACT, SMALL = "band-limited", 1.0
"""The warp that the others are compared with; up to how many px the caption speaks of small fields."""

ROUND_OFF = 1e-6
"""Of distances relative to ||x||: what is smaller is not drawn."""

CAPTION = (
    "The exact CKN (pooling scales 2 and 8 px, mean removed) under {fields} Gaussian-smoothed fields (smoothing 4 px), "
    "scaled, on {images} Fashion images, measured with five warps W. Left: the distances; medians over images and "
    "fields. Middle: how far they are from the distance with the band-limited warp, which is exact up to its "
    "projection on the grid; medians. Right: what each warp gets wrong, after A_0, and the distance that is to be "
    "measured (dashed). Everything is measured. Up to {crossing:g} px the bilinear warp's error is larger than the "
    "distance, and however small the field, its distances are wrong: from {low:.1f} to {high:.1f} times the exact ones "
    "(10 to 90 % up to {small:g} px). The cubic spline is off by at most {cubic:.1g} % there, the quintic by "
    "{quintic:.1g} % (medians). The nearest pixel does not see a field below half a pixel."
)

SIZE = "asked_displacement_norm"
DISTANCE, ERROR = "distance_over_input_norm", "interpolation_error"


def run(store: Path, settings: Settings = (), jobs: int = -1) -> pd.DataFrame:
    """The rows of every warp, one store each; column ``measured_with`` names it.

    Raises:
        RuntimeError: if a cell failed.
    """
    parts = []
    for name, (warp, _) in WARPS.items():
        spec = read_spec(str(HERE / "warps.yaml"), [*settings, ("warp", warp)])
        done = run_sweep(spec, store / name, jobs=jobs, progress=True)
        if done.failures:
            raise RuntimeError(done.failures[0])
        parts.append(read_rows(store / name).assign(measured_with=name))
    return pd.concat(parts, ignore_index=True)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Over images and fields: median distance and error, and quantiles of distance / distance with the exact warp."""
    keys = ["image", "field_seed", SIZE]
    exact = rows[rows.measured_with == EXACT].set_index(keys)[DISTANCE]
    ratio = rows[DISTANCE].to_numpy() / exact.reindex(pd.MultiIndex.from_frame(rows[keys])).to_numpy()
    rows = rows.assign(ratio=ratio, off=abs(ratio - 1))
    groups = rows.groupby(["measured_with", SIZE], sort=False)
    found = groups[[DISTANCE, ERROR, "off"]].median()
    for name, share in (("ratio_low", 0.1), ("ratio_high", 0.9)):
        found[name] = groups["ratio"].quantile(share)
    return found.reset_index()


def caption(rows: pd.DataFrame) -> str:
    """What is drawn, with the figures of these rows."""
    found = table(rows).set_index(["measured_with", SIZE])
    small = found[found.index.get_level_values(SIZE) <= SMALL].groupby(level="measured_with")
    bilinear, exact = found.loc["bilinear", ERROR], found.loc[EXACT, DISTANCE]
    return CAPTION.format(
        fields=rows.field_seed.nunique(),
        images=rows.image.nunique(),
        crossing=bilinear.index[bilinear > exact].max(),
        small=SMALL,
        low=small["ratio_low"].min()["bilinear"],
        high=small["ratio_high"].max()["bilinear"],
        **{name: 100 * value for name, value in small["off"].max().items() if name in ("cubic", "quintic")},
    )


def draw(rows: pd.DataFrame) -> Figure:
    """Distance, its relative error, and the error of the images, against the size of the field."""
    figure, axes = panels(1, 3, 0.46)
    left, middle, right = axes.ravel()
    found = table(rows)
    for name, (_, mark) in WARPS.items():
        part = found[found.measured_with == name]
        line(left, part[SIZE], part[DISTANCE].where(part[DISTANCE] > ROUND_OFF), mark)
        line(right, part[SIZE], part[ERROR], mark)
        if name != EXACT:
            line(middle, part[SIZE], part["off"], mark)
    exact = found[found.measured_with == EXACT]
    dashed = line(right, exact[SIZE], exact[DISTANCE], WANTED)
    x, i = exact[SIZE].to_numpy(), len(exact) // 2 - 1
    triangle(left, (x[i], x[i + 2]), 0.2 * exact[DISTANCE].iloc[i], 1.0)
    triangle(right, (x[i], x[i + 2]), 0.2 * exact[ERROR].iloc[i], 1.0)
    left.set_ylabel(r"distance: $\|\Phi(Wx) - \Phi(x)\| \,/\, \|x\|$")
    middle.set_ylabel("|measured / exact distance \N{MINUS SIGN} 1|")
    right.set_ylabel(r"error: $\|A_0(Wx - L_\tau x)\| \,/\, \|x\|$")
    for one in (left, middle, right):
        one.set(xscale="log", yscale="log", xlabel=DISPLACEMENT)
        plain_log_ticks(one.xaxis, [0.01, 0.1, 1, 4])
    legend_below(figure, [*left.get_lines(), dashed], columns=3)
    return figure


def write(rows: pd.DataFrame, out: Path) -> list[Path]:
    """Figure (for the screen and for print), caption and table."""
    out.mkdir(parents=True, exist_ok=True)
    for suffix, style in (("png", SCREEN), ("pdf", PAPER)):
        with plt.style.context(str(style)), replacing(out / f"warps.{suffix}") as temporary:
            draw(rows).savefig(temporary, format=suffix)
    for name, text in (
        ("caption.txt", caption(rows) + "\n"),
        ("table.csv", table(rows).to_csv(index=False, float_format="%.6g")),
    ):
        with replacing(out / name) as temporary:
            temporary.write_text(text)
    return [out / name for name in ("warps.png", "warps.pdf", "caption.txt", "table.csv")]


def main() -> None:
    """``python experiments/warps.py [--store DIR] [--out DIR] [-j N]``."""
    parser = argparse.ArgumentParser(prog="experiments/warps.py", description="The experiment warps.")
    parser.add_argument("--store", type=Path, default=HERE.parent / "scratch" / "warps", help="parts of the sweeps")
    parser.add_argument("--out", type=Path, default=HERE.parent / "reports" / "warps", help="figure and table")
    parser.add_argument("-j", "--jobs", type=int, default=-1, help="worker processes; -1: one per core")
    options = parser.parse_args()
    for path in write(run(options.store, jobs=options.jobs), options.out):
        print(path)


if __name__ == "__main__":
    main()
