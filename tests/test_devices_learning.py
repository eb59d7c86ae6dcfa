"""Training, recovery, images and files of weights give on a device what they give on the CPU."""

import pytest
import torch

import stability as st
from stability import kernels
from stability.training import Cosine, ExactHead, ShiftAndFlip, StochasticHead, load, save, train

SIZE = (8, 8)
RELU = kernels.ArcCosine(1)
ARCH = st.Architecture((st.Layer(3, 1.0, 2), st.Layer(2, 1.5)))
LAYER = st.Architecture((st.Layer(3, 1.0, 2, RELU),), antialiasing=None)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def images(count=4, size=SIZE):
    return torch.rand(count, 1, *size, generator=rng(1), dtype=torch.float64)


NETWORKS = {
    "ckn": lambda: st.CKN.fit(ARCH, images(12), filters=(4, 4), generator=rng()),
    "cnn": lambda: st.cnn(ARCH, (4, 4), generator=rng(), dtype=torch.float64),
    "gaussian": lambda: st.GaussianCKN.fit(
        st.Architecture((st.Layer(3, 1.0, 2, kernels.Exponential(2.0)),)),
        images(12), filters=(4,), iterations=2, pairs=50, generator=rng(),
    ),
    "lenet": lambda: st.LeNet(size=(16, 16), classes=3).double(),
}  # fmt: skip
CHOICES = [StochasticHead(), StochasticHead(ExactHead(1e-2)), ExactHead(1e-2)]


@pytest.mark.parametrize(
    ("name", "head"),
    [("ckn", head) for head in CHOICES] + [("cnn", CHOICES[0]), ("gaussian", CHOICES[0]), ("lenet", None)],
    ids=str,
)
def test_training(name, head, place, tmp_path):
    size = (16, 16) if name == "lenet" else SIZE

    def trained(network, x, labels):
        options = {} if head is None else {"head": head}
        state = tmp_path / x.device.type
        history = train(
            network, x, labels, epochs=2, generator=rng(), batch_size=4, test=(x, labels), schedule=Cosine(),
            augmentation=ShiftAndFlip(1, 0.5), state=state, **options,
        )  # fmt: skip
        found = train(
            network, x, labels, epochs=3, generator=rng(), batch_size=4, test=(x, labels), schedule=Cosine(),
            augmentation=ShiftAndFlip(1, 0.5), **options,
        )  # fmt: skip
        return history.loss, history.test_accuracy, found.loss, network

    place.check(trained, lambda: (NETWORKS[name](), images(12, size), torch.arange(12) % 3), rtol=1e-5)


def test_a_training_goes_on_from_its_state(place, tmp_path):
    def resumed(first, second, x, labels):
        options = {"batch_size": 4, "state": tmp_path / x.device.type}
        train(first, x, labels, epochs=1, generator=rng(), **options)
        return train(second, x, labels, epochs=2, generator=rng(), **options).loss

    def build():
        return NETWORKS["ckn"](), NETWORKS["ckn"](), images(12), torch.arange(12) % 3

    place.check(resumed, build, rtol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_on_disk(name, place, tmp_path):
    if place.name == "elsewhere":
        pytest.skip("torch itself refuses to load weights on meta")

    def read(network, other):
        save(tmp_path / "a.safetensors", network, {})
        load(tmp_path / "a.safetensors", other)
        return other

    place.check(read, lambda: (NETWORKS[name](), NETWORKS[name]()))


def test_decoders(place):
    def decoded(x):
        phi = st.RandomFeatures.draw(LAYER, (12,), generator=rng()).to(x.device)
        decoder = st.Decoder.fit(phi, x)
        return decoder(phi(x)), decoder.recover(x), decoder.errors(x), decoder.conditions

    place.check(decoded, lambda: (images(12),), rtol=1e-5)


def test_pre_images(place):
    def recovered(phi, x):
        found = st.PreImage.fit(phi, x)
        return found.recover(x.flip(0)), found.errors(x), found.span_errors(x), found.left_out

    place.check(recovered, lambda: (st.GramCKN(ARCH), images(6)), rtol=1e-5)


@pytest.mark.parametrize("name", ["ckn", "gram"])
def test_inversions(name, place):
    def inverted(phi, x):
        found = st.invert(phi, x, steps=3, generator=rng())
        return found.images, found.errors(x), found.residual

    def build():
        return st.GramCKN(LAYER) if name == "gram" else NETWORKS["ckn"](), images(2)

    place.check(inverted, build, rtol=1e-4)


def test_images_are_loaded_and_moved(place):
    def loaded(x):
        shipped = st.images.load("fashion", count=2, size=(8, 8)).to(x.device)
        blobs = st.images.load("blobs", count=1, size=(8, 8)).to(x.device)
        return shipped, blobs, st.images.dataset("fashion").labels[:3].to(x.device), st.grid.band_limit(x)

    place.check(loaded, lambda: (images(),))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_generator_of_the_gpu_shuffles_and_augments():
    def gpu():
        return torch.Generator("cuda").manual_seed(0)

    x, labels = images(12), torch.arange(12) % 3
    augmentation = ShiftAndFlip(1, 0.5)
    for where in ("cpu", "cuda"):  # where images and network are
        phi = NETWORKS["cnn"]().to(where)
        train(phi, x.to(where), labels, epochs=1, generator=gpu(), batch_size=4, augmentation=augmentation)
        matrix = st.kernel_matrix(st.GramCKN(ARCH), x.to(where))
        assert len(st.cross_validate(matrix, labels, [st.KernelRidge(1.0)], folds=2, generator=gpu()).accuracies) == 1
        found = st.CKN.fit(ARCH, x.to(where), filters=(4, 4), generator=gpu())
        assert {z.device.type for z in found.anchors} == {where}
