"""Exact CKN kernels against dense matrices, laws of kernels, and broken objects that must be caught."""

import math

import pytest
import torch
from oracles import KERNELS, brute_force

import stability as st
from stability import kernels
from stability.representations import pair_blocks, pair_plan, pair_sums
from stability.representations.base import LEAST_FLOOR
from stability.representations.pair_program import PairProgram
from stability.representations.pairs import PrecisionNote, least_floor
from stability.warps.band_limited import refine

ROUND_OFF = 1e-12


def network(kernel: kernels.Kernel, depth: int, stride: int, patch: int = 3, front_end=None) -> st.Architecture:
    layers = tuple(st.Layer(patch, 1.0 + k, stride, kernel) for k in range(depth))
    return st.Architecture(layers, antialiasing=1.0, front_end=front_end)


def pair(generator: torch.Generator, size: tuple[int, ...], channels: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.randn(2, 1, channels, *size, generator=generator, dtype=torch.float64)
    return draw[0] + 0.5, draw[1] + 0.5


@pytest.mark.parametrize("size", [(12,), (8, 12)], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
def test_kernel_equals_dense_matrices(kernel, depth, stride, size, generator):
    arch = network(kernel, depth, stride, patch=2 if depth == 3 else 3)
    x, y = pair(generator, size)
    gram, truth = st.GramCKN(arch), brute_force(arch, x[0], y[0])
    assert abs(gram.kernel(x, y).item() - truth["xy"]) <= ROUND_OFF * truth["xx"]
    assert abs(gram.norm(x).item() ** 2 - truth["xx"]) <= ROUND_OFF * truth["xx"]
    squared = truth["xx"] + truth["yy"] - 2 * truth["xy"]
    assert abs(gram.distance(x, y).item() ** 2 - squared) <= 4 * ROUND_OFF * truth["xx"]


@pytest.mark.parametrize("size", [(9,), (6, 9)], ids=str)
def test_front_end_odd_sides_and_a_last_stride_with_remainder(size, generator):
    arch = st.Architecture(
        (st.Layer(3, 1.0, 3), st.Layer(2, 2.0, 2, kernels.ArcCosine(1))), 0.7, front_end=st.front_ends.MeanRemoval()
    )
    x, y = pair(generator, size)
    truth = brute_force(arch, x[0], y[0])
    assert abs(st.GramCKN(arch).kernel(x, y).item() - truth["xy"]) <= ROUND_OFF * truth["xx"]


def test_streaming_in_small_blocks_changes_nothing(generator, monkeypatch):
    arch = network(kernels.Exponential(), 2, 2)
    x, y = pair(generator, (8, 8))
    whole = st.GramCKN(arch).distance(x, y)
    monkeypatch.setattr(pair_blocks, "BLOCK_ENTRIES", 2 * 8 * 64)  # two rows at a time
    for depth in (1, 2):
        arch = network(kernels.ArcCosine(1), depth, 1)
        truth = brute_force(arch, x[0], y[0])
        assert abs(st.GramCKN(arch).kernel(x, y).item() - truth["xy"]) <= ROUND_OFF * truth["xx"]
    blocks = st.GramCKN(network(kernels.Exponential(), 2, 2)).distance(x, y)
    assert torch.allclose(whole, blocks, rtol=1e-10, atol=0)


def test_oracle_sees_a_wrong_pooling_scale(generator):
    x, y = pair(generator, (8, 8))
    arch = network(kernels.Exponential(), 2, 1)
    truth = brute_force(arch.replace("layers.-1.pooling_scale", 2.1), x[0], y[0])
    assert abs(st.GramCKN(arch).kernel(x, y).item() - truth["xy"]) > 1e-6 * truth["xx"]


def test_reference_pairs_every_image_with_its_own_others(generator):
    arch = network(kernels.Exponential(), 2, 1)
    gram = st.GramCKN(arch)
    x = torch.randn(2, 1, 8, 8, generator=generator, dtype=torch.float64)
    y = torch.randn(2, 3, 1, 8, 8, generator=generator, dtype=torch.float64)
    reference = gram.reference(x)
    many = reference.distance(y)
    assert many.shape == (2, 3)
    for j in range(3):
        assert torch.allclose(many[:, j], reference.distance(y[:, j]), rtol=1e-12)
        assert torch.allclose(many[:, j], gram.distance(x, y[:, j]), rtol=1e-12)


def test_an_expanded_image_is_evaluated_once(generator, monkeypatch):
    gram = st.GramCKN(network(kernels.Exponential(), 2, 1))
    x, y = pair(generator, (8, 8))
    y = torch.cat([y, 0.5 * y, x])
    counted, kernel_of = [], PairProgram.kernels

    def counting(program, pairs):
        counted.append(len(pairs))
        return kernel_of(program, pairs)

    monkeypatch.setattr(PairProgram, "kernels", counting)
    once, copies = gram.reference(x.expand(3, -1, -1, -1)), gram.reference(x.repeat(3, 1, 1, 1))
    assert counted == [1, 3]
    for name in ("norm", "floor", "squared_norm"):
        assert torch.equal(getattr(once, name), getattr(copies, name))
    assert torch.equal(once.distance(y), copies.distance(y))
    assert gram.reference(x.expand(1, -1, -1, -1)).floor.shape == (1,)


@pytest.mark.parametrize("representation", [st.GramCKN, st.LinearGram])
def test_kernel_matrix_is_symmetric_positive_and_consistent(representation, generator):
    phi = representation(network(kernels.Exponential(), 2, 2))
    x = torch.randn(4, 1, 8, 8, generator=generator, dtype=torch.float64)
    matrix = st.kernel_matrix(phi, x)
    assert torch.allclose(matrix, matrix.T, rtol=1e-13)
    assert torch.linalg.eigvalsh(matrix).min() > -1e-12 * matrix.diagonal().max()
    assert torch.allclose(matrix.diagonal().sqrt(), phi.norm(x), rtol=1e-12)
    assert torch.allclose(st.kernel_matrix(phi, x, x[:2]), matrix[:, :2], rtol=1e-12)
    squared = matrix[0, 0] + matrix[1, 1] - 2 * matrix[0, 1]
    assert torch.allclose(phi.distance(x[:1], x[1:2]), squared.sqrt(), rtol=1e-9)


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
def test_translations_by_whole_pixels_move_nothing_but_positions(kernel, generator):
    """Without subsampling Phi commutes with them: norms and distances of two shifted images do not change."""
    gram = st.GramCKN(network(kernel, 2, 1))
    x, y = pair(generator, (8, 8))
    rolled = gram.distance(x.roll((2, 3), (-2, -1)), y.roll((2, 3), (-2, -1)))
    assert torch.allclose(rolled, gram.distance(x, y), rtol=1e-9)


@pytest.mark.parametrize("kernel", [k for k in KERNELS if k.lipschitz < float("inf")], ids=repr)
@pytest.mark.parametrize("stride", [1, 2])
def test_distance_is_at_most_rho_times_the_filtered_distance(kernel, stride, generator):
    arch = st.Architecture(tuple(st.Layer(3, 2.0 * 2**k, stride, kernel) for k in range(2)))
    x, y = pair(generator, (8, 8))
    for t in (1e-3, 1.0):
        z = x + t * (y - x)
        bound = kernel.lipschitz**2 * torch.linalg.vector_norm(z - x)
        assert st.GramCKN(arch).distance(x, z) <= bound * (1 + 1e-9)


def test_norm_is_preserved_without_pooling(generator):
    x, _ = pair(generator, (8, 8))
    arch = st.Architecture((st.Layer(3, 0.0), st.Layer(2, 0.0, 1, kernels.ArcCosine(1))), antialiasing=None)
    assert torch.allclose(st.GramCKN(arch).norm(x), x.flatten(1).norm(dim=1), rtol=1e-13)


@pytest.mark.parametrize("stride", [1, 2])
def test_linear_gram_is_the_gram_of_the_linear_kernel(stride, generator):
    arch = network(kernels.Exponential(), 2, stride, front_end=st.front_ends.MeanRemoval())
    x, y = pair(generator, (8, 8))
    exact = st.GramCKN(arch.replace("layers.*.kernel", kernels.Linear()))
    linear = st.LinearGram(arch)
    assert torch.allclose(linear.distance(x, y), exact.distance(x, y), rtol=1e-9)
    assert torch.allclose(linear.norm(x), exact.norm(x), rtol=1e-12)
    assert torch.allclose(linear.distance(x, y[:, None]), linear.distance(x, y)[:, None])


def test_linear_gram_without_subsampling_is_a_gaussian_blur(generator):
    arch = network(kernels.Exponential(), 2, 1)  # scales 1, 1, 2: variance 6
    x, y = pair(generator, (16, 16), channels=1)
    blur = st.LinearGram(st.Architecture((st.Layer(1, 6.0**0.5),), antialiasing=None))
    assert torch.allclose(st.LinearGram(arch).distance(x, y), blur.distance(x, y), rtol=1e-12)


def test_a_grid_twice_as_fine_gives_the_same_distance():
    x = st.images.load("blobs", count=2, size=(20, 20))
    tau = st.Translation((1.3, 0.4), size=(20, 20))
    warp, arch = st.BandLimitedWarp(), network(kernels.ArcCosine(1), 2, 1)
    for phi in (st.GramCKN(arch), st.LinearGram(arch)):
        coarse = phi.distance(x, warp(x, tau))
        fine_x = refine(x, 2, 2)
        fine = phi.refined(2).distance(fine_x, warp(fine_x, tau.refined(2)))
        assert torch.allclose(coarse, fine, rtol=1e-4)
        assert torch.allclose(phi.norm(x), phi.refined(2).norm(fine_x), rtol=1e-4)


def test_zero_images_and_zero_patches_are_finite(generator):
    x, _ = pair(generator, (8, 8))
    zero = torch.zeros_like(x)
    for kernel in KERNELS:
        gram = st.GramCKN(
            st.Architecture((st.Layer(3, 1.0, 1, kernel), st.Layer(3, 2.0, 1, kernel)), antialiasing=None)
        )
        assert gram.norm(zero).item() == 0
        assert torch.allclose(gram.distance(x, zero), gram.norm(x), rtol=1e-12)
        point = zero.clone()
        point[..., 0, 0] = 1.0
        assert torch.isfinite(gram.distance(x, point)).all()


def test_integer_and_single_precision_inputs_are_told_or_promoted(generator):
    gram = st.GramCKN(network(kernels.Exponential(), 1, 1))
    x, y = pair(generator, (8, 8))
    with pytest.warns(PrecisionNote, match="float64"):
        assert gram.distance(x.float(), y.float()).dtype == torch.float64
    with pytest.raises(ValueError, match="floating point"):
        gram.norm((255 * x).byte())


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.full((1, 1, 8, 8), float("nan"), dtype=torch.float64), "NaN"),
        (torch.zeros(8, 8, dtype=torch.float64), "shape"),
        (torch.zeros(1, 1, 1, 8, 8, dtype=torch.float64), "batch axis"),
        (torch.zeros(1, 1, 2, 2, dtype=torch.float64), "patch_size"),
        (torch.zeros(1, 1, 9, 9, dtype=torch.float64), "multiple of 2"),
    ],
)
def test_bad_images_are_refused(images, message):
    gram = st.GramCKN(network(kernels.Exponential(), 2, 2))
    with pytest.raises(ValueError, match=message):
        gram.norm(images)


@pytest.mark.parametrize("kind", [st.GramCKN, st.GramNTK])
@pytest.mark.parametrize("scale", [1e-200, 1e160])
def test_numbers_whose_squares_overflow_or_vanish_are_refused(kind, scale, generator):
    gram = kind(network(kernels.ArcCosine(1), 2, 1))
    x, y = pair(generator, (8, 8))
    for call in (
        lambda: gram.norm(scale * x), lambda: gram.distance(x, scale * y), lambda: gram.reference(scale * x),
        lambda: gram.kernel_matrix(scale * x), lambda: gram.kernel(x, scale * y),
        lambda: gram.distance(x, (scale * y).requires_grad_()),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="the largest number of an image must be 0 or between"):
            call()
    with pytest.raises(ValueError, match=r"in torch.float32, got .*e\+19; rescale"):
        gram.kernel_matrix(1e19 * x, dtype=torch.float32)
    assert torch.allclose(gram.norm(1e99 * x), 1e99 * gram.norm(x), rtol=1e-12)
    assert torch.allclose(gram.norm(1e-99 * x), 1e-99 * gram.norm(x), rtol=1e-12)


def test_no_images_have_no_distances(generator):
    gram = st.GramCKN(network(kernels.Exponential(), 2, 1))
    none = torch.zeros(0, 1, 8, 8, dtype=torch.float64)
    assert gram.distance(none, none).shape == gram.norm(none).shape == (0,)
    assert gram.reference(none).distance(torch.zeros(0, 3, 1, 8, 8, dtype=torch.float64)).shape == (0, 3)


def test_what_layers_of_a_step_hide_is_below_the_floor():
    """Angles of 1e-9 are lost in 64 bits; the truth is from arithmetic of 80 bits over all pairs of positions."""
    depth, truth = 3, 9.4e-3
    z = st.images.load("fashion", count=2, size=(14, 14))
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    layers = [st.Layer(3, 1.0 + k, 2 if k == 1 else 1, kernels.ArcCosine(0)) for k in range(depth)]
    reference = st.GramCKN(st.Architecture(tuple(layers), 1.0)).reference(z[:1])
    found = reference.distance(z[:1] + 1e-9 * noise[:1])
    assert abs(found.item() - truth) > 0.5 * truth  # wrong, and said to be
    assert found.item() < truth < reference.floor.item()
    assert reference.floor.item() < 0.2 * reference.norm.item()


def test_floors_of_steps_are_roots_of_roots():
    exponential, step = kernels.Exponential(), kernels.ArcCosine(0)
    floors = [least_floor(one, False) for one in ([exponential], [step], [step, exponential], [exponential, step])]
    assert floors[0] == LEAST_FLOOR
    assert floors[1] == floors[2] == floors[3]
    assert least_floor([step, step], False) == pytest.approx(math.sqrt(4 / math.pi * floors[1]))
    assert least_floor([exponential], True) == floors[1]


def test_unpaired_batches_are_refused(generator):
    gram = st.GramCKN(network(kernels.Exponential(), 1, 1))
    x, _ = pair(generator, (8, 8))
    with pytest.raises(ValueError, match="pair x_i with y_i"):
        gram.distance(x, torch.cat([x, x]))
    with pytest.raises(ValueError, match="refinement"):
        st.GramCKN(gram.architecture, refinement=0)


def test_threads_may_share_one_representation(generator):
    from concurrent.futures import ThreadPoolExecutor

    x = st.grid.band_limit(torch.rand(12, 1, 12, 12, dtype=torch.float64, generator=generator))
    gram = st.GramCKN(st.Architecture((st.Layer(3, 1.0), st.Layer(3, 2.0))))
    alone = [gram.distance(x[i : i + 1], x[i + 1 : i + 2]) for i in range(11)]
    with ThreadPoolExecutor(4) as pool:
        shared = pool.map(lambda i: gram.distance(x[i : i + 1], x[i + 1 : i + 2]), list(range(11)) * 3)
        assert torch.equal(torch.cat(list(shared)), torch.cat(alone * 3))


@pytest.mark.parametrize("size", [(12, 16), (12,), (8, 8)], ids=str)
@pytest.mark.parametrize("tangent", [False, True])
def test_large_images_are_pooled_in_small_pieces_to_the_same_numbers(size, tangent, generator, monkeypatch):
    kernel = kernels.ArcCosine(1) if tangent else kernels.Exponential(2.0)
    arch = network(kernel, 2, 2)
    phi = st.GramNTK(arch) if tangent else st.GramCKN(arch)
    x, y = pair(generator, size)
    values = phi.kernel(x, y), phi.norm(x)
    monkeypatch.setattr(pair_sums, "WAITING_ENTRIES", 3 * 8 * 48)  # a few image rows wait
    monkeypatch.setattr(pair_blocks, "BLOCK_ENTRIES", 3 * 200)
    lean = type(phi)(arch)
    assert torch.allclose(lean.kernel(x, y), values[0], rtol=1e-12, atol=0)
    assert torch.allclose(lean.norm(x), values[1], rtol=1e-12, atol=0)


@pytest.mark.parametrize("boundary", [st.Periodic(), st.Zero()], ids=repr)
@pytest.mark.parametrize("patch", [2, 3, 5])
def test_sums_over_patches_and_waiting_rows_in_small_pieces_are_those_of_dense_matrices(
    boundary, patch, generator, monkeypatch
):
    layers = tuple(st.Layer(patch, 1.0, 1, kernel) for kernel in (kernels.ArcCosine(1), kernels.Exponential(2.0)))
    arch = st.Architecture((*layers, st.Layer(patch, 2.0, 2)), antialiasing=None, boundary=boundary)
    x, y = pair(generator, (7, 8) if patch < 5 else (7, 6), channels=1)
    truth = brute_force(arch, x[0], y[0])
    monkeypatch.setattr(pair_blocks, "BLOCK_ENTRIES", 3 * 8 * 56)  # a few image rows at a time in every layer
    monkeypatch.setattr(pair_plan, "GATHERED_ENTRIES", 0)
    monkeypatch.setattr(pair_sums, "WAITING_ENTRIES", 2 * 8 * 56)
    gram = st.GramCKN(arch)
    assert abs(gram.kernel(x, y).item() - truth["xy"]) <= ROUND_OFF * truth["xx"]
    assert abs(gram.norm(x).item() ** 2 - truth["xx"]) <= ROUND_OFF * truth["xx"]
    assert abs(gram.norm(y).item() ** 2 - truth["yy"]) <= ROUND_OFF * truth["yy"]
