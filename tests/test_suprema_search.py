"""The search for suprema of band-limited fields: nothing hides from it, and the constant of a shift fills its bound."""

import pytest
import torch

from stability.deformations import climbing, lengths, suprema
from stability.deformations.divergence_free import DivergenceFreeField
from stability.deformations.fourier import FourierField
from stability.deformations.suprema import TOLERANCE, Supremum


def tilted(rng, size=(32, 32), cutoff=4, count=64):
    """Fields between almost one shell of low and almost one of high frequencies."""
    field = FourierField.sample(size, cutoff=cutoff, batch_shape=(count,), generator=rng)
    share = torch.rand(count, generator=rng, dtype=torch.float64) * 2 - 1
    return field.tilted(torch.copysign(torch.expm1(1.4 * share.abs() / (1 - share.abs())), share))


def with_hidden_maxima():
    """Fields whose |tau| or ||grad tau|| has two maxima on a ridge aslant to the search's grid, of which one hides."""
    rng, found = torch.Generator().manual_seed(0), {}
    for draw in range(59):
        field = tilted(rng)
        torch.rand(64, 1, generator=rng, dtype=torch.float64)
        found[draw] = field
    return found[55][22:23], found[58][56:57]


def seen_and_certified(field, which):
    interval = (field.norms().displacement, field.norms().jacobian)[which]
    return interval.lower, interval.upper


@pytest.mark.parametrize("which", [0, 1])
def test_maxima_on_ridges_aslant_to_the_grid_are_found(which, monkeypatch):
    field = with_hidden_maxima()[which]
    seen, certified = seen_and_certified(field, which)
    assert float(certified / seen) <= 1 + 1.1 * TOLERANCE
    everywhere = climbing.starts
    monkeypatch.setattr(suprema, "starts", lambda *arguments, hidden: everywhere(*arguments, hidden=False))
    alone = FourierField(field.modes, field.cosine, field.sine, size=field.size)
    assert float(seen_and_certified(alone, which)[0] / seen) < 1 - 3e-4


@pytest.mark.parametrize(("size", "cutoff"), [((32, 32), 4), ((24, 40), 3), ((64,), 5), ((32, 32), 1)])
def test_the_certificate_leaves_no_room_for_another_maximum(size, cutoff):
    rng = torch.Generator().manual_seed(1)
    for _ in range(3):
        field = tilted(rng, size, cutoff)
        for which in (0, 1):
            seen, certified = seen_and_certified(field, which)
            assert bool((certified >= seen).all())
            assert bool((certified <= seen * (1 + 1.1 * TOLERANCE)).all())


def test_zero_fields_and_empty_batches_have_suprema():
    field = tilted(torch.Generator().manual_seed(2), count=3)
    cosine = field.cosine * torch.tensor([1.0, 0.0, 1.0])[:, None, None]
    some = FourierField(field.modes, cosine, 0 * field.sine, size=(32, 32))
    lower = some.norms().jacobian.lower
    assert float(lower[1]) == 0.0
    assert bool((lower[[0, 2]] > 0).all())
    assert field[:0].norms().jacobian.lower.shape == (0,)


@pytest.mark.parametrize("kind", [FourierField, DivergenceFreeField])
def test_the_constant_of_a_shift_fills_the_bound_for_small_and_large_constants(kind):
    rng = torch.Generator().manual_seed(3)
    field = kind.sample((24, 32), cutoff=3, batch_shape=(32,), generator=rng)
    for share in (1.0, 1.0001, 1.2, 1.3, 2.0, 10.0):
        direction = torch.nn.functional.normalize(torch.randn(2, generator=rng, dtype=torch.float64), dim=0)
        bound = share * field.norms().displacement.lower
        found = field.filled(direction, bound)
        again = Supremum(found.field._polynomials(0), lengths.euclidean)  # a search that knows nothing of the bound
        torch.testing.assert_close(again.lower, bound, rtol=1e-10, atol=0)
        torch.testing.assert_close(found.field.norms().displacement.lower, bound, rtol=1e-10, atol=0)
        torch.testing.assert_close(found.field.mean - field.mean, found.s[:, None] * direction)
        assert bool((found.s >= 0).all())
        assert bool((found.alone >= field.norms().displacement.lower).all())


def test_related_fields_share_tables_and_changed_ones_do_not():
    field = FourierField.sample((16, 16), cutoff=2, batch_shape=(2,), generator=torch.Generator().manual_seed(0))
    lower = field.norms().jacobian.lower
    frequencies = field._polynomials(1).frequencies
    grids = dict(frequencies._grids)
    again = FourierField.sample((16, 16), cutoff=2, batch_shape=(3,), generator=torch.Generator().manual_seed(1))
    for other in (2.0 * field, again):
        assert other._polynomials(1).frequencies is frequencies
        other._polynomials(1).frequencies.grid(next(iter(grids)))
    assert frequencies._grids == grids
    assert field.shifted(torch.ones(2, dtype=torch.float64))._polynomials(0).frequencies is not frequencies
    twice = field.refined(2)
    again = FourierField(twice.modes, twice.cosine, twice.sine, size=twice.size)
    torch.testing.assert_close(twice.suprema().jacobian.lower, again.norms().jacobian.lower)
    torch.testing.assert_close(field.suprema().jacobian.lower, lower)
