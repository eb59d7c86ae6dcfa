"""Phi(F, B, H, K): its nodes against quadrature and direct optimisation, its known values, and what it bounds."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

from stability.bounds import constants, envelope_table, patches
from stability.bounds.envelope import envelope, envelope_energy

pytestmark = pytest.mark.slow

X = np.concatenate([[0.0], np.geomspace(1e-4, 1e4, 240)])
Y = X[1:]
_edges = np.concatenate([[0.0], 2.0 ** -np.arange(18, 0, -1)])
_edges = np.concatenate([_edges, (1 - _edges[::-1])[1:]])
_gauss, _weights = np.polynomial.legendre.leggauss(10)
_half = np.diff(_edges)[:, None] / 2
R = (_edges[:-1, None] + _half * (1 + _gauss)).ravel()
W = (_half * _weights).ravel()
DIFFERENCE = (np.exp(-np.outer(X, 1 - R)) - np.exp(-X)[:, None]) ** 2
HEAT = np.exp(-2 * np.outer(Y, R))


def q(z):
    safe = np.where(np.abs(z) > 1e-8, z, 1.0)
    return np.where(np.abs(z) > 1e-8, -np.expm1(-safe) / safe, 1 - z / 2)


def value(shares, parameters, energy):
    """(sup S sup S')^(1/2) for ln(lambda, mu, n, v), nu, k, k4, by graded Gauss quadrature."""
    f, b, h, shift = shares
    lam, mu, n, v = np.exp(parameters[:4])
    nu, k, k4 = parameters[4:]
    a2 = DIFFERENCE @ (np.exp(-nu * R) / R * W)
    b2 = Y**2 * (HEAT @ (R * np.exp(nu * R) * W))
    strain = X * np.exp(-k) * q(2 * (X - k))
    bend = np.exp(-k4) * q(2 * (X - k4))
    left = f * (np.exp(-2 * X) + lam * a2) + b * mu * strain + h * n * bend + shift * v
    right = f * (np.expm1(-Y) ** 2 + b2 / lam) + b * strain[1:] / mu + h * Y * bend[1:] / n
    right = right + 2 * shift * Y * np.exp(-2 * Y) / v
    return math.sqrt(left.max() * (right / (-np.expm1(-2 * Y) if energy else 1)).max())


def optimum(shares, energy):
    """The least value that a simplex search finds."""
    start = np.array([3.4, 0.4, -0.3, -0.3, 4.0, 1.3, 0.5])
    for _ in range(3):
        start = minimize(
            lambda p: math.log(value(shares, p, energy)), start, method="Nelder-Mead",
            options={"maxiter": 500, "xatol": 1e-4, "fatol": 1e-6},
        ).x  # fmt: skip
    return value(shares, start, energy)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("energy", [False, True])
def test_the_table_is_just_above_the_optimum(seed, energy):
    shares = np.random.default_rng(seed).dirichlet([0.7, 1.5, 0.7, 0.7])
    found = (envelope_energy if energy else envelope)(*shares)
    best = optimum(shares, energy)
    assert found >= best * (1 - 2e-3)  # the search itself stops a little above the infimum
    assert found <= best * 1.011


@pytest.mark.slow
@pytest.mark.parametrize("energy", [False, True])
def test_every_node_is_reached_by_parameters(energy):
    path = Path(__file__).parents[1] / "benchmarks" / "lemma.py"
    spec = importlib.util.spec_from_file_location("lemma_benchmark", path)
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    shares = generator.lattice(envelope_table.PARTS)
    weights, exponents = generator.optimised(shares, energy=energy, steps=800)
    table = np.array(envelope_table.ENERGY if energy else envelope_table.NORM)
    reached = generator.convexified(
        generator.values(shares, weights, exponents, energy=energy), shares, envelope_table.PARTS
    )
    assert np.abs(table - reached.numpy()).max() < 3e-4
    for i in range(0, len(shares), 40):  # the generator's multipliers are those of this file
        parameters = np.concatenate([weights[i].numpy(), exponents[i].numpy()])
        assert value(shares[i].numpy(), parameters, energy) <= table[i] * 1.002


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("node", range(4))
def test_the_joint_constants_of_the_closed_form_are_values_of_the_envelope(d, node):
    kappa = patches.NODES[node]
    for phi, constant in ((envelope, patches.JOINT[d][node]), (envelope_energy, patches.JOINT_ENERGY[d][node])):
        assert constant - 3e-4 <= phi(math.sqrt(d), 1.0, 0.0, kappa) <= constant * 1.0075


def test_one_part_alone_has_the_known_constants():
    assert 1 / math.e <= envelope(0, 1) <= 1 / math.e + 2e-4
    assert 1 <= envelope(1, 0) <= constants.DIVERGENCE + 1e-4
    assert constants.HESSIAN - 1e-4 <= envelope(0, 0, 2**-0.5) <= constants.HESSIAN + 1e-4
    assert constants.SLOPE <= envelope(0, 0, 0, 1) <= constants.SLOPE + 1e-4
    assert patches.STRAIN_ENERGY - 1e-4 <= envelope_energy(0, 1) <= patches.STRAIN_ENERGY + 1e-4
    assert 1 <= envelope_energy(1, 0) <= constants.DIVERGENCE + 1e-4
    assert 0.5 <= envelope_energy(0, 0, 2**-0.5) <= 0.5001
    assert 1 <= envelope_energy(0, 0, 0, 1) <= 1.0002


@pytest.mark.parametrize("seed", range(20))
def test_homogeneous_increasing_and_subadditive(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.dirichlet([0.4] * 4, size=2) * rng.uniform(0.01, 5, size=(2, 1))
    for phi in (envelope, envelope_energy):
        assert phi(*(3.7 * x)) == pytest.approx(3.7 * phi(*x), rel=1e-12)
        assert phi(*(x + y)) <= (phi(*x) + phi(*y)) * 1.011
        assert phi(*x) <= phi(*(x + y)) * 1.001


def bounded(phi, shares):
    """Whether Phi bounds commuting examples: Z_i and R scalars, so that X + R is a Fourier multiplier."""
    f, b, h, k = shares
    x = np.geomspace(1e-3, 30, 400)
    symbol = (f + b) * x * np.exp(-x) + (h * np.sqrt(x) + k * math.sqrt(2) * np.sqrt(x)) * np.exp(-x)
    energy = symbol / np.sqrt(-np.expm1(-2 * x))
    return (energy if phi is envelope_energy else symbol).max() <= phi(*shares)


@pytest.mark.parametrize("seed", range(10))
def test_multipliers_stay_below_and_half_the_table_is_caught(seed):
    shares = np.random.default_rng(seed).dirichlet([0.5] * 4)
    for phi in (envelope, envelope_energy):
        assert bounded(phi, shares)
    assert not bounded(lambda *parts: 0.5 * envelope(*parts), (0.0, 1.0, 0.0, 0.0))


def test_edges_of_the_simplex_and_bad_input():
    assert envelope(0, 0) == 0
    assert envelope(1, math.inf) == math.inf
    tiny = envelope(1e-14, 1.0, 1e-15, 1e-16)
    assert tiny == pytest.approx(envelope(0, 1), rel=1e-9)
    with pytest.raises(ValueError, match="divergence must be"):
        envelope(1, math.nan)
    with pytest.raises(ValueError, match="gradient must be"):
        envelope_energy(1, 1, -1.0)
