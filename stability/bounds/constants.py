r"""Constants of the bounds as functions of b = sup ||grad tau||, a = sup |tau|, sigma and d. Arithmetic only.

L x(u) = x(u - tau(u)); A is the Gaussian pooling with symbol exp(-sigma^2 |omega|^2 / 2); [A, L] = A L - L A. The
statements are proved in docs/theory.md, the numerical constants verified in tests/test_bounds_constants.py.

Reference: Bietti & Mairal 2019, section 3 and appendix; Mallat 2012, appendix E: same quantities, larger constants.
"""

import math

from stability.bounds.field import c_p, contraction, density_range, dimension, non_negative

SLOPE = math.exp(-0.5)
"""e^(-1/2) = sup_s s exp(-s^2 / 2), so that ||grad A|| = e^(-1/2) / sigma."""

COMMUTATOR = {1: 1.0601, 2: 1.4564}
"""c_d of ||[A, L]|| <= c_d b (1-b)^(-d/2); at least sqrt(d) is necessary as b -> 0."""

HESSIAN = 0.4513
"""sup_y (1 - e^(-y)) / sqrt(2 y), rounded up: factor of the Hessian term."""

DIVERGENCE = 1.0013
"""Factor of the volume term sup |1-D| D^(-1/2)."""


def translation(r: float) -> float:
    """T(r) = max_{0 < s < pi/r} 2 sin(r s / 2) exp(-s^2 / 2) = ||L_c A - A|| for |c| = r sigma, exactly.

    At the maximum theta = r s / 2 solves theta tan(theta) = r^2 / 4. T(r) <= min(e^(-1/2) r, 2).

    Args:
        r: |c| / sigma >= 0; infinity gives 2.

    >>> [round(translation(r), 4) for r in (0, 0.1, 0.5, 1, 2, 5, 20)]
    [0.0, 0.0606, 0.3001, 0.5826, 1.0471, 1.6867, 1.9757]
    """
    r = non_negative("r", r)
    if r < 1e-8:  # T(r) = e^(-1/2) r (1 + O(r^2))
        return SLOPE * r
    if r > 1e9:  # T(r) = 2 - O(r^-2)
        return 2.0
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        theta = (low + high) / 2
        below = theta * math.sin(theta) < r * r / 4 * math.cos(theta)
        low, high = (theta, high) if below else (low, theta)
    return 2 * math.sin(theta) * math.exp(-2 * (theta / r) ** 2)


def c2(b: float, d: int = 2) -> float:
    """C2(b) = e^(-1/2) c_{d/2}(b): ||L A - A|| <= C2 a / sigma. Optimal as b -> 0.

    Args:
        b: jacobian norm, in [0, 1).
        d: 1 or 2.

    >>> [round(c2(b), 3) for b in (0.0, 0.1, 0.25, 0.5)], round(c2(0.5, d=1), 3)
    ([0.607, 0.639, 0.698, 0.841], 0.711)
    """
    return SLOPE * c_p(dimension(d) / 2, b)


def commutator(b: float, d: int = 2) -> float:
    """||[A, L]|| <= min(1, c_d b) (1-b)^(-d/2): no second derivative of tau, no scale.

    Args:
        b: jacobian norm, in [0, 1).
        d: 1 or 2.

    >>> round(commutator(0.1), 4), round(commutator(0.5), 4), round(commutator(0.1, d=1), 4)
    (0.1618, 1.4564, 0.1117)
    """
    b, d = contraction(b), dimension(d)
    return float(min(1.0, COMMUTATOR[d] * b) * (1 - b) ** (-d / 2))


def commutator_hessian(b: float, hessian_norm: float, sigma: float, d: int = 2) -> float:
    """||[A, L]|| <= [(2b - b^2) / (e (1-b)) + 0.4513 sigma d H / (1-b)^2] (1-b)^(-d/2): 2/e is optimal as b -> 0.

    Args:
        b: jacobian norm, in [0, 1).
        hessian_norm: H, per pixel.
        sigma: scale of A in pixels.
        d: 1 or 2.

    >>> round(commutator_hessian(0.1, 0.0, 1.0), 4)
    0.0863
    """
    b, d = contraction(b), dimension(d)
    bend = non_negative("sigma", sigma) * non_negative("hessian_norm", hessian_norm)
    strain = b * (2 - b) / (1 - b) / math.e
    return float((strain + HESSIAN * d * bend / (1 - b) ** 2) * (1 - b) ** (-d / 2))


def commutator_volume_preserving(b: float, d: int = 2) -> float:
    """||[A, L]|| <= (1/e) b (2+b) / (1+b) in d = 2 where det(I - grad tau) = 1; 0 in d = 1 (tau is constant).

    Args:
        b: jacobian norm, in [0, 1).
        d: 1 or 2.

    >>> round(commutator_volume_preserving(0.1), 4)
    0.0702
    """
    b = contraction(b)
    return b * (2 + b) / (1 + b) / math.e if dimension(d) == 2 else 0.0


def strain_ratio(b: float) -> float:
    """sup (s_1 - s_2) D^(-1/2) <= 2 b / sqrt(1 - b^2) in d = 2: s_1, s_2 in [1-b, 1+b] are the singular values."""
    return 2 * b / math.sqrt((1 - b) * (1 + b))


def volume_change(low: float, high: float) -> float:
    """sup |1 - D| D^(-1/2) for D in [low, high], low <= 1 <= high: monotone on both sides of 1."""
    return max((1 - low) / math.sqrt(low), (high - 1) / math.sqrt(high))


def commutator_divergence(b: float, divergence_norm: float) -> float:
    """||[A, L]|| <= (1/e) sup (s_1 - s_2) D^(-1/2) + 1.0013 sup |1-D| D^(-1/2) in d = 2.

    Args:
        b: jacobian norm, in [0, 1).
        divergence_norm: delta = sup |div tau|; D = 1 - div tau + det grad tau, |1-D| <= delta + b^2.

    >>> round(commutator_divergence(0.1, 0.0), 4)
    0.084
    """
    b = contraction(b)
    return strain_ratio(b) / math.e + DIVERGENCE * volume_change(*density_range(b, 2, divergence_norm))


def mean_removal(b: float, d: int = 2) -> float:
    """||mean(L x) - mean(x)|| <= ((1 - b^2)^(-d) - 1)^(1/2) ||x - mean(x)|| on the torus, and this is sharp.

    mean(1/D) <= mean(det(I + grad tau)) / (1 - b^2)^d = (1 - b^2)^(-d), since det(I - J) det(I + J) = det(I - J^2).

    Args:
        b: jacobian norm, in [0, 1).
        d: 1 or 2.

    >>> round(mean_removal(0.1), 4), round(mean_removal(0.5, d=1), 4)
    (0.1425, 0.5774)
    """
    b = contraction(b)
    return math.sqrt(math.expm1(-dimension(d) * math.log1p(-b * b)))
