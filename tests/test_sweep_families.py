"""Every family of deformations in a specification: drawn, sized, measured, and said what covers it."""

import numpy as np
import pytest

import stability as st
from stability.sweeps.families import OWN

BASE = {
    "images": {"name": "blobs", "count": 1, "size": [20, 20]},
    "architecture": {"antialiasing": 1.0, "layers": [{"patch_size": 3, "pooling_scale": 2}]},
    "representations": [{"kind": "linear"}],
    "fields": 2,
}
SIZES = {
    "mixed": {"displacement_norm": [0.5, 1.0], "jacobian_norm": 0.2},
    "saturated": {"displacement_norm": [0.5, 1.0], "jacobian_norm": 0.2},
    "bump": {"displacement_norm": 1.0, "jacobian_norm": [0.3, 0.4]},
    "spline": {"displacement_norm": 1.0, "jacobian_norm": [0.4, 0.5], "lattice": 6},
    "flow": {"jacobian_norm": [0.3, 1.2], "cutoff": 2},
}
UNCOVERED = ("affine", "thin_plate")
FAST = ("bump", "max_entropy", "mixed", "piecewise_linear", "saturated")
KINDS = [
    kind if kind in FAST else pytest.param(kind, marks=pytest.mark.slow)
    for kind in (spec.model_fields["kind"].default for spec in OWN)
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_sweep_measures_the_family_at_the_sizes_asked_for(kind):
    family = {"kind": kind, **SIZES.get(kind, {"displacement_norm": [0.5, 1.0]})}
    frame = st.sweep(st.SweepSpec(**BASE, deformations=[family]))
    assert set(frame.family) == {kind}
    assert (frame.distance_over_input_norm > 0).all()
    for name in ("displacement_norm", "jacobian_norm"):
        asked = frame[f"asked_{name}"]
        given = asked.notna()
        assert (frame[name][given] <= asked[given]).all()
        if kind not in ("mixed", "saturated"):
            assert (frame[name][given] >= asked[given] * (1 - 1e-3)).all()
    if kind in ("mixed", "saturated"):  # the tighter one binds
        share = np.maximum(
            frame.displacement_norm / frame.asked_displacement_norm, frame.jacobian_norm / frame.asked_jacobian_norm
        )
        assert (share >= 1 - 1e-6).all()
    covered = frame[frame.jacobian_norm_upper < 1]
    expected = "not covered" if kind in UNCOVERED else "proof, numerically evaluated"
    assert set(covered.status_closed_form) <= {expected, "proof"}
    if kind not in UNCOVERED:
        allowance = covered.interpolation_error + covered.floor
        assert (covered.distance_over_input_norm <= covered.bound_closed_form + allowance).all()


def test_max_entropy_fields_may_be_sized_by_the_parameters_of_their_law():
    family = {"kind": "max_entropy", "cutoff": 3, "typical_displacement": 1.0}
    frame = st.sweep(st.SweepSpec(**BASE, deformations=[family]))
    assert frame.asked_displacement_norm.isna().all()
    assert frame.displacement_norm.between(0.3, 4).all()
    again = st.sweep(st.SweepSpec(**BASE, deformations=[{**family, "typical_displacement": 0.5}]))
    np.testing.assert_allclose(again.displacement_norm, frame.displacement_norm / 2, rtol=1e-9)
    for extra in ({"temperature": 1e-3}, {"displacement_norm": 1.0}):
        with pytest.raises(ValueError, match="must not be mixed"):
            st.SweepSpec(**BASE, deformations=[{**family, **extra}])


@pytest.mark.slow
def test_a_pair_out_of_a_flows_reach_is_refused_or_recorded():
    family = {"kind": "flow", "cutoff": 2, "displacement_norm": 0.1, "jacobian_norm": 1.5}
    with pytest.raises(ValueError, match="flow"):
        st.sweep(st.SweepSpec(**BASE, deformations=[family]))
    frame = st.sweep(st.SweepSpec(**BASE, deformations=[family], on_unreachable="record"))
    assert frame.distance.isna().all()
