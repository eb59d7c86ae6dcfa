"""Control points of cubic B-spline fields, and suprema by their convex hulls, beside the splines' definition."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stability.deformations import lengths
from stability.deformations.bernstein import BezierSupremum, signed
from stability.deformations.bezier import Patches, basis, determinant_patches, halving, patches
from stability.deformations.spline_oscillation import oscillation

CASES = [((7,), (2.5,)), ((6, 6), (2.0, 2.0)), ((4, 7), (1.5, 3.0)), ((1, 2), (2.0, 5.0))]
LENGTHS = [(0, lengths.euclidean), (1, lengths.spectral), (1, lengths.trace), (2, lengths.bilinear)]
TOLERANCE = 1e-8


def draw(lattice, seed=0, n=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, *lattice, len(lattice), generator=generator, dtype=torch.float64)


def b3(t, order=0):
    """sum_k (-1)^k binom(4, k) (t + 2 - k)_+^m / m!, m = 3 - order, for t < 0, where nothing cancels."""
    m, negative = 3 - order, -t.abs()
    powers = [(negative + 2 - k).clamp_min(0) ** m for k in range(3)]
    half = (powers[0] - 4 * powers[1] + 6 * powers[2]) / math.factorial(m)
    return torch.where(t > 0, (-1) ** order * half, half)


def spline(c, cells, points, orders=(0, 0)):
    """The definition, with nine copies of the torus: (n, P, d) at points (P, d); differentiated (x, y) times."""
    weights = []
    for axis, count in enumerate(c.shape[1:-1]):
        order, side = orders[c.shape[-1] - 1 - axis], cells[-1 - axis]
        t = points[:, -1 - axis] / side
        copies = sum(b3(t[:, None] - torch.arange(count) - k * count, order) for k in range(-4, 5))
        weights.append(copies / side**order)
    if len(weights) == 1:
        return torch.einsum("pi,nid->npd", weights[0], c)
    return torch.einsum("pj,pi,njid->npd", *weights, c)


def derivatives(c, cells, points, order):
    """Components of the derivative, (C, n, P), in the order of ``lengths``."""
    d = points.shape[1]
    orders = [(order, 0)] if d == 1 else [(order - k, k) for k in range(order + 1)]
    values = [spline(c, cells, points, each) for each in orders]
    return torch.stack([value[..., i] for i in range(d) for value in values])


def differentiated(c, cells, points, order):
    """The same by automatic differentiation of the spline itself."""
    d, n = points.shape[1], len(c)
    points = points.clone().requires_grad_()
    rows = [spline(c[i : i + 1], cells, points)[0, :, j] for j in range(d) for i in range(n)]
    keys = [()] * len(rows)
    for _ in range(order):
        slopes = [torch.autograd.grad(row.sum(), points, create_graph=True)[0] for row in rows]
        starts = [key[-1] if key else 0 for key in keys]
        keys = [(*key, axis) for key, start in zip(keys, starts, strict=True) for axis in range(start, d)]
        rows = [slope[:, axis] for slope, start in zip(slopes, starts, strict=True) for axis in range(start, d)]
    each = len(set(keys))
    return torch.stack(rows).detach().unflatten(0, (d, n, each)).transpose(1, 2).flatten(0, 1)


def evaluated(p, points):
    """The polynomials of the points' cells, from the definition of the Bernstein basis: (C, n, P)."""
    place = (points / p.cells).flip(-1)  # in the lattice's order
    cell = place.floor().long()
    local = place - cell
    total = 0.0
    for k in itertools.product(range(p.degree + 1), repeat=p.d):
        weight = 1.0
        for axis, k_axis in enumerate(k):
            t = local[:, axis]
            weight = weight * math.comb(p.degree, k_axis) * t**k_axis * (1 - t) ** (p.degree - k_axis)
        total = total + p.control[:, *k][(..., *(cell % torch.tensor(p.lattice)).T)] * weight
    return total


def points_in(lattice, cells, count=50, seed=1):
    generator = torch.Generator().manual_seed(seed)
    sides = torch.tensor(lattice[::-1]) * torch.tensor(cells, dtype=torch.float64)
    return torch.rand(count, len(lattice), generator=generator, dtype=torch.float64) * sides


def grid(lattice, cells, per_cell=12):
    axes = [
        torch.arange(count * per_cell, dtype=torch.float64) / per_cell * h
        for count, h in zip(lattice[::-1], cells, strict=True)
    ]
    return torch.cartesian_prod(*axes).reshape(-1, len(lattice))


def made(lattice, cells, order, seed=0, n=3):
    return patches(draw(lattice, seed, n), torch.tensor(cells), order)


@pytest.mark.parametrize(("lattice", "cells"), CASES)
@pytest.mark.parametrize("order", [0, 1, 2])
def test_control_points_give_the_derivatives_of_the_spline(lattice, cells, order):
    at = points_in(lattice, cells)
    p = made(lattice, cells, order)
    for expected in (derivatives, differentiated):
        value = expected(draw(lattice), torch.tensor(cells), at, order)
        torch.testing.assert_close(evaluated(p, at), value, rtol=0, atol=1e-13)
    p.control.flatten()[-1] += 1e-3  # a broken control point is seen
    assert not torch.allclose(
        evaluated(p, grid(lattice, cells, 3)), evaluated(made(lattice, cells, order), grid(lattice, cells, 3))
    )


@pytest.mark.parametrize("degree", [1, 3, 6])
@pytest.mark.parametrize("axes", [(True,), (True, False), (False, True), (True, True)])
def test_halves_are_the_same_polynomial_on_half_the_cell(degree, axes):
    d = len(axes)
    generator = torch.Generator().manual_seed(degree)
    net = torch.randn((degree + 1) ** d, generator=generator, dtype=torch.float64)
    local = torch.rand(d, 20, 1, generator=generator, dtype=torch.float64)
    children = halving(degree, axes) @ net
    starts = itertools.product(*((0.0, 0.5) if halved else (0.0,) for halved in axes))
    side = torch.tensor([0.5 if halved else 1.0 for halved in axes], dtype=torch.float64)
    for child, start in zip(children, starts, strict=True):
        inside = torch.tensor(start, dtype=torch.float64)[:, None, None] + side[:, None, None] * local
        expected = net @ basis(inside, degree)[..., 0]
        torch.testing.assert_close(child @ basis(local, degree)[..., 0], expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("lattice", "cells"), CASES)
@pytest.mark.parametrize(("order", "length"), LENGTHS)
def test_both_ends_agree_and_hold_the_largest_value_of_a_fine_grid(lattice, cells, order, length):
    p = made(lattice, cells, order)
    supremum = BezierSupremum(p, length)
    brute = length(evaluated(p, grid(lattice, cells)).unbind(0)).amax(-1)
    assert (supremum.lower >= brute * (1 - 1e-12)).all()
    assert (supremum.upper >= supremum.lower).all()
    assert (supremum.upper <= supremum.lower * (1 + TOLERANCE)).all()


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    lattice=st.lists(st.integers(1, 9), min_size=1, max_size=2).map(tuple),
    side=st.floats(0.1, 20),
    which=st.sampled_from(LENGTHS),
    smooth=st.booleans(),
)
def test_the_certificate_is_never_below_a_value_that_the_spline_takes(seed, lattice, side, which, smooth):
    order, length = which
    cells = torch.tensor([side, 1.0][: len(lattice)])
    c = draw(lattice, seed, n=2)
    if smooth:
        c = c + sum(c.roll(shift, axis) for shift in (-1, 1) for axis in range(1, c.ndim - 1))
    p = patches(c, cells, order)
    supremum = BezierSupremum(p, length)
    at = points_in(lattice, cells.tolist(), 2000, seed)
    seen = length(evaluated(p, at).unbind(0)).amax(-1)
    assert (seen <= supremum.upper).all()
    assert (seen <= supremum.lower * (1 + 1e-12)).all()
    assert (supremum.upper - supremum.lower <= TOLERANCE * supremum.lower).all()


def test_a_hull_without_one_of_its_points_is_caught_below_the_spline():
    c = torch.zeros(1, 8, 8, 2, dtype=torch.float64)
    c[0, 3, 4, 0] = 1.0
    p = patches(c, torch.tensor([1.0, 1.0]), 0)
    peak = spline(c, p.cells, torch.tensor([[4.0, 3.0]], dtype=torch.float64)).norm()
    assert BezierSupremum(p, lengths.euclidean).upper >= peak
    p.control[:, :, :, 0, 2:4, 3:5] *= 0.9  # the four cells around the peak
    assert BezierSupremum(p, lengths.euclidean).upper < peak


@pytest.mark.parametrize(("order", "length"), LENGTHS)
@pytest.mark.parametrize(("lattice", "cells"), CASES)
def test_the_argument_is_where_the_lower_end_is_attained(lattice, cells, order, length):
    c = draw(lattice)
    supremum = BezierSupremum(patches(c, torch.tensor(cells), order), length)
    sides = torch.tensor(lattice[::-1]) * torch.tensor(cells)
    assert ((supremum.argument >= 0) & (supremum.argument < sides)).all()
    for i, point in enumerate(supremum.argument):
        value = length(derivatives(c[i : i + 1], torch.tensor(cells), point[None], order).unbind(0)).squeeze()
        torch.testing.assert_close(value, supremum.lower[i], rtol=1e-11, atol=0)


def test_derivatives_of_the_supremum_are_those_of_the_length_at_the_argument():
    lattice, cells = (6, 5), torch.tensor([2.0, 3.0])
    c, direction = draw(lattice, n=1), draw(lattice, seed=8, n=1)
    at = BezierSupremum(patches(c, cells, 0), lengths.euclidean).argument
    along = torch.func.jvp(lambda value: spline(value, cells, at).norm(), (c,), (direction,))[1]
    step = 1e-5
    ends = [BezierSupremum(patches(c + s * direction, cells, 0), lengths.euclidean).lower for s in (step, -step)]
    torch.testing.assert_close(((ends[0] - ends[1]) / (2 * step))[0], along, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("lattice", "cells"), [*CASES, ((6, 12), (7.0, 1.1)), ((12, 6), (1.1, 7.0))])
def test_a_prevailing_constant_does_not_hide_the_highest_peak(lattice, cells):
    c = 5 + 1e-3 * draw(lattice, n=40)
    supremum = BezierSupremum(patches(c, torch.tensor(cells), 0), lengths.euclidean)
    assert (supremum.upper - supremum.lower <= 2e-9 * supremum.lower).all()


@pytest.mark.parametrize(("order", "expected", "distance"), [(0, 2 / 3, 0.0), (1, 2 / 3 / 4, 2 / 3), (2, 2 / 16, 0.0)])
def test_one_b_spline_has_its_closed_form(order, expected, distance):
    c = torch.zeros(1, 9, 1, dtype=torch.float64)
    c[0, 5] = -1.0
    supremum = BezierSupremum(patches(c, torch.tensor([4.0]), order), lengths.euclidean)
    torch.testing.assert_close(supremum.lower.item(), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(supremum.upper.item(), expected, rtol=2e-9, atol=0)
    assert abs(abs(supremum.argument.item() / 4 - 5) - distance) < 1e-4


@pytest.mark.parametrize("lattice", [(5,), (5, 4)])
def test_constant_fields_are_exact(lattice):
    d = len(lattice)
    value = torch.tensor([1.3, -0.7], dtype=torch.float64)[:d]
    c = value.expand(2, *lattice, d)
    cells = torch.tensor([3.0, 0.7])[:d]
    supremum = BezierSupremum(patches(c, cells, 0), lengths.euclidean)
    torch.testing.assert_close(supremum.lower, value.norm().expand(2), rtol=1e-15, atol=0)
    torch.testing.assert_close(supremum.upper, value.norm().expand(2), rtol=1e-10, atol=0)
    for order, length in LENGTHS[1:]:
        assert (BezierSupremum(patches(c, cells, order), length).upper == 0).all()
    assert (oscillation(patches(c, cells, 0)).upper == 0).all()
    assert (determinant_patches(patches(c, cells, 1)).control == 1).all()


@pytest.mark.parametrize(("order", "length"), LENGTHS)
def test_fields_do_not_depend_on_their_batch_and_lengths_are_homogeneous(order, length):
    cells = torch.tensor([2.0, 3.0])
    c = draw((6, 6), n=4)
    together = BezierSupremum(patches(c, cells, order), length)
    scaled = BezierSupremum(patches(-3 * c, cells, order), length)
    torch.testing.assert_close(scaled.lower, 3 * together.lower, rtol=1e-11, atol=0)
    torch.testing.assert_close(scaled.upper, 3 * together.upper, rtol=3e-9, atol=0)
    for i in range(4):
        alone = BezierSupremum(patches(c[i : i + 1], cells, order), length)
        torch.testing.assert_close(alone.lower[0], together.lower[i], rtol=1e-11, atol=0)
        torch.testing.assert_close(alone.upper[0], together.upper[i], rtol=3e-9, atol=0)


def test_reading_the_upper_end_first_changes_nothing():
    p = made((6, 6), (2.0, 2.0), 1)
    first, second = BezierSupremum(p, lengths.spectral), BezierSupremum(p, lengths.spectral)
    upper = first.upper
    assert (first.lower == second.lower).all()
    assert (second.upper == upper).all()


def test_no_fields_give_no_values():
    supremum = BezierSupremum(made((4, 4), (1.0, 1.0), 1, n=0), lengths.spectral)
    assert supremum.lower.shape == supremum.upper.shape == (0,)
    assert supremum.argument.shape == (0, 2)
    assert oscillation(made((4, 4), (1.0, 1.0), 0, n=0)).upper.shape == (0,)


@pytest.mark.parametrize(("kx", "ky", "share"), [(1, 0, TOLERANCE), (0, 2, TOLERANCE), (1, 1, 1e-3)])
def test_lengths_constant_along_lines_keep_a_valid_certificate(kx, ky, share):
    """|tau| repeats along whole lines: cells are cut across them only; oblique lines meet the budget."""
    y, x = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    phase = 2 * math.pi / 16 * (kx * x + ky * y)
    c = torch.stack([phase.sin(), phase.cos()], dim=-1)[None].to(torch.float64)
    p = patches(c, torch.tensor([2.0, 2.0]), 0)
    supremum = BezierSupremum(p, lengths.euclidean)
    brute = lengths.euclidean(evaluated(p, grid((16, 16), (2.0, 2.0))).unbind(0)).amax(-1)
    assert (supremum.upper >= brute).all()
    assert (supremum.lower >= brute * (1 - 1e-12)).all()
    assert (supremum.upper <= supremum.lower * (1 + share)).all()


@pytest.mark.parametrize(("lattice", "cells"), CASES)
def test_determinant_patches_are_the_determinant(lattice, cells):
    gradient = made(lattice, cells, 1)
    at = points_in(lattice, cells)
    values = evaluated(gradient, at)
    jacobian = values.movedim(0, -1).unflatten(-1, (len(lattice),) * 2)
    expected = torch.linalg.det(torch.eye(len(lattice), dtype=torch.float64) - jacobian)
    determinant = determinant_patches(gradient)
    assert determinant.degree == (3 if len(lattice) == 1 else 6)
    torch.testing.assert_close(evaluated(determinant, at)[0], expected, rtol=1e-11, atol=1e-12)


def test_the_determinant_of_an_affine_piece_is_one_number():
    """Cubic B-splines reproduce straight lines: four rows of control points A k give tau(u) = A u on a cell."""
    matrix = torch.tensor([[0.3, -0.2], [0.1, 0.5]], dtype=torch.float64)
    cells = torch.tensor([2.0, 5.0], dtype=torch.float64)
    y, x = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    c = (torch.stack([x, y], dim=-1) * cells) @ matrix.T
    determinant = determinant_patches(patches(c[None], cells, 1)).control[0, :, :, 0, 1:6, 1:6]  # away from the seam
    expected = torch.linalg.det(torch.eye(2, dtype=torch.float64) - matrix)
    torch.testing.assert_close(determinant, expected.expand_as(determinant), rtol=1e-13, atol=0)


@pytest.mark.parametrize(("lattice", "cells"), CASES[:3])
@pytest.mark.parametrize("size", [0.2, 1.0, 5.0])
def test_extremes_of_the_determinant_hold_a_fine_grid(lattice, cells, size):
    determinant = determinant_patches(patches(size * draw(lattice), torch.tensor(cells), 1))
    values = evaluated(determinant, grid(lattice, cells))[0]
    highest, lowest = BezierSupremum(determinant, signed), BezierSupremum(-determinant, signed)
    slack = 1e-12 * values.abs().amax(-1)
    assert (values.amax(-1) <= highest.lower + slack).all()
    assert (-values.amin(-1) <= lowest.lower + slack).all()
    for end in (highest, lowest):
        gap = end.upper - end.lower
        assert (gap >= 0).all()
        assert (gap <= 1e4 * slack).all()
    assert (highest.lower >= 1).all()  # the mean of det(I - grad tau) over a torus is 1
    assert (-lowest.lower <= 1).all()


@pytest.mark.slow
@pytest.mark.parametrize(("lattice", "cells"), CASES)
@pytest.mark.parametrize("seed", range(3))
def test_oscillation_holds_all_pairs_of_a_grid(lattice, cells, seed):
    p = made(lattice, cells, 0, seed)
    values = evaluated(p, grid(lattice, cells, 6)).movedim(0, -1)
    brute = torch.cdist(values, values).flatten(1).amax(1)
    ends = oscillation(p)
    assert (brute <= ends.upper).all()
    assert (brute <= ends.lower * (1 + 1e-4)).all()
    assert (ends.lower <= brute * 1.05).all()  # which misses little
    assert (ends.lower <= ends.upper).all()
    assert (ends.upper <= ends.lower * (1 + 1.01e-4)).all()


def test_oscillation_of_a_field_along_one_direction_is_that_of_its_factor():
    c = draw((5, 6), n=1)[..., :1]
    for angle in (0.0, 0.4, 1.57, 2.9):
        direction = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
        shifted = 1e3 + c * direction  # a constant counts for nothing
        factor = Patches(patches(torch.cat([c, c], -1), torch.tensor([1.0, 1.0]), 0).control[:1], torch.ones(2))
        width = BezierSupremum(factor, signed).lower + BezierSupremum(-factor, signed).lower
        ends = oscillation(patches(shifted, torch.tensor([1.0, 1.0]), 0))
        assert ends.lower <= width * (1 + 1e-10)
        assert ends.lower >= width * (1 - 1e-4)
        assert width <= ends.upper * (1 + 1e-10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: patches(torch.zeros(4, 4, 2), torch.ones(2), 0), "flatten the batch"),
        (lambda: patches(torch.zeros(1, 4, 4, 3), torch.ones(3), 0), "coefficients"),
        (lambda: patches(torch.zeros(1, 4, 1, dtype=torch.long), torch.ones(1), 0), "floating-point"),
        (lambda: patches(torch.zeros(1, 4, 4, 2), torch.ones(1), 0), "cells must be 2"),
        (lambda: patches(torch.zeros(1, 4, 4, 2), torch.tensor([1.0, 0.0]), 0), "positive"),
        (lambda: patches(torch.zeros(1, 4, 4, 2), torch.ones(2), 3), "order"),
    ],
)
def test_wrong_arguments_are_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()
