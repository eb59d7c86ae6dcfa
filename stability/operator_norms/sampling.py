r"""How many nodes the integrals of a field need, and what they leave out: proved for trigonometric fields.

All integrals here are means over the torus of exp(i omega_k . phi(u)) exp(-i omega_m . u), phi = id - tau, or of
1 / det(I - grad tau(u)), by the rule of equal weights on a grid: the mean it gives is off by the Fourier coefficients
of the aliases. For a trigonometric field tau with frequencies at most R and ||grad tau|| <= b on the torus,
|f(x + i y)| <= exp(R |y|) sup |f| for functions of exponential type gives ||grad tau|| <= b exp(R |y|) at complex
points, hence |Im omega . tau(u + i y)| <= |omega| b (exp(R |y|) - 1) / R. Shifting the path of integration by i y,
|y| = eta, bounds a Fourier coefficient at frequency nu by exp(-eta |nu|) times the supremum there, for every eta > 0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.deformations.base import Deformation
from stability.deformations.domains import Window
from stability.deformations.series import FourierSeries
from stability.deformations.sum import Sum
from stability.deformations.translation import Translation

POINTS = 2**16
"""Nodes at which a field is evaluated at once: its tables take memory."""
MARGIN = 2.5
"""Nodes of other fields over those that a trigonometric field without curvature would need; checked against more."""
STEEPEST = 0.9
"""Up to this jacobian norm errors are proved: 1 / det(I - grad tau) of steeper fields may be singular nearby."""
STEPS = [0.02 * 1.06**j for j in range(100)]
"""Values of R eta that are tried: 0.02 to 6.4."""


@dataclass(frozen=True)
class Strip:
    """What is known of a field at complex points.

    Args:
        jacobian: b >= sup ||grad tau|| on the torus.
        bandwidth: R >= |omega| of all its modes, in radians per pixel.
        d: 1 or 2.
    """

    jacobian: float
    bandwidth: float
    d: int

    def waves(self, density: float, offset: float, wave: float) -> float:
        """Bound of the error of a coefficient of exp(i omega . phi), |omega| <= wave, at the shift ``offset``.

        The aliases of ring r >= 1 lie at frequencies of at least 2 pi density r - offset.
        """
        worst = math.inf
        for step in STEPS:
            eta = step / self.bandwidth
            growth = wave * self.jacobian * math.expm1(step) / self.bandwidth
            worst = min(worst, self._rings(eta, density, offset, growth))
        return worst

    def inverse_density(self, density: float, offset: float) -> float:
        """The same for coefficients of 1 / det(I - grad tau): at most (1 - b exp(R eta))^(-d) at complex points."""
        worst = math.inf
        for step in STEPS:
            slope = self.jacobian * math.exp(step)
            if slope < 1:
                growth = -self.d * math.log1p(-slope)
                worst = min(worst, self._rings(step / self.bandwidth, density, offset, growth))
        return worst

    def _rings(self, eta: float, density: float, offset: float, growth: float) -> float:
        """sum over r >= 1 of (2 or 8 r) exp(growth - eta (2 pi density r - offset))."""
        exponent = 2 * math.pi * density * eta
        ratio = math.exp(-exponent)
        lead = growth + eta * offset - exponent
        if lead > 0 or ratio >= 1:
            return math.inf
        return math.exp(lead) * (2 / (1 - ratio) if self.d == 1 else 8 / (1 - ratio) ** 2)


def strip(field: Deformation) -> Strip | None:
    """What is known of a single field at complex points; None if nothing, or if too fine a grid would be needed."""
    radius, b = _bandwidth(field), float(field.norms().jacobian.upper.max())
    return None if radius is None or b > STEEPEST else Strip(b, max(radius, 1e-3), field.d)


def _bandwidth(field: Deformation) -> float | None:
    """The largest |omega| of a trigonometric field in radians per pixel; None for another one."""
    if isinstance(field, Translation):
        return 0.0
    if isinstance(field, FourierSeries):
        return float(field.frequencies.norm(dim=-1).max())
    if isinstance(field, Sum):
        parts = [_bandwidth(part) for part in field.parts]
        known = [part for part in parts if part is not None]
        return max(known) if len(known) == len(parts) else None
    return None


def finest(error: Callable[[float], float], tolerance: float, start: float) -> float:
    """The smallest density >= start, up to 3 %, at which the error is below the tolerance."""
    low, high = start, start
    while error(high) > tolerance:
        low, high = high, 1.5 * high
    while high > 1.03 * low:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if error(middle) <= tolerance else (middle, high)
    return high


def counts(size: tuple[int, ...], density: float) -> tuple[int, ...]:
    """Nodes per axis, at least ``density`` per pixel, with small prime factors."""
    return tuple(_smooth(math.ceil(density * n)) for n in size)


def _smooth(n: int) -> int:
    """The smallest even number >= n without prime factors above 5."""
    n += n % 2
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 2


def nodes(field: Deformation, shape: tuple[int, ...]) -> Tensor:
    """The grid of the torus with that many nodes per axis, inside the field's domain, ``(Q, d)`` in pixels."""
    axes = [
        torch.arange(n, dtype=torch.float64, device=field.device) * (side / n)
        for n, side in zip(shape, field.size, strict=True)
    ]
    if isinstance(field.domain, Window):
        edge = field.domain.edge
        axes = [torch.remainder(axis + edge, side) - edge for axis, side in zip(axes, field.size, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1).flatten(0, -2)


def moved(field: Deformation, shape: tuple[int, ...]) -> Tensor:
    """phi(u) = u - tau(u) at the nodes, ``(Q, d)``, float64; ``field`` is a single one."""
    return torch.cat([u - field.displacement(u).to(torch.float64) for u in nodes(field, shape).split(POINTS)])


def inverse_density(field: Deformation, shape: tuple[int, ...]) -> Tensor:
    """1 / det(I - grad tau) at the nodes, ``shape``: L L^T is the multiplication by it."""
    parts = []
    for u in nodes(field, shape).split(POINTS):
        jacobian = field.jacobian(u).to(torch.float64)
        area = 1 - jacobian[:, 0, 0]
        if field.d == 2:
            area = area * (1 - jacobian[:, 1, 1]) - jacobian[:, 0, 1] * jacobian[:, 1, 0]
        parts.append(1 / area)
    return torch.cat(parts).reshape(shape)
