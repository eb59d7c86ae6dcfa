r"""Flows with sup |tau| = a, sup ||grad tau||_2 = b, or both, by the amplitude and the tilt of the velocity.

The norms of a flow are not homogeneous in its velocity v. One norm: a root in the amplitude; |tau| <= sup |v| and
||grad tau|| <= e^B - 1 say where to begin. Both: Broyden's method for (ln a, ln b) as functions of (ln sup |v|,
ln sup ||Dv||), nearly the identity for small flows; where it fails, the displacement norm along the tilts at equal
Jacobian norm, a continuous function of one variable, between the ends of the range of tilts.

Norms are sought to ``CLOSE`` of targets a little below those given, with the integrator at less accuracy, and checked
at full accuracy in the end.

Reference: Broyden 1965.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from stability.deformations.ascent import approach, ascend
from stability.deformations.base import Deformation
from stability.deformations.flow import FlowField
from stability.deformations.flow_search import CLOSE, Both, Found, one, tiltable, turned
from stability.deformations.pointwise import FieldLengths, length, steepness

_SHRINKS = 5
"""Most corrections in the final check."""

Goals = Sequence[tuple[int, Tensor]]
"""Targets ``(Q,)``, each with the order of its derivative: 0 of the displacement, 1 of the Jacobian."""


def steer(field: FlowField, displacement_norm: Tensor | None, jacobian_norm: Tensor | None) -> FlowField:
    """The flow with these norms, never above them and at most 1e-3 below.

    Args:
        field: flows with factor 1; for both norms of a mean-free velocity with a knob (``Tiltable``).
        displacement_norm: a > 0 in pixels, broadcasts with the batch; None: left free.
        jacobian_norm: b > 0, likewise, beyond 1 too.

    Returns:
        Flows with the broadcast batch.

    Raises:
        ValueError: if a norm is out of reach, or a field has another factor or a velocity that cannot be tilted.

    >>> field = FlowField.sample((16,), cutoff=2, generator=torch.Generator().manual_seed(0))
    >>> b = steer(field, None, torch.tensor(1.5)).norms().jacobian.lower
    >>> bool((1.4985 <= b) & (b <= 1.5))
    True
    """
    targets = [value for value in (displacement_norm, jacobian_norm) if value is not None]
    if not field.plain:
        raise ValueError("only flows with factor 1 can be controlled, got a multiple of one; use FlowField(velocity)")
    if not targets:
        raise ValueError("control needs displacement_norm, jacobian_norm or both, got neither; use jacobian_norm=0.5")
    shape = torch.broadcast_shapes(field.batch_shape, *(value.shape for value in targets))
    owner = torch.arange(field.batch_shape.numel(), device=field.device).reshape(field.batch_shape)
    owner = owner.expand(shape).flatten()
    velocity = field.velocity.flat()
    if not bool((velocity.norms().jacobian.lower > 0).all()):
        raise ValueError("control needs velocities that vary, got a zero or constant one; draw another field")
    a, b = (
        None if value is None else value.to(torch.float64).expand(shape).flatten()
        for value in (displacement_norm, jacobian_norm)
    )
    goals = [(order, target) for order, target in enumerate((a, b)) if target is not None]
    fixed = [(order, target.detach()) for order, target in goals]
    with torch.no_grad():
        if len(fixed) == 2:
            found = Both(tiltable(velocity), owner, fixed[0][1], fixed[1][1]).solved()
        else:
            found = one(velocity[owner], *fixed[0])
        found, flows = _below(velocity[owner], found, fixed)
    if torch.is_grad_enabled() and (field.requires_grad or any(target.requires_grad for _, target in goals)):
        norms, found = flows.norms(), _with_gradient(velocity[owner], found, flows, goals)
        flows = FlowField(turned(velocity[owner], found), steps=flows.steps)
        flows._norms = norms
    return flows[torch.arange(len(owner), device=field.device).reshape(shape)]


def _below(velocity: Deformation, found: Found, goals: Goals) -> tuple[Found, FlowField]:
    """Slower flows where a norm at full accuracy is above its target."""
    flows = FlowField(turned(velocity, found))
    for _ in range(_SHRINKS):
        n = flows.norms()
        excess = torch.zeros_like(found.amplitude)
        for order, target in goals:
            excess = torch.maximum(excess, (n.displacement, n.jacobian)[order].lower / target - 1)
        if not bool((excess > 0).any()):
            break
        slower = torch.where(excess > 0, 1 / (1 + excess + CLOSE / 2), 1.0)
        found = found._replace(amplitude=found.amplitude * slower)
        flows = FlowField(turned(velocity, found))
    return found, flows


def _with_gradient(velocity: Deformation, found: Found, flows: FlowField, goals: Goals) -> Found:
    """Amplitude and tilt as functions of coefficients and targets, by the implicit function theorem.

    F_i(x) = ln norm_i - ln target_i at the places of the maxima, x = (ln s, theta): dx = -(dF / dx)^{-1} dF.
    """
    grid, functions = flows.grid(), (length, steepness)
    with torch.no_grad():
        lengths = [FieldLengths(flows, (k,), functions[k]) for k, _ in goals]
        places = [ascend(one, approach(one, grid))[1].to(flows.dtype) for one in lengths]

    def values(x: Tensor) -> Tensor:
        theta = None if found.theta is None else x[:, 1]
        field = FlowField(turned(velocity, Found(x[:, 0].exp(), theta)), steps=flows.steps)
        logs = []
        for place, (k, _) in zip(places, goals, strict=True):
            value = field.derivative(place[:, None], k)[:, 0]
            logs.append((torch.linalg.matrix_norm(value, 2) if k else value.norm(dim=-1)).log())
        return torch.stack(logs, dim=1).to(torch.float64)  # (Q, number of goals)

    parts = [found.amplitude.log()] if found.theta is None else [found.amplitude.log(), found.theta]
    x = torch.stack(parts, dim=1)
    free = x.clone().requires_grad_()
    with torch.enable_grad():
        columns = values(free).unbind(1)
    rows = [torch.autograd.grad(column.sum(), free, retain_graph=True)[0] for column in columns]
    residual = values(x) - torch.stack([target for _, target in goals], dim=1).log()
    slope = torch.stack(rows, dim=1)
    known = (torch.isfinite(slope).flatten(1).all(1) & torch.isfinite(x).all(1))[:, None]  # theta may be infinite
    identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    slope = torch.where(known[..., None], slope, identity)
    change = torch.linalg.solve(slope, (residual - residual.detach())[..., None])[..., 0]
    x = torch.where(known, x - change, x)
    return Found(x[:, 0].exp(), None if found.theta is None else x[:, 1])
