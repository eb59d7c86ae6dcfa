"""Ladders row by row: what one field, boundary or stride takes from a rung, it takes from no other."""

import dataclasses

import pytest
import torch

import stability as st
from stability.bounds.rung import Status
from stability.ladders import build
from stability.ladders.every_field import EveryField

SIZE = (14, 14)
NETWORK = st.GramCKN(st.Architecture((st.Layer(3, 2.0),), 1.0))


def two_fields(generator, b=(0.2, 1.3)):
    fields = st.FourierField.sample(SIZE, cutoff=2, batch_shape=(2,), generator=generator)
    return fields * (torch.tensor(b, dtype=torch.float64) / fields.norms().jacobian.upper)


def pictures(count=2):
    return st.grid.band_limit(st.images.load("fashion", count=count, size=SIZE))


def test_a_field_that_is_not_covered_takes_nothing_from_the_others(generator):
    fields, x = two_fields(generator), pictures()
    ladder, alone = st.ladder(NETWORK, x, fields), st.ladder(NETWORK, x[:1], fields[:1])
    for name in ("closed_form", "energy", "certificates"):
        assert ladder[name].status is alone[name].status is Status.NUMERICAL
        assert ladder[name].value[0] == pytest.approx(alone[name].value[0].item(), rel=1e-3)
        assert ladder[name].value[1] == torch.inf


def test_a_shrunk_constant_is_caught_beside_a_field_that_is_not_covered(generator, monkeypatch):
    fields, x, honest = two_fields(generator), pictures(), build.closed_forms

    def shrunk(*given):
        return [dataclasses.replace(one, value=0.01 * one.value) for one in honest(*given)]

    monkeypatch.setattr(build, "closed_forms", shrunk)
    assert tuple(st.ladder(NETWORK, x, fields).violation) == ("THEORY VIOLATED", "none")


def test_without_a_field_nothing_is_known_of_norms_beyond_one():
    size = (24, 24)
    u = torch.arange(24, dtype=torch.float64) - 11.5
    field = st.LocalAffineField.dilation(6.0, radius=10.0, size=size)
    x = st.grid.band_limit(torch.exp(-(u[None] ** 2 + u[:, None] ** 2) / 1.28)[None, None])
    network = st.GramCKN(st.Architecture((st.Layer(1, 0.5),), 0.5))
    a, b = (norm.upper.reshape(1) for norm in (field.norms().displacement, field.norms().jacobian))
    assert st.ladder(network, x, field, refinement=False, maps=False).observed > 2.5  # more than 1 + 1
    rung = EveryField(network, x, maps=False)(a, b)[-1]
    assert rung.name == "trivial_norms"
    assert rung.value == torch.inf
    assert rung.status is Status.NOT_COVERED
    both = EveryField(network, x.expand(2, -1, -1, -1), maps=False)(torch.stack([a, a])[:, 0], torch.tensor([0.2, 1.2]))
    assert both[-1].value.tolist() == [pytest.approx(1 + 1 / 0.8), torch.inf]
    assert both[-1].status is Status.PROOF
    assert both[-1].scope.every_field


def test_norms_of_the_torus_are_no_bound_with_zeros_beyond_the_border():
    """A rotation about the middle moves what a wide pooling cuts off at the border: four times the torus' norm."""
    n, centre = 24, 11.5
    u = torch.arange(n, dtype=torch.float64) - centre
    turn = torch.tensor([[0.0, -0.01], [0.01, 0.0]], dtype=torch.float64)
    field = st.LocalAffineField(size=(n, n), centre=(centre, centre), matrix=turn, radius=9.0)
    x = st.grid.band_limit(torch.outer(torch.exp(-(u**2) / 18), u * torch.exp(-(u**2) / 18))[None, None])
    layers, norms = (st.Layer(1, 12.0, 1, st.kernels.Linear()),), st.OperatorNorms(field)
    torus = st.ladder(st.LinearGram(st.Architecture(layers, 0.0)), x, field, operator_norms=norms)
    zero = st.ladder(st.LinearGram(st.Architecture(layers, 0.0, st.Zero())), x, field, operator_norms=norms)
    assert zero.observed > 3 * torus["operator_norms"].value
    assert zero["operator_norms"].value == torch.inf
    assert zero["operator_norms"].status is Status.NOT_COVERED
    assert zero.observed < zero.least(zero["x_specific"])
    assert torus.observed < torus["operator_norms"].value


def test_rungs_of_strided_maps_count_a_stride_twice_through_the_warp(generator):
    """[P Q A, L] - [P A, L] is at most 2 ||L|| ||Q A - A||, not (1 + ||L||): b = 1/2 in d = 2 has ||L|| <= 2."""
    field = st.control(st.FourierField.sample((16, 16), cutoff=2, generator=generator), jacobian_norm=0.5)
    x = st.images.load("fashion", count=1, size=(16, 16))
    network = st.GramCKN(st.Architecture((st.Layer(3, 2.0, 2), st.Layer(3, 4.0, 2)), 1.0))
    ladder = st.ladder(network, x, field, operator_norms=st.OperatorNorms(field))

    def aliasing(name):
        return sum(float(term.value) for term in ladder[name].terms if term.name.startswith("aliasing"))

    for name in ("energy", "centred_certificates", "centred_operator_norms"):
        assert aliasing(name) == pytest.approx(4 / 3 * aliasing("closed_form"), rel=1e-4)
    for name in ("certificates", "operator_norms"):
        assert aliasing(name) == pytest.approx(aliasing("closed_form"), rel=1e-12)


def test_a_tangent_kernel_without_a_modulus_has_no_trivial_bound(generator):
    field = st.control(st.FourierField.sample(SIZE, cutoff=2, generator=generator), jacobian_norm=0.1)
    rung = st.ladder(st.GramNTK(NETWORK.architecture), pictures(1), field)["trivial"]
    assert rung.value == torch.inf
    assert rung.status is Status.NOT_COVERED


@pytest.mark.parametrize(
    ("argument", "value"),
    [("warp", "exact"), ("certificates", 5), ("operator_norms", 5), ("refinement", "no"), ("maps", 3)],
)
def test_arguments_of_another_kind_are_told(argument, value, generator):
    field = st.control(st.FourierField.sample(SIZE, cutoff=2, generator=generator), jacobian_norm=0.1)
    with pytest.raises(ValueError, match=f"{argument} must be .* got {value!r}; use "):
        st.ladder(NETWORK, pictures(1), field, **{argument: value})


def test_no_images_are_told(generator):
    field = st.control(st.FourierField.sample(SIZE, cutoff=2, generator=generator), jacobian_norm=0.1)
    with pytest.raises(ValueError, match="images must be one at least"):
        st.ladder(NETWORK, pictures(1)[:0], field)
