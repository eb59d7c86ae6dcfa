"""Fields with a finite spectrum and a law or an invariant of their own: gradient, divergence-free, Gaussian, mixed."""

import math

import pytest
import torch
from scipy import ndimage

import stability as st
from stability.deformations import gaussian, mixed
from stability.deformations.divergence_free import DivergenceFreeField
from stability.deformations.fourier import FourierField
from stability.deformations.gaussian import GaussianField
from stability.deformations.gradient import GradientField
from stability.deformations.mixed import MixedField
from stability.deformations.series import FourierSeries

ROUND_OFF = 1e-12


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def gradient(size, seed=0, count=4, cutoff=3):
    return GradientField.sample(size, cutoff=cutoff, batch_shape=(count,), generator=generator(seed))


def divergence_free(size, seed=0, count=4, cutoff=3):
    return DivergenceFreeField.sample(size, cutoff=cutoff, batch_shape=(count,), generator=generator(seed))


def smoothed(size, seed=0, count=4, share=1 / 6):
    return GaussianField.sample(size, smoothing=share * min(size), batch_shape=(count,), generator=generator(seed))


def drawn(size, seed=0, count=4, a=None, b=0.3):
    a = min(size) / 16 if a is None else a
    return MixedField.sample(
        size, displacement_norm=a, jacobian_norm=b, batch_shape=(count,), generator=generator(seed)
    )


CASES = [
    (family, size)
    for family in (gradient, divergence_free, smoothed, drawn)
    for size in ((24,), (24, 24), (24, 40))
    if not (family is divergence_free and len(size) == 1)
]
TILTED = [case for case in CASES if case[0] is not drawn]
every_case = pytest.mark.parametrize(("family", "size"), CASES)


def points(size, *shape, seed=5):
    return 50 * torch.rand(*shape, len(size), generator=generator(seed), dtype=torch.float64) - 10


def lattice(size, per_pixel):
    axes = [torch.arange(side * per_pixel, dtype=torch.float64) / per_pixel for side in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1)


def spectral(jacobian):
    return torch.linalg.matrix_norm(jacobian, 2)


def trace(jacobian):
    return jacobian.diagonal(dim1=-2, dim2=-1).sum(-1)


def around(field, centre, radius, count=256):
    """tau, tangents and normals at points of a circle."""
    angle = 2 * math.pi * torch.arange(count, dtype=torch.float64) / count
    normal = torch.stack([angle.cos(), angle.sin()], dim=-1)
    tangent = torch.stack([-angle.sin(), angle.cos()], dim=-1)
    return field.displacement(centre + radius * normal), tangent, normal


# --- laws that all of them obey -----------------------------------------------------------------------------------


@every_case
def test_derivatives_agree_with_automatic_differentiation(family, size):
    field = family(size)
    for point in points(size, 2):
        first = torch.autograd.functional.jacobian(field.displacement, point)
        second = torch.autograd.functional.jacobian(field.jacobian, point)
        torch.testing.assert_close(field.jacobian(point), first, rtol=0, atol=ROUND_OFF)
        torch.testing.assert_close(field.hessian(point), second, rtol=0, atol=ROUND_OFF)


@every_case
def test_norms_are_homogeneous_and_enclose_brute_force(family, size):
    field = family(size)
    dense = lattice(size, 32 if len(size) == 1 else 8)
    jacobian = field.jacobian(dense)
    norms, threefold = field.norms(), (-3 * field).norms()
    for name, values in (
        ("displacement", field.displacement(dense).norm(dim=-1)),
        ("jacobian", spectral(jacobian)),
        ("divergence", trace(jacobian).abs()),
    ):
        brute, interval = values.flatten(1).amax(1), getattr(norms, name)
        slack = 1e-12 * norms.jacobian.lower
        assert bool((brute <= interval.upper + slack).all())
        assert bool((brute <= interval.lower * (1 + 1e-4) + slack).all())
        assert bool((interval.lower <= interval.upper + slack).all())
        torch.testing.assert_close(getattr(threefold, name).lower, 3 * interval.lower)


@every_case
def test_the_same_field_at_every_resolution(family, size):
    fine, coarse, at = family(tuple(2 * side for side in size)), family(size), points(size, 20)
    torch.testing.assert_close(fine.displacement(2 * at), 2 * coarse.displacement(at), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(fine.modes, coarse.modes)


@every_case
def test_operations_stay_in_the_family(family, size):
    field, at = family(size), points(size, 6)
    vector = torch.full((len(size),), 0.3, dtype=torch.float64)
    for made, expected in (
        (-2.0 * field, -2 * field.displacement(at)),
        (field[1:3], field.displacement(at)[1:3]),
        (field.refined(2), 2 * field.displacement(at / 2)),
        (field + family(size, seed=1), field.displacement(at) + family(size, seed=1).displacement(at)),
        (field - 3 * (field / 3), torch.zeros(4, 6, len(size), dtype=torch.float64)),
        (field.shifted(vector), field.displacement(at) + 0.3),
        (field.without_mean(), field.displacement(at) - field.mean[:, None]),
        (field.to(dtype=torch.float32).to(dtype=torch.float64), field.displacement(at)),
    ):
        assert type(made) is type(field)
        torch.testing.assert_close(made.displacement(at), expected, rtol=1e-6, atol=1e-5)
    assert type(field.tilted(torch.tensor(1.0))) is type(field)
    assert type(field + FourierField.sample(size, cutoff=2, generator=generator())) is FourierSeries


@every_case
def test_a_field_is_made_again_from_its_state_bit_by_bit(family, size):
    for field in (family(size), family(size).to(dtype=torch.float32), (family(size) - family(size, seed=3)).refined(3)):
        tensors, settings = field.state()
        again = type(field)(**tensors, **settings)
        assert again.size == field.size
        assert all(torch.equal(again.state()[0][name], value) for name, value in tensors.items())


@pytest.mark.parametrize(("family", "size"), TILTED)
def test_both_norms_are_met_from_below_in_the_family(family, size):
    field = family(size, count=3)
    ratio = 3.0 * math.pi / min(size)
    found = st.control(field, displacement_norm=1.5, jacobian_norm=1.5 * ratio)
    assert type(found) is type(field)
    norms = found.norms()
    for seen, target in ((norms.displacement.lower, 1.5), (norms.jacobian.lower, 1.5 * ratio)):
        assert bool((seen <= target).all())
        assert bool((seen >= target * (1 - 1e-5)).all())
    jacobian = found.jacobian(points(size, 20))
    if family is gradient:
        torch.testing.assert_close(jacobian, jacobian.mT, rtol=0, atol=1e-13)
    if family is divergence_free:
        torch.testing.assert_close(trace(jacobian), torch.zeros(3, 20, dtype=torch.float64), rtol=0, atol=1e-13)
        assert not norms.divergence.upper.any()


@pytest.mark.parametrize("size", [(32,), (32, 32), (32, 64)])
@pytest.mark.parametrize("family", [gradient, divergence_free, smoothed])
def test_the_amplitude_is_the_documented_one(family, size):
    if family is divergence_free and len(size) == 1:
        return
    field = family(size, count=3000)
    energy = field.displacement(points(size, 4)).square().sum(-1)
    error = energy.std(0) / math.sqrt(3000)
    assert bool(((energy.mean(0) - 1).abs() <= 4.5 * error).all())
    assert bool((error < 0.05).all())


# --- gradient and divergence-free fields --------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(24, 24), (24, 40)])
def test_they_are_the_two_parts_of_one_field(size):
    at = points(size, 10)
    whole = FourierField.sample(size, cutoff=3, batch_shape=(4,), generator=generator())
    parts = gradient(size) + divergence_free(size)
    torch.testing.assert_close(
        parts.displacement(at), math.sqrt(2) * whole.displacement(at), rtol=0, atol=10 * ROUND_OFF
    )


@pytest.mark.parametrize("size", [(24, 24), (24, 40)])
def test_gradients_do_not_circulate_and_the_others_do_not_flow_out(size):
    centre = torch.tensor([3.0, 5.0], dtype=torch.float64)
    for field, circulates, flows in (
        (gradient(size), False, True),
        (divergence_free(size), True, False),
        (FourierField.sample(size, cutoff=3, batch_shape=(4,), generator=generator()), True, True),
    ):
        tau, tangent, normal = around(field.shifted(torch.ones(2, dtype=torch.float64)), centre, 4.0)
        for direction, wanted in ((tangent, circulates), (normal, flows)):
            integral = (tau * direction).sum(-1).mean(-1).abs()
            assert bool((integral > 1e-4).all() if wanted else (integral < 1e-13).all())


@pytest.mark.parametrize("size", [(24,), (24, 24), (24, 40)])
def test_the_jacobian_of_a_gradient_is_symmetric(size):
    for field in (gradient(size), gradient(size).refined(2), gradient(size) - 0.999 * gradient(size, cutoff=2)):
        jacobian = field.jacobian(points(size, 50))
        torch.testing.assert_close(jacobian, jacobian.mT, rtol=0, atol=1e-13)
    if len(size) == 1:
        at = points(size, 5)
        whole = FourierField.sample(size, cutoff=3, batch_shape=(4,), generator=generator())
        torch.testing.assert_close(gradient(size).displacement(at), whole.displacement(at))


@pytest.mark.parametrize("size", [(24, 24), (24, 40)])
def test_divergence_free_fields_keep_areas_to_first_order(size):
    field = 0.7 * divergence_free(size).tilted(torch.tensor(1.0, dtype=torch.float64)).refined(2)
    for one in (field, field[1:], field + field, field.shifted(torch.ones(2, dtype=torch.float64))):
        assert not one.norms().divergence.upper.any()
        assert one.norms().divergence.lower.shape == one.batch_shape
    jacobian = field.jacobian(points(size, 50))
    determinant = torch.linalg.det(torch.eye(2, dtype=torch.float64) - jacobian)
    torch.testing.assert_close(determinant, 1 + torch.linalg.det(jacobian), rtol=0, atol=1e-13)
    assert bool((determinant - 1).abs().amax() > 1e-2)


def test_coefficients_of_the_wrong_direction_are_refused_and_round_off_is_removed():
    modes = torch.tensor([[1, 0], [2, 3]])
    omega = modes / torch.tensor([40.0, 24.0], dtype=torch.float64)
    across = torch.stack([-omega[:, 1], omega[:, 0]], dim=-1)
    for family, good, bad, word in (
        (GradientField, omega, across, "parallel"),
        (DivergenceFreeField, across, omega, "perpendicular"),
    ):
        for share in (1.0, 2e-9):
            with pytest.raises(ValueError, match=f"{word} to .*use {family.__name__}.sample"):
                family(modes, good + share * bad, good, size=(24, 40))
        cleaned = family(modes, good + 1e-10 * bad, good, size=(24, 40)).cosine
        assert float((cleaned * bad).sum(-1).abs().max()) < 1e-15
        single = family(modes, good.float(), good.float(), size=(24, 40))
        assert single.dtype == torch.float32
        with pytest.raises(ValueError, match=word):
            family(modes, (good + 1e-4 * bad).float(), good.float(), size=(24, 40))
        for zero in (0.0 * good, good[:0]):
            assert not family(modes[: len(zero)], zero, zero, size=(24, 40)).norms().displacement.upper.any()


def test_gradients_reach_the_coefficients():
    for family in (gradient, divergence_free):
        field = family((24, 24), count=1)
        cosine = field.cosine.clone().requires_grad_()
        moved = type(field)(field.modes, cosine, field.sine, size=(24, 24)).displacement(points((24, 24), 3))
        moved.sum().backward()
        assert bool(cosine.grad.any())


def test_divergence_free_fields_need_a_plane():
    with pytest.raises(ValueError, match=r"size must be \(H, W\)"):
        DivergenceFreeField.sample((24,), cutoff=3, generator=generator())
    one = torch.ones(1, 1)
    with pytest.raises(ValueError, match=r"size must be \(H, W\)"):
        DivergenceFreeField(torch.tensor([[1]]), one, one, size=(24,))


@pytest.mark.parametrize("family", [GradientField, DivergenceFreeField])
def test_wrong_arguments_of_a_band_limited_sample_are_answered(family):
    with pytest.raises(ValueError, match="cutoff must be"):
        family.sample((24, 24), cutoff=12, generator=generator())
    with pytest.raises(TypeError, match="generator"):
        family.sample((24, 24), cutoff=3, generator=None)


# --- Gaussian-smoothed noise --------------------------------------------------------------------------------------


def autocorrelations(values, d):
    """Mean over positions of values(u) values(u + v) for all shifts v of the pixel grid, per field and component."""
    transform = torch.fft.fftn(values, dim=tuple(range(-d, 0)))
    return torch.fft.ifftn(transform.abs().square(), dim=tuple(range(-d, 0))).real / math.prod(values.shape[-d:])


def scores(smoothing, filtered_with, size, count=4000):
    """Deviation from the covariance of scipy's filtered white noise in standard errors, for all shifts."""
    d = len(size)
    impulse = torch.zeros(size, dtype=torch.float64)
    impulse[(0,) * d] = 1.0
    response = torch.from_numpy(ndimage.gaussian_filter(impulse.numpy(), filtered_with, mode="wrap", truncate=8.0))
    expected = autocorrelations(response - response.mean(), d)
    expected = expected / expected[(0,) * d] * (min(size) / 32) ** 2 / d
    field = GaussianField.sample(size, smoothing=smoothing, batch_shape=(count,), generator=generator(2))
    seen = autocorrelations(field.on_grid().movedim(-1, 1).flatten(0, 1), d)  # components are independent fields
    return (seen.mean(0) - expected) / (seen.std(0) / math.sqrt(len(seen)))


@pytest.mark.parametrize(("size", "smoothing"), [((24,), 2.5), ((16, 16), 2.0), ((12, 20), 2.5), ((16,), 4.0)])
def test_the_covariance_is_that_of_filtered_white_noise(size, smoothing):
    assert float(scores(smoothing, smoothing, size).abs().max()) < 4.5


def test_another_smoothing_has_another_covariance():
    assert float(scores(2.0, 2.2, (16, 16)).abs().max()) > 10


def test_scipys_own_noise_has_the_same_spread_as_the_field():
    noise = torch.randn(2000, 16, 16, generator=generator(4), dtype=torch.float64).numpy()
    filtered = torch.from_numpy(ndimage.gaussian_filter(noise, (0, 2.5, 2.5), mode="wrap", truncate=8.0))
    filtered = filtered - filtered.mean((1, 2), keepdim=True)
    field = GaussianField.sample((16, 16), smoothing=2.5, batch_shape=(2000,), generator=generator(5)).on_grid()[..., 0]
    ratios = [(value - value.roll(4, -1)).square().mean((1, 2)) / value.square().mean() for value in (filtered, field)]
    error = sum(ratio.var() / len(ratio) for ratio in ratios) ** 0.5
    assert abs(float(ratios[0].mean() - ratios[1].mean())) < 4.5 * float(error)


@pytest.mark.parametrize("size", [(16,), (64,), (24, 24), (24, 48)])
@pytest.mark.parametrize("share", [0.13, 0.3, 0.6, 0.9])
def test_what_is_cut_is_below_the_documented_share(size, share):
    smoothing = share * min(size)
    kept = GaussianField.sample(size, smoothing=smoothing, generator=generator()).modes
    reach = [4 * int(part) + 8 for part in kept.abs().amax(0)]
    every = torch.cartesian_prod(*[torch.arange(-k, k + 1) for k in reach]).reshape(-1, len(size))
    squared = (2 * math.pi * every / torch.tensor(size[::-1], dtype=torch.float64)).square().sum(-1)
    weight = (-(smoothing**2) * squared / 2).exp()
    weight[squared == 0] = 0.0
    there = (every[:, None] == torch.cat([kept, -kept])).all(-1).any(-1)
    cut, spectrum = weight[~there], weight[there].norm()
    assert float(weight[there].min()) >= 1e-8 * float(weight.max()) * (1 - 1e-9) > 0
    assert float(cut.max()) < 1e-8 * float(weight.max())
    assert float(cut.norm() / spectrum) < 2e-8
    # one pair of modes k, -k with coefficients (a, b): sup <= |(a, b)|, in expectation at most sqrt(2 d) w
    assert float(cut.sum() / 2 * math.sqrt(2) / (spectrum / math.sqrt(2))) < 1e-8 * (3 + max(size) / smoothing)


def test_tilting_is_another_smoothing():
    field = smoothed((32, 32), share=1 / 8)
    highest = field.frequencies.square().sum(-1).max()
    theta = torch.tensor(-20.0, dtype=torch.float64)
    squared = 16.0 - 2 * float(theta / highest)
    other = GaussianField.sample((32, 32), smoothing=math.sqrt(squared), batch_shape=(4,), generator=generator())
    place = (field.modes[:, None] == other.modes).all(-1)
    tilted, narrow = field.tilted(theta).cosine[:, place.any(1)], field.cosine[:, place.any(1)]
    omega = field.frequencies[place.any(1)].square().sum(-1)[:, None]
    shape = tilted / narrow * (-8.0 * omega).exp() / (-squared / 2 * omega).exp()
    torch.testing.assert_close(shape, shape[:1, :1, :1].expand_as(shape))


@pytest.mark.parametrize(
    ("size", "smoothing", "advised"),
    [((32, 32), 1.0, 1.94), ((32,), 1.9, 1.94), ((512, 512), 4.0, 9.69), ((24, 200), 1.0, 1.94)],
)
def test_too_fine_noise_is_refused_with_what_to_choose(size, smoothing, advised):
    with pytest.raises(ValueError, match=f"smoothing must be at least {advised:g} px"):
        GaussianField.sample(size, smoothing=smoothing, generator=generator())
    modes = GaussianField.sample(size, smoothing=advised, generator=generator()).modes
    assert len(modes) <= 1.02 * gaussian.MOST_MODES


def test_constant_noise_and_senseless_smoothing_are_refused():
    with pytest.raises(ValueError, match=r"smoothing must be at most 30.91 px .*use smoothing=4"):
        GaussianField.sample((32, 32), smoothing=31.0, generator=generator())
    assert len(GaussianField.sample((32, 32), smoothing=30.9, generator=generator()).modes) >= 2
    for value in (0.0, -1.0, float("nan"), float("inf"), True, "4"):
        with pytest.raises(ValueError, match="smoothing must be a positive number"):
            GaussianField.sample((32, 32), smoothing=value, generator=generator())
    with pytest.raises(TypeError, match="generator"):
        GaussianField.sample((32, 32), smoothing=4.0, generator=None)


# --- the mixed law ------------------------------------------------------------------------------------------------

LARGE = 1200


@pytest.fixture(scope="module")
def many():
    return drawn((32, 32), count=LARGE, seed=7, a=2.0, b=0.25)


def shares(values, expected):
    """That each expected value is taken by an equal share of the fields."""
    which = (values[:, None] - torch.tensor(expected, dtype=torch.float64)).abs()
    assert bool((which.amin(1) < 1e-9).all())
    counts = torch.bincount(which.argmin(1), minlength=len(expected)) / len(values)
    p = 1 / len(expected)
    assert bool(((counts - p).abs() <= 4.5 * math.sqrt(p * (1 - p) / len(values))).all())


def amplitudes(field):
    """|a_k| per component, ``(n, M, d)``."""
    return (field.cosine.square() + field.sine.square()).sqrt()


def test_one_norm_of_a_mixed_field_is_attained_and_none_exceeded(many):
    norms = many.norms()
    shortfalls = torch.stack([1 - norms.displacement.lower / 2.0, 1 - norms.jacobian.lower / 0.25])
    assert bool((shortfalls >= 0).all())
    assert bool((shortfalls.amin(0) <= 2e-9).all())
    assert bool(((shortfalls <= 2e-9).sum(1) > LARGE / 10).all())  # each of the two binds often


def test_cutoffs_spectra_and_constants_of_the_mixed_law_are_evenly_drawn(many):
    radius = many.modes.to(torch.float64).norm(dim=-1)
    size = amplitudes(many)
    torch.testing.assert_close(size[..., 0], size[..., 1])
    present = size[..., 0] > 0
    cutoff = torch.where(present, radius, 0.0).amax(1)
    largest = [max(float(r) for r in radius if r <= c) for c in mixed.CUTOFFS]
    shares(cutoff, largest)
    assert bool((present == (radius <= cutoff[:, None])).all())
    first = torch.where(present, radius, torch.inf).argmin(1)
    last = torch.where(present, radius, 0.0).argmax(1)
    row = torch.arange(LARGE)
    many_shells = cutoff > 1
    power = (size[row, first, 0] / size[row, last, 0]).log() / (radius[last] / radius[first]).log()
    shares(power[many_shells], [0.0, 1.0])
    expected = size[row, first, 0][:, None] * torch.where(power > 0.5, 1.0, 0.0)[:, None].mul(radius.log()).neg().exp()
    torch.testing.assert_close(size[many_shells, :, 0], (expected * present)[many_shells])
    root_mean_square = (size.square().sum((1, 2)) / 2).sqrt()
    shares(many.mean.norm(dim=-1) / root_mean_square, list(mixed.CONSTANTS))


def test_phases_and_directions_of_the_mixed_law_are_uniform(many):
    lowest = many.modes.abs().sum(-1).argmin()  # a mode that all fields have
    phase = torch.complex(many.cosine, -many.sine)[:, lowest]
    phase = phase / phase.abs()
    direction = torch.view_as_complex(many.mean[many.mean.norm(dim=-1) > 0].contiguous())
    direction = direction / direction.abs()
    for values in (phase[:, 0], phase[:, 1], phase[:, 0] * phase[:, 1].conj(), direction):
        for power in (1, 2):
            assert float((values**power).mean().abs()) < 4.5 / math.sqrt(len(values))


def test_only_cutoffs_that_fit_are_drawn():
    field = drawn((8, 30), count=200)
    radius = (field.modes * torch.tensor([8 / 30, 1.0], dtype=torch.float64)).norm(dim=-1)
    cutoff = torch.where(amplitudes(field)[..., 0] > 0, radius, 0.0).amax(1)
    assert float(cutoff.max()) <= 3.0
    shares(cutoff, [max(float(r) for r in radius if r <= c) for c in (1, 2, 3)])
    with pytest.raises(ValueError, match="at least 3 pixels"):
        drawn((2, 32))


def test_targets_of_the_mixed_law_broadcast():
    a = torch.tensor([[0.5], [2.0]], dtype=torch.float64)
    field = drawn((24, 24), count=3, a=a, b=0.4)
    assert field.batch_shape == (2, 3)
    assert bool((field.norms().displacement.lower <= a).all())
    shape = field.cosine[1] / field.cosine[0]
    shape = shape[torch.isfinite(shape)]
    assert bool((shape > 1 - 1e-9).all() & (shape < 4 + 1e-9).all())
    assert drawn((24, 24), a=1.0).batch_shape == (4,)
    single = MixedField.sample((24, 24), displacement_norm=1.0, jacobian_norm=0.1, generator=generator())
    assert single.batch_shape == ()


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (0.0, 0.1, "displacement_norm must be positive"),
        (1.0, float("nan"), "jacobian_norm must be positive"),
        (1.0, -0.1, "jacobian_norm must be positive"),
        (torch.ones(3), 0.1, "displacement_norm must broadcast"),
    ],
)
def test_wrong_targets_of_the_mixed_law_are_answered(a, b, message):
    with pytest.raises(ValueError, match=message):
        drawn((24, 24), a=a, b=b)


def test_mixed_fields_are_controlled_without_their_mean():
    field = drawn((24, 24))
    with pytest.raises(ValueError, match="mean must be 0"):
        st.control(field[field.mean.norm(dim=-1) > 0], displacement_norm=1.0, jacobian_norm=0.4)
    found = st.control(field.without_mean(), jacobian_norm=0.4)
    assert isinstance(found, MixedField)
    assert bool((found.norms().jacobian.lower <= 0.4).all())
