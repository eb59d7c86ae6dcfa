r"""Solving u - tau(u) = v: fixed points with an error known beforehand, and Newton's iteration.

For b = sup ||grad tau|| < 1 the map u -> v + tau(u) contracts: after k steps from u_0 = v

    |u_k - u*| <= b^k |u_0 - u*| <= b^k sup |tau| / (1 - b),    and    |u - u*| <= |v - u + tau(u)| / (1 - b)

for any u. In general |u - u*| <= m |v - u + tau(u)| where m bounds ||(I - grad tau)^{-1}|| on a convex domain: the
inverse map is m-Lipschitz.

Reference: Banach 1922.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from stability.deformations.base import Deformation
from stability.deformations.domains import Torus
from stability.grid import coordinates, sides

_GAIN = 0.9
"""A Newton step must reduce the residual to this share of it, or to b of it."""

_HALVINGS = 30
_PAIRS = 2**22
"""Distances computed at a time in the search for starts."""

_NODES = {1: 4096, 2: 64}
"""Most nodes per axis of the grid whose images serve as starts."""


@dataclass(frozen=True)
class FixedPoint:
    """u <- v + tau(u) from u = v, for b = sup ||grad tau|| < 1; after k steps at most b^k sup |tau| / (1 - b) off.

    Args:
        tolerance: in pixels; iterated until the residual proves it.
        iterations: most steps, after which the value is returned as it is.

    Raises:
        ValueError: if a value is not positive.
    """

    tolerance: float = 1e-12
    iterations: int = 200

    def __post_init__(self) -> None:
        _check(self.tolerance, self.iterations)


@dataclass(frozen=True)
class Newton:
    """u <- u + (I - grad tau(u))^{-1} (v - u + tau(u)), with fixed point steps or shorter ones where those fail.

    Args:
        tolerance: in pixels; iterated until the residual proves it.
        iterations: most steps; a point that needs more raises an error.

    Raises:
        ValueError: if a value is not positive.
    """

    tolerance: float = 1e-12
    iterations: int = 100

    def __post_init__(self) -> None:
        _check(self.tolerance, self.iterations)


Solver = FixedPoint | Newton


class Bounds(NamedTuple):
    """What is known of n fields, ``(n,)`` each, in double precision.

    Args:
        displacement: a >= sup |tau| in pixels.
        jacobian: b >= sup ||grad tau||_2.
        inverse: m >= sup ||(I - grad tau)^{-1}||_2, inf where unknown.
        round_off: of the residual in pixels.
    """

    displacement: Tensor
    jacobian: Tensor
    inverse: Tensor
    round_off: Tensor

    def residual(self, tolerance: float) -> Tensor:
        """Residuals that prove the tolerance, as far as round-off allows, ``(n,)``."""
        proves = torch.where(torch.isfinite(self.inverse), tolerance / self.inverse, tolerance)
        return torch.maximum(proves, self.round_off)

    def error(self, solver: Solver) -> Tensor:
        """What the solver guarantees of every value that it returns, ``(n,)`` in pixels; inf where m is unknown."""
        proved = self.inverse * (self.residual(solver.tolerance) + self.round_off)
        if isinstance(solver, Newton):
            return proved
        known = self.jacobian**solver.iterations * self.displacement * self.inverse
        return torch.maximum(proved, known)


def solve(field: Deformation, v: Tensor, solver: Solver, bounds: Bounds) -> Tensor:
    """u with u - tau(u) = v, without gradients.

    Args:
        field: tau, batch shape ``(n,)``.
        v: ``(n, P, d)`` in pixels.
        solver: how.
        bounds: of the field.

    Returns:
        Tensor ``(n, P, d)``.

    Raises:
        RuntimeError: if Newton's iteration does not converge.
    """
    limit = bounds.residual(solver.tolerance).to(v.dtype)[:, None]
    contracts = bounds.jacobian < 1
    if isinstance(solver, FixedPoint):
        return _iterated(field, v, limit, solver.iterations)
    start = v if bool(contracts.all()) else torch.where(contracts[:, None, None], v, _nearest(field, v))
    rate = torch.where(contracts, bounds.jacobian, 1.0).to(v.dtype)[:, None]
    return _newton(field, v, start, limit, rate, solver.iterations)


def inverse_matrix(matrix: Tensor) -> Tensor:
    """The inverses of ``(..., d, d)``, d in {1, 2}, by Cramer's rule.

    >>> inverse_matrix(torch.tensor([[2.0, 1.0], [1.0, 1.0]]))
    tensor([[ 1., -1.],
            [-1.,  2.]])
    """
    if matrix.shape[-1] == 1:
        return 1 / matrix
    a, b, c, d = matrix.flatten(-2).unbind(-1)
    return torch.stack([d, -b, -c, a], dim=-1).unflatten(-1, (2, 2)) / (a * d - b * c)[..., None, None]


def times(matrix: Tensor, vector: Tensor) -> Tensor:
    """Matrices ``(..., d, d)`` times vectors ``(..., d)``."""
    return (matrix * vector[..., None, :]).sum(-1)


def _iterated(field: Deformation, v: Tensor, limit: Tensor, iterations: int) -> Tensor:
    u = v
    for _ in range(iterations):
        residual = v - u + field.derivative(u, 0)
        if bool((residual.norm(dim=-1) <= limit).all()):
            break
        u = u + residual
    return u


def _newton(field: Deformation, v: Tensor, start: Tensor, limit: Tensor, rate: Tensor, iterations: int) -> Tensor:
    identity = torch.eye(v.shape[-1], dtype=v.dtype, device=v.device)
    u, residual = start, v - start + field.derivative(start, 0)
    for _ in range(iterations):
        size = residual.norm(dim=-1)
        done = size <= limit
        if bool(done.all()):
            return u
        step = times(inverse_matrix(identity - field.derivative(u, 1)), residual)
        step = torch.where(torch.isfinite(step).all(-1, keepdim=True), step, residual)
        step = torch.where(done[..., None], 0.0, step)
        length = torch.ones_like(size)
        for halving in range(_HALVINGS):
            trial = u + length[..., None] * step
            left = v - trial + field.derivative(trial, 0)
            share = torch.where(rate < 1, rate, 1 - (1 - _GAIN) * length)
            poor = (left.norm(dim=-1) > (share * size).clamp_min(limit)) & ~done
            if not bool(poor.any()):
                break
            if halving == 0:  # a contraction: u + residual is at least as good as its rate
                step = torch.where((poor & (rate < 1))[..., None], residual, step)
                length = torch.where(poor & (rate >= 1), length / 2, length)
            else:
                length = torch.where(poor & (rate >= 1), length / 2, length)
                if not bool((poor & (rate >= 1)).any()):
                    break  # what is left is round-off
        u, residual = trial, left
    size = residual.norm(dim=-1)
    if bool((size <= limit).all()):
        return u
    raise RuntimeError(
        f"u - tau(u) = v was not solved at {int((size > limit).sum())} of {size.numel()} points (largest residual "
        f"{float(size.max()):.3g} px); ask for a larger tolerance, or check field.is_diffeomorphism()"
    )


def _nearest(field: Deformation, v: Tensor) -> Tensor:
    """Of the nodes of a grid those whose images u - tau(u) are nearest to v: starts for steep fields."""
    nodes = coordinates(field.size, dtype=v.dtype, device=v.device)
    for axis in range(field.d):
        stride = -(-nodes.shape[axis] // _NODES[field.d])
        nodes = nodes.index_select(axis, torch.arange(0, nodes.shape[axis], stride, device=v.device))
    nodes = nodes.reshape(1, -1, field.d)
    images = nodes - field.derivative(nodes, 0)  # (n, G, d)
    period = sides(field.size, dtype=v.dtype, device=v.device)
    domain = field.domain
    wraps = isinstance(domain, Torus) or domain.vanishing
    parts = []
    for at in v.split(max(1, _PAIRS // max(1, images.shape[0] * images.shape[1])), dim=1):
        gap = at[:, :, None] - images[:, None]  # (n, P', G, d)
        lift = period * torch.round(gap / period) if wraps else torch.zeros_like(gap)
        best = (gap - lift).square().sum(-1).argmin(-1)[..., None]  # (n, P', 1)
        found = nodes[0][best[..., 0]]
        parts.append(found + lift.gather(2, best[..., None].expand(-1, -1, -1, lift.shape[-1]))[:, :, 0])
    return torch.cat(parts, dim=1)


def _check(tolerance: float, iterations: int) -> None:
    if not tolerance > 0:
        raise ValueError(f"tolerance must be positive, got {tolerance!r}; use 1e-12 px")
    if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1:
        raise ValueError(f"iterations must be an integer >= 1, got {iterations!r}; use 100")
