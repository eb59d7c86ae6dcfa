"""Families and constraints of worst-case search: certified norms, equations that hold, near the fast linear step."""

import math

import pytest
import torch

import stability as st
from stability.deformations.linear_step import linear_step
from stability.search.basis import FourierBasis, HatBasis, SplineBasis
from stability.search.constraints import DivergenceFree, FixedBorder, TranslationFree
from stability.search.families import Fourier, PiecewiseLinear, Spline
from stability.search.grids import RigidMotions, Translations
from stability.search.starts import Given, Linearised, Saturated
from stability.search.subspace import SubspaceSpace
from stability.search.worst import worst_case

pytestmark = pytest.mark.slow

SIZE = (16, 16)
FEW = {"starts": (Saturated(2), Linearised(1, 1)), "steps": 4, "displacement_norm": 1.0, "jacobian_norm": 0.25}


def noise(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def whole(basis, a, b, n):
    eye = torch.eye(basis.count * basis.d, dtype=torch.float64)
    return SubspaceSpace(basis, eye, torch.full((n,), a).double(), torch.full((n,), b).double())


@pytest.mark.parametrize(("a", "b"), [(1.0, 0.25), (0.5, 0.5), (4.0, 0.1)])
def test_the_dense_linear_step_reaches_what_the_fast_one_reaches(a, b, generator):
    lattice = (8, 8)
    space = whole(HatBasis(lattice, lattice, torch.device("cpu")), a, b, 3)
    direction = noise(generator, 3, 8, 8, 2)
    found = space.step(direction.flatten(1), None, 200).parameters
    fast = linear_step(direction, (1.0, 1.0), a, b, iterations=400)
    reached = (found * direction.flatten(1)).sum(1)
    assert bool((reached >= 0.95 * fast.upper).all())
    assert bool((reached <= fast.upper * (1 + 1e-9)).all())


@pytest.mark.parametrize("size", [(16, 16), (12, 20), (16,)], ids=str)
def test_bases_are_those_of_their_fields(size, generator):
    lattice = tuple(n // 2 for n in size)
    device = torch.device("cpu")
    for basis in (FourierBasis(size, 2.0, device), SplineBasis(size, lattice, device), HatBasis(size, lattice, device)):
        c = noise(generator, 2, basis.count, len(size))
        field, u = basis.field(c), basis.points + 0.3
        assert torch.allclose(torch.einsum("pm,nmi->npi", basis.values(u), c), field.displacement(u), atol=1e-10)
        assert torch.allclose(torch.einsum("pmj,nmi->npij", basis.slopes(u), c), field.jacobian(u), atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("fields", [Fourier(2), Spline(6), PiecewiseLinear(8)], ids=lambda one: type(one).__name__)
def test_every_family_is_searched_and_its_norms_are_certified(fields, generator):
    x = st.images.load("fashion", count=2, size=SIZE)
    ckn = st.CKN.fit(st.Architecture.dyadic(depth=1), x, filters=(8,), generator=generator)
    found = worst_case(ckn, x, fields=fields, generator=generator, **FEW)
    assert bool((found.displacement_norm <= 1.0).all())
    assert bool((found.jacobian_norm <= 0.25).all())
    assert bool((torch.maximum(found.displacement_norm, found.jacobian_norm / 0.25) > 0.8).all())
    assert bool((found.trace.diff(dim=0) >= 0).all())
    distance = ckn.distance(x, st.SplineWarp()(x, found.field))
    assert torch.allclose(found.largest_found, distance, rtol=1e-8)
    field = found.field
    again = worst_case(ckn, x, fields=fields, generator=generator, **FEW | {"starts": (Given(field),)})
    assert bool((again.largest_found >= found.largest_found * (1 - 1e-6)).all())


CASES = [
    (Fourier(2), TranslationFree()), (Fourier(2), DivergenceFree()), (Spline(8), TranslationFree()),
    (Spline(8), FixedBorder(1.0)), (PiecewiseLinear(16), FixedBorder(1.5)), (PiecewiseLinear(8), TranslationFree()),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "constraint"), CASES, ids=lambda one: type(one).__name__)
def test_constraints_hold_everywhere(fields, constraint, generator):
    a, b = torch.ones(3, dtype=torch.float64), torch.full((3,), 0.3, dtype=torch.float64)
    space = fields.space(SIZE, a, b, (constraint,))
    field = space.field(space.step(space.directions(generator), None, 30).parameters)
    grid = field.on_grid(3)
    norms = field.norms()
    assert bool((norms.displacement.upper <= 1.0).all())
    assert bool((norms.jacobian.upper <= 0.3).all())
    assert bool((grid.norm(dim=-1).flatten(1).amax(1) > 0.1).all())
    if isinstance(constraint, TranslationFree):
        assert bool((field.mean.abs() < 1e-10).all())
    elif isinstance(constraint, DivergenceFree):
        points = 16 * torch.rand(50, 2, generator=generator, dtype=torch.float64)
        assert bool((field.jacobian(points).diagonal(dim1=-2, dim2=-1).sum(-1).abs() < 1e-10).all())
    else:
        edge = torch.arange(0, 16, 0.5, dtype=torch.float64)
        for at in (-0.5, 0.0, 15.0):
            for pair in ((edge, torch.full_like(edge, at)), (torch.full_like(edge, at), edge)):
                assert bool((field.displacement(torch.stack(pair, -1)).abs() < 1e-9).all())


@pytest.mark.parametrize(
    ("size", "fields", "width"),
    [
        ((24,), PiecewiseLinear(19), 1.99), ((24,), PiecewiseLinear(19), 1.9), ((24,), Spline(8), 3.7),
        ((24,), Spline(19), 1.99), ((24, 24), PiecewiseLinear(19), 1.99), ((10, 12), PiecewiseLinear((7, 9)), 1.94),
    ],
    ids=str,
)  # fmt: skip
def test_a_border_of_any_width_is_fixed_up_to_its_end(size, fields, width, generator):
    a = torch.full((2,), 2.0, dtype=torch.float64)
    space = fields.space(size, a, 0.45 * a, (FixedBorder(width),))
    field = space.field(space.step(space.directions(generator), None, 30).parameters)
    sides = torch.tensor(size[::-1], dtype=torch.float64)
    u = sides * torch.rand(4000, len(size), generator=generator, dtype=torch.float64) - 0.5
    near = torch.minimum(u + 0.5, sides - 0.5 - u).amin(1) <= width
    assert int(near.sum()) > 100
    assert bool((field.displacement(u[near]).abs() < 1e-12).all())
    assert bool((field.displacement(u).norm(dim=-1).amax(-1) > 0.1).all())


def test_two_constraints_hold_at_once(generator):
    a = torch.ones(1, dtype=torch.float64)
    space = Fourier(2).space(SIZE, a, 0.3 * a, (TranslationFree(), DivergenceFree()))
    assert space.null.shape[1] == FourierBasis(SIZE, 2, torch.device("cpu")).count - 1


@pytest.mark.parametrize(
    ("fields", "constraint", "message"),
    [
        (Fourier(2), FixedBorder(), "local support"),
        (PiecewiseLinear(), TranslationFree(), "at most 1500 dimensions"),
        (Fourier(2), "free", "constraints must"),
        (Fourier(40), TranslationFree(), "cutoff"),
        (
            Spline(4),
            FixedBorder(14.0),
            r"FixedBorder\(width=14.0\) for 32 dimensions, which leave none; use a finer lattice",
        ),
        (Spline(64), TranslationFree(), "at most 1500 dimensions"),
    ],
    ids=["border", "lattice", "word", "cutoff", "width", "spline"],
)
def test_what_cannot_be_is_told(fields, constraint, message):
    a = torch.ones(1, dtype=torch.float64)
    with pytest.raises(ValueError, match=message):
        fields.space((32, 32), a, 0.3 * a, (constraint,))


def test_a_border_has_a_width():
    with pytest.raises(ValueError, match="width"):
        FixedBorder(math.inf)


@pytest.mark.parametrize("fields", [Translations(16, 2), RigidMotions(3, 8, 2)], ids=["translations", "rigid"])
def test_grids_find_the_best_of_their_fields(fields, generator):
    x = st.images.load("fashion", count=2, size=SIZE)
    ckn = st.CKN.fit(st.Architecture.dyadic(depth=1), x, filters=(8,), generator=generator)
    found = worst_case(ckn, x, displacement_norm=1.5, jacobian_norm=0.1, fields=fields, generator=generator)
    assert bool((found.displacement_norm <= 1.5).all())
    assert bool((found.jacobian_norm <= 0.1).all())
    assert bool((found.displacement_norm > 1.49).all())
    tried = fields.fields(SIZE, 1.5, 0.1)
    distances = ckn.reference(x).distance(st.SplineWarp()(x[:, None], tried))
    assert torch.allclose(found.largest_found, distances.amax(1), rtol=1e-9)
    assert found.gradient_evaluations == 0


def test_rigid_motions_keep_distances(generator):
    field = RigidMotions(2, 4, 1).fields(SIZE, 4.0, 0.3)
    points = 16 * torch.rand(10, 2, generator=generator, dtype=torch.float64)
    moved = points - field.displacement(points)
    assert torch.allclose(torch.cdist(moved, moved), torch.cdist(points, points).expand(len(moved), 10, 10), atol=1e-10)


def test_fields_that_are_drawn_do_not_depend_on_the_basis_of_their_space(generator):
    space = Fourier(2).space(SIZE, torch.ones(3).double(), torch.full((3,), 0.3).double(), (TranslationFree(),))
    turn = torch.linalg.qr(torch.randn(*[space.null.shape[1]] * 2, generator=generator, dtype=torch.float64)).Q
    turned = SubspaceSpace(space.basis, space.null @ turn, space.a, space.b)
    drawn = [one.field(one.directions(torch.Generator().manual_seed(3))).on_grid() for one in (space, turned)]
    assert torch.allclose(*drawn, atol=1e-12)


def test_divergences_vanish_on_fine_lattices_too(generator):
    # singular values of the equations between 1e-9 and 3e-5 of the largest are no zeros
    basis = SplineBasis(SIZE, (24, 24), torch.device("cpu"))
    null = Spline(24).space(SIZE, torch.ones(1).double(), torch.ones(1).double(), (DivergenceFree(),)).null
    field = basis.field((null @ noise(generator, null.shape[1], 2)).T.unflatten(1, (basis.count, 2)))
    jacobian = field.jacobian(basis.points + 0.13)
    assert float(jacobian.diagonal(dim1=-2, dim2=-1).sum(-1).abs().amax()) < 1e-10 * float(jacobian.abs().amax())
    assert torch.allclose(null.T @ null, torch.eye(null.shape[1], dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize("size", [(3, 8), (2, 8), (3,)], ids=str)
def test_small_images_are_searched_with_a_lattice_of_their_own(size, generator):
    x = torch.rand(1, 1, *size, generator=generator, dtype=torch.float64)
    given = {"displacement_norm": 1.0, "jacobian_norm": 0.25, "generator": generator}
    with pytest.raises(ValueError, match=r"at least 4 pixels along each side for PiecewiseLinear\(\)"):
        worst_case(torch.nn.Identity(), x, **given)
    found = worst_case(torch.nn.Identity(), x, fields=PiecewiseLinear(4), starts=(Saturated(2),), steps=2, **given)
    assert bool((found.largest_found > 0).all())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Spline(10**9), "at most 1500 dimensions, got 2000000000000000000"),
        (lambda: Translations(10_000, 10_000), "at most 200000 fields, got 100000000"),
        (lambda: RigidMotions(10_000, 10_000, 10_000), "at most 200000 fields, got 2000300010000"),
    ],
    ids=["spline", "translations", "rigid motions"],
)
def test_what_does_not_fit_into_memory_is_refused_before_it_is_made(make, message, generator):
    x = torch.rand(1, 1, 8, 8, generator=generator, dtype=torch.float64)
    with pytest.raises(ValueError, match=message):
        worst_case(
            torch.nn.Identity(), x, fields=make(), displacement_norm=1.0, jacobian_norm=0.25, generator=generator
        )


def test_a_linear_step_does_not_depend_on_the_sets_beside_it(generator):
    direction, a = noise(generator, 2, 128), torch.ones(2, dtype=torch.float64)
    basis = HatBasis((8, 8), (8, 8), torch.device("cpu"))
    eye = torch.eye(128, dtype=torch.float64)
    both = SubspaceSpace(basis, eye, a, torch.tensor([0.25, 1e-5], dtype=torch.float64))
    alone = both[torch.tensor([0])]
    reached = [float((s.step(g, None, 50).parameters * g)[0].sum())
               for s, g in ((both, direction), (alone, direction[:1]))]  # fmt: skip
    assert reached[0] == pytest.approx(reached[1], rel=1e-9)
