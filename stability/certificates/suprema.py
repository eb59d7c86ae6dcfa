r"""The suprema of one batch of fields that certificates are made of, each certified over the continuum, once.

M = I - J, J = grad tau, D = det M with singular values s_i, phi = id - tau, w = (1 / D) o phi^(-1). The search and the
branch and bound are those of ``deformations.distortion``; no value exceeds what the norms of tau alone allow.
"""

import math
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from stability.bounds.constants import strain_ratio, volume_change
from stability.bounds.field import FieldNorms
from stability.certificates.paths import path_integral
from stability.deformations.base import Deformation
from stability.deformations.distortion import DistortionSuprema
from stability.deformations.domains import Window
from stability.deformations.norms import Distortion, Interval


class FieldSuprema:
    """sup over u of the functions named below, ``(F,)`` each; infinity where a field is not covered.

    Args:
        deformation: fields of the torus, or of a window at whose border they vanish; others are not covered.
    """

    def __init__(self, deformation: Deformation) -> None:
        self.field = deformation.flat().to(dtype=torch.float64)
        self.d = deformation.d
        self._directions: dict[tuple[int, ...], Tensor] = {}
        self._norms = deformation.norms()  # kept by the field, for everybody who holds it

    @cached_property
    def covered(self) -> Tensor:
        """Which fields the theorems cover, ``(F,)``: b < 1 on a torus."""
        domain = self.field.domain
        torus = not isinstance(domain, Window) or domain.vanishing
        return (self._flat(self._norms.jacobian) < 1) & torus

    @cached_property
    def norms(self) -> list[FieldNorms | None]:
        """What closed forms know of each field; None where it is not covered."""
        ends = [
            self._flat(interval).tolist()
            for interval in (
                self._norms.displacement,
                self._norms.jacobian,
                self._norms.hessian,
                self._norms.divergence,
            )
        ]
        mean = self.field.mean.norm(dim=-1).tolist()
        rest, d = self.residual_displacement.tolist(), self.d
        told = zip(*ends, mean, rest, self.field.volume_preserving.tolist(), self.covered.tolist(), strict=True)
        return [
            FieldNorms(
                a, min(b, div) if d == 1 else b, h, mean=c, residual=r, divergence=div, volume_preserving=rigid, d=d
            )
            if fits
            else None
            for a, b, h, div, c, r, rigid, fits in told
        ]

    @cached_property
    def displacement(self) -> Tensor:
        """|tau| in pixels."""
        return self._flat(self._norms.displacement)

    @cached_property
    def residual_displacement(self) -> Tensor:
        """|tau - mean| in pixels."""
        if not self.shifted:
            return self.displacement
        return self._flat(self.field.without_mean().norms().displacement)

    @property
    def shifted(self) -> bool:
        """Whether some field has a constant part."""
        return bool(self.field.mean.count_nonzero())

    @cached_property
    def warp(self) -> Tensor:
        """D^(-1/2): the norm of L."""
        return self._least(self._distortion.contraction, lambda n: n.warp)

    @cached_property
    def jacobian(self) -> Tensor:
        """||J||_2 D^(-1/2)."""
        return self._least(self._distortion.weighted_jacobian, lambda n: n.jacobian * n.warp)

    @cached_property
    def symmetric_jacobian(self) -> Tensor:
        """||(J + J^T) / 2||_F D^(-1/2)."""
        return self._least(self._distortion.weighted_strain, lambda n: math.sqrt(n.d) * n.jacobian * n.warp)

    @cached_property
    def volume(self) -> Tensor:
        """|1 - D| D^(-1/2)."""
        return self._least(self._distortion.weighted_volume, lambda n: volume_change(*n.density))

    @cached_property
    def anisotropy(self) -> Tensor:
        """max_i |s_i - D / s_i| D^(-1/2): (s_1 - s_2) D^(-1/2), for d = 1 |1 - D| D^(-1/2)."""
        if self.d == 1:
            return self.volume
        return self._least(self._distortion.weighted_anisotropy, lambda n: strain_ratio(n.jacobian))

    @cached_property
    def strain(self) -> Tensor:
        """max_i |s_i - 1 / s_i| D^(-1/2)."""
        return self._least(
            self._distortion.weighted_stretch,
            lambda n: (
                n.jacobian / (1 - n.jacobian) * (2 - n.jacobian) * n.warp
                if not n.volume_preserving
                else n.jacobian * (2 + n.jacobian) / (1 + n.jacobian) * (n.d - 1)
            ),
        )

    @cached_property
    def bend(self) -> Tensor:
        """|M^(-T) grad ln D| D^(-1/2) in 1 / pixel."""
        return self._least(
            self._distortion.volume_gradient,
            lambda n: (
                n.d * n.hessian / (1 - n.jacobian) ** 2 * n.warp if n.jacobian and not n.volume_preserving else 0.0
            ),
        )

    @cached_property
    def density_gradient(self) -> Tensor:
        """|grad w| = |M^(-T) grad ln D| / D in 1 / pixel."""
        bent = self._times(self.bend, self.warp)
        if not bool(bent.any()):
            return bent
        return torch.minimum(self._where(self._flat(self._distortion.density_gradient)), bent)

    @cached_property
    def determinant(self) -> tuple[Tensor, Tensor]:
        """Certified ends of D, ``(F,)`` each: not above inf D, not below sup D; (0, inf) where not covered."""
        known = [n.density if n else (0.0, math.inf) for n in self.norms]
        low, high = (
            torch.tensor(end, dtype=torch.float64, device=self.field.device) for end in zip(*known, strict=True)
        )
        if bool((low < high).any()):
            low = torch.maximum(self._distortion.determinant_infimum.lower.detach().reshape(-1), low)
            high = torch.minimum(self._flat(self._distortion.determinant_supremum), high)
        return torch.where(self.covered, low, 0.0), torch.where(self.covered, high, torch.inf)

    @cached_property
    def density(self) -> Tensor:
        """w, that is 1 / D."""
        return self.warp.square()

    @cached_property
    def density_oscillation(self) -> Tensor:
        """sup w - inf w."""
        return self._where(self.density - 1 / self.determinant[1])

    def directional(self, offset: tuple[int, ...]) -> Tensor:
        """|J e| D^(-1/2) for the unit vector e along an offset with integer coordinates, not 0."""
        divisor = math.gcd(*offset)
        key = max(tuple(c // divisor for c in offset), tuple(-c // divisor for c in offset))
        if key not in self._directions:
            vector = torch.tensor(key, dtype=torch.float64, device=self.field.device)
            found = self._along.directional(vector / vector.norm())
            self._directions[key] = torch.minimum(self._where(self._flat(found)), self.jacobian)
        return self._directions[key]

    @cached_property
    def path(self) -> Tensor:
        """Upper value of int_0^1 sup_u |tau| det(I - r J)^(-1/2) dr in pixels."""
        return self._where(path_integral(self.field, self.displacement, self._flat(self._norms.jacobian)))

    @cached_property
    def residual_path(self) -> Tensor:
        """The same for tau - mean."""
        if not self.shifted:
            return self.path
        rest = self.field.without_mean()
        return self._where(path_integral(rest, self.residual_displacement, self._flat(self._norms.jacobian)))

    @cached_property
    def _along(self) -> DistortionSuprema:
        """For single directions, which share the determinant."""
        return DistortionSuprema(self.field)

    @cached_property
    def _distortion(self) -> Distortion:
        found = self._norms.distortion
        if found is None:
            raise ValueError("deformation must know its distortion, got none; read field.norms()")
        return found

    def _flat(self, interval: Interval) -> Tensor:
        return interval.upper.detach().to(torch.float64).reshape(-1)

    def _where(self, value: Tensor) -> Tensor:
        """Infinity where the field is not covered."""
        return torch.where(self.covered, value, torch.inf)

    def _least(self, interval: Interval, closed_form: Callable[[FieldNorms], float]) -> Tensor:
        """The certified value or that of the closed form, whichever is less."""
        known = [closed_form(n) if n else math.inf for n in self.norms]
        most = torch.tensor(known, dtype=torch.float64, device=self.field.device)
        return self._where(torch.minimum(self._flat(interval), most) if bool(most.any()) else most)

    @staticmethod
    def _times(one: Tensor, other: Tensor) -> Tensor:
        """0 times infinity is 0: no bend, no gradient."""
        return torch.where(one == 0, 0.0, one * other)
