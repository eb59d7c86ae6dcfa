"""Second chances: starts that end behind go on from -tau and tau +- a e_i; no end is lower, all are in C(a, b)."""

import pytest
import torch

import stability as st
from stability import search
from stability.search import chances
from stability.search.frank_wolfe import Ascent


@pytest.fixture(scope="module")
def trained():
    x = st.images.load("fashion", count=10, size=(16, 16))
    rng = torch.Generator().manual_seed(0)
    return x, st.CKN.fit(st.Architecture.dyadic(depth=2), x, filters=(16, 16), generator=rng)


def searched(trained, image, **more):
    x, ckn = trained
    given = {"displacement_norm": 1.0, "jacobian_norm": 0.25, "starts": (search.Saturated(8),), **more}
    return st.worst_case(ckn, x[image : image + 1], generator=torch.Generator().manual_seed(5), **given)


def test_starts_agree_that_differ_without(trained):
    images = (1, 3, 5)
    after = [searched(trained, image) for image in images]
    before = [searched(trained, image, chances=0) for image in images]
    assert max(float(found.spread) for found in before) > 0.05
    for one, two in zip(before, after, strict=True):
        assert bool((two.of_starts >= one.of_starts * (1 - 1e-12)).all())  # start by start
        assert float(two.spread) <= max(0.05, float(one.spread))
        assert bool((two.trace.diff(dim=0) >= 0).all())
        assert float(two.displacement_norm) <= 1.0
        assert float(two.jacobian_norm) <= 0.25
    assert sum(float(found.spread) for found in after) < 0.5 * sum(float(found.spread) for found in before)


def test_the_field_is_the_one_whose_value_is_given(trained):
    """A start that overtakes the others by a chance: value, distance of the field and trace belong together."""
    found = searched(trained, 3, kept=8)
    x, ckn = trained
    again = ckn.reference(x[3:4]).distance(st.SplineWarp()(x[3:4], found.field))
    torch.testing.assert_close(again.double(), found.largest_found, rtol=1e-9, atol=0)
    assert float(found.trace[-1].max()) == pytest.approx(float(found.largest_found), rel=1e-12)


def test_short_ascents_and_single_starts_have_none(trained, monkeypatch):
    calls = []
    plain = chances._tries
    monkeypatch.setattr(chances, "_tries", lambda *given: calls.append(1) or plain(*given))
    searched(trained, 3, steps=4)
    searched(trained, 3, starts=(search.Saturated(1),))
    assert not calls
    searched(trained, 3)
    assert calls


def test_other_ends_replace_rows_and_traces_never_fall():
    ascent = Ascent(torch.zeros(3, 2), torch.tensor([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]]))
    other = Ascent(torch.ones(1, 2), torch.tensor([[1.0], [2.5], [5.0]]))
    merged = ascent.replaced(torch.tensor([1]), other)
    assert merged.parameters.tolist() == [[0, 0], [1, 1], [0, 0]]
    assert merged.trace[:, 1].tolist() == [2, 3, 3, 3, 5]
    assert merged.trace[:, 0].tolist() == [1, 2, 2, 2, 2]


@pytest.mark.parametrize("count", [-1, 1.0, True])
def test_chances_are_a_number(count, trained):
    with pytest.raises(ValueError, match="chances must be an integer of at least 0"):
        searched(trained, 3, chances=count)
