"""The mixed splitting: its identity, its suprema over matrices, enclosed operator norms, the lower bound."""

import math

import pytest
import torch

import stability as st
from stability import bounds
from stability.bounds.envelope import envelope, envelope_energy
from stability.bounds.field import FieldNorms
from stability.bounds.forms import last_pooling, patch_commutator, patch_energy, pooling_commutator
from stability.bounds.mixed import choices, mixed, mixed_commutator, mixed_norms
from stability.bounds.patches import joint, joint_energy

CASES = [(0.0, 0.0, 0.5), (0.02, 0.0, 0.5), (0.3, 0.15, 0.7), (1.0, 1.0, 0.4), (0.6, 0.6, 0.2)]


def field(u: torch.Tensor) -> torch.Tensor:
    """tau, (2,)."""
    x, y = u
    return torch.stack([0.11 * torch.sin(x + 2 * y) + 0.05 * torch.cos(y), 0.08 * torch.cos(2 * x - y)])


def signal(v: torch.Tensor) -> torch.Tensor:
    """y, a number."""
    return torch.sin(1.3 * v[0] - 0.4 * v[1]) + 0.5 * torch.cos(v[0] + 2 * v[1])


@pytest.mark.parametrize(("r", "s"), [(0.0, 0.0), (1.0, 1.0), (0.4, 0.0), (0.7, 0.2), (0.2, 0.9)])
def test_the_identity_holds_pointwise_and_a_wrong_sign_of_the_null_lagrangian_does_not(r, s):
    u = torch.tensor([0.3, 1.1], dtype=torch.float64)
    one = torch.eye(2, dtype=torch.float64)

    def warped(function):
        return lambda point: function(point - field(point))

    def parts(point, sign=1.0):
        j = torch.func.jacrev(field)(point)
        m = one - j
        cofactor = torch.det(m) * torch.linalg.inv(m)
        return ((1 - s) * j.T - s * m.T + sign * r * cofactor) @ warped(torch.func.grad(signal))(point)

    def divergence(flow):
        return torch.func.jacrev(flow)(u).trace()

    def laplacian(function):
        return torch.func.hessian(function)(u).trace()

    j = torch.func.jacrev(field)(u)
    z = (1 - s) * (j + j.T) / 2 + (s - r * torch.det(one - j)) * one
    hessian = torch.func.hessian(signal)(u - field(u))
    left = laplacian(warped(signal)) - hessian.trace()
    right = -divergence(parts) - (z * hessian).sum()
    assert float(left - right) == pytest.approx(0.0, abs=1e-12)
    if r:
        assert abs(float(left + divergence(lambda point: parts(point, -1.0)) + (z * hessian).sum())) > 1e-2


@pytest.mark.parametrize("share", [None, 1.5, 0.3, 0.02])
@pytest.mark.parametrize(("r", "s", "p"), CASES)
def test_norms_are_suprema_over_all_matrices(r, s, p, share):
    for b in (0.05, 0.3, 0.7):
        delta = None if share is None else share * b
        e = torch.linspace(0, b, 41, dtype=torch.float64)[:, None, None]
        c = torch.linspace(0, 1, 41, dtype=torch.float64)[None, :, None] * (b - e)
        turn = torch.linspace(0, math.pi, 161, dtype=torch.float64)
        a, w = c * turn.cos(), c * turn.sin()
        if delta is not None:
            a = a.clamp(-delta / 2, delta / 2)
            w = (c.square() - a.square()).clamp_min(0).sqrt()
        jacobian = torch.stack([torch.stack([a + e, -w], -1), torch.stack([w, a - e], -1)], -2).reshape(-1, 2, 2)
        m = torch.eye(2, dtype=torch.float64) - jacobian
        d = torch.linalg.det(m)
        y = (1 - s) * jacobian.mT - s * m.mT + r * d[:, None, None] * torch.linalg.inv(m)
        largest = (torch.linalg.matrix_norm(y, 2) / d.sqrt()).max()
        z = (1 - s) * (jacobian + jacobian.mT) / 2 + (s - r * d)[:, None, None] * torch.eye(2, dtype=torch.float64)
        mean = z.diagonal(dim1=1, dim2=2).mean(1)
        rest = (z - mean[:, None, None] * torch.eye(2, dtype=torch.float64)).square().sum((1, 2)) / 2
        square = ((mean.square() / p + rest / (1 - p)) / d).max()
        found = mixed_norms(b, r, s, p, divergence_norm=delta)
        assert 0.95 * found.laplacian <= square.sqrt() <= found.laplacian * (1 + 1e-12)
        assert 0.95 * found.divergence <= largest <= found.divergence * (1 + 1e-12)


@pytest.mark.parametrize("t", [0.0, 0.05, 0.3])
def test_norms_in_one_dimension(t):
    for b in (0.05, 0.5, 0.9):
        j = torch.linspace(-b, b, 1001, dtype=torch.float64)
        found = mixed_norms(b, t, 0.0, 1.0, d=1)
        assert found.laplacian == pytest.approx(float(((j - t * (1 - j)).abs() / (1 - j).sqrt()).max()))
        assert found.divergence == pytest.approx(float(((j + t).abs() / (1 - j).sqrt()).max()))


@pytest.mark.parametrize("d", [1, 2])
def test_between_the_lower_bound_and_the_bound_without_mixing(d):
    for b in (0.01, 0.05, 0.1, 0.25, 0.5, 0.75):
        lower = math.sqrt((1 - b * b) ** -d - 1)
        value = mixed_commutator(b, d)
        assert lower <= value <= 1.003 * bounds.commutator(b, d) or bounds.commutator(b, d) < 1.0601 * b
        assert mixed_commutator(b, d, divergence_norm=0.2 * b) < value
    assert mixed_commutator(0.5, d) / math.sqrt(0.75**-d - 1) < (1.21 if d == 1 else 1.31)  # 1.30 and 1.65 without
    assert mixed_commutator(1e-6, d) / 1e-6 == pytest.approx((1.0601, 1.4564)[d - 1], rel=3e-3)
    assert mixed_commutator(0.0, d) == 0.0
    assert math.isfinite(mixed_commutator(0.999, d))


@pytest.mark.parametrize("b", [0.1, 0.5])
@pytest.mark.parametrize("kind", [st.FourierField, st.GradientField, st.DivergenceFreeField], ids=lambda k: k.__name__)
def test_no_enclosed_norm_is_above_and_half_of_the_bound_is_exceeded_by_zigzags(kind, b):
    generator = torch.Generator().manual_seed(7)
    for size, cutoff, sigma in (((20, 20), 1, 1.5), ((20, 20), 3, 2.5)):
        tau = st.control(kind.sample(size, cutoff=cutoff, generator=generator), jacobian_norm=b)
        norms, own = st.OperatorNorms(tau, generator, tolerance=1e-3), tau.norms()
        known = FieldNorms(float(own.displacement.upper), b, divergence=float(own.divergence.upper))
        e = st.Architecture((st.Layer(3, sigma),)).patch_radius(1, 2)
        for found, norm in (
            (pooling_commutator(known, sigma).value, norms.commutator(sigma)),
            (mixed(known, envelope), norms.commutator(sigma)),
            (patch_commutator(known, sigma, e, symmetric=True).value, norms.patch_commutator(sigma, 3)),
            (patch_energy(known, sigma, e).value, norms.patch_commutator(sigma, 3, energy=True)),
            (last_pooling(known, sigma, known.displacement).value, norms.pooling_difference(sigma)),
        ):
            assert float(norm.lower) <= found
    assert 0.5 * mixed_commutator(b) < math.sqrt((1 - b * b) ** -2 - 1)


def test_shifts_and_energies_agree_with_the_joint_constants_where_nothing_is_mixed():
    first = choices(FieldNorms(1.0, 0.2))[0]
    seen = 0.2 / 0.8
    for kappa in (0.0, 1.0, 2.0):
        assert envelope(*first, 0.0, kappa * seen) == pytest.approx(joint(kappa) * seen, rel=0.012)
        assert envelope_energy(*first, 0.0, kappa * seen) == pytest.approx(joint_energy(kappa) * seen, rel=0.012)
        assert mixed(FieldNorms(1.0, 0.2), envelope, kappa * seen) < joint(kappa) * seen


@pytest.mark.parametrize("offset", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("b", [0.05, 0.3, 0.7])
def test_knowing_that_volume_is_kept_never_hurts(b, offset):
    """det(I - grad tau) = 1 says |div tau| = |det grad tau| <= b^2, and more."""
    less = FieldNorms(1.0, b, divergence=b * b)
    more = FieldNorms(1.0, b, volume_preserving=True)
    for form in (
        lambda norms: patch_commutator(norms, 1.0, offset, symmetric=True),
        lambda norms: patch_energy(norms, 1.0, offset),
        lambda norms: last_pooling(norms, 1.0, offset),
        lambda norms: pooling_commutator(norms, 1.0),
    ):
        assert form(more).value <= form(less).value
    assert envelope(*choices(more)[1], 0.0, offset * b) >= mixed(more, envelope, offset * b)


@pytest.mark.parametrize("given", [(0.5, 0.6, 0.5), (1.5, 0.0, 0.5), (0.5, -0.1, 0.5), (0.5, 0.0, 1.0), (0.5, 0.0, 0)])
def test_parameters_out_of_range_are_refused(given):
    with pytest.raises(ValueError, match="r, s and p must"):
        mixed_norms(0.1, *given)
