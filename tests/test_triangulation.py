"""Piecewise-linear fields on triangles: gradients and adjoint, values and derivatives at points, exact suprema."""

import itertools

import pytest
import torch

from stability.deformations import lengths
from stability.deformations.triangulation import (
    gradient_at,
    gradients,
    gradients_adjoint,
    gram_symbol,
    interpolate,
    largest_displacement,
    largest_gradient,
    saturation,
    spectral,
)

CASES = [((7,), (1.5,)), ((5, 7), (1.5, 0.75)), ((4, 4), (2.0, 2.0))]
"""Lattices with their cells (h_x, h_y)."""
ROUND_OFF = 1e-12


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def nodes(lattice, n=3, seed=0):
    return torch.randn(n, *lattice, len(lattice), generator=generator(seed), dtype=torch.float64)


def period(lattice, cells):
    return torch.tensor([side * number for side, number in zip(cells, lattice[::-1], strict=True)], dtype=torch.float64)


def points(lattice, cells, count, n=1, seed=1):
    return 3 * torch.rand(n, count, len(cells), generator=generator(seed), dtype=torch.float64) * period(lattice, cells)


def triangles(row, column):
    """Nodes (row, column) of both triangles of a cell, the first one on the side of x."""
    ends = [(row, column), (row + 1, column + 1)]
    return [[ends[0], (row, column + 1), ends[1]], [ends[0], (row + 1, column), ends[1]]]


def literal(values, cells, point):
    """tau(u) and grad tau(u) of one field by barycentric coordinates in the triangle that holds u, found by search."""
    rows, columns = values.shape[:2]
    point = point % period((rows, columns), cells)
    for r, c in itertools.product(range(rows), range(columns)):
        for which, corners in enumerate(triangles(r, c)):
            at = torch.tensor([[j * cells[0], i * cells[1]] for i, j in corners], dtype=torch.float64)
            v = torch.stack([values[i % rows, j % columns] for i, j in corners])
            system = torch.cat([at.T, torch.ones(1, 3, dtype=torch.float64)])
            weight = torch.linalg.solve(system, torch.cat([point, torch.ones(1, dtype=torch.float64)]))
            if (weight >= 0).all():
                edges, differences = at[1:] - at[0], v[1:] - v[0]
                return weight @ v, torch.linalg.solve(edges, differences).T, (r, c, which)
    raise AssertionError("no triangle holds the point")


@pytest.mark.parametrize(("lattice", "cells"), CASES)
def test_the_gradient_of_an_affine_map_is_its_matrix_away_from_the_seam(lattice, cells):
    d = len(cells)
    matrix = torch.randn(d, d, generator=generator(), dtype=torch.float64)
    axes = [torch.arange(number, dtype=torch.float64) * h for number, h in zip(lattice, cells[::-1], strict=True)]
    at = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], -1)  # (x, y) last
    found = gradients((at @ matrix.T)[None], cells)
    inside = found[(0, *[slice(-1)] * d)]
    assert found.shape == (1, *lattice, d, d, d)
    torch.testing.assert_close(inside, matrix.expand_as(inside), rtol=0, atol=ROUND_OFF)


@pytest.mark.parametrize(("lattice", "cells"), CASES)
def test_the_adjoint_is_the_adjoint(lattice, cells):
    v = nodes(lattice)
    w = torch.randn(gradients(v, cells).shape, generator=generator(3), dtype=torch.float64)
    left, right = (w * gradients(v, cells)).flatten(1).sum(1), (gradients_adjoint(w, cells) * v).flatten(1).sum(1)
    torch.testing.assert_close(left, right, rtol=1e-12, atol=ROUND_OFF)


@pytest.mark.parametrize(("lattice", "cells"), [*CASES, ((6, 2), (1.0, 3.0)), ((1, 5), (1.0, 1.0))])
def test_the_symbol_diagonalises_the_gram_operator(lattice, cells):
    d, v = len(cells), nodes(lattice)
    axes = tuple(range(1, d + 1))
    symbol = gram_symbol(lattice, cells)[..., None]
    by_fourier = torch.fft.irfftn(torch.fft.rfftn(v, dim=axes) * symbol, s=lattice, dim=axes)
    direct = gradients_adjoint(gradients(v, cells), cells)
    torch.testing.assert_close(by_fourier, direct, rtol=0, atol=1e-11)


@pytest.mark.parametrize("cells", [(1.0, 1.0), (1.5, 0.75)])
def test_values_and_derivatives_are_those_of_a_literal_search_for_the_triangle(cells):
    v = nodes((3, 4), n=2)
    at = points((3, 4), cells, 25, n=2)
    value, gradient = interpolate(v, cells, at), gradient_at(v, cells, at)
    seen = set()
    for field, place in itertools.product(range(2), range(25)):
        expected, matrix, (r, c, which) = literal(v[field], cells, at[field, place])
        torch.testing.assert_close(value[field, place], expected, rtol=0, atol=ROUND_OFF)
        torch.testing.assert_close(gradient[field, place], matrix, rtol=0, atol=ROUND_OFF)
        torch.testing.assert_close(gradients(v, cells)[field, r, c, which], matrix, rtol=0, atol=ROUND_OFF)
        seen.add(which)
    assert seen == {0, 1}


def test_on_a_line_values_are_those_of_linear_interpolation():
    v, at = nodes((7,), n=1), points((7,), (1.5,), 40)
    scaled = at[0, :, 0] / 1.5
    left = scaled.floor().long()
    expected = v[0, left % 7, 0].lerp(v[0, (left + 1) % 7, 0], scaled - left)
    torch.testing.assert_close(interpolate(v, (1.5,), at)[0, :, 0], expected, rtol=0, atol=ROUND_OFF)


@pytest.mark.parametrize(("lattice", "cells"), CASES)
def test_fields_take_their_node_values_and_are_periodic(lattice, cells):
    v, d = nodes(lattice), len(cells)
    axes = [torch.arange(number, dtype=torch.float64) * h for number, h in zip(lattice, cells[::-1], strict=True)]
    at = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], -1).reshape(1, -1, d)
    torch.testing.assert_close(interpolate(v, cells, at), v.reshape(3, -1, d), rtol=0, atol=ROUND_OFF)
    at = points(lattice, cells, 30)
    for shift in (-1, 2):
        moved = at + shift * period(lattice, cells)
        torch.testing.assert_close(interpolate(v, cells, moved), interpolate(v, cells, at), rtol=0, atol=1e-11)


@pytest.mark.parametrize(("lattice", "cells"), CASES)
def test_the_derivative_of_the_values_is_the_gradient_of_the_simplex(lattice, cells):
    v, d = nodes(lattice), len(cells)
    inside, on_edges = points(lattice, cells, 20), torch.zeros(1, 3, d, dtype=torch.float64)
    on_edges[0] = torch.tensor([[0.5 * side for side in cells], [0.0] * d, list(cells)])
    for at in (inside.requires_grad_(), on_edges.requires_grad_()):  # ties on a diagonal and at a node, too
        value = interpolate(v, cells, at)
        gradient = gradient_at(v, cells, at)
        for field, i in itertools.product(range(3), range(d)):
            (found,) = torch.autograd.grad(value[field, :, i].sum(), at, retain_graph=True)
            torch.testing.assert_close(found[0], gradient[field, :, i], rtol=0, atol=ROUND_OFF)


@pytest.mark.parametrize(("lattice", "cells"), CASES)
def test_values_and_gradients_are_linear_in_the_nodes_with_the_right_derivative(lattice, cells):
    v, at = nodes(lattice, n=2).requires_grad_(), points(lattice, cells, 5)
    for function in (
        lambda v: gradients(v, cells),
        lambda v: interpolate(v, cells, at),
        lambda v: gradient_at(v, cells, at),
    ):
        assert torch.autograd.gradcheck(function, (v,))
        torch.testing.assert_close(function(3 * v - 2), 3 * function(v) - 2 * function(v * 0 + 1), rtol=0, atol=1e-11)


@pytest.mark.parametrize(("lattice", "cells"), CASES)
def test_suprema_are_attained_and_never_exceeded(lattice, cells):
    v, d = nodes(lattice), len(cells)
    at, other = points(lattice, cells, 4000), points(lattice, cells, 4000, seed=2)
    a, b = largest_displacement(v)[:, None], largest_gradient(v, cells)[:, None]
    value = interpolate(v, cells, at)
    near = at + 0.05 * (other - at)
    quotient = (interpolate(v, cells, near) - value).norm(dim=-1) / (near - at).norm(dim=-1)
    assert (value.norm(dim=-1) <= a * (1 + ROUND_OFF)).all()
    assert (quotient <= b * (1 + 1e-9)).all()
    assert (value.norm(dim=-1).amax(1) > 0.8 * a[:, 0]).all()
    assert (quotient.amax(1) > 0.8 * b[:, 0]).all()
    seen = torch.linalg.matrix_norm(gradient_at(v, cells, at), ord=2).amax(1)
    torch.testing.assert_close(seen, b[:, 0], rtol=0, atol=ROUND_OFF)
    divergence = gradient_at(v, cells, at).diagonal(dim1=-2, dim2=-1).sum(-1).abs().amax(1)
    torch.testing.assert_close(largest_gradient(v, cells, lengths.trace), divergence, rtol=0, atol=ROUND_OFF)
    torch.testing.assert_close(largest_displacement(v), v.reshape(3, -1, d).norm(dim=-1).amax(1), rtol=1e-14, atol=0)


@pytest.mark.parametrize(("lattice", "cells"), CASES)
def test_suprema_have_derivatives_even_where_nodes_vanish(lattice, cells):
    v = nodes(lattice)
    v[(slice(None), *[slice(0, 3)] * len(cells))] = 0.0  # |v| and ||J|| have no derivative here, but are not largest
    v.requires_grad_()
    for function in (largest_displacement, lambda v: largest_gradient(v, cells)):
        assert torch.autograd.gradcheck(function, (v,))


def test_the_spectral_norm_has_finite_derivatives_at_conformal_and_anticonformal_matrices():
    for matrix in ((1.0, 0.0, 0.0, 1.0), (0.0, 2.0, 2.0, 0.0), (1.0, 2.0, 3.0, 4.0)):
        components = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in matrix]
        found = torch.stack(torch.autograd.grad(spectral(components), components)).reshape(2, 2)
        expected = torch.linalg.matrix_norm(torch.tensor(matrix, dtype=torch.float64).reshape(2, 2), ord=2)
        torch.testing.assert_close(spectral(components), expected, rtol=1e-14, atol=0)
        # a subgradient: <found, J> = ||J|| and the nuclear norm of found is 1
        torch.testing.assert_close((found.flatten() * torch.tensor(matrix)).sum(), expected, rtol=1e-14, atol=0)
        assert torch.linalg.matrix_norm(found, ord="nuc") == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("cells", [(2.0, 2.0), (1.5, 0.75)])
def test_a_lattice_twice_as_fine_holds_the_same_field_with_the_same_suprema(cells):
    v = nodes((4, 5))
    fine = tuple(side / 2 for side in cells)
    axes = [torch.arange(2 * n, dtype=torch.float64) * h for n, h in zip((4, 5), fine[::-1], strict=True)]
    at = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], -1).reshape(1, -1, 2)
    finer = interpolate(v, cells, at).reshape(3, 8, 10, 2)
    places = points((4, 5), cells, 50)
    torch.testing.assert_close(interpolate(finer, fine, places), interpolate(v, cells, places), rtol=0, atol=ROUND_OFF)
    torch.testing.assert_close(largest_displacement(finer), largest_displacement(v), rtol=ROUND_OFF, atol=0)
    torch.testing.assert_close(largest_gradient(finer, fine), largest_gradient(v, cells), rtol=1e-11, atol=0)


def test_saturation_counts_nodes_and_triangles():
    x = torch.tensor([0.0, 1.0, 2.0, 1.0], dtype=torch.float64)  # |slope| 1 everywhere, |v| = 2 at one of four nodes
    line, plane = x[None, :, None], torch.stack([x.expand(3, 4), torch.zeros(3, 4, dtype=torch.float64)], -1)[None]
    for v, cells in ((line, (1.0,)), (plane, (1.0, 1.0))):
        assert [float(part) for part in saturation(v, cells, 2.0, 1.0)] == [0.25, 1.0]
        assert [float(part) for part in saturation(v, cells, torch.tensor(1.0), 1.02)] == [0.75, 0.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gradients(torch.zeros(2, 4, 4, 2), (1.0,)), "values must"),
        (lambda: gradients(torch.zeros(2, 4, 4, 2, dtype=torch.long), (1.0, 1.0)), "values must"),
        (lambda: gradients(torch.zeros(2, 4, 4, 2), (1.0, -1.0)), "cells must"),
        (lambda: gradients_adjoint(torch.zeros(2, 4, 4, 2), (1.0, 1.0)), "matrices must"),
        (lambda: interpolate(torch.zeros(2, 4, 4, 2), (1.0, 1.0), torch.zeros(3, 5, 2)), "points must"),
        (lambda: gradient_at(torch.zeros(2, 4, 4, 2), (1.0, 1.0), torch.zeros(5, 2)), "points must"),
    ],
)
def test_wrong_shapes_are_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()
