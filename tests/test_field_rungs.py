"""Rungs by certificates and by enclosed norms, in ladders and in sweeps."""

import dataclasses
import math

import pytest
import torch

import stability as st
from stability import kernels
from stability.ladders.field_constants import FieldConstants, certified, enclosed
from stability.ladders.field_rungs import further, sampling_status

ARCH = st.Architecture((st.Layer(3, 2.0, 1, kernels.Exponential(2.0)), st.Layer(3, 3.0)), antialiasing=1.5)


def fields(size, b, generator, count=1):
    field = st.FourierField.sample(size, cutoff=2, batch_shape=(count,), generator=generator)
    return st.control(field, jacobian_norm=b)


@pytest.fixture
def images():
    return st.images.load("fashion", count=2, size=(16, 16))


def test_the_ladder_is_ordered_from_the_image_to_the_norms(images, generator):
    tau = fields((16, 16), 0.2, generator, count=2)
    ladder = st.ladder(st.GramCKN(ARCH), images, tau, operator_norms=st.OperatorNorms(tau), refinement=False)
    names = ["x_specific", "centred_operator_norms", "operator_norms", "certificates", "closed_form"]
    values = torch.stack([ladder.observed, *(ladder[name].value for name in names)])
    assert (values.diff(dim=0) > 0).all()
    assert (ladder["centred_operator_norms"].value <= ladder["centred_certificates"].value).all()
    assert ladder["operator_norms"].status == "enclosure"
    assert str(ladder["operator_norms"].scope) == "every image, this field"
    for name in names[1:]:
        assert torch.allclose(sum(term.value for term in ladder[name].terms), ladder[name].value)
    # term by term: what the maps show is at most the norm times the map
    for sharp, norm in zip(ladder["x_specific"].terms, ladder["centred_operator_norms"].terms, strict=True):
        assert (sharp.value <= norm.value + ladder.commutation_defect).all()


@pytest.mark.parametrize("front_end", [st.front_ends.Gradient(), st.front_ends.MeanRemoval()], ids=repr)
def test_enclosed_norms_know_front_ends(front_end, images, generator):
    """A filter acts on x: its commutator is multiplied with ||x - mean x||, not with the norm of the filtered image."""
    arch = dataclasses.replace(ARCH, front_end=front_end)
    tau = fields((16, 16), 0.2, generator, count=2)
    ladder = st.ladder(st.GramCKN(arch), images, tau, operator_norms=st.OperatorNorms(tau), refinement=False)
    centred = ladder["centred_operator_norms"]
    assert (ladder.observed <= ladder["x_specific"].value + ladder.commutation_defect).all()
    for sharp, norm in zip(ladder["x_specific"].terms, centred.terms, strict=True):
        assert (sharp.value <= norm.value + ladder.commutation_defect).all()
    assert (centred.value <= ladder["operator_norms"].value).all()
    norms = enclosed(st.OperatorNorms(tau), arch)
    centred_x = (images - images.mean((-2, -1), keepdim=True)).flatten(1).norm(dim=1) / images.flatten(1).norm(dim=1)
    expected = [math.sqrt(2) * one.layers[0] * float(c) for one, c in zip(norms, centred_x, strict=True)]
    assert centred.terms[0].value.tolist() == pytest.approx(expected)
    if not front_end.in_closed_form:
        assert ladder["certificates"].status == ladder["energy"].status == "not covered"


def test_a_layer_without_norms_multiplies_by_all_constants():
    one = FieldConstants((0.3, 0.2), (0.4, math.inf), 0.1, st.bounds.Status.PROOF)
    kept, lost = (one.of_every_image((2.0, 3.0), keeps).terms for keeps in (True, False))
    assert math.fsum(kept.values()) == pytest.approx(min(6 * 0.3 + 3 * 0.2 + 0.1, math.hypot(6 * 0.4, 0.1) + 3 * 0.2))
    assert math.fsum(lost.values()) == pytest.approx(6 * min(0.3 + 0.2 + 0.1, math.hypot(0.4, 0.1) + 0.2))
    rooted = FieldConstants((0.3, 0.3, 0.3), (0.31, 0.31, 0.31), 0.3, st.bounds.Status.PROOF)
    assert math.fsum(rooted.of_every_image((1.0,) * 3, True).terms.values()) == pytest.approx(
        math.hypot(0.31, 0.31, 0.31, 0.3)
    )


def test_certificates_are_kept_for_other_images_and_belong_to_their_fields(images, generator):
    tau = fields((16, 16), 0.2, generator)
    known = st.FieldCertificates(tau)
    first = st.ladder(st.GramCKN(ARCH), images, tau, certificates=known, refinement=False)
    assert [row.last for row in certified(known, ARCH)] == [row.last for row in certified(known, ARCH)]
    assert first["certificates"].value[0] == first["certificates"].value[1]  # one field, every image
    other = fields((16, 16), 0.2, generator)
    with pytest.raises(ValueError, match="certificates must belong to the deformation"):
        st.ladder(st.GramCKN(ARCH), images, other, certificates=known)
    with pytest.raises(ValueError, match="operator_norms must belong to the deformation"):
        st.ladder(st.GramCKN(ARCH), images, other, operator_norms=st.OperatorNorms(tau))


def test_strides_weaken_the_status_and_add_their_aliasing(images, generator):
    tau = fields((16, 16), 0.2, generator)
    wide = st.Architecture((st.Layer(3, 2.0, 2), st.Layer(3, 4.0)))
    narrow = st.Architecture((st.Layer(3, 1.0, 2), st.Layer(3, 4.0)))
    assert [str(sampling_status(arch)) for arch in (ARCH, wide, narrow)] == [
        "proof", "proof, numerically evaluated", "estimate"
    ]  # fmt: skip
    for arch in (wide, narrow):
        form = st.closed_form(arch, displacement_norm=1.0, jacobian_norm=0.1)
        assert set(further(arch, form, filtered=False)) == {"aliasing 1"}
    assert st.ladder(st.GramCKN(narrow), images, tau, refinement=False)["certificates"].status == "estimate"
    uncovered = st.closed_form(wide, displacement_norm=1.0, jacobian_norm=1.0)
    assert further(wide, uncovered, filtered=False) is None


@pytest.mark.slow
def test_sweeps_ask_for_the_same_numbers(generator):
    names = ("x_specific", "early_stop", "centred_certificates", "certificates", "operator_norms", "energy")
    spec = st.SweepSpec(
        images=st.ImagesSpec(name="fashion", count=2, size=(16, 16)), architecture=ARCH, fields=1,
        representations=[st.GramSpec(), st.CKNSpec(filters=(4, 4), images=2), {"kind": "ntk"}],
        deformations=[st.FourierSpec(cutoff=2, jacobian_norm=[0.1, 0.2])], rungs=("closed_form", *names),
    )  # fmt: skip
    rows = st.sweep(spec)
    field = st.FourierField.sample((16, 16), cutoff=2, generator=torch.Generator().manual_seed(0))
    images = st.images.load("fashion", count=2, size=(16, 16))
    for b in (0.1, 0.2):
        tau = st.control(field, jacobian_norm=b)
        ladder = st.ladder(st.GramCKN(ARCH), images, tau, operator_norms=st.OperatorNorms(tau), refinement=False)
        part = rows[(rows.asked_jacobian_norm == b) & (rows.representation == "gram")]
        assert part.distance_over_input_norm.tolist() == pytest.approx(ladder.observed.tolist(), rel=1e-9)
        for name in names:
            assert part[f"bound_{name}"].tolist() == pytest.approx(ladder[name].value.tolist(), rel=1e-4), name
            assert set(part[f"scope_{name}"]) == {str(ladder[name].scope)}
        assert part.commutation_defect.tolist() == pytest.approx(ladder.commutation_defect.tolist(), rel=1e-4)
    finite = rows[rows.representation_kind == "ckn"]
    assert (finite.distance_over_input_norm <= finite.bound_x_specific + finite.commutation_defect).all()
    tangent = rows[rows.representation_kind == "ntk"]
    assert set(tangent.status_x_specific) == set(tangent.status_certificates) == {"not covered"}
    assert (tangent.bound_energy == math.inf).all()


def test_a_plan_counts_what_rungs_cost():
    from stability.sweeps.chunks import Cut, total_seconds
    from stability.sweeps.costs import CERTIFICATES, OPERATOR_NORMS

    def planned(rungs):
        spec = st.SweepSpec(
            images=st.ImagesSpec(count=4, size=(28, 28)), representations=[st.GramSpec()], rungs=rungs,
            deformations=[st.FourierSpec(cutoff=2, jacobian_norm=[0.1])], fields=3,
        )  # fmt: skip
        return total_seconds(Cut(spec))

    cheap = planned(("closed_form", "trivial"))
    assert planned(("closed_form", "certificates")) == pytest.approx(cheap + 3 * CERTIFICATES)  # once a field
    assert planned(("operator_norms",)) == pytest.approx(cheap + 3 * OPERATOR_NORMS[2], rel=0.1)
    assert planned(("x_specific",)) > cheap + 12 * 0.3


def test_every_rung_says_which_form_won(generator):
    x = st.grid.band_limit(torch.randn(1, 1, 12, 12, generator=generator, dtype=torch.float64))
    phi = st.GramCKN(st.Architecture.dyadic(depth=2, subsampling=1))

    def forms(tau, **known):
        ladder = st.ladder(phi, x, tau, refinement=False, **known)
        frame = ladder.to_frame()
        assert all(len(rung.forms) in (0, len(x)) for rung in ladder.rungs)
        assert "form_trivial" not in frame
        return {name.removeprefix("form_"): frame[name][0] for name in frame if name.startswith("form_")}

    still = forms(st.Translation((1.0, 0.0), (12, 12)))
    assert "translation" in still["closed_form"]
    assert set(still) == {"closed_form", "energy", "certificates", "centred_certificates"}
    generic = st.control(st.FourierField.sample((12, 12), cutoff=1, generator=generator), jacobian_norm=0.3)
    assert "mixed" in forms(generic)["closed_form"]
    assert forms(generic)["energy"].split(":")[0] in ("layer by layer", "depth-free")
    assert "certificates" not in forms(generic, certificates=False)
