"""Fields stacked to a batch are those fields, or it is said why they cannot be."""

import pytest
import torch

import stability as st


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_every_row_of_a_stack_is_its_field():
    flow = st.FlowField.sample((16, 18), cutoff=2, generator=rng(3))
    compact = st.CompactField.sample((16, 18), cutoff=2, generator=rng(1), rise=3.0)
    for fields in ([flow, 2 * flow, -0.5 * flow], [st.inverse(flow), 2 * st.inverse(flow)], [compact, 3 * compact]):
        stacked = st.stack(fields)
        assert stacked.batch_shape == (len(fields),)
        for row, field in zip(stacked.on_grid(), fields, strict=True):
            torch.testing.assert_close(row, field.on_grid(), rtol=0, atol=1e-9)


def test_fields_of_unequal_windows_or_lattices_are_refused():
    wide, narrow = (st.CompactField.sample((24, 24), cutoff=2, generator=rng(), rise=rise) for rise in (3.0, 6.0))
    with pytest.raises(ValueError, match="share their window"):
        st.stack([wide, narrow])
    coarse, fine = (st.SplineField.sample((24, 24), lattice=lattice, generator=rng()) for lattice in (5, 6))
    with pytest.raises(ValueError, match="share modes and settings"):
        st.stack([coarse, fine])
