"""The status of the trivial bound is that of the ladder, in rows, on the page and in the words of the command."""

import pytest
import torch

import stability as st
from stability import plots
from stability.cli.searching import lines
from stability.kernels import ArcCosine
from stability.report.parts import glossary

SIZE = (10, 10)


def spec(**changes) -> st.SweepSpec:
    return st.SweepSpec(images=st.ImagesSpec(count=1, size=SIZE), deformations=[], **changes)


@pytest.mark.parametrize(("stride", "status"), [(1, "proof"), (2, "estimate")])
def test_the_trivial_bound_of_a_tangent_kernel_has_the_status_of_the_ladder_everywhere(stride, status):
    architecture = st.Architecture((st.Layer(3, 2.0, stride, ArcCosine(1)),), 1.0)
    search = {"displacement_norm": 1.0, "jacobian_norm": 0.25, "fields": {"kind": "translations", "angles": 4}}
    both = [st.NTKSpec(), st.LinearSpec()]
    rows = st.sweep(spec(architecture=architecture, representations=both, search=search))
    tangent = rows["representation"] == "ntk"
    assert set(rows.loc[tangent, "status_trivial"]) == {status}
    assert set(rows.loc[~tangent, "status_trivial"]) == {"proof"}
    x = st.images.load("fashion", count=1, size=SIZE)
    shift = st.Translation((1.0, 0.0), SIZE)
    assert st.ladder(st.GramNTK(architecture), x, shift, refinement=False)["trivial"].status == status
    assert all(f"({status})" in line.rpartition("trivial ")[2] for line in lines(rows[tangent])[1::2])
    assert f"status: {status}<" in glossary(plots.Run(rows[tangent]))


def test_a_representation_without_constants_has_no_trivial_bound_and_says_so():
    images = st.ImagesSpec(count=1, size=(28, 28), domain="torus")
    shifts = [st.TranslationSpec(displacement_norm=1.0, angles=1)]
    architecture = st.Architecture((st.Layer(3, 2.0),))
    frame = st.sweep(
        st.SweepSpec(
            images=images, architecture=architecture, representations=[st.LeNetSpec()], deformations=shifts
        )
    )  # fmt: skip
    assert set(frame["status_trivial"]) == {"not covered"}
    assert frame["trivial"].isna().all()


def test_an_inexact_warp_makes_the_trivial_bound_of_a_tangent_kernel_an_estimate():
    architecture = st.Architecture((st.Layer(3, 2.0, 1, ArcCosine(1)),), 1.0)
    shifts = {"images": st.ImagesSpec(count=1, size=SIZE), "deformations": [st.TranslationSpec(displacement_norm=1.0)]}
    frame = st.sweep(
        st.SweepSpec(architecture=architecture, representations=[st.NTKSpec(), st.GramSpec()], warp={"kind": "spline"},
                     **shifts)
    )  # fmt: skip
    found = frame.groupby("representation")["status_trivial"].unique().map(list).to_dict()
    assert found == {"ntk": ["estimate"], "gram": ["proof"]}
    assert torch.isfinite(torch.tensor(frame["trivial"].tolist())).all()
