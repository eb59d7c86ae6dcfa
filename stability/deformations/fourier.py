r"""Band-limited Gaussian fields: trigonometric polynomials with frequencies in a disc."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Self, final

import torch
from torch import Tensor

from stability.deformations import lengths
from stability.deformations.base import Deformation, Scalar, check_factor, check_points
from stability.deformations.norms import Index, Interval, Norms
from stability.deformations.spectral import Spectral
from stability.deformations.suprema import Supremum
from stability.deformations.trigonometric import TrigonometricBatch
from stability.grid import check_size, sides

ROOT_MEAN_SQUARE = 1 / 32
"""Expected root mean square of |tau| for sampled fields, as a share of the shorter side."""

_PAIRS = {1: ((0, 0),), 2: ((0, 0), (0, 1), (1, 1))}
"""The second derivatives that differ."""


@final
class FourierField(Spectral):
    """tau_j(u) = mean_j + sum_k A_kj cos(omega_k . u) + B_kj sin(omega_k . u), omega_k = 2 pi (k_x / W, k_y / H).

    Args:
        modes: integers k = (k_x, k_y), ``(M, d)``, nonzero, no two equal up to sign.
        cosine: A in pixels, ``(*batch_shape, M, d)``.
        sine: B in pixels, the same shape.
        size: ``(N,)`` or ``(H, W)``.
        mean: the constant part in pixels, ``(*batch_shape, d)``; 0 by default.

    Raises:
        ValueError: if shapes do not fit or modes are zero or repeated.

    >>> wave = FourierField(torch.tensor([[1]]), torch.tensor([[2.0]]), torch.tensor([[0.0]]), size=(8,))
    >>> wave.displacement(torch.tensor([[0.0], [4.0]]))[:, 0]
    tensor([ 2., -2.])
    """

    def __init__(
        self, modes: Tensor, cosine: Tensor, sine: Tensor, *, size: Sequence[int], mean: Tensor | None = None
    ) -> None:
        self._size = check_size(size)
        d = len(self._size)
        if modes.ndim != 2 or modes.shape[1] != d or modes.is_floating_point():
            raise ValueError(f"modes must be integers (M, {d}) for size {self._size}, got {tuple(modes.shape)}")
        if cosine.shape != sine.shape or cosine.shape[-2:] != modes.shape:
            raise ValueError(
                f"cosine and sine must have shape (*batch_shape, {len(modes)}, {d}), "
                f"got {tuple(cosine.shape)} and {tuple(sine.shape)}; one row per mode"
            )
        both = torch.cat([modes, -modes])
        if len(torch.unique(both, dim=0)) != len(both):
            raise ValueError("modes must be nonzero and distinct up to sign; add the coefficients of equal modes")
        self.modes = modes
        self.cosine = cosine
        self.sine = sine
        self._mean = torch.zeros_like(cosine[..., 0, :]) if mean is None else mean.expand(*cosine.shape[:-2], d)
        self._norms: Norms | None = None

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
        """Mean-free stationary Gaussian fields with a flat spectrum: E |tau(u)|^2 = (shorter side / 32)^2.

        The order of the draws depends on ``cutoff`` and the ratio of the sides only, so ``sample((2 H, 2 W))`` with an
        equal generator is the same field at twice the resolution: tau_2(2 u) = 2 tau_1(u).

        Args:
            size: ``(N,)`` or ``(H, W)``.
            cutoff: radius of the disc of frequencies in cycles per shorter side, 1 <= cutoff < min(size) / 2:
                0 < |omega| <= 2 pi cutoff / min(size).
            batch_shape: shape of the batch of fields.
            generator: where the random numbers come from; drawn on its device in float64.
            dtype: floating-point type of the field.
            device: where the field is put, by default the generator's device.

        Raises:
            ValueError: if the cutoff is out of range.
            TypeError: if there is no generator.

        >>> rng = torch.Generator().manual_seed(0)
        >>> FourierField.sample((32, 32), cutoff=3, batch_shape=(8,), generator=rng)
        FourierField(size=(32, 32), batch_shape=(8,))
        """
        size = check_size(size)
        if not isinstance(generator, torch.Generator):
            raise TypeError(
                f"generator must be a torch.Generator, got {generator!r}; use torch.Generator().manual_seed(0)"
            )
        if isinstance(cutoff, bool) or not isinstance(cutoff, int | float) or not 1 <= cutoff < min(size) / 2:
            raise ValueError(
                f"cutoff must be at least 1 and below {min(size) / 2} cycles per shorter side for size {size}, "
                f"got {cutoff!r}; use cutoff=3"
            )
        modes = _disc(size, cutoff)
        amplitude = ROOT_MEAN_SQUARE * min(size) / math.sqrt(modes.numel())
        shape = (2, *batch_shape, *modes.shape)
        draw = torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float64) * amplitude
        draw = draw.to(dtype=dtype, device=device if device is not None else generator.device)
        return cls(modes.to(draw.device), draw[0], draw[1], size=size)

    @property
    def size(self) -> tuple[int, ...]:
        """``(N,)`` or ``(H, W)`` of the torus in pixels."""
        return self._size

    @property
    def mean(self) -> Tensor:
        """The constant part, ``(*batch_shape, d)`` in pixels."""
        return self._mean

    @property
    def frequencies(self) -> Tensor:
        """omega_k in radians per pixel, ``(M, d)``, last axis (x, y)."""
        return 2 * math.pi * self.modes.to(torch.float64) / sides(self._size, device=self.device)

    def displacement(self, points: Tensor) -> Tensor:
        """tau(u), ``(*batch_shape, ..., d)`` for points ``(..., d)``."""
        value = self._evaluate(points, 0)
        return value + self._mean.reshape(*self.batch_shape, *([1] * (points.ndim - 1)), self.d)

    def jacobian(self, points: Tensor) -> Tensor:
        """-A sin (x) omega + B cos (x) omega, ``(*batch_shape, ..., d, d)``."""
        return self._evaluate(points, 1)

    def hessian(self, points: Tensor) -> Tensor:
        """-(A cos + B sin) (x) omega (x) omega, ``(*batch_shape, ..., d, d, d)``."""
        return self._evaluate(points, 2)

    def norms(self) -> Norms:
        """Suprema over the torus: lower by local refinement, upper by the cosine certificate (see ``suprema``)."""
        if self._norms is None:
            self._norms = Norms(
                self._interval(lambda: self._farthest),
                self._interval(lambda: Supremum(self._polynomials(1), lengths.spectral)),
                self._interval(lambda: Supremum(self._polynomials(2), lengths.bilinear)),
                self._interval(lambda: Supremum(self._polynomials(1), lengths.trace)),
            )
        return self._norms

    def scaled(self, factor: Scalar) -> Self:
        """factor * tau; the norms are |factor| times those of tau, at no cost."""
        value = torch.as_tensor(factor, dtype=self.dtype, device=self.device)
        weight = value[..., None, None]
        return self._with(
            self.cosine * weight, self.sine * weight, self._mean * value[..., None], norms=self.norms().scaled(value)
        )

    def __getitem__(self, index: Index) -> Self:
        positions = torch.arange(self.batch_shape.numel(), device=self.device).reshape(self.batch_shape)[index]
        cosine, sine = (value.reshape(-1, *self.modes.shape)[positions] for value in (self.cosine, self.sine))
        return self._with(cosine, sine, self._mean.reshape(-1, self.d)[positions], norms=self.norms()[index])

    def refined(self, factor: int) -> Self:
        """The same field with ``factor`` times as many pixels per side: tau_f(f u) = f tau(u)."""
        check_factor(factor)
        size = tuple(factor * side for side in self._size)
        result = type(self)(self.modes, self.cosine * factor, self.sine * factor, size=size, mean=self._mean * factor)
        result._norms = self.norms().refined(factor)
        return result

    def without_mean(self) -> Self:
        """tau - mean; the norms of the derivatives are those of tau."""
        return self.shifted(-self._mean)

    def shifted(self, vector: Tensor) -> Self:
        """tau + vector, a tensor ``(*batch_shape, d)`` in pixels; the norms of the derivatives are those of tau."""
        result = self._with(self.cosine, self.sine, self._mean + vector)
        result._norms = dataclasses.replace(self.norms(), displacement=result.norms().displacement)
        return result

    def largest_displacement(self) -> Tensor:
        """tau(u*) at a point u* where |tau| is largest, ``(*batch_shape, d)`` in pixels."""
        return self._farthest.value.reshape(*self.batch_shape, self.d).to(self.dtype)

    def tilted(self, theta: Tensor) -> Self:
        """The coefficients times exp(theta |omega|^2 / R^2), largest weight 1, without the mean; see ``Spectral``."""
        squared = self.frequencies.square().sum(-1)
        squared = squared / squared.max()  # (M,)
        present = (self.cosine.abs() + self.sine.abs()).sum(-1) > 0  # (*batch_shape, M)
        highest = torch.where(present, squared, -1.0).amax(-1, keepdim=True)
        lowest = torch.where(present, squared, 2.0).amin(-1, keepdim=True)
        distance = squared - torch.where(theta[..., None] > 0, highest, lowest)
        exponent = torch.where(distance.abs() < 1e-12, 0.0, distance * theta[..., None])
        weight = torch.where(present, exponent, -math.inf).exp()[..., None].to(self.dtype)
        return self._with(self.cosine * weight, self.sine * weight, torch.zeros_like(weight[..., 0, :] * self._mean))

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        """The same field with another floating-point type or on another device; its norms are kept."""
        result = type(self)(
            self.modes.to(device=device),
            self.cosine.to(dtype=dtype, device=device),
            self.sine.to(dtype=dtype, device=device),
            size=self._size,
            mean=self._mean.to(dtype=dtype, device=device),
        )
        result._norms = self.norms().map(lambda interval: interval.map(lambda value: value.to(result.device)))
        return result

    def plus(self, other: Deformation) -> Self | None:
        """The field with the union of the modes; None for another family."""
        if not isinstance(other, FourierField):
            return None
        union, place = torch.unique(torch.cat([_half(self.modes), _half(other.modes)]), dim=0, return_inverse=True)
        cosine, sine = (
            first + second
            for first, second in zip(
                self._placed(place[: len(self.modes)], len(union)),
                other._placed(place[len(self.modes) :], len(union)),
                strict=True,
            )
        )
        return type(self)(union, cosine, sine, size=self._size, mean=self._mean + other._mean)

    @functools.cached_property
    def _farthest(self) -> Supremum:
        return Supremum(self._polynomials(0), lengths.euclidean)

    def _placed(self, place: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Cosine and sine coefficients as rows ``place`` of ``count`` rows, for modes in the upper half plane."""
        sign = 1 - 2 * (_half(self.modes) != self.modes).any(-1, keepdim=True).to(self.dtype)
        zero = self.cosine.new_zeros((*self.batch_shape, count, self.d))
        return zero.index_add(-2, place, self.cosine), zero.index_add(-2, place, self.sine * sign)

    def _with(self, cosine: Tensor, sine: Tensor, mean: Tensor, norms: Norms | None = None) -> Self:
        result = object.__new__(type(self))  # the modes were checked before
        result._size, result.modes, result._norms = self._size, self.modes, norms
        result.cosine, result.sine, result._mean = cosine, sine, mean.expand(*cosine.shape[:-2], self.d)
        return result

    def _interval(self, supremum: Callable[[], Supremum]) -> Interval:
        once = functools.cache(supremum)
        shape = self.batch_shape
        return Interval(lambda: once().lower.reshape(shape), lambda: once().upper.reshape(shape))

    def _evaluate(self, points: Tensor, order: int) -> Tensor:
        """Derivative of the given order: two products of (points, M) tables with (M, fields) coefficients."""
        leading = check_points(points, self.d).shape[:-1]
        omega = self.frequencies.to(self.dtype)
        phase = points.to(self.dtype).reshape(-1, self.d) @ omega.T  # (P, M)
        # the derivative turns (cos, sin) by a quarter each time: (A, B) -> (B, -A) -> (-A, -B)
        cosine, sine = ((self.cosine, self.sine), (self.sine, -self.cosine), (-self.cosine, -self.sine))[order]
        shape = (self.d,) * (order + 1)
        columns = []
        for part in (cosine, sine):
            for axis in range(order):
                part = part.unsqueeze(-1) * omega.reshape(-1, *([1] * (axis + 1)), self.d)
            columns.append(part.reshape(-1, len(omega), self.d ** (order + 1)).transpose(0, 1).flatten(1))  # (M, n C)
        values = phase.cos() @ columns[0] + phase.sin() @ columns[1]  # (P, n C)
        values = values.reshape(len(phase), -1, self.d ** (order + 1)).transpose(0, 1)
        return values.reshape(*self.batch_shape, *leading, *shape)

    def _polynomials(self, order: int) -> TrigonometricBatch:
        """The derivative of the given order as a flat batch, each different component once, in double precision."""
        omega = self.frequencies
        z = torch.complex(self.cosine.detach().to(torch.float64), -self.sine.detach().to(torch.float64))
        z = z.reshape(-1, *self.modes.shape)  # (n, M, d)
        if order == 0:
            mean = self._mean.detach().to(torch.float64).reshape(-1, 1, self.d)
            z = torch.cat([z, torch.complex(mean, torch.zeros_like(mean))], dim=1)
            omega = torch.cat([omega, omega.new_zeros(1, self.d)])
        elif order == 1:
            z = (z[..., None] * (1j * omega[:, None])).flatten(2)
        else:
            first, second = torch.tensor(_PAIRS[self.d], device=self.device).T
            z = (z[..., None] * -(omega[:, first] * omega[:, second])[:, None]).flatten(2)
        return TrigonometricBatch(omega, z, sides(self._size, device=self.device)).pruned()


def _half(modes: Tensor) -> Tensor:
    """Each mode or its negative: the one with k_y > 0, or k_y = 0 and k_x > 0."""
    first, last = modes[:, :1], modes[:, -1:]
    return torch.where((last < 0) | ((last == 0) & (first < 0)), -modes, modes)


def _disc(size: tuple[int, ...], cutoff: float) -> Tensor:
    """k != 0 of a half plane with |omega_k| <= 2 pi cutoff / min(size), ``(M, d)``; depends on ratios of sides only."""
    reach = [math.floor(cutoff * side / min(size)) for side in reversed(size)]  # (x, y)
    axes = [torch.arange(-k, k + 1) for k in reach]
    modes = torch.cartesian_prod(*axes).reshape(-1, len(size))
    radius = (modes * (min(size) / sides(size))).square().sum(-1)
    modes = modes[(radius <= cutoff**2 * (1 + 1e-12)) & (radius > 0)]
    return modes[(modes == _half(modes)).all(-1)]
