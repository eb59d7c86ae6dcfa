"""Affine fields: what they do to the content, exact norms, inverses, and the linear maps they are made from."""

import math

import pytest
import torch

import stability as st
from stability.deformations import linear_maps
from stability.deformations.affine import AffineField
from stability.deformations.domains import Window
from stability.deformations.sum import Sum

ROUND_OFF = 1e-12
SIZES = [(24,), (24, 24), (20, 32)]


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def sample(size, count=4, seed=0, **arguments):
    return AffineField.sample(size, batch_shape=(count,), generator=rng(seed), **arguments)


def shifted(size, count=4, seed=0):
    """Fields with offsets."""
    field = sample(size, count, seed)
    offset = torch.randn(count, len(size), generator=rng(seed + 9), dtype=torch.float64)
    return AffineField(field.matrix, offset, field.centre, size=size)


def points(size, count=30, seed=5):
    return 60 * torch.rand(count, len(size), generator=rng(seed), dtype=torch.float64) - 20


def window(size, per_pixel=2, edge=0.5):
    """A grid that holds the window's corners, ``(P, d)``."""
    axes = [torch.linspace(-edge, n - edge, per_pixel * n + 1, dtype=torch.float64) for n in reversed(size)]
    return torch.cartesian_prod(*axes).reshape(-1, len(size))


def moved(field, content):
    """Where the content at the points goes: the solution u of u - tau(u) = p, by the fixed point u <- p + tau(u)."""
    u = content
    for _ in range(200):
        u = content + field.displacement(u)
    return u


@pytest.mark.parametrize("size", SIZES)
def test_derivatives_agree_with_automatic_differentiation(size):
    field = shifted(size)
    for point in points(size, 5):
        first = torch.autograd.functional.jacobian(field.displacement, point)
        second = torch.autograd.functional.jacobian(field.jacobian, point)
        torch.testing.assert_close(field.jacobian(point), first, rtol=0, atol=ROUND_OFF)
        torch.testing.assert_close(field.hessian(point), second, rtol=0, atol=0)


@pytest.mark.parametrize("size", SIZES)
def test_norms_are_those_of_a_grid_with_the_corners(size):
    field, at = shifted(size), window(size)
    tau, n = field.displacement(at), field.norms()
    jacobian = field.jacobian(at)
    for interval, value in [
        (n.displacement, tau.norm(dim=-1).amax(1)),
        (n.jacobian, torch.linalg.matrix_norm(jacobian, 2).amax(1)),
        (n.hessian, torch.zeros(4, dtype=torch.float64)),
        (n.divergence, jacobian.diagonal(dim1=-2, dim2=-1).sum(-1).abs().amax(1)),
        (n.oscillation, torch.cdist(tau, tau, compute_mode="donot_use_mm_for_euclid_dist").amax((1, 2))),
    ]:
        torch.testing.assert_close(interval.lower, value, rtol=ROUND_OFF, atol=0)
        torch.testing.assert_close(interval.upper, value, rtol=ROUND_OFF, atol=0)
    bounds = field.derivative_bounds()
    torch.testing.assert_close(torch.stack(bounds[:2]), torch.stack([n.displacement.upper, n.jacobian.upper]))
    assert not torch.stack(bounds[2:]).any()


@pytest.mark.parametrize("edge", [0.0, 0.5, 3.0])
def test_the_window_counts_for_the_norms(edge):
    field = AffineField.dilation(2.0, centre=(4.0, 9.0), size=(20, 32), edge=edge)
    at = window((20, 32), edge=edge)
    assert field.domain == Window((20, 32), edge)
    torch.testing.assert_close(field.norms().displacement.upper, field.displacement(at).norm(dim=-1).max())


@pytest.mark.parametrize("centre", [None, (3.0, 11.0)])
@pytest.mark.parametrize("make", ["rotation", "dilation", "shear", "general"])
def test_the_content_is_moved_by_the_linear_map_about_the_centre(make, centre):
    size, c = (20, 32), torch.tensor(centre if centre else (15.5, 9.5), dtype=torch.float64)
    b = {
        "rotation": [[math.cos(0.3), -math.sin(0.3)], [math.sin(0.3), math.cos(0.3)]],
        "dilation": [[1.2, 0.0], [0.0, 1.2]],
        "shear": [[1.0, 0.4], [0.0, 1.0]],  # along x
        "general": [[1.1, 0.2], [-0.1, 0.9]],
    }[make]
    field = {
        "rotation": lambda: AffineField.rotation(0.3, centre=centre, size=size),
        "dilation": lambda: AffineField.dilation(1.2, centre=centre, size=size),
        "shear": lambda: AffineField.shear(0.4, 0, centre=centre, size=size),
        "general": lambda: AffineField.general(b, centre=centre, size=size),
    }[make]()
    p = points(size)
    expected = c + (p - c) @ torch.tensor(b, dtype=torch.float64).T
    torch.testing.assert_close(moved(field, p), expected, rtol=0, atol=1e-10)


def test_a_shear_along_y_moves_columns():
    field = AffineField.shear(0.25, 1, centre=(0.0, 0.0), size=(16, 16))
    torch.testing.assert_close(
        field.displacement(torch.tensor([4.0, 7.0])), torch.tensor([0.0, 1.0], dtype=torch.float64)
    )


def test_a_positive_quarter_turn_brings_what_is_right_of_the_centre_below_it():
    size = (33, 33)
    u = st.grid.coordinates(size)

    def spot(x, y):
        return torch.exp(-(u - torch.tensor([x, y], dtype=torch.float64)).square().sum(-1) / 8)[None, None]

    turned = st.SplineWarp()(spot(24.0, 16.0), AffineField.rotation(math.pi / 2, size=size))
    torch.testing.assert_close(turned, spot(16.0, 24.0), rtol=0, atol=1e-2)
    assert bool((turned - spot(16.0, 8.0)).abs().max() > 0.9)


def test_a_dilation_above_one_magnifies():
    field = AffineField.dilation(2.0, size=(9,))
    torch.testing.assert_close(moved(field, torch.tensor([[5.0]]).double()), torch.tensor([[6.0]]).double())


@pytest.mark.parametrize("size", SIZES)
def test_the_inverse_undoes_the_map_and_inverts_back(size):
    field, at = shifted(size), points(size)
    inverse = field.inverted()
    forth = at - field.displacement(at)
    back = forth - inverse.displacement(forth, each=True)
    torch.testing.assert_close(back, at.expand_as(back), rtol=0, atol=1e-11)
    torch.testing.assert_close(inverse.inverted().displacement(at), field.displacement(at), rtol=0, atol=1e-11)


def test_a_singular_map_has_no_inverse_and_is_not_injective():
    collapse = AffineField(torch.tensor([[1.0, 0.0], [0.0, 0.2]]), size=(16, 16))
    reflection = AffineField(torch.tensor([[2.0, 0.0], [0.0, 0.0]]), size=(16, 16))
    assert not bool(collapse.injective)
    assert bool(reflection.injective)
    with pytest.raises(ValueError, match="I - A must be invertible"):
        collapse.inverted()
    with pytest.raises(ValueError, match="map of the content must be invertible"):
        AffineField.general([[1.0, 2.0], [2.0, 4.0]], size=(16, 16))


@pytest.mark.parametrize("size", SIZES)
def test_the_mean_is_that_over_the_window_and_can_be_taken_off(size):
    field = shifted(size)
    middles = torch.cartesian_prod(*[torch.arange(n, dtype=torch.float64) for n in reversed(size)])
    middles = middles.reshape(-1, len(size))  # centres of the window's cells: exact for affine fields
    torch.testing.assert_close(field.mean, field.displacement(middles).mean(1), rtol=0, atol=1e-11)
    centred = field.without_mean()
    torch.testing.assert_close(centred.mean, torch.zeros_like(field.mean), rtol=0, atol=ROUND_OFF)
    torch.testing.assert_close(
        centred.displacement(middles) + field.mean[:, None], field.displacement(middles), rtol=0, atol=ROUND_OFF
    )
    torch.testing.assert_close(2 * centred.norms().displacement.upper, field.norms().oscillation.upper)


@pytest.mark.parametrize("size", SIZES)
def test_sums_stay_in_the_family_about_different_centres(size):
    f, g, at = shifted(size), shifted(size, seed=3), points(size)
    for total in (f + g, f + f):
        assert isinstance(total, AffineField)
    torch.testing.assert_close((f + g).displacement(at), f.displacement(at) + g.displacement(at))
    torch.testing.assert_close((f - f).norms().displacement.upper, torch.zeros(4, dtype=torch.float64))
    assert isinstance(f + AffineField(f.matrix, size=size, edge=0.0), Sum)


@pytest.mark.parametrize("size", SIZES)
def test_norms_are_homogeneous_and_follow_refinement(size):
    field, at = shifted(size), points(size)
    fine, scaled = field.refined(3), -2.5 * field
    assert fine.domain == Window(tuple(3 * n for n in size), 1.5)
    torch.testing.assert_close(fine.displacement(3 * at), 3 * field.displacement(at))
    torch.testing.assert_close(fine.suprema().displacement.upper, 3 * field.norms().displacement.upper)
    torch.testing.assert_close(fine.norms().oscillation.upper, fine.suprema().oscillation.upper)
    for name in ("displacement", "jacobian", "divergence", "oscillation"):
        expected = 2.5 * getattr(field.norms(), name).lower
        torch.testing.assert_close(getattr(scaled.norms(), name).lower, expected)
        torch.testing.assert_close(getattr(scaled.suprema(), name).lower, expected)


@pytest.mark.parametrize("size", SIZES)
def test_the_same_field_at_every_resolution(size):
    double, at = tuple(2 * n for n in size), points(size)
    torch.testing.assert_close(sample(double).displacement(2 * at), 2 * sample(size).displacement(at))
    given = [sample(each, centre=(scale * 3.0,) * len(size)) for each, scale in ((size, 1), (double, 2))]
    torch.testing.assert_close(given[1].displacement(2 * at), 2 * given[0].displacement(at))
    assert torch.equal(given[0].matrix, sample(size).matrix)


@pytest.mark.parametrize("size", [(32,), (32, 32)])
def test_the_amplitude_of_sampled_fields_is_the_documented_one(size):
    field = sample(size, 4000, centre=(15.5,) * len(size))
    middles = torch.cartesian_prod(*[torch.linspace(-0.375, 31.375, 128, dtype=torch.float64)] * len(size))
    energy = field.displacement(middles.reshape(-1, len(size))[:: 37 if len(size) == 2 else 1]).square().sum(-1)
    assert energy.mean() == pytest.approx(1.0, rel=0.05)


def test_one_norm_can_be_asked_for_and_two_cannot():
    field = sample((20, 32))
    target = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    found = st.control(field, displacement_norm=target)
    assert isinstance(found, AffineField)
    torch.testing.assert_close(found.norms().displacement.lower, target.expand(2, 4), rtol=2e-9, atol=0)
    assert bool((found.norms().displacement.upper <= target).all())
    torch.testing.assert_close(st.control(field, jacobian_norm=0.2).norms().jacobian.lower.max().item(), 0.2)
    with pytest.raises(ValueError, match="two norms at once"):
        st.control(field, displacement_norm=1.0, jacobian_norm=0.2)


def test_gradients_reach_angle_offset_and_centre():
    angle = torch.tensor([0.2, -0.4], dtype=torch.float64, requires_grad=True)
    centre = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    offset = torch.ones(2, dtype=torch.float64, requires_grad=True)
    at = points((16, 16), 3)

    def displacement(angle, offset, centre):
        turned = AffineField.rotation(angle, size=(16, 16))
        return AffineField(turned.matrix, offset, centre, size=(16, 16)).displacement(at)

    assert torch.autograd.gradcheck(displacement, (angle, offset, centre))


def test_grad_tau_takes_one_value_and_the_state_rebuilds_the_field():
    field = shifted((20, 32))
    assert torch.equal(field.gradients(), field.jacobian(points((20, 32), 1)))
    tensors, settings = field.state()
    again = AffineField(**tensors, **settings)
    assert torch.equal(again.displacement(points((20, 32))), field.displacement(points((20, 32))))
    assert again.domain == field.domain


def test_singular_matrices_are_those_with_a_vanishing_singular_value():
    matrices = torch.tensor([[[1.0, 2.0], [2.0, 4.0]], [[1e-9, 0.0], [0.0, 1e-9]], [[0.0, 0.0], [0.0, 0.0]]])
    assert linear_maps.singular(matrices.double()).tolist() == [True, False, True]
    assert linear_maps.singular(torch.tensor([[[0.0]], [[1e-300]]], dtype=torch.float64)).tolist() == [True, False]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AffineField(torch.zeros(3, 2), size=(16, 16)), r"matrix must be finite numbers of shape"),
        (lambda: AffineField([[0.0, math.nan], [0.0, 0.0]], size=(16, 16)), "NaN, infinite"),
        (lambda: AffineField("A", size=(16, 16)), "matrix must be numbers"),
        (lambda: AffineField(torch.zeros(2, 2), (1.0,), size=(16, 16)), "offset must be"),
        (lambda: AffineField(torch.zeros(2, 2), None, (1.0,), size=(16, 16)), "centre must be"),
        (lambda: AffineField(torch.zeros(3, 2, 2), torch.zeros(4, 2), size=(16, 16)), "batches must broadcast"),
        (lambda: AffineField(torch.zeros(2, 2), size=(16, 16), edge=math.inf), "edge must be"),
        (lambda: AffineField(torch.zeros(2, 2), size=(16, 1)), "size must be"),
        (lambda: AffineField(torch.zeros(2, 2), size=(16, 16)).refined(0), "factor must be"),
        (lambda: AffineField.rotation(0.1, size=(16,)), "a rotation must have a size"),
        (lambda: AffineField.rotation(math.nan, size=(16, 16)), "angle must be finite"),
        (lambda: AffineField.shear(0.1, 0, size=(16,)), "a shear must have a size"),
        (lambda: AffineField.shear(0.1, 2, size=(16, 16)), "axis must be"),
        (lambda: AffineField.dilation(0.0, size=(16, 16)), "factor must be positive"),
    ],
)
def test_wrong_input_is_answered(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_generator_is_asked_for():
    with pytest.raises(TypeError, match="generator"):
        AffineField.sample((16, 16), generator=None)
