"""Bumps and local affine fields: the window psi and its constants, exact norms, exact zeros."""

import itertools
import math

import pytest
import torch

import stability as st
from stability.deformations import radial
from stability.deformations.affine import AffineField
from stability.deformations.bump import BumpField
from stability.deformations.domains import Torus
from stability.deformations.local_affine import LocalAffineField
from stability.deformations.sum import Sum

ROUND_OFF = 1e-12
SIZES = [(32,), (32, 32), (24, 40)]
FAMILIES = [BumpField, LocalAffineField]
each_case = pytest.mark.parametrize(("family", "size"), list(itertools.product(FAMILIES, SIZES)))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def sample(family, size, count=4, seed=0, **arguments):
    return family.sample(size, batch_shape=(count,), generator=rng(seed), **arguments)


def points(size, count=60, seed=5):
    """All over the torus and up to two periods outside."""
    return (5 * torch.rand(count, len(size), generator=rng(seed), dtype=torch.float64) - 2) * st.grid.sides(size)


def around(field, radii=501, angles=90, reach=1.05):
    """Points of a polar grid about each field's centre, up to ``reach`` radii away: ``(n, P, d)``."""
    t = torch.linspace(0, reach, radii, dtype=torch.float64)
    if field.d == 1:
        unit = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    else:
        phi = torch.arange(angles, dtype=torch.float64) * (2 * math.pi / angles)
        unit = torch.stack([phi.cos(), phi.sin()], dim=-1)
    arms = (t[:, None, None] * unit).flatten(0, 1)  # (P, d)
    return field.centre[:, None] + field.radius[:, None, None] * arms


def bend(hessian, angles=60):
    """sup over unit e of |D^2 tau(e, e)| seen on a grid of directions: a symmetric form is largest on the diagonal."""
    if hessian.shape[-1] == 1:
        return hessian[..., 0, 0, 0].abs()
    phi = torch.arange(angles, dtype=torch.float64) * (math.pi / angles)
    e = torch.stack([phi.cos(), phi.sin()], dim=-1)
    pairs = torch.stack([e[:, 0] ** 2, 2 * e[:, 0] * e[:, 1], e[:, 1] ** 2])  # (3, E)
    parts = hessian.flatten(-2)[..., [0, 1, 3]]
    return (parts @ pairs).norm(dim=-2).amax(-1)


def psi(t):
    return torch.exp(1 - 1 / (1 - t * t))


def along(function, t, order):
    """Derivatives of order 0, ..., ``order`` of a function of one variable, by automatic differentiation."""
    t = t.clone().requires_grad_()
    values = [function(t)]
    for _ in range(order):
        values.append(torch.autograd.grad(values[-1].sum(), t, create_graph=True)[0])
    return [value.detach() for value in values]


# --- the window and its constants


def test_constants_are_the_maxima_of_a_dense_grid():
    t = torch.linspace(0, 0.9999, 200_001, dtype=torch.float64)
    p = along(psi, t, 4)
    chi = along(lambda u: u * psi(u), t, 2)
    for peak, values in [
        (radial.SLOPE, p[1]),
        (radial.CURVATURE, p[2]),
        (radial.THIRD, p[3]),
        (radial.FOURTH, p[4]),
        (radial.REACH, chi[0]),
        (radial.STRETCH, chi[1]),
        (radial.BEND, chi[2]),
    ]:
        found = values.abs().max()
        assert float(found) <= peak.value * (1 + 1e-12)
        assert float(found) >= peak.value * (1 - 1e-7)
        assert float(t[values.abs().argmax()]) == pytest.approx(peak.place, abs=1e-4)
    off_radius = (p[1] / t)[1:].abs().max()
    assert float(off_radius) == pytest.approx(8 / math.e, rel=1e-8)
    assert radial.CURVATURE.value > 8 / math.e


def test_constants_with_a_closed_form_have_it():
    w = (3 + math.sqrt(3)) / 2
    assert radial.SLOPE.place == pytest.approx(3**-0.25, rel=1e-12)
    assert radial.SLOPE.value == pytest.approx(2 * 3**-0.25 * w * w * math.exp(1 - w), rel=1e-13)
    assert radial.REACH.place == pytest.approx(math.sqrt(2 - math.sqrt(3)), rel=1e-12)
    assert radial.REACH.value == pytest.approx(
        math.sqrt(2 - math.sqrt(3)) * math.exp((1 - math.sqrt(3)) / 2), rel=1e-13
    )
    w = (3 + math.sqrt(7)) / 2
    assert radial.STRETCH.value == pytest.approx((2 * w * w - 2 * w - 1) * math.exp(1 - w), rel=1e-13)


@pytest.mark.parametrize("family", FAMILIES)
def test_derivative_bounds_hold_along_lines_in_every_direction(family):
    field = sample(family, (32, 32), 3)
    bounds = torch.stack(field.derivative_bounds())  # (5, n)
    phi = torch.arange(12, dtype=torch.float64) * (math.pi / 12)
    u = around(field, radii=241, angles=24, reach=0.999)
    largest = torch.zeros_like(bounds)
    for direction in torch.stack([phi.cos(), phi.sin()], dim=-1):
        for axis in range(2):
            step = torch.zeros(u.shape[:-1], dtype=torch.float64)
            along_line = along(
                lambda s, e=direction, axis=axis: field.displacement(u + s[..., None] * e, each=True)[..., axis],
                step,
                4,
            )
            values = torch.stack([value.abs().amax(1) for value in along_line])
            largest = torch.maximum(largest, values)
    assert bool((largest <= bounds * (1 + 1e-9)).all())
    # each component alone is at least 1 / sqrt(2) of the length for some direction of the vector
    assert bool((largest >= 0.6 * bounds).all())


# --- fields


@each_case
def test_derivatives_agree_with_automatic_differentiation(family, size):
    field, at = sample(family, size), points(size, 300)
    first = torch.autograd.functional.jacobian(lambda p: field.displacement(p).sum(1), at)  # (n, d, P, d)
    second = torch.autograd.functional.jacobian(lambda p: field.jacobian(p).sum(1), at)
    assert bool(field.hessian(at).abs().amax() > 1e-2)
    torch.testing.assert_close(field.jacobian(at), first.movedim(-2, 1), rtol=0, atol=ROUND_OFF)
    torch.testing.assert_close(field.hessian(at), second.movedim(-2, 1), rtol=0, atol=ROUND_OFF)


@each_case
def test_it_is_exactly_zero_outside_the_disc_and_periodic(family, size):
    field, at, period = sample(family, size), points(size, 500), st.grid.sides(size)
    offset = at - field.centre[:, None]
    distance = (offset - period * (offset / period).round()).norm(dim=-1)  # (n, P)
    outside = distance >= field.radius[:, None]
    assert bool(outside.any(1).all())
    for value in (field.displacement(at), field.jacobian(at), field.hessian(at)):
        flat = value.flatten(2).abs().amax(-1)
        assert not flat[outside].any()
        assert bool((flat[distance < 0.9 * field.radius[:, None]] > 0).all())
    shift = period * torch.tensor([1.0, -2.0], dtype=torch.float64)[: len(size)]
    torch.testing.assert_close(field.displacement(at + shift), field.displacement(at), rtol=0, atol=1e-11)
    assert field.domain == Torus(size)
    assert not field.mean.any()


@each_case
def test_norms_are_exact(family, size):
    field = sample(family, size, 3)
    u = around(field)
    tau, jacobian = field.displacement(u, each=True), field.jacobian(u, each=True)
    n = field.norms()
    pairs = tau[:, :: 1 if field.d == 1 else 61]
    for interval, value, gap in [
        (n.displacement, tau.norm(dim=-1).amax(1), 1e-3),
        (n.jacobian, torch.linalg.matrix_norm(jacobian, 2).amax(1), 1e-3),
        (n.divergence, jacobian.diagonal(dim1=-2, dim2=-1).sum(-1).abs().amax(1), 2e-3),
        (n.hessian, bend(field.hessian(u, each=True)[:, ::3]).amax(1), 5e-3),
        (n.oscillation, torch.cdist(pairs, pairs).amax((1, 2)), 1e-2),
    ]:
        assert bool((value <= interval.upper).all())
        assert bool((value >= interval.lower * (1 - gap)).all())
        torch.testing.assert_close(interval.upper, interval.lower, rtol=2e-11, atol=0)


@each_case
def test_norms_are_attained_at_the_places_that_are_named(family, size):
    field = sample(family, size, 6, seed=2)
    farthest, steepest = field.places()
    tau = field.displacement(farthest, each=True).norm(dim=-1)
    jacobian = torch.linalg.matrix_norm(field.jacobian(steepest, each=True), 2)
    torch.testing.assert_close(tau, field.norms().displacement.lower, rtol=ROUND_OFF, atol=0)
    torch.testing.assert_close(jacobian, field.norms().jacobian.lower, rtol=ROUND_OFF, atol=0)


@each_case
def test_the_second_derivative_is_attained_along_the_radius(family, size):
    field = sample(family, size, 6, seed=2)
    if family is BumpField:
        peak, e = radial.CURVATURE, field.vector / field.vector.norm(dim=-1, keepdim=True)
    else:
        peak, e = radial.BEND, torch.linalg.svd(field.matrix).Vh[:, 0]
    hessian = field.hessian(field.centre + peak.place * field.radius[:, None] * e, each=True)
    value = torch.einsum("nijk,nj,nk->ni", hessian, e, e).norm(dim=-1)
    torch.testing.assert_close(value, field.norms().hessian.lower, rtol=ROUND_OFF, atol=0)


MATRICES = {
    "rotation": [[0.1, 0.7], [-0.7, 0.1]],
    "trace-free": [[0.3, 0.1], [0.4, -0.3]],
    "dilation": [[0.2, 0.0], [0.0, 0.2]],
    "one direction": [[0.5, 0.0], [0.0, 0.0]],
    "antisymmetric": [[0.0, 0.3], [-0.3, 0.0]],
    "opposite": [[0.9, 0.0], [0.0, -0.2]],
    "zero": [[0.0, 0.0], [0.0, 0.0]],
}


@pytest.mark.parametrize("name", MATRICES)
def test_the_divergence_of_special_matrices(name):
    field = LocalAffineField(torch.tensor([MATRICES[name]], dtype=torch.float64), None, 9.0, (24, 40))
    jacobian = field.jacobian(around(field, radii=2001, angles=180), each=True)
    value, interval = jacobian.diagonal(dim1=-2, dim2=-1).sum(-1).abs().amax(1), field.norms().divergence
    assert bool((value <= interval.upper + 1e-15).all())
    assert bool((value >= interval.lower * (1 - 1e-5)).all())


@each_case
def test_norms_are_homogeneous_and_follow_refinement(family, size):
    field, at = sample(family, size), points(size)
    fine, scaled = field.refined(3), -2.5 * field
    torch.testing.assert_close(fine.displacement(3 * at), 3 * field.displacement(at), rtol=0, atol=1e-11)
    for name, power in (("displacement", 1), ("jacobian", 0), ("hessian", -1), ("divergence", 0), ("oscillation", 1)):
        norm = getattr(field.norms(), name).lower
        for kept in (scaled.norms(), scaled.suprema()):
            torch.testing.assert_close(getattr(kept, name).lower, 2.5 * norm)
        for kept in (fine.norms(), fine.suprema()):
            torch.testing.assert_close(getattr(kept, name).lower, 3**power * norm)


@each_case
def test_the_same_field_at_every_resolution(family, size):
    double, at = tuple(2 * n for n in size), points(size)
    for radius in (None, 5.0):
        coarse = sample(family, size, radius=radius)
        fine = sample(family, double, radius=None if radius is None else 2 * radius)
        torch.testing.assert_close(fine.displacement(2 * at), 2 * coarse.displacement(at), rtol=0, atol=1e-11)
    torch.testing.assert_close(sample(family, size, radius=5.0).centre, sample(family, size).centre)
    radii = sample(family, size, 2000).radius / min(size)
    assert float(radii.min()) >= 1 / 8
    assert float(radii.max()) <= 1 / 2
    assert float(radii.mean()) == pytest.approx(5 / 16, rel=0.02)


def test_a_sampled_bump_has_the_documented_length():
    length = sample(BumpField, (32, 64), 100).norms().displacement.lower
    torch.testing.assert_close(length, torch.ones_like(length))


@each_case
def test_equal_places_add_inside_the_family(family, size):
    f, at = sample(family, size), points(size)
    g = -0.3 * f
    assert isinstance(f + g, family)
    torch.testing.assert_close((f + g).displacement(at), 0.7 * f.displacement(at))
    elsewhere = sample(family, size, seed=3)
    assert isinstance(f + elsewhere, Sum)
    torch.testing.assert_close((f + elsewhere).jacobian(at), f.jacobian(at) + elsewhere.jacobian(at))


@each_case
def test_the_state_rebuilds_the_field(family, size):
    field = sample(family, size)
    for one in (field, field[0]):
        tensors, settings = one.state()
        assert tensors["radius"].shape == one.batch_shape
        again = family(**tensors, **settings)
        assert torch.equal(again.displacement(points(size)), one.displacement(points(size)))


@pytest.mark.parametrize("family", FAMILIES)
def test_another_type_keeps_the_field_and_its_derivatives_are_finite_up_to_the_circle(family):
    field = sample(family, (32, 32), 3)
    single = field.to(dtype=torch.float32)
    u = around(field, radii=4001, angles=8).float().requires_grad_()
    tau = single.displacement(u, each=True)
    torch.testing.assert_close(tau.double(), field.displacement(u.double(), each=True), rtol=0, atol=1e-5)
    (first,) = torch.autograd.grad(tau.sum(), u, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), u)
    for value in (first, second, single.hessian(u, each=True)):
        assert bool(torch.isfinite(value).all())


def test_gradients_reach_what_a_bump_is_made_of():
    arguments = [torch.tensor(value, dtype=torch.float64) for value in ([1.5, -0.5], [9.0, 30.0], 7.0)]
    arguments = [value.requires_grad_() for value in arguments]
    at = torch.tensor([[8.0, 28.0], [11.0, 1.0], [3.0, 30.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda v, c, r: BumpField(v, c, r, (32, 32)).displacement(at), arguments)
    assert torch.autograd.gradcheck(lambda v, c, r: BumpField(v, c, r, (32, 32)).jacobian(at), arguments)


def test_gradients_reach_what_a_local_rotation_is_made_of():
    arguments = [torch.tensor(value, dtype=torch.float64) for value in (0.4, [9.0, 30.0], 7.0)]
    arguments = [value.requires_grad_() for value in arguments]
    at = torch.tensor([[8.0, 28.0], [11.0, 1.0], [3.0, 30.0]], dtype=torch.float64)

    def turned(angle, centre, radius):
        return LocalAffineField.rotation(angle, centre=centre, radius=radius, size=(32, 32))

    assert torch.autograd.gradcheck(lambda *values: turned(*values).displacement(at), arguments)
    assert torch.autograd.gradcheck(lambda *values: turned(*values).jacobian(at), arguments)


@pytest.mark.parametrize("centre", [None, (5.0, 3.0)])
def test_a_local_affine_field_is_the_affine_field_at_its_centre(centre):
    size, b = (24, 40), [[1.1, 0.2], [-0.1, 0.9]]
    pairs = [
        (AffineField.rotation(0.3, centre=centre, size=size),
         LocalAffineField.rotation(0.3, centre=centre, radius=10.0, size=size)),
        (AffineField.dilation(1.2, centre=centre, size=size),
         LocalAffineField.dilation(1.2, centre=centre, radius=10.0, size=size)),
        (AffineField.shear(0.3, 1, centre=centre, size=size),
         LocalAffineField.shear(0.3, 1, centre=centre, radius=10.0, size=size)),
        (AffineField.general(b, centre=centre, size=size),
         LocalAffineField.general(b, centre=centre, radius=10.0, size=size)),
    ]  # fmt: skip
    for whole, local in pairs:
        c = whole.centre
        torch.testing.assert_close(local.centre, c)
        assert float(local.displacement(c).norm()) == 0.0
        torch.testing.assert_close(local.jacobian(c), whole.jacobian(c))
        s = torch.tensor([2.0, -1.0], dtype=torch.float64)
        fade = psi(s.norm() / 10)
        torch.testing.assert_close(local.displacement(c + s), fade * whole.displacement(c + s))


BAD_INPUT = [
    (lambda: BumpField((1.0,), None, 4.0, (16, 16)), "vector must be finite numbers of shape"),
    (lambda: BumpField((1.0, math.inf), None, 4.0, (16, 16)), "NaN, infinite"),
    (lambda: BumpField((1.0, 0.0), (1.0,), 4.0, (16, 16)), "centre must be"),
    (lambda: BumpField((1.0, 0.0), None, 0.0, (16, 16)), "radius must be positive and at most 8.0 px"),
    (lambda: BumpField((1.0, 0.0), None, 8.5, (16, 40)), "radius must be positive and at most 8.0 px"),
    (lambda: BumpField(torch.ones(3, 2), None, torch.ones(4), (16, 16)), "batches must broadcast"),
    (lambda: BumpField((1.0, 0.0), None, 4.0, (16, 16)).refined(0), "factor must be"),
    (lambda: BumpField.sample((16, 16), radius=9.0, generator=rng()), "radius must be"),
    (lambda: LocalAffineField(torch.ones(2), None, 4.0, (16, 16)), "matrix must be"),
    (lambda: LocalAffineField(torch.ones(1, 1), None, math.nan, (16,)), "radius must be"),
    (lambda: LocalAffineField.rotation(0.1, radius=4.0, size=(16,)), "a rotation must have a size"),
    (lambda: LocalAffineField.shear(0.1, 3, radius=4.0, size=(16, 16)), "axis must be"),
    (lambda: LocalAffineField.dilation(-1.0, radius=4.0, size=(16,)), "factor must be positive"),
    (lambda: LocalAffineField.general(torch.zeros(2, 2), radius=4.0, size=(16, 16)), "must be invertible"),
]


@pytest.mark.parametrize(("make", "message"), BAD_INPUT)
def test_wrong_input_is_answered(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_generator_is_asked_for(family):
    with pytest.raises(TypeError, match="generator"):
        family.sample((16, 16), generator=None)
