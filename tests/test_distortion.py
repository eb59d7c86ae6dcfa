"""The suprema of functions of I - grad tau: brute force, closed forms, exact cases, and what breaks a certificate."""

import dataclasses
import math

import pytest
import torch

from stability.deformations import distortion as module
from stability.deformations.affine import AffineField
from stability.deformations.compact import CompactField
from stability.deformations.domains import Window
from stability.deformations.fourier import FourierField
from stability.deformations.max_entropy import MaxEntropyField
from stability.deformations.norms import Distortion
from stability.deformations.piecewise_linear import PiecewiseLinearField
from stability.deformations.translation import Translation

ROUND_OFF = 1e-11
NAMES = tuple(part.name for part in dataclasses.fields(Distortion))
SIZES = [(20,), (12, 16)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def fourier(size, count=2, cutoff=2, seed=0):
    return FourierField.sample(size, cutoff=cutoff, batch_shape=(count,), generator=generator(seed))


def compact(size, count=1, cutoff=1, seed=1):
    return CompactField.sample(size, cutoff=cutoff, batch_shape=(count,), generator=generator(seed))


def steep(field, b):
    return field * (b / field.norms().jacobian.upper)


def intervals(field):
    found = field.norms().distortion
    return {name: getattr(found, name) for name in NAMES}


def dense(size, per_pixel, edge=0.0):
    axes = [torch.arange(0, n, 1 / per_pixel, dtype=torch.float64) - edge for n in reversed(size)]
    return torch.cartesian_prod(*axes).reshape(-1, len(size))


def by_definition(jacobian, hessian):
    """Each function's values from J ``(..., d, d)`` and second derivatives, by linear algebra's general routines."""
    d = jacobian.shape[-1]
    m = torch.eye(d, dtype=torch.float64) - jacobian
    determinant = torch.linalg.det(m)
    s = torch.linalg.svdvals(m)
    weight = determinant**-0.5
    gradient = -torch.einsum("...ij,...jik->...k", torch.linalg.inv(m), hessian)  # of ln D
    pulled = (torch.linalg.inv(m).mT @ gradient[..., None])[..., 0]
    return {
        "determinant_infimum": determinant,
        "determinant_supremum": determinant,
        "contraction": weight,
        "weighted_jacobian": torch.linalg.matrix_norm(jacobian, ord=2) * weight,
        "weighted_strain": torch.linalg.matrix_norm((jacobian + jacobian.mT) / 2) * weight,
        "weighted_volume": (1 - determinant).abs() * weight,
        "weighted_anisotropy": (s[..., 0] - s[..., -1]) * weight,
        "weighted_stretch": (s - 1 / s).abs().amax(-1) * weight,
        "volume_gradient": pulled.norm(dim=-1) * weight,
        "density_gradient": pulled.norm(dim=-1) * weight**2,
    }


def brute_force(field, at):
    values = by_definition(field.jacobian(at), field.hessian(at))
    return {name: value.amin(-1) if name == "determinant_infimum" else value.amax(-1) for name, value in values.items()}


def check(name, interval, seen, gap=1.001, resolution=1.1):
    """lower <= sup <= upper, close to each other and to what a grid sees."""
    scale = ROUND_OFF * (1 + seen.abs())
    if name == "determinant_infimum":
        assert bool((interval.upper <= seen + scale).all())
        assert bool((interval.upper >= seen - (resolution - 1)).all())
        assert bool((interval.lower <= interval.upper).all())
        assert bool((interval.upper <= interval.lower * gap).all())
    else:
        assert bool((interval.lower >= seen - scale).all()), name
        assert bool((interval.lower <= seen * resolution + scale).all()), name
        assert bool((interval.upper >= interval.lower).all()), name
        assert bool((interval.upper <= interval.lower * gap + scale).all()), name


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("b", [0.1, 0.8])
def test_intervals_enclose_brute_force_for_fourier_fields(size, b):
    field = steep(fourier(size), b)
    seen = brute_force(field, dense(size, 10 if len(size) == 2 else 100))
    for name, interval in intervals(field).items():
        check(name, interval, seen[name])


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("which", ["compact", "sum"])
def test_intervals_enclose_brute_force_for_other_families(size, which):
    field = compact(size) if which == "compact" else fourier(size) + compact(size)
    field = steep(field, 0.4)
    seen = brute_force(field, dense(size, 8 if len(size) == 2 else 100, edge=0.5))
    for name, interval in intervals(field).items():
        check(name, interval, seen[name])


def wave(p, k=(1, 1), size=(16, 16)):
    """tau = p cos(omega . u)."""
    p = torch.tensor([[p]], dtype=torch.float64)
    field = FourierField(torch.tensor([k]), p, torch.zeros_like(p), size=size)
    return field, p[0, 0], field.frequencies[0]


@pytest.mark.parametrize("p", [(0.9, -0.3), (0.5, 1.0), (1.0, -1.0)])
def test_everything_is_known_for_a_plane_wave(p):
    """J = -s p (x) omega, D = 1 + s <p, omega>, s in [-1, 1]; (1, -1) is a shear: D = 1 although b > 0."""
    field, p, omega = wave(p)
    c, size = float(p @ omega), float(p.norm() * omega.norm())
    assert abs(c) < 1
    s = torch.linspace(-1, 1, 200_001, dtype=torch.float64)
    m = torch.eye(2, dtype=torch.float64) + s[:, None, None] * torch.outer(p, omega)
    singular = torch.linalg.svdvals(m)
    d = 1 + s * c
    slope = (1 - s * s).sqrt() * abs(c) * float(omega.norm()) * d**-2.5  # M^(-T) omega = omega / D
    expected = {
        "determinant_infimum": 1 - abs(c),
        "determinant_supremum": 1 + abs(c),
        "contraction": (1 - abs(c)) ** -0.5,
        "weighted_jacobian": size * (1 - abs(c)) ** -0.5,
        "weighted_strain": math.sqrt((size**2 + c**2) / 2) * (1 - abs(c)) ** -0.5,
        "weighted_volume": abs(c) * (1 - abs(c)) ** -0.5,
        "weighted_anisotropy": size * (1 - abs(c)) ** -0.5,
        "weighted_stretch": float(((singular - 1 / singular).abs().amax(-1) * d**-0.5).max()),
        "volume_gradient": float(slope.max()),
        "density_gradient": float((slope * d**-0.5).max()),
    }
    for name, interval in intervals(field).items():
        attained, certified = float(interval.lower), float(interval.upper)
        if name == "determinant_infimum":
            attained, certified = certified, attained
            assert certified <= expected[name]
        else:
            assert certified >= expected[name] * (1 - 1e-9)
        assert attained == pytest.approx(expected[name], rel=1e-8, abs=1e-12)
        assert certified == pytest.approx(expected[name], rel=1e-3, abs=2e-3 * size)


def test_a_wave_on_a_line():
    """J = -s b, D = 1 + s b: all values are functions of D."""
    amplitude = torch.tensor([[[0.8 * 32 / (2 * math.pi)]]], dtype=torch.float64)
    found = intervals(FourierField(torch.tensor([[1]]), amplitude, 0 * amplitude, size=(32,)))
    d = 1 - 0.8
    expected = [d, 1.8, d**-0.5, 0.8 * d**-0.5, 0.8 * d**-0.5, 0.8 * d**-0.5, 0.0, (1 / d - d) * d**-0.5]
    for name, value in zip(NAMES, expected, strict=False):
        assert float(found[name].lower) == pytest.approx(value, rel=1e-3)
        assert float(found[name].upper) == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize("size", SIZES)
def test_translations_and_zero_fields_are_exact(size):
    vector = torch.ones(2, len(size), dtype=torch.float64)
    for field in (Translation(vector, size), 0.0 * fourier(size), Translation(vector, size) + 0.0 * fourier(size)):
        for name, interval in intervals(field).items():
            value = 1.0 if name in NAMES[:3] else 0.0
            expected = torch.full((2,), value, dtype=torch.float64)
            assert torch.equal(interval.lower, expected), name
            assert torch.equal(interval.upper, expected), name


def test_piecewise_linear_fields_are_exact():
    field = steep(PiecewiseLinearField.sample((12, 16), cutoff=2, batch_shape=(3,), generator=generator()), 0.8)
    gradients = field.gradients()
    values = by_definition(gradients, torch.zeros(*gradients.shape, 2, dtype=torch.float64))
    for name, interval in intervals(field).items():
        if name in ("volume_gradient", "density_gradient"):
            assert bool(torch.isinf(interval.upper).all())
            continue
        seen = values[name].amin(-1) if name == "determinant_infimum" else values[name].amax(-1)
        torch.testing.assert_close(interval.lower, seen, rtol=1e-11, atol=1e-13)
        torch.testing.assert_close(interval.upper, seen, rtol=1e-11, atol=1e-13)


def test_affine_fields_are_exact_and_their_volume_does_not_vary():
    matrix = torch.tensor([[0.3, 0.2], [-0.1, 0.4]], dtype=torch.float64)
    field = AffineField(matrix, size=(12, 16))
    values = by_definition(matrix, torch.zeros(2, 2, 2, dtype=torch.float64))
    for name, interval in intervals(field).items():
        torch.testing.assert_close(interval.lower, values[name], rtol=1e-11, atol=1e-13)
        torch.testing.assert_close(interval.upper, values[name], rtol=1e-11, atol=1e-13)


def test_a_gradient_that_jumps_across_the_seam_has_no_volume_gradient():
    field = MaxEntropyField.sample((16,), cutoff=3, batch_shape=(2,), temperature=1.0, generator=generator())
    field = steep(field, 0.5)
    assert isinstance(field.domain, Window)
    assert field.domain.gradient_jump
    found = intervals(field)
    assert bool(torch.isinf(found["volume_gradient"].upper).all())
    assert bool(torch.isfinite(found["weighted_stretch"].upper).all())


def test_regular_fields_with_a_jacobian_norm_beyond_one_are_certified():
    """b excludes D <= 0 for b < 1 only: J in [-1.35, 0.68] on a line, and a shear with a little noise in the plane."""
    omega = 2 * math.pi / 20
    sine = torch.tensor([[[-0.9 / omega], [-0.9 / (4 * omega)]]], dtype=torch.float64)
    line = FourierField(torch.tensor([[1], [2]]), 0 * sine, sine, size=(20,))
    plane = wave((3.0, -3.0), size=(12, 12))[0] + 0.1 * fourier((12, 12), count=1)
    for field in (line, plane):
        assert bool((field.norms().jacobian.lower > 1).all())
        seen = brute_force(field, dense(field.size, 10))
        for name, interval in intervals(field).items():
            # nearly a shear: 1 - D is what much larger terms leave, and upper is not close
            if field is line or name not in ("weighted_volume", "volume_gradient", "density_gradient"):
                check(name, interval, seen[name])


def test_folded_fields_are_recognised_and_have_no_finite_suprema():
    field = steep(fourier((12, 16)), 3.0)
    found = intervals(field)
    assert bool((found["determinant_infimum"].upper < 0).all())
    assert bool(torch.isfinite(found["determinant_supremum"].upper).all())
    for name in NAMES[2:]:
        assert bool(torch.isinf(found[name].lower).all()), name
        assert bool(torch.isinf(found[name].upper).all()), name


def test_batches_may_hold_folded_plain_and_zero_fields_at_once():
    field = fourier((12, 16), count=1)[0] * torch.tensor([[0.0], [0.2], [9.0]], dtype=torch.float64)
    found = intervals(field)
    for name, interval in found.items():
        assert interval.upper.shape == (3, 1), name
    alone = intervals(field[1])
    for name in NAMES:
        torch.testing.assert_close(found[name].upper[1], alone[name].upper, rtol=1e-3, atol=0)
    assert float(found["contraction"].upper[0]) == 1.0
    assert float(found["weighted_jacobian"].upper[0]) == 0.0
    assert float(found["weighted_jacobian"].upper[2]) == math.inf


def test_the_determinant_keeps_to_its_a_priori_bounds():
    for size in SIZES:
        field, d = fourier(size, count=6, seed=5), len(size)
        for b in (0.01, 0.5, 0.99):
            found = intervals(steep(field, b))
            assert bool((found["determinant_infimum"].lower >= (1 - b) ** d - ROUND_OFF).all())
            assert bool((found["determinant_supremum"].upper <= (1 + b) ** d + ROUND_OFF).all())
            assert bool((found["contraction"].upper <= (1 - b) ** (-d / 2) * (1 + ROUND_OFF)).all())


def test_values_follow_the_field_and_are_not_scaled_with_it():
    field = fourier((12, 16))
    once, twice = steep(field, 0.2), 2 * steep(field, 0.2)
    for name in ("determinant_infimum", "weighted_jacobian"):
        expected = intervals(steep(field, 0.4))[name]
        torch.testing.assert_close(intervals(twice)[name].lower, expected.lower, rtol=1e-6, atol=0)
        assert not torch.equal(intervals(twice)[name].lower, intervals(once)[name].lower)


def test_nothing_is_computed_before_it_is_read(monkeypatch):
    field = fourier((12, 16))
    monkeypatch.setattr(module.DistortionSuprema, "_bounds", None)
    found = field.norms().distortion
    with pytest.raises(TypeError):
        _ = found.contraction.upper


@pytest.mark.parametrize("name", ["determinant_infimum", "weighted_jacobian", "weighted_stretch", "volume_gradient"])
def test_broken_bounds_are_caught(monkeypatch, name):
    """From a grid of 4 nodes the right bounds certify; bounds of derivatives that are 1000 times too small do not."""
    field = steep(fourier((12, 16), cutoff=3, count=4), 0.7)
    fine = intervals(field)[name]
    sup = -fine.upper if name == "determinant_infimum" else fine.lower

    def upper():
        found = getattr(module.distortion(field), name)
        return -found.lower if name == "determinant_infimum" else found.upper

    bounds = field.derivative_bounds()
    monkeypatch.setattr(module, "counts", lambda *given: (2, 2))
    monkeypatch.setattr(module.Enclosure, "lower", property(nodes_only))
    assert bool((upper() >= sup).all())
    monkeypatch.setattr(FourierField, "derivative_bounds", lambda self: [*bounds[:2], *(b / 1000 for b in bounds[2:])])
    assert not bool((upper() >= sup).all())


def nodes_only(self):
    """A lower value from the first grid alone."""
    return torch.cat([values.flatten(1).amax(1) for _, values in self._functions.chunks(self._counts)])
