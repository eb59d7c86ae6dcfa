"""The slope at zero: J and its adjoint, quadratic forms at most 1 on C(a, b), and both ends of the interval."""

import math

import pytest
import torch
from torch import nn

import stability as st
from stability.deformations.linear_step import linear_step
from stability.deformations.piecewise_linear import PiecewiseLinearField
from stability.search import lifted
from stability.search import slope as slope_module
from stability.search.compared import compared
from stability.search.jacobian import FieldJacobian
from stability.search.metric import metrics_at_zero
from stability.search.slope import linearised
from stability.search.starts import Linearised
from stability.search.weights import Weights, largest_eigenvalue, missed
from stability.search.worst import worst_case

pytestmark = pytest.mark.slow

SIZE = (8, 8)


def photographs(count=1, size=SIZE):
    return st.images.load("fashion", count=count, size=size)


def network(generator, x):
    return st.CKN.fit(st.Architecture.dyadic(depth=1), x, filters=(8,), generator=generator)


class Identity(nn.Module):
    def forward(self, x):
        return x


def noise(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def test_the_jacobian_is_the_slope_of_the_features_and_its_adjoint_is_exact(generator):
    x = photographs()
    ckn = network(generator, x)
    jacobian = FieldJacobian(compared(ckn, x).rows, x[0], st.SplineWarp(), 2)
    tau = noise(generator, 2, *SIZE, 2)
    slope = jacobian.apply(tau)
    h = 1e-4
    field = PiecewiseLinearField(tau, SIZE)
    ends = [ckn.vectors(st.SplineWarp()(x.expand(2, -1, -1, -1), t * field)) for t in (h, -h)]
    assert torch.allclose(slope, (ends[0] - ends[1]) / (2 * h), rtol=1e-4, atol=1e-6)
    w = noise(generator, *slope.shape)
    assert torch.allclose((slope * w).sum(), (tau * jacobian.adjoint(w)).sum(), rtol=1e-10)
    (metric,) = metrics_at_zero(compared(ckn, x), x, 0, st.SplineWarp(), (2,), generator)
    assert torch.allclose(metric.gram(tau), jacobian.adjoint(slope), rtol=1e-12)


@pytest.mark.parametrize("lattice", [(6, 7), (9,)], ids=str)
def test_the_quadratic_form_is_at_most_one_on_the_two_balls(lattice, generator):
    d, a, b, cells = len(lattice), 1.5, 0.4, (1.0,) * len(lattice)
    right, left = (
        torch.einsum("ijt...,kjt...->ikt...", root, root) for root in noise(generator, 2, d, d, d, *lattice).unbind()
    )
    weights = Weights(noise(generator, *lattice).abs(), right, left, cells, a, b, 0.1)
    factor = weights.factor()
    fields = linear_step(noise(generator, 20, *lattice, d), cells, a, b).values
    form = (fields.movedim(-1, 1).flatten(1) @ factor).square().sum(1)
    assert bool((form <= 1 + 1e-12).all())
    assert bool((form > 0.05).all())
    # by its definition
    gradients = st.deformations.triangulation.gradients(fields, cells)
    own = torch.einsum("n...ij,jk...,n...ik->n", gradients, weights.right.movedim(2, -1), gradients)
    own = own + torch.einsum("n...ij,ik...,n...kj->n", gradients, weights.left.movedim(2, -1), gradients)
    expected = (weights.nodes * fields.square().sum(-1)).flatten(1).sum(1) / a**2 + own / b**2
    assert torch.allclose(form, expected, rtol=1e-10)
    traces = [part.diagonal(dim1=0, dim2=1).sum() for part in (weights.right, weights.left)]
    assert float(weights.nodes.sum() + sum(traces)) == pytest.approx(1.0)


@pytest.mark.parametrize("d", [1, 2])
def test_matrices_are_shrunk_as_their_singular_values_are_clipped(d, generator):
    q = 2 * noise(generator, d, d, 3, 5, 4)
    q[..., 0] *= 0.1  # nothing to shrink
    q[..., 1] = torch.eye(d).reshape(d, d, 1, 1)  # equal singular values
    stacked = q.permute(3, 4, 2, 0, 1).flatten(2, 3)  # (5, 4, 3 d, d)
    u, sigma, v = torch.linalg.svd(stacked, full_matrices=False)
    expected = (u * sigma.clamp_max(1.0)[..., None, :]) @ v
    assert torch.allclose(lifted.shrunk(q).permute(3, 4, 2, 0, 1).flatten(2, 3), expected, atol=1e-12)
    roots = v.mT @ (sigma[..., None] * v)
    assert torch.allclose(lifted.root(q).permute(2, 3, 0, 1), roots, atol=1e-12)


def lifted_norms(fields, a, b):
    """Largest sums over the fields of |tau|^2 / a^2, ||J^T J|| / b^2 and ||J J^T|| / b^2, from their definitions."""
    gradients = st.deformations.triangulation.gradients(fields, (1.0,) * fields.shape[-1])
    products = (torch.einsum(form, gradients, gradients) for form in ("n...ij,n...ik->...jk", "n...ij,n...kj->...ik"))
    return [
        float(fields.square().sum((0, -1)).max()) / a**2,
        *(float(torch.linalg.matrix_norm(one, 2).max()) / b**2 for one in products),
    ]


@pytest.mark.parametrize(("size", "a", "b"), [((8, 8), 1.0, 0.25), ((6, 9), 0.5, 0.5), ((16,), 2.0, 0.25)], ids=str)
def test_the_relaxation_and_its_multipliers_have_one_value(size, a, b, generator):
    """Primal and dual of a semidefinite programme: no better weights, no better fields, of any number."""
    d = len(size)
    matrix = noise(generator, 5 * d, *size, d).flatten(1)  # J

    def gram(fields):
        return (fields.flatten(1) @ matrix.T @ matrix).reshape(fields.shape)

    point = lifted.relaxed(gram, noise(generator, 6, *size, d), (1.0,) * d, a, b)
    assert max(lifted_norms(point.fields, a, b)) == pytest.approx(1.0, rel=1e-9)
    value = float(point.inner.trace())
    assert value == pytest.approx(float((point.fields * gram(point.fields)).sum()))
    factor = Weights(point.nodes, point.right, point.left, (1.0,) * d, a, b, 1e-6).factor()
    rows = matrix.reshape(len(matrix), *size, d).movedim(-1, 1).flatten(1)  # components first
    assert value * (1 - 1e-9) <= largest(factor, rows) <= 1.01 * value
    if d == 2:  # one kind of weights on the triangles is not enough
        one_sided = Weights(point.nodes, 0 * point.right, 2 * point.left, (1.0,) * d, a, b, 1e-6).factor()
        assert largest(one_sided, rows) > 1.002 * value


def largest(factor, rows):
    """The largest eigenvalue of J^T J relative to M = R R^T."""
    return float(torch.linalg.matrix_norm(torch.linalg.solve_triangular(factor, rows.T, upper=False), 2)) ** 2


def test_lanczos_finds_the_largest_eigenvalue(generator):
    matrix = noise(generator, 30, 30)
    matrix = matrix @ matrix.T
    expected = float(torch.linalg.eigvalsh(matrix)[-1])
    assert largest_eigenvalue(lambda v: matrix @ v, noise(generator, 30), 30) == pytest.approx(expected, rel=1e-8)
    assert largest_eigenvalue(lambda v: matrix @ v, noise(generator, 30), 8) <= expected * (1 + 1e-12)
    assert missed(50, 30, 1e-6) > missed(100, 30, 1e-6) > 0


def test_without_a_gradient_constraint_the_slope_is_known(generator):
    x = photographs()
    slope = linearised(Identity(), x, displacement_norm=0.5, jacobian_norm=100.0, generator=generator)
    jacobian = FieldJacobian(compared(Identity().double(), x).rows, x[0], st.SplineWarp(), 2)
    units = torch.eye(2, dtype=torch.float64).reshape(2, 1, 1, 2).expand(2, *SIZE, 2)
    expected = 0.5 * jacobian.apply(units.contiguous()).norm().item()
    assert slope.lower.item() == pytest.approx(expected, rel=1e-3)
    assert expected * (1 - 1e-6) <= slope.upper.item() <= 1.02 * expected


@pytest.mark.slow
def test_both_ends_hold_and_are_near(generator):
    a, b = 1.0, 0.25
    x = photographs()
    ckn = network(generator, x)
    slope = linearised(ckn, x, displacement_norm=a, jacobian_norm=b, generator=generator)
    assert bool((slope.field.norms().displacement.upper <= a).all())
    assert bool((slope.field.norms().jacobian.upper <= b).all())
    assert bool((slope.lower <= slope.upper).all())
    assert bool((slope.width < 0.05).all())
    jacobian = FieldJacobian(compared(ckn, x).rows, x[0], st.SplineWarp(), 30)
    others = PiecewiseLinearField.saturated(
        SIZE, displacement_norm=a, jacobian_norm=b, batch_shape=(30,), generator=generator
    )
    reached = jacobian.apply(others.values).norm(dim=1)
    assert bool((reached <= slope.lower * (1 + 1e-3)).all())
    small = 1 / 32 / a
    settings = {"starts": (Linearised(2),), "steps": 6, "generator": generator}
    found = worst_case(ckn, x, displacement_norm=small * a, jacobian_norm=small * b, **settings)
    assert found.largest_found.item() == pytest.approx(small * slope.lower.item(), rel=0.05)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_interval_is_narrow_where_the_relaxation_needs_several_fields(seed, generator):
    """White noise has many maxima: no field reaches the relaxation, whose iteration must not stop early."""
    x = torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    slope = linearised(Identity(), x, displacement_norm=1.0, jacobian_norm=0.5, generator=generator)
    assert 0.001 < float(slope.width) < 0.07


def test_what_lanczos_may_miss_is_counted_where_it_has_not_ended(monkeypatch):
    values = []
    for size in ((10, 10), (8, 8)):  # 200 and 128 dimensions; 160 steps
        for missing in (0.0, 0.75):
            monkeypatch.setattr(slope_module, "missed", lambda steps, size, failure, share=missing: share)
            found = linearised(
                Identity(), photographs(size=size), displacement_norm=1.0, jacobian_norm=0.5,
                generator=torch.Generator().manual_seed(0),
            )  # fmt: skip
            values.append(float(found.upper))
    assert values[1] == pytest.approx(2 * values[0], rel=1e-6)
    assert values[3] == values[2]


def test_an_invariant_representation_has_slope_zero(generator):
    class Blind(nn.Module):
        def forward(self, x):
            return 0.0 * x.flatten(1) ** 2 + 1.0

    slope = linearised(Blind(), photographs(), displacement_norm=1.0, jacobian_norm=0.5, generator=generator)
    assert slope.lower.item() == slope.upper.item() == 0
    assert math.isnan(slope.width.item())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 0 * photographs()}, "must not be 0"),
        ({"displacement_norm": -1.0}, "displacement_norm"),
        ({"warp": st.BandLimitedWarp(2)}, "warp must"),
    ],
)
def test_wrong_input_is_told(change, message, generator):
    given = {"representation": Identity(), "images": photographs(), "displacement_norm": 1.0, "jacobian_norm": 0.5}
    given |= {"generator": generator, **change}
    with pytest.raises(ValueError, match=message):
        linearised(given.pop("representation"), given.pop("images"), **given)


@pytest.mark.parametrize("b", [1e-8, 1e-10, 1e-12])
def test_nearly_nothing_but_translations_are_bounded_from_above(b, generator):
    # the slope of translations is the larger singular value of the two columns J (1, 0), J (0, 1)
    x = photographs()
    columns = FieldJacobian(lambda y: y.flatten(1), x[0], st.SplineWarp(), 2).apply(
        torch.eye(2, dtype=torch.float64)[:, None, None, :].expand(2, *SIZE, 2)
    )
    exact = float(torch.linalg.matrix_norm(columns, 2))
    slope = linearised(Identity(), x, displacement_norm=1.0, jacobian_norm=b, generator=generator)
    assert float(slope.lower) <= exact * (1 + 20 * b) <= float(slope.upper) * (1 + 20 * b)
    assert float(slope.lower) == pytest.approx(exact, rel=2e-3)


def test_all_fields_are_below_the_upper_value_of_a_gradient_larger_by_the_root_of_two(generator):
    # a functional that asks pixel (4, 4) to move against both its neighbours: a cone around it has more than any field
    # that is linear on the triangles of the grid
    wave = torch.sin(2 * math.pi * (torch.arange(8, dtype=torch.float64) + 0.5) / 8)
    x = wave.expand(1, 1, 8, 8).contiguous()
    e = 1e-6
    d = ((st.SplineWarp()(x, st.Translation((e, 0.0), size=SIZE)) - x) / e)[0, 0]

    class Against(nn.Module):
        def forward(self, y):
            return (y[:, 0, 4, 3] / d[4, 3] + y[:, 0, 5, 4] / d[5, 4] - 2 * y[:, 0, 4, 4] / d[4, 4])[:, None]

    own, larger = (
        linearised(Against(), x, displacement_norm=1.0, jacobian_norm=b, generator=generator)
        for b in (0.25, 0.25 * math.sqrt(2))
    )
    finer = worst_case(
        Against(), x, displacement_norm=1e-4, jacobian_norm=0.25e-4, generator=generator,
        fields=st.search.PiecewiseLinear(32),
    )  # fmt: skip
    reached = float(finer.largest_found) / 1e-4
    assert float(own.upper) < reached < 0.5 < float(larger.upper)  # 2 b: what Lipschitz fields reach at most


def test_a_constant_image_has_no_slope_but_round_off(generator):
    x = torch.full((1, 1, *SIZE), 4.0, dtype=torch.float64)
    slope = linearised(Identity(), x, displacement_norm=1.0, jacobian_norm=0.25, generator=generator)
    assert float(slope.lower) == 0 < float(slope.upper) < 1e-13
    assert slope.status == st.bounds.Status.ESTIMATE


def test_coarse_arithmetic_widens_the_interval_and_is_an_estimate(generator):
    class Filtered(nn.Module):
        def __init__(self, dtype):
            super().__init__()
            weights = torch.randn(4, 1, 3, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
            self.weights = nn.Parameter(weights.to(dtype), requires_grad=False)

        def forward(self, y):
            return torch.relu(nn.functional.conv2d(y.to(self.weights.dtype), self.weights))

    x, ray = photographs(), {"displacement_norm": 1.0, "jacobian_norm": 0.25, "generator": generator}
    exact = linearised(Filtered(torch.float64), x, **ray)
    coarse = linearised(Filtered(torch.bfloat16), x, **ray)
    assert exact.status == st.bounds.Status.PROBABLE
    assert float(exact.round_off) < 1e-13
    assert coarse.status == st.bounds.Status.ESTIMATE
    assert float(coarse.round_off) > 1e-3
    assert float(coarse.lower) <= float(exact.upper)
    assert float(coarse.upper) >= float(exact.lower)
    assert float(coarse.upper - coarse.lower) >= 2 * float(coarse.round_off)  # counted at both ends


def test_an_output_that_is_rounded_to_integers_has_slope_zero(generator):
    class Rounded(nn.Module):
        def forward(self, y):
            return torch.round(20 * y)

    slope = linearised(Rounded(), photographs(), displacement_norm=1.0, jacobian_norm=0.25, generator=generator)
    assert float(slope.lower) == float(slope.upper) == 0


def test_images_of_three_pixels_are_refused_without_naming_a_lattice(generator):
    x = torch.rand(1, 1, 3, 8, generator=generator, dtype=torch.float64)
    with pytest.raises(ValueError, match="images must have at least 4 pixels along each side to be linearised"):
        linearised(Identity(), x, displacement_norm=1.0, jacobian_norm=0.25, generator=generator)


class Attention(nn.Module):
    """Patches that attend to each other."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 4, 4, dtype=torch.float64)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float64)

    def forward(self, y):
        tokens = self.patches(y).flatten(2).transpose(1, 2)
        return self.attention(tokens, tokens, tokens, need_weights=False)[0].flatten(1)


def test_attention_has_the_slope_of_its_small_distances(generator):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Attention()
    x = photographs()
    slope = linearised(network, x, displacement_norm=1.0, jacobian_norm=0.25, generator=generator)
    t = 1e-5
    small = PiecewiseLinearField(t * slope.field.values, SIZE)
    with torch.no_grad():
        moved = (network(st.SplineWarp()(x, small)) - network(x)).norm() / t
    assert float(moved) == pytest.approx(float(slope.lower), rel=1e-3)


def test_an_operation_without_a_second_derivative_is_told(generator):
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y):
            ctx.save_for_backward(y)
            return y.square()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, gradient):
            return 2 * ctx.saved_tensors[0] * gradient

    class Squares(nn.Module):
        def forward(self, y):
            return Once.apply(y)

    with pytest.raises(ValueError, match="must have second derivatives to be linearised"):
        linearised(Squares(), photographs(), displacement_norm=1.0, jacobian_norm=0.25, generator=generator)


def test_a_constant_module_has_slope_zero_and_a_detached_one_is_refused(generator):
    class Constant(nn.Module):
        def forward(self, y):
            return torch.ones(len(y), 3)

    class Detached(nn.Module):
        def forward(self, y):
            return y.detach()

    ray = {"displacement_norm": 1.0, "jacobian_norm": 0.25, "generator": generator}
    slope = linearised(Constant(), photographs(), **ray)
    assert float(slope.lower) == float(slope.upper) == 0
    with pytest.raises(ValueError, match="must let gradients through"):
        linearised(Detached(), photographs(), **ray)
