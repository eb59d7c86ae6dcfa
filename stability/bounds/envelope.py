r"""Phi(F, B, H, K): what Cauchy and Schwarz allow the commutator of the pooling, from four operator norms.

With t = sigma^2 / 2 and T_theta = exp(theta t Laplacian), T_1 = A, let

    X = t int_0^1 T_theta [Z_1 Laplacian + div Z_2 grad + Z_3 grad] T_{1-theta} dtheta,
    ||Z_1|| <= F, ||Z_2|| <= B, ||Z_3|| <= H / sqrt(t), and ||R z|| <= K sigma ||grad A z||.

Then ||(X + R) z|| <= Phi(F, B, H, K) ||z|| and <= Phi_w(F, B, H, K) (||z||^2 - ||A z||^2)^(1/2). Both left-hand sides
are norms of X + R, largest over all Z and R they are convex functions of (F, B, H, K), homogeneous and increasing; so
linear interpolation between the nodes of a table is an upper bound again. The proof is in docs/theory-fields.md, the
nodes are evaluated again in tests/test_bounds_envelope.py.
"""

import functools
import math

from stability.bounds.envelope_table import ENERGY, NORM, PARTS
from stability.bounds.field import non_negative


def envelope(laplacian: float, divergence: float, gradient: float = 0.0, shift: float = 0.0) -> float:
    """Phi(F, B, H, K): ||X + R|| <= Phi. Between nodes at most about 1 % above the infimum over the parameters.

    Args:
        laplacian: F >= 0, the norm of Z_1.
        divergence: B >= 0, the norm of Z_2.
        gradient: H >= 0, the norm of Z_3 times sqrt(t) = sigma / sqrt(2).
        shift: K >= 0.

    >>> round(envelope(0, 1), 3), round(envelope(1, 0), 3), round(envelope(0, 0, 2**-0.5), 3)  # 1/e, 1.0013, 0.4513
    (0.368, 1.001, 0.451)
    >>> envelope(math.inf, 1)
    inf
    """
    return _interpolated(NORM, laplacian, divergence, gradient, shift)


def envelope_energy(laplacian: float, divergence: float, gradient: float = 0.0, shift: float = 0.0) -> float:
    """Phi_w(F, B, H, K): ||(X + R) z|| <= Phi_w (||z||^2 - ||A z||^2)^(1/2); arguments as for ``envelope``.

    >>> round(envelope_energy(0, 1), 3), round(envelope_energy(0, 0, 2**-0.5), 3), round(envelope_energy(0, 0, 0, 1), 3)
    (0.451, 0.5, 1.0)
    """
    return _interpolated(ENERGY, laplacian, divergence, gradient, shift)


@functools.cache
def _places() -> dict[tuple[int, int, int], int]:
    """Where the table holds the node (f, f + b, f + b + h) / PARTS."""
    steps = range(PARTS + 1)
    nodes = ((f, f + b, f + b + h) for f in steps for b in range(PARTS + 1 - f) for h in range(PARTS + 1 - f - b))
    return {node: place for place, node in enumerate(nodes)}


def _interpolated(
    table: tuple[float, ...], laplacian: float, divergence: float, gradient: float, shift: float
) -> float:
    """Linear on Kuhn's simplices in the coordinates (F, F + B, F + B + H) / total, which increase on the simplex."""
    names = ("laplacian", "divergence", "gradient", "shift")
    norms = [
        non_negative(name, value) for name, value in zip(names, (laplacian, divergence, gradient, shift), strict=True)
    ]
    total = math.fsum(norms)
    if total == 0 or math.isinf(total):
        return total
    sums = [PARTS * min(1.0, math.fsum(norms[: i + 1]) / total) for i in range(3)]
    corner = [min(int(value), PARTS) for value in sums]
    rest = [value - node for value, node in zip(sums, corner, strict=True)]
    # ties: the later coordinate first, so that the vertices stay ordered
    order = sorted(range(3), key=lambda i: (-rest[i], -i))
    places, value, last = _places(), 0.0, 1.0
    for axis in order:
        if last > rest[axis]:
            value += (last - rest[axis]) * table[places[corner[0], corner[1], corner[2]]]
        last = rest[axis]
        corner[axis] += 1
    if last > 0:
        value += last * table[places[corner[0], corner[1], corner[2]]]
    return total * value
