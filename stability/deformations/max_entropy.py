r"""Max-entropy displacements: sine series that vanish at the border of the window, with variances T / |k|^2.

Continued oddly over the borders, tau is a trigonometric polynomial on the torus of twice the sides. For the reflection
R of an axis tau(R u) = -tau(u), grad tau(R u) = -grad tau(u) R, D^2 tau(R u)[R e, R e] = -D^2 tau(u)[e, e]: |tau|,
||grad tau||_2 and the norm of the second derivative have the same suprema there as over the window. The divergence
tr grad tau is not invariant; its supremum is enclosed over the window, border included.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from stability.deformations.base import Deformation
from stability.deformations.checks import check_factor, check_generator
from stability.deformations.domains import Window
from stability.deformations.family import Family
from stability.deformations.norms import Interval, Norms
from stability.deformations.oscillation import oscillation
from stability.deformations.parameters import check_edge
from stability.deformations.pointwise import searched
from stability.deformations.ratios import SpectralRatios
from stability.deformations.series import FourierSeries
from stability.deformations.spectral import Tiltable, tilting
from stability.deformations.temperature import half_waves, one_temperature
from stability.grid import check_size, sides


@final
class MaxEntropyField(Family, Tiltable):
    r"""tau(u) = sum_k C_k prod_a sin(pi k_a s_a), s_a = (u_a + edge) / side_a, k_a >= 1: the sine series of the window.

    tau vanishes at the window's border and its gradient does not: repeated with the image's period tau is Lipschitz
    with the same |tau| and ||grad tau||, but grad tau jumps across the seam. ``norms().hessian.lower`` and
    ``derivative_bounds`` are those of the open window, ``norms().hessian.upper`` is inf.

    Args:
        coefficients: C in pixels, ``(*batch_shape, M, d)``.
        modes: positive integers k = (k_x, k_y), half waves per side, ``(M, d)``, all different.
        size: ``(N,)`` or ``(H, W)``.
        edge: distance from the border to the centre of the first pixel in pixels, >= 0; 0.5: the border of its cell.

    Raises:
        ValueError: if shapes do not fit, modes are not positive or repeated, or the edge is negative.

    Convention: the window is [-edge, N - edge] on each axis, pixel centres at 0 ... N - 1. Points outside are taken
    modulo the sides; at the border grad tau is that of the side on which the point lies.

    Reference: Petrini, Favero, Geiger & Wyart 2021.

    >>> arch = MaxEntropyField(torch.tensor([[2.0]]), torch.tensor([[1]]), size=(8,))
    >>> arch.displacement(torch.tensor([[-0.5], [3.5], [7.5]]))[:, 0]
    tensor([ 0.0000e+00,  2.0000e+00, -1.7485e-07])
    """

    AXES: ClassVar = {"coefficients": 2}
    LINEAR: ClassVar = frozenset(AXES)

    def __init__(self, coefficients: Tensor, modes: Tensor, *, size: Sequence[int], edge: float = 0.5) -> None:
        size = check_size(size)
        d = len(size)
        if modes.ndim != 2 or modes.shape[1] != d or modes.is_floating_point() or not bool((modes > 0).all()):
            raise ValueError(
                f"modes must be positive integers (M, {d}) for size {size}, got {tuple(modes.shape)} {modes.dtype}; "
                "use MaxEntropyField.sample"
            )
        if len(torch.unique(modes, dim=0)) != len(modes):
            raise ValueError("modes must be all different, got equal rows; add the coefficients of equal modes")
        if coefficients.shape[-2:] != modes.shape:
            raise ValueError(
                f"coefficients must have shape (*batch_shape, {len(modes)}, {d}), got {tuple(coefficients.shape)}; "
                "one row per mode"
            )
        tensors, shared = {"coefficients": coefficients}, {"modes": modes}
        self._keep(size, tensors, shared=shared, settings={"edge": check_edge(edge)})

    @classmethod
    def sample(
        cls,
        size: Sequence[int],
        *,
        cutoff: float,
        temperature: float | None = None,
        typical_displacement: float | None = None,
        edge: float = 0.5,
        batch_shape: Sequence[int] = (),
        generator: torch.Generator,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> Self:
        """Independent C_kj ~ N(0, T / |k|^2) times the shorter side for all k with |k| <= cutoff.

        Both components are in units of the shorter side, also where H != W; k counts half waves per side of its axis.
        The same field at every resolution: ``sample((2 H, 2 W), edge=2 edge)`` with an equal generator and temperature
        (or twice the typical displacement) is ``sample((H, W)).refined(2)``, tau_2(2 u) = 2 tau_1(u).

        Args:
            size: ``(N,)`` or ``(H, W)``.
            cutoff: c, largest |k|: sqrt(d) <= c < min(size).
            temperature: T > 0, dimensionless.
            typical_displacement: delta > 0 in pixels, turned into T by ``temperature``. Exactly one of the two.
            edge: see the class.
            batch_shape: shape of the batch of fields.
            generator: where the random numbers come from; drawn on its device in float64.
            dtype: floating-point type of the field.
            device: where the field is put, by default the generator's device.

        Raises:
            ValueError: if the cutoff is out of range, or not exactly one of the two parameters is given.
            TypeError: if there is no generator.

        >>> rng = torch.Generator().manual_seed(0)
        >>> MaxEntropyField.sample((32, 32), cutoff=3, typical_displacement=1.0, batch_shape=(8,), generator=rng)
        MaxEntropyField(size=(32, 32), batch_shape=(8,))
        """
        size = check_size(size)
        check_generator(generator)
        d, side = len(size), min(size)
        if isinstance(cutoff, bool) or not isinstance(cutoff, int | float) or not math.sqrt(d) <= cutoff < side:
            raise ValueError(
                f"cutoff must be at least {math.sqrt(d):.6g} and below {side} half waves for size {size}, "
                f"got {cutoff!r}; use cutoff=3"
            )
        t = one_temperature(temperature, typical_displacement, cutoff, side, d)
        modes = half_waves(cutoff, d).to(generator.device)
        amplitude = side * math.sqrt(t) / modes.to(torch.float64).norm(dim=-1, keepdim=True)
        shape = (*batch_shape, *modes.shape)
        draw = torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float64) * amplitude
        coefficients = draw.to(dtype=dtype, device=generator.device if device is None else device)
        return cls(coefficients, modes.to(coefficients.device), size=size, edge=edge)

    @property
    def coefficients(self) -> Tensor:
        """C in pixels, ``(*batch_shape, M, d)``."""
        return self._tensors["coefficients"]

    @property
    def modes(self) -> Tensor:
        """k, ``(M, d)`` positive integers."""
        return self._shared["modes"]

    @property
    def edge(self) -> float:
        """How far the border lies before the centre of the first pixel, in pixels."""
        return check_edge(self._settings["edge"])

    @property
    def frequencies(self) -> Tensor:
        """omega_k = pi k_a / side_a in radians per pixel, ``(M, d)``, last axis (x, y)."""
        return math.pi * self.modes.to(torch.float64) / sides(self.size, device=self.device)

    @property
    def domain(self) -> Window:
        """[-edge, N - edge] on each axis; tau vanishes at its border, grad tau jumps across the seam."""
        return Window(self.size, self.edge, vanishing=True, gradient_jump=True)

    def derivative(self, points: Tensor, order: int) -> Tensor:
        """Products of (points, M) tables of sines and cosines of each axis with the coefficients."""
        offset, period = points + self.edge, sides(self.size, dtype=self.dtype, device=self.device)
        slack = 8 * torch.finfo(self.dtype).eps * period
        inside = (offset >= -slack) & (offset <= period + slack)  # the right border is not the left one
        offset = torch.where(inside, offset, torch.remainder(offset, period))
        tables = [self._along(offset[..., axis], axis, order) for axis in range(self.d)]
        coefficients = self._rows("coefficients")
        values: dict[tuple[int, ...], Tensor] = {}
        for axes in itertools.combinations_with_replacement(range(self.d), order):
            factors = [tables[axis][axes.count(axis)] for axis in range(self.d)]
            values[axes] = functools.reduce(torch.mul, factors) @ coefficients  # (n, P, d)
        columns = [values[tuple(sorted(axes))] for axes in itertools.product(range(self.d), repeat=order)]
        return torch.stack(columns, dim=-1).unflatten(-1, (self.d,) * order) if order else columns[0]

    def suprema(self) -> Norms:
        """Suprema over the window: those of the odd continuation; the divergence by a search and certificate inside."""
        whole = self._continued.norms()
        never = torch.full(self.batch_shape, torch.inf, dtype=torch.float64, device=self.device)
        return Norms(
            whole.displacement,
            whole.jacobian,
            Interval(lambda: whole.hessian.lower, lambda: never),
            whole.jacobian if self.d == 1 else searched(self).divergence,
            oscillation(self),
        )

    def derivative_bounds(self) -> list[Tensor]:
        """Those of the odd continuation, which hold in the open window; grad tau jumps across the seam."""
        return self._continued.derivative_bounds()

    def refined(self, factor: int) -> Self:
        """The same field with ``factor`` times as many pixels per side, ``edge`` included: tau_f(f u) = f tau(u)."""
        check_factor(factor)
        result = self._with({"coefficients": self.coefficients * factor}, self.norms().refined(factor))
        result._size = tuple(factor * side for side in self.size)
        result._settings = {"edge": factor * self.edge}
        return result

    def tilted(self, theta: Tensor) -> Self:
        """The coefficients times exp(theta |omega|^2 / R^2), largest weight 1; see ``Tiltable``."""
        squared = self.frequencies.square().sum(-1)
        present = (self.coefficients != 0).any(-1)  # (*batch_shape, M)
        weight = tilting(squared / squared.max(), present, theta)[..., None].to(self.dtype)
        return self._with({"coefficients": self.coefficients * weight})

    def ratios(self) -> SpectralRatios:
        """Those of the odd continuation, whose norms and tilt are the same."""
        return self._continued.ratios()

    def places(self) -> tuple[Tensor, Tensor]:
        """Points of the window where |tau| and ||grad tau||_2 are largest, ``(*batch_shape, d)`` each, in pixels."""
        period = sides(self.size, device=self.device)
        far, steep = (torch.remainder(place, 2 * period) for place in self._continued.places())
        return torch.minimum(far, 2 * period - far) - self.edge, torch.minimum(steep, 2 * period - steep) - self.edge

    def plus(self, other: Deformation) -> Deformation | None:
        """The field with the union of the modes; None for one that is no sine series of the same window."""
        if not isinstance(other, MaxEntropyField) or other.edge != self.edge or other.size != self.size:
            return None
        union, place = torch.unique(torch.cat([self.modes, other.modes]), dim=0, return_inverse=True)
        first, second = (
            part.coefficients.new_zeros((*part.batch_shape, len(union), self.d)).index_add(-2, at, part.coefficients)
            for part, at in zip((self, other), place.split([len(self.modes), len(other.modes)]), strict=True)
        )
        return type(self)(first + second, union, size=self.size, edge=self.edge)

    @functools.cached_property
    def _continued(self) -> FourierSeries:
        """The odd continuation as a function of u + edge on the torus of twice the sides, in double precision."""
        coefficients = self.coefficients.detach().to(torch.float64)
        size = tuple(2 * side for side in self.size)
        zero = torch.zeros_like(coefficients)
        if self.d == 1:
            return FourierSeries(self.modes, zero, coefficients, size=size)
        # sin a sin b = (cos(a - b) - cos(a + b)) / 2
        modes = torch.cat([self.modes * self.modes.new_tensor([1, -1]), self.modes])
        cosine = torch.cat([coefficients, -coefficients], dim=-2) / 2
        return FourierSeries(modes, cosine, torch.cat([zero, zero], dim=-2), size=size)

    def _along(self, offset: Tensor, axis: int, order: int) -> list[Tensor]:
        """sin(omega_a t) and its derivatives up to the order for the M modes, ``(n or 1, P, M)`` each."""
        omega, column = torch.unique(self.frequencies[:, axis].to(self.dtype), return_inverse=True)
        phase = offset[..., None] * omega
        sine, cosine = phase.sin(), phase.cos()
        return [table[..., column] for table in (sine, omega * cosine, -omega.square() * sine)[: order + 1]]
