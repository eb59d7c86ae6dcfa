"""Recovery against subsampling: what a linear decoder makes of a CKN's features, and what a stride loses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from reporting import main, write
from torch import Tensor

from stability.architecture import Architecture
from stability.images import load
from stability.plots.drawing import Mark, band, handle, legend_below, line, panels, plain_log_ticks
from stability.recovery.decoder import Decoder, relative
from stability.recovery.inversion import invert
from stability.recovery.pooled_patches import PooledPatches
from stability.representations.ckn import CKN
from stability.representations.random_features import RandomFeatures

NAME = "recovery"
MARKS = {
    2: Mark("patches of 2 px", "#0072B2", "-", "o"),
    3: Mark("patches of 3 px", "#D55E00", (0, (5, 1.5)), "s"),
    4: Mark("patches of 4 px", "#009E73", (0, (3, 1.2)), "^"),
}
INVERTED = Mark("gradient descent (random ReLU features, patches of {shown})", "#000000", "none", "x")
STRIDES = (
    Mark("stride 1", "#CC79A7", "-", "D"), Mark("stride 2", "#E69F00", (0, (5, 1.5)), "v"),
    Mark("stride 3", "#56B4E9", (0, (3, 1.2)), "P"),
)  # fmt: skip
TITLES = {"fashion": "Fashion-MNIST", "photographs": "photographs"}
CAPTION = (
    "Recovery of images from one layer of a finite CKN ({filters} anchors, exponential kernel, pooling sigma = "
    "{sigma:g} px, no A_0) with patches of e and stride s. Left and middle: relative error ||x^ - x|| / ||x|| of the "
    "linear decoder (least squares from features to patches, then deconvolution; ridge and regularisation chosen on "
    "the images it learnt from) on {counts} other images; lines: medians, bands: 10 to 90 % (measured). Dotted, for "
    "s > e: the part of x in the null space of pooling, patches and stride, which no reconstruction from linear "
    "functions of the patches can recover (proof, evaluated for these images); the decoder reaches it. Crosses: "
    "gradient descent on ||Phi(x^) - Phi(x)||^2 for random ReLU features ({widths} channels, {inverted} images, "
    "median) uses also what the features hold beyond linear functions, and gets below it. Right: condition number of "
    "the deconvolution against the pooling scale (computed, {size} px); dotted: e^(sigma^2 w^2 / 2), w^2 = 2 pi^2, its "
    "value where s divides e (proof); it is infinite for s > e. In pictures.png: the images themselves, for patches of "
    "{shown}; numbers are relative errors."
)
SCALES = np.linspace(0.0, 1.5, 7)


def architecture(chosen: dict[str, Any], patch_size: int, stride: int, kernel: dict[str, Any]) -> Architecture:
    """One layer without A_0."""
    layer = {
        "patch_size": patch_size, "pooling_scale": chosen["pooling_scale"], "subsampling": stride, "kernel": kernel,
    }  # fmt: skip
    return Architecture.from_dict({"layers": [layer], "antialiasing": None})


def run(chosen: dict[str, Any]) -> tuple[pd.DataFrame, dict[str, dict[str, Tensor]]]:
    """One row for every set, patch size, stride and image; and the pictures of the shown patch size, one a set."""
    rows, pictures = [], {}
    for given in chosen["sets"]:
        x = load(given["name"], count=given["count"], size=given["size"])
        known, unknown = x[::2], x[1::2]
        shown = {"original": unknown[0, 0]}
        for e in chosen["patch_sizes"]:
            rng = torch.Generator().manual_seed(0)
            fitted = CKN.fit(
                architecture(chosen, e, 1, chosen["kernel"]), known, filters=(chosen["filters"],), generator=rng
            )
            for stride in chosen["subsampling"]:
                ckn = CKN(architecture(chosen, e, stride, chosen["kernel"]), list(fitted.anchors))
                decoder = Decoder.fit(ckn, known)
                found, operator = decoder.recover(unknown), decoder.layers[0].operator
                lost = relative(operator.seen(unknown), unknown).tolist()
                errors = relative(found, unknown).tolist()
                if e == chosen["shown"]:
                    shown[f"s = {stride}"] = found[0, 0]
                rows += [
                    {
                        "set": given["name"], "method": "decoder", "patch_size": e, "subsampling": stride, "image": i,
                        "error": error, "lost": gone, "condition": operator.condition, "bound": operator.bound,
                        "patch_error": decoder.layers[0].patch_error,
                    }
                    for i, (error, gone) in enumerate(zip(errors, lost, strict=True))
                ]  # fmt: skip
        pictures[given["name"]] = shown
    more, shown = inversions(chosen)
    return pd.concat([pd.DataFrame(rows), more], ignore_index=True), pictures | {"inversion": shown}


def inversions(chosen: dict[str, Any]) -> tuple[pd.DataFrame, dict[str, Tensor]]:
    """The same by gradient descent, on random ReLU features, for the first set and the shown patch size."""
    given, asked, e = chosen["sets"][0], chosen["inversion"], chosen["shown"]
    x = load(given["name"], count=given["count"], size=given["size"])[1::2][: asked["images"]]
    relu = {"kind": "arc_cosine", "degree": 1}
    rng = torch.Generator().manual_seed(0)
    drawn = RandomFeatures.draw(architecture(chosen, e, 1, relu), (asked["widths"],), generator=rng)
    rows, shown = [], {"original": x[0, 0]}
    for stride in chosen["subsampling"]:
        phi = RandomFeatures(architecture(chosen, e, stride, relu), list(drawn.weights))
        found = invert(phi, x, steps=asked["steps"], generator=torch.Generator().manual_seed(0))
        shown[f"s = {stride}"] = found.images[0, 0]
        rows += [
            {
                "set": given["name"], "method": "inversion", "patch_size": e, "subsampling": stride, "image": i,
                "error": error, "residual": residual,
            }
            for i, (error, residual) in enumerate(zip(found.errors(x).tolist(), found.residual.tolist(), strict=True))
        ]  # fmt: skip
    return pd.DataFrame(rows), shown


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Medians over the images."""
    keys = ["set", "method", "patch_size", "subsampling"]
    return rows.groupby(keys)[["error", "lost", "condition", "bound", "patch_error", "residual"]].median().reset_index()


def curves(rows: pd.DataFrame, chosen: dict[str, Any]) -> Figure:
    """Error against s / e for every set, and the condition number against s."""
    sets = [given["name"] for given in chosen["sets"]]
    figure, axes = panels(1, len(sets) + 1, 0.45)
    *errors, conditions = axes.ravel()
    decoded = rows[rows.method == "decoder"]
    for one, given in zip(errors, sets, strict=True):
        for e, mark in MARKS.items():
            part = decoded[(decoded.set == given) & (decoded.patch_size == e)]
            spread = part.groupby("subsampling")["error"].quantile([0.1, 0.5, 0.9]).unstack()
            spread = spread.set_axis(["low", "median", "high"], axis=1)
            band(one, spread.index / e, spread, mark)
            line(one, spread.index / e, spread["median"], mark)
            lost = part[part.subsampling > e].groupby("subsampling")["lost"].median()
            line(one, lost.index / e, lost, mark, linestyle=":", marker="", color="#000000", zorder=5)
        one.axvline(1.0, color="#666666", linewidth=1)
        one.set(xscale="log", yscale="log", xlabel="stride / patch size, $s / e$", title=TITLES.get(given, given))
        plain_log_ticks(one.xaxis, [0.25, 0.5, 1, 2, 3])
    found = table(rows)
    inverted = found[found.method == "inversion"]
    line(errors[0], inverted.subsampling / chosen["shown"], inverted.error, INVERTED)
    errors[0].set_ylabel(r"$\|\hat x - x\| \,/\, \|x\|$")
    size = chosen["sets"][0]["size"]
    for stride, mark in zip((1, 2, 3), STRIDES, strict=True):
        computed = [PooledPatches(size, chosen["shown"], sigma, stride).condition for sigma in SCALES]
        line(conditions, SCALES, computed, mark)
    conditions.plot(SCALES, np.exp((SCALES * np.pi) ** 2), color="#000000", linestyle=":", zorder=5)  # d = 2 axes
    conditions.set(yscale="log", xlabel=r"pooling scale, $\sigma$ / px", ylabel="condition number")
    conditions.set_title(f"deconvolution, $e = {chosen['shown']}$")
    conditions.legend(handles=[handle(mark) for mark in STRIDES], loc="upper left")
    words = INVERTED.label.format(shown=chosen["shown"])
    dotted = Mark("lost by the stride (s > e)", "#000000", ":")
    legend_below(figure, [*(handle(mark) for mark in MARKS.values()), handle(dotted), handle(INVERTED, label=words)])
    return figure


def strip(rows: pd.DataFrame, pictures: dict[str, dict[str, Tensor]], chosen: dict[str, Any]) -> Figure:
    """Rows of recovered images, one column a stride."""
    names = {"fashion": "decoder", "inversion": "descent", "photographs": "decoder"}
    kinds = [kind for kind in names if kind in pictures]
    figure, grid = panels(len(kinds), len(pictures[kinds[0]]), 0.6)
    shown = rows[(rows.image == 0) & (rows.patch_size == chosen["shown"])]
    for place, (kind, row) in enumerate(zip(kinds, grid, strict=True)):
        method, given = ("inversion", chosen["sets"][0]["name"]) if kind == "inversion" else ("decoder", kind)
        own = shown[(shown.method == method) & (shown.set == given)].set_index("subsampling")
        for axes, (title, picture) in zip(row, pictures[kind].items(), strict=True):
            axes.imshow(picture.numpy(), cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.grid(visible=False)
            for spine in axes.spines.values():
                spine.set_visible(False)
            if place == 0:
                axes.set_title(f"${title}$" if "=" in title else title, fontsize="medium")
            if "=" in title:
                axes.set_xlabel(f"{own.error[int(title.partition('= ')[2])]:.2g}", fontsize="small")
        row[0].set_ylabel(names[kind], fontsize="medium")
    return figure


def report(chosen: dict[str, Any], out: Path, clock: Callable[[], float]) -> list[Path]:
    """Run, draw, write."""
    rows, pictures = run(chosen)
    counts = rows[rows.method == "decoder"].groupby("set", sort=False)["image"].nunique()
    caption = CAPTION.format(
        filters=chosen["filters"],
        sigma=chosen["pooling_scale"],
        counts=" and ".join(map(str, counts)),
        widths=chosen["inversion"]["widths"],
        inverted=chosen["inversion"]["images"],
        shown=chosen["shown"],
        size=" x ".join(map(str, chosen["sets"][0]["size"])),
    )
    figures = {NAME: lambda: curves(rows, chosen), "pictures": lambda: strip(rows, pictures, chosen)}
    return write(out, chosen, figures, caption, {"table": table(rows)}, clock())


if __name__ == "__main__":
    main(NAME, report)
