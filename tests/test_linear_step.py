"""The linear step over the two sup-norm balls: feasible, certified, near the maximum of independent oracles."""

import math

import numpy as np
import pytest
import scipy.optimize
import torch

from stability.deformations import linear_step as module
from stability.deformations.linear_step import linear_step
from stability.deformations.triangulation import gradients, largest_displacement, largest_gradient, saturation

TARGETS = [(2.0, 0.25), (0.5, 0.5), (8.0, 0.05), (0.25, 0.9), (8.0, 0.9), (1.0, 0.1)]
LATTICES = [((32,), (1.0,)), ((16, 16), (1.0, 1.0)), ((12, 20), (1.5, 0.75))]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def smooth(lattice, n=4, cutoff=3, seed=0):
    """Random trigonometric polynomials with frequencies in a disc, at the nodes."""
    axes = [torch.arange(number, dtype=torch.float64) / number for number in lattice]
    at = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    k = torch.cartesian_prod(*[torch.arange(-cutoff, cutoff + 1)] * len(lattice)).reshape(-1, len(lattice))
    k = k[(k.square().sum(-1) <= cutoff**2) & (k.abs().sum(-1) > 0)].double()
    amplitude = torch.randn(2, n, len(lattice), len(k), generator=generator(seed), dtype=torch.float64)
    phase = 2 * math.pi * at @ k.T
    value = phase.cos() @ amplitude[0].flatten(0, 1).T + phase.sin() @ amplitude[1].flatten(0, 1).T
    return value.unflatten(-1, (n, len(lattice))).movedim(-2, 0)


def noise(lattice, n=4, seed=0):
    return torch.randn(n, *lattice, len(lattice), generator=generator(seed), dtype=torch.float64)


def scaled_into(values, cells, a, b):
    """The largest multiple of the fields in the two balls."""
    factor = torch.minimum(a / largest_displacement(values), b / largest_gradient(values, cells))
    return values * factor.reshape(-1, *[1] * (values.ndim - 1))


def maximum_on_a_line(g, cell, a, b):
    """The linear programme of d = 1."""
    n = len(g)
    difference = (np.roll(np.eye(n), 1, axis=1) - np.eye(n)) / cell
    rows = np.concatenate([difference, -difference])
    found = scipy.optimize.linprog(-g, rows, np.full(2 * n, b), bounds=(-a, a))
    assert found.status == 0
    return -found.fun


def maximum_in_the_plane(g, cells, a, b):
    """Cutting planes <u, v_i> <= a, <e, J f> <= b, added where the last solution violates a constraint."""
    basis = torch.eye(g.numel(), dtype=torch.float64).reshape(-1, *g.shape)
    matrices = gradients(basis, cells).reshape(g.numel(), -1, 2, 2).numpy()
    at_nodes = basis.reshape(g.numel(), -1, 2).numpy()
    angles = np.arange(8) * math.pi / 4
    units = np.stack([np.cos(angles), np.sin(angles)], 1)
    rows = [np.einsum("kic,uc->iuk", at_nodes, units).reshape(-1, g.numel()) / a]
    rows.append(np.einsum("ktij,ui,wj->tuwk", matrices, units, units[:4]).reshape(-1, g.numel()) / b)
    for _ in range(60):
        constraints = np.concatenate(rows)
        found = scipy.optimize.linprog(
            -g.flatten().numpy(), constraints, np.ones(len(constraints)), bounds=(None, None), method="highs"
        )
        v = np.einsum("kic,k->ic", at_nodes, found.x)
        left, sigma, right = np.linalg.svd(np.einsum("ktij,k->tij", matrices, found.x))
        far, steep = np.linalg.norm(v, axis=1) > a * (1 + 1e-7), sigma[:, 0] > b * (1 + 1e-7)
        if not far.any() and not steep.any():
            return -found.fun
        u = v[far] / np.linalg.norm(v[far], axis=1, keepdims=True)
        rows.append(np.einsum("kic,ic->ik", at_nodes[:, far], u) / a)
        rows.append(np.einsum("ktij,ti,tj->tk", matrices[:, steep], left[steep, :, 0], right[steep, 0]) / b)
    raise AssertionError("the cutting planes did not converge")


def for_each_target(*directions, targets=TARGETS):
    """Each direction with each (a, b), as one batch."""
    g = torch.cat(directions)
    a, b = torch.tensor(targets, dtype=torch.float64).T
    return g.repeat_interleave(len(targets), 0), a.repeat(len(g)), b.repeat(len(g))


@pytest.mark.parametrize("cell", [1.0, 2.0])
def test_on_a_line_the_maximum_is_that_of_the_linear_programme(cell):
    g, a, b = for_each_target(smooth((24,), 2), noise((24,), 2))
    step = linear_step(g, (cell,), a, b, iterations=1000)
    best = torch.tensor([maximum_on_a_line(g[k, :, 0].numpy(), cell, float(a[k]), float(b[k])) for k in range(len(g))])
    assert (step.objective <= best * (1 + 1e-6)).all()
    assert (step.upper >= best * (1 - 1e-6)).all()
    assert (step.objective >= best * (1 - 3e-3)).all()
    assert (step.upper <= best * (1 + 3e-3)).all()


@pytest.mark.slow
@pytest.mark.parametrize(("lattice", "cells"), [((3, 4), (1.0, 1.0)), ((4, 3), (2.0, 0.75))])
def test_in_the_plane_the_maximum_is_that_of_cutting_planes(lattice, cells):
    g, a, b = for_each_target(noise(lattice, 2), targets=[(1.0, 0.4), (4.0, 0.2), (0.3, 0.5)])
    step = linear_step(g, cells, a, b, iterations=600)
    best = torch.tensor([maximum_in_the_plane(g[k], cells, float(a[k]), float(b[k])) for k in range(len(g))])
    assert (step.objective <= best * (1 + 1e-6)).all()
    assert (step.upper >= best * (1 - 1e-6)).all()
    assert (step.objective >= best * (1 - 1e-3)).all()
    assert (step.upper <= best * (1 + 1e-3)).all()


@pytest.mark.parametrize(("lattice", "cells"), LATTICES)
@pytest.mark.parametrize("iterations", [1, 7, 40])
def test_both_constraints_hold_exactly_after_any_number_of_iterations(lattice, cells, iterations):
    g, a, b = for_each_target(smooth(lattice, 2), noise(lattice, 2))
    step = linear_step(g, cells, a, b, iterations=iterations)
    share = torch.maximum(largest_displacement(step.values) / a, largest_gradient(step.values, cells) / b)
    assert step.values.dtype == torch.float64
    assert (share <= 1).all()
    assert (share >= 1 - 1e-8).all()  # and one of them binds


@pytest.mark.parametrize(("lattice", "cells"), LATTICES)
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_no_field_of_the_two_balls_exceeds_the_upper_value(lattice, cells, precision):
    g, a, b = for_each_target(smooth(lattice, 2), noise(lattice, 2), smooth(lattice, 2) + 3)
    early = linear_step(g, cells, a, b, iterations=5, precision=precision)
    late = linear_step(g, cells, a, b, precision=precision)
    assert (late.objective <= early.upper * (1 + 1e-12)).all()
    assert (late.objective <= late.upper).all()
    assert (late.upper <= early.upper * (1 + 1e-3)).all()
    torch.testing.assert_close(late.objective, (g * late.values).flatten(1).sum(1), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("lattice", "cells"), [*LATTICES[:1], ((32, 32), (1.0, 1.0)), LATTICES[2]])
def test_smooth_directions_reach_98_percent_of_the_maximum_and_are_said_to(lattice, cells):
    g, a, b = for_each_target(smooth(lattice, 3))
    assert (linear_step(g, cells, a, b).gap < 0.02).all()


@pytest.mark.parametrize(("lattice", "cells"), [*LATTICES[:1], ((32, 32), (1.0, 1.0))])
def test_white_directions_reach_95_percent(lattice, cells):
    g, a, b = for_each_target(noise(lattice, 3))
    assert (linear_step(g, cells, a, b).gap < 0.05).all()


def test_a_saturated_field_meets_its_constraints_on_a_large_share_and_a_scaled_random_field_does_not():
    g, cells = smooth((32, 32), 8), (1.0, 1.0)
    for (a, b), least in {(2.0, 0.25): 0.7, (0.5, 0.5): 0.9, (8.0, 0.05): 0.7, (0.25, 0.9): 0.9}.items():
        step = linear_step(g, cells, a, b)
        nodes, triangles = saturation(step.values, cells, a, b)
        assert (torch.maximum(nodes, triangles) > least).all()
        random = scaled_into(g, cells, a, b)
        nodes, triangles = saturation(random, cells, a, b)
        assert (torch.maximum(nodes, triangles) < 0.05).all()
        assert ((g * random).flatten(1).sum(1) < 0.85 * step.objective).all()


def test_the_gap_of_a_bad_field_is_large():
    g = smooth((32, 32))
    early, late = linear_step(g, (1.0, 1.0), 2.0, 0.25, iterations=1), linear_step(g, (1.0, 1.0), 2.0, 0.25)
    assert (1 - early.objective / late.upper > 0.1).all()
    assert (early.gap > 0.1).all()


def test_a_warm_start_is_worth_iterations():
    g = smooth((32, 32))
    first = linear_step(g, (1.0, 1.0), 2.0, 0.25)
    near = g + 0.1 * smooth((32, 32), seed=5)
    for a, b in ((2.0, 0.25), (2.1, 0.24)):
        warm = linear_step(near, (1.0, 1.0), a, b, iterations=20, start=first.splitting)
        cold = linear_step(near, (1.0, 1.0), a, b, iterations=20)
        assert (warm.gap < 0.7 * cold.gap).all()
    bound = linear_step(g, (1.0, 1.0), 8.0, 0.05)  # only b binds: the multipliers are those of every larger a, too
    for a in (4.0, 32.0):
        assert (linear_step(g, (1.0, 1.0), a, 0.05, iterations=20, start=bound.splitting).gap < 0.007).all()
    again = linear_step(3 * g, (1.0, 1.0), 4.0, 0.5, iterations=10, start=first.splitting)  # the same problem, in units
    torch.testing.assert_close(again.gap, first.gap, rtol=0, atol=4e-3)


def test_the_start_is_not_changed():
    first = linear_step(smooth((16, 16)), (1.0, 1.0), 2.0, 0.25)
    before = first.splitting.gradient.clone()
    linear_step(smooth((16, 16)), (1.0, 1.0), 2.0, 0.25, start=first.splitting)
    assert torch.equal(first.splitting.gradient, before)


@pytest.mark.parametrize(("lattice", "cells"), LATTICES)
def test_fields_follow_the_symmetries_of_the_problem(lattice, cells):
    g, axes = smooth(lattice), tuple(range(1, len(lattice) + 1))

    def field(g, a=1.0, b=0.25, cells=cells):
        return linear_step(g, cells, a, b, precision=torch.float64, iterations=30).values

    expected = field(g)
    close = {"rtol": 0, "atol": 1e-9}
    torch.testing.assert_close(field(1000 * g), expected, **close)
    torch.testing.assert_close(field(-g), -expected, **close)
    torch.testing.assert_close(field(g, 2.0, 0.5), 2 * expected, **close)
    torch.testing.assert_close(field(g, 2.0, 0.25, tuple(2 * h for h in cells)), 2 * expected, **close)
    torch.testing.assert_close(field(g.roll(3, axes[-1])), expected.roll(3, axes[-1]), **close)
    torch.testing.assert_close(field(g.flip(axes)), expected.flip(axes), **close)
    if len(lattice) == 2:  # the diagonal is kept by an exchange of the axes
        exchanged = field(g.transpose(1, 2).flip(-1), cells=cells[::-1])
        torch.testing.assert_close(exchanged, expected.transpose(1, 2).flip(-1), **close)


def test_fields_of_a_batch_do_not_depend_on_each_other():
    a, b = torch.tensor(TARGETS, dtype=torch.float64).T
    g = smooth((12, 20), len(a))
    together = linear_step(g, (1.5, 0.75), a, b, iterations=30, precision=torch.float64)
    for field in range(len(a)):
        alone = linear_step(g[field, None], (1.5, 0.75), a[field], b[field], iterations=30, precision=torch.float64)
        torch.testing.assert_close(alone.values[0], together.values[field], rtol=0, atol=1e-9)
        torch.testing.assert_close(alone.upper[0], together.upper[field], rtol=1e-9, atol=0)


def test_constant_directions_give_translations_and_zero_gives_zero():
    g = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=torch.float64)[:, None, None].expand(2, 8, 8, 2)
    step = linear_step(g, (1.0, 1.0), 2.0, 0.25)
    expected = torch.tensor([[1.2, 1.6], [0.0, 0.0]], dtype=torch.float64)[:, None, None].expand(2, 8, 8, 2)
    torch.testing.assert_close(step.values, expected, rtol=0, atol=1e-6)
    assert step.gap[1] == 0
    assert step.gap[0] < 1e-6


def test_single_precision_costs_no_optimality_and_no_certainty():
    g, a, b = for_each_target(smooth((16, 16), 2), noise((16, 16), 2))
    single, double = (linear_step(g, (1.0, 1.0), a, b, precision=dtype) for dtype in (torch.float32, torch.float64))
    torch.testing.assert_close(single.objective, double.objective, rtol=1e-4, atol=0)
    torch.testing.assert_close(single.upper, double.upper, rtol=1e-4, atol=0)


def test_projections_are_those_of_the_singular_value_decomposition():
    rng = generator()
    matrices = 2 * torch.randn(500, 2, 2, generator=rng, dtype=torch.float64)
    special = [
        [[0, 0], [0, 0]],
        [[3, 0], [0, 3]],
        [[2, 0], [0, -2]],
        [[0, -5], [5, 0]],
        [[1, 2], [2, 4]],
        [[9, 0], [0, 0.5]],
    ]
    matrices = torch.cat([matrices, torch.tensor(special, dtype=torch.float64)])
    left, sigma, right = torch.linalg.svd(matrices)
    expected = left @ (sigma.clamp(max=1)[..., None] * right)
    found = module.clip(matrices.permute(1, 2, 0)).permute(2, 0, 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(module._nuclear(matrices.permute(1, 2, 0)), sigma.sum(-1), rtol=1e-12, atol=1e-12)
    vectors = torch.randn(2, 300, generator=rng, dtype=torch.float64)
    torch.testing.assert_close(module.ball(vectors), vectors / vectors.norm(dim=0).clamp(min=1))


@pytest.mark.parametrize(("lattice", "cells"), [((7,), (1.5,)), ((4, 5), (1.5, 0.75))])
def test_the_quadratic_step_solves_the_dense_system(lattice, cells):
    basis = torch.eye(math.prod(lattice) * len(cells), dtype=torch.float64).reshape(-1, *lattice, len(cells))
    dense = gradients(basis, cells).flatten(1)
    system = 0.7 * torch.eye(len(basis), dtype=torch.float64) + 0.3 * 4.0 * dense @ dense.T
    right = noise(lattice, 2)
    length = torch.full((2,), 2.0, dtype=torch.float64)
    problem = module._Problem(right.movedim(-1, 0), cells, length)
    found = problem.divided(right.movedim(-1, 0), 1 / (0.7 + 0.3 * length[0] ** 2 * problem.symbol)).movedim(0, -1)
    expected = torch.linalg.solve(system, right.flatten(1).T).T
    torch.testing.assert_close(found.flatten(1), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"displacement_norm": 0.0}, "displacement_norm must"),
        ({"jacobian_norm": torch.tensor([0.1, math.inf])}, "jacobian_norm must"),
        ({"jacobian_norm": torch.tensor([0.1, 0.1, 0.1])}, "jacobian_norm must"),
        ({"iterations": 0}, "iterations must"),
        ({"direction": torch.full((2, 8, 8, 2), math.nan)}, "direction must be finite"),
        ({"direction": torch.zeros(8, 8, 2)}, "direction must"),
        ({"cells": (1.0,)}, "direction must"),
        ({"start": linear_step(torch.ones(2, 4, 4, 2), (1.0, 1.0), 1.0, 1.0, iterations=1).splitting}, "start must"),
    ],
)
def test_wrong_arguments_are_told(change, message):
    arguments = {
        "direction": torch.zeros(2, 8, 8, 2), "cells": (1.0, 1.0), "displacement_norm": 1.0, "jacobian_norm": 0.5,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        linear_step(**(arguments | change))
