"""Random features against their width: how far their distances are off the exact kernel's, and what bounds cost."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from reporting import main, write

from stability.architecture import Architecture
from stability.images import load
from stability.plots.drawing import Mark, band, legend_below, line, panels, plain_log_ticks, triangle
from stability.representations.gram import GramCKN
from stability.representations.random_features import RandomFeatures

NAME = "random_features"
MARKS = {
    "arc_cosine(degree=1)": Mark("ReLU, arc-cosine kernel of degree 1", "#0072B2", "-", "o"),
    "arc_cosine(degree=0)": Mark("step, arc-cosine kernel of degree 0", "#D55E00", (0, (5, 1.5)), "s"),
    "exponential": Mark("cosine and sine, exponential kernel", "#009E73", (0, (1.2, 1.2)), "^"),
}
WORDS = {1: "one layer", 2: "two layers"}
CAPTION = (
    "Random features of m channels in every layer against the exact kernel network of the same architecture (patches "
    "of 3, pooling 2 px, stride 2, sigma_0 = 1 px), {images} Fashion images of {size} px, {pairs} pairs. Left and "
    "middle: root mean square over the pairs of the relative error of ||Phi(x) - Phi(y)||, for one and two layers; "
    "lines: root mean square over {draws} draws of the weights, bands: 10 to 90 % of the draws (measured). Slopes of "
    "the log error over log m with 95 % intervals (estimates, jackknife over draws): {slopes}. That one layer's "
    "kernel is estimated without bias with a deviation proportional to m^(-1/2) is proved; for two layers the rate is "
    "measured. Right: the product of the Lipschitz constants that ladders and sweeps use (proved for the drawn "
    "weights, spectral norms in float64; mean over draws), for one (open) and two layers (filled); 1 (dotted) for the "
    "exact kernels. Those of ReLU and of cosine and sine coincide: both are the same norm of the same weights. The "
    "step has none."
)


def run(chosen: dict[str, Any]) -> pd.DataFrame:
    """One row for every depth, kernel, width and draw: relative error of the distances, product of the constants."""
    given = chosen["images"]
    x = load(given["name"], count=given["count"], size=given["size"])
    first, second = torch.triu_indices(len(x), len(x), offset=1)
    rows = []
    for depth in chosen["depths"]:
        for kernel in chosen["kernels"]:
            layers = [{**chosen["layer"], "kernel": kernel}] * depth
            architecture = Architecture.from_dict({"layers": layers, "antialiasing": chosen["antialiasing"]})
            exact = GramCKN(architecture).distance_matrices(x)[0][first, second]
            for width in chosen["widths"]:
                for draw in range(chosen["draws"]):
                    rng = torch.Generator().manual_seed(draw)
                    phi = RandomFeatures.draw(
                        architecture, (width,) * depth, d=len(given["size"]), channels=x.shape[1], generator=rng
                    )
                    found = phi.distance_matrices(x)[0][first, second]
                    rows.append(
                        {
                            "depth": depth,
                            "kernel": name(kernel),
                            "width": width,
                            "draw": draw,
                            "error": float((found / exact - 1.0).square().mean().sqrt()),
                            "lipschitz": math.prod(phi.lipschitz),
                        }
                    )
    return pd.DataFrame(rows)


def name(kernel: dict[str, Any]) -> str:
    """The kernel in one word, as the marks know it."""
    return f"{kernel['kind']}(degree={kernel['degree']})" if "degree" in kernel else str(kernel["kind"])


def slopes(rows: pd.DataFrame) -> pd.DataFrame:
    """Slope of log root-mean-square error over log width, and its 95 % interval by the jackknife over draws."""
    found = []
    for (depth, kernel), part in rows.groupby(["depth", "kernel"]):
        squares = part.pivot_table(index="draw", columns="width", values="error").pow(2)
        logs, count = np.log(squares.columns.to_numpy(dtype=float)), len(squares)

        def slope(mean: "pd.Series[float]", logs: np.ndarray = logs) -> float:
            return float(np.polyfit(logs, 0.5 * np.log(mean.to_numpy()), 1)[0])

        whole = slope(squares.mean())
        pseudo = np.array([count * whole - (count - 1) * slope(squares.drop(index=i).mean()) for i in squares.index])
        half = 1.96 * float(pseudo.std(ddof=1)) / math.sqrt(count)
        mean = float(pseudo.mean())
        found.append((depth, kernel, mean, mean - half, mean + half, count))
    return pd.DataFrame(found, columns=["depth", "kernel", "slope", "low", "high", "draws"])


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Root mean square error over the draws, and mean constant, for every depth, kernel and width."""
    groups = rows.groupby(["depth", "kernel", "width"])
    error = groups["error"].apply(lambda part: float(np.sqrt(np.mean(np.square(part)))))
    return pd.DataFrame({"error": error, "lipschitz": groups["lipschitz"].mean()}).reset_index()


def draw(rows: pd.DataFrame) -> Figure:
    """Error against width for every depth, and the constants."""
    depths = sorted(rows.depth.unique())
    figure, axes = panels(1, len(depths) + 1, 0.42)
    found, widths = table(rows), np.sort(rows.width.unique())
    *errors, constants = axes.ravel()
    for one, depth in zip(errors, depths, strict=True):
        for kernel, mark in MARKS.items():
            part = rows[(rows.depth == depth) & (rows.kernel == kernel)]
            spread = part.groupby("width")["error"].quantile([0.1, 0.9]).unstack().set_axis(["low", "high"], axis=1)
            band(one, spread.index, spread, mark)
            mine = found[(found.depth == depth) & (found.kernel == kernel)]
            line(one, mine.width, mine.error, mark)
        one.set(xscale="log", yscale="log", xlabel="channels of a layer, $m$")
        one.set_title(WORDS.get(depth, f"{depth} layers"))
    low, high = min(one.get_ylim()[0] for one in errors), max(one.get_ylim()[1] for one in errors)
    for one in errors:
        one.set_ylim(low, high)
        triangle(one, (widths[1], widths[3]), 3.5 * low, -0.5)
    errors[0].set_ylabel("relative error of the distance")
    for kernel, mark in MARKS.items():
        for depth in depths:
            mine = found[(found.depth == depth) & (found.kernel == kernel) & np.isfinite(found.lipschitz)]
            if len(mine):
                line(constants, mine.width, mine.lipschitz, mark, markerfacecolor="white" if depth == 1 else mark.color)
    constants.axhline(1.0, color="#666666", linewidth=1, linestyle=":")
    constants.set(xscale="log", yscale="log", xlabel="channels of a layer, $m$", ylabel="product over the layers")
    constants.set_title("Lipschitz constants")
    plain_log_ticks(constants.yaxis, [1, 2, 5, 10])
    for one in axes.ravel():
        plain_log_ticks(one.xaxis, widths[::2])
    handles = [entry for entry in errors[0].get_lines() if not entry.get_label().startswith("_")]
    legend_below(figure, handles)
    return figure


def caption(rows: pd.DataFrame, chosen: dict[str, Any]) -> str:
    """What is drawn, with the figures of these rows."""
    found = slopes(rows)
    words = []
    for depth, part in found.groupby("depth"):
        each = [f"{MARKS[row.kernel].label.split(',')[0]} {row.slope:.2f} [{row.low:.2f}, {row.high:.2f}]"
                for row in part.itertuples()]  # fmt: skip
        words.append(f"{WORDS.get(depth, f'{depth} layers')}: {', '.join(each)}")
    count = chosen["images"]["count"]
    return CAPTION.format(
        images=count,
        size=" x ".join(map(str, chosen["images"]["size"])),
        pairs=count * (count - 1) // 2,
        draws=chosen["draws"],
        slopes="; ".join(words),
    )


def report(chosen: dict[str, Any], out: Path, clock: Callable[[], float]) -> list[Path]:
    """Run, draw, write."""
    rows = run(chosen)
    tables = {"table": table(rows), "slopes": slopes(rows)}
    return write(out, chosen, {NAME: lambda: draw(rows)}, caption(rows, chosen), tables, clock())


if __name__ == "__main__":
    main(NAME, report)
