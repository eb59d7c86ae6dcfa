r"""Families of fields among which is searched: Fourier series, B-splines, and what constraints leave of them."""

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stability.deformations.lattice import check_lattice
from stability.deformations.modes import check_cutoff, disc
from stability.search.basis import Basis, FourierBasis, HatBasis, SplineBasis
from stability.search.constraints import Constraint, DivergenceFree, check_constraints
from stability.search.piecewise import PiecewiseLinearSpace
from stability.search.space import Space
from stability.search.subspace import LARGEST, RANK, SubspaceSpace

LEAST = 4
"""Nodes per axis, at least."""


class Fields(abc.ABC):
    """A family of fields."""

    @abc.abstractmethod
    def space(
        self, size: tuple[int, ...], displacement_norm: Tensor, jacobian_norm: Tensor, constraints: Sequence[Constraint]
    ) -> Space:
        """The sets C(a, b) of n fields of the family that fulfil the constraints.

        Raises:
            ValueError: if nothing but 0 does, or too much.
        """


@dataclass(frozen=True)
class PiecewiseLinear(Fields):
    """Fields that are linear on two triangles a cell: both norms are exact, and many triangles can meet them at once.

    Mollifying raises neither norm, so that their supremum is that over all smooth fields, up to the lattice.

    Args:
        lattice: nodes per axis in the order of the size, or on the shorter side; None: one per pixel. With constraints
            at most about 700 nodes.
    """

    lattice: int | Sequence[int] | None = None

    def space(
        self,
        size: tuple[int, ...],
        displacement_norm: Tensor,
        jacobian_norm: Tensor,
        constraints: Sequence[Constraint] = (),
    ) -> Space:
        """Without constraints the fast linear step."""
        if self.lattice is None and min(size) < LEAST:
            raise ValueError(
                f"images must have at least {LEAST} pixels along each side for PiecewiseLinear(), whose nodes are "
                f"pixels, got {size}; use fields=PiecewiseLinear({LEAST}) or Translations()"
            )
        lattice = check_lattice(size if self.lattice is None else self.lattice, size)
        if not constraints:
            return PiecewiseLinearSpace(size, lattice, displacement_norm, jacobian_norm)
        _check_dimensions(math.prod(lattice) * len(size))
        return _left(HatBasis(size, lattice, displacement_norm.device), displacement_norm, jacobian_norm, constraints)


class Spanned(Fields):
    """Fields spanned by a basis of which every operation is a dense matrix."""

    @abc.abstractmethod
    def basis(self, size: tuple[int, ...], device: torch.device) -> Basis:
        """The basis for one size."""

    def space(
        self,
        size: tuple[int, ...],
        displacement_norm: Tensor,
        jacobian_norm: Tensor,
        constraints: Sequence[Constraint] = (),
    ) -> Space:
        """Norms are looked at on a grid, then certified."""
        return _left(self.basis(size, displacement_norm.device), displacement_norm, jacobian_norm, constraints)


@dataclass(frozen=True)
class Spline(Spanned):
    """Cubic B-splines on a lattice of control points, twice differentiable; norms certified by convex hulls.

    Args:
        lattice: control points per axis in the order of the size, or on the shorter side.
    """

    lattice: int | Sequence[int] = 8

    def basis(self, size: tuple[int, ...], device: torch.device) -> Basis:
        """Norms are looked at three times as densely as the lattice."""
        lattice = check_lattice(self.lattice, size)
        _check_dimensions(math.prod(lattice) * len(size))
        return SplineBasis(size, lattice, device)


@dataclass(frozen=True)
class Fourier(Spanned):
    """Band-limited fields with a constant; norms certified by Bernstein's inequality.

    Args:
        cutoff: radius of the disc of frequencies in cycles per shorter side.
    """

    cutoff: float = 3

    def basis(self, size: tuple[int, ...], device: torch.device) -> Basis:
        """Norms are looked at 8 times per shortest wavelength."""
        cutoff = check_cutoff(self.cutoff, size)
        _check_dimensions(len(size) * (2 * len(disc(size, cutoff)) + 1))
        return FourierBasis(size, cutoff, device)


def _left(basis: Basis, a: Tensor, b: Tensor, constraints: Sequence[Constraint]) -> SubspaceSpace:
    """What the constraints leave."""
    constraints = check_constraints(constraints)
    total = basis.count * basis.d
    null = torch.eye(total, dtype=torch.float64, device=a.device)
    if constraints:
        equations = torch.cat([one.equations(basis) for one in constraints])
        null = _null_space(equations)
    if not null.shape[1]:
        divergence_free = any(isinstance(one, DivergenceFree) for one in constraints)
        raise ValueError(
            f"fields must be able to fulfil the constraints, got {', '.join(map(repr, constraints))} for {total} "
            f"dimensions, which leave none; use {'Fourier(2)' if divergence_free else 'a finer lattice, or less'}"
        )
    return SubspaceSpace(basis, null, a, b)


def _check_dimensions(total: int) -> None:
    """Before anything is made of dense matrices."""
    if total > LARGEST:
        raise ValueError(
            f"a family with dense matrices must have at most {LARGEST} dimensions, got {total}; use a coarser lattice, "
            "for example PiecewiseLinear(lattice=16), or a lower cutoff"
        )


def _null_space(equations: Tensor) -> Tensor:
    """Orthonormal columns that span {c : E c = 0}."""
    triangle = torch.linalg.qr(equations, mode="r").R  # the same singular values: those of E^T E would be squared
    # numpy's LAPACK: torch's does not converge where hundreds of singular values are equal
    _, values, vectors = np.linalg.svd(triangle.cpu().numpy())
    rank = int((values > RANK * max(values.max(), 1e-300)).sum())
    return torch.from_numpy(vectors[rank:].T.copy()).to(equations)
