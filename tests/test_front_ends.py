"""Front ends: norms, translations, closed forms on waves, grids twice as fine, and what the bounds say about them."""

import itertools
import math

import pytest
import torch

import stability as st
from stability.bounds.rung import Status
from stability.front_ends import Gradient, MeanRemoval, Whitening

FRONT_ENDS = [MeanRemoval(), Gradient(), Whitening(), Whitening(0.2)]


def wave(size, k, phase=0.0):
    angle = sum(
        2 * math.pi * m * u / n for m, u, n in zip(k, st.grid.coordinates(size).unbind(-1), size[::-1], strict=True)
    )
    return torch.cos(angle + phase)[None, None]


def over_white_noise(front_end, size):
    """||F||: the largest factor over all waves of the grid, which are the eigenvectors of F'F."""
    waves = itertools.product(*(range(n // 2 + 1) for n in size[::-1]))
    norms = [(front_end.apply(x, len(size)).norm() / x.norm()).item() for k in waves for x in [wave(size, k, 0.3)]]
    return max(norms)


@pytest.mark.parametrize("front_end", FRONT_ENDS, ids=repr)
@pytest.mark.parametrize("size", [(16,), (12, 16)], ids=str)
def test_it_does_not_expand_and_attains_almost_one(front_end, size):
    assert 0.9 < over_white_noise(front_end, size) <= 1 + 1e-12


@pytest.mark.parametrize("front_end", FRONT_ENDS, ids=repr)
def test_it_commutes_with_translations(front_end, generator):
    x = torch.randn(2, 2, 8, 10, generator=generator, dtype=torch.float64)
    moved = front_end.apply(x.roll((3, -2), (-2, -1)), 2)
    assert torch.allclose(moved, front_end.apply(x, 2).roll((3, -2), (-2, -1)), atol=1e-13)


def test_gradient_and_whitening_of_a_wave():
    size, k = (12, 16), (3, 2)
    x, w = wave(size, k), (2 * math.pi * 3 / 16, 2 * math.pi * 2 / 12)
    slopes = Gradient().apply(x, 2)
    quadrature = wave(size, k, math.pi / 2)  # -sin
    expected = torch.cat([math.sin(w[0]) * quadrature, math.sin(w[1]) * quadrature], 1) / math.sqrt(2)
    assert torch.allclose(slopes, expected, atol=1e-13)
    r, cutoff = math.hypot(*w) / (2 * math.pi), 0.39
    peak = cutoff / 4**0.25
    factor = r * math.exp(-((r / cutoff) ** 4)) / (peak * math.exp(-((peak / cutoff) ** 4)))
    assert torch.allclose(Whitening(cutoff).apply(x, 2), factor * x, atol=1e-13)


@pytest.mark.parametrize("front_end", FRONT_ENDS, ids=repr)
@pytest.mark.parametrize("size", [(9,), (8, 10)], ids=str)
def test_a_finer_grid_is_the_same_map(front_end, size, generator):
    from stability.warps.band_limited import refine

    x = st.grid.band_limit(torch.randn(1, 1, *size, generator=generator, dtype=torch.float64))
    d = len(size)
    fine = front_end.apply(refine(x, 2, d), d, refinement=2)
    every = tuple(slice(None, None, 2) for _ in size)
    assert torch.allclose(fine[(..., *every)], front_end.apply(x, d), atol=1e-12)


@pytest.mark.parametrize("front_end", FRONT_ENDS, ids=repr)
def test_exact_and_finite_networks_see_the_mapped_image(front_end, generator):
    x = 0.5 + torch.rand(2, 1, 8, 8, generator=generator, dtype=torch.float64)
    y = 0.5 + torch.rand(2, 1, 8, 8, generator=generator, dtype=torch.float64)
    arch = st.Architecture.dyadic(depth=2, subsampling=1)
    mapped = arch.replace("front_end", front_end)
    u, v = front_end.apply(x, 2), front_end.apply(y, 2)
    assert torch.allclose(st.GramCKN(mapped).distance(x, y), st.GramCKN(arch).distance(u, v), rtol=1e-10)
    assert torch.allclose(st.LinearGram(mapped).distance(x, y), st.LinearGram(arch).distance(u, v), rtol=1e-10)
    ckn = st.CKN.fit(mapped, x, filters=(8, 8), generator=generator)
    assert torch.allclose(ckn(x), st.CKN(arch, list(ckn.anchors))(u), rtol=1e-10)
    assert st.Architecture.from_dict(mapped.to_dict()) == mapped


@pytest.mark.parametrize("front_end", [Gradient(), Whitening()], ids=repr)
def test_closed_forms_do_not_cover_filters_and_the_trivial_bound_does(front_end, generator):
    arch = st.Architecture.dyadic(depth=2, subsampling=1).replace("front_end", front_end)
    form = st.closed_form(arch, displacement_norm=1.0, jacobian_norm=0.1)
    assert form.status == Status.NOT_COVERED
    assert form.value == math.inf
    x = st.images.load("fashion", count=2, size=(16, 16))
    tau = st.control(st.FourierField.sample((16, 16), cutoff=2, generator=generator), displacement_norm=0.5)
    ladder = st.ladder(st.GramCKN(arch), x, tau, certificates=False)
    assert (ladder.observed <= ladder.trivial * (1 + 1e-9)).all()
    assert not ladder.violation.any()


def test_wrong_front_ends_are_told():
    with pytest.raises(ValueError, match="cutoff must be positive"):
        Whitening(0.0)


@pytest.mark.parametrize("front_end", [st.front_ends.MeanRemoval(), st.front_ends.Gradient()], ids=repr)
def test_what_a_front_end_cancels_is_cancelled_in_double_precision(front_end, generator):
    """Images far from zero, in single precision: their differences are exact, and so is what F makes of them."""
    from stability.representations.maps import low_passed

    x = (1000.0 + torch.rand(1, 1, 8, 8, generator=generator)).to(torch.float32)
    arch = st.Architecture((st.Layer(3, 1.0),), antialiasing=None, front_end=front_end)
    expected = low_passed(arch, x.double())
    assert torch.allclose(low_passed(arch, x).double(), expected, rtol=0, atol=2e-7 * float(expected.abs().max()))
