"""How far above the observed distance each bound stands: from the image's own maps to the norms alone."""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from common import HERE, Settings
from matplotlib.figure import Figure

from stability.files import replacing
from stability.plots.drawing import PAPER, SCREEN, Mark, legend_below, panels
from stability.sweeps.files import read_spec
from stability.sweeps.result import RUN, read_rows
from stability.sweeps.run import run as run_sweep

OBSERVED = "distance_over_input_norm"
RUNGS = {
    "bound_x_specific": "x-specific", "bound_early_stop": "early stop", "trivial": "trivial",
    "bound_centred_operator_norms": "operator norms, centred", "bound_centred_certificates": "certificates, centred",
    "bound_operator_norms": "operator norms", "bound_certificates": "certificates", "bound_energy": "energy",
    "bound_closed_form": "closed form", "trivial_norms": "norms alone",
}  # fmt: skip
SCOPES = {
    "this image, this field": Mark("this image, this field", "#0072B2", "", "o"),
    "every image, this field": Mark("every image, this field", "#E69F00", "", "s"),
    "this image, every field with these norms": Mark("this image, every field", "#009E73", "", "^"),
    "every image, every field with these norms": Mark("every image, every field", "#D55E00", "", "D"),
}
FAMILIES = {
    "fourier": "generic fields",
    "divergence_free": "divergence-free",
    "translation": "translations",
}
CAPTION = (
    "Bounds over observed distances of the exact two-layer CKN (sigma = 1, 2, 4 px, 3 x 3 patches, no strides) on "
    "{images} Fashion images of 28 x 28 px: medians over images and fields, lines from 10 to 90 %. Fields with "
    "||grad tau||_inf = 0.1, translations by 1 px. A bound at 1 is an equality. Operator norms are enclosed from both "
    "sides; x-specific, early stop, certificates, energy and closed form are proofs whose suprema are evaluated "
    "numerically; trivial and norms alone are proofs. Only rungs for every field may certify a radius. "
    "The commutation defect, the one allowance of x-specific and early stop, is at most {defect:.1g} of the observed "
    "distance and not in the figure."
)


def run(store: Path, settings: Settings = (), jobs: int = -1) -> pd.DataFrame:
    """The rows of the sweep.

    Raises:
        RuntimeError: if a cell failed.
    """
    done = run_sweep(read_spec(str(HERE / "ladder.yaml"), settings), store, jobs=jobs, progress=True)
    if done.failures:
        raise RuntimeError(done.failures[0])
    return read_rows(store)


def scope(rows: pd.DataFrame, column: str) -> str:
    """What a column's bound speaks of."""
    if column.startswith("bound_"):
        return str(rows[column.replace("bound_", "scope_")].iloc[0])
    return list(SCOPES)[0 if column == "trivial" else 3]


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Quantiles of bound / observed by family and rung, with scope and status."""
    found = []
    for family, part in rows.groupby("family", sort=False):
        for column, name in RUNGS.items():
            low, median, high = (part[column] / part[OBSERVED]).quantile([0.1, 0.5, 0.9])
            status = part[column.replace("bound_", "status_")].iloc[0] if "bound" in column else "proof"
            found.append((family, name, median, low, high, status, scope(part, column)))
    names = ["family", "rung", "median", "low", "high", "status", "scope"]
    return pd.DataFrame(found, columns=names)


def draw(rows: pd.DataFrame) -> Figure:
    """One panel per family: every rung over the observed distance."""
    numbers = table(rows)
    figure, axes = panels(1, len(FAMILIES), 0.55)
    places = np.arange(len(RUNGS))[::-1]
    for axis, (family, title) in zip(axes.ravel(), FAMILIES.items(), strict=True):
        part = numbers[numbers.family == family]
        for place, row in zip(places, part.itertuples(), strict=True):
            mark = SCOPES[row.scope]
            axis.plot([row.low, row.high], [place, place], color=mark.color, lw=1.2)
            axis.plot(row.median, place, **{**mark.style(), "linestyle": "none", "label": mark.label})
        axis.axvline(1.0, color="0.3", lw=0.8)
        axis.set(xscale="log", title=title, xlabel="bound / observed", yticks=places, ylim=(-0.6, len(RUNGS) - 0.4))
        axis.set_yticklabels(RUNGS.values() if axis is axes.ravel()[0] else [])
    handles = {line.get_label(): line for line in axes.ravel()[0].get_lines() if not line.get_label().startswith("_")}
    legend_below(figure, list(handles.values()))
    return figure


def write(rows: pd.DataFrame, store: Path, out: Path) -> list[Path]:
    """Figure (for the screen and for print), caption, table and the record of the run."""
    out.mkdir(parents=True, exist_ok=True)
    largest = float((rows.commutation_defect / rows[OBSERVED]).max())
    for suffix, style in (("png", SCREEN), ("pdf", PAPER)):
        with plt.style.context(str(style)), replacing(out / f"ladder.{suffix}") as temporary:
            figure = draw(rows)
            figure.savefig(temporary, format=suffix)
            plt.close(figure)
    texts = {
        "caption.txt": CAPTION.format(images=rows.image.nunique(), defect=largest) + "\n",
        "table.csv": table(rows).to_csv(index=False, float_format="%.4g"),
        RUN: (store / RUN).read_text(),
    }
    for name, text in texts.items():
        with replacing(out / name) as temporary:
            temporary.write_text(text)
    return [out / name for name in ("ladder.png", "ladder.pdf", *texts)]


def main() -> None:
    """``python experiments/ladder.py [--store DIR] [--out DIR] [-j N]``."""
    parser = argparse.ArgumentParser(prog="experiments/ladder.py", description="The experiment ladder.")
    parser.add_argument("--store", type=Path, default=HERE.parent / "scratch" / "ladder", help="parts of the sweep")
    parser.add_argument("--out", type=Path, default=HERE.parent / "reports" / "ladder", help="figure, table, record")
    parser.add_argument("-j", "--jobs", type=int, default=-1, help="worker processes; -1: one per core")
    options = parser.parse_args()
    rows = run(options.store, jobs=options.jobs)
    for path in write(rows, options.store, options.out):
        print(path)


if __name__ == "__main__":
    main()
