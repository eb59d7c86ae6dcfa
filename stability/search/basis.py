r"""``Basis``: tau = sum_m c_m phi_m with scalar functions phi_m of the torus, looked at on a grid of points."""

import abc
from collections.abc import Iterator

import torch
from torch import Tensor

from stability.deformations.base import Deformation
from stability.deformations.bspline import SplineField
from stability.deformations.fourier import FourierField
from stability.deformations.lattice import lattice_nodes
from stability.deformations.modes import disc
from stability.deformations.piecewise_linear import PiecewiseLinearField

_AT_A_TIME = 16


class Basis(abc.ABC):
    """phi_1, ..., phi_M, and the fields that they make.

    Args:
        size: ``(N,)`` or ``(H, W)``.
        points: equispaced, at which constraints are looked at, ``(P, d)`` in pixels.
        count: M.
    """

    def __init__(self, size: tuple[int, ...], points: Tensor, count: int) -> None:
        self.size, self.points, self.count = size, points, count

    @property
    def d(self) -> int:
        """1 or 2."""
        return len(self.size)

    @abc.abstractmethod
    def field(self, coefficients: Tensor) -> Deformation:
        """The fields with coefficients c, ``(n, M, d)`` in pixels."""

    @property
    def supports(self) -> tuple[Tensor, Tensor] | None:
        """(centres, half widths) in pixels of boxes outside which the functions vanish, ``(M, d)`` and ``(d,)``; None
        where they vanish nowhere."""
        return None

    def values(self, points: Tensor) -> Tensor:
        """phi_m(u), ``(P, M)``."""
        return torch.cat([part.displacement(points)[..., 0].T for part in self._scalars()], 1)

    def slopes(self, points: Tensor) -> Tensor:
        """grad phi_m(u), ``(P, M, d)``."""
        return torch.cat([part.jacobian(points)[..., 0, :].transpose(0, 1) for part in self._scalars()], 1)

    def gradients(self) -> Tensor:
        """grad phi_m where the norm of a gradient is looked at, ``(P', M, d)``."""
        return self.slopes(self.points)

    def _scalars(self) -> Iterator[Deformation]:
        """phi_m as the first component of fields, a few at a time."""
        for part in torch.eye(self.count, dtype=torch.float64, device=self.points.device).split(_AT_A_TIME):
            zeros = torch.zeros_like(part)
            yield self.field(torch.stack([part, *[zeros] * (self.d - 1)], -1))


class FourierBasis(Basis):
    """1, cos(omega_k u), sin(omega_k u) for 0 < |omega_k| <= 2 pi cutoff / min(size)."""

    def __init__(self, size: tuple[int, ...], cutoff: float, device: torch.device) -> None:
        self._modes = disc(size, cutoff).to(device)
        grid = [max(8, round(8 * cutoff * side / min(size))) for side in size]
        super().__init__(size, _equispaced(size, grid, device), 2 * len(self._modes) + 1)

    def field(self, coefficients: Tensor) -> FourierField:
        """The trigonometric polynomials."""
        mean, cosine, sine = coefficients.split([1, len(self._modes), len(self._modes)], dim=1)
        return FourierField(self._modes, cosine, sine, size=self.size, mean=mean[:, 0])


class SplineBasis(Basis):
    """Cubic B-splines at the nodes of a lattice."""

    def __init__(self, size: tuple[int, ...], lattice: tuple[int, ...], device: torch.device) -> None:
        self._lattice = lattice
        super().__init__(size, _equispaced(size, [3 * n for n in lattice], device), torch.Size(lattice).numel())

    @property
    def supports(self) -> tuple[Tensor, Tensor]:
        """Two cells to every side of the node."""
        return _around(self.size, self._lattice, 2.0, self.points.device)

    def field(self, coefficients: Tensor) -> SplineField:
        """The splines."""
        return SplineField(coefficients.unflatten(1, self._lattice), self.size)


class HatBasis(Basis):
    """Functions linear on triangles, 1 at one node of a lattice."""

    def __init__(self, size: tuple[int, ...], lattice: tuple[int, ...], device: torch.device) -> None:
        self._lattice = lattice
        super().__init__(size, _equispaced(size, list(lattice), device), torch.Size(lattice).numel())

    @property
    def supports(self) -> tuple[Tensor, Tensor]:
        """One cell to every side of the node."""
        return _around(self.size, self._lattice, 1.0, self.points.device)

    def field(self, coefficients: Tensor) -> PiecewiseLinearField:
        """The interpolants."""
        return PiecewiseLinearField(coefficients.unflatten(1, self._lattice), self.size)

    def gradients(self) -> Tensor:
        """On every triangle."""
        parts = [part.gradients() for part in self._scalars() if isinstance(part, PiecewiseLinearField)]
        return torch.cat([part[..., 0, :].transpose(0, 1) for part in parts], 1)


def _equispaced(size: tuple[int, ...], counts: list[int], device: torch.device) -> Tensor:
    return lattice_nodes(size, tuple(counts), device=device).flatten(0, -2)


def _around(
    size: tuple[int, ...], lattice: tuple[int, ...], cells: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The nodes of a lattice, and so many of its cells."""
    nodes = _equispaced(size, list(lattice), device)
    spacings = [cells * side / n for side, n in zip(size[::-1], lattice[::-1], strict=True)]
    return nodes, nodes.new_tensor(spacings)
