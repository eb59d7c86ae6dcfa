r"""The relaxation of sup ||J tau|| over C(a, b): several fields that share both constraints, and its multipliers.

Fields tau^1, ..., tau^r with Jacobians J_m are in the lifted set if

    sum_m |tau^m|^2 <= a^2 at nodes,    sum_m J_m^T J_m <= b^2 I and sum_m J_m J_m^T <= b^2 I on triangles.

One field of it is one of C(a, b), since ||J_m||_2^2 is the largest eigenvalue of either product. The largest
sum_m ||J tau^m||^2 is for large r the value of a semidefinite programme, the dual of the weights' (see ``weights``):
the multipliers of the linear step at a maximiser are the best weights. As the set is convex, the generalised power
iteration V <- argmax <G V, S>, G = J^T J, never lowers it; a handful of fields is enough for it to end at the top.

Linear steps by the alternating direction method of multipliers, as in ``linear_step``: x = p in the ball of the joint
length, l grad x = q with sum_m q_m^T q_m <= I, l grad x = q' with sum_m q'_m q'_m^T <= I.

Reference: Nesterov 1998 (the relaxation); Burer & Monteiro 2003 (few fields instead of a matrix); Boyd, Parikh, Chu,
Peleato & Eckstein 2011 (the method).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.deformations.linear_step import own_length, penalties
from stability.deformations.triangulation import component_gradients, component_gradients_adjoint, gram_symbol

POWERS = 40
"""Power iterations."""

COLD, WARM, LAST = 120, 40, 400
"""Iterations of the first linear step, of the others, and of the one whose multipliers count."""

RELAXATION = 1.7


@dataclass(frozen=True)
class Relaxed:
    """A point of the lifted set, and the multipliers there.

    Args:
        fields: tau^m, ``(r, *lattice, d)`` in pixels.
        inner: <J tau^m, J tau^l>, ``(r, r)``; its trace is what was made large.
        nodes: |y| for y with G V = y + grad* (w + w'), ``lattice``.
        right: (sum_m w_m^T w_m)^(1/2), ``(d, d, simplices, *lattice)``.
        left: (sum_m w'_m w'_m^T)^(1/2), ``(d, d, simplices, *lattice)``.
    """

    fields: Tensor
    inner: Tensor
    nodes: Tensor
    right: Tensor
    left: Tensor


def relaxed(
    gram: Callable[[Tensor], Tensor],
    start: Tensor,
    cells: Sequence[float],
    displacement_norm: float,
    jacobian_norm: float,
) -> Relaxed:
    """Fields of the lifted set with a large sum_m <tau^m, J^T J tau^m>, and their multipliers.

    Args:
        gram: J^T J for r fields, ``(r, *lattice, d)``.
        start: r fields, linearly independent.
        cells: sides of a cell.
        displacement_norm: a.
        jacobian_norm: b.
    """
    problem = _Lifted(start, cells, displacement_norm / jacobian_norm)
    point = problem.step(gram(start), None, COLD)
    for _ in range(POWERS):  # values of inexact steps waver: no gain would be no sign of the end
        point = problem.step(gram(displacement_norm * problem.feasible(point)), point, WARM)
    point = problem.step(gram(displacement_norm * problem.feasible(point)), point, LAST)
    fields = displacement_norm * problem.feasible(point)
    inner, (y, w, w_left) = fields.flatten(1) @ gram(fields).flatten(1).T, point.multipliers
    return Relaxed(fields, (inner + inner.T) / 2, joint_length(y), root(w), root(w_left.transpose(0, 1)))


@dataclass(frozen=True)
class _Point:
    """x; p + y / r_p, q + w / r_q and q' + w' / r_q with the two penalties; y, w, w' with g = y + l grad* (w + w')."""

    x: Tensor
    splits: tuple[Tensor, Tensor, Tensor]
    penalties: tuple[float, float]
    multipliers: tuple[Tensor, Tensor, Tensor]


class _Lifted:
    """max sum_m <g_m, x_m> over the lifted set in units of a and b."""

    def __init__(self, fields: Tensor, cells: Sequence[float], length: float) -> None:
        self.cells, self.length, self.lattice = cells, length, fields.shape[1:-1]
        self.axes = tuple(range(-len(cells), 0))
        self.symbol = gram_symbol(self.lattice, cells, device=fields.device)

    def gradient(self, x: Tensor) -> Tensor:
        """l grad x, ``(d, d, r, simplices, *lattice)``."""
        return component_gradients(self.length * x, self.cells)

    def divided(self, x: Tensor, factor: Tensor) -> Tensor:
        return torch.fft.irfftn(torch.fft.rfftn(x, dim=self.axes) * factor, s=self.lattice, dim=self.axes)

    def step(self, direction: Tensor, at: _Point | None, iterations: int) -> _Point:
        """The iteration for g ``(r, *lattice, d)``, from where an earlier one ended."""
        g = direction.movedim(-1, 0)  # (d, r, *lattice)
        g = g / joint_length(g).mean().clamp_min(torch.finfo(g.dtype).tiny)
        r_p, r_q = self._penalties(g)
        if at is None:
            # as without a constraint of the gradient: each vector along g, so that small ones reach their end, too
            lengths = joint_length(g)
            z_p = g * (1 / lengths.clamp_min(torch.finfo(g.dtype).tiny) + 1 / r_p)
            z_q = z_left = self.gradient(torch.zeros_like(g))
        else:  # the same multipliers in units of other penalties
            before = (at.penalties[0], at.penalties[1], at.penalties[1])
            z_p, z_q, z_left = (
                near + old / new * (split - near)
                for split, near, old, new in zip(at.splits, _projected(at.splits), before, (r_p, r_q, r_q), strict=True)
            )
        inverse = 1 / (r_p + 2 * r_q * self.length**2 * self.symbol)
        x, w, w_left = z_p, z_q, z_left
        for _ in range(iterations):
            p, q, left = _projected((z_p, z_q, z_left))
            back = component_gradients_adjoint((z_q - 2 * q) + (z_left - 2 * left), self.cells)
            x = self.divided(g - r_p * (z_p - 2 * p) - r_q * self.length * back, inverse)
            slope = self.gradient(x)
            # the quadratic step is optimal: g = r_p (x + z_p - 2 p) + l grad* (w + w')
            w, w_left = (r_q * (slope + split - 2 * near) for split, near in ((z_q, q), (z_left, left)))
            z_p, z_q, z_left = (
                split + RELAXATION * (new - near)
                for split, new, near in ((z_p, x, p), (z_q, slope, q), (z_left, slope, left))
            )
        y = g - self.length * component_gradients_adjoint(w + w_left, self.cells)
        return _Point(x, (z_p, z_q, z_left), (r_p, r_q), (y, w, w_left))

    def _penalties(self, g: Tensor) -> tuple[float, float]:
        """Means over the fields, by their share of g."""
        inverse = torch.where(self.symbol > 0, 1 / self.symbol, 0.0)
        each = torch.stack(penalties(self.length / own_length(g, self.divided(g, inverse), self.cells)))
        shares = g.square().movedim(1, 0).flatten(1).sum(1)
        r_p, r_q = (each @ (shares / shares.sum().clamp_min(torch.finfo(g.dtype).tiny))).tolist()
        return r_p, r_q

    def feasible(self, point: _Point) -> Tensor:
        """The multiple of x on the boundary of the set, ``(r, *lattice, d)``."""
        slope = self.gradient(point.x)
        lengths = [joint_length(point.x), *(spectral(part)[0] for part in (slope, slope.transpose(0, 1)))]
        largest = max(float(length.max()) for length in lengths)
        return (point.x / largest if largest > 0 else point.x).movedim(0, -1)


def _projected(splits: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    p, q, left = splits
    return p / joint_length(p).clamp_min(1.0), shrunk(q), shrunk(left.transpose(0, 1)).transpose(0, 1)


def joint_length(x: Tensor) -> Tensor:
    """(sum_m |x_m|^2)^(1/2), ``(d, r, ...)`` to ``(...)``."""
    return x.square().sum((0, 1)).sqrt()


def shrunk(q: Tensor) -> Tensor:
    """Nearest matrices with sum_m q_m^T q_m <= I, ``(d, d, r, ...)``: singular values above 1 become 1.

    >>> shrunk(torch.full((1, 1, 4, 1), 1.0)).flatten().tolist()
    [0.5, 0.5, 0.5, 0.5]
    """
    large, small, top = spectral(q)
    factor = _with_values(1 / large.clamp_min(1.0), 1 / small.clamp_min(1.0), top)
    columns = q.unbind(1)
    return torch.stack([_combination(columns, row) for row in factor], 1)


def root(w: Tensor) -> Tensor:
    """(sum_m w_m^T w_m)^(1/2), ``(d, d, r, ...)`` to ``(d, d, ...)``."""
    return torch.stack([torch.stack(row) for row in _with_values(*spectral(w))])


def spectral(q: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Both singular values of the stacked matrices ``(d, d, r, ...)``, and v v^T of the larger one's right vector.

    >>> large, small, (first, both, second) = spectral(torch.tensor([[3.0, 0.0], [0.0, 4.0]]).reshape(2, 2, 1, 1))
    >>> large.item(), small.item(), first.item(), both.item(), second.item()
    (4.0, 3.0, 0.0, 0.0, 1.0)
    """
    if q.shape[1] == 1:
        length = joint_length(q[:, 0])
        return length, length, [torch.ones_like(length)]
    first, second = q.unbind(1)
    a, b, c = ((one * other).sum((0, 1)) for one, other in ((first, first), (first, second), (second, second)))
    mean, half = (a + c) / 2, (a - c) / 2
    away = torch.hypot(half, b)
    large, small = (mean + away).sqrt(), (mean - away).clamp_min(0.0).sqrt()
    # v v^T = I / 2 + (half, b; b, -half) / (2 away); I / 2 where both values are equal
    cosine, sine = (part / (2 * away).clamp_min(torch.finfo(away.dtype).tiny) for part in (half, b))
    return large, small, [0.5 + cosine, sine, 0.5 - cosine]


def _combination(columns: Sequence[Tensor], factors: Sequence[Tensor]) -> Tensor:
    """sum_k columns_k factors_k."""
    found = columns[0] * factors[0]
    for column, factor in zip(columns[1:], factors[1:], strict=True):
        found = found.addcmul_(column, factor.expand_as(column))
    return found


def _with_values(large: Tensor, small: Tensor, top: Sequence[Tensor]) -> list[list[Tensor]]:
    """The symmetric matrix with these eigenvalues, the first one in the direction of v."""
    if len(top) == 1:
        return [[large]]
    first, both, second = (large - small) * top[0] + small, (large - small) * top[1], (large - small) * top[2] + small
    return [[first, both], [both, second]]
