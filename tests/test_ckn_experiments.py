"""The experiments on choices of anchors and on the number of training images: fast runs, and the committed tables."""

import hashlib
import json
from pathlib import Path

import anchor_choice
import labelled
import numpy as np
import pandas as pd
import pytest
import reporting
import torch
import training_size

ROOT = Path(__file__).parents[1]
pytest.importorskip("sklearn")
FAST_ANCHORS = {
    "images": {"name": "digits", "words": "digits", "known": 100, "test": 50, "measured": 6}, "anchors": [4, 16],
    "patches": 800, "seeds": 1, "fit_of_2014": {"pairs": 100, "iterations": 3},
    "training": {"epochs": 1, "steps": 2, "batch_size": 32, "learning_rate": 1e-2, "penalty": 1e-3},
}  # fmt: skip
FAST_SIZES = {
    "images": {"name": "digits", "words": "digits", "test": 40}, "sizes": [50, 100], "filters": [4, 6], "seeds": 2,
    "patches": 800,
    "training": {"epochs": 1, "steps": 2, "batch_size": 32, "learning_rate": 1e-2, "penalty": 1e-3},
}  # fmt: skip


@pytest.mark.slow
def test_a_fast_run_of_the_choices_is_written_whole_and_obeys_the_theorem(tmp_path):
    chosen = reporting.settings("anchor_choice", **FAST_ANCHORS)
    written = anchor_choice.report(chosen, tmp_path / "out", lambda: 1.0)
    assert {path.name for path in written} == {
        "anchor_choice.png", "anchor_choice.pdf", "table.csv", "caption.txt", "run.json"
    }  # fmt: skip
    found = pd.read_csv(tmp_path / "out" / "table.csv")
    assert len(found) == 2 * 5
    assert_projections_never_exceed(found)
    assert found[found.way == "CKN of 2014"].lost_energy.isna().all()


def assert_projections_never_exceed(found: pd.DataFrame) -> None:
    """A single layer's distances after a projection are at most the exact ones, whatever the anchors."""
    projections = found[found.way != "CKN of 2014"]
    assert (projections.largest_ratio <= 1 + 1e-6).all()
    assert projections.lost_energy.between(-1e-9, 1).all()


@pytest.mark.slow
def test_a_fast_run_of_the_sizes_is_written_whole(tmp_path):
    chosen = reporting.settings("training_size", **FAST_SIZES)
    written = training_size.report(chosen, tmp_path / "out", lambda: 1.0)
    assert {path.name for path in written} == {
        "training_size.png", "training_size.pdf", "table.csv", "seeds.csv", "caption.txt", "run.json"
    }  # fmt: skip
    seeds = pd.read_csv(tmp_path / "out" / "seeds.csv")
    assert len(seeds) == 4
    assert (seeds[["supervised", "unsupervised"]] > 0.3).all(axis=None)
    found = pd.read_csv(tmp_path / "out" / "table.csv")
    assert ((found["min"] <= found["mean"]) & (found["mean"] <= found["max"])).all()


def test_a_ridge_head_is_right_on_separable_rows_and_at_chance_on_labels_drawn_at_random(generator):
    labels = torch.arange(200) % 4
    rows = torch.eye(4, dtype=torch.float64)[labels] + 0.1 * torch.randn(200, 4, generator=generator).double()
    parts = rows[:100], labels[:100], rows[100:], labels[100:]
    assert labelled.accuracies(*parts, (1e-2, 1.0)).tolist() == [1.0, 1.0]
    random = torch.randint(0, 4, (200,), generator=generator)
    assert (labelled.accuracies(rows[:100], random[:100], rows[100:], random[100:], (1.0,)) < 0.45).all()


def test_sets_that_are_too_small_are_told():
    with pytest.raises(ValueError, match="count of 'digits' must be at most 1797, got 2000"):
        labelled.labelled({"name": "digits", "count": 2000})
    assert labelled.labelled({"name": "fashion", "count": 20}).labels.tolist() == [*range(10)] * 2


@pytest.mark.parametrize(
    ("gaps", "words"),
    [
        ([-1, -1, 1], "ahead from n = 3 on"),
        ([1, 1, 1], "do not cross"),
        ([-1, -1, -1], "do not cross"),
        ([-1, 1, -1], "not ahead at the largest n"),
    ],
)
def test_where_the_curves_cross_is_said_in_words(gaps, words):
    rows = pd.DataFrame(
        {"images": [1, 2, 3], "seed": 0, "unsupervised": 0.5, "supervised": 0.5 + 0.01 * np.array(gaps)}
    )
    assert words in training_size.crossing(rows)


# --- what is committed ----------------------------------------------------------------------------------------------

REPORTS = ("anchor_choice", "training_size", "training_size_fashion")


@pytest.mark.parametrize("name", REPORTS)
def test_reports_hold_what_the_committed_settings_ask_for(name):
    plain = json.dumps(reporting.settings(name), sort_keys=True, separators=(",", ":"))
    record = json.loads((ROOT / "reports" / name / "run.json").read_text())
    assert record["hash"] == hashlib.sha256(plain.encode()).hexdigest()
    assert len((ROOT / "experiments" / f"{name}.yaml").read_text().splitlines()) <= 25


def test_the_committed_choices_of_anchors_obey_the_theorem_and_come_nearer_with_their_number():
    found = pd.read_csv(ROOT / "reports" / "anchor_choice" / "table.csv")
    assert_projections_never_exceed(found)
    for way, part in found.groupby("way"):
        if way != "CKN of 2014":
            assert part.sort_values("anchors").gram_error.is_monotonic_decreasing
            assert part.sort_values("anchors").lost_energy.is_monotonic_decreasing
    least = found.loc[found.groupby("anchors").lost_energy.idxmin()]
    assert set(least.way) == {"k-means"}  # what it is made for, nearly: the mean loss
