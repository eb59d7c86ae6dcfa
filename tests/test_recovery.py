"""Recovery: dense second routes, what strides lose, exact decoders, pre-images, inversion."""

import itertools
import math

import pytest
import torch
from oracles import pooling, shifts

import stability as st
from stability import kernels
from stability.recovery.pooled_patches import PooledPatches

RELU = kernels.ArcCosine(1)


def dense(size, e, sigma, stride) -> torch.Tensor:
    """T with rows ordered by offsets, then kept positions, ``(e^d n', n)``."""
    positions = list(itertools.product(*map(range, size)))
    keep = [i for i, u in enumerate(positions) if all(c % stride == 0 for c in u)]
    rows, one = pooling(sigma, size)[keep], torch.eye(len(positions), dtype=torch.float64)
    index = shifts(size, e)
    return torch.cat([rows @ one[i] for i in index]) / math.sqrt(len(index))


def images(name="fashion", count=8, size=(24, 24)):
    x = st.images.load(name, count=count, size=size)
    return x[::2], x[1::2]


def layer(e, stride, sigma=1.0, kernel=RELU, **options):
    return st.Architecture((st.Layer(e, sigma, stride, kernel),), antialiasing=None, **options)


def features(arch, width=64, **options):
    return st.RandomFeatures.draw(arch, (width,), generator=torch.Generator().manual_seed(0), **options)


# --- the linear map and what it loses ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(12,), (6, 12)], ids=str)
@pytest.mark.parametrize(("e", "stride"), [(1, 1), (3, 2), (2, 3), (3, 3), (4, 2)])
def test_pooled_patches_are_those_of_dense_matrices(size, e, stride, generator):
    operator, matrix = PooledPatches(size, e, 0.8, stride), dense(size, e, 0.8, stride)
    y = torch.randn(2, *size, generator=generator, dtype=torch.float64)
    data = (matrix @ y.flatten(1).T).T  # (2, e^d n')
    grid = [n // stride for n in size]
    patches = data.view(2, e ** len(size), *grid).movedim(0, 1).flatten(0, 1)  # offsets outer, channels inner
    assert torch.allclose(operator.arrange(patches), operator.apply(y), atol=1e-13)
    values = torch.linalg.svdvals(matrix)
    rank = int((values > 1e-10 * values[0]).sum())
    assert operator.injective == (rank == matrix.shape[1]) == (e >= stride)
    if operator.injective:
        assert operator.condition == pytest.approx(float(values[0] / values[-1]))
    penalty = 1e-3
    normal = matrix.T @ matrix + penalty * torch.eye(matrix.shape[1], dtype=torch.float64)
    tikhonov = torch.linalg.solve(normal, matrix.T @ data.T).T.view_as(y)
    assert torch.allclose(operator.solve(operator.apply(y), penalty), tikhonov, atol=1e-11)
    least = (torch.linalg.pinv(matrix, rtol=1e-10) @ data.T).T.view_as(y)
    assert torch.allclose(operator.solve(operator.apply(y)), least, atol=1e-8)
    assert torch.allclose(operator.seen(y), least, atol=1e-8)


@pytest.mark.parametrize("n", [12, 13, 30])
@pytest.mark.parametrize(("e", "stride"), [(1, 1), (2, 2), (3, 2), (4, 2), (5, 3), (6, 3), (2, 3), (3, 4)])
@pytest.mark.parametrize("sigma", [0.0, 0.7, 1.5])
def test_the_condition_number_is_below_its_closed_form_and_equal_if_the_stride_divides_the_patch(n, e, stride, sigma):
    operator = PooledPatches((n,), e, sigma, stride)
    assert operator.condition <= operator.bound * (1 + 1e-9)
    assert math.isfinite(operator.bound) == (e >= stride)
    if e % stride == 0 and n % stride == 0:
        highest = math.pi if n % 2 == 0 else math.pi * (n - 1) / n
        assert operator.condition == pytest.approx(math.exp(0.5 * (sigma * highest) ** 2), rel=1e-6)
    if e >= stride and n % stride == 0:
        counts = (-(-e // stride), e // stride)
        highest = math.pi if n % 2 == 0 else math.pi * (n - 1) / n
        stated = math.sqrt(counts[0] / counts[1]) * math.exp(0.5 * (sigma * highest) ** 2)
        assert operator.bound == pytest.approx(stated)


def test_an_image_and_its_mirror_in_what_is_seen_cannot_be_told_apart():
    _, x = images()
    operator = PooledPatches((24, 24), 2, 1.0, 3)
    mirror = 2.0 * operator.seen(x) - x
    assert torch.allclose(operator.apply(mirror), operator.apply(x), atol=1e-12)
    assert ((mirror - x).flatten(1).norm(dim=1) > 0.1 * x.flatten(1).norm(dim=1)).all()


# --- decoders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("e", [2, 3])
def test_relu_pairs_are_decoded_exactly_up_to_strides_of_a_patch_and_lose_the_null_space_beyond(e):
    """relu(t) - relu(-t) = t: the linear decoder is exact, and what is left is the deconvolution's doing."""
    known, unknown = images()
    for stride in (1, 2, 3, 4):
        phi = features(layer(e, stride))
        decoder = st.Decoder.fit(phi, known)
        operator = decoder.layers[0].operator
        lost = (unknown - operator.seen(unknown)).flatten(1).norm(dim=1) / unknown.flatten(1).norm(dim=1)
        errors = decoder.errors(unknown)
        assert decoder.layers[0].patch_error < 1e-6
        if stride <= e:
            assert (lost < 1e-9).all()
            assert (errors < 1e-6).all()
        else:
            assert (lost > 0.05).all()
            assert (errors >= lost * (1 - 1e-9)).all()
            assert (errors <= 1.05 * lost).all()


def test_a_ckn_keeps_an_image_up_to_strides_of_a_patch_and_loses_it_beyond():
    known, unknown = images(count=16)
    ckn = st.CKN.fit(
        layer(2, 1, kernel=kernels.Exponential()), known, filters=(64,), generator=torch.Generator().manual_seed(0)
    )
    errors = {}
    for stride in (1, 2, 3, 4):
        decoder = st.Decoder.fit(st.CKN(layer(2, stride, kernel=kernels.Exponential()), list(ckn.anchors)), known)
        errors[stride] = float(decoder.errors(unknown).median())
        assert math.isfinite(decoder.conditions[0]) == (stride <= 2)
    assert errors[1] < 0.01
    assert errors[2] < 0.03
    assert errors[3] > 5 * errors[2]
    assert errors[4] > errors[3]


def test_two_layers_and_antialiasing_are_undone_one_after_the_other():
    known, unknown = images(count=16)
    arch = st.Architecture((st.Layer(2, 0.7, 2, RELU), st.Layer(2, 1.0, 2, RELU)), antialiasing=0.5)
    phi = st.RandomFeatures.draw(arch, (32, 320), generator=torch.Generator().manual_seed(0))
    decoder = st.Decoder.fit(phi, known)
    assert len(decoder.layers) == len(decoder.conditions) == 3
    assert (decoder.errors(unknown) < 5e-3).all()
    shuffled = st.Decoder(phi, decoder.layers[:1] + decoder.layers[2:])
    with pytest.raises(RuntimeError):
        shuffled.recover(unknown)


def test_signals_front_ends_and_borders_of_zeros_are_recovered_too():
    x = st.images.load("fashion", count=8, size=(32,))
    signal = features(layer(3, 2), d=1)
    assert (st.Decoder.fit(signal, x[::2]).errors(x[1::2]) < 1e-5).all()
    known, unknown = images()
    mean = features(layer(2, 2, front_end=st.front_ends.MeanRemoval()))
    decoder = st.Decoder.fit(mean, known)
    truth = unknown - unknown.mean((2, 3), keepdim=True)
    assert torch.allclose(decoder.recover(unknown), truth, atol=1e-5)
    assert (decoder.errors(unknown) < 1e-5).all()
    zeros = features(layer(3, 2, boundary=st.Zero()))
    operator = st.Decoder.fit(zeros, known).layers[0].operator
    assert (st.Decoder.fit(zeros, known).errors(unknown) < 1e-4).all()
    assert operator.bound == math.inf
    assert math.isfinite(operator.condition)


def test_a_black_image_has_no_relative_error():
    known, unknown = images()
    decoder = st.Decoder.fit(features(layer(2, 2)), known)
    assert decoder.errors(torch.zeros_like(unknown[:1])).isnan().all()
    assert torch.equal(decoder.recover(torch.zeros_like(unknown[:1])), torch.zeros_like(unknown[:1]))


# --- pre-images -------------------------------------------------------------------------------------------------------


def test_errors_of_images_left_out_are_those_of_a_fit_without_them():
    x = st.images.load("fashion", count=6, size=(12, 12))
    phi, ridge = st.GramCKN(st.Architecture((st.Layer(3, 2.0, 2),))), 1e-2
    found = st.PreImage.fit(phi, x, ridges=(ridge,))
    matrix = st.kernel_matrix(phi, x)
    total = 0.0
    for i in range(6):
        rest = [j for j in range(6) if j != i]
        inverse = torch.linalg.inv(matrix[rest][:, rest] + ridge * matrix.diagonal().mean() * torch.eye(5).double())
        predicted = matrix[i, rest] @ inverse @ x[rest].flatten(1)
        total += float((predicted - x[i].flatten()).square().sum())
    assert found.left_out == pytest.approx(math.sqrt(total) / float(x.norm()))


def test_a_pre_image_is_a_combination_of_the_known_images_and_the_chosen_ridge_is_the_best():
    x = st.images.load("fashion", count=40, size=(12, 12))
    phi = st.GramCKN(st.Architecture((st.Layer(3, 1.0, 2),)))
    matrix = st.kernel_matrix(phi, x[:32])
    found = st.PreImage.fit(phi, x[:32], matrix=matrix)
    assert (found.errors(x[32:]) >= found.span_errors(x[32:])).all()
    single = [st.PreImage.fit(phi, x[:32], ridges=(ridge,), matrix=matrix).left_out for ridge in (1e-6, 1e-3, 1e-1)]
    assert found.left_out <= min(single)
    mean = x[:32].mean(0, keepdim=True).expand(8, -1, -1, -1)
    blind = (x[32:] - mean).flatten(1).norm(dim=1) / x[32:].flatten(1).norm(dim=1)
    assert found.errors(x[32:]).mean() < 0.8 * blind.mean()
    assert torch.equal(found.recover(x[32:], cross=torch.zeros(8, 32)), torch.zeros(8, 1, 12, 12).double())


# --- inversion --------------------------------------------------------------------------------------------------------

NETWORKS = {
    "exact": lambda: st.GramCKN(layer(3, 2, 0.5, kernels.Exponential())),
    "NTK": lambda: st.GramNTK(layer(3, 2, 0.5)),
    "CKN": lambda: st.CKN.fit(
        layer(3, 2, 0.5, kernels.Exponential()), images("blobs")[0], filters=(64,),
        generator=torch.Generator().manual_seed(0),
    ),
    "random features": lambda: features(layer(3, 2, 0.5, kernels.Exponential())),
    "CNN": lambda: st.cnn(
        layer(3, 2, 0.5), (64,), dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    ),
    "module": lambda: st.ModuleRepresentation(
        torch.nn.Conv2d(1, 16, 3, stride=2, padding=1, dtype=torch.float64,).requires_grad_(False)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_descent_finds_the_image_of_any_representation_that_keeps_it(name, generator):
    x = st.images.load("blobs", count=1, size=(12, 12))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        phi = NETWORKS[name]()
    found = st.invert(phi, x, steps=80, generator=generator)
    assert (found.residual < 0.05).all()
    assert (found.errors(x) < 0.15).all()
    assert torch.allclose(phi.distance(found.images, x) / phi.norm(x), found.residual, atol=1e-6)


def test_more_steps_are_never_worse_and_the_right_start_stays(generator):
    x = st.images.load("blobs", count=1, size=(12, 12))
    phi = features(layer(3, 2, 0.5))
    short, long = (
        st.invert(phi, x, steps=n, generator=torch.Generator().manual_seed(0)).residual.item() for n in (5, 50)
    )
    assert long <= short
    kept = st.invert(phi, x, steps=5, start=x + 1e-9, generator=generator)
    assert kept.errors(x).item() < 1e-6


def test_a_black_image_is_its_own_inversion(generator):
    found = st.invert(features(layer(3, 2)), torch.zeros(1, 1, 12, 12).double(), generator=generator)
    assert found.residual.isnan().all()
    assert (found.images == 0).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x, g: st.Decoder.fit(st.GramCKN(layer(3, 2)), x), "finite network with an architecture"),
        (lambda x, g: st.Decoder.fit(features(layer(3, 2)), x, ridges=()), "ridges must be positive"),
        (lambda x, g: st.Decoder.fit(features(layer(3, 2)), x, regularisations=(0.0,)), "regularisations must be"),
        (lambda x, g: st.PreImage.fit(st.GramCKN(layer(3, 2)), x[:1]), "two or more"),
        (lambda x, g: st.PreImage.fit(st.GramCKN(layer(3, 2)), x, ridges=(-1.0,)), "ridges must be positive"),
        (lambda x, g: st.PreImage.fit(st.GramCKN(layer(3, 2)), x, matrix=torch.eye(3)), "matrix must be"),
        (lambda x, g: st.PreImage.fit(torch.nn.Identity(), x), "kernel matrix"),
        (lambda x, g: st.invert(features(layer(3, 2)), x, steps=0, generator=g), "steps"),
        (lambda x, g: st.invert(features(layer(3, 2)), x, start=x[:1], generator=g), "start"),
        (lambda x, g: st.invert(features(layer(3, 2)), x, start=torch.zeros_like(x), generator=g), "gradients"),
    ],
)
def test_wrong_requests_are_told(make, message, generator):
    with pytest.raises(ValueError, match=message):
        make(st.images.load("blobs", count=2, size=(12, 12)), generator)
