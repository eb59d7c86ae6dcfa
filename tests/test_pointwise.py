"""Suprema of any field from bounds of its derivatives: search, branch and bound, jets, osc; against brute force."""

import dataclasses
import math

import pytest
import torch

from stability.deformations import enclosure, oscillation, pointwise
from stability.deformations.ascent import approach
from stability.deformations.compact import CompactField
from stability.deformations.domains import Window
from stability.deformations.enclosure import Enclosure
from stability.deformations.family import Family
from stability.deformations.fourier import FourierField
from stability.deformations.jets import GradientJets
from stability.deformations.norms import Norms
from stability.deformations.pointwise import FieldLengths, Searched, length, searched, steepness
from stability.deformations.stretching import swell, swell_gradient
from stability.grid import sides

ROUND_OFF = 1e-12
NAMES = ("displacement", "jacobian", "hessian", "divergence")
SIZES = [(20,), (12, 16)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def fourier(size, count=2, cutoff=2, seed=0):
    return FourierField.sample(size, cutoff=cutoff, batch_shape=(count,), generator=generator(seed))


def compact(size, count=2, cutoff=1, seed=1):
    return CompactField.sample(size, cutoff=cutoff, batch_shape=(count,), generator=generator(seed))


def families(size):
    return [fourier(size), compact(size), fourier(size) + 0.5 * compact(size)]


class Bowl(Family):
    """tau(u) = A u + |u|^2 q on a window where it does not vanish: all suprema are at corners."""

    AXES = {"matrix": 2, "bend": 1}
    LINEAR = frozenset(AXES)

    def __init__(self, matrix, bend, *, size):
        self._keep(size, {"matrix": matrix, "bend": bend})

    @property
    def domain(self):
        return Window(self.size)

    def derivative(self, points, order):
        matrix, bend = self._rows("matrix")[:, None], self._rows("bend")[:, None]
        eye = torch.eye(self.d, dtype=points.dtype)
        if order == 0:
            return (matrix @ points[..., None])[..., 0] + points.square().sum(-1, keepdim=True) * bend
        if order == 1:
            return matrix + 2 * bend[..., :, None] * points[..., None, :]
        return (2 * bend[..., :, None, None] * eye).expand(-1, points.shape[1], -1, -1, -1)

    def suprema(self):
        return searched(self)

    def derivative_bounds(self):
        far = (sides(self.size) - 0.5).norm()
        matrix, bend = torch.linalg.matrix_norm(self._rows("matrix"), ord=2), self._rows("bend").norm(dim=-1)
        zero = torch.zeros_like(matrix)
        return [matrix * far + bend * far**2, matrix + 2 * bend * far, 2 * bend, zero, zero]

    def refined(self, factor):
        raise NotImplementedError


class Unknown(Bowl):
    """The same without bounds: seen only."""

    derivative_bounds = pointwise.Deformation.derivative_bounds


def bowl(kind, d, count=2):
    rng = generator(3)
    matrix = torch.randn(count, d, d, generator=rng, dtype=torch.float64) / 10
    bend = torch.randn(count, d, generator=rng, dtype=torch.float64) / 50
    return kind(matrix, bend, size=(12, 16)[:d])


def dense(field, per_pixel=6):
    """A grid whose outermost nodes are on the border of a window, ``(P, d)``."""
    edge = field.domain.edge if isinstance(field.domain, Window) else 0.0
    axes = [torch.linspace(0, n, n * per_pixel + 1, dtype=torch.float64) - edge for n in reversed(field.size)]
    return torch.cartesian_prod(*axes).reshape(-1, field.d)


def brute_force(field, at):
    """Singular values, traces, and 60 directions of the second derivative, ``(4, n)``."""
    jacobian, hessian = field.jacobian(at), field.hessian(at)
    angle = torch.arange(60, dtype=torch.float64) * (math.pi / 60)
    e = torch.stack([angle.cos(), angle.sin()], dim=-1) if field.d == 2 else torch.ones(1, 1, dtype=torch.float64)
    along = torch.einsum("npijk,aj,ak->npai", hessian, e, e).norm(dim=-1)
    return torch.stack(
        [
            field.displacement(at).norm(dim=-1).amax(1),
            torch.linalg.svdvals(jacobian)[..., 0].amax(1),
            along.flatten(1).amax(1),
            jacobian.diagonal(dim1=-2, dim2=-1).sum(-1).abs().amax(1),
        ]
    )


# --- values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("which", range(3))
def test_values_on_grids_and_around_points_are_the_fields(size, which):
    field = [fourier(size, 3), compact(size, 3), fourier(size, 3) + compact(size, 3)][which]
    functions = FieldLengths(field, (1,), steepness)
    owner = torch.tensor([2, 0, 2, 2, 0, 2, 2])  # one field without a point, others with several
    points = torch.rand(7, len(size), generator=generator(1), dtype=torch.float64) * sides(size) - 0.5
    offsets = torch.randn(5, len(size), generator=generator(2), dtype=torch.float64) / 100
    at = points[:, None] + offsets
    if isinstance(field.domain, Window):
        at = torch.minimum(at.clamp_min(-0.5), sides(size) - 0.5)
    expected = torch.linalg.svdvals(field[owner].jacobian(at, each=True))[..., 0]
    torch.testing.assert_close(functions.around(owner, points, offsets), expected, rtol=0, atol=ROUND_OFF)
    counts = (6, 8)[: len(size)]
    spacing = sides(size) / torch.tensor(counts[::-1], dtype=torch.float64)
    values = torch.cat([part for _, part in functions.chunks(counts)])
    for position in ((0,) * len(size), (5, 6)[: len(size)]):
        node = functions.origin(spacing) + torch.tensor(position[::-1], dtype=torch.float64) * spacing
        expected = torch.linalg.svdvals(field.jacobian(node))[:, 0]
        torch.testing.assert_close(values[(slice(None), *position)], expected, rtol=0, atol=ROUND_OFF)


def test_the_cells_of_a_window_are_its_tiles():
    functions = FieldLengths(bowl(Bowl, 2), (0,), length)
    spacing = torch.tensor([4.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(functions.origin(spacing), torch.tensor([1.5, 0.5], dtype=torch.float64))


# --- norms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("which", range(3))
def test_lower_and_upper_enclose_the_suprema(size, which):
    field = families(size)[which]
    norms, seen = searched(field), brute_force(field, dense(field))
    for name, largest in zip(NAMES, seen, strict=True):
        interval = getattr(norms, name)
        assert bool((interval.lower >= largest * (1 - ROUND_OFF)).all()), name
        assert bool((interval.lower <= largest * 1.05).all()), name
        assert bool((interval.upper >= interval.lower).all()), name
        assert bool((interval.upper <= interval.lower * 1.001).all()), name


@pytest.mark.parametrize("size", SIZES)
def test_the_search_agrees_with_the_certificates_of_fourier_fields(size):
    field = fourier(size, count=8)
    for name in NAMES:
        found, known = getattr(searched(field), name), getattr(field.norms(), name)
        torch.testing.assert_close(found.lower, known.lower, rtol=1e-9, atol=0)
        assert bool((found.upper >= known.lower).all())
        assert bool((known.upper >= found.lower).all())


@pytest.mark.slow
@pytest.mark.parametrize("d", [1, 2])
def test_suprema_at_the_corners_of_a_window_are_found_and_certified(d):
    field = bowl(Bowl, d)
    seen = brute_force(field, dense(field))  # its grid holds the corners
    for name, largest in zip(NAMES, seen, strict=True):
        interval = getattr(field.norms(), name)
        torch.testing.assert_close(interval.lower, largest, rtol=1e-9, atol=0, msg=name)
        assert bool((interval.upper >= largest).all()), name
        assert bool((interval.upper <= interval.lower * 1.001).all()), name
    values = field.displacement(dense(field))
    diameter = torch.stack([torch.cdist(value, value).max() for value in values])
    found = field.norms().oscillation
    assert bool((found.lower >= diameter * (1 - 1e-9)).all())
    assert bool((found.upper >= found.lower).all())
    assert bool((found.upper <= found.lower * 1.001).all())


def test_curvature_alone_would_not_certify_a_maximum_at_the_border(monkeypatch):
    """tau = A u bends nowhere, so cells inside lose nothing; without the slope at the border upper is too small."""
    field = bowl(Bowl, 2)
    field = Bowl(field._tensors["matrix"], 0 * field._tensors["bend"], size=field.size)
    largest = field.displacement(dense(field)).norm(dim=-1).amax(1)
    monkeypatch.setattr(enclosure, "approach", coarse_approach)
    assert bool((searched(field).displacement.upper >= largest).all())

    def borderless(functions, counts, losses, bounds, scale, box):
        return Enclosure(functions, counts, losses, lambda: 2 * bounds(), scale)

    monkeypatch.setattr(pointwise, "Enclosure", borderless)
    assert not bool((searched(field).displacement.upper >= largest).any())


def coarse_approach(functions, counts):
    """Only what the grid's own nodes attain."""
    values = torch.cat([part.flatten(1).amax(1) for _, part in functions.chunks(counts)])
    return approach(functions, counts)._replace(best=values)


def test_fields_that_do_not_bound_their_derivatives_are_seen_only():
    known, unknown = bowl(Bowl, 2).norms(), bowl(Unknown, 2).norms()
    for name in (*NAMES, "oscillation"):
        torch.testing.assert_close(getattr(unknown, name).lower, getattr(known, name).lower, rtol=1e-6, atol=0)
        assert bool(torch.isinf(getattr(unknown, name).upper).all())


@pytest.mark.slow
def test_broken_bounds_are_caught(monkeypatch):
    """From a grid too coarse to see the peaks the right bounds still certify; a hundredth of them does not."""
    field = fourier((20, 20), count=8, cutoff=4)
    largest = brute_force(field, dense(field, 4))[1]
    monkeypatch.setattr(pointwise, "counts", lambda *given: (3, 3))
    assert bool((searched(field).jacobian.upper >= largest).all())
    bounds = field.derivative_bounds()
    monkeypatch.setattr(FourierField, "derivative_bounds", lambda self: [*bounds[:2], *(b / 100 for b in bounds[2:])])
    assert not bool((searched(field).jacobian.upper >= largest).all())


def test_places_attain_the_norms():
    field = (fourier((16, 24)) + compact((16, 24)))[None]
    found = Searched(field)
    far, steep = found.places()
    assert far.shape == (1, 2, 2)
    norms = found.norms()
    torch.testing.assert_close(field.displacement(far, each=True).norm(dim=-1), norms.displacement.lower)
    torch.testing.assert_close(torch.linalg.svdvals(field.jacobian(steep, each=True))[..., 0], norms.jacobian.lower)


def test_single_precision_fields_are_searched_in_double_precision():
    field = fourier((20, 20))
    single = field.to(dtype=torch.float32)
    torch.testing.assert_close(searched(single).jacobian.lower, searched(field).jacobian.lower, rtol=1e-5, atol=0)
    assert searched(single).jacobian.upper.dtype == torch.float64


def test_divergence_free_fields_do_not_ask_for_a_certificate_relative_to_zero():
    modes = torch.tensor([[1, 0], [0, 1], [1, 2]])
    amplitude = torch.stack([-modes[:, 1], modes[:, 0]], dim=-1).to(torch.float64)
    field = FourierField(modes, amplitude[None], 0.5 * amplitude[None], size=(20, 20))
    divergence = searched(field).divergence
    assert float(divergence.lower) < 1e-12
    assert float(divergence.upper) <= 5e-3 * float(field.norms().jacobian.lower)


# --- osc --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("which", range(3))
def test_osc_encloses_the_diameter_of_all_displacements(size, which):
    field = families(size)[which]
    found = oscillation.oscillation(field)
    values = field.displacement(dense(field, 4 if len(size) == 2 else 32))
    seen = torch.stack([torch.cdist(value, value).max() for value in values])
    assert bool((found.lower >= seen * (1 - ROUND_OFF)).all())
    assert bool((found.lower <= seen * 1.01).all())
    assert bool((found.upper >= found.lower).all())
    assert bool((found.upper <= found.lower * 1.001).all())
    assert bool((found.upper <= 2.001 * field.norms().displacement.upper).all())


@pytest.mark.parametrize("quarter", [0.0, 1.0])
def test_osc_of_a_plane_wave_and_of_a_turning_one(quarter):
    """tau = (2 cos x, 0) moves on a segment of length 4, (2 cos x, 2 sin x) on a circle of diameter 4."""
    cosine = torch.tensor([[[2.0, 0.0]]], dtype=torch.float64)
    sine = torch.tensor([[[0.0, 2.0 * quarter]]], dtype=torch.float64)
    found = oscillation.oscillation(FourierField(torch.tensor([[1, 0]]), cosine, sine, size=(16, 16)))
    assert float(found.lower) == pytest.approx(4.0, rel=1e-9)
    assert 4.0 <= float(found.upper) <= 4.004


def test_osc_does_not_see_constants_and_broken_bounds_are_caught(monkeypatch):
    field = fourier((16, 16), cutoff=3)
    moved = field.shifted(torch.tensor([30.0, -7.0], dtype=torch.float64))
    plain = oscillation.oscillation(field)
    torch.testing.assert_close(oscillation.oscillation(moved).lower, plain.lower, rtol=1e-7, atol=0)
    torch.testing.assert_close(oscillation.oscillation(moved).upper, plain.upper, rtol=1e-3, atol=0)
    monkeypatch.setattr(oscillation, "counts", lambda *given: (3, 3))
    monkeypatch.setattr(oscillation._Diameter, "_search", coarse)
    assert bool((oscillation.oscillation(field).upper >= plain.lower).all())
    bounds = [bound / 100 for bound in field.derivative_bounds()]
    monkeypatch.setattr(FourierField, "derivative_bounds", lambda self: bounds)
    assert not bool((oscillation.oscillation(field).upper >= plain.lower).all())


def coarse(self):
    """Only what the grid's own nodes attain."""
    values = torch.cat([part.flatten(1).amax(1) for _, part in self._extents.chunks(self._counts)])
    values = values.unflatten(0, (-1, 2 * self._half))
    return values, (values[:, : self._half] + values[:, self._half :]).amax(1)


# --- jets -------------------------------------------------------------------------------------------------------


def matrices(name, jacobian, hessian):
    """The functions whose norms are bounded, from their definitions."""
    d = jacobian.shape[-1]
    m = torch.eye(d, dtype=torch.float64) - jacobian
    determinant = m[..., 0, 0] if d == 1 else m[..., 0, 0] * m[..., 1, 1] - m[..., 0, 1] * m[..., 1, 0]
    inverse = torch.linalg.inv(m)
    gradient = -torch.einsum("...ij,...jik->...k", inverse, hessian)  # of ln D
    return {
        "jacobian": jacobian,
        "strain": (jacobian + jacobian.mT) / 2,
        "volume": (1 - determinant)[..., None, None],
        "weight": determinant[..., None, None] ** -0.5,
        "stretch": m.mT - inverse,
        "volume_gradient": (inverse.mT @ gradient[..., None]),
    }[name]


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("name", ["jacobian", "strain", "volume", "weight", "stretch", "volume_gradient"])
def test_jets_bound_values_and_derivatives_along_lines(name, d):
    """By two forward derivatives along random lines; global bounds, and those near a point within a step of it."""
    size = (20, 24)[:d]
    field = fourier(size, count=1)
    field = (field * (0.7 / field.norms().jacobian.upper))[0]
    rng = generator(4)
    start = torch.rand(400, d, generator=rng, dtype=torch.float64) * sides(size)
    e = torch.nn.functional.normalize(torch.randn(400, d, generator=rng, dtype=torch.float64), dim=-1)

    def value(s):
        at = start + s[:, None] * e
        return matrices(name, field.jacobian(at), field.hessian(at))

    def first(s):
        return torch.func.jvp(value, (s,), (torch.ones_like(s),))[1]

    order = "fro" if name == "strain" else 2
    zero = torch.zeros(400, dtype=torch.float64)
    parts = [value(zero), first(zero), torch.func.jvp(first, (zero,), (torch.ones_like(zero),))[1]]
    sizes = [torch.linalg.matrix_norm(part, ord=order) for part in parts]
    determinant = field.norms().determinant_infimum.lower.reshape(1)
    jets = GradientJets(field.derivative_bounds()[1:], lambda: determinant, d)
    rho = 0.2
    centre = start + rho * e
    j, h = field.jacobian(centre)[None], field.hessian(centre)[None]
    here = steepness(j), h.flatten(-3).norm(dim=-1), 1 + swell(j), swell_gradient(j, h).norm(dim=-1)
    near = getattr(jets.near(torch.zeros(1, dtype=torch.long), here, rho), name)
    for size_, bound, local in zip(sizes, getattr(jets, name), near, strict=True):
        assert float(size_.max()) <= float(bound) * (1 + 1e-9)
        assert float(bound) <= 200 * float(size_.max())
        assert bool((size_ <= local[0] * (1 + 1e-9)).all())
        assert bool((local <= bound * (1 + 1e-9)).all())


def test_searched_norms_are_norms():
    assert {part.name for part in dataclasses.fields(searched(fourier((24,))))} == {
        part.name for part in dataclasses.fields(Norms)
    }
