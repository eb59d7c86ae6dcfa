"""CompactField: product rule against automatic differentiation, exact zeros, the family's laws, warps."""

import itertools
import math
import pickle

import pytest
import torch

import stability as st
from stability.deformations.domains import Torus, Window
from stability.deformations.sum import Sum

ROUND_OFF = 1e-12
CASES = [
    ((24,), 3, {}),
    ((30,), 2, {"border": 3.0, "rise": 4.0}),
    ((28, 28), 3, {}),
    ((24, 40), 2, {"border": 2.5, "rise": 5.0}),
    ((20, 20), 4, {"border": 1.0, "rise": 2.0}),
]


def draw(size, cutoff=3, count=4, seed=0, **widths):
    rng = torch.Generator().manual_seed(seed)
    return st.CompactField.sample(size, cutoff=cutoff, batch_shape=(count,), generator=rng, **widths)


def bump(size, vector, **widths):
    """w times a constant."""
    d = len(size)
    zero = torch.zeros(1, d, dtype=torch.float64)
    mean = torch.tensor(vector, dtype=torch.float64)
    inner = st.FourierField(torch.ones(1, d, dtype=torch.long), zero, zero, size=size, mean=mean)
    return st.CompactField(inner, **widths)


def somewhere(size, count=60, seed=5):
    """Points in the window, and as many up to a period outside."""
    rng = torch.Generator().manual_seed(seed)
    share = torch.rand(count, len(size), generator=rng, dtype=torch.float64)
    share[count // 2 :] = 3 * share[count // 2 :] - 1
    return share * st.grid.sides(size) - 0.5


@pytest.mark.parametrize(("size", "cutoff", "widths"), CASES, ids=str)
def test_derivatives_agree_with_automatic_differentiation(size, cutoff, widths):
    field, at = draw(size, cutoff, **widths), somewhere(size)
    # a value depends on its own point only: the derivative of the sum over the points holds that of each
    first = torch.autograd.functional.jacobian(lambda p: field.displacement(p).sum(1), at)  # (4, d, P, d)
    second = torch.autograd.functional.jacobian(lambda p: field.jacobian(p).sum(1), at)  # (4, d, d, P, d)
    torch.testing.assert_close(field.jacobian(at), first.movedim(-2, 1), rtol=0, atol=ROUND_OFF)
    torch.testing.assert_close(field.hessian(at), second.movedim(-2, 1), rtol=0, atol=ROUND_OFF)


@pytest.mark.parametrize(("size", "cutoff", "widths"), CASES, ids=str)
def test_it_is_zero_on_the_margin_and_the_inner_field_inside(size, cutoff, widths):
    field = draw(size, cutoff, **widths)
    period, at = st.grid.sides(size), somewhere(size, 400)
    depth = torch.minimum((at + 0.5) % period, period - (at + 0.5) % period)  # to the border, on the torus
    border = widths.get("border", 0.0)
    rise = torch.tensor([widths.get("rise", side / 4) for side in reversed(size)], dtype=torch.float64)
    outside, inside = (depth <= border).any(-1), (depth >= border + rise).all(-1)
    on_the_border = at.clone()
    on_the_border[:, 0] = -0.5
    nothing = torch.cat([at[outside], on_the_border, on_the_border + period])
    for value in (field.displacement, field.jacobian, field.hessian):
        assert not value(nothing).any()
    assert inside.any()
    assert outside.any() == (border > 0)
    torch.testing.assert_close(field.displacement(at[inside]), field.inner.displacement(at[inside]), rtol=0, atol=0)
    torch.testing.assert_close(field.hessian(at[inside]), field.inner.hessian(at[inside]), rtol=0, atol=0)


def test_it_is_a_field_of_the_torus_too():
    field, at = draw((24, 40)), somewhere((24, 40))
    for shift in ((40.0, 0.0), (0.0, -48.0)):
        moved = at + torch.tensor(shift, dtype=torch.float64)
        torch.testing.assert_close(field.displacement(moved), field.displacement(at), rtol=0, atol=ROUND_OFF)
        torch.testing.assert_close(field.hessian(moved), field.hessian(at), rtol=0, atol=ROUND_OFF)


# --- the family -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("widths", [{}, {"border": 2.0, "rise": 3.0}], ids=str)
def test_the_same_field_at_every_resolution(widths):
    coarse, at = draw((20, 32), **widths), somewhere((20, 32))
    double = {name: 2 * value for name, value in widths.items()}
    fine = draw((40, 64), **double, edge=1.0)
    torch.testing.assert_close(fine.displacement(2 * at), 2 * coarse.displacement(at), rtol=0, atol=ROUND_OFF)
    assert fine.domain == coarse.refined(2).domain == Window((40, 64), 1.0, vanishing=True)
    assert fine.taper == coarse.refined(2).taper
    cells = draw((40, 64), **double)  # its window follows the finer cells: w half a fine pixel further right and down
    w = coarse.taper.derivatives(at - 0.25, 0)[0][:, None]
    torch.testing.assert_close(cells.displacement(2 * at), 2 * w * coarse.inner.displacement(at), rtol=0, atol=1e-11)


def test_refining_keeps_the_field():
    field, at = draw((20, 32), border=1.5), somewhere((20, 32))
    fine = field.refined(3)
    torch.testing.assert_close(fine.displacement(3 * at), 3 * field.displacement(at), rtol=0, atol=1e-11)
    torch.testing.assert_close(fine.jacobian(3 * at), field.jacobian(at), rtol=0, atol=ROUND_OFF)
    torch.testing.assert_close(fine.hessian(3 * at), field.hessian(at) / 3, rtol=0, atol=ROUND_OFF)


def test_fields_of_one_window_add_inside_the_family():
    f, g, other, at = draw((20, 20)), draw((20, 20), 2, seed=1), draw((20, 20), rise=3.0), somewhere((20, 20))
    assert isinstance(f + g, st.CompactField)
    for made, expected in (
        (f + g, f.displacement(at) + g.displacement(at)),
        (0.5 * f - g / 4, f.displacement(at) / 2 - g.displacement(at) / 4),
        (f + other, f.displacement(at) + other.displacement(at)),
        (f + st.Translation((1.0, 2.0), (20, 20)), f.displacement(at) + torch.tensor([1.0, 2.0]).double()),
        (f + g.inner, f.displacement(at) + g.inner.displacement(at)),
    ):
        torch.testing.assert_close(made.displacement(at), expected, rtol=0, atol=ROUND_OFF)
    assert isinstance(f + other, Sum)
    assert f.plus(other) is None
    assert (f + g).norms().jacobian.lower.max() > f.norms().jacobian.lower.min() * 0.1


def test_shapes_domain_mean_and_types():
    field, at = draw((20, 24), border=1.0), somewhere((20, 24), 6).view(3, 2, 2)
    assert field.domain == Window((20, 24), vanishing=True)
    assert field.inner.domain == Torus((20, 24))
    assert field.domain.d == 2
    assert field.displacement(at).shape == (4, 3, 2, 2)
    assert field.jacobian(at).shape == (4, 3, 2, 2, 2)
    assert field.hessian(at).shape == (4, 3, 2, 2, 2, 2)
    assert not field.mean.any()
    assert field.without_mean() is field
    for index in (2, slice(1, 3), torch.tensor([3, 0]), ...):
        torch.testing.assert_close(field[index].displacement(at), field.displacement(at)[index])
    single = field.to(dtype=torch.float32)
    assert single.displacement(at).dtype == torch.float32
    torch.testing.assert_close(single.displacement(at).double(), field.displacement(at), rtol=0, atol=1e-4)
    again = pickle.loads(pickle.dumps(field))
    assert torch.equal(again.displacement(at), field.displacement(at))
    factor = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    assert torch.equal((factor * field)[1].displacement(at), 2 * field.displacement(at))


def test_the_draw_is_that_of_the_fourier_field():
    field = draw((20, 24), 3)
    inner = st.FourierField.sample((20, 24), cutoff=3, batch_shape=(4,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(field.inner.cosine, inner.cosine)


def test_gradients_reach_the_coefficients():
    inner = draw((20, 20)).inner
    cosine = inner.cosine.clone().requires_grad_()
    field = st.CompactField(st.FourierField(inner.modes, cosine, inner.sine, size=(20, 20)))
    field.displacement(somewhere((20, 20))).sum().backward()
    assert bool(cosine.grad.any())


# --- under warps ------------------------------------------------------------------------------------------------

WARPS = [
    warp
    for boundary in (st.Periodic(), st.Reflect())
    for warp in (
        st.SplineWarp(boundary),
        st.BilinearWarp(boundary),
        st.IndexWarp(boundary),
        st.BandLimitedWarp(oversample=1, boundary=boundary),
    )
]


@pytest.mark.parametrize("warp", WARPS, ids=repr)
def test_a_bump_moves_the_content_right_and_leaves_the_margin(warp, generator):
    x = st.grid.band_limit(torch.rand(1, 1, 24, 24, generator=generator, dtype=torch.float64))
    y = warp(x, bump((24, 24), (3.0, 0.0), border=2.0, rise=6.0))
    inside = slice(8, 16)
    assert torch.allclose(y[..., inside, inside], x.roll(3, -1)[..., inside, inside], rtol=0, atol=ROUND_OFF)
    margin = torch.ones(24, 24, dtype=torch.bool)
    margin[2:-2, 2:-2] = False
    assert torch.allclose(y[..., margin], x[..., margin], rtol=0, atol=ROUND_OFF)
    assert not torch.allclose(y, x, atol=1e-3)


def test_a_contraction_of_the_window_never_looks_outside():
    """b < 1 and tau = 0 at the border: u - tau(u) maps the window onto itself, so both boundary rules agree."""
    field = st.control(draw((24, 24), 2, count=6), jacobian_norm=0.9)
    at = torch.cartesian_prod(*[torch.linspace(-0.5, 23.5, 97, dtype=torch.float64)] * 2)
    moved = at - field.displacement(at)
    assert bool((moved >= -0.5 - ROUND_OFF).all())
    assert bool((moved <= 23.5 + ROUND_OFF).all())
    x = torch.arange(576.0, dtype=torch.float64).view(1, 1, 24, 24)
    assert torch.equal(st.IndexWarp()(x, field), st.IndexWarp(st.Reflect())(x, field))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: draw((20, 20), border=-1.0), "border must be"),
        (lambda: draw((20, 20), border=math.nan), "border must be"),
        (lambda: draw((20, 20), rise=0.5), "rise must be"),
        (lambda: draw((20, 20), rise=True), "rise must be"),
        (lambda: draw((20, 20), edge=math.inf), "edge must be"),
        (lambda: draw((20, 40), border=8.0, rise=3.0), "at most half"),
        (lambda: draw((20, 20), border=6.0), "at most half"),
        (lambda: draw((20, 20), cutoff=11), "cutoff must be"),
        (lambda: draw((20, 20)).displacement(torch.rand(3)), "points must be"),
        (lambda: draw((20, 20)).refined(0), "factor must be"),
        (lambda: st.CompactField(st.Translation((1.0, 0.0), (20, 20))), "inner must be"),
    ],
)
def test_wrong_input_is_answered(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_every_warp_takes_every_domain(generator):
    x = st.grid.band_limit(torch.rand(2, 1, 20, 24, generator=generator, dtype=torch.float64))
    window = draw((20, 24), count=2)
    for warp, field in itertools.product(WARPS, (window, window.inner)):
        assert warp(x, field).shape == x.shape
