r"""The ways to write [A, L] as t int T_theta [Z_1 Laplacian + div Z_2 grad + Z_3 grad] T_{1-theta} dtheta.

Each has norms ||Z_1|| <= F, ||Z_2|| <= B, ||Z_3|| <= G, suprema over u; ``bounds.envelope`` turns them into bounds:

    gradient:    F = sup ||e||_F D^(-1/2),    B = sup ||J||_2 D^(-1/2),    G = 0
    volume:      F = sup |1 - p D| D^(-1/2),  B = sup max_i |s_i - p D / s_i| D^(-1/2),  G = 0, for every number p
    hessian:     F = 0,  B = sup max_i |s_i - 1 / s_i| D^(-1/2),  G = sup |M^(-T) grad ln D| D^(-1/2)
    mixed:       ``bounds.mixed`` with the certified b and sup |div tau|
"""

import math
from typing import NamedTuple

from stability.bounds.mixed import choices
from stability.certificates.suprema import FieldSuprema

CANDIDATES = 9
"""Values of p between 1 / sup D and 1 / inf D, besides p = 1."""


class Splitting(NamedTuple):
    """Norms of the three parts for one field.

    Args:
        name: of the form.
        laplacian: F.
        divergence: B.
        gradient: G in 1 / pixel.
    """

    name: str
    laplacian: float
    divergence: float
    gradient: float = 0.0


def splittings(suprema: FieldSuprema) -> list[list[Splitting]]:
    """All splittings of each field; infinite norms where a field is not covered."""
    low, high = suprema.determinant
    columns = [
        part.tolist()
        for part in (
            suprema.symmetric_jacobian, suprema.jacobian, suprema.strain, suprema.bend, low, high, suprema.volume,
            suprema.anisotropy,
        )
    ]  # fmt: skip
    rows = []
    for norms, (e, j, strain, bend, least, most, volume, anisotropy) in zip(
        suprema.norms, zip(*columns, strict=True), strict=True
    ):
        forms = [Splitting("gradient", e, j), Splitting("hessian", 0.0, strain, bend)]
        forms.append(Splitting("volume", volume, anisotropy))
        if 0 < least <= most < math.inf:
            forms += [_constant(p, least, most, anisotropy, suprema.d) for p in _candidates(least, most)]
        if norms is not None and norms.jacobian > 0:
            forms += [Splitting("mixed", *choice) for choice in choices(norms)]
        rows.append(forms)
    return rows


def _candidates(low: float, high: float) -> list[float]:
    """From 1 / high to 1 / low in equal ratios."""
    return [high ** (i / (CANDIDATES - 1) - 1) * low ** (-i / (CANDIDATES - 1)) for i in range(CANDIDATES)]


def _constant(p: float, low: float, high: float, anisotropy: float, d: int) -> Splitting:
    """The norms for a number p from the range [low, high] of D and q = sup (s_1 - s_2) / (2 sqrt D).

    |1 - p D| D^(-1/2) is monotone on both sides of 1 / p. For d = 2, s_1 = sqrt(D) (sqrt(1 + q^2) + q) and s_2 with
    -q, so that the singular values of (M^T - p D M^(-1)) D^(-1/2) are |1 - p| sqrt(1 + q^2) + (1 + p) q at most, which
    increases with q. For d = 1, |s - p| s^(-1/2) with s = D.
    """
    laplacian = max(abs(1 - p * end) / math.sqrt(end) for end in (low, high))
    if d == 1:
        return Splitting("volume", laplacian, max(abs(end - p) / math.sqrt(end) for end in (low, high)))
    q = anisotropy / 2
    return Splitting("volume", laplacian, abs(1 - p) * math.hypot(1, q) + (1 + p) * q)
