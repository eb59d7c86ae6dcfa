"""Claims about the figures, on a table made here: every number in it is known."""

import itertools
import json
import subprocess
import sys

import matplotlib.style
import numpy as np
import pandas as pd
import pytest
from matplotlib.contour import ContourSet
from matplotlib.patches import Polygon, Rectangle

from stability import plots
from stability.architecture import Architecture, Layer
from stability.bounds.closed_form import closed_form
from stability.front_ends import MeanRemoval
from stability.plots import files
from stability.plots.architectures import settings
from stability.plots.captions import closing
from stability.plots.drawing import CKN_MARK, LINEAR_MARK, PAIRS_MARK, panels, triangle
from stability.plots.reading import DISTANCE, measured, spread, two_images
from stability.plots.series import complete, plural, series_of
from stability.plots.styles import marks

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


@pytest.fixture(scope="module")
def run():
    return plots.Run(make_rows(), {"kind": "quickstart"}, make_strip())


@pytest.fixture(scope="module")
def drawn(run):
    assert set(plots.applicable(run)) == {"strip", *CKN_FIGURES}
    return {name: plots.FIGURES[name](run) for name in plots.applicable(run)}


def lines_of(axes, mark):
    """The lines of one kind: same label and colour."""
    return [line for line in axes.get_lines() if line.get_label() == mark.label and line.get_color() == mark.color]


@pytest.mark.parametrize("name", ["distance_versus_deformation", "pooling_scale", "patch_size"])
def test_plotted_medians_are_those_of_pandas(run, drawn, name):
    sweep, by, panel = {
        "distance_versus_deformation": ("curves", "asked_displacement_norm", {"family": "translation"}),
        "pooling_scale": ("pooling_scale", "pooling_scale", {}),
        "patch_size": ("patch_size", "patch_size", {}),
    }[name]
    rows = run.rows[(run.rows["sweep"] == sweep) & (run.rows["front_end"] == "mean_removal")]
    for column, value in panel.items():
        rows = rows[rows[column] == value]
    axes = drawn[name].figure.axes[1]
    for mark, representation in ((CKN_MARK, "gram"), (LINEAR_MARK, "linear")):
        part = rows[rows["representation"] == representation]
        plotted = {tuple(np.round(line.get_ydata(), 12)) for line in lines_of(axes, mark)}
        groups = part.groupby("family")
        expected = {tuple(np.round(group.groupby(by)[DISTANCE].median().to_numpy(), 12)) for _, group in groups}
        assert plotted == expected


def test_the_band_is_the_10_to_90_percent_range(run):
    rows = run.rows[(run.rows["sweep"] == "curves") & (run.rows["representation"] == "gram")]
    band = spread(rows, "asked_displacement_norm", DISTANCE)
    for size, group in rows.groupby("asked_displacement_norm"):
        expected = np.quantile(group[DISTANCE], (0.1, 0.5, 0.9))
        np.testing.assert_allclose(band.loc[size, ["low", "median", "high"]].to_numpy(dtype=float), expected)


def test_smooth_fields_stand_at_their_median_jacobian_norm(run, drawn):
    axes = drawn["distance_versus_deformation"].figure.axes[2]
    (line,) = lines_of(axes, CKN_MARK)
    rows = run.rows[(run.rows["sweep"] == "curves") & (run.rows["family"] == "fourier")]
    np.testing.assert_allclose(line.get_xdata(), rows.groupby("asked_displacement_norm")["jacobian_norm"].median())


def test_an_infinite_bound_is_not_drawn(drawn):
    axes = drawn["distance_versus_deformation"].figure.axes[2]
    (bound,) = [line for line in axes.get_lines() if line.get_label() == "closed-form bound"]
    assert len(bound.get_xdata()) == len(SIZES) - 1  # ||grad tau|| = 0.3 * 4 > 1
    assert np.isfinite(bound.get_ydata()).all()


@pytest.mark.parametrize("slope", [1.0, -1.0, 2.0])
def test_the_triangle_has_the_slope_that_it_says(slope):
    _, grid = panels(1, 1, 0.6)
    grid[0, 0].set(xscale="log", yscale="log")
    corners = triangle(grid[0, 0], (0.3, 2.1), 0.01, slope).get_xy()[:3]
    rise = np.log(corners[2] / corners[0])
    assert rise[1] / rise[0] == pytest.approx(slope)
    others = corners[1] / corners[0], corners[2] / corners[1]
    assert sum(np.any(np.isclose(ratio, 1.0)) for ratio in others) == 2, "two sides lie along the axes"


def test_the_slope_triangles_are_in_the_figures(drawn):
    for name, label in (("distance_versus_deformation", "slope 1"), ("pooling_scale", "slope -1")):
        shapes = [p for axes in drawn[name].figure.axes for p in axes.patches if isinstance(p, Polygon)]
        assert sum(shape.get_label() == label for shape in shapes) >= 2


def test_level_lines_lie_where_the_theorem_takes_their_value(drawn):
    figure = drawn["plane"].figure
    contours = [c for axes in figure.axes for c in axes.collections if isinstance(c, ContourSet)]
    assert len(contours) == 4
    architecture = Architecture((Layer(3, 2.0), Layer(3, 4.0)), antialiasing=1.0)
    checked = 0
    for level, path in zip(contours[0].levels, contours[0].get_paths(), strict=True):
        for a, b in path.vertices[5:-5:7]:
            assert closed_form(architecture, displacement_norm=a, jacobian_norm=b).value == pytest.approx(
                level, rel=0.05
            )
            checked += 1
    assert checked > 5


def test_sizes_out_of_reach_are_hatched(run, drawn):
    raw = run.rows[(run.rows["sweep"] == "plane") & (run.rows["front_end"] == "none")]
    sizes = raw[raw[DISTANCE].isna()].groupby(["asked_displacement_norm", "asked_jacobian_norm"])
    hatched = [p for p in drawn["plane"].figure.axes[0].patches if isinstance(p, Rectangle) and p.get_hatch()]
    assert len(hatched) == len(sizes) == 3


@pytest.mark.parametrize("name", CKN_FIGURES)
def test_every_figure_of_the_ckn_carries_the_control_and_two_different_images(drawn, name):
    figure = drawn[name].figure
    words = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    words += [axes.get_title() for axes in figure.axes]
    assert any(LINEAR_MARK.label in word for word in words)
    assert any(PAIRS_MARK.label in word for word in words)
    for axes in figure.axes[:2]:
        if name != "plane":
            assert lines_of(axes, LINEAR_MARK)
            assert lines_of(axes, PAIRS_MARK)


def test_the_reference_is_the_distance_of_two_images_in_units_of_the_image(run, drawn):
    rows = run.rows[(run.rows["sweep"] == "curves") & (run.rows["representation"] == "gram")]
    for column, (front_end, expected) in enumerate(PAIR_OVER_INPUT.items()):
        assert two_images(rows[rows["front_end"] == front_end]) == pytest.approx(expected)
        (line,) = lines_of(drawn["distance_versus_deformation"].figure.axes[column], PAIRS_MARK)
        np.testing.assert_allclose(line.get_ydata(), expected)


@pytest.mark.parametrize("name", ["pooling_scale", "patch_size"])
def test_a_marker_tells_the_field_and_nothing_else(drawn, name):
    figure = drawn[name].figure
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    for key in ("circles: translation, 2 px", "squares: smooth field, 1 px"):
        assert key in words
    assert "circles: translation of 2 px, squares: smooth field of 1 px" in drawn[name].caption
    for axes in figure.axes:
        marked = [line for line in axes.get_lines() if line.get_marker() not in ("", "None")]
        assert {line.get_marker() for line in marked} == {"o", "s"}
        assert len({line.get_markersize() for line in marked}) == 1
        assert all(line.get_markerfacecolor() == line.get_color() for line in marked)


def test_the_error_of_the_warp_is_rounded_up_over_every_drawn_representation(run):
    rows = run.rows[run.rows["sweep"] == "curves"]
    rows = rows.assign(interpolation_error=rows[DISTANCE] * np.where(rows["representation"] == "linear", 0.1041, 0.01))
    assert "the warp adds at most 11 % of the distance" in closing(rows)
    assert "at most 1.1 % of" in closing(rows.assign(interpolation_error=rows[DISTANCE] * 0.0101))


@pytest.mark.parametrize("name", CKN_FIGURES)
def test_captions_say_status_sample_and_architecture(drawn, name):
    caption = drawn[name].caption
    for words in ("proof, numerically evaluated", "2 images", "2 layers", "exponential", "no worst case", "control"):
        assert words in caption


def test_the_grid_of_the_strip_moves_with_the_content(drawn):
    still, moved = (drawn["strip"].figure.axes[step].collections[0] for step in (0, 1))
    positions = [
        np.array([path.vertices[:, 0].mean() for path in c.get_paths() if len(path.vertices)]) for c in (still, moved)
    ]
    assert {0.0, 4.0, 8.0} <= set(np.round(positions[0], 6))
    assert {3.0, 7.0, 11.0} <= set(np.round(positions[1], 6)), "tau = (3, 0) carries the grid 3 px to the right"


@pytest.mark.parametrize("name", CKN_FIGURES)
def test_a_missing_sweep_is_named(run, name):
    sweep = {"distance_versus_deformation": "curves"}.get(name, name)
    without = plots.Run(run.rows[run.rows["sweep"] != sweep], run.record, run.strip)
    with pytest.raises(ValueError, match=f"'{sweep}'.*quickstart"):
        plots.FIGURES[name](without)


def test_a_missing_strip_is_named(run):
    with pytest.raises(ValueError, match=r"displacement.*quickstart"):
        plots.FIGURES["strip"](plots.Run(run.rows))


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"rows\.parquet"):
        plots.read(tmp_path)


def test_draw_all_writes_png_and_pdf_and_a_failure_leaves_the_old_files(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "run")
    monkeypatch.setattr(files, "FIGURES", {name: plots.FIGURES[name] for name in ("strip", "patch_size")})
    paths = plots.draw_all(folder)
    assert sorted(path.name for path in (folder / "figures").iterdir()) == sorted(path.name for path in paths)
    assert [path.read_bytes()[:4] for path in paths] == [b"\x89PNG", b"%PDF"] * 2
    before = {path: path.read_bytes() for path in paths}

    def broken(run):
        raise ValueError("cannot be drawn")

    monkeypatch.setattr(files, "FIGURES", {"strip": plots.FIGURES["strip"], "patch_size": broken})
    with pytest.raises(ValueError, match="cannot be drawn"):
        plots.draw_all(folder)
    assert {path: path.read_bytes() for path in (folder / "figures").iterdir()} == before


def test_rows_without_a_number_enter_no_median(run):
    assert measured(run.rows)[DISTANCE].notna().all()
    assert run.rows[DISTANCE].isna().any()


# --- any store --------------------------------------------------------------------------------------------------


def legend_words(drawn):
    return [text.get_text() for text in drawn.figure.legends[0].get_texts()]


def curves(axes, label):
    return [line for line in axes.get_lines() if line.get_label() == label and len(line.get_xdata()) > 2]


def test_a_store_shows_what_its_rows_allow():
    base = store_rows()
    assert plots.applicable(plots.Run(base)) == ("distance_versus_deformation",)
    assert plots.applicable(plots.Run(base, {}, make_strip()))[0] == "strip"
    varied = store_rows(sizes=(1.0,), sigmas=(1.0, 4.0))
    assert plots.applicable(plots.Run(varied)) == ("pooling_scale",)
    finite = store_rows(sizes=(1.0,), anchors=(4, 8))
    assert plots.applicable(plots.Run(finite)) == ("anchors",)
    grid = pd.DataFrame(
        store_row(0, "fourier", seed, a) | {"asked_jacobian_norm": b, "jacobian_norm": b}
        for seed, a, b in itertools.product(range(2), (1.0, 2.0), (0.1, 0.2))
    )
    assert plots.applicable(plots.Run(grid)) == ("plane",)
    assert plots.applicable(plots.Run(store_rows(sizes=(1.0,)))) == ()


def test_depth_alone_is_no_pooling_scale():
    """The last scales differ, but so does the number of layers: this is not one knob."""
    deep = Architecture((Layer(3, 2.0), Layer(3, 4.0), Layer(3, 8.0)), antialiasing=1.0).to_json()
    rows = store_rows(sizes=(1.0,))
    both = pd.concat([rows, rows.assign(architecture=deep, pooling_scale=8.0, depth=3)])
    assert "pooling_scale" not in plots.applicable(plots.Run(both))


def test_there_is_a_line_for_every_representation_and_architecture_and_no_median_across_them():
    rows = store_rows(models=MODELS[:2], sigmas=(1.0, 4.0))
    drawn = plots.FIGURES["distance_versus_deformation"](plots.Run(rows))
    assert {"last scale 1 px", "last scale 4 px"} <= set(legend_words(drawn))
    part = rows[(rows["family"] == "translation") & (rows["representation"] == "gram")]
    expected = {
        tuple(np.round(own.groupby("asked_displacement_norm")[DISTANCE].median(), 12))
        for _, own in part.groupby("pooling_scale")
    }
    found = curves(drawn.figure.axes[0], "exact CKN")
    assert {tuple(np.round(line.get_ydata(), 12)) for line in found} == expected
    assert len({line.get_marker() for line in found}) == 2


def test_models_without_theory_are_drawn_in_units_of_two_images_only():
    drawn = plots.FIGURES["distance_versus_deformation"](plots.Run(store_rows()))
    own = [axes for axes in drawn.figure.axes if axes.get_title()]
    above, below = own[:3], own[3:]
    for axes in above:
        assert curves(axes, "exact CKN")
        assert not curves(axes, "my net, conv1")
    for axes in below:
        assert all(curves(axes, label) for label in ("exact CKN", "CNN, trained", "my net, conv1", "my net, conv2"))
        assert not curves(axes, "closed-form bound")
    assert "For CNN, trained; my net, conv1; my net, conv2 there is no bound: the theory says nothing" in drawn.caption
    assert ["nabla" in axes.get_xlabel() for axes in below] == [False, True, True]


def test_a_network_with_a_bound_of_its_own_does_not_borrow_that_of_the_kernel():
    rows = store_rows(models=MODELS[:3], families=("translation",))
    network = rows["representation_kind"] == "cnn"
    bound = rows["asked_displacement_norm"] * 7
    rows = rows.assign(bound_closed_form=rows["bound_closed_form"].mask(network, bound), status_closed_form="proof")
    drawn = plots.FIGURES["distance_versus_deformation"](plots.Run(rows))
    (line,) = curves(drawn.figure.axes[0], "bound of CNN, trained")
    np.testing.assert_allclose(line.get_ydata(), [7 * size for size in SIZES])
    (kernel,) = curves(drawn.figure.axes[0], "closed-form bound")
    gram = rows[rows["representation"] == "gram"].groupby("asked_displacement_norm")["bound_closed_form"].median()
    np.testing.assert_allclose(kernel.get_ydata(), gram)
    assert "bound of CNN, trained" in legend_words(drawn)
    assert "by its own weights" in drawn.caption
    assert "there is no bound" not in drawn.caption


def test_a_store_of_modules_alone_promises_nothing():
    drawn = plots.FIGURES["distance_versus_deformation"](plots.Run(store_rows(models=MODELS[3:])))
    words = " ".join(legend_words(drawn))
    assert "bound" not in words
    assert "theory says nothing" in drawn.caption
    assert "theorem" not in drawn.caption


def test_the_error_of_the_anchors_is_the_one_that_was_put_in():
    rows = store_rows(models=MODELS[:1], sizes=(1.0, 2.0), anchors=(4, 8, 16)).assign(captured_energy=0.5)
    drawn = plots.FIGURES["anchors"](plots.Run(rows))
    for label in ("translation", "smooth field"):
        (line,) = curves(drawn.figure.axes[0], label)
        np.testing.assert_allclose(line.get_xdata(), [12, 24, 48])
        np.testing.assert_allclose(line.get_ydata(), ERROR_AT_ONE_ANCHOR / np.array([12, 24, 48]), rtol=1e-9)
    shapes = [shape for shape in drawn.figure.axes[0].patches if isinstance(shape, Polygon)]
    assert [shape.get_label() for shape in shapes] == ["slope -1"]
    (energy,) = curves(drawn.figure.axes[1], "captured energy")
    np.testing.assert_allclose(energy.get_ydata(), 0.5)
    assert "no bound" in drawn.caption


def test_anchors_of_another_architecture_are_not_compared():
    rows = store_rows(models=MODELS[:1], sizes=(1.0,), anchors=(4, 8))
    ckn = rows["representation"] == "ckn"
    other = Architecture((Layer(5, 2.0), Layer(5, 4.0)), antialiasing=1.0).to_json()
    assert "anchors" not in plots.applicable(plots.Run(rows.assign(architecture=rows["architecture"].mask(ckn, other))))


def test_marks_differ_for_any_number_of_labels_and_stay_the_same_for_known_kinds():
    models = [*MODELS, *({"kind": "module", "label": f"net {i}"} for i in range(12))]
    models += [{"kind": "ckn", "filters": f"{m}-{m}"} for m in (4, 8, 16, 32)]
    rows = complete(store_rows(models=models, families=("translation",), sizes=(1.0,)))
    found = marks(rows)
    assert list(found) == series_of(rows)
    looks = [(mark.color, str(mark.linestyle), mark.marker) for mark in found.values()]
    assert len(set(looks)) == len(looks)
    grey = [look[1:] for look in looks[:9]]
    assert len(set(grey)) == len(grey), "told apart without colour too"
    assert found["exact CKN"] == CKN_MARK
    assert found["linear kernel (control)"] == LINEAR_MARK


def test_the_kernel_of_the_control_is_no_varied_value():
    """A store writes the control's architecture with its linear kernel."""
    kernel = Architecture((Layer(3, 2.0), Layer(3, 4.0)), antialiasing=1.0).to_json()
    linear = kernel.replace("exponential", "arc_cosine")
    assert set(settings([kernel, linear], {linear}).values()) == {""}
    assert set(settings([kernel, linear]).values()) != {""}


def test_families_and_cut_offs_are_kept_apart():
    rows = store_rows(models=MODELS[:1], families=("fourier",))
    both = complete(pd.concat([rows, rows.assign(cutoff=6.0)], ignore_index=True))
    assert set(both["deformation"]) == {"smooth field, cut-off 3", "smooth field, cut-off 6"}
    assert plural("Swirl") == "Swirl"
    shifted = complete(rows.assign(mean_displacement=0.5))
    assert set(shifted["deformation"]) == {"smooth field with a shift"}


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_a_drawn_file_has_the_kind_of_its_suffix_and_equal_bytes(tmp_path, suffix):
    folder = write_folder(tmp_path / "run", store_rows(models=MODELS[:2], families=("translation",)))
    files_there = [tmp_path / f"{name}.{suffix}" for name in "ab"]
    for path in files_there:
        assert plots.draw(folder, "distance_versus_deformation", style="paper", out=path) == path
    one, two = (path.read_bytes() for path in files_there)
    assert one == two
    assert one.startswith({"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[suffix])
    if suffix == "svg":
        assert b"<dc:date>" not in one


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "distance_versus_deformaton"}, "did you mean 'distance_versus_deformation'"),
        ({"name": "anchors"}, r"figure must be one of 'distance_versus_deformation' .*got 'anchors'; .*finite CKN"),
        ({"name": "strip"}, r"got 'strip'; .*strip\.npz"),
        ({"style": "papper"}, "did you mean 'paper'"),
        ({"out": "x.pfd"}, "did you mean 'pdf'"),
        ({"out": "no/where/x.pdf"}, "make the folder first"),
    ],
)
def test_wrong_wishes_are_told_and_no_file_is_made(tmp_path, changes, message):
    folder = write_folder(tmp_path / "run", store_rows(models=MODELS[:1], families=("translation",)))
    (folder / "strip.npz").unlink()
    wish = {"name": "distance_versus_deformation", "style": "paper", "out": "x.pdf"} | changes
    with pytest.raises(ValueError, match=message):
        plots.draw(folder, wish["name"], style=wish["style"], out=tmp_path / wish["out"])
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("style", [plots.SCREEN, plots.PAPER], ids=["screen", "paper"])
def test_no_words_overlap_in_any_figure(run, style):
    """Titles and labels of the panels, and the legend, by their boxes on the canvas."""
    finite = plots.Run(store_rows(models=MODELS[:2], sizes=(1.0,), anchors=(4, 8, 16, 32)))
    there = [(run, name) for name in CKN_FIGURES]
    there += [(plots.Run(store_rows()), "distance_versus_deformation"), (finite, "anchors")]
    for source, name in there:
        with matplotlib.style.context(str(style)):
            figure = plots.FIGURES[name](source).figure
            figure.draw_without_rendering()
        titles = [axes.title for axes in figure.axes if axes.get_title()]
        labels = [axis.label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) if axis.label.get_text()]
        boxes = [text.get_window_extent() for text in [*titles, *labels] if text.get_visible()]
        boxes += [legend.get_window_extent() for legend in figure.legends]
        for first, second in itertools.combinations(boxes, 2):
            assert not first.shrunk(0.98, 0.9).overlaps(second.shrunk(0.98, 0.9)), name
        for box in boxes:
            assert box.x0 >= 0, name
            assert box.x1 <= figure.bbox.width, name


def test_neither_torch_nor_pyplot_is_imported(tmp_path):
    folder = write_folder(tmp_path / "run")
    code = (
        "import sys; from stability import plots, report; run = plots.read(sys.argv[1]); report.summary(run);"
        "plots.FIGURES['plane'](run);"
        "print([name for name in ('torch', 'kornia', 'matplotlib.pyplot', 'altair') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
