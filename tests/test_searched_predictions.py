"""Predictors of a kernel as what a search makes lose its margin: outputs, gradients, flipped labels, both radii."""

import pytest
import torch

import stability as st
from stability import search
from stability.search.compared import compared
from stability.search.heads import outputs_of

SIZE = (8, 8)
QUICK = {"starts": (search.Saturated(2),), "steps": 4, "displacement_norm": 1.0, "jacobian_norm": 0.5}
ONE = st.Architecture((st.Layer(3, 1.0),))
TWO = st.Architecture((st.Layer(3, 1.0, 2), st.Layer(2, 1.0)))
LABELS = torch.tensor([3, 8, 5, 3, 8, 5])


def photographs(count=6):
    return st.grid.band_limit(st.images.load("fashion", count=count, size=SIZE))


def finite(x, generator):
    return st.CKN.fit(ONE, x, filters=(8,), generator=generator)


KERNELS = {
    "gram": lambda x, generator: st.GramCKN(TWO),
    "ntk": lambda x, generator: st.GramNTK(ONE),
    "linear": lambda x, generator: st.LinearGram(ONE),
    "ckn": finite,
}


@pytest.fixture(params=KERNELS)
def representation(request, generator):
    return KERNELS[request.param](photographs(), generator)


def fitted(representation, x, normalised=True):
    return st.Predictor.fit(representation, x, LABELS, st.KernelRidge(1e-2), normalised=normalised)


@pytest.mark.parametrize("normalised", [True, False])
def test_outputs_are_those_of_the_predictor(representation, generator, normalised):
    x = photographs()
    f = fitted(representation, x, normalised)
    y = x[:2] + 0.1 * torch.randn(2, 1, *SIZE, generator=generator, dtype=torch.float64)
    outputs = outputs_of(f, compared(representation, x[:1]))
    assert torch.allclose(outputs(y), f(y), rtol=1e-9, atol=1e-9)
    graph = outputs(y.clone().requires_grad_())
    assert graph.requires_grad
    assert torch.allclose(graph, f(y), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("normalised", [True, False])
def test_gradients_agree_with_finite_differences(representation, generator, normalised):
    x = photographs()
    outputs = outputs_of(fitted(representation, x, normalised), compared(representation, x[:1]))
    y = (x[1:2] + 0.3 + 0.1 * torch.randn(1, 1, *SIZE, generator=generator, dtype=torch.float64)).requires_grad_()
    towards = torch.randn(3, generator=generator, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(outputs(y) @ towards, y)
    v = torch.randn(y.shape, generator=generator, dtype=torch.float64)
    h = 1e-5
    with torch.no_grad():
        slope = (outputs(y + h * v) - outputs(y - h * v)) @ towards / (2 * h)
    assert float((gradient * v).sum()) == pytest.approx(float(slope), rel=1e-5)


def test_images_without_a_coefficient_cost_nothing(generator):
    x = photographs()
    gram = st.GramCKN(ONE)
    coefficients = torch.zeros(6, 2, dtype=torch.float64)
    coefficients[2], coefficients[4] = torch.tensor([1.0, -1.0]), torch.tensor([0.5, 2.0])
    few = st.Predictor(gram, x, coefficients, intercepts=torch.tensor([0.1, 0.2]))
    fixed = compared(gram, x[:1])
    asked = []
    whole = fixed.kernels
    fixed.kernels = lambda anchors: (asked.append(len(anchors)), whole(anchors))[1]
    assert torch.allclose(outputs_of(few, fixed)(x), few(x))
    assert asked == [2]


def test_of_many_images_one_pair_is_held(generator):
    x = photographs()
    gram = st.GramCKN(TWO)
    outputs = outputs_of(fitted(gram, x), compared(gram, x[:1]))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.numel()), t)[1], lambda t: t):
        outputs(x[:1].clone().requires_grad_())
    assert max(kept) <= x[0].numel()


def test_an_image_of_which_nothing_is_left_has_the_intercepts():
    x = photographs()
    linear = st.LinearGram(ONE)
    f = fitted(linear, x)
    y = torch.zeros(1, 1, *SIZE, dtype=torch.float64, requires_grad=True)
    found = outputs_of(f, compared(linear, x[:1]))(y)
    assert torch.allclose(found[0], f.intercepts)
    assert not torch.autograd.grad(found.sum(), y)[0].any()


@pytest.mark.parametrize("kind", ["gram", "ckn"])
def test_a_search_finds_what_a_prediction_loses(kind, generator):
    x = photographs()
    representation = KERNELS[kind](x, generator)
    f = fitted(representation, x)
    margin = search.Margin(f, LABELS[:2])
    found = st.worst_case(representation, x[:2], generator=generator, objective=margin, **QUICK)
    before, after = (f.margins(f(y), LABELS[:2]) for y in (x[:2], st.SplineWarp()(x[:2], found.field)))
    assert torch.allclose(found.largest_found, before - after, atol=1e-9)
    assert bool((found.largest_found > 0).all())
    change = st.worst_case(representation, x[:2], generator=generator, objective=search.Change(f), **QUICK)
    moved = (f(st.SplineWarp()(x[:2], change.field)) - f(x[:2])).norm(dim=1)
    assert torch.allclose(change.largest_found, moved, atol=1e-9)


def test_the_change_of_a_prediction_is_at_most_its_norm_times_the_distance(generator):
    x = photographs()
    gram = st.GramCKN(ONE)
    f = fitted(gram, x)
    found = st.worst_case(gram, x[:2], generator=generator, objective=search.Change(f), **QUICK)
    bound = f.prediction_change_bound(found.distance, norm=found.norm_phi, floor=found.floor)
    assert bool((found.largest_found <= bound.value.norm(dim=1)).all())


@pytest.mark.parametrize("kind", [pytest.param("gram", marks=pytest.mark.slow), "ckn"])
def test_labels_flip_between_the_certified_and_the_found_size(kind, generator):
    x = photographs()
    representation = KERNELS[kind](x, generator)
    f = fitted(representation, x)
    ray = {"displacement_norm": 3.0, "jacobian_norm": 0.9}
    radii = st.robustness_radius(
        representation, f, x[:3], LABELS[:3], **ray, generator=generator, starts=(search.Saturated(2),), kept=2,
        steps=4, sizes=(0.3, 1.0),
    )  # fmt: skip
    assert radii.predicted.tolist() == [3, 8, 5]
    assert bool((radii.certified < radii.found).all())
    assert bool(torch.isfinite(radii.found).any())
    assert not bool(radii.contradictory.any())
    smallest = radii.smallest
    after = st.BandLimitedWarp()(x[:3], smallest.field)
    margins = f.margins(f(after), LABELS[:3])
    assert bool((margins[torch.isfinite(smallest.size)] <= 1e-9).all())
    assert bool((margins[torch.isinf(smallest.size)] > 0).all())


def test_predictors_of_another_representation_and_other_labels_are_told(generator):
    x = photographs()
    f = fitted(st.GramCKN(ONE), x)
    with pytest.raises(ValueError, match=r"must be that of the predictor, got another; pass predictor\.representation"):
        st.worst_case(st.GramCKN(ONE), x[:1], generator=generator, objective=search.Change(f), **QUICK)
    with pytest.raises(ValueError, match=r"label must be a class among \[3, 5, 8\], got \[0\]"):
        st.worst_case(f.representation, x[:1], generator=generator, objective=search.Margin(f, 0), **QUICK)
    one = st.Predictor(f.representation, x, torch.ones(6, dtype=torch.float64))
    with pytest.raises(ValueError, match="at least two outputs for a margin, got 1"):
        st.worst_case(f.representation, x[:1], generator=generator, objective=search.Margin(one, 0), **QUICK)
    other = st.images.load("fashion", count=1, size=(10, 10))
    with pytest.raises(ValueError, match=r"images must have shape \(B, 1, 8, 8\) like those of the fit"):
        st.worst_case(f.representation, other, generator=generator, objective=search.Change(f), **QUICK)


class Flattened(torch.nn.Module):
    def forward(self, images):
        return images.flatten(1)


@pytest.mark.parametrize("layer", [torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(64)], ids=["dropout", "batch norm"])
def test_heads_are_asked_in_evaluation_mode_and_left_as_they_were(layer, generator):
    x = photographs(2)
    head = torch.nn.Sequential(layer, torch.nn.Linear(64, 3)).double()
    states = [value.clone() for value in head.state_dict().values()]
    found = []
    for mode in (True, False):
        change, same = search.Change(head.train(mode)), torch.Generator().manual_seed(0)
        found.append(st.worst_case(Flattened(), x, objective=change, generator=same, **QUICK).largest_found)
    assert torch.equal(*found)
    assert not head.training
    search.Change(head.train()).score(compared(Flattened(), x), x)
    assert head.training
    assert all(torch.equal(a, b) for a, b in zip(states, head.state_dict().values(), strict=True))
    label = head.eval()(x.flatten(1)).argmax(1)
    search.Flip(head.train(), label).level(compared(Flattened(), x), x)  # what is predicted in evaluation mode


def test_a_head_without_a_graph_is_told_as_one(generator):
    def head(features):
        return features.flatten(1)[:, :3].detach()

    with pytest.raises(ValueError, match="the representation and the head must let gradients through"):
        st.worst_case(Flattened(), photographs(1), generator=generator, objective=search.Change(head), **QUICK)
