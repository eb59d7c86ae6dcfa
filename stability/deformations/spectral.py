"""What control of two norms at once needs of a family: a knob for the ratio, and a constant part."""

import abc
from typing import TYPE_CHECKING, NamedTuple, Self

import torch
from torch import Tensor

from stability.deformations.base import Deformation

if TYPE_CHECKING:
    from stability.deformations.ratios import Ratios

_EXCHANGES = 30
_ROUND_OFF = 1e-8


class Tiltable(Deformation, abc.ABC):
    """A field with a knob that moves sup ||grad tau||_2 / sup |tau|: the tilt of its spectrum, or its width."""

    @property
    def varies(self) -> Tensor:
        """Which fields are not constant, ``batch_shape`` bool."""
        return self.norms().jacobian.lower > 0

    @abc.abstractmethod
    def tilted(self, theta: Tensor) -> Self:
        """The field turned by theta, up to a positive factor; theta = 0 is the field itself up to its mean.

        With a spectrum of frequencies |omega| <= R: the coefficients times exp(theta |omega|^2 / R^2), the largest
        weight 1; in the limits theta = -inf and inf only the lowest and the highest frequency with a nonzero
        coefficient are left. The norms are continuous in theta.

        Args:
            theta: dimensionless, any sign, -inf and inf included; broadcasts with ``batch_shape``.
        """

    def ratios(self) -> "Ratios":
        """r(theta) = sup ||grad tau_theta||_2 / sup |tau_theta| for the solver; here by tilting and searching anew."""
        from stability.deformations.ratios import PlainRatios  # looks at a Tiltable from outside

        return PlainRatios(self)

    @abc.abstractmethod
    def places(self) -> tuple[Tensor, Tensor]:
        """Points where |tau| and ||grad tau||_2 are largest, ``(*batch_shape, d)`` each, in pixels."""

    def farthest(self) -> Tensor:
        """A point where |tau| is largest, ``(*batch_shape, d)`` in pixels."""
        return self.places()[0]


class Shiftable(Tiltable, abc.ABC):
    """A field to which a constant can be added inside its family."""

    @abc.abstractmethod
    def shifted(self, vector: Tensor) -> Self:
        """tau + vector, a tensor ``(*batch_shape, d)`` in pixels; the norms of the derivatives are those of tau."""

    def filled(self, direction: Tensor, bound: Tensor) -> "Filled":
        """tau + s e with the least of the s_u >= 0 for which |tau(u) + s_u e| = a: sup |tau + s e| = a.

        Args:
            direction: e, a unit vector ``(d,)``.
            bound: a in pixels, ``batch_shape``; not below sup |tau|, otherwise only ``Filled.alone`` has a meaning.
        """
        return exchanged(self, direction, bound, 2 * bound)


class Filled(NamedTuple):
    """A field whose constant fills up a bound.

    Args:
        field: tau + s e.
        s: its constant, in pixels, ``batch_shape``.
        place: a point where |tau + s e| is largest, ``(*batch_shape, d)`` in pixels.
        alone: sup |tau| in pixels or somewhat more, ``batch_shape``.
    """

    field: Shiftable
    s: Tensor
    place: Tensor
    alone: Tensor


def exchanged(field: Shiftable, direction: Tensor, bound: Tensor, s: Tensor) -> Filled:
    """``Shiftable.filled`` by exchange: the farthest point of tau + s e gives the next s, from an upper value on."""
    with torch.no_grad():
        alone = field.norms().displacement.lower
        if bool((alone > bound * (1 + _ROUND_OFF)).any()):
            return Filled(field, torch.zeros_like(bound), field.farthest(), alone)
        for _ in range(_EXCHANGES):
            shifted = field.shifted((s[..., None] * direction).to(field.dtype))
            far = shifted.farthest()
            new = torch.minimum(s, length_of_shift(field.displacement(far, each=True), direction, bound))
            if bool(((s - new) <= 1e-14 * bound).all()):
                return Filled(shifted, s, far, alone)
            s = new
        return Filled(field.shifted((s[..., None] * direction).to(field.dtype)), s, far, alone)


def length_of_shift(tau: Tensor, e: Tensor, a: Tensor) -> Tensor:
    """The least s >= 0 with |tau + s e| = a, for values tau ``(*batch_shape, d)`` with |tau| <= a."""
    along = (tau * e).sum(-1)
    across = tau.square().sum(-1) - along.square()
    return ((a.square() - across).clamp_min(0).sqrt() - along).clamp_min(0)


class Steerable(Deformation, abc.ABC):
    """A field whose norms are not homogeneous in what it is made of, and which meets targets by a search of its own."""

    @abc.abstractmethod
    def steered(self, displacement_norm: Tensor | None, jacobian_norm: Tensor | None) -> Self:
        """The field with these norms (None: left free), never above them and at most 1e-3 below.

        Args:
            displacement_norm: a > 0 in pixels, broadcasts with ``batch_shape``.
            jacobian_norm: b > 0, dimensionless, likewise.

        Raises:
            ValueError: if a pair is out of reach; says what is reachable.
        """


def tilting(squared: Tensor, present: Tensor, theta: Tensor) -> Tensor:
    """exp(theta |omega|^2 / R^2) up to a factor that makes the largest weight 1, for theta in [-inf, inf].

    Args:
        squared: |omega|^2 / R^2, ``(M,)``.
        present: which frequencies have a nonzero coefficient, ``(*batch_shape, M)`` bool; the others get weight 0.
        theta: broadcasts with ``batch_shape``.

    Returns:
        Tensor ``(..., M)``.
    """
    highest = torch.where(present, squared, -1.0).amax(-1, keepdim=True)
    lowest = torch.where(present, squared, 2.0).amin(-1, keepdim=True)
    distance = squared - torch.where(theta[..., None] > 0, highest, lowest)
    exponent = torch.where(distance.abs() < 1e-12, 0.0, distance * theta[..., None])
    return torch.where(present, exponent, -torch.inf).exp()
