"""The convexified CNN: optimal within its gap, of small rank, no more expansive than its base, in sweeps."""

import copy
import math

import pytest
import torch

import stability as st
from stability.operators.nuclear_norm import project_nuclear_norm

ARCH = st.Architecture((st.Layer(3, 1.0, 2),), front_end=st.front_ends.MeanRemoval())


@pytest.fixture(scope="module")
def data():
    labels = st.images.dataset("fashion").labels
    return st.images.load("fashion", count=120, size=(16, 16)), labels[:120]


@pytest.fixture(scope="module")
def base(data):
    return st.CKN.fit(ARCH, data[0], filters=(24,), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def net(data, base):
    return st.ConvexifiedCNN.fit(base, data[0][:80], data[1][:80], radius=40.0, steps=600)


def loss(matrix, features, labels):
    return torch.nn.functional.cross_entropy(features.flatten(1) @ matrix.flatten(1).T, labels)


def nuclear(matrix):
    return float(torch.linalg.svdvals(matrix.flatten(2).movedim(0, 1).flatten(1)).sum())


def test_the_projection_satisfies_its_variational_inequality(generator):
    """<A - B, C - B> <= 0 for every C of the ball, with equality of the norm on its border."""
    for radius in (0.5, 3.0, 8.0):
        a = torch.randn(5, 7, generator=generator, dtype=torch.float64)
        b = project_nuclear_norm(a, radius)
        assert float(torch.linalg.svdvals(b).sum()) == pytest.approx(radius)
        for _ in range(50):
            c = torch.randn(5, 7, generator=generator, dtype=torch.float64)
            c *= radius / float(torch.linalg.svdvals(c).sum())
            assert float(((a - b) * (c - b)).sum()) <= 1e-9
    assert torch.equal(project_nuclear_norm(a, 1e3), a)


def test_no_matrix_of_the_ball_has_a_loss_below_the_certified_one(data, base, net, generator):
    x, labels = data[0][:80], data[1][:80]
    with torch.no_grad():
        features = base(x)
    matrix = net.matrix
    assert net.nuclear_norm == pytest.approx(nuclear(matrix))
    assert net.nuclear_norm <= 40.0 * (1 + 1e-9)
    assert float(loss(matrix, features, labels)) == pytest.approx(net.loss)
    assert net.gap <= 0.05 * net.loss
    for size in (1e-3, 1e-2, 1e-1, 1.0):
        for _ in range(20):
            other = matrix + size * torch.randn(matrix.shape, generator=generator, dtype=torch.float64)
            other *= min(1.0, 40.0 / nuclear(other))
            assert float(loss(other, features, labels)) >= net.loss - net.gap
    point = matrix.clone().requires_grad_()  # a second route: the Frank-Wolfe corner, by automatic differentiation
    (gradient,) = torch.autograd.grad(loss(point, features, labels), point)
    corner = 40.0 * torch.linalg.matrix_norm(gradient.flatten(2).movedim(0, 1).flatten(1), ord=2)
    assert float((gradient * matrix).sum() + corner) == pytest.approx(net.gap, abs=1e-9)


def test_it_has_few_filters_and_tells_unseen_images_apart(data, base, net):
    assert net(data[0][:2]).shape == (2, net.filters.shape[1], 8, 8)
    small = st.ConvexifiedCNN.fit(base, data[0][:80], data[1][:80], radius=0.05)
    assert small.filters.shape[1] < base.filters[0] // 2
    large = st.ConvexifiedCNN.fit(base, data[0][:80], data[1][:80], radius=400.0, steps=40)
    assert small.filters.shape[1] < large.filters.shape[1]
    assert (net.labels(data[0][80:]) == data[1][80:]).double().mean() > 0.5  # chance is 0.1
    wrong = st.ConvexifiedCNN.fit(base, data[0][:80], data[1][torch.arange(80) // 8], radius=40.0)
    assert (wrong.labels(data[0][80:]) == data[1][80:]).double().mean() < 0.35


def test_scores_are_those_of_filters_and_weights_and_change_no_more_than_the_distance_allows(data, net):
    x, y = data[0][:20], data[0][20:40]
    weights = torch.einsum("mr,cm...->cr...", net.filters, net.matrix)
    assert torch.allclose(torch.einsum("brij,crij->bc", net(x), weights), net.scores(x), atol=1e-9)
    change = (net.scores(x) - net.scores(y)).abs()
    assert (change <= net.score_norms((16, 16)) * net.distance(x, y)[:, None] * (1 + 1e-9)).all()


def test_distances_are_at_most_those_of_the_base_and_no_rung_is_violated(data, base, net, generator):
    x = data[0][:2]
    assert (net.distance(x, data[0][2:4]) <= base.distance(x, data[0][2:4]) * (1 + 1e-12)).all()
    assert net.lipschitz == base.lipschitz
    tau = st.FourierField.sample((16, 16), cutoff=2, batch_shape=(2,), generator=generator)
    ladder = st.ladder(net, x, st.control(tau, displacement_norm=1.0, jacobian_norm=0.4))
    assert not ladder.violation.any()
    assert torch.isfinite(ladder.observed).all()


def test_a_sweep_learns_it_from_images_it_does_not_measure():
    frame = st.sweep(
        st.SweepSpec(
            images={"name": "fashion", "count": 2, "size": [16, 16]},
            architecture=ARCH,
            representations=[st.ConvexifiedSpec(filters=(12,), images=40), {"kind": "ckn", "filters": [12]}],
            deformations=[st.TranslationSpec(displacement_norm=1.0, angles=2)],
        )
    )
    mine = frame[frame.representation == "convexified"]
    assert (mine.distance_over_input_norm <= mine.bound_closed_form).all()
    assert (mine.distance > 0).all()
    assert set(mine.filters) == {"12"}
    x, labels = st.images.load("fashion", count=200, size=(16, 16)), st.images.dataset("fashion").labels
    ckn = st.CKN.fit(ARCH, x[-40:], filters=(12,), generator=torch.Generator().manual_seed(0))
    by_hand = st.ConvexifiedCNN.fit(ckn, x[-40:], labels[-40:], radius=1.0)
    y = st.BandLimitedWarp()(x[:2], st.Translation((1.0, 0.0), size=(16, 16)))
    rows = mine[mine.field_seed == 0]
    assert rows.distance.tolist() == pytest.approx(by_hand.distance(x[:2], y).tolist(), rel=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda b, x, y: st.ConvexifiedCNN.fit(b, x, y, radius=0.0), "radius"),
        (lambda b, x, y: st.ConvexifiedCNN.fit(b, x, y, radius=1.0, steps=0), "steps"),
        (lambda b, x, y: st.ConvexifiedCNN.fit(b, x, y[:3], radius=1.0), "labels"),
        (lambda b, x, y: st.ConvexifiedCNN.fit(b, x, torch.zeros_like(y), radius=1.0), "two classes"),
        (lambda b, x, y: st.ConvexifiedCNN.fit(st.GramCKN(ARCH), x, y, radius=1.0), "one layer"),
        (lambda b, x, y: st.ConvexifiedCNN(b, torch.full((2, 24, 4), math.nan), torch.arange(2)), "finite"),
        (lambda b, x, y: st.ConvexifiedCNN(b, torch.zeros(2, 24, 4, 4).double(), torch.arange(2)).scores(
            torch.zeros(1, 1, 16, 16).double()), "same size"),
        (lambda b, x, y: st.SweepSpec(representations=[{"kind": "convexified", "filters": [4, 4]}], deformations=[
            st.TranslationSpec(displacement_norm=1.0)], architecture=st.Architecture.dyadic(depth=2)), "one layer"),
    ],
)  # fmt: skip
def test_wrong_requests_are_told(make, message, data, base):
    with pytest.raises(ValueError, match=message):
        make(base, data[0][:10], data[1][:10])


def test_round_off_is_no_filter_in_single_precision(data, base, net):
    single = st.ConvexifiedCNN(copy.deepcopy(base).to(torch.float32), net.matrix.to(torch.float32), net.classes)
    assert single.filters.shape == net.filters.shape
    noise = 1e-8 * torch.randn(net.matrix.shape, generator=torch.Generator().manual_seed(0))
    noisy = st.ConvexifiedCNN(
        copy.deepcopy(base).to(torch.float32), net.matrix.to(torch.float32) * (1 + noise), net.classes
    )
    assert noisy.filters.shape == net.filters.shape
