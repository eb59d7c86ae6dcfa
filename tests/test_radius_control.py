"""Control of bumps and local affine fields: the knob for the ratio of the two norms is the radius."""

import itertools

import pytest
import torch

import stability as st
from stability.deformations import radial
from stability.deformations.bump import BumpField
from stability.deformations.local_affine import LocalAffineField

FAMILIES = {
    BumpField: radial.SLOPE.value,  # jacobian_norm * radius / displacement_norm
    LocalAffineField: radial.STRETCH.value / radial.REACH.value,
}
each_case = pytest.mark.parametrize(("family", "size"), list(itertools.product(FAMILIES, [(32,), (32, 32), (24, 40)])))


def sample(family, size, count=4, **arguments):
    return family.sample(size, batch_shape=(count,), generator=torch.Generator().manual_seed(0), **arguments)


def points(size):
    return torch.rand(60, len(size), generator=torch.Generator().manual_seed(5), dtype=torch.float64) * min(size)


@each_case
def test_both_norms_are_met_by_another_radius(family, size):
    field = sample(family, size)
    sizes = torch.tensor([[0.5], [2.0]], dtype=torch.float64)
    found = st.control(field, displacement_norm=sizes, jacobian_norm=0.6 * sizes)
    assert isinstance(found, family)
    for interval, target in ((found.norms().displacement, sizes), (found.norms().jacobian, 0.6 * sizes)):
        torch.testing.assert_close(interval.lower, target.expand(2, 4), rtol=5e-9, atol=0)
        assert bool((interval.upper <= target).all())
    torch.testing.assert_close(found.centre, field.centre.expand_as(found.centre))
    constant = FAMILIES[family]
    torch.testing.assert_close(found.radius, torch.full((2, 4), constant / 0.6, dtype=torch.float64))
    again = st.control(found, displacement_norm=sizes, jacobian_norm=0.6 * sizes)
    torch.testing.assert_close(again.displacement(points(size)), found.displacement(points(size)), rtol=1e-7, atol=1e-9)


@each_case
def test_one_norm_keeps_the_radius(family, size):
    field = sample(family, size)
    found = st.control(field, displacement_norm=1.5)
    torch.testing.assert_close(found.radius, field.radius)
    torch.testing.assert_close(found.norms().displacement.lower, torch.full((4,), 1.5, dtype=torch.float64))


@each_case
def test_what_can_be_reached_is_what_the_radii_give(family, size):
    field = sample(family, size)
    lower, upper = st.reachable(field)
    constant = FAMILIES[family]
    torch.testing.assert_close(lower, torch.full((4,), 2 * constant / min(size), dtype=torch.float64))
    torch.testing.assert_close(upper, torch.full((4,), constant / radial.SMALLEST_RADIUS, dtype=torch.float64))
    with pytest.raises(ValueError, match="must lie in"):
        st.control(field, displacement_norm=1.0, jacobian_norm=1.01 * upper)


@each_case
def test_the_knob_is_continuous_and_decreasing_with_a_derivative_at_the_field_itself(family, size):
    field = sample(family, size)
    theta = torch.linspace(-6, 6, 2401, dtype=torch.float64)
    infinite = torch.full((1,), torch.inf, dtype=torch.float64)
    radius = field.tilted(torch.cat([-infinite, theta, infinite])[:, None]).radius
    assert bool((radius[1:] < radius[:-1]).all())
    assert float((radius[1:-2] / radius[2:-1]).max()) < 1.006
    torch.testing.assert_close(radius[1201], field.radius)
    torch.testing.assert_close(radius[0], torch.full_like(field.radius, min(size) / 2))
    torch.testing.assert_close(radius[-1], torch.full_like(field.radius, radial.SMALLEST_RADIUS))
    knob = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(field.tilted(knob).radius.log().sum(), knob)
    torch.testing.assert_close(slope, -torch.ones(4, dtype=torch.float64))
    for step in (-1e-6, 1e-6):
        quotient = (field.tilted(knob.detach() + step).radius / field.radius).log() / step
        torch.testing.assert_close(quotient, slope, rtol=1e-5, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_radius_at_an_end_of_the_range_can_still_be_changed(family):
    for radius in (1.0, 2.0, 16.0):
        field = sample(family, (32, 32), 2, radius=radius)
        found = st.control(field, displacement_norm=1.0, jacobian_norm=0.5)
        torch.testing.assert_close(found.norms().jacobian.lower, torch.full((2,), 0.5, dtype=torch.float64))
        ends = torch.tensor([[-torch.inf], [0.0], [torch.inf]], dtype=torch.float64)
        expected = torch.tensor([16.0, radius, min(radius, 2.0)], dtype=torch.float64)
        torch.testing.assert_close(field.tilted(ends).radius, expected[:, None].expand(3, 2))
