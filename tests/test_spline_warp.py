"""SplineWarp: interpolation, two independent oracles, order four, derivatives up to the second, broadcasting."""

import itertools
import math

import numpy as np
import pytest
import torch

import stability as st
from stability.warps.b_spline import coefficients as spline_coefficients
from stability.warps.b_spline import tap_polynomials
from stability.warps.error import interpolation_error
from stability.warps.spline import SplineWarp

SIZES = [(2,), (3,), (4,), (9,), (4, 4), (8, 10), (9, 7), (5, 4), (3, 2)]
EXACT = 1e-12


def grid_points(size):
    return st.grid.coordinates(size).flatten(0, -2)


def random_points(size, generator, lead=()):
    """Anywhere, several periods away too."""
    return 20 * torch.randn(*lead, math.prod(size), len(size), generator=generator, dtype=torch.float64)


def periodic_spline(offset, n):
    """beta by its truncated powers, sum_j (-1)^j binom(4, j) (r + 2 - j)_+^3 / 6, over enough periods."""
    value = 0.0
    for period in range(-3, 4):
        r = offset - n * torch.round(offset / n) + n * period
        for j in range(5):
            value = value + (-1) ** j * math.comb(4, j) * (r + 2 - j).clamp_min(0).pow(3) / 6 * (r.abs() < 2)
    return value


def dense_spline(x, points):
    """Collocation matrices inverted by linear algebra, no Fourier transform, no floor: x ``(*size)``, one value a
    point."""
    bases = []
    for axis, n in enumerate(reversed(x.shape)):
        k = torch.arange(n, dtype=torch.float64)
        collocation = periodic_spline(k[:, None] - k, n)
        bases.append(torch.linalg.solve(collocation, periodic_spline(points[:, axis, None] - k, n), left=False))
    return bases[0] @ x if x.ndim == 1 else torch.einsum("px,py,yx->p", *bases, x)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_interpolates(size, generator):
    x = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
    d = len(size)
    assert torch.allclose(SplineWarp()(x, st.Translation((0.0,) * d, size=size)), x, rtol=0, atol=EXACT)
    right = st.Translation((3.0, 0.0)[:d], size=size)
    assert torch.allclose(SplineWarp()(x, right), x.roll(3, -1), rtol=0, atol=EXACT)
    if d == 2:
        down = st.Translation((0.0, -2.0), size=size)
        assert torch.allclose(SplineWarp()(x, down), x.roll(-2, -2), rtol=0, atol=EXACT)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_equals_the_dense_spline(size, generator):
    x = torch.randn(1, *size, generator=generator, dtype=torch.float64)
    points = random_points(size, generator)
    value = SplineWarp().sample(x, points)
    assert torch.allclose(value[0].flatten(), dense_spline(x[0], points), rtol=0, atol=1e-11)


@pytest.mark.parametrize("size", [size for size in SIZES if min(size) >= 4], ids=str)
def test_equals_scipy(size, generator):
    ndimage = pytest.importorskip("scipy.ndimage")
    x = torch.randn(1, *size, generator=generator, dtype=torch.float64)
    points = random_points(size, generator)
    row_first = points.flip(-1).T.numpy()
    truth = ndimage.map_coordinates(x[0].numpy(), row_first, order=3, mode="grid-wrap", prefilter=True)
    value = SplineWarp().sample(x, points)[0].flatten()
    assert np.abs(value.numpy() - truth).max() < 1e-10


def test_weights_are_a_partition_of_unity():
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    weights = torch.stack([sum(float(a) * t**k for k, a in enumerate(tap)) for tap in tap_polynomials(3, 0)])
    k = torch.arange(-1.0, 3.0, dtype=torch.float64)[:, None]
    assert (weights >= -1e-16).all()
    assert torch.allclose(weights.sum(0), torch.ones_like(t), atol=1e-15)
    assert torch.allclose((weights * k).sum(0), t, atol=1e-15)
    assert torch.allclose(weights, periodic_spline(t - k, 1000), atol=1e-14)


def test_the_prefilter_commutes_with_translations_and_keeps_constants(generator):
    x = torch.randn(1, 5, 6, generator=generator, dtype=torch.float64)
    moved = spline_coefficients(x.roll((1, -2), (-2, -1)), 2, 3)
    assert torch.allclose(moved, spline_coefficients(x, 2, 3).roll((1, -2), (-2, -1)), atol=EXACT)
    checkerboard = 1.0 - 2.0 * (st.grid.coordinates((4, 6)).sum(-1) % 2)
    assert torch.allclose(spline_coefficients(checkerboard[None], 2, 3), 9 * checkerboard, atol=EXACT)


@pytest.mark.parametrize("size", [(4,), (9,), (5, 8)], ids=str)
def test_constants_are_preserved(size, generator):
    x = torch.full((1, 2, *size), 0.7, dtype=torch.float64)
    tau = st.FourierField.sample(size, cutoff=1, generator=generator)
    assert torch.allclose(SplineWarp()(x, tau), x, rtol=0, atol=1e-14)


def order(warp, d):
    """Slope of log error over log h for one trigonometric image and one field of the unit torus."""
    sides, errors = (16, 32, 64, 128), []
    for n in sides:
        size = (n,) if d == 1 else (n + 1, n)
        u = grid_points(size)
        period = st.grid.sides(size)
        moved = u / period + 0.1 * torch.sin(2 * math.pi * (u / period).flip(-1) + 0.4)

        def image(v):
            phase = 2 * math.pi * v
            return torch.cos(2 * phase[..., 0] + 0.3) * (1.0 if d == 1 else torch.sin(phase[..., 1] - 1.0))

        x = image(u / period).view(1, *size)
        errors.append((warp.sample(x, moved * period).flatten() - image(moved)).square().mean().sqrt().item())
    return -np.polyfit(np.log(sides), np.log(errors), 1)[0]


@pytest.mark.parametrize("d", [1, 2])
def test_order_four_where_bilinear_has_order_two(d):
    assert 3.7 < order(SplineWarp(), d) < 4.3
    assert 1.7 < order(st.BilinearWarp(), d) < 2.3


def test_gradients_in_the_image_and_in_both(generator):
    x = torch.randn(2, 1, 2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    points = random_points((2, 3), generator).requires_grad_()  # one set of points for two images
    assert torch.autograd.gradcheck(SplineWarp().sample, (x, points))
    assert torch.autograd.gradgradcheck(SplineWarp().sample, (x, points))


def test_the_hessian_is_continuous_across_whole_pixels(generator):
    """Just left, on and just right of a pixel, in float64 and float32."""
    for dtype, near, tolerance in ((torch.float64, 1e-9, 1e-7), (torch.float32, 1e-4, 1e-2)):
        x = torch.randn(1, 8, generator=generator, dtype=torch.float64).to(dtype)

        def second(shift, x=x):
            points = (grid_points((8,)) + shift).requires_grad_()
            (slope,) = torch.autograd.grad(SplineWarp().sample(x, points).sum(), points, create_graph=True)
            return torch.autograd.grad(slope.sum(), points)[0]

        assert second(0.0).abs().max() > 0.1
        for shift in (-near, near):
            assert torch.allclose(second(shift), second(0.0), rtol=0, atol=tolerance)


@pytest.mark.parametrize("d", [1, 2])
def test_gradient_at_the_zero_field_is_minus_the_spectral_derivative(d):
    """Superconvergent: the spline's derivative at the pixels is right to O(h^4), one order better than elsewhere."""
    sides, errors = (16, 32, 64), []
    for n in sides:
        size = (n,) if d == 1 else (n + 3, n)
        u, period = grid_points(size), st.grid.sides(size)
        phase = 2 * math.pi * u / period
        x = torch.cos(2 * phase[:, 0] + 0.3) * (1.0 if d == 1 else torch.sin(phase[:, 1] - 1.0))
        x = x.view(size)
        tau = torch.zeros_like(u, requires_grad=True)
        (slope,) = torch.autograd.grad(SplineWarp().sample(x[None], u - tau).sum(), tau)
        spectrum = torch.fft.fftn(x)
        worst = 0.0
        for axis in range(d):  # x, y
            shape = [1] * d
            shape[d - 1 - axis] = -1
            multiplier = 1j * st.grid.frequencies(size[d - 1 - axis]).view(shape)
            spectral = torch.fft.ifftn(multiplier * spectrum).real.flatten()
            worst = max(worst, (n * (slope[:, axis] + spectral)).abs().max().item())  # per unit torus
        errors.append(worst)
    assert errors[-1] < 1e-3
    assert -np.polyfit(np.log(sides), np.log(errors), 1)[0] > 3


def test_forward_mode_and_vmap_agree_with_reverse_mode(generator):
    size = (4, 5)
    x = torch.randn(1, *size, generator=generator, dtype=torch.float64)
    u = grid_points(size)
    directions = torch.randn(3, *u.shape, generator=generator, dtype=torch.float64)

    def warped(points):
        return SplineWarp().sample(x, points)

    jacobian = torch.autograd.functional.jacobian(warped, u)  # at tau = 0
    pushed = torch.func.vmap(lambda v: torch.func.jvp(warped, (u,), (v,))[1])(directions)
    assert torch.allclose(pushed, torch.einsum("chwpi,npi->nchw", jacobian, directions), atol=EXACT)


def test_batches_broadcast_image_with_field(generator):
    size, warp = (8, 10), SplineWarp()
    x = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
    tau = st.FourierField.sample(size, cutoff=2, batch_shape=(2,), generator=generator)
    paired, product = warp(x, tau), warp(x[:, None], tau)
    assert paired.shape == (2, 3, *size)
    assert product.shape == (2, 2, 3, *size)
    for i, j in itertools.product(range(2), range(2)):
        assert torch.allclose(product[i, j], warp(x[i : i + 1], tau[j])[0], atol=EXACT)
        assert torch.allclose(paired[i], product[i, i], atol=EXACT)
    assert warp(x[:1], tau).shape == (2, 3, *size)
    many = st.FourierField.sample(size, cutoff=2, batch_shape=(2, 2), generator=generator)
    assert torch.allclose(warp(x[:, None], many)[1, 0], warp(x[1:2], many[1, 0])[0], atol=EXACT)


def test_chunks_do_not_show(generator, monkeypatch):
    x = torch.randn(5, 2, 4, 6, generator=generator, dtype=torch.float64)
    points = random_points((4, 6), generator, lead=(5,))
    whole = SplineWarp().sample(x, points)
    monkeypatch.setattr("stability.warps.b_spline.CHUNK_POINTS", 10)
    assert torch.equal(SplineWarp().sample(x, points), whole)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-6), (torch.bfloat16, 5e-2)], ids=str)
def test_dtype_is_kept(dtype, tolerance, generator):
    x = torch.randn(1, 1, 8, 9, generator=generator, dtype=torch.float64).to(dtype)
    tau = st.FourierField.sample((8, 9), cutoff=2, generator=generator)
    y = SplineWarp()(x, tau)
    assert y.dtype == dtype
    assert torch.allclose(y.double(), SplineWarp()(x.double(), tau), rtol=0, atol=tolerance)


def test_far_points_are_the_near_ones_and_lost_points_are_nan(generator):
    x = torch.randn(1, 5, 6, generator=generator, dtype=torch.float64)
    points = torch.rand(30, 2, generator=generator, dtype=torch.float64) * 5
    far = points + torch.tensor([12.0, -10.0], dtype=torch.float64)
    assert torch.allclose(SplineWarp().sample(x, far), SplineWarp().sample(x, points), atol=EXACT)
    just_below = torch.full((30, 2), -1e-18, dtype=torch.float64)
    assert torch.allclose(SplineWarp().sample(x, just_below), x[0, 0, 0], atol=EXACT)
    points[7], points[8, 1] = math.nan, math.inf
    lost = SplineWarp().sample(x, points).flatten().isnan()
    assert lost.nonzero().flatten().tolist() == [7, 8]


def test_its_error_is_far_below_the_bilinear_one(generator):
    x = st.images.load("fashion", count=4, size=(32, 32))
    tau = st.control(st.FourierField.sample((32, 32), cutoff=3, generator=generator), displacement_norm=0.5)
    bilinear = interpolation_error(x, tau, st.BilinearWarp())
    assert (interpolation_error(x, tau, SplineWarp()) < 0.2 * bilinear).all()


def test_wrong_images_are_told(generator):
    tau = st.FourierField.sample((8, 8), cutoff=2, generator=generator)
    with pytest.raises(ValueError, match="finite"):
        SplineWarp()(torch.full((1, 1, 8, 8), math.nan, dtype=torch.float64), tau)
    with pytest.raises(ValueError, match="deformation's grid"):
        SplineWarp()(torch.zeros(1, 1, 8, 9, dtype=torch.float64), tau)


def test_warps_of_one_kind_are_equal():
    assert SplineWarp() == SplineWarp()
    assert SplineWarp().points_per_pixel == 1
