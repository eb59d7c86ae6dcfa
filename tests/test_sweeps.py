"""Sweeps: every number recomputed from its row; specs hash and refuse; results are written whole or not at all."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from sweep_cases import ARCH, spec

import stability as st
from stability.bounds import translation
from stability.sweeps.result import read_rows


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return st.sweep(spec())


def test_one_row_per_image_field_and_representation(frame):
    fields = 2 * 2 + 2 * 1 + 3 * 2
    assert len(frame) == 2 * fields * 4 * 2
    keys = ["image", "family", "field_seed", "asked_displacement_norm", "asked_jacobian_norm", "representation"]
    assert not frame.duplicated([*keys, "front_end", "layers.-1.pooling_scale"]).any()


API_COLUMNS = [
    "image",
    "label",
    "family",
    "cutoff",
    "field_seed",
    "warp",
    "representation",
    "layer",
    "depth",
    "antialiasing",
    "boundary",
    "patch_size",
    "pooling_scale",
    "subsampling",
    "kernel",
    "architecture",
    "search",
    "displacement_norm",
    "jacobian_norm",
    "hessian_norm",
    "divergence_norm",
    "displacement_norm_upper",
    "jacobian_norm_upper",
    "mean_displacement",
    "distance",
    "distance_over_input_norm",
    "distance_over_representation_norm",
    "distance_over_pairs",
    "norm_x",
    "norm_phi",
    "bound_closed_form",
    "status_closed_form",
    "scope_closed_form",
    "trivial",
    "interpolation_error",
    "refinement",
    "floor",
    "seconds",
]


def test_columns_are_there_and_documented(frame):
    from pathlib import Path

    documented = (Path(st.__file__).parents[1] / "docs" / "columns.md").read_text()
    assert [name for name in API_COLUMNS if name not in frame] == []
    varied = {"layers.-1.pooling_scale"}
    assert [name for name in frame.columns if f"`{name}`" not in documented and name not in varied] == []


def test_every_row_can_be_recomputed(frame):
    """From the row alone: architecture, seed and sizes give the same distance, norms and bound."""
    x = st.images.load("fashion", count=2, size=(16, 16))
    rows = frame[frame.family == "fourier"].sample(6, random_state=0)
    for row in rows.itertuples():
        arch = st.Architecture.from_dict(json.loads(row.architecture))
        phi = {"gram": st.GramCKN, "linear": st.LinearGram}[row.representation](arch)
        generator = torch.Generator().manual_seed(row.field_seed)
        field = st.FourierField.sample((16, 16), cutoff=row.cutoff, generator=generator)
        pair = not math.isnan(row.asked_jacobian_norm)
        tau = st.control(
            field,
            displacement_norm=row.asked_displacement_norm,
            jacobian_norm=row.asked_jacobian_norm if pair else None,
            shift=(1.0, 0.0) if pair else None,
        )
        ladder = st.ladder(phi, x[row.image : row.image + 1], tau, refinement=False)
        assert row.distance_over_input_norm == pytest.approx(ladder.observed.item(), rel=1e-6)
        assert row.bound_closed_form == pytest.approx(ladder["closed_form"].value.item(), rel=1e-6)
        assert row.trivial == pytest.approx(ladder.trivial.item(), rel=1e-6)
        assert row.trivial_norms == pytest.approx(ladder["trivial_norms"].value.item(), rel=1e-6)
        assert math.isnan(row.refinement)
        assert row.interpolation_error == pytest.approx(ladder.interpolation_error.item(), rel=1e-6, abs=1e-15)
        assert row.floor == pytest.approx(ladder.floor.item(), rel=1e-9)
        assert row.displacement_norm == pytest.approx(row.asked_displacement_norm, rel=1e-4)
        assert row.label == st.images.dataset("fashion").labels[row.image]


def test_ratios_have_the_denominators_they_name(frame):
    row = frame.iloc[7]
    assert row.distance_over_input_norm == pytest.approx(row.distance / row.norm_x)
    assert row.distance_over_representation_norm == pytest.approx(row.distance / row.norm_phi)
    arch = st.Architecture.from_dict(json.loads(row.architecture))
    x = st.images.load("fashion", count=2, size=(16, 16))
    phi = {"gram": st.GramCKN, "linear": st.LinearGram}[row.representation](arch)
    assert row.distance_over_pairs == pytest.approx(row.distance / phi.distance(x[:1], x[1:]).item(), rel=1e-6)


def test_no_row_violates_its_bounds(frame):
    allowance = frame.interpolation_error + frame.floor
    assert (frame.distance_over_input_norm <= frame.bound_closed_form + allowance).all()
    assert (frame.distance_over_input_norm <= frame.trivial + frame.floor).all()
    moved = frame[frame.family == "translation"]
    exact = [translation(r) for r in moved.displacement_norm / moved.pooling_scale]
    assert np.allclose(moved.bound_closed_form, exact)
    assert set(moved.status_closed_form) == {"proof"}


def test_size_scales_one_field(frame):
    """Along t tau both norms are linear in t: the same seed at twice the size has twice the norms."""
    fields = frame[(frame.family == "fourier") & frame.asked_jacobian_norm.isna()]
    wide = fields.pivot_table(index="field_seed", columns="asked_displacement_norm", values="jacobian_norm")
    assert np.allclose(wide[1.0], 2 * wide[0.5], rtol=1e-9)


def test_signals_and_inexact_warps():
    line = st.sweep(
        spec(
            images=st.ImagesSpec(name="blobs", count=2, size=(24,)),
            vary={},
            warp=st.BilinearWarpSpec(),
            deformations=[
                st.FourierSpec(cutoff=2, jacobian_norm=0.1),
                st.TranslationSpec(displacement_norm=1, angles=4),
            ],
        )
    )
    assert set(line.status_closed_form) == {"estimate"}
    half = [st.TranslationSpec(displacement_norm=0.5)]
    points = st.sweep(spec(vary={}, warp=st.BandLimitedWarpSpec(oversample=1), deformations=half))
    assert set(points.status_closed_form) == {"estimate"}  # point samples are no projection of L_tau x
    spline = st.sweep(spec(vary={}, warp=st.SplineWarpSpec(), deformations=half))
    bilinear = st.sweep(spec(vary={}, warp={"kind": "bilinear"}, deformations=half))
    assert (spline.interpolation_error < 0.5 * bilinear.interpolation_error).mean() > 0.9
    assert sorted(line[line.family == "translation"].field_seed.unique()) == [0, 1]
    assert (line.label == 0).all()


def test_refinement_is_evaluated_on_request_and_is_small():
    small = spec(vary={}, fields=1, deformations=[st.FourierSpec(cutoff=2, displacement_norm=1.0)], refinement=True)
    frame = st.sweep(small)
    x = st.images.load("fashion", count=2, size=(16, 16))
    generator = torch.Generator().manual_seed(0)
    tau = st.control(st.FourierField.sample((16, 16), cutoff=2, generator=generator), displacement_norm=1.0)
    ladder = st.ladder(st.GramCKN(ARCH), x, tau, refinement=True)
    ours = frame[frame.representation == "gram"].refinement
    assert ours.tolist() == pytest.approx(ladder.refinement.tolist(), rel=1e-3)
    assert (frame.refinement < 0.01 * frame.distance_over_input_norm).all()
    assert st.sweep(small.model_copy(update={"warp": st.BilinearWarpSpec()})).refinement.tolist() == pytest.approx(
        frame.refinement.tolist(), rel=1e-6
    )


def test_a_representation_that_vanishes_is_undefined(monkeypatch):
    from stability import images

    monkeypatch.setattr(images, "load", lambda *a, **k: torch.ones(2, 1, 16, 16, dtype=torch.float64))
    frame = st.sweep(spec(deformations=[st.TranslationSpec(displacement_norm=1, angles=1)]))
    removed = frame[frame.front_end == "mean_removal"]
    assert set(removed.floor) == {"undefined"}
    assert set(removed.resolution) == {"undefined"}
    assert removed.distance_over_representation_norm.isna().all()
    assert frame[frame.front_end == "none"].distance_over_representation_norm.notna().all()


def test_finite_networks_stand_beside_the_exact_one():
    frame = st.sweep(
        spec(
            vary={"layers.-1.pooling_scale": [2, 4]},
            representations=[st.GramSpec(), st.CKNSpec(filters=(8, 16), images=4)],
            deformations=[st.TranslationSpec(displacement_norm=1, angles=2)],
        )
    )
    assert set(frame.filters) == {"", "8-16"}
    wide = frame.pivot_table(
        index=["image", "field_seed", "pooling_scale"], columns="representation", values="distance"
    )
    assert np.allclose(wide.ckn, wide.gram, rtol=0.1)
    assert not np.allclose(wide.ckn, wide.gram, rtol=1e-6)
    allowance = frame.interpolation_error + frame.floor
    assert (frame.distance_over_input_norm <= frame.bound_closed_form + allowance).all()
    with pytest.raises(ValueError, match="one number per layer"):
        spec(representations=[st.CKNSpec(filters=(8,))])


def test_varied_kernels_keep_their_parameters_apart():
    small = spec(
        vary={"layers.*.kernel": [{"kind": "exponential", "alpha": 1}, {"kind": "exponential", "alpha": 4}]},
        deformations=[st.TranslationSpec(displacement_norm=1, angles=1)],
        representations=[st.GramSpec()],
    )
    frame = st.sweep(small)
    assert set(frame["layers.*.kernel"]) == {"exponential", "exponential(alpha=4)"} == set(frame.kernel)


def test_unreachable_pairs_are_refused_or_recorded():
    far = st.FourierSpec(cutoff=2, displacement_norm=[0.01, 1.0], jacobian_norm=0.4)
    with pytest.raises(ValueError, match=r"jacobian_norm / displacement_norm must .* on_unreachable"):
        st.sweep(spec(deformations=[far]))
    frame = st.sweep(spec(deformations=[far], on_unreachable="record", vary={}, fields=1))
    out = frame[frame.asked_displacement_norm == 0.01]
    assert len(out)
    assert out.distance.isna().all()
    assert set(out.status_closed_form) == {"out of reach"}
    assert frame[frame.asked_displacement_norm == 1.0].distance.notna().all()


def test_zero_image_is_undefined_and_comes_back_so(tmp_path, monkeypatch):
    from stability import images

    monkeypatch.setattr(images, "load", lambda *a, **k: torch.zeros(2, 1, 16, 16, dtype=torch.float64))
    small = spec(vary={}, deformations=[st.TranslationSpec(displacement_norm=1, angles=1)])
    frame = st.sweep(small, out=tmp_path / "run")
    assert set(frame.floor) == {"undefined"}
    assert frame.distance_over_input_norm.isna().all()
    assert set(read_rows(tmp_path / "run").floor) == {"undefined"}


def test_a_row_says_where_its_distance_is_round_off(tmp_path):
    """Far below the floor, and far above it; in the frame and in the file."""
    asked = st.SweepSpec(
        images=st.ImagesSpec(name="fashion", count=1, size=(16, 16)),
        architecture=st.Architecture.dyadic(depth=1),
        representations=[st.GramSpec()],
        deformations=[st.FourierSpec(cutoff=2, displacement_norm=[1e-11, 0.5])],
        fields=1,
    )
    frame = st.sweep(asked, out=tmp_path / "run")
    for rows in (frame, read_rows(tmp_path / "run")):
        assert rows.sort_values("asked_displacement_norm").resolution.tolist() == ["below floor", "resolved"]
    assert frame.distance.notna().all()
