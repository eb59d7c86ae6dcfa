import importlib.util
import sys
from pathlib import Path

import pytest
import torch

import stability as st
from stability.deformations.control import control, reachable
from stability.deformations.fourier import FourierField
from stability.deformations.translation import Translation
from stability.deformations.trigonometric import TrigonometricBatch

SLACK = 1e-12
WITHIN = 1e-5

_spec = importlib.util.spec_from_file_location("claims", Path(__file__).parents[1] / "benchmarks" / "control_claims.py")
claims = importlib.util.module_from_spec(_spec)
sys.modules["claims"] = claims
_spec.loader.exec_module(claims)


def sample(size=(32, 32), cutoff=3, count=4, seed=0):
    return FourierField.sample(size, cutoff=cutoff, batch_shape=(count,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.slow
def test_norms_of_every_family_are_met_from_below_over_the_continuum():
    outcomes = list(claims.requests(200, seed=20))
    assert {outcome.family for outcome in outcomes} == set(claims.FAMILIES)
    assert all(outcome.excess <= SLACK for outcome in outcomes)
    assert all(outcome.shortfall <= 1e-3 or outcome.warned for outcome in outcomes)
    assert all(outcome.certificate_holds for outcome in outcomes)
    assert sorted(outcome.certified for outcome in outcomes)[len(outcomes) // 2] <= 1.001
    for outcome in outcomes:
        mean = torch.tensor(outcome.mean, dtype=torch.float64)
        if outcome.direction is None:
            torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-12)
        else:
            along = float(mean @ torch.tensor(outcome.direction, dtype=torch.float64))
            assert along >= 0
            torch.testing.assert_close(mean, along * torch.tensor(outcome.direction, dtype=torch.float64))


@pytest.mark.parametrize(("size", "cutoff"), [((32,), 3), ((32, 32), 1), ((24, 40), 2), ((32, 32), 4)])
def test_every_ratio_in_the_reachable_interval_is_met_ends_included(size, cutoff):
    field = sample(size, cutoff)
    lower, upper = reachable(field)
    place = torch.linspace(0, 1, 9, dtype=torch.float64)[:, None]
    for ratio in (lower + place * (upper - lower), lower * (upper / lower) ** place):
        norms = control(field, displacement_norm=1.5, jacobian_norm=1.5 * ratio).norms()
        for seen, target in (
            (norms.displacement.lower, torch.full_like(ratio, 1.5)),
            (norms.jacobian.lower, 1.5 * ratio),
        ):
            assert bool((seen <= target).all())
            assert bool((seen >= target * (1 - WITHIN)).all())


def test_the_reachable_interval_is_not_much_narrower_than_a_dense_scan_of_the_tilt():
    field = sample(cutoff=4, count=6, seed=3)
    place = torch.linspace(-1, 1, 201, dtype=torch.float64)
    theta = torch.copysign(torch.expm1(2 * place.abs() / (1 - place.abs())), place)
    norms = field.tilted(theta[:, None]).norms()
    ratios = norms.jacobian.lower / norms.displacement.lower
    lower, upper = reachable(field)
    assert bool((lower <= 1.02 * ratios.amin(0)).all())
    assert bool((upper >= 0.98 * ratios.amax(0)).all())


def test_tilting_is_a_reweighting_and_its_limits_keep_one_shell():
    field = sample(cutoff=3)
    squared = field.frequencies.square().sum(-1)
    theta = torch.tensor(-3.0, dtype=torch.float64)
    weight = (theta * (squared - squared.min()) / squared.max()).exp()[:, None]
    torch.testing.assert_close(field.tilted(theta).cosine, field.cosine * weight)
    for limit, kept in ((-torch.inf, squared.min()), (torch.inf, squared.max())):
        left = field.tilted(torch.tensor(limit, dtype=torch.float64)).cosine.abs().sum((0, 2)) > 0
        assert torch.equal(left, (squared - kept).abs() < 1e-9)


@pytest.mark.parametrize("name", ["displacement", "jacobian"])
def test_one_norm_rescales_the_field(name):
    field = sample()
    target = torch.tensor([[0.1], [0.4]], dtype=torch.float64)
    arguments = {"displacement_norm": target} if name == "displacement" else {"jacobian_norm": target}
    found = control(field, **arguments)
    seen = getattr(found.norms(), name).lower
    assert seen.shape == (2, 4)
    torch.testing.assert_close(seen, target.expand(2, 4), rtol=1e-8, atol=0)
    assert bool((seen <= target).all())
    shape = found.cosine / field.cosine
    torch.testing.assert_close(shape, shape[..., :1, :1].expand_as(shape))


def test_translations_and_sums_take_a_displacement_norm():
    assert float(control(Translation((3.0, 4.0)), displacement_norm=1.0).mean[0]) == pytest.approx(0.6)
    mixed = sample() + Translation((1.0, 0.0), (32, 32))
    torch.testing.assert_close(
        control(mixed, displacement_norm=2.0).norms().displacement.lower, torch.full((4,), 2.0, dtype=torch.float64)
    )


def test_requests_broadcast_with_the_batch():
    field = sample(cutoff=3)
    sizes = torch.tensor([[0.5], [2.0]], dtype=torch.float64)
    for shift in (None, (0.0, 2.0)):
        found = control(field, displacement_norm=sizes, jacobian_norm=0.2 * sizes, shift=shift)
        assert found.batch_shape == (2, 4)
        torch.testing.assert_close(found.norms().displacement.lower, sizes.expand(2, 4), rtol=1e-8, atol=0)
        torch.testing.assert_close(found[1].cosine, 4 * found[0].cosine, rtol=1e-5, atol=1e-7)
    single = control(field[0], displacement_norm=1.0, jacobian_norm=0.2)
    assert single.batch_shape == ()
    cube = field[torch.arange(4).reshape(2, 2)]
    assert control(cube, displacement_norm=1.0, jacobian_norm=0.2).batch_shape == (2, 2)
    assert reachable(cube).lower.shape == (2, 2)


def test_a_controlled_field_remembers_its_norms(monkeypatch):
    found = control(sample(), displacement_norm=1.0, jacobian_norm=0.2)
    monkeypatch.setattr(TrigonometricBatch, "chunks", lambda *arguments: pytest.fail("computed again"))
    assert bool((found.norms().displacement.lower <= 1.0).all())
    assert bool((found.norms().jacobian.lower <= 0.2).all())


def test_a_jacobian_norm_of_one_or_more_is_allowed():
    found = control(sample(), jacobian_norm=1.5)
    torch.testing.assert_close(
        found.norms().jacobian.lower, torch.full((4,), 1.5, dtype=torch.float64), rtol=1e-8, atol=0
    )


def test_what_is_out_of_reach_is_said_with_what_is_reachable():
    field = sample()
    lower, upper = reachable(field)
    with pytest.raises(ValueError, match=r"must lie in \[.*\] 1/px for this field, got 2.5 .*shift=\(1, 0\)") as info:
        control(field, displacement_norm=2.0, jacobian_norm=5.0)
    assert f"{2 * float(lower[0]):.6g} and {2 * float(upper[0]):.6g}" in str(info.value)
    with pytest.raises(ValueError, match="must lie in"):
        control(field, displacement_norm=2.0, jacobian_norm=1.99 * lower)
    with pytest.raises(ValueError, match=r"jacobian_norm must be at most .* got 2 ") as info:
        control(field, displacement_norm=2.0, jacobian_norm=2.0, shift=(1.0, 0.0))
    norms = field.norms()
    assert f"{float(2 * norms.jacobian.lower[0] / norms.displacement.lower[0]):.6g}" in str(info.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "got neither"),
        ({"displacement_norm": 0.0}, "positive and finite"),
        ({"jacobian_norm": -1.0}, "positive and finite"),
        ({"displacement_norm": float("nan"), "jacobian_norm": 0.1}, "positive and finite"),
        ({"displacement_norm": float("inf")}, "positive and finite"),
        ({"displacement_norm": torch.ones(3)}, "displacement_norm must broadcast"),
        ({"displacement_norm": 1.0, "shift": (1.0, 0.0)}, "both norms"),
        ({"displacement_norm": 1.0, "jacobian_norm": 0.1, "shift": (0.0, 0.0)}, "direction"),
        ({"displacement_norm": 1.0, "jacobian_norm": 0.1, "shift": (1.0,)}, "direction"),
    ],
)
def test_wrong_requests_are_answered(arguments, message):
    with pytest.raises(ValueError, match=message):
        control(sample(), **arguments)


def test_fields_that_cannot_be_controlled_are_refused():
    field = sample()
    shifted = field.shifted(torch.tensor([1.0, 0.0], dtype=torch.float64))
    with pytest.raises(ValueError, match="mean must be 0"):
        control(shifted, displacement_norm=1.0, jacobian_norm=0.1)
    with pytest.raises(ValueError, match="mean must be 0"):
        reachable(shifted)
    with pytest.raises(ValueError, match="zero or constant"):
        control(0.0 * field, displacement_norm=1.0, jacobian_norm=0.1)
    with pytest.raises(ValueError, match="cannot be controlled"):
        control(0.0 * field, displacement_norm=1.0)
    with pytest.raises(ValueError, match="cannot be controlled"):
        control(Translation((1.0, 0.0)), jacobian_norm=0.1)
    with pytest.raises(ValueError, match="spectrum"):
        control(Translation((1.0, 0.0)), displacement_norm=1.0, jacobian_norm=0.1)
    with pytest.raises(ValueError, match="spectrum"):
        reachable(Translation((1.0, 0.0)))


@pytest.mark.parametrize("kind", ["spline", "piecewise linear"])
def test_both_norms_of_lattices_in_single_precision(kind):
    """The mean of a lattice is round-off there, not 0."""
    rng = torch.Generator().manual_seed(0)
    field = (
        st.SplineField.sample((36, 36), lattice=6, batch_shape=(3,), generator=rng, dtype=torch.float32)
        if kind == "spline"
        else st.PiecewiseLinearField.sample((24, 20), cutoff=2, batch_shape=(3,), generator=rng, dtype=torch.float32)
    )
    lower, upper = reachable(field)
    wanted = lower + 0.3 * (upper - lower)
    found = control(field, displacement_norm=1.0, jacobian_norm=wanted).norms()
    torch.testing.assert_close(found.displacement.lower, torch.ones(3).double(), rtol=1e-5, atol=0)
    torch.testing.assert_close(found.jacobian.lower, wanted, rtol=1e-5, atol=0)
