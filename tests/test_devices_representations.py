"""Representations, kernels and predictors give on a device what they give on the CPU."""

import copy

import pytest
import torch
from torch import nn

import stability as st
from stability import front_ends, kernels
from stability.operators.precision import unit

SIZE = (8, 8)
RELU = kernels.ArcCosine(1)
ARCH = st.Architecture((st.Layer(3, 1.0, 2), st.Layer(2, 1.5)))
ONE = st.Architecture((st.Layer(3, 1.0, 2, RELU),))
KERNELS = [
    kernels.Exponential(2.0), kernels.InversePolynomial(), kernels.Polynomial(2, 1.0), kernels.ArcCosine(0), RELU,
    kernels.Linear(), kernels.LeakyReLU(0.2), kernels.Erf(), kernels.GELU(), kernels.Cosine(), kernels.Sign(),
    kernels.FromActivation(torch.tanh),
]  # fmt: skip


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def images(count=4, channels=1, size=SIZE):
    return torch.rand(count, channels, *size, generator=rng(1), dtype=torch.float64)


def fitted(arch=ARCH, anchors=None):
    options = {} if anchors is None else {"anchors": anchors}
    return st.CKN.fit(arch, images(12), filters=(4,) * len(arch.layers), generator=rng(), **options)


def relu(*sizes):
    return st.Architecture(tuple(st.Layer(size, 1.0, 1, RELU) for size in sizes))


NETWORKS = {
    "gram": lambda: st.GramCKN(ARCH),
    "gram fine": lambda: st.GramCKN(ARCH).refined(2),
    "gram zero": lambda: st.GramCKN(st.Architecture(ARCH.layers, boundary=st.Zero())),
    "gram filters": lambda: st.GramCKN(st.Architecture(ARCH.layers, front_end=front_ends.Gradient())),
    "gram whitened": lambda: st.GramCKN(st.Architecture(ARCH.layers, front_end=front_ends.Whitening())),
    "gram mean-free": lambda: st.GramCKN(st.Architecture(ARCH.layers, front_end=front_ends.MeanRemoval())),
    "banded": lambda: st.BandedCKN(st.Architecture((st.Layer(2, 0.5), st.Layer(2, 0.5))), 1e-2),
    "tangent kernel": lambda: st.GramNTK(relu(3, 2)),
    "linear": lambda: st.LinearGram(ARCH),
    "ckn": fitted,
    "form": lambda: st.ModuleRepresentation(st.ConvolutionalForm(fitted())),
    "gaussian": lambda: st.GaussianCKN.fit(
        st.Architecture((st.Layer(3, 1.0, 2, kernels.Exponential(2.0)),)),
        images(12), filters=(4,), iterations=2, pairs=50, generator=rng(),
    ),
    "random": lambda: st.RandomFeatures.draw(relu(3, 2), (4, 6), generator=rng()),
    "cnn": lambda: st.cnn(relu(3, 2), (4, 6), generator=rng(), dtype=torch.float64),
    "convexified": lambda: st.ConvexifiedCNN.fit(
        fitted(ONE), images(6), torch.arange(6) % 3, radius=5.0, steps=10
    ),
    "lenet": lambda: st.ModuleRepresentation(st.LeNet(size=(16, 16)), ["conv1", "classifier"]),
    "module": lambda: st.ModuleRepresentation(
        nn.Sequential(nn.AvgPool2d(2), nn.Flatten()), ["0", "1"], mean=[0.5], std=[0.2]
    ),
}  # fmt: skip


def sides(name):
    return (16, 16) if name == "lenet" else SIZE


@pytest.mark.parametrize("name", NETWORKS)
def test_norms_distances_and_features(name, place):
    def computed(phi, x, y):
        found = [phi.norm(x), phi.distance(x, y), phi.layer_distances(x, y) if hasattr(phi, "layer_distances") else 0]
        found += [phi.distance_matrices(x), phi.reference(x).distance(y)]
        found += [{"floor": phi.reference(x).floor}] if name != "lenet" else []  # TF32
        found += [phi(x)] if isinstance(phi, st.ExplicitRepresentation | st.ModuleRepresentation) else []
        return found

    rtol = 1e-3 if name == "lenet" else 1e-7  # single precision
    place.check(
        computed, lambda: (NETWORKS[name](), images(size=sides(name)), images(size=sides(name)).flip(0)), rtol=rtol
    )


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in ("form", "lenet", "module", "linear")])
def test_kernel_matrices_and_gradients_in_the_image(name, place):
    def computed(phi, x, y):
        y = y.clone().requires_grad_()
        value = (phi(x) - phi(y)).square() if isinstance(phi, st.ExplicitRepresentation) else phi.distance(x, y)
        (slope,) = torch.autograd.grad(value.sum(), y)
        return st.kernel_matrix(phi, x, block=3), st.kernel_matrix(phi, x, y.detach()), slope

    place.check(computed, lambda: (NETWORKS[name](), images(), images().flip(0)), rtol=1e-7)


@pytest.mark.parametrize("name", ["gram", "tangent kernel", "linear", "ckn"])
def test_kernel_matrices_in_single_precision_and_from_a_store(name, place, tmp_path):
    def computed(phi, x):
        store = tmp_path / x.device.type
        first = st.kernel_matrix(phi, x, store=store)
        return st.kernel_matrix(phi, x, dtype=torch.float32), first, st.kernel_matrix(phi, x, store=store)

    place.check(computed, lambda: (NETWORKS[name](), images()), rtol=1e-4)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: type(kernel).__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_kernels_and_their_derivatives(kernel, dtype, place):
    def values(u):
        (slope,) = torch.autograd.grad(kernel(u).sum(), u)
        return kernel(u), kernel.derivative(u.detach()), slope

    def build():
        return (torch.linspace(-0.95, 0.95, 41, dtype=dtype).requires_grad_(),)

    place.check(values, build, rtol=1e-9 if dtype == torch.float64 else 1e-4)


@pytest.mark.parametrize("kernel", KERNELS[:7], ids=repr)
def test_exact_networks_of_every_kernel(kernel, place):
    arch = st.Architecture((st.Layer(2, 1.0, 1, kernel), st.Layer(2, 1.0, 1, kernel)))
    place.check(lambda phi, x: phi.distance_matrices(x), lambda: (st.GramCKN(arch), images(3)), rtol=1e-7)


@pytest.mark.parametrize(
    "anchors", [st.anchors.KMeans(), st.anchors.RandomPatches(), st.anchors.PivotedCholesky()], ids=repr
)
def test_anchors_are_chosen_where_the_images_are(anchors, place):
    def chosen(x):
        ckn = st.CKN.fit(ARCH, x, filters=(4, 5), anchors=anchors, generator=rng())
        return list(ckn.anchors), ckn.captured_energy(x), ckn.approximation_error(x)

    place.check(chosen, lambda: (images(12),), rtol=1e-6)


def test_fits_of_other_networks_on_the_device(place):
    arch = st.Architecture((st.Layer(3, 1.0, 2, kernels.Exponential(2.0)),))

    def found(x, labels):
        gaussian = st.GaussianCKN.fit(arch, x, filters=(4,), iterations=2, pairs=50, generator=rng())
        ckn = st.CKN.fit(ONE, x, filters=(6,), generator=rng())
        net = st.ConvexifiedCNN.fit(ckn, x, labels, radius=5.0, steps=10)
        optimised = st.anchors.Optimised(iterations=2, pairs=50)
        steep = st.CKN.fit(ONE, x, filters=(6,), generator=rng(), anchors=optimised)
        return gaussian(x), ckn(x), net.scores(x), net.labels(x), net.gap, list(steep.anchors)

    place.check(found, lambda: (images(12), torch.arange(12) % 3), rtol=1e-6)


def test_subspaces_of_a_network(place):
    def compared(ckn, other, x):
        return [(one.angles.cos(), one.unused) for one in st.subspaces(ckn, x, other)]

    place.check(compared, lambda: (fitted(), fitted(), images()), rtol=1e-6)


@pytest.mark.parametrize("method", [st.KernelRidge(0.1), st.SupportVectorMachine(1.0)], ids=repr)
@pytest.mark.parametrize("normalised", [False, True])
def test_predictors(method, normalised, place):
    def predicted(phi, x, labels):
        f = st.Predictor.fit(phi, x, labels, method, normalised=normalised)
        values, norm, distance = f(x.flip(0)), phi.norm(x), phi.distance(x, x.flip(0))
        bound = f.prediction_change_bound(distance, norm=norm)
        return (
            f.coefficients, f.classes, values, f.labels(values), f.margins(values), f.margins(values, labels),
            f.norms, bound.value, f.certified_distance(values, phi.norm(x.flip(0))),
        )  # fmt: skip

    place.check(predicted, lambda: (st.GramCKN(ARCH), images(6), torch.arange(6) % 3), rtol=1e-6)


def test_cross_validation(place):
    def validated(phi, x, labels):
        methods = [st.KernelRidge(0.1), st.KernelRidge(1.0)]
        return st.cross_validate(st.kernel_matrix(phi, x), labels, methods, folds=2, generator=rng()).accuracies

    place.check(validated, lambda: (st.LinearGram(ARCH), images(8), torch.arange(8) % 2))


def test_recommendations_of_networks(place):
    def recommended(x):
        found = st.recommend_ckn(ARCH, x, accuracy=0.5, memory=1e9, generator=rng())
        return type(found.representation).__name__

    place.check(recommended, lambda: (images(6),))


@pytest.mark.parametrize(("dtype", "device", "bits"), [
    (torch.float32, "cpu", 23), (torch.float64, "cpu", 52), (torch.float64, "cuda", 52), (torch.float32, "cuda", 10)
])  # fmt: skip
def test_floors_know_that_convolutions_of_a_gpu_keep_ten_bits(dtype, device, bits, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # torch's own choice
    assert unit(dtype, torch.device(device)) == 2.0**-bits


def test_floors_know_when_single_precision_was_asked_for(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    assert unit(torch.float32, torch.device("cuda")) == 2.0**-23


@pytest.mark.parametrize("name", ["ckn", "cnn", "random", "lenet"])
def test_round_off_of_single_precision_is_below_the_floor(name, place):
    single, x = NETWORKS[name]().to(torch.float32), images(size=sides(name)).to(torch.float32)
    exact = copy.deepcopy(single).to(torch.float64).vectors(x)
    with place.within():
        phi, x = place.put(single), place.put(x)
        floor, found = phi.reference(x).floor.cpu(), phi.vectors(x).cpu()
    assert ((found - exact).norm(dim=1) <= floor).all()
