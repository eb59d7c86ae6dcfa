"""The operator norms in the theorem, each bounded in several ways; the smallest is used and named.

Every function takes ``FieldNorms`` and returns a ``Part``: value, name of the form that won, status.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from stability.bounds.constants import (
    DIVERGENCE,
    SLOPE,
    c2,
    commutator_divergence,
    commutator_hessian,
    commutator_volume_preserving,
    strain_ratio,
    translation,
    volume_change,
)
from stability.bounds.envelope import envelope, envelope_energy
from stability.bounds.field import FieldNorms, contraction, dimension, non_negative
from stability.bounds.mixed import mixed
from stability.bounds.patches import STRAIN_ENERGY, c1, joint, joint_energy, patch_symmetric
from stability.bounds.rung import Status


class Part(NamedTuple):
    """A bound of one operator norm: its value, the form that gave it, its status."""

    value: float
    form: str
    status: Status


def best(parts: list[Part]) -> Part:
    """The smallest; the first among equals."""
    return min(parts, key=lambda part: part.value)


def pooling_commutator(field: FieldNorms, sigma: float) -> Part:
    """C: the best bound of ||[A_sigma, L]||."""
    b, d = field.jacobian, field.d
    if b == 0:
        return Part(0.0, "translation", Status.PROOF)
    parts = [Part(field.warp, "norms", Status.PROOF)]
    parts.append(Part(joint(0.0, d) * field.weighted_jacobian, "jacobian", Status.NUMERICAL))
    if field.volume_preserving:
        parts.append(Part(commutator_volume_preserving(b, d), "volume preserving", Status.PROOF))
    elif d == 2 and field.divergence is not None:
        parts.append(Part(commutator_divergence(b, field.divergence), "divergence", Status.NUMERICAL))
    parts.append(Part(mixed(field, envelope), "mixed", Status.NUMERICAL))
    if math.isfinite(field.hessian):
        parts.append(Part(commutator_hessian(b, field.hessian, sigma, d), "hessian", Status.NUMERICAL))
    return best(parts)


def patch_commutator(field: FieldNorms, sigma: float, offset: float, symmetric: bool) -> Part:
    """The best bound of ||[P A_sigma, L]|| for a patch of root-mean-square offset ``offset`` pixels.

    Without pooling only the norms of both products are left, 2 ||L||: nothing makes a sampled patch of a rough image
    follow its deformation.
    """
    b, d = field.jacobian, field.d
    if b == 0 or (sigma == 0 and offset == 0):
        return Part(0.0, "translation" if b == 0 else "identity", Status.PROOF)
    norms = Part(2 * field.warp, "norms", Status.PROOF)
    if sigma == 0:
        return norms
    pooling, kappa = pooling_commutator(field, sigma), offset / sigma
    parts = [
        Part(pooling.value + SLOPE * kappa * field.weighted_jacobian, f"{pooling.form} + shift", pooling.status),
        norms,
    ]
    if symmetric and math.isfinite(field.hessian):
        value = patch_symmetric(pooling.value, kappa, b, field.hessian, sigma, d)
        parts.append(Part(value, f"{pooling.form}, symmetric shift", pooling.status))
    shift = kappa * field.weighted_jacobian
    parts.append(Part(joint(kappa, d) * field.weighted_jacobian, "joint", Status.NUMERICAL))
    parts.append(Part(mixed(field, envelope, shift), "mixed, joint", Status.NUMERICAL))
    return best(parts)


def patch_energy(field: FieldNorms, sigma: float, offset: float) -> Part:
    """The best g with ||[P A_sigma, L] z|| <= g (||z||^2 - ||A_sigma z||^2)^(1/2), for sigma > 0."""
    b, d = field.jacobian, field.d
    if b == 0:
        return Part(0.0, "translation", Status.PROOF)
    kappa = offset / sigma
    shift = kappa * field.weighted_jacobian
    parts = [Part(joint_energy(kappa, d) * field.weighted_jacobian, "joint", Status.NUMERICAL)]
    parts.append(Part(mixed(field, envelope_energy, shift), "mixed, joint", Status.NUMERICAL))
    if field.volume_preserving:
        strain = STRAIN_ENERGY * math.e * commutator_volume_preserving(b, d)
        parts.append(Part(strain + shift, "volume preserving + shift", Status.NUMERICAL))
    elif d == 2 and field.divergence is not None:
        value = STRAIN_ENERGY * strain_ratio(b) + DIVERGENCE * volume_change(*field.density)
        parts.append(Part(value + shift, "divergence + shift", Status.NUMERICAL))
    if math.isfinite(field.hessian):
        value = STRAIN_ENERGY * b * (2 - b) / (1 - b) + sigma / 2 * d * field.hessian / (1 - b) ** 2
        parts.append(Part(value * field.warp + shift, "hessian + shift", Status.NUMERICAL))
    return best(parts)


def last_pooling(field: FieldNorms, sigma: float, displacement: float) -> Part:
    """The best bound of ||A_sigma L - A_sigma|| for sup |tau| <= displacement."""
    b, d = field.jacobian, field.d
    if sigma == 0:
        return Part(1 + field.warp if displacement else 0.0, "norms", Status.PROOF)
    if b == 0:
        return Part(translation(displacement / sigma), "translation", Status.PROOF)
    low, high = field.density
    reach = field.displacement_path * displacement / sigma
    moved, pooling = SLOPE * reach, pooling_commutator(field, sigma)
    direct = moved / math.sqrt(low) + max(1 / low - 1, 1 - 1 / high)
    seen = field.weighted_jacobian
    kappa = reach / seen
    parts = [
        Part(1 + field.warp, "norms", Status.PROOF),
        Part(direct, "volume preserving" if field.volume_preserving else "direct", Status.PROOF),
        Part(pooling.value + moved, f"{pooling.form} + displacement", pooling.status),
        Part(joint(kappa, d) * seen, "joint", Status.NUMERICAL),
    ]
    parts.append(Part(mixed(field, envelope, reach), "mixed, joint", Status.NUMERICAL))
    return best(parts)


def split_pooling(field: FieldNorms, sigma: float) -> Part:
    """||A L_tau - A|| <= (the same for tau - c) + T(|c| / sigma), because L_tau = L_{tau - c} L_c."""
    rest = last_pooling(field, sigma, field.residual)
    return Part(rest.value + translation(field.mean / sigma), f"{rest.form}, split", rest.status)


def published_form(field: FieldNorms, scales: Sequence[float], offsets: Sequence[float], gain: float = 1.0) -> float:
    """prod rho (C1 (1 + n) b + C2 a / sigma_n): the published shape of the bound with explicit constants.

    C1 = ``c1`` at the largest kappa_k. Never less than the combination "sum".

    Args:
        field: the norms of tau, b < 1.
        scales: sigma_0, ..., sigma_n in pixels; a 0 before patches or at the end gives infinity unless tau is constant.
        offsets: root-mean-square offsets of the n patches in pixels.
        gain: prod rho.

    Reference: Bietti & Mairal 2019, theorem 7.

    >>> round(published_form(FieldNorms(1.0, 0.1), [1.0, 2.0], [1.0]), 4)
    0.778
    """
    b, moved = field.jacobian, field.displacement
    first = 0.0
    if b:
        kappas = [c / s if s else math.inf for s, c in zip(scales, offsets, strict=False)]
        first = c1(max(kappas), b, field.d) * (1 + len(offsets)) * b
    second = (c2(b, field.d) * moved / scales[-1] if scales[-1] else math.inf) if moved else 0.0
    return gain * (first + second) if first + second else 0.0


def pooling_difference(displacement_norm: float, jacobian_norm: float, sigma: float, d: int = 2) -> float:
    """||A_sigma L - A_sigma||: the smallest of all forms that need only a, b and sigma.

    Args:
        displacement_norm: a = sup |tau| in pixels.
        jacobian_norm: b, in [0, 1); b = 0 gives T(a / sigma), exact.
        sigma: scale of the pooling in pixels; 0 gives 1 + (1-b)^(-d/2).
        d: 1 or 2.

    >>> round(pooling_difference(1.0, 0.0, 2.0), 4), round(pooling_difference(1.0, 0.1, 2.0), 4)
    (0.3001, 0.4069)
    """
    a, b = non_negative("displacement_norm", displacement_norm), contraction(jacobian_norm)
    return last_pooling(FieldNorms(a, b, d=dimension(d)), non_negative("sigma", sigma), a).value
