r"""Fields that vanish at the border of a window: a smooth taper times a band-limited field."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Self, final

import torch
from torch import Tensor

from stability.deformations import lengths
from stability.deformations.base import Deformation, Scalar, own_state
from stability.deformations.checks import check_factor, check_generator
from stability.deformations.domains import Window
from stability.deformations.enclosure import Enclosure, Losses
from stability.deformations.family import State
from stability.deformations.modes import draw_disc, lattice
from stability.deformations.norms import Index, Interval, Norms
from stability.deformations.oscillation import oscillation
from stability.deformations.series import FourierSeries
from stability.deformations.spectral import Tiltable
from stability.deformations.taper import Taper
from stability.deformations.tapered import TaperedLengths, directional_bounds, divergence_bounds, product_rule
from stability.deformations.trigonometric import TrigonometricBatch
from stability.grid import check_size

NODES_PER_WAVELENGTH = 18
"""Nodes of the first grid per shortest wavelength of f and axis."""

NODES_PER_RISE = 12
"""Nodes of the first grid per rise of the taper, at least."""


@final
class CompactField(Tiltable):
    r"""tau(u) = w(u) f(u): w a smooth taper, f a ``FourierSeries``; tau and its derivatives vanish at the border.

    w = prod_a s(t_a), s the smoothstep of degree 7, t_a = (distance from the border of axis a - border) / rise clipped
    to [0, 1]: w = 0 exactly on the margin, 1 exactly inside, three times continuously differentiable. tau vanishes
    at the window's border with its first three derivatives. So, continued by zero over the border and repeated with
    the image's period, it is a smooth field of the torus with the same norms: theorems for the torus and their
    proofs cover it under a periodic warp too.

    Args:
        inner: f, with or without a mean.
        border: width of the margin where tau = 0, in pixels, >= 0.
        rise: width on which w climbs, in pixels, >= 1; None: a quarter of each side. border + rise <= half a side.
        edge: distance from the border to the centre of the first pixel, in pixels; 0.5: the border of its cell.

    Raises:
        ValueError: if a width is out of range or does not fit.

    Convention: the window is [-edge, N - edge] on each axis, pixel centres at 0 ... N - 1. Points outside are taken
    modulo the sides, as on the torus.

    >>> from stability.deformations.fourier import FourierField
    >>> inner = FourierField.sample((16, 16), cutoff=2, generator=torch.Generator().manual_seed(0))
    >>> field = CompactField(inner, border=2.0)
    >>> field.displacement(torch.tensor([[-0.5, 3.0], [1.0, 8.0], [15.5, 15.5]])).abs().max()
    tensor(0., dtype=torch.float64)
    """

    def __init__(
        self, inner: FourierSeries, *, border: float = 0.0, rise: float | None = None, edge: float = 0.5
    ) -> None:
        if not isinstance(inner, FourierSeries):
            raise ValueError(f"inner must be a FourierSeries, got {type(inner).__name__}; use CompactField.sample")
        self.inner = inner
        self.taper = Taper(inner.size, border, rise, edge)
        self._norms: Norms | None = None

    @classmethod
    def sample(
        cls,
        size: Sequence[int],
        *,
        cutoff: float,
        batch_shape: Sequence[int] = (),
        generator: torch.Generator,
        border: float = 0.0,
        rise: float | None = None,
        edge: float = 0.5,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> Self:
        """w times the field that ``FourierField.sample`` draws with the same arguments.

        The same field at every resolution: ``sample((2 H, 2 W), border=2 border, rise=2 rise, edge=2 edge)`` with an
        equal generator is ``sample((H, W), ...).refined(2)``, tau_2(2 u) = 2 tau_1(u). With ``edge=0.5`` in both, the
        finer window follows the finer pixels' cells and w (not f) lies half a fine pixel further right and down.

        Args:
            size: ``(N,)`` or ``(H, W)``.
            cutoff: of f, in cycles per shorter side, see ``FourierField.sample``.
            batch_shape: shape of the batch of fields.
            generator: where the random numbers come from.
            border: see the class.
            rise: see the class.
            edge: see the class.
            dtype: floating-point type of the field.
            device: where the field is put, by default the generator's device.

        Raises:
            ValueError: if the cutoff or a width is out of range.

        >>> rng = torch.Generator().manual_seed(0)
        >>> CompactField.sample((28, 28), cutoff=3, batch_shape=(8,), generator=rng, border=2.0)
        CompactField(size=(28, 28), batch_shape=(8,))
        """
        size = check_size(size)
        modes, cosine, sine = draw_disc(size, cutoff, batch_shape, check_generator(generator))
        inner = FourierSeries(modes, cosine, sine, size=size).to(dtype=dtype, device=device)
        return cls(inner, border=border, rise=rise, edge=edge)

    @property
    def size(self) -> tuple[int, ...]:
        """``(N,)`` or ``(H, W)`` in pixels."""
        return self.inner.size

    @property
    def domain(self) -> Window:
        """[-edge, N - edge] on each axis."""
        return Window(self.size, self.taper.edge, vanishing=True)

    @property
    def vanishing_border(self) -> float | None:
        """The taper's border, in pixels."""
        return None if super().vanishing_border is None else float(self.taper.border)

    @property
    def mean(self) -> Tensor:
        """0, ``(*batch_shape, d)``: no constant can be split off a field that vanishes somewhere."""
        return torch.zeros_like(self.inner.mean)

    @property
    def requires_grad(self) -> bool:
        """Whether a tensor of f requires a gradient."""
        return self.inner.requires_grad

    def state(self) -> State:
        """f, and the widths of the taper."""
        return {"inner": self.inner}, {"border": self.taper.border, "rise": self.taper.rise, "edge": self.taper.edge}

    def derivative(self, points: Tensor, order: int) -> Tensor:
        """w f, w grad f + f (x) grad w, or second derivatives by the product rule."""
        taper = self.taper.derivatives(points, order)  # batches (n or 1, P)
        return product_rule(taper, [self.inner.derivative(points, k) for k in range(order + 1)])

    def suprema(self) -> Norms:
        """Suprema over the window: lower by local search, upper by the product rule and branch and bound.

        The product rule bounds tau and its derivatives by the certified norms of f, and the second derivatives of
        tau's lengths in turn: what lies between nodes (see ``tapered`` and ``enclosure``).
        """

        def divergence() -> Sequence[Tensor]:
            return divergence_bounds(self.taper, self._flat_norms(), self._batch(0).bandwidths)

        return Norms(
            self._interval(lambda: self._farthest),
            self._interval(lambda: self._steepest),
            self._interval(
                functools.cache(lambda: self._enclosure(2, lengths.bilinear, lambda: self._directional()[2::2]))
            ),
            self._interval(functools.cache(lambda: self._enclosure(1, lengths.trace, divergence))),
            oscillation(self),
        )

    def derivative_bounds(self) -> list[Tensor]:
        """By the product rule: see ``tapered.directional_bounds``."""
        return self._directional()

    def tilted(self, theta: Tensor) -> Self:
        """W times the tilted f; see ``Tiltable``."""
        return self._with(self.inner.tilted(theta), None)

    def places(self) -> tuple[Tensor, Tensor]:
        """Points where |tau| and ||grad tau||_2 are largest, ``(*batch_shape, d)`` each, in pixels."""
        shape = (*self.batch_shape, self.d)
        return self._farthest.argument.reshape(shape), self._steepest.argument.reshape(shape)

    def scaled(self, factor: Scalar) -> Self:
        """factor * tau; the norms are |factor| times those of tau, at no cost."""
        value = torch.as_tensor(factor, dtype=self.dtype, device=self.device)
        return self._with(self.inner.scaled(value), self.norms().scaled(value))

    def __getitem__(self, index: Index) -> Self:
        return self._with(self.inner[index], self.norms()[index])

    def refined(self, factor: int) -> Self:
        """The same field with ``factor`` times as many pixels per side: tau_f(f u) = f tau(u).

        Pixel centres stay multiples of each other as on the torus, so the window's border moves from 1/2 to factor / 2
        pixels before the first one: ``edge`` is multiplied too.
        """
        check_factor(factor)
        taper = self.taper.refined(factor)
        inner = self.inner.refined(factor)
        result = type(self)(inner, border=taper.border, rise=taper.rise, edge=taper.edge)
        result._norms = self.norms().refined(factor)
        return result

    def without_mean(self) -> Self:
        """The field itself."""
        return self

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        """The same field with another floating-point type or on another device; its norms are kept."""
        inner = self.inner.to(dtype=dtype, device=device)
        norms = self.norms().map(lambda interval: interval.map(lambda value: value.to(inner.device)))
        return self._with(inner, norms)

    def plus(self, other: Deformation) -> Self | None:
        """w (f + f') for two fields with one taper; None otherwise."""
        if not isinstance(other, CompactField) or other.taper != self.taper:
            return None
        inner = self.inner.plus(other.inner)
        return self._with(inner, None) if isinstance(inner, FourierSeries) else None

    def around(self, inner: Deformation) -> Self:
        """W times another f."""
        if not isinstance(inner, FourierSeries):
            raise ValueError(f"inner must be a FourierSeries, got {type(inner).__name__}; use CompactField.sample")
        return self._with(inner, None)

    def _with(self, inner: FourierSeries, norms: Norms | None) -> Self:
        result = object.__new__(type(self))  # the taper was checked before
        result.__dict__.update(own_state(self))
        result.inner, result._norms = inner, norms
        return result

    @functools.cached_property
    def _farthest(self) -> Enclosure:
        return self._enclosure(0, lengths.euclidean, lambda: self._directional()[0::2])

    @functools.cached_property
    def _steepest(self) -> Enclosure:
        return self._enclosure(1, lengths.spectral, lambda: self._directional()[1::2])

    def _enclosure(self, order: int, length: lengths.Length, bounds: Callable[[], Sequence[Tensor]]) -> Enclosure:
        """Of the length of the derivative of the given order; ``bounds``: of that length and its second derivative."""
        batch = self._batch(order)
        functions = TaperedLengths(self.taper, batch, order, length)
        known = functools.cache(bounds)
        return Enclosure(functions, self._counts(batch), lambda: Losses(curvature=known()[1]), lambda: known()[0])

    def _interval(self, enclosure: Callable[[], Enclosure]) -> Interval:
        shape = self.batch_shape
        return Interval(lambda: enclosure().lower.reshape(shape), lambda: enclosure().upper.reshape(shape))

    def _directional(self) -> list[Tensor]:
        return directional_bounds(self.taper, self._flat_norms(), self._batch(0).bandwidths)

    def _flat_norms(self) -> Norms:
        return self.inner.norms().map(lambda interval: interval.map(torch.flatten))

    def _counts(self, batch: TrigonometricBatch) -> tuple[int, ...]:
        """Nodes of the first grid, in the order of ``size``: enough for the waves and for the rise."""
        waves = float(batch.bandwidths.max()) / (2 * math.pi) if len(batch) else 0.0
        return tuple(
            math.ceil(max(NODES_PER_WAVELENGTH * waves, NODES_PER_RISE / rise) * side - 1e-9)
            for side, rise in zip(self.size, self.taper.rises[::-1], strict=True)
        )

    def _batch(self, order: int) -> TrigonometricBatch:
        """f and its derivatives up to the order as components of one flat batch, in double precision."""
        inner, waves = self.inner.flat(), lattice(self.inner.modes, self.size, constant=True)
        cosine, sine, mean = (value.detach().to(torch.float64) for value in (inner.cosine, inner.sine, inner.mean))
        z, mean = torch.complex(cosine, -sine), mean[:, None]  # (n, M, d), (n, 1, d)
        z = torch.cat([z, torch.complex(mean, torch.zeros_like(mean))], dim=1)
        parts = [z]
        for _ in range(order):
            z = (z[..., None] * (1j * waves.omega[:, None])).flatten(2)  # derivatives along the last axis
            parts.append(z)
        return TrigonometricBatch(waves, torch.cat(parts, dim=-1))
