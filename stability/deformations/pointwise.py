r"""Suprema over the continuum of functions of tau, grad tau and the second derivative, for any field.

Seen from below by search, certified by branch and bound (see ``enclosure``) with the field's own bounds A_k of
|d_e^k tau|: a symmetric form is largest on the diagonal, so along unit-speed lines

    |tau|'' <= A_2,    ||grad tau||'' <= A_3,    ||second derivative||'' <= A_4,    |div tau|'' <= d A_3

for the scalars whose supremum each length is, and first derivatives one order less.

Reference: Banach 1938 (symmetric forms).
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from stability.deformations import lengths
from stability.deformations.ascent import Grid
from stability.deformations.base import Deformation
from stability.deformations.domains import Window
from stability.deformations.enclosure import Box, Enclosure, Losses
from stability.deformations.norms import Interval, Norms
from stability.grid import sides

NODES_PER_WAVE = 12
"""Nodes of the first grid per axis and 2 pi / R, R = A_(k + 1) / A_k the field's own frequency."""

NODES_PER_PIXEL = 2
"""Where the field's derivatives are not bounded."""

_FEWEST = 8
_MOST = {1: 2**14, 2: 2**8}
"""Nodes of the first grid per axis; the certificate refines where it must."""

_CHUNK = 2**19
"""Numbers in the largest tensor: the memory does not depend on the batch."""


def length(tau: Tensor) -> Tensor:
    """|tau|_2 of ``(..., d)``."""
    return lengths.euclidean(tau.unbind(-1))


def steepness(jacobian: Tensor) -> Tensor:
    """||J||_2 of ``(..., d, d)``."""
    return lengths.spectral(jacobian.flatten(-2).unbind(-1))


def bending(hessian: Tensor) -> Tensor:
    """sup over unit e of |B(e, e)|, B of ``(..., d, d, d)``."""
    if hessian.shape[-1] == 2:
        hessian = hessian.flatten(-2)[..., [0, 1, 3]]  # the mixed derivative once
    return lengths.bilinear(hessian.flatten(-2 if hessian.shape[-1] > 1 else -3).unbind(-1))


def expansion(jacobian: Tensor) -> Tensor:
    """|tr J| of ``(..., d, d)``."""
    return lengths.trace(jacobian.flatten(-2).unbind(-1))


class FieldLengths:
    """u -> function(D^k tau_i(u) for k in orders): the ``Lengths`` of an ``Enclosure``.

    Args:
        field: any fields; evaluated in double precision.
        orders: of the derivatives, each 0, 1 or 2.
        function: of as many tensors ``(n, P, d)``, ``(n, P, d, d)`` or ``(n, P, d, d, d)``, to values ``(n, P)``.
    """

    def __init__(self, field: Deformation, orders: Sequence[int], function: Callable[..., Tensor]) -> None:
        self._field = field.flat().to(dtype=torch.float64)
        self._orders = tuple(orders)
        self._function = function
        self._sides = sides(field.size, device=field.device)
        self._box = box(field)

    @property
    def sides(self) -> Tensor:
        """Lengths of the domain along (x, y) in pixels, ``(d,)``."""
        return self._sides

    def __len__(self) -> int:
        return len(self._field.mean)

    def origin(self, spacing: Tensor) -> Tensor:
        """0 on the torus; half a cell inside a window, so that the cells are its tiles."""
        return torch.zeros_like(spacing) if self._box is None else self._box.low + spacing / 2

    def chunks(self, counts: tuple[int, ...]) -> Iterator[tuple[int, Tensor]]:
        """First index and values ``(chunk, *counts)``, a few fields at a time."""
        for start, (values,) in self.table(counts, lambda *derivatives: (self._function(*derivatives),)):
            yield start, values.unflatten(1, counts)

    def table(
        self, counts: tuple[int, ...], function: Callable[..., Sequence[Tensor]]
    ) -> Iterator[tuple[int, list[Tensor]]]:
        """First index and several functions of the derivatives, ``(chunk, number of nodes)`` each."""
        grid = Grid.of(self, counts)
        axes = [
            torch.arange(count, dtype=torch.float64, device=grid.origin.device) * step
            for count, step in zip(counts, grid.spacing.flip(0), strict=True)
        ]
        nodes = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1).flatten(0, -2) + grid.origin
        step = max(1, self._points // len(nodes))
        for start in range(0, len(self), step):
            field = self._field[start : start + step]
            values = [
                function(*(field.derivative(at[None], order) for order in self._orders))
                for at in nodes.split(self._points)
            ]
            yield start, [torch.cat(column, dim=1) for column in zip(*values, strict=True)]

    def around(self, index: Tensor, points: Tensor, offsets: Tensor) -> Tensor:
        """Field ``index[a]`` at ``points[a] + offsets[b]``, ``(P, S)``; points outside a window at its border."""
        (values,) = self.each(
            index, points, offsets, self._orders, lambda *derivatives: (self._function(*derivatives),)
        )
        return values

    def each(
        self,
        index: Tensor,
        points: Tensor,
        offsets: Tensor,
        orders: Sequence[int],
        function: Callable[..., Sequence[Tensor]],
    ) -> list[Tensor]:
        """Several functions of derivatives of field ``index[a]`` at ``points[a] + offsets[b]``, ``(P, S)`` each.

        Fields with about as many points are evaluated together, each at all its own points.
        """
        at = points[:, None] + offsets
        at = at if self._box is None else self._box.clamped(at)
        number = torch.bincount(index, minlength=len(self))
        order = index.argsort(stable=True)
        first = number.cumsum(0) - number
        column = torch.arange(len(index), device=index.device) - first[index[order]]
        size = number.to(torch.float64).log2().ceil()  # -inf for fields without a point
        if len(self) * int(number.max()) <= 2 * len(index):  # all in one table
            size = torch.zeros_like(size)
        results: list[Tensor] = []
        for level in size[number > 0].unique():
            owners = (size == level).nonzero()[:, 0]
            row = torch.full_like(number, -1).index_put((owners,), torch.arange(len(owners), device=index.device))
            chosen = (row[index[order]] >= 0).nonzero()[:, 0]
            cells, place = order[chosen], (row[index[order[chosen]]], column[chosen])
            table = at[cells[:1]].expand(len(owners), -1, -1)[:, None].repeat(1, int(number[owners].max()), 1, 1)
            table[place] = at[cells]  # the rest of a row: any point of the domain
            values = self._together(owners, table.flatten(1, 2), orders, function)
            results = results or [value.new_empty(at.shape[:-1]) for value in values]
            for result, value in zip(results, values, strict=True):
                result[cells] = value.unflatten(1, table.shape[1:3])[place]
        return results or list(function(*(at.new_empty((*at.shape[:2], *(at.shape[-1],) * (k + 1))) for k in orders)))

    def _together(
        self, owners: Tensor, points: Tensor, orders: Sequence[int], function: Callable[..., Sequence[Tensor]]
    ) -> list[Tensor]:
        """The functions for the given fields at their own points ``(m, P, d)``, in pieces that fit into the memory."""
        rows = max(1, self._points // points.shape[1])
        parts = []
        for some, at in zip(owners.split(rows), points.split(rows), strict=True):
            field = self._field if len(some) == len(self) else self._field[some]
            pieces = at.split(self._points, dim=1)
            values = [function(*(field.derivative(piece, order) for order in orders)) for piece in pieces]
            parts.append([torch.cat(column, dim=1) for column in zip(*values, strict=True)])
        return [torch.cat(column) for column in zip(*parts, strict=True)]

    @property
    def _points(self) -> int:
        return _CHUNK // len(self._sides) ** (max(self._orders) + 4)


def box(field: Deformation) -> Box | None:
    """The window of a field; None for a torus."""
    domain = field.domain
    if not isinstance(domain, Window):
        return None
    low = torch.full((field.d,), -float(domain.edge), dtype=torch.float64, device=field.device)
    return Box(low, low + sides(field.size, device=field.device))


def counts(field: Deformation, bounds: Sequence[Tensor], order: int, factor: float = 1.0) -> tuple[int, ...]:
    """Nodes of the first grid for functions of D^order tau, in the order of ``size``: from R = A_(k + 1) / A_k.

    Args:
        field: for its size.
        bounds: its A_0, ..., A_4.
        order: k in {0, 1, 2}; the larger R of k - 1 and k counts, of 0 and 1 for k = 0.
        factor: for functions that vary faster.
    """
    waves = [
        (bounds[k + 1] / bounds[k])[torch.isfinite(bounds[k + 1]) & torch.isfinite(bounds[k]) & (bounds[k] > 0)]
        for k in range(max(order - 1, 0), max(order, 1) + 1)
    ]
    known = torch.cat(waves)
    density = NODES_PER_WAVE * float(known.max()) / (2 * math.pi) if len(known) else float(NODES_PER_PIXEL)
    most = _MOST[field.d]
    return tuple(min(max(_FEWEST, math.ceil(factor * density * side - 1e-9)), most) for side in field.size)


class Searched:
    """Norms of any field by search and, from its ``derivative_bounds``, by branch and bound; computed when read.

    Args:
        field: any fields. One that does not bound its derivatives (``derivative_bounds`` not overridden) is seen only:
            its upper values are inf.
    """

    def __init__(self, field: Deformation) -> None:
        self._field = field

    def norms(self) -> Norms:
        """What ``Deformation.suprema`` returns."""
        from stability.deformations.oscillation import oscillation  # is itself made of what this module holds

        return Norms(
            interval(self._field, lambda: self._farthest),
            interval(self._field, lambda: self._steepest),
            interval(self._field, lambda: self._bent),
            interval(self._field, lambda: self._expanding),
            oscillation(self._field),
        )

    def places(self) -> tuple[Tensor, Tensor]:
        """Points where |tau| and ||grad tau||_2 are largest, ``(*batch_shape, d)`` each, in pixels."""
        shape = (*self._field.batch_shape, self._field.d)
        return self._farthest.argument.reshape(shape), self._steepest.argument.reshape(shape)

    @functools.cached_property
    def _bounds(self) -> list[Tensor]:
        return derivative_bounds(self._field)

    @functools.cached_property
    def _farthest(self) -> Enclosure:
        return self._enclosure(0, length)

    @functools.cached_property
    def _steepest(self) -> Enclosure:
        return self._enclosure(1, steepness)

    @functools.cached_property
    def _bent(self) -> Enclosure:
        return self._enclosure(2, bending)

    @functools.cached_property
    def _expanding(self) -> Enclosure:
        def scale(seen: Tensor) -> Tensor:  # div tau = 0 must not ask for a certificate relative to 0
            return torch.maximum(seen, self._steepest.lower)

        return self._enclosure(1, expansion, float(self._field.d), scale)

    def _enclosure(
        self,
        order: int,
        function: Callable[[Tensor], Tensor],
        factor: float = 1.0,
        scale: Callable[[Tensor], Tensor] = torch.abs,
    ) -> Enclosure:
        field, bounds = self._field, self._bounds
        value, slope = factor * bounds[order], factor * bounds[order + 1]
        losses = Losses(curvature=factor * bounds[order + 2], slope=slope)
        functions = FieldLengths(field, (order,), function)
        return Enclosure(functions, counts(field, bounds, order), lambda: losses, lambda: value, scale, box(field))


def searched(field: Deformation) -> Norms:
    """``Searched(field).norms()``; a family that also needs ``places()`` keeps the ``Searched`` itself."""
    return Searched(field).norms()


def interval(field: Deformation, enclosure: Callable[[], Enclosure]) -> Interval:
    """Both ends with the field's batch shape; ``enclosure`` is called once, when an end is read."""
    once, shape = functools.cache(enclosure), field.batch_shape
    return Interval(lambda: once().lower.reshape(shape), lambda: once().upper.reshape(shape))


def derivative_bounds(field: Deformation) -> list[Tensor]:
    """A_0, ..., A_4 in double precision, ``(n,)`` each; inf for a field that does not say.

    The default of ``derivative_bounds`` reads the norms, which may come from here.
    """
    if type(field).derivative_bounds is Deformation.derivative_bounds:
        return [torch.full((field.batch_shape.numel(),), torch.inf, dtype=torch.float64, device=field.device)] * 5
    return [bound.detach().to(torch.float64) for bound in field.derivative_bounds()]
