import importlib.util
import math
import sys
from pathlib import Path

import pytest
import torch

from stability.deformations import lengths
from stability.deformations.fourier import FourierField
from stability.deformations.norms import Interval
from stability.deformations.roots import bracketed_roots
from stability.deformations.translation import Translation
from stability.deformations.trigonometric import TrigonometricBatch

ROUND_OFF = 1e-12
NAMES = ("displacement", "jacobian", "hessian", "divergence")
SETTINGS = [
    (size, cutoff)
    for cutoff, sizes in {
        2: [(32,), (32, 32), (48, 32)],
        3: [(40,), (32, 32), (24, 40)],
        5: [(64,), (40, 40), (32, 36)],
        8: [(64,), (32, 32)],
    }.items()
    for size in sizes
]

_spec = importlib.util.spec_from_file_location("claims", Path(__file__).parents[1] / "benchmarks" / "control_claims.py")
claims = importlib.util.module_from_spec(_spec)
sys.modules["claims"] = claims
_spec.loader.exec_module(claims)


def reference(field, cutoff):
    """Suprema of each field by the measurement of ``benchmarks/control_claims.py``, ``(fields, 2)``."""
    return claims.measure(field, cutoff)


def second_order(field, cutoff):
    """Suprema on a dense grid of |tau''_ee| over 256 directions e and of |tr grad tau|, ``(fields,)`` each."""
    counts = [math.ceil(20 * cutoff * side / min(field.size)) for side in field.size]
    axes = [torch.arange(n, dtype=torch.float64) * (side / n) for n, side in zip(counts, field.size, strict=True)]
    at = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1).reshape(-1, field.d)
    angle = torch.arange(256, dtype=torch.float64) * (math.pi / 256)
    e = torch.stack([angle.cos(), angle.sin()], dim=-1) if field.d == 2 else torch.ones(1, 1, dtype=torch.float64)
    along = torch.stack(
        [torch.einsum("pijk,aj,ak->pai", field[i].hessian(at), e, e).norm(dim=-1).max() for i in range(len(field.mean))]
    )
    return along, field.jacobian(at).diagonal(dim1=-2, dim2=-1).sum(-1).abs().amax(-1)


def mean_free(size, cutoff, count=3, seed=0):
    return FourierField.sample(size, cutoff=cutoff, batch_shape=(count,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("size", "cutoff"), SETTINGS)
def test_lower_and_upper_enclose_the_supremum_of_displacement_and_jacobian(size, cutoff):
    field = mean_free(size, cutoff)
    norms, expected = field.norms(), reference(field, cutoff)
    lower = torch.stack([norms.displacement.lower, norms.jacobian.lower], dim=-1)
    upper = torch.stack([norms.displacement.upper, norms.jacobian.upper], dim=-1)
    torch.testing.assert_close(lower, expected, rtol=1e-8, atol=0)
    assert bool((upper >= expected).all())
    assert bool((upper <= 1.001 * expected).all())


@pytest.mark.parametrize(("size", "cutoff"), [setting for setting in SETTINGS if setting[1] <= 5])
def test_lower_and_upper_enclose_the_supremum_of_hessian_and_divergence(size, cutoff):
    field = mean_free(size, cutoff)
    norms, (hessian, divergence) = field.norms(), second_order(field, cutoff)
    for interval, seen in ((norms.hessian, hessian), (norms.divergence, divergence)):
        assert bool((interval.lower >= seen * (1 - ROUND_OFF)).all())
        assert bool((interval.lower <= seen / math.cos(2 * math.pi / 20 / math.sqrt(2)) * 1.0002).all())
        assert bool((interval.upper >= interval.lower).all())
        assert bool((interval.upper <= 1.001 * interval.lower).all())


def test_a_wrong_bandwidth_is_caught(monkeypatch):
    field = mean_free((32, 32), 5, count=8)
    expected = reference(field, 5)
    true_bandwidths, true_curvatures = TrigonometricBatch.bandwidths.func, TrigonometricBatch.curvatures.func
    monkeypatch.setattr(TrigonometricBatch, "bandwidths", property(lambda self: true_bandwidths(self) / 10))
    monkeypatch.setattr(TrigonometricBatch, "curvatures", property(lambda self: true_curvatures(self) / 100))
    norms = field.norms()
    upper = torch.stack([norms.displacement.upper, norms.jacobian.upper], dim=-1)
    assert not bool((upper >= expected).all())


def test_upper_is_above_the_reference_for_many_fields_with_a_mean():
    field = mean_free((24, 32), 3, count=20)
    shifted = field.shifted(torch.randn(20, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 5)
    expected = reference(shifted, 3)[:, 0]
    interval = shifted.norms().displacement
    torch.testing.assert_close(interval.lower, expected, rtol=1e-8, atol=0)
    assert bool((interval.upper >= expected).all())
    assert bool((interval.upper <= 1.001 * expected).all())


def test_scaling_indexing_and_refining_compute_nothing_again(monkeypatch):
    calls = []
    for name in ("chunks", "around"):
        original = getattr(TrigonometricBatch, name)
        monkeypatch.setattr(
            TrigonometricBatch, name, lambda self, *args, original=original: (calls.append(1), original(self, *args))[1]
        )
    field = mean_free((24, 24), 3)
    assert not calls
    for name in NAMES:
        assert bool((getattr(field.norms(), name).upper > 0).all())
    done = len(calls)
    assert done > 0
    for other in (
        0.5 * field,
        -field,
        field[1:],
        field.refined(2),
        torch.ones(4, 1) * field / 3,
        field.to(dtype=torch.float32),
    ):
        for name in NAMES:
            assert bool((getattr(other.norms(), name).upper >= getattr(other.norms(), name).lower).all())
    assert len(calls) == done


def test_upper_is_computed_only_when_asked_for():
    computed = []
    interval = Interval(lambda: torch.zeros(1), lambda: (computed.append(1), torch.ones(1))[1])
    scaled = interval.scaled(torch.tensor(2.0))
    assert float(scaled.lower) == 0
    assert not computed
    assert float(scaled.upper) == 2
    assert float(interval.upper) == 1
    assert computed == [1]


def test_norms_of_the_zero_field_are_zero():
    zero = 0.0 * mean_free((24, 24), 3)
    again = FourierField(zero.modes, zero.cosine, zero.sine, size=(24, 24))
    for field in (zero, again):
        for name in NAMES:
            interval = getattr(field.norms(), name)
            assert not interval.lower.any()
            assert not interval.upper.any()


def test_translations_have_exact_norms():
    norms = Translation(torch.tensor([[3.0, -4.0], [0.0, 0.0]], dtype=torch.float64)).norms()
    for end in ("lower", "upper"):
        assert getattr(norms.displacement, end).tolist() == [5.0, 0.0]
        assert not getattr(norms.jacobian, end).any()


def test_derivatives_of_a_field_plus_a_translation_are_those_of_the_field():
    field = mean_free((24, 24), 3)
    both = field + Translation((2.0, 1.0), (24, 24))
    for name in ("jacobian", "hessian", "divergence"):
        for end in ("lower", "upper"):
            assert torch.equal(getattr(getattr(both.norms(), name), end), getattr(getattr(field.norms(), name), end))
    seen, shifted = both.norms().displacement, field.shifted(torch.tensor([2.0, 1.0], dtype=torch.float64)).norms()
    assert bool((seen.lower <= shifted.displacement.lower).all())
    assert bool((seen.lower >= 0.99 * shifted.displacement.lower).all())
    assert bool((seen.upper >= shifted.displacement.lower).all())


def test_the_spectral_norm_is_the_largest_singular_value():
    matrix = torch.randn(1000, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.linalg.matrix_norm(matrix, 2)
    torch.testing.assert_close(lengths.spectral(matrix.flatten(1).unbind(1)), expected, rtol=ROUND_OFF, atol=ROUND_OFF)


def test_the_norm_of_a_bilinear_map_is_attained_on_the_diagonal():
    components = torch.randn(200, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    components[::7, 1::3] = 0.0  # no mixed derivative
    components[::11, 3:] = components[::11, :3]  # rank one
    components[5] = 0.0
    angle = torch.linspace(0, math.pi, 2001, dtype=torch.float64)
    e = torch.stack([angle.cos(), angle.sin()], dim=-1)
    form = components.reshape(200, 2, 3)[..., [0, 1, 1, 2]].reshape(200, 2, 2, 2)
    diagonal = torch.einsum("nijk,aj,ak->nai", form, e, e).norm(dim=-1).amax(1)
    coarse = e[::40]
    pairs = torch.einsum("nijk,aj,bk->nabi", form, coarse, coarse).norm(dim=-1).flatten(1).amax(1)
    value = lengths.bilinear(components.unbind(1))
    assert bool((value >= diagonal * (1 - ROUND_OFF)).all())
    assert bool((value <= diagonal * (1 + 3e-6)).all())
    assert bool((pairs <= value * (1 + ROUND_OFF)).all())


def test_roots_are_found_in_every_bracket():
    targets = torch.linspace(-0.9, 30.0, 50, dtype=torch.float64)
    low, high = torch.full_like(targets, -1.0), torch.full_like(targets, 4.0)

    def cubic(index, x):
        return x**3 - targets[index]

    every = torch.arange(50)
    found = bracketed_roots(cubic, (low, high), (cubic(every, low), cubic(every, high)), tolerance=1e-10)
    assert float(cubic(every, found).abs().max()) <= 1e-10


@pytest.mark.parametrize("wave", [1e-6, 1e-7, 1e-8, 1e-12, 1e-16])
@pytest.mark.parametrize("size", [(16,), (16, 12)])
def test_a_nearly_constant_field_has_the_length_of_its_constant(size, wave):
    """In single precision, in which places are chosen, such a field is constant."""
    d = len(size)
    amplitudes = torch.full((1, d, d), wave, dtype=torch.float64)
    mean = torch.eye(d, dtype=torch.float64)[:1]
    modes = torch.eye(d, dtype=torch.int64)
    field = FourierField(modes, amplitudes, torch.zeros_like(amplitudes), size=size, mean=mean)
    norm = field.norms().displacement
    assert 1.0 <= float(norm.lower) <= float(norm.upper) <= 1 + 3 * d * wave + 1e-9
    assert float(norm.lower) >= float(field.on_grid(4).norm(dim=-1).max()) * (1 - 1e-12)
