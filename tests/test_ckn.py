"""Nyström CKNs: projections, convergence to the exact network, laws, refusals."""

import pytest
import torch
from oracles import LIPSCHITZ

import stability as st
from stability import kernels
from stability.operators.kernel_map import inverse_root, kernel_map
from stability.operators.spherical_kmeans import spherical_kmeans
from stability.representations import ckn as module
from stability.representations import explicit
from stability.representations.maps import low_passed


def one_layer(kernel: kernels.Kernel, stride: int = 1) -> st.Architecture:
    return st.Architecture((st.Layer(3, 2.0, stride, kernel),))


def pictures(size=(8, 8), count=2):
    return st.images.load("fashion", count=count, size=size)


@pytest.mark.parametrize("kernel", LIPSCHITZ, ids=repr)
@pytest.mark.parametrize("size", [(8, 8), (24,)], ids=str)
def test_with_every_patch_as_an_anchor_one_layer_is_exact(kernel, size, generator):
    """The span then contains phi of every patch of x and y: norms and distances are those of the exact kernel."""
    arch, (x, y) = one_layer(kernel), pictures(size).split(1)
    maps = low_passed(arch, torch.cat([x, y]))
    patches = module.extract_patches(maps, 3, len(size)).flatten(2).movedim(1, 2).flatten(0, 1)
    ckn = st.CKN(arch, [patches / patches.norm(dim=1, keepdim=True)])
    gram = st.GramCKN(arch)
    assert torch.allclose(ckn.norm(x), gram.norm(x), rtol=1e-6)
    assert torch.allclose(ckn.distance(x, y), gram.distance(x, y), rtol=1e-5)
    assert torch.allclose(ckn.captured_energy(x), torch.ones(1, 1, dtype=torch.float64), rtol=1e-6)


@pytest.mark.parametrize("kernel", LIPSCHITZ, ids=repr)
def test_one_layer_distances_never_exceed_the_exact_ones(kernel, generator):
    arch, x = one_layer(kernel, 2), pictures((16, 16), 4)
    exact = st.GramCKN(arch).distance(x[:2], x[2:])
    for count in (1, 4, 16):
        ckn = st.CKN.fit(arch, x, filters=(count,), generator=generator)
        assert (ckn.distance(x[:2], x[2:]) <= exact * (1 + 1e-9)).all()
        assert (ckn.captured_energy(x) <= 1 + 1e-12).all()


def test_distances_converge_to_the_exact_ones_as_anchors_grow():
    arch = st.Architecture((st.Layer(3, 2.0, 2), st.Layer(3, 4.0, 1, kernels.ArcCosine(1))))
    x = pictures((16, 16), 6)
    tau = st.Translation((1.0, 0.5), size=(16, 16))
    moved = st.BandLimitedWarp()(x, tau)
    exact, errors = st.GramCKN(arch).distance(x, moved), []
    for count in (2, 8, 64):
        rng = torch.Generator().manual_seed(0)
        ckn = st.CKN.fit(arch, torch.cat([x, moved]), filters=(count, count), generator=rng)
        errors.append(((ckn.distance(x, moved) - exact).abs() / exact).mean().item())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.02


@pytest.mark.parametrize("kernel", LIPSCHITZ, ids=repr)
def test_projection_is_orthogonal_and_rank_deficiency_keeps_it_non_expansive(kernel, generator):
    z = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    z = z / z.norm(dim=1, keepdim=True)
    z = torch.cat([z, z[:2]])  # copies: kappa(Z^T Z) is singular
    root = inverse_root(kernel, z)
    gram = kernel((z @ z.T).clamp(-1, 1)).fill_diagonal_(1.0)
    projection = root @ gram @ root
    assert torch.allclose(projection @ projection, projection, atol=1e-9)
    points = torch.randn(2, 4, 300, generator=generator, dtype=torch.float64)
    a, b = (kernel_map(kernel, z, root, p[None])[0] for p in points)
    norms = points.norm(dim=1)
    assert (a.norm(dim=0) <= norms[0] * (1 + 1e-9)).all()
    cosine = ((points[0] * points[1]).sum(0) / (norms[0] * norms[1])).clamp(-1, 1)
    exact = (norms[0] ** 2 + norms[1] ** 2 - 2 * norms[0] * norms[1] * kernel(cosine)).clamp_min(0).sqrt()
    assert ((a - b).norm(dim=0) <= exact * (1 + 1e-7) + 1e-9).all()
    anchors = kernel_map(kernel, z, root, 3.0 * z.T[None])[0]
    assert torch.allclose(anchors.norm(dim=0), torch.full((7,), 3.0, dtype=torch.float64), rtol=1e-6)  # in the span


def test_a_regularised_root_would_be_seen(generator):
    """Negative control: 1 / (sqrt(lambda) + .01) is no projection; anchors then lose length."""
    z = torch.eye(4, dtype=torch.float64)
    gram = kernels.Exponential()(z @ z.T)
    values, vectors = torch.linalg.eigh(gram)
    wrong = vectors @ torch.diag(1 / (values.sqrt() + 0.01)) @ vectors.T
    assert kernel_map(kernels.Exponential(), z, wrong, z[None])[0].norm(dim=0).max() < 0.995


def test_bounds_hold_for_finite_networks_of_any_anchors(generator):
    arch = st.Architecture((st.Layer(3, 2.0, 1, kernels.Exponential(2.37)), st.Layer(2, 4.0)))
    x = pictures((16, 16), 3)
    anchors = [
        torch.randn(6, 9, generator=generator, dtype=torch.float64),
        torch.randn(7, 24, generator=generator).double(),
    ]
    random = st.CKN(arch, [z / z.norm(dim=1, keepdim=True) for z in anchors])
    fitted = st.CKN.fit(arch, x, filters=(6, 7), generator=generator)
    tau = st.control(
        st.FourierField.sample((16, 16), cutoff=2, batch_shape=(3,), generator=generator), jacobian_norm=0.2
    )
    for ckn in (random, fitted):
        ladder = st.ladder(ckn, x, tau, certificates=False)
        assert not ladder.violation.any()
        assert torch.isfinite(ladder.refinement).all()


def test_features_areas_and_batches(generator, monkeypatch):
    arch = st.Architecture((st.Layer(3, 2.0, 2), st.Layer(3, 4.0, 2)))
    x = torch.rand(5, 3, 16, 8, generator=generator, dtype=torch.float64)
    ckn = st.CKN.fit(arch, x, filters=(4, 5), generator=generator)
    assert ckn(x).shape == (5, 5, 4, 2)
    assert [tuple(m.shape[1:]) for m in ckn.layers(x)] == [(4, 8, 4), (5, 4, 2)]
    assert ckn.filters == (4, 5)
    assert torch.allclose(ckn.norm(x), 4 * ckn(x).flatten(1).norm(dim=1))
    whole = ckn.distance(x, x.flip(0))
    monkeypatch.setattr(explicit, "BATCH", 2)
    assert torch.allclose(ckn.distance(x, x.flip(0)), whole, rtol=1e-12)
    assert torch.allclose(ckn.reference(x).distance(x.flip(0)[:, None])[:, 0], whole)
    matrix = st.kernel_matrix(ckn, x)
    assert torch.allclose(matrix.diagonal().sqrt(), ckn.norm(x))
    assert torch.allclose(st.kernel_matrix(ckn, x, x[:2]), matrix[:, :2])


def test_fit_is_reproducible_and_single_precision_stays(generator):
    arch, x = one_layer(kernels.Exponential()), pictures((16, 16), 3)
    first, second = (st.CKN.fit(arch, x, filters=(4,), generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first.anchors[0], second.anchors[0])
    single = st.CKN.fit(arch, x.float(), filters=(4,), generator=torch.Generator().manual_seed(3))
    assert single(x.float()).dtype == torch.float32
    assert single.distance(x[:1], x[1:2]).dtype == torch.float64


def test_kmeans_reseeds_empty_clusters_and_improves_on_its_start(generator):
    centres = torch.eye(4, dtype=torch.float64)
    points = centres.repeat(50, 1) + 0.05 * torch.randn(200, 4, generator=generator, dtype=torch.float64)
    points = points / points.norm(dim=1, keepdim=True)
    anchors = spherical_kmeans(points, 4, generator=generator)
    assert ((anchors @ centres.T).max(dim=0).values > 0.98).all()
    copies = torch.eye(2, dtype=torch.float64).repeat(10, 1)
    more = spherical_kmeans(copies, 5, generator=generator)
    assert torch.isfinite(more).all()
    assert torch.allclose(more.norm(dim=1), torch.ones(5, dtype=torch.float64))


@pytest.mark.parametrize(
    ("filters", "message"), [((4,), "one number per layer"), ((4, 10_000), "training patches"), ((4, 2.5), "integers")]
)
def test_wrong_filters_are_told(filters, message, generator):
    arch = st.Architecture((st.Layer(3, 2.0), st.Layer(3, 2.0)))
    with pytest.raises(ValueError, match=message):
        st.CKN.fit(arch, pictures(), filters=filters, generator=generator)
    with pytest.raises(ValueError, match="one tensor per layer"):
        st.CKN(arch, [])


@pytest.mark.parametrize("kind", ["ckn", "first", "cnn", "random", "convolutional"])
def test_networks_compute_in_their_own_precision_and_tell_of_other_channels(kind, generator):
    arch, x = st.Architecture.dyadic(depth=2), st.images.load("fashion", count=4, size=(16, 16))
    few = {"filters": (4, 6), "generator": generator}
    network = {
        "ckn": lambda: st.CKN.fit(arch, x.float(), **few),
        "first": lambda: st.GaussianCKN.fit(arch, x.float(), iterations=2, pairs=100, **few),
        "cnn": lambda: st.cnn(arch, (4, 6), generator=generator),
        "random": lambda: st.RandomFeatures.draw(arch, (4, 6), generator=generator, dtype=torch.float32),
        "convolutional": lambda: st.ConvolutionalForm(st.CKN.fit(arch, x.float(), **few)),
    }[kind]()
    assert network(x).dtype == torch.float32
    assert torch.equal(network(x), network(x.float()))
    assert network(x[:0]).shape == (0, *network(x).shape[1:])
    with pytest.raises(ValueError, match="channels"):
        network(x.expand(-1, 3, -1, -1))


@pytest.mark.parametrize("ridge", [1e-12, 1e-3, 0.1, 10.0])
@pytest.mark.parametrize("kernel", LIPSCHITZ, ids=repr)
def test_a_ridge_shrinks_and_never_expands(kernel, ridge, generator):
    z = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    z = z / z.norm(dim=1, keepdim=True)
    z = torch.cat([z, z[:2] + 1e-9])  # nearly copies
    z = z / z.norm(dim=1, keepdim=True)
    points = torch.randn(2, 4, 300, generator=generator, dtype=torch.float64)
    apart = []
    for value in (0.0, ridge):
        root = inverse_root(kernel, z, value)
        a, b = (kernel_map(kernel, z, root, p[None])[0] for p in points)
        apart.append((a - b).norm(dim=0))
    norms = points.norm(dim=1)
    cosine = ((points[0] * points[1]).sum(0) / (norms[0] * norms[1])).clamp(-1, 1)
    exact = (norms[0] ** 2 + norms[1] ** 2 - 2 * norms[0] * norms[1] * kernel(cosine)).clamp_min(0).sqrt()
    assert (apart[1] <= apart[0] * (1 + 1e-9) + 1e-9).all()
    assert (apart[0] <= exact * (1 + 1e-6) + 1e-8).all()


def test_a_ridge_is_kept_and_costs_energy(generator):
    arch, x = one_layer(kernels.Exponential()), pictures((16, 16), 4)
    energy = []
    for ridge in (0.0, 0.1, 1.0):
        rng = torch.Generator().manual_seed(0)
        ckn = st.CKN.fit(arch, x, filters=(16,), generator=rng, ridge=ridge)
        assert ckn.refined(2).ridge == ridge
        energy.append(float(ckn.captured_energy(x).min()))
    assert energy[0] > energy[1] > energy[2]
    with pytest.raises(ValueError, match="ridge must be"):
        st.CKN(arch, list(ckn.anchors), ridge=-1.0)


@pytest.mark.parametrize("filters", [(4, 8), (40, 64)], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [kernels.Exponential(1.0), kernels.Exponential(4.0), kernels.ArcCosine(1)], ids=repr)
def test_distances_are_off_the_exact_ones_by_at_most_the_error_that_is_proved(kernel, stride, filters):
    """Over natural images and their deformations; and the error is no empty word: it is below the norm."""
    arch = st.Architecture((st.Layer(3, 1.5, stride, kernel), st.Layer(3, 3.0, 1, kernel)), 0.8)
    x = st.images.load("fashion", count=6, size=(16, 16))
    rng = torch.Generator().manual_seed(0)
    ckn = st.CKN.fit(arch, x, filters=filters, generator=rng)
    tau = st.control(st.FourierField.sample((16, 16), cutoff=2, batch_shape=(6,), generator=rng), jacobian_norm=0.3)
    for y in (st.BandLimitedWarp()(x, tau), x.flip(0)):
        gap = (ckn.distance(x, y) - st.GramCKN(arch).distance(x, y)).abs()
        allowed = ckn.approximation_error(x) + ckn.approximation_error(y)
        assert (gap <= allowed).all()
        assert (gap > 1e-4 * allowed).any()
    assert (ckn.approximation_error(x) < 4 * x.flatten(1).norm(dim=1)).all()


def test_the_proved_error_of_one_layer_is_what_its_projection_loses():
    """Without pooling ||Phi - Phi^||^2 = ||Phi||^2 - ||Phi^||^2, from the exact kernel."""
    arch = st.Architecture((st.Layer(3, 0.0, 1, kernels.Exponential(4.0)),), None)
    x = st.images.load("fashion", count=4, size=(12, 12))
    ckn = st.CKN.fit(arch, x, filters=(6,), generator=torch.Generator().manual_seed(0))
    apart = (st.GramCKN(arch).norm(x).square() - ckn.reference(x).norm.square()).clamp_min(0).sqrt()
    assert torch.allclose(ckn.approximation_error(x), apart, rtol=1e-6)


def test_the_proved_error_carries_what_earlier_layers_lost():
    """Few anchors in layer 1, as many as patches in layer 2: the distance is off by layer 1's loss alone."""
    kernel = kernels.Exponential(4.0)
    arch = st.Architecture((st.Layer(3, 0.5, 1, kernel), st.Layer(3, 0.5, 1, kernel)), None)
    x = st.images.load("fashion", count=2, size=(12, 12))
    ckn = st.CKN.fit(arch, x, filters=(2, 250), generator=torch.Generator().manual_seed(0))
    first = st.CKN(st.Architecture(arch.layers[:1], None), list(ckn.anchors)[:1])
    last = ckn.approximation_error(x) - kernel.lipschitz * first.approximation_error(x)  # the loss of layer 2
    gap = (ckn.distance(x[:1], x[1:]) - st.GramCKN(arch).distance(x[:1], x[1:])).abs()
    assert (last > 0).all()
    assert last.sum() < gap.item() < ckn.approximation_error(x).sum()


def test_a_ridge_has_no_proved_error():
    x = st.images.load("fashion", count=2, size=(12, 12))
    arch = st.Architecture.dyadic(depth=1)
    ckn = st.CKN.fit(arch, x, filters=(4,), generator=torch.Generator().manual_seed(0), ridge=0.1)
    with pytest.raises(ValueError, match="ridge must be 0"):
        ckn.approximation_error(x)
