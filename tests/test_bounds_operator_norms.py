"""Bounds against operator norms of small periodic discretisations, and sampling against its folding."""

import math

import numpy as np
import pytest

from stability import bounds
from stability.bounds.field import FieldNorms
from stability.bounds.forms import last_pooling, patch_commutator, patch_energy, pooling_commutator

ROUND_OFF = 1e-9

# -------------------------------------------------------------------- operator norms of small periodic discretisations
SIDE, IN, OUT = 64.0, 24, 60


def _field(seed, cutoff, b, n=512):
    """Samples of a random trigonometric tau with sup |tau'| = b, and its norms."""
    rng = np.random.default_rng(seed)
    u, k = np.arange(n) * SIDE / n, 2 * math.pi / SIDE * np.arange(1, cutoff + 1)[:, None]
    p, q = rng.normal(size=(2, cutoff, 1))
    tau, slope = (p * np.sin(k * u) + q * np.cos(k * u)).sum(0), (k * (p * np.cos(k * u) - q * np.sin(k * u))).sum(0)
    bend = (-k * k * (p * np.sin(k * u) + q * np.cos(k * u))).sum(0)
    scale = b / np.abs(slope).max()
    tau, bend = tau * scale, bend * scale
    slack = 1 + 1e-4  # the grid is fine enough for that
    return u, tau, FieldNorms(np.abs(tau).max() * slack, b * slack, np.abs(bend).max() * slack, d=1)


def _warp(u, tau, modes_in=IN, modes_out=OUT):
    """Matrix of L between the modes |k| <= modes_in and |m| <= modes_out, by quadrature on the samples u."""
    k, m = np.arange(-modes_in, modes_in + 1), np.arange(-modes_out, modes_out + 1)
    turn = 2j * math.pi / SIDE
    return np.exp(-turn * np.outer(m, u)) @ np.exp(turn * np.outer(u - tau, k)) / len(u), k, m


def _symbol(k, sigma):
    return np.exp(-0.5 * (sigma * 2 * math.pi / SIDE * k) ** 2)


def _norm(matrix):
    return np.linalg.norm(matrix, 2)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("cutoff", [1, 4])
@pytest.mark.parametrize("b", [0.05, 0.5])
@pytest.mark.parametrize("sigma", [1.0, 4.0])
def test_operator_norms_stay_below_their_bounds(seed, cutoff, b, sigma):
    u, tau, field = _field(seed, cutoff, b)
    L, k, m = _warp(u, tau)
    identity = (m[:, None] == k).astype(float)
    commutator = _symbol(m, sigma)[:, None] * L - L * _symbol(k, sigma)
    plain = FieldNorms(field.displacement, field.jacobian, d=1)
    assert _norm((L - identity) * _symbol(k, sigma)) <= bounds.c2(field.jacobian, 1) * field.displacement / sigma
    for norms in (plain, field):
        assert _norm(commutator) <= pooling_commutator(norms, sigma).value
        difference = _norm(_symbol(m, sigma)[:, None] * (L - identity))
        assert difference <= last_pooling(norms, sigma, norms.displacement).value
        offsets = 2.0 * np.arange(-1, 2)
        shifts = [
            np.exp(2j * math.pi / SIDE * c * m)[:, None] * _symbol(m, sigma)[:, None] * L
            - L * (_symbol(k, sigma) * np.exp(2j * math.pi / SIDE * c * k))
            for c in offsets
        ]
        stacked = np.concatenate(shifts) / math.sqrt(3)
        radius = math.sqrt(np.mean(offsets**2))
        assert _norm(stacked) <= patch_commutator(norms, sigma, radius, symmetric=True).value
        moving = k != 0
        energy = stacked[:, moving] / np.sqrt(1 - _symbol(k[moving], sigma) ** 2)
        assert _norm(energy) <= patch_energy(norms, sigma, radius).value
    assert _norm(L[m == 0][:, k != 0]) <= bounds.mean_removal(field.jacobian, 1)


@pytest.mark.parametrize("c", [0.3, 2.0, 9.0])
def test_translations_reach_their_bound(c):
    u = np.arange(256) * SIDE / 256
    L, k, m = _warp(u, np.full_like(u, c))
    sigma = 3.0
    exact = np.abs(np.expm1(-2j * math.pi / SIDE * c * k) * _symbol(k, sigma)).max()
    seen = _norm(_symbol(m, sigma)[:, None] * (L - (m[:, None] == k)))
    assert seen == pytest.approx(exact, abs=1e-10)
    assert seen <= bounds.translation(c / sigma) <= seen * 1.05  # the torus has only some frequencies
    assert _norm(_symbol(m, sigma)[:, None] * L - L * _symbol(k, sigma)) < 1e-10


def test_a_zigzag_catches_a_constant_that_is_too_small():
    b, n, periods = 0.25, 4096, 8
    u = (np.arange(n) + 0.5) * SIDE / n
    phase = u * periods / SIDE % 1
    tau = b * SIDE / periods * (0.25 - np.abs(phase - 0.5))
    L, k, m = _warp(u, tau, 45, 60)
    seen = _norm(_symbol(m, 8.0)[:, None] * L - L * _symbol(k, 8.0))
    assert 0.8 * bounds.commutator(b, 1) < seen <= bounds.commutator(b, 1)
    assert 0.9 * bounds.mean_removal(b, 1) < _norm(L[m == 0][:, k != 0]) <= bounds.mean_removal(b, 1) + 1e-6


@pytest.mark.parametrize("kind", ["generic", "gradient", "shear"])
@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_two_dimensional_commutators_stay_below_their_bounds(kind, sigma):
    side, n, b = 16, 36, 0.4
    rng = np.random.default_rng(5)
    u = np.stack(np.meshgrid(*[np.arange(n) * side / n] * 2, indexing="ij"), -1).reshape(-1, 2)
    k = np.array([(1, 0), (0, 1), (1, 1), (1, -1)] if kind != "shear" else [(0, 1), (0, 2)]) * 2 * math.pi / side
    amplitude = {"generic": rng.normal(size=k.shape), "gradient": k, "shear": np.array([(1.0, 0.0), (0.4, 0.0)])}[kind]
    phase = rng.uniform(0, 2 * math.pi, len(k))
    tau = np.sin(u @ k.T + phase) @ amplitude
    J = np.einsum("pk,ki,kj->pij", np.cos(u @ k.T + phase), amplitude, k)
    scale = b / np.linalg.norm(J, 2, axis=(1, 2)).max()
    tau, J, top = tau * scale, J * scale, b * 1.05  # the supremum exceeds the grid's maximum by less than 5 %
    divergence = np.abs(np.trace(J, axis1=1, axis2=2)).max() * 1.05
    field = FieldNorms(
        np.linalg.norm(tau, axis=1).max() * 1.05, top, divergence=divergence, volume_preserving=kind == "shear"
    )
    modes = [np.stack(np.meshgrid(*[np.arange(-K, K + 1)] * 2, indexing="ij"), -1).reshape(-1, 2) for K in (4, 8)]
    k_in, k_out = (2 * math.pi / side * mode for mode in modes)
    L = np.exp(-1j * k_out @ u.T) @ np.exp(1j * (u - tau) @ k_in.T) / len(u)
    pool_in, pool_out = (np.exp(-0.5 * (sigma**2) * (w**2).sum(1)) for w in (k_in, k_out))
    identity = (modes[1][:, None] == modes[0][None]).all(-1)
    commutator = pool_out[:, None] * L - L * pool_in
    assert _norm(commutator) <= pooling_commutator(field, sigma).value
    assert _norm(commutator) <= bounds.commutator(top)
    assert _norm(pool_out[:, None] * (L - identity)) <= last_pooling(field, sigma, field.displacement).value
    moving = pool_in < 1
    energy = commutator[:, moving] / np.sqrt(1 - pool_in[moving] ** 2)
    assert _norm(energy) <= patch_energy(field, sigma, 0.0).value
    constant = L[(modes[1] == 0).all(1)][:, moving]
    assert _norm(constant) <= bounds.mean_removal(top)
    if kind == "shear":
        assert _norm(constant) < 1e-9


# ------------------------------------------------------------------------------------------------------------- sampling
@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("ratio", [0.1, 0.24, 0.26, 0.5, 1.0, 1.4])
def test_aliasing_dominates_the_folding_of_every_frequency(d, ratio):
    rng = np.random.default_rng(0)
    m = np.stack(np.meshgrid(*[np.arange(-12, 13)] * d, indexing="ij"), -1).reshape(-1, d)
    m = m[(m != 0).any(1)]
    omega = np.concatenate([rng.uniform(-np.pi, np.pi, size=(30, d)), np.pi * np.eye(d)[:1] * (1 - 1e-12)])
    worst = 0.0
    for w in omega:
        a = np.exp(-0.5 * ratio**2 * ((w + 2 * np.pi * m) ** 2).sum(1))
        worst = max(worst, math.sqrt((a**2).sum() + (a**2).max()))  # fold a, lose diag(a): norm^2 of a a^T + diag(a^2)
    assert worst <= bounds.aliasing(2 * ratio, 2.0, d) * (1 + 1e-9)
    assert bounds.aliasing(2 * ratio, 2.0, d) <= 1.5 * worst
    assert bounds.interpolation_gain(2 * ratio, 2.0, d) ** 2 == pytest.approx(
        np.exp(-(ratio**2) * ((2 * np.pi * m) ** 2).sum(1)).sum() + 1, rel=1e-9 if ratio > 0.2 else 1e-3
    )


@pytest.mark.parametrize("s", [1, 2, 3, 4])
@pytest.mark.parametrize("sigma", [0.0, 0.3, 0.7, 2.0])
def test_sampling_gain_is_the_norm_of_pooling_then_subsampling(s, sigma):
    n = 24 * s
    k = np.fft.fftfreq(n) * 2 * np.pi
    pool = np.fft.ifft(np.exp(-0.5 * (sigma * k) ** 2)[:, None] * np.fft.fft(np.eye(n), axis=0), axis=0).real
    seen = math.sqrt(s) * _norm(pool[::s])
    for d in (1, 2):
        assert seen**d <= bounds.sampling_gain(sigma, 1.0, s, d) * (1 + 1e-12)
        assert bounds.sampling_gain(sigma, 1.0, s, d) <= seen**d * 1.02


def test_sampling_without_pooling_is_not_bounded_on_the_continuum():
    assert bounds.aliasing(0.0, 2.0) == math.inf
    assert bounds.sampling_gain(0.0, 1.0, 2.0) == 2.0
    assert bounds.sampling_gain(2.0, 1.0, 2.0) - 1 < 1e-15
