"""The sine-series law of Petrini et al. 2021: fields of a window, their norms and their parameters."""

import math

import pytest
import torch

import stability as st
from stability.deformations import temperature as law
from stability.deformations.domains import Window
from stability.deformations.max_entropy import MaxEntropyField
from stability.deformations.sum import Sum

ROUND_OFF = 1e-12
CASES = [((24,), 4, 0.5), ((24, 24), 3, 0.5), ((24, 40), 4, 0.0), ((20, 16), 2, 1.25)]
every_case = pytest.mark.parametrize(("size", "cutoff", "edge"), CASES)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(size, cutoff=3, edge=0.5, count=4, seed=0, delta=1.0):
    return MaxEntropyField.sample(
        size, cutoff=cutoff, typical_displacement=delta, edge=edge, batch_shape=(count,), generator=generator(seed)
    )


def inside(size, edge, *shape, seed=5):
    """Points of the window."""
    sides = torch.tensor(size[::-1], dtype=torch.float64)
    return sides * torch.rand(*shape, len(size), generator=generator(seed), dtype=torch.float64) - edge


def lattice(size, edge, per_pixel):
    """Points of the closed window, its border included."""
    axes = [torch.linspace(-edge, side - edge, side * per_pixel + 1, dtype=torch.float64) for side in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1)


def literal(field, point):
    """tau(u) term by term, one field."""
    total = [0.0] * field.d
    for mode, coefficient in zip(field.modes.tolist(), field.coefficients.tolist(), strict=True):
        wave = math.prod(
            math.sin(k * math.pi * (u + field.edge) / side)
            for k, u, side in zip(mode, point, field.size[::-1], strict=True)
        )
        total = [part + c * wave for part, c in zip(total, coefficient, strict=True)]
    return total


def brute_force(field, per_pixel):
    """Largest |tau|, ||grad tau||_2 and |div tau| on a dense grid of the closed window."""
    dense = lattice(field.size, field.edge, per_pixel)
    jacobian = field.jacobian(dense)
    values = {
        "displacement": field.displacement(dense).norm(dim=-1),
        "jacobian": torch.linalg.matrix_norm(jacobian, 2),
        "divergence": jacobian.diagonal(dim1=-2, dim2=-1).sum(-1).abs(),
    }
    return {name: value.flatten(1).amax(1) for name, value in values.items()}


def single(modes, coefficients, size, edge=0.5):
    return MaxEntropyField(torch.tensor(coefficients, dtype=torch.float64), torch.tensor(modes), size=size, edge=edge)


# --- the field ----------------------------------------------------------------------------------------------------


@every_case
def test_the_field_is_the_sine_series(size, cutoff, edge):
    field, at = draw(size, cutoff, edge), inside(size, edge, 5)
    for one in field:
        expected = torch.tensor([literal(one, point) for point in at.tolist()], dtype=torch.float64)
        torch.testing.assert_close(one.displacement(at), expected, rtol=0, atol=ROUND_OFF)


@every_case
def test_derivatives_agree_with_automatic_differentiation(size, cutoff, edge):
    field = draw(size, cutoff, edge)
    for point in (*inside(size, edge, 3), inside(size, edge, 1)[0] + 100.0):
        first = torch.autograd.functional.jacobian(field.displacement, point)
        second = torch.autograd.functional.jacobian(field.jacobian, point)
        torch.testing.assert_close(field.jacobian(point), first, rtol=0, atol=ROUND_OFF)
        torch.testing.assert_close(field.hessian(point), second, rtol=0, atol=ROUND_OFF)


@every_case
def test_points_are_taken_modulo_the_sides(size, cutoff, edge):
    field, at = draw(size, cutoff, edge), inside(size, edge, 10)
    period = torch.tensor(size[::-1], dtype=torch.float64)
    for shift in (period, -3 * period):
        torch.testing.assert_close(field.jacobian(at + shift), field.jacobian(at), rtol=0, atol=ROUND_OFF)


@every_case
def test_the_border_is_fixed_and_the_gradient_jumps_across_the_seam(size, cutoff, edge):
    field = draw(size, cutoff, edge)
    assert field.domain == Window(size, float(edge), vanishing=True, gradient_jump=True)
    assert not field.mean.any()
    left = inside(size, edge, 6)
    left[:, 0] = -edge
    right = left.clone()
    right[:, 0] = size[-1] - edge
    step = torch.zeros(len(size), dtype=torch.float64)
    step[0] = 1e-6
    for border, inwards in ((left, step), (right, -step)):
        torch.testing.assert_close(
            field.displacement(border), torch.zeros_like(field.displacement(border)), rtol=0, atol=1e-13
        )
        torch.testing.assert_close(field.jacobian(border), field.jacobian(border + inwards), rtol=0, atol=1e-5)
    assert bool(((field.jacobian(left) - field.jacobian(right)).abs().amax((1, 2, 3)) > 1e-2).all())


@every_case
def test_the_same_field_at_every_resolution(size, cutoff, edge):
    fine = draw(tuple(2 * side for side in size), cutoff, 2 * edge, delta=2.0)
    coarse, at = draw(size, cutoff, edge), inside(size, edge, 20)
    torch.testing.assert_close(fine.displacement(2 * at), 2 * coarse.displacement(at), rtol=0, atol=ROUND_OFF)
    refined = coarse.refined(3)
    assert (refined.size, refined.edge) == (tuple(3 * side for side in size), 3 * edge)
    torch.testing.assert_close(refined.displacement(3 * at), 3 * coarse.displacement(at), rtol=0, atol=ROUND_OFF)
    torch.testing.assert_close(refined.norms().displacement.lower, 3 * coarse.norms().displacement.lower)


@every_case
def test_operations_stay_in_the_family(size, cutoff, edge):
    field, other, at = draw(size, cutoff, edge), draw(size, 2, edge, seed=3), inside(size, edge, 6)
    for made, expected in (
        (field - 2 * other, field.displacement(at) - 2 * other.displacement(at)),
        (field[1:3], field.displacement(at)[1:3]),
        (field.without_mean(), field.displacement(at)),
        (field.to(dtype=torch.float32).to(dtype=torch.float64), field.displacement(at)),
        (field.tilted(torch.tensor(0.0)), field.displacement(at)),
    ):
        assert type(made) is MaxEntropyField
        torch.testing.assert_close(made.displacement(at), expected, rtol=0, atol=1e-5)
    assert isinstance(field + draw(size, cutoff, edge + 1), Sum)
    tensors, settings = field.refined(2).state()
    torch.testing.assert_close(
        MaxEntropyField(**tensors, **settings).displacement(at), field.refined(2).displacement(at), rtol=0, atol=0
    )


def test_gradients_reach_the_coefficients():
    field = draw((24, 24), count=1)
    coefficients = field.coefficients.clone().requires_grad_()
    moved = MaxEntropyField(coefficients, field.modes, size=(24, 24)).displacement(inside((24, 24), 0.5, 3))
    moved.sum().backward()
    assert bool(coefficients.grad.any())


# --- norms --------------------------------------------------------------------------------------------------------


@every_case
def test_norms_enclose_brute_force_over_the_closed_window(size, cutoff, edge):
    field = draw(size, cutoff, edge)
    norms, threefold = field.norms(), (-3 * field).norms()
    for name, brute in brute_force(field, 40 if len(size) == 1 else 10).items():
        interval = getattr(norms, name)
        assert bool((brute <= interval.upper * (1 + ROUND_OFF)).all())
        assert bool((brute <= interval.lower * (1 + 1e-4)).all())
        assert bool((interval.lower <= brute * (1 + 1e-3)).all())
        assert bool((interval.lower <= interval.upper).all())
        assert bool((interval.upper <= interval.lower * (1 + 1e-3)).all())
        torch.testing.assert_close(getattr(threefold, name).lower, 3 * interval.lower)
    assert bool(torch.isinf(norms.hessian.upper).all())


def test_a_single_mode_has_the_norms_of_its_closed_form():
    for size, mode in (((24, 24), (1, 1)), ((24, 40), (2, 3)), ((30, 20), (3, 1))):
        norms = single([mode], [[1.5, 0.0]], size).norms()
        omega = [math.pi * k / side for k, side in zip(mode, size[::-1], strict=True)]
        for interval, value in (
            (norms.displacement, 1.5),
            (norms.jacobian, 1.5 * max(omega)),
            (norms.divergence, 1.5 * omega[0]),  # on the left border
        ):
            assert float(interval.lower) == pytest.approx(value, rel=1e-8)
            assert value * (1 - ROUND_OFF) <= float(interval.upper) <= value * 1.001
        assert float(norms.hessian.lower) <= 1.5 * sum(w * w for w in omega) * (1 + ROUND_OFF)
    arch = single([[3]], [[2.0]], (16,)).norms()
    omega = 3 * math.pi / 16
    assert float(arch.jacobian.lower) == pytest.approx(2 * omega)
    assert float(arch.divergence.upper) == pytest.approx(2 * omega, rel=1e-3)
    assert float(arch.hessian.lower) == pytest.approx(2 * omega**2)


def test_a_reflection_keeps_all_norms_but_the_divergence():
    field = draw((24, 24), 3, count=8)
    # sin(i pi (1 - s)) = (-1)^(i + 1) sin(i pi s): u -> tau(R u) with R the reflection of x about the window's middle
    sign = 1 - 2.0 * (field.modes[:, :1] % 2 == 0)
    reflected = MaxEntropyField(field.coefficients * sign, field.modes, size=(24, 24))
    at = inside((24, 24), 0.5, 5)
    mirrored = torch.stack([23 - at[:, 0], at[:, 1]], dim=-1)
    torch.testing.assert_close(reflected.displacement(at), field.displacement(mirrored), rtol=0, atol=ROUND_OFF)
    first, second = field.norms(), reflected.norms()
    for name in ("displacement", "jacobian", "hessian"):
        torch.testing.assert_close(getattr(first, name).lower, getattr(second, name).lower, rtol=1e-7, atol=0)
    for one in (field, reflected):
        brute = brute_force(one, 10)["divergence"]
        assert bool((brute <= one.norms().divergence.lower * (1 + 1e-4)).all())
        assert bool((one.norms().divergence.upper <= brute * (1 + 2e-3)).all())
    assert bool(((first.divergence.lower / second.divergence.lower).log().abs() > 0.05).any())


@pytest.mark.parametrize("size", [(24,), (16, 24)])
def test_derivative_bounds_hold_in_the_window(size):
    field = draw(size, 3)
    at = inside(size, 0.5, 100)
    direction = torch.randn(100, len(size), generator=generator(8), dtype=torch.float64)
    direction = direction / direction.norm(dim=-1, keepdim=True)

    def along(order, t):
        """d_e^order tau at u + t e, ``(4, 100, d)``."""
        if order == 0:
            return field.displacement(at + t * direction)
        return torch.func.jvp(lambda s: along(order - 1, s), (t,), (torch.ones_like(t),))[1]

    for order, bound in enumerate(field.derivative_bounds()):
        largest = along(order, torch.zeros((), dtype=torch.float64)).norm(dim=-1).amax(1)
        assert bound.shape == (4,)
        assert bool((largest <= bound).all())
        assert bool((bound <= 20 * largest).all())


@every_case
def test_places_lie_in_the_window_and_attain_the_norms(size, cutoff, edge):
    field = draw(size, cutoff, edge, count=8)
    far, steep = field.places()
    sides = torch.tensor(size[::-1], dtype=torch.float64)
    for place in (far, steep):
        assert place.shape == (8, len(size))
        assert bool(((place >= -edge) & (place <= sides - edge)).all())
    torch.testing.assert_close(field.displacement(far, each=True).norm(dim=-1), field.norms().displacement.lower)
    jacobian = field.jacobian(steep, each=True)
    torch.testing.assert_close(torch.linalg.matrix_norm(jacobian, 2), field.norms().jacobian.lower)


def test_a_gradient_largest_at_the_far_border_is_found_there():
    # tau' = pi / 16 (cos s - 2 cos 2 s) is 3 pi / 16 in size at s = pi and pi / 16 at s = 0
    field = single([[1], [2]], [[1.0], [-1.0]], (16,))
    _, steep = field.places()
    assert float(steep[0]) == pytest.approx(15.5)
    assert float(field.jacobian(steep)[0, 0]) == pytest.approx(-3 * math.pi / 16)
    assert float(field.norms().jacobian.lower) == pytest.approx(3 * math.pi / 16)


# --- control ------------------------------------------------------------------------------------------------------


@every_case
def test_both_norms_are_met_from_below(size, cutoff, edge):
    field = draw(size, cutoff, edge, count=2)
    lower, upper = st.reachable(field)
    ratio = (lower * upper).sqrt()
    found = st.control(field, displacement_norm=1.5, jacobian_norm=1.5 * ratio)
    assert isinstance(found, MaxEntropyField)
    assert found.domain == field.domain
    norms = found.norms()
    for seen, target in ((norms.displacement.lower, torch.full_like(ratio, 1.5)), (norms.jacobian.lower, 1.5 * ratio)):
        assert bool((seen <= target).all())
        assert bool((seen >= target * (1 - 1e-5)).all())


def test_one_norm_rescales_the_field():
    field = draw((24, 24))
    found = st.control(field, jacobian_norm=0.25)
    shape = found.coefficients / field.coefficients
    torch.testing.assert_close(shape, shape[:, :1, :1].expand_as(shape))
    assert bool((found.norms().jacobian.lower <= 0.25).all())


def test_tilting_is_a_reweighting_and_its_limits_keep_one_shell():
    field = draw((24, 40), 4)
    squared = field.frequencies.square().sum(-1)
    weight = (-3 * (squared - squared.min()) / squared.max()).exp()[:, None]
    torch.testing.assert_close(field.tilted(torch.tensor(-3.0)).coefficients, field.coefficients * weight)
    for limit, kept in ((-torch.inf, squared.min()), (torch.inf, squared.max())):
        left = field.tilted(torch.tensor(limit, dtype=torch.float64)).coefficients.abs().sum((0, 2)) > 0
        assert torch.equal(left, (squared - kept).abs() < 1e-9)


# --- the law and its parameters -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "cutoff"), [((32,), 5.0), ((32, 32), 3.0), ((24, 40), 4.5)])
def test_coefficients_have_the_laws_variances_and_are_independent(size, cutoff):
    count, t = 4000, 2e-3
    field = MaxEntropyField.sample(size, cutoff=cutoff, temperature=t, batch_shape=(count,), generator=generator(1))
    squared = field.modes.square().sum(-1)
    axis = range(1, int(cutoff) + 1)
    wanted = (
        [(i,) for i in axis] if len(size) == 1 else [(i, j) for i in axis for j in axis if i * i + j * j <= cutoff**2]
    )
    assert sorted(map(tuple, field.modes.tolist())) == sorted(wanted)
    standard = (field.coefficients / (min(size) * (t / squared).sqrt()[:, None])).flatten(1)  # N(0, 1)
    covariance = standard.T @ standard / count
    error = torch.where(torch.eye(len(covariance)) > 0, math.sqrt(2 / count), math.sqrt(1 / count))
    assert bool(((covariance - torch.eye(len(covariance))).abs() <= 4.5 * error).all())


@pytest.mark.parametrize(("size", "cutoff"), [((32,), 5.0), ((32, 32), 3.0), ((24, 40), 4.5)])
def test_the_root_mean_square_is_the_laws(size, cutoff):
    t, d = 2e-3, len(size)
    field = MaxEntropyField.sample(size, cutoff=cutoff, temperature=t, batch_shape=(3000,), generator=generator(2))
    energy = field.displacement(lattice(size, 0.5, 1)[(slice(1, None),) * d]).square().sum(-1)  # each period once
    energy = energy.flatten(1).mean(1)
    expected = law.root_mean_square(t, cutoff, min(size), d) ** 2
    assert abs(float(energy.mean()) - expected) <= 4.5 * float(energy.std()) / math.sqrt(3000)
    assert float(energy.std()) / math.sqrt(3000) < 0.03 * expected


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("cutoff", [1.5, 3, 10.0])
def test_temperature_and_typical_displacement_are_inverse_to_each_other(d, cutoff):
    for delta in (0.1, 1.0, 7.0):
        t = law.temperature(delta, cutoff, 32, d)
        assert law.typical_displacement(t, cutoff, 32, d) == pytest.approx(delta, rel=1e-12)
        if d == 1:
            assert law.root_mean_square(t, cutoff, 32, 1) == pytest.approx(delta, rel=1e-12)


def test_the_papers_formula_is_the_continuum_approximation_of_the_sum():
    t = law.temperature(1.0, 3.0, 32)
    assert t == pytest.approx(4 / (math.pi * 32**2 * math.log(3)))
    # what each octave of frequencies adds agrees more and more, and the low ones are overestimated
    gains = []
    for cutoff in (4.0, 16.0, 64.0):
        exact, paper = (
            function(1e-3, 2 * cutoff, 32) ** 2 - function(1e-3, cutoff, 32) ** 2
            for function in (law.root_mean_square, law.typical_displacement)
        )
        gains.append(exact / paper)
    assert gains == sorted(gains)
    assert gains[-1] == pytest.approx(1, abs=0.02)
    assert law.root_mean_square(t, 3.0, 32) == pytest.approx(0.7707, abs=1e-3)


def test_the_admissible_temperatures_are_half_a_pixel_and_the_inverse_wave_number():
    for side, cutoff in ((32, 3.0), (224, 10.0)):
        low, high = law.temperature_range(side, cutoff)
        assert low < high
        assert law.typical_displacement(low, cutoff, side) == pytest.approx(0.5)
        assert law.typical_displacement(high, cutoff, side) == pytest.approx(side / (math.pi * cutoff))
    low, high = law.temperature_range(8, 6.0)
    assert low > high


def test_both_parameters_draw_the_same_fields():
    by_displacement = draw((32, 32), 3.0, delta=1.5)
    by_temperature = MaxEntropyField.sample(
        (32, 32), cutoff=3.0, temperature=law.temperature(1.5, 3.0, 32), batch_shape=(4,), generator=generator()
    )
    torch.testing.assert_close(by_displacement.coefficients, by_temperature.coefficients)


# --- wrong use ----------------------------------------------------------------------------------------------------


def test_wrong_parameters_are_answered():
    for given in ({}, {"temperature": 1e-3, "typical_displacement": 1.0}):
        with pytest.raises(ValueError, match="exactly one of"):
            MaxEntropyField.sample((24, 24), cutoff=3, generator=generator(), **given)
    for value in (0.0, -1.0, float("nan"), float("inf"), True, "1"):
        for name in ("temperature", "typical_displacement"):
            with pytest.raises(ValueError, match=f"{name} must be a positive"):
                MaxEntropyField.sample((24, 24), cutoff=3, generator=generator(), **{name: value})
    for size, cutoff in (((24, 40), 24), ((24, 24), 1.4), ((24,), 0.9), ((24, 24), float("nan")), ((24, 24), True)):
        with pytest.raises(ValueError, match="cutoff must be at least"):
            draw(size, cutoff)
    for cutoff in (1.4, float("inf"), True):
        with pytest.raises(ValueError, match="cutoff must be at least"):
            law.temperature_range(32, cutoff)
    for function in (law.temperature, law.typical_displacement, law.root_mean_square):
        for arguments, name in (((0.0, 3.0, 32), ""), ((1e-3, 3.0, 0), "side "), ((1e-3, 3.0, 32, 3), "d ")):
            with pytest.raises(ValueError, match=f"{name}must be"):
                function(*arguments)
    with pytest.raises(TypeError, match="generator"):
        MaxEntropyField.sample((24, 24), cutoff=3, temperature=1e-3, generator=None)


@pytest.mark.parametrize(
    ("coefficients", "modes", "message"),
    [
        (torch.ones(1, 2), torch.tensor([[0, 1]]), "modes must be positive"),
        (torch.ones(1, 2), torch.tensor([[1.0, 1.0]]), "modes must be positive"),
        (torch.ones(1, 1), torch.tensor([[1]]), "modes must be positive"),
        (torch.ones(2, 2), torch.tensor([[1, 2], [1, 2]]), "modes must be all different"),
        (torch.ones(3, 2), torch.tensor([[1, 2], [2, 2]]), "coefficients must have shape"),
    ],
)
def test_wrong_coefficients_are_answered(coefficients, modes, message):
    with pytest.raises(ValueError, match=message):
        MaxEntropyField(coefficients, modes, size=(16, 16))


def test_a_constant_cannot_be_added_in_the_family():
    field = draw((24, 24))
    with pytest.raises(ValueError, match="edge must be"):
        MaxEntropyField(field.coefficients, field.modes, size=(24, 24), edge=-1.0)
    with pytest.raises(ValueError, match="constant"):
        st.control(field, displacement_norm=2.0, jacobian_norm=0.2, shift=(1.0, 0.0))
