"""How anchors are chosen, and how many: kernel matrix, energy, distances and accuracy of one layer."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from joblib import Parallel, delayed
from labelled import Labelled, judge, labelled, learnt
from matplotlib.figure import Figure
from reporting import main, write
from torch import Tensor

from stability import anchors
from stability.architecture import Architecture
from stability.plots.drawing import Mark, legend_below, line, panels, plain_log_ticks, round_log_ticks
from stability.representations.base import KernelRepresentation
from stability.representations.ckn import CKN
from stability.representations.explicit import ExplicitRepresentation
from stability.representations.gaussian_ckn import GaussianCKN
from stability.representations.gram import GramCKN

NAME = "anchor_choice"
WAYS = {
    "k-means": Mark("k-means", "#0072B2", "-", "o"),
    "random patches": Mark("random patches", "#E69F00", (0, (5, 1.5)), "s"),
    "pivoted Cholesky": Mark("pivoted Cholesky", "#009E73", (0, (3, 1.2)), "^"),
    "learnt": Mark("learnt with labels, from k-means", "#D55E00", (0, (6, 1.5, 1, 1.5)), "D"),
    "CKN of 2014": Mark("map of 2014 (no projection)", "#CC79A7", (0, (1.2, 1.2)), "v"),
}
CHOICES = {
    "k-means": anchors.KMeans(), "random patches": anchors.RandomPatches(),
    "pivoted Cholesky": anchors.PivotedCholesky(),
}  # fmt: skip
MEASURES = {
    "gram_error": r"$\|\hat K-K\|_F\,/\,\|K\|_F$",
    "lost_energy": "energy lost by the projection",
    "distance_error": "relative error of distances",
    "error": "wrong answers / %",
}
CAPTION = (
    "One CKN layer (patches of {patch} px, {kernel}, pooling sigma = {sigma:g} px, stride {stride}) on "
    "{name}, against the number m of anchors, chosen in five ways from {known} images. Left to right: relative "
    "Frobenius error of the kernel matrix of {measured} other images against the exact kernel's; 1 - captured energy, "
    "the share of the patches' squared norm that the projection loses (the map of 2014 is no projection and has none); "
    "root mean square over their pairs of the relative error of ||Phi(x) - Phi(y)||; wrong answers on {test} test "
    "images of a ridge head on features of unit norm, its penalty chosen on the last fifth of the known images. "
    "Learnt anchors: end to end from k-means and its exact head, on the other four fifths. Mean over "
    "{seeds} seeds, bars: smallest to largest (measured). That a projection's distances never exceed the exact ones "
    "of one layer is proved; accuracies differ by chance by {chance:.1f} points (standard error from {test} images)."
)


def run(chosen: dict[str, Any], progress: bool = False) -> pd.DataFrame:
    """One row for every number of anchors, way and seed; ``joblib.parallel_config`` says how many at a time."""
    given, architecture = chosen["images"], Architecture.from_dict(chosen["architecture"])
    data = labelled({"name": given["name"], "count": given["known"] + given["test"]})
    known, test = data.part(0, given["known"]), data.part(given["known"], given["known"] + given["test"])
    shown = test.images[: given["measured"]].double()
    exact = GramCKN(architecture)
    matrix, distance = exact.kernel_matrix(shown), pairs(exact, shown)
    tasks = itertools.product(sorted(chosen["anchors"], reverse=True), WAYS, range(chosen["seeds"]))

    def measured(count: int, way: str, seed: int) -> dict[str, Any]:
        network = build(way, count, seed, known, chosen)
        off = pairs(network, shown) / distance - 1.0
        energy = float(network.captured_energy(shown).square().mean()) if isinstance(network, CKN) else math.nan
        return {
            "anchors": count,
            "way": way,
            "seed": seed,
            "gram_error": float((network.kernel_matrix(shown) - matrix).norm() / matrix.norm()),
            "lost_energy": 1.0 - energy,
            "distance_error": float(off.square().mean().sqrt()),
            "largest_ratio": 1.0 + float(off.max()),
            "error": 100 * (1 - judge(network, known, test, len(known.images) // 5)),
        }

    return pd.DataFrame(Parallel(verbose=10 * progress)(delayed(measured)(*task) for task in tasks))


def pairs(network: KernelRepresentation, images: Tensor) -> Tensor:
    """Distances of every two images."""
    first, second = torch.triu_indices(len(images), len(images), offset=1)
    return network.distance_matrices(images)[0][first, second]


def build(way: str, count: int, seed: int, known: Labelled, chosen: dict[str, Any]) -> ExplicitRepresentation:
    """The layer with so many anchors, in double precision."""
    architecture, images = Architecture.from_dict(chosen["architecture"]), known.images.double()
    rng, patches = torch.Generator().manual_seed(seed), chosen["patches"]
    if way == "CKN of 2014":
        return GaussianCKN.fit(
            architecture, images, filters=(count,), generator=rng, patches=patches, **chosen["fit_of_2014"]
        )
    choice = CHOICES.get(way, anchors.KMeans())
    found = CKN.fit(architecture, images, filters=(count,), generator=rng, anchors=choice, patches=patches)
    if way in CHOICES:
        return found
    start = CKN(architecture, [z.detach().float() for z in found.anchors], ridge=chosen["ridge"])
    trained = learnt(start, known.part(0, len(known.images) * 4 // 5), chosen["training"], rng)
    return CKN(architecture, [z.detach().double() for z in trained.anchors])  # without the ridge: a projection


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over the seeds, for every number and way."""
    order = {way: place for place, way in enumerate(WAYS)}
    means = rows.groupby(["anchors", "way"])[[*MEASURES, "largest_ratio"]].mean().reset_index()
    return means.sort_values(["anchors", "way"], key=lambda column: column.replace(order), ignore_index=True)


def draw(rows: pd.DataFrame) -> Figure:
    """One panel for every measure."""
    figure, axes = panels(1, len(MEASURES), 0.36)
    for one, (measure, label) in zip(axes.ravel(), MEASURES.items(), strict=True):
        for way, mark in WAYS.items():
            groups = rows[rows.way == way].groupby("anchors")[measure]
            mean = groups.mean()
            if mean.notna().any():
                line(one, mean.index, mean, mark)
                one.vlines(mean.index, groups.min(), groups.max(), color=mark.color, linewidth=1)
        one.set(xscale="log", xlabel="anchors, $m$")
        one.set_title(label, fontsize="medium")
        if measure != "error":
            one.set_yscale("log")
            round_log_ticks(one.yaxis, rows[measure].dropna())
        plain_log_ticks(one.xaxis, rows.anchors.unique())
    legend_below(figure, axes[0, 0].get_lines())
    return figure


def caption(rows: pd.DataFrame, chosen: dict[str, Any]) -> str:
    """What is drawn, with the settings."""
    (layer,), images = Architecture.from_dict(chosen["architecture"]).layers, chosen["images"]
    share = float(rows[rows.anchors == rows.anchors.max()].error.mean()) / 100
    return CAPTION.format(
        patch=layer.patch_size,
        kernel=f"exponential kernel, alpha = {layer.kernel.exponent:g}",
        sigma=layer.pooling_scale,
        stride=layer.subsampling,
        name=images["words"],
        known=images["known"],
        measured=images["measured"],
        test=images["test"],
        seeds=chosen["seeds"],
        chance=100 * (share * (1 - share) / images["test"]) ** 0.5,
    )


def report(chosen: dict[str, Any], out: Path, clock: Callable[[], float]) -> list[Path]:
    """Run, draw, write."""
    rows = run(chosen, progress=True)
    return write(out, chosen, {NAME: lambda: draw(rows)}, caption(rows, chosen), {"table": table(rows)}, clock())


if __name__ == "__main__":
    main(NAME, report)
