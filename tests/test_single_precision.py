"""Kernel matrices in single precision: close to those in double, kept apart, and never behind a distance."""

import dataclasses
import math

import pytest
import torch

import stability as st
from stability import kernels

SMOOTH = [kernels.Exponential(2.5), kernels.ArcCosine(1), kernels.InversePolynomial(), kernels.Polynomial(2, 1.0)]


def network(kernel, boundary=None):
    layers = (st.Layer(3, 1.4, 2, kernel), st.Layer(3, 2.5, 5, kernel))
    return st.Architecture(layers, None, boundary or st.Periodic(), st.front_ends.MeanRemoval())


def pictures(count):
    return st.images.dataset("fashion").images[:count].double()


def off(representation, images):
    """The largest difference of the two precisions over (K(x, x) K(y, y))^(1/2), and the matrix in single."""
    exact = st.kernel_matrix(representation, images)
    single = st.kernel_matrix(representation, images, dtype=torch.float32)
    norms = exact.diagonal().sqrt()
    return ((exact - single.double()).abs() / norms / norms[:, None]).max().item(), single


@pytest.mark.parametrize("boundary", [st.Periodic(), st.Zero()], ids=repr)
@pytest.mark.parametrize("kernel", SMOOTH, ids=repr)
def test_entries_are_those_of_double_precision_to_a_few_units_in_the_last_place(kernel, boundary):
    apart, single = off(st.GramCKN(network(kernel, boundary)), pictures(4))
    assert single.dtype == torch.float32
    assert 1e-9 < apart < 2e-6  # the arithmetic is that of float32, and not rounded float64
    assert torch.equal(single, single.T)


@pytest.mark.parametrize(
    "representation",
    [st.GramCKN(network(kernels.ArcCosine(0))), st.GramNTK(network(kernels.ArcCosine(1)))],
    ids=["step", "tangent"],
)
def test_where_small_angles_count_like_their_square_root_more_is_lost(representation):
    assert 1e-7 < off(representation, pictures(4))[0] < 1e-4


@pytest.mark.parametrize("depth", [1, 2])
def test_traces_lose_nothing(depth):
    arch = network(kernels.Exponential(2.5))
    phi = st.GramCKN(dataclasses.replace(arch, layers=arch.layers[:depth]))
    assert off(phi, pictures(2))[0] < 2e-6


@pytest.mark.parametrize("kernel", SMOOTH, ids=repr)
def test_zero_images_and_zero_patches_are_finite(kernel):
    layers = (st.Layer(3, 1.0, 1, kernel), st.Layer(3, 2.0, 1, kernel))
    gram = st.GramCKN(st.Architecture(layers, None, st.Zero()))
    images = torch.zeros(2, 1, 8, 8, dtype=torch.float64)
    images[1, 0, 0, 0] = 1.0
    exact, single = (gram.kernel_matrix(images, dtype=dtype) for dtype in (torch.float64, torch.float32))
    assert torch.allclose(single.double(), exact, rtol=1e-5, atol=1e-20)


def test_distances_stay_in_double_precision():
    """Of one object: a matrix in single first, then a distance that single precision could not see."""
    gram, x = st.GramCKN(network(kernels.Exponential(2.5))), pictures(1)
    fresh = st.GramCKN(gram.architecture).distance(x, (1 + 1e-6) * x)
    gram.kernel_matrix(x, dtype=torch.float32)
    assert torch.equal(gram.distance(x, (1 + 1e-6) * x), fresh)
    assert fresh.item() == pytest.approx(1e-6 * gram.norm(x).item(), rel=1e-2)


def test_a_store_of_one_precision_is_not_taken_for_the_other(tmp_path):
    gram, x = st.GramCKN(network(kernels.Exponential(2.5))), pictures(3)
    first = st.kernel_matrix(gram, x, store=tmp_path / "single", dtype=torch.float32, block=2)
    assert torch.equal(first, st.kernel_matrix(gram, x, store=tmp_path / "single", dtype=torch.float32))
    with pytest.raises(ValueError, match="dtype must be that of the store"):
        st.kernel_matrix(gram, x, store=tmp_path / "single")


def test_half_precision_is_refused():
    with pytest.raises(ValueError, match="must be torch"):
        st.GramCKN(network(kernels.Exponential())).kernel_matrix(pictures(1), dtype=torch.float16)


def features(phi, images):
    """A_n z_n in double precision, with the directions that single precision keeps."""
    stages = [phi.stages(image) for image in images]
    maps = torch.stack([each.pooled(phi.architecture.depth, each.maps[-1]).flatten() for each in stages])
    return maps * math.sqrt(phi.cell_area((28, 28), stages[0].pooled(phi.architecture.depth, stages[0].maps[-1])))


@pytest.mark.parametrize("filters", [(16, 32), (64, 128), (32, 32, 32)], ids=str)
@pytest.mark.parametrize("kernel", [kernels.Exponential(), kernels.ArcCosine(1)], ids=repr)
def test_what_a_network_of_single_precision_makes_of_round_off_is_its_floor(kernel, filters, generator):
    """Nearly equal anchors: K^(-1/2) is large, and with it what round-off leaves of a distance."""
    layers = tuple(st.Layer(3, 1.0 + k, 2 if k == 0 else 1, kernel) for k in range(len(filters)))
    ckn = st.CKN.fit(st.Architecture(layers), pictures(8), filters=filters, generator=generator).to(torch.float32)
    x = pictures(4).to(torch.float32)
    y = x + 1e-5 * torch.randn(x.shape, generator=generator)
    exact = (features(ckn, x) - features(ckn, y)).norm(dim=1)
    reference = ckn.reference(x)
    left = (reference.distance(y).square() - exact.square()).abs().sqrt()
    assert (left <= reference.floor).all()
    assert (reference.floor <= 12 * left).all()
    assert (left > 10 * torch.finfo(torch.float32).eps * reference.norm).all()  # more than sums of features alone


def test_the_floor_of_a_network_is_the_same_on_a_finer_grid(generator):
    arch = st.Architecture((st.Layer(3, 2.0, 2), st.Layer(3, 4.0)))
    coarse, fine = (st.images.load("blobs", count=2, size=size) for size in ((16, 16), (32, 32)))
    ckn = st.CKN.fit(arch, coarse, filters=(8, 16), generator=generator)
    floors = ckn.reference(coarse).floor, ckn.refined(2).reference(fine).floor
    assert torch.allclose(floors[0] / coarse.norm(), floors[1] / (fine.norm() / 2), rtol=0.05)


def test_directions_without_a_derivative_amplify_like_roots(generator):
    arch = st.Architecture((st.Layer(3, 2.0, 2, kernels.ArcCosine(0)), st.Layer(3, 4.0, 1, kernels.ArcCosine(0))))
    ckn, x = st.CKN.fit(arch, pictures(8), filters=(8, 8), generator=generator), pictures(2)
    floor = ckn.reference(x).floor / ckn.reference(x).norm
    assert ((floor > 1e-8) & (floor < 1e-5)).all()  # sqrt of 2e-16 times the amplification
