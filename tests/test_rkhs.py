"""Predictors: closed-form ridge, optimality of the SVM, norms by features, Cauchy-Schwarz and where it is attained."""

import math

import pytest
import torch
from torch import nn

import stability as st
from stability import kernels
from stability.bounds.rung import Status
from stability.rkhs import methods
from stability.rkhs.sphere import largest_chord, normalise, safe_distance
from stability.rkhs.validation import deal

ARCH = st.Architecture((st.Layer(2, 1.0, 2, kernels.Exponential()), st.Layer(2, 1.5)), 0.7)
METHODS = [st.KernelRidge(0.1), st.SupportVectorMachine(3.0)]


class Pixels(nn.Module):
    """Phi(x) = x, in float64: every function of its Hilbert space is <w, x>."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x):
        return self.scale * x.flatten(1)


LINEAR = st.ModuleRepresentation(Pixels())


def pictures(generator, count, size=(4, 6)):
    return torch.randn(count, 1, *size, generator=generator, dtype=torch.float64)


def data(generator, count=12, classes=3):
    return pictures(generator, count), 7 + torch.arange(count) % classes


def targets(labels):
    return torch.where(labels[:, None] == torch.unique(labels), 1.0, -1.0).double()


# --- methods -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("penalty", [1e-3, 1.0])
def test_ridge_is_the_closed_form(penalty, normalised, generator):
    (x, labels), y, phi = data(generator), pictures(generator, 4), st.GramCKN(ARCH)
    gram, cross = phi.kernel_matrix(x), phi.kernel_matrix(y, x)
    if normalised:
        cross = cross / (phi.norm(y)[:, None] * phi.norm(x))
        gram = gram / (phi.norm(x)[:, None] * phi.norm(x))
    solution = torch.linalg.solve(gram + penalty * torch.eye(len(x), dtype=torch.float64), targets(labels))
    f = st.Predictor.fit(phi, x, labels, st.KernelRidge(penalty), normalised=normalised)
    torch.testing.assert_close(f.coefficients, solution, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(f(y), cross @ solution, rtol=1e-8, atol=1e-9)
    assert torch.equal(f.labels(f(y)), 7 + (cross @ solution).argmax(1))


@pytest.mark.parametrize("cost", [0.01, 100.0])
def test_the_support_vector_machine_is_optimal(cost, generator):
    (x, labels), phi = data(generator), st.GramCKN(ARCH)
    gram = phi.kernel_matrix(x)
    f = st.Predictor.fit(phi, x, labels, st.SupportVectorMachine(cost / gram.diagonal().mean().item()), matrix=gram,
                         normalised=False)  # fmt: skip
    cost /= gram.diagonal().mean().item()
    signs = targets(labels)
    weights, slack = signs * f.coefficients, 1.0 - signs * (gram @ f.coefficients + f.intercepts)
    tolerance = 2e-3  # the solver's own
    assert (weights >= 0).all()
    assert (weights <= cost * (1 + 1e-9)).all()
    assert f.coefficients.sum(0).abs().max() < 1e-9
    assert slack[weights < cost * (1 - 1e-9)].max() < tolerance  # inside the box: on the margin or beyond it
    assert slack[weights > 0].min() > -tolerance  # outside zero: on the margin or inside it


def test_a_method_without_scikit_learn_says_what_to_install(generator, monkeypatch):
    monkeypatch.setattr(methods, "has_sklearn", lambda: False)
    x, labels = data(generator)
    for method in METHODS:
        with pytest.raises(ImportError, match=r"pip install \"deformation-stability\[classifier\]\""):
            st.Predictor.fit(LINEAR, x, labels, method)


# --- the function ------------------------------------------------------------------------------------------------


def test_the_function_and_its_norm_are_those_of_the_features(generator):
    x, y, a = pictures(generator, 5), pictures(generator, 3), torch.randn(5, 2, generator=generator).double()
    w = a.T @ x.flatten(1)
    f = st.Predictor(LINEAR, x, a, intercepts=torch.tensor([1.0, -2.0]))
    torch.testing.assert_close(f(y), y.flatten(1) @ w.T + torch.tensor([1.0, -2.0]).double(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(f.norms, w.norm(dim=1), rtol=1e-10, atol=0)
    assert (f.norms >= w.norm(dim=1) * (1 - 1e-15)).all()


def test_normalised_features_are_directions(generator):
    x, y, a = pictures(generator, 5), pictures(generator, 3), torch.randn(5, generator=generator).double()
    unit = [torch.nn.functional.normalize(one.flatten(1), dim=1) for one in (x, y)]
    f = st.Predictor(LINEAR, x, a, normalised=True)
    torch.testing.assert_close(f(y)[:, 0], unit[1] @ (a @ unit[0]), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(f.norms[0], (a @ unit[0]).norm(), rtol=1e-10, atol=0)


def test_a_zero_image_has_no_direction(generator):
    x = torch.cat([pictures(generator, 2), torch.zeros(1, 1, 4, 6, dtype=torch.float64)])
    f = st.Predictor(LINEAR, x, torch.ones(3), normalised=True)
    assert torch.isfinite(f(x)).all()
    assert f(x)[2] == 0.0
    assert f.prediction_change_bound(0.5, norm=0.0).value == 2.0 * f.norms


def test_margins_are_how_far_the_prediction_is_ahead(generator):
    f = st.Predictor(LINEAR, pictures(generator, 3), torch.eye(3), classes=torch.tensor([4, 5, 9]))
    values = torch.tensor([[1.0, 3.0, 2.5], [0.0, -1.0, -4.0]])
    assert f.labels(values).tolist() == [5, 4]
    assert f.margins(values).tolist() == [0.5, 1.0]
    assert f.margins(values, torch.tensor([9, 4])).tolist() == [-0.5, 1.0]


# --- prediction stability ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("phi", [st.GramCKN(ARCH), st.LinearGram(ARCH), LINEAR], ids=["gram", "linear", "module"])
def test_a_prediction_changes_at_most_by_norm_times_distance(phi, normalised, generator):
    x, a = pictures(generator, 6), torch.randn(6, 3, generator=generator).double()
    f = st.Predictor(phi, x, a, normalised=normalised)
    starts = pictures(generator, 40)
    steps = 10.0 ** torch.linspace(-3, 1, 40).double()[:, None, None, None]
    ends = starts + steps * pictures(generator, 40)
    change = (f(starts) - f(ends)).abs()
    bound = f.prediction_change_bound(phi.distance(starts, ends), norm=phi.norm(starts))
    assert bound.status is Status.PROOF
    assert bound.value.shape == change.shape
    assert (change <= bound.value).all()


def test_the_bound_is_attained_and_half_the_norm_is_caught(generator):
    (x, y), phi = pictures(generator, 2).unsqueeze(1), st.GramCKN(ARCH)
    f = st.Predictor(phi, torch.cat([x, y]), torch.tensor([1.0, -1.0]))  # f = Phi(x) - Phi(y)
    change, bound = (f(x) - f(y)).abs(), f.prediction_change_bound(phi.distance(x, y)).value
    torch.testing.assert_close(change, bound, rtol=1e-9, atol=0)
    assert not (change <= 0.5 * bound).all()


@pytest.mark.parametrize("normalised", [False, True])
def test_a_distance_below_the_floor_does_not_certify_that_nothing_changes(normalised, generator):
    x, phi = torch.rand(6, 1, 8, 8, generator=generator, dtype=torch.float64), st.GramCKN(ARCH)
    f = st.Predictor.fit(phi, x, torch.tensor([0, 1] * 3), st.KernelRidge(0.1), normalised=normalised)
    y = x[:1] + 1e-8 * torch.randn(1, 1, 8, 8, generator=generator, dtype=torch.float64)
    reference = phi.reference(x[:1])
    distance, change = reference.distance(y), (f(x[:1]) - f(y)).abs()
    assert float(distance) < float(reference.floor)
    for floor in (None, reference.floor):
        bound = f.prediction_change_bound(distance, norm=phi.norm(x[:1]), floor=floor)
        assert bool((change <= bound.value).all())
    assert bool((f.prediction_change_bound(0.0, norm=phi.norm(x[:1])).value > 0).all())
    if not normalised:  # the norm is that of the images of the fit
        assert bool((change <= f.prediction_change_bound(distance).value).all())


def test_matrices_of_other_images_and_images_of_another_size_are_told(generator):
    x, labels = data(generator)
    for matrix, message in (
        (torch.eye(len(x), dtype=torch.float64), "must be that of the representation"),
        (torch.ones(len(x), 2), "matrix must be"),
        (torch.randn(len(x), len(x), generator=generator), "must be symmetric"),
    ):
        with pytest.raises(ValueError, match=message):
            st.Predictor.fit(LINEAR, x, labels, st.KernelRidge(0.1), matrix=matrix)
    f = st.Predictor.fit(LINEAR, x, labels, st.KernelRidge(0.1))
    with pytest.raises(ValueError, match=r"images must have shape \(B, 1, .*like those of the fit, got \(1, 1, 3, 4\)"):
        f(torch.zeros(1, 1, 3, 4, dtype=torch.float64))


def test_the_bound_is_no_better_than_its_distance(generator):
    f = st.Predictor(LINEAR, pictures(generator, 2), torch.ones(2))
    assert f.prediction_change_bound(1.0, status=Status.ESTIMATE).status is Status.ESTIMATE
    with pytest.raises(ValueError, match="distance must be >= 0"):
        f.prediction_change_bound(-1.0)
    normalised = st.Predictor(LINEAR, pictures(generator, 2), torch.ones(2), normalised=True)
    with pytest.raises(ValueError, match="norm must be"):
        normalised.prediction_change_bound(1.0)


def test_the_label_changes_just_beyond_the_certified_distance_and_not_before(generator):
    x, labels = data(generator)
    f = st.Predictor.fit(LINEAR, x, labels, st.KernelRidge(0.1), normalised=False)
    starts = pictures(generator, 8)
    values = f(starts)
    certified, own = f.certified_distance(values, LINEAR.norm(starts)), values.argmax(1)
    w = f.coefficients.T @ x.flatten(1)  # (classes, pixels)
    for start, radius, c, row in zip(starts, certified, own, values, strict=True):
        ratios = [(row[c] - row[k]) / (w[c] - w[k]).norm() if k != c else math.inf for k in range(3)]
        k = min(range(3), key=ratios.__getitem__)
        direction = ((w[k] - w[c]) / (w[k] - w[c]).norm()).view(1, 1, 4, 6)
        assert f(start + radius * (1 - 1e-6) * direction).argmax() == c
        assert f(start + radius * (1 + 1e-6) * direction).argmax() == k


@pytest.mark.parametrize("normalised", [False, True])
def test_nothing_nearer_than_the_certified_distance_has_another_label(normalised, generator):
    (x, labels), phi = data(generator, 6), st.GramCKN(ARCH)
    f = st.Predictor.fit(phi, x, labels, st.KernelRidge(0.01), normalised=normalised)
    values, norms = f(x), phi.norm(x)
    certified, own = f.certified_distance(values, norms), f.labels(values)
    ends = x[:, None] + 10.0 ** torch.linspace(-2, 1, 10).double().view(1, 10, 1, 1, 1) * pictures(generator, 10)
    nearer = phi.reference(x).distance(ends) < certified[:, None]
    same = f.labels(f(ends.flatten(0, 1))).view(6, 10) == own[:, None]
    assert same[nearer].all()
    assert nearer.sum() > 6
    assert not same[~nearer].all()


def test_certified_distances_of_directions_are_turned_into_distances(generator):
    f = st.Predictor(LINEAR, pictures(generator, 1), torch.tensor([[1.0, -1.0]]), normalised=True)  # |f_0 - f_1| = 2
    values = torch.tensor([[1.2, -1.2], [1.8, -1.8], [2.1, -2.1], [0.0, 0.0]]).double()  # t = gap / 2
    expected = torch.tensor([3 * 0.96, 3.0, math.inf, 0.0]).double()  # sin(2 arcsin(0.6)) = 0.96
    torch.testing.assert_close(f.certified_distance(values, torch.full((4,), 3.0)), expected)


def test_chords_of_a_ball_are_largest_on_its_tangent(generator):
    u = torch.randn(5, generator=generator).double()
    norm = u.norm()
    for d in (0.01, 0.3, 0.9, 0.999):
        radius = d * norm
        v = u + radius * torch.nn.functional.normalize(torch.randn(4000, 5, generator=generator).double(), dim=1)
        chords = (torch.nn.functional.normalize(v, dim=1) - u / norm).norm(dim=1)
        largest = largest_chord(radius, norm)
        assert (chords <= largest * (1 + 1e-12)).all()
        across = torch.nn.functional.normalize(v[0] - (v[0] @ u) / norm**2 * u, dim=0)
        tangent = u * (1 - d**2) + across * norm * d * math.sqrt(1 - d**2)  # |u - v| = d |u|, v orthogonal to v - u
        torch.testing.assert_close((tangent - u).norm(), radius, rtol=1e-12, atol=0)
        torch.testing.assert_close((tangent / tangent.norm() - u / norm).norm(), largest, rtol=1e-10, atol=0)
        torch.testing.assert_close(safe_distance(largest, norm), radius, rtol=1e-10, atol=0)
    assert largest_chord(norm, norm) == 2.0


def test_rounding_a_matrix_does_not_make_the_norm_smaller(generator):
    x, a, phi = pictures(generator, 8), torch.randn(8, 4, generator=generator).double(), st.GramCKN(ARCH)
    exact = st.Predictor(phi, x, a).norms
    rough = st.Predictor(phi, x, a, matrix=st.kernel_matrix(phi, x, dtype=torch.float32)).norms
    assert (rough >= exact).all()
    assert (rough <= 1.1 * exact).all()


# --- cross-validation --------------------------------------------------------------------------------------------


def test_cross_validation_counts_images_that_were_not_seen(generator):
    x, labels = data(generator, 15)
    gram = LINEAR.kernel_matrix(x)
    chosen = [st.KernelRidge(10.0), st.KernelRidge(0.1)]
    found = st.cross_validate(gram, labels, chosen, folds=3, generator=torch.Generator().manual_seed(5))
    fold = deal(labels - 7, 3, torch.Generator().manual_seed(5))
    for method, accuracy in zip(chosen, found.accuracies, strict=True):
        hits = 0
        for i in range(15):  # one image at a time, its whole fold left out
            seen = fold != fold[i]
            system = gram[seen][:, seen] + method.penalty * torch.eye(int(seen.sum())).double()
            value = gram[i, seen] @ torch.linalg.solve(system, targets(labels)[seen])
            hits += int(value.argmax() == labels[i] - 7)
        assert accuracy == pytest.approx(hits / 15)


def test_every_class_is_dealt_out_evenly():
    labels = torch.tensor([0] * 10 + [1] * 20 + [2] * 5)
    fold = deal(labels, 5, torch.Generator().manual_seed(0))
    for c, each in ((0, 2), (1, 4), (2, 1)):
        assert torch.bincount(fold[labels == c], minlength=5).tolist() == [each] * 5
    assert not torch.equal(fold, deal(labels, 5, torch.Generator().manual_seed(1)))


def test_cross_validation_prefers_what_generalises_and_then_the_first(generator):
    x = torch.randn(80, 1, 2, 2, generator=generator, dtype=torch.float64)
    labels = (x[:, 0, 0, 0] > 0).long()
    gram = LINEAR.kernel_matrix(x)
    hopeless, good = torch.eye(80).double(), gram  # under the identity no image says anything of another
    chosen = [st.KernelRidge(1.0), st.KernelRidge(0.5)]
    assert st.cross_validate(good, labels, chosen, generator=generator).accuracies[0] > 0.9
    found = st.cross_validate(hopeless, labels, chosen, generator=generator)
    assert found.accuracies[0] == found.accuracies[1] < 0.8
    assert found.best == chosen[0]


def test_a_class_of_one_image_may_be_held_out(generator):
    x, labels = pictures(generator, 5), torch.tensor([0, 0, 1, 1, 2])
    assert 0 <= st.cross_validate(LINEAR.kernel_matrix(x), labels, METHODS, generator=generator).accuracies[0] <= 0.8


# --- arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda x: st.KernelRidge(0.0), "penalty must be a positive"),
        (lambda x: st.SupportVectorMachine(math.inf), "cost must be a positive"),
        (lambda x: st.Predictor(LINEAR, x, torch.ones(2)), "coefficients must be finite, one row per image"),
        (lambda x: st.Predictor(LINEAR, x, torch.full((3,), math.nan)), "coefficients must be finite"),
        (lambda x: st.Predictor(LINEAR, x, torch.ones(3, 2), intercepts=torch.ones(3)), "intercepts must have shape"),
        (lambda x: st.Predictor(LINEAR, x, torch.ones(3, 2), classes=torch.ones(1)), "classes must have shape"),
        (lambda x: st.Predictor(LINEAR, x, torch.ones(3), matrix=torch.eye(2)), r"matrix must be \(3, 3\)"),
        (lambda x: st.Predictor(LINEAR, x, torch.ones(3))(x, cross=torch.ones(2, 3)), r"cross must be \(3, 3\)"),
        (lambda x: st.Predictor.fit(LINEAR, x, torch.zeros(3).long(), METHODS[0]), "at least two classes"),
        (lambda x: st.Predictor.fit(LINEAR, x, torch.arange(3.0), METHODS[0]), "labels must be"),
        (
            lambda x: st.Predictor(LINEAR, x, torch.ones(3)).margins(torch.ones(1, 1), torch.tensor([4])),
            "labels must be among",
        ),
        (
            lambda x: st.cross_validate(torch.eye(3), torch.arange(3), METHODS, folds=4, generator=torch.Generator()),
            "folds must lie in",
        ),
        (
            lambda x: st.cross_validate(torch.eye(3), torch.arange(3), [], generator=torch.Generator()),
            "methods must hold",
        ),
        (lambda x: st.cross_validate(x[0, 0], torch.arange(3), METHODS, generator=torch.Generator()), "matrix must be"),
    ],
)
def test_wrong_arguments_are_told(run, message, generator):
    with pytest.raises(ValueError, match=message):
        run(pictures(generator, 3))


def test_normalising_gives_a_diagonal_of_ones(generator):
    x, phi = pictures(generator, 4), st.GramCKN(ARCH)
    unit = normalise(phi.kernel_matrix(x), phi.norm(x), phi.norm(x))
    torch.testing.assert_close(unit.diagonal(), torch.ones(4).double(), rtol=1e-12, atol=0)
