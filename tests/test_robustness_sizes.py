"""Radii at the ends: sizes that were not searched, near translations, sizes beyond the torus, images near underflow."""

import itertools
import math

import pytest
import torch

import stability as st
from stability import search

QUICK = {"starts": (search.Saturated(1),), "kept": 1, "steps": 2}


@pytest.fixture
def case(generator):
    x = st.grid.band_limit(st.images.load("fashion", count=3, size=(10, 10)))
    ckn = st.CKN.fit(st.Architecture.dyadic(depth=1), x, filters=(8,), generator=generator)
    with torch.no_grad():
        rows = ckn(x).flatten(1)
    return ckn, st.AffineHead(rows, -0.5 * rows.square().sum(1)), x


def test_beyond_the_largest_size_searched_nothing_is_claimed(case, generator):
    ckn, head, x = case
    labels = torch.tensor([0, 1, 0])  # the last one is wrong
    given = {"displacement_norm": 3.0, "jacobian_norm": 0.9, "generator": generator, **QUICK}
    radii = st.robustness_radius(ckn, head, x, labels, sizes=(0.001,), **given)
    assert radii.largest_size == 0.001
    assert radii.found.tolist() == [math.inf, math.inf, 0.0]
    assert radii.table()["status_found"].tolist() == ["none found up to t = 0.001"] * 2 + [""]
    curve = radii.curve([0.0005, 0.001, 0.002, 1.0])
    assert curve["found"].tolist()[:2] == [pytest.approx(2 / 3)] * 2
    assert curve["found"].isna().tolist() == [False, False, True, True]
    left = radii.plot().figure.axes[0]
    heights = torch.cat([torch.as_tensor(line.get_ydata(), dtype=torch.float64) for line in left.lines])
    assert float(heights[heights.isfinite()].max()) <= max(0.003, float((3 * radii.certified).max())) * (1 + 1e-12)
    whole = st.robustness_radius(ckn, head, x, labels, sizes=(0.5, 1.0), **given)
    assert whole.largest_size == 1.0
    assert set(whole.table()["status_found"]) <= {"upper value of the smallest size", "none found up to t = 1", ""}


def test_radii_do_not_shrink_with_the_gradients_that_fields_may_have(case):
    ckn, head, x = case
    sizes = [
        st.robustness_radius(ckn, head, x, displacement_norm=1.0, jacobian_norm=b).certified
        for b in (1e-3, 1e-9, 1e-12, 1e-30, 1e-300)
    ]
    assert bool((sizes[0] > 0).all())
    for larger, smaller in itertools.pairwise(sizes):
        assert bool((smaller >= larger * (1 - 1e-4)).all())


def test_radii_in_pixels_do_not_depend_on_the_unit_of_sizes(case):
    ckn, head, x = case
    one, large = (
        st.robustness_radius(ckn, head, x, displacement_norm=a, jacobian_norm=0.5 * min(1.0, a)) for a in (1e-6, 1e6)
    )
    ordinary = st.robustness_radius(ckn, head, x, displacement_norm=1.0, jacobian_norm=0.5)
    assert torch.allclose(one.certified * 1e-6, ordinary.certified, rtol=1e-4)
    assert bool((large.certified * 1e6 >= ordinary.certified * (1 - 1e-4)).all())  # nearly translations: larger


def test_images_whose_squares_vanish_are_refused(case):
    ckn, head, x = case
    with pytest.raises(ValueError, match="largest number of an image must be 0 or between"):
        st.robustness_radius(ckn, head, 1e-160 * x, displacement_norm=1.0, jacobian_norm=0.5)


def test_partial_is_a_truth_value(case, generator):
    ckn, _, x = case
    with pytest.raises(ValueError, match="partial must be True or False, got 'no'"):
        st.smallest_deformation(
            ckn, x, search.Level(1.0), displacement_norm=1.0, jacobian_norm=0.5, generator=generator, partial="no"
        )
