r"""||[P A, L] z|| for one map z and every field: the commutator's lemma with the power spectrum of z instead of a sup.

    ||[P A, L] z|| <= inf ( sup_x S(x) . <z, S'(-t Laplacian) z> )^(1/2),

S and S' the two multipliers of the lemma for (F, B, K), K that of the patch's shift: every choice of their parameters
is a valid bound, and a few dozen are tried. Proof: docs/theory.md, sections 4 and 5.
"""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from stability.bounds.mixed import Norms

if TYPE_CHECKING:
    from stability.ladders.energies import Spectrum

STARTS = {
    1: ((24.85, 1.0508, 1.0, 3.8497, 2.0141), (18.27, 1.673, 0.6027, 4.2309, 0.9351),
        (10.423, 1.8437, 1.0584, 3.8553, 0.5534), (3.702, 2.2968, 1.8673, 2.9189, 0.4304),
        (5.9712, 1.6048, 0.5418, 1.7314, 0.93341), (3.6613, 1.6796, 0.75599, 1.1406, 0.75785)),
    2: ((42.076, 1.1308, 1.0, 4.6678, 2.4355), (34.293, 2.0332, 0.4149, 4.9792, 1.2963),
        (24.232, 2.3628, 0.7595, 4.7629, 0.8655), (12.866, 2.5897, 1.4202, 4.2045, 0.5032),
        (14.451, 1.9452, 0.38799, 2.8149, 1.2835), (6.457, 2.1524, 0.70588, 1.6353, 0.9148)),
}  # fmt: skip
"""(lambda, mu, v, nu, k): the parameters of the constants j_d and J_d at a few values of kappa."""
FACTORS = (0.25, 0.5, 1.0, 2.0)
"""By which lambda and mu are multiplied."""
ROUNDED_UP = 1.0 + 1e-4
"""Suprema over a grid of 700 points are good to 1e-6."""


class Moments(NamedTuple):
    """What S' needs of one power spectrum: sums of the power times functions of y = sigma^2 |omega|^2 / 2.

    Args:
        removed: of (1 - e^(-y))^2.
        shifted: of y e^(-2 y).
        b2: of the function b2 for each value of nu.
        a3: of the function a3 for each value of k.
    """

    removed: float
    shifted: float
    b2: Mapping[float, float]
    a3: Mapping[float, float]


def moments(power: Tensor, y: Tensor) -> Moments:
    """The sums for all parameters that are tried.

    Args:
        power: ``(M,)``.
        y: sigma^2 |omega|^2 / 2, ``(M,)``.
    """

    def summed(values: Tensor) -> float:
        return float((values * power).sum())

    return Moments(
        removed=summed(torch.expm1(-y).square()),
        shifted=summed(y * torch.exp(-2.0 * y)),
        b2={nu: summed(_b2(y, nu)) for nu in {start[3] for rows in STARTS.values() for start in rows}},
        a3={k: summed(_a3(y, k)) for k in {start[4] for rows in STARTS.values() for start in rows}},
    )


def spectral(spectrum: "Spectrum", choices: Sequence[Norms], shift: float) -> float:
    """inf ( sup S . <z, S' z> )^(1/2) over the parameters and the choices, in the unit of ||z||.

    The suprema depend on F and B through mu B / F only: they are found once for each of a few values of it.

    Args:
        spectrum: of z, with the scale of A > 0.
        choices: F and B of every way to write the commutator.
        shift: K: b ||L|| times the root-mean-square offset of the patch over sigma; for A L - A the same for the
            displacement.
    """
    d, sums = spectrum.frequencies.shape[-1], spectrum.moments
    best, root = math.inf, math.sqrt(d)
    for lam, mu, v, nu, k in _parameters(d):
        top = _supremum(d, lam, mu, nu, k) / root
        first, second = sums.removed + sums.b2[nu] / lam, root * sums.a3[k] / mu
        third = 2.0 * sums.shifted / v
        for f, b in choices:
            if f:
                left, right = f * top, f * first + b * b / f * second
            else:
                left, right = b * mu * _strain_supremum(k), b * sums.a3[k] / mu
            best = min(best, (left + shift * v) * (right + shift * third))
    return math.sqrt(best)


@functools.cache
def _parameters(d: int) -> tuple[tuple[float, float, float, float, float], ...]:
    return tuple(
        (lam * first, mu * second, v, nu, k)
        for lam, mu, v, nu, k in STARTS[d]
        for first, second in itertools.product(FACTORS, FACTORS)
    )


@functools.cache
def _supremum(d: int, lam: float, mu: float, nu: float, k: float) -> float:
    """sup_x d^(1/2) (a1 + lambda a2) + mu a3, rounded up."""
    x, squares = _differences()
    nodes, weights = _quadrature()
    a2 = squares @ (torch.exp(-nu * nodes) / nodes * weights)
    left = math.sqrt(d) * (torch.exp(-2.0 * x) + lam * a2) + mu * _a3(x, k)
    return float(left.max()) * ROUNDED_UP


@functools.cache
def _strain_supremum(k: float) -> float:
    """sup_x a3, rounded up."""
    return float(_a3(_differences()[0], k).max()) * ROUNDED_UP


@functools.cache
def _differences() -> tuple[Tensor, Tensor]:
    """x, and (exp(-(1-r) x) - exp(-x))^2 at the nodes r."""
    x = torch.cat([torch.zeros(1, dtype=torch.float64), torch.logspace(-4, 5, 700, dtype=torch.float64)])
    nodes, _ = _quadrature()
    return x, (torch.exp(-x[:, None] * (1.0 - nodes)) - torch.exp(-x)[:, None]).square()


@functools.cache
def _quadrature() -> tuple[Tensor, Tensor]:
    """Gauss nodes and weights on [0, 1], graded towards both ends."""
    import numpy as np

    fine = 2.0 ** -np.arange(20, 0, -1)
    edges = np.concatenate([[0.0], fine, (1.0 - fine[::-1])[1:], [1.0]])
    points, weights = np.polynomial.legendre.leggauss(16)
    half = np.diff(edges)[:, None] / 2.0
    nodes = (edges[:-1, None] + half * (1.0 + points)).ravel()
    return torch.from_numpy(nodes), torch.from_numpy((half * weights).ravel())


def _a3(x: Tensor, k: float) -> Tensor:
    """x e^(-k) q(2 (x - k)), q(z) = (1 - e^(-z)) / z."""
    z = 2.0 * (x - k)
    safe = torch.where(z.abs() > 1e-8, z, 1.0)
    return x * math.exp(-k) * torch.where(z.abs() > 1e-8, -torch.expm1(-safe) / safe, 1.0 - z / 2.0)


def _b2(x: Tensor, nu: float) -> Tensor:
    """x^2 (1 - (1 + s) e^(-s)) / s^2, s = 2 x - nu; 1/2 - s/3 near s = 0."""
    s = 2.0 * x - nu
    safe = torch.where(s.abs() > 1e-3, s, 1.0)
    near = 0.5 - s / 3.0 + s * s / 8.0 - s**3 / 30.0
    return x.square() * torch.where(s.abs() > 1e-3, (1.0 - (1.0 + safe) * torch.exp(-safe)) / safe.square(), near)
