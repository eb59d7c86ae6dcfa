"""Laws over all warps and boundary rules: identity, sign, adjoints, derivatives, orders of the error, batches."""

import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from warp_registry import EXACT, LOOK_UPS, POINTWISE, SMOOTH, WARPS, label

import stability as st

SIZES = [(9,), (8,), (8, 10), (9, 7)]


def images(warp, size, generator, lead=(2, 3)):
    x = torch.randn(*lead, *size, generator=generator, dtype=torch.float64)
    return st.grid.band_limit(x) if warp.boundary == st.Periodic() else x


def field(size, generator, count=2, largest=0.3):
    tau = st.FourierField.sample(size, cutoff=2, batch_shape=(count,), generator=generator)
    return st.control(tau, jacobian_norm=largest)


@pytest.mark.parametrize("warp", WARPS, ids=label)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_zero_field_is_the_identity(warp, size, generator):
    x = images(warp, size, generator)
    assert torch.allclose(warp(x, st.Translation((0.0,) * len(size), size=size)), x, rtol=0, atol=1e-11)


@pytest.mark.parametrize("warp", POINTWISE, ids=label)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_translation_moves_the_content_right_and_down(warp, size, generator):
    """By numpy's padding, which shares no code with the warps; the beginning of every window shows what lay beyond."""
    x = images(warp, size, generator)
    mode = {st.Periodic: "wrap", st.Reflect: "symmetric", st.Zero: "constant"}[type(warp.boundary)]
    shift = (3.0, 2.0)[: len(size)]
    widths = [(0, 0), (0, 0), *((int(s), 0) for s in reversed(shift))]
    window = tuple(slice(0, n) for n in size)
    truth = np.pad(x.numpy(), widths, mode=mode)[(..., *window)]
    assert np.abs(warp(x, st.Translation(shift, size=size)).numpy() - truth).max() < 1e-11


@pytest.mark.parametrize("warp", WARPS, ids=label)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_adjoint_is_exact(warp, size, generator):
    """<L x, y> = <x, L' y> for every image that L_tau is defined on, and L' is not L of the inverse field."""
    x, tau = images(warp, size, generator), field(size, generator)
    y = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    left, right = (warp(x, tau) * y).sum((1, *range(2, x.ndim))), (x * warp.adjoint(y, tau)).sum((1, *range(2, x.ndim)))
    assert torch.allclose(left, right, rtol=1e-11, atol=1e-11)
    if not isinstance(warp, st.IndexWarp):
        assert not torch.allclose(warp.adjoint(y, tau), warp(y if warp.boundary != st.Periodic() else x, -1 * tau))


@pytest.mark.parametrize("warp", WARPS, ids=label)
def test_an_operator_repeats_the_warp_and_its_adjoint(warp, generator):
    size = (8, 10)
    x, tau = images(warp, size, generator), field(size, generator)
    operator = warp.operator(tau)
    for _ in range(2):  # the second adjoint uses what the first recorded
        y = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        assert torch.equal(operator(x), warp(x, tau))
        assert torch.equal(operator.adjoint(y), warp.adjoint(y, tau))
    single = torch.randn(1, *size, generator=generator, dtype=torch.float64)  # one image for both fields
    assert operator.adjoint(single).shape == (2, 1, *size)


@pytest.mark.parametrize("warp", [warp for warp in SMOOTH if warp.points_per_pixel == 1], ids=label)
def test_the_adjoint_is_differentiable(warp, generator):
    size = (5, 4)
    u = st.grid.coordinates(size).flatten(0, 1)
    points = u + 0.7 * torch.rand(u.shape, generator=generator, dtype=torch.float64)
    y = torch.randn(1, *size, generator=generator, dtype=torch.float64)
    directions = torch.randn(2, *points.shape, generator=generator, dtype=torch.float64)
    changes, weights = torch.randn(2, 2, 1, *size, generator=generator, dtype=torch.float64)

    def adjoint(s, t):
        """Along two directions of the points and two of y, seen by two random weights: few evaluations for all."""
        from stability.warps.base import WarpOperator

        moved = points + torch.einsum("k,kpd->pd", s, directions)
        return (weights * WarpOperator(warp, moved, size).adjoint(y + torch.einsum("k,kcxy->cxy", t, changes))).sum(
            (1, 2, 3)
        )

    still = [torch.zeros(2, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(adjoint, still)


@pytest.mark.parametrize("warp", SMOOTH, ids=label)
@pytest.mark.parametrize("size", [(6,), (5, 4)], ids=str)
@pytest.mark.parametrize("where", ["zero field", "generic"])
def test_two_derivatives_in_image_and_points(warp, size, where, generator):
    from stability.warps.base import nodes

    x = images(warp, size, generator, lead=(1, 1))
    points = nodes(size, warp.points_per_pixel, warp.boundary)[None]
    if where == "generic":
        points = points + 2 * torch.randn(points.shape, generator=generator, dtype=torch.float64)  # some beyond it
    direction = torch.randn(points.shape, generator=generator, dtype=torch.float64)
    change = images(warp, size, generator, lead=(1, 1))
    weights = torch.randn(2, x.numel(), generator=generator, dtype=torch.float64)

    def along(s):
        """A curve through image and points, seen by two random weights: few evaluations, whatever their number."""
        return weights @ warp.sample(x + s[0] * change, points + s[1] * direction).flatten()

    s = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(along, (s,), atol=1e-6)
    assert torch.autograd.gradgradcheck(along, (s,), atol=1e-6)


def order(warp, d):
    """Slope of log error over log h: one trigonometric image, even about the border, one field of the unit torus."""
    zero, errors = warp.boundary == st.Zero(), []
    sides = (48, 64, 96, 128) if zero else (16, 24, 32, 48, 64)
    for n in sides:
        size = (n,) if d == 1 else (n + 1, n)
        period, u = st.grid.sides(size), st.grid.coordinates(size).flatten(0, -2)
        v = (u + 0.5) / period  # the window is [0, 1]^d
        inside = torch.sin(math.pi * v).square() if zero else torch.ones_like(v)
        moved = v + 0.06 * inside * torch.sin(2 * math.pi * v.flip(-1) + 0.4)

        def image(v):
            wave = torch.cos(2 * math.pi * v).prod(-1)
            return wave * torch.sin(math.pi * v).clamp_min(0).pow(8).prod(-1) if zero else wave

        values = warp.sample(image(v).view(1, *size), moved * period - 0.5).flatten()
        errors.append((values - image(moved)).square().mean().sqrt().item())
    return -np.polyfit(np.log(sides), np.log(errors), 1)[0], errors


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("warp", POINTWISE, ids=label)
def test_errors_fall_with_the_order_of_the_theory(warp, d):
    slope, errors = order(warp, d)
    if isinstance(warp, st.BandLimitedWarp):
        assert max(errors) < 1e-12
    else:
        expected = {st.IndexWarp: 1, st.BilinearWarp: 2}.get(type(warp)) or warp.degree + 1
        assert abs(slope - expected) < 0.25 + 0.05 * expected


@pytest.mark.parametrize("warp", LOOK_UPS, ids=label)
@pytest.mark.parametrize("size", [(60,), (50, 64)], ids=str)
def test_look_ups_equal_scipy(warp, size, generator):
    """Inside and several windows away. scipy starts its filter 12 px away from a window of zeros: .43^12, .27^12."""
    x = torch.randn(1, *size, generator=generator, dtype=torch.float64)
    points = 20 * torch.randn(math.prod(size), len(size), generator=generator, dtype=torch.float64)
    degree = getattr(warp, "degree", int(isinstance(warp, st.BilinearWarp)))
    mode = {st.Periodic: "grid-wrap", st.Reflect: "reflect", st.Zero: "grid-constant"}[type(warp.boundary)]
    truth = scipy.ndimage.map_coordinates(x[0].numpy(), points.flip(-1).T.numpy(), order=degree, mode=mode)
    tolerance = {3: 3e-6, 5: 2e-3}.get(degree, 1e-12) if warp.boundary == st.Zero() else 1e-11
    assert np.abs(warp.sample(x, points)[0].flatten().numpy() - truth).max() < tolerance


@pytest.mark.parametrize("degree", [3, 5])
@pytest.mark.parametrize("size", [(7,), (5, 8)], ids=str)
def test_a_spline_in_a_frame_of_zeros_is_the_periodic_spline_of_the_framed_image(degree, size, generator):
    x = torch.randn(1, *size, generator=generator, dtype=torch.float64)
    points = 8 * torch.randn(math.prod(size), len(size), generator=generator, dtype=torch.float64)
    frame = 100
    framed = torch.nn.functional.pad(x, (frame, frame) * len(size))
    many = torch.zeros(math.prod(framed.shape[1:]), len(size), dtype=torch.float64)
    many[: len(points)] = points + frame
    truth = st.SplineWarp(degree=degree).sample(framed, many).flatten()[: len(points)]
    assert torch.allclose(st.SplineWarp(st.Zero(), degree=degree).sample(x, points).flatten(), truth, atol=1e-12)


@pytest.mark.parametrize("warp", [warp for warp in EXACT if warp.evaluation != st.MatrixProducts()], ids=label)
def test_both_evaluations_of_exact_warps_agree(warp, generator):
    for size in [(9,), (16,), (70, 5)]:
        x, tau = images(warp, size, generator), field(size, generator)
        dense = st.BandLimitedWarp(warp.oversample, warp.boundary, st.MatrixProducts())
        assert torch.allclose(warp(x, tau), dense(x, tau), rtol=0, atol=1e-11)
        assert torch.allclose(st.BandLimitedWarp(warp.oversample, warp.boundary)(x, tau), dense(x, tau), atol=1e-10)


@pytest.mark.parametrize("warp", WARPS, ids=label)
def test_batches_broadcast_and_types_are_kept(warp, generator):
    size = (8, 9)
    x, tau = images(warp, size, generator), field(size, generator, count=2)
    every = warp(x[:, None], tau)
    assert every.shape == (2, 2, 3, *size)
    for i in range(2):
        for j in range(2):
            assert torch.allclose(every[i, j], warp(x[i : i + 1], tau[j])[0], rtol=0, atol=1e-12)
    assert torch.allclose(warp(x, tau)[1], every[1, 1], rtol=0, atol=1e-12)
    assert warp(x[0], tau).shape == (2, 3, *size)  # one image without a batch axis, two fields
    single = warp(x.float(), tau)
    assert single.dtype == torch.float32
    if not isinstance(warp, st.IndexWarp):  # a point between two pixels may round either way
        assert torch.allclose(single.double(), warp(x, tau), rtol=0, atol=2e-4)


@pytest.mark.parametrize("warp", [st.SplineWarp(), st.SplineWarp(st.Reflect(), degree=5)], ids=label)
def test_lost_points_are_nan_and_do_not_disturb_the_others(warp, generator):
    x = torch.randn(1, 5, 6, generator=generator, dtype=torch.float64)
    points = torch.rand(30, 2, generator=generator, dtype=torch.float64) * 5
    lost = points.clone()
    lost[7], lost[8, 1] = math.nan, math.inf
    here, there = warp.sample(x, points).flatten(), warp.sample(x, lost).flatten()
    assert there.isnan().nonzero().flatten().tolist() == [7, 8]
    assert torch.equal(here[9:], there[9:])


def test_bilinear_is_the_look_up_of_kornia(generator):
    from kornia.geometry.transform import remap

    x = torch.randn(2, 3, 9, 12, generator=generator, dtype=torch.float64)
    points = st.grid.coordinates((9, 12)).flatten(0, 1) + torch.randn(2, 108, 2, generator=generator).double()
    maps = points.unflatten(1, (9, 12))
    theirs = remap(x, maps[..., 0], maps[..., 1], align_corners=True)
    assert torch.allclose(st.BilinearWarp(st.Zero()).sample(x, points), theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: st.SplineWarp(degree=4), "degree must be 3 or 5"),
        (lambda: st.SplineWarp("zero"), "boundary must be"),
        (lambda: st.BandLimitedWarp(boundary=st.Zero()), "SplineWarp"),
        (lambda: st.BandLimitedWarp(evaluation="dense"), "evaluation must be"),
        (lambda: st.NonuniformFFT(1e-20), "tolerance must lie"),
        (lambda: st.TangentPerturbation(boundary=st.Zero()), "frame of zeros"),
    ],
)
def test_wrong_warps_are_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_without_finufft_the_message_says_what_to_install(monkeypatch, generator):
    monkeypatch.setattr("stability.warps.nonuniform.has_finufft", lambda: False)
    with pytest.raises(ImportError, match=r"pip install .*finufft"):
        st.NonuniformFFT()
    x, tau = st.grid.band_limit(torch.rand(1, 1, 66, 66, generator=generator)), field((66, 66), generator)
    monkeypatch.setattr("stability.warps.evaluation.has_finufft", lambda: False)
    assert st.BandLimitedWarp(1)(x, tau[0]).isfinite().all()  # by matrix products
