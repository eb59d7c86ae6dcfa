r"""Inverse warps: phi_sigma = phi_tau^{-1}.

At v let u be the point with u - tau(u) = v, and M = I - grad tau(u). Then sigma(v) = v - u = -tau(u) and

    grad sigma(v) = I - M^{-1},    D^2 sigma(v) = -M^{-1} D^2 tau(u) [M^{-1}, M^{-1}].

v covers the torus (or the window at whose border tau vanishes) as u does: sup |sigma| = sup |tau| and osc sigma = osc
tau exactly, and suprema over v of functions of grad sigma are suprema over u of functions of grad tau; no equation is
solved for them. With m >= sup ||M^{-1}||, at most 1 / (1 - b) and (1 + b)^{d-1} / inf det M, and |d_e^k tau| <= t_k,

    s_1 = m t_1,    s_2 = m^3 t_2,    s_3 = m^4 t_3 + 3 m^5 t_2^2,    s_4 = m^5 t_4 + 10 m^6 t_2 t_3 + 15 m^7 t_2^3

bound |d_e^k sigma| (differentiate psi - tau(psi) = id). Along lines in u, N = M^{-1} has |N'| <= m^2 t_2 and
|N''| <= m^2 t_3 + 2 m^3 t_2^2, which bounds the functions above between nodes.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Self, final

import torch
from torch import Tensor

from stability.deformations.base import Deformation, Scalar
from stability.deformations.composition import inside, periodic
from stability.deformations.compound import Compound
from stability.deformations.domains import Torus, Window
from stability.deformations.enclosure import Enclosure, Losses
from stability.deformations.family import State
from stability.deformations.jets import Jet
from stability.deformations.norms import Distortion, Interval, Norms
from stability.deformations.pointwise import (
    FieldLengths,
    bending,
    box,
    counts,
    derivative_bounds,
    expansion,
    interval,
    searched,
    steepness,
)
from stability.deformations.solvers import Bounds, FixedPoint, Newton, Solver, inverse_matrix, solve, times
from stability.grid import sides

_DENSEST = 3.0
"""Most times that the grid for tau is refined where id - tau gathers points."""


@final
class Inverse(Compound):
    """factor * sigma, sigma(v) = -tau(u) where u - tau(u) = v; solved at every point where the field is evaluated.

    Gradients with respect to points and coefficients are those of the implicit function. Norms: see the module.

    Args:
        forward: tau.
        factor: of the displacement; broadcasts with the batch.
        solver: ``FixedPoint`` needs sup ||grad tau|| < 1; None: ``Newton()``.

    Raises:
        ValueError: if ``FixedPoint`` is asked for where it need not converge.
    """

    def __init__(self, forward: Deformation, *, factor: Scalar = 1.0, solver: Solver | None = None) -> None:
        self._keep((forward,), factor)
        self.solver: Solver = Newton() if solver is None else solver
        if not isinstance(self.solver, FixedPoint | Newton):
            raise ValueError(f"solver must be FixedPoint() or Newton(), got {solver!r}; leave it out")
        if isinstance(self.solver, FixedPoint) and not bool((forward.norms().jacobian.upper < 1).all()):
            raise ValueError(
                f"FixedPoint needs jacobian norms below 1, got {float(forward.norms().jacobian.upper.max()):.4g}; "
                "use Newton()"
            )

    @property
    def forward(self) -> Deformation:
        """tau, with the common batch."""
        return self._parts[0]

    def state(self) -> State:
        """tau and the factor; a field that is read from a file has the default solver."""
        return {"forward": self.forward, "factor": self.factor}, {}

    @cached_property
    def error(self) -> Tensor:
        """Certified bound of |computed - true| over all points, ``batch_shape`` in pixels; inf where there is none.

        The true field is that of tau as it is evaluated: errors of tau itself, as of a flow's integrator, come on top.
        """
        size = self.factor.detach().to(torch.float64).abs()
        return size * self._limits.error(self.solver).reshape(self.batch_shape)

    @property
    def domain(self) -> Torus | Window:
        """That of tau."""
        return self.forward.domain

    @property
    def injective(self) -> Tensor:
        """Where tau is, and the factor is 1."""
        known = self.forward.norms().jacobian.upper < 1
        known = known if self.forward.injective is None else known | self.forward.injective
        return known & (self.factor.detach() == 1)

    def suprema(self) -> Norms:
        """Those of tau, and suprema over u of functions of grad tau and D^2 tau."""
        if not periodic(self.domain):
            return searched(self)
        own, size = self.forward.norms(), self.factor.detach().abs()
        steepest = self._interval((1,), lambda j: steepness(_gradient(j)), lambda: self._gradients)
        smooth = torch.isfinite(own.hessian.upper)
        bent = self._interval((1, 2), lambda j, h: bending(_second(j, h)), lambda: self._seconds)
        found = Norms(
            own.displacement,
            steepest,
            Interval(lambda: bent.lower, lambda: torch.where(smooth, bent.upper, torch.inf)),
            self._interval(
                (1,),
                lambda j: expansion(_gradient(j)),
                lambda: self._gradients.scaled(float(self.d)),
                lambda seen: torch.maximum(seen, steepest.lower.reshape(-1)),
            ),
            own.oscillation,
        )
        return dataclasses.replace(found.scaled(size), distortion=self._distortion())

    def _distortion(self) -> Distortion | None:
        """det(I - grad sigma) = 1 / det(I - grad tau); None, to be searched for, where the factor is not 1."""
        from stability.deformations.distortion import distortion  # looks at a Deformation from outside

        if not self.plain:
            return None
        low, high = self.forward.norms().determinant_infimum, self.forward.norms().determinant_supremum

        def most() -> Tensor:
            return torch.where(low.lower > 0, 1 / low.lower, torch.inf)

        return dataclasses.replace(
            distortion(self),
            determinant_infimum=Interval(lambda: 1 / high.upper, lambda: 1 / high.lower),
            determinant_supremum=Interval(lambda: 1 / low.upper, most),
            contraction=high.map(torch.sqrt),
        )

    @cached_property
    def _limits(self) -> Bounds:
        """Of tau; m from the determinant only where b >= 1."""
        n = self.forward.norms()
        a, b = (end.upper.reshape(-1).to(torch.float64) for end in (n.displacement, n.jacobian))
        m = torch.where(b < 1, 1 / (1 - b), torch.inf)
        if not bool((b < 1).all()) and bool(torch.isfinite(b).all()):
            infimum = n.determinant_infimum.lower.reshape(-1)
            m = torch.minimum(m, torch.where(infimum > 0, (1 + b) ** (self.d - 1) / infimum, torch.inf))
        seen = torch.where(torch.isfinite(a), a, n.displacement.lower.reshape(-1).to(torch.float64))
        return Bounds(a, b, m, 8 * torch.finfo(self.dtype).eps * (max(self.size) + seen))

    @cached_property
    def _forward_bounds(self) -> list[Tensor]:
        """t_0, ..., t_4, with the certified norms where they are smaller."""
        n = self.forward.norms()
        bounds = derivative_bounds(self.forward)
        return [bounds[0], torch.minimum(bounds[1], n.jacobian.upper.reshape(-1)), *bounds[2:]]

    @property
    def _inverse_jet(self) -> Jet:
        """|N|, |N'|, |N''| along lines in u."""
        m, t = self._limits.inverse, self._forward_bounds
        return Jet(m, m**2 * t[2], m**2 * t[3] + 2 * m**3 * t[2] ** 2)

    @property
    def _gradients(self) -> Jet:
        """Of I - N = -N grad tau."""
        jet = self._inverse_jet
        return jet._replace(value=jet.value * self._forward_bounds[1])

    @property
    def _seconds(self) -> Jet:
        """Of N D^2 tau [N, N]."""
        n = self._inverse_jet
        return n.times(n).times(n).times(Jet(*self._forward_bounds[2:5]))

    def _interval(
        self,
        orders: tuple[int, ...],
        function: Callable[..., Tensor],
        jet: Callable[[], Jet],
        scale: Callable[[Tensor], Tensor] = torch.abs,
    ) -> Interval:
        """sup over u of the function of tau's derivatives; exact where grad tau takes finitely many values."""
        values = self.forward.gradients()
        if values is not None and orders == (1,):
            return Interval.exact(function(values.detach().to(torch.float64)).amax(1).reshape(self.batch_shape))
        known = functools.cache(lambda: Jet(*(part.nan_to_num(torch.inf, torch.inf) for part in jet())))

        def enclosure() -> Enclosure:
            m = self._limits.inverse
            gathered = float(m.clamp(1.0, _DENSEST).max()) if len(m) else 1.0
            return Enclosure(
                FieldLengths(self.forward, orders, function),
                counts(self.forward, self._forward_bounds, max(orders), gathered),
                lambda: Losses(curvature=known().second, slope=known().first),
                lambda: known().value,
                scale,
                box(self.forward),
            )

        return interval(self, enclosure)

    def _solved(self, points: Tensor) -> Tensor:
        """u, attached to the points and to what tau is made of by two Newton steps that do not change it.

        Each makes derivatives of one more order those of the implicit function.
        """
        tau = self.forward.flat()
        v = self._reduced(points).expand(len(tau.mean), -1, -1)
        with torch.no_grad():
            u = solve(tau, v.detach(), self.solver, self._limits)
            n = inverse_matrix(torch.eye(self.d, dtype=u.dtype, device=u.device) - tau.derivative(u, 1))
        for _ in range(2):
            step = times(n, v - u + tau.derivative(u, 0))
            u = u + (step - step.detach())
        return u

    def _reduced(self, points: Tensor) -> Tensor:
        """Points moved by periods into the domain, where round-off is bounded."""
        if isinstance(self.domain, Window):
            return inside(points, self)
        period = sides(self.size, dtype=points.dtype, device=points.device)
        return points - period * torch.floor(points.detach() / period)

    def _unit(self, points: Tensor, order: int) -> Tensor:
        """-tau(u), I - M^{-1} or -M^{-1} D^2 tau(u) [M^{-1}, M^{-1}]."""
        tau, u = self.forward.flat(), self._solved(points)
        if order == 0:
            return -tau.derivative(u, 0)
        first = tau.derivative(u, 1)
        return _gradient(first) if order == 1 else _second(first, tau.derivative(u, 2))

    def _unit_bounds(self) -> list[Tensor]:
        """s_0, ..., s_4 of the module."""
        m, t = self._limits.inverse, self._forward_bounds
        if not periodic(self.domain):
            return [torch.full_like(m, torch.inf)] * 5
        return [
            t[0],
            m * t[1],
            m**3 * t[2],
            m**4 * t[3] + 3 * m**5 * t[2] ** 2,
            m**5 * t[4] + 10 * m**6 * t[2] * t[3] + 15 * m**7 * t[2] ** 3,
        ]

    def _remade(self, parts: Sequence[Deformation], factor: Tensor) -> Self:
        (forward,) = parts
        return type(self)(forward, factor=factor, solver=self.solver)


def _gradient(jacobian: Tensor) -> Tensor:
    """I - (I - J)^{-1} = -(I - J)^{-1} J."""
    identity = torch.eye(jacobian.shape[-1], dtype=jacobian.dtype, device=jacobian.device)
    return -(inverse_matrix(identity - jacobian) @ jacobian)


def _second(jacobian: Tensor, hessian: Tensor) -> Tensor:
    """-M^{-1} D^2 tau [M^{-1}, M^{-1}]."""
    n = inverse_matrix(torch.eye(jacobian.shape[-1], dtype=jacobian.dtype, device=jacobian.device) - jacobian)
    return -torch.einsum("...ij,...jkl,...ka,...lb->...iab", n, hessian, n, n)
