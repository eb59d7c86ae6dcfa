"""The table of constants, the bounds at fixed invariance, and the bound of the neural tangent kernel."""

import dataclasses
import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

import stability as st
from stability import bounds, kernels
from stability.bounds import Status, constants_table
from stability.bounds.depth import depth_free, ingredients, layer_error
from stability.bounds.field import FieldNorms, field_norms
from stability.bounds.forms import last_pooling, patch_commutator, patch_energy
from stability.bounds.invariance import FORMS, best_layers, fixed_invariance, over_layers, to_text
from stability.bounds.ntk import step_weight, tangent_kernel_form
from stability.front_ends import MeanRemoval
from stability.representations.ntk import GramNTK

RELU = kernels.ArcCosine(1)


# ------------------------------------------------------------------------------------------------- table of constants
def test_the_table_holds_the_values_of_the_functions():
    for d in (1, 2):
        table = constants_table((0.05, 0.25), d=d, kappa_rms=(0.7,))
        rows = {row.name.strip(): row for row in table.rows}
        for i, b in enumerate(table.b):
            assert rows["C2"].values[i] == bounds.c2(b, d)
            assert rows["||[A,L]|| / b"].values[i] * b == pytest.approx(bounds.commutator(b, d))
            assert rows["Hessian form, strain / b"].values[i] * b == pytest.approx(
                bounds.commutator_hessian(b, 0, 1, d)
            )
            bent = bounds.commutator_hessian(b, 0.1, 2.0, d) - bounds.commutator_hessian(b, 0, 1, d)
            assert rows["Hessian form, / sigma H"].values[i] * 0.2 == pytest.approx(bent)
            assert rows["mean removal / b"].values[i] * b == pytest.approx(bounds.mean_removal(b, d))
            assert rows["C1, kappa=0.7"].values[i] == bounds.c1(0.7, b, d)
            assert rows["J, kappa=0.7"].values[i] * b == pytest.approx(bounds.joint_commutator(0.7, b, d))
            direct = last_pooling(FieldNorms(0.0, b, d=d), 1.0, 0.0).value
            assert rows["direct ||AL-A||, volume / b"].values[i] * b >= direct
            if d == 2:
                preserving = rows["volume preserving / b"].values[i] * b
                assert preserving == pytest.approx(bounds.commutator_volume_preserving(b))
                strain = rows["divergence form, strain / b"].values[i] * b
                assert strain < bounds.commutator_divergence(b, 0.0)
                field = FieldNorms(0.0, b, volume_preserving=True)
                factor = layer_error(ingredients(field)[0], 1.0, 0.7).factor
                assert rows["C, kappa=0.7"].values[i] * b == pytest.approx(factor)
            least = rows["at least"].values[i]
            assert math.sqrt(d) <= least <= rows["||[A,L]|| / b"].values[i]


def test_the_column_of_zero_is_the_limit():
    for d in (1, 2):
        table = constants_table((0.0, 1e-7), d=d)
        for row in table.rows:
            assert row.values[0] == pytest.approx(row.values[1], rel=1e-6)


def test_the_text_of_the_table_marks_what_was_evaluated_numerically():
    text = constants_table((0.1,)).to_text()
    assert "b=0.1" in text
    assert Status.NUMERICAL in text
    lines = {line.split("  ")[0]: line for line in text.splitlines() if line}
    assert lines["c_d"].endswith("*")
    assert not lines["C2"].endswith("*")
    assert "T(5)" in text
    for wrong in ({"b": (1.0,)}, {"d": 3}, {"kappa_rms": (-1.0,)}):
        with pytest.raises(ValueError, match="must be"):
            constants_table(**wrong)


# ------------------------------------------------------------------------------------------------ at fixed invariance
@pytest.mark.parametrize("field", [
    FieldNorms(1.0, 0.1), FieldNorms(1.0, 0.1, volume_preserving=True), FieldNorms(0.5, 0.3, 0.02),
    FieldNorms(1.0, 0.2, divergence=0.05), FieldNorms(1.0, 0.1, 0.02, d=1), FieldNorms(2.0, 0.0),
])  # fmt: skip
@pytest.mark.parametrize("n", [1, 2, 5])
def test_whole_numbers_of_layers_agree_with_the_sums_over_layers(field, n):
    """The real-n formulas never fall below the sums, and equal them where no minimum is taken layer by layer."""
    ratio = 8.0 ** (1 / n)
    row = over_layers(n, sigma_0=1.0, sigma_n=8.0, field=field)[-1]
    assert row.layers == n
    assert row.kappa == pytest.approx(ratio)
    scales = [ratio**k for k in range(n)]
    spreads = [scale * ratio / math.sqrt(3) for scale in scales]
    last = last_pooling(field, 8.0, field.displacement).value
    root = math.hypot(*(patch_energy(field, s, c).value for s, c in zip(scales, spreads, strict=True)), last)
    free = min(
        depth_free([layer_error(part, s, c) for s, c in zip(scales, spreads, strict=True)], last)
        for part in ingredients(field)
    )
    assert root <= row.quadrature * (1 + 1e-12)
    assert free <= row.depth_free * (1 + 1e-12)
    if field.volume_preserving or not field.jacobian:
        assert (root, free) == pytest.approx((row.quadrature, row.depth_free))
    additive = sum(bounds.patch_additive(bounds.commutator(field.jacobian, field.d), c / s, field.jacobian, field.d)
                   for s, c in zip(scales, spreads, strict=True))  # fmt: skip
    plain = bounds.commutator(field.jacobian, field.d) + bounds.c2(field.jacobian, field.d) * field.displacement / 8
    assert row.linear <= (additive + plain) * (1 + n * ratio)
    assert row.linear >= (additive + bounds.commutator(field.jacobian, field.d)) * (1 - 1e-12)


def test_a_power_law_prefers_small_patches_and_linear_constants_do_not():
    """kappa^(d+1) / log(kappa) is smallest at e^(1/(d+1)), (alpha + beta kappa) / log(kappa) far from it."""
    for d in (1, 2):
        field = FieldNorms(0.0, 1e-6, d=d)
        kappas = np.linspace(1.05, 30, 6000)
        rows = [fixed_invariance(k, sigma_0=1.0, sigma_n=1e150, field=field) for k in kappas]
        best = {form: rows[int(np.argmin([getattr(row, form) for row in rows]))].kappa for form in FORMS}
        assert best["power"] == pytest.approx(math.exp(1 / (d + 1)), abs=0.02)
        alpha, beta = bounds.c1(0.0, 0.0, d), (bounds.c1(1.0, 0.0, d) - bounds.c1(0.0, 0.0, d)) / math.sqrt(3)
        k = best["linear"]
        assert k * (math.log(k) - 1) == pytest.approx(alpha / beta, rel=0.02)
        assert best["linear"] > 4
        assert 2 < best["quadrature"] < best["linear"]


def test_volume_preserving_fields_prefer_the_smallest_patches_in_the_depth_free_bound():
    rows = over_layers(20, sigma_0=1.0, sigma_n=8.0, field=FieldNorms(0.5, 0.1, volume_preserving=True))
    values = [row.depth_free for row in rows]
    assert values == sorted(values, reverse=True)
    text = to_text(rows)
    assert "depth_free: smallest at n = 20, kappa = 1.11 (the last one)" in text
    assert best_layers(rows, "power").layers == 7


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bounds.layers_between(1.0, 0.5, 2.0), "sigma_0 must be positive and below"),
        (lambda: bounds.layers_between(1.0, 8.0, 1.0), "kappa must be > 1"),
        (lambda: over_layers(0, sigma_0=1.0, sigma_n=8.0, field=FieldNorms(1.0, 0.1)), "most must be an integer"),
        (lambda: fixed_invariance(2.0, sigma_0=1.0, sigma_n=8.0, field=FieldNorms(1.0, 1.0)), "jacobian_norm"),
        (
            lambda: best_layers(over_layers(1, sigma_0=1.0, sigma_n=8.0, field=FieldNorms(1.0, 0.1)), "best"),
            "form must",
        ),
    ],
)
def test_wrong_scales_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ------------------------------------------------------------------------------------------- neural tangent kernel
def _relu(depth, **changes):
    return st.Architecture.dyadic(depth=depth, subsampling=1, kernel=RELU, **changes)


def _largest_excess(slope, signed=False):
    """max of T_k - k G_k over positions and layers, for random averages; by default their weights are not negative."""
    rng = np.random.default_rng(0)
    weight = (1 - slope) ** 2 / (1 + slope**2)
    y = rng.normal(size=(12, 3))
    gram = tangent = y @ y.T
    excess = []
    for k in range(1, 6):
        excess.append((tangent - k * gram).max())
        norms = np.sqrt(np.diag(gram))
        cosine = np.clip(gram / np.outer(norms, norms), -1, 1)
        step = 1 - np.arccos(cosine) / np.pi
        relu = cosine * step + np.sqrt(1 - cosine**2) / np.pi
        features = np.outer(norms, norms) * (weight * relu + (1 - weight) * cosine)
        tangent = features + (weight * step + 1 - weight) * tangent
        average = rng.normal(size=(12, 12)) if signed else rng.uniform(0, 1, size=(12, 12)) ** 4
        gram, tangent = average @ features @ average.T, average @ tangent @ average.T
    return max(excess)


def test_tangent_features_are_at_most_k_times_the_features_entry_by_entry():
    for slope in (0.0, 0.3, -0.2, -1.0, -3.0, 1.0):
        assert _largest_excess(slope) <= 1e-12
    assert _largest_excess(0.0, signed=True) > 0.1  # averages with negative weights: interpolation between samples


def test_the_step_weight_dominates_the_fall_of_the_derivative_kernel():
    angle = torch.linspace(1e-3, math.pi - 1e-3, 200, dtype=torch.float64)
    for kernel in (RELU, kernels.LeakyReLU(0.0), kernels.LeakyReLU(0.3), kernels.LeakyReLU(-1.0), kernels.Linear()):
        fall = 1 - kernel.derivative(angle.cos())
        weight = step_weight(kernel)
        assert weight is not None
        assert (fall <= weight * angle / math.pi + 1e-12).all()
        assert torch.allclose(fall, weight * angle / math.pi, atol=1e-9)
    assert step_weight(kernels.ArcCosine(0)) is step_weight(kernels.GELU()) is step_weight(kernels.Sign()) is None


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_distances_of_the_tangent_kernel_stay_below_the_bound_and_share_its_order(depth):
    images = st.images.load("fashion", count=2, size=(16, 16))
    phi, ratios = GramNTK(_relu(depth)), []
    for b in (1e-4, 1e-2, 0.2):
        field = st.control(
            st.FourierField.sample((16, 16), cutoff=2, generator=torch.Generator().manual_seed(depth)), jacobian_norm=b
        )
        seen = phi.distance(images, st.BandLimitedWarp()(images, field)) / images.flatten(1).norm(dim=1)
        norms = field.norms()
        known = field_norms(
            displacement_norm=float(norms.displacement.upper), jacobian_norm=float(norms.jacobian.upper),
            hessian_norm=float(norms.hessian.upper),
        )  # fmt: skip
        form = tangent_kernel_form(_relu(depth), known)
        assert form.status is Status.NUMERICAL
        assert float(seen.max()) <= form.value
        ratios.append(form.value / math.sqrt(b))
    assert ratios[1] == pytest.approx(ratios[0], rel=0.5)  # of order b^(1/2)


def test_the_tangent_recursion_is_what_it_says():
    norms = FieldNorms(0.3, 0.02)
    arch = _relu(3)
    c = [patch_commutator(norms, s, math.sqrt(8 / 6), symmetric=True).value for s in (1.0, 2.0, 4.0)]
    g = [patch_energy(norms, s, math.sqrt(8 / 6)).value for s in (1.0, 2.0, 4.0)]
    delta = [min(sum(c[:k]), math.hypot(*g[:k])) for k in (1, 2, 3)]
    L, eta = 1 / 0.98, delta[0]
    for k in (1, 2, 3):
        omega = math.sqrt(delta[k - 1] ** 2 + eta**2 + k * L * delta[k - 1])
        eta = omega + math.sqrt(k + 1) * c[k] if k < 3 else eta
    last = last_pooling(norms, 8.0, 0.3).value
    form = tangent_kernel_form(arch, norms)
    assert form.value == pytest.approx(omega + 2 * last)
    assert [term.name for term in form.terms] == ["features", "last pooling"]
    assert form.trivial_norms == pytest.approx(2 * (1 + L))
    assert "tangent kernel" in form.to_text()
    still = tangent_kernel_form(arch, FieldNorms(3.0, 0.0))
    assert still.value == pytest.approx(2 * bounds.translation(3.0 / 8.0))
    linear = tangent_kernel_form(arch.replace("layers.*.kernel", kernels.Linear()), norms)
    assert linear.value < form.value
    removed = tangent_kernel_form(arch.replace("front_end", MeanRemoval()), norms)
    assert removed.value > form.value


@pytest.mark.parametrize(
    ("architecture", "b", "note"),
    [
        (_relu(2).replace("layers.1.subsampling", 2), 0.1, "subsampling"),
        (_relu(2).replace("layers.0.kernel", kernels.GELU()), 0.1, "GELU"),
        (_relu(2), 1.0, "diffeomorphism"),
        (_relu(2).replace("front_end", {"kind": "gradient"}), 0.1, "front end Gradient"),
    ],
)
def test_what_the_tangent_bound_does_not_cover_is_said(architecture, b, note):
    form = tangent_kernel_form(architecture, FieldNorms(1.0, b))
    assert (form.value, form.status) == (math.inf, Status.NOT_COVERED)
    assert note in form.to_text()


def test_the_modulus_of_the_sign_dominates_its_kernel_map():
    from stability.bounds.hoelder import modulus

    rng, close = np.random.default_rng(1), 0.0
    for r, s, angle in itertools.product((0.3, 1.0), (0.5, 1.0), np.concatenate([[1e-3], rng.uniform(0, 3, 40)])):
        gap = math.sqrt(r * r + s * s - 2 * r * s * math.cos(angle))
        seen = math.sqrt(r * r + s * s - 2 * r * s * (1 - 2 * angle / math.pi))
        bound = modulus(kernels.Sign(), gap, math.sqrt(r * s))
        assert seen <= bound
        close = max(close, seen / bound)
        if r == s == 1.0 and angle < 0.01:
            assert seen > modulus(kernels.ArcCosine(0), gap, 1.0)  # the step's modulus would be too little
    assert close > 0.75


def test_the_tables_import_neither_torch_nor_numpy():
    code = (
        "import sys, stability.bounds, stability.bounds.ntk, stability.bounds.over_depth; "
        "print({'torch', 'numpy', 'scipy'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_zeros_beyond_the_border_ask_for_a_field_that_vanishes_there():
    arch = st.Architecture((st.Layer(3, 2.0, 1, RELU),) * 2, boundary=st.Zero())
    norms = field_norms(displacement_norm=0.1, jacobian_norm=0.01)
    assert tangent_kernel_form(arch, norms).value == math.inf
    inside = tangent_kernel_form(arch, norms, vanishing_border=float(arch.patch_reach))
    torus = tangent_kernel_form(dataclasses.replace(arch, boundary=st.Periodic()), norms)
    assert torus.value <= inside.value < 1.2 * torus.value
