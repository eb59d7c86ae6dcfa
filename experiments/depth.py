"""How the theorems and the distance depend on the number of layers, at equal total pooling and equal patches.

Two kinds of fields with one bound b of the gradient: shears tau = (f(y), 0), which preserve volume, and generic ones.
"""

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
from matplotlib.figure import Figure
from torch import Tensor

from stability import images
from stability.architecture import Architecture, Layer
from stability.bounds.field import FieldNorms
from stability.bounds.over_depth import over_depth
from stability.deformations.control import control
from stability.deformations.fourier import FourierField
from stability.files import replacing
from stability.plots.drawing import PAPER, RELATIVE, SCREEN, Mark, band, legend_below, line, panels, same_limits
from stability.representations.gram import GramCKN
from stability.sweeps.result import RUN, commit
from stability.sweeps.version import code_version
from stability.warps.band_limited import BandLimitedWarp

MARKS = {
    "published form": Mark("published form, explicit constants", "#000000", (0, (1, 1.3)), "v"),
    "quadrature": Mark("theorem in quadrature (square root of n)", "#D55E00", (0, (5, 1.5)), "s"),
    "depth-free": Mark("depth-free theorem", "#0072B2", "-", "o"),
    "norms": Mark("norms of the two features alone", "#666666", (0, (6, 1.5, 1, 1.5))),
    "largest": Mark("largest distance found", "#CC79A7", "-", "^"),
    "median": Mark("random fields (median, 10 to 90 %)", "#009E73", "-", "D"),
}
TITLES = {"shear": "shears (volume preserving)", "generic": "generic fields"}
CAPTION = (
    "Bounds and distances against the number of layers n, in units of ||x||. Exact CKNs (exponential kernel, no "
    "strides) of equal total pooling (sum of sigma_k^2 = 16 px^2; {first:.1f} for n = 1), equal last pooling "
    "sigma_n = {last:g} px and equal patches (c_rms / sigma = {kappa:.3f} in every layer). All fields have "
    "||grad tau||_inf = {b:g}; the lines of the bounds hold for every image and every field with the norms printed in "
    "the table (left: det = 1 and sup |tau| = {shear:.2f} px; right: sup |tau| = {generic:.2f} px and second "
    "derivatives up to {hessian:.3f} / px). Published form: C1 (1 + n) b + C2 a / sigma_n. The depth-free bound on the "
    "left is proved in closed form, the other bounds up to suprema of explicit functions, which are evaluated "
    "numerically; the grey line is what the norms of L_tau x and x allow. Green: measured, {images} Fashion "
    "images of 28 x 28 px, {fields} random fields each. Purple: the largest distance found, over images, random "
    "fields and {steps} steps of gradient ascent in the {counts} Fourier coefficients (at n = 2; the fields found are "
    "measured at every n). It is a lower bound of the supremum, which may be larger."
)


def settings(changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What ``depth.yaml`` says, with some values changed."""
    return {**yaml.safe_load((HERE / "depth.yaml").read_text()), **(changes or {})}


def network(sizes: list[int], kappa_rms: float, last_scale: float) -> Architecture:
    """Layers with the given patches and equal kappa: sigma_{k-1} = c_rms(e_k) / kappa."""
    scales = [math.sqrt((e * e - 1) / 6) / kappa_rms for e in sizes]
    layers = zip(sizes, [*scales[1:], last_scale], strict=True)
    return Architecture(tuple(Layer(*layer) for layer in layers), antialiasing=scales[0])


def draw_fields(kind: str, options: Mapping[str, Any]) -> FourierField:
    """Random fields of one kind with sup ||grad tau|| = b: modes (0, k) along x, or a disc of modes."""
    size, rng = tuple(options["images"]["size"]), torch.Generator().manual_seed(options["seed"])
    count, cutoff = options["fields"], options["cutoff"][kind]
    if kind == "generic":
        field = FourierField.sample(size, cutoff=cutoff, batch_shape=(count,), generator=rng)
    else:
        modes = torch.tensor([[0, k] for k in range(1, cutoff + 1)])
        parts = torch.randn(2, count, cutoff, 2, generator=rng, dtype=torch.float64)
        parts[..., 1] = 0
        field = FourierField(modes, parts[0], parts[1], size=size)
    return control(field, jacobian_norm=options["jacobian_norm"])


def climb(phi: GramCKN, x: Tensor, field: FourierField, steps: int, b: float) -> FourierField:
    """Generalised power iteration: the coefficients' gradient of the squared distance, rescaled to b, while it grows.

    Args:
        phi: the representation.
        x: one image, ``(1, C, *size)``.
        field: where to start, batch shape ``(1,)``.
        steps: evaluations of the gradient.
        b: sup ||grad tau||.
    """
    reference, warp = phi.reference(x), BandLimitedWarp()
    share, best = 1.0, float(reference.distance(warp(x, field)))
    for _ in range(steps):
        parts = [part.detach().clone().requires_grad_() for part in (field.cosine, field.sine)]
        moving = FourierField(field.modes, *parts, size=field.size)
        gradients = torch.autograd.grad(reference.distance(warp(x, moving)).square().sum(), parts)
        length = math.sqrt(sum(float(part.detach().square().sum()) for part in parts))
        ahead = length / math.sqrt(sum(float(g.square().sum()) for g in gradients))
        mixed = [(1 - share) * part.detach() + share * ahead * g for part, g in zip(parts, gradients, strict=True)]
        kept = [part * (old != 0) for part, old in zip(mixed, (field.cosine, field.sine), strict=True)]  # same kind
        tried = control(FourierField(field.modes, *kept, size=field.size), jacobian_norm=b)
        found = float(reference.distance(warp(x, tried)))
        if found > best:
            field, best = tried, found
        else:
            share /= 3
    return field


def run(options: Mapping[str, Any]) -> pd.DataFrame:
    """One row per kind and depth: bounds, and distances in units of ||x||."""
    pictures = images.load(**{**options["images"], "size": tuple(options["images"]["size"])})
    networks = [network(sizes, options["kappa_rms"], options["last_scale"]) for sizes in options["patch_sizes"]]
    norm, warp, rows = pictures.flatten(1).norm(dim=1), BandLimitedWarp(), []
    for kind in TITLES:
        fields = draw_fields(kind, options)
        climber = GramCKN(networks[min(1, len(networks) - 1)])
        found = [_largest(climber, x[None], fields, options) for x in pictures]
        top = [max(float(_norm(part, field).max()) for field in (fields, *found))
               for part in ("displacement", "hessian", "divergence")]  # fmt: skip
        norms = FieldNorms(
            top[0], options["jacobian_norm"] * (1 + 1e-9), top[1], divergence=top[2], volume_preserving=kind == "shear"
        )
        free = int(torch.stack([fields.cosine[0], fields.sine[0]]).count_nonzero())
        for architecture, form in zip(networks, over_depth(networks, norms), strict=True):
            reference = GramCKN(architecture).reference(pictures)
            warped = torch.stack([warp(x.expand(len(fields.cosine), *x.shape), fields) for x in pictures])
            observed = (reference.distance(warped) / norm[:, None]).flatten()
            climbed = reference.distance(torch.cat([warp(x[None], f) for x, f in zip(pictures, found, strict=True)]))
            low, median, high = observed.quantile(observed.new_tensor([0.1, 0.5, 0.9])).tolist()
            rows.append({
                "kind": kind, "layers": architecture.depth, "total_pooling": math.hypot(*architecture.scales),
                "displacement_norm": top[0], "jacobian_norm": options["jacobian_norm"], "hessian_norm": top[1],
                "coefficients": free,
                **form.alternatives, "norms": form.trivial_norms, "smallest": form.combination,
                "status": str(form.status), "low": low, "median": median, "high": high,
                "largest": max(float(observed.max()), float((climbed / norm).max())),
            })  # fmt: skip
    return pd.DataFrame(rows)


def _largest(phi: GramCKN, x: Tensor, fields: FourierField, options: Mapping[str, Any]) -> FourierField:
    """The best of the random fields, climbed."""
    distances = phi.reference(x).distance(BandLimitedWarp()(x.expand(len(fields.cosine), *x.shape[1:]), fields)[None])
    i = int(distances.argmax())
    start = FourierField(fields.modes, fields.cosine[i : i + 1], fields.sine[i : i + 1], size=fields.size)
    return climb(phi, x, start, options["ascent_steps"], options["jacobian_norm"])


def _norm(name: str, field: FourierField) -> Tensor:
    return getattr(field.norms(), name).upper


def draw(rows: pd.DataFrame) -> Figure:
    """Bounds and distances against n, one panel per kind of field."""
    figure, axes = panels(1, 2, 0.55)
    for one, (kind, title) in zip(axes.ravel(), TITLES.items(), strict=True):
        part = rows[rows["kind"] == kind]
        band(one, part["layers"], part, MARKS["median"])
        for name, mark in MARKS.items():
            line(one, part["layers"], part[name], mark)
        one.set(yscale="log", xlabel="number of layers $n$", title=title, xticks=part["layers"])
    axes[0, 0].set_ylabel(RELATIVE)
    same_limits(list(axes.ravel()))
    legend_below(figure, axes[0, 0].get_lines(), columns=2)
    return figure


def write(rows: pd.DataFrame, options: Mapping[str, Any], out: Path) -> list[Path]:
    """Figure (for the screen and for print), caption, table and the record of the run."""
    out.mkdir(parents=True, exist_ok=True)
    for suffix, style in (("png", SCREEN), ("pdf", PAPER)):
        with plt.style.context(str(style)), replacing(out / f"depth.{suffix}") as temporary:
            draw(rows).savefig(temporary, format=suffix)
    shear, generic = (rows[rows["kind"] == kind].iloc[0] for kind in TITLES)
    caption = CAPTION.format(
        first=rows["total_pooling"].iloc[0] ** 2, last=options["last_scale"], kappa=options["kappa_rms"],
        b=options["jacobian_norm"], shear=shear["displacement_norm"], generic=generic["displacement_norm"],
        hessian=generic["hessian_norm"], images=options["images"]["count"], fields=options["fields"],
        steps=options["ascent_steps"], counts=f"{shear['coefficients']} or {generic['coefficients']}",
    )  # fmt: skip
    record = {"settings": options, "code": code_version(), "commit": commit(), "torch": torch.__version__}
    texts = {
        "caption.txt": caption + "\n",
        "table.csv": rows.to_csv(index=False, float_format="%.6g"),
        RUN: json.dumps(record, indent=2, sort_keys=True) + "\n",
    }
    for name, text in texts.items():
        with replacing(out / name) as temporary:
            temporary.write_text(text)
    return [out / name for name in ("depth.png", "depth.pdf", *texts)]


def main() -> None:
    """``python experiments/depth.py [--out DIR]``."""
    parser = argparse.ArgumentParser(prog="experiments/depth.py", description="The experiment depth.")
    parser.add_argument("--out", type=Path, default=HERE.parent / "reports" / "depth", help="figure, table, record")
    options = settings()
    for path in write(run(options), options, parser.parse_args().out):
        print(path)


if __name__ == "__main__":
    main()
