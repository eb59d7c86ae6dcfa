"""The experiment on certified classification: written whole in a fast run, and true in the committed table."""

import hashlib
import json
from pathlib import Path

import certified
import pandas as pd
import pytest
import reporting

REPORT = Path(__file__).parents[1] / "reports" / "certified"
FAST = {
    "images": {"name": "fashion", "size": [8, 8]}, "training": 20, "test": 3, "filters": [4, 4],
    "rays": {"certified": [2.0, 0.9]},
    "search": {"saturated": 1, "linearised": 1, "kept": 1, "steps": 2, "sizes": [1.0]},
}  # fmt: skip


@pytest.mark.slow
def test_a_fast_run_is_written_whole(tmp_path):
    written = certified.report(reporting.settings("certified", **FAST), tmp_path, lambda: 1.0)
    assert {path.name for path in written} == {
        "certified.png", "certified.pdf", "table.csv", "summary.csv", "caption.txt", "run.json"
    }  # fmt: skip
    assert all(path.stat().st_size > 0 for path in written)
    assert len(pd.read_csv(tmp_path / "table.csv")) == 3


def test_the_committed_report_is_what_the_settings_ask_for():
    chosen = reporting.settings("certified")
    plain = json.dumps(chosen, sort_keys=True, separators=(",", ":"))
    assert json.loads((REPORT / "run.json").read_text())["hash"] == hashlib.sha256(plain.encode()).hexdigest()
    names = {"certified.png", "certified.pdf", "shifts.png", "shifts.pdf", "table.csv", "summary.csv", "caption.txt"}
    assert {path.name for path in REPORT.iterdir()} == names | {"run.json"}


def test_no_committed_radius_contradicts_another():
    rows = pd.read_csv(REPORT / "table.csv")
    assert rows.groupby("ray").size().tolist() == [40, 40]
    sampled, torus, found = (rows[f"{name}_displacement_px"] for name in ("as_sampled", "certified", "found"))
    assert (sampled <= torus).all()
    assert (torus <= found).all()
    assert ((torus == 0) == ~rows["right"]).all()
    medians = pd.read_csv(REPORT / "summary.csv").set_index("ray")
    assert (medians.median_found_over_certified > 1).all()
    assert (medians.share_certified_zero == 1 - medians.accuracy).all()
