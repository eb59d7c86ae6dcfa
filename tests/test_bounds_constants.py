"""The constants of the theorem against quadrature, dense grids and operator norms of small discretisations."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stability import bounds
from stability.bounds import constants, patches
from stability.bounds.field import density_range

ROUND_OFF = 1e-9
jacobian_norms = st.floats(0, 0.9)
dimensions = st.sampled_from((1, 2))

# ----------------------------------------------------------- suprema of the two multipliers of the Cauchy-Schwarz step
# (lambda, mu, v, nu, k) for kappa = 0, .5, 1, 2
ENERGY = {
    1: ((24.850, 1.0508, 1, 3.8497, 2.0141), (18.27, 1.673, 0.6027, 4.2309, 0.9351),
        (10.423, 1.8437, 1.0584, 3.8553, 0.5534), (3.702, 2.2968, 1.8673, 2.9189, 0.4304)),
    2: ((42.076, 1.1308, 1, 4.6678, 2.4355), (34.293, 2.0332, 0.4149, 4.9792, 1.2963),
        (24.232, 2.3628, 0.7595, 4.7629, 0.8655), (12.866, 2.5897, 1.4202, 4.2045, 0.5032)),
}  # fmt: skip
NORM = {
    1: ((25.5932, 1.0371, 1, 3.9009, 2.0379), (11.829, 1.4474, 0.31791, 2.6998, 1.2893),
        (5.9712, 1.6048, 0.5418, 1.7314, 0.93341), (3.6613, 1.6796, 0.75599, 1.1406, 0.75785)),
    2: ((42.1659, 1.1292, 1, 4.6732, 2.4381), (24.001, 1.6812, 0.21881, 3.6623, 1.6733),
        (14.451, 1.9452, 0.38799, 2.8149, 1.2835), (6.457, 2.1524, 0.70588, 1.6353, 0.9148)),
}  # fmt: skip
X = np.concatenate([[0.0], np.geomspace(1e-4, 1e5, 700)])
Y = X[1:]
_edges = np.concatenate([[0.0], 2.0 ** -np.arange(20, 0, -1)])
_edges = np.concatenate([_edges, (1 - _edges[::-1])[1:]])
_gauss, _weights = np.polynomial.legendre.leggauss(16)
_half = np.diff(_edges)[:, None] / 2
R = (_edges[:-1, None] + _half * (1 + _gauss)).ravel()
W = (_half * _weights).ravel()


def _q(z):
    safe = np.where(np.abs(z) > 1e-8, z, 1.0)
    with np.errstate(over="ignore"):
        return np.where(np.abs(z) > 1e-8, -np.expm1(-safe) / safe, 1 - z / 2)


def _a3(x, k):
    return x * np.exp(-k) * _q(2 * (x - k))


def _multipliers(parameters, volume, strain, kappa):
    """S(x) and S'(y) of docs/theory.md by graded Gauss quadrature."""
    lam, mu, v, nu, k = parameters
    difference = np.exp(-np.outer(X, 1 - R)) - np.exp(-X)[:, None]
    a2 = difference**2 @ (np.exp(-nu * R) / R * W)
    b2 = Y**2 * (np.exp(-2 * np.outer(Y, R) + nu * R) @ (R * W))
    left = volume * (np.exp(-2 * X) + lam * a2) + strain * mu * _a3(X, k) + kappa * v
    right = volume * (np.expm1(-Y) ** 2 + b2 / lam) + strain * _a3(Y, k) / mu + 2 * kappa * Y * np.exp(-2 * Y) / v
    return left.max(), right


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("node", range(4))
def test_tabulated_constants_dominate_the_suprema(d, node):
    kappa, removed = patches.NODES[node], -np.expm1(-2 * Y)
    left, right = _multipliers(NORM[d][node], math.sqrt(d), 1.0, kappa)
    norm = math.sqrt(left * right.max())
    left, right = _multipliers(ENERGY[d][node], math.sqrt(d), 1.0, kappa)
    energy = math.sqrt(left * (right / removed).max())
    assert norm <= patches.JOINT[d][node] <= norm + 2e-4
    assert energy <= patches.JOINT_ENERGY[d][node] <= energy + 2e-4
    if kappa == 0:
        assert norm <= constants.COMMUTATOR[d] <= norm + 1e-4


def test_factors_of_volume_strain_and_hessian_dominate_their_suprema():
    left, right = _multipliers((315.0415, 1, 1, 8.0304, 0), 1.0, 0.0, 0.0)
    assert math.sqrt(left * right.max()) <= constants.DIVERGENCE
    assert math.sqrt(left * (right / -np.expm1(-2 * Y)).max()) <= constants.DIVERGENCE
    assert _a3(X, 1.0).max() <= 1 / math.e + 1e-12
    strain = math.sqrt(_a3(X, 0.626).max() * (_a3(Y, 0.626) / -np.expm1(-2 * Y)).max())
    assert strain <= patches.STRAIN_ENERGY <= strain + 5e-5
    hessian = math.sqrt((np.exp(-0.627) * _q(2 * (X - 0.627))).max() * _a3(X, 0.627).max() / 2)
    assert hessian <= constants.HESSIAN <= hessian + 1e-4


# ------------------------------------------------------------------------------------------------- elementary functions
@pytest.mark.parametrize("r", [1e-12, 1e-7, 0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 20.0, 1e3])
def test_translation_is_the_maximum_over_frequencies(r):
    s = np.linspace(0, min(math.pi / r, 8.0), 400_001)
    assert bounds.translation(r) == pytest.approx((2 * np.sin(r * s / 2) * np.exp(-s * s / 2)).max(), rel=1e-9)


def test_translation_at_the_ends():
    assert bounds.translation(0) == 0
    assert bounds.translation(math.inf) == 2
    assert bounds.translation(1e-300) == pytest.approx(1e-300 * math.exp(-0.5), rel=1e-14)
    values = [bounds.translation(r) for r in np.geomspace(1e-9, 1e10, 2000)]
    assert all(a <= b for a, b in itertools.pairwise(values))


@pytest.mark.parametrize("p", [0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("b", [1e-14, 1e-6, 0.1, 0.5, 0.9])
def test_c_p_is_its_integral(p, b):
    t, w = np.polynomial.legendre.leggauss(60)
    assert bounds.c_p(p, b) == pytest.approx(0.5 * w @ (1 - (t + 1) / 2 * b) ** -p, rel=1e-12)


def test_documented_numbers():
    assert [round(bounds.commutator(b) / b, 3) for b in (0.05, 0.1, 0.25, 0.5)] == [1.533, 1.618, 1.942, 2.913]
    assert [round(bounds.commutator(b, 1) / b, 3) for b in (0.05, 0.1, 0.25, 0.5)] == [1.088, 1.117, 1.224, 1.499]
    strain = [bounds.commutator_hessian(b, 0, 1) / b for b in (0.05, 0.1, 0.25, 0.5)]
    assert strain == pytest.approx([0.795, 0.863, 1.145, 2.207], abs=6e-4)
    assert [round(bounds.c2(b, 1), 3) for b in (0, 0.1, 0.25, 0.5)] == [0.607, 0.623, 0.650, 0.711]
    assert bounds.c1(2.0, 0.3) == pytest.approx(
        (bounds.commutator(0.3) + bounds.patch_shift(2.0, 0.3)) / 0.3, rel=1e-14
    )


@given(jacobian_norms, dimensions, st.floats(0, 5))
def test_limits_and_order(b, d, kappa):
    assert bounds.c1(kappa, 0.0, d) == pytest.approx(constants.COMMUTATOR[d] + constants.SLOPE * kappa, rel=1e-14)
    assert bounds.joint_commutator(kappa, b, d) <= bounds.c1(kappa, b, d) * b + 1e-12 or constants.COMMUTATOR[d] * b > 1
    assert bounds.joint(kappa, d) <= bounds.joint_energy(kappa, d)
    # no constant below what some field of this norm attains
    assert bounds.commutator(b, d) >= min(1.0, bounds.mean_removal(b, d))
    assert bounds.commutator(b, d) <= bounds.commutator(min(b + 0.01, 0.99), d)
    assert bounds.mean_removal(b, d) <= constants.COMMUTATOR[d] * b * (1 - b) ** (-d / 2) + 1e-15


def test_tables_are_convex_so_that_interpolation_is_an_upper_bound():
    for d in (1, 2):
        for function in (bounds.joint, bounds.joint_energy):
            values = np.array([function(kappa, d) for kappa in np.linspace(0, 4, 81)])
            assert (np.diff(values, 2) >= -1e-12).all()


@pytest.mark.parametrize("b", [0.05, 0.3, 0.7])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0, 2.0])
def test_divergence_form_dominates_every_jacobian(b, share):
    rng = np.random.default_rng(0)
    J = rng.normal(size=(20_000, 2, 2))
    J[::2] *= np.array([[1, 1], [1, -1]]) * np.array([1.0, 0.3])  # more of small trace
    J *= (b * rng.uniform(size=len(J)) ** 0.1 / np.linalg.norm(J, 2, axis=(1, 2)))[:, None, None]
    J = np.concatenate([J, np.array([np.diag((b, -b)), np.diag((b, b)), np.diag((-b, -b))])])
    delta = share * b
    J = J[np.abs(np.trace(J, axis1=1, axis2=2)) <= delta + 1e-15]
    D, s = np.linalg.det(np.eye(2) - J), np.linalg.svd(np.eye(2) - J, compute_uv=False)
    low, high = density_range(b, 2, delta)
    assert (low - ROUND_OFF <= D).all()
    assert (high + ROUND_OFF >= D).all()
    seen = ((s[:, 0] - s[:, 1]) / np.sqrt(D)).max() / math.e + constants.DIVERGENCE * (np.abs(1 - D) / D**0.5).max()
    assert seen <= bounds.commutator_divergence(b, delta) + ROUND_OFF
    assert ((s[:, 0] - s[:, 1]) / np.sqrt(D)).max() == pytest.approx(constants.strain_ratio(b), rel=1e-9)  # diag(b, -b)
    assert (np.abs(s - 1 / s).max(1) <= b * (2 - b) / (1 - b) + ROUND_OFF).all()


@pytest.mark.parametrize("d", [1, 2])
def test_mean_removal_is_attained_by_zigzags_and_by_nothing_more(d):
    b = 0.4
    signs = np.array(np.meshgrid(*[[-1, 1]] * d)).reshape(d, -1)
    zigzag = math.sqrt(np.mean(1 / np.prod(1 - b * signs, axis=0)) - 1)
    assert zigzag == pytest.approx(bounds.mean_removal(b, d), rel=1e-12)
    rng = np.random.default_rng(d)
    J = rng.normal(size=(20_000, d, d))
    J *= (b / np.linalg.norm(J, 2, axis=(1, 2)))[:, None, None]
    identity = np.eye(d)
    assert (np.linalg.det(identity - J) * np.linalg.det(identity + J) >= (1 - b * b) ** d - ROUND_OFF).all()


@pytest.mark.parametrize(
    "call",
    [
        lambda: bounds.c2(1.0), lambda: bounds.c2(math.nan), lambda: bounds.commutator(-0.1),
        lambda: bounds.c1(-1, 0.1),
        lambda: bounds.translation(-1), lambda: bounds.translation("1"), lambda: bounds.c2(0.1, d=3),
        lambda: bounds.mean_removal(1.5), lambda: bounds.aliasing(1.0, 0.0), lambda: bounds.sampling_gain(1, 1, 1.5),
        lambda: bounds.joint(math.nan), lambda: bounds.commutator_divergence(0.1, -1), lambda: bounds.c_p(1, True),
    ],
)  # fmt: skip
def test_impossible_values_are_refused_with_advice(call):
    with pytest.raises(ValueError, match=r"must be .*, got .*; "):
        call()
