"""The neural tangent kernel of a ReLU network beside the CKN of the same one: how their distances grow.

The figure of Bietti & Mairal 2019 (On the inductive bias of neural tangent kernels), on Fashion images: an image
against its deformations, its deformations with a translation, images of the same class, and all images; by warps, and
by the tangent perturbation of "infinite MNIST".
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from common import HERE, Settings
from matplotlib.figure import Figure

from stability.files import replacing
from stability.plots.drawing import PAPER, SCREEN, Mark, band, legend_below, panels, plain_log_ticks, triangle
from stability.representations.gram import GramCKN
from stability.representations.ntk import GramNTK
from stability.sweeps.build import load_images
from stability.sweeps.files import read_spec
from stability.sweeps.result import read_rows
from stability.sweeps.run import run as run_sweep
from stability.sweeps.spec import SweepSpec

WARPS = {"warp": "{kind: band_limited}", "tangent": "{kind: tangent}"}
KERNELS = {"gram": (GramCKN, "CKN"), "ntk": (GramNTK, "NTK")}
MARKS = {
    "gram": Mark("CKN (arc-cosine kernels)", "#0072B2", "-", "o"),
    "ntk": Mark("NTK (ReLU)", "#D55E00", (0, (5, 1.5)), "s"),
}
TITLES = {"plain": "deformations", "shifted": "deformations with a translation", "tangent": "tangent perturbations"}
SIZE, DISTANCE = "asked_jacobian_norm", "distance_over_representation_norm"
LARGEST_SMALL = 0.01
"""Slopes are taken over the sizes up to here."""
CAPTION = (
    "Relative distance ||Phi(y) - Phi(x)|| / ||Phi(x)|| against the size of the deformation, for the CKN and the "
    "neural tangent kernel of one two-layer ReLU network (arc-cosine kernels, patches 3, strides 2 and 2), {images} "
    "Fashion images of {size} px, {fields} smooth random fields each. Left: y = L_tau x. Middle: the same fields with "
    "a constant added along x so that ||tau||_inf = 3 px. Right: y = x - <tau, grad x>, which is not a deformation. "
    "Lines: medians; bands: 10 to 90 %. Horizontal: medians over pairs of one class and over all pairs. Slopes of log "
    "distance over log size, up to {small:g}, mean over the images with 95 % confidence intervals: warps: {warp}; "
    "tangent perturbations: {tangent}. Everything is measured; no bound of the theory for CKNs covers the NTK."
)


def run(store: Path, settings: Settings = (), jobs: int = -1) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of warps and of tangent perturbations (column ``applied``), and the distances between the images.

    Raises:
        RuntimeError: if a cell failed.
    """
    parts = []
    for name, warp in WARPS.items():
        spec = read_spec(str(HERE / "ntk.yaml"), [*settings, ("warp", warp)])
        done = run_sweep(spec, store / name, jobs=jobs, progress=True)
        if done.failures:
            raise RuntimeError(done.failures[0])
        parts.append(read_rows(store / name).assign(applied=name))
    rows = pd.concat(parts, ignore_index=True)
    shifted = rows["asked_displacement_norm"].notna()
    rows["panel"] = np.where(rows["applied"] == "tangent", "tangent", np.where(shifted, "shifted", "plain"))
    labels = rows.drop_duplicates("image").sort_values("image")["label"].to_numpy()
    return rows[~(shifted & (rows["applied"] == "tangent"))], between_images(spec, labels)


def between_images(spec: SweepSpec, labels: np.ndarray) -> pd.DataFrame:
    """Relative distances of all pairs of the images: columns ``representation_kind``, ``same_class``, ``distance``."""
    images = load_images(spec, len(labels))
    found = []
    for kind, (representation, _) in KERNELS.items():
        phi = representation(spec.architecture)
        distances = phi.distance_matrices(images)[0] / phi.norm(images)[:, None]
        other = ~np.eye(len(labels), dtype=bool)
        found.append(
            pd.DataFrame(
                {
                    "representation_kind": kind,
                    "same_class": (labels[:, None] == labels)[other],
                    "distance": distances.numpy()[other],
                }
            )
        )
    return pd.concat(found, ignore_index=True)


def slopes(rows: pd.DataFrame) -> pd.DataFrame:
    """Slope of log distance over log size up to ``LARGEST_SMALL``: mean over images, and its 95 % interval (normal)."""
    small = rows[(rows[SIZE] <= LARGEST_SMALL) & (rows["panel"] != "shifted")]
    logs = small.assign(size=np.log(small[SIZE]), distance=np.log(small[DISTANCE]))
    keys = ["panel", "representation_kind", "image"]
    of_images = logs.groupby(keys)[["size", "distance"]].apply(
        lambda part: np.polyfit(part["size"], part["distance"], 1)[0]
    )
    groups = of_images.groupby(["panel", "representation_kind"])
    mean, half = groups.mean(), 1.96 * groups.std(ddof=1) / np.sqrt(groups.count())
    return pd.DataFrame(
        {"slope": mean, "low": mean - half, "high": mean + half, "images": groups.count()}
    ).reset_index()


def table(rows: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Medians over images and fields per panel, kernel and size, and those over pairs of images (no size)."""
    found = rows.groupby(["panel", "representation_kind", SIZE])[DISTANCE].median().reset_index()
    classes = pairs[pairs["same_class"]].groupby("representation_kind")["distance"].median()
    every = pairs.groupby("representation_kind")["distance"].median()
    flat = [
        {"panel": name, "representation_kind": kind, DISTANCE: value}
        for name, series in (("same class", classes), ("all images", every))
        for kind, value in series.items()
    ]
    return pd.concat([found, pd.DataFrame(flat)], ignore_index=True)


def caption(rows: pd.DataFrame) -> str:
    """What is drawn, with the figures of these rows."""
    found = slopes(rows).set_index(["panel", "representation_kind"])

    def words(panel: str) -> str:
        parts = []
        for kind, (_, name) in KERNELS.items():
            one = found.loc[(panel, kind)]
            parts.append(f"{name} {one.slope:.2f} [{one.low:.2f}, {one.high:.2f}]")
        return ", ".join(parts)

    return CAPTION.format(
        images=rows["image"].nunique(),
        size=rows["size"].iloc[0].replace("x", " x "),
        fields=rows["field_seed"].nunique(),
        small=LARGEST_SMALL,
        warp=words("plain"),
        tangent=words("tangent"),
    )


def draw(rows: pd.DataFrame, pairs: pd.DataFrame) -> Figure:
    """Relative distance against the size of the field, one panel a way of deforming."""
    figure, axes = panels(1, 3, 0.5)
    for one, (panel, title) in zip(axes.ravel(), TITLES.items(), strict=True):
        part = rows[rows["panel"] == panel]
        for kind, mark in MARKS.items():
            own = part[part["representation_kind"] == kind].groupby(SIZE)[DISTANCE]
            spread = own.quantile([0.1, 0.5, 0.9]).unstack().set_axis(["low", "median", "high"], axis=1)
            band(one, spread.index, spread, mark)
            one.plot(spread.index, spread["median"], **{**mark.style(), "label": mark.label})
            mine = pairs[pairs["representation_kind"] == kind]
            for style, chosen in ((":", mine[mine["same_class"]]), ("-.", mine)):
                one.axhline(chosen["distance"].median(), color=mark.color, linestyle=style, linewidth=1, alpha=0.8)
        one.set(xscale="log", yscale="log", xlabel=r"$\|\nabla\tau\|_\infty$", title=title)
        plain_log_ticks(one.xaxis, [0.001, 0.01, 0.1])
    first = axes.ravel()[0]
    first.set_ylabel(r"$\|\Phi(y) - \Phi(x)\| \,/\, \|\Phi(x)\|$")
    low, high = min(one.get_ylim()[0] for one in axes.ravel()), max(one.get_ylim()[1] for one in axes.ravel())
    for one in axes.ravel():
        one.set_ylim(low, high)
    triangle(first, (0.003, 0.01), 2 * low, 1.0)
    triangle(first, (0.001, 0.01), high / 40, 0.5)
    handles = first.get_lines()
    styles = [
        plt.Line2D([], [], color="#666666", linestyle=style, linewidth=1, label=label)
        for style, label in ((":", "same class (median)"), ("-.", "all images (median)"))
    ]
    legend_below(figure, [*(h for h in handles if not h.get_label().startswith("_")), *styles], columns=2)
    return figure


def write(rows: pd.DataFrame, pairs: pd.DataFrame, out: Path) -> list[Path]:
    """Figure (for the screen and for print), caption, and tables of distances and slopes."""
    out.mkdir(parents=True, exist_ok=True)
    for suffix, style in (("png", SCREEN), ("pdf", PAPER)):
        with plt.style.context(str(style)), replacing(out / f"ntk.{suffix}") as temporary:
            draw(rows, pairs).savefig(temporary, format=suffix)
    texts = {
        "caption.txt": caption(rows) + "\n",
        "table.csv": table(rows, pairs).to_csv(index=False, float_format="%.6g"),
        "slopes.csv": slopes(rows).to_csv(index=False, float_format="%.4g"),
    }
    for name, text in texts.items():
        with replacing(out / name) as temporary:
            temporary.write_text(text)
    return [out / name for name in ("ntk.png", "ntk.pdf", *texts)]


def main() -> None:
    """``python experiments/ntk.py [--store DIR] [--out DIR] [-j N]``."""
    parser = argparse.ArgumentParser(prog="experiments/ntk.py", description="The experiment ntk.")
    parser.add_argument("--store", type=Path, default=HERE.parent / "scratch" / "ntk", help="parts of the sweeps")
    parser.add_argument("--out", type=Path, default=HERE.parent / "reports" / "ntk", help="figure and tables")
    parser.add_argument("-j", "--jobs", type=int, default=-1, help="worker processes; -1: one per core")
    options = parser.parse_args()
    for path in write(*run(options.store, jobs=options.jobs), options.out):
        print(path)


if __name__ == "__main__":
    main()
