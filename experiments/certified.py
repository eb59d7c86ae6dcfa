"""Certified classification: two-sided robustness radii of a linear head on a Nyström CKN, for two shapes of fields."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from reporting import main, write
from torch import nn

from stability.architecture import Architecture
from stability.grid import band_limit
from stability.images import dataset, load
from stability.representations.ckn import CKN
from stability.robustness import RobustnessRadii, robustness_radius
from stability.search.starts import Linearised, Saturated
from stability.training.classifier import Classifier, new_head
from stability.training.heads import ExactHead

NAME = "certified"
CAPTION = (
    "{training} training and {test} test images (Fashion-MNIST, {size} px, band-limited); a finite CKN of two layers "
    "({filters} anchors, unsupervised), pooling sigma = {scales} px, stride {stride} at the end; the head is a "
    "logistic regression. {name}.png: {caption}"
)


def classifier(chosen: dict[str, Any]) -> tuple[CKN, Classifier, torch.Tensor, torch.Tensor]:
    """The network, the head, test images and their labels."""
    count, known = chosen["training"] + chosen["test"], chosen["training"]
    x = band_limit(load(chosen["images"]["name"], count=count, size=tuple(chosen["images"]["size"])), 2)
    labels = dataset(chosen["images"]["name"], count=count).labels
    ckn = CKN.fit(
        Architecture.from_dict(chosen["architecture"]), x[:known], filters=tuple(chosen["filters"]),
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    head: nn.Linear = new_head(ckn, x[:1], int(labels.max()) + 1)
    with torch.no_grad():
        features = ckn(x[:known]).flatten(1)
    ExactHead(chosen["penalty"]).settle_(head, features, labels[:known])
    return ckn, Classifier(ckn, head), x[known:], labels[known:]


def run(chosen: dict[str, Any]) -> dict[str, RobustnessRadii]:
    """The radii of the test images for every ray."""
    ckn, whole, x, labels = classifier(chosen)
    asked, found = chosen["search"], {}
    for name, (a, b) in chosen["rays"].items():
        found[name] = robustness_radius(
            ckn, whole, x, labels, displacement_norm=a, jacobian_norm=b, generator=torch.Generator().manual_seed(0),
            starts=(Saturated(asked["saturated"]), Linearised(asked["linearised"])), kept=asked["kept"],
            steps=asked["steps"], sizes=asked["sizes"],
        )  # fmt: skip
    return found


def table(found: dict[str, RobustnessRadii]) -> pd.DataFrame:
    """The radii of every image and ray."""
    return pd.concat([radii.table().assign(ray=name) for name, radii in found.items()], ignore_index=True)


def summary(found: dict[str, RobustnessRadii]) -> pd.DataFrame:
    """Accuracy, medians and shares, one row for every ray."""
    rows = [{"ray": name, **radii.summary().to_dict()} for name, radii in found.items()]
    return pd.DataFrame(rows)


def figure_of(radii: RobustnessRadii) -> Callable[[], Figure]:
    """Draws the figure in the style in force."""
    return lambda: radii.plot().figure


def report(chosen: dict[str, Any], out: Path, clock: Callable[[], float]) -> list[Path]:
    """Run, draw, write."""
    found = run(chosen)
    layers = chosen["architecture"]["layers"]
    captions = [
        CAPTION.format(
            training=chosen["training"],
            test=chosen["test"],
            size=" x ".join(map(str, chosen["images"]["size"])),
            filters=" and ".join(map(str, chosen["filters"])),
            scales=" and ".join(f"{layer['pooling_scale']:g}" for layer in layers),
            stride=layers[-1]["subsampling"],
            name=name,
            caption=radii.plot().caption,
        )
        for name, radii in found.items()
    ]
    figures = {name: figure_of(radii) for name, radii in found.items()}
    return write(
        out, chosen, figures, "\n\n".join(captions), {"table": table(found), "summary": summary(found)}, clock()
    )


if __name__ == "__main__":
    main(NAME, report)
