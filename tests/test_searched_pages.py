"""What is said and drawn of searches: every bound beside its own set of fields, no median across settings, no round-off
as a finding, and no distance at the field where another objective was found."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import stability as st
from stability import plots, report, search
from stability.boundaries import Zero
from stability.kernels import ArcCosine
from stability.plots.drawing import plain
from stability.plots.sampled import Sampled
from stability.plots.searched import _block
from stability.plots.searched_cell import Cell, cell_of_found, cell_of_store
from stability.search.found import BELOW_FLOOR
from stability.sweeps.result import ROUND_OFF, below_floor
from stability.sweeps.run import run
from stability.sweeps.search_words import bounded_in_words, fields_in_words

DISTANCE = "distance_over_input_norm"
QUICK = {"starts": [{"kind": "saturated", "count": 2}], "steps": 3, "kept": 1}
NORMS = {"displacement_norm": [0.5, 1.0], "jacobian_norm": 0.25}
BORDER = "0 within 1 px of the border"


def translations(angles: int, **changes):
    return {**NORMS, "fields": {"kind": "translations", "angles": angles}, **changes}


def spec(searches, **changes) -> st.SweepSpec:
    values = {
        "images": st.ImagesSpec(name="fashion", count=2, size=(10, 10)),
        "architecture": st.Architecture((st.Layer(3, 16.0, 1, ArcCosine(1)),), 1.0),
        "representations": [st.LinearSpec()],
        "deformations": [],
        "search": searches,
    }
    return st.SweepSpec(**(values | changes))


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> plots.Run:
    """All fields beside translations, which the wide pooling of a torus does not see: round-off."""
    folder = tmp_path_factory.mktemp("pages") / "wide"
    run(spec([{**NORMS, **QUICK}, translations(8), translations(16)]), folder)
    return plots.read(folder)


@pytest.fixture(scope="module")
def zero(tmp_path_factory) -> plots.Run:
    folder = tmp_path_factory.mktemp("pages") / "zero"
    searches = [
        {**NORMS, **QUICK},
        translations(8),
        translations(16),
        {**NORMS, **QUICK, "constraints": ["fixed-border"]},
    ]
    architecture = st.Architecture((st.Layer(3, 16.0, 1, ArcCosine(1)),), 1.0, Zero())
    run(spec(searches, architecture=architecture), folder)
    return plots.read(folder)


@pytest.fixture(scope="module")
def varied(tmp_path_factory) -> plots.Run:
    """Two scales and two front ends, random fields within the same norms."""
    folder = tmp_path_factory.mktemp("pages") / "varied"
    vary = {"layers.-1.pooling_scale": [1, 4], "front_end": [None, st.front_ends.MeanRemoval()]}
    run(
        spec(
            [{"displacement_norm": 1.0, "jacobian_norm": 0.25, **QUICK}],
            vary=vary, deformations=[st.MixedSpec(displacement_norm=1.0, jacobian_norm=0.25)], fields=3,
        ),
        folder,
    )  # fmt: skip
    return plots.read(folder)


def drawn_lines(run_: plots.Run) -> dict[str, np.ndarray]:
    (axes,) = plots.FIGURES["largest_found"](run_).figure.axes
    found: dict[str, list[np.ndarray]] = {}
    for line in axes.get_lines():
        found.setdefault(str(line.get_label()), []).append(np.asarray(line.get_ydata(), dtype=float))
    return {name: ys[0] for name, ys in found.items() if len(ys) == 1}


def searched_words(run_: plots.Run) -> list[str]:
    return [line for line in report.summary(run_) if line.startswith("Largest found")]


# --- the figure -------------------------------------------------------------------------------------------------------


def test_every_bound_is_drawn_for_its_own_fields_and_grows_with_the_norm(wide):
    shown = drawn_lines(wide)
    architecture = st.Architecture((st.Layer(3, 16.0, 1, st.kernels.Linear()),), 1.0)
    for words, b in (("all fields", 0.25), ("all translations", 0.0)):
        bound = shown[plain(f"bound of the supremum (closed form), {words}")]
        expected = [st.closed_form(architecture, displacement_norm=a, jacobian_norm=b).value for a in (0.5, 1.0)]
        assert bound.tolist() == pytest.approx(expected)
        assert (np.diff(bound) >= 0).all()
    assert (shown["largest found, all fields"] <= shown["bound of the supremum (closed form), all fields"]).all()
    assert "bound of the supremum (closed form)" not in shown


def test_no_bound_is_drawn_where_the_closed_form_says_nothing(zero):
    shown = [name for name in drawn_lines(zero) if name.startswith("bound of the supremum")]
    assert len(shown) == 1
    caption = plots.FIGURES["largest_found"](zero).caption
    for words in ("all fields", "all translations"):
        assert f"Of the supremum over {words} the closed form says nothing here (not covered)" in caption
    assert f"bounds the supremum over all fields that are {BORDER} with the two norms (status: proof" in caption
    labels = [text.get_text() for text in plots.FIGURES["largest_found"](zero).figure.legends[0].get_texts()]
    assert any(" ".join(label.split()).endswith(BORDER) for label in labels)


def test_round_off_is_neither_drawn_nor_a_finding(wide):
    searched = wide.rows
    below = below_floor(searched)
    assert below.tolist() == (searched["resolution"] == "below floor").tolist()
    assert set(searched.loc[below, "family_parameters"].map(fields_in_words)) == {"translations"}
    assert below.sum() == 8
    shown = drawn_lines(wide)
    assert not [name for name in shown if name.startswith("largest found, translations")]
    assert min(ys.min() for ys in shown.values()) > 1e-6
    assert f"Left out: 8 of 12 searched distances, {ROUND_OFF}." in plots.FIGURES["largest_found"](wide).caption
    words = [line for line in searched_words(wide) if "among translations" in line]
    assert len(words) == 2
    assert all(ROUND_OFF in line and "lower bound" not in line and "moves by" not in line for line in words)
    assert ROUND_OFF == BELOW_FLOOR
    alone = plots.Run(searched[below])
    assert "largest_found" not in plots.applicable(alone)
    with pytest.raises(ValueError, match="above round-off, got 8 below floor"):
        plots.FIGURES["largest_found"](alone)
    assert ROUND_OFF in report.headline(alone)


def test_the_pictures_of_a_search_that_found_round_off_say_so(wide):
    arrays = {name: array if name in ("x", "y") else array[:1] for name, array in wide.searched.items()}
    assert "lower bound of the supremum" in cell_of_store(arrays, 0).value
    assert ROUND_OFF in cell_of_store(arrays | {DISTANCE: arrays["floor"]}, 0).value
    x = st.images.load("fashion", count=1, size=(10, 10))
    wide_pooling = st.LinearGram(st.Architecture((st.Layer(3, 16.0),), 1.0))
    found = st.worst_case(
        wide_pooling, x, displacement_norm=1.0, jacobian_norm=0.25, generator=torch.Generator(),
        fields=search.Translations(4, 1),
    )  # fmt: skip
    assert ROUND_OFF in cell_of_found(found, 0).value


# --- the lines --------------------------------------------------------------------------------------------------------


def test_a_line_names_the_fields_that_its_bound_speaks_of(wide, zero):
    for run_ in (wide, zero):
        for line in searched_words(run_):
            own = re.search(r"among (.*) with \|\|tau", line)[1]
            assert ("over all fields," in line) == (own == "all fields")
            assert ("over all translations" in line) == own.startswith("translations")
    (line,) = [line for line in searched_words(zero) if BORDER in line]
    bound = zero.rows.loc[np.isfinite(zero.rows["bound_supremum"]), ["bound_supremum", "status_supremum"]].iloc[-1]
    assert f"over all fields that are {BORDER}, which the closed form bounds by {100 * bound.iloc[0]:.0f} %" in line
    assert f"({bound.iloc[1]})" in line
    assert bounded_in_words('{"fields": {"kind": "fourier", "cutoff": 3}}') == "all fields"


def test_lines_of_two_settings_are_never_pooled_and_compare_the_same_setting_only(varied):
    said = searched_words(varied)
    assert len(said) == 4
    for line in said:
        scale = float(re.search(r"last scale (\d) px", line)[1])
        front_end = "mean_removal" if "mean-removed images" in line else "none"
        own = varied.rows[(varied.rows["pooling_scale"] == scale) & (varied.rows["front_end"] == front_end)]
        found, random = own[own["search"]], own[~own["search"]]
        expected = (
            found[DISTANCE].median(),
            found["bound_supremum"].median(),
            random.groupby("image")[DISTANCE].max().median(),
        )
        assert [report_percent(value) in line for value in expected] == [True] * 3
        assert expected[0] > expected[2]


def report_percent(value: float) -> str:
    from stability.report.numbers import percent

    return f"by {percent(float(value))}"


def test_searches_over_two_grids_of_translations_are_two_lines(zero):
    assert len([line for line in searched_words(zero) if "translations, angles" in line]) == 2


# --- at fixed norm ----------------------------------------------------------------------------------------------------


def test_what_was_found_at_fixed_norm_is_said_and_drawn_at_fixed_norm(tmp_path):
    x = st.images.load("fashion", count=1, size=(12, 12))
    network = st.LinearGram(st.Architecture((st.Layer(3, 2.0),)))
    found = st.worst_case(
        network, x, displacement_norm=2.0, jacobian_norm=0.25, generator=torch.Generator().manual_seed(0),
        objective=search.AtFixedNorm(search.Distance()), starts=(search.Saturated(1),), steps=2,
    )  # fmt: skip
    norm = float(x.norm())
    rescaled = found.deformed * norm / found.deformed.norm()
    value = float(network.distance(x, rescaled))
    assert abs(value / float(found.distance) - 1) > 1e-3, "a case in which the norm matters"
    cell = cell_of_found(found, 0)
    assert f"distance at fixed norm {value:.4g} = {value / norm:.4g} ||x||" in cell.value
    assert cell.after == pytest.approx(rescaled[0, 0].numpy())
    figure = found.plot()
    titles = [axes.get_title() for axes in figure.axes]
    assert "after, at the norm of x" in titles
    assert "distance at fixed norm" in [axes.get_ylabel() for axes in figure.axes]

    fixed = spec([{**NORMS, **QUICK, "fixed_norm": True}], architecture=st.Architecture((st.Layer(3, 2.0),)))
    run(fixed, tmp_path / "store")
    store = plots.read(tmp_path / "store")
    cell = cell_of_store(store.searched, 0)
    assert "distance at fixed norm" in cell.value
    assert np.linalg.norm(cell.after) == pytest.approx(np.linalg.norm(cell.before))
    assert "was given the norm of x before it was measured" in plots.FIGURES["searched"](store).caption
    (line,) = searched_words(store)
    largest = store.rows[store.rows["asked_displacement_norm"] == 1.0]
    assert report_percent((largest["largest_found"] / largest["norm_x"]).median()) in line
    assert "where L_tau x is given the norm of x first" in line
    assert "closed form" not in line


# --- the status of the trivial bound ----------------------------------------------------------------------------------


def test_the_figure_says_how_far_the_trivial_bound_can_be_trusted(wide):
    assert "(status: proof)" in plots.FIGURES["largest_found"](wide).caption
    weaker = plots.Run(wide.rows.assign(status_trivial="estimate"))
    assert "(status: estimate)" in plots.FIGURES["largest_found"](weaker).caption


def test_an_angle_of_round_off_is_called_so_on_the_page(tmp_path):
    searches = [{**NORMS, **QUICK, "objective": "angle"}, {**NORMS, **QUICK}]
    run(spec(searches, architecture=st.Architecture((st.Layer(3, 2.0),))), tmp_path / "angles")
    found = plots.read(tmp_path / "angles")
    angles = found.rows["objective"] == "angle"
    assert not below_floor(found.rows).any()
    status = found.rows["status_largest_found"].where(~angles, ROUND_OFF)  # as a search writes it, distances resolved
    small = dataclasses.replace(found, rows=found.rows.assign(status_largest_found=status))
    assert below_floor(small.rows).equals(angles)
    moves, turns = (line for line in report.summary(small) if line.startswith("Largest found"))
    assert "moves by" in moves  # distances first
    assert "lower bound" in moves
    assert ROUND_OFF in turns
    assert "lower bound" not in turns


def test_traces_of_candidates_are_drawn_beside_longer_ones(tmp_path):
    one, few = st.Architecture((st.Layer(3, 2.0),)), st.ImagesSpec(name="fashion", count=1, size=(10, 10))
    run(spec([{**NORMS, **QUICK}, translations(8)], architecture=one, images=few), tmp_path / "two")
    arrays = plots.read(tmp_path / "two").searched
    cells = [cell_of_store(arrays, k) for k in range(len(arrays["before"]))]
    assert {len(cell.trace) == 1 for cell in cells if "translations" in cell.words} == {True}
    assert all(np.isfinite(cell.trace).any(axis=1).all() for cell in cells)


def test_rigid_motions_are_not_said_to_be_among_the_fields_of_the_torus(tmp_path):
    searches = [{**NORMS, **QUICK}, {**NORMS, "fields": {"kind": "rigid_motions", "rotations": 2, "angles": 4}}]
    run(spec(searches, architecture=st.Architecture((st.Layer(3, 2.0),))), tmp_path / "rigid")
    caption = plots.FIGURES["largest_found"](plots.read(tmp_path / "rigid")).caption
    assert "over all fields of the torus, to which rigid motions do not belong." in caption


def test_long_titles_are_wrapped():
    words = "finite CKN, 16-32 anchors, image 1, Fourier fields of cut-off 2.5, without divergence, without a mean"
    u = np.linspace(-0.5, 3.5, 9)
    field = Sampled((u, u), np.zeros((9, 9, 2)), np.zeros((9, 9, 2, 2)))
    cell = Cell(np.zeros((4, 4)), np.ones((4, 4)), field, (1.0, 0.25), (0.99, 0.25), np.ones((3, 2)), words, "1",
                "distance", False)  # fmt: skip
    figure = Figure(figsize=(7, 5))
    _block(figure, cell)
    FigureCanvasAgg(figure).draw()
    box = figure._suptitle.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1


@pytest.mark.parametrize("displacements", [[1.0], [0.5, 1.0]])
def test_families_look_the_same_in_every_panel_and_translations_are_in_all(displacements, tmp_path):
    """Fields drawn for one pair of norms, beside translations, which are within every gradient."""
    families = [
        st.SaturatedSpec(displacement_norm=1.0, jacobian_norm=0.25),
        st.TranslationSpec(displacement_norm=displacements, angles=4),
    ]
    search = {"displacement_norm": displacements, "jacobian_norm": [0.1, 0.25], **QUICK}
    fine = st.Architecture((st.Layer(3, 1.0, 1, ArcCosine(1)),), 1.0)
    run(spec([search], deformations=families, architecture=fine), tmp_path / "store")
    figure = plots.FIGURES["largest_found"](plots.read(tmp_path / "store")).figure
    looks = [
        {str(line.get_label()): (line.get_color(), line.get_marker()) for line in axes.get_lines()}
        for axes in figure.axes
    ]
    shifts = {look for own in looks for label, look in own.items() if label.startswith("translations")}
    others = {look for own in looks for label, look in own.items() if label.startswith("saturated")}
    assert all(any(label.startswith("translations") for label in own) for own in looks)
    assert len(shifts) == len(others) == 1
    assert shifts != others
