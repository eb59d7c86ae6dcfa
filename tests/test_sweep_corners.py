"""Corners of a sweep where a number or a status could be wrong without anyone noticing."""

import math

import numpy as np
import pytest
import torch
from sweep_cases import ARCH, spec

import stability as st

TINY = {"name": "fashion", "count": 3, "size": [16, 16]}


def test_signals_have_cnns_too():
    frame = st.sweep(
        spec(
            images={"name": "fashion", "count": 2, "size": [32]},
            vary={},
            representations=[{"kind": "cnn", "widths": [4, 4]}],
            deformations=[st.TranslationSpec(displacement_norm=1)],
        )
    )
    assert len(frame) == 2 * 2
    assert (frame.distance_over_input_norm <= frame.bound_closed_form + frame.interpolation_error + frame.floor).all()


def test_pairs_are_divided_by_the_median_and_seeds_are_kept_whole():
    chosen = spec(
        images=TINY | {"count": 4},
        vary={},
        seed=10**12,
        fields=2,
        representations=[st.LinearSpec()],
        deformations=[st.FourierSpec(cutoff=2, displacement_norm=1.0)],
    )
    frame = st.sweep(chosen)
    assert set(frame.field_seed) == {10**17, 10**17 + 1}
    x = st.images.load("fashion", count=4, size=(16, 16))
    matrix = st.LinearGram(ARCH).distance_matrices(x)[0].numpy()
    median = np.median(matrix[np.triu_indices(4, 1)])
    assert np.allclose(frame.distance / frame.distance_over_pairs, median, rtol=1e-9)


def test_a_representation_with_constants_of_its_own_is_bounded_by_them():
    class Louder(st.LinearGram):
        """50 Phi."""

        @property
        def lipschitz(self):
            return (50.0, 1.0)

    x = st.images.load("fashion", count=1, size=(16, 16))
    tau = st.Translation((1.0, 0.0), size=(16, 16))
    plain, loud = (st.ladder(kind(ARCH), x, tau, refinement=False) for kind in (st.LinearGram, Louder))
    assert loud["closed_form"].value.item() == pytest.approx(50 * plain["closed_form"].value.item())
    assert loud.trivial.item() == pytest.approx(50 * plain.trivial.item())


def test_a_window_field_that_does_not_vanish_gets_no_proof():
    from stability.deformations.domains import Window

    class Drifting(st.FourierField):
        """A band-limited field that claims to live on a window only."""

        @property
        def domain(self):
            return Window(self.size)

    generator = torch.Generator().manual_seed(0)
    field = Drifting.sample((16, 16), cutoff=2, generator=generator)
    x = st.images.load("fashion", count=1, size=(16, 16))
    ladder = st.ladder(st.LinearGram(ARCH), x, st.control(field, displacement_norm=1.0), refinement=False)
    assert str(ladder["closed_form"].status) == "not covered"
    assert math.isinf(ladder["closed_form"].value.item())
    compact = st.CompactField.sample((16, 16), cutoff=2, generator=generator)
    ladder = st.ladder(st.LinearGram(ARCH), x, st.control(compact, displacement_norm=1.0), refinement=False)
    assert "proof" in str(ladder["closed_form"].status)
    for both in (compact + field, field + compact):
        ladder = st.ladder(st.LinearGram(ARCH), x, st.control(both, displacement_norm=0.2), refinement=False)
        assert str(ladder["closed_form"].status) == "not covered"


def test_the_floor_of_a_network_sees_what_its_filters_cancel():
    """Filters that sum to zero on a bright image: the distance is round-off, and the floor says so."""
    arch = st.Architecture((st.Layer(3, 1.0),), antialiasing=1.0)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 1, 16, 16, dtype=torch.float64, generator=generator)
    x = st.grid.band_limit(10 + 1e-3 * noise)
    weight = torch.randn(4, 9, generator=generator)
    weight -= weight.mean(dim=1, keepdim=True)
    tau = st.Translation((1e-3, 0.0), size=(16, 16))
    ladder = st.ladder(st.CNN(arch, [weight]), x, tau, refinement=False)
    assert not ladder.violation.any()
    exact = st.ladder(st.CNN(arch, [weight.double()]), x, tau, refinement=False)
    assert (ladder.observed - exact.observed).abs() <= ladder.floor


def test_rows_follow_the_order_of_the_spec():
    """Images, then families as they were written, then fields, sizes, representations."""
    chosen = spec(
        images=TINY | {"count": 2},
        vary={},
        fields=2,
        representations=[st.LinearSpec(), st.CKNSpec(filters=(2, 2), images=4)],
        deformations=[
            st.TranslationSpec(displacement_norm=[2.0, 1.0], angles=2),
            st.FourierSpec(cutoff=2, displacement_norm=[0.5, 0.25]),
            st.CompactSpec(cutoff=2, displacement_norm=1.0),
        ],
    )
    fields = [("translation", seed, size) for seed in (0, 1) for size in (2.0, 1.0)]
    fields += [("fourier", seed, size) for seed in (0, 1) for size in (0.5, 0.25)]
    fields += [("compact", seed, 1.0) for seed in (0, 1)]
    expected = [(i, *one, name) for i in (0, 1) for one in fields for name in ("linear", "ckn")]
    columns = ["image", "family", "field_seed", "asked_displacement_norm", "representation"]
    assert list(st.sweep(chosen)[columns].itertuples(index=False, name=None)) == expected
