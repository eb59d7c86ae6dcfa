import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stability.deformations.domains import Torus
from stability.deformations.fourier import FourierField
from stability.deformations.sum import Sum
from stability.deformations.translation import Translation

ROUND_OFF = 1e-12
SIZES = [(24,), (24, 24), (24, 40)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def fourier(size, seed=0, cutoff=3, batch_shape=(4,)):
    return FourierField.sample(size, cutoff=cutoff, batch_shape=batch_shape, generator=generator(seed))


def translation(size):
    return Translation(torch.randn(4, len(size), generator=generator(9), dtype=torch.float64), size)


def families(size):
    return [fourier(size), translation(size), fourier(size) + translation(size)]


def points(size, *shape):
    return 50 * torch.rand(*shape, len(size), generator=generator(5), dtype=torch.float64) - 10


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("which", range(3))
def test_derivatives_agree_with_automatic_differentiation(size, which):
    field = families(size)[which]
    for point in points(size, 3):
        first = torch.autograd.functional.jacobian(field.displacement, point)
        second = torch.autograd.functional.jacobian(field.jacobian, point)
        torch.testing.assert_close(field.jacobian(point), first, rtol=0, atol=ROUND_OFF)
        torch.testing.assert_close(field.hessian(point), second, rtol=0, atol=ROUND_OFF)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("which", range(3))
def test_shapes_are_batch_then_points_then_components(size, which):
    field, d = families(size)[which], len(size)
    at = points(size, 5, 2)
    assert field.batch_shape == (4,)
    assert field.displacement(at).shape == (4, 5, 2, d)
    assert field.jacobian(at).shape == (4, 5, 2, d, d)
    assert field.hessian(at).shape == (4, 5, 2, d, d, d)
    assert field.mean.shape == (4, d)
    assert field.domain == Torus(size)
    assert (field.d, field.dtype) == (d, torch.float64)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("which", range(3))
def test_fields_are_periodic(size, which):
    field, at = families(size)[which], points(size, 6)
    period = torch.tensor(size[::-1], dtype=torch.float64)
    torch.testing.assert_close(field.displacement(at + period), field.displacement(at), rtol=0, atol=ROUND_OFF)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("first", range(3))
@pytest.mark.parametrize("second", range(3))
def test_fields_form_a_vector_space(size, first, second):
    f, at = families(size)[first], points(size, 6)
    g = [fourier(size, seed=1, cutoff=2), translation(size) * 2.0, fourier(size, seed=2) - translation(size)][second]
    for made, expected in [
        (f + g, f.displacement(at) + g.displacement(at)),
        (f - g, f.displacement(at) - g.displacement(at)),
        (0.5 * f - 2 * (g + f) / 4, -g.displacement(at) / 2),
        (-(f * 3.0), -3 * f.displacement(at)),
    ]:
        torch.testing.assert_close(made.displacement(at), expected, rtol=0, atol=ROUND_OFF)
    torch.testing.assert_close((f + g).mean, f.mean + g.mean, rtol=0, atol=ROUND_OFF)
    torch.testing.assert_close((f + g).jacobian(at), f.jacobian(at) + g.jacobian(at), rtol=0, atol=ROUND_OFF)


def test_one_family_adds_inside_the_family_and_the_modes_are_united():
    f, g = fourier((24, 24), cutoff=3), fourier((24, 24), seed=1, cutoff=2)
    assert isinstance(f + g, FourierField)
    assert len((f + g).modes) == len(f.modes)
    assert isinstance(translation((24, 24)) + translation((24, 24)), Translation)
    mixed = (f + translation((24, 24))) + (g + translation((24, 24)))
    assert isinstance(mixed, Sum)
    assert len(mixed.parts) == 2


def test_modes_of_the_other_half_plane_are_recognised():
    one = torch.ones(1, 2, dtype=torch.float64)
    f = FourierField(torch.tensor([[1, -2]]), one, 2 * one, size=(16, 16))
    g = FourierField(torch.tensor([[-1, 2]]), one, -2 * one, size=(16, 16))
    at = points((16, 16), 6)
    assert len((f + g).modes) == 1
    torch.testing.assert_close((f + g).displacement(at), 2 * f.displacement(at), rtol=0, atol=ROUND_OFF)


@settings(max_examples=15, deadline=None)
@given(factor=st.floats(-10, 10), size=st.sampled_from(SIZES), which=st.integers(0, 2))
def test_norms_are_homogeneous(factor, size, which):
    field = families(size)[which]
    whole, part = field.norms(), (factor * field).norms()
    for name in ("displacement", "jacobian", "hessian", "divergence"):
        expected = abs(factor) * getattr(whole, name).lower
        torch.testing.assert_close(getattr(part, name).lower, expected, rtol=ROUND_OFF, atol=ROUND_OFF)


@pytest.mark.parametrize("factor", [math.nan, math.inf, torch.tensor([1.0, math.nan])], ids=str)
def test_factors_are_finite(factor):
    field = families((24, 24))[0]
    with pytest.raises(ValueError, match="factor must be finite"):
        factor * field
    with pytest.raises(ValueError, match="factor must be finite"):
        field * factor
    with pytest.raises(ValueError, match="factor must be finite"):
        field / (0.0 * torch.as_tensor(factor))


@pytest.mark.parametrize("which", range(3))
def test_a_tensor_factor_adds_leading_axes(which):
    field, at = families((24, 24))[which], points((24, 24), 3)
    factor = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    for scaled in (factor * field, field.scaled(factor)):
        assert scaled.batch_shape == (2, 4)
        torch.testing.assert_close(scaled[1].displacement(at), 2 * field.displacement(at))
        assert scaled.norms().displacement.lower.shape == (2, 4)


@pytest.mark.parametrize("which", range(3))
def test_indexing_selects_fields_and_their_norms(which):
    field, at = families((24, 24))[which], points((24, 24), 3)
    for index in (2, slice(1, 3), torch.tensor([3, 0]), ...):
        torch.testing.assert_close(field[index].displacement(at), field.displacement(at)[index])
        torch.testing.assert_close(field[index].norms().jacobian.lower, field.norms().jacobian.lower[index])
    assert len(list(field)) == 4
    with pytest.raises(IndexError):
        field[0, 0]


@pytest.mark.parametrize("size", SIZES)
def test_the_same_field_at_every_resolution(size):
    fine = fourier(tuple(2 * side for side in size))
    at = points(size, 20)
    assert torch.equal(fine.displacement(2 * at), 2 * fourier(size).displacement(at))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("which", range(3))
def test_refining_keeps_the_field(size, which):
    field, at = families(size)[which], points(size, 20)
    fine = field.refined(3)
    assert fine.size == tuple(3 * side for side in size)
    torch.testing.assert_close(fine.displacement(3 * at), 3 * field.displacement(at), rtol=0, atol=10 * ROUND_OFF)
    torch.testing.assert_close(fine.jacobian(3 * at), field.jacobian(at), rtol=0, atol=ROUND_OFF)
    torch.testing.assert_close(fine.hessian(3 * at), field.hessian(at) / 3, rtol=0, atol=ROUND_OFF)
    torch.testing.assert_close(fine.norms().displacement.lower, 3 * field.norms().displacement.lower)
    torch.testing.assert_close(fine.norms().hessian.upper, field.norms().hessian.upper / 3)


def test_the_amplitude_of_sampled_fields_is_the_documented_one():
    field = FourierField.sample((32, 64), cutoff=3, batch_shape=(2000,), generator=generator())
    energy = field.displacement(points((32, 64), 4)).square().sum(-1).mean(0)
    torch.testing.assert_close(energy, torch.ones(4, dtype=torch.float64), rtol=0.05, atol=0)


@pytest.mark.parametrize("which", range(3))
def test_mean_and_its_removal(which):
    field, at = families((24, 24))[which], points((24, 24), 3)
    centred = field.without_mean()
    assert not centred.mean.any()
    torch.testing.assert_close(centred.displacement(at) + field.mean[:, None], field.displacement(at))
    torch.testing.assert_close(centred.norms().jacobian.lower, field.norms().jacobian.lower)


@pytest.mark.parametrize("which", range(3))
def test_another_type_keeps_the_field(which):
    field, at = families((24, 24))[which], points((24, 24), 3)
    single = field.to(dtype=torch.float32)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.displacement(at.float()).double(), field.displacement(at), rtol=0, atol=1e-4)


def test_gradients_reach_the_coefficients():
    field = fourier((24, 24), batch_shape=())
    cosine = field.cosine.clone().requires_grad_()
    moved = FourierField(field.modes, cosine, field.sine, size=(24, 24)).displacement(points((24, 24), 3))
    moved.sum().backward()
    assert cosine.grad is not None
    assert bool(cosine.grad.any())


@pytest.mark.parametrize("cutoff", [0.5, 12, float("nan"), True])
def test_a_cutoff_out_of_range_is_refused(cutoff):
    with pytest.raises(ValueError, match="cutoff must be"):
        fourier((24, 40), cutoff=cutoff)


def test_wrong_input_is_answered():
    f = fourier((24, 24))
    one = torch.ones(2, 2)
    with pytest.raises(TypeError, match="generator"):
        FourierField.sample((24, 24), cutoff=3, generator=None)
    with pytest.raises(ValueError, match="points must be"):
        f.displacement(torch.rand(3))
    with pytest.raises(ValueError, match="one size"):
        f + Translation((1.0, 0.0), (32, 32))
    with pytest.raises(TypeError, match="Deformation"):
        f + 1.0
    with pytest.raises(ValueError, match="vector must"):
        Translation((1.0,), (32, 32))
    with pytest.raises(ValueError, match="vector must"):
        Translation((float("nan"), 0.0), (32, 32))
    with pytest.raises(ValueError, match="factor must"):
        f.refined(0)
    with pytest.raises(ValueError, match="distinct"):
        FourierField(torch.tensor([[1, 0], [-1, 0]]), one, one, size=(16, 16))
    with pytest.raises(ValueError, match="distinct"):
        FourierField(torch.tensor([[1, 0], [0, 0]]), one, one, size=(16, 16))
    with pytest.raises(ValueError, match="modes must"):
        FourierField(torch.tensor([[1, 0, 0]]), one, one, size=(16, 16))
    with pytest.raises(ValueError, match="cosine and sine"):
        FourierField(torch.tensor([[1, 0]]), one, one, size=(16, 16))
