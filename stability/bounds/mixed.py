r"""||[A, L]|| from b and sup |div tau|: the identities with J alone and with det(I - J), mixed.

With J = grad tau, M = I - J, D = det M and e the symmetric part of J, for all numbers r and s

    Laplacian L - L Laplacian = -div(Y L grad) - sum_kj Z_kj L d_k d_j,
    Y = (1-s) J^T - s M^T + r D M^-1,    Z = (1-s) e + (s - r D) I,

and F, B, norms of Z and Y weighted with D^(-1/2), enter ``envelope`` as those of Z_1 and Z_2. r = s = 0 knows nothing
of the volume, r = s = 1 nothing of an isotropic J; what lies between is sharper than both.

Proof: docs/theory.md, section 4 (f).
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

from stability.bounds.envelope import envelope
from stability.bounds.field import FieldNorms, contraction, dimension, non_negative

SQUARES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
"""Values of r in units of b^2: the best ones where nothing is known of the volume."""
MULTIPLES = tuple(i / 20 for i in range(1, 21))
"""Values of r from 0 to 1."""
RATIOS = tuple(i / 8 for i in range(9))
"""Values of s / r."""
SHARES = tuple(i / 20 for i in range(1, 20))
"""Values of p."""
LESS = 0.998
"""Choices that gain less in B are left out."""


class Norms(NamedTuple):
    """||Z_1|| <= F and ||Z_2|| <= B of one choice of (r, s, p)."""

    laplacian: float
    divergence: float


def mixed_norms(b: float, r: float, s: float, p: float, *, d: int = 2, divergence_norm: float | None = None) -> Norms:
    """F and B for sup ||J||_2 <= b and sup |tr J| <= delta, the suprema over all such matrices.

    In d = 2, J = c + E with a conformal part, of norm |c| and trace 2 A, and an anticonformal one of norm E,
    |c| + E <= b, |A| <= m = min(b, delta / 2). Then F^2 is the largest value of
    (((1-s) A + s - r D)^2 / p + ((1-s) E)^2 / (1-p)) / D at seven places (A, |c|, E), D = 1 - 2 A + |c|^2 - E^2.

    Args:
        b: jacobian norm, in [0, 1).
        r: in [0, 1].
        s: in [0, r]; in d = 1 only r - s matters.
        p: in (0, 1), the weight of the isotropic part; 1 in d = 1, where there is no other.
        d: 1 or 2.
        divergence_norm: delta, or None if unknown.

    Raises:
        ValueError: if an argument is out of range.

    >>> b = 0.1
    >>> norms = mixed_norms(b, 0.0, 0.0, 0.5)
    >>> round(norms.laplacian * (1 - b) / b, 6), round(norms.divergence * (1 - b) / b, 6)  # sqrt(2) and 1
    (1.414214, 1.0)
    """
    b, d = contraction(b), dimension(d)
    if not (0 <= s <= r <= 1 and (0 < p < 1 or (d == 1 and p == 1))):
        raise ValueError(
            f"r, s and p must fulfil 0 <= s <= r <= 1 and 0 < p < 1 (p = 1 in d = 1), got {r!r}, {s!r} and {p!r}"
        )
    m = _half(b, divergence_norm, d)
    return Norms(math.sqrt(_square(_squares(b, m, r, s, d), p)), _divergence(b, m, r, s, d))


def choices(field: FieldNorms) -> tuple[Norms, ...]:
    """F and B of all ways to write [A, L] without second derivatives of tau that the norms of tau allow.

    Args:
        field: the norms of tau, b < 1.

    >>> choices(FieldNorms(1.0, 0.1, volume_preserving=True))[1]
    Norms(laplacian=0.0, divergence=0.19090909090909092)
    """
    b, d, seen, divergence = field.jacobian, field.d, field.weighted_jacobian, field.divergence
    found = [Norms(math.sqrt(d) * seen, seen)]
    if field.volume_preserving:  # r = s = 1: |s_i - 1 / s_i| <= b (2 + b) / (1 + b); constant in d = 1
        found.append(Norms(0.0, b * (2 + b) / (1 + b) if d == 2 else 0.0))
        divergence = min(math.inf if divergence is None else divergence, b * b if d == 2 else 0.0)  # div = det grad
    return (*found, *_choices(b, divergence, d))


def mixed(field: FieldNorms, envelope: Callable[[float, float, float, float], float], shift: float = 0.0) -> float:
    """min Phi(F, B, 0, K) over ``choices``; Phi is ``envelope`` or ``envelope_energy``.

    Args:
        field: the norms of tau, b < 1.
        envelope: Phi.
        shift: K >= 0.
    """
    return min(envelope(*norms, 0.0, shift) for norms in choices(field))


def mixed_commutator(b: float, d: int = 2, divergence_norm: float | None = None) -> float:
    """||[A, L]|| <= min Phi(F, B, 0, 0): sharper than ``commutator``, which is the case r = s = 0.

    Args:
        b: jacobian norm, in [0, 1).
        d: 1 or 2.
        divergence_norm: delta = sup |div tau|, or None if unknown.

    >>> [round(mixed_commutator(b) / b, 2) for b in (0.05, 0.1, 0.25, 0.5)]  # commutator: 1.53, 1.62, 1.94, 2.91
    [1.47, 1.51, 1.66, 2.29]
    >>> round(mixed_commutator(0.1, divergence_norm=0.05), 4)
    0.0984
    """
    return mixed(FieldNorms(math.inf, contraction(b), divergence=divergence_norm, d=dimension(d)), envelope)


def _half(b: float, divergence_norm: float | None, d: int) -> float:
    """m = min(b, delta / d)."""
    return b if divergence_norm is None else min(b, non_negative("divergence_norm", divergence_norm) / d)


def _squares(b: float, m: float, r: float, s: float, d: int) -> list[tuple[float, float]]:
    """The squares of the isotropic part of Z and of the rest, over D, where one of their sums is largest."""
    if d == 1:  # (J (1 + r - s) - (r - s)) / sqrt(1 - J) increases with J
        return [((j * (1 + r - s) - r + s) ** 2 / (1 - j), 0.0) for j in (m, -m)]
    places = [(0.0, 0.0, b)]  # A, |c|, E
    places += [(a, c, e) for a in (m, -m) for c, e in ((m, 0.0), (m, b - m), (b, 0.0))]
    found = []
    for a, c, e in places:
        density = (1 - a - e) * (1 - a + e) + (c - a) * (c + a)
        if density <= 0:  # b is 1 up to round-off
            return [(math.inf, math.inf)]
        found.append((((1 - s) * a + s - r * density) ** 2 / density, ((1 - s) * e) ** 2 / density))
    return found


def _square(squares: list[tuple[float, float]], p: float) -> float:
    """F^2."""
    return max(isotropic / p + (rest / (1 - p) if rest else 0.0) for isotropic, rest in squares)


def _divergence(b: float, m: float, r: float, s: float, d: int) -> float:
    """B."""
    if d == 1:  # (J + r - s) / sqrt(1 - J) increases with J
        return (m + r - s) / math.sqrt(1 - m)
    whole = (1 + r) * b + r - s
    ends = (0.0, m)  # |c|, where D = (1 - b) (1 + b - 2 |c|)
    return max((whole - 2 * r * c) / math.sqrt((1 - b) * (1 + b - 2 * c)) for c in ends)


@functools.lru_cache(maxsize=4096)
def _choices(b: float, divergence: float | None, d: int) -> tuple[Norms, ...]:
    """F and B of the choices that no other one beats in both."""
    m, found = _half(b, divergence, d), []
    shares = SHARES if d == 2 else (1.0,)
    for r in (*(min(1.0, square * b * b) for square in SQUARES), *MULTIPLES):
        for s in [ratio * r for ratio in RATIOS] if r and d == 2 else [0.0]:
            squares = _squares(b, m, r, s, d)
            found.append(Norms(math.sqrt(min(_square(squares, p) for p in shares)), _divergence(b, m, r, s, d)))
    kept: list[Norms] = []
    for norms in sorted(found):
        if not kept or norms.divergence < LESS * kept[-1].divergence:
            kept.append(norms)
    return tuple(kept)
