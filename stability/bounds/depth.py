r"""Depth: a bound of ||Phi(L x) - Phi(x)|| that does not grow with the number of layers where nothing forces it to.

With z_k, z'_k the layers applied to x and to L x, the error e_k = z'_k - L z_k loses energy in every pooling, as the
signal does. For square patches and Delta(z) = ||z||^2 - ||A z||^2,

    ||P A e + [P A, L] z|| <= (||e||^2 + C^2 Delta(z) + 2 g Delta(z)^(1/2) ||e||)^(1/2) + gamma Delta(z)^(1/2),

so that, the removed energies adding up to at most ||x||^2,

    ||Phi(L x) - Phi(x)|| <= ((max_k C_k + Gamma)^2 + last^2)^(1/2) ||x||,    Gamma^2 = sum_k (gamma_k + g_k)^2.

gamma and g vanish where det(I - grad tau) = 1. Everything is a function of suprema of tau (``Ingredients``), for which
``ingredients`` gives closed forms and which may be replaced by the suprema of one field. Proof: docs/theory-depth.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stability.bounds.constants import DIVERGENCE, strain_ratio, volume_change
from stability.bounds.field import FieldNorms, non_negative
from stability.bounds.mixed import choices
from stability.bounds.rung import Status


@dataclass(frozen=True)
class Ingredients:
    r"""The suprema of tau that the bound needs. M = I - grad tau with singular values s_i, D = det M, p a function.

    psi is the inverse of u -> u - tau(u) and w = (1/D) o psi. p = 1/D is the form "hessian", p = 1 "divergence"; of the
    form "mixed" strain and volume are the B and F of ``bounds.mixed``.

    Args:
        strain: B = sup max_i |s_i - p D / s_i| D^(-1/2).
        volume: sup |1 - p D| D^(-1/2).
        bend: sup |D M^-T grad p| D^(-1/2), per pixel.
        shift: the mean over the patch of ||y(phi(. + c)) - y(phi + c)||^2 is at most (shift c_rms ||grad y||)^2.
        inverse_shift: the same of ||w (f(psi - c) - f(psi(. - c)))||^2 and (inverse_shift c_rms ||grad f||)^2.
        jump: osc(w) sup D^(1/2).
        slope: sup |grad w| sup D^(1/2), per pixel.
        d: 1 or 2.
        form: name of the choice of p.
    """

    strain: float
    volume: float = 0.0
    bend: float = 0.0
    shift: float = 0.0
    inverse_shift: float = 0.0
    jump: float = 0.0
    slope: float = 0.0
    d: int = 2
    form: str = "volume preserving"

    def __post_init__(self) -> None:
        for name in ("strain", "volume", "bend", "shift", "inverse_shift", "jump", "slope"):
            object.__setattr__(self, name, non_negative(name, getattr(self, name)))


class LayerError(NamedTuple):
    """What one layer adds: C under the square of the error, gamma + g to the error itself; the form's status."""

    factor: float
    growth: float
    status: Status


def ingredients(field: FieldNorms) -> tuple[Ingredients, ...]:
    """The closed forms of the suprema for each choice of p that the norms allow; one entry if tau preserves volume.

    Raises:
        ValueError: if b >= 1.

    >>> list(dict.fromkeys(part.form for part in ingredients(FieldNorms(1.0, 0.1, hessian=0.01))))
    ['hessian', 'divergence', 'mixed']
    >>> shear = ingredients(FieldNorms(1.0, 0.1, volume_preserving=True))[0]
    >>> round(shear.strain, 4), shear.volume, shear.jump
    (0.1909, 0.0, 0.0)
    """
    b, d = field.jacobian, field.d
    if not b < 1:
        raise ValueError(f"jacobian must be in [0, 1) for id - tau to be a diffeomorphism, got {b:g}; scale it down")
    shift = field.weighted_jacobian
    if field.volume_preserving or b == 0:
        strain = b * (2 + b) / (1 + b) if d == 2 else 0.0
        # M^-1 = adj M = I - adj(grad tau): psi - id has the Lipschitz constant b as well
        return (Ingredients(strain, shift=shift, inverse_shift=shift, d=d),)
    low, high = field.density
    root = math.sqrt(high)
    inverse_shift = b / (1 - b) * root / low
    jump = (1 / low - 1 / high) * root
    parts = []
    slope = math.inf
    if math.isfinite(field.hessian):
        bend = d * field.hessian / (1 - b) ** 2  # |M^-T grad ln D|
        slope = bend / low * root
        strain = b * (2 - b) / (1 - b) * field.warp
        parts.append(
            Ingredients(strain, 0.0, bend * field.warp, shift, inverse_shift, jump, slope, d=d, form="hessian")
        )
    strain = strain_ratio(b) if d == 2 else 0.0
    change = volume_change(low, high)
    parts.append(Ingredients(strain, change, 0.0, shift, inverse_shift, jump, slope, d=d, form="divergence"))
    parts += [
        Ingredients(norms.divergence, norms.laplacian, 0.0, shift, inverse_shift, jump, slope, d=d, form="mixed")
        for norms in choices(field)
    ]
    return tuple(parts)


def layer_error(part: Ingredients, sigma: float, offset: float) -> LayerError:
    """C = B/2 + (s^2 + q^2)^(1/2) and gamma + g of a layer with a square patch behind a pooling.

    s = kappa shift, q = kappa^2 (shift + inverse_shift) / (2 sqrt(d)), gamma = 1.0013 volume + sigma bend / 2 and
    g = kappa min(kappa sigma slope, jump) / (2 sqrt(d)), with kappa = offset / sigma.

    Args:
        part: the suprema of tau.
        sigma: scale of the pooling before the patches, > 0 pixels.
        offset: c_rms of the patch about its centre in pixels; 0: no patch.

    Raises:
        ValueError: if sigma is 0: such a pooling removes nothing.

    >>> layer_error(Ingredients(0.2), 1.0, 0.0).factor
    0.1
    >>> round(layer_error(Ingredients(0.2, shift=0.1, inverse_shift=0.1), 1.0, 1.0).factor, 4)
    0.2225
    """
    sigma, offset = non_negative("sigma", sigma), non_negative("offset", offset)
    if sigma == 0:
        raise ValueError("sigma must be > 0 pixels, got 0; without pooling the layer's commutator is 2 ||L||")
    growth = (DIVERGENCE * part.volume if part.volume else 0.0) + (sigma / 2 * part.bend if part.bend else 0.0)
    factor = part.strain / 2
    if offset:
        kappa, axes = offset / sigma, math.sqrt(part.d)  # a square patch has the covariance (c_rms^2 / d) I
        cross = kappa * kappa * (part.shift + part.inverse_shift) / (2 * axes)
        factor += math.hypot(kappa * part.shift, cross)
        growth += kappa * min(sigma * kappa * part.slope, part.jump) / (2 * axes)
    return LayerError(factor, growth, Status.NUMERICAL if part.volume else Status.PROOF)


def depth_free(layers: Sequence[LayerError], last: float, gains: Sequence[float] | None = None) -> float:
    """((max_k R_{k-1} C_k + (sum_k (R_{k-1} (gamma_k + g_k))^2)^(1/2))^2 + last^2)^(1/2), times ||x||.

    Args:
        layers: one entry per layer.
        last: any bound of ||A_n L - A_n||.
        gains: R_{k-1} = rho_k ... rho_n of the layers; 1 by default.

    >>> layers = [layer_error(Ingredients(0.2), 1.0, 0.0)] * 5
    >>> round(depth_free(layers[:1], 0.0), 4), round(depth_free(layers, 0.0), 4)
    (0.1, 0.1)
    """
    return math.hypot(error_factor(layers, gains) + error_growth(layers, gains), last)


def error_factor(layers: Sequence[LayerError], gains: Sequence[float] | None = None) -> float:
    """max_k R_{k-1} C_k; 0 without layers."""
    gains = gains if gains is not None else [1.0] * len(layers)
    return max((gain * layer.factor for gain, layer in zip(gains, layers, strict=True) if layer.factor), default=0.0)


def error_growth(layers: Sequence[LayerError], gains: Sequence[float] | None = None) -> float:
    """Gamma = (sum_k (R_{k-1} (gamma_k + g_k))^2)^(1/2)."""
    gains = gains if gains is not None else [1.0] * len(layers)
    return math.hypot(*(gain * layer.growth for gain, layer in zip(gains, layers, strict=True) if layer.growth))
