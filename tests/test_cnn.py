"""CNNs of an architecture: dense second route, exact relations, the theorem at any spectral norm, refusals."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from oracles import pooling, shifts

import stability as st
from stability.activations import ReLU, SmoothedReLU
from stability.bounds.hoelder import through_network
from stability.bounds.theorem import Theorem
from stability.ladders import closed_forms

ACTIVATIONS = [ReLU(), SmoothedReLU(0.5), SmoothedReLU(20.0)]
ROUND_OFF = 1e-9


def draw(arch, widths, generator, **options):
    return st.cnn(arch, widths, generator=generator, dtype=torch.float64, **options)


def dense(net: st.CNN, x: torch.Tensor) -> torch.Tensor:
    """A_n s(W_n P_n ...) by dense matrices over all positions, ``(m_n, positions)``; x ``(C, *size)``."""
    arch, size, spacing = net.architecture, tuple(x.shape[1:]), 1
    if arch.front_end is not None:
        x = x - x.mean(tuple(range(1, x.ndim)), keepdim=True)
    maps = x.flatten(1) @ pooling(arch.antialiasing or 0.0, size).T
    for layer, weight in zip(arch.layers, net.weights, strict=True):
        index = shifts(size, layer.patch_size)
        patches = torch.cat([maps[:, i] for i in index]) / math.sqrt(len(index))  # offsets outer, channels inner
        maps = net.activation(weight @ patches)
        positions = itertools.product(*map(range, size))
        keep = [i for i, u in enumerate(positions) if all(c % layer.subsampling == 0 for c in u)]
        maps = maps @ pooling(layer.pooling_scale / spacing, size)[keep].T
        size, spacing = tuple(math.ceil(n / layer.subsampling) for n in size), spacing * layer.subsampling
    return maps.detach()


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
@pytest.mark.parametrize("size", [(8, 12), (16,)], ids=str)
def test_features_distances_and_areas_are_those_of_dense_matrices(activation, size, generator):
    arch = st.Architecture((st.Layer(3, 1.5, 2), st.Layer(2, 2.0, 2)), front_end=st.front_ends.MeanRemoval())
    net = draw(arch, (5, 7), generator, activation=activation, channels=2, d=len(size))
    x, y = torch.randn(2, 1, 2, *size, generator=generator, dtype=torch.float64)
    by_hand = [dense(net, z[0]) for z in (x, y)]
    assert torch.allclose(net(x).flatten(2)[0], by_hand[0], atol=1e-12)
    area = 4 ** len(size)
    distance = math.sqrt(area) * (by_hand[0] - by_hand[1]).norm()
    assert torch.allclose(net.distance(x, y)[0], distance)
    assert torch.allclose(net.norm(x)[0], math.sqrt(area) * by_hand[0].norm())
    assert [tuple(maps.shape[1:]) for maps in net.layers(x)] == [
        (5, *(n // 2 for n in size)), (7, *(n // 4 for n in size))
    ]  # fmt: skip
    assert net.layer_names == ("2",)
    assert torch.equal(net.reference(x).distances(y[:, None]), net.reference(x).distance(y[:, None])[None])


def test_with_the_identity_as_weights_a_positive_image_sees_the_linear_network():
    """s(z) = z where z >= 0: the distance is that of ``LinearGram``, and so is the bound (all rho are 1)."""
    arch = st.Architecture((st.Layer(3, 2.0, 2), st.Layer(2, 4.0)))
    net = st.CNN(arch, [torch.eye(9).double(), torch.eye(36).double()])
    x = 1.0 + st.images.load("blobs", count=2, size=(16, 16)).abs()
    x = st.grid.band_limit(x)
    moved = st.BandLimitedWarp()(x, st.Translation((1.5, 0.5), size=(16, 16)))
    linear = st.LinearGram(arch)
    assert torch.allclose(net.distance(x, moved), linear.distance(x, moved), rtol=1e-9)
    assert torch.allclose(net.norm(x), linear.norm(x))
    assert net.lipschitz == pytest.approx((1.0, 1.0), abs=1e-14)
    norms = {"displacement_norm": 1.0, "jacobian_norm": 0.2, "hessian_norm": 0.1}
    with_rho = st.closed_form(arch, **norms, lipschitz=(1.0, 1.0))
    assert with_rho.value == st.closed_form(linear.architecture, **norms).value


def test_spectral_norms_are_attained_by_a_layer_with_positive_weights(generator):
    """Perron: the top singular vectors of W >= 0 are >= 0, so that no ReLU is active and |s(W v)| = ||W|| |v|."""
    arch = st.Architecture((st.Layer(1, 0.0),), antialiasing=None)
    weight = torch.rand(6, 4, generator=generator, dtype=torch.float64)
    net = st.CNN(arch, [weight])
    (rho,) = net.lipschitz
    assert rho == pytest.approx(float(torch.linalg.eigvalsh(weight.T @ weight)[-1]) ** 0.5)
    x = torch.linalg.svd(weight).Vh[0].abs().view(1, 4, 1, 1).expand(1, 4, 2, 2)
    assert net.distance(torch.zeros_like(x), x).item() == pytest.approx(rho * float(x.norm()))


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_activations_are_one_lipschitz_and_the_smoothed_one_is_a_gaussian_mean(activation):
    t = torch.linspace(-30.0, 30.0, 20001, dtype=torch.float64).requires_grad_()
    s = activation(t)
    (slope,) = torch.autograd.grad(s.sum(), t)
    assert float(slope.max()) <= activation.lipschitz + 1e-14
    assert float(slope.min()) >= -1e-14
    assert float(activation(torch.zeros(1, dtype=torch.float64))) == pytest.approx(activation.at_zero, abs=1e-15)
    assert float((s - t.relu()).detach().max()) <= activation.at_zero + 1e-12
    if isinstance(activation, SmoothedReLU):
        assert torch.allclose(slope, 0.5 * (1 + (math.sqrt(activation.c) * t).erf()), atol=1e-13)
        spread = math.sqrt(0.5 / activation.c)
        g = torch.linspace(-9.0, 9.0, 4001, dtype=torch.float64)
        density = torch.exp(-0.5 * g**2)
        for value in (-0.7, 0.0, 0.3, 2.0):
            mean = ((value + spread * g).relu() * density).sum() / density.sum()
            exact = activation(torch.tensor(value, dtype=torch.float64))
            assert float(exact) == pytest.approx(float(mean), abs=1e-5)


@some.composite
def cases(draw_):
    d = draw_(some.sampled_from([1, 2]))
    size = (24,) if d == 1 else (12, 8)
    depth = draw_(some.integers(1, 3 if d == 1 else 2))
    scales, strides = some.sampled_from([0.0, 1.0, 2.0, 4.0]), some.sampled_from([1, 2])
    layers = tuple(st.Layer(draw_(some.integers(1, 3)), draw_(scales), draw_(strides)) for _ in range(depth))
    front_end = draw_(some.sampled_from([None, st.front_ends.MeanRemoval()]))
    arch = st.Architecture(layers, draw_(some.sampled_from([1.0, None])), front_end=front_end)
    generator = torch.Generator().manual_seed(draw_(some.integers(0, 10_000)))
    activation = draw_(some.sampled_from(ACTIVATIONS))
    net = draw(arch, (4,) * depth, generator, activation=activation, d=d)
    with torch.no_grad():
        for weight in net.weights:
            weight *= draw_(some.sampled_from([0.1, 1.0, 10.0]))  # spectral norms far below and far above 1
    x = st.images.load(draw_(some.sampled_from(["fashion", "blobs"])), count=2, size=size)
    b = draw_(some.sampled_from([1e-3, 0.1, 0.5, 1.5]))
    field = st.control(st.FourierField.sample(size, cutoff=2, batch_shape=(2,), generator=generator), jacobian_norm=b)
    shift = st.Translation(torch.randn(2, d, generator=generator, dtype=torch.float64), size=size)
    tau = {"field": field, "shift": shift, "both": field + shift}[draw_(some.sampled_from(["field", "shift", "both"]))]
    return net, x, tau, draw_(some.sampled_from([st.BandLimitedWarp(), st.IndexWarp()]))


@settings(max_examples=25)
@given(cases())
def test_no_rung_is_violated_whatever_the_spectral_norms(case):
    net, x, tau, warp = case
    ladder = st.ladder(net, x, tau, warp=warp, certificates=False)
    assert not ladder.violation.any(), ladder.to_frame().T
    assert torch.isfinite(ladder.allowance).all()
    assert (ladder.observed <= ladder.trivial + ladder.floor + ROUND_OFF).all()


@pytest.mark.parametrize("c", [1e-6, 1e-3])
def test_in_single_precision_the_floor_covers_round_off(c, generator):
    """Moves so small that the distance is round-off: no bound, not even the trivial one, may be violated."""
    x = st.images.load("fashion", count=4, size=(16, 16))
    for depth in (1, 3):
        arch = st.Architecture(tuple(st.Layer(3, 2.0) for _ in range(depth)))
        net = st.cnn(arch, (16,) * depth, generator=generator, activation=SmoothedReLU(4.0))
        ladder = st.ladder(net, x, st.Translation((c, 0.0), size=(16, 16)))
        assert not ladder.violation.any(), ladder


def test_a_lipschitz_constant_that_is_too_small_is_caught():
    """1 + cos stays positive: the network is linear, and observed = rho T |cos| / |1 + cos| nearly; rho / 2 is less."""

    class Halved(st.CNN):
        @property
        def lipschitz(self):
            return tuple(0.5 * rho for rho in super().lipschitz)

    n, arch = 26, st.Architecture((st.Layer(1, 4.0),), antialiasing=None)
    wave = 1.0 + torch.cos(2 * math.pi * torch.arange(n, dtype=torch.float64) / n).expand(1, 1, n, n)
    tau, weights = st.Translation((4.0, 0.0), size=(n, n)), [torch.full((1, 1), 3.0, dtype=torch.float64)]
    right, wrong = (st.ladder(kind(arch, weights), wave, tau) for kind in (st.CNN, Halved))
    assert not right.violation.any()
    ratio = (right.observed / right["closed_form"].value).item()
    assert 0.99 / math.sqrt(3) < ratio <= 1 / math.sqrt(3)
    assert wrong.violation.all()
    kernels_only = closed_forms(Theorem(arch), tau, 1)[0].value  # the kernels' constants are not the weights'
    assert right.observed.item() > kernels_only


@pytest.mark.parametrize("front_end", [None, st.front_ends.MeanRemoval()])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_bound_is_the_product_of_the_constants_times_the_bound_at_one(front_end, stride):
    arch = st.Architecture.dyadic(depth=3, subsampling=stride, front_end=front_end, kernel=st.kernels.Exponential(4.0))
    norms = {"displacement_norm": 1.0, "jacobian_norm": 0.2}
    unit = st.closed_form(arch.replace("layers.*.kernel", st.kernels.ArcCosine(1)), **norms)
    bound = st.closed_form(arch, **norms, lipschitz=(0.1, 3.0, 2.0))
    assert bound.value == pytest.approx(0.6 * unit.value)
    assert bound.trivial_norms == pytest.approx(0.6 * unit.trivial_norms)
    assert [term.name for term in bound.terms] == [term.name for term in unit.terms]
    assert math.fsum(float(term.value) for term in bound.terms) == pytest.approx(bound.value)
    assert [row["R"] for row in bound.constants["layers"]] == pytest.approx([0.6] * 3)
    assert "0.6" in bound.to_text()
    assert st.closed_form(arch, **norms, lipschitz=(0.0, 3.0, 2.0)).value == 0.0
    bare = arch.replace("layers.0.pooling_scale", 0)
    assert st.closed_form(bare, **norms, lipschitz=(0.0, 3.0, 2.0)).value == 0.0
    steep = arch.replace("layers.*.kernel", st.kernels.ArcCosine(0))  # its rho = inf plays no part
    assert st.closed_form(steep, **norms, lipschitz=(0.1, 3.0, 2.0)).value == pytest.approx(bound.value)
    assert through_network(steep, 0.5, 9.0, [1.0, 1.0, 2.0], lipschitz=(0.1, 3.0, 2.0)) == pytest.approx(0.6)


def test_gradients_reach_weights_and_images_and_agree_with_differences(generator):
    arch = st.Architecture((st.Layer(2, 1.0, 2), st.Layer(2, 2.0)))
    net = draw(arch, (2, 3), generator, activation=SmoothedReLU(1.0))
    x = torch.randn(1, 1, 4, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: net(z), (x,))
    net(x).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.norm() > 0 for weight in net.weights)


def test_activations_keep_their_scale_at_the_start(generator):
    arch = st.Architecture(tuple(st.Layer(3, 0.0) for _ in range(4)), antialiasing=None)
    net = draw(arch, (256,) * 4, generator)
    x = torch.randn(1, 1, 8, 8, generator=generator, dtype=torch.float64)
    assert (net.norm(x) / x.norm()).item() == pytest.approx(1.0, rel=0.25)


def test_weights_are_shared_on_finer_grids_loaded_and_reproducible():
    arch = st.Architecture.dyadic(depth=2)
    first, second = (st.cnn(arch, (3, 4), generator=torch.Generator().manual_seed(s)) for s in (5, 5))
    assert all(torch.equal(a, b) for a, b in zip(first.weights, second.weights, strict=True))
    assert first.dtype == torch.float32
    assert first.widths == (3, 4)
    fine = first.refined(2)
    assert fine.weights[0] is first.weights[0]
    x = st.images.load("blobs", count=1, size=(16, 16))
    ones = torch.ones(1, 1, 16, 16, dtype=torch.float64)  # a constant image is the same on every grid
    assert torch.allclose(fine.norm(torch.ones(1, 1, 32, 32, dtype=torch.float64)), first.norm(ones))
    third = st.cnn(arch, (3, 4), generator=torch.Generator().manual_seed(6))
    third.load_state_dict(first.state_dict())
    assert torch.equal(third.norm(x), first.norm(x))
    assert first.norm(x).dtype == torch.float64
    assert torch.allclose(first.norm(x), third.double().norm(x), rtol=1e-5)
    matrix = first.distance_matrices(st.images.load("blobs", count=3, size=(16, 16)))
    assert matrix.shape == (1, 3, 3)


def test_distance_matrices_of_kernels_are_those_of_pairs(generator):
    x = st.images.load("fashion", count=3, size=(8, 8))
    arch = st.Architecture((st.Layer(3, 2.0),))
    for phi in (st.GramCKN(arch), st.LinearGram(arch), draw(arch, (4,), generator)):
        (matrix,) = phi.distance_matrices(x)
        assert torch.equal(matrix, matrix.T)
        for i, j in itertools.combinations(range(3), 2):
            assert torch.allclose(matrix[i, j], phi.distance(x[i : i + 1], x[j : j + 1])[0], rtol=1e-6)
    assert st.GramCKN(arch).lipschitz == arch.lipschitz


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda rng: st.cnn(st.Architecture.dyadic(depth=3), generator=rng), "one number per layer"),
        (lambda rng: st.cnn(st.Architecture.dyadic(depth=1), (2.5,), generator=rng), "integers >= 1"),
        (lambda rng: st.cnn(st.Architecture.dyadic(depth=1), (2,), channels=0, generator=rng), "channels"),
        (lambda rng: st.cnn(st.Architecture.dyadic(depth=1), (2,), d=3, generator=rng), "d must be 1 or 2"),
        (lambda rng: st.CNN(st.Architecture.dyadic(depth=2), [torch.eye(9)]), "one matrix per layer"),
        (lambda rng: st.CNN(st.Architecture.dyadic(depth=1), [torch.eye(9)], torch.relu), "Activation"),
        (lambda rng: st.CNN(st.Architecture.dyadic(depth=1), [torch.eye(9)])(torch.ones(1, 3, 8, 8)), "9 entries"),
        (lambda rng: SmoothedReLU(0.0), "c must be"),
        (lambda rng: closed_forms(Theorem(st.Architecture.dyadic(depth=2), (1.0,)), still(), 1), "per layer"),
        (lambda rng: closed_forms(Theorem(st.Architecture.dyadic(depth=1), (math.nan,)), still(), 1), "lipschitz"),
        (lambda rng: closed_forms(Theorem(st.Architecture.dyadic(depth=1), (math.inf,)), still(), 1), "finite"),
    ],
)
def test_what_does_not_fit_is_told(make, message, generator):
    with pytest.raises(ValueError, match=message):
        make(generator)


def still() -> st.Translation:
    return st.Translation((0.0, 0.0), size=(8, 8))


@pytest.mark.parametrize(("d", "size"), [(1, (9,)), (2, (7, 8))])
@pytest.mark.parametrize("patch_size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dilation", [1, 2])
def test_a_convolution_is_patches_times_a_matrix(d, size, patch_size, dilation, generator):
    from stability.operators.convolution import filtered
    from stability.operators.patches import extract_patches

    maps = torch.randn(2, 3, *size, dtype=torch.float64, generator=generator)
    weight = torch.randn(4, 3 * patch_size**d, dtype=torch.float64, generator=generator)
    patches = extract_patches(maps, patch_size, d, dilation).flatten(2)
    expected = torch.matmul(weight, patches).unflatten(2, size)
    assert torch.allclose(filtered(maps, weight, patch_size, d, dilation), expected, atol=1e-12)
