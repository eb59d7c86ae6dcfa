"""Tables from which the figures and the page are tested: every number in them is known."""

import itertools
import json

import numpy as np
import pandas as pd

from stability.architecture import Architecture, Layer
from stability.bounds.closed_form import closed_form
from stability.front_ends import MeanRemoval
from stability.plots.reading import DISTANCE

SIZES = (0.25, 0.5, 1.0, 2.0, 4.0)
CKN_FIGURES = ("distance_versus_deformation", "plane", "pooling_scale", "patch_size")
"""Figures of the exact CKN that a quickstart has."""
FRONT_ENDS = {"none": None, "mean_removal": MeanRemoval()}
LINEAR_OVER_CKN = {"none": 1.01, "mean_removal": 1.5}
PAIR_OVER_INPUT = {"none": 0.4, "mean_removal": 0.3}


def one_row(sweep, image, family, seed, front_end, representation, *, a, b=None, sigma=4.0, patch=3, asked_b=None):
    """distance / ||x|| is proportional to a (1 + image / 10) (1 + seed) / sigma; linear: a known factor more."""
    translation = family == "translation"
    b = 0.0 if translation else 0.3 * a if b is None else b
    architecture = Architecture(
        (Layer(patch, 2.0), Layer(patch, sigma)), antialiasing=1.0, front_end=FRONT_ENDS[front_end]
    )
    bound = closed_form(architecture, displacement_norm=a, jacobian_norm=b)
    factor = LINEAR_OVER_CKN[front_end] if representation == "linear" else 1.0
    distance = factor * (0.02 if translation else 0.01) * a * (1 + image / 10) * (1 + seed) * 4 / sigma
    return {
        "sweep": sweep, "image": image, "label": image, "family": family, "cutoff": 0.0 if translation else 3.0,
        "field_seed": seed, "representation": representation, "front_end": front_end, "depth": 2, "antialiasing": 1.0,
        "patch_size": patch, "pooling_scale": sigma, "architecture": architecture.to_json(),
        "asked_displacement_norm": a, "asked_jacobian_norm": np.nan if asked_b is None else asked_b,
        "displacement_norm": a, "jacobian_norm": b * (1 + 0.1 * seed), "norm_x": 10.0, "distance": 10 * distance,
        "distance_over_input_norm": distance, "distance_over_pairs": distance / PAIR_OVER_INPUT[front_end],
        "bound_closed_form": bound.value, "status_closed_form": str(bound.status),
        "scope_closed_form": str(bound.scope),
        "trivial": 4 * factor * distance, "trivial_norms": bound.trivial_norms, "interpolation_error": 1e-6,
        "floor": 1e-9, "seconds": 0.01,
    }  # fmt: skip


def out_of_reach(row):
    """The same request for a field that does not exist."""
    kept = ("sweep", "image", "label", "family", "cutoff", "field_seed", "representation", "front_end", "depth")
    kept += ("antialiasing", "patch_size", "pooling_scale", "architecture")
    kept += ("asked_displacement_norm", "asked_jacobian_norm")
    empty = {name: np.nan for name in row if name not in kept}
    return {name: row[name] for name in kept} | empty | {"status_closed_form": "out of reach", "scope_closed_form": ""}


def make_rows():
    """Four sweeps of a small quickstart."""
    rows = []
    for image, seed, front_end, name in itertools.product(range(2), range(2), FRONT_ENDS, ("gram", "linear")):
        for family in ("fourier", "translation"):
            who = (image, family, seed, front_end, name)
            rows += [one_row("curves", *who, a=a) for a in SIZES]
            size = 2.0 if family == "translation" else 1.0
            rows += [one_row("pooling_scale", *who, a=size, sigma=sigma) for sigma in (1.0, 2.0, 4.0, 8.0)]
            rows += [one_row("patch_size", *who, a=size, patch=patch) for patch in (1, 3, 5)]
        for a, b in itertools.product((0.25, 1.0, 4.0), (0.01, 0.1, 0.4)):
            row = one_row("plane", image, "fourier", seed, front_end, name, a=a, b=b, asked_b=b)
            rows.append(out_of_reach(row) if b > 0.2 * a else row)
    return pd.DataFrame(rows)


def make_strip():
    """One image, still and moved 3 px to the right."""
    image = np.zeros((16, 16))
    image[4:9, 2:7] = 1.0
    displacement = np.zeros((2, 16, 16, 2))
    displacement[1, ..., 0] = 3.0
    return {
        "images": np.stack([image, np.roll(image, 3, axis=1)])[None],
        "displacement": displacement,
        "displacement_norm": np.array([0.0, 3.0]),
        "jacobian_norm": np.zeros(2),
        "family": np.array(["original", "translation"]),
    }


def store_row(
    image, family, seed, a, *, kind="gram", label=None, layer="2", sigma=4.0, patch=3, filters="", factor=1.0
):
    """A row as a store has it; a module has no architecture, no bound, and features of any scale."""
    name = "linear" if kind == "linear" else "gram"
    row = one_row("store", image, family, seed, "none", name, a=a, sigma=sigma)
    del row["sweep"]
    row |= {"representation_kind": kind, "representation": label or kind, "layer": layer, "filters": filters}
    row |= {name: factor * row[name] for name in ("distance", DISTANCE, "distance_over_pairs")}
    if kind in ("cnn", "module", "custom"):
        row |= {"bound_closed_form": np.inf, "status_closed_form": "not covered", "scope_closed_form": ""}
        row |= {"trivial": np.inf, "trivial_norms": np.nan, "interpolation_error": np.nan}
    if kind in ("module", "custom"):
        row |= {"architecture": "", "patch_size": np.nan, "pooling_scale": np.nan, "antialiasing": np.nan}
        row |= {"depth": np.nan}
    return row


MODELS = (
    {"kind": "gram"}, {"kind": "linear"}, {"kind": "cnn", "label": "CNN, trained", "factor": 40.0},
    {"kind": "module", "label": "my net", "layer": "conv1", "factor": 900.0},
    {"kind": "module", "label": "my net", "layer": "conv2", "factor": 500.0},
)  # fmt: skip
ERROR_AT_ONE_ANCHOR = 0.8


def store_rows(*, models=MODELS, families=("translation", "fourier", "Swirl"), sizes=SIZES, sigmas=(4.0,), anchors=()):
    """A store of ``stability run``: no column ``sweep``; finite CKNs are off by 0.8 / (anchors of all layers)."""
    finite = [{"kind": "ckn", "filters": f"{m}-{2 * m}", "factor": 1 - ERROR_AT_ONE_ANCHOR / (3 * m)} for m in anchors]
    cells = itertools.product(range(2), families, range(2), sizes, sigmas, [*models, *finite])
    return pd.DataFrame([store_row(i, family, seed, a, sigma=s, **model) for i, family, seed, a, s, model in cells])


def write_folder(folder, rows=None):
    """What a quickstart would have left there, or a folder with other rows."""
    folder.mkdir(exist_ok=True)
    (make_rows() if rows is None else rows).to_parquet(folder / "rows.parquet", index=False)
    record = {"kind": "quickstart", "hash": {"curves": "ab" * 32}, "versions": {"stability": "0"}, "commit": None}
    (folder / "run.json").write_text(json.dumps(record | {"images_sha256": "cd" * 32}))
    np.savez(folder / "strip.npz", **make_strip())
    return folder
