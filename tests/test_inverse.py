import math

import pytest
import torch

from stability.deformations.affine import AffineField
from stability.deformations.compact import CompactField
from stability.deformations.composition import Composition, compose
from stability.deformations.control import control
from stability.deformations.domains import Torus, Window
from stability.deformations.flow import FlowField
from stability.deformations.fourier import FourierField
from stability.deformations.inverse import FixedPoint, Inverse, Newton, inverse
from stability.deformations.max_entropy import MaxEntropyField
from stability.deformations.piecewise_linear import PiecewiseLinearField
from stability.deformations.points import push_points
from stability.deformations.series import FourierSeries
from stability.deformations.thin_plate import ThinPlateField
from stability.deformations.translation import Translation
from stability.grid import coordinates
from stability.warps.band_limited import BandLimitedWarp
from stability.warps.index import IndexWarp

SIZES = [(24,), (20, 16)]
ROUND_OFF = 1e-12


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def fourier(size, b=0.5, count=2, seed=0, cutoff=2):
    field = FourierField.sample(size, cutoff=cutoff, batch_shape=(count,), generator=rng(seed))
    return control(field, jacobian_norm=b)


def points(size, count=60, seed=5):
    return 50 * torch.rand(count, len(size), generator=rng(seed), dtype=torch.float64) - 15


def spectral(jacobian):
    return torch.linalg.matrix_norm(jacobian, 2).flatten(1).amax(1)


# composition


@pytest.mark.parametrize("size", SIZES)
def test_composing_displacements_composes_the_maps(size):
    f, g, at = fourier(size), fourier(size, b=0.3, seed=1), points(size)
    h = compose(f, g)
    phi_f = at - f.displacement(at)
    expected = phi_f - g.displacement(phi_f, each=True)  # phi_g(phi_f(u))
    torch.testing.assert_close(at - h.displacement(at), expected, rtol=0, atol=ROUND_OFF)
    other = compose(g, f).displacement(at)
    assert float((h.displacement(at) - other).abs().max()) > 1e-3  # the order matters


def test_warping_twice_is_warping_by_the_composition():
    x = torch.randn(1, 1, 8, 8, generator=rng(2), dtype=torch.float64)
    f = PiecewiseLinearField.sample((8, 8), cutoff=1, generator=rng(3))
    f = f.scaled(3.0 / f.norms().displacement.lower)
    warp, g = IndexWarp(), Translation((2.0, -3.0), size=(8, 8))
    assert torch.equal(warp(warp(x, g), f), warp(x, compose(f, g)))
    assert not torch.equal(warp(warp(x, f), g), warp(x, compose(f, g)))
    assert compose(Translation((1.0, 0.5)), Translation((2.0, 0.0))).mean.tolist() == [3.0, 0.5]


@pytest.mark.parametrize("size", SIZES)
def test_derivatives_of_a_composition_agree_with_automatic_differentiation(size):
    h = compose(fourier(size), compose(fourier(size, seed=1), Translation((0.7,) * len(size), size))) * -1.5
    for u in points(size, 3):
        first = torch.autograd.functional.jacobian(h.displacement, u)
        second = torch.autograd.functional.jacobian(h.jacobian, u)
        torch.testing.assert_close(h.jacobian(u), first, rtol=0, atol=ROUND_OFF)
        torch.testing.assert_close(h.hessian(u), second, rtol=0, atol=ROUND_OFF)


@pytest.mark.parametrize("size", SIZES)
def test_norms_of_a_composition_enclose_the_suprema(size):
    h = compose(fourier(size, b=0.4), fourier(size, b=0.6, seed=1))
    nodes = coordinates(size, oversample=5)
    j, n = h.jacobian(nodes), h.norms()
    seen = {
        "displacement": h.displacement(nodes).norm(dim=-1).flatten(1).amax(1),
        "jacobian": spectral(j),
        "divergence": j.diagonal(dim1=-2, dim2=-1).sum(-1).abs().flatten(1).amax(1),
    }
    for name, value in seen.items():
        own = getattr(n, name)
        assert bool((value <= own.lower * (1 + 1e-9)).all()), name
        assert bool((own.lower <= own.upper).all()), name
        assert bool((own.upper <= own.lower * 1.002 + 1e-3).all()), name
    f, g = h.f.norms(), h.g.norms()
    rule = f.jacobian.upper + g.jacobian.upper * (1 + f.jacobian.upper)
    torch.testing.assert_close(h.derivative_bounds()[1], rule)
    assert bool((n.jacobian.upper < 0.9 * rule).all())  # the search gains


def test_the_rules_for_a_composition_bound_four_derivatives():
    h = compose(fourier((24,), b=0.4), fourier((24,), b=0.6, seed=1))
    u = torch.linspace(0, 24, 500, dtype=torch.float64)[:, None].requires_grad_()
    for field in (h, inverse(h.f)):
        value = field.hessian(u)[..., 0, 0, 0]  # (2, 500)
        bounds = field.derivative_bounds()
        for order in (2, 3, 4):
            assert bool((value.abs().amax(1) <= bounds[order]).all()), order
            assert bool((value.abs().amax(1) >= 0.02 * bounds[order]).all()), order
            if order < 4:
                rows = [torch.autograd.grad(row.sum(), u, create_graph=True, retain_graph=True)[0] for row in value]
                value = torch.stack(rows)[..., 0]


@pytest.mark.parametrize("size", SIZES)
def test_a_translation_leaves_the_norms_of_the_derivatives_exact(size):
    f, c = fourier(size), Translation((1.5,) * len(size), size)
    for h in (compose(f, c), compose(c, f)):
        for name in ("jacobian", "hessian", "divergence"):
            assert torch.equal(getattr(h.norms(), name).upper, getattr(f.norms(), name).upper)
        a = f.norms().displacement.upper + c.norms().displacement.upper
        assert bool((h.norms().displacement.upper <= a * (1 + 1e-10)).all())
        seen = h.displacement(coordinates(size, oversample=8)).norm(dim=-1).flatten(1).amax(1)
        assert bool((seen <= h.norms().displacement.lower + 1e-9).all())


def test_batches_of_a_composition_broadcast():
    f, g = fourier((20, 16), count=3), fourier((20, 16), count=2, seed=1)[:, None]
    h, at = compose(f, g), points((20, 16), 4)
    assert h.batch_shape == (2, 3)
    expected = compose(f[1], g[1, 0]).displacement(at)
    torch.testing.assert_close(h.displacement(at)[1, 1], expected, rtol=0, atol=ROUND_OFF)
    torch.testing.assert_close(h[1, 1].displacement(at), expected, rtol=0, atol=ROUND_OFF)
    factors = torch.tensor([2.0, -1.0]).double()[:, None, None]
    assert (factors * h).batch_shape == (2, 2, 3)
    fine = h.refined(2)
    torch.testing.assert_close(fine.displacement(2 * at), 2 * h.displacement(at), rtol=0, atol=1e-11)


def test_the_domain_of_a_composition():
    torus = fourier((16, 16))
    window = CompactField.sample((16, 16), cutoff=1, generator=rng(0))
    rotation = AffineField.rotation(0.1, size=(16, 16))
    jumping = MaxEntropyField.sample((16, 16), cutoff=2, typical_displacement=0.5, generator=rng(1))
    assert compose(torus, window).domain == Torus((16, 16))
    assert compose(window, window).domain == window.domain
    assert compose(window, jumping).domain == Window((16, 16), 0.5, vanishing=True, gradient_jump=True)
    assert compose(torus, rotation).domain == rotation.domain == compose(rotation, torus).domain
    assert bool(torch.isinf(compose(torus, jumping).norms().hessian.upper).all())
    # the affine map is evaluated beyond its window: |g(u - f)| <= |g(u)| + ||grad g|| |f|
    h = compose(torus[0], rotation)
    seen = h.displacement(coordinates((16, 16), oversample=2) - 0.5).norm(dim=-1).max()
    assert float(seen) <= float(h.norms().displacement.upper) < 2 * float(seen)


def test_a_seam_inside_the_torus_is_not_taken_for_smooth():
    torus = fourier((16, 16), count=1, b=0.3)[0]
    jumping = MaxEntropyField.sample((16, 16), cutoff=2, typical_displacement=0.5, generator=rng(1))
    for h in (compose(torus, jumping), compose(jumping, torus)):
        assert not any(bool(torch.isfinite(bound).any()) for bound in h.derivative_bounds()[2:])
        nodes = coordinates((16, 16), oversample=16)
        n = h.norms()
        assert float(spectral(h.jacobian(nodes)[None])) <= float(n.jacobian.upper)
        seen = h.displacement(nodes).norm(dim=-1).max()
        assert float(seen) <= float(n.displacement.upper) <= float(seen) * 1.01


def test_what_cannot_be_composed_is_one_clear_error():
    f = fourier((16, 16))
    with pytest.raises(ValueError, match="one size"):
        compose(f, fourier((20, 16)))
    with pytest.raises(ValueError, match="g must be a Deformation"):
        compose(f, 3.0)
    with pytest.raises(ValueError, match="batches must broadcast"):
        compose(f, fourier((16, 16), count=3))


# inverse


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("b", [0.5, 0.9])
@pytest.mark.parametrize("solver", [None, FixedPoint(), Newton(tolerance=1e-11)])
def test_composing_with_the_inverse_is_the_identity(size, b, solver):
    tau, at = fourier(size, b=b), points(size, 500)
    sigma = inverse(tau, solver)
    assert float(compose(tau, sigma).displacement(at).abs().max()) < 1e-9
    assert float(compose(sigma, tau).displacement(at).abs().max()) < 1e-9
    assert float(compose(tau, -tau).displacement(at).abs().max()) > 1e-2  # what others call the inverse


def test_warping_by_the_inverse_gives_the_image_back():
    tau = fourier((64, 64), count=1, cutoff=3)[0]
    x = FourierField.sample((64, 64), cutoff=8, generator=rng(4)).on_grid()[..., 0][None, None]
    warp = BandLimitedWarp()
    back = warp(warp(x, tau), inverse(tau))
    assert float((back - x).abs().max()) < 1e-9 * float(x.abs().max())
    assert float((warp(warp(x, tau), -tau) - x).abs().max()) > 1e-2 * float(x.abs().max())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("b", [0.3, 0.95])
@pytest.mark.parametrize("solver", [FixedPoint(tolerance=1e-6), FixedPoint(iterations=3), Newton(tolerance=1e-4)])
def test_the_error_is_below_what_is_certified(size, b, solver):
    """At v = u - tau(u) the true value is -tau(u): no equation need be solved to know it."""
    tau, u = fourier(size, b=b), points(size, 400)
    sigma = inverse(tau, solver)
    forth = tau.displacement(u)
    true = (sigma.displacement(u - forth, each=True) + forth).norm(dim=-1).amax(1)
    assert bool((true <= sigma.error).all())
    if solver == FixedPoint(iterations=3):
        n = tau.norms()
        own, a = n.jacobian.upper, n.displacement.upper
        torch.testing.assert_close(sigma.error, own**3 * a / (1 - own))
        assert bool((true > 1e-3 * sigma.error).all())


@pytest.mark.parametrize("size", SIZES)
def test_derivatives_of_the_inverse_are_those_of_the_implicit_function(size):
    sigma = inverse(fourier(size))
    for v in points(size, 3):
        first = torch.autograd.functional.jacobian(sigma.displacement, v, create_graph=True)
        second = torch.autograd.functional.jacobian(sigma.jacobian, v)
        torch.testing.assert_close(sigma.jacobian(v), first, rtol=0, atol=ROUND_OFF)
        torch.testing.assert_close(sigma.hessian(v), second, rtol=0, atol=ROUND_OFF)
        twice = torch.autograd.functional.hessian(lambda p: sigma.displacement(p)[0, 0], v)
        torch.testing.assert_close(sigma.hessian(v)[0, 0], twice, rtol=0, atol=ROUND_OFF)


def test_gradients_with_respect_to_points_and_coefficients_agree_with_differences():
    tau, v = fourier((20, 16), count=1, cutoff=1)[0], points((20, 16), 2)
    cosine, at = tau.cosine.clone().requires_grad_(), v.clone().requires_grad_()

    def value(cosine, at):
        field = FourierSeries(tau.modes, cosine, tau.sine, size=tau.size)
        return Inverse(field).displacement(at).sum(), Inverse(field).jacobian(at)[..., 0, 1]

    assert torch.autograd.gradcheck(value, (cosine, at), atol=1e-6)


def test_inverses_with_closed_forms_are_exact():
    tau = fourier((20, 16))
    assert inverse(inverse(tau)) is tau
    assert inverse(Translation((3.0, -1.0))).mean.tolist() == [-3.0, 1.0]
    rotation = AffineField.rotation(0.3, size=(20, 16))
    torch.testing.assert_close(inverse(rotation).matrix, AffineField.rotation(-0.3, size=(20, 16)).matrix)
    flow = FlowField(tau)
    assert torch.equal(inverse(flow).velocity.cosine, -tau.cosine)
    both = compose(tau, flow)
    back, at = inverse(both), points((20, 16))
    assert isinstance(back, Composition)
    assert inverse(back.g) is both.f
    assert float(compose(both, back).displacement(at).abs().max()) < 1e-10


@pytest.mark.parametrize("size", SIZES)
def test_norms_of_the_inverse_are_those_of_the_field_and_of_functions_of_its_gradient(size):
    tau = fourier(size, b=0.6)
    sigma = inverse(tau)
    n, own = sigma.norms(), tau.norms()
    for name in ("displacement", "oscillation"):
        assert torch.equal(getattr(n, name).lower, getattr(own, name).lower)
        assert torch.equal(getattr(n, name).upper, getattr(own, name).upper)
    at = coordinates(size, oversample=6)
    j = sigma.jacobian(at)
    seen = spectral(j)
    assert bool((seen <= n.jacobian.lower * (1 + 1e-9)).all())
    assert bool((seen >= 0.97 * n.jacobian.lower).all())
    assert bool((n.jacobian.upper <= 1.002 * n.jacobian.lower).all())
    assert bool((n.jacobian.upper <= own.jacobian.upper / (1 - own.jacobian.upper) * (1 + 1e-9)).all())
    bent = sigma.hessian(at)[..., 0, 0].norm(dim=-1).flatten(1).amax(1)
    assert bool((bent <= n.hessian.lower * (1 + 1e-9)).all())
    assert bool((n.hessian.upper <= 1.01 * n.hessian.lower).all())
    divergence = j.diagonal(dim1=-2, dim2=-1).sum(-1).abs().flatten(1).amax(1)
    assert bool((divergence <= n.divergence.lower * (1 + 1e-9)).all())
    # det(I - grad sigma) = 1 / det(I - grad tau)
    determinant = torch.linalg.det(torch.eye(len(size)).double() - j).flatten(1)
    assert bool((determinant.amin(1) >= n.determinant_infimum.lower * (1 - 1e-9)).all())
    assert bool((determinant.amax(1) <= n.determinant_supremum.upper * (1 + 1e-9)).all())
    assert bool((n.determinant_supremum.upper <= 1.1 * determinant.amax(1)).all())


def test_in_one_dimension_the_steepest_place_is_where_the_field_compresses():
    tau = fourier((24,), b=0.6, count=6)
    j = tau.jacobian(coordinates((24,), oversample=4000))[..., 0, 0]
    expected = torch.maximum(j.amax(1) / (1 - j.amax(1)), -j.amin(1) / (1 - j.amin(1)))
    torch.testing.assert_close(inverse(tau).norms().jacobian.lower, expected, rtol=1e-6, atol=0)


@pytest.mark.slow
def test_a_steep_field_is_inverted_from_a_good_start():
    flow = FlowField(fourier((16, 12), b=1.2, cutoff=1, count=1))
    assert bool((flow.norms().jacobian.lower > 1).all())
    at = points((16, 12), 100)
    solved = Inverse(flow)
    torch.testing.assert_close(solved.displacement(at), inverse(flow).displacement(at), rtol=0, atol=1e-10)
    assert bool((solved.error < 1e-10).all())  # certified by the determinant
    forth = flow.displacement(at)
    true = (solved.displacement(at - forth, each=True) + forth).norm(dim=-1).amax(1)
    assert bool((true <= solved.error).all())


def test_fields_without_an_inverse_are_refused():
    folded = fourier((24,), b=3.0)
    with pytest.raises(ValueError, match="tau must have an inverse"):
        inverse(folded)
    with pytest.raises(ValueError, match="FixedPoint needs jacobian norms below 1"):
        Inverse(fourier((24,), b=1.5), solver=FixedPoint())
    with pytest.raises(ValueError, match="solver must be"):
        inverse(fourier((24,)), "newton")
    with pytest.raises(ValueError, match="tolerance must be positive"):
        Newton(tolerance=0.0)
    with pytest.raises(ValueError, match="iterations must be an integer"):
        FixedPoint(iterations=0)
    with pytest.raises(ValueError, match="tau must be a Deformation"):
        inverse(torch.zeros(2))
    with pytest.raises(RuntimeError, match="was not solved at"):
        Inverse(fourier((24,)), solver=Newton(iterations=1)).displacement(points((24,)))


def test_multiples_of_an_inverse_are_fields_too():
    sigma, at = inverse(fourier((20, 16))), points((20, 16), 5)
    half = 0.5 * sigma
    torch.testing.assert_close(half.displacement(at), 0.5 * sigma.displacement(at))
    torch.testing.assert_close(half.norms().jacobian.lower, 0.5 * sigma.norms().jacobian.lower)
    torch.testing.assert_close(half.error, 0.5 * sigma.error)
    assert not bool(half.injective.any())
    assert bool(sigma.injective.all())
    assert float(compose(half, inverse(half)).displacement(at).abs().max()) < 1e-9
    torch.testing.assert_close(sigma[1].displacement(at), sigma.displacement(at)[1], rtol=0, atol=ROUND_OFF)
    fine = sigma.refined(2)
    torch.testing.assert_close(fine.displacement(2 * at), 2 * sigma.displacement(at), rtol=0, atol=1e-11)


def test_a_field_that_vanishes_at_the_border_has_such_an_inverse():
    tau = control(CompactField.sample((16, 16), cutoff=2, generator=rng(2), border=2.0), jacobian_norm=0.6)
    sigma = inverse(tau)
    assert sigma.domain == tau.domain
    at = torch.tensor([[-0.4, 3.0], [1.0, 8.0], [8.0, 8.0], [24.0, 8.0]]).double()
    moved = sigma.displacement(at)
    assert not moved[:2].any()
    torch.testing.assert_close(moved[2], moved[3], rtol=0, atol=1e-11)  # continued with the image's period
    assert float(moved[2].norm()) > 1e-3


def test_the_inverse_of_a_piecewise_linear_field_has_exact_norms():
    tau = control(PiecewiseLinearField.sample((16, 16), cutoff=2, generator=rng(3)), jacobian_norm=0.6)
    sigma, at = inverse(tau), points((16, 16), 300)
    assert float(compose(tau, sigma).displacement(at).abs().max()) < 1e-9
    assert torch.equal(sigma.norms().jacobian.lower, sigma.norms().jacobian.upper)
    assert float(torch.linalg.matrix_norm(sigma.jacobian(at), 2).max()) <= float(sigma.norms().jacobian.upper) * (
        1 + 1e-12
    )
    assert math.isinf(float(sigma.norms().hessian.upper))


def test_single_precision_inverses_say_how_accurate_they_are():
    tau = fourier((20, 16)).to(dtype=torch.float32)
    sigma, u = inverse(tau), points((20, 16), 100)
    forth = tau.displacement(u)
    true = (sigma.displacement(u - forth, each=True) + forth).norm(dim=-1).amax(1)
    assert bool((true <= sigma.error).all())
    assert bool((sigma.error < 1e-3).all())


def test_fields_without_certified_norms_are_inverted_as_well():
    """Their upper norms are inf: no reason to take the nearest node of a grid for the solution."""
    thin = control(ThinPlateField.sample((32, 32), generator=rng(13)), jacobian_norm=0.5)
    assert thin.norms().displacement.upper.isinf()
    pushed = push_points(thin, points((32, 32)))
    torch.testing.assert_close(pushed - thin.displacement(pushed), points((32, 32)), rtol=0, atol=1e-9)
    assert compose(inverse(thin), thin).displacement(points((32, 32))).abs().max() < 1e-9
