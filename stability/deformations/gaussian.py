r"""Gaussian-smoothed white noise as trigonometric polynomials: the elastic transform at every resolution.

Periodic white noise of one value per pixel, smoothed by a Gaussian of standard deviation sigma, has independent
Gaussian Fourier coefficients of variance proportional to exp(-sigma^2 |omega|^2): drawn as such, the field has no
resolution.
"""

import math
from collections.abc import Sequence
from typing import Self, final

import torch
from torch import Tensor

from stability.deformations.checks import check_generator
from stability.deformations.modes import ROOT_MEAN_SQUARE, disc
from stability.deformations.series import FourierSeries
from stability.grid import check_size, sides

LEAST_WEIGHT = 1e-8
"""Of exp(-sigma^2 |omega|^2 / 2) relative to the lowest frequency's: frequencies with less are left out."""

MOST_MODES = 4096
"""Frequencies that a sampled field may have."""

_REACH = math.sqrt(-2 * math.log(LEAST_WEIGHT))
"""sigma |omega| where exp(-sigma^2 |omega|^2 / 2) is the least weight."""


@final
class GaussianField(FourierSeries):
    """tau_j(u) = sum_k exp(-sigma^2 |omega_k|^2 / 2) (a_kj cos(omega_k . u) + b_kj sin(omega_k . u)), a, b Gaussian.

    The mean-free part of white noise smoothed with standard deviation sigma, known everywhere and not only at pixels.
    Tilting the spectrum changes sigma: exp(theta |omega|^2 / R^2) makes sigma^2 - 2 theta / R^2 of sigma^2.

    The constructor is that of ``FourierSeries``.

    Reference: Simard, Steinkraus & Platt 2003 (the elastic transform).
    """

    @classmethod
    def sample(
        cls,
        size: Sequence[int],
        *,
        smoothing: float,
        batch_shape: Sequence[int] = (),
        generator: torch.Generator,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> Self:
        """Smoothed noise: covariance ~ sum_k w_k^2 cos(omega_k . (u - v)), E |tau(u)|^2 = (shorter side / 32)^2.

        w_k = exp(-sigma^2 |omega_k|^2 / 2). Frequencies whose w_k is below 1e-8 of the largest are left out: a field of
        root mean square at most 2e-8, and of sup norm at most 1e-8 (3 + max(size) / sigma) in expectation, relative
        to the root mean square of tau.

        The order of the draws depends on smoothing / size and the ratio of the sides only, so
        ``sample((2 H, 2 W), smoothing=2 smoothing)`` with an equal generator is the same field at twice the
        resolution: tau_2(2 u) = 2 tau_1(u).

        Args:
            size: ``(N,)`` or ``(H, W)``.
            smoothing: sigma > 0 in pixels, standard deviation of the Gaussian that smooths the noise. At least about
                1.94 (the spectrum must end before the pixels' Nyquist frequency) and at most about 0.96 times the
                longer side (one frequency must be left).
            batch_shape: shape of the batch of fields.
            generator: where the random numbers come from; drawn on its device in float64.
            dtype: floating-point type of the field.
            device: where the field is put, by default the generator's device.

        Raises:
            ValueError: if smoothing is not a positive number, or the spectrum has no frequency, more than
                ``MOST_MODES`` or some beyond Nyquist; says what to choose.
            TypeError: if there is no generator.

        >>> rng = torch.Generator().manual_seed(0)
        >>> GaussianField.sample((28, 28), smoothing=4.0, batch_shape=(8,), generator=rng)
        GaussianField(size=(28, 28), batch_shape=(8,))
        """
        size = check_size(size)
        check_generator(generator)
        modes, weight = _spectrum(size, smoothing)
        amplitude = ROOT_MEAN_SQUARE * min(size) / math.sqrt(len(size)) * weight / weight.norm()  # (M,)
        shape = (2, *batch_shape, *modes.shape)
        draw = torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float64)
        cosine, sine = draw * amplitude[:, None].to(draw.device)
        return cls(modes.to(draw.device), cosine, sine, size=size).to(dtype=dtype, device=device)


def _spectrum(size: tuple[int, ...], smoothing: float) -> tuple[Tensor, Tensor]:
    """Modes ``(M, d)`` and weights exp(-sigma^2 |omega|^2 / 2) relative to the largest, >= LEAST_WEIGHT, ``(M,)``."""
    if isinstance(smoothing, bool) or not isinstance(smoothing, int | float) or not 0 < smoothing < math.inf:
        raise ValueError(f"smoothing must be a positive number of pixels, got {smoothing!r}; use smoothing=4.0")
    side, lowest = min(size), min(size) / max(size)
    turn = 2 * math.pi * (smoothing / side)  # sigma |omega| for one cycle per shorter side
    if turn * lowest > _REACH:
        most = _REACH / (2 * math.pi) * max(size)
        raise ValueError(
            f"smoothing must be at most {math.floor(100 * most) / 100:g} px for size {size}, got {smoothing!r}: no "
            f"frequency is left; use smoothing={side / 8:g}"
        )
    cutoff = math.hypot(_REACH / turn, lowest)
    # about as many frequencies as the half disc's area
    count = cutoff if len(size) == 1 else math.pi / 2 * cutoff**2 / lowest
    if cutoff >= side / 2 or count > MOST_MODES:
        largest = min(side / 2, MOST_MODES if len(size) == 1 else math.sqrt(MOST_MODES * lowest * 2 / math.pi))
        least = _REACH * side / (2 * math.pi) / math.sqrt(largest**2 - lowest**2)
        raise ValueError(
            f"smoothing must be at least {math.ceil(100 * least) / 100:g} px for size {size}, got {smoothing!r}: its "
            f"spectrum has about {count:.0f} frequencies up to {cutoff:.3g} cycles per shorter side, and {largest:.4g} "
            "cycles are allowed; smooth more, or draw the field at a smaller size and use refined()"
        )
    modes = disc(size, cutoff)
    radius = (modes * (side / sides(size))).norm(dim=-1)
    return modes, (-(turn**2) * (radius.square() - lowest**2) / 2).exp()
