r"""max <g, tau> over sup|tau| <= a and sup||grad tau||_2 <= b, for fields that are linear on each triangle.

The maximiser meets its constraints on a large part of the torus. It is the linear step of a Frank-Wolfe (generalised
power) iteration over the two balls and, for a random smooth g, a random field that is saturated.

Alternating direction method of multipliers. In units of a, with G the gradient of ``triangulation`` and l = a / b in
pixels, the problem is max <g, x> subject to x = p, |p| <= 1 at each node, and l G x = q, ||q||_2 <= 1 on each triangle.
Both projections are closed forms, and the quadratic step is a division in Fourier space, for G* G is circulant. For
each matrix field w,

    <g, v> = <g - G* w, v> + <w, G v> <= a sum_nodes |g - G* w| + b sum_triangles (sigma_1 + sigma_2)(w),

so that the multipliers certify how far a field is from the maximum.

References: Boyd, Parikh, Chu, Peleato & Eckstein 2011 (the method); Eckstein & Bertsekas 1992 (over-relaxation).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from stability.deformations import lengths
from stability.deformations.triangulation import (
    check_values,
    component_gradients,
    component_gradients_adjoint,
    gram_symbol,
    largest_displacement,
    largest_gradient,
)

ITERATIONS = 120
"""Enough for 98 % of the maximum of a smooth g from a cold start; 40 are enough for 95 %, or from a near-by start."""

_RELAXATION = 1.7
_PENALTY = 3.0
_MARGIN = 1 - 1e-9
_RATED = 20  # every twentieth iterate is made feasible and compared with the best one


@final
@dataclass(frozen=True)
class Splitting:
    """Where the iteration stands: p + y / penalty and q + w / penalty, for g = y + G* w with mean |g| = 1.

    Args:
        displacement: p and its multiplier y, ``(d, n, *lattice)``, in units of a.
        gradient: q and its multiplier w, ``(d, d, n, simplices, *lattice)``, in units of b.
        displacement_penalty: ``(n,)``.
        gradient_penalty: ``(n,)`` in pixels.
    """

    displacement: Tensor
    gradient: Tensor
    displacement_penalty: Tensor
    gradient_penalty: Tensor


@final
@dataclass(frozen=True)
class LinearStep:
    """A field of the two balls with a large <g, v>, and a value that no field of the two balls exceeds.

    Args:
        values: node values v in pixels, ``(n, *lattice, d)``, float64.
        objective: <g, v>, the sum over nodes and components, ``(n,)``.
        upper: certified upper value of the maximum, ``(n,)``.
        splitting: the start of a later call.
    """

    values: Tensor
    objective: Tensor
    upper: Tensor
    splitting: Splitting

    @property
    def gap(self) -> Tensor:
        """1 - objective / upper, ``(n,)``: v has at least the share 1 - gap of the maximum. 0 for g = 0."""
        return torch.where(self.upper > 0, 1 - self.objective / _divisor(self.upper), 0.0)


@torch.no_grad()
def linear_step(
    direction: Tensor,
    cells: Sequence[float],
    displacement_norm: float | Tensor,
    jacobian_norm: float | Tensor,
    *,
    iterations: int = ITERATIONS,
    start: Splitting | None = None,
    precision: torch.dtype = torch.float32,
) -> LinearStep:
    r"""max <g, v> over node values v with max |v| <= a and max ||J||_2 <= b, to a certified share of the maximum.

    Both constraints hold exactly, at each node and on each triangle, after any number of iterations. The result is at
    least as good as g itself, scaled into the two balls. No derivative is taken through the maximisation.

    Args:
        direction: g, ``(n, *lattice, d)``; the result does not depend on its scale.
        cells: sides (h_x, h_y) or (h_x,) of a cell in pixels.
        displacement_norm: a > 0 in pixels, broadcasts with ``(n,)``.
        jacobian_norm: b > 0, dimensionless, broadcasts with ``(n,)``.
        iterations: at least 1.
        start: ``splitting`` of an earlier step on the same lattice; its g, a and b may differ. Zero by default.
        precision: floating-point type of the iterations. The field, the constraints and the upper value are float64 in
            any case; torch.float64 takes twice the time and pays below a gap of 1e-4 only.

    Raises:
        ValueError: if shapes do not fit, a number is not finite or a norm is not positive.

    >>> rng = torch.Generator().manual_seed(0)
    >>> direction = torch.randn(1, 16, 16, 2, generator=rng, dtype=torch.float64)
    >>> step = linear_step(direction, (1.0, 1.0), 1.0, 0.5)
    >>> bool(step.gap < 0.02)
    True
    """
    check_values(direction, cells, "direction")
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}; use {ITERATIONS}")
    if not torch.isfinite(direction).all():
        raise ValueError(
            "direction must be finite, got NaN or infinite values; check the objective it is a gradient of"
        )
    a, b = _norm("displacement", displacement_norm, direction), _norm("jacobian", jacobian_norm, direction)
    direction = direction.to(torch.float64)
    g = direction.movedim(-1, 0)
    scale = _total(lengths.euclidean(list(g))) / g[0, 0].numel()
    scale = torch.where(scale > 0, scale, 1.0)
    problem = _Problem(g / _column(scale, len(cells)), cells, a / b)
    found, upper, splitting = _iterate(problem, problem.start(start), iterations, precision)
    values = (found * _column(a, len(cells))).movedim(0, -1).contiguous()
    share = torch.maximum(largest_displacement(values) / a, largest_gradient(values, cells) / b)
    values *= _column(_MARGIN / share.clamp_min(_MARGIN), len(cells) + 1)
    objective = (direction * values).flatten(1).sum(1)
    return LinearStep(values, objective, torch.maximum(upper * scale * a, objective), splitting)


class _Problem:
    """max <g, x> over |x| <= 1 and ||l G x||_2 <= 1, for g with mean |g| = 1 or 0."""

    def __init__(self, direction: Tensor, cells: Sequence[float], length: Tensor) -> None:
        self.direction, self.cells, self.length = direction, cells, length
        self.d = len(cells)
        self.axes = tuple(range(-self.d, 0))
        self.lattice = tuple(direction.shape[2:])
        self.symbol = gram_symbol(self.lattice, cells, device=direction.device)
        self.inverse = torch.where(self.symbol > 0, 1 / self.symbol, 0.0)
        potential = self.divided(direction, self.inverse)
        self.displacement_penalty, r_q = penalties(length / own_length(direction, potential, cells))
        self.gradient_penalty = r_q * length

    def gradient(self, x: Tensor) -> Tensor:
        """The gradient in units of b, l G x."""
        return component_gradients(x * _column(self.length, self.d).to(x.dtype), self.cells)

    def adjoint(self, w: Tensor) -> Tensor:
        """Its adjoint, l G* w."""
        return component_gradients_adjoint(w, self.cells).mul_(_column(self.length, self.d).to(w.dtype))

    def divided(self, x: Tensor, factor: Tensor) -> Tensor:
        """The circulant operator with eigenvalues ``factor``, applied to x."""
        return torch.fft.irfftn(torch.fft.rfftn(x, dim=self.axes) * factor, s=self.lattice, dim=self.axes)

    def start(self, start: Splitting | None) -> Splitting:
        """Zero, or the given point with its multipliers in the units of this problem's penalties."""
        shape = self.direction.shape
        shapes = (shape, (self.d, self.d, shape[1], self.d, *self.lattice))
        if start is None:
            zero = [self.direction.new_zeros(wanted) for wanted in shapes]
            return Splitting(zero[0], zero[1], self.displacement_penalty, self.gradient_penalty)
        if start.displacement.shape != shapes[0] or start.gradient.shape != shapes[1]:
            raise ValueError(
                f"start must come from fields {tuple(shape[1:])}, got {tuple(start.displacement.shape[1:])}; "
                "pass the splitting of a step with the same batch and lattice, or None"
            )
        p, q = ball(start.displacement), clip(start.gradient)
        factor_p = _column(start.displacement_penalty / self.displacement_penalty, self.d).to(p.dtype)
        factor_q = _column(start.gradient_penalty / self.gradient_penalty, self.d + 1).to(q.dtype)
        return Splitting(
            p + factor_p * (start.displacement - p),
            q + factor_q * (start.gradient - q),
            self.displacement_penalty,
            self.gradient_penalty,
        )

    def upper(self, y: Tensor, w: Tensor) -> Tensor:
        """sum |y'| + sum (sigma_1 + sigma_2)(w') >= the maximum, ``(n,)``, for y' + l G* w' = g near the given y, w."""
        residual = self.direction - y - self.adjoint(w)
        w = w + component_gradients(self.divided(residual, self.inverse), self.cells) / _column(self.length, self.d + 1)
        return _total(lengths.euclidean(list(self.direction - self.adjoint(w)))) + _total(_nuclear(w))

    def feasible(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """A multiple of x on the boundary of the two balls and its <g, x>, ``(n,)``."""
        norm = lengths.spectral(list(self.gradient(x).flatten(0, 1))).flatten(1).amax(1)
        largest = torch.maximum(lengths.euclidean(list(x)).flatten(1).amax(1), norm)
        x = x / _column(_divisor(largest), self.d)
        return x, _total((self.direction * x).sum(0))


def _iterate(
    problem: _Problem, at: Splitting, iterations: int, precision: torch.dtype
) -> tuple[Tensor, Tensor, Splitting]:
    """The best feasible field seen, the upper value of the last multipliers, and the last splitting."""
    d = problem.d
    g, z_p, z_q = (value.to(precision) for value in (problem.direction, at.displacement, at.gradient))
    r_p, r_q = _column(at.displacement_penalty, d), _column(at.gradient_penalty / problem.length, d)
    inverse = 1 / (r_p + r_q * _column(problem.length.square(), d) * problem.symbol)
    inverse, r_p, r_q = inverse.to(precision), r_p.to(precision), r_q.to(precision)
    best, value = problem.feasible(problem.direction)
    for k in range(1, iterations + 1):
        p, q = ball(z_p), clip(z_q)
        mirrored_p, mirrored_q = z_p.sub(p, alpha=2), z_q.sub(q, alpha=2)
        x = problem.divided(g - r_p * mirrored_p - r_q * problem.adjoint(mirrored_q), inverse)
        gradient = problem.gradient(x)
        if k % _RATED == 0 or k == iterations:
            for candidate in (x.to(torch.float64), ball(x.to(torch.float64))):
                field, objective = problem.feasible(candidate)
                best = torch.where(_column(objective > value, d), field, best)
                value = torch.maximum(value, objective)
        if k == iterations:
            # the quadratic step is optimal: g = r_p (x + z_p - 2 p) + l G* r_q (l G x + z_q - 2 q)
            y, w = r_p * (x + mirrored_p), r_q[:, None] * (gradient + mirrored_q)
            upper = problem.upper(y.to(torch.float64), w.to(torch.float64))
        z_p.add_(x.sub_(p), alpha=_RELAXATION)
        z_q.add_(gradient.sub_(q), alpha=_RELAXATION)
    return best, upper, Splitting(z_p, z_q, at.displacement_penalty, at.gradient_penalty)


def own_length(direction: Tensor, potential: Tensor, cells: Sequence[float]) -> Tensor:
    """l_g = sum (sigma_1 + sigma_2)(w) / sum |g| in pixels, w = G (G* G)^+ g the potential's gradient, ``(n,)``."""
    own = _total(_nuclear(component_gradients(potential, cells)))
    return (own / _divisor(_total(lengths.euclidean(list(direction))))).clamp_min(0.1 * min(cells))


def penalties(ratio: Tensor) -> tuple[Tensor, Tensor]:
    """Of displacements and of gradients in units of a and b, for mean |g| = 1 and l / l_g.

    A penalty is the expected size of a multiplier over that of its split variable: the displacements' multiplier
    carries g until the gradients' one does, l_g << l. Constants chosen on smooth to white g, l from 0.3 to 800.
    """
    return _PENALTY / (1 + ratio / 20), _PENALTY / (3 + ratio)


def ball(x: Tensor) -> Tensor:
    """Nearest vectors with |x| <= 1, ``(d, ...)``."""
    return x / lengths.euclidean(list(x)).clamp_min_(1.0)


def clip(q: Tensor) -> Tensor:
    """Nearest matrices with ||q||_2 <= 1, ``(d, d, ...)``: singular values above 1 become 1.

    With the conformal and the anticonformal part, (p, -m; m, p) + (s, t; t, -s), sigma = ||(p, m)| +- |(s, t)||.
    """
    if len(q) == 1:
        return q.clamp(-1.0, 1.0)
    (a, b), (c, e) = q
    parts = a + e, c - b, a - e, b + c  # twice the parts
    conformal, anticonformal = lengths.euclidean(parts[:2]), lengths.euclidean(parts[2:])
    major = (conformal + anticonformal).clamp_max_(2.0)
    minor = (conformal - anticonformal).clamp_(-2.0, 2.0)
    first = (major + minor).div_(_divisor(conformal.mul_(4)))
    second = (major - minor).div_(_divisor(anticonformal.mul_(4)))
    p, m, s, t = (part.mul_(factor) for part, factor in zip(parts, (first, first, second, second), strict=True))
    result = torch.empty_like(q)
    torch.add(p, s, out=result[0, 0])
    torch.sub(t, m, out=result[0, 1])
    torch.add(t, m, out=result[1, 0])
    torch.sub(p, s, out=result[1, 1])
    return result


def _nuclear(w: Tensor) -> Tensor:
    """sigma_1 + sigma_2 = max(|(a + d, c - b)|, |(a - d, b + c)|) of matrices (a, b; c, d), ``(d, d, ...)``."""
    if len(w) == 1:
        return w[0, 0].abs()
    (a, b), (c, e) = w
    return torch.maximum(lengths.euclidean((a + e, c - b)), lengths.euclidean((a - e, b + c)))


def _norm(name: str, value: float | Tensor, direction: Tensor) -> Tensor:
    """The target as float64 ``(n,)``, if it is positive and finite."""
    value = torch.as_tensor(value, dtype=torch.float64, device=direction.device)
    if value.numel() not in (1, len(direction)) or not bool((torch.isfinite(value) & (value > 0)).all()):
        raise ValueError(
            f"{name}_norm must be positive, finite and one number or {len(direction)}, got {value.tolist()}; "
            "a norm that should not bind may be large"
        )
    return value.reshape(-1).expand(len(direction))


def _divisor(value: Tensor) -> Tensor:
    """The value >= 0, kept from zero."""
    return value.clamp_min(torch.finfo(value.dtype).tiny)


def _total(value: Tensor) -> Tensor:
    """Sum over all but the first axis."""
    return value.flatten(1).sum(1)


def _column(value: Tensor, axes: int) -> Tensor:
    """``(n,)`` to ``(n, 1, ..., 1)`` with the given number of further axes."""
    return value.reshape(-1, *([1] * axes))
