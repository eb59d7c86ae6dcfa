"""The theorem as a calculator: documented numbers, exact cases, operator norms of linear networks, refusals."""

import dataclasses
import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stability import bounds
from stability.architecture import Architecture, Layer
from stability.bounds import Status
from stability.bounds.closed_form import closed_form
from stability.bounds.hoelder import modulus
from stability.front_ends import MeanRemoval
from stability.kernels import ArcCosine, Exponential, Kernel, Linear

NORMS = {"displacement_norm": 1.0, "jacobian_norm": 0.1}


def _plain(depth, **changes):
    """sigma_k = 2^k without subsampling."""
    return dataclasses.replace(Architecture.dyadic(depth=depth, subsampling=1), **changes)


@pytest.mark.parametrize("b", [0.1, 0.5])
def test_square_root_of_depth_numbers(b):
    sigma = math.sqrt(8 / 6)  # kappa = 1 for 3 x 3 patches
    for n, expected in enumerate((2.35, 2.98, 3.50, 3.96, 4.36, 4.73, 5.08, 5.40), start=1):
        architecture = Architecture(tuple(Layer(3, sigma) for _ in range(n)), antialiasing=sigma)
        bound = closed_form(architecture, displacement_norm=0.0, jacobian_norm=b)
        weighted = b / (1 - b)
        assert bound.combination == "quadrature"
        assert math.hypot(math.sqrt(n) * bounds.joint_energy(1.0), 1.4564) == pytest.approx(expected, abs=6e-3)
        assert 0.75 * expected < bound.value / weighted < 0.97 * expected  # what mixing gains
        assert bound.alternatives["sum"] < n * min(1.6661 * weighted, 2 / (1 - b)) + 1.4564 * weighted


@given(
    st.integers(1, 4), st.floats(0, 10), st.floats(0, 0.95), st.sampled_from((1, 2)), st.booleans(),
    st.one_of(st.none(), st.floats(0, 2)), st.sampled_from((1, 2)),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_terms_add_up_and_the_value_is_the_smallest_alternative(depth, a, b, d, removed, hessian, stride):
    front_end = MeanRemoval() if removed else None
    architecture = Architecture.dyadic(depth=depth, subsampling=stride, front_end=front_end)
    bound = closed_form(architecture, displacement_norm=a, jacobian_norm=b, hessian_norm=hessian, d=d)
    assert math.fsum(float(term.value) for term in bound.terms) == pytest.approx(bound.value)
    assert bound.value == min(bound.alternatives.values())
    assert bound.trivial_norms == pytest.approx(1 + (1 - b) ** (-d / 2))
    assert (bound.scope.every_image, bound.scope.every_field) == (True, True)
    more = closed_form(
        architecture, displacement_norm=a + 0.1, jacobian_norm=min(b + 0.01, 0.99), hessian_norm=hessian, d=d
    )
    assert bound.value <= more.value + 1e-12
    assert bound.value <= closed_form(architecture, displacement_norm=a, jacobian_norm=b, d=d).value + 1e-12


def test_knowing_more_of_the_field_never_hurts():
    architecture = _plain(3).replace("layers.*.patch_size", 1)
    plain = closed_form(architecture, **NORMS)
    for more in ({"hessian_norm": 0.01}, {"divergence_norm": 0.0}, {"volume_preserving": True}):
        assert closed_form(architecture, **NORMS, **more).value < plain.value
    assert closed_form(architecture, **NORMS, mean_displacement=0.9).value == plain.value  # residual unknown


@pytest.mark.parametrize("kernel", [Exponential(), Exponential(4.0), ArcCosine(1)])
@pytest.mark.parametrize("front_end", [None, MeanRemoval()])
def test_translations_have_the_exact_value_whatever_the_kernel(kernel, front_end):
    architecture = Architecture.dyadic(depth=2, subsampling=1, kernel=kernel, front_end=front_end)
    bound = closed_form(architecture, displacement_norm=3.0, jacobian_norm=0.0)
    assert bound.value == bounds.translation(3.0 / 4.0)
    assert bound.status is Status.PROOF


def test_a_translation_split_off_costs_exactly_its_translation_value():
    rest = closed_form(_plain(1), displacement_norm=0.5, jacobian_norm=0.02)
    both = closed_form(
        _plain(1), displacement_norm=6.5, jacobian_norm=0.02, mean_displacement=6.0, residual_displacement=0.5
    )
    assert both.combination.endswith("split")
    assert both.alternatives["sum, split"] == pytest.approx(rest.alternatives["sum"] + bounds.translation(3.0))
    assert both.alternatives["quadrature, split"] < rest.alternatives["quadrature"] + bounds.translation(3.0)


def test_expansive_kernels_multiply_all_terms_before_them_and_not_the_last_pooling():
    one, two = (closed_form(_plain(2).replace("layers.*.kernel", Exponential(a)), **NORMS) for a in (1.0, 4.0))
    assert [row["R"] for row in two.constants["layers"]] == [4.0, 2.0]
    sums = [bound.alternatives["sum"] - bound.constants["last"] for bound in (one, two)]
    parts = [row["bound"] for row in one.constants["layers"]]
    assert sums == pytest.approx([sum(parts), 4 * parts[0] + 2 * parts[1]])
    assert two.constants["last"] == one.constants["last"]


def test_without_antialiasing_the_first_patch_follows_nothing():
    bound = closed_form(_plain(2, antialiasing=None), **NORMS)
    assert bound.terms[0].value == pytest.approx(2 / 0.9)
    assert bound.combination == "quadrature"  # the other layer stays under the root
    pixelwise = closed_form(_plain(2, antialiasing=None).replace("layers.0.patch_size", 1), **NORMS)
    assert pixelwise.terms[0].value == 0
    unpooled = closed_form(_plain(2).replace("layers.-1.pooling_scale", 0.0), **NORMS)
    assert unpooled.constants["last"] == pytest.approx(1 + 1 / 0.9)


def test_an_even_patch_is_measured_about_its_own_centre():
    forms = [closed_form(_plain(1).replace("layers.0.patch_size", e), **NORMS, hessian_norm=0.0) for e in (2, 3, 4)]
    kappas = [form.constants["layers"][0]["kappa_rms"] for form in forms]
    assert kappas == pytest.approx([math.sqrt(0.5), math.sqrt(8 / 6), math.sqrt(15 / 6)])
    assert all("symmetric" in form.constants["layers"][0]["form"] for form in forms)
    assert forms[0].value < forms[1].value < forms[2].value


def test_mean_removal_costs_what_the_mean_may_change():
    plain, removed = (closed_form(_plain(2, front_end=f), **NORMS) for f in (None, MeanRemoval()))
    assert removed.value == pytest.approx(plain.value + bounds.mean_removal(0.1))
    still = closed_form(_plain(2, front_end=MeanRemoval()), **NORMS, volume_preserving=True)
    assert dict(still.terms)["mean removal"] == 0


def test_subsampling_adds_aliasing_of_both_images():
    smooth, strided = closed_form(_plain(2), **NORMS), closed_form(Architecture.dyadic(depth=2), **NORMS)
    extra = 2 * (1 + 1 / 0.9) * bounds.aliasing(2.0, 2.0)
    # patches of layer 2 are dilated, hence the inequality
    assert strided.value >= smooth.value + extra
    assert dict(strided.terms)["aliasing 1"] == pytest.approx(extra / 2)
    assert strided.status is Status.NUMERICAL
    rough = closed_form(Architecture((Layer(3, 1.0, subsampling=2),)), **NORMS)
    assert rough.status is Status.ESTIMATE
    unpooled = closed_form(Architecture((Layer(3, 0.0, subsampling=2),)), **NORMS)
    assert (unpooled.value, unpooled.status) == (math.inf, Status.NOT_COVERED)
    still = closed_form(Architecture.dyadic(depth=1), displacement_norm=2.0, jacobian_norm=0.0)
    assert still.value == pytest.approx(bounds.translation(1.0) + 2 * bounds.aliasing(2.0, 2.0))


def test_statuses():
    assert closed_form(_plain(2), **NORMS).status is Status.NUMERICAL
    for b in (1.0, 1.3, math.inf):
        bound = closed_form(_plain(2), displacement_norm=1.0, jacobian_norm=b)
        assert (bound.value, bound.status) == (math.inf, Status.NOT_COVERED)
        assert "diffeomorphism" in bound.to_text()
    pixelwise = _plain(1).replace("layers.0.patch_size", 1)
    area = closed_form(pixelwise, displacement_norm=1.0, jacobian_norm=0.1, volume_preserving=True)
    assert area.combination == "quadrature"
    line = closed_form(_plain(2), displacement_norm=1.0, jacobian_norm=0.1, volume_preserving=True, d=1)
    assert line.value == bounds.translation(1.0 / 4.0)  # only constants preserve length


# ------------------------------------------------------------------------------------------------------- step kernels
def test_step_kernels_are_not_covered_and_have_a_square_root_bound():
    step = _plain(2).replace("layers.*.kernel", ArcCosine(degree=0))
    bound = closed_form(step, **NORMS)
    assert (bound.value, bound.status) == (math.inf, Status.NOT_COVERED)
    assert bound.hoelder is not None
    assert math.isfinite(bound.hoelder)
    parts, L = [row["bound"] for row in bound.constants["layers"]], 1 / 0.9
    first = math.sqrt(parts[0] ** 2 + L * parts[0])
    second = math.sqrt((first + parts[1]) ** 2 + L * (first + parts[1]))
    assert bound.hoelder == pytest.approx(second + bound.constants["last"])
    assert closed_form(_plain(2), **NORMS).hoelder is None
    strided = closed_form(Architecture.dyadic(depth=2, kernel=ArcCosine(0)), **NORMS).hoelder
    assert strided is not None
    assert bound.hoelder < strided < math.inf
    small = [closed_form(step, displacement_norm=e, jacobian_norm=e / 10).hoelder for e in (1e-6, 1e-10)]
    assert small[1] < small[0] / 9  # two square roots


def test_the_modulus_dominates_the_step_kernel_map():
    rng = np.random.default_rng(0)
    z, w = rng.normal(size=(2, 50_000, 3)) * rng.uniform(0.1, 2, size=(2, 50_000, 1))
    w[::2] = z[::2] + 0.05 * w[::2]
    r, s = np.linalg.norm(z, axis=1), np.linalg.norm(w, axis=1)
    angle = np.arccos(np.clip((z * w).sum(1) / (r * s), -1, 1))
    squared = r**2 + s**2 - 2 * r * s * (1 - angle / np.pi)
    gap = np.linalg.norm(z - w, axis=1)
    for i in range(0, 50_000, 100):
        assert math.sqrt(squared[i]) <= modulus(ArcCosine(0), gap[i], math.sqrt(r[i] * s[i])) + 1e-12
    assert (squared > gap**2 + 0.5 * np.sqrt(r * s) * gap).any()  # half the factor would be too little


# ------------------------------------------------------------------------------- linear networks as matrices, d = 1
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("b", [0.1, 0.5])
@pytest.mark.parametrize("front_end", [None, MeanRemoval()])
@pytest.mark.parametrize("sizes", [(3, 5), (2, 4)])
def test_linear_networks_stay_below_the_closed_form(seed, b, front_end, sizes):
    side, n = 64.0, 512
    rng = np.random.default_rng(seed)
    u, turn = np.arange(n) * side / n, 2 * math.pi / side
    k_in, k_out = np.arange(-20, 21), np.arange(-60, 61)
    wave = turn * np.arange(1, 4)[:, None]
    p, q = rng.normal(size=(2, 3, 1))
    tau = (p * np.sin(wave * u) + q * np.cos(wave * u)).sum(0)
    slope = (wave * (p * np.cos(wave * u) - q * np.sin(wave * u))).sum(0)
    tau *= b / np.abs(slope).max()
    L = np.exp(-1j * turn * np.outer(k_out, u)) @ np.exp(1j * turn * np.outer(u - tau, k_in)) / n
    architecture = Architecture(
        (Layer(sizes[0], 2.0, kernel=Linear()), Layer(sizes[1], 3.0, kernel=Linear())),
        antialiasing=1.0, front_end=front_end,
    )  # fmt: skip
    pooling = np.exp(-0.5 * (1 + 4 + 9) * (turn * k_out) ** 2)
    difference = L - (k_out[:, None] == k_in)
    if front_end is not None:  # F L - F
        difference[k_out == 0] = 0
    offsets = [(i, j) for i, j in itertools.product(*(range(-((e - 1) // 2), e // 2 + 1) for e in sizes))]
    phi = np.concatenate([(pooling * np.exp(1j * turn * k_out * (i + j)))[:, None] * difference for i, j in offsets])
    seen = np.linalg.norm(phi, 2) / math.sqrt(len(offsets))
    bound = closed_form(architecture, displacement_norm=np.abs(tau).max() * 1.001, jacobian_norm=b * 1.0001, d=1)
    assert 0.05 * bound.value < seen <= bound.value


# --------------------------------------------------------------------------------------------------- refusals and form
@pytest.mark.parametrize(
    "wrong",
    [
        {"displacement_norm": -1.0}, {"jacobian_norm": math.nan}, {"hessian_norm": -1.0}, {"mean_displacement": "1"},
        {"residual_displacement": math.nan}, {"divergence_norm": -0.1}, {"d": 3}, {"volume_preserving": 1},
    ],
)  # fmt: skip
def test_wrong_norms_are_refused_with_advice(wrong):
    with pytest.raises(ValueError, match=r"must be .*, got .*; "):
        closed_form(_plain(1), **{**NORMS, **wrong})


def test_wrong_architecture_is_refused():
    with pytest.raises(ValueError, match="must be an Architecture, got"):
        closed_form("dyadic", **NORMS)


def test_an_unknown_kernel_without_a_modulus_has_no_square_root_bound():
    class Unknown(Kernel):
        derivative_at_one = math.inf

        def evaluate_(self, cosine):
            return cosine

    bound = closed_form(_plain(1).replace("layers.0.kernel", Unknown()), **NORMS)
    assert (bound.value, bound.hoelder) == (math.inf, math.inf)


def test_the_text_names_every_term_and_constant():
    bound = closed_form(Architecture.dyadic(depth=2, front_end=MeanRemoval()), **NORMS, hessian_norm=0.02)
    text = bound.to_text()
    for term in bound.terms:
        assert term.name in text
    for word in ("quadrature", "kappa_rms", "C2", "c_d", "every image", str(bound.status)):
        assert word in text
    with pytest.raises(dataclasses.FrozenInstanceError):
        bound.value = 0.0


def test_the_bounds_import_neither_torch_nor_numpy():
    code = "import sys, stability.bounds.closed_form; print({'torch', 'numpy', 'scipy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_norms_that_no_field_has_are_refused_and_an_unknown_residual_is_told():
    with pytest.raises(ValueError, match="mean_displacement must be at most displacement_norm \\+ residual"):
        closed_form(_plain(1), **NORMS, mean_displacement=1.6, residual_displacement=0.5)
    assert closed_form(_plain(1), **NORMS, mean_displacement=1.4, residual_displacement=0.5).value > 0
    told = closed_form(_plain(1), **NORMS, mean_displacement=0.5)
    assert told.notes == ("sup |tau - c| is unknown: no constant is split off",)
    assert told.value == closed_form(_plain(1), **NORMS).value
