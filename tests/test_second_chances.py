"""Second chances: starts that end behind go on from -tau and tau moved; no end is lower, all are in C(a, b)."""

import pytest
import torch

import stability as st
from stability import search
from stability.robustness.decision import AffineHead
from stability.search import chances, worst
from stability.search.frank_wolfe import PHASES, Ascent
from stability.search.problem import Problem
from stability.sweeps.chunks import Draw
from stability.sweeps.searches import SearchSpec
from stability.sweeps.searching import find


@pytest.fixture(scope="module")
def trained():
    x = st.images.load("fashion", count=10, size=(16, 16))
    rng = torch.Generator().manual_seed(0)
    return x, st.CKN.fit(st.Architecture.dyadic(depth=2), x, filters=(16, 16), generator=rng)


def searched(trained, image, seed=5, **more):
    x, ckn = trained
    given = {"displacement_norm": 1.0, "jacobian_norm": 0.25, "starts": (search.Saturated(8),), **more}
    return st.worst_case(ckn, x[image : image + 1], generator=torch.Generator().manual_seed(seed), **given)


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
    found, plain = (searched(trained, 0, displacement_norm=2.0, chances=count) for count in (3, 0))
    assert float(found.largest_found) > 1.005 * float(plain.largest_found)
    x, ckn = trained
    again = ckn.reference(x[:1]).distance(st.SplineWarp()(x[:1], found.field))
    torch.testing.assert_close(again.double(), found.largest_found, rtol=1e-9, atol=0)
    assert float(found.trace[-1].max()) == pytest.approx(float(found.largest_found), rel=1e-12)


def test_images_of_a_batch_keep_their_own_fields_and_norms(trained):
    x, ckn = trained
    a, b = torch.tensor([1.0, 0.5, 2.0]), torch.tensor([0.25, 0.5, 0.25])
    given = {"displacement_norm": a, "jacobian_norm": b, "starts": (search.Saturated(8),)}
    found, plain = (
        st.worst_case(ckn, x[1:6:2], generator=torch.Generator().manual_seed(5), chances=chances, **given)
        for chances in (3, 0)
    )
    assert int((found.of_starts > plain.of_starts * (1 + 1e-3)).any(1).sum()) >= 2  # images with starts that are helped
    assert bool((found.displacement_norm <= a).all())
    assert bool((found.jacobian_norm <= b).all())
    again = ckn.distance(x[1:6:2], st.SplineWarp()(x[1:6:2], found.field))
    torch.testing.assert_close(again.double(), found.largest_found, rtol=1e-9, atol=0)
    assert torch.equal(found.largest_found, found.of_starts.amax(1))


def nothing(problem, parameters, far):
    return parameters[:, None].repeat(1, 4, 1, 1, 1)


def mirrored(problem, parameters, far, plain=chances._tries):
    return plain(problem, parameters, far)[:, :1]


def shifted(problem, parameters, far, plain=chances._tries):
    return plain(problem, parameters, far)[:, 1:5]


def stretched(problem, parameters, far, plain=chances._tries):
    return plain(problem, parameters, far)[:, 5:]


@pytest.fixture(scope="module")
def dress():
    """A symmetric shape 32 px wide: shifted in whole it changes most; starts end where it grows about an edge."""
    x = st.images.load("fashion", count=10, size=(32, 32))
    rng = torch.Generator().manual_seed(0)
    return x, st.CKN.fit(st.Architecture.dyadic(depth=2), x, filters=(16, 16), generator=rng)


@pytest.mark.parametrize(
    ("tries", "where", "a", "b"),
    [(mirrored, "trained", 0.5, 0.5), (stretched, "trained", 1.0, 0.25), (shifted, "dress", 1.0, 0.1)],
)
def test_each_kind_of_try_helps_where_a_second_ascent_from_the_same_field_does_not(
    tries, where, a, b, request, monkeypatch
):
    given = {"displacement_norm": a, "jacobian_norm": b}
    images = request.getfixturevalue(where)
    index = 3 if where == "dress" else 1
    monkeypatch.setattr(chances, "_tries", nothing)
    before = searched(images, index, **given)
    monkeypatch.setattr(chances, "_tries", tries)
    after = searched(images, index, **given)
    assert float(before.spread) > 0.1
    assert float(after.spread) < 0.02


def test_the_second_best_try_helps_where_the_best_one_does_not(trained, monkeypatch):
    both = searched(trained, 0, 6)
    monkeypatch.setattr(chances, "PURSUED", 1)
    best = searched(trained, 0, 6)
    assert float(best.spread) > chances.BEHIND
    assert float(both.spread) < 0.02


def test_a_further_way_helps_where_a_short_one_does_not(trained, monkeypatch):
    once, often = (searched(trained, 2, displacement_norm=2.0, chances=count) for count in (1, 3))
    plain = chances._tries
    monkeypatch.setattr(chances, "_tries", lambda problem, fields, far: plain(problem, fields, 1))
    near = searched(trained, 2, displacement_norm=2.0)
    assert min(float(once.spread), float(near.spread)) > 0.08
    assert float(often.spread) < 0.03


@pytest.fixture
def ascents(monkeypatch):
    """Rows and phases of the ascents that second chances take."""
    calls = []
    plain = chances.ascend

    def counted(problem, parameters, steps, phases):
        calls.append((len(parameters), phases))
        return plain(problem, parameters, steps, phases)

    monkeypatch.setattr(chances, "ascend", counted)
    return calls


def test_the_second_best_try_goes_on_only_from_starts_that_are_still_behind(trained, ascents):
    searched(trained, 1)
    rounds = [(at, rows) for at, (rows, phases) in enumerate(ascents) if phases == PHASES[:1]]
    pursued = [[rows for rows, phases in ascents[at + 1 : at + 3] if phases == PHASES[:2]] for at, _ in rounds]
    assert pursued[0][0] == rounds[0][1] // 7  # seven tries of a start
    assert sum(pursued[0][1:]) < pursued[0][0]


@pytest.mark.parametrize(("image", "leads"), [(0, True), (6, False)])
def test_a_start_that_leads_after_a_chance_is_polished(image, leads, trained, ascents):
    found, plain = (searched(trained, image, displacement_norm=2.0, chances=count) for count in (3, 0))
    assert (int(found.of_starts.argmax()) != int(plain.of_starts.argmax())) == leads
    assert [rows for rows, phases in ascents if phases == PHASES[2:]] == [1] * leads


def test_starts_near_the_best_of_their_own_image_are_left():
    ends = torch.tensor([1.0, 0.96, 0.95, 10.0, 9.56, 9.54])
    found = chances._behind(Ascent(torch.zeros(6, 1), ends[None]), torch.tensor([0.0, 0.0]))
    assert found.tolist() == [False, False, True, False, False, True]
    assert not bool(chances._behind(Ascent(torch.zeros(6, 1), ends[None]), torch.tensor([1.0, 10.0])).any())


def test_every_image_moves_by_multiples_of_its_own_displacement_norm():
    a = torch.tensor([1.0, 3.0], dtype=torch.float64)
    space = search.PiecewiseLinear().space((8, 6), a, 0.25 * a)
    x = torch.zeros(2, 1, 8, 6, dtype=torch.float64)
    problem = Problem(lambda z, owner: z, x, st.SplineWarp(), space, torch.arange(2))
    fields = torch.rand(2, 8, 6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tries = chances._tries(problem, fields, 2)
    torch.testing.assert_close(tries[:, 0], -fields, rtol=0, atol=0)
    far = (tries[:, 1:] - fields[:, None]).norm(dim=-1)  # (2, m, H, W)
    shifts, waves = far[:, :4], far[:, 4:].square().mean((-2, -1))
    torch.testing.assert_close(shifts, 2 * a[:, None, None, None].expand_as(shifts))
    torch.testing.assert_close(waves, 4 * a[:, None].square().expand(2, 2))  # 2 sin^2 has mean 1


def test_starts_that_a_translation_overtakes_have_chances_too():
    class Identity(torch.nn.Module):
        def forward(self, z):
            return z.flatten(1)

    u = 2 * torch.pi * torch.arange(32, dtype=torch.float64) / 32
    x = (torch.sin(u) + 0.3 * torch.sin(7 * u))[None, None]
    given = {"displacement_norm": 1.0, "jacobian_norm": 0.25}
    rng = torch.Generator().manual_seed(1)
    assert float(st.worst_case(Identity(), x, generator=rng, **given, chances=0).spread) > 0.1
    assert float(st.worst_case(Identity(), x, generator=rng.manual_seed(1), **given).spread) < 0.02


def test_nothing_is_tried_where_only_round_off_was_found(trained, monkeypatch):
    calls = []
    plain = chances._tries
    monkeypatch.setattr(chances, "_tries", lambda *given: calls.append(1) or plain(*given))

    class Coarse(search.Distance):
        def floor(self, compared, images):
            return torch.full((len(images),), 1e3, dtype=torch.float64)

    found = searched(trained, 3, objective=Coarse())
    assert float(found.spread) > chances.BEHIND
    assert not calls


def test_starts_that_stay_behind_are_tried_from_further_and_further_away(trained, monkeypatch):
    far = []
    monkeypatch.setattr(
        chances, "_tries", lambda problem, fields, length: far.append(length) or nothing(problem, fields, length)
    )
    monkeypatch.setattr(
        chances, "ascend", lambda problem, fields, *given: Ascent(fields, 0 * problem.values(fields)[None])
    )
    searched(trained, 3, chances=4)
    assert far == [1, 2, 3, 4]


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
    merged = ascent.continued(torch.tensor([1]), other)
    assert merged.parameters.tolist() == [[0, 0], [1, 1], [0, 0]]
    assert merged.trace[:, 1].tolist() == [2, 3, 3, 3, 5]
    assert merged.trace[:, 0].tolist() == [1, 2, 2, 2, 2]


@pytest.mark.parametrize("count", [-1, 1.0, True])
def test_chances_are_a_number(count, trained):
    with pytest.raises(ValueError, match="chances must be an integer of at least 0"):
        searched(trained, 3, chances=count)


def test_a_specification_hands_them_on(trained):
    x, ckn = trained
    norms = {"displacement_norm": 1.0, "jacobian_norm": 0.25, "starts": [{"kind": "saturated", "count": 8}]}
    draw = Draw(0, 5, ((1.0, 0.25),))
    for count in (0, 3):
        found, _ = find(SearchSpec(**norms, chances=count), draw, ckn, x[3:4], st.SplineWarp())
        torch.testing.assert_close(found.of_starts, searched(trained, 3, chances=count).of_starts, rtol=1e-9, atol=0)


def test_curves_hand_them_on(trained):
    x, ckn = trained
    given = {"displacement_norm": 1.0, "jacobian_norm": 0.25, "starts": (search.Saturated(8),), "sizes": (1.0,)}
    for count in (0, 3):
        curve = st.worst_case_curve(ckn, x[3:4], generator=torch.Generator().manual_seed(5), chances=count, **given)
        assert torch.equal(curve.found[0].of_starts, searched(trained, 3, chances=count).of_starts)


def test_smallest_deformations_and_radii_hand_them_on(trained, monkeypatch):
    given = []
    monkeypatch.setattr(worst, "second_chances", lambda problem, ascent, *rest: given.append(rest[-1]) or ascent)
    x, ckn = trained
    norms = {"displacement_norm": 1.0, "jacobian_norm": 0.25, "starts": (search.Saturated(2),), "chances": 2}
    level = 0.05 * float(ckn.reference(x[3:4]).norm)
    rng = torch.Generator().manual_seed(0)
    st.smallest_deformation(ckn, x[3:4], search.Level(level), generator=rng, **norms)
    searches = len(given)
    assert searches > 4  # the curve and the bisection
    templates = ckn(x).flatten(1)
    head = AffineHead(templates, -0.5 * templates.square().sum(1))
    st.robustness_radius(ckn, head, x[3:4], generator=rng, **norms)
    assert len(given) > searches
    assert set(given) == {2}


def test_radii_refuse_them_before_any_bound_is_computed(trained):
    x, ckn = trained

    def never(*norms):
        raise AssertionError("bounds were computed")

    templates = ckn(x).flatten(1)
    head = AffineHead(templates, -0.5 * templates.square().sum(1))
    norms = {"displacement_norm": 1.0, "jacobian_norm": 0.25, "rungs": never}
    for wrong in ({"chances": -1}, {"steps": 0}, {"kept": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be an integer"):
            st.robustness_radius(ckn, head, x[3:4], generator=torch.Generator().manual_seed(0), **norms, **wrong)
