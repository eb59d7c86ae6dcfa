r"""The commutator [P A, L] of pooling A and patches P y(u) = (y(u + c))_c with L.

kappa = (mean of |c|^2 over the patch)^(1/2) / sigma; patches average over their positions, so ||P y|| = ||y||.
Energy forms bound ||[P A, L] z|| by a multiple of (||z||^2 - ||A z||^2)^(1/2), the energy that the pooling removes.
"""

import math

from stability.bounds.constants import COMMUTATOR, SLOPE
from stability.bounds.field import contraction, dimension, non_negative

NODES = (0.0, 0.5, 1.0, 2.0)
JOINT = {1: (1.0601, 1.1572, 1.3598, 1.8998), 2: (1.4564, 1.5201, 1.6661, 2.1204)}
JOINT_ENERGY = {1: (1.0605, 1.2361, 1.5913, 2.5066), 2: (1.4565, 1.5732, 1.8390, 2.6170)}
STRAIN_ENERGY = 0.45126
"""Energy form of the factor 1/e of the strain: sup_y (1 - e^(-y)) / sqrt(2 y)."""


def patch_shift(kappa_rms: float, b: float, d: int = 2) -> float:
    """S = e^(-1/2) kappa b (1-b)^(-d/2): what the patch offsets add, since tau(u + c) - tau(u) <= b |c|.

    Args:
        kappa_rms: root-mean-square patch offset over sigma.
        b: jacobian norm, in [0, 1).
        d: 1 or 2.

    >>> round(patch_shift(1.0, 0.5), 4)
    0.6065
    """
    b, d = contraction(b), dimension(d)
    return float(SLOPE * non_negative("kappa_rms", kappa_rms) * b * (1 - b) ** (-d / 2))


def patch_additive(pooling: float, kappa_rms: float, b: float, d: int = 2) -> float:
    """||[P A, L]|| <= C + S for any bound C of ||[A, L]||.

    >>> round(patch_additive(0.1618, 1.0, 0.1), 4)
    0.2292
    """
    return non_negative("pooling", pooling) + patch_shift(kappa_rms, b, d)


def patch_symmetric(pooling: float, kappa_rms: float, b: float, hessian_norm: float, sigma: float, d: int = 2) -> float:
    """||[P A, L]|| <= (C^2 + S^2 + 2 C min(S, m))^(1/2) for patches symmetric under c -> -c.

    m = (1/2) kappa^2 (e^(-1/2) sigma H + (2/e) b^2) (1-b)^(-d/2): the offsets c and -c cancel to first order.

    Args:
        pooling: C, any bound of ||[A, L]||.
        kappa_rms: root-mean-square patch offset over sigma.
        b: jacobian norm, in [0, 1).
        hessian_norm: H, per pixel; infinity gives C + S.
        sigma: scale of A in pixels.
        d: 1 or 2.

    >>> patch_symmetric(0.1, 1.0, 0.1, 0.0, 1.0) < patch_additive(0.1, 1.0, 0.1)
    True
    """
    c, shift = non_negative("pooling", pooling), patch_shift(kappa_rms, b, d)
    cross = patch_symmetric_cross(kappa_rms, b, hessian_norm, sigma, d)
    return math.sqrt(c * c + shift * shift + 2 * c * min(shift, cross))


def patch_symmetric_cross(kappa_rms: float, b: float, hessian_norm: float, sigma: float, d: int = 2) -> float:
    """m = (1/2) kappa^2 (e^(-1/2) sigma H + (2/e) b^2) (1-b)^(-d/2) of ``patch_symmetric``.

    >>> patch_symmetric_cross(0.0, 0.1, 1.0, 1.0)
    0.0
    """
    bend = SLOPE * non_negative("sigma", sigma) * non_negative("hessian_norm", hessian_norm) if sigma else 0.0
    return 0.5 * kappa_rms * kappa_rms * (bend + 2 / math.e * b * b) * (1 - b) ** (-d / 2) if kappa_rms else 0.0


def joint(kappa_rms: float, d: int = 2) -> float:
    """J_d(kappa): ||[P A, L]|| <= J_d(kappa) b (1-b)^(-d/2), one Cauchy-Schwarz inequality for pooling and patch.

    A convex function of kappa: linear between the nodes 0, .5, 1, 2, slope e^(-1/2) beyond 2.

    >>> [joint(kappa) for kappa in (0, 0.5, 1, 2)]
    [1.4564, 1.5201, 1.6661, 2.1204]
    """
    return _interpolate(JOINT[dimension(d)], SLOPE, non_negative("kappa_rms", kappa_rms))


def joint_energy(kappa_rms: float, d: int = 2) -> float:
    """j_d(kappa): ||[P A, L] z|| <= j_d(kappa) b (1-b)^(-d/2) (||z||^2 - ||A z||^2)^(1/2); slope 1 beyond kappa = 2.

    >>> [joint_energy(kappa) for kappa in (0, 0.5, 1, 2)]
    [1.4565, 1.5732, 1.839, 2.617]
    """
    return _interpolate(JOINT_ENERGY[dimension(d)], 1.0, non_negative("kappa_rms", kappa_rms))


def joint_commutator(kappa_rms: float, b: float, d: int = 2) -> float:
    """||[P A, L]|| <= J_d(kappa) b (1-b)^(-d/2).

    >>> round(joint_commutator(1.0, 0.1), 4)
    0.1851
    """
    b, d = contraction(b), dimension(d)
    return float(joint(kappa_rms, d) * b * (1 - b) ** (-d / 2)) if b else 0.0


def c1(kappa_rms: float, b: float, d: int = 2) -> float:
    """C1(kappa, b) = min(1/b, c_d) (1-b)^(-d/2) + e^(-1/2) kappa (1-b)^(-d/2): ||[P A, L]|| <= C1 b.

    The explicit form of the constant C1 of Bietti & Mairal 2019; ``joint_commutator`` is sharper.

    Args:
        kappa_rms: root-mean-square patch offset over sigma.
        b: jacobian norm, in [0, 1); b = 0 gives c_d + e^(-1/2) kappa.
        d: 1 or 2.

    >>> round(c1(0, 0.1), 4), round(c1(1, 0.1) - c1(0, 0.1), 4)
    (1.6182, 0.6739)
    >>> round(c1(0, 0.5), 3), round(c1(1, 0.5) - c1(0, 0.5), 4)
    (2.913, 1.2131)
    """
    b, d = contraction(b), dimension(d)
    kappa = non_negative("kappa_rms", kappa_rms)
    pooling = COMMUTATOR[d] if COMMUTATOR[d] * b < 1 else 1 / b
    return float((pooling + SLOPE * kappa) * (1 - b) ** (-d / 2))


def _interpolate(values: tuple[float, ...], slope: float, kappa: float) -> float:
    """Piecewise linear through (NODES, values), continued with the slope."""
    if kappa >= NODES[-1]:
        return values[-1] + slope * (kappa - NODES[-1])
    i = max(j for j, node in enumerate(NODES) if node <= kappa)
    t = (kappa - NODES[i]) / (NODES[i + 1] - NODES[i])
    return (1 - t) * values[i] + t * values[i + 1]
