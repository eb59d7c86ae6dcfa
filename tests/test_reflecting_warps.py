"""Warps that reflect: scipy's look-ups and cosine transform, derivatives, the identity, exactness and order."""

import itertools
import math

import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
import torch

import stability as st
from stability.warps.band_limited import project, refine
from stability.warps.base import nodes, unfold
from stability.warps.error import interpolation_error
from stability.warps.evaluation import evaluate
from stability.warps.trigonometric import basis

REFLECT = st.Reflect()
WARPS = [
    st.BandLimitedWarp(boundary=REFLECT),
    st.BandLimitedWarp(oversample=1, boundary=REFLECT),
    st.BilinearWarp(REFLECT),
    st.IndexWarp(REFLECT),
    st.SplineWarp(REFLECT),
]
POINTWISE = WARPS[1:]
SIZES = [(9,), (8,), (8, 10), (9, 7)]
EXACT = 1e-12


def random_points(size, generator, lead=()):
    """Anywhere, several mirror images away too."""
    return 20 * torch.randn(*lead, math.prod(size), len(size), generator=generator, dtype=torch.float64)


def window_field(size, generator, cutoff=2, count=2, **norm):
    field = st.CompactField.sample(size, cutoff=cutoff, batch_shape=(count,), generator=generator)
    return st.control(field, **(norm or {"jacobian_norm": 0.3}))


@pytest.mark.parametrize(
    ("warp", "order", "size", "tolerance"),
    [
        # scipy starts the spline's recursive filter with an error of about .27^(2 N)
        *((st.SplineWarp(REFLECT), 3, size, 1e-10) for size in [(16,), (24,), (16, 17)]),
        *((st.BilinearWarp(REFLECT), 1, size, 1e-13) for size in [(4,), (9,), (8, 10), (3, 5)]),
        *((st.IndexWarp(REFLECT), 0, size, 0.0) for size in [(4,), (9,), (8, 10), (3, 5)]),
    ],
    ids=str,
)
def test_equals_scipy(warp, order, size, tolerance, generator):
    x = torch.randn(1, *size, generator=generator, dtype=torch.float64)
    points = random_points(size, generator)
    truth = scipy.ndimage.map_coordinates(x[0].numpy(), points.flip(-1).T.numpy(), order=order, mode="reflect")
    assert np.abs(warp.sample(x, points)[0].flatten().numpy() - truth).max() <= tolerance


@pytest.mark.parametrize("size", [*SIZES, (2,), (3, 2)], ids=str)
def test_the_spline_interpolates_on_small_windows_too(size, generator):
    """Where scipy's filter is not exact: the even spline is determined by its values at the pixels and its evenness."""
    x = torch.randn(1, 2, *size, generator=generator, dtype=torch.float64)
    u = nodes(size, 1, REFLECT)
    warp = st.SplineWarp(REFLECT)
    assert torch.allclose(warp.sample(x, u), x, rtol=0, atol=EXACT)
    at = random_points(size, generator)
    for axis, side in enumerate(reversed(size)):
        mirrored = at.clone()
        mirrored[:, axis] = 2 * side - 1 - at[:, axis]
        assert torch.allclose(warp.sample(x, mirrored), warp.sample(x, at), rtol=0, atol=EXACT)


def cosine_series(x, points):
    """The cosine interpolant of a window image ``(*size)`` by its definition, coefficients from scipy's transform."""
    coefficients = torch.from_numpy(scipy.fft.dctn(x.numpy(), type=2, norm="ortho"))
    for axis in range(x.ndim):
        n, u = x.shape[axis], points[:, x.ndim - 1 - axis]
        k = torch.arange(n, dtype=torch.float64)
        b = torch.cos(math.pi / n * k * (u[:, None] + 0.5)) * ((2 - (k == 0).double()) / n).sqrt()
        # after the first axis the points are the leading axis
        spec = "pk,k...->p..." if axis == 0 else "pk,pk...->p..."
        coefficients = torch.einsum(spec, b, coefficients)
    return coefficients


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_exact_warp_is_the_cosine_series_and_the_trigonometric_series_of_the_mirrored_image(size, generator):
    x = torch.randn(1, *size, generator=generator, dtype=torch.float64)  # with its highest frequency
    points = random_points(size, generator)
    value = st.BandLimitedWarp(oversample=1, boundary=REFLECT).sample(x, points)[0].flatten()
    assert torch.allclose(value, cosine_series(x[0], points), rtol=0, atol=EXACT)
    mirrored = unfold(x, len(size), REFLECT)
    assert st.grid.nyquist_share(mirrored, len(size)).max() < 1e-15
    assert torch.allclose(value, evaluate(mirrored, points)[0], rtol=0, atol=EXACT)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_projection_is_the_l2_projection_on_the_cosine_polynomials(size, generator):
    """Coefficients by a quadrature 16 times as fine with scipy's cosine transform, kept below the window's n."""
    x = torch.randn(1, 1, *size, generator=generator, dtype=torch.float64)
    tau = window_field(size, generator, cutoff=1, count=1)[0]
    warped = st.BandLimitedWarp(oversample=16, boundary=REFLECT)(x, tau)
    u = nodes(size, 16, REFLECT)
    exact = cosine_series(x[0, 0], u - tau.displacement(u)).view(tuple(16 * n for n in size))
    spectrum = scipy.fft.dctn(exact.numpy(), type=2, norm="ortho") / 4 ** len(size)  # area of a node: 1 / 16 per axis
    spectrum = spectrum[tuple(slice(n) for n in size)]
    ours = scipy.fft.dctn(warped[0, 0].numpy(), type=2, norm="ortho")
    assert np.abs(ours - spectrum).max() < EXACT
    default = st.BandLimitedWarp(boundary=REFLECT)(x, tau)
    assert (default - warped).norm() < 1e-2 * x.norm()


@pytest.mark.parametrize("warp", WARPS, ids=repr)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_zero_field_is_the_identity_for_every_image(warp, size, generator):
    x = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
    d = len(size)
    still = st.Translation((0.0,) * d, size=size)
    assert torch.allclose(warp(x, still), x, rtol=0, atol=EXACT)
    assert torch.allclose(warp(x, 0.0 * window_field(size, generator, cutoff=1, count=1)[0]), x, rtol=0, atol=EXACT)


@pytest.mark.parametrize("warp", POINTWISE, ids=repr)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_translation_moves_right_and_draws_in_the_mirror_image(warp, size, generator):
    x = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
    d = len(size)
    padded = torch.from_numpy(np.pad(x.numpy(), [(0, 0), (0, 0), *[(4, 4)] * d], mode="symmetric"))
    inner = [slice(4, 4 + n) for n in size]
    right = st.Translation((3.0, 0.0)[:d], size=size)
    moved = padded[(..., *inner[:-1], slice(1, 1 + size[-1]))]
    assert torch.allclose(warp(x, right), moved, rtol=0, atol=EXACT)
    if d == 2:
        down = st.Translation((0.0, -2.0), size=size)
        moved = padded[..., 6 : 6 + size[0], inner[1]]
        assert torch.allclose(warp(x, down), moved, rtol=0, atol=EXACT)


def test_nodes_are_equispaced_on_the_window_and_its_mirror_image():
    for oversample in (1, 2, 3, 4):
        u = nodes((5,), oversample, REFLECT)[:, 0]
        both = torch.cat([u, 9 - u.flip(0)])
        assert torch.allclose(both.diff(), torch.full((10 * oversample - 1,), 1 / oversample, dtype=torch.float64))
        assert float(u[0] + 0.5) == pytest.approx(0.5 / oversample)
    assert torch.equal(nodes((3, 4), 1, REFLECT), nodes((3, 4), 1, st.Periodic()))


def test_the_cosine_basis_is_orthonormal_on_every_grid_of_nodes():
    for n, oversample in ((2, 1), (3, 4), (8, 1), (9, 2)):
        b = basis(nodes((n,), oversample, REFLECT)[:, 0], n, REFLECT).T
        assert torch.allclose(b.T @ b / oversample, torch.eye(n, dtype=torch.float64), atol=1e-14)


def test_refining_and_projecting_are_inverse(generator):
    x = torch.randn(2, 1, 8, 9, generator=generator, dtype=torch.float64)
    fine = refine(x, 3, 2, REFLECT)
    assert torch.allclose(evaluate(x, nodes((8, 9), 3, REFLECT), REFLECT).view_as(fine), fine, atol=EXACT)
    assert torch.allclose(project(fine, (8, 9), REFLECT), x, atol=EXACT)


def order(warp, d):
    """Slope of log error over log h for one smooth even window image and one window field."""
    sides, errors = (16, 32, 64, 128), []
    for n in sides:
        size = (n,) if d == 1 else (n + 1, n)
        u, period = nodes(size, 1, REFLECT), st.grid.sides(size)
        share = (u + 0.5) / period
        moved = share - 0.1 * torch.sin(math.pi * share).prod(-1, keepdim=True) ** 4

        def image(v):
            value = torch.cos(3 * math.pi * v[..., 0]) + 0.3
            return value if d == 1 else value * torch.cos(2 * math.pi * v[..., 1])

        value = warp.sample(image(share).view(1, *size), moved * period - 0.5)
        errors.append((value.flatten() - image(moved)).square().mean().sqrt().item())
    return errors[-1] if errors[0] < 1e-10 else -np.polyfit(np.log(sides), np.log(errors), 1)[0]


@pytest.mark.parametrize("d", [1, 2])
def test_order_four_where_bilinear_has_order_two_and_the_cosine_series_is_exact(d):
    assert 3.7 < order(st.SplineWarp(REFLECT), d) < 4.3
    assert 1.7 < order(st.BilinearWarp(REFLECT), d) < 2.3
    assert order(st.BandLimitedWarp(oversample=1, boundary=REFLECT), d) < EXACT


@pytest.mark.parametrize("warp", [st.SplineWarp(REFLECT), st.BandLimitedWarp(2, REFLECT)], ids=repr)
def test_forward_mode_is_the_jacobian_of_reverse_mode(warp, generator):
    size = (3, 4)
    count = math.prod(size) * warp.points_per_pixel**2
    image = torch.randn(1, 1, *size, generator=generator, dtype=torch.float64)
    at = 3 * torch.randn(count, 2, generator=generator, dtype=torch.float64)
    direction = torch.randn(at.shape, generator=generator, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda p: warp.sample(image, p), at)
    pushed = torch.func.jvp(lambda p: warp.sample(image, p), (at,), (direction,))[1]
    assert torch.allclose(pushed, torch.einsum("bchwpi,pi->bchw", jacobian, direction), atol=EXACT)


@pytest.mark.parametrize("warp", WARPS, ids=repr)
def test_batches_broadcast_and_types_are_kept(warp, generator):
    size = (8, 10)
    x = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
    tau = window_field(size, generator)
    product = warp(x[:, None], tau)
    assert product.shape == (2, 2, 3, *size)
    for i in range(2):
        assert torch.allclose(warp(x, tau)[i], product[i, i], atol=EXACT)
        for j in range(2):
            assert torch.allclose(product[i, j], warp(x[i : i + 1], tau[j])[0], atol=EXACT)
    single = warp(x.float(), tau)
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), warp(x, tau), atol=5e-5)


@pytest.mark.parametrize("sigma", [1.0, None])
@pytest.mark.parametrize("size", [(16,), (12, 14)], ids=str)
def test_interpolation_error_on_cosine_coefficients(sigma, size, generator):
    """Second route: scipy's cosine transform of exact samples 16 times as fine, A_0 as a factor of each coefficient."""
    x = torch.randn(1, *size, generator=generator, dtype=torch.float64)
    tau = window_field(size, generator, cutoff=1, count=1)[0]
    u, d = nodes(size, 16, REFLECT), len(size)
    exact = cosine_series(x[0], u - tau.displacement(u)).view(tuple(16 * n for n in size))
    spectrum = scipy.fft.dctn(exact.numpy(), type=2, norm="ortho") / 4**d
    axes = [math.pi * np.arange(16 * n) / n for n in size]
    squared = sum(omega**2 for omega in np.meshgrid(*axes, indexing="ij"))
    gain = np.exp(-0.5 * (sigma or 0.0) ** 2 * squared)
    for warp in (WARPS[0], *WARPS[2:]):
        warped = np.zeros_like(spectrum)
        warped[tuple(slice(n) for n in size)] = scipy.fft.dctn(warp(x, tau)[0].numpy(), type=2, norm="ortho")
        truth = np.linalg.norm(gain * (warped - spectrum))
        assert float(interpolation_error(x, tau, warp, antialiasing=sigma)) == pytest.approx(truth, rel=2e-2)
        given = interpolation_error(x, tau, warp, antialiasing=sigma, warped=warp(x, tau))
        assert torch.equal(given, interpolation_error(x, tau, warp, antialiasing=sigma))


def test_errors_are_ordered_and_vanish_without_a_field(generator):
    x = st.images.load("fashion", count=4, size=(28, 28))
    tau = window_field((28, 28), generator, count=1, displacement_norm=0.5)
    errors = [interpolation_error(x, tau, warp) for warp in (WARPS[0], WARPS[4], WARPS[2], WARPS[3])]
    for smaller, larger in itertools.pairwise(errors):
        assert bool((smaller < larger).all())
    still = st.Translation((0.0, 0.0), size=(28, 28))
    assert all(interpolation_error(x, still, warp).max() < EXACT for warp in WARPS)


def test_boundary_rules_are_told_and_equal_by_value():
    assert st.SplineWarp() == st.SplineWarp(st.Periodic()) != st.SplineWarp(REFLECT)
    assert st.BandLimitedWarp() == st.BandLimitedWarp(4, st.Periodic())
    for warp in (st.SplineWarp, st.BilinearWarp, st.IndexWarp, st.BandLimitedWarp):
        with pytest.raises(ValueError, match=r"boundary must be Periodic\(\), Reflect\(\) or Zero\(\), got 'reflect'"):
            warp(boundary="reflect")
        assert warp().boundary == st.Periodic()
        assert hash(warp(boundary=REFLECT)) == hash(warp(boundary=st.Reflect()))


def test_wrong_images_are_told(generator):
    tau = window_field((8, 8), generator, cutoff=1, count=1)[0]
    for warp in WARPS:
        with pytest.raises(ValueError, match="finite"):
            warp(torch.full((1, 1, 8, 8), math.nan, dtype=torch.float64), tau)
        with pytest.raises(ValueError, match="deformation's grid"):
            warp(torch.zeros(1, 1, 8, 9, dtype=torch.float64), tau)
    noise = torch.randn(1, 1, 8, 8, generator=generator, dtype=torch.float64)
    with pytest.raises(ValueError, match="band-limited"):
        interpolation_error(noise, tau, st.SplineWarp())
    assert torch.isfinite(interpolation_error(noise, tau, st.SplineWarp(REFLECT))).all()


def test_a_ladder_on_the_torus_refuses_a_reflecting_warp(generator):
    x = st.images.load("fashion", count=1, size=(16, 16))
    field = st.CompactField.sample((16, 16), cutoff=2, generator=generator)
    tau = st.control(field, displacement_norm=1.0)
    gram = st.GramCKN(st.Architecture((st.Layer(3, 2.0),)))
    with pytest.raises(ValueError, match="warp must be periodic"):
        st.ladder(gram, x, tau, warp=st.SplineWarp(boundary=st.Reflect()))
    assert not st.ladder(gram, x, tau, refinement=False).violation.any()
