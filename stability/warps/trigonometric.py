r"""``Trigonometric``: band-limited images, and images that are reflected, evaluated exactly at any point.

On the grid of n pixels the real functions 1, sqrt(2) cos(2 pi k x / n), sqrt(2) sin(2 pi k x / n), k < n / 2, divided
by sqrt(n), are orthonormal and span the band-limited signals. An image is the matrix C of its coefficients,
x(u) = b(u_y)^T C b(u_x), at grid points and between them.

An image that is reflected at its border is a trigonometric polynomial of the torus of twice the side without sines and
without a Nyquist mode, whatever its pixels are: sqrt((2 - [k = 0]) / n) cos(pi k (x + 1/2) / n), k < n, the type-II
discrete cosine transform, takes the place of b.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.boundaries import Boundary, Reflect
from stability.warps.base import nodes
from stability.warps.look_up import Interpolant, Orders

CALL_POINTS = 2**12
"""Points for which the bases are computed at once: so many that the calls themselves do not count."""
CHUNK_BYTES = 2**20
"""Intermediate numbers held at a time: what a core's cache holds. A GPU gets 256 times as much."""


def basis(points: Tensor, n: int, boundary: Boundary, order: int = 0) -> Tensor:
    """D^order b at the points, in rows.

    Args:
        points: ``(P,)`` in pixels, float64.
        n: side of the axis in pixels.
        boundary: ``Periodic()`` or ``Reflect()``.
        order: of the derivative.

    Returns:
        Tensor ``(M, P)``. Periodic: M = 2 K + 1 with K = (n - 1) // 2: the constant, K cosines, K sines. Reflected:
        M = n: the constant and n - 1 cosines, even about -1/2 and n - 1/2.

    >>> from stability.boundaries import Periodic
    >>> b = basis(torch.arange(6.0, dtype=torch.float64), 6, Periodic())
    >>> torch.allclose(b @ b.T, torch.eye(5, dtype=torch.float64))
    True
    >>> b = basis(torch.arange(6.0, dtype=torch.float64), 6, Reflect())
    >>> torch.allclose(b @ b.T, torch.eye(6, dtype=torch.float64))
    True
    """
    reflected = isinstance(boundary, Reflect)
    highest, wave = (n - 1, math.pi / n) if reflected else ((n - 1) // 2, 2 * math.pi / n)
    angle = (points + 0.5) * wave if reflected else points * wave
    rows = points.new_empty(1 + 2 * highest, len(points))
    rows[0] = 0.0 if order else 1 / math.sqrt(n)
    if highest == 0:
        return rows
    cosines, sines = rows[1 : 1 + highest], rows[1 + highest :]
    torch.mul(torch.cos(angle), math.sqrt(2 / n), out=cosines[0])
    torch.mul(torch.sin(angle), math.sqrt(2 / n), out=sines[0])
    done = 1
    while done < highest:  # cos((m + k) a), sin((m + k) a) from those of m a and k a: no further trigonometry
        new = min(done, highest - done)
        cosine, sine = cosines[done - 1] * math.sqrt(n / 2), sines[done - 1] * math.sqrt(n / 2)
        torch.mul(cosines[:new], cosine, out=cosines[done : done + new]).addcmul_(sines[:new], sine, value=-1)
        torch.mul(sines[:new], cosine, out=sines[done : done + new]).addcmul_(cosines[:new], sine)
        done += new
    if order % 2:  # (cos, sin)' = (-sin, cos)
        rows = torch.cat([rows[:1], -sines, cosines])
    if order:
        frequency = wave * torch.arange(1, highest + 1, dtype=points.dtype, device=points.device)
        factor = (-1) ** (order // 2) * frequency.pow(order).unsqueeze(-1)
        rows[1:].unflatten(0, (2, highest)).mul_(factor)
    return rows[: 1 + highest] if reflected else rows


def grid_bases(size: tuple[int, ...], oversample: int, boundary: Boundary, device: torch.device) -> list[Tensor]:
    """b at the nodes of every axis, ``(M, oversample N)``."""
    axes = (nodes((n,), oversample, boundary, device=device)[:, 0] for n in size)
    return [basis(axis, n, boundary) for axis, n in zip(axes, size, strict=True)]


def transform(images: Tensor, matrices: list[Tensor]) -> Tensor:
    """One matrix per trailing axis, ``(..., *size)`` -> ``(..., *size')``."""
    images = images @ matrices[-1].T
    return images if len(matrices) == 1 else torch.matmul(matrices[0], images)


@dataclass(frozen=True)
class Trigonometric(Interpolant):
    """x(u) = b(u_y)^T C b(u_x) by two matrix products a chunk of points: exact, O(N^d) operations a point.

    Args:
        boundary: ``Periodic()``: what lies at the Nyquist frequency is dropped. ``Reflect()``: nothing is.
    """

    boundary: Boundary

    def look(self, table: Tensor, points: Tensor, orders: Orders) -> Tensor:
        """D^a x at the points, ``(B, C, P)``, for images ``(B, C, *size)``."""
        size = tuple(table.shape[2:])
        rows = transform(table, grid_bases(size, 1, self.boundary, table.device)).flatten(1, -2)  # (B, C [My], Mx)
        values = table.new_empty(*table.shape[:2], points.shape[1])
        memory = table.new_empty(0)  # kept from part to part: fresh pages cost as much as the products
        for image, near, bases in self._parts(points, size, orders, rows.shape[1]):
            value, count = values[image, :, near], bases[0].shape[1]
            if len(size) == 1:
                torch.mm(rows[image], bases[0], out=value)
                continue
            if memory.numel() < rows.shape[1] * count:
                memory = table.new_empty(rows.shape[1] * count)
            inner = memory[: rows.shape[1] * count].view(-1, count)
            torch.mm(rows[image], bases[0], out=inner)
            torch.sum(inner.view(len(value), -1, count).mul_(bases[1]), 1, out=value)
        return values

    def spread(self, values: Tensor, points: Tensor, orders: Orders, shape: tuple[int, ...]) -> Tensor:
        """The transpose of ``look``: ``(B, C, P)`` to ``(B, C, *shape)``."""
        back = grid_bases(shape, 1, self.boundary, values.device)
        spectra = values.new_zeros(*values.shape[:2], *(len(b) for b in back))
        rows = spectra.flatten(1, -2)  # (B, C [My], Mx): the same memory
        for image, near, bases in self._parts(points, shape, orders, rows.shape[1]):
            lit = values[image, :, near]
            if len(shape) == 2:
                lit = (lit.unsqueeze(1) * bases[1]).flatten(0, 1)
            rows[image].addmm_(lit, bases[0].T)
        return transform(spectra, [b.T for b in back])

    def _parts(
        self, points: Tensor, size: tuple[int, ...], orders: Orders, height: int
    ) -> Iterator[tuple[int, slice, list[Tensor]]]:
        """(image, its points, b at them for every axis (x, y)): as many at a time as stay in the cache."""
        budget = CHUNK_BYTES // points.element_size() * (1 if points.device.type == "cpu" else 256)
        step = max(32, budget // max(height, 2 * max(size)))
        together = max(1, CALL_POINTS // min(step, points.shape[1]))  # images whose bases are computed at once
        for first in range(0, points.shape[1], step):
            for some in range(0, len(points), together):
                part = points[some : some + together, first : first + step]
                flat = part.flatten(0, 1)
                bases = [basis(flat[:, k], size[-1 - k], self.boundary, order) for k, order in enumerate(orders)]
                count = part.shape[1]
                for i in range(len(part)):
                    yield some + i, slice(first, first + count), [b[:, i * count : (i + 1) * count] for b in bases]
