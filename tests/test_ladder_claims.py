"""Random ladders, as ``benchmarks/ladder_claims.py`` draws them: nothing observed is above a rung."""

import importlib.util
import math
import sys
from pathlib import Path

import pytest

import stability as st

_spec = importlib.util.spec_from_file_location(
    "ladder_claims", Path(__file__).parents[1] / "benchmarks" / "ladder_claims.py"
)
claims = importlib.util.module_from_spec(_spec)
sys.modules["ladder_claims"] = claims
_spec.loader.exec_module(claims)


def check(outcomes):
    assert not any("VIOLATED" in outcome.verdict for outcome in outcomes)
    least = {name: min(o.ratios.get(name, math.inf) for o in outcomes) for name in ("trivial", "energy", "closed_form")}
    assert least["trivial"] >= 1.0
    assert least["energy"] > 0.8  # translations: nearly an equality
    assert least["closed_form"] > 1.0
    shares = sorted(outcome.allowed for outcome in outcomes)
    assert shares[len(shares) // 2] < 1e-3
    assert sum(share > 0.02 for share in shares) <= 0.15 * len(shares)  # coarse grids: of 2,000 draws 4.5 per cent


def test_no_distance_is_above_a_rung():
    check([claims.outcome(seed, certificates=False) for seed in range(3000, 3020)])


@pytest.mark.slow
def test_no_distance_is_above_a_rung_in_many_draws():
    check([claims.outcome(seed, certificates=seed % 5 == 0) for seed in range(4000, 4180)])


def test_a_report_counts_what_was_violated():
    fine = claims.Outcome("fourier", 2, "none", {"closed_form": 2.0}, 0.01, 0.1)
    wrong = claims.Outcome("fourier", 1, "THEORY VIOLATED", {"closed_form": math.inf}, 0.03, 1e-6)
    text = claims.report([fine, fine, wrong], 1.0)
    assert "3 draws" in text
    assert "1 violations" in text
    assert "above 2 per cent in 1 draws, of which 1 with less than 1e-05" in text


def test_draws_are_of_their_seed_and_cover_every_family():
    first, second = claims.draw(7), claims.draw(7)
    assert first[0] == second[0]
    assert (first[2] == second[2]).all()
    assert {claims.draw(seed)[0] for seed in range(120)} == set(claims.FAMILIES)
    assert all(isinstance(claims.draw(seed)[1], st.Representation) for seed in range(3))


def test_draws_with_large_allowances_are_taken_on_finer_grids(monkeypatch):
    fine = claims.Outcome("fourier", 1, "none", {}, 0.01, 0.1)
    coarse = claims.Outcome("fourier", 1, "none", {}, 0.05, 0.1)
    asked = []

    def outcome(seed, *, certificates, sizes, device):
        asked.append((seed, certificates, sizes))
        return coarse if seed == 20 or (sizes == claims.SIZES and seed) else fine

    monkeypatch.setattr(claims, "outcome", outcome)
    found, _ = claims.several([0, 10], None)
    assert [len(one) for one in found] == [1, 2]
    assert asked == [(0, True, claims.SIZES), (10, True, claims.SIZES), (10, False, claims.finer(2))]
    lines = claims.report_resolved(found).splitlines()
    assert "2 draws, 0 violations, allowances above 2 per cent in 1, the largest 5.0e-02" in lines[0]
    assert "1 draws, 0 violations, allowances above 2 per cent in 0, the largest 1.0e-02" in lines[1]
    assert claims.finer(4)[2][0] == tuple(4 * n for n in claims.SIZES[2][0])
    assert len(claims.resolved(20)) == len(claims.FACTORS)  # and then gives up
