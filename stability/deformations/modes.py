"""Frequencies in a disc, and the Gaussian coefficients that band-limited families draw for them."""

import functools
import math
from collections.abc import Sequence

import numpy
import torch
from torch import Tensor

from stability.deformations.frequencies import Frequencies
from stability.grid import sides

_KEPT = 16
"""Discs and lattices that are kept: those drawn lately, each small."""

ROOT_MEAN_SQUARE = 1 / 32
"""Expected root mean square of |tau| for sampled fields, as a share of the shorter side."""


def half(modes: Tensor) -> Tensor:
    """Each mode or its negative: the one with k_y > 0, or k_y = 0 and k_x > 0."""
    first, last = modes[:, :1], modes[:, -1:]
    return torch.where((last < 0) | ((last == 0) & (first < 0)), -modes, modes)


def distinct(modes: Tensor) -> bool:
    """Whether modes are nonzero and no two equal up to sign."""
    return _distinct(_bytes(modes), modes.shape[1])


@functools.lru_cache(_KEPT)
def _distinct(modes: bytes, d: int) -> bool:
    rows = numpy.frombuffer(modes, numpy.int64).reshape(-1, d).tolist()
    return len({tuple(sign * k for k in row) for row in rows for sign in (1, -1)}) == 2 * len(rows)


def lattice(modes: Tensor, size: tuple[int, ...], *, constant: bool = False) -> Frequencies:
    """omega_k = 2 pi (k_x / W, k_y / H), with ``constant`` 0 after them; equal arguments give the same object.

    Args:
        modes: integers k = (k_x, k_y), ``(M, d)``.
        size: ``(N,)`` or ``(H, W)``.
        constant: see above.
    """
    return _lattice(_bytes(modes), size, modes.device, constant)


@functools.lru_cache(_KEPT)
def _lattice(modes: bytes, size: tuple[int, ...], device: torch.device, constant: bool) -> Frequencies:
    with torch.inference_mode(False):
        k = torch.tensor(numpy.frombuffer(modes, numpy.int64).reshape(-1, len(size)), device=device)
        omega = angular(k, size)
        return Frequencies(
            torch.cat([omega, omega.new_zeros(1, len(size))]) if constant else omega, sides(size, device=device)
        )


def angular(modes: Tensor, size: tuple[int, ...]) -> Tensor:
    """omega_k in radians per pixel, ``(M, d)``, last axis (x, y)."""
    return 2 * math.pi * modes.to(torch.float64) / sides(size, device=modes.device)


def _bytes(modes: Tensor) -> bytes:
    return modes.to("cpu", torch.int64).numpy().tobytes()


def disc(size: tuple[int, ...], cutoff: float) -> Tensor:
    """k != 0 of a half plane with |omega_k| <= 2 pi cutoff / min(size), ``(M, d)``; depends on ratios of sides only."""
    return _disc(size, cutoff).clone()


@functools.lru_cache(_KEPT)
def _disc(size: tuple[int, ...], cutoff: float) -> Tensor:
    reach = [math.floor(cutoff * side / min(size)) for side in reversed(size)]  # (x, y)
    axes = [torch.arange(-k, k + 1) for k in reach]
    modes = torch.cartesian_prod(*axes).reshape(-1, len(size))
    radius = (modes * (min(size) / sides(size))).square().sum(-1)
    modes = modes[(radius <= cutoff**2 * (1 + 1e-12)) & (radius > 0)]
    return modes[(modes == half(modes)).all(-1)]


def draw_disc(
    size: tuple[int, ...], cutoff: float, batch_shape: Sequence[int], generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Modes of a disc with independent Gaussian coefficients of equal variance, E |tau(u)|^2 = (shorter side / 32)^2.

    Args:
        size: ``(N,)`` or ``(H, W)``.
        cutoff: of the disc, cycles per shorter side.
        batch_shape: shape of the batch of fields.
        generator: where the random numbers come from; drawn on its device in float64.

    Returns:
        Modes ``(M, d)``, cosine and sine coefficients ``(*batch_shape, M, d)`` in pixels.
    """
    modes = disc(size, check_cutoff(cutoff, size)).to(generator.device)
    amplitude = ROOT_MEAN_SQUARE * min(size) / math.sqrt(modes.numel())
    shape = (2, *batch_shape, *modes.shape)
    draw = torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float64) * amplitude
    return modes, draw[0], draw[1]


def check_cutoff(cutoff: float, size: tuple[int, ...]) -> float:
    """The cutoff, if 1 <= cutoff < min(size) / 2 cycles per shorter side.

    Raises:
        ValueError: otherwise.
    """
    if isinstance(cutoff, bool) or not isinstance(cutoff, int | float) or not 1 <= cutoff < min(size) / 2:
        raise ValueError(
            f"cutoff must be at least 1 and below {min(size) / 2} cycles per shorter side for size {size}, "
            f"got {cutoff!r}; use cutoff=3"
        )
    return cutoff
