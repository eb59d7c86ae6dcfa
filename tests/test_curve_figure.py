"""The figure of a curve: its points are the values found, in the unit that its axis names; round-off is left out."""

import dataclasses

import pytest
import torch

import stability as st
from stability import search

QUICK = {"starts": (search.Saturated(1), search.Linearised(1)), "steps": 4, "sizes": (0.25, 0.5, 1.0)}


@pytest.fixture(scope="module")
def given():
    x = st.images.load("fashion", count=3, size=(10, 10))
    return st.LinearGram(st.Architecture((st.Layer(3, 2.0),))), x


def curve(given, a=2.0, **more):
    phi, x = given
    rng = torch.Generator().manual_seed(0)
    return st.worst_case_curve(phi, x, displacement_norm=a, jacobian_norm=0.5, generator=rng, **QUICK, **more)


def lines(drawn):
    (axes,) = drawn.figure.axes
    return axes, {line.get_label(): line for line in axes.get_lines()}


def test_a_curve_draws_the_median_of_what_was_found_over_the_norm_of_the_image(given):
    found = curve(given)
    axes, drawn = lines(found.plot())
    median = drawn["largest found, median over images"]
    norms = given[1].flatten(1).norm(dim=1)
    assert median.get_xdata() == pytest.approx([0.5, 1.0, 2.0])
    assert median.get_ydata() == pytest.approx((found.largest_found / norms).median(1).values.tolist())
    assert sum(line.get_label() == "one image" for line in axes.get_lines()) == 3
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert "lower bound of the supremum" in found.plot().caption
    bottom = axes.get_ylim()[0]
    assert all(patch.get_path().vertices[:, 1].min() > bottom for patch in axes.patches)


def test_the_axis_names_the_objective_and_its_unit(given):
    found = curve(given, objective=search.Angle())
    axes, drawn = lines(found.plot())
    assert axes.get_ylabel() == "angle (radian)"
    median = drawn["largest found, median over images"].get_ydata()
    assert median == pytest.approx(found.largest_found.median(1).values.tolist())


def test_images_with_norms_of_their_own_share_an_axis_of_sizes(given):
    drawn = curve(given, torch.tensor([1.0, 2.0, 3.0])).plot()
    axes, shown = lines(drawn)
    assert axes.get_xlabel() == "size t"
    assert shown["largest found, median over images"].get_xdata() == pytest.approx([0.25, 0.5, 1.0])
    assert "which differ" in drawn.caption


def test_round_off_is_left_out_and_told(given):
    found = curve(given)
    floors = found.largest_found[:2].mean(0)  # they hide the smallest size alone
    below = [dataclasses.replace(one, objective_floor=floors) for one in found.found]
    drawn = dataclasses.replace(found, found=tuple(below)).plot()
    assert "Left out: 3 of 9 values, not above 0 and round-off." in drawn.caption
    assert lines(drawn)[1]["largest found, median over images"].get_xdata() == pytest.approx([1.0, 2.0])
    hidden = [dataclasses.replace(one, objective_floor=torch.full((3,), 1e9)) for one in found.found]
    with pytest.raises(ValueError, match="a curve must have values above 0 and round-off, got 9 others"):
        dataclasses.replace(found, found=tuple(hidden)).plot()
