r"""Flows of stationary velocity fields: diffeomorphisms of any size, by construction.

With y' = -v(y), y(0) = u and phi(u) = y(1), tau(u) = u - y(1). The derivatives Y = Dy, Z = D^2 y, W = D^3 y solve

    Y' = -Dv Y,    Z' = -Dv Z - D^2 v [Y, Y],    W' = -Dv W - 3 D^2 v [Y, Z] - D^3 v [Y, Y, Y].

Let B = sup ||Dv||, V_k >= sup |d_e^k v|, E(t) = (e^{B t} - 1) / B, E = E(1). Gronwall's inequality gives
|Y| <= e^{B t}, |Z| <= V_2 e^{B t} E(t), and by variation of constants, in E(t) with dE = e^{B t} dt,

    |tau| <= sup |v|,    ||grad tau|| <= int ||Dv Y|| dt <= e^B - 1,    |D^2 tau| <= V_2 e^B E,
    |D^3 tau| <= e^B [3 V_2^2 E^2 / 2 + V_3 (E + B E^2 / 2)],
    |D^4 tau| <= e^B [3 V_2^3 E^3 + V_2 V_3 E^2 (5 + 8 B E / 3) + V_4 (E + B E^2 + B^2 E^3 / 3)],
    |tau(u) - tau(w)| <= int |v(y_u) - v(y_w)| dt <= osc v,

and Liouville's formula det Y = exp(-int div v(y) dt) in [e^{-sup |div v|}, e^{sup |div v|}].

Reference: Hartman 1964, chapters III (Gronwall), IV (Liouville) and V (derivatives with respect to initial values).
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Self, final

import torch
from torch import Tensor

from stability.deformations.base import Deformation, Scalar
from stability.deformations.checks import check_generator
from stability.deformations.compound import Compound
from stability.deformations.domains import Torus, Window
from stability.deformations.drafts import Drafted
from stability.deformations.family import State
from stability.deformations.jets import GradientJets, Jet
from stability.deformations.modes import draw_disc
from stability.deformations.norms import Distortion, Interval, Norms
from stability.deformations.pointwise import derivative_bounds
from stability.deformations.series import FourierSeries
from stability.deformations.several_orders import jet
from stability.deformations.spectral import Steerable
from stability.deformations.stretching import swell
from stability.deformations.variational import displaced, frequency, rate
from stability.grid import check_size, sides

STEPS_PER_RATE = {1: 5.0, 2: 4.0}
"""Steps per unit of the velocity's rate of change along its paths: errors of tau are below 2e-11 sup |v| then."""

_DRAFT = 1.5
"""The same for the search of suprema; what it misses is estimated and added to upper values."""

_MOST_STEPS = 1000
_CHUNK = 2**12
"""Points integrated at a time: their tables stay in the cache."""

_PROBES = 12
"""Points per axis at which the integrator's error is estimated."""

_NODES_PER_WAVE = 11
"""Of the first grid per axis, for the velocity's own waves."""

_FEWEST, _MOST_NODES = 8, 256

_SAFETY = 4.0
"""Of that estimate in upper values."""


@final
class FlowField(Compound, Steerable):
    r"""tau(u) = factor * (u - y(1)), y' = -v(y), y(0) = u: for factor 1, id - tau is the time-1 flow of -v.

    The differential equation is solved at every point where the field is evaluated, with the velocity as it is there:
    nothing is interpolated. The method has order 8 and a fixed number of steps, so that derivatives by ``derivative``
    and by autograd are those of one smooth map.

    For factor 1 id - tau is a diffeomorphism whatever the norms, with inverse id - (flow of +v). Norms are not
    homogeneous in the velocity: ``FlowField(2 * v)`` is the flow after time 2, ``2 * FlowField(v)`` twice the
    displacement, which need not be injective.

    Args:
        velocity: v in pixels, any smooth field of the torus, or of a window at whose border it vanishes.
        factor: of the displacement; broadcasts with the velocity's batch.
        steps: of the integrator, for the whole batch; None: from the velocity's norms.

    Raises:
        ValueError: if the velocity is of another kind or its gradient is piecewise constant.

    Convention: tau = v to first order, so the content moves along v.

    >>> from stability.deformations.translation import Translation
    >>> FlowField(Translation((3.0, 4.0))).displacement(torch.zeros(2)).round(decimals=9)
    tensor([3., 4.], dtype=torch.float64)
    """

    def __init__(self, velocity: Deformation, *, factor: Scalar = 1.0, steps: int | None = None) -> None:
        if not isinstance(velocity, Deformation):
            raise ValueError(f"velocity must be a Deformation, got {type(velocity).__name__}; use FlowField.sample")
        domain = velocity.domain
        if isinstance(domain, Window) and not domain.vanishing:
            raise ValueError(
                f"velocity must live on the torus or vanish at the window's border, got {type(velocity).__name__}; "
                "use a FourierField or a CompactField"
            )
        if velocity.gradients() is not None and not bool((velocity.norms().jacobian.upper == 0).all()):
            raise ValueError(
                f"velocity must have a continuous gradient, got {type(velocity).__name__}; use a FourierField"
            )
        if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
            raise ValueError(f"steps must be an integer >= 1 or None, got {steps!r}; leave it out")
        self._keep((velocity,), factor)
        self._steps = steps

    @property
    def velocity(self) -> Deformation:
        """v, with the common batch."""
        return self._parts[0]

    @classmethod
    def sample(
        cls,
        size: Sequence[int],
        *,
        cutoff: float,
        batch_shape: Sequence[int] = (),
        generator: torch.Generator,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> Self:
        """Flows of mean-free stationary Gaussian velocities with a flat spectrum, drawn like ``FourierField.sample``.

        The same field at every resolution: ``sample((2 H, 2 W))`` with an equal generator satisfies
        tau_2(2 u) = 2 tau_1(u).

        Args:
            size: ``(N,)`` or ``(H, W)``.
            cutoff: radius of the velocity's disc of frequencies, in cycles per shorter side.
            batch_shape: shape of the batch of fields.
            generator: where the random numbers come from.
            dtype: floating-point type of the field.
            device: where the field is put, by default the generator's device.

        Raises:
            ValueError: if the cutoff is out of range.

        >>> FlowField.sample((32, 32), cutoff=3, generator=torch.Generator().manual_seed(0))
        FlowField(size=(32, 32), batch_shape=())
        """
        size = check_size(size)
        modes, cosine, sine = draw_disc(size, cutoff, batch_shape, check_generator(generator))
        return cls(FourierSeries(modes, cosine, sine, size=size).to(dtype=dtype, device=device))

    def with_velocity(self, velocity: Deformation) -> Self:
        """The flow of another velocity with the same factor."""
        return type(self)(velocity, factor=self.factor)

    def at(self, time: Scalar) -> Self:
        """The flow after another time, u - y(time): that of time * v."""
        return type(self)(self.velocity.scaled(time), factor=self.factor)

    def inverted(self) -> Self | None:
        """The flow backwards in time, of -v; None for factors other than 1."""
        return type(self)(-self.velocity, steps=self.steps) if self.plain else None

    def state(self) -> State:
        """The velocity and the factor, and the number of steps."""
        return {"velocity": self.velocity, "factor": self.factor}, {"steps": self.steps}

    @property
    def domain(self) -> Torus | Window:
        """That of the velocity: where it vanishes, points do not move."""
        return self.velocity.domain

    @property
    def injective(self) -> Tensor:
        """Which factors are 1: flows are injective by construction."""
        return self.factor.detach() == 1

    @property
    def steps(self) -> int:
        """Number of steps of the integrator, the same for the whole batch."""
        if self._steps is None:
            self._steps = self._steps_for(STEPS_PER_RATE[self.d])
        return self._steps

    def draft(self) -> Self:
        """The same field with fewer steps, relative errors below 1e-5: for searches."""
        return type(self)(self.velocity, factor=self.factor, steps=self._steps_for(_DRAFT))

    @functools.cached_property
    def error(self) -> Tensor:
        """Estimated error of the integrator in pixels, ``batch_shape``: what twice the steps change."""
        return self._errors(0).reshape(self.batch_shape)

    def _unit(self, points: Tensor, order: int) -> Tensor:
        """tau, J or D^2 tau by tau' = v(u - tau), J' = Dv (I - J), (D^2 tau)' = D^2 v [I - J, I - J] - Dv D^2 tau."""
        return self._integrated(points, order, self.steps)[order]

    def suprema(self) -> Norms:
        """Lower by search, upper by branch and bound from the rules of the module, plus the integrator's error."""
        draft = self.draft()
        drafted = Drafted(self, draft, self.grid(), lambda order: _SAFETY * draft._errors(order))
        seen = drafted.norms()

        def oscillation() -> Tensor:
            known = self.factor.detach().abs() * self.velocity.norms().oscillation.upper
            return torch.minimum(seen.oscillation.upper + 2 * _SAFETY * self.error, known)

        norms = dataclasses.replace(seen, oscillation=Interval(lambda: seen.oscillation.lower, oscillation))
        if isinstance(self.domain, Window) and self.domain.gradient_jump:
            unknown = Interval(lambda: seen.hessian.lower, lambda: torch.full_like(seen.hessian.lower, torch.inf))
            norms = dataclasses.replace(norms, hessian=unknown)
        return dataclasses.replace(norms, distortion=self._distortion(drafted, draft)) if self.plain else norms

    def _distortion(self, drafted: Drafted, draft: Self) -> Distortion:
        """The determinant by search and Liouville's formula; what else there is as for any field."""
        from stability.deformations.distortion import distortion  # looks at a Deformation from outside

        d, bounds = self.d, functools.cache(lambda: derivative_bounds(self))

        def volume(sign: float) -> Jet:
            limit = sign * (sign * self.velocity.norms().divergence.upper.reshape(-1)).expm1()
            jet = GradientJets(bounds()[1:], lambda: bounds()[0], d).volume.within(limit)
            return Jet(*(part.nan_to_num(torch.inf, torch.inf) for part in jet))

        def error() -> Tensor:
            return _SAFETY * d * (1 + bounds()[1]) ** (d - 1) * draft._errors(1)

        # scale: an infimum near 0 is found to its own size
        low = drafted.supremum(1, lambda j: -swell(j), lambda: volume(-1.0), lambda seen: 1 - seen, error)
        high = drafted.supremum(1, swell, lambda: volume(1.0), lambda seen: 1 + seen, error)
        infimum = Interval(lambda: 1 - low.upper, lambda: 1 - low.lower)
        return dataclasses.replace(
            distortion(self),
            determinant_infimum=infimum,
            determinant_supremum=high.map(lambda value: 1 + value),
            contraction=Interval(lambda: infimum.upper.rsqrt(), lambda: infimum.lower.rsqrt()),
        )

    def _unit_bounds(self) -> list[Tensor]:
        """A_0, ..., A_4 by Gronwall's inequality: see the module."""
        v0, b, v2, v3, v4 = (bound.detach().to(torch.float64) for bound in self.velocity.flat().derivative_bounds())
        e, growth = torch.where(b > 0, b.expm1() / b.clamp_min(1e-300), 1.0), b.exp()
        return [
            v0,
            b.expm1(),
            v2 * growth * e,
            growth * (1.5 * (v2 * e).square() + v3 * (e + b * e.square() / 2)),
            growth * (
                3 * (v2 * e) ** 3
                + v2 * v3 * e.square() * (5 + 8 / 3 * b * e)
                + v4 * (e + b * e.square() + (b * e).square() * e / 3)
            ),
        ]  # fmt: skip

    def steered(self, displacement_norm: Tensor | None, jacobian_norm: Tensor | None) -> Self:
        """The flow with these norms: amplitude and tilt of the velocity are searched for; see ``flow_control``."""
        from stability.deformations.flow_control import steer  # knows flows

        return steer(self, displacement_norm, jacobian_norm)

    def _remade(self, parts: Sequence[Deformation], factor: Tensor) -> Self:
        (velocity,) = parts
        return type(self)(velocity, factor=factor, steps=self.steps)

    def _steps_for(self, per_rate: float) -> int:
        fastest = rate(self.velocity)
        if not fastest * STEPS_PER_RATE[self.d] < _MOST_STEPS:
            raise ValueError(
                f"velocity must be smooth and move points over few of its length scales, got {fastest:.3g} of them; "
                "use a FourierField, or scale the velocity down"
            )
        return max(1, math.ceil(fastest * per_rate))

    def grid(self) -> tuple[int, ...]:
        """Nodes per axis of a grid for the search of suprema: denser than for v, since the flow gathers points."""
        if not self.factor.numel():
            return tuple(_FEWEST for _ in self.size)
        gathered = 1 + float(self.velocity.norms().jacobian.lower.max()) / 2
        density = _NODES_PER_WAVE * gathered * float(frequency(self.velocity).max()) / (2 * math.pi)
        return tuple(min(max(_FEWEST, math.ceil(density * side)), _MOST_NODES) for side in self.size)

    def _integrated(self, points: Tensor, order: int, steps: int) -> list[Tensor]:
        """The derivatives of the orders up to ``order`` for factor 1."""
        velocity = self.velocity.flat()
        n, count = self.factor.numel(), points.shape[1]
        rows = max(1, _CHUNK // max(1, count))
        table = []
        for start in range(0, n, rows) if n else (0,):
            part = slice(start, start + rows)
            evaluate = jet(velocity[part] if rows < n else velocity, order)
            own = (points[part] if len(points) > 1 else points).expand(min(rows, n - start), -1, -1).mT
            pieces = [displaced(evaluate, at, order, steps) for at in own.split(_CHUNK, dim=2)]
            table.append([torch.cat(column, dim=-1) for column in zip(*pieces, strict=True)])
        return [torch.cat(column).movedim(-1, 1) for column in zip(*table, strict=True)]

    def _errors(self, order: int) -> Tensor:
        """Largest change of the derivative under twice the steps, in the Euclidean norm of its entries, ``(n,)``."""
        axes = [
            (torch.arange(_PROBES, dtype=torch.float64, device=self.device) + 0.37) * side / _PROBES
            for side in sides(self.size)
        ]
        points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(1, -1, self.d).to(self.dtype)
        with torch.no_grad():
            coarse = self._integrated(points, order, self.steps)[order]
            fine = self._integrated(points, order, 2 * self.steps)[order]
            change = (coarse - fine).to(torch.float64).flatten(2).norm(dim=-1).amax(1)
            return self.factor.reshape(-1).abs() * change
