"""Addends of a bound before they are combined, and those that every combination shares."""

import math
from typing import NamedTuple

from stability.architecture import Architecture
from stability.bounds.constants import mean_removal
from stability.bounds.field import FieldNorms
from stability.bounds.rung import Status, Term
from stability.bounds.sampling import aliasing, interpolation_gain


class Row(NamedTuple):
    """One addend before the combination: name, value with its Lipschitz factor, status, place under the root.

    Rows of one ``group`` under the root are added before they are squared.
    """

    name: str
    value: float
    status: Status
    rooted: bool = False
    group: str = ""


def terms(rows: list[Row]) -> list[Term]:
    """Addends of sum(outside) + (sum of squares under the root)^(1/2); those under the root as shares of it.

    A row that stands alone has the share square / root; one of a group the share value * sum of the group / root.
    """
    sums: dict[str, float] = {}
    for row in rows:
        if row.rooted:
            sums[row.group or row.name] = sums.get(row.group or row.name, 0.0) + row.value
    root = math.hypot(*sums.values())
    found = []
    for row in rows:
        total = sums[row.group or row.name] if row.rooted else root
        found.append(Term(row.name, row.value if not row.rooted or total == root else row.value * (total / root)))
    return found


def front_end_rows(architecture: Architecture, norms: FieldNorms, gain: float) -> list[Row]:
    """Mean removal: the constant mean(L x) - mean(x) enters the network."""
    if architecture.front_end is None:
        return []
    low, high = norms.density
    value = min(mean_removal(norms.jacobian, norms.d), math.sqrt((high - 1) * (1 - low) / (low * high)))
    return [Row("mean removal", times(gain, value), Status.PROOF)]


def extra_rows(architecture: Architecture, norms: FieldNorms) -> list[Row]:
    """Mean removal; per strided layer, aliasing of both images: (1 + ||L||) prod_{j>k} (rho_j ||Q_j A_j||) e_k."""
    rows = front_end_rows(architecture, norms, math.prod(architecture.lipschitz))
    for k, layer in enumerate(architecture.layers, start=1):
        if layer.subsampling == 1:
            continue
        spacing, sigma = architecture.spacings[k], layer.pooling_scale
        gain = 1 + norms.warp
        for later, coarse in zip(architecture.layers[k:], architecture.spacings[k + 1 :], strict=True):
            gain *= later.kernel.lipschitz
            gain *= interpolation_gain(later.pooling_scale, coarse, norms.d) if later.subsampling > 1 else 1.0
        status = Status.NUMERICAL if sigma >= spacing else Status.ESTIMATE
        rows.append(Row(f"aliasing {k}", times(gain, aliasing(sigma, spacing, norms.d)), status))
    return rows


def times(gain: float, value: float) -> float:
    """gain * value with inf * 0 = 0: what vanishes needs no Lipschitz constant."""
    return gain * value if value else 0.0


def patch_spread(architecture: Architecture, k: int, d: int) -> float:
    """Root mean square of |c - mean c| over the patch of layer k in input pixels: s (d (e^2 - 1) / 12)^(1/2).

    A patch that is not centred is a shift after a centred one, and the shift turns the field into one of equal norms.

    >>> from stability.architecture import Layer
    >>> one = Architecture((Layer(3, 1.0), Layer(2, 1.0)))
    >>> round(patch_spread(one, 1, 2) ** 2, 4), round(patch_spread(one, 2, 2) ** 2, 4)
    (1.3333, 0.5)
    """
    e, s = architecture.layers[k - 1].patch_size, architecture.spacings[k - 1]
    return s * math.sqrt(d * (e * e - 1) / 12)
