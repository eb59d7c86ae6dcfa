"""The experiments on recovery and random features: their claims hold in the committed tables and in a fast run."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import random_features
import recovery
import reporting

ROOT = Path(__file__).parents[1]
FAST_RECOVERY = {
    "sets": [{"name": "fashion", "count": 6, "size": [12, 12]}], "subsampling": [1, 2, 3, 4], "filters": 32,
    "inversion": {"images": 1, "widths": 16, "steps": 10},
}  # fmt: skip
FAST_FEATURES = {"images": {"name": "fashion", "count": 3, "size": [8, 8]}, "widths": [8, 16, 32, 64], "draws": 4}


@pytest.mark.slow
def test_a_fast_run_of_recovery_is_written_whole_and_jumps_beyond_the_patch(tmp_path):
    chosen = reporting.settings("recovery", **FAST_RECOVERY)
    written = recovery.report(chosen, tmp_path / "out", lambda: 1.0)
    assert {path.name for path in written} == {
        "recovery.png", "recovery.pdf", "pictures.png", "pictures.pdf", "table.csv", "caption.txt", "run.json"
    }  # fmt: skip
    assert all(path.stat().st_size > 0 for path in written)
    found = pd.read_csv(tmp_path / "out" / "table.csv")
    small = found[(found.method == "decoder") & (found.patch_size == 2)].set_index("subsampling")
    assert small.error[2] < 0.2 * small.error[3]
    assert (small.error >= small.lost * (1 - 1e-9)).all()


@pytest.mark.slow
def test_a_fast_run_of_random_features_is_written_whole(tmp_path):
    chosen = reporting.settings("random_features", **FAST_FEATURES)
    written = random_features.report(chosen, tmp_path / "out", lambda: 1.0)
    assert {path.name for path in written} == {
        "random_features.png", "random_features.pdf", "table.csv", "slopes.csv", "caption.txt", "run.json"
    }  # fmt: skip
    assert len(pd.read_csv(tmp_path / "out" / "table.csv")) == 2 * 3 * 4


def test_unknown_settings_are_told():
    with pytest.raises(ValueError, match="a setting of recovery must be one of"):
        reporting.settings("recovery", filter=3)


def test_the_committed_images_are_recovered_up_to_strides_of_a_patch_and_lost_beyond():
    found = pd.read_csv(ROOT / "reports" / "recovery" / "table.csv")
    decoded = found[found.method == "decoder"]
    kept, lost = decoded[decoded.subsampling <= decoded.patch_size], decoded[decoded.subsampling > decoded.patch_size]
    assert (kept.error < 0.05).all()
    assert (kept.condition <= kept.bound).all()
    assert np.isinf(lost.condition).all()
    assert (lost.error >= lost.lost * (1 - 1e-6)).all()
    for _, part in decoded.groupby(["set", "patch_size"]):
        within = part[part.subsampling <= part.patch_size].error.max()
        beyond = part[part.subsampling > part.patch_size].error.min()
        assert beyond > 2.5 * within


def test_the_committed_slopes_hold_the_rate():
    found = pd.read_csv(ROOT / "reports" / "random_features" / "slopes.csv")
    assert len(found) == 6
    assert (found.low <= -0.5).all()
    assert (found.high >= -0.5).all()
    assert (found.high - found.low < 0.25).all()


@pytest.mark.parametrize("name", ["recovery", "random_features"])
def test_reports_hold_what_the_committed_settings_ask_for(name):
    plain = json.dumps(reporting.settings(name), sort_keys=True, separators=(",", ":"))
    record = json.loads((ROOT / "reports" / name / "run.json").read_text())
    assert record["hash"] == hashlib.sha256(plain.encode()).hexdigest()
