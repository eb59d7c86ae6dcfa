r"""What an image keeps and loses on its way through a network: all of x that the rungs for every field need.

    Delta_k = ||z_{k-1}||^2 - ||A_{k-1} z_{k-1}||^2 = sum over frequencies of (1 - exp(-sigma^2 |omega|^2)) P_{k-1},

P_k the power spectrum of the (vector-valued) map z_k. Constants commute with every deformation, so that norms may be
taken about the mean.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from stability.ladders.spectral import Moments, moments
from stability.operators.front_end import front_end_output
from stability.representations.stages import Stages


@dataclass(frozen=True)
class Spectrum:
    """Power of one map over the frequencies of its grid.

    Args:
        power: ``(M,)``, in the unit of ||x||^2, without the constant.
        frequencies: ``(M, d)`` in radians per pixel.
        sigma: scale of the pooling that follows, in pixels.
    """

    power: Tensor
    frequencies: Tensor
    sigma: float

    @cached_property
    def squares(self) -> Tensor:
        """|omega|^2, ``(M,)``."""
        return self.frequencies.square().sum(-1)

    @cached_property
    def centred(self) -> float:
        """||z - mean z||."""
        return math.sqrt(float(self.power.sum()))

    @cached_property
    def removed(self) -> float:
        """Delta^(1/2), Delta = ||z||^2 - ||A z||^2."""
        return math.sqrt(float((self.power * -torch.expm1(-(self.sigma**2) * self.squares)).sum()))

    @cached_property
    def moments(self) -> Moments:
        """The sums that ``spectral`` needs; they know neither the field nor the patch."""
        return moments(self.power, self.sigma**2 / 2 * self.squares)

    @cached_property
    def _tensor(self) -> Tensor:
        """The integral of grad y grad y^T for y = A z, ``(d, d)``."""
        weights = self.power * torch.exp(-(self.sigma**2) * self.squares)
        return (self.frequencies * weights[:, None]).T @ self.frequencies

    @cached_property
    def gradient(self) -> float:
        """||grad A z||."""
        return math.sqrt(float(self._tensor.trace()))

    @cached_property
    def directional_gradient(self) -> float:
        """The largest ||e . grad A z|| over unit vectors e: what a translation can see."""
        return math.sqrt(max(float(torch.linalg.eigvalsh(self._tensor)[-1]), 0.0))

    def translated(self, distance: float) -> float:
        """The most that ||A z(. - c) - A z|| can be for |c| <= distance: at most |c| ||e . grad|| and 2 ||A z||."""
        size = math.sqrt(float((self.power * torch.exp(-(self.sigma**2) * self.squares)).sum()))
        return min(distance * self.directional_gradient, 2.0 * size)


class Spectra(NamedTuple):
    """Those of one image: of x itself, and of F x, z_1, ..., z_n, each with the pooling that follows."""

    image: Spectrum
    maps: tuple[Spectrum, ...]


def spectra(stages: Stages) -> Spectra:
    """The spectra of x and of F x, z_1, ..., z_n."""
    image = stages.maps[0]
    first = front_end_output(stages.architecture, image[None], stages.d, stages.refinement)[0]
    places = [(0, image), (0, first), *enumerate(stages.maps[1:], start=1)]
    own, *maps = (_spectrum(stages, k, one) for k, one in places)
    return Spectra(own, tuple(maps))


def _spectrum(stages: Stages, k: int, maps: Tensor) -> Spectrum:
    """The spectrum of a map on the grid of z_k, before the pooling A_k."""
    return spectrum(maps, stages.spacing(k) / stages.refinement, stages.architecture.scales[k])


def spectrum(maps: Tensor, step: float, sigma: float) -> Spectrum:
    """The spectrum of a map.

    Args:
        maps: ``(K, *size)``, float64.
        step: side of a cell in pixels.
        sigma: scale of the pooling that follows, in pixels.
    """
    size = maps.shape[1:]
    axes = tuple(range(1, maps.ndim))
    power = torch.fft.fftn(maps, dim=axes).abs().square().sum(0) * (step ** len(size) / math.prod(size))
    waves = [2 * math.pi / step * torch.fft.fftfreq(n, dtype=power.dtype, device=power.device) for n in size]
    grid = torch.stack(torch.meshgrid(*waves, indexing="ij")[::-1], dim=-1)  # (*size, d), last axis (x, y)
    return Spectrum(power.flatten()[1:], grid.flatten(0, -2)[1:], sigma)
