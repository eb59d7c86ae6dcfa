"""Stores where nothing was drawn at random: what they cost, figures that show something, captions that are true."""

import re

import pandas as pd
import pytest
import torch

import stability as st
from stability import plots, report
from stability.plots.series import complete
from stability.report.page import page
from stability.sweeps.costs import gradient_count, search_cost
from stability.sweeps.plan import plan
from stability.sweeps.run import run
from stability.sweeps.searches import PiecewiseLinearSpace, SplineSpace
from stability.sweeps.store import Store

QUICK = {"starts": [{"kind": "saturated", "count": 2}], "steps": 3, "kept": 2}
LINEAR, FINITE = "linear kernel (control)", "finite CKN, 4 anchors"


def store(folder, **changes) -> plots.Run:
    spec = {
        "images": st.ImagesSpec(name="fashion", count=2, size=(10, 10)),
        "architecture": st.Architecture((st.Layer(3, 2.0),), 1.0),
        "representations": [st.LinearSpec(), st.CKNSpec(filters=(4,))],
        "deformations": [],
        "search": {"displacement_norm": [0.5, 1.0], "jacobian_norm": [0.1, 0.25], **QUICK},
    }
    run(st.SweepSpec(**(spec | changes)), folder)
    return plots.read(folder)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> plots.Run:
    return store(tmp_path_factory.mktemp("alone") / "searches")


@pytest.fixture(scope="module")
def beside(tmp_path_factory) -> plots.Run:
    drawn = [
        st.FourierSpec(displacement_norm=[0.5, 0.6], jacobian_norm=[0.35, 0.4], cutoff=2),
        st.MixedSpec(displacement_norm=[0.5, 1.0], jacobian_norm=[0.1, 0.25]),
        st.TranslationSpec(displacement_norm=[0.5, 1.0]),
    ]
    return store(tmp_path_factory.mktemp("alone") / "beside", deformations=drawn, representations=[st.LinearSpec()])


def test_a_plan_counts_gradients_as_searches_take_them(alone, beside):
    """Half to twice as many, with the defaults and with few; a spline's linear step is dense."""
    small = st.SearchSpec(displacement_norm=[0.5, 1.0], jacobian_norm=[0.1, 0.25], **QUICK)
    taken = pd.concat([alone.rows, beside.rows[beside.rows["search"]]])["gradient_evaluations"]
    assert 0.5 < gradient_count(small) / taken.mean() < 2
    rng, x = torch.Generator().manual_seed(0), st.images.load("fashion", count=4, size=(12, 12))
    ckn = st.CKN.fit(st.Architecture.dyadic(depth=1), x, filters=(8,), generator=rng)
    found = st.worst_case(ckn, x, displacement_norm=1.0, jacobian_norm=0.25, generator=rng)
    usual = st.SearchSpec(displacement_norm=1.0, jacobian_norm=0.25)
    assert 0.5 < gradient_count(usual) / (found.gradient_evaluations / 4) < 2
    spec = st.SweepSpec(
        images=st.ImagesSpec(name="fashion", count=1, size=(12, 12)), architecture=st.Architecture((st.Layer(3, 2.0),)),
        representations=[st.LinearSpec()], deformations=[], search=usual,
    )  # fmt: skip
    seconds = [
        search_cost(usual.model_copy(update={"fields": space}), st.LinearSpec(), spec.architecture, spec)
        for space in (PiecewiseLinearSpace(), SplineSpace(lattice=8), SplineSpace(lattice=(8, 12)))
    ]
    assert seconds == sorted(seconds)
    assert seconds[1] > 1.5 * seconds[0]


def test_no_figure_of_what_was_not_drawn(alone, beside):
    assert plots.applicable(alone) == ("largest_found", "searched", "plane")
    assert set(plots.applicable(beside)) >= {"strip", "distance_versus_deformation"}
    with pytest.raises(ValueError, match="strip must hold deformed images, got the originals alone"):
        plots.FIGURES["strip"](alone)
    assert "How far from linear" not in page(alone)


def test_what_was_found_is_no_panel_of_distance_versus_deformation(beside):
    titles = [axes.get_title() for axes in plots.FIGURES["distance_versus_deformation"](beside).figure.axes]
    assert any("translations" in title for title in titles)
    assert not any("searched" in title for title in titles)


def test_the_plane_says_which_fields_have_the_two_norms_and_which_stay_within_them(alone, beside):
    within = "{} stay within these two norms."
    caption = plots.FIGURES["plane"](alone).caption
    assert within.format("Searched fields") in caption
    assert "exactly" not in caption
    assert "A search shows what the supremum is at least" in caption
    caption = plots.FIGURES["plane"](beside).caption
    assert within.format("Mixed random fields and searched fields") in caption
    assert "Smooth mean-free fields have exactly these two norms" in caption


def test_agreement_is_given_to_two_digits_and_rounded_up_where_it_is_said_to_be_most(alone):
    caption, spreads = plots.FIGURES["largest_found"](alone).caption, alone.rows["spread"]
    median, most = re.search(r"kept differ by (\S+) % \(median\), at most (\S+) %\.", caption).groups()
    assert float(median) == pytest.approx(100 * spreads.median(), rel=0.05)
    assert 100 * spreads.max() <= float(most) <= 110 * spreads.max()
    assert "two different images" not in caption  # no line of the figure


def test_gaps_of_several_representations_are_not_pooled(alone):
    caption, rows = plots.FIGURES["largest_found"](alone).caption, alone.rows
    gaps = rows["bound_supremum"] / rows["distance_over_input_norm"]
    for name, kind in ((LINEAR, "linear"), (FINITE, "ckn")):
        own = gaps[rows["representation_kind"] == kind]
        told = re.search(
            r"(\S+) times above what was found for the " + re.escape(name) + r" \(median; (\S+) to", caption
        )
        assert float(told.group(1)) == pytest.approx(own.median(), rel=0.06)
        assert float(told.group(2)) == pytest.approx(own.min(), rel=0.006)


def test_both_norms_of_fields_within_them_are_said_to_be_limits(beside):
    lines = report.summary(beside)
    (mixed,) = [line for line in lines if line.startswith("Mixed random fields")]
    assert re.search(r"up to \S+ px and gradient up to ", mixed)
    (smooth,) = [line for line in lines if line.startswith("Smooth")]
    assert "up to" not in smooth
    one = beside.rows[(beside.rows["asked_jacobian_norm"] == 0.25) & (beside.rows["family"] != "search")]
    assert "mixed random field, gradient up to 0.25" in set(complete(one)["deformation"])


def test_only_random_fields_within_the_norms_of_a_search_are_said_to_be_beside_it(beside):
    caption = plots.FIGURES["largest_found"](beside).caption
    assert "Beside it mixed random fields and translations within the same norms" in caption  # no smooth fields


def test_titles_tell_apart_what_varies_and_captions_speak_of_signals(tmp_path):
    run_ = store(
        tmp_path / "line",
        images=st.ImagesSpec(name="fashion", count=1, size=(16,)),
        representations=[st.LinearSpec()],
        vary={"layers.-1.pooling_scale": [1, 4], "front_end": [None, st.front_ends.MeanRemoval()]},
        search={"displacement_norm": 1.0, "jacobian_norm": 0.25, **QUICK},
    )
    drawn = plots.FIGURES["searched"](run_)
    titles = [block.get_suptitle() for block in drawn.figure.subfigs]
    assert len(titles) == len(set(titles)) == 3
    assert all(re.search(r"last scale \d px, (raw|mean-removed) images, image 0", title) for title in titles)
    assert "the signal and" in drawn.caption
    assert "straight grid" not in drawn.caption
    assert drawn.figure.subfigs[0].axes[0].get_ylabel() == "grey level"


def test_colours_are_drawn_as_colours(tmp_path):
    run_ = store(
        tmp_path / "colours",
        images=st.ImagesSpec(name="photographs", count=1, size=(10, 10), channels=3),
        representations=[st.LinearSpec()],
        deformations=[st.TranslationSpec(displacement_norm=1.0)],
        search=(),
    )
    x = st.images.load("photographs", count=1, size=(10, 10), channels=3)
    assert run_.strip["images"][0, 0] == pytest.approx(x[0].movedim(0, -1).numpy())
    shown = plots.FIGURES["strip"](run_).figure.axes[0].images[0].get_array()
    assert shown.shape == (10, 10, 3)


def test_a_search_for_an_angle_is_named_so_and_asked_to_be_for_a_distance(tmp_path):
    search = {"displacement_norm": [0.5, 1.0], "jacobian_norm": 0.25, "objective": "angle", **QUICK}
    run_ = store(tmp_path / "angle", representations=[st.LinearSpec()], search=search)
    assert set(complete(run_.rows)["deformation"]) == {"searched field, objective angle, gradient up to 0.25"}
    with pytest.raises(ValueError, match="got angle; give the specification objective: distance"):
        plots.FIGURES["largest_found"](run_)


def test_a_complete_store_leaves_nothing_to_plan(tmp_path):
    spec = st.SweepSpec(
        images=st.ImagesSpec(name="fashion", count=1, size=(8, 8)), architecture=st.Architecture((st.Layer(3, 2.0),)),
        representations=[st.CKNSpec(filters=(2,))], deformations=[],
        search={"displacement_norm": 1.0, "jacobian_norm": 0.25, **QUICK},
    )  # fmt: skip
    said = {line.split()[0] for line in plan(spec)}
    assert {"search", "models"} <= said
    run(spec, tmp_path / "store")
    said = [line.split()[0] for line in plan(spec, store=Store(tmp_path / "store"))]
    assert not {"search", "models"} & set(said)


def test_a_set_that_is_too_small_to_fit_to_is_named_with_the_representation():
    spec = st.SweepSpec(
        images=st.ImagesSpec(name="photographs", count=2, size=(8, 8)),
        architecture=st.Architecture((st.Layer(3, 2.0),)), representations=[st.CKNSpec(filters=(2,))],
        deformations=[st.TranslationSpec(displacement_norm=1.0)],
    )  # fmt: skip
    with pytest.raises(ValueError, match="images of the representation 'ckn': count must be at most 8"):
        plan(spec)
