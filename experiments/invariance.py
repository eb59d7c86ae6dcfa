"""Fixed invariance: what n(kappa) layers of patches of size kappa do to the bounds, and to the representation."""

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import torch
import yaml
from common import HERE
from depth import TITLES, draw_fields
from matplotlib.figure import Figure

from stability import images
from stability.architecture import Architecture, Layer
from stability.bounds.field import FieldNorms
from stability.bounds.invariance import FORMS, fixed_invariance
from stability.files import replacing
from stability.plots.drawing import PAPER, SCREEN, Mark, legend_below, line, panels
from stability.representations.gram import GramCKN
from stability.sweeps.result import RUN, commit
from stability.sweeps.version import code_version
from stability.warps.band_limited import BandLimitedWarp

MARKS = {
    "power": Mark("published growth, kappa^3", "#000000", (0, (1, 1.3)), "v"),
    "linear": Mark("the same with constants linear in kappa", "#CC79A7", (0, (6, 1.5, 1, 1.5)), "^"),
    "quadrature": Mark("theorem in quadrature", "#D55E00", (0, (5, 1.5)), "s"),
    "depth_free": Mark("depth-free theorem", "#0072B2", "-", "o"),
}
UNITS = {
    "distance": Mark("in units of the norm of x", "#009E73", "-", "D"),
    "over_representation": Mark("in units of the norm of Phi(x)", "#E69F00", (0, (5, 1.5)), "s"),
    "over_pairs": Mark("in units of the distance of two images", "#56B4E9", (0, (1, 1.3)), "o"),
}
CAPTION = (
    "Fixed invariance: sigma_0 = {first:g} px and sigma_n = {last:g} px, n layers between them with sigma_k = kappa "
    "sigma_(k-1), kappa = (sigma_n / sigma_0)^(1/n), patches as large as the scale they reach (largest offset kappa "
    "sigma_(k-1)). Top: bounds for {fields} fields with ||grad tau||_inf = {b:g}, in units of ||x||; the curve of the "
    "published growth has that growth, C1 ~ kappa^3, and an arbitrary size. Circles: the smallest of the depths "
    "drawn. Bottom: measured, exact CKNs of patch sizes rounded to whole pixels, medians over {images} Fashion "
    "images of 28 x 28 px and {count} random fields of each kind, divided by the value at n = {least}. The total "
    "pooling grows from left to "
    "right; one_layer.csv tells its effect from that of the patches."
)


def network(n: int, sigma_0: float, sigma_n: float) -> Architecture:
    """n layers with sigma_k = kappa sigma_{k-1}; c_rms = sigma_k / sqrt(3) up to whole pixels."""
    scales = [sigma_0 * (sigma_n / sigma_0) ** (k / n) for k in range(n + 1)]
    sizes = [max(2, round(math.sqrt(1 + 2 * scale**2))) for scale in scales[1:]]
    return Architecture(tuple(Layer(*layer) for layer in zip(sizes, scales[1:], strict=True)), antialiasing=sigma_0)


def run(options: Mapping[str, Any]) -> pd.DataFrame:
    """One row per kind of field and number of layers: bounds, and medians of measured distances."""
    pictures = images.load(**{**options["images"], "size": tuple(options["images"]["size"])})
    first, last, b = options["sigma_0"], options["sigma_n"], options["jacobian_norm"]
    norm, warp, rows = pictures.flatten(1).norm(dim=1)[:, None], BandLimitedWarp(), []
    for kind in TITLES:
        fields = draw_fields(kind, options)
        found = fields.norms()
        a, bend, change = (
            float(getattr(found, name).upper.max()) for name in ("displacement", "hessian", "divergence")
        )
        norms = FieldNorms(a, b * (1 + 1e-9), bend, divergence=change, volume_preserving=kind == "shear")
        warped = torch.stack([warp(x.expand(len(fields.cosine), *x.shape), fields) for x in pictures])
        for n in options["layers"]:
            kappa = (last / first) ** (1 / n)
            phi = GramCKN(network(n, first, last))
            reference = phi.reference(pictures)
            distance, pairs = reference.distance(warped), phi.distance_matrices(pictures)[0]
            between = pairs[~torch.eye(len(pictures), dtype=torch.bool)].median()
            bound = fixed_invariance(kappa, sigma_0=first, sigma_n=last, field=norms)
            rows.append({
                "kind": kind, "layers": n, "kappa": kappa, "total_pooling": math.hypot(*phi.architecture.scales),
                "patch_sizes": " ".join(str(layer.patch_size) for layer in phi.architecture.layers),
                **{form: getattr(bound, form) for form in FORMS},
                "distance": float((distance / norm).median()),
                "over_representation": float((distance / reference.norm[:, None]).median()),
                "over_pairs": float((distance / between).median()),
            })  # fmt: skip
    return pd.DataFrame(rows)


def one_layer(options: Mapping[str, Any]) -> pd.DataFrame:
    """Networks of one layer: medians of measured distances against patch size and total pooling, apart."""
    pictures = images.load(**{**options["images"], "size": tuple(options["images"]["size"])})
    norm, warp, rows = pictures.flatten(1).norm(dim=1)[:, None], BandLimitedWarp(), []
    for kind in TITLES:
        fields = draw_fields(kind, options)
        warped = torch.stack([warp(x.expand(len(fields.cosine), *x.shape), fields) for x in pictures])
        for n in (options["layers"][0], options["layers"][-1]):
            total = math.hypot(*network(n, options["sigma_0"], options["sigma_n"]).scales)
            for size in options["patch_sizes"]:
                layer = Layer(size, math.sqrt(total**2 - options["sigma_0"] ** 2))
                reference = GramCKN(Architecture((layer,), antialiasing=options["sigma_0"])).reference(pictures)
                distance = float((reference.distance(warped) / norm).median())
                rows.append({"kind": kind, "total_pooling": total, "patch_size": size, "distance": distance})
    return pd.DataFrame(rows)


def draw(rows: pd.DataFrame) -> Figure:
    """Bounds above, measured distances below, one column per kind of field."""
    figure, axes = panels(2, 2, 0.85, sharex=True)
    highest = 0.0
    for (above, below), (kind, title) in zip(axes.T, TITLES.items(), strict=True):
        part = rows[rows["kind"] == kind]
        for name, mark in MARKS.items():
            line(above, part["layers"], part[name], mark)
            least = part.loc[part[name].idxmin()]
            above.plot(least["layers"], least[name], "o", color=mark.color, markersize=13, markerfacecolor="none")
        for name, mark in UNITS.items():
            line(below, part["layers"], part[name] / part[name].iloc[0], mark)
            highest = max(highest, float((part[name] / part[name].iloc[0]).max()))
        above.set(yscale="log", title=title)
        below.set(xlabel="number of layers $n$\n(below: $\\kappa$)")
        ticks = [f"{n}\n{kappa:.2g}" for n, kappa in zip(part["layers"], part["kappa"], strict=True)]
        below.set_xticks(part["layers"], ticks)
    top = axes[0, 0]
    for above in axes[0]:
        above.set_ylim(top=40 * rows["linear"].min())
        above.sharey(top)
    for below in axes[1]:
        below.set_ylim(0, 1.08 * highest)
    top.set_ylabel("bound / $\\|x\\|$")
    axes[1, 0].set_ylabel("measured distance,\nrelative to $n = 1$")
    handles = [one for one in [*top.get_lines(), *axes[1, 0].get_lines()] if not one.get_label().startswith("_")]
    legend_below(figure, handles, columns=2)
    return figure


def write(rows: pd.DataFrame, apart: pd.DataFrame, options: Mapping[str, Any], out: Path) -> list[Path]:
    """Figure (for the screen and for print), caption, table and the record of the run."""
    out.mkdir(parents=True, exist_ok=True)
    for suffix, style in (("png", SCREEN), ("pdf", PAPER)):
        with plt.style.context(str(style)), replacing(out / f"invariance.{suffix}") as temporary:
            draw(rows).savefig(temporary, format=suffix)
    caption = CAPTION.format(
        first=options["sigma_0"], last=options["sigma_n"], fields="volume-preserving (left) and generic (right)",
        b=options["jacobian_norm"], images=options["images"]["count"], count=options["fields"],
        least=options["layers"][0],
    )  # fmt: skip
    record = {"settings": options, "code": code_version(), "commit": commit(), "torch": torch.__version__}
    texts = {
        "caption.txt": caption + "\n",
        "table.csv": rows.to_csv(index=False, float_format="%.6g"),
        "one_layer.csv": apart.to_csv(index=False, float_format="%.6g"),
        RUN: json.dumps(record, indent=2, sort_keys=True) + "\n",
    }
    for name, text in texts.items():
        with replacing(out / name) as temporary:
            temporary.write_text(text)
    return [out / name for name in ("invariance.png", "invariance.pdf", *texts)]


def settings(changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What ``invariance.yaml`` says, with some values changed."""
    return {**yaml.safe_load((HERE / "invariance.yaml").read_text()), **(changes or {})}


def main() -> None:
    """``python experiments/invariance.py [--out DIR]``."""
    parser = argparse.ArgumentParser(prog="experiments/invariance.py", description="The experiment invariance.")
    parser.add_argument(
        "--out", type=Path, default=HERE.parent / "reports" / "invariance", help="figure, table, record"
    )
    options = settings()
    for path in write(run(options), one_layer(options), options, parser.parse_args().out):
        print(path)


if __name__ == "__main__":
    main()
