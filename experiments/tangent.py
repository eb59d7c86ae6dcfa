"""What the tangent perturbation of "infinite MNIST" does to a representation, beside the warp by the same fields.

x - <tau, grad x> is the first order of L_tau x and not a deformation: their difference grows like |tau|^2.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from common import HERE, Settings
from matplotlib.figure import Figure

from stability.files import replacing
from stability.plots.drawing import Mark, band, legend_below, line, panels, plain_log_ticks, triangle
from stability.sweeps.files import read_spec
from stability.sweeps.result import read_rows
from stability.sweeps.run import run as run_sweep

WARPS = {
    "band_limited": Mark(r"warp, $x(u - \tau(u))$", "#0072B2", "-", "o"),
    "tangent": Mark(r"tangent, $x - \langle\tau, \nabla x\rangle$: not a deformation", "#D55E00", (0, (4, 2)), "s"),
}
CAPTION = (
    "The exact CKN under {fields} Gaussian-smoothed fields (smoothing 4 px) on {images} Fashion images: the "
    "deformation L_tau x, and the perturbation x - <tau, grad x> by the same fields, which is not a deformation "
    "(pixels do not move; no bound covers it). Medians over images and fields; bands: 10 to 90 %. Right: L2 distance "
    "between the two images after A_0, over ||x||. All values are measured; sup |tau| is seen over the continuum, "
    "certified within 1e-4."
)


def run(store: Path, settings: Settings = (), jobs: int = -1) -> pd.DataFrame:
    """The rows of both ways of applying the fields, one store each.

    Raises:
        RuntimeError: if a cell failed.
    """
    parts = []
    for kind in WARPS:
        spec = read_spec(str(HERE / "tangent.yaml"), [*settings, ("warp", f"{{kind: {kind}}}")])
        done = run_sweep(spec, store / kind, jobs=jobs, progress=True)
        if done.failures:
            raise RuntimeError(done.failures[0])
        parts.append(read_rows(store / kind))
    return pd.concat(parts, ignore_index=True)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Medians over images and fields: relative distances, and how far the two images are apart."""
    columns = ["distance_over_representation_norm", "interpolation_error"]
    groups = rows.groupby(["warp", "asked_displacement_norm"])[columns]
    return groups.median().rename(columns={"interpolation_error": "apart"}).reset_index()


def draw(rows: pd.DataFrame) -> Figure:
    """Distance of the representation, and of the images, against the size of the field."""
    figure, axes = panels(1, 2, 0.45)
    left, right = axes.ravel()
    for kind, mark in WARPS.items():
        part = rows[rows.warp == kind]
        spread = part.groupby("asked_displacement_norm")["distance_over_representation_norm"].quantile([0.1, 0.5, 0.9])
        spread = spread.unstack()
        band(left, spread.index, spread.set_axis(["low", "median", "high"], axis=1), mark)
        left.plot(spread.index, spread[0.5], **{**mark.style(), "label": mark.label})
    apart = table(rows).query("warp == 'tangent'")
    line(right, apart.asked_displacement_norm, apart.apart, WARPS["tangent"])
    x, y = apart.asked_displacement_norm.to_numpy(), apart.apart.to_numpy()
    triangle(right, (x[1], x[2]), y[1] / 3, 2.0)
    left.set_ylabel(r"$\|\Phi(y) - \Phi(x)\| \,/\, \|\Phi(x)\|$")
    right.set_ylabel(r"$\|A_0(x - \langle\tau, \nabla x\rangle - L_\tau x)\| \,/\, \|x\|$")
    for one in (left, right):
        one.set(xscale="log", yscale="log", xlabel=r"$\|\tau\|_\infty$ / px")
        plain_log_ticks(one.xaxis, x[::2])
    legend_below(figure, left.get_lines())
    return figure


def main() -> None:
    """``python experiments/tangent.py [--store DIR] [--out DIR] [-j N]``."""
    parser = argparse.ArgumentParser(prog="experiments/tangent.py", description="The experiment tangent.")
    parser.add_argument("--store", type=Path, default=HERE.parent / "scratch" / "tangent", help="parts of the sweeps")
    parser.add_argument("--out", type=Path, default=HERE.parent / "reports" / "tangent", help="figure and table")
    parser.add_argument("-j", "--jobs", type=int, default=-1, help="worker processes; -1: one per core")
    options = parser.parse_args()
    rows = run(options.store, jobs=options.jobs)
    write(rows, options.out)


def write(rows: pd.DataFrame, out: Path) -> list[Path]:
    """Figure (for the screen and for print), caption and table."""
    out.mkdir(parents=True, exist_ok=True)
    caption = CAPTION.format(fields=rows.field_seed.nunique(), images=rows.image.nunique())
    figure = draw(rows)
    for suffix in ("png", "pdf"):
        with replacing(out / f"tangent.{suffix}") as temporary:
            figure.savefig(temporary, format=suffix, dpi=200)
    plt.close(figure)
    for name, text in (("caption.txt", caption + "\n"), ("table.csv", table(rows).to_csv(index=False))):
        with replacing(out / name) as temporary:
            temporary.write_text(text)
    return [out / name for name in ("tangent.png", "tangent.pdf", "caption.txt", "table.csv")]


if __name__ == "__main__":
    main()
