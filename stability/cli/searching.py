"""``stability search``: the field of two given norms that moves a representation most, as far as one is found."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from stability.cli.parser import Command, Parser, add_jobs, check_jobs, given
from stability.cli.theory import architecture
from stability.cli.trained import FRONT_ENDS, TOLD_SCALES, TOLD_WIDTHS, add_lenet, default_scales, default_widths
from stability.names import resolve

if TYPE_CHECKING:
    import pandas as pd

    from stability.sweeps.spec import SweepSpec

DONE, FAILED = 0, 1
MODELS: Mapping[str, tuple[str, ...]] = {
    "gram": (), "ntk": (), "linear": (), "ckn": ("filters", "images", "checkpoint"), "cnn": ("widths", "checkpoint"),
    "random-features": ("widths",),
    "lenet": ("filters", "hidden", "kernel_size", "padding", "batch_normalisation", "checkpoint", "layers"),
}  # fmt: skip
"""Representations, and which of the options they take."""
VALUES = {"piecewise_linear": "lattice", "spline": "lattice", "fourier": "cutoff", "fixed_border": "width"}
"""Fields and constraints with a number behind a colon: ``fourier:4``, ``fixed-border:2``."""
OF_WARPS = {"spline": "degree", "band_limited": "oversample"}
"""Warps with one: ``spline:5``."""
OF_ASCENTS = {"saturated": 4, "linearised": 20, "kept": 8, "steps": 20, "chances": 3}
"""Options of ascents, with their defaults."""
TABLE, FIGURE = "table.csv", "searched.png"


def commands() -> list[Command]:
    """``search``."""
    search = Parser(
        description="Search for the field with sup |tau| <= a and sup ||grad tau|| <= b that moves a representation of "
        "images most: a lower bound of the supremum, beside what the theory allows. Writes fields (npz), a table (csv) "
        "and a figure; the folder is a store, so that a killed search goes on and `stability report` shows it."
    )
    search.add_argument("-o", "--out", required=True, help="folder: new, or begun with the same options")
    search.add_argument("--images", default="fashion", help="image set")
    search.add_argument("--root", help="folder with the set's own files (default: the shipped images)")
    search.add_argument("--count", type=int, default=1, help="how many images, the first ones of the set")
    search.add_argument(
        "--size", type=int, nargs="+", default=[28, 28], help="H W in px; N alone: signals, central rows of the images"
    )
    search.add_argument("--channels", type=int, default=1, help="1 or 3")
    search.add_argument("--model", default="ckn", help=", ".join(MODELS))
    search.add_argument("--checkpoint", help="ckn, cnn, lenet: weights of `stability train`")
    search.add_argument("--layer", help="lenet: conv1, conv2, hidden or classifier (default)")
    search.add_argument(
        "--widths",
        type=int,
        nargs="+",
        help=f"ckn, cnn, random-features, lenet: channels of every layer (default: {TOLD_WIDTHS})",
    )
    search.add_argument("--fit-images", type=int, help="ckn: images whose patches anchors are (default: 32, or all)")
    add_lenet(search)
    search.add_argument("--patch-sizes", type=int, nargs="+", default=[3, 3], help="e of every layer")
    search.add_argument(
        "--pooling-scales", type=float, nargs="+", help=f"sigma of every layer, px (default: {TOLD_SCALES})"
    )
    search.add_argument("--subsampling", type=int, nargs="+", help="stride of every layer")
    search.add_argument("--antialiasing", type=float, default=1.0, help="sigma_0, px")
    search.add_argument("--boundary", default="periodic", help="beyond the border, periodic or zero")
    search.add_argument("--kernels", nargs="+", default=["exponential"], help="kernel of every layer, or of all")
    search.add_argument("--front-end", default="none", help=", ".join(FRONT_ENDS))
    search.add_argument("--displacement", type=float, nargs="+", required=True, help="a = sup |tau|, px; one or more")
    search.add_argument("--jacobian", type=float, nargs="+", required=True, help="b = sup ||grad tau||; one or more")
    search.add_argument(
        "--fields",
        default="piecewise-linear",
        help="piecewise-linear[:LATTICE], spline[:LATTICE], fourier[:CUTOFF], translations or rigid-motions",
    )
    search.add_argument(
        "--constraints",
        nargs="+",
        default=[],
        help="translation-free, divergence-free (with fourier), fixed-border[:WIDTH]",
    )
    search.add_argument("--objective", default="distance", help="distance or angle")
    search.add_argument("--fixed-norm", action="store_true", help="L_tau x is given the norm of x first")
    search.add_argument("--saturated", type=int, default=OF_ASCENTS["saturated"], help="starts near both norms")
    search.add_argument("--linearised", type=int, default=OF_ASCENTS["linearised"], help="starts by the slope at 0")
    search.add_argument("--kept", type=int, default=OF_ASCENTS["kept"], help="starts that go on after the first steps")
    search.add_argument("--steps", type=int, default=OF_ASCENTS["steps"], help="of every ascent, at most")
    search.add_argument(
        "--chances", type=int, default=OF_ASCENTS["chances"], help="second ones of a start that ends behind, at most"
    )
    search.add_argument("--warp", default="band-limited", help="band-limited (exact) or spline[:DEGREE], 3 or 5")
    search.add_argument(
        "--rungs", nargs="+", default=["closed_form", "trivial"], help="bounds of the field found; see docs/spec.md"
    )
    search.add_argument("--seed", type=int, default=0, help="of the starts")
    add_jobs(search, 1)
    words = "the field of given norms that moves a representation most"
    return [Command("search", words, search, _search, resumes=True)]


def _search(options: Namespace) -> int:
    folder, jobs = Path(given("out", options.out)), check_jobs(options.jobs)
    spec = specification(options)

    from stability import plots  # the rest loads torch
    from stability.sweeps.result import read_rows
    from stability.sweeps.run import run
    from stability.sweeps.searched import SHOWN

    done = run(spec, folder, jobs=jobs, progress=True)
    if done.failures:
        raise RuntimeError(f"{len(done.failures)} searches failed: {done.failures[0]}")
    rows = read_rows(folder)
    written = _write(folder, rows)
    written.append(plots.draw(folder, "searched", out=folder / FIGURE))
    for line in lines(rows):
        print(line)
    kept = done.total - done.computed
    if kept:
        print(f"{kept} of {done.total} chunks were there from before")
    several = f" (it shows {SHOWN} of {len(rows)} searches)" if len(rows) > SHOWN else ""
    print("written: " + ", ".join(str(path) for path in written) + several)
    return DONE


def specification(options: Namespace) -> "SweepSpec":
    """What the options ask for, as a sweep that holds nothing but a search.

    Raises:
        ValueError: for an unknown name or a value out of range.
    """
    from stability.sweeps.spec import SweepSpec

    model = resolve("model", options.model, MODELS)
    widths = options.widths or (None if options.model == "lenet" else default_widths(options.patch_sizes))
    given_options = {
        "filters": widths, "widths": widths, "checkpoint": options.checkpoint,
        "layers": [options.layer or "classifier"], "images": _fit_images(options) if "images" in model else None,
        "hidden": options.hidden, "kernel_size": options.kernel_size, "padding": options.padding,
        "batch_normalisation": options.batch_normalisation,
    }  # fmt: skip
    for name, taken in (
        ("checkpoint", "checkpoint" in model), ("layer", "layers" in model), ("fit_images", "images" in model),
        ("widths", {"filters", "widths"} & set(model)),
    ):  # fmt: skip
        if options[name] is not None and not taken:
            raise ValueError(
                f"--{name.replace('_', '-')} must be left out for the model {options.model!r}, got {options[name]!r}; "
                f"it belongs to {', '.join(_models_with(name))}"
            )
    chosen = {"kind": options.model.replace("-", "_")} | {name: given_options[name] for name in model}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    scales = options.pooling_scales or default_scales(options.patch_sizes)
    network = architecture(options.patch_sizes, scales, options.subsampling, options.kernels, options)
    network = dataclasses.replace(network, front_end=resolve("front-end", options.front_end, FRONT_ENDS))
    if options.saturated < 0 or options.linearised < 0 or options.saturated + options.linearised == 0:
        raise ValueError(
            f"saturated and linearised must be counts of starts, one of them positive, got {options.saturated} and "
            f"{options.linearised}; use 4 and 20"
        )
    fields = _part(options.fields)
    if fields["kind"] in ("translations", "rigid_motions"):
        for name, usual in OF_ASCENTS.items():
            if options[name] != usual:
                raise ValueError(
                    f"--{name} must be left out for --fields {options.fields}, got {options[name]}: all of them are "
                    "tried; drop it or search piecewise-linear fields"
                )
    counts = {"saturated": options.saturated, "linearised": options.linearised}
    images = {
        "name": options.images, "count": options.count, "size": options.size, "channels": options.channels,
        "root": options.root, "domain": "torus",
    }  # fmt: skip
    search = {
        "displacement_norm": options.displacement, "jacobian_norm": options.jacobian, "fields": fields,
        "constraints": [_part(name) for name in options.constraints], "objective": options.objective,
        "fixed_norm": options.fixed_norm, "kept": options.kept, "steps": options.steps,
        "chances": options.chances,
        "starts": [{"kind": kind, "count": count} for kind, count in counts.items() if count],
    }  # fmt: skip
    data: dict[str, Any] = {
        "images": images, "architecture": network, "representations": [chosen], "search": [search],
        "warp": _part(options.warp, OF_WARPS), "rungs": options.rungs, "seed": options.seed,
    }  # fmt: skip
    return SweepSpec(**data)


def _models_with(option: str) -> list[str]:
    """The models that take an option."""
    fields = {"layer": {"layers"}, "fit_images": {"images"}, "widths": {"filters", "widths"}}.get(option, {option})
    return [name for name, taken in MODELS.items() if fields & set(taken)]


def _fit_images(options: Namespace) -> int | None:
    """How many images anchors are chosen from: all of a set that has fewer than are usual; None: as usual."""
    if options.fit_images is not None or options.checkpoint is not None:
        return None if options.fit_images is None else int(options.fit_images)
    from stability.images import dataset
    from stability.sweeps.models import CKNSpec

    usual = int(CKNSpec.model_fields["images"].default)
    try:
        return min(usual, len(dataset(options.images, root=options.root, count=usual).labels))
    except ValueError:  # told where the images are asked for
        return None


def _part(text: str, values: Mapping[str, str] = VALUES) -> dict[str, Any]:
    """``KIND`` or ``KIND:NUMBER``.

    >>> _part("fixed-border:2"), _part("translations")
    ({'kind': 'fixed_border', 'width': 2.0}, {'kind': 'translations'})
    >>> _part("spline:8"), _part("spline:5", OF_WARPS)
    ({'kind': 'spline', 'lattice': 8}, {'kind': 'spline', 'degree': 5})
    """
    name, colon, value = text.partition(":")
    kind = name.replace("-", "_")
    if not colon:
        return {"kind": kind}
    example = "spline:5" if values is OF_WARPS else "fourier:3"
    try:
        number = float(value)
    except ValueError:
        raise ValueError(f"what follows {name}: must be a number, got {value!r}; use for example {example}") from None
    if kind not in values:
        known = ", ".join(f"{one.replace('_', '-')}:NUMBER" for one in values)
        raise ValueError(f"{name} must come without a number, got {text!r}; only {known} have one")
    return {"kind": kind, values[kind]: int(number) if number.is_integer() and kind != "fixed_border" else number}


def lines(rows: "pd.DataFrame") -> list[str]:
    """Every search in words: value, status, certified norms, spread, and the bounds beside it."""
    from stability.sweeps.result import BELOW, ROUND_OFF
    from stability.sweeps.search_words import fields_in_words, found_in_words

    found = []
    for row in rows.to_dict("records"):
        value = found_in_words(row["objective"], row["largest_found"], row["norm_x"])
        size = f"a = {row['asked_displacement_norm']:g} px, b = {row['asked_jacobian_norm']:g}"
        norms = f"certified norms {row['displacement_norm_upper']:.4g} px and {row['jacobian_norm_upper']:.4g}"
        several = row["starts"] > 1 and not math.isnan(row["spread"])
        starts = f"; {row['starts']:.0f} starts differ by {row['spread']:.1%}" if several else ""
        among = fields_in_words(row["family_parameters"])
        among = "" if among == "all fields" else f" among {among}"
        status = ROUND_OFF if row["resolution"] == BELOW else row["status_largest_found"]
        what = f"largest found {row['objective'].replace('_', ' ')}{among} {value} ({status})"
        found.append(f"image {row['image']}, {size}: {what}; {norms}{starts}")
        bounds = [
            (name.removeprefix("bound_").replace("_", " "), row[name], row[name.replace("bound_", "status_", 1)])
            for name in rows.columns
            if name.startswith("bound_") and name != "bound_supremum"
        ]
        if "trivial" in row:
            bounds.append(("trivial", row["trivial"], row["status_trivial"]))
        supremum = _bound("supremum of the distance at most", row["bound_supremum"], row["status_supremum"])
        here = ", ".join(_bound(*bound) for bound in bounds)
        moved = f"{row['distance_over_input_norm']:.4g} at the field found"
        found.append(f"  distance / ||x||: {moved}, bounds there: {here}; {supremum}")
    return found


def _bound(name: str, value: float, status: str) -> str:
    return f"{name} {value:.4g} ({status})" if math.isfinite(value) else f"{name} none ({status})"


def _write(folder: Path, rows: "pd.DataFrame") -> list[Path]:
    """The table, and every field under a name that says what it is."""
    from stability.files import replacing

    with replacing(folder / TABLE) as temporary:
        rows.to_csv(temporary, index=False)
    written = [folder / TABLE]
    for row in rows.to_dict("records"):
        norms = f"{row['asked_displacement_norm']:.12g}-{row['asked_jacobian_norm']:.12g}"
        written.append(folder / f"field-{row['image']}-{norms}.npz")
        with replacing(written[-1]) as temporary:
            temporary.write_bytes((folder / row["field_file"]).read_bytes())
    return written
