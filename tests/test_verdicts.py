"""Verdicts of a ladder: none, explained by allowances, a grid that nobody refined or that is not resolved, violated."""

import dataclasses
import math

import pytest
import torch

import stability as st
from stability.ladders.verdict import verdicts


def test_verdicts_name_what_explains_an_excess_and_the_rest_violates_the_theory():
    rung = st.ladder(
        st.LinearGram(st.Architecture((st.Layer(1, 2.0),))),
        torch.ones(1, 1, 8, dtype=torch.float64),
        st.Translation((0.0,), size=(8,)),
    )["closed_form"]

    def verdict(observed, status=st.bounds.Status.PROOF, defect=0.02):
        given = {"floor": torch.tensor([1e-3]), "defect": torch.tensor([defect])}
        one = dataclasses.replace(rung, value=torch.tensor([0.5]), status=status, allowances=given)
        return verdicts(torch.tensor([observed]), [one])[0]

    assert verdict(0.4) == "none"
    assert verdict(0.51) == "explained by defect"
    assert verdict(0.5205) == "explained by defect, floor"
    assert verdict(0.53) == "THEORY VIOLATED"
    assert verdict(0.51, defect=math.nan) == "THEORY VIOLATED"  # what was not evaluated explains nothing
    assert verdict(0.53, st.bounds.Status.ESTIMATE) == "explained by closed_form: estimate"
    assert verdict(math.nan) == "none"
    assert bool(verdict(0.53))
    assert not bool(verdict(0.51))


@pytest.mark.parametrize(("change", "expected"), [
    (0.0, "THEORY VIOLATED"), (0.05, "THEORY VIOLATED"), (0.12, "explained by refinement"),
    (0.3, "explained by refinement"), (math.nan, "explained by refinement, which was not evaluated"),
])  # fmt: skip
def test_a_grid_accuses_no_rung_before_it_was_refined(change, expected):
    assert _of_refinement(0.6, change) == expected


def test_a_grid_that_is_not_resolved_accuses_no_rung():
    assert _of_refinement(1.0, 0.3) == "explained by a grid that is not resolved"
    assert _of_refinement(1.0, 0.2) == "THEORY VIOLATED"


def _of_refinement(observed, change):
    rung = st.ladder(
        st.LinearGram(st.Architecture((st.Layer(1, 2.0),))),
        torch.ones(1, 1, 8, dtype=torch.float64),
        st.Translation((0.0,), size=(8,)),
    )["closed_form"]
    given = {"floor": torch.tensor([0.0]), "refinement": torch.tensor([change])}
    one = dataclasses.replace(rung, value=torch.tensor([0.5]), status=st.bounds.Status.PROOF, allowances=given)
    return verdicts(torch.tensor([observed]), [one])[0]


def test_steep_kernels_on_a_coarse_grid_are_not_resolved(generator):
    x = st.images.load("fashion", count=2, size=(12, 12))
    layers = tuple(st.Layer(3, 1.0 + k, 1, st.kernels.Exponential(50.0)) for k in range(2))
    phi = st.GramCKN(st.Architecture(layers, front_end=st.front_ends.MeanRemoval()))
    seen = st.ladder(phi, x, st.Translation((1e-3, 0.0), (12, 12)), refinement=True, certificates=False).violation
    assert "grid that is not resolved" in " ".join(seen)
    assert not seen.any()
