"""Training and checkpoints: better than chance, bit for bit, round trips, broken files."""

import itertools
import json
import math
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file

import stability as st
from stability.training import (
    Augmentation,
    Classifier,
    Cosine,
    Schedule,
    ShiftAndFlip,
    accuracy,
    checkpoint_digest,
    load,
    save,
    train,
)


@pytest.fixture(scope="module")
def data():
    return st.images.dataset("fashion")


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def weights(network):
    return network.state_dict().values()


def test_a_lenet_beats_chance_by_far_on_held_out_images(data):
    """160 images, 16 a class: half of the other 40 is 10 standard deviations above a tenth."""
    test = data.images[160:], data.labels[160:]
    net = st.LeNet()
    history = train(net, data.images[:160], data.labels[:160], epochs=20, generator=rng(), test=test)
    assert history.epochs == len(history.accuracy) == len(history.test_accuracy) == 20
    assert history.test_accuracy[-1] > 0.5
    assert history.accuracy[-1] > 0.75
    assert history.loss[-1] < 0.5 < math.log(10) * 0.9 < history.loss[0] < 2 * math.log(10)
    assert history.classifier is net
    assert history.head is None
    assert not net.training
    assert history.test_accuracy[-1] == accuracy(net, *test)


def test_labels_drawn_at_random_are_not_learnt(data):
    """Negative control: what the test images show is the labels' doing."""
    labels = torch.randint(0, 10, (200,), generator=rng(1))
    test = data.images[160:], labels[160:]
    history = train(st.LeNet(), data.images[:160], labels[:160], epochs=8, generator=rng(), test=test)
    assert history.test_accuracy[-1] < 0.35


def test_a_seed_gives_the_same_weights_bit_for_bit_and_no_global_generator_is_touched(data):
    x, y = data.images[:40], data.labels[:40]
    before = torch.get_rng_state()
    runs = []
    for seed in (3, 3, 4):
        net = st.LeNet(seed=1)
        runs.append((net, train(net, x, y, epochs=2, generator=rng(seed), batch_size=16)))
    assert torch.equal(torch.get_rng_state(), before)
    (a, first), (b, second), (c, third) = runs
    assert first.loss == second.loss != third.loss
    assert all(torch.equal(p, q) for p, q in zip(weights(a), weights(b), strict=True))
    assert not all(torch.equal(p, q) for p, q in zip(weights(a), weights(c), strict=True))
    assert not torch.equal(st.LeNet(seed=1).conv1.weight, st.LeNet(seed=2).conv1.weight)


def test_a_cnn_learns_with_a_linear_head_and_keeps_its_bound(data, generator):
    x, y = st.images.load("fashion", count=100, size=(16, 16)), data.labels[:100]
    net = st.cnn(st.Architecture.dyadic(depth=2), (8, 16), generator=generator)
    before = net.lipschitz
    history = train(net, x, y, epochs=20, generator=rng(), batch_size=10, learning_rate=1e-2)
    assert isinstance(history.classifier, Classifier)
    assert history.head is history.classifier.head
    assert history.head.weight.shape == (10, 16 * 4 * 4)
    assert history.loss[-1] < 0.6 * history.loss[0]
    assert history.accuracy[-1] > 0.5
    assert net.lipschitz != before
    tau = st.Translation((1.0, 0.5), size=(16, 16))
    ladder = st.ladder(net, x[:3], tau)
    assert not ladder.violation.any()
    constants = [row["rho"] for row in st.closed_form(
        net.architecture, displacement_norm=1.0, jacobian_norm=0.0, lipschitz=net.lipschitz
    ).constants["layers"]]  # fmt: skip
    assert tuple(constants) == net.lipschitz


def test_checkpoints_come_back_with_their_metadata(data, tmp_path, generator):
    x, y = data.images[:30], data.labels[:30]
    net = st.LeNet()
    history = train(net, x, y, epochs=1, generator=rng(7))
    path = tmp_path / "lenet.safetensors"
    save(path, net, history.metadata(seed=7, images="fashion"))
    other = st.LeNet(seed=9)
    metadata = load(path, other)
    assert all(torch.equal(p, q) for p, q in zip(weights(net), weights(other), strict=True))
    assert (metadata["seed"], metadata["epochs"], metadata["images"]) == (7, 1, "fashion")
    assert (metadata["accuracy"], metadata["test_accuracy"]) == (history.accuracy[-1], None)
    assert metadata["versions"]["stability"] == st.__version__
    assert {"torch", "safetensors", "python"} <= set(metadata["versions"])
    assert [file.name for file in tmp_path.iterdir()] == ["lenet.safetensors"]
    digest = checkpoint_digest(path)
    save(path, other, history.metadata(seed=7, images="fashion"))
    assert checkpoint_digest(path) == digest  # equal weights and metadata, equal bytes
    save(path, st.LeNet(seed=9), {"seed": 9})
    assert checkpoint_digest(path) != digest

    small = st.cnn(st.Architecture.dyadic(depth=2), (4, 4), generator=generator)
    head = train(
        small, st.images.load("fashion", count=10, size=(16, 16)), y[:10], epochs=1, generator=rng()
    ).classifier
    save(path, head, {"seed": 0})
    again = Classifier(st.cnn(small.architecture, (4, 4), generator=generator), torch.nn.Linear(64, 10))
    load(path, again)
    assert torch.equal(again.representation.weights[1], small.weights[1])
    plain = tmp_path / "plain.safetensors"
    save_file(dict(small.state_dict()), plain)
    assert load(plain, small) == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("conv1.bias"), "the file lacks conv1.bias"),
        (lambda t: t.update(more=torch.zeros(1)), "the network has no place for more"),
        (lambda t: t.update({"conv1.bias": torch.zeros(7)}), r"must be \(6,\) of torch.float32, got \(7,\)"),
        (lambda t: t.update({"conv1.bias": torch.zeros(6).double()}), "of torch.float64"),
    ],
)
def test_weights_of_another_network_are_refused_and_change_nothing(change, message, tmp_path):
    path, net = tmp_path / "net.safetensors", st.LeNet(seed=1)
    save(path, st.LeNet(seed=2), {})
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    before = [value.clone() for value in weights(net)]
    with pytest.raises(ValueError, match=message) as error:
        load(path, net)
    assert "\n" not in str(error.value)
    assert all(torch.equal(p, q) for p, q in zip(weights(net), before, strict=True))


@pytest.mark.parametrize("content", [None, b"", b"not at all", json.dumps({"a": 1}).encode() * 9])
def test_files_of_another_kind_are_refused(content, tmp_path):
    path = tmp_path / "net.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match="must be a safetensors file") as error:
        load(path, st.LeNet())
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="must be a safetensors file"):
        load(tmp_path, st.LeNet())


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    save(path, st.LeNet(), {"seed": 0})
    digest = checkpoint_digest(path)

    def half(tensors, file, metadata):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("stability.training.weights.save_file", half)
    with pytest.raises(OSError, match="disk full"):
        save(path, st.LeNet(seed=1), {"seed": 1})
    assert checkpoint_digest(path) == digest
    assert [file.name for file in tmp_path.iterdir()] == ["net.safetensors"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be"),
        ({"batch_size": 1.5}, "batch_size must be"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"learning_rate": 1e30}, "keep the loss finite"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, "labels must be"),
        ({"labels": torch.zeros(10)}, "labels must be"),
        ({"labels": torch.arange(1, 11)}, "labels 0 ... 10"),
        ({"labels": torch.full((10,), 3)}, "two classes at least, got 3 alone"),
        ({"images": torch.zeros(10, 1, 28, 28, dtype=torch.int64)}, "floating point"),
        ({"images": torch.zeros(10, 1, 32, 32)}, "size"),
        ({"network": torch.nn.Conv2d(1, 4, 3)}, "a score for each"),
    ],
)
def test_wrong_arguments_are_told(data, changes, message):
    values = {"network": st.LeNet(), "images": data.images[:10], "labels": data.labels[:10], "epochs": 2} | changes
    network, images, labels = (values.pop(name) for name in ("network", "images", "labels"))
    with pytest.raises(ValueError, match=message):
        train(network, images, labels, generator=rng(), **values)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: st.LeNet(size=(12, 28)), "at least 16"),
        (lambda: st.LeNet(size=(28,)), "at least 16"),
        (lambda: st.LeNet(size=(9, 28), kernel_size=3), "at least 10"),
        (lambda: st.LeNet(kernel_size=0), "kernel_size must be an integer >= 1"),
        (lambda: st.LeNet(padding=-1), "padding must be an integer >= 0"),
        (lambda: st.LeNet(channels=0), "channels"),
        (lambda: st.LeNet(classes=2.0), "classes"),
        (lambda: save("nowhere/at/all.safetensors", st.LeNet(), {}), "folder that exists"),
        (lambda: save("all.safetensors", st.LeNet(), {"seed": torch.zeros(1)}), "plain data"),
    ],
)
def test_wrong_networks_and_files_are_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_lenet_takes_other_sizes_and_channels():
    assert st.LeNet(channels=3, classes=4, size=(32, 20))(torch.zeros(2, 3, 32, 20)).shape == (2, 4)
    assert st.LeNet(size=(4, 9), kernel_size=3, padding=1).hidden.in_features == 16 * 1 * 2
    assert st.LeNet(size=(10, 11), kernel_size=3)(torch.zeros(1, 1, 10, 11)).shape == (1, 10)
    assert [name for name, _ in st.LeNet().named_children()] == [
        "conv1", "norm1", "pool1", "conv2", "norm2", "pool2", "hidden", "classifier"
    ]  # fmt: skip


def test_batch_normalisation_is_an_affine_map_once_the_network_has_learnt(data):
    """Folded into the convolutions it gives a plain LeNet with the same scores; without its shift it does not."""
    x, y = data.images[:40], data.labels[:40]
    normalised, plain = st.LeNet(batch_normalisation=True), st.LeNet()
    assert set(plain.state_dict()) == {name for name in normalised.state_dict() if not name.startswith("norm")}
    train(normalised, x, y, epochs=2, generator=rng())
    plain.load_state_dict({name: value for name, value in normalised.state_dict().items() if "norm" not in name})
    for convolution, norm in ((plain.conv1, normalised.norm1), (plain.conv2, normalised.norm2)):
        slope = norm.weight / (norm.running_var + norm.eps).sqrt()
        convolution.weight.data *= slope[:, None, None, None].detach()
        convolution.bias.data = (norm.bias + slope * (convolution.bias - norm.running_mean)).detach()
    x = x.float()
    torch.testing.assert_close(plain(x), normalised(x), rtol=1e-4, atol=1e-4)
    plain.conv2.bias.data -= normalised.norm2.bias.detach() - slope.detach() * normalised.norm2.running_mean
    assert not torch.allclose(plain(x), normalised(x), rtol=1e-2, atol=1e-2)


# --- schedules and augmentations -------------------------------------------------------------------------------------


def test_the_cosine_schedule_rises_then_falls_to_zero():
    factors = [Cosine(0.1).factor(step, 100) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[9] == pytest.approx((1 + math.cos(0.09 * math.pi)) / 2)
    assert all(a > b for a, b in itertools.pairwise(factors[9:]))
    assert factors[-1] < 1e-3
    assert sum(Cosine(0.0).factor(step, 100) for step in range(100)) == pytest.approx(50.5)


class Recorded(Schedule):
    """Keeps what it is asked; a rate of 0 from the second epoch on."""

    def __init__(self):
        self.asked = []

    def factor(self, step, steps):
        self.asked.append((step, steps))
        return float(step < 3)


def test_the_schedule_is_asked_once_a_step_and_followed(data):
    recorded, plain, scheduled = Recorded(), st.LeNet(), st.LeNet()
    train(plain, data.images[:10], data.labels[:10], epochs=1, generator=rng(), batch_size=4)
    train(scheduled, data.images[:10], data.labels[:10], epochs=2, generator=rng(), batch_size=4, schedule=recorded)
    assert recorded.asked == [(step, 6) for step in range(6)]
    assert all(torch.equal(p, q) for p, q in zip(weights(plain), weights(scheduled), strict=True))


def test_shifts_and_mirror_images_are_those_of_every_image_with_the_right_frequencies(generator):
    x = torch.rand(1, 2, 5, 7, generator=generator)
    many = x.expand(4000, -1, -1, -1)
    found = ShiftAndFlip(shift=1, flip=0.3).apply(many, generator)
    wide = torch.nn.functional.pad(torch.cat([x, x.flip(-1)]), (1, 1, 1, 1))
    choices = torch.stack([part[:, r : r + 5, c : c + 7] for part in wide for r in range(3) for c in range(3)])
    matches = (found[:, None] == choices).flatten(2).all(2)
    assert (matches.sum(1) == 1).all()
    share, expected = matches.double().mean(0), torch.tensor([0.7 / 9] * 9 + [0.3 / 9] * 9, dtype=torch.float64)
    assert ((share - expected).abs() < 5 * (expected * (1 - expected) / 4000).sqrt()).all()
    assert torch.equal(ShiftAndFlip(0, 0.0).apply(many, generator), many)
    line = ShiftAndFlip(shift=2, flip=0.0).apply(torch.eye(9)[4:5].expand(50, 1, 9), generator)
    assert (line.sum(2) == 1).all()
    assert set(line[:, 0].argmax(1).tolist()) == {2, 3, 4, 5, 6}


@pytest.mark.parametrize("normalised", [False, True])
def test_an_interrupted_training_with_schedule_and_augmentation_goes_on_bit_for_bit(
    normalised, data, tmp_path, monkeypatch
):
    x, y = data.images[:40], data.labels[:40]
    new = partial(st.LeNet, batch_normalisation=normalised)
    more = {"batch_size": 16, "epochs": 3, "schedule": Cosine(), "augmentation": ShiftAndFlip(1)}
    whole, state = new(), tmp_path / "state"
    through = train(whole, x, y, generator=rng(), **more)
    assert through.loss != train(new(), x, y, generator=rng(), **(more | {"augmentation": None})).loss
    steps, step = [], torch.optim.Adam.step

    def interrupted(self, *arguments, **keywords):
        steps.append(0)
        if len(steps) == 5:  # in the second epoch
            raise KeyboardInterrupt
        return step(self, *arguments, **keywords)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch.optim.Adam, "step", interrupted)
        train(new(), x, y, generator=rng(), state=state, **more)
    again = new()
    for change in ({"schedule": Cosine(0.5)}, {"augmentation": ShiftAndFlip(2)}, {"epochs": 4}):
        with pytest.raises(ValueError, match="the same training"):
            train(new(), x, y, generator=rng(), state=state, **(more | change))
    resumed = train(again, x, y, generator=rng(), state=state, **more)
    assert resumed.loss == through.loss
    assert all(torch.equal(p, q) for p, q in zip(weights(whole), weights(again), strict=True))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cosine(1.0), "warm_up must be a share"),
        (lambda: ShiftAndFlip(-1), "shift must be an integer"),
        (lambda: ShiftAndFlip(1.5), "shift must be an integer"),
        (lambda: ShiftAndFlip(1, 1.5), "flip must be a probability"),
        (lambda: st.LeNet(filters=(4, 0)), "filters must be an integer >= 1"),
        (lambda: st.LeNet(filters=(4,)), "filters must be two numbers"),
        (lambda: st.LeNet(hidden=0), "hidden must be an integer >= 1"),
    ],
)
def test_wrong_schedules_augmentations_and_widths_are_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_widths_of_a_lenet_are_those_asked_for():
    shapes = {name: tuple(value.shape) for name, value in st.LeNet(filters=(3, 5), hidden=7).named_parameters()}
    assert shapes["conv1.weight"] == (3, 1, 5, 5)
    assert shapes["conv2.weight"] == (5, 3, 5, 5)
    assert shapes["hidden.weight"] == (7, 80)
    assert shapes["classifier.weight"] == (10, 7)
    assert issubclass(ShiftAndFlip, Augmentation)
