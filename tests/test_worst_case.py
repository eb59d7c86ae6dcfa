"""Worst-case search: constraints, known maximisers, gradients, monotone ascent, and what it refuses."""

import math

import pytest
import torch
from torch import nn

import stability as st
from stability.deformations.linear_step import linear_step
from stability.deformations.triangulation import largest_displacement, largest_gradient
from stability.search.compared import compared
from stability.search.constraints import TranslationFree
from stability.search.families import Fourier, PiecewiseLinear
from stability.search.frank_wolfe import Phase, _searched, ascend
from stability.search.grids import Translations
from stability.search.objectives import Angle, AtFixedNorm, Change, Distance, DistanceOverPairs, Margin
from stability.search.problem import Problem
from stability.search.starts import Given, Linearised, Saturated, signed
from stability.search.worst import worst_case

SIZE = (16, 16)


def photographs(count=2, size=SIZE):
    return st.images.load("fashion", count=count, size=size)


def network(generator, x):
    return st.CKN.fit(st.Architecture.dyadic(depth=2), x, filters=(8, 12), generator=generator)


def small_cnn():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4 * 64, 3)
    ).double()


def search(representation, x, generator, a=1.0, b=0.25, **keywords):
    settings = {"starts": (Saturated(2), Linearised(1, 2)), "steps": 5, **keywords}
    return worst_case(representation, x, displacement_norm=a, jacobian_norm=b, generator=generator, **settings)


DISTANCE, CUBIC = Distance(), st.SplineWarp()


def problem(representation, x, objective=DISTANCE, warp=CUBIC, a=1.0, b=0.25, lattice=None):
    norms = [torch.full((len(x),), value, dtype=torch.float64) for value in (a, b)]
    space = PiecewiseLinear(lattice).space(tuple(x.shape[2:]), *norms)
    score = objective.score(compared(representation, x), x)
    return Problem(score, x, warp, space, torch.arange(len(x)))


class Gradient(nn.Module):
    """The image itself: with the tangent of the warp, tau -> -<tau, grad x> is linear and pointwise."""

    def forward(self, x):
        return x.double()


class Functional(nn.Module):
    """<c, x>, one number."""

    def __init__(self, c):
        super().__init__()
        self.c = nn.Parameter(c, requires_grad=False)

    def forward(self, x):
        return (x * self.c).flatten(1).sum(1, keepdim=True)


@pytest.mark.parametrize(("a", "b"), [(1.0, 0.1), (2.0, 0.25), (0.5, 0.5)])
def test_the_field_meets_both_norms_and_has_the_value(a, b, generator):
    x = photographs()
    ckn = network(generator, x)
    found = search(ckn, x, generator, a, b, steps=3)
    values, cells = found.field.values, (1.0, 1.0)
    assert bool((largest_displacement(values) <= a * (1 + 1e-12)).all())
    assert bool((largest_gradient(values, cells) <= b * (1 + 1e-12)).all())
    assert torch.allclose(found.displacement_norm, largest_displacement(values), rtol=1e-14, atol=0)
    distance = ckn.distance(x, st.SplineWarp()(x, found.field))
    assert torch.allclose(found.largest_found, distance, rtol=1e-9)
    assert torch.allclose(found.distance, distance, rtol=1e-9)
    assert bool((found.largest_found == found.of_starts.amax(1)).all())


@pytest.mark.slow
def test_it_beats_random_fields(generator):
    x = photographs()
    ckn = network(generator, x)
    found = search(ckn, x, generator, 2.0, 0.25)
    law = {"displacement_norm": 2.0, "jacobian_norm": 0.25, "batch_shape": (200,), "generator": generator}
    random = ckn.reference(x).distance(st.SplineWarp()(x[:, None], st.MixedField.sample(SIZE, **law)))
    assert bool((found.largest_found > 1.3 * random.amax(1)).all())


def test_the_trace_never_falls_and_starts_at_the_better_sign(generator):
    x = photographs()
    found = search(network(generator, x), x, generator, steps=4)
    assert found.trace.shape[1:] == (2, 3)
    assert bool((found.trace.diff(dim=0) >= 0).all())
    at = problem(network(generator, x), x)
    drawn = at.space.directions(generator)
    drawn = at.space.step(drawn, None, 20).parameters
    best = at.values(signed(at, drawn))
    assert torch.equal(best, torch.maximum(at.values(drawn), at.values(-drawn)))


def test_the_last_phase_goes_on_with_the_best_start_of_each_image(generator):
    x = photographs()
    ckn = network(generator, x)
    norms = [torch.full((6,), value, dtype=torch.float64) for value in (1.0, 0.25)]
    score = Distance().score(compared(ckn, x), x)
    owner = torch.tensor([0, 0, 0, 1, 1, 1])
    at = Problem(score, x, CUBIC, PiecewiseLinear().space(SIZE, *norms), owner)
    drawn = at.space.step(at.space.directions(generator), None, 20).parameters
    drawn[2] = drawn[1]  # a tie
    ascent = ascend(at, drawn, 6, (Phase(20, 10.0), Phase(20, 1e-6, best=True)))
    before, after = ascent.trace[1], ascent.trace[-1]
    moved = (after > before).nonzero()[:, 0].tolist()
    best = [int(before[:3].argmax()), 3 + int(before[3:].argmax())]
    assert moved == best
    assert torch.allclose(at.values(ascent.parameters), after, rtol=1e-12)


def test_without_a_gradient_constraint_every_pixel_goes_along_the_image_gradient(generator):
    x = photographs(1)
    warp = st.TangentPerturbation()
    found = search(Gradient().double(), x, generator, 0.5, 100.0, warp=warp, steps=20)
    units = torch.eye(2, dtype=torch.float64)
    slopes = [warp(x, st.Translation(e, size=SIZE)) - x for e in units]
    expected = 0.5 * torch.stack(slopes).norm()
    assert found.largest_found.item() == pytest.approx(expected.item(), rel=1e-3)


@pytest.mark.slow
def test_one_functional_has_the_linear_step_as_its_worst_field(generator):
    x = photographs(1)
    c = st.images.load("fashion", count=2, size=SIZE)[1]
    found = search(Functional(c), x, generator, 1.0, 0.2, warp=st.TangentPerturbation(), steps=20)
    slopes = [st.TangentPerturbation()(x, st.Translation(e, size=SIZE)) - x for e in torch.eye(2, dtype=torch.float64)]
    direction = torch.stack([(slope * c)[0, 0] for slope in slopes], -1)[None]
    bound = linear_step(direction, (1.0, 1.0), 1.0, 0.2, iterations=2000)
    assert 0.97 * bound.upper.item() <= found.largest_found.item() <= bound.upper.item()


def test_an_invariant_representation_gives_zero(generator):
    class Blind(nn.Module):
        def forward(self, x):
            return 0.0 * x.flatten(1) + 1.0

    found = search(Blind(), photographs(), generator)
    assert bool((found.largest_found == 0).all())
    assert bool((found.angle == 0).all())
    assert bool(found.spread.isnan().all())


def objectives():
    return [
        Distance(), Angle(), DistanceOverPairs(2.0), Change(nn.Identity()), Margin(nn.Identity(), 1),
        AtFixedNorm(Distance()), AtFixedNorm(Angle()),
    ]  # fmt: skip


@pytest.mark.parametrize("objective", objectives(), ids=lambda objective: type(objective).__name__)
def test_gradients_of_every_objective_agree_with_differences(objective, generator):
    x = photographs()
    at = problem(small_cnn(), x, objective)
    check_gradients(at, generator)


@pytest.mark.parametrize("objective", [Distance(), Angle()], ids=["distance", "angle"])
@pytest.mark.parametrize("kind", ["ckn", "exact", "tangent kernel", "linear"])
def test_gradients_of_every_kind_of_representation_agree_with_differences(kind, objective, generator):
    x = photographs(2, (8, 8)) + 0.1
    arch = st.Architecture((st.Layer(3, 1.0, 1), st.Layer(3, 1.5, 1)), 0.7)
    representation = {
        "ckn": lambda: st.CKN.fit(arch, x, filters=(6, 8), generator=generator),
        "exact": lambda: st.GramCKN(arch),
        "tangent kernel": lambda: st.GramNTK(arch),
        "linear": lambda: st.LinearGram(arch),
    }[kind]()
    check_gradients(problem(representation, x, objective), generator)


def check_gradients(at, generator):
    tau = at.space.step(at.space.directions(generator), None, 20).parameters
    direction = at.space.directions(generator)
    _, gradient = at.gradients(tau)
    h = 1e-5
    difference = (at.values(tau + h * direction) - at.values(tau - h * direction)) / (2 * h)
    slope = (gradient * direction).flatten(1).sum(1)
    assert torch.allclose(slope, difference, rtol=1e-4, atol=1e-8)
    assert bool((slope.abs() > 1e-6).all())


@pytest.mark.slow
def test_a_coarser_lattice_gives_less_and_meets_its_norms(generator):
    x = photographs(1)
    ckn = network(generator, x)
    fine = search(ckn, x, generator)
    coarse = search(ckn, x, generator, fields=PiecewiseLinear(8))
    assert coarse.field.lattice == (8, 8)
    assert bool((coarse.jacobian_norm <= 0.25 * (1 + 1e-12)).all())
    assert bool(coarse.largest_found < fine.largest_found)


def test_the_exact_kernel_is_searched_and_its_distance_is_that_of_the_representation(generator):
    x = photographs(1, (8, 8))
    gram = st.GramCKN(st.Architecture((st.Layer(3, 1.0, 2), st.Layer(3, 1.0))))
    found = search(gram, x, generator, steps=3)
    assert found.distance.item() == pytest.approx(gram.distance(x, st.SplineWarp()(x, found.field)).item(), rel=1e-9)
    assert found.distance > gram.distance(x, st.SplineWarp()(x, -found.field)) * 0.999
    cosine = gram.kernel(x, st.SplineWarp()(x, found.field)) / gram.norm(x) / gram.norm(st.SplineWarp()(x, found.field))
    assert found.angle.item() == pytest.approx(math.acos(cosine.item()), rel=1e-5)


def test_signals_are_searched(generator):
    x = torch.rand(2, 1, 24, generator=generator, dtype=torch.float64)
    ckn = st.CKN.fit(st.Architecture.dyadic(depth=1), x, filters=(6,), generator=generator)
    found = search(ckn, x, generator)
    assert found.field.size == (24,)
    assert bool((found.largest_found > 0).all())


def test_norms_may_differ_between_images(generator):
    x = photographs()
    found = search(network(generator, x), x, generator, torch.tensor([0.5, 2.0]), torch.tensor([0.3, 0.1]))
    assert bool((found.displacement_norm <= torch.tensor([0.5, 2.0])).all())
    assert bool((found.jacobian_norm <= torch.tensor([0.3, 0.1])).all())


def test_a_given_field_is_a_start_and_is_never_made_worse(generator):
    x = photographs()
    ckn = network(generator, x)
    field = st.MixedField.sample(SIZE, displacement_norm=1.0, jacobian_norm=0.25, batch_shape=(2,), generator=generator)
    found = search(ckn, x, generator, starts=(Given(field),))
    start = PiecewiseLinear().space(SIZE, *torch.tensor([[1.0, 1.0], [0.25, 0.25]], dtype=torch.float64)).inside(field)
    given = st.PiecewiseLinearField(start, SIZE)
    assert bool((found.largest_found >= ckn.distance(x, st.SplineWarp()(x, given)) * (1 - 1e-12)).all())


def test_equal_generators_give_equal_results(generator):
    x = photographs()
    ckn = network(generator, x)
    first, second = (search(ckn, x, torch.Generator().manual_seed(3), steps=2) for _ in range(2))
    assert torch.equal(first.field.values, second.field.values)
    assert first.gradient_evaluations == second.gradient_evaluations > 0


def test_the_table_calls_the_value_a_lower_bound(generator):
    x = photographs()
    found = search(network(generator, x), x, generator, steps=1)
    frame = found.to_frame()
    assert list(frame["meaning"].unique()) == ["lower bound of the supremum"]
    assert bool(frame["search"].all())
    assert not any("worst" in name for name in frame.columns)
    assert "lower bound" in repr(found)
    assert torch.allclose(found.relative, found.distance / x.flatten(1).norm(dim=1))


EXACT = st.GramCKN(st.Architecture.dyadic(depth=1))


class Rooted(nn.Module):
    """sqrt of a rectified image, whose derivative is 0 times infinity at its zeros."""

    def forward(self, x):
        return (x.relu() * 0.0).sqrt().flatten(1) + x.flatten(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": 0 * photographs()}, "images must not be 0"),
        ({"x": photographs()[0, 0]}, "images must"),
        ({"a": 0.0}, "displacement_norm must be positive"),
        ({"b": math.inf}, "jacobian_norm must be positive"),
        ({"a": torch.ones(3)}, "displacement_norm must be one number or one for each of 2 images"),
        ({"steps": 0}, "steps must be"),
        ({"starts": ()}, "starts must"),
        ({"objective": "distance"}, "objective must be"),
        ({"warp": None}, "warp must be"),
        ({"representation": Rooted()}, "gradient of the objective must be finite"),
        ({"representation": nn.Conv2d(1, 1, 1).requires_grad_(False), "objective": Margin(nn.Flatten(), 999)}, "label"),
        (
            {"representation": st.GramCKN(st.Architecture.dyadic(depth=1)), "objective": Change(nn.Identity())},
            "features",
        ),
    ],
)
def test_wrong_input_is_told(change, message, generator):
    given = {"representation": small_cnn(), "x": photographs(), **change}
    with pytest.raises(ValueError, match=message):
        search(given.pop("representation"), given.pop("x"), generator, **given)


def test_a_representation_without_a_graph_is_told(generator):
    class Closed(nn.Module):
        @torch.no_grad()
        def forward(self, x):
            return x.flatten(1)

    with pytest.raises(ValueError, match="gradients through"):
        search(Closed(), photographs(), generator)


def test_a_line_search_begins_one_length_before_the_last_one_that_helped():
    """f(t) = -|t - target| along a segment of length 1, for targets that ask for ever shorter steps."""
    seen = []

    class Line:
        def __init__(self, targets):
            self.targets = targets

        def __getitem__(self, rows):
            return Line(self.targets[rows])

        def values(self, parameters):
            seen.append(parameters[:, 0].tolist())
            return -(parameters[:, 0] - self.targets).abs()

    targets = torch.tensor([1.0, 0.15, 0.01], dtype=torch.float64)
    start, end = torch.zeros(3, 1, dtype=torch.float64), torch.ones(3, 1, dtype=torch.float64)
    found, best, first = _searched(Line(targets), start, end, -targets, torch.tensor([0, 1, 3]))
    assert seen == [[1.0, 0.4, 0.064], [0.16]]
    assert found[:, 0].tolist() == [1.0, 0.16, 0.0]
    assert torch.allclose(best, torch.tensor([0.0, -0.01, -0.01], dtype=torch.float64))
    assert first.tolist() == [0, 1, 2]


@pytest.mark.parametrize("fields", [Fourier(2), PiecewiseLinear(6), PiecewiseLinear()], ids=repr)
def test_no_search_ends_below_a_few_translations(fields, generator):
    # a smooth signal, on which ascents in few dimensions end below a shift
    u = torch.arange(40, dtype=torch.float64) * 2 * math.pi / 40
    x = (torch.sin(u) + 0.5 * torch.cos(2 * u)).reshape(1, 1, 40).repeat(2, 1, 1)
    x[1] = torch.randn(40, generator=generator, dtype=torch.float64)
    weights = torch.randn(4, 1, 5, generator=generator, dtype=torch.float64)

    class Filters(nn.Module):
        def forward(self, y):
            return nn.functional.softplus(nn.functional.conv1d(nn.functional.pad(y, (2, 2), mode="circular"), weights))

    ray = {"displacement_norm": torch.tensor([1.2, 3.0]), "jacobian_norm": 0.35, "generator": generator}
    found = worst_case(Filters(), x, fields=fields, starts=(Saturated(2),), steps=2, **ray)
    shifts = worst_case(Filters(), x, fields=Translations(16, 2), **ray)
    assert bool((found.largest_found >= shifts.largest_found * (1 - 1e-6)).all())
    assert bool((found.displacement_norm <= ray["displacement_norm"]).all())
    assert bool((found.trace.diff(dim=0) >= 0).all())
    assert torch.equal(found.trace[-1], found.of_starts)


def test_constraints_hold_where_translations_are_looked_at(generator):
    x = torch.randn(1, 1, 10, 10, generator=generator, dtype=torch.float64)
    given = {"displacement_norm": 3.0, "jacobian_norm": 0.1, "starts": (Saturated(1),), "steps": 1}
    free = {"fields": Fourier(2), "constraints": [TranslationFree()]}
    found = worst_case(nn.Identity(), x, generator=generator, **given, **free)
    assert float(found.field.on_grid().mean((0, 1, 2)).abs().max()) < 1e-9
