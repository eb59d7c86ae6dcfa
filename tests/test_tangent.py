"""TangentPerturbation: the first order of a warp, and nothing that a theorem about warps covers."""

import math

import pytest
import torch

import stability as st


def setting(size=(16, 16), displacement_norm=1.0, count=3):
    rng = torch.Generator().manual_seed(0)
    x = st.grid.band_limit(torch.rand(count, 1, *size, generator=rng, dtype=torch.float64), len(size))
    field = st.FourierField.sample(size, cutoff=2, batch_shape=(count,), generator=rng)
    return x, st.control(field, displacement_norm=displacement_norm)


@pytest.mark.parametrize("size", [(16,), (16, 12)])
@pytest.mark.parametrize("boundary", [st.Periodic(), st.Reflect()])
def test_it_is_the_derivative_of_the_exact_warp_at_zero(size, boundary):
    x, tau = setting(size)
    exact, tangent = st.BandLimitedWarp(1, boundary=boundary), st.TangentPerturbation(boundary=boundary)
    h = 1e-4
    slope = (exact(x, h * tau) - exact(x, -h * tau)) / (2 * h)
    torch.testing.assert_close(tangent(x, tau) - x, slope, rtol=0, atol=1e-6)


def test_it_differs_from_the_warp_by_the_second_order():
    x, tau = setting()
    gaps = [
        float((st.BandLimitedWarp(1)(x, t * tau) - st.TangentPerturbation()(x, t * tau)).norm()) for t in (0.02, 0.01)
    ]
    assert math.log2(gaps[0] / gaps[1]) == pytest.approx(2, abs=0.05)


def test_smoothing_acts_on_the_gradient_alone():
    x, tau = setting()
    none = st.TangentPerturbation(smoothing=100.0)(x, tau)
    torch.testing.assert_close(none, x, rtol=0, atol=1e-9)


def test_it_breaks_the_norm_bound_that_a_translation_keeps():
    x, _ = setting()
    far = st.Translation((4.0, 0.0), size=(16, 16))
    assert float(st.BandLimitedWarp()(x, far).norm()) == pytest.approx(float(x.norm()))
    assert float(st.TangentPerturbation()(x, far).norm()) > 2 * float(x.norm())


def test_no_bound_covers_its_rows_and_no_ladder_takes_it():
    spec = {
        "images": {"name": "blobs", "count": 1, "size": [16, 16]},
        "deformations": [{"kind": "fourier", "cutoff": 2, "displacement_norm": 1}],
        "representations": [{"kind": "linear"}],
        "fields": 1,
        "warp": {"kind": "tangent"},
    }
    row = st.sweep(st.SweepSpec(**spec)).iloc[0]
    assert (row.warp, row.status_closed_form, row.bound_closed_form) == ("tangent", "not covered", math.inf)
    assert 0 < row.distance_over_input_norm <= row.trivial
    x, tau = setting()
    arch = st.Architecture.dyadic(depth=1)
    with pytest.raises(ValueError, match="warp must deform"):
        st.ladder(st.LinearGram(arch), x, tau, warp=st.TangentPerturbation())
    with pytest.raises(ValueError, match="smoothing must"):
        st.TangentPerturbation(-1.0)


def test_field_and_images_on_different_devices_are_one_clear_error():
    x, tau = setting()
    elsewhere = st.FourierField.sample((8, 8), cutoff=2, generator=torch.Generator().manual_seed(0))
    for warp in (st.SplineWarp(), st.BilinearWarp(), st.IndexWarp(), st.BandLimitedWarp()):
        with pytest.raises(ValueError, match="on one device"):
            warp(torch.zeros(1, 1, 8, 8, dtype=torch.float64, device="meta"), elsewhere)
    with pytest.raises(ValueError, match="on one device"):
        elsewhere + elsewhere.to(device="meta")
    with pytest.raises(ValueError, match="on one device"):
        st.BandLimitedWarp()(x, tau.to(device="meta"))
