"""Figures of any store: what its rows allow, and no median across different things."""

import itertools
import subprocess
import sys

import matplotlib.style
import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Polygon
from plot_tables import (
    CKN_FIGURES,
    ERROR_AT_ONE_ANCHOR,
    MODELS,
    SIZES,
    make_rows,
    make_strip,
    store_row,
    store_rows,
    write_folder,
)

from stability import plots
from stability.architecture import Architecture, Layer
from stability.plots.architectures import settings
from stability.plots.drawing import CKN_MARK, LINEAR_MARK
from stability.plots.reading import DISTANCE
from stability.plots.series import complete, plural, series_of
from stability.plots.styles import marks


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


def test_the_complete_rows_of_a_run_are_found_once_and_nobody_spoils_them(run):
    for sweep in (None, "curves"):
        rows = run.rows if sweep is None else run.rows[run.rows["sweep"] == sweep]
        asked = run.complete(sweep)
        asked["family"] = "spoilt"
        pd.testing.assert_frame_equal(run.complete(sweep), complete(rows))


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


@pytest.mark.parametrize(
    "style", [plots.SCREEN, pytest.param(plots.PAPER, marks=pytest.mark.slow)], ids=["screen", "paper"]
)
@pytest.mark.slow
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
