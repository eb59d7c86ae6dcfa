r"""A bound for the neural tangent kernel of a ReLU network, whose feature map is not Lipschitz but Hoelder-1/2.

The features are W_k = (phi_1(y_k), phi_0(y_k) (x) v_k) with y_k = P_k A_{k-1} z_{k-1}, v_k = P_k A_{k-1} W_{k-1} and
v_1 = y_1, so that |v_k|^2 <= k |y_k|^2 at every point. In units of ||x||, with Lambda = ||L||,

    delta_k >= ||y'_k - L y_k||,    omega_k = (delta_k^2 + eta_k^2 + m k Lambda delta_k)^(1/2),
    eta_1 = delta_1,    eta_{k+1} = omega_k + (k+1)^(1/2) ||[P_{k+1} A_k, L]||,
    ||Phi(L x) - Phi(x)|| <= omega_n + (n+1)^(1/2) ||A_n L - A_n||.

The same step for two images, without L: ``between_images``.

Proof: docs/theory-depth.md.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from stability.architecture import Architecture
from stability.boundaries import Periodic
from stability.bounds.border import folds, not_covered, uncovered
from stability.bounds.depth import error_factor, error_growth, ingredients, layer_error
from stability.bounds.field import FieldNorms
from stability.bounds.form import ClosedForm
from stability.bounds.forms import Part, best, last_pooling, patch_commutator, patch_energy, split_pooling
from stability.bounds.rows import front_end_rows, patch_spread
from stability.bounds.rung import Status, Term
from stability.kernels import ArcCosine, Kernel, LeakyReLU, Linear


def step_weight(kernel: Kernel) -> float | None:
    """m with 1 - kappa'(cos t) = m t / pi, for kernels of positively homogeneous activations; None for others.

    ReLU: 1; leaky ReLU of slope c: (1-c)^2 / (1+c^2); linear: 0.

    >>> step_weight(ArcCosine(1)), step_weight(Linear()), step_weight(ArcCosine(0))
    (1.0, 0.0, None)
    """
    if isinstance(kernel, ArcCosine) and kernel.degree == 1:
        return 1.0
    if isinstance(kernel, LeakyReLU):
        return (1 - kernel.slope) ** 2 / (1 + kernel.slope**2)
    return 0.0 if isinstance(kernel, Linear) else None


def between_images(architecture: Architecture, error: float, size: float, gains: Sequence[float]) -> float:
    """How far apart the features of two images are: eta_1 = error, eta_{k+1} = (eta_k^2 + error^2 + m k S error)^(1/2).

    For functions, whose poolings keep signs; sampled ones have taps of either sign, and with strides, where error, eta
    and S grow by the gain of each, it is an estimate. Infinity where a kernel has no ``step_weight``.

    Args:
        architecture: of the network.
        error: distance of the two images after A_0.
        size: S, square root of the product of their norms.
        gains: norm of "pool, then subsample" of every layer.

    >>> relu = Architecture.dyadic(depth=2, kernel=ArcCosine(1))
    >>> round(between_images(relu, 0.01, 1.0, [1.0, 1.0]), 3)  # nearly (3 error)^(1/2)
    0.174
    """
    eta = error
    for k, (layer, gain) in enumerate(zip(architecture.layers, gains, strict=True), start=1):
        weight = step_weight(layer.kernel)
        if weight is None:
            return math.inf if error else 0.0
        eta = gain * math.sqrt(eta * eta + error * (error + weight * k * size))
        error, size = gain * error, gain * size
    return eta


def tangent_kernel_form(
    architecture: Architecture, norms: FieldNorms, vanishing_border: float | None = None
) -> ClosedForm:
    """||Phi(L_tau x) - Phi(x)|| / ||x|| for the neural tangent kernel: of order b^(1/2) for small b.

    Args:
        architecture: of kernels ``ArcCosine(1)``, ``LeakyReLU`` or ``Linear``, without strides.
        norms: the norms of tau (``bounds.field_norms``).
        vanishing_border: as in ``closed_form``; asked for with the boundary ``Zero()``.

    Returns:
        A ``ClosedForm``: combination "tangent kernel", terms "features" (omega_n) and "last pooling"; value infinity
        and a note where the bound does not apply.

    Reference: Bietti & Mairal 2019 (On the inductive bias of neural tangent kernels), for the shape of the bound.

    >>> from stability.bounds.field import field_norms
    >>> arch = Architecture.dyadic(depth=2, subsampling=1, kernel=ArcCosine(1))
    >>> form = tangent_kernel_form(arch, field_norms(displacement_norm=0.01, jacobian_norm=0.001))
    >>> round(form.value, 3), str(form.status)
    (0.088, 'proof, numerically evaluated')
    """
    n, b = architecture.depth, norms.jacobian
    constants: dict[str, Any] = {"a": norms.displacement, "b": b, "d": norms.d}
    weights = [step_weight(layer.kernel) for layer in architecture.layers]
    torus = isinstance(architecture.boundary, Periodic)
    if not torus:
        norms = replace(norms, mean=0.0, residual=math.inf)  # a constant does not vanish at the border
    reason = _not_covered(architecture, norms, weights, vanishing_border)
    if reason:
        trivial = math.sqrt(n + 1) * (1 + norms.warp) if b < 1 and None not in weights else math.inf
        return uncovered(reason, norms, trivial)
    spreads = [patch_spread(architecture, k, norms.d) if torus else architecture.patch_radius(k, norms.d)
               for k in range(1, n + 1)]  # fmt: skip
    commutators = [
        patch_commutator(norms, scale, spread, symmetric=torus or layer.patch_size % 2 == 1)
        for scale, spread, layer in zip(architecture.scales, spreads, architecture.layers, strict=False)
    ]
    deltas, statuses = _patch_errors(architecture, norms, commutators, spreads)
    rows, eta, omega = [], deltas[0], 0.0
    for k, (delta, weight) in enumerate(zip(deltas, weights, strict=True), start=1):
        if k > 1:
            eta = omega + math.sqrt(k) * commutators[k - 1].value
        omega = math.sqrt(delta * delta + eta * eta + (weight or 0.0) * k * norms.warp * delta)
        rows.append({"layer": k, "commutator": commutators[k - 1].value, "delta": delta, "eta": eta, "omega": omega})
    ends = [last_pooling(norms, architecture.scales[-1], norms.displacement)]
    if norms.mean > 0 and math.isfinite(norms.residual) and architecture.scales[-1] > 0:
        ends.append(split_pooling(norms, architecture.scales[-1]))
    last = best(ends)
    terms = (Term("features", omega), Term("last pooling", math.sqrt(n + 1) * last.value))
    return ClosedForm(
        value=omega + math.sqrt(n + 1) * last.value,
        combination="tangent kernel",
        status=Status.weakest(last.status, *statuses, *(part.status for part in commutators)),
        trivial_norms=math.sqrt(n + 1) * (1 + norms.warp),
        terms=terms,
        alternatives={"tangent kernel": omega + math.sqrt(n + 1) * last.value},
        constants={**constants, "L": norms.warp, "last": last.value, "layers": tuple(rows)},
    )


def _not_covered(
    architecture: Architecture, norms: FieldNorms, weights: Sequence[float | None], border: float | None
) -> str | None:
    """Why there is no bound; None if there is one."""
    if norms.jacobian >= 1:
        return folds(norms.jacobian)
    if None in weights:
        kernel = architecture.layers[weights.index(None)].kernel
        return f"kernel {kernel!r}: the bound needs the tangent kernel of a ReLU, a leaky ReLU or a linear network"
    if any(layer.subsampling > 1 for layer in architecture.layers):
        return "subsampling: |v_k| <= k^(1/2) |y_k| holds for averages, and interpolation between samples is none"
    return not_covered(architecture, border, keeps_zero=True)


def _patch_errors(
    architecture: Architecture, norms: FieldNorms, commutators: Sequence[Part], spreads: Sequence[float]
) -> tuple[list[float], list[Status]]:
    """delta_1, ..., delta_n: the smallest of sum, quadrature and depth-free over the first k layers; rho = 1.

    With zeros beyond the border there is no depth-free theorem.
    """
    start = math.fsum(row.value for row in front_end_rows(architecture, norms, 1.0))
    forms = ingredients(norms) if isinstance(architecture.boundary, Periodic) else ()
    total, outside, squares, status = 0.0, 0.0, 0.0, Status.PROOF
    layers: list[list[Any]] = [[] for _ in forms]
    deltas, statuses = [], []
    for scale, part, spread in zip(architecture.scales, commutators, spreads, strict=False):
        total += part.value
        if scale:
            energy = patch_energy(norms, scale, spread)
            squares += energy.value**2
            status = Status.weakest(status, energy.status)
            for found, form in zip(layers, forms, strict=True):
                found.append(layer_error(form, scale, spread))
        else:
            outside += part.value
        free = [error_factor(found) + error_growth(found) for found in layers]
        deltas.append(start + min(total, outside + math.sqrt(squares), outside + min(free, default=math.inf)))
        statuses += [status, *(layer.status for found in layers for layer in found)]
    return deltas, statuses
