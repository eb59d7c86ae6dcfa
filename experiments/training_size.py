"""Accuracy against the number of training images: anchors chosen without labels, and learnt with them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from labelled import PENALTIES, Labelled, judge, labelled, learnt
from matplotlib.figure import Figure
from reporting import main, write

from stability.architecture import Architecture
from stability.plots.drawing import Mark, legend_below, line, panels, plain_log_ticks
from stability.representations.ckn import CKN

NAME = "training_size"
WAYS = {
    "unsupervised": Mark("anchors by k-means, without labels", "#0072B2", "-", "o"),
    "supervised": Mark("anchors learnt with labels, from the same start", "#D55E00", (0, (5, 1.5)), "s"),
}
CAPTION = (
    "Test accuracy of one finite CKN ({layers} layers, {filters} anchors, ridge {ridge:g}) on {name} "
    "against the number n of training images; {test} other images are the test. Solid: anchors by spherical k-means on "
    "patches of the n images. Dashed: the same anchors, then learnt end to end on four fifths of the n images (Adam, "
    "cosine schedule, from the exact head; {epochs} epochs and {steps} steps at least). Both have the same kind of "
    "head, a ridge regression of one class against the rest on features of unit norm, learnt from all n images, its "
    "penalty chosen on the last fifth, from {strong:g} to {weak:g}. Marks: mean over {seeds} seeds (anchors, batches); "
    "bars: smallest to largest seed; the images are the same (measured; {test} test images alone have a standard error "
    "of {error:.1f} points at "
    "the largest n). {crossing}"
)


def run(chosen: dict[str, Any], progress: Callable[[str], None] = lambda text: None) -> pd.DataFrame:
    """One row for every size and seed: accuracy of both ways."""
    given = chosen["images"]
    sizes = chosen["sizes"]
    data = labelled({"name": given["name"], "count": max(sizes) + given["test"]})
    test = data.part(max(sizes), max(sizes) + given["test"])
    found = []
    for size in sizes:
        for seed in range(chosen["seeds"]):
            found.append({"images": size, "seed": seed, **both(chosen, data.part(0, size), test, seed)})
            progress(str(found[-1]))
    return pd.DataFrame(found)


def both(chosen: dict[str, Any], known: Labelled, test: Labelled, seed: int) -> dict[str, float]:
    """Accuracy with the anchors as k-means chooses them, and as training leaves them."""
    held, rng = len(known.images) // 5, torch.Generator().manual_seed(seed)
    wanted, architecture = chosen["training"], Architecture.from_dict(chosen["architecture"])
    start = CKN.fit(
        architecture, known.images, filters=chosen["filters"], generator=rng, patches=chosen["patches"],
        ridge=chosen["ridge"],
    )  # fmt: skip
    trained = learnt(start, known.part(0, len(known.images) - held), wanted, rng)
    return {
        "unsupervised": judge(start, known, test, held),
        "supervised": judge(trained, known, test, held),
    }


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean, smallest and largest accuracy over the seeds, for every size and way."""
    long = rows.melt(["images", "seed"], list(WAYS), "way", "accuracy")
    groups = long.groupby(["images", "way"], sort=True)["accuracy"]
    return groups.agg(["mean", "min", "max"]).reset_index()


def crossing(rows: pd.DataFrame) -> str:
    """From which size on the mean with labels is above the mean without, in words."""
    means = table(rows).pivot_table(index="images", columns="way", values="mean")
    above = means["supervised"] > means["unsupervised"]
    gaps = (f"{100 * (row.supervised - row.unsupervised):+.1f} (n = {n})" for n, row in means.iterrows())
    words = f"Supervised - unsupervised, points: {', '.join(gaps)}."
    if above.all() or not above.any():
        return f"{words} The means do not cross in this range."
    below = [n for n in means.index if not above[n]]
    if above[means.index > max(below)].all() and max(below) < means.index.max():
        return f"{words} Labels are ahead from n = {means.index[means.index > max(below)].min()} on."
    return f"{words} Labels are not ahead at the largest n."


def draw(rows: pd.DataFrame) -> Figure:
    """Accuracy in per cent over log n."""
    figure, axes = panels(1, 1, 0.6)
    (one,) = axes.ravel()
    found = table(rows)
    for place, (way, mark) in enumerate(WAYS.items()):
        part = found[found.way == way]
        x = part.images * (1.02 if place else 1 / 1.02)  # bars of both ways stay visible
        drawn = line(one, x, 100 * part["mean"], mark)
        one.vlines(x, 100 * part["min"], 100 * part["max"], color=drawn.get_color(), linewidth=1)
    one.set(xscale="log", xlabel="training images, $n$", ylabel="test accuracy / %")
    plain_log_ticks(one.xaxis, found.images.unique())
    legend_below(figure, one.get_lines())
    return figure


def caption(rows: pd.DataFrame, chosen: dict[str, Any]) -> str:
    """What is drawn, with the figures of these rows."""
    last = rows[rows.images == rows.images.max()].supervised.mean()
    test = chosen["images"]["test"]
    return CAPTION.format(
        layers=len(chosen["architecture"]["layers"]),
        filters=" and ".join(map(str, chosen["filters"])),
        name=chosen["images"]["words"],
        test=test,
        ridge=chosen["ridge"],
        epochs=chosen["training"]["epochs"],
        steps=chosen["training"]["steps"],
        strong=PENALTIES[0],
        weak=PENALTIES[-1],
        seeds=chosen["seeds"],
        error=100 * (last * (1 - last) / test) ** 0.5,
        crossing=crossing(rows),
    )


def report(chosen: dict[str, Any], out: Path, clock: Callable[[], float]) -> list[Path]:
    """Run, draw, write."""
    rows = run(chosen, lambda text: print(text, flush=True))
    tables = {"table": table(rows), "seeds": rows}
    return write(out, chosen, {NAME: lambda: draw(rows)}, caption(rows, chosen), tables, clock())


if __name__ == "__main__":
    main(NAME, report, ("training_size_fashion",))
