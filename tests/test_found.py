"""What a search returns: its meaning, its floor, how far starts agree, its figure."""

import pandas as pd
import torch
from torch import nn

import stability as st
from stability.cli.searching import lines


def test_a_module_whose_output_ignores_the_image_is_invariant(generator):
    class Constant(nn.Module):
        def forward(self, images):
            return torch.ones(len(images), 3, dtype=images.dtype)

    x = st.images.load("blobs", count=2, size=(8, 8))
    found = st.worst_case(Constant(), x, displacement_norm=1.0, jacobian_norm=0.5, generator=generator, steps=2)
    assert found.largest_found.tolist() == [0.0, 0.0]
    assert not found.resolved.any()


def test_round_off_is_not_called_a_lower_bound(generator):
    x = st.images.load("fashion", count=2, size=(12, 12))
    ckn = st.CKN.fit(st.Architecture.dyadic(depth=1), x, filters=(16,), generator=generator).to(torch.float32)
    given = {"jacobian_norm": 0.5, "generator": generator, "starts": (st.search.Saturated(2),), "steps": 2}
    tiny, ordinary = (st.worst_case(ckn, x, displacement_norm=a, **given) for a in (1e-7, 1.0))
    assert ordinary.resolved.all()
    assert set(ordinary.to_frame()["meaning"]) == {"lower bound of the supremum"}
    assert not tiny.resolved.any()
    assert set(tiny.to_frame()["meaning"]) == {"below floor: round-off"}
    assert "below floor" in repr(tiny)
    assert torch.equal(tiny.floor, ckn.reference(x).floor)


def test_one_start_agrees_with_nothing(generator):
    x = st.images.load("blobs", count=1, size=(8, 8))
    phi = st.LinearGram(st.Architecture((st.Layer(1, 1.0),)))
    given = {"displacement_norm": 1.0, "jacobian_norm": 0.5, "generator": generator, "steps": 1}
    assert st.worst_case(phi, x, starts=(st.search.Saturated(1),), **given).spread.isnan().all()
    assert not st.worst_case(phi, x, starts=(st.search.Saturated(3),), **given).spread.isnan().any()


def test_colours_are_drawn_as_colours(generator):
    x = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    x[:, 0, :, :4], x[:, 2, :, 4:] = 1.0, 1.0
    phi = st.LinearGram(st.Architecture((st.Layer(1, 1.0),)))
    found = st.worst_case(phi, st.grid.band_limit(x), displacement_norm=1.0, jacobian_norm=0.5, generator=generator,
                          starts=(st.search.Saturated(1),), steps=1)  # fmt: skip
    panels = found.plot().axes
    before, change = panels[0].images[0].get_array(), panels[3].images[0].get_array()
    assert before.shape == (8, 8, 3)
    expected = (found.deformed - found.images)[0].square().sum(0).sqrt()
    assert torch.allclose(torch.as_tensor(change.data), expected)


def test_the_command_says_so_too():
    row = {
        "image": 0, "objective": "distance", "largest_found": 1e-9, "norm_x": 1.0, "asked_displacement_norm": 1.0,
        "asked_jacobian_norm": 0.5, "displacement_norm_upper": 1.0, "jacobian_norm_upper": 0.5, "starts": 1.0,
        "spread": float("nan"), "family_parameters": "{}", "status_largest_found": "lower bound of the supremum",
        "bound_supremum": 1.0, "status_supremum": "proof",
    }  # fmt: skip
    (below,) = lines(pd.DataFrame([row | {"resolution": "below floor"}]))[:1]
    (above,) = lines(pd.DataFrame([row | {"resolution": "resolved"}]))[:1]
    assert "(below floor: round-off)" in below
    assert "(lower bound of the supremum)" in above
