r"""Suprema over the continuum of what the theorems need of M = I - grad tau, for any field.

Each is the supremum of a smooth function of J = grad tau (one also of its derivative): seen by search, certified by
branch and bound, with bounds of its derivatives along lines (``jets``) that follow from A_1, ..., A_4 of the field.
Negative powers of D = det M use the certified infimum of D; while that is not positive their certified values are
inf. Where J takes finitely many values the suprema are maxima, and exact.
"""

from collections.abc import Callable
from functools import cache, cached_property

import torch
from torch import Tensor

from stability.deformations.base import Deformation
from stability.deformations.domains import Window
from stability.deformations.enclosure import Enclosure, Local, Losses
from stability.deformations.jets import GradientJets, Jet
from stability.deformations.norms import Distortion, Interval
from stability.deformations.pointwise import FieldLengths, box, counts, derivative_bounds, length, steepness
from stability.deformations.stretching import (
    anisotropy,
    strain,
    stretch,
    swell,
    swell_gradient,
    volume_gradient,
    weight,
)

_FLOOR = 0.05
"""Certificates are refined relative to the value, but not below this share of d A_1 (of d A_2 for grad D)."""

_SHARPEST = 4.0
"""Most that the first grid is refined for narrow peaks of D^(-1/2)."""

_Jets = Callable[[GradientJets], Jet]


def distortion(field: Deformation) -> Distortion:
    """The suprema of ``Distortion`` for any fields, each computed when it is read.

    Args:
        field: its values, ``norms``, ``derivative_bounds``, ``gradients`` and ``domain`` are read.

    Returns:
        Intervals with ends of shape ``batch_shape``; exact where grad tau takes finitely many values.
    """
    found = DistortionSuprema(field)

    def later(read: Callable[[DistortionSuprema], Interval]) -> Interval:
        return Interval(lambda: found.shaped(read(found).lower), lambda: found.shaped(read(found).upper))

    return Distortion(
        determinant_infimum=later(lambda suprema: suprema.infimum),
        determinant_supremum=later(lambda suprema: suprema.supremum),
        contraction=later(lambda suprema: suprema.contraction),
        weighted_jacobian=later(lambda suprema: suprema.weighted_jacobian),
        weighted_strain=later(lambda suprema: suprema.weighted_strain),
        weighted_volume=later(lambda suprema: suprema.weighted_volume),
        weighted_anisotropy=later(lambda suprema: suprema.weighted_anisotropy),
        weighted_stretch=later(lambda suprema: suprema.weighted_stretch),
        volume_gradient=later(lambda suprema: suprema.volume_gradient),
        density_gradient=later(lambda suprema: suprema.density_gradient),
    )


class DistortionSuprema:
    """The work of ``distortion``, ends ``(n,)``; nothing is computed before it is asked for, nothing twice."""

    def __init__(self, field: Deformation) -> None:
        self._field = field

    def shaped(self, value: Tensor) -> Tensor:
        """With the batch's shape."""
        return value.reshape(self._field.batch_shape)

    @cached_property
    def infimum(self) -> Interval:
        """Of D = 1 - (1 - D)."""

        def shrink(jacobian: Tensor) -> Tensor:
            return -swell(jacobian)

        def enclosure() -> Enclosure:
            b = self._bounds[1]
            small = torch.where(b < 1, 1 - (1 - b) ** self._field.d, torch.inf)

            def scale(seen: Tensor) -> Tensor:  # an infimum near 0 must be found to its own size
                return torch.minimum(torch.maximum(seen, 2 * _FLOOR * b), (1 - seen).abs())

            functions = FieldLengths(self._field, (1,), shrink)
            return self._enclosure(functions, lambda: self._jets.volume.within(small), scale=scale)

        shrinking = self._supremum(shrink, enclosure)
        return Interval(lambda: 1 - shrinking.upper, lambda: 1 - shrinking.lower)

    @cached_property
    def supremum(self) -> Interval:
        """Of D = 1 + (D - 1)."""

        def enclosure() -> Enclosure:
            return self._enclosure(FieldLengths(self._field, (1,), swell), lambda: self._jets.volume)

        return self._supremum(swell, enclosure).map(lambda value: 1 + value)

    @cached_property
    def contraction(self) -> Interval:
        """Of D^(-1/2)."""
        return Interval(lambda: _root(self.infimum.upper), lambda: _root(self.infimum.lower))

    @cached_property
    def weighted_jacobian(self) -> Interval:
        """Of ||J||_2 D^(-1/2)."""
        return self.weighted(steepness, lambda jets: jets.jacobian)

    @cached_property
    def weighted_strain(self) -> Interval:
        """Of ||e||_F D^(-1/2)."""
        return self.weighted(strain, lambda jets: jets.strain)

    @cached_property
    def weighted_volume(self) -> Interval:
        """Of |1 - D| D^(-1/2)."""
        return self.weighted(lambda jacobian: swell(jacobian).abs(), lambda jets: jets.volume)

    @cached_property
    def weighted_anisotropy(self) -> Interval:
        """Of (s_1 - s_2) D^(-1/2)."""
        if self._field.d == 1:
            return Interval(self._zero, self._zero)
        return self.weighted(anisotropy, lambda jets: jets.anisotropy)

    @cached_property
    def weighted_stretch(self) -> Interval:
        """Of max |s_i - 1 / s_i| D^(-1/2)."""
        return self.weighted(stretch, lambda jets: jets.stretch)

    @cached_property
    def volume_gradient(self) -> Interval:
        """Of |M^(-T) grad ln D| D^(-1/2); not certified where grad tau jumps."""
        return self._bending(volume_gradient, lambda jets: jets.volume_gradient)

    @cached_property
    def density_gradient(self) -> Interval:
        """Of |M^(-T) grad ln D| / D; not certified where grad tau jumps."""

        def gradient(jacobian: Tensor, hessian: Tensor) -> Tensor:
            return volume_gradient(jacobian, hessian) * weight(jacobian)

        return self._bending(gradient, lambda jets: jets.volume_gradient.times(jets.weight))

    def directional(self, direction: Tensor) -> Interval:
        """Of |J e| D^(-1/2) for a unit vector e, ``(d,)``."""
        return self.weighted(lambda jacobian: (jacobian @ direction).norm(dim=-1), lambda jets: jets.jacobian)

    @cached_property
    def displacement(self) -> Interval:
        """Of |tau| D^(-1/2); where grad tau takes finitely many values the product of both suprema."""

        def moved(tau: Tensor, jacobian: Tensor) -> Tensor:
            return length(tau) * weight(jacobian)

        if self._finite is not None:
            farthest, most = self._field.norms().displacement, self.contraction
            return Interval(
                lambda: self._or_infinite(farthest.lower.reshape(-1) * self.supremum.upper.rsqrt()),
                lambda: self._or_infinite(farthest.upper.reshape(-1) * most.upper),
            )
        once = cache(lambda: self._divided((0, 1), moved, lambda jets: jets.displacement, torch.abs))
        return Interval(lambda: once().lower, lambda: once().upper).map(self._or_infinite)

    @cached_property
    def _bounds(self) -> list[Tensor]:
        """A_0, ..., A_4, or the certified norms where they are smaller."""
        known = self._field.norms()
        norms = [end.upper.reshape(-1) for end in (known.displacement, known.jacobian, known.hessian)]
        bounds = derivative_bounds(self._field)
        return [*map(torch.minimum, bounds[:3], norms), *bounds[3:]]

    @cached_property
    def _finite(self) -> Tensor | None:
        """All values of grad tau, ``(n, T, d, d)``, if they are finitely many."""
        values, d = self._field.gradients(), self._field.d
        if values is not None:
            return values.detach().to(torch.float64)
        upper = self._field.norms().jacobian.upper
        return None if bool(upper.count_nonzero()) else upper.new_zeros(upper.numel(), 1, d, d)

    @cached_property
    def _jets(self) -> GradientJets:
        return GradientJets(self._bounds[1:], lambda: self.infimum.lower, self._field.d, farthest=self._bounds[0])

    def weighted(self, function: Callable[[Tensor], Tensor], jet: _Jets) -> Interval:
        """sup |f(J)| D^(-1/2) for f with the given jet."""

        def weighted(jacobian: Tensor) -> Tensor:
            return function(jacobian) * weight(jacobian)

        found = self._supremum(weighted, lambda: self._divided((1,), weighted, jet))
        return found.map(self._or_infinite)

    def _bending(self, function: Callable[[Tensor, Tensor], Tensor], jet: _Jets) -> Interval:
        """sup |f(J, grad J)| D^(-1/2), D^(-1/2) inside the function; f = 0 where grad J = 0."""
        enclosure = cache(lambda: self._divided((1, 2), function, jet))

        def lower() -> Tensor:
            return self._or_infinite(self._zero() if self._finite is not None else enclosure().lower)

        def upper() -> Tensor:
            domain, values = self._field.domain, self._finite
            if values is not None:
                jumps = (values != values[:, :1]).flatten(1).any(1)
                return self._or_infinite(torch.where(jumps, torch.inf, self._zero()))
            if isinstance(domain, Window) and domain.gradient_jump:
                return torch.where(self._bounds[1] > 0, torch.inf, self._zero())
            return self._or_infinite(enclosure().upper)

        return Interval(lower, upper)

    def _supremum(self, function: Callable[[Tensor], Tensor], enclosure: Callable[[], Enclosure]) -> Interval:
        """Of function(J), ``(n, T, d, d)`` to ``(n, T)``."""
        once = cache(enclosure)
        exact = cache(lambda: None if self._finite is None else function(self._finite).amax(1))

        def end(searched: Callable[[Enclosure], Tensor]) -> Tensor:
            value = exact()
            return searched(once()) if value is None else value

        return Interval(lambda: end(lambda found: found.lower), lambda: end(lambda found: found.upper))

    def _divided(
        self,
        orders: tuple[int, ...],
        function: Callable[..., Tensor],
        jet: _Jets,
        scale: Callable[[Tensor], Tensor] | None = None,
    ) -> Enclosure:
        """Of |p| D^(-1/2): in single cells too, since D^(-1/2) bends where D is small only."""
        functions = FieldLengths(self._field, orders, function)
        needed = tuple(range(min(orders), 3))

        def features(*derivatives: Tensor) -> tuple[Tensor, ...]:
            jacobian, hessian = derivatives[-2:]
            value = function(*(derivatives[order - needed[0]] for order in orders))
            slope = swell_gradient(jacobian, hessian).norm(dim=-1)
            return value, steepness(jacobian), hessian.flatten(-3).norm(dim=-1), 1 + swell(jacobian), slope

        def local(index: Tensor, points: Tensor, offsets: Tensor, rho: float) -> tuple[Tensor, Losses]:
            value, *here = functions.each(index, points, offsets, needed, features)
            jets = self._jets.near(index, here, rho)
            return value, _losses(jet(jets).times(jets.weight))

        seen = self.infimum.lower.clamp_min(_SHARPEST**-2)
        sharpness = float(seen.rsqrt().max()) if len(seen) else 1.0  # D^(-1/2) has peaks that much narrower than J
        return self._enclosure(
            functions,
            lambda: jet(self._jets).times(self._jets.weight),
            max(orders),
            max(1.0, sharpness),
            scale,
            local=local,
        )

    def _enclosure(
        self,
        functions: FieldLengths,
        jet: Callable[[], Jet],
        order: int = 1,
        sharpness: float = 1.0,
        scale: Callable[[Tensor], Tensor] | None = None,
        local: Local | None = None,
    ) -> Enclosure:
        once = cache(lambda: _certain(jet()))

        def size(seen: Tensor) -> Tensor:
            return torch.maximum(seen, _FLOOR * self._field.d * self._bounds[order].nan_to_num(posinf=0.0))

        nodes = counts(self._field, derivative_bounds(self._field), order, sharpness)
        return Enclosure(
            functions, nodes, lambda: _losses(once()), lambda: once().value, scale or size, box(self._field), local
        )

    def _zero(self) -> Tensor:
        return torch.zeros_like(self._bounds[1])

    def _or_infinite(self, value: Tensor) -> Tensor:
        """Inf where D <= 0 is seen: D^(-1/2) is not bounded then."""
        if bool((self.infimum.lower > 0).all()):
            return value
        return torch.where(self.infimum.upper <= 0, torch.inf, value)


def _certain(jet: Jet) -> Jet:
    """0 times inf is unknown."""
    return Jet(*(part.nan_to_num(torch.inf, torch.inf) for part in jet))


def _losses(jet: Jet) -> Losses:
    certain = _certain(jet)
    return Losses(curvature=certain.second, slope=certain.first)


def _root(infimum: Tensor) -> Tensor:
    """D^(-1/2), inf for D <= 0."""
    return torch.where(infimum > 0, infimum.clamp_min(torch.finfo(infimum.dtype).tiny).rsqrt(), torch.inf)
