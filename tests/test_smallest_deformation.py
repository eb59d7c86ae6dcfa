"""The largest objective versus size, and the smallest size at which a target is reached."""

import pytest
import torch
from torch import nn

import stability as st
from stability.search.constraints import DivergenceFree, FixedBorder, TranslationFree
from stability.search.curve import worst_case_curve
from stability.search.families import Fourier, PiecewiseLinear, Spline
from stability.search.grids import Translations
from stability.search.objectives import Angle
from stability.search.smallest import Flip, Level, smallest_deformation
from stability.search.starts import Saturated

pytestmark = pytest.mark.slow

SIZE = (8, 8)
FEW = {"starts": (Saturated(2),), "steps": 4, "displacement_norm": 1.0, "jacobian_norm": 0.5}


def photographs(count=2):
    return st.images.load("fashion", count=count, size=SIZE)


def network(generator, x):
    return st.CKN.fit(st.Architecture.dyadic(depth=1), x, filters=(8,), generator=generator)


class Identity(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Parameter(torch.ones((), dtype=torch.float64), requires_grad=False)

    def forward(self, x):
        return x


class Classes(nn.Module):
    """Three linear functions, none of which is 0 at the image."""

    def __init__(self, generator):
        super().__init__()
        weights = torch.randn(3, 64, generator=generator, dtype=torch.float64)
        self.weights = nn.Parameter(weights, requires_grad=False)

    def forward(self, x):
        return x.flatten(1) @ self.weights.T


def test_the_curve_never_falls_and_its_fields_have_their_sizes(generator):
    x = photographs()
    curve = worst_case_curve(network(generator, x), x, generator=generator, sizes=(0.1, 0.5, 0.6, 1.0), **FEW)
    assert curve.largest_found.shape == (4, 2)
    assert bool((curve.largest_found.diff(dim=0) >= 0).all())
    for t, found in zip((0.1, 0.5, 0.6, 1.0), curve.found, strict=True):
        assert bool((found.displacement_norm <= t).all())
        assert bool((found.jacobian_norm <= 0.5 * t).all())
    assert len(curve.to_frame()) == 8


@pytest.mark.slow
def test_a_linear_objective_reaches_its_level_at_the_known_size(generator):
    # with the tangent of the warp and no constraint on gradients the maximum over C(t a, .) is t a ||grad x||
    x = photographs()
    warp = st.TangentPerturbation()
    units = torch.eye(2, dtype=torch.float64)
    slopes = torch.stack([warp(x, st.Translation(e, size=SIZE)) - x for e in units])
    level = 0.3 * slopes.square().sum((0, 2, 3, 4)).sqrt()
    settings = {**FEW, "jacobian_norm": 100.0, "steps": 12, "sizes": (0.2, 0.6, 1.0)}
    found = smallest_deformation(Identity(), x, Level(level), generator=generator, warp=warp, **settings)
    assert torch.allclose(found.size, torch.full((2,), 0.3, dtype=torch.float64), rtol=2e-3)
    assert bool((found.size >= 0.3 * (1 - 1e-9)).all())


def test_a_ray_that_does_not_reach_the_target_has_no_size(generator):
    """The curve ends just below the level of the first image, a later search reaches it."""
    x = photographs(3)
    ckn = network(generator, x)
    given = {"displacement_norm": 2.0, "jacobian_norm": 0.5, "starts": (Saturated(1),), "steps": 1}
    curve = worst_case_curve(ckn, x, generator=torch.Generator().manual_seed(2), sizes=(0.98, 1.0), **given)
    level = curve.largest_found[-1] * torch.tensor([1.003, 0.5, 0.5])
    found = smallest_deformation(
        ckn, x, Level(level), generator=torch.Generator().manual_seed(2), sizes=(0.98, 1.0), partial=True, **given
    )
    assert bool(torch.isfinite(found.size).all())
    assert torch.isfinite(found.along_ray).tolist() == [False, True, True]


def test_the_field_reaches_the_level_at_the_stated_size(generator):
    x = photographs()
    ckn = network(generator, x)
    target = Level(0.1, Angle())
    found = smallest_deformation(ckn, x, target, generator=generator, sizes=(0.25, 1.0), **FEW)
    assert bool((found.reached >= 0.1 * (1 - 1e-9)).all())
    assert bool((found.size <= found.along_ray).all())
    norms = found.field.norms()
    assert bool((norms.displacement.upper <= found.displacement_norm * (1 + 1e-9)).all())
    assert bool((norms.jacobian.upper <= found.jacobian_norm * (1 + 1e-9)).all())
    assert torch.allclose(found.displacement_norm, found.size)
    assert "upper value" in repr(found)
    below = st.SplineWarp()(x, found.field.scaled(0.9))
    vectors, other = ckn.vectors(x), ckn.vectors(below)
    cosine = (vectors * other).sum(1) / vectors.norm(dim=1) / other.norm(dim=1)
    assert bool((torch.acos(cosine) < 0.1).all())


@pytest.mark.slow
def test_a_prediction_flips(generator):
    x = photographs()
    network = Classes(generator)
    label = network(x).argmax(1)
    found = smallest_deformation(network, x, Flip(nn.Identity(), label), generator=generator, **FEW | BIG)
    outputs = network(st.SplineWarp()(x, found.field))
    others = outputs.scatter(1, label[:, None], -torch.inf).amax(1)
    margins = (outputs.gather(1, label[:, None])[:, 0] - others).detach()
    assert bool((margins <= 1e-9).all())
    assert bool((margins > -0.05 * found.level).all())


BIG = {"displacement_norm": 3.0, "jacobian_norm": 0.9}


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Level(1e9), "within reach"),
        (Level(torch.tensor([1.0, 2.0, 3.0])), "value must be one number or one for each of 2 images"),
        (Flip(nn.Identity(), 0), "label must be what is predicted"),
        (0.5, "target must be"),
    ],
    ids=["unreachable", "three", "wrong label", "a number"],
)
def test_targets_that_cannot_be_met_are_told(target, message, generator):
    x = photographs()
    network = Classes(generator)
    if isinstance(target, Flip):
        target = Flip(nn.Identity(), (network(x).argmax(1) + 1) % 3)
    with pytest.raises(ValueError, match=message):
        smallest_deformation(network, x, target, generator=generator, sizes=(1.0,), **FEW)


@pytest.mark.parametrize("value", [-1.0, 0.0, float("nan"), torch.tensor([1.0, -1.0])])
def test_a_level_is_positive_or_refused_when_it_is_made(value):
    with pytest.raises(ValueError, match="value must be positive and finite"):
        Level(value)


def test_sizes_must_increase(generator):
    with pytest.raises(ValueError, match="sizes must"):
        worst_case_curve(Identity(), photographs(), generator=generator, sizes=(1.0, 0.5), **FEW)


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [(PiecewiseLinear(), TranslationFree()), (Fourier(2.0), DivergenceFree()), (Spline(8), FixedBorder())],
    ids=lambda value: type(value).__name__,
)
def test_fields_of_a_family_keep_their_constraint_from_size_to_size(fields, constraint, generator):
    x = photographs()
    chosen = {**FEW, "fields": fields, "constraints": (constraint,)}
    phi = network(generator, x)
    curve = worst_case_curve(phi, x, generator=generator, sizes=(0.2, 0.5, 1.0), **chosen)
    assert bool((curve.largest_found.diff(dim=0) >= 0).all())
    level = 0.5 * curve.largest_found[-1]
    found = smallest_deformation(phi, x, Level(level), generator=generator, sizes=(0.2, 1.0), **chosen)
    assert bool((found.reached >= level * (1 - 1e-9)).all())
    free = worst_case_curve(phi, x, generator=generator, sizes=(1.0,), **FEW)
    for one in (*(part.field for part in curve.found), found.field):
        assert broken(constraint, one) < 1e-9
    assert broken(constraint, free.found[0].field) > 1e-3  # without the constraint it does not hold


def broken(constraint, field):
    if isinstance(constraint, TranslationFree):
        return float(field.mean.abs().max())
    points = st.grid.coordinates(SIZE, oversample=2)
    if isinstance(constraint, DivergenceFree):
        return float(field.jacobian(points).diagonal(dim1=-2, dim2=-1).sum(-1).abs().max())
    return float(field.displacement(points)[:, 0].abs().max())  # the border's first row


def test_grids_of_fields_are_no_curve(generator):
    x = photographs()
    with pytest.raises(ValueError, match="fields must be PiecewiseLinear"):
        worst_case_curve(network(generator, x), x, generator=generator, fields=Translations(), **FEW)


def test_every_size_is_searched_from_all_starts_too(generator):
    """What one size finds need not lead to the best of a larger set."""
    drawn = []

    class Seen(st.search.Saturated):
        def draw(self, problem, generator):
            drawn.append(float(problem.space.a[0]))
            return super().draw(problem, generator)

    phi, x = st.LinearGram(st.Architecture((st.Layer(1, 1.0),))), st.images.load("blobs", count=1, size=(8, 8))
    given = {"displacement_norm": 1.0, "jacobian_norm": 0.5, "generator": generator, "sizes": (0.5, 1.0), "steps": 1}
    curve = st.worst_case_curve(phi, x, starts=(Seen(1),), **given)
    assert drawn == [0.5, 1.0]
    level = st.search.Level(0.75 * curve.largest_found.amax(0))
    drawn.clear()
    st.smallest_deformation(phi, x, level, starts=(Seen(1),), **given)
    assert drawn[:2] == [0.5, 1.0]
    assert 0.5 < drawn[2] < 1.0  # and the first halving
    assert len(drawn) == 3
