"""Cubic B-spline fields on a periodic lattice of control points; norms exact by Bernstein-Bezier convex hulls."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Self, final

import torch
from torch import Tensor

from stability.deformations import lengths
from stability.deformations.bernstein import BezierSupremum
from stability.deformations.bezier import Patches, patches
from stability.deformations.checks import check_generator
from stability.deformations.lattice import LatticeField, check_lattice
from stability.deformations.modes import ROOT_MEAN_SQUARE
from stability.deformations.norms import Interval, Norms
from stability.deformations.spline_oscillation import oscillation
from stability.grid import check_size


@final
class SplineField(LatticeField):
    """tau(u) = sum_k v_k B_3(x / h_x - k_x) B_3(y / h_y - k_y), B_3 the centred cubic B-spline, twice differentiable.

    The constructor is that of ``LatticeField``. Third derivatives are bounded and jump across the lattice's lines.

    >>> rng = torch.Generator().manual_seed(0)
    >>> field = SplineField.sample((32, 32), lattice=8, batch_shape=(4,), generator=rng)
    >>> field
    SplineField(size=(32, 32), batch_shape=(4,))
    >>> n = field.norms().jacobian
    >>> bool((n.upper <= n.lower * (1 + 1e-6)).all())
    True
    """

    REACH = 2

    @classmethod
    def sample(
        cls,
        size: Sequence[int],
        *,
        lattice: int | Sequence[int] = 8,
        batch_shape: Sequence[int] = (),
        generator: torch.Generator,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> Self:
        """Independent Gaussian control points without their mean: E |v_k|^2 = (shorter side / 32)^2.

        The draws depend on the lattice only, so ``sample((2 H, 2 W))`` with an equal generator is the same field at
        twice the resolution: tau_2(2 u) = 2 tau_1(u).

        Args:
            size: ``(N,)`` or ``(H, W)``.
            lattice: control points per axis in the order of ``size``, or on the shorter side; at least 4.
            batch_shape: shape of the batch of fields.
            generator: where the random numbers come from; drawn on its device in float64.
            dtype: floating-point type of the field.
            device: where the field is put, by default the generator's device.

        Raises:
            ValueError: if the lattice is too small.
            TypeError: if there is no generator.
        """
        size = check_size(size)
        check_generator(generator)
        shape = (*batch_shape, *check_lattice(lattice, size), len(size))
        draw = torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float64)
        draw = draw * (ROOT_MEAN_SQUARE * min(size) / math.sqrt(len(size)))
        field = cls(draw.to(dtype=dtype, device=device if device is not None else generator.device), size)
        return field.without_mean()

    def derivative(self, points: Tensor, order: int) -> Tensor:
        """Sums over the 4^d control points around each point."""
        place = points / self.cells.to(self.dtype)  # in cells
        first = place.detach().floor()
        values = self._flat_values()
        n, d = len(values), self.d
        offsets = torch.arange(-1, 3, device=self.device)
        flat = torch.zeros_like(first[..., :1], dtype=torch.long)  # (m, P, 4^d), place in the flattened lattice
        for axis in range(d):  # rows slowest: axis 0 of the lattice is y for images
            nodes = (first[..., d - 1 - axis, None].long() + offsets) % self.lattice[axis]  # (m, P, 4)
            flat = (flat[..., :, None] * self.lattice[axis] + nodes[..., None, :]).flatten(2)
        rows = torch.arange(n, device=self.device)[:, None, None]
        local = values.flatten(1, d)[rows, flat]  # (n, P, 4^d, d)
        basis = [[_basis(place[..., k] - first[..., k], order_k) for order_k in range(order + 1)] for k in range(d)]
        columns = []
        for direction in (
            torch.cartesian_prod(*[torch.arange(d)] * order).reshape(-1, order).tolist() if order else [[]]
        ):
            weight = torch.ones_like(place[..., :1])
            for axis in range(d):
                coordinate = d - 1 - axis
                count = direction.count(coordinate)
                part = basis[coordinate][count] / self.cells[coordinate].to(self.dtype) ** count
                weight = (weight[..., :, None] * part[..., None, :]).flatten(2)
            columns.append((local * weight[..., None]).sum(2))
        return torch.stack(columns, dim=-1).reshape(*columns[0].shape, *(d,) * order)

    def on_grid(self, oversample: int = 1) -> Tensor:
        """tau on the grid of (1 / oversample) pixels, ``(*batch_shape, *(oversample * size), d)``; a table per axis."""
        tables = []
        for side, nodes in zip(self.size, self.lattice, strict=True):
            place = torch.arange(side * oversample, dtype=torch.float64, device=self.device) * (
                nodes / side / oversample
            )
            first = place.floor()
            table = torch.zeros(len(place), nodes, dtype=torch.float64, device=self.device)
            index = (first[:, None].long() + torch.arange(-1, 3, device=self.device)) % nodes
            tables.append(table.scatter_add(1, index, _basis(place - first, 0)).to(self.dtype))
        if self.d == 1:
            return tables[0] @ self.values
        lines = torch.einsum("yr,...rcd->...ycd", tables[0], self.values)
        return torch.einsum("xc,...ycd->...yxd", tables[1], lines)

    def suprema(self) -> Norms:
        """Attained values and convex hulls of control points, cut in halves until they agree (see ``bernstein``)."""
        return Norms(
            self._interval(lambda: self._farthest),
            self._interval(lambda: self._steepest),
            self._interval(functools.cache(lambda: self._supremum(2, lengths.bilinear))),
            self._interval(functools.cache(lambda: self._supremum(1, lengths.trace))),
            self._oscillation(),
        )

    def derivative_bounds(self) -> list[Tensor]:
        """The certified norms, sup |tau'''| from third differences of the control points, inf beyond."""
        n = self.norms()
        known = [value.upper.reshape(-1) for value in (n.displacement, n.jacobian, n.hessian)]
        return [*known, self._third(), torch.full_like(known[0], torch.inf)]

    def places(self) -> tuple[Tensor, Tensor]:
        """Points where |tau| and ||grad tau||_2 are largest, ``(*batch_shape, d)`` each, in pixels."""
        shape = (*self.batch_shape, self.d)
        return self._farthest.argument.reshape(shape), self._steepest.argument.reshape(shape)

    @functools.cached_property
    def _farthest(self) -> BezierSupremum:
        return self._supremum(0, lengths.euclidean)

    @functools.cached_property
    def _steepest(self) -> BezierSupremum:
        return self._supremum(1, lengths.spectral)

    def _supremum(self, order: int, length: lengths.Length) -> BezierSupremum:
        return BezierSupremum(self._patches(order), length)

    def _patches(self, order: int) -> Patches:
        return patches(self._flat_values().detach().to(torch.float64), self.cells, order)

    def _oscillation(self) -> Interval:
        once, shape = functools.cache(lambda: oscillation(self._patches(0))), self.batch_shape
        return Interval(lambda: once().lower.reshape(shape), lambda: once().upper.reshape(shape))

    def _interval(self, supremum: Callable[[], BezierSupremum]) -> Interval:
        shape = self.batch_shape
        return Interval(lambda: supremum().lower.reshape(shape), lambda: supremum().upper.reshape(shape))

    def _third(self) -> Tensor:
        """sup |d_e^3 tau| <= (sum_k binom(3, k) M_k^2)^{1/2}, M_k the largest third difference k times along y.

        A derivative of a spline is the spline of the differences of its control points, hence at most the largest.
        """
        values = self._flat_values().detach().to(torch.float64)
        total = torch.zeros(len(values), dtype=torch.float64, device=self.device)
        for k in range(4 if self.d == 2 else 1):
            difference = values
            for axis, coordinate, count in ((1, self.d - 1, k if self.d == 2 else 3), (2, 0, 3 - k))[: self.d]:
                for _ in range(count):
                    difference = (difference.roll(-1, axis) - difference) / self.cells[coordinate]
            total += math.comb(3, k) * difference.norm(dim=-1).flatten(1).amax(1).square()
        return total.sqrt()


def _basis(t: Tensor, order: int) -> Tensor:
    """The four cubic B-splines that do not vanish at t in [0, 1), or their derivatives; ``(..., 4)``."""
    s = 1 - t
    if order == 0:
        parts = (s**3 / 6, (4 - 6 * t**2 + 3 * t**3) / 6, (4 - 6 * s**2 + 3 * s**3) / 6, t**3 / 6)
    elif order == 1:
        parts = (-(s**2) / 2, -2 * t + 1.5 * t**2, 2 * s - 1.5 * s**2, t**2 / 2)
    else:
        parts = (s, -2 + 3 * t, -2 + 3 * s, t)
    return torch.stack(parts, dim=-1)
