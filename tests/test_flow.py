import dataclasses
import math

import pytest
import scipy.integrate
import torch

from stability.deformations.affine import AffineField
from stability.deformations.ascent import approach, ascend
from stability.deformations.automatic import differentiated
from stability.deformations.compact import CompactField
from stability.deformations.composition import compose
from stability.deformations.control import control
from stability.deformations.flow import FlowField
from stability.deformations.fourier import FourierField
from stability.deformations.inverse import inverse
from stability.deformations.max_entropy import MaxEntropyField
from stability.deformations.piecewise_linear import PiecewiseLinearField
from stability.deformations.pointwise import FieldLengths, length, steepness
from stability.deformations.runge_kutta import integrate
from stability.deformations.series import FourierSeries
from stability.deformations.translation import Translation
from stability.grid import coordinates

SIZES = [(24,), (20, 16)]
ROUND_OFF = 1e-12


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def velocity(size, count=2, seed=0, cutoff=2, steepness=0.8):
    v = FourierField.sample(size, cutoff=cutoff, batch_shape=(count,), generator=rng(seed))
    return v.scaled(steepness / v.norms().jacobian.lower)


def points(size, count=40, seed=5):
    return 50 * torch.rand(count, len(size), generator=rng(seed), dtype=torch.float64) - 15


def wave(amplitude, side=24):
    """v(y) = amplitude sin(2 pi y / side)."""
    return FourierSeries(
        torch.tensor([[1]]), torch.zeros(1, 1, dtype=torch.float64), torch.tensor([[amplitude]]).double(), size=(side,)
    )


def test_the_integrator_has_order_eight():
    start = torch.tensor([0.6, 0.9], dtype=torch.float64)

    def pendulum(state):
        return torch.stack([state[1], -3 * state[0].sin() - 0.2 * state[1] ** 2])

    exact = integrate(pendulum, start, 64)
    coarse, fine = ((integrate(pendulum, start, steps) - exact).norm() for steps in (3, 6))
    assert 7.5 < math.log2(coarse / fine) < 9.0


def test_the_flow_of_a_constant_velocity_is_a_translation():
    flow = FlowField(Translation((3.0, -1.5), size=(16, 16)))
    at = points((16, 16))
    torch.testing.assert_close(flow.displacement(at), torch.tensor([3.0, -1.5]).double().expand(40, 2))
    assert not flow.jacobian(at).any()
    assert float(flow.norms().jacobian.upper) == 0.0


@pytest.mark.parametrize("amplitude", [0.5, 2.0, 8.0])
def test_the_flow_of_a_sine_is_known(amplitude):
    """tan(w y / 2) = tan(w u / 2) exp(-amplitude w t), and dy / du = sin(w y) / sin(w u)."""
    u = torch.linspace(-11.9, 11.9, 41, dtype=torch.float64)
    w = 2 * math.pi / 24
    y = 2 / w * torch.atan(torch.tan(w * u / 2) * math.exp(-amplitude * w))
    flow = FlowField(wave(amplitude))
    torch.testing.assert_close(flow.displacement(u[:, None])[:, 0], u - y, rtol=0, atol=1e-10)
    slope = torch.where(u == 0, math.exp(-amplitude * w), torch.sin(w * y) / torch.sin(w * u))
    torch.testing.assert_close(flow.jacobian(u[:, None])[:, 0, 0], 1 - slope, rtol=1e-10, atol=1e-10)
    # at the unstable zero the gradient grows like e^B: Gronwall's bound is sharp
    n = flow.norms().jacobian
    assert float(n.lower) == pytest.approx(math.expm1(amplitude * w), rel=1e-9)
    assert float(n.lower) <= float(n.upper) <= math.expm1(amplitude * w) * (1 + 1e-3)
    assert float(flow.derivative_bounds()[1]) == pytest.approx(math.expm1(amplitude * w), rel=1e-3)


def test_points_move_as_another_integrator_says():
    v = velocity((20, 16), count=1, steepness=1.5)[0]
    flow = FlowField(v)
    for u in points((20, 16), 4):
        solved = scipy.integrate.solve_ivp(
            lambda _, y: -v.displacement(torch.as_tensor(y)).numpy(), (0, 1), u.numpy(), method="DOP853", rtol=1e-13,
            atol=1e-13,
        )  # fmt: skip
        expected = u - torch.as_tensor(solved.y[:, -1])
        torch.testing.assert_close(flow.displacement(u), expected, rtol=0, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_derivatives_agree_with_automatic_differentiation(size):
    flow = FlowField(velocity(size), factor=torch.tensor([1.0, -0.5]).double())
    at = points(size, 6)[None]
    for order in (1, 2):
        expected = differentiated(lambda u: flow.derivative(u, 0), at, order)
        torch.testing.assert_close(flow.derivative(at, order), expected, rtol=0, atol=ROUND_OFF)
    u = at[0, 0].clone().requires_grad_()
    backward = torch.autograd.functional.jacobian(flow.displacement, u)
    torch.testing.assert_close(flow.jacobian(u), backward, rtol=0, atol=ROUND_OFF)


@pytest.mark.parametrize("size", SIZES)
def test_halves_compose_to_the_whole_and_the_flow_backwards_undoes_it(size):
    v = velocity(size, steepness=1.2)
    whole, half = FlowField(v), FlowField(v).at(0.5)
    at = points(size)
    torch.testing.assert_close(compose(half, half).displacement(at), whole.displacement(at), rtol=0, atol=1e-10)
    back = inverse(whole)
    assert isinstance(back, FlowField)
    assert float(compose(whole, back).displacement(at).abs().max()) < 1e-10
    assert float(compose(back, whole).displacement(at).abs().max()) < 1e-10
    assert float((half.displacement(at) - 0.5 * whole.displacement(at)).abs().max()) > 1e-2  # not linear in time


@pytest.mark.parametrize("size", SIZES)
def test_the_reported_error_is_that_of_the_steps(size):
    v = velocity(size, steepness=1.5)
    assert bool((FlowField(v).error < 1e-10).all())
    at = points(size, 200)
    exact = FlowField(v, steps=64).displacement(at)
    for steps in (1, 2, 4):
        flow = FlowField(v, steps=steps)
        true = (flow.displacement(at) - exact).norm(dim=-1).amax(1)
        assert bool((true <= 2 * flow.error).all())
        assert bool((flow.error <= 3 * true).all())


@pytest.mark.slow
@pytest.mark.parametrize(("size", "steepness"), [((24,), 0.4), ((24,), 1.2), ((16, 12), 0.7)])
def test_norms_enclose_the_suprema(size, steepness):
    flow = FlowField(velocity(size, count=1, steepness=steepness), factor=torch.tensor([1.0, -2.0]).double())
    nodes = coordinates(size, oversample=12 if len(size) == 1 else 4)
    tau, j, h = flow.displacement(nodes), flow.jacobian(nodes), flow.hessian(nodes)
    brute = {
        "displacement": tau.norm(dim=-1),
        "jacobian": torch.linalg.matrix_norm(j, 2),
        "divergence": j.diagonal(dim1=-2, dim2=-1).sum(-1).abs(),
    }
    n = flow.norms()
    for name, values in brute.items():
        seen, own = values.flatten(1).amax(1), getattr(n, name)
        assert bool((seen <= own.lower * (1 + 1e-9)).all()), name
        assert bool((own.lower <= seen * 1.1).all()), name
        assert bool((own.lower <= own.upper).all()), name
        assert bool((own.upper <= own.lower * 1.002 + 1e-9).all()), name
    direction = torch.tensor([0.6, 0.8]).double() if len(size) == 2 else torch.ones(1).double()
    bent = torch.einsum("...ijk,j,k->...i", h, direction, direction).norm(dim=-1).flatten(1).amax(1)
    assert bool((bent <= n.hessian.lower * (1 + 1e-9)).all())
    assert bool((n.hessian.upper <= n.hessian.lower * 1.002).all())


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_the_rules_bound_four_derivatives(size):
    flow = FlowField(velocity(size, cutoff=1, steepness=1.0), steps=3)
    at = points(size, 60)[None]
    direction = torch.tensor([0.8, -0.6]).double() if len(size) == 2 else torch.ones(1).double()
    third = differentiated(lambda u: flow.derivative(u, 2), at, 1)
    fourth = differentiated(lambda u: flow.derivative(u, 2), at, 2)
    values = [flow.derivative(at, k) for k in range(3)] + [third, fourth]
    for k, (value, bound) in enumerate(zip(values, flow.derivative_bounds(), strict=True)):
        for _ in range(k):
            value = value @ direction
        assert bool((value.norm(dim=-1).amax(1) <= bound).all()), k


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_a_steep_flow_does_not_fold_and_its_determinant_obeys_liouville(size):
    flow = FlowField(velocity(size, count=1, cutoff=1, steepness=1.3))
    assert bool((flow.norms().jacobian.lower > 1).all())
    j = flow.jacobian(coordinates(size, oversample=6))
    determinant = torch.linalg.det(torch.eye(len(size)).double() - j).flatten(1)
    limit = flow.velocity.norms().divergence.upper
    n = flow.norms()
    assert bool((determinant > 0).all())
    assert bool(flow.injective.all())
    assert bool((determinant.amin(1) >= n.determinant_infimum.lower).all())
    assert bool((determinant.amax(1) <= n.determinant_supremum.upper).all())
    assert bool((n.determinant_infimum.lower >= (-limit).exp() * (1 - 1e-9)).all())
    assert bool((n.determinant_infimum.upper <= determinant.amin(1) + 1e-9).all())
    assert bool((n.determinant_supremum.upper <= 1.1 * determinant.amax(1)).all())
    assert not bool((2 * flow).injective.any())


def test_the_velocity_is_drawn_like_a_fourier_field():
    flow = FlowField.sample((20, 16), cutoff=3, batch_shape=(2,), generator=rng(1))
    field = FourierField.sample((20, 16), cutoff=3, batch_shape=(2,), generator=rng(1))
    at = points((20, 16))
    assert torch.equal(flow.velocity.displacement(at), field.displacement(at))


@pytest.mark.parametrize("size", SIZES)
def test_the_same_flow_at_every_resolution(size):
    coarse = FlowField.sample(size, cutoff=2, batch_shape=(2,), generator=rng(2))
    fine = FlowField.sample(tuple(2 * side for side in size), cutoff=2, batch_shape=(2,), generator=rng(2))
    at = points(size)
    torch.testing.assert_close(fine.displacement(2 * at), 2 * coarse.displacement(at), rtol=0, atol=ROUND_OFF)
    torch.testing.assert_close(coarse.refined(2).displacement(2 * at), fine.displacement(2 * at), rtol=0, atol=1e-11)


def test_fields_of_a_batch_do_not_depend_on_each_other():
    flow = FlowField(velocity((20, 16), count=3, steepness=torch.tensor([0.1, 0.5, 1.5])))
    at = points((20, 16), 3)
    for i in range(3):
        torch.testing.assert_close(flow[i].displacement(at), flow.displacement(at)[i], rtol=0, atol=1e-13)
        alone = FlowField(flow.velocity[i])
        torch.testing.assert_close(alone.displacement(at), flow.displacement(at)[i], rtol=0, atol=1e-10)
    own = flow.displacement(at[:, None], each=True)
    torch.testing.assert_close(own[2, 0], flow.displacement(at[2])[2], rtol=0, atol=1e-13)


def test_factors_multiply_the_displacement_and_its_norms():
    flow = FlowField(velocity((24,)))
    at = points((24,))
    factors = torch.tensor([[0.5], [-3.0]]).double()
    scaled = factors * flow
    assert scaled.batch_shape == (2, 2)
    torch.testing.assert_close(scaled.displacement(at), factors[..., None, None] * flow.displacement(at))
    again = FlowField(scaled.velocity, factor=scaled.factor)
    torch.testing.assert_close(again.norms().jacobian.lower, scaled.norms().jacobian.lower, rtol=1e-9, atol=0)


def test_gradients_reach_the_velocity_and_the_factor():
    v = velocity((20, 16), count=1)[0]
    at = points((20, 16), 3)
    cosine = v.cosine.clone().requires_grad_()
    factor = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def value(cosine, factor):
        field = FlowField(FourierSeries(v.modes, cosine, v.sine, size=v.size), factor=factor, steps=4)
        return field.displacement(at).square().sum()

    assert FlowField(FourierSeries(v.modes, cosine, v.sine, size=v.size)).requires_grad
    assert torch.autograd.gradcheck(value, (cosine, factor), atol=1e-6)


def test_single_precision_flows_follow_double_precision():
    flow = FlowField(velocity((20, 16)))
    at = points((20, 16))
    rough = flow.to(dtype=torch.float32)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough.displacement(at).double(), flow.displacement(at), rtol=0, atol=2e-5)


def test_a_velocity_that_vanishes_outside_a_window_leaves_points_there():
    inner = FourierField.sample((16, 16), cutoff=1, generator=rng(3))
    flow = FlowField(CompactField(inner, border=2.0, rise=5.0))
    assert flow.domain == flow.velocity.domain
    at = torch.tensor([[0.0, 9.0], [15.0, 4.0], [8.0, 8.0]]).double()
    moved = flow.displacement(at).norm(dim=-1)
    assert moved[:2].tolist() == [0.0, 0.0]
    assert float(moved[2]) > 0.01
    assert float(flow.error) < 1e-8
    assert float(flow.norms().jacobian.upper) < 1.01 * float(flow.norms().jacobian.lower)


@pytest.mark.slow
def test_nothing_is_certified_of_the_second_derivative_across_a_jump():
    v = MaxEntropyField.sample((8, 8), cutoff=2, typical_displacement=0.3, generator=rng(4))
    assert math.isinf(float(FlowField(v).norms().hessian.upper))
    assert math.isfinite(float(FlowField(v).norms().jacobian.upper))


def test_wrong_velocities_are_one_clear_error():
    with pytest.raises(ValueError, match="velocity must be a Deformation"):
        FlowField(torch.zeros(3))
    with pytest.raises(ValueError, match="vanish at the window's border"):
        FlowField(AffineField.rotation(0.1, size=(8, 8)))
    rough = PiecewiseLinearField.sample((16, 16), cutoff=2, generator=rng(0))
    with pytest.raises(ValueError, match="continuous gradient"):
        FlowField(rough)
    with pytest.raises(ValueError, match="steps must be an integer"):
        FlowField(Translation((1.0, 0.0)), steps=0)
    with pytest.raises(ValueError, match="velocity must be smooth"):
        FlowField(velocity((24,)).scaled(1e4)).displacement(torch.zeros(1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "a", "b"),
    [
        ((24,), None, 0.2), ((24,), None, 2.0), ((24,), 0.05, None), ((24,), 1.5, None), ((24,), 1.0, 0.5),
        ((24,), 2.0, 1.2), ((24,), 0.02, 0.01), ((16, 12), None, 2.0), ((16, 12), 1.0, None), ((16, 12), 0.7, 0.5),
        ((16, 12), 1.2, 1.2),
    ],
)  # fmt: skip
def test_control_meets_the_norms_from_below(size, a, b):
    flow = FlowField.sample(size, cutoff=2, batch_shape=(2,), generator=rng(6))
    found = control(flow, displacement_norm=a, jacobian_norm=b)
    fresh = FlowField(found.velocity).norms()
    for target, norm in ((a, fresh.displacement.lower), (b, fresh.jacobian.lower)):
        if target is not None:
            assert bool((norm <= target).all())
            assert bool((norm >= target * (1 - 1e-3)).all())
    assert bool(found.injective.all())


@pytest.mark.slow
def test_control_of_a_batch_takes_a_request_per_field_and_more():
    flow = FlowField.sample((24,), cutoff=2, batch_shape=(2,), generator=rng(7))
    b = torch.tensor([[0.1], [0.6], [1.4]]).double()
    found = control(flow, jacobian_norm=b)
    assert found.batch_shape == (3, 2)
    torch.testing.assert_close(found.norms().jacobian.lower, b.expand(3, 2), rtol=1e-3, atol=0)
    assert control(flow[0], jacobian_norm=0.3).batch_shape == ()


@pytest.mark.slow
@pytest.mark.parametrize(("a", "b"), [(None, 0.4), (1.0, 0.5)])
def test_controlled_norms_follow_the_targets_and_nothing_else(a, b):
    """The gradient of each realised norm is 1 for its own target, 0 for the other and for the coefficients."""
    v = velocity((20, 16), count=1)[0]
    cosine = v.cosine.clone().requires_grad_()
    targets = [None if t is None else torch.tensor(t, dtype=torch.float64, requires_grad=True) for t in (a, b)]
    drawn = FlowField(FourierSeries(v.modes, cosine, v.sine, size=v.size))
    found = control(drawn, displacement_norm=targets[0], jacobian_norm=targets[1])
    assert found.requires_grad
    for order, (own, other) in enumerate((targets, targets[::-1])):
        if own is None:
            continue
        functions = FieldLengths(found, (order,), steepness if order else length)
        with torch.no_grad():  # at another place than the maximum's the gradients differ to first order
            place = ascend(functions, approach(functions, (30, 30)))[1][0]
        value = found.displacement(place).norm() if order == 0 else torch.linalg.matrix_norm(found.jacobian(place), 2)
        asked = [cosine, own] if other is None else [cosine, own, other]
        by_coefficients, *by_targets = torch.autograd.grad(value, asked, retain_graph=True)
        assert abs(float(by_targets[0]) - 1) < 2e-3
        assert all(abs(float(gradient)) < 1e-5 for gradient in by_targets[1:])
        free = drawn.displacement(place).norm() if order == 0 else torch.linalg.matrix_norm(drawn.jacobian(place), 2)
        (uncontrolled,) = torch.autograd.grad(free, cosine)
        assert float(by_coefficients.norm()) < 1e-5 * float(uncontrolled.norm())


@pytest.mark.slow
def test_requests_out_of_reach_say_what_is_reachable():
    flow = FlowField.sample((24,), cutoff=2, batch_shape=(2,), generator=rng(8))
    with pytest.raises(ValueError, match=r"displacement_norm must be at most .* px for this flow"):
        control(flow, displacement_norm=40.0)  # points never cross a zero of v
    with pytest.raises(ValueError, match=r"displacement_norm must be between about .* and .* px"):
        control(flow, displacement_norm=0.1, jacobian_norm=1.0)
    with pytest.raises(ValueError, match="only flows with factor 1"):
        control(2 * flow, jacobian_norm=0.3)
    with pytest.raises(ValueError, match="velocities that vary"):
        control(FlowField(Translation((1.0,), size=(24,))), jacobian_norm=0.3)
    with pytest.raises(ValueError, match="mean must be 0"):
        control(FlowField(flow.velocity.shifted(torch.ones(1).double())), displacement_norm=1.0, jacobian_norm=0.3)


def test_the_number_of_steps_is_part_of_the_state():
    flow = FlowField(velocity((24,)))
    contents, settings = flow.state()
    assert torch.equal(FlowField(**contents, **settings).displacement(points((24,))), flow.displacement(points((24,))))
    assert settings == {"steps": flow.steps}
    assert dataclasses.is_dataclass(flow.norms())
