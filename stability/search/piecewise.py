"""``PiecewiseLinearSpace``: fields that are linear on triangles, whose two sup norms are finite maxima."""

from typing import Self, cast

import torch
from torch import Tensor

from stability.deformations.base import Deformation
from stability.deformations.lattice import lattice_nodes
from stability.deformations.linear_step import Splitting, linear_step
from stability.deformations.piecewise_linear import PiecewiseLinearField
from stability.deformations.triangulation import interpolate, largest_displacement, largest_gradient
from stability.search.space import Space, Step

MARGIN = 1 - 1e-9
"""Distance kept from the norms."""

SMOOTH = (1.0, 2.0, 3.0)
"""Cycles per shorter side of random directions, in turn: smooth ones lead further where the norms are large."""

SHORTEST = 3
"""Pixels of a side along which one cycle is below the Nyquist frequency."""


class PiecewiseLinearSpace(Space):
    """Node values on a lattice, ``(n, *lattice, d)`` in pixels.

    Args:
        size: ``(N,)`` or ``(H, W)``.
        lattice: nodes per axis.
        displacement_norm: a, ``(n,)`` in pixels.
        jacobian_norm: b, ``(n,)``.
    """

    def __init__(
        self, size: tuple[int, ...], lattice: tuple[int, ...], displacement_norm: Tensor, jacobian_norm: Tensor
    ) -> None:
        self.size, self.lattice = size, lattice
        self.a, self.b = displacement_norm, jacobian_norm
        self.cells = tuple(side / n for side, n in zip(size[::-1], lattice[::-1], strict=True))
        self._nodes = lattice_nodes(size, lattice, device=displacement_norm.device).flatten(0, -2)

    def displacement(self, parameters: Tensor, points: Tensor) -> Tensor:
        """The values themselves at the nodes, otherwise interpolation."""
        if points.shape == self._nodes.shape and torch.equal(points, self._nodes):
            return parameters.flatten(1, -2)
        return interpolate(parameters, self.cells, points[None])

    def step(self, direction: Tensor, start: object | None, iterations: int) -> Step:
        """By the alternating direction method of multipliers."""
        found = linear_step(
            direction, self.cells, self.a, self.b, iterations=iterations, start=cast(Splitting | None, start)
        )
        return Step(found.values, found.splitting)

    def directions(self, generator: torch.Generator) -> Tensor:
        """Band-limited Gaussian fields at the nodes; independent values if no wave fits the image."""
        shape = (len(self.a), *self.lattice, len(self.size))
        if min(self.size) < SHORTEST:
            draw = torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float64)
            return draw.to(self.a.device)
        drawn = self.a.new_empty(shape)
        for k, cutoff in enumerate(SMOOTH[: len(drawn)]):
            rows = drawn[k :: len(SMOOTH)]
            fields = PiecewiseLinearField.sample(
                self.size,
                cutoff=min(cutoff, (min(self.size) - 1) / 2),
                lattice=self.lattice,
                batch_shape=(len(rows),),
                generator=generator,
            )
            rows.copy_(fields.values)
        return drawn

    def field(self, parameters: Tensor) -> PiecewiseLinearField:
        """The interpolants."""
        return PiecewiseLinearField(parameters, self.size)

    def enlarged(self, parameters: Tensor) -> Tensor:
        """By the exact norms."""
        share = self._share(parameters)
        return parameters * torch.where(share > 0, MARGIN / share, 1.0)

    def inside(self, field: Deformation) -> Tensor:
        """The values at the nodes, smaller where a norm asks for it."""
        values = field.displacement(self._nodes.to(field.dtype)).to(torch.float64).unflatten(1, self.lattice).detach()
        return values * (MARGIN / self._share(values).clamp_min(MARGIN))

    def _share(self, values: Tensor) -> Tensor:
        """max(sup |tau| / a, sup ||grad tau|| / b), ``(n, 1, ..., 1)``."""
        share = torch.maximum(largest_displacement(values) / self.a, largest_gradient(values, self.cells) / self.b)
        return share.reshape(-1, *[1] * (values.ndim - 1))

    def state_of(self, state: object, rows: Tensor) -> Splitting:
        """Every tensor at some fields."""
        s = cast(Splitting, state)
        penalties = s.displacement_penalty[rows], s.gradient_penalty[rows]
        return Splitting(s.displacement[:, rows], s.gradient[:, :, rows], *penalties)

    def __getitem__(self, rows: Tensor) -> Self:
        return type(self)(self.size, self.lattice, self.a[rows], self.b[rows])

    def scaled(self, factor: float) -> Self:
        """The lattice is the same."""
        return type(self)(self.size, self.lattice, factor * self.a, factor * self.b)
