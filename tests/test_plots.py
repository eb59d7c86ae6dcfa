"""Claims about the figures, on a table made here: every number in it is known."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.contour import ContourSet
from matplotlib.patches import Polygon, Rectangle
from plot_tables import CKN_FIGURES, PAIR_OVER_INPUT, SIZES, make_rows, make_strip, write_folder

from stability import plots
from stability.architecture import Architecture, Layer
from stability.bounds.closed_form import closed_form
from stability.plots import files
from stability.plots.captions import closing
from stability.plots.drawing import CKN_MARK, LINEAR_MARK, PAIRS_MARK, panels, triangle
from stability.plots.reading import DISTANCE, measured, spread, two_images
from stability.plots.series import parameter_words
from stability.sweeps.search_words import fields_in_words


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


@pytest.mark.slow
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


def test_the_caption_of_the_strip_tells_what_networks_read_beyond_the_border(run):
    rows = run.rows.assign(boundary=["zero", *["periodic"] * (len(run.rows) - 1)])
    for boundary, words in (("periodic", "a torus"), ("reflect", "a window")):
        chosen = plots.Run(rows.assign(boundary=boundary), run.record, run.strip)
        assert words in plots.FIGURES["strip"](chosen).caption
        assert "read 0 beyond" not in plots.FIGURES["strip"](chosen).caption
    caption = plots.FIGURES["strip"](plots.Run(rows, run.record, run.strip)).caption
    assert "a torus" in caption
    assert "read 0 beyond" in caption


def test_searches_over_finer_grids_of_candidates_are_told_apart():
    def text(angles, lattice=None):
        fields = {"kind": "translations", "angles": angles, "radii": 4}
        fields = {"kind": "piecewise_linear", "lattice": lattice} if lattice else fields
        return json.dumps({"fields": fields, "constraints": [], "kept": 8})

    def words(*texts):
        return parameter_words(pd.DataFrame({"family": ["search"] * len(texts), "family_parameters": texts}))

    coarse, fine = text(8), text(64)
    assert len(set(words(coarse, fine).values())) == 2
    assert set(words(coarse, text(8, 4)).values()) == {fields_in_words(coarse), fields_in_words(text(8, 4))}
