"""Thin-plate splines: interpolation, another implementation, invariances, seen norms, the logarithm at the points."""

import math

import pytest
import torch
from scipy.interpolate import CubicSpline, RBFInterpolator

import stability as st
from stability.deformations.domains import Window
from stability.deformations.sum import Sum
from stability.deformations.thin_plate import ThinPlateField

SIZES = [(24,), (24, 24), (20, 32)]
NORMS = ("displacement", "jacobian", "hessian", "divergence")


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def sample(size, count=3, seed=0, **arguments):
    return ThinPlateField.sample(size, batch_shape=(count,), generator=rng(seed), **arguments)


def inside(size, count=40, seed=5):
    return torch.rand(count, len(size), generator=rng(seed), dtype=torch.float64) * st.grid.sides(size) - 0.5


@pytest.mark.parametrize("size", SIZES)
def test_the_displacements_are_met_at_the_control_points(size):
    field = sample(size)
    torch.testing.assert_close(field.displacement(field.points, each=True), field.displacements, rtol=0, atol=1e-12)
    # the deformed image shows at p_k what x holds at p_k - v_k
    fed_from = field.points - field.displacement(field.points, each=True)
    torch.testing.assert_close(fed_from, field.points - field.displacements, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", SIZES[1:])
def test_in_two_dimensions_it_is_what_scipy_computes(size):
    field, at = sample(size), inside(size)
    for one in field:
        spline = RBFInterpolator(one.points.numpy(), one.displacements.numpy(), kernel="thin_plate_spline")
        torch.testing.assert_close(one.displacement(at), torch.from_numpy(spline(at.numpy())), rtol=0, atol=1e-10)


def test_in_one_dimension_it_is_the_natural_cubic_spline():
    for field in sample((24,)):
        order = field.points[:, 0].argsort()
        places, values = field.points[order, 0], field.displacements[order, 0]
        spline = CubicSpline(places.numpy(), values.numpy(), bc_type="natural")
        at = torch.linspace(float(places[0]), float(places[-1]), 101, dtype=torch.float64)
        for evaluate, order in ((field.displacement, 0), (field.jacobian, 1), (field.hessian, 2)):
            expected = torch.from_numpy(spline(at.numpy(), order))
            torch.testing.assert_close(evaluate(at[:, None]).flatten(), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("size", SIZES)
def test_derivatives_agree_with_automatic_differentiation(size):
    field, at = sample(size), inside(size)
    first = torch.autograd.functional.jacobian(lambda p: field.displacement(p).sum(1), at)
    second = torch.autograd.functional.jacobian(lambda p: field.jacobian(p).sum(1), at)
    assert bool(field.hessian(at).abs().amax() > 1e-2)
    torch.testing.assert_close(field.jacobian(at), first.movedim(-2, 1), rtol=0, atol=1e-12)
    torch.testing.assert_close(field.hessian(at), second.movedim(-2, 1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_affine_displacements_give_the_affine_field(size):
    points, d = sample(size).points, len(size)
    matrix = 0.1 * torch.randn(d, d, generator=rng(1), dtype=torch.float64)
    field, at = ThinPlateField(points, points @ matrix.T + 1.5, size), inside(size)
    torch.testing.assert_close(field.displacement(at), (at @ matrix.T + 1.5).expand(3, -1, -1), rtol=0, atol=1e-11)
    torch.testing.assert_close(field.jacobian(at), matrix.expand(3, len(at), d, d), rtol=0, atol=1e-11)
    assert float(field.hessian(at).abs().max()) < 1e-11


def test_turning_and_enlarging_the_points_turns_and_enlarges_the_field():
    field, at = sample((24, 24)), inside((24, 24))
    cosine, sine = math.cos(0.7), math.sin(0.7)
    turn = 1.3 * torch.tensor([[cosine, -sine], [sine, cosine]], dtype=torch.float64)
    turned = ThinPlateField(field.points @ turn.T, field.displacements @ turn.T, (24, 24))
    expected = field.displacement(at) @ turn.T
    torch.testing.assert_close(turned.displacement(at @ turn.T), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("size", SIZES)
def test_it_is_linear_in_the_displacements(size):
    f, at = sample(size), inside(size)
    g = ThinPlateField(f.points, sample(size, seed=1).displacements, size)
    both = ThinPlateField(f.points, f.displacements - 0.5 * g.displacements, size)
    assert isinstance(f - 0.5 * g, ThinPlateField)
    for made in (f - 0.5 * g, both):
        torch.testing.assert_close(
            made.displacement(at), f.displacement(at) - 0.5 * g.displacement(at), rtol=0, atol=1e-11
        )
    torch.testing.assert_close((f - 0.5 * g).displacements, both.displacements)
    assert isinstance(f + sample(size, seed=2), Sum)
    assert isinstance(f + ThinPlateField(f.points, f.displacements, size, edge=0.0), Sum)


@pytest.mark.parametrize("size", [(24,), (20, 32)])
def test_the_norms_seen_are_at_least_those_of_a_dense_grid_and_nothing_is_certified(size):
    field = sample(size, 2, lattice=3)
    axes = [torch.linspace(-0.5, n - 0.5, 5 * n + 1, dtype=torch.float64) for n in reversed(size)]
    at = torch.cartesian_prod(*axes).reshape(-1, len(size))
    jacobian, n = field.jacobian(at), field.norms()
    for interval, values in [
        (n.displacement, field.displacement(at).norm(dim=-1)),
        (n.jacobian, torch.linalg.matrix_norm(jacobian, 2)),
        (n.divergence, jacobian.diagonal(dim1=-2, dim2=-1).sum(-1).abs()),
    ]:
        value = values.amax(1)
        assert bool((interval.lower >= value * (1 - 1e-6)).all())
        assert bool((interval.lower <= value * 1.02).all())
        assert bool(torch.isinf(interval.upper).all())
    assert bool(torch.isinf(n.hessian.upper).all())
    assert field.domain == Window(size, 0.5)


def test_the_second_derivative_grows_like_a_logarithm_at_a_control_point():
    field = sample((24, 24), 1)[0]
    p, e = field.points[5], torch.tensor([0.6, 0.8], dtype=torch.float64)
    near = torch.stack([p + 10.0**-k * e for k in (3, 5, 7)])
    steps = field.hessian(near).diff(dim=0)
    torch.testing.assert_close(steps[0], steps[1], rtol=1e-2, atol=1e-4)  # equal steps for equal ratios of distances
    assert float(steps[0].abs().max()) > 1e-2
    eye = torch.eye(2, dtype=torch.float64)
    torch.testing.assert_close(steps[0], steps[0][:, :1, :1] * eye, rtol=0, atol=1e-3)  # w_k log(q) I
    assert bool(torch.isfinite(field.hessian(p)).all())


@pytest.mark.parametrize("size", SIZES)
def test_the_same_field_at_every_resolution(size):
    field, at = sample(size), inside(size)
    double = tuple(2 * n for n in size)
    torch.testing.assert_close(sample(double).displacement(2 * at), 2 * field.displacement(at), rtol=0, atol=1e-11)
    fine = field.refined(2)
    assert fine.domain == Window(double, 1.0)
    torch.testing.assert_close(fine.displacement(2 * at), 2 * field.displacement(at), rtol=0, atol=1e-11)
    torch.testing.assert_close(fine.jacobian(2 * at), field.jacobian(at), rtol=0, atol=1e-11)
    torch.testing.assert_close(fine.hessian(2 * at), field.hessian(at) / 2, rtol=0, atol=1e-11)


def test_norms_are_homogeneous_and_one_norm_can_be_asked_for():
    field = sample((16, 16), 2, lattice=3)
    scaled = -2.5 * field
    for name in NORMS:
        torch.testing.assert_close(getattr(scaled.norms(), name).lower, 2.5 * getattr(field.norms(), name).lower)
    torch.testing.assert_close(scaled.suprema().jacobian.lower, scaled.norms().jacobian.lower)
    found = st.control(field, displacement_norm=2.0)
    torch.testing.assert_close(found.suprema().displacement.lower, torch.full((2,), 2.0, dtype=torch.float64))
    with pytest.raises(ValueError, match="two norms at once"):
        st.control(field, displacement_norm=1.0, jacobian_norm=0.2)


@pytest.mark.parametrize("size", SIZES)
def test_indexing_types_and_state_keep_the_field(size):
    field, at = sample(size), inside(size)
    for index in (2, slice(1, 3), torch.tensor([2, 0])):
        torch.testing.assert_close(field[index].displacement(at), field.displacement(at)[index], rtol=0, atol=1e-13)
    tensors, settings = field.state()
    assert set(tensors) == {"points", "displacements"}
    assert torch.equal(ThinPlateField(**tensors, **settings).displacement(at), field.displacement(at))
    single = field.to(dtype=torch.float32)
    torch.testing.assert_close(single.displacement(at.float()).double(), field.displacement(at), rtol=0, atol=3e-5)


def test_batches_of_points_and_displacements_broadcast():
    several, at = sample((24, 24)), inside((24, 24))
    one = several.displacements[0]
    field = ThinPlateField(several.points, one, (24, 24))
    assert field.batch_shape == (3,)
    torch.testing.assert_close(field[1].displacement(several.points[1]), one, rtol=0, atol=1e-12)
    common = ThinPlateField(several.points[0], several.displacements, (24, 24))
    torch.testing.assert_close(common[0].displacement(at), several[0].displacement(at), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(12,), (12, 12)])
def test_gradients_reach_points_and_displacements(size):
    field, at = sample(size, 1, lattice=3)[0], inside(size, 4)
    arguments = [value.clone().requires_grad_() for value in (field.points, field.displacements)]
    assert torch.autograd.gradcheck(lambda p, v: ThinPlateField(p, v, size).displacement(at), arguments)
    own = field.points.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(field.displacement(own).sum(), own)
    torch.testing.assert_close(gradient, field.jacobian(field.points).sum(-2))


def test_sampled_points_and_displacements_have_the_documented_law():
    field = sample((32, 64), 500, lattice=4, jitter=0.5)
    assert field.points.shape == (500, 16, 2)
    energy = field.displacements.square().sum(-1).mean()
    assert float(energy) == pytest.approx(1.0, rel=0.05)
    share = field.points / torch.tensor([16.0, 8.0], dtype=torch.float64)  # in cells
    inner = share - share.floor()
    assert float(inner.min()) >= 0.25
    assert float(inner.max()) <= 0.75
    regular = sample((32, 64), 1, jitter=0)[0].points
    torch.testing.assert_close(regular[0], torch.tensor([8.0, 4.0], dtype=torch.float64))


SQUARE = torch.tensor([[1.0, 1.0], [9.0, 1.0], [1.0, 9.0], [9.0, 9.0]])
ZERO = torch.zeros(4, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ThinPlateField(SQUARE, torch.zeros(3, 2), (16, 16)), "same number of rows"),
        (lambda: ThinPlateField(SQUARE[:2], torch.zeros(2, 2), (16, 16)), "at least 3"),
        (lambda: ThinPlateField(SQUARE, torch.zeros(4, 1), (16, 16)), "displacements must be finite numbers of shape"),
        (lambda: ThinPlateField(SQUARE * math.nan, ZERO, (16, 16)), "points must be finite"),
        (
            lambda: ThinPlateField(torch.cat([SQUARE, SQUARE[:1]]), torch.zeros(5, 2), (16, 16)),
            "distinct.*rows 0 and 4",
        ),
        (lambda: ThinPlateField(torch.ones(4, 2), ZERO, (16, 16)), "distinct"),
        (lambda: ThinPlateField(SQUARE[[0, 3]].repeat(2, 1) + torch.arange(4)[:, None], ZERO, (16, 16)), "one line"),
        (lambda: ThinPlateField(torch.ones(2, 1), torch.zeros(2, 1), (16,)), "distinct"),
        (lambda: ThinPlateField(SQUARE.expand(3, 4, 2), ZERO.expand(2, 4, 2), (16, 16)), "batches must broadcast"),
        (lambda: ThinPlateField(SQUARE, ZERO, (16, 16), edge=-1.0), "edge must be"),
        (lambda: sample((16, 16), lattice=1), "lattice must be"),
        (lambda: sample((16, 16), jitter=1.0), "jitter must be"),
        (lambda: sample((16, 16)).refined(1.5), "factor must be"),
    ],
)
def test_wrong_input_is_answered(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_generator_is_asked_for():
    with pytest.raises(TypeError, match="generator"):
        ThinPlateField.sample((16, 16), generator=None)
