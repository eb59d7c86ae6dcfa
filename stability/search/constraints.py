r"""Linear constraints on fields: each is a set of equations for the coefficients of a basis."""

import abc
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.search.basis import Basis, HatBasis
from stability.search.checks import is_number

TOUCH = 1e-9
"""Pixels by which a support may reach into the border by round-off."""


class Constraint(abc.ABC):
    """tau must lie in a linear space."""

    @abc.abstractmethod
    def equations(self, basis: Basis) -> Tensor:
        """E with E c = 0 for coefficients c flattened from ``(M, d)``; ``(equations, M d)``."""


@dataclass(frozen=True)
class TranslationFree(Constraint):
    """The mean of tau is 0: what a translation does is left out."""

    def equations(self, basis: Basis) -> Tensor:
        """The mean of each component over the points of the basis, which are equispaced."""
        return _each(basis.values(basis.points).mean(0, keepdim=True), basis.d)


@dataclass(frozen=True)
class DivergenceFree(Constraint):
    """div tau = 0: areas are kept to first order in tau. For ``Fourier``; ``Spline`` has shears along its axes only."""

    def equations(self, basis: Basis) -> Tensor:
        """The trace of the gradient at the points of the basis.

        Raises:
            ValueError: for fields whose gradient jumps: the points do not see every triangle.
        """
        if isinstance(basis, HatBasis):
            raise ValueError(
                "DivergenceFree needs fields with a continuous gradient, got PiecewiseLinear; use Fourier(3)"
            )
        return basis.slopes(basis.points).flatten(1)  # (P, M, d): sum over m, i of d_i phi_m c_mi


@dataclass(frozen=True)
class FixedBorder(Constraint):
    """tau = 0 within a distance of the window's border. Only fields with local support can do so.

    Args:
        width: in pixels, >= 0.5: the border runs through the middle between the first and the last pixel.
    """

    width: float = 1.0

    def __post_init__(self) -> None:
        if not (is_number(self.width) and 0.5 <= self.width < float("inf")):
            raise ValueError(f"width must be at least 0.5 px, got {self.width!r}; use 1.0")

    def equations(self, basis: Basis) -> Tensor:
        """The coefficients of all functions whose support reaches into the border."""
        supports = basis.supports
        if supports is None:
            raise ValueError(
                f"FixedBorder needs functions with local support, got {type(basis).__name__}: an analytic field that "
                "vanishes at the border is 0; use PiecewiseLinear(16) or Spline()"
            )
        centres, reach = supports
        sides = centres.new_tensor(basis.size[::-1])
        centres = (centres + 0.5) % sides  # from the window's first border
        inside = torch.minimum(centres - reach, sides - centres - reach) >= self.width - TOUCH
        return _each(torch.eye(basis.count).to(centres)[~inside.all(1)], basis.d)


def check_constraints(constraints: object) -> tuple[Constraint, ...]:
    """The constraints, none or several; one alone counts as several.

    Raises:
        ValueError: for anything else.
    """
    several = (constraints,) if isinstance(constraints, Constraint) else constraints
    found = tuple(several) if isinstance(several, Iterable) and not isinstance(several, str) else (several,)
    for one in found:
        if not isinstance(one, Constraint):
            raise ValueError(f"constraints must be like TranslationFree(), got {one!r}; use (TranslationFree(),)")
    return found


def _each(rows: Tensor, d: int) -> Tensor:
    """Equations for scalar fields, ``(P, M)``, asked of each component, ``(P d, M d)``."""
    return torch.einsum("pm,ij->pimj", rows, torch.eye(d).to(rows)).flatten(2).flatten(0, 1)
