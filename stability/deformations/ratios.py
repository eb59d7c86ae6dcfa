r"""r(theta) = sup ||grad tau_theta||_2 / sup |tau_theta| of fields with a knob theta, glanced at and followed.

A search for a value of r needs its numbers to a few per cent at first, then precisely in a small interval. There the
places of the largest values move little: it is enough to follow the local maxima that are not far below the largest.
The outcome is checked by the norms of the field found.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from stability.deformations import lengths
from stability.deformations.climbing import Newton, Peaks, starts
from stability.deformations.spectral import Tiltable
from stability.deformations.suprema import counts
from stability.deformations.trigonometric import TrigonometricBatch

_NODES = 8
"""Per shortest wavelength and axis."""

_SHARE, _TAIL = 0.8, 0.1
"""Maxima that are followed: nodes above this share of the largest; values at most this share below the highest."""


class Ratios(Protocol):
    """r of n fields."""

    @property
    def tolerance(self) -> float:
        """How far the ln of ``glance`` may be off before it is worth to ``follow``."""

    def glance(self, owner: Tensor, theta: Tensor) -> Tensor:
        """R of field ``owner[i]`` at ``theta[i]`` to a few per cent, ``(Q,)``; continuous in theta."""

    def follow(self, owner: Tensor, theta: Tensor, steps: int) -> Callable[[Tensor, Tensor], Tensor]:
        """A function (index, theta'): r of field ``owner[index]`` at theta' near ``theta[index]``.

        Precise where the maxima have moved little since the last call, or after some of Newton's steps.
        """


class PlainRatios:
    """r from the norms of the tilted fields, always precisely.

    Args:
        fields: batch shape ``(n,)``.
    """

    tolerance = 1e-9

    def __init__(self, fields: Tiltable) -> None:
        self._fields = fields

    def glance(self, owner: Tensor, theta: Tensor) -> Tensor:
        """R, ``(Q,)``."""
        return ratio(self._fields[owner].tilted(theta))

    def follow(self, owner: Tensor, theta: Tensor, steps: int) -> Callable[[Tensor, Tensor], Tensor]:
        """The same."""
        return lambda index, place: self.glance(owner[index], place)


class SpectralRatios:
    """r of trigonometric polynomials whose coefficients are tilted by exp(theta |omega|^2 / R^2).

    Args:
        fields: tau of n fields without their means.
        squared: |omega|^2 / R^2, ``(M,)``.
    """

    tolerance = 1e-2

    def __init__(self, fields: TrigonometricBatch, squared: Tensor) -> None:
        self._fields = fields
        present = fields.coefficients.abs().sum(-1) > 0
        # |omega|^2 / R^2 less that of the highest and of the lowest frequency that is present; see ``tilting``
        self._below, self._above = (
            torch.where(distance.abs() < 1e-12, 0.0, distance)
            for distance in (
                squared - torch.where(present, squared, -1.0).amax(1, keepdim=True),
                squared - torch.where(present, squared, 2.0).amin(1, keepdim=True),
            )
        )
        self._d = len(fields.sides)
        self._scale = 1 / fields.bandwidth
        self._counts = counts(fields, _NODES)
        self._gradient = 1j * self._scale * fields.omega[:, None]  # (M, 1, d)
        matrix, simpler = lengths.SIMPLER[lengths.spectral]
        self._simpler = matrix.to(self._gradient)
        self._spectral = simpler if self._d == 2 else lengths.spectral

    def glance(self, owner: Tensor, theta: Tensor) -> Tensor:
        """R from values on a grid, ``(Q,)``."""
        displacement, jacobian = self._tilted(owner, theta)
        both = displacement.having(torch.cat([displacement.coefficients, jacobian.coefficients], dim=-1))
        seen = []
        for _, components in both.chunks(self._counts, torch.complex64):
            far = lengths.euclidean(components[: self._d])
            steep = self._spectral(components[self._d :])
            seen.append(steep.flatten(1).amax(1).to(torch.float64) / far.flatten(1).amax(1))
        return torch.cat(seen) / self._scale

    def follow(self, owner: Tensor, theta: Tensor, steps: int) -> Callable[[Tensor, Tensor], Tensor]:
        """R from the maxima near those at theta."""
        tracks = [
            _Track(starts(fields, length, self._counts, _SHARE, _TAIL), Newton(fields, length, self._scale), steps)
            for fields, length in zip(self._tilted(owner, theta), (lengths.euclidean, self._spectral), strict=True)
        ]

        def followed(index: Tensor, place: Tensor) -> Tensor:
            row = torch.full_like(owner, -1).index_copy_(0, index, torch.arange(len(index), device=index.device))
            far, steep = (
                track.largest(fields, row)
                for track, fields in zip(tracks, self._tilted(owner[index], place), strict=True)
            )
            return steep / far / self._scale

        return followed

    def _tilted(self, owner: Tensor, theta: Tensor) -> tuple[TrigonometricBatch, TrigonometricBatch]:
        """tau_theta, its amplitudes of sum 1, and grad tau_theta in units of R: ``(Q,)`` each."""
        distance = torch.where(theta[:, None] > 0, self._below[owner], self._above[owner])
        weights = (
            (distance * theta[:, None]).nan_to_num_(0.0).clamp_max_(0.0).exp_()
        )  # 0 times inf: the last shell left
        z = self._fields.coefficients[owner] * weights[..., None]
        z = z / z.abs().sum((1, 2), keepdim=True)
        gradient = (z[..., None] * self._gradient).flatten(2)
        if self._d == 2:
            gradient = gradient @ self._simpler
        return self._fields.having(z), self._fields.having(gradient)


class _Track:
    """Local maxima that move with their fields."""

    def __init__(self, peaks: Peaks, newton: Newton, steps: int) -> None:
        self._owner, self._points, self._newton, self._steps = peaks.owner, peaks.points, newton, steps

    def largest(self, fields: TrigonometricBatch, row: Tensor) -> Tensor:
        """The largest vertex of the quadratics at the points of each field, ``row`` says which it is, -1: left out."""
        owner = row[self._owner]
        mine = (owner >= 0).nonzero()[:, 0]
        owner, points = owner[mine], self._points[mine]
        for _ in range(self._steps):
            value, step, promise = self._newton.step(fields, owner, points)
            points = points + step
        self._points[mine] = points
        return Peaks(owner, points, value + promise).best(len(fields))


def ratio(fields: Tiltable) -> Tensor:
    """sup ||grad tau||_2 / sup |tau| in 1 / pixel, ``batch_shape``."""
    norms = fields.norms()
    return norms.jacobian.lower / norms.displacement.lower
