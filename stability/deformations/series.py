r"""Trigonometric polynomials as displacement fields: what all families with a finite spectrum on the torus share."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor

from stability.deformations import lengths
from stability.deformations.base import Deformation
from stability.deformations.checks import check_factor
from stability.deformations.family import Family
from stability.deformations.filling import SMOOTH, filling
from stability.deformations.modes import angular, distinct, half, lattice
from stability.deformations.norms import Interval, Norms
from stability.deformations.oscillation import oscillation
from stability.deformations.ratios import SpectralRatios
from stability.deformations.spectral import Filled, Shiftable, exchanged, tilting
from stability.deformations.suprema import Supremum
from stability.deformations.trigonometric import TrigonometricBatch
from stability.grid import check_size

_PAIRS = {1: ((0, 0),), 2: ((0, 0), (0, 1), (1, 1))}
"""The second derivatives that differ."""

_NODES_OF_BILINEAR = 20
"""Per shortest wavelength: the norm of a bilinear map has edges, at which maxima lie close together."""


class FourierSeries(Family, Shiftable):
    """tau_j(u) = mean_j + sum_k A_kj cos(omega_k . u) + B_kj sin(omega_k . u), omega_k = 2 pi (k_x / W, k_y / H).

    Families with a law of their own for the coefficients derive from it; the sum of two different ones is a plain
    ``FourierSeries``.

    Args:
        modes: integers k = (k_x, k_y), ``(M, d)``, nonzero, no two equal up to sign.
        cosine: A in pixels, ``(*batch_shape, M, d)``.
        sine: B in pixels, the same shape.
        size: ``(N,)`` or ``(H, W)``.
        mean: the constant part in pixels, ``(*batch_shape, d)``; 0 by default.

    Raises:
        ValueError: if shapes do not fit or modes are zero or repeated.

    >>> wave = FourierSeries(torch.tensor([[1]]), torch.tensor([[2.0]]), torch.tensor([[0.0]]), size=(8,))
    >>> wave.displacement(torch.tensor([[0.0], [4.0]]))[:, 0]
    tensor([ 2., -2.])
    """

    AXES: ClassVar = {"cosine": 2, "sine": 2, "mean": 1}
    LINEAR: ClassVar = frozenset(AXES)

    def __init__(
        self, modes: Tensor, cosine: Tensor, sine: Tensor, *, size: Sequence[int], mean: Tensor | None = None
    ) -> None:
        size = check_size(size)
        d = len(size)
        if modes.ndim != 2 or modes.shape[1] != d or modes.is_floating_point():
            raise ValueError(f"modes must be integers (M, {d}) for size {size}, got {tuple(modes.shape)}")
        if cosine.shape != sine.shape or cosine.shape[-2:] != modes.shape:
            raise ValueError(
                f"cosine and sine must have shape (*batch_shape, {len(modes)}, {d}), "
                f"got {tuple(cosine.shape)} and {tuple(sine.shape)}; one row per mode"
            )
        if not distinct(modes):
            raise ValueError("modes must be nonzero and distinct up to sign; add the coefficients of equal modes")
        mean = cosine.new_zeros(*cosine.shape[:-2], d) if mean is None else mean
        self._keep(size, {"cosine": cosine, "sine": sine, "mean": mean}, shared={"modes": modes})

    @property
    def modes(self) -> Tensor:
        """k, ``(M, d)`` integers."""
        return self._shared["modes"]

    @property
    def cosine(self) -> Tensor:
        """A in pixels, ``(*batch_shape, M, d)``."""
        return self._tensors["cosine"]

    @property
    def sine(self) -> Tensor:
        """B in pixels, ``(*batch_shape, M, d)``."""
        return self._tensors["sine"]

    @property
    def mean(self) -> Tensor:
        """The constant part, ``(*batch_shape, d)`` in pixels."""
        return self._tensors["mean"]

    @property
    def frequencies(self) -> Tensor:
        """omega_k in radians per pixel, ``(M, d)``, last axis (x, y)."""
        return angular(self.modes, self.size)

    @property
    def volume_preserving(self) -> Tensor:
        """Shears: all waves along one direction, all displacements across it, exactly."""
        cosine, sine = self._rows("cosine").detach(), self._rows("sine").detach()
        moves, k = ((cosine != 0) | (sine != 0)).any(-1), self.modes.to(cosine.dtype)  # (n, M)
        along = k * k.new_tensor(self.size)  # omega is proportional to k / (W, H), that is to (k_x H, k_y W)
        compresses = (((cosine * along).sum(-1) != 0) | ((sine * along).sum(-1) != 0)).any(-1)
        if self.d == 2:
            first = k[moves.to(torch.uint8).argmax(-1)]
            turned = k[:, 0] * first[:, 1:] - k[:, 1] * first[:, :1] != 0
            compresses |= (moves & turned).any(-1)
        return (~compresses).reshape(self.batch_shape)

    def derivative(self, points: Tensor, order: int) -> Tensor:
        """Products of (points, M) tables of cosines and sines with the coefficients times powers of omega."""
        omega = self.frequencies.to(self.dtype)
        phase = points @ omega.T  # (n or 1, P, M)
        # the derivative turns (cos, sin) by a quarter each time: (A, B) -> (B, -A) -> (-A, -B)
        cosine, sine = self._rows("cosine"), self._rows("sine")
        cosine, sine = ((cosine, sine), (sine, -cosine), (-cosine, -sine))[order]
        columns = []
        for part in (cosine, sine):
            for axis in range(order):
                part = part.unsqueeze(-1) * omega.reshape(-1, *([1] * (axis + 1)), self.d)
            columns.append(part.reshape(len(part), len(omega), self.d ** (order + 1)))  # (n, M, C)
        if len(phase) == 1 and len(columns[0]) > 1:  # one table for all fields
            joined = [part.transpose(0, 1).flatten(1) for part in columns]  # (M, n C)
            values = phase[0].cos() @ joined[0] + phase[0].sin() @ joined[1]
            values = values.reshape(phase.shape[1], -1, self.d ** (order + 1)).transpose(0, 1)
        else:
            values = phase.cos() @ columns[0] + phase.sin() @ columns[1]
        values = values.reshape(*values.shape[:2], *(self.d,) * (order + 1))
        return values + self._rows("mean")[:, None] if order == 0 else values

    def on_grid(self, oversample: int = 1) -> Tensor:
        """tau on the grid of (1 / oversample) pixels: one product per axis instead of tables over points and modes."""
        counts = tuple(check_factor(oversample) * side for side in self.size)
        mean = self._rows("mean")[:, None]
        coefficients = torch.complex(self._rows("cosine"), -self._rows("sine"))  # (n, M, d)
        constant = mean.requires_grad or bool(mean.any())
        if constant:
            coefficients = torch.cat([coefficients, torch.complex(mean, torch.zeros_like(mean))], dim=1)
        values = TrigonometricBatch(lattice(self.modes, self.size, constant=constant), coefficients).on_grid(counts)
        return values.reshape(*self.batch_shape, *counts, self.d)

    def suprema(self) -> Norms:
        """Suprema over the torus: lower by local refinement, upper by the cosine certificate (see ``suprema``)."""
        return Norms(
            self._interval(lambda: self._farthest),
            self._interval(lambda: self._steepest),
            self._interval(lambda: Supremum(self._polynomials(2), lengths.bilinear, nodes=_NODES_OF_BILINEAR)),
            self._interval(lambda: Supremum(self._polynomials(1), lengths.trace)),
            oscillation(self),
        )

    def derivative_bounds(self) -> list[Tensor]:
        """The certified norms, and Bernstein's inequality A_(k + 1) <= R A_k beyond the second derivative."""
        n, bandwidth = self.norms(), self._polynomials(0).bandwidths
        bounds = [value.upper.reshape(-1) for value in (n.displacement, n.jacobian, n.hessian)]
        return [*bounds, bounds[2] * bandwidth, bounds[2] * bandwidth.square()]

    def refined(self, factor: int) -> Self:
        """The same field with ``factor`` times as many pixels per side: tau_f(f u) = f tau(u)."""
        check_factor(factor)
        result = self._with(
            {name: value * factor for name, value in self._tensors.items()}, self.norms().refined(factor)
        )
        result._size = tuple(factor * side for side in self.size)
        return result

    def without_mean(self) -> Self:
        """tau - mean; the norms of the derivatives are those of tau."""
        return self.shifted(-self.mean)

    def shifted(self, vector: Tensor) -> Self:
        """tau + vector, a tensor ``(*batch_shape, d)`` in pixels; the norms of the derivatives are those of tau."""
        result = self._with({"mean": self.mean + vector})
        if "_waves" in vars(self):
            result._waves = self._waves
        displacement = result._interval(lambda: result._farthest)
        result._norms = dataclasses.replace(self.homogeneous_norms(), displacement=displacement)
        return result

    def places(self) -> tuple[Tensor, Tensor]:
        """Points where |tau| and ||grad tau||_2 are largest, ``(*batch_shape, d)`` each, in pixels."""
        shape = (*self.batch_shape, self.d)
        return self._farthest.argument.reshape(shape), self._steepest.argument.reshape(shape)

    def tilted(self, theta: Tensor) -> Self:
        """The coefficients times exp(theta |omega|^2 / R^2), largest weight 1, without the mean; see ``Tiltable``."""
        squared = self.frequencies.square().sum(-1)
        squared = squared / squared.max()  # (M,)
        present = (self.cosine.abs() + self.sine.abs()).sum(-1) > 0  # (*batch_shape, M)
        weight = tilting(squared, present, theta)[..., None].to(self.dtype)
        zero = torch.zeros_like(weight[..., 0, :] * self.mean)
        return self._with({"cosine": self.cosine * weight, "sine": self.sine * weight, "mean": zero})

    def on(self, modes: Tensor) -> Self:
        """The same field on a larger set of modes of the upper half plane; the new ones have amplitude 0."""
        union, place = torch.unique(torch.cat([half(self.modes), modes]), dim=0, return_inverse=True)
        cosine, sine = self._placed(place[: len(self.modes)], len(union))
        result = self._with({"cosine": cosine, "sine": sine}, self.norms())
        result._shared = {"modes": union}
        return result

    def ratios(self) -> SpectralRatios:
        """r by tilting the coefficients themselves."""
        fields = self._waves
        squared = fields.omega.square().sum(-1)
        return SpectralRatios(fields, squared / squared.max())

    def filled(self, direction: Tensor, bound: Tensor) -> Filled:
        """By a search for the largest of the function that s is made of, see ``filling``, where that is smooth."""
        flat = bound.to(torch.float64).expand(self.batch_shape).reshape(-1)
        with torch.no_grad():
            found = filling(self._waves, direction.to(torch.float64), flat)
            s = found.s.reshape(self.batch_shape)
            if bool((found.alone > SMOOTH).any()):
                return exchanged(self, direction, bound, s)
            result = self.shifted((s[..., None] * direction).to(self.dtype))
        result._place = found.place
        place = found.place.reshape(*self.batch_shape, self.d)
        return Filled(result, s, place, (found.alone * flat).reshape(self.batch_shape))

    def farthest(self) -> Tensor:
        """A point where |tau| is largest, ``(*batch_shape, d)`` in pixels."""
        return self._farthest.argument.reshape(*self.batch_shape, self.d)

    @property
    def varies(self) -> Tensor:
        """Which fields are not constant: those with a coefficient that is not 0."""
        return (self.cosine.abs() + self.sine.abs()).sum((-2, -1)) != 0

    @functools.cached_property
    def _waves(self) -> TrigonometricBatch:
        """tau without its mean, in double precision."""
        cosine, sine = (self._rows(name).detach().to(torch.float64) for name in ("cosine", "sine"))
        return TrigonometricBatch(lattice(self.modes, self.size), torch.complex(cosine, -sine))

    def plus(self, other: Deformation) -> Deformation | None:
        """The field with the union of the modes; None for one that is no series."""
        if not isinstance(other, FourierSeries):
            return None
        union, place = torch.unique(torch.cat([half(self.modes), half(other.modes)]), dim=0, return_inverse=True)
        cosine, sine = (
            first + second
            for first, second in zip(
                self._placed(place[: len(self.modes)], len(union)),
                other._placed(place[len(self.modes) :], len(union)),
                strict=True,
            )
        )
        family = type(self) if type(self) is type(other) else FourierSeries
        return family(union, cosine, sine, size=self.size, mean=self.mean + other.mean)

    @functools.cached_property
    def _farthest(self) -> Supremum:
        return Supremum(self._polynomials(0), lengths.euclidean, argument=self._place)

    @functools.cached_property
    def _place(self) -> Tensor | None:
        """Where |tau| is largest, ``(n, d)``, if a search has found out before; cached, so that no relative has it."""
        return None

    @functools.cached_property
    def _steepest(self) -> Supremum:
        return Supremum(self._polynomials(1), lengths.spectral)

    def _placed(self, place: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Cosine and sine coefficients as rows ``place`` of ``count`` rows, for modes in the upper half plane."""
        sign = 1 - 2 * (half(self.modes) != self.modes).any(-1, keepdim=True).to(self.dtype)
        zero = self.cosine.new_zeros((*self.batch_shape, count, self.d))
        return zero.index_add(-2, place, self.cosine), zero.index_add(-2, place, self.sine * sign)

    def _interval(self, supremum: Callable[[], Supremum]) -> Interval:
        once = functools.cache(supremum)
        shape = self.batch_shape
        return Interval(lambda: once().lower.reshape(shape), lambda: once().upper.reshape(shape))

    def _polynomials(self, order: int) -> TrigonometricBatch:
        """The derivative of the given order as a flat batch, each different component once, in double precision."""
        waves = self._waves
        z, omega = waves.coefficients, waves.omega  # (n, M, d), (M, d)
        if order == 0:
            mean = self._rows("mean").detach().to(torch.float64)[:, None]
            if bool(mean.any()):
                z = torch.cat([z, torch.complex(mean, torch.zeros_like(mean))], dim=1)
                return TrigonometricBatch(lattice(self.modes, self.size, constant=True), z)
        elif order == 1:
            z = (z[..., None] * (1j * omega[:, None])).flatten(2)
        else:
            first, second = torch.tensor(_PAIRS[self.d], device=self.device).T
            z = (z[..., None] * -(omega[:, first] * omega[:, second])[:, None]).flatten(2)
        return waves.having(z)
