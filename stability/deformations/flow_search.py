r"""The search behind ``flow_control``: amplitude and tilt of a velocity whose flow has given norms.

Norms are found with the integrator at less accuracy, to ``CLOSE``.

Reference: Broyden 1965.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from stability.deformations.ascent import Climbers, Grid, stencil
from stability.deformations.base import Deformation
from stability.deformations.flow import FlowField
from stability.deformations.pointwise import FieldLengths, length, steepness
from stability.deformations.roots import bracketed_roots
from stability.deformations.spectral import Tiltable
from stability.deformations.tilt import Tilt, theta

AIM = 4e-4
"""How far below the targets the norms are sought, relative."""

CLOSE = 2e-4
"""How close, relative."""

_ITERATIONS = 15
_PLACES = 9
"""Of the scan of tilts at a fixed Jacobian norm."""

_LONGEST = 0.7
"""Longest step of Broyden's method in the logarithm of a norm."""

_STRETCH = 1.2
"""Factor between amplitudes in the search for a bracket."""

_STEEPEST = 8.0
"""Largest sup ||Dv|| that is tried."""

_COARSE, _SHARE, _STARTS, _WIDTH, _ROUNDS = 0.75, 0.2, 20, 0.4, 12
"""Of the search: nodes of its grid as a share of those for the norms; how far below the highest node starts may be, and
their number; the first width of stencils in cells; most rounds."""


class Found(NamedTuple):
    """Of the velocity: its factor, ``(Q,)``, applied after the tilt ``(Q,)``, if there is one."""

    amplitude: Tensor
    theta: Tensor | None


def turned(velocity: Deformation, found: Found) -> Deformation:
    """The velocities ``(Q,)`` tilted and scaled."""
    if found.theta is not None and isinstance(velocity, Tiltable):
        velocity = velocity.tilted(found.theta.to(velocity.dtype))
    return velocity.scaled(found.amplitude.to(velocity.dtype))


def tiltable(velocity: Deformation) -> Tiltable:
    """The velocity, if its spectrum can be tilted and its mean is 0.

    Raises:
        ValueError: otherwise.
    """
    if not isinstance(velocity, Tiltable):
        raise ValueError(
            f"two norms at once need a velocity that can be tilted, got {type(velocity).__name__}; use a FourierField, "
            "or control one norm"
        )
    if bool((velocity.mean.norm(dim=-1) > 1e-12 * velocity.norms().displacement.lower).any()):
        raise ValueError(
            "the velocity's mean must be 0 to control both norms, got another; use velocity.without_mean()"
        )
    return velocity


def one(velocity: Deformation, which: int, target: Tensor) -> Found:
    """The amplitude for one norm.

    Args:
        velocity: ``(Q,)``.
        which: 0 for sup |tau|, 1 for sup ||grad tau||.
        target: the norm, ``(Q,)``.

    Raises:
        ValueError: if it is out of reach.
    """
    name, unit = ("displacement_norm", " px") if which == 0 else ("jacobian_norm", "")
    amplitude, reached = _amplitude(velocity, which, target.log() - AIM)
    short = torch.isnan(amplitude)
    if bool(short.any()):
        first = int(short.int().argmax())
        raise ValueError(
            f"{name} must be at most {float(reached[first].exp()):.4g}{unit} for this flow's velocity, got "
            f"{float(target[first]):.4g} (request {first} of {len(target)}): points stop at the velocity's zeros; ask "
            "for less, lower the cutoff, or draw another velocity"
        )
    return Found(amplitude.exp(), None)


def _amplitude(velocity: Deformation, which: int, goal: Tensor) -> tuple[Tensor, Tensor]:
    """ln s at which a norm of the flow of s v first has the logarithm ``goal``, NaN if none was found; what was seen.

    The search starts where |tau| <= s sup |v| or ||grad tau|| <= exp(s B) - 1 leaves the norm just below.
    """
    n = velocity.norms()
    base, steep = (n.displacement, n.jacobian)[which].lower.log(), n.jacobian.lower.log()

    def residual(index: Tensor, x: Tensor) -> Tensor:
        return _seen(velocity[index].scaled(x.exp().to(velocity.dtype)), (which,))[0] - goal[index]

    low = (goal if which == 0 else goal.exp().log1p().log()) - base - 0.01
    pending = torch.arange(len(goal), device=goal.device)
    high, below, above = low.clone(), torch.zeros_like(low), torch.zeros_like(low)
    below[pending] = residual(pending, low).clamp_max(0.0)
    most = below + goal
    while len(pending):
        high[pending] += math.log(_STRETCH)
        value = residual(pending, high[pending])
        most[pending] = torch.maximum(most[pending], value + goal[pending])
        above[pending] = value
        under = pending[value < 0]
        low[under], below[under] = high[under], value[value < 0]
        pending = under[(high + steep)[under] < math.log(_STEEPEST)]
    found = bracketed_roots(residual, (low, high), (below, above), tolerance=CLOSE)
    return torch.where(above >= 0, found, torch.nan), most


def _seen(velocity: Deformation, orders: tuple[int, ...]) -> list[Tensor]:
    """ln sup |tau| (order 0) and ln sup ||grad tau|| (order 1) of the flows, found at less accuracy, ``(Q,)`` each."""
    flows = FlowField(velocity)
    draft, functions = flows.draft(), (length, steepness)
    grid = tuple(math.ceil(_COARSE * count) for count in flows.grid())
    return [_largest(FieldLengths(draft, (order,), functions[order]), grid).log() for order in orders]


def _largest(functions: FieldLengths, counts: tuple[int, ...]) -> Tensor:
    """What ``ascent.ascend`` finds, to ``CLOSE`` only: a few rounds, and more where they still gain."""
    grid, found, tops = Grid.of(functions, counts), [], []
    for start, values in functions.chunks(counts):
        tops.append(values.flatten(1).amax(1))
        floor = (1 - _SHARE) * tops[-1]
        position = (values >= floor.view(-1, *(1,) * len(counts))).nonzero()
        nodes = grid.nodes(position)
        found.append(Climbers(position[:, 0] + start, nodes, nodes, values[tuple(position.T)]))
    climbers, best = Climbers(*(torch.cat(columns) for columns in zip(*found, strict=True))), torch.cat(tops)
    unit, width = stencil(grid.spacing) * grid.spacing, _WIDTH
    for attempt in range(_ROUNDS):
        climbers = climbers.highest(_STARTS if attempt == 0 else 4).moved(functions, unit * width, newton=True)
        top = best.scatter_reduce(0, climbers.owner, climbers.values, "amax")
        rough = top > best * (1 + CLOSE / 20)
        best, width = top, width / 3
        climbers = climbers.where(rough[climbers.owner] | (attempt == 0))
        if not len(climbers.owner):
            break
    return best


class Both:
    """Both norms, for requests (a, b) of the fields ``owner``.

    Args:
        velocity: mean-free, ``(n,)``.
        owner: which velocity, ``(Q,)``.
        a: displacement norms in pixels, ``(Q,)``.
        b: Jacobian norms, ``(Q,)``.
    """

    def __init__(self, velocity: Tiltable, owner: Tensor, a: Tensor, b: Tensor) -> None:
        self._velocity, self._owner = velocity, owner
        self._goal = torch.stack([a, b], dim=1).log() - AIM  # (Q, 2)
        self._tilt = Tilt(velocity)
        self._extremes = self._tilt.extremes()
        self._found = Found(torch.full_like(a, torch.nan), torch.zeros_like(a))

    def solved(self) -> Found:
        """By Broyden's method, and along the tilts where that fails."""
        self._broyden()
        left = torch.isnan(self._found.amplitude).nonzero()[:, 0]
        if len(left):
            self._along_the_tilts(left)
        return self._found

    def _broyden(self) -> None:
        """J starts as the derivative of (ln |v|, ln B) -> (ln |v|, ln(e^B - 1)), about diag(1, 1 + B / 2)."""
        steep = self._goal[:, 1].exp().log1p()
        x = torch.stack([self._goal[:, 0], steep.log()], dim=1)
        slope = torch.diag_embed(torch.stack([torch.ones_like(steep), 1 + steep / 2], dim=1))
        active = torch.arange(len(x), device=x.device)
        last: tuple[Tensor, Tensor] | None = None
        for _ in range(_ITERATIONS):
            tilt, amplitude, at = self._velocities(active, x[active])
            value = torch.stack(_seen(self._turned(active, tilt, amplitude), (0, 1)), dim=1) - self._goal[active]
            close = value.abs().amax(1) <= CLOSE
            self._store(active[close], tilt[close], amplitude[close])
            if last is not None:
                dx, df = at - last[0], value - last[1]
                change = (df - (slope[active] @ dx[..., None])[..., 0])[..., None] * dx[:, None]
                slope[active] += change / dx.square().sum(1).clamp_min(1e-300)[:, None, None]
            step = -torch.linalg.lstsq(slope[active], value[..., None]).solution[..., 0]
            step = step * (_LONGEST / step.abs().amax(1, keepdim=True).clamp_min(_LONGEST))
            x[active] = at + step
            kept = ~close & torch.isfinite(step).all(1) & (x[active, 1] < math.log(_STEEPEST))
            active, last = active[kept], (at[kept], value[kept])
            if not len(active):
                break

    def _velocities(self, index: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """theta, amplitude and the realised (ln sup |v|, ln sup ||Dv||), as near to x as tilts allow."""
        owner = self._owner[index]
        ratio = (x[:, 1] - x[:, 0]).exp().clamp(self._extremes.lower[owner], self._extremes.upper[owner])
        tilted, tilt, _ = self._tilt.solve(owner, ratio)
        n = tilted.norms()
        far, steep = n.displacement.lower, n.jacobian.lower
        amplitude = x[:, 1].exp() / steep
        return tilt, amplitude, torch.stack([(amplitude * far).log(), x[:, 1]], dim=1)

    def _along_the_tilts(self, rows: Tensor) -> None:
        """sup |tau| at the right Jacobian norm, continuous in the tilt, between the ends of its range."""

        def amplitudes(index: Tensor, place: Tensor) -> Tensor:
            tilted = self._velocity[self._owner[rows[index]]].tilted(theta(place))
            amplitude, reached = _amplitude(tilted, 1, self._goal[rows[index], 1])
            if bool(torch.isnan(amplitude).any()):
                raise ValueError(
                    f"jacobian_norm must be at most {float(reached.min().exp()):.4g} for this flow's velocity; ask for "
                    "less or draw another velocity"
                )
            return amplitude.exp()

        def residual(index: Tensor, place: Tensor) -> Tensor:
            amplitude = amplitudes(index, place)
            (far,) = _seen(self._turned(rows[index], theta(place), amplitude), (0,))
            return far - self._goal[rows[index], 0]

        every = torch.arange(len(rows), device=rows.device)
        owner = self._owner[rows]
        low, high = self._extremes.lower_place[owner], self._extremes.upper_place[owner]
        # at a fixed Jacobian norm the displacement norm is not monotone in the tilt: a scan before the bracket
        shares = torch.linspace(0, 1, _PLACES, dtype=low.dtype, device=low.device)[:, None]
        places = torch.cat([low + shares * (high - low), torch.zeros_like(low)[None]]).sort(dim=0).values  # (S, rows)
        values = torch.stack([residual(every, place) for place in places])
        change = values[:-1] * values[1:] <= 0
        outside = ~change.any(0) & (values.abs().amin(0) > CLOSE)
        if bool(outside.any()):
            first = int(outside.int().argmax())
            a, b = (float(value) for value in (self._goal[rows[first]] + AIM).exp())
            seen = (a * values[:, first].exp()).tolist()
            raise ValueError(
                f"displacement_norm must be between about {min(seen):.4g} and {max(seen):.4g} px for this flow with "
                f"jacobian_norm {b:.4g}, got {a:.4g} (request {int(rows[first])} of {len(self._goal)}); ask for "
                "another pair or raise the cutoff"
            )
        least = torch.where(change, (places[:-1] + places[1:]).abs(), torch.inf).argmin(0)  # tilt as little as possible
        at = torch.where(change.any(0), least, values[:-1].abs().argmin(0))[None]
        ends = places.gather(0, at)[0], places.gather(0, at + 1)[0]
        place = bracketed_roots(residual, ends, (values.gather(0, at)[0], values.gather(0, at + 1)[0]), tolerance=CLOSE)
        self._store(rows, theta(place), amplitudes(every, place))

    def _turned(self, index: Tensor, tilt: Tensor, amplitude: Tensor) -> Deformation:
        return turned(self._velocity[self._owner[index]], Found(amplitude, tilt))

    def _store(self, rows: Tensor, tilt: Tensor, amplitude: Tensor) -> None:
        self._found.amplitude[rows] = amplitude
        if self._found.theta is not None:
            self._found.theta[rows] = tilt
