"""Warps: identity, sign, exactness, projection, broadcasting, gradients, refusals."""

import math

import pytest
import torch

import stability as st
from stability.warps.band_limited import refine
from stability.warps.error import interpolation_error
from stability.warps.evaluation import evaluate
from stability.warps.trigonometric import basis

WARPS = [
    st.BandLimitedWarp(),
    st.BandLimitedWarp(oversample=1),
    st.BilinearWarp(),
    st.IndexWarp(),
    st.SplineWarp(),
]
EXACT = 1e-12


def trigonometric(points, size, coefficients):
    """A trigonometric image by its definition: sum of a cos(2 pi k.u / N + phase)."""
    value = torch.zeros(points.shape[:-1], dtype=torch.float64)
    for amplitude, phase, *k in coefficients:
        angle = sum(2 * math.pi * m * points[..., i] / n for i, (m, n) in enumerate(zip(k, size[::-1], strict=True)))
        value = value + amplitude * torch.cos(angle + phase)
    return value


CASES = [
    ((13,), [(1.0, 0.3, 2), (0.5, 1.0, 6), (0.7, 0.0, 0)]),
    ((16,), [(1.0, 0.3, 7), (0.5, 1.0, 3)]),
    ((8, 12), [(1.0, 0.3, 5, -3), (0.5, 1.0, 0, 2), (0.3, 2.0, 1, 1), (0.2, 0.0, 0, 0)]),
    ((11, 9), [(1.0, 0.3, 4, -5), (0.5, 1.0, 3, 2)]),
]


@pytest.mark.parametrize(("size", "coefficients"), CASES, ids=str)
def test_band_limited_warp_reproduces_trigonometric_images(size, coefficients, generator):
    u = st.grid.coordinates(size)
    x = trigonometric(u, size, coefficients)[None, None]
    tau = st.FourierField.sample(size, cutoff=2, batch_shape=(1,), generator=generator)
    truth = trigonometric(u - tau.displacement(u)[0], size, coefficients)
    assert torch.allclose(st.BandLimitedWarp(oversample=1)(x, tau)[0, 0], truth, atol=EXACT)


@pytest.mark.parametrize(("size", "coefficients"), CASES, ids=str)
def test_projection_is_the_l2_projection(size, coefficients):
    """Fourier coefficients of L_tau x by a quadrature 16 times as fine, kept below the Nyquist frequency."""
    x = trigonometric(st.grid.coordinates(size), size, coefficients)[None, None]
    rng = torch.Generator().manual_seed(1)
    tau = st.control(st.FourierField.sample(size, cutoff=1, generator=rng), jacobian_norm=0.2)
    warped = st.BandLimitedWarp(oversample=8)(x, tau)
    fine = st.grid.coordinates(size, oversample=16)
    exact = trigonometric(fine - tau.displacement(fine), size, coefficients)
    axes = tuple(range(len(size)))
    spectrum = torch.fft.fftn(exact, dim=axes) / 16 ** len(size)
    for axis, n in enumerate(size):
        keep = [*range((n - 1) // 2 + 1), *range(-((n - 1) // 2), 0)]
        spectrum = spectrum.index_select(axis, torch.tensor(keep) % spectrum.shape[axis])
    ours = torch.fft.fftn(warped[0, 0], dim=axes)
    for axis, n in enumerate(size):
        keep = [*range((n - 1) // 2 + 1), *range(-((n - 1) // 2), 0)]
        ours = ours.index_select(axis, torch.tensor(keep) % n)
    assert torch.allclose(ours, spectrum, atol=1e-9 * math.prod(size))
    assert st.grid.nyquist_share(warped).item() < 1e-13


@pytest.mark.parametrize("warp", WARPS, ids=repr)
@pytest.mark.parametrize("size", [(9,), (8,), (8, 10), (9, 7)], ids=str)
def test_zero_field_is_the_identity_and_a_translation_moves_right(warp, size, generator):
    x = st.grid.band_limit(torch.randn(2, 3, *size, generator=generator, dtype=torch.float64))
    d = len(size)
    still = st.Translation((0.0,) * d, size=size)
    assert torch.allclose(warp(x, still), x, atol=EXACT)
    right = st.Translation((3.0, 0.0)[:d], size=size)
    assert torch.allclose(warp(x, right), x.roll(3, -1), atol=EXACT)
    if d == 2:
        down = st.Translation((0.0, -2.0), size=size)
        assert torch.allclose(warp(x, down), x.roll(-2, -2), atol=EXACT)


def test_translations_are_isometries_on_band_limited_images(generator):
    x = st.grid.band_limit(torch.randn(1, 1, 8, 8, generator=generator, dtype=torch.float64))
    v = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    moved = st.BandLimitedWarp()(x, st.Translation(v, size=(8, 8)))
    assert torch.allclose(moved.flatten(1).norm(dim=1), x.norm().expand(5), rtol=1e-13)
    back = st.BandLimitedWarp()(moved, st.Translation(-v, size=(8, 8)))
    assert torch.allclose(back, x.expand_as(back), atol=EXACT)


@pytest.mark.parametrize("warp", WARPS, ids=repr)
def test_batches_broadcast_image_with_field(warp, generator):
    size = (8, 10)
    x = st.grid.band_limit(torch.randn(2, 3, *size, generator=generator, dtype=torch.float64))
    tau = st.FourierField.sample(size, cutoff=2, batch_shape=(2,), generator=generator)
    paired = warp(x, tau)
    product = warp(x[:, None], tau)
    assert paired.shape == (2, 3, *size)
    assert product.shape == (2, 2, 3, *size)
    for i in range(2):
        assert torch.allclose(paired[i], product[i, i], atol=EXACT)
        for j in range(2):
            assert torch.allclose(product[i, j], warp(x[i : i + 1], tau[j])[0], atol=EXACT)
    assert warp(x[:1], tau).shape == (2, 3, *size)
    many = st.FourierField.sample(size, cutoff=2, batch_shape=(2, 2), generator=generator)
    assert torch.allclose(warp(x[:, None], many)[1, 0], warp(x[1:2], many[1, 0])[0], atol=EXACT)


@pytest.mark.parametrize("warp", WARPS, ids=repr)
def test_dtype_is_kept(warp, generator):
    x = st.grid.band_limit(torch.randn(1, 1, 8, 8, generator=generator))
    tau = st.FourierField.sample((8, 8), cutoff=2, generator=generator)
    y = warp(x, tau)
    assert y.dtype == torch.float32
    assert torch.allclose(y.double(), warp(st.grid.band_limit(x.double()), tau), atol=2e-5)


def test_bilinear_warp_is_bilinear_and_periodic(generator):
    x = torch.randn(1, 1, 4, 4, generator=generator, dtype=torch.float64)
    y = st.BilinearWarp()(x, st.Translation((-0.25, 3.5), size=(4, 4)))
    truth = 0.5 * (x.roll(3, -2) + x.roll(4, -2))
    truth = 0.75 * truth + 0.25 * truth.roll(-1, -1)
    assert torch.allclose(y, truth, atol=1e-14)


def test_index_warp_takes_the_nearest_pixel(generator):
    x = torch.randn(1, 1, 6, generator=generator, dtype=torch.float64)
    for shift, whole in ((0.4, 0), (0.6, 1), (-0.6, -1), (5.9, 6)):
        y = st.IndexWarp()(x, st.Translation((shift,), size=(6,)))
        assert torch.equal(y, x.roll(whole, -1))


def test_basis_is_orthonormal_for_even_and_odd_sides():
    for n in (2, 3, 8, 9):
        b = basis(torch.arange(float(n), dtype=torch.float64), n, st.Periodic()).T
        assert torch.allclose(b.T @ b, torch.eye(b.shape[1], dtype=torch.float64), atol=1e-14)


def test_refined_image_is_the_same_function(generator):
    x = st.grid.band_limit(torch.randn(2, 1, 8, 9, generator=generator, dtype=torch.float64))
    fine = refine(x, 3, 2)
    assert torch.allclose(fine[..., ::3, ::3], x, atol=EXACT)
    u = st.grid.coordinates((8, 9), oversample=3).flatten(0, -2)
    assert torch.allclose(evaluate(x, u).view_as(fine), fine, atol=EXACT)


def test_gradients_in_image_and_field(generator):
    x = st.grid.band_limit(torch.randn(1, 1, 5, 6, generator=generator, dtype=torch.float64)).requires_grad_()
    points = (torch.rand(1, 30, 2, generator=generator, dtype=torch.float64) * 5).requires_grad_()
    warp = st.BandLimitedWarp(oversample=1)
    assert torch.autograd.gradcheck(lambda p: warp.sample(x, p), (points,))

    def of_image(z):
        return warp.sample(st.grid.band_limit(z), points.detach())

    assert torch.autograd.gradcheck(of_image, (x,))


@pytest.mark.parametrize("sigma", [1.0, None])
def test_interpolation_error_is_what_the_projection_loses(sigma, generator):
    """Second route: the distance of exact samples, on a grid four times as fine, from the projection."""
    x = st.images.load("fashion", count=2, size=(16, 16))
    tau = st.control(
        st.FourierField.sample((16, 16), cutoff=2, batch_shape=(2,), generator=generator), jacobian_norm=0.3
    )
    error = interpolation_error(x, tau, st.BandLimitedWarp(), antialiasing=sigma)
    exact = st.BandLimitedWarp(oversample=8)(refine(x, 4, 2), tau.refined(4))
    lost = exact - refine(st.BandLimitedWarp()(x, tau), 4, 2)
    blurred = st.LinearGram(st.Architecture((st.Layer(1, 0.0),), sigma)).refined(4)
    assert torch.allclose(error, blurred.norm(lost), rtol=1e-3, atol=1e-12)
    assert interpolation_error(x, st.Translation((0.3, 0.2), size=(16, 16)), st.BandLimitedWarp()).max() < 1e-12


def test_interpolation_error_is_no_less_than_the_network_can_see(generator):
    """On the grid ||W x - Q L_tau x||, Nyquist mode in full, is part of it; for index maps of noise nearly all."""
    x = st.grid.band_limit(torch.randn(1, 1, 8, generator=generator, dtype=torch.float64))
    for shift in torch.rand(20, generator=generator, dtype=torch.float64).tolist():
        tau = st.Translation((shift,), size=(8,))
        seen = (st.IndexWarp()(x, tau) - st.BandLimitedWarp()(x, tau)).norm()
        assert interpolation_error(x, tau, st.IndexWarp(), antialiasing=None) >= seen * (1 - 1e-12)


def test_bilinear_error_dwarfs_the_exact_one(generator):
    x = st.images.load("fashion", count=2, size=(32, 32))
    tau = st.control(st.FourierField.sample((32, 32), cutoff=3, generator=generator), displacement_norm=0.5)
    errors = [interpolation_error(x, tau, warp, antialiasing=1.0) for warp in WARPS]
    assert (errors[2] > 20 * errors[0]).all()
    assert (errors[3] > errors[2]).all()


@pytest.mark.parametrize("warp", WARPS, ids=repr)
def test_wrong_images_are_told(warp, generator):
    tau = st.FourierField.sample((8, 8), cutoff=2, generator=generator)
    with pytest.raises(ValueError, match="finite"):
        warp(torch.full((1, 1, 8, 8), math.nan, dtype=torch.float64), tau)
    with pytest.raises(ValueError, match="deformation's grid"):
        warp(torch.zeros(1, 1, 8, 9, dtype=torch.float64), tau)


def test_images_with_nyquist_content_are_refused_by_the_exact_warp_only(generator):
    x = torch.randn(1, 1, 8, 8, generator=generator, dtype=torch.float64)
    tau = st.FourierField.sample((8, 8), cutoff=2, generator=generator)
    with pytest.raises(ValueError, match=r"st\.grid\.band_limit"):
        st.BandLimitedWarp()(x, tau)
    assert torch.isfinite(st.BilinearWarp()(x, tau)).all()
    with pytest.raises(ValueError, match="oversample"):
        st.BandLimitedWarp(oversample=0)


@pytest.mark.parametrize("warp", [st.SplineWarp(), st.BilinearWarp(), st.IndexWarp(), st.BandLimitedWarp()], ids=repr)
def test_batches_that_do_not_fit_and_integers_are_told(warp, generator):
    fields = st.FourierField.sample((12, 10), cutoff=2, batch_shape=(3,), generator=generator)
    with pytest.raises(ValueError, match=r"batches must broadcast, got shapes \(2,\), \(3,\)"):
        warp(torch.zeros(2, 1, 12, 10), fields)
    with pytest.raises(ValueError, match=r"batches must broadcast, got shapes \(2,\), \(3,\)"):
        fields[:2] + fields
    with pytest.raises(ValueError, match="images must be floating point"):
        interpolation_error(torch.zeros(3, 1, 12, 10, dtype=torch.int64), fields, warp)
