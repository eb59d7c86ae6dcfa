"""``interpolation_error`` under every boundary rule, and ``recommend_warp``."""

import math

import pytest
import torch
from warp_registry import WARPS, label

import stability as st
from stability.warps.recommend import candidates


def smooth_window(size):
    """A bump of the window, zero at its border to all that matters."""
    v = (st.grid.coordinates(size) + 0.5) / st.grid.sides(size)
    return (torch.sin(math.pi * v).pow(8).prod(-1) * torch.cos(2 * math.pi * v[..., 0]))[None, None]


@pytest.mark.parametrize("warp", [warp for warp in WARPS if warp.boundary == st.Zero()], ids=label)
@pytest.mark.parametrize("size", [(33,), (24, 21)], ids=str)
def test_with_zeros_the_error_is_that_of_the_framed_image_on_a_torus(warp, size, generator):
    """Where image and result vanish at the border, the frame changes nothing: second route through the torus."""
    x = smooth_window(size)
    tau = st.control(st.FourierField.sample(size, cutoff=1, generator=generator), displacement_norm=0.6)
    error = st.interpolation_error(x, tau, warp).item()
    torus = type(warp)(st.Periodic(), degree=warp.degree) if hasattr(warp, "degree") else type(warp)(st.Periodic())
    assert error == pytest.approx(st.interpolation_error(st.grid.band_limit(x), tau, torus).item(), rel=2e-2, abs=2e-6)
    assert error > 0


def test_errors_fall_from_warp_to_warp(generator):
    x = st.images.load("fashion", count=4, size=(32, 32))
    tau = st.control(st.FourierField.sample((32, 32), cutoff=3, generator=generator), displacement_norm=0.5)
    for rule in (st.Periodic(), st.Reflect(), st.Zero()):
        errors = [st.interpolation_error(x, tau, warp).max().item() for warp in candidates(rule)]
        assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("rule", [st.Periodic(), st.Reflect(), st.Zero()], ids=str)
def test_the_cheapest_sufficient_warp_is_chosen(rule, generator):
    x = smooth_window((32, 32))
    x = st.grid.band_limit(x) if rule == st.Periodic() else x
    tau = st.control(
        st.FourierField.sample((32, 32), cutoff=2, batch_shape=(3,), generator=generator), jacobian_norm=0.2
    )
    choice = candidates(rule)
    worst = [(st.interpolation_error(x, tau, warp) / x.norm()).max().item() for warp in choice]
    for i, error in enumerate(worst):
        if error > 1e-13 and error < min(worst[:i], default=math.inf):
            assert st.recommend_warp(x, tau, 1.0001 * error, boundary=rule) == choice[i]
    with pytest.raises(ValueError, match=r"tolerance must be reached .* errors .* IndexWarp"):
        st.recommend_warp(x, tau, 1e-9, boundary=rule, warps=choice[:2])


def test_zero_images_and_wrong_requests(generator):
    tau = st.FourierField.sample((8, 8), cutoff=2, generator=generator)
    nothing = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    assert st.recommend_warp(nothing, tau, 1e-9) == st.IndexWarp()
    with pytest.raises(ValueError, match="tolerance must be positive"):
        st.recommend_warp(nothing, tau, 0.0)
    with pytest.raises(ValueError, match="warps must be at least one"):
        st.recommend_warp(nothing, tau, 0.1, warps=[st.SplineWarp(st.Zero())])
    with pytest.raises(ValueError, match="boundary must be"):
        st.recommend_warp(nothing, tau, 0.1, boundary="zero")
