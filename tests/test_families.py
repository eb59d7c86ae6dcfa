"""Laws that hold for every family of deformations."""

import pickle

import pytest
import torch
from field_registry import REGISTRY, SIZES, cases, draw, rng

import stability as st
from stability.deformations.domains import Window
from stability.deformations.series import FourierSeries
from stability.sweeps.families import OWN

NORMS = ("displacement", "jacobian", "hessian", "divergence", "oscillation")
each_family = pytest.mark.parametrize(("name", "d"), cases())


def inside(field, count, seed=1):
    """Random points of the domain, away from lattice lines with probability one."""
    edge = field.domain.edge if isinstance(field.domain, Window) else 0.0
    sides = torch.tensor(field.size[::-1], dtype=torch.float64)
    return torch.rand(count, field.d, generator=rng(seed), dtype=torch.float64) * sides - edge


def grid(field, per_pixel):
    """A grid of the domain, its border included: ``(*counts, d)``."""
    edge = field.domain.edge if isinstance(field.domain, Window) else 0.0
    axes = [torch.linspace(-edge, side - edge, per_pixel * side + 1, dtype=torch.float64) for side in field.size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1)


def brute_force(field, per_pixel=5):
    u = grid(field, per_pixel)
    inner = u * (1 - 1e-12)
    tau, j = field.displacement(inner), field.jacobian(inner)
    return {
        "displacement": tau.flatten(1, -2).norm(dim=-1).amax(1),
        "jacobian": torch.linalg.matrix_norm(j, 2).flatten(1).amax(1),
        "divergence": j.diagonal(dim1=-2, dim2=-1).sum(-1).abs().flatten(1).amax(1),
    }


def brute_force_oscillation(field, per_pixel=5):
    values = field.displacement(grid(field, per_pixel) * (1 - 1e-12)).flatten(1, -2)
    return torch.stack([_diameter(row[::7]) for row in values])


def _diameter(values):
    return torch.cdist(values, values, compute_mode="donot_use_mm_for_euclid_dist").amax()


def test_the_registry_lists_every_family_of_a_specification():
    assert {spec.model_fields["kind"].default for spec in OWN} == set(REGISTRY)


@each_family
def test_first_and_second_derivatives_are_those_of_automatic_differentiation(name, d):
    field = draw(name, d)
    for point in inside(field, 4):
        first = torch.autograd.functional.jacobian(field.displacement, point)
        torch.testing.assert_close(field.jacobian(point), first, rtol=1e-9, atol=1e-9)
        if REGISTRY[name].smooth:
            second = torch.autograd.functional.jacobian(field.jacobian, point)
            torch.testing.assert_close(field.hessian(point), second, rtol=1e-8, atol=1e-8)


@each_family
def test_points_of_their_own_and_common_points_give_the_same_values(name, d):
    field = draw(name, d)
    points = torch.stack([inside(field, 5, seed) for seed in range(3)])  # (3 fields, 5, d)
    for evaluate in (field.displacement, field.jacobian, field.hessian):
        own = evaluate(points, each=True)
        common = torch.stack([evaluate(points[i])[i] for i in range(3)])
        torch.testing.assert_close(own, common, rtol=1e-12, atol=1e-12)
    assert field.on_grid(2).shape == (3, *(2 * side for side in field.size), d)
    torch.testing.assert_close(
        field.on_grid(2), field.displacement(st.grid.coordinates(field.size, oversample=2)), rtol=1e-11, atol=1e-11
    )


@each_family
def test_seen_is_at_most_certified_and_a_dense_grid_lies_between(name, d):
    field = draw(name, d)
    norms, found = field.norms(), brute_force(field) | {"oscillation": brute_force_oscillation(field)}
    for kind in NORMS:
        interval = getattr(norms, kind)
        assert interval.lower.shape == interval.upper.shape == (3,)
        assert bool((interval.lower <= interval.upper).all())
        if kind in found:
            assert bool((found[kind] <= interval.upper * (1 + 1e-9) + 1e-12).all()), kind
            assert bool((found[kind] <= interval.lower * (1 + 2e-4) + 1e-12).all()), kind
    if not REGISTRY[name].certified:
        assert bool(norms.displacement.upper.isinf().all())
        return
    for kind in ("displacement", "jacobian", "oscillation"):
        interval = getattr(norms, kind)
        assert bool((interval.upper <= interval.lower * 1.0011 + 1e-12).all()), kind


@each_family
def test_norms_are_homogeneous(name, d):
    field = draw(name, d)
    norms, longer = field.norms(), (-2.5 * field).norms()
    for kind in NORMS:
        for end in ("lower", "upper"):
            expected = 2.5 * getattr(getattr(norms, kind), end)
            torch.testing.assert_close(getattr(getattr(longer, kind), end), expected)
    at = inside(field, 4)
    torch.testing.assert_close((-2.5 * field).displacement(at), -2.5 * field.displacement(at), rtol=1e-12, atol=1e-12)


@each_family
def test_fields_add_and_subtract(name, d):
    field, other = draw(name, d), draw(name, d, seed=5)
    at = inside(field, 4)
    total = field + other
    torch.testing.assert_close(total.displacement(at), field.displacement(at) + other.displacement(at))
    torch.testing.assert_close((total - other).jacobian(at), field.jacobian(at), rtol=1e-9, atol=1e-9)
    assert bool((total.norms().displacement.lower <= total.norms().displacement.upper).all())


@each_family
def test_equal_seeds_give_the_same_field_at_every_resolution(name, d):
    coarse, fine = draw(name, d), draw(name, d, unit=2)
    at = inside(coarse, 20)
    torch.testing.assert_close(fine.displacement(2 * at), 2 * coarse.displacement(at), rtol=1e-7, atol=1e-7)
    refined = coarse.refined(2)
    torch.testing.assert_close(refined.displacement(2 * at), 2 * coarse.displacement(at), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(refined.norms().jacobian.lower, coarse.norms().jacobian.lower)


@each_family
def test_indexing_types_and_pickling_keep_the_field(name, d):
    field = draw(name, d)
    at = inside(field, 4)
    for index in (1, slice(0, 2), torch.tensor([2, 0])):
        torch.testing.assert_close(field[index].displacement(at), field.displacement(at)[index], rtol=1e-12, atol=1e-12)
    single = field.to(dtype=torch.float32)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.displacement(at.float()).double(), field.displacement(at), rtol=1e-4, atol=1e-4)
    again = pickle.loads(pickle.dumps(field))
    assert torch.equal(again.displacement(at), field.displacement(at))
    stacked = st.stack([field[0], field[1]])
    torch.testing.assert_close(stacked.displacement(at), field[:2].displacement(at), rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="points must"):
        field.displacement(torch.rand(3))


@each_family
def test_one_norm_is_met_from_below(name, d):
    field = draw(name, d)
    for kind, target in (("displacement", 1.5), ("jacobian", 0.4)):
        if name == "translation" and kind == "jacobian":
            continue
        found = st.control(field, **{f"{kind}_norm": target})
        seen = getattr(found.norms(), kind).lower
        assert bool((seen <= target).all())
        assert bool((seen >= target * (1 - 1e-3)).all())
        assert bool((brute_force(found)[kind] <= target * (1 + 1e-9)).all())


def targets(name, d):
    """A field and a pair of norms that it can have."""
    field = draw(name, d).without_mean()
    if name == "flow":
        return field, torch.full((3,), 1.0, dtype=torch.float64), torch.full((3,), 0.35, dtype=torch.float64)
    lower, upper = st.reachable(field)
    a = torch.tensor([0.8, 1.0, 1.2], dtype=torch.float64)
    return field, a, a * (lower * upper).sqrt()


with_knob = pytest.mark.parametrize(("name", "d"), cases(knob=True))


@pytest.mark.slow
@with_knob
def test_both_norms_are_met_from_below(name, d):
    field, a, b = targets(name, d)
    found = st.control(field, displacement_norm=a, jacobian_norm=b)
    assert type(found) is type(field)
    measured = brute_force(found, per_pixel=8)
    for kind, target in (("displacement", a), ("jacobian", b)):
        seen = getattr(found.norms(), kind)
        assert bool((seen.lower <= target).all())
        assert bool((seen.lower >= target * (1 - 1e-3)).all())
        assert bool((measured[kind] <= target * (1 + 1e-9)).all())
        assert bool((seen.upper <= target * 1.0011).all())
    again = st.control(found.without_mean(), displacement_norm=a, jacobian_norm=b)  # idempotent
    at = inside(field, 6)
    torch.testing.assert_close(again.displacement(at), found.displacement(at), rtol=0, atol=2e-3)


def folds(field, per_pixel=6):
    """Whether a triangle of a fine grid is turned over by u -> u - tau(u)."""
    u = grid(field, per_pixel)
    image = u - field.displacement(u)
    if field.d == 1:
        return (image.diff(dim=1) <= 0).flatten(1).any(1)
    corner, right = image[:, :-1, :-1], image[:, :-1, 1:]
    down, across = image[:, 1:, :-1], image[:, 1:, 1:]

    def area(p, q, r):
        (ax, ay), (bx, by) = (q - p).unbind(-1), (r - p).unbind(-1)
        return ax * by - ay * bx

    return ((area(corner, right, across) <= 0) | (area(corner, across, down) <= 0)).flatten(1).any(1)


@each_family
def test_fields_with_jacobian_norm_below_one_are_injective_and_say_so(name, d):
    field = draw(name, d)
    field = field if name == "translation" else st.control(field, jacobian_norm=0.9)
    assert not bool(folds(field).any())
    verdict = field.is_diffeomorphism()
    if REGISTRY[name].certified:
        assert bool(verdict.holds.all())
        assert len(verdict.reasons) == 3
        assert all(verdict.reasons)


@pytest.mark.parametrize("name", ["fourier", "gradient", "spline", "bump", "max_entropy", "compact"])
def test_a_folded_field_is_recognised(name):
    field = st.control(draw(name, 2), jacobian_norm=3.0)
    verdict = field.is_diffeomorphism()
    assert bool(folds(field).any())
    assert bool((verdict.fails == folds(field)).all())
    assert not verdict
    assert "det" in verdict.reasons[int(verdict.fails.int().argmax())]


@pytest.mark.parametrize("d", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_flow_is_injective_beyond_one(d):
    field = st.control(draw("flow", d), jacobian_norm=2.0)
    assert bool((field.norms().jacobian.lower > 1.9).all())
    assert not bool(folds(field, per_pixel=12).any())
    assert bool(field.is_diffeomorphism().holds.all())


@pytest.mark.slow
@each_family
def test_the_determinant_lies_between_its_certified_ends(name, d):
    field = draw(name, d)
    field = field if name == "translation" else st.control(field, jacobian_norm=0.5)
    u = grid(field, 4) * (1 - 1e-12)
    j = field.jacobian(u)
    determinant = torch.linalg.det(torch.eye(d, dtype=torch.float64) - j).flatten(1)
    weighted = torch.linalg.matrix_norm(j, 2).flatten(1) * determinant.rsqrt()
    n = field.norms()
    assert bool((n.determinant_infimum.upper <= determinant.amin(1) + 1e-3).all())
    if not REGISTRY[name].certified:
        return
    assert bool((n.determinant_infimum.lower <= determinant.amin(1) + 1e-12).all())
    assert bool((n.determinant_supremum.upper >= determinant.amax(1) - 1e-12).all())
    assert bool((n.weighted_jacobian.upper >= weighted.amax(1) * (1 - 1e-12)).all())
    assert bool((n.weighted_jacobian.upper <= 1.01 * n.weighted_jacobian.lower + 1e-9).all())
    assert bool((n.determinant_infimum.lower >= (1 - 0.5) ** d * (1 - 2e-3)).all())


@each_family
def test_fields_said_to_preserve_volume_have_determinant_one(name, d):
    field = draw(name, d)
    determinant = torch.linalg.det(torch.eye(d, dtype=torch.float64) - field.jacobian(inside(field, 5))).flatten(1)
    kept = (determinant - 1).abs().amax(1) < 1e-12
    assert field.volume_preserving.shape == field.batch_shape
    assert not bool((field.volume_preserving & ~kept).any())
    assert bool(field.volume_preserving.all()) == (name == "translation")


def test_shears_are_recognised_and_two_shears_are_none():
    """det(I - grad tau) = 1 for one of them; in two directions it is 1 - the product of the slopes."""
    k = torch.tensor([[1, 1], [2, 2], [2, -2]])
    across = torch.tensor([[1.0, -1.0], [0.4, -0.4], [0.0, 0.0]], dtype=torch.float64)
    both = across + torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.3, 0.3]], dtype=torch.float64)
    along = across + torch.tensor([[1e-9, 0.0], [0.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    cosine = torch.stack([across, both, along])
    field = FourierSeries(k, cosine, 0.5 * cosine, size=(24, 24))
    assert field.volume_preserving.tolist() == [True, False, False]
    determinant = torch.linalg.det(torch.eye(2, dtype=torch.float64) - field.jacobian(inside(field, 9))).flatten(1)
    assert float((determinant[0] - 1).abs().max()) < 1e-14
    assert float((determinant[1] - 1).abs().max()) > 1e-3
    # in pixels that are not square (1, -1) is not across (1, 1)
    assert not FourierSeries(k, across, across, size=(24, 16)).volume_preserving
    assert FourierSeries(k, across * torch.tensor([24.0, 16.0]), across * 0, size=(16, 24)).volume_preserving


@pytest.mark.parametrize("d", [1, 2])
def test_translations_have_no_jacobian(d):
    field = draw("translation", d)
    assert not field.jacobian(inside(field, 5)).any()
    assert not field.norms().jacobian.upper.any()


@each_family
def test_wrong_requests_are_one_clear_error(name, d):
    field = draw(name, d)
    with pytest.raises(ValueError, match="displacement_norm must be positive"):
        st.control(field, displacement_norm=-1.0)
    with pytest.raises(ValueError, match="size"):
        field + st.Translation((1.0,) * d, tuple(side + 1 for side in SIZES[d]))
    if not REGISTRY[name].knob and name != "mixed":
        with pytest.raises(ValueError, match="two norms at once"):
            st.control(field.without_mean(), displacement_norm=1.0, jacobian_norm=0.1)
