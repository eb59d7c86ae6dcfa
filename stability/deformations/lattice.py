"""Fields given by values on a periodic lattice: what splines and piecewise linear fields share."""

import abc
import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor

from stability.deformations.base import Deformation
from stability.deformations.checks import check_factor
from stability.deformations.family import Family, Plain
from stability.deformations.spectral import Shiftable, tilting
from stability.grid import check_size, sides

TOUCHING = 1e-9
"""Pixels by which a cell may reach over the border: round-off."""
SILENT = 1e-11
"""Share of the largest amplitude below which a frequency counts as absent: round-off of the Fourier transform."""


class LatticeField(Family, Shiftable, abc.ABC):
    """tau = sum_k v_k B(u - u_k), linear in the values v_k at the nodes u_k = (c h_x, r h_y), sum_k B(u - u_k) = 1.

    Args:
        values: v in pixels, ``(*batch_shape, *lattice, d)``; the lattice has (rows, columns) or (nodes,), its cells the
            sides h = sides / lattice.
        size: ``(N,)`` or ``(H, W)``.

    Raises:
        ValueError: if the shape of the values does not fit, or the lattice has fewer than 4 nodes on a side.
    """

    AXES: ClassVar = {"values": 3}
    LINEAR: ClassVar = frozenset(AXES)
    REACH: ClassVar[int]
    """Cells on either side of u_k beyond which B(u - u_k) is 0."""

    def __init__(self, values: Tensor, size: Sequence[int]) -> None:
        size = check_size(size)
        d = len(size)
        if values.ndim < d + 1 or values.shape[-1] != d or not values.is_floating_point():
            raise ValueError(
                f"values must be floating point (*batch_shape, *lattice, {d}) for size {size}, got "
                f"{tuple(values.shape)} of {values.dtype}; put the coordinates (x, y) on the last axis"
            )
        lattice = tuple(values.shape[-d - 1 : -1])
        if min(lattice) < 4:
            raise ValueError(f"the lattice must have at least 4 nodes on each side, got {lattice}; use (8, 8)")
        flat = values.reshape(*values.shape[: -d - 1], *(1,) * (2 - d), *lattice, d)
        self._keep(size, {"values": flat})

    def state(self) -> tuple[dict[str, Tensor], dict[str, Plain]]:
        """The values without the axis that signals do not have, and the size."""
        return {"values": self.values}, {"size": self.size}

    @property
    def values(self) -> Tensor:
        """v in pixels, ``(*batch_shape, *lattice, d)``."""
        value = self._tensors["values"]
        return value.squeeze(-3) if self.d == 1 else value

    @property
    def lattice(self) -> tuple[int, ...]:
        """(rows, columns) or (nodes,)."""
        return tuple(self.values.shape[-self.d - 1 : -1])

    @property
    def cells(self) -> Tensor:
        """Sides (h_x, h_y) of a cell in pixels, ``(d,)``."""
        return sides(self.size, device=self.device) / sides(self.lattice, device=self.device)

    @property
    def sides_of_cells(self) -> tuple[float, ...]:
        """The same as numbers."""
        return tuple(side / n for side, n in zip(self.size[::-1], self.lattice[::-1], strict=True))

    @property
    def mean(self) -> Tensor:
        """The mean of the values, which is that of tau, ``(*batch_shape, d)`` in pixels."""
        return self.values.mean(self._lattice_axes)

    @property
    def vanishing_border(self) -> float | None:
        """Distance in pixels from the window's border to the first cell in which some field is not 0; None: < 0."""
        used = (self._flat_values() != 0).any(-1).any(0)
        if not bool(used.any()):
            return min(self.size) / 2
        nearest = math.inf
        for axis, (side, cell) in enumerate(zip(self.size[::-1], self.sides_of_cells, strict=True)):
            others = tuple(k for k in range(self.d) if k != self.d - 1 - axis)
            along = used.any(others[0]) if others else used
            centre = (along.nonzero()[:, 0] * cell + 0.5) % side  # from the border half a pixel before the first one
            nearest = min(nearest, float(torch.minimum(centre, side - centre).min()) - self.REACH * cell)
        return max(nearest, 0.0) if nearest >= -TOUCHING else None

    def without_mean(self) -> Self:
        """tau - mean; the norms of the derivatives are those of tau."""
        return self.shifted(-self.mean)

    def shifted(self, vector: Tensor) -> Self:
        """tau + vector, a tensor ``(*batch_shape, d)`` in pixels; the norms of the derivatives are those of tau."""
        moved = vector.reshape(*vector.shape[:-1], *(1,) * 2, self.d)
        result = self._with({"values": self._tensors["values"] + moved})
        result._norms = dataclasses.replace(self.norms(), displacement=result.suprema().displacement)
        return result

    def refined(self, factor: int) -> Self:
        """The same lattice of values, ``factor`` times as far apart and as large."""
        check_factor(factor)
        result = self._with({"values": self._tensors["values"] * factor}, self.norms().refined(factor))
        result._size = tuple(factor * side for side in self.size)
        return result

    def tilted(self, theta: Tensor) -> Self:
        """The discrete Fourier coefficients of the values times exp(theta |omega|^2 / R^2), without the mean."""
        axes = self._lattice_axes
        spectrum = torch.fft.fftn(self.values.to(torch.float64), dim=axes)
        squared = self._squared_frequencies()  # lattice
        amplitude = spectrum.abs().sum(-1)
        amplitude = torch.where(squared > 0, amplitude, 0.0).flatten(-self.d)  # (*batch_shape, L)
        present = amplitude > SILENT * amplitude.amax(-1, keepdim=True)
        weight = tilting((squared / squared.max()).flatten(), present, theta)
        weight = weight.unflatten(-1, self.lattice)[..., None]
        values = torch.fft.ifftn(spectrum * weight, dim=axes).real.to(self.dtype)
        return self._with({"values": values.unsqueeze(-3) if self.d == 1 else values})

    def plus(self, other: Deformation) -> Deformation | None:
        """The sum of the values of two fields of one family on one lattice; None otherwise."""
        if not isinstance(other, LatticeField) or type(other) is not type(self) or other.lattice != self.lattice:
            return None
        return self._with({"values": self._tensors["values"] + other._tensors["values"]})

    def nodes(self) -> Tensor:
        """u_k in pixels, ``(*lattice, d)``."""
        return lattice_nodes(self.size, self.lattice, device=self.device)

    @property
    def _lattice_axes(self) -> tuple[int, ...]:
        return tuple(range(-self.d - 1, -1))

    def _flat_values(self) -> Tensor:
        """v, ``(n, *lattice, d)``."""
        return self.values.reshape(-1, *self.lattice, self.d)

    def _squared_frequencies(self) -> Tensor:
        """|omega|^2 of the lattice's discrete frequencies in 1 / pixel^2, shape ``lattice``."""
        parts = [
            (2 * math.pi * torch.fft.fftfreq(n, dtype=torch.float64, device=self.device) * n / side).square()
            for n, side in zip(self.lattice, self.size, strict=True)
        ]
        return parts[0] if self.d == 1 else parts[0][:, None] + parts[1]


def lattice_nodes(size: tuple[int, ...], lattice: tuple[int, ...], *, device: torch.device | None = None) -> Tensor:
    """u_k = (c h_x, r h_y) in pixels, ``(*lattice, d)``."""
    axes = [
        torch.arange(n, dtype=torch.float64, device=device) * (side / n) for n, side in zip(lattice, size, strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1)


def check_lattice(lattice: int | Sequence[int], size: tuple[int, ...]) -> tuple[int, ...]:
    """Nodes per axis in the order of ``size``; one number n: n on the shorter side, as many per pixel on the longer.

    Raises:
        ValueError: unless every side has at least 4 nodes and as many axes as the size.
    """
    if isinstance(lattice, int) and not isinstance(lattice, bool):
        return check_lattice([round(lattice * side / min(size)) for side in size], size)
    nodes = tuple(lattice) if isinstance(lattice, Sequence) else ()
    if len(nodes) != len(size) or not all(isinstance(n, int) and n >= 4 for n in nodes):
        raise ValueError(
            f"lattice must hold {len(size)} integers >= 4 (or be one, for the shorter side), got {lattice!r}; "
            f"use {(8,) * len(size)}"
        )
    return nodes
