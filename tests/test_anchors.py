"""Choices of anchors, the inverse root's derivative, the convolutional form: laws, oracles, degenerate anchors."""

import dataclasses

import pytest
import torch
from oracles import LIPSCHITZ
from torch.nn.functional import normalize

import stability as st
from stability import anchors, kernels
from stability.operators.inverse_square_root import inverse_square_root
from stability.operators.kernel_convolution import kernel_convolution
from stability.operators.kernel_fit import kernel_fit
from stability.operators.kernel_map import anchor_gram, inverse_root, kernel_map
from stability.operators.patches import extract_patches
from stability.operators.pivoted_cholesky import pivoted_cholesky
from stability.operators.pooling import pool, pooling_matrices
from stability.operators.spherical_kmeans import spherical_kmeans

CHOICES = [
    anchors.KMeans(), anchors.RandomPatches(), anchors.PivotedCholesky(), anchors.Optimised(pairs=200, iterations=3)
]  # fmt: skip


def units(generator, *shape):
    return normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def lost(kernel, z, points):
    """|phi(x)|^2 - |Pi phi(x)|^2 by least squares in the Gram matrix, without the root."""
    cross = kernel((points @ z.T).clamp(-1, 1))
    return 1 - (cross * torch.linalg.lstsq(anchor_gram(kernel, z), cross.T, driver="gelsd").solution.T).sum(1)


@pytest.mark.parametrize("choice", CHOICES, ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("size", [(8, 8), (24,)], ids=str)
def test_every_choice_gives_networks_whose_bounds_and_errors_hold(choice, size, generator):
    kernel = kernels.Exponential(2.0)
    arch = st.Architecture((st.Layer(3, 1.0, 2, kernel), st.Layer(2, 2.0, 1, kernel)), 0.5)
    x = st.images.load("fashion", count=4, size=size)
    ckn = st.CKN.fit(arch, x, filters=(5, 6), generator=generator, anchors=choice)
    for z in ckn.anchors:
        assert torch.allclose(z.norm(dim=1), torch.ones(len(z), dtype=torch.float64))
    gap = (ckn.distance(x, x.flip(0)) - st.GramCKN(arch).distance(x, x.flip(0))).abs()
    assert (gap <= ckn.approximation_error(x) + ckn.approximation_error(x.flip(0))).all()
    one = st.CKN(dataclasses.replace(arch, layers=arch.layers[:1]), list(ckn.anchors)[:1])
    assert (one.distance(x, x.flip(0)) <= st.GramCKN(one.architecture).distance(x, x.flip(0)) * (1 + 1e-9)).all()
    again = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    first, second = (st.CKN.fit(arch, x, filters=(5, 6), generator=rng, anchors=choice) for rng in again)
    assert torch.equal(first.anchors[1], second.anchors[1])


def test_optimisation_brings_the_kernel_of_random_anchors_closer(generator):
    """On pairs that it has not seen: half of them two points, half a point with itself."""
    kernel, points = kernels.Exponential(4.0), units(generator, 600, 3)
    start, errors = points[:8], []
    found = kernel_fit(points[:400], start, kernel, pairs=2000, iterations=30, generator=generator)
    for z in (start, found):
        features = kernel((points[400:] @ z.T).clamp(-1, 1)) @ inverse_root(kernel, z)
        error = (kernel((points[400:] @ points[400:].T).clamp(-1, 1)) - features @ features.T).square()
        errors.append(float(error.mean() + error.diagonal().mean()))
    assert errors[1] < 0.8 * errors[0]
    with pytest.raises(ValueError, match="finite derivative"):
        kernel_fit(points, start, kernels.ArcCosine(0), pairs=10, iterations=1, generator=generator)


def test_pivoted_cholesky_loses_less_at_worst_than_random_patches(generator):
    kernel, points = kernels.Exponential(4.0), units(generator, 600, 4)
    worst = [
        float(lost(kernel, choice.choose(points, 40, kernel, generator=generator), points).max())
        for choice in (anchors.PivotedCholesky(), anchors.RandomPatches())
    ]
    assert worst[0] < 0.7 * worst[1]


def test_pivots_are_greedy_and_their_residuals_are_what_the_projection_loses(generator):
    kernel, points = kernels.ArcCosine(1), units(generator, 60, 3)
    pivots, residuals = pivoted_cholesky(points, 8, kernel)
    assert len(set(pivots.tolist())) == 8
    for j in range(1, 8):
        loss = lost(kernel, points[pivots[:j]], points)
        assert float(residuals[j - 1]) == pytest.approx(float(loss.max()), rel=1e-6)
        assert float(loss[pivots[j]]) == pytest.approx(float(loss.max()), rel=1e-6)


def test_an_exhausted_span_is_filled_up_with_patches_that_change_nothing(generator):
    points = units(generator, 3, 5).repeat(4, 1)
    z = anchors.PivotedCholesky().choose(points, 6, kernels.Linear(), generator=generator)
    assert z.shape == (6, 5)
    assert torch.linalg.matrix_rank(z) == 3
    assert lost(kernels.Linear(), z, points).abs().max() < 1e-9


@pytest.mark.parametrize("choice", CHOICES, ids=lambda c: type(c).__name__)
def test_too_few_patches_are_told(choice, generator):
    with pytest.raises(ValueError, match="training patches 4, got 5"):
        choice.choose(units(generator, 4, 3), 5, kernels.Linear(), generator=generator)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: anchors.KMeans(iterations=0), "iterations"),
        (lambda: anchors.KMeans(tolerance=-1.0), "tolerance"),
        (lambda: anchors.PivotedCholesky(candidates=2.5), "candidates"),
        (lambda: anchors.Optimised(pairs=True), "pairs"),
    ],
)
def test_wrong_choices_are_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_kmeans_settles_on_a_draft_first_and_ends_as_good(generator, monkeypatch):
    points = normalize(units(generator, 5, 6).repeat(800, 1) + 0.2 * units(generator, 4000, 6), dim=1)
    whole = spherical_kmeans(points, 5, generator=generator)
    monkeypatch.setattr("stability.operators.spherical_kmeans.DRAFT", 500)
    draft = spherical_kmeans(points, 5, generator=generator)
    values = [(points @ z.T).max(1).values.mean() for z in (whole, draft)]
    assert values[1] > values[0] * (1 - 1e-3)


# --- the map as a convolution ------------------------------------------------------------------------------------


@pytest.mark.parametrize("boundary", [st.Periodic(), st.Zero()], ids=repr)
@pytest.mark.parametrize("kernel", LIPSCHITZ, ids=repr)
@pytest.mark.parametrize(("size", "e"), [((8, 6), 3), ((8, 6), 2), ((12,), 4)], ids=str)
def test_the_map_is_a_convolution_a_pointwise_function_and_a_one_by_one_convolution(
    kernel, size, e, boundary, generator
):
    arch = st.Architecture((st.Layer(e, 1.0, 2, kernel), st.Layer(2, 2.0, 1, kernel)), 0.5, boundary=boundary)
    x = torch.randn(3, 2, *size, generator=generator, dtype=torch.float64)
    z = [units(generator, 6, 2 * e ** len(size)), units(generator, 5, 6 * 2 ** len(size))]
    ckn = st.CKN(arch, z)
    form = st.ConvolutionalForm(ckn, d=len(size))
    assert (form(x) - ckn(x)).norm() <= 1e-12 * ckn(x).norm()
    patches = ckn.stages(x[0])  # a third way: patches, one kernel map for each, then pooling
    assert torch.allclose(patches.pooled(2, patches.maps[2]), ckn(x[:1])[0], rtol=1e-9, atol=1e-12)


def test_a_form_of_something_else_is_told(generator):
    ckn = st.CKN(st.Architecture.dyadic(depth=1), [units(generator, 3, 9)])
    with pytest.raises(ValueError, match="refinement 1"):
        st.ConvolutionalForm(ckn.refined(2))
    with pytest.raises(ValueError, match="multiple of 9"):
        st.ConvolutionalForm(st.CKN(st.Architecture.dyadic(depth=1), [units(generator, 3, 8)]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_convolution_is_the_kernel_map_without_its_root_also_where_patches_vanish(dtype, generator):
    kernel, x = kernels.Exponential(2.0), torch.zeros(2, 3, 9, 7, dtype=dtype)
    x[:, :, :4, :4] = torch.randn(2, 3, 4, 4, generator=generator, dtype=dtype)
    z = units(generator, 5, 27).to(dtype)
    fast = kernel_convolution(kernel, z, x, 3, d=2)
    slow = kernel_map(kernel, z, torch.eye(5, dtype=dtype), extract_patches(x, 3, 2).flatten(2))
    assert torch.allclose(fast.flatten(2), slow, rtol=1e-4 if dtype is torch.float32 else 1e-12, atol=1e-7)
    assert (fast[:, :, 5:7, 5:6] == 0).all()
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(kernel_convolution(kernel, z, x, 3, d=2).sum(), x)
    assert torch.isfinite(gradient).all()


def test_pooling_reads_either_order_of_memory_alike(generator):
    x = torch.randn(2, 5, 8, 6, generator=generator, dtype=torch.float64)
    matrices = (pooling_matrices((8,), 1.5, 2)[0], pooling_matrices((6,), 1.0)[0])
    assert torch.allclose(pool(x.contiguous(memory_format=torch.channels_last), matrices), pool(x, matrices))


def test_many_images_pass_a_few_at_a_time_to_the_same_features(generator):
    ckn = st.CKN(st.Architecture.dyadic(depth=1), [units(generator, 3, 9)])
    x = torch.randn(70, 1, 4, 4, generator=generator, dtype=torch.float64)
    assert torch.allclose(ckn(x), ckn.layers(x)[-1], rtol=1e-12)


# --- degenerate anchors, and gradients -----------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", LIPSCHITZ, ids=repr)
@pytest.mark.parametrize("ridge", [0.0, 1e-3])
def test_maps_are_non_expansive_for_degenerate_anchors(kernel, ridge, generator):
    """Copies, near copies, opposites, zeros."""
    z = units(generator, 3, 4)
    z = torch.cat([z, z, -z[:1], z[:2] + 1e-8 * units(generator, 2, 4), torch.zeros(1, 4, dtype=torch.float64)])
    arch = st.Architecture((st.Layer(1, 0.0, 1, kernel),), None)
    ckn = st.CKN(arch, [z], ridge=ridge)
    x, y = torch.randn(2, 40, 4, 8, generator=generator, dtype=torch.float64)
    assert (ckn.distance(x, y) <= st.GramCKN(arch).distance(x, y) * (1 + 1e-6)).all()
    assert (ckn.distance(x, y) <= kernel.lipschitz * (x - y).flatten(1).norm(dim=1) * (1 + 1e-6)).all()


def test_gradients_of_the_inverse_root_are_right_also_where_eigenvalues_meet(generator):
    def root(ridge):
        return lambda m: inverse_square_root((m + m.T) / 2, ridge, 1e-12)

    a = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    for matrix in (a @ a.T, torch.eye(5, dtype=torch.float64), torch.diag(torch.tensor([1.0, 1, 1, 2, 2]).double())):
        assert torch.autograd.gradcheck(root(0.0), (matrix.requires_grad_(),))
    singular = torch.zeros(4, 4, dtype=torch.float64)
    singular[:2, :2] = 1.0
    assert torch.autograd.gradcheck(
        lambda m: inverse_square_root((m + m.T) / 2 @ (m + m.T) / 2, 0.1, 1e-12), (singular.requires_grad_(),)
    )  # a square: positive semi-definite around the point
    # negative control: the eigenvectors' own derivative is not finite there
    twice = torch.eye(3, dtype=torch.float64).requires_grad_()
    values, vectors = torch.linalg.eigh(twice)
    (naive,) = torch.autograd.grad((vectors @ torch.diag(values.rsqrt()) @ vectors.T)[0, 1], twice)
    assert not torch.isfinite(naive).all()


def test_the_derivative_at_a_fixed_rank_is_that_of_the_pseudo_inverse(generator):
    b = torch.randn(5, 2, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda m: inverse_square_root(m @ m.T, 0.0, 1e-10), (b,), atol=1e-5)


@pytest.mark.parametrize("kernel", [kernels.Exponential(2.0), kernels.ArcCosine(1), kernels.Polynomial(2)], ids=repr)
@pytest.mark.parametrize("ridge", [0.0, 1e-2])
def test_gradients_of_the_layers_are_right_in_anchors_and_images(kernel, ridge, generator):
    arch = st.Architecture((st.Layer(3, 1.0, 2, kernel), st.Layer(2, 1.0, 1, kernel)), 0.5)
    z = [units(generator, 3, 9), units(generator, 4, 12)]
    x = torch.randn(1, 1, 4, 4, generator=generator, dtype=torch.float64)

    assert torch.autograd.gradcheck(st.CKN(arch, z, ridge=ridge), (x.clone().requires_grad_(),), fast_mode=True)
    ckn = st.CKN(arch, z, ridge=ridge).requires_grad_(True)

    def in_anchors(*given):
        return torch.func.functional_call(ckn, {f"anchors.{k}": value for k, value in enumerate(given)}, (x,))

    given = tuple(2.0 * value.clone().requires_grad_() for value in z)
    assert torch.autograd.gradcheck(in_anchors, given, fast_mode=True)


def test_copies_of_an_anchor_have_finite_gradients_with_a_ridge(generator):
    z = units(generator, 3, 9)
    ckn = st.CKN(st.Architecture.dyadic(depth=1), [torch.cat([z, z])], ridge=1e-3).requires_grad_(True)
    ckn(torch.randn(2, 1, 8, 8, generator=generator, dtype=torch.float64)).square().sum().backward()
    assert torch.isfinite(ckn.anchors[0].grad).all()


def test_a_network_follows_its_anchors_and_returns_them_to_the_sphere(generator):
    ckn = st.CKN(st.Architecture.dyadic(depth=1), [units(generator, 3, 9)])
    x = torch.randn(2, 1, 8, 8, generator=generator, dtype=torch.float64)
    before = ckn(x)
    with torch.no_grad():
        ckn.anchors[0].mul_(3.0)
    assert torch.allclose(ckn(x), before)
    with torch.no_grad():
        ckn.anchors[0].add_(units(generator, 3, 9))
    assert not torch.allclose(ckn(x), before)
    new = st.CKN(ckn.architecture, [normalize(ckn.anchors[0].detach(), dim=1)])
    assert torch.allclose(ckn(x), new(x))
    ckn.requires_grad_(True).retract_()
    assert torch.allclose(ckn.anchors[0], new.anchors[0])
    assert torch.allclose(ckn.float()(x.float()).double(), new(x), atol=1e-5)


def test_what_inference_mode_left_behind_serves_gradients(generator):
    x = torch.randn(2, 1, 8, 4, generator=generator, dtype=torch.float64)
    ckn = st.CKN(st.Architecture((st.Layer(3, 1.234, 2),), 0.567), [units(generator, 3, 9)])
    with torch.inference_mode():
        before = ckn(x)
    (gradient,) = torch.autograd.grad(ckn(x.requires_grad_()).square().sum(), x)
    assert torch.isfinite(gradient).all()
    assert torch.allclose(ckn(x), before)


def test_single_precision_leaves_out_what_it_cannot_resolve(generator):
    """Many near copies: eigenvalues down to round-off, which a root of 1e6 would blow up to noise."""
    z = normalize(units(generator, 1, 9) + 1e-3 * units(generator, 30, 9), dim=1)
    x = torch.randn(4, 1, 8, 8, generator=generator, dtype=torch.float64)
    exact, single = (st.CKN(st.Architecture.dyadic(depth=1), [z.to(t)]) for t in (torch.float64, torch.float32))
    assert (single(x.float()).double().norm() <= x.norm() * (1 + 1e-3)).all()
    root = inverse_root(kernels.Exponential(), z)
    assert root.abs().max() > 2 * single.kernel_map(0)[1].abs().max()
    assert single.captured_energy(x).shape == exact.captured_energy(x).shape
