"""``control`` is differentiable in coefficients and targets; a shortfall is said."""

import warnings

import pytest
import torch
from field_registry import draw, rng

import stability as st
from stability.deformations import control as module

STEP = 1e-5
SLOW = ("gradient", "gaussian", "max_entropy", "piecewise_linear")


def scalar(field, targets, shift=None):
    """A fixed linear functional of the controlled field."""
    at = 20 * torch.rand(5, field.d, generator=rng(3), dtype=torch.float64)
    weight = torch.randn(*field.batch_shape, 5, field.d, generator=rng(4), dtype=torch.float64)
    return (weight * st.control(field, **targets, shift=shift).displacement(at)).sum()


def with_tensor(field, value):
    """The field with its first linear tensor replaced."""
    name = next(iter(field.AXES))
    return field._with({name: value}).without_mean()


def checked(function, value, seed=0):
    """The derivative in a random direction, by differences and by the graph."""
    direction = torch.randn(value.shape, generator=rng(seed), dtype=torch.float64) * value.abs()
    leaf = value.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(leaf), leaf)
    difference = (function(value + STEP * direction) - function(value - STEP * direction)) / (2 * STEP)
    torch.testing.assert_close((gradient * direction).sum(), difference, rtol=2e-4, atol=1e-6)
    assert float(difference.abs()) > 1e-6


FAMILIES = ["fourier", "spline", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("kinds", [("displacement_norm", "jacobian_norm"), ("displacement_norm",), ("jacobian_norm",)])
def test_gradients_with_respect_to_coefficients_and_targets_are_those_of_differences(name, kinds):
    field = draw(name, 2, count=2).without_mean()
    lower, upper = st.reachable(field)
    a = torch.tensor([1.0, 2.0], dtype=torch.float64)
    every = {"displacement_norm": a, "jacobian_norm": a * (0.6 * lower + 0.4 * upper)}
    targets = {kind: every[kind] for kind in kinds}
    linear = field._tensors[next(iter(field.AXES))]
    if name not in ("piecewise_linear",) or len(kinds) == 1:  # maxima over nodes: kinks where several nodes tie
        checked(lambda value: scalar(with_tensor(field, value), targets), linear.clone())
    for kind in kinds:
        checked(lambda value, kind=kind: scalar(field, {**targets, kind: value}), targets[kind])


def test_gradients_flow_through_an_added_constant():
    field = draw("fourier", 2, count=2)
    targets = {
        "displacement_norm": torch.tensor([3.0, 2.5], dtype=torch.float64),
        "jacobian_norm": torch.tensor([0.2, 0.1], dtype=torch.float64),
    }
    for kind in targets:
        checked(lambda value, kind=kind: scalar(field, {**targets, kind: value}, shift=(1.0, 0.5)), targets[kind])


def test_a_second_request_for_the_same_norms_changes_nothing():
    field = draw("fourier", 2)
    once = st.control(field, displacement_norm=1.0, jacobian_norm=0.35)
    twice = st.control(once, displacement_norm=1.0, jacobian_norm=0.35)
    torch.testing.assert_close(twice.cosine, once.cosine, rtol=1e-6, atol=1e-8)


def test_a_shortfall_is_said_and_nothing_else_is(monkeypatch):
    field = draw("fourier", 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        st.control(field, displacement_norm=1.0, jacobian_norm=0.35)
    monkeypatch.setattr(module, "MARGIN", 0.01)
    with pytest.warns(st.ShortfallWarning, match=r"displacement_norm falls short .* 0.01 .*3 of 3 fields"):
        st.control(field, displacement_norm=1.0)


def test_gradients_of_fields_without_a_spectrum_are_right_or_refused():
    """c / |c| is what a controlled translation is; of a spline through points the norm's derivative is not known."""
    vector = torch.tensor([3.0, 4.0], dtype=torch.float64)

    def along(value):
        return st.control(st.Translation(value, size=(8, 8)), displacement_norm=1.0).mean[0]

    checked(along, vector)
    thin = st.ThinPlateField.sample((12, 12), generator=rng(1))
    contents, settings = thin.state()
    learnt = st.ThinPlateField(**{name: value.requires_grad_() for name, value in contents.items()}, **settings)
    with pytest.raises(ValueError, match="must not require gradients to control a ThinPlateField"):
        st.control(learnt, jacobian_norm=0.5)
    with torch.no_grad():
        assert st.control(learnt, jacobian_norm=0.5).norms().jacobian.lower == pytest.approx(0.5)
