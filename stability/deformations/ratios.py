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
from stability.deformations.climbing import Newton, Peaks, starts, summits
from stability.deformations.spectral import Tiltable
from stability.deformations.suprema import NODES_PER_WAVELENGTH, counts, losses, spacings
from stability.deformations.trigonometric import TrigonometricBatch

_NODES = 8
"""Per shortest wavelength and axis."""

_TAIL = 0.7
"""Maxima that are followed: down to this far below the highest one, as a share of what nodes may fall short."""


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

    tolerance = 2e-2

    def __init__(self, fields: TrigonometricBatch, squared: Tensor) -> None:
        self._d = len(fields.sides)
        self._scale = 1 / fields.bandwidth
        self._coarse, self._fine = counts(fields, _NODES), counts(fields, NODES_PER_WAVELENGTH)
        z = fields.coefficients  # (n, M, d)
        self._modulus = z.abs().sum(-1)
        # |omega|^2 / R^2 less that of the highest and of the lowest frequency that is present; see ``tilting``
        distances = [
            squared - torch.where(self._modulus > 0, squared, -1.0).amax(1, keepdim=True),
            squared - torch.where(self._modulus > 0, squared, 2.0).amin(1, keepdim=True),
        ]
        self._distances = torch.stack([torch.where(one.abs() < 1e-12, 0.0, one) for one in distances])  # (2, n, M)
        gradient = (z[..., None] * (1j * self._scale * fields.omega[:, None])).flatten(2)  # in units of R
        self._spectral: lengths.Length = lengths.spectral
        if self._d == 2:
            matrix, self._spectral = lengths.SIMPLER[lengths.spectral]
            gradient = gradient @ matrix.to(gradient)
        self._both = fields.having(torch.cat([z, gradient], dim=-1))

    def glance(self, owner: Tensor, theta: Tensor) -> Tensor:
        """R from the largest nodes of a grid and their neighbours, ``(Q,)``."""
        with torch.inference_mode():
            fields, seen = self._tilted(owner, theta), []
            grid = fields.frequencies.grid(self._coarse)
            for _, components in fields.chunks(self._coarse, torch.complex64):
                far = summits(lengths.euclidean(components[: self._d]).flatten(1), grid)
                steep = summits(self._spectral(components[self._d :]).flatten(1), grid)
                seen.append(steep.to(torch.float64) / far)
            ratios = torch.cat(seen) / self._scale
        return ratios.clone()  # outside: a tensor like all others

    def follow(self, owner: Tensor, theta: Tensor, steps: int) -> Callable[[Tensor, Tensor], Tensor]:
        """R from the maxima near those at theta."""
        tracks = []
        for fields, length in zip(self._apart(owner, theta), (lengths.euclidean, self._spectral), strict=True):
            lost = losses(fields, spacings(fields, self._coarse))
            peaks = starts(fields, length, self._fine, lost, _TAIL, hidden=False)
            tracks.append(_Track(peaks, Newton(fields, length, self._scale), steps))

        def followed(index: Tensor, place: Tensor) -> Tensor:
            with torch.inference_mode():
                row = torch.full_like(owner, -1).index_copy_(0, index, torch.arange(len(index), device=index.device))
                both = zip(tracks, self._apart(owner[index], place), strict=True)
                far, steep = (track.largest(fields, row) for track, fields in both)
                ratios = steep / far / self._scale
            return ratios.clone()

        return followed

    def _apart(self, owner: Tensor, theta: Tensor) -> tuple[TrigonometricBatch, TrigonometricBatch]:
        """tau_theta and grad tau_theta."""
        fields = self._tilted(owner, theta)
        z = fields.coefficients
        return fields.having(z[..., : self._d]), fields.having(z[..., self._d :])

    def _tilted(self, owner: Tensor, theta: Tensor) -> TrigonometricBatch:
        """tau_theta, its amplitudes of sum 1, and grad tau_theta in units of R side by side: ``(Q,)``."""
        distance = self._distances[(theta <= 0).to(torch.int64), owner]
        # 0 times inf: the last shell left
        weights = (distance * theta[:, None]).nan_to_num_(0.0).clamp_max_(0.0).exp_()
        weights = weights / (weights * self._modulus[owner]).sum(1, keepdim=True)
        return self._both.having(self._both.coefficients[owner] * weights[..., None])


class _Track:
    """Local maxima that move with their fields."""

    def __init__(self, peaks: Peaks, newton: Newton, steps: int) -> None:
        self._owner, self._points, self._newton, self._steps = peaks.owner, peaks.points.T, newton, steps

    def largest(self, fields: TrigonometricBatch, row: Tensor) -> Tensor:
        """The largest vertex of the quadratics at the points of each field, ``row`` says which it is, -1: left out."""
        owner = row[self._owner]
        mine = (owner >= 0).nonzero()[:, 0]
        owner, points = owner[mine], self._points[:, mine]  # (d, P)
        for _ in range(self._steps):
            value, step, promise = self._newton.step(fields, owner, points)
            points = torch.add(points, step, alpha=self._newton.scale)
        self._points[:, mine] = points
        return value.new_zeros(len(fields)).scatter_reduce_(0, owner, value + promise, "amax")


def ratio(fields: Tiltable) -> Tensor:
    """sup ||grad tau||_2 / sup |tau| in 1 / pixel, ``batch_shape``."""
    norms = fields.norms()
    return norms.jacobian.lower / norms.displacement.lower
