"""The neural tangent kernel: dense matrices, finite networks, laws, growth like a square root, refusals."""

import math

import pytest
import torch
from oracles import tangent_kernel

import stability as st
from stability import kernels

RELU = kernels.ArcCosine(1)


def network(depth, stride=1, patch=3, kernel=RELU):
    layers = tuple(st.Layer(patch, 1.0 + k, stride, kernel) for k in range(depth))
    return st.Architecture(layers, antialiasing=1.0)


def step_kernel(u):
    return 1 - torch.acos(u) / math.pi


def pair(generator, size, channels=2):
    draw = torch.randn(2, 1, channels, *size, generator=generator, dtype=torch.float64)
    return draw[0], draw[1]


@pytest.mark.parametrize("size", [(12,), (8, 8), (8, 12)], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_equals_dense_matrices(depth, stride, size, generator):
    arch = network(depth, stride, patch=2 if depth == 3 else 3)
    x, y = pair(generator, size)
    ntk, truth = st.GramNTK(arch), tangent_kernel(arch, x[0], y[0], step_kernel)
    assert abs(ntk.kernel(x, y).item() - truth["xy"]) <= 1e-12 * truth["xx"]
    assert abs(ntk.norm(x).item() ** 2 - truth["xx"]) <= 1e-12 * truth["xx"]
    squared = truth["xx"] + truth["yy"] - 2 * truth["xy"]
    assert abs(ntk.distance(x, y).item() ** 2 - squared) <= 1e-11 * truth["xx"]


def test_one_layer_is_the_gram_matrix_of_gradients_of_a_wide_network(generator):
    """f(x) = sum_u <v, (2/m)^(1/2) relu(W P(u))>, no pooling: its gradients at random W, v by autograd."""
    arch = st.Architecture((st.Layer(3, 0.0, 1, kernels.ArcCosine(1)),), antialiasing=None)
    x, y = pair(generator, (6,), channels=1)
    m = 40_000

    def patches(z):
        return torch.stack([z[0, 0].roll(-c) for c in (-1, 0, 1)]) / math.sqrt(3)  # (3, N)

    w = torch.randn(m, 3, generator=generator, dtype=torch.float64)
    v = torch.randn(m, generator=generator, dtype=torch.float64)

    def gram(p, q):
        """sum_u of <grad f_u(x), grad f_u(y)> over W and v."""
        hidden = [torch.relu(w @ z) for z in (p, q)]
        of_v = (2 / m) * (hidden[0] * hidden[1]).sum()
        alive = [(w @ z > 0).double() * v[:, None] for z in (p, q)]
        of_w = (2 / m) * ((alive[0] * alive[1]).sum(0) * (p * q).sum(0)).sum()
        return (of_v + of_w).item()

    estimate = gram(patches(x), patches(y))
    scale = st.GramNTK(arch).norm(x).item() ** 2
    assert abs(st.GramNTK(arch).kernel(x, y).item() - estimate) < 5 * scale * 3 / math.sqrt(m)


def test_linear_kernels_give_n_plus_one_times_the_linear_kernel(generator):
    arch = network(3, kernel=kernels.Linear())
    x, y = pair(generator, (8, 8))
    assert st.GramNTK(arch).kernel(x, y).item() == pytest.approx(4 * st.LinearGram(arch).kernel_matrix(x, y).item())


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_norm_is_at_most_the_square_root_of_n_plus_one(depth, generator):
    x, _ = pair(generator, (8, 8))
    assert st.GramNTK(network(depth)).norm(x) <= math.sqrt(depth + 1) * x.norm() * (1 + 1e-12)


def test_the_kernel_matrix_is_positive_semi_definite(generator):
    x = torch.randn(6, 1, 8, 8, generator=generator, dtype=torch.float64)
    matrix = st.kernel_matrix(st.GramNTK(network(2)), x)
    assert torch.equal(matrix, matrix.T)
    assert torch.linalg.eigvalsh(matrix)[0] > -1e-12 * matrix.diagonal().max()


def test_distances_grow_like_a_square_root_where_those_of_the_ckn_grow_linearly(generator):
    """On deformations, between 1/16 and 1/4 px; the paper's point, and a control that sees the difference."""
    x = st.images.load("fashion", count=3, size=(32, 32))[..., 2:-2, 2:-2]
    x = st.grid.band_limit(x)
    tau = st.control(st.FourierField.sample((28, 28), cutoff=3, generator=generator), displacement_norm=1.0)
    arch = st.Architecture((st.Layer(3, 2.0, 2, kernels.ArcCosine(1)), st.Layer(3, 4.0, 5, kernels.ArcCosine(1))), 0.5)
    slopes = {}
    for name, representation in (("ckn", st.GramCKN(arch)), ("ntk", st.GramNTK(arch))):
        reference = representation.reference(x)
        small, large = (reference.distance(st.BandLimitedWarp()(x, t * tau)) for t in (1 / 64, 1 / 16))
        slopes[name] = (torch.log(large / small) / math.log(4)).mean().item()
    assert 0.95 < slopes["ckn"] < 1.05
    assert 0.4 < slopes["ntk"] < 0.75


def test_the_floor_is_where_round_off_is(generator):
    """The distance from x to an image that differs in the last digits is below it; a real difference is above."""
    x, _ = pair(generator, (8, 8))
    for representation in (st.GramNTK(network(2)), st.GramCKN(network(2))):
        reference = representation.reference(x)
        noise = 1e-16 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
        assert reference.distance(x + noise) <= reference.floor
        assert reference.distance(1.01 * x) > 10 * reference.floor
    assert st.GramNTK(network(2)).reference(x).floor > 10 * st.GramCKN(network(2)).reference(x).floor


def test_kernels_that_jump_are_refused():
    with pytest.raises(ValueError, match=r"finite kappa'\(1\)"):
        st.GramNTK(network(1, kernel=kernels.ArcCosine(0)))


def test_bounds_do_not_cover_it():
    assert st.GramNTK(network(2)).lipschitz == (math.inf, math.inf)
    assert not st.GramNTK(network(2)).keeps_norms


def test_single_precision_is_taken_to_double_with_a_note(generator):
    x, y = pair(generator, (8, 8))
    with pytest.warns(UserWarning, match="float64"):
        single = st.GramCKN(network(1)).distance(x.float(), y.float())
    assert single.dtype == torch.float64
    assert single.item() == pytest.approx(st.GramCKN(network(1)).distance(x, y).item(), rel=1e-5)


PEER = {
    # neural-tangents 0.6.5, jax 0.4.34, float64: depth x (Conv(3 x 3, circular, W_std), kernel), Flatten,
    # Dense(W_std=1), times H W C; W_std = sqrt(2) and Relu, or W_std = 1 and ExpNormalized(gamma=1, shift=-1).
    # kernel and depth: NNGP(x, y), NTK(x, y), NTK(x, x)
    (kernels.ArcCosine(1), 1): (35.826408690822554, 58.92123755555011, 121.09832330162989),
    (kernels.ArcCosine(1), 2): (38.73258773750279, 82.42113414509969, 181.64748495244487),
    (kernels.ArcCosine(1), 3): (40.914102635975105, 103.86685329092515, 242.1966466032599),
    (kernels.Exponential(1.0), 1): (35.59073934595497, 58.09444542400464, 121.09832330162986),
    (kernels.Exponential(1.0), 2): (38.09446786375484, 80.40035492504191, 181.6474849524448),
    (kernels.Exponential(1.0), 3): (39.9393805762258, 100.99613472676477, 242.19664660325978),
}


@pytest.mark.parametrize(("kernel", "depth"), PEER, ids=str)
def test_equals_neural_tangents(kernel, depth):
    y, x, k = torch.meshgrid(*(torch.arange(float(n), dtype=torch.float64) for n in (6, 5, 2)), indexing="ij")

    def image(phase):
        values = torch.cos(1.3 * x + 0.7 * y + phase + k) + 0.5 * torch.sin(0.9 * x * y / 5 + 2 * phase) + 0.3
        return values.movedim(-1, 0)[None]

    arch = st.Architecture((st.Layer(3, 0.0, 1, kernel),) * depth, antialiasing=None)
    nngp, ntk, own = PEER[kernel, depth]
    left, right = image(0.2), image(1.1)
    assert st.GramCKN(arch).kernel(left, right).item() == pytest.approx(nngp, rel=1e-12)
    assert st.GramNTK(arch).kernel(left, right).item() == pytest.approx(ntk, rel=1e-11)
    assert st.GramNTK(arch).norm(left).item() ** 2 == pytest.approx(own, rel=1e-12)
