r"""The theorem for kernels of jumps (step, sign), whose kernel map is not Lipschitz but Hoelder-1/2.

    |phi(z) - phi(z')|^2 <= |z - z'|^2 + h (|z| |z'|)^(1/2) |z - z'|,    h = 1 (step, arc-cosine 0) or 2 (sign),

so that ||phi(z) - phi(z')|| <= omega(||z - z'||) with omega(delta) = (delta^2 + h m delta)^(1/2) for functions of norms
with product <= m^2. The errors telescope: e_k = omega_k(e_{k-1} + ||[P_k A_{k-1}, L]||), bound = e_n + ||A_n L - A_n||.
"""

import math
from collections.abc import Sequence

from stability.architecture import Architecture
from stability.bounds.field import FieldNorms, non_negative
from stability.bounds.rung import Term
from stability.bounds.sampling import aliasing, interpolation_gain
from stability.kernels import ArcCosine, Kernel, Sign


def modulus(kernel: Kernel, delta: float, size: float) -> float:
    """omega(delta): rho delta; (delta^2 + h size delta)^(1/2), h = 1 for the step and 2 for the sign; else infinity.

    Args:
        kernel: kappa of the layer.
        delta: distance of the two arguments.
        size: square root of the product of their norms.

    >>> modulus(ArcCosine(degree=0), 0.25, 0.75), modulus(Sign(), 0.125, 0.9375)
    (0.5, 0.5)
    """
    if delta == 0:
        return 0.0
    if math.isfinite(kernel.lipschitz):
        return kernel.lipschitz * delta
    if isinstance(kernel, ArcCosine | Sign):
        return math.sqrt(delta * (delta + (2 if isinstance(kernel, Sign) else 1) * size))
    return math.inf


def given_lipschitz(architecture: Architecture, lipschitz: Sequence[float]) -> tuple[float, ...]:
    """rho_1, ..., rho_n as they were given, checked: one finite number >= 0 per layer."""
    values = tuple(non_negative("lipschitz", value) for value in lipschitz)
    if len(values) != architecture.depth or not all(map(math.isfinite, values)):
        raise ValueError(
            f"lipschitz must be one finite number >= 0 per layer ({architecture.depth}), got {values}; "
            "use representation.lipschitz"
        )
    return values


def through_network(
    architecture: Architecture,
    error: float,
    size: float,
    gains: Sequence[float],
    lipschitz: Sequence[float] | None = None,
) -> float:
    """How far apart two inputs of the layers can come out: omega_n(... omega_1(error)), prod rho * error if Lipschitz.

    Args:
        architecture: the network.
        error: distance of the two inputs after A_0.
        size: square root of the product of their norms.
        gains: Lipschitz constant of "pool, then subsample" of every layer.
        lipschitz: rho_k of layers that take the place of the kernel maps; None: the kernels' own moduli.

    >>> arch = Architecture.dyadic(depth=2)
    >>> through_network(arch, 0.5, 1.0, [1.0, 1.0])
    0.5
    >>> through_network(arch, 0.5, 1.0, [1.0, 1.0], lipschitz=[2.0, 3.0])
    3.0
    """
    if lipschitz is not None:
        return math.prod(given_lipschitz(architecture, lipschitz)) * math.prod(gains) * error
    for layer, gain in zip(architecture.layers, gains, strict=True):
        error = modulus(layer.kernel, error, size) * gain
        size *= gain
    return error


def hoelder_terms(
    architecture: Architecture, norms: FieldNorms, commutators: Sequence[float], last: float, start: float = 0.0
) -> tuple[Term, ...]:
    """Addends of a bound of ||Phi(L x) - Phi(x)|| / ||x|| by the kernels' moduli of continuity, aliasing included.

    Args:
        architecture: the network.
        norms: the norms of tau.
        commutators: bounds of ||[P_k A_{k-1}, L]|| for k = 1 ... n.
        last: bound of ||A_n L - A_n||.
        start: e_0, what the front end contributes.
    """
    error = start
    for layer, commutator in zip(architecture.layers, commutators, strict=True):
        error = modulus(layer.kernel, error + commutator, norms.warp)
    strides = sum(_aliasing_error(architecture, size, norms.d) for size in (1.0, norms.warp))
    found = (Term("features", error), Term("last pooling", last))
    return (*found, Term("aliasing", strides)) if strides else found


def _aliasing_error(architecture: Architecture, size: float, d: int) -> float:
    """Distance between the networks with and without sampling on one image of norm ``size``."""
    error, gain = 0.0, 1.0
    for layer, spacing in zip(architecture.layers, architecture.spacings[1:], strict=True):
        error = modulus(layer.kernel, error, size * math.sqrt(gain))
        if layer.subsampling > 1:
            step = interpolation_gain(layer.pooling_scale, spacing, d)
            error = (step * error if error else 0.0) + aliasing(layer.pooling_scale, spacing, d) * size
            gain *= step
    return error
