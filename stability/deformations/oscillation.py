r"""osc(tau) = sup |tau(u) - tau(v)|, the diameter of the set of all displacements, for any field.

With the width w(e) = sup <tau, e> - inf <tau, e>, osc = sup over unit e of w(e), attained along tau(u) - tau(v), and
w(e_j) >= osc cos(angle between e and e_j). So if no e is further than delta from one of +-e_1, ..., +-e_m,

    max_j w(e_j) <= osc <= max_j w(e_j) / cos(delta),    delta = pi / (2 m) for equidistant directions of the plane.

Each sup <tau, +-e_j> is certified by branch and bound (``enclosure``): along lines <tau, e> bends by A_2 at most.
"""

import functools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from stability.deformations.ascent import Climbers, Grid, approach, ascend, stencil
from stability.deformations.base import Deformation
from stability.deformations.enclosure import ROUND_OFF, TOLERANCE, Losses, certified
from stability.deformations.norms import Interval
from stability.deformations.pointwise import FieldLengths, box, counts, derivative_bounds, length

DIRECTIONS = 64
"""m in the plane: 1 / cos(delta) - 1 = 3e-4."""

_PAIRS = 4
"""Pairs of points per field from which the search for the farthest one starts."""

_WIDTHS = (0.4, 0.4, 0.2, 0.1, 0.03, 0.01, 0.01, 2e-3, 2e-3)
"""Of the stencils of that search, in cells of the grid."""

_CHUNK = 2**22
"""Numbers in the largest tensor."""


def oscillation(field: Deformation) -> Interval:
    """sup |tau(u) - tau(v)| in pixels, computed when it is read.

    Args:
        field: any fields; upper is at most 2 sup |tau|, and inf where neither that nor ``derivative_bounds`` is known.

    Returns:
        Interval with ends of shape ``batch_shape``; ``lower`` is attained by a pair of points.
    """
    found = functools.cache(lambda: _Diameter(field))
    return Interval(lambda: found().lower, lambda: found().upper)


class _Extents:
    """F functions <tau_i, e>: the ``Lengths`` of the search and of the certificate.

    Args:
        fields: of tau.
        owner: i, ``(F,)``; on grids as many for each field, one field after the other.
        directions: e, ``(F, d)``.
    """

    def __init__(self, fields: FieldLengths, owner: Tensor, directions: Tensor) -> None:
        self._fields = fields
        self.owner = owner
        self.directions = directions

    @property
    def sides(self) -> Tensor:
        """Lengths of the domain along (x, y) in pixels, ``(d,)``."""
        return self._fields.sides

    def __len__(self) -> int:
        return len(self.owner)

    def origin(self, spacing: Tensor) -> Tensor:
        """That of the fields."""
        return self._fields.origin(spacing)

    def chunks(self, counts: tuple[int, ...]) -> Iterator[tuple[int, Tensor]]:
        """First index and values ``(chunk, *counts)``."""
        each = len(self) // max(1, len(self._fields))
        e = self.directions.unflatten(0, (-1, each))
        step = max(1, _CHUNK // (each * math.prod(counts)))
        for start, components in self._fields.table(counts, lambda tau: tau.unbind(-1)):
            tau = torch.stack(components, dim=1)  # (chunk, d, nodes)
            for first, part in enumerate(tau.split(step)):
                begin = start + first * step
                yield begin * each, (e[begin : begin + len(part)] @ part).flatten(0, 1).unflatten(1, counts)

    def around(self, index: Tensor, points: Tensor, offsets: Tensor) -> Tensor:
        """Function ``index[a]`` at ``points[a] + offsets[b]``, ``(P, S)``."""
        tau = self._fields.each(self.owner[index], points, offsets, (0,), lambda tau: tau.unbind(-1))
        return (torch.stack(tau, dim=-1) * self.directions[index, None]).sum(-1)

    def displacements(self, points: Tensor) -> Tensor:
        """Every function's tau at its own point ``(F, d)``."""
        here = torch.zeros_like(points[:1])
        return torch.stack(self._fields.each(self.owner, points, here, (0,), lambda tau: tau.unbind(-1)), -1)[:, 0]


class _Diameter:
    """The work of ``oscillation``."""

    def __init__(self, field: Deformation) -> None:
        self._field = field
        self._bounds = derivative_bounds(field)
        self._counts = counts(field, self._bounds, 0)
        self._half = DIRECTIONS if field.d == 2 else 1
        self._fields = FieldLengths(field, (0,), length)
        angle = torch.arange(self._half, dtype=torch.float64, device=field.device) * (math.pi / self._half)
        e = torch.stack([angle.cos(), angle.sin()][: field.d], dim=-1)
        n = len(self._bounds[0])
        owner = torch.arange(n, device=field.device).repeat_interleave(2 * self._half)
        self._extents = _Extents(self._fields, owner, torch.cat([e, -e]).repeat(n, 1))

    @property
    def lower(self) -> Tensor:
        """|tau(u) - tau(v)| of the best pair found, ``batch_shape``."""
        return self._found[1].reshape(self._field.batch_shape)

    @functools.cached_property
    def upper(self) -> Tensor:
        """From the certified widths, ``batch_shape``."""
        with torch.no_grad():
            upper = self._certified()
        if not bool(torch.isfinite(upper).all()):
            upper = torch.minimum(upper, 2 * self._field.norms().displacement.upper.reshape(-1))
        return upper.reshape(self._field.batch_shape)

    @functools.cached_property
    def _found(self) -> tuple[Tensor, Tensor]:
        """Extents seen in the directions +-e_j, ``(n, 2 m)``, and the largest distance seen, ``(n,)``."""
        with torch.no_grad():
            return self._search()

    def _search(self) -> tuple[Tensor, Tensor]:
        m, grid = self._half, Grid.of(self._extents, self._counts)
        unit = stencil(grid.spacing) * grid.spacing
        # all extents, a few steps: how wide the set is in the different directions
        tops = [values.flatten(1).max(1) for _, values in self._extents.chunks(self._counts)]
        values, place = torch.cat([top.values for top in tops]), torch.cat([top.indices for top in tops])
        every = torch.arange(len(self._extents), device=values.device)
        nodes = grid.nodes(torch.stack([every, *torch.unravel_index(place, self._counts)], dim=1))
        climbers = Climbers(every, nodes, nodes, values)
        for width in _WIDTHS[1:4]:
            climbers = climbers.moved(self._extents, unit * width, newton=True)
        values, nodes = climbers.values.unflatten(0, (-1, 2 * m)), climbers.points.unflatten(0, (-1, 2 * m))
        # the widest of them further, each in the direction of its own pair
        wide = (values[:, :m] + values[:, m:]).topk(min(_PAIRS, m), dim=1).indices
        ends = torch.stack([wide, wide + m], dim=-1).flatten(1)
        points = nodes.gather(1, ends[..., None].expand(-1, -1, nodes.shape[-1]))  # (n, 2 K, d): pairs of ends
        distance, e, _ = self._climbed(points, unit)
        best = distance.max(1)
        # in the best direction from all maxima of the grid, and on from there
        e = e.gather(1, best.indices[:, None, None].expand(-1, 1, e.shape[-1]))
        pairs = self._pairs(e)
        _, points = ascend(pairs, approach(pairs, self._counts))
        distance, _, tau = self._climbed(points.unflatten(0, (-1, 2)), unit)
        # what the pair attains in all directions
        directions = self._extents.directions.unflatten(0, (-1, 2 * m))
        values = torch.maximum(values, (directions @ tau.mT).amax(-1))
        return values, torch.maximum(best.values, distance[:, 0])

    def _pairs(self, e: Tensor) -> _Extents:
        """In directions ``(n, K, d)`` and their negatives, alternately."""
        directions = torch.stack([e, -e], dim=2).flatten(0, 2)
        owner = torch.arange(len(e), device=e.device).repeat_interleave(2 * e.shape[1])
        return _Extents(self._fields, owner, directions)

    def _climbed(self, points: Tensor, unit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Largest distances ``(n, K)``, directions ``(n, K, d)``, displacements, from pairs ``(n, 2 K, d)`` on."""
        e = torch.zeros_like(points[:, 0::2])
        best, direction, farthest = e.new_zeros(e.shape[:2]), e, points
        every = torch.arange(2 * e.shape[0] * e.shape[1], device=e.device)
        for width in (*_WIDTHS, 0.0):
            tau = self._pairs(e).displacements(points.flatten(0, 1)).view_as(points)
            apart = tau[:, 0::2] - tau[:, 1::2]
            distance = apart.norm(dim=-1)
            e = apart / distance.clamp_min(torch.finfo(distance.dtype).tiny)[..., None]
            better = distance >= best
            best, direction = torch.maximum(distance, best), torch.where(better[..., None], e, direction)
            farthest = torch.where(better.repeat_interleave(2, 1)[..., None], tau, farthest)
            if width:
                flat, values = points.flatten(0, 1), (tau * torch.stack([e, -e], dim=2).flatten(1, 2)).sum(-1)
                climbers = Climbers(every, flat, flat, values.flatten())
                points = climbers.moved(self._pairs(e), unit * width, newton=True).centres.view_as(points)
        return best, direction, farthest

    def _certified(self) -> Tensor:
        m, (extents, seen) = self._half, self._found
        cosine = math.cos(math.pi / (2 * m)) if m > 1 else 1.0
        slack = TOLERANCE * seen / 2
        # a direction in which the set is narrower than osc cos(delta) does not matter
        spare = (seen[:, None] * cosine - extents[:, :m] - extents[:, m:]).clamp_min(0.0) / 2
        enough = (extents + spare.repeat(1, 2)).flatten()
        enough = torch.where(spare.repeat(1, 2).flatten() > 0, enough, -torch.inf)

        def every(value: Tensor) -> Tensor:
            return value.repeat_interleave(2 * m)

        losses = Losses(curvature=every(self._bounds[2]), slope=every(self._bounds[1]))
        lower = extents.flatten()
        allowance = ROUND_OFF * torch.maximum(lower.abs(), every(seen))
        upper = certified(
            self._extents, self._counts, losses, lower, enough, allowance, box(self._field), slack=every(slack)
        )
        upper = (torch.maximum(upper, lower) + allowance).unflatten(0, (-1, 2 * m))
        return torch.maximum((upper[:, :m] + upper[:, m:]).amax(1) / cosine, seen)
