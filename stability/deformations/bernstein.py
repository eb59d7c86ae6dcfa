r"""Suprema over the continuum of lengths of piecewise polynomials, from both sides, by their convex hulls.

A polynomial is a mean of its control points p_k (``bezier``), so a convex function of it obeys

    length(p(s)) <= max_k length(p_k)    on the whole patch.

When a patch is halved the excess of the right side over the supremum falls by four. Patches whose right side is above
a value already attained by more than a tolerance, and only they, are halved until none is left.

Reference: Lane & Riesenfeld 1981 (bounds by subdivision).
"""

import itertools
import math
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from stability.deformations.bezier import Patches as Patches
from stability.deformations.bezier import basis, halving
from stability.deformations.bezier import determinant_patches as determinant_patches
from stability.deformations.bezier import patches as patches
from stability.deformations.lengths import Length

TOLERANCE = 1e-9
"""Patches are halved until their convex hull exceeds the value seen by less than this share."""

ROUND_OFF = 1e-11
"""Relative allowance for round-off in every upper bound."""

_COARSE = 5e-3
"""Excess of the convex hull, as a share of what the length varies by, below which the local search starts."""

_BUDGET = 4096
"""Most patches that one field may have, besides four a cell; above it the field keeps its last valid upper value."""

_LEVELS = 50
"""Most halvings of an axis: cells then are as small as the spacing of numbers in double precision."""

_WIDTHS = (0.25, 0.06, 0.015, 0.004)
"""Stencil widths of the local search, in sides of its patch."""

_FAR = 1e3
"""A step, in stencil widths, that leads out of every patch."""


def signed(components: Sequence[Tensor]) -> Tensor:
    """The only component itself: ``BezierSupremum(p, signed)`` is sup p, and ``BezierSupremum(-p, signed)`` -inf p."""
    (component,) = components
    return component


class _Pieces(NamedTuple):
    control: Tensor  # (C, K, P), K = (m + 1)^d
    owner: Tensor  # (P,) which field
    corner: Tensor  # (d, P) in cells, axes in the lattice's order
    side: Tensor  # (d, P) in cells
    hull: Tensor  # (P,) the largest length of a control point

    def where(self, keep: Tensor) -> "_Pieces":
        return self.at(keep.nonzero()[:, 0])

    def at(self, index: Tensor) -> "_Pieces":
        return _Pieces(*(part.index_select(-1, index) for part in self))


class _Seen(NamedTuple):
    value: Tensor  # (n,) the largest length seen
    point: Tensor  # (d, n) where, in cells, axes in the lattice's order

    def better(self, owner: Tensor, value: Tensor, point: Tensor) -> "_Seen":
        """With the values ``(P,)`` at points ``(d, P)`` of the fields ``owner``; of equal ones the first counts."""
        best = self.value.scatter_reduce(0, owner, value, "amax")
        index = ((value == best[owner]) & (best > self.value)[owner]).nonzero()[:, 0]
        first = owner.new_full((len(best),), len(owner)).scatter_reduce(0, owner[index], index, "amin")
        improved = (first < len(owner)).nonzero()[:, 0]
        return _Seen(best, self.point.index_copy(1, improved, point[:, first[improved]]))


class _State(NamedTuple):
    pieces: _Pieces  # which may hold a value above what is seen
    seen: _Seen
    dropped: Tensor  # (n,) the largest hull of the other pieces
    scale: Tensor  # (n,) the largest |length| seen


class BezierSupremum:
    """sup over the torus of length(p_i(u)) for n piecewise polynomial fields, computed when asked for.

    Args:
        patches: the control points of p_i, see ``bezier.patches``.
        length: a convex function of the components, see ``lengths`` and ``signed``.
        tolerance: share of the largest |length| seen that ``upper`` may exceed ``lower`` by. Where too many patches are
            within reach (a length that is constant along a curve), the excess is larger.

    >>> from stability.deformations import bezier, lengths
    >>> c = torch.randn(2, 8, 8, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> tau = bezier.patches(c, torch.tensor([4.0, 4.0]), order=0)
    >>> supremum = BezierSupremum(tau, lengths.euclidean)
    >>> bool((supremum.upper <= supremum.lower * (1 + 1e-8)).all())
    True
    """

    def __init__(self, patches: Patches, length: Length, tolerance: float = TOLERANCE) -> None:
        self._patches = patches
        self._length = length
        self._tolerance = tolerance

    @property
    def lower(self) -> Tensor:
        """The largest value found, ``(n,)``: attained at ``argument``, so never above the supremum."""
        return self._searched.seen.value

    @property
    def argument(self) -> Tensor:
        """A point at which ``lower`` is attained, ``(n, d)`` in pixels."""
        lattice = self._patches.control.new_tensor(self._patches.lattice)
        return (self._searched.seen.point.T % lattice).flip(-1) * self._patches.cells

    @cached_property
    def upper(self) -> Tensor:
        """A certified value, ``(n,)``: never below the supremum."""
        with torch.no_grad():
            pieces, seen, dropped, scale = self._halved(self._searched, until=torch.zeros_like(self.lower))
            value = torch.maximum(seen.value, dropped.scatter_reduce(0, pieces.owner, pieces.hull, "amax"))
            return value + ROUND_OFF * torch.maximum(value.abs(), scale)

    @cached_property
    def _searched(self) -> _State:
        """After halvings that leave the neighbourhoods of the highest peaks, and a local search in these."""
        with torch.no_grad():
            start = self._start()
            owner, hull, seen = start.pieces.owner, start.pieces.hull, start.seen.value
            spread = seen.scatter_reduce(0, owner, hull, "amax") + (-seen).scatter_reduce(0, owner, -hull, "amax")
            state = self._halved(start, until=_COARSE * spread)  # of what varies: a constant may prevail
            return state._replace(seen=self._search(state.pieces, state.seen))

    def _start(self) -> _State:
        """The patches of the lattice."""
        patches, n, d = self._patches, len(self._patches), self._patches.d
        control = patches.control.detach().reshape(len(patches.control), (patches.degree + 1) ** d, -1)
        axes = [torch.arange(count, dtype=control.dtype, device=control.device) for count in patches.lattice]
        corner = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1).repeat(1, n)
        owner = torch.arange(n, device=control.device).repeat_interleave(math.prod(patches.lattice))
        pieces = _Pieces(control, owner, corner, torch.ones_like(corner), self._hull(control))
        nothing = control.new_full((n,), -math.inf)
        seen = self._look(pieces, _Seen(nothing, control.new_zeros(d, n)))
        return _State(pieces, seen, nothing, seen.value.abs())

    def _hull(self, control: Tensor) -> Tensor:
        return self._length(control.unbind(0)).amax(0)

    def _halved(self, state: _State, until: Tensor) -> _State:
        """Halves until no hull exceeds what is seen by more than ``until``, and drops what is within the tolerance."""
        pieces, seen, dropped, scale = state
        budget = _BUDGET + 4 * math.prod(self._patches.lattice)
        for _ in range(_LEVELS):
            scale = torch.maximum(scale, seen.value.abs())
            excess = pieces.hull - seen.value[pieces.owner]
            keep = excess > (self._tolerance * scale)[pieces.owner]
            keep &= (torch.bincount(pieces.owner[keep], minlength=len(scale)) <= budget)[pieces.owner]
            rest = pieces.hull.masked_fill(keep, -math.inf)
            dropped = dropped.scatter_reduce(0, pieces.owner, rest, "amax")
            wide = keep & (excess > until[pieces.owner])
            pieces = pieces.where(keep)
            if not bool(wide.any()):
                break
            pieces = self._halves(pieces)
            seen = self._look(pieces, seen)
        return _State(pieces, seen, dropped, scale)

    @cached_property
    def _nodes(self) -> tuple[Tensor, Tensor]:
        """{0, 1/2}^d, ``(d, S)``, and the basis there, ``(S, K)``: with the neighbours' all of {0, 1/2, 1}^d."""
        nodes = self._patches.control.new_tensor(list(itertools.product((0.0, 0.5), repeat=self._patches.d))).T
        return nodes, basis(nodes[..., None], self._patches.degree)[..., 0].T

    def _look(self, pieces: _Pieces, seen: _Seen) -> _Seen:
        nodes, values = self._nodes
        value, which = self._length((values @ pieces.control).unbind(0)).max(0)
        return seen.better(pieces.owner, value, pieces.corner + pieces.side * nodes[:, which])

    def _halves(self, pieces: _Pieces) -> _Pieces:
        """Every piece halved along the axes along which its control net bends most: they matter for its hull."""
        d = self._patches.d
        net = pieces.control.unflatten(1, (self._patches.degree + 1,) * d)
        bends = torch.stack([net.diff(n=2, dim=1 + axis).abs().flatten(0, -2).amax(0) for axis in range(d)])
        much = bends >= bends.amax(0) / 4
        parts = []
        for axes in itertools.product((False, True), repeat=d):
            chosen = (much == much.new_tensor(axes)[:, None]).all(0).nonzero()[:, 0]
            if len(chosen):
                parts.append(self._halves_along(pieces.at(chosen), axes))
        control, owner, corner, side = (torch.cat(columns, dim=-1) for columns in zip(*parts, strict=True))
        return _Pieces(control, owner, corner, side, self._hull(control))

    def _halves_along(self, pieces: _Pieces, axes: tuple[bool, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        matrices = halving(self._patches.degree, axes).to(pieces.control)  # (S, K, K)
        control = (matrices.flatten(0, 1) @ pieces.control).unflatten(1, matrices.shape[:2])  # (C, S, K, P)
        side = pieces.side / (1 + pieces.side.new_tensor(axes)[:, None])
        shifts = side.new_tensor(list(itertools.product(*((0, 1) if halved else (0,) for halved in axes)))).T  # (d, S)
        corner = pieces.corner[:, None] + shifts[..., None] * side[:, None]
        count = len(matrices)
        return control.transpose(1, 2).flatten(2), pieces.owner.repeat(count), corner.flatten(1), side.repeat(1, count)

    def _search(self, pieces: _Pieces, seen: _Seen) -> _Seen:
        """Newton's iteration with differences in every piece, kept inside: that of the maximiser holds it, too."""
        unit = pieces.side.new_tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=self._patches.d))).T[..., None]
        at = where = torch.full_like(pieces.corner, 0.5)
        best = torch.full_like(pieces.hull, -math.inf)
        for width in _WIDTHS:
            centre = at.clamp(width, 1 - width)
            nodes = centre[:, None] + width * unit  # (d, 3^d, P)
            values = self._length(self._at(pieces, nodes).unbind(0))
            value, which = values.max(0)
            point = nodes.gather(1, which.expand(len(nodes), 1, -1))[:, 0]
            better = value > best
            best, where = torch.where(better, value, best), torch.where(better, point, where)
            at = (centre + width * _newton(values, -centre / width, (1 - centre) / width)).clamp(0, 1)
        value = self._length(self._at(pieces, at[:, None]).unbind(0))[0]
        where = torch.where(value > best, at, where)
        return seen.better(pieces.owner, torch.maximum(value, best), pieces.corner + pieces.side * where)

    def _at(self, pieces: _Pieces, nodes: Tensor) -> Tensor:
        """The components at nodes ``(d, S, P)`` of every piece, ``(C, S, P)``."""
        return (pieces.control[:, :, None] * basis(nodes, self._patches.degree)).sum(1)


def _newton(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Where the quadratic through the stencil ``(3^d, P)`` is largest in a box, ``(d, P)``, all in stencil widths."""
    if len(low) == 1:
        left, centre, right = values
        return _vertex((right - left) / 2, left - 2 * centre + right, low[0], high[0])[None]
    grid = values.unflatten(0, (3, 3))
    g_1, g_2, twice = (grid[2, 1] - grid[0, 1]) / 2, (grid[1, 2] - grid[1, 0]) / 2, 2 * grid[1, 1]
    h_11, h_22 = grid[2, 1] - twice + grid[0, 1], grid[1, 2] - twice + grid[1, 0]
    h_12 = (grid[2, 2] - grid[0, 2] - grid[2, 0] + grid[0, 0]) / 4
    determinant = h_11 * h_22 - h_12 * h_12
    # its maximiser on the plane if there is one; one axis after the other then corrects where the box cuts it off
    inside = ((h_12 * g_1 - h_11 * g_2) / determinant).clamp(low[1], high[1])
    second = torch.where((determinant > 0) & (h_11 < 0), inside, _vertex(g_2, h_22, low[1], high[1]))
    first = _vertex(g_1 + h_12 * second, h_11, low[0], high[0])
    return torch.stack([first, _vertex(g_2 + h_12 * first, h_22, low[1], high[1])])


def _vertex(slope: Tensor, bend: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Where slope t + bend t^2 / 2 is largest on [low, high]; where it is not concave: uphill from 0."""
    return torch.where(bend < 0, -slope / bend, _FAR * slope.sign()).clamp(low, high)
