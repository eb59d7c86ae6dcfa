"""The depth-free bound against matrices, a small network, an independent table of its numbers, and its own laws."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stability import bounds
from stability.architecture import Architecture, Layer
from stability.bounds import LayerError, Status
from stability.bounds.closed_form import closed_form
from stability.bounds.depth import Ingredients, depth_free, ingredients, layer_error
from stability.bounds.field import FieldNorms, field_norms
from stability.bounds.forms import last_pooling
from stability.bounds.over_depth import first_layers, over_depth, to_text
from stability.front_ends import MeanRemoval
from stability.kernels import Exponential, Linear

SIDE = 64.0
TURN = 2 * math.pi / SIDE
OFFSETS = list(itertools.product((-1, 0, 1), repeat=2))
SPREAD = math.sqrt(8 / 6)  # root-mean-square offset of a 3 x 3 patch


def _network(depth, sigma=SPREAD, **changes):
    """Equal layers; kappa = 1 for the default scale."""
    layers = tuple(Layer(3, sigma) for _ in range(depth))
    return dataclasses.replace(Architecture(layers, antialiasing=sigma), **changes)


# ------------------------------------------------------------------------------------ an independent table of numbers
def test_the_numbers_of_the_derivation_are_reproduced_and_not_exceeded():
    """Published beside the derivation by hand, with its cruder constants, written out here."""
    table = {
        0.1: (0.298, (0.223, 0.368, 0.513, 0.658, 0.803, 0.948, 1.09, 1.24)),
        0.5: (2.58, (1.71, 2.87, 4.03, 5.19, 6.34, 7.50, 8.66, 9.82)),
    }
    for b, (expected, summed) in table.items():
        weighted, strain = b / (1 - b), b * (2 - b) / (1 - b)
        shift = math.exp(-0.5) * weighted
        for n, number in enumerate(summed, start=1):
            assert n * (strain / math.e + shift) + strain / math.e == pytest.approx(number, abs=6e-3)
        q = strain / 2 + 0.5 * (weighted + b * (1 + b) / (1 - b))
        crude = math.hypot(math.sqrt(q * q + weighted * (weighted + 0.9026 * strain)), strain / math.e)
        assert crude == pytest.approx(expected, rel=3e-3)
        for n, number in enumerate(summed, start=1):
            form = closed_form(_network(n), displacement_norm=0.0, jacobian_norm=b, volume_preserving=True)
            assert form.value <= form.alternatives["depth-free"] <= crude
            assert form.alternatives["sum"] <= number
    flat = layer_error(Ingredients(0.1 * 1.9 / 0.9), 1.0, 0.0).factor
    assert math.hypot(flat, 0.1 * 1.9 / 0.9 / math.e) == pytest.approx(0.131, abs=5e-4)  # without patches


# --------------------------------------------------------------------- one step: ||P A e + [P A, L] z|| for shears, d=2
def _shear_step(shear, k_x, sigma, offsets, modes_in=24, modes_out=48, n=1024):
    """P A and [P A, L] on the functions exp(i k_x x) z(y), for tau = (f(y), 0); the symbols of A on both sides.

    L multiplies z by exp(-i k_x f(y)): exact but for the cut of the modes of y, a compression.
    """
    y = (np.arange(n) + 0.5) * SIDE / n
    k_in, k_out = np.arange(-modes_in, modes_in + 1), np.arange(-modes_out, modes_out + 1)
    wave = np.exp(-1j * TURN * k_x * shear(y))
    L = np.exp(-1j * TURN * np.outer(k_out, y)) @ (wave[:, None] * np.exp(1j * TURN * np.outer(y, k_in))) / n
    a_in, a_out = (np.exp(-0.5 * (sigma * TURN) ** 2 * (k**2 + k_x**2)) for k in (k_in, k_out))
    pooled, commutator = [], []
    for c_x, c_y in offsets:
        p_in, p_out = (np.exp(1j * TURN * (k_x * c_x + k * c_y)) for k in (k_in, k_out))
        pooled.append(np.diag(p_out * a_out))
        commutator.append((p_out * a_out)[:, None] * L - L * (p_in * a_in))
    root = math.sqrt(len(offsets))
    return np.concatenate(pooled) / root, np.concatenate(commutator) / root, a_in, a_out


def _worst(pooled, commutator, a_in, a_out):
    """sup over z and e of (||P A e + [P A, L] z||^2 - ||e||^2) / Delta(z), as a root: the best e is explicit."""
    back = (pooled.conj().T @ commutator) / np.sqrt(1 - a_out**2)[:, None]
    gram = commutator.conj().T @ commutator + back.conj().T @ back
    weight = 1 / np.sqrt(1 - a_in**2)
    return math.sqrt(np.linalg.eigvalsh(weight[:, None] * gram * weight)[-1])


def _kink(b):
    """Slope b on one half of the torus and -b on the other."""
    return lambda y: b * (SIDE / 4 - np.abs(y - SIDE / 2))


def _waves(seed, b):
    rng = np.random.default_rng(seed)
    k, amplitude, phase = TURN * np.arange(1, 5)[:, None], rng.normal(size=(4, 1)), rng.uniform(0, 6, size=(4, 1))
    fine = np.arange(4096) * SIDE / 4096
    scale = b / np.abs((amplitude * k * np.cos(k * fine + phase)).sum(0)).max() / (1 + 1e-4)
    return lambda y: scale * (amplitude * np.sin(k * y + phase)).sum(0)


@pytest.mark.parametrize("b", [0.1, 0.5])
@pytest.mark.parametrize("sigma", [1.5, 4.0])
@pytest.mark.parametrize("step", [0, 1, 3])
@pytest.mark.parametrize("k_x", [1, 4])
def test_one_layer_adds_no_more_error_than_its_factor(b, sigma, step, k_x):
    offsets = [(step * i, step * j) for i, j in OFFSETS]
    for shear in (_kink(b), _waves(0, b), _waves(1, b)):
        seen = _worst(*_shear_step(shear, k_x, sigma, offsets))
        part = ingredients(FieldNorms(1.0, b, volume_preserving=True))[0]
        # parallel shears: s - 1/s = b, det = 1 along paths, and f(y + c_y) - f(y) sees one coordinate of the offset
        exact = Ingredients(b, shift=b / math.sqrt(2), inverse_shift=b / math.sqrt(2))
        found = [layer_error(one, sigma, step * SPREAD).factor for one in (exact, part)]
        assert seen <= found[0] <= found[1]
        assert seen > 0.02 * found[0]


def test_half_the_strain_is_needed_and_attained():
    """The factor 1/2 of B: not 1/e, which is that of the operator norm."""
    b = 0.1
    seen = max(_worst(*_shear_step(_kink(b), k_x, 4.0, [(0, 0)])) for k_x in (2, 4, 6))
    assert b / math.e < 0.9 * b / 2 < seen <= layer_error(Ingredients(b), 4.0, 0.0).factor


def test_a_layer_whose_errors_were_not_pooled_has_no_such_factor():
    """Negative control: leave the error as it is (A = 1 for e), and no C does for small Delta(z)."""
    pooled, commutator, a_in, a_out = _shear_step(_kink(0.1), 4, 4.0, [(0, 0)])
    kept = np.eye(len(a_out))
    for C in (layer_error(Ingredients(0.1), 4.0, 0.0).factor, 10.0):
        z = np.ones(len(a_in))
        e = 1e6 * (kept.T @ (commutator @ z))
        gap = np.linalg.norm(kept @ e + commutator @ z) ** 2 - np.linalg.norm(e) ** 2
        assert gap > C * C * ((1 - a_in**2) * abs(z) ** 2).sum()
        e_pooled = 1e6 * (pooled.conj().T @ (commutator @ z))
        gap = np.linalg.norm(pooled @ e_pooled + commutator @ z) ** 2 - np.linalg.norm(e_pooled) ** 2
        assert gap <= 0


# ----------------------------------------------------------------------------------- one step of any field, d = 1 and 2
def _generic_step(seed, d, sigma, step, b):
    """As ``_shear_step`` for a random field; its norms from samples, with a slack above the grid's maxima."""
    side, n, cut = (SIDE, 512, (20, 44)) if d == 1 else (16.0, 36, (4, 8))
    rng, turn = np.random.default_rng(seed), 2 * math.pi / side
    u = np.stack(np.meshgrid(*[np.arange(n) * side / n] * d, indexing="ij"), -1).reshape(-1, d)
    k = turn * np.array([(1,), (2,), (3,)] if d == 1 else [(1, 0), (0, 1), (1, 1), (1, -1)])
    amplitude, phase = rng.normal(size=k.shape), rng.uniform(0, 6, len(k))
    wave = u @ k.T + phase
    tau = np.sin(wave) @ amplitude
    J = np.einsum("pk,ki,kj->pij", np.cos(wave), amplitude, k)
    second = np.einsum("pk,ki,kj,kl->pijl", -np.sin(wave), amplitude, k, k)
    scale = b / np.linalg.norm(J, 2, axis=(1, 2)).max()
    slack = 1.05 if d == 2 else 1.001
    angles = np.arange(16) * math.pi / 16
    units = np.stack([np.cos(angles), np.sin(angles)], 1)[:, :d] if d == 2 else np.ones((1, 1))
    bend = max(np.linalg.norm(second @ e, 2, axis=(1, 2)).max() for e in units) * scale * slack
    divergence = np.abs(np.trace(J, axis1=1, axis2=2)).max() * scale * slack
    field = FieldNorms(np.abs(tau).max() * scale, b * slack, bend, divergence=divergence, d=d)
    modes = [np.stack(np.meshgrid(*[np.arange(-K, K + 1)] * d, indexing="ij"), -1).reshape(-1, d) for K in cut]
    k_in, k_out = (turn * mode for mode in modes)
    L = np.exp(-1j * k_out @ u.T) @ np.exp(1j * (u - scale * tau) @ k_in.T) / len(u)
    a_in, a_out = (np.exp(-0.5 * sigma**2 * (w**2).sum(1)) for w in (k_in, k_out))
    offsets = step * np.array(list(itertools.product((-1, 0, 1), repeat=d)))
    pooled, commutator = [], []
    for c in offsets:
        p_in, p_out = np.exp(1j * k_in @ c), np.exp(1j * k_out @ c)
        pooled.append(np.diag(p_out * a_out))
        commutator.append((p_out * a_out)[:, None] * L - L * (p_in * a_in))
    root = math.sqrt(len(offsets))
    spread = math.sqrt((offsets**2).sum(1).mean())
    return field, spread, np.concatenate(pooled) / root, np.concatenate(commutator) / root, a_in, a_out


@pytest.mark.parametrize(("seed", "d", "sigma", "step", "b"), [
    (0, 1, 2.0, 0, 0.3), (1, 1, 2.0, 2, 0.3), (2, 1, 4.0, 3, 0.6), (3, 1, 1.0, 1, 0.1),
    (0, 2, 1.5, 0, 0.3), (1, 2, 1.5, 1, 0.3), (2, 2, 3.0, 2, 0.5), (3, 2, 1.0, 1, 0.05),
])  # fmt: skip
def test_the_error_of_one_layer_of_any_field_stays_below_the_recursion(seed, d, sigma, step, b):
    """(||e||^2 + C^2 Delta + 2 g Delta^(1/2) ||e||)^(1/2) + gamma Delta^(1/2), for random and for aligned e and z."""
    field, spread, *operators = _generic_step(seed, d, sigma, step, b)
    assert _largest_share(field, spread, sigma, operators, seed) > 0.05  # not vacuous


@pytest.mark.parametrize("step", [0, 1, 4])
@pytest.mark.parametrize("b", [0.2, 0.6])
def test_zigzags_without_second_derivatives_stay_below_the_recursion(b, step):
    """d = 1, tau' = +-b on intervals much shorter than sigma: the form "divergence", C = 0 but for the patches."""
    n, periods, sigma = 4096, 6, 4.0
    u = (np.arange(n) + 0.5) * SIDE / n
    tau = b * SIDE / periods * (0.25 - np.abs(u * periods / SIDE % 1 - 0.5))
    k_in, k_out = np.arange(-30, 31), np.arange(-60, 61)
    L = np.exp(-1j * TURN * np.outer(k_out, u)) @ np.exp(1j * TURN * np.outer(u - tau, k_in)) / n
    a_in, a_out = (np.exp(-0.5 * (sigma * TURN * k) ** 2) for k in (k_in, k_out))
    pooled, commutator = [], []
    for c in (-step, 0, step):
        p_in, p_out = np.exp(1j * TURN * k_in * c), np.exp(1j * TURN * k_out * c)
        pooled.append(np.diag(p_out * a_out))
        commutator.append((p_out * a_out)[:, None] * L - L * (p_in * a_in))
    operators = [np.concatenate(pooled) / math.sqrt(3), np.concatenate(commutator) / math.sqrt(3), a_in, a_out]
    field = FieldNorms(b * SIDE / periods / 4, b, d=1)
    assert _largest_share(field, step * math.sqrt(2 / 3), sigma, operators, 0) > 0.2


def _largest_share(field, spread, sigma, operators, seed):
    """The largest (||P A e + [P A, L] z|| - ||e||) / (bound - ||e||) over random and aligned z and e."""
    pooled, commutator, a_in, a_out = operators
    rng = np.random.default_rng(seed)
    largest = 0.0
    for part in ingredients(field):
        C, growth, _ = layer_error(part, sigma, spread)
        gamma = layer_error(part, sigma, 0.0).growth
        g = growth - gamma
        _, _, right = np.linalg.svd(commutator[:, a_in < 1] / np.sqrt(1 - a_in[a_in < 1] ** 2), full_matrices=False)
        candidates = [rng.normal(size=len(a_in)) + 1j * rng.normal(size=len(a_in)) for _ in range(3)]
        for row in right[:3]:
            z = np.zeros(len(a_in), dtype=complex)
            z[a_in < 1] = row.conj() / np.sqrt(1 - a_in[a_in < 1] ** 2)
            candidates.append(z)
        for z in candidates:
            removed = math.sqrt(((1 - a_in**2) * abs(z) ** 2).sum())
            driven, back = commutator @ z, pooled.conj().T @ (commutator @ z)
            for regular, size in itertools.product((1e-3, 1e-2, 0.1, 1.0), (0.3, 1.0, 3.0)):
                e = size * back / (1 - a_out**2 + regular)
                norm = np.linalg.norm(e)
                most = math.sqrt(norm**2 + C**2 * removed**2 + 2 * g * removed * norm) + gamma * removed
                seen = np.linalg.norm(pooled @ e + driven)
                assert seen <= most * (1 + 1e-12)
                largest = max(largest, (seen - norm) / (most - norm))
    return largest


# ----------------------------------------------------------------------------------------------- a non-linear network
@pytest.mark.parametrize("seed", [0, 1])
def test_errors_of_a_network_do_not_grow_with_its_depth(seed):
    """z_k = sin(W P A z_{k-1}), |W| <= 1, a shear applied exactly along x: e_k stays below C (sum Delta)^(1/2)."""
    n, sigma, b, depth = 32, 2.0, 0.3, 8
    rng = np.random.default_rng(seed)
    k = np.fft.fftfreq(n) * n
    low = (np.abs(k) <= 8).astype(float)
    pool = np.exp(-0.5 * (sigma * 2 * math.pi / n) ** 2 * (k[:, None] ** 2 + k[None] ** 2))
    shear = b * n / (2 * math.pi) * np.sin(2 * math.pi * np.arange(n) / n + rng.uniform(0, 6))
    turn = np.exp(-2j * math.pi / n * np.outer(shear, k))

    def pooled(z):
        return np.fft.ifft2(np.fft.fft2(z) * pool).real

    def moved(z):
        return np.fft.ifft(np.fft.fft(z, axis=-1) * turn, axis=-1).real

    def layer(z, weights):
        y = np.concatenate([np.roll(pooled(z), c, axis=(-2, -1)) for c in OFFSETS]) / 3
        return np.sin(np.einsum("oi,iyx->oyx", weights, y))

    x = np.fft.ifft2(np.fft.fft2(rng.normal(size=(1, n, n))) * low[:, None] * low).real
    x /= np.linalg.norm(x) / 20
    z, warped, removed, channels = x, moved(x), 0.0, 1
    norms = FieldNorms(np.abs(shear).max(), b, volume_preserving=True)
    C = layer_error(ingredients(norms)[0], sigma, SPREAD).factor
    errors = []
    for _ in range(depth):
        weights = rng.normal(size=(8, 9 * channels))
        weights /= np.linalg.norm(weights, 2)
        removed += (z**2).sum() - (pooled(z) ** 2).sum()
        z, warped, channels = layer(z, weights), layer(warped, weights), 8
        errors.append(np.linalg.norm(warped - moved(z)))
        assert errors[-1] <= C * math.sqrt(removed)
    assert removed <= (x**2).sum()
    assert max(errors) <= 1.5 * errors[0]
    final = np.linalg.norm(pooled(warped) - pooled(z))
    assert (
        final
        <= depth_free([LayerError(C, 0.0, Status.PROOF)] * depth, last_pooling(norms, sigma, norms.displacement).value)
        * 20
    )


# ------------------------------------------------------------------------------------------------------------- the laws
@given(
    st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0, 2), st.floats(0, 2), st.floats(0.5, 8), st.booleans(),
    st.sampled_from((1, 2)),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_factors_grow_with_strain_patch_and_hessian(b, more, offset, hessian, sigma, knows_divergence, d):
    small, large = sorted((b, more))

    def best(jacobian, hessian, offset):
        divergence = 0.5 * jacobian if knows_divergence else None
        field = FieldNorms(1.0, jacobian, hessian, divergence=divergence, d=d)
        layers = [layer_error(part, sigma, offset) for part in ingredients(field)]
        return min(layer.factor + layer.growth for layer in layers)

    value = best(small, hessian, offset)
    assert value <= best(large, hessian, offset) + 1e-12
    assert value <= best(small, hessian + 0.1, offset) + 1e-12
    assert value <= best(small, hessian, offset + 0.1) + 1e-12
    assert value <= best(small, math.inf, offset) + 1e-12
    assert best(0.0, 0.0, offset) == 0.0


def test_the_bound_does_not_depend_on_depth_for_volume_preserving_fields():
    values = [
        closed_form(_network(n), displacement_norm=1.0, jacobian_norm=0.1, volume_preserving=True).alternatives
        for n in (1, 4, 32)
    ]
    assert len({alternatives["depth-free"] for alternatives in values}) == 1
    root = [alternatives["quadrature"] ** 2 for alternatives in values]
    assert root[2] - root[1] == pytest.approx(28 / 3 * (root[1] - root[0]))  # n g^2 + last^2


def test_at_fixed_total_pooling_the_growth_of_smooth_fields_does_not_depend_on_depth():
    field, found = FieldNorms(1.0, 0.1, 0.02), []
    for n in (2, 8, 50):
        sigma = 4.0 / math.sqrt(n)
        layers = [layer_error(ingredients(field)[0], sigma, sigma)] * n
        found.append((layers[0].factor, bounds.depth_free(layers, 0.0) - layers[0].factor))
    assert np.allclose(found, found[0])
    doubling = [layer_error(ingredients(field)[0], 2.0**k, 0.0) for k in range(6)]
    assert depth_free(doubling, 0.0) - doubling[0].factor <= 0.02 * 2 / 0.9**3 / 2 * 64 / math.sqrt(3)


def test_the_depth_free_theorem_overtakes_the_others():
    names = []
    for n in range(1, 7):
        form = closed_form(_network(n), displacement_norm=1.0, jacobian_norm=0.1, hessian_norm=0.01)
        assert form.value == min(form.alternatives.values())
        names.append(form.combination)
    assert names[0] == "quadrature"
    assert names[-1] == "depth-free"
    assert names == sorted(names, reverse=True)  # once and for all
    rough = closed_form(_network(6), displacement_norm=1.0, jacobian_norm=0.1)
    assert rough.combination == "quadrature"  # without a Hessian the divergence makes it grow like the square root


@pytest.mark.parametrize("d", [1, 2])
def test_translations_keep_their_exact_value(d):
    form = closed_form(_network(5), displacement_norm=3.0, jacobian_norm=0.0, d=d)
    assert set(form.alternatives) == {"sum", "quadrature", "depth-free", "published form"}
    for name in ("sum", "quadrature", "depth-free"):
        assert form.alternatives[name] == bounds.translation(3.0 / SPREAD)


def test_a_change_of_unit_changes_nothing():
    here = field_norms(displacement_norm=2.0, jacobian_norm=0.2, hessian_norm=0.05)
    there = field_norms(displacement_norm=6.0, jacobian_norm=0.2, hessian_norm=0.05 / 3)
    for one, other in zip(ingredients(here), ingredients(there), strict=True):
        assert layer_error(one, 1.5, 1.0)[:2] == pytest.approx(layer_error(other, 4.5, 3.0)[:2])


def test_expansive_layers_take_the_smaller_of_two_weights():
    steep = _network(3).replace("layers.*.kernel", Exponential(4.0)).replace("layers.2.kernel", Linear())
    norms = {"displacement_norm": 1.0, "jacobian_norm": 0.1, "volume_preserving": True}
    part = ingredients(field_norms(**norms))[0]
    layers = [layer_error(part, SPREAD, SPREAD)] * 3
    last = last_pooling(field_norms(**norms), SPREAD, 1.0).value
    form = closed_form(steep, **norms)
    assert form.alternatives["depth-free"] == pytest.approx(depth_free(layers, last, gains=[4.0, 2.0, 1.0]))
    assert form.alternatives["depth-free"] == pytest.approx(math.hypot(4 * layers[0].factor, last))
    flat = closed_form(_network(3), **norms)
    for ratio in (0.05, 0.9):
        both = closed_form(steep, **norms, centred_norm=ratio)
        assert both.alternatives["depth-free, centred"] == pytest.approx(4 * ratio * flat.alternatives["depth-free"])
        assert both.value == pytest.approx(min(form.value, 4 * ratio * flat.value))
        assert both.scope.every_image == (ratio == 0.9)
        assert math.fsum(float(term.value) for term in both.terms) == pytest.approx(both.value)
    shrinking = closed_form(_network(3), **norms, lipschitz=(0.5, 1.0, 2.0), centred_norm=0.5)
    assert shrinking.value == pytest.approx(0.5 * flat.value)
    with pytest.raises(ValueError, match="centred_norm must be at most 1"):
        closed_form(_network(1), **norms, centred_norm=1.5)


def test_layers_without_pooling_strides_and_front_ends_stand_outside_the_root():
    norms = {"displacement_norm": 1.0, "jacobian_norm": 0.1, "volume_preserving": True}
    plain = closed_form(_network(3), **norms).alternatives["depth-free"]
    bare = closed_form(_network(3, antialiasing=None), **norms)
    assert bare.alternatives["depth-free"] == pytest.approx(plain + 2.0)  # 2 ||L||
    centred = closed_form(_network(3, front_end=MeanRemoval()), **norms).alternatives["depth-free"]
    assert centred == plain  # volume preserving: the mean stays
    strided = closed_form(_network(3).replace("layers.2.subsampling", 2), **norms)
    extra = dict(strided.terms)["aliasing 3"]
    assert strided.alternatives["depth-free"] == pytest.approx(plain + extra)


def test_the_terms_of_the_winner_add_up():
    form = closed_form(_network(6), displacement_norm=1.0, jacobian_norm=0.1, hessian_norm=0.005)
    assert [term.name for term in form.terms] == ["largest layer", "growth (hessian)", "last pooling"]
    assert form.combination == "depth-free"
    assert math.fsum(float(term.value) for term in form.terms) == pytest.approx(form.value)
    assert "shares" in form.to_text()


def test_the_published_form_is_never_smaller():
    rng = np.random.default_rng(0)
    for _ in range(200):
        a, b, depth = rng.uniform(0, 5), rng.uniform(0, 0.9), int(rng.integers(1, 5))
        kernel = Exponential(float(rng.uniform(0.5, 4)))
        found = closed_form(
            Architecture.dyadic(depth=depth, subsampling=1, kernel=kernel), displacement_norm=a, jacobian_norm=b,
            volume_preserving=bool(rng.integers(2)),
        ).alternatives  # fmt: skip
        assert found["published form"] >= found["sum"] * (1 - 1e-12)


def test_the_table_over_depth_names_the_smallest_theorem():
    architecture = Architecture.dyadic(depth=4, subsampling=1)
    networks = first_layers(architecture)
    norms = field_norms(displacement_norm=1.0, jacobian_norm=0.1, volume_preserving=True)
    forms = over_depth(networks, norms)
    assert forms[-1] == closed_form(architecture, displacement_norm=1.0, jacobian_norm=0.1, volume_preserving=True)
    lines = to_text(networks, forms).splitlines()
    assert [line.split()[0] for line in lines] == ["n", "1", "2", "3", "4"]
    assert lines[-1].endswith("depth-free")


# ------------------------------------------------------------------------------------------ what offsets of a patch add
def _offset_ratios(b: float, c: float, waves: float, width: float) -> tuple[float, float]:
    """||y(phi(. + c)) - y(phi + c)|| and ||w (y(psi - c) - y(psi(. - c)))||, each over |c| ||y'||, for a wave packet y.

    phi(u) = u - tau(u), tau = (b / 2 pi) sin(2 pi u) on the circle of length 1. The packet sits at phi(0) = 0, where
    tau' = b is largest and D = 1 - b smallest.
    """
    u = np.arange(2**15) / 2**15

    def phi(v):
        return v - b / (2 * np.pi) * np.sin(2 * np.pi * v)

    def y(v):
        v = (v + 0.5) % 1 - 0.5
        return np.exp(-((v / width) ** 2)) * np.sin(2 * np.pi * waves * v)

    psi, steps = u.copy(), math.ceil(-36 / math.log(b))  # of a contraction by b: to round-off
    for _ in range(steps):
        psi = u + b / (2 * np.pi) * np.sin(2 * np.pi * psi)
    back = u - c
    for _ in range(steps):
        back = (u - c) + b / (2 * np.pi) * np.sin(2 * np.pi * back)
    w = 1 / (1 - b * np.cos(2 * np.pi * psi))
    slope = np.linalg.norm(np.gradient(y(u), u)) * c
    direct = np.linalg.norm(y(phi(u + c)) - y(phi(u) + c))
    return direct / slope, np.linalg.norm(w * (y(psi - c) - y(back))) / slope


@pytest.mark.parametrize("b", [0.1, 0.5, 0.8])
def test_what_offsets_add_is_within_its_bound_and_reaches_it(b):
    field = FieldNorms(1.0, b, d=1)
    part = ingredients(field)[-1]
    for waves, width, c in [(40.0, 0.03, 1e-3), (10.0, 0.1, 0.02), (3.0, 0.3, 0.1)]:
        direct, inverse = _offset_ratios(b, c, waves, width)
        assert direct <= part.shift * 1.001
        assert inverse <= part.inverse_shift * 1.001
    direct, _ = _offset_ratios(b, 1e-4, 300.0, 0.004)
    assert direct >= 0.97 * part.shift  # b alone, without the determinant, would be too little
    assert direct > 1.02 * b


@pytest.mark.parametrize("preserving", [True, False])
def test_determinants_of_straight_paths_to_the_identity_stay_above_their_bound(preserving):
    rng = np.random.default_rng(3)
    for _ in range(1500):
        b = rng.uniform(0.05, 0.95)
        M = 3 * np.eye(2)  # not yet drawn
        while np.linalg.norm(np.eye(2) - M, 2) > b:
            J = rng.normal(size=(2, 2))
            J *= b * rng.choice([1.0, rng.uniform()]) / np.linalg.norm(J, 2)
            M = np.eye(2) - J
            if preserving:
                M /= math.sqrt(np.linalg.det(M))
        t, low = rng.uniform(), np.linalg.det(M)
        straight = np.linalg.det((1 - t) * np.eye(2) + t * M)
        if preserving:
            assert straight >= 1 - b * b / 4 - 1e-12
            assert np.linalg.norm(np.linalg.inv(M) - np.eye(2), 2) <= b + 1e-12
        else:
            assert straight >= min((1 - t * b) ** 2, low) - 1e-12


def test_without_the_factor_of_the_determinant_a_known_norm_is_underestimated():
    """Zigzags have ||[A, L]|| >= ((1-b^2)^(-d) - 1)^(1/2): at b = .9, c_d b without (1-b)^(-d/2) is too little."""
    for d in (1, 2):
        known = math.sqrt((1 - 0.9**2) ** -d - 1)
        assert bounds.commutator(0.9, d) >= known > bounds.commutator(0.9, d) * (1 - 0.9) ** (d / 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ingredients(-1.0), "strain must be a number >= 0"),
        (lambda: Ingredients(0.1, bend=math.nan), "bend must be a number >= 0"),
        (lambda: layer_error(Ingredients(0.1), 0.0, 1.0), "sigma must be > 0"),
        (lambda: ingredients(FieldNorms(1.0, 1.0)), "jacobian must be in"),
        (lambda: depth_free([], 0.0, [1.0]), "zip"),
    ],
)
def test_wrong_ingredients_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
