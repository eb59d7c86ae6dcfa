"""Supervised CKNs: they learn, stay on the sphere and within their bounds, stop early, go on after an interruption."""

import math

import pytest
import scipy.linalg
import torch
from torch.nn.functional import normalize

import stability as st
from stability import kernels
from stability.training import ExactHead, StochasticHead, accuracy, train

ARCH = st.Architecture(
    (st.Layer(3, 1.5, 2, kernels.Exponential(2.0)), st.Layer(3, 2.0, 2, kernels.Exponential(2.0))), None,
    front_end=st.front_ends.MeanRemoval(),
)  # fmt: skip


@pytest.fixture(scope="module")
def data():
    found = st.images.dataset("fashion")
    return found.images[:, :, 2:26, 2:26][:, :, ::2, ::2].float(), found.labels


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def network(x, filters=(6, 8), seed=0, learn=True):
    return st.CKN.fit(ARCH, x, filters=filters, generator=rng(seed), ridge=1e-3).requires_grad_(learn)


def test_training_learns_the_anchors_keeps_them_on_the_sphere_and_every_bound(data):
    x, y = data
    ckn, before = network(x[:100]), network(x[:100], learn=False)
    history = train(ckn, x[:100], y[:100], epochs=6, generator=rng(), batch_size=20, learning_rate=1e-2)
    fixed = train(before, x[:100], y[:100], epochs=6, generator=rng(), batch_size=20, learning_rate=1e-2)
    assert history.loss[-1] < fixed.loss[-1] < fixed.loss[0]
    for z, start in zip(ckn.anchors, before.anchors, strict=True):
        assert torch.allclose(z.norm(dim=1), torch.ones(len(z)), atol=1e-6)
        assert (z - start).norm() > 0.1
    ckn.requires_grad_(False)
    ladder = st.ladder(ckn.double(), st.grid.band_limit(x[:2].double()), st.Translation((0.7, 0.4), size=(12, 12)))
    assert not ladder.violation.any()
    frozen = network(x[:100], learn=False)
    assert all(torch.equal(a, b) for a, b in zip(before.anchors, frozen.anchors, strict=True))


@pytest.mark.parametrize("head", [st.training.StochasticHead(), ExactHead(1e-2)], ids=lambda h: type(h).__name__)
def test_an_interrupted_training_goes_on_to_the_same_result_bit_for_bit(data, head, tmp_path):
    x, y = data[0][:60], data[1][:60]
    arguments = {"batch_size": 16, "learning_rate": 1e-2, "head": head, "test": (data[0][60:80], data[1][60:80])}
    whole = network(x)
    through = train(whole, x, y, epochs=4, generator=rng(), **arguments)
    first, second = network(x), network(x)
    train(first, x, y, epochs=2, generator=rng(), state=tmp_path / "state", **arguments)
    resumed = train(second, x, y, epochs=4, generator=rng(), state=tmp_path / "state", **arguments)
    assert resumed.loss == through.loss
    assert resumed.test_accuracy == through.test_accuracy
    assert all(torch.equal(a, b) for a, b in zip(whole.anchors, second.anchors, strict=True))
    assert torch.equal(resumed.head.weight, through.head.weight)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_training_stopped_in_the_middle_of_an_epoch_loses_that_epoch_only(data, tmp_path, monkeypatch):
    x, y = data[0][:40], data[1][:40]
    whole = network(x)
    train(whole, x, y, epochs=3, generator=rng(), batch_size=10)
    steps, step = [], torch.optim.Adam.step

    def interrupted(self, *arguments, **keywords):
        steps.append(0)
        if len(steps) == 7:  # the third step of the second epoch
            raise KeyboardInterrupt
        return step(self, *arguments, **keywords)

    monkeypatch.setattr(torch.optim.Adam, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(network(x), x, y, epochs=3, generator=rng(), batch_size=10, state=tmp_path / "state")
    again = network(x)
    train(again, x, y, epochs=3, generator=rng(), batch_size=10, state=tmp_path / "state")
    assert all(torch.equal(a, b) for a, b in zip(whole.anchors, again.anchors, strict=True))


def test_the_state_of_another_training_is_refused(data, tmp_path):
    x, y = data[0][:20], data[1][:20]
    state = tmp_path / "state"
    train(network(x), x, y, epochs=1, generator=rng(), state=state)
    for change in ({"generator": rng(1)}, {"batch_size": 5}, {"head": ExactHead()}, {"learning_rate": 1e-3}):
        with pytest.raises(ValueError, match="the same training"):
            train(network(x), x, y, **({"epochs": 2, "generator": rng(), "state": state} | change))
    with pytest.raises(ValueError, match="the same training"):
        train(network(x, seed=1), x, y, epochs=2, generator=rng(), state=state)
    with pytest.raises(ValueError, match="the same training"):
        train(network(x), x.flip(0), y, epochs=2, generator=rng(), state=state)
    state.write_bytes(b"broken")
    with pytest.raises(ValueError, match="file that a training wrote"):
        train(network(x), x, y, epochs=2, generator=rng(), state=state)
    with pytest.raises(ValueError, match="folder that exists"):
        train(network(x), x, y, epochs=2, generator=rng(), state=tmp_path / "no" / "state")


def test_early_stopping_returns_to_the_best_epoch(data, tmp_path):
    x, y = data[0][:60], data[1][:60]
    judge = data[0][60:100], data[1][60:100]
    arguments = {"generator": rng(), "validation": judge, "batch_size": 10, "learning_rate": 3e-2}
    ckn = network(x)
    history = train(ckn, x, y, epochs=40, patience=3, **arguments)
    assert history.epochs < 40
    assert history.best_epoch == history.epochs - 3
    best = max(history.validation_accuracy)
    assert history.validation_accuracy.index(best) == history.best_epoch - 1
    assert accuracy(history.classifier, *judge) == best
    again = train(network(x), x, y, epochs=history.best_epoch, patience=3, **(arguments | {"generator": rng()}))
    assert torch.equal(again.head.weight, history.head.weight)
    with pytest.raises(ValueError, match="validation must be"):
        train(network(x), x, y, epochs=2, patience=2, generator=rng())


def test_an_exact_head_is_the_minimum(data):
    """The gradient vanishes, and from another start the same head is found."""
    x, y = data[0][:50].double(), data[1][:50]
    features = network(x, learn=False)(x).flatten(1)
    heads = []
    for seed in (0, 1):
        head = torch.nn.Linear(features.shape[1], 10).double()
        with torch.no_grad():
            head.weight.copy_(torch.randn(head.weight.shape, generator=rng(seed)))
            head.bias.zero_()
        ExactHead(0.1).settle_(head, features, y)
        heads.append(head)
    loss = torch.nn.functional.cross_entropy(heads[0](features), y) + 0.05 * heads[0].weight.square().sum()
    loss.backward()
    assert heads[0].weight.grad.abs().max() < 1e-6
    assert torch.allclose(heads[0].weight, heads[1].weight, atol=1e-5)
    with pytest.raises(ValueError, match="penalty"):
        ExactHead(0.0)
    with pytest.raises(ValueError, match="StochasticHead"):
        train(st.LeNet(), torch.rand(2, 1, 28, 28), y[:2], epochs=1, generator=rng(), head=ExactHead())


def test_a_stepped_head_may_begin_at_the_exact_one(data):
    """Its first loss is about that of the exact head, far below log 10; from zero it is about log 10."""
    x, y = data[0][:80], data[1][:80]
    exact = train(network(x, learn=False), x, y, epochs=1, generator=rng(), head=ExactHead(1e-4))
    begun = StochasticHead(ExactHead(1e-4))
    arguments = {"epochs": 1, "generator": rng(), "batch_size": 80, "learning_rate": 1e-3}
    warm = train(network(x), x, y, head=begun, **arguments)
    cold = train(network(x), x, y, **(arguments | {"generator": rng()}))
    assert warm.loss[0] == pytest.approx(exact.loss[0], rel=1e-3)
    assert cold.loss[0] == pytest.approx(math.log(10), rel=1e-3)
    assert not torch.equal(warm.head.weight, exact.head.weight)
    with pytest.raises(ValueError, match="StochasticHead"):
        train(st.LeNet(), torch.rand(2, 1, 28, 28), y[:2], epochs=1, generator=rng(), head=begun)


# --- subspaces -----------------------------------------------------------------------------------------------------


def test_angles_of_linear_layers_are_those_of_the_anchors_spans(generator):
    arch = st.Architecture((st.Layer(3, 1.0, 1, kernels.Linear()),), None)
    a, b = torch.randn(2, 3, 9, generator=generator, dtype=torch.float64)
    found = st.subspaces(st.CKN(arch, [a]), torch.rand(2, 1, 8, 8).double(), st.CKN(arch, [b]))[0].angles
    expected = torch.from_numpy(scipy.linalg.subspace_angles(a.T.numpy(), b.T.numpy())).flip(0)
    assert torch.allclose(found, expected, atol=1e-8)


def test_networks_that_differ_in_coordinates_only_have_the_same_subspaces(generator):
    """Anchors of layer 1 in another order, and those of layer 2 with their channels in that order."""
    z1 = normalize(torch.randn(5, 9, generator=generator, dtype=torch.float64), dim=1)
    z2 = normalize(torch.randn(6, 45, generator=generator, dtype=torch.float64), dim=1)
    order = torch.tensor([3, 1, 4, 0, 2])
    one = st.CKN(ARCH, [z1, z2])
    two = st.CKN(ARCH, [z1[order], z2.unflatten(1, (9, 5))[..., order].flatten(1)])
    x = torch.rand(2, 1, 12, 12, generator=generator, dtype=torch.float64)
    assert torch.allclose(one.norm(x), two.norm(x))
    for layer in st.subspaces(one, x, two):
        assert layer.angles.max() < 1e-6
    wrong = st.CKN(ARCH, [z1[order], z2])  # negative control
    assert st.subspaces(one, x, wrong)[1].angles.max() > 0.1


def test_ranks_use_and_energy_are_what_they_say(generator):
    z = normalize(torch.randn(4, 9, generator=generator, dtype=torch.float64), dim=1)
    arch = st.Architecture((st.Layer(3, 1.0, 1, kernels.Exponential(1.0)),), None)
    x = torch.rand(3, 1, 8, 8, generator=generator, dtype=torch.float64)
    layer = st.subspaces(st.CKN(arch, [torch.cat([z, z, -z[:1]])]), x)[0]
    assert layer.rank == 5
    assert 1 < layer.effective_rank < 5
    assert layer.angles is None
    assert layer.use.sum() == pytest.approx(1.0)
    assert layer.unused >= 4  # of two copies the first is used
    reduced = st.CKN(arch, [torch.cat([z, -z[:1]])])  # the same span
    assert layer.captured_energy == pytest.approx(float(reduced.captured_energy(x).mean()))
    linear = st.Architecture((st.Layer(3, 1.0, 1, kernels.Linear()),), None)
    flat = st.subspaces(st.CKN(linear, [torch.eye(9, dtype=torch.float64)]), x)
    assert flat[0].effective_rank == pytest.approx(9.0)
    with pytest.raises(ValueError, match="architecture"):
        st.subspaces(st.CKN(arch, [z]), x, st.CKN(ARCH.replace("antialiasing", 1.0), [z, z]))
