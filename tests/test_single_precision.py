"""Kernel matrices in single precision: close to those in double, kept apart, and never behind a distance."""

import copy
import dataclasses
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

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


def on_a_wall(pictures):
    """Small pictures on a grey wall: all patches of the wall carry the same error."""
    wall = torch.full((len(pictures), 1, 28, 28), 0.5, dtype=torch.float64)
    wall[..., 8:20, 8:20] = functional.interpolate(pictures, (12, 12), mode="area")
    return wall


SCENES = {
    "wall": on_a_wall,
    "faint": lambda pictures: 0.5 + 1e-3 * pictures,
    "far from zero": lambda pictures: 1000.0 + pictures,
}


@pytest.mark.parametrize("front_end", [None, st.front_ends.MeanRemoval()], ids=repr)
@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("kernel", [kernels.Exponential(20.0), kernels.ArcCosine(0)], ids=repr)
@pytest.mark.parametrize("anchors", [st.anchors.RandomPatches(), st.anchors.KMeans()], ids=repr)
def test_errors_of_small_distances_are_below_the_floor(anchors, kernel, scene, front_end, generator):
    arch = st.Architecture((st.Layer(3, 1.0, 1, kernel), st.Layer(3, 2.0, 1, kernel)), front_end=front_end)
    x = SCENES[scene](pictures(3))
    ckn = st.CKN.fit(arch, x, filters=(32, 32), generator=generator, anchors=anchors).to(torch.float32)
    x = x if front_end else x.to(torch.float32).double()  # the network's own input
    reference, known = ckn.reference(x), features(ckn, x)
    for size in (1e-2, 1e-3, 1e-4):
        y = st.SplineWarp()(x, st.Translation((size, 0.3 * size), (28, 28)))
        y = y if front_end else y.to(torch.float32).double()
        assert ((reference.distance(y) - (features(ckn, y) - known).norm(dim=1)).abs() <= reference.floor).all()


DEEP = {
    "cnn": lambda rng: st.cnn(chain(4), (64,) * 4, generator=rng, dtype=torch.float32),
    "random": lambda rng: st.RandomFeatures.draw(chain(3), (32, 32, 32), generator=rng).to(torch.float32),
    "gaussian": lambda rng: st.GaussianCKN.fit(
        chain(2, kernels.Exponential(25.0)), pictures(4), filters=(8, 8), iterations=2, pairs=50, generator=rng
    ).to(torch.float32),
    "laplacian": lambda rng: st.ModuleRepresentation(Laplacians()),
}  # fmt: skip


def chain(depth, kernel=None):
    return st.Architecture(tuple(st.Layer(3, 1.0, 1, kernel or kernels.ArcCosine(1)) for _ in range(depth)))


class Laplacians(nn.Module):
    """Three second differences, one after the other: what is left is small, its round-off is not."""

    def __init__(self):
        super().__init__()
        stencil = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
        self.register_buffer("stencil", stencil[None, None])

    def forward(self, images):
        for _ in range(3):
            images = functional.conv2d(functional.pad(images, (1, 1, 1, 1), "circular"), self.stencil)
        return images


@pytest.mark.parametrize("name", DEEP)
def test_floors_are_near_the_round_off_that_they_stand_for(name, generator):
    """Not below it, and not a thousand times above: norms of moduli say 0.1 ||Phi|| behind four layers."""
    phi = DEEP[name](generator)
    exact = copy.deepcopy(phi).to(torch.float64)
    x = st.images.load("blobs", count=3, size=(28, 28)).to(torch.float32).double()
    y = (x + 1e-6 * torch.randn(x.shape, generator=generator, dtype=torch.float64)).to(torch.float32).double()
    reference, truth = phi.reference(x), exact.reference(x).distance(y)
    left = (reference.distance(y) - truth).abs()
    assert (left <= reference.floor).all()
    noise = (phi.vectors(x) - exact.vectors(x)).norm(dim=1)
    assert (reference.floor <= 300 * noise).all()


def test_a_module_that_works_in_half_precision_inside_has_its_floor(generator):
    inner = nn.Conv2d(1, 8, 3, padding=1)

    def forward(images):
        return inner(images).to(torch.bfloat16)

    module = nn.Sequential(nn.Identity())
    module.register_buffer("unit", torch.ones(()))
    module.forward = forward
    reference = st.ModuleRepresentation(module).reference(pictures(2))
    assert (reference.floor > 1e-2 * reference.norm).all()


def test_distance_matrices_do_not_cancel(generator):
    x = pictures(2)[:1]
    both = torch.cat([x, x + 1e-9 * torch.randn(x.shape, generator=generator, dtype=torch.float64)])
    arch = st.Architecture((st.Layer(3, 2.0),))
    for phi in (st.CKN.fit(arch, pictures(4), filters=(8,), generator=generator), st.LinearGram(arch)):
        expected = phi.reference(both[:1]).distance(both[1:])
        assert torch.allclose(phi.distance_matrices(both)[0, 0, 1], expected, rtol=1e-3, atol=0)


def test_the_floor_of_a_linear_network_covers_the_round_off_of_a_warp():
    phi, x = st.LinearGram(st.Architecture((st.Layer(3, 4.0), st.Layer(3, 8.0)))), pictures(4)
    moved = st.BandLimitedWarp()(st.grid.band_limit(x), st.Translation((28.0, -28.0), (28, 28)))  # whole periods
    assert (phi.distance(st.grid.band_limit(x), moved) <= phi.reference(x).floor).all()


def test_the_floor_costs_nothing_before_it_is_asked_for_and_repeated_images_once(generator):
    seen = []

    class Counted(nn.Module):
        def forward(self, images):
            seen.append(len(images))
            assert bool((images <= 1.0).all())  # a module that looks at its range
            return images

    phi, x = st.ModuleRepresentation(Counted()), torch.ones(1, 1, 4, 4, dtype=torch.float64).expand(5, 1, 4, 4)
    reference = phi.reference(x)
    assert seen == [5]
    floor = reference.floor
    assert seen == [5, 1, 1, 1, 1]
    assert floor.shape == (5,)
    ckn = st.CKN.fit(st.Architecture((st.Layer(3, 2.0),)), pictures(4), filters=(4,), generator=generator)
    alone, repeated = ckn.reference(pictures(1)).floor, ckn.reference(pictures(1).expand(3, 1, 28, 28)).floor
    assert torch.equal(repeated, alone.expand(3))
