r"""``Filters``: V f = (v_c * f)_c, a stack of convolutions with sum_c |v_c(omega)|^2 <= 1: pooling, patches, banks."""

import abc
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.front_ends import FrontEnd
from stability.grid import check_size
from stability.operator_norms.ball import Ball, at
from stability.operators.patches import patch_offsets


class Filters(abc.ABC):
    """A stack V of real convolutions with ||V|| <= 1, by its symbols v_c. Values that can be compared and hashed."""

    @abc.abstractmethod
    def symbol(self, ball: Ball) -> Tensor:
        """v_c(omega), ``(C, M)`` complex."""

    @abc.abstractmethod
    def decay(self, radius: float) -> float:
        """At least sup over |omega| >= radius of (sum_c |v_c|^2)^(1/2)."""

    @abc.abstractmethod
    def radius(self, level: float) -> float:
        """A radius at which ``decay`` is at most ``level`` in (0, 1)."""

    def lengths(self, ball: Ball) -> Tensor:
        """(sum_c |v_c|^2)^(1/2), ``(M,)``."""
        return self.symbol(ball).abs().square().sum(0).sqrt()

    def overlap(self, left: Ball, right: Ball) -> Tensor:
        """sum_c conj(v_c(m)) v_c(k), ``(M_left, M_right)`` complex."""
        return self.symbol(left).mH @ self.symbol(right)


@dataclass(frozen=True)
class Patches(Filters):
    """P F A_sigma: v_c = e^{i omega c} F(omega) exp(-sigma^2 |omega|^2 / 2) / e^(d/2) for the e^d offsets c.

    Args:
        sigma: scale of the pooling in pixels, > 0.
        patch_size: e; 1: no patches.
        spacing: distance of neighbouring offsets in pixels.
        front_end: F with ||F|| <= 1, or None.
    """

    sigma: float
    patch_size: int = 1
    spacing: float = 1.0
    front_end: FrontEnd | None = None

    def pooling(self, ball: Ball) -> Tensor:
        """exp(-sigma^2 |omega|^2 / 2), ``(M,)``."""
        return torch.exp(-0.5 * (self.sigma * ball.omega).square().sum(-1))

    def symbol(self, ball: Ball) -> Tensor:
        """The e^d offsets of every channel of the front end."""
        d = len(ball.size)
        axis = [c * self.spacing for c in patch_offsets(self.patch_size)]
        offsets = torch.tensor(list(itertools.product(axis, repeat=d)), dtype=torch.float64)
        turn = torch.polar(torch.ones((), dtype=torch.float64), offsets @ ball.omega.T)  # (e^d, M)
        channels = self._front(ball) * (self.pooling(ball) / math.sqrt(len(offsets)))
        return (channels[:, None] * turn).flatten(0, 1)

    def decay(self, radius: float) -> float:
        """exp(-sigma^2 radius^2 / 2): front ends and patches have norm at most 1."""
        return math.exp(-0.5 * (self.sigma * radius) ** 2)

    def radius(self, level: float) -> float:
        """(2 log(1 / level))^(1/2) / sigma."""
        return math.sqrt(-2 * math.log(level)) / self.sigma

    def _front(self, ball: Ball) -> Tensor:
        """F(omega), ``(C', M)``: the answer to an impulse, on a grid that holds the ball."""
        if self.front_end is None:
            return torch.ones(1, len(ball), dtype=torch.complex128)
        fine = max(math.ceil((2 * k + 3) / n) for k, n in zip(ball.highest, ball.size, strict=True))
        shape = tuple(fine * n for n in ball.size)
        impulse = torch.zeros(1, *shape, dtype=torch.float64)
        impulse.view(-1)[0] = 1.0
        answer = self.front_end.apply(impulse, len(shape), fine)
        values = torch.fft.fftn(answer, dim=tuple(range(1, 1 + len(shape))))
        return checked(at(values, ball), "front_end")


@dataclass(frozen=True, eq=False)
class FilterBank(Filters):
    """Symbols given on a grid of frequencies, 0 beyond it. See ``stack``.

    Args:
        symbols: ``(C, *shape)`` complex in the order of the discrete Fourier transform, without Nyquist modes.
        size: of the torus in pixels.
    """

    symbols: Tensor
    size: tuple[int, ...]

    def symbol(self, ball: Ball) -> Tensor:
        """The values given, 0 outside."""
        if ball.size != self.size:
            raise ValueError(f"filters must live on the field's torus {ball.size}, got {self.size}; stack them anew")
        shape = self.symbols.shape[1:]
        reach = torch.tensor([(n - 1) // 2 for n in shape[::-1]])
        inside = (ball.modes.abs() <= reach).all(-1)
        return torch.where(inside, at(self.symbols, ball), 0.0)

    def decay(self, radius: float) -> float:
        """The largest value beyond the radius."""
        lengths, omega = self._table()
        beyond = lengths[omega >= radius]
        return float(beyond.max()) if len(beyond) else 0.0

    def radius(self, level: float) -> float:
        """Just beyond the largest frequency with a value above the level."""
        lengths, omega = self._table()
        above = omega[lengths > level]
        return float(above.max()) * (1 + 1e-9) if len(above) else 0.0

    def _table(self) -> tuple[Tensor, Tensor]:
        """(sum_c |v_c|^2)^(1/2) and |omega| on the grid of frequencies."""
        shape = self.symbols.shape[1:]
        axes = [
            2 * math.pi * torch.fft.fftfreq(m, 1 / m, dtype=torch.float64) / n
            for m, n in zip(shape, self.size, strict=True)
        ]
        omega = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0).sqrt()
        return self.symbols.abs().square().sum(0).sqrt().flatten(), omega.flatten()


def stack(symbols: Tensor, size: Sequence[int]) -> FilterBank:
    """V f = (v_c * f)_c from symbols on a grid of frequencies: a bank of wavelets, a single filter.

    Args:
        symbols: v_c(2 pi k / side), ``(C, *shape)``, real or complex, in the order of ``torch.fft``; the filters are
            real, v_c(-omega) = conj(v_c(omega)), and vanish beyond the grid. ``shape`` need not be ``size``.
        size: ``(N,)`` or ``(H, W)``: the torus in pixels.

    Raises:
        ValueError: if sum_c |v_c|^2 exceeds 1, the filters are not real, or an even side has a Nyquist mode.

    >>> low = torch.tensor([1.0, 0.5, 0.5], dtype=torch.float64)
    >>> stack(torch.stack([low, (1 - low**2).sqrt()]), size=(8,)).decay(1.0)
    0.0
    """
    size = check_size(size)
    if not isinstance(symbols, Tensor) or symbols.ndim != len(size) + 1 or not torch.isfinite(symbols).all():
        shape = tuple(symbols.shape) if isinstance(symbols, Tensor) else type(symbols).__name__
        raise ValueError(
            f"symbols must be a finite tensor (C, *shape) with {len(size)} axes of frequencies, got {shape}"
        )
    values = checked(symbols.to(torch.complex128), "symbols")
    axes = tuple(range(1, values.ndim))
    reversed_values = values.flip(axes).roll((1,) * len(axes), axes)  # v_c(-omega)
    if not torch.allclose(values, reversed_values.conj(), rtol=0.0, atol=1e-12):
        raise ValueError(
            "symbols must be those of real filters, v(-omega) = conj(v(omega)), got others; symmetrise them"
        )
    for axis, n in zip(axes, values.shape[1:], strict=True):
        if n % 2 == 0 and bool(values.select(axis, n // 2).any()):
            raise ValueError(
                "symbols must vanish at the Nyquist frequency of an even side; set it to 0 or use an odd one"
            )
    return FilterBank(values, size)


def checked(values: Tensor, name: str) -> Tensor:
    """The symbols ``(C, ...)``, if sum_c |v_c|^2 <= 1 up to round-off."""
    largest = float(values.abs().square().sum(0).max())
    if largest > 1 + 1e-9:
        raise ValueError(f"{name} must have sum_c |v_c(omega)|^2 <= 1, got {largest:.6g}; divide by its square root")
    return values
