r"""``BandLimitedWarp``: trigonometric images evaluated exactly at any point.

On the grid of n pixels the real functions 1, sqrt(2) cos(2 pi k x / n), sqrt(2) sin(2 pi k x / n), k < n / 2, divided
by sqrt(n), are orthonormal and span the band-limited signals. An image is the matrix C of its coefficients,
x(u) = b(u_y)^T C b(u_x), at grid points and between them.

An image that is reflected at its border is a trigonometric polynomial of the torus of twice the side without sines and
without a Nyquist mode, whatever its pixels are: sqrt((2 - [k = 0]) / n) cos(pi k (x + 1/2) / n), k < n, the type-II
discrete cosine transform, takes the place of b.
"""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.boundaries import PERIODIC, Boundary, Periodic, Reflect, check_boundary
from stability.grid import BAND_LIMIT_TOLERANCE, frequencies, nyquist_share
from stability.warps.base import Warp, nodes, unfold

CHUNK_ENTRIES = 2**16
"""Intermediate numbers held at a time: half a megabyte stays in the cache."""


def basis(points: Tensor, n: int) -> Tensor:
    """b(x): the orthonormal real Fourier basis of a periodic axis of n pixels, at any points.

    Args:
        points: ``(P,)`` in pixels, float64.
        n: side of the axis in pixels.

    Returns:
        Tensor ``(P, 2 K + 1)`` with K = (n - 1) // 2: the constant, K cosines, K sines.

    >>> b = basis(torch.arange(6.0, dtype=torch.float64), 6)
    >>> torch.allclose(b.T @ b, torch.eye(5, dtype=torch.float64))
    True
    """
    powers = _powers(points * (2.0 * math.pi / n), (n - 1) // 2)
    constant = torch.full_like(points, 1.0 / math.sqrt(n))[:, None]
    return torch.cat([constant, powers.real * math.sqrt(2.0 / n), powers.imag * math.sqrt(2.0 / n)], dim=1)


def cosines(points: Tensor, n: int) -> Tensor:
    """The orthonormal cosine basis of an axis of n pixels that is reflected at its border, at any points.

    Args:
        points: ``(P,)`` in pixels, float64.
        n: side of the axis in pixels.

    Returns:
        Tensor ``(P, n)``: the constant, then n - 1 cosines; even about -1/2 and n - 1/2.

    >>> b = cosines(torch.arange(6.0, dtype=torch.float64), 6)
    >>> torch.allclose(b.T @ b, torch.eye(6, dtype=torch.float64))
    True
    """
    powers = _powers((points + 0.5) * (math.pi / n), n - 1)
    constant = torch.full_like(points, 1.0 / math.sqrt(n))[:, None]
    return torch.cat([constant, powers.real * math.sqrt(2.0 / n)], dim=1)


def _powers(angle: Tensor, highest: int) -> Tensor:
    """z, z^2, ..., z^highest for z = exp(i angle), ``(P, highest)``."""
    powers = torch.polar(torch.ones_like(angle), angle)[:, None]  # by doubling: no trigonometry
    while powers.shape[1] < highest:
        powers = torch.cat([powers, powers * powers[:, -1:]], dim=1)
    return powers[:, :highest]


def _basis(points: Tensor, n: int, boundary: Boundary) -> Tensor:
    return cosines(points, n) if isinstance(boundary, Reflect) else basis(points, n)


def _grid_bases(size: tuple[int, ...], oversample: int, images: Tensor, boundary: Boundary) -> list[Tensor]:
    axes = (nodes((n,), oversample, boundary, device=images.device)[:, 0] for n in size)
    return [_basis(axis, n, boundary) for axis, n in zip(axes, size, strict=True)]


def _apply(images: Tensor, matrices: list[Tensor]) -> Tensor:
    """One matrix per trailing axis, ``(..., *size)`` -> ``(..., *size')``."""
    images = images @ matrices[-1].T
    return images if len(matrices) == 1 else torch.matmul(matrices[0], images)


def evaluate(images: Tensor, points: Tensor, boundary: Boundary = PERIODIC) -> Tensor:
    """x at arbitrary points: of the torus, for band-limited x, or of the plane, for any x that is reflected.

    Args:
        images: ``(..., C, *size)``, float64.
        points: ``(..., P, d)`` in pixels, float64; leading dimensions broadcast.
        boundary: how x is continued.

    Returns:
        Tensor ``(..., C, P)``.
    """
    d, count = points.shape[-1], points.shape[-2]
    size = tuple(images.shape[-d:])
    coefficients = _apply(images, [b.T for b in _grid_bases(size, 1, images, boundary)])  # (..., C, *basis)
    image_lead, point_lead = images.shape[: -d - 1], points.shape[:-2]
    lead = torch.broadcast_shapes(image_lead, point_lead)
    coefficients = coefficients.view(*(1,) * (len(lead) - len(image_lead)), *coefficients.shape)
    points = points.view(*(1,) * (len(lead) - len(point_lead)), *points.shape)
    values = images.new_empty(*lead, images.shape[-d - 1], count)
    sets, held = points.shape[: len(lead)], coefficients.shape[: len(lead)]
    for index in itertools.product(*map(range, sets)):  # one set of points for all the images that share it
        every = slice(None)
        where = tuple(every if sets[axis] == 1 else i for axis, i in enumerate(index))
        which = tuple(every if sets[axis] == 1 else min(i, held[axis] - 1) for axis, i in enumerate(index))
        values[where] = _evaluate_at(coefficients[which], points[index], size, boundary)
    return values


def _evaluate_at(coefficients: Tensor, points: Tensor, size: tuple[int, ...], boundary: Boundary) -> Tensor:
    """Images with coefficients ``(..., *basis)`` at points ``(P, d)``; returns ``(..., P)``."""
    d = len(size)
    flat = coefficients.reshape(-1, *coefficients.shape[-d:])  # (m, [My,] Mx)
    values = []
    step = max(1, CHUNK_ENTRIES // (flat[..., 0].numel() + flat.shape[-1]))
    for part in points.split(step):
        inner = _basis(part[:, 0], size[-1], boundary) @ flat.flatten(0, -2).T  # (P, m [My])
        if d == 2:
            inner = (inner.view(len(part), *flat.shape[:2]) * _basis(part[:, 1], size[0], boundary)[:, None]).sum(-1)
        values.append(inner)
    return torch.cat(values).T.reshape(*coefficients.shape[:-d], len(points))


@dataclass(frozen=True)
class BandLimitedWarp(Warp):
    r"""The L2 projection of L_tau x on the band-limited images of the same grid, exact to round-off for band-limited x.

    ``boundary=Reflect()``: on the cosine polynomials of the window, exact for every x (see the module).

    L_tau x is evaluated exactly on a grid ``oversample`` times as fine, and its Fourier coefficients are taken by that
    quadrature. What the projection loses is ``interpolation_error``. ``oversample=1`` gives the point samples
    x(u - tau(u)) instead.

    Args:
        oversample: nodes per pixel and axis, >= 1.
        boundary: ``Periodic()`` or ``Reflect()``.

    Raises:
        ValueError: when a periodic one is called with an image that is not band-limited; ``st.grid.band_limit`` makes
            it so.

    Convention: Differentiable in the image and in the points; float64 inside, the images' dtype outside.

    >>> from stability.deformations.translation import Translation
    >>> x = torch.zeros(1, 1, 5, 5, dtype=torch.float64); x[..., 2, 1] = 1.0
    >>> y = BandLimitedWarp()(x, Translation((3.0, 0.0), size=(5, 5)))
    >>> int(y.flatten().argmax()) == 2 * 5 + 4
    True
    """

    oversample: int = 4
    boundary: Boundary = Periodic()

    def __post_init__(self) -> None:
        check_boundary(self.boundary)
        if isinstance(self.oversample, bool) or not isinstance(self.oversample, int) or self.oversample < 1:
            raise ValueError(f"oversample must be an integer >= 1, got {self.oversample!r}; the default is 4")

    @property
    def points_per_pixel(self) -> int:
        """oversample."""
        return self.oversample

    def sample(self, images: Tensor, points: Tensor) -> Tensor:
        """The projection (or the point samples) of the image at the points, ``(..., C, *size)``."""
        d = points.shape[-1]
        size = tuple(images.shape[-d:])
        if isinstance(self.boundary, Periodic):
            check_band_limited(images, d)
        values = evaluate(images.double(), points.double(), self.boundary)
        values = values.unflatten(-1, tuple(n * self.oversample for n in size))
        if self.oversample > 1:
            values = project(values, size, self.boundary)
        return values.to(images.dtype)


def project(values: Tensor, size: tuple[int, ...], boundary: Boundary = PERIODIC) -> Tensor:
    """L2 projection on the band-limited images (or cosine polynomials) of a grid, by quadrature.

    Args:
        values: ``(..., *(s size))``: samples on a grid s times as fine, at the ``nodes`` of the boundary rule.
        size: the coarse grid.
        boundary: which of the two spaces.

    Returns:
        ``(..., *size)``.
    """
    oversample = values.shape[-1] // size[-1]
    fine, coarse = _grid_bases(size, oversample, values, boundary), _grid_bases(size, 1, values, boundary)
    return _apply(values, [b @ f.T / oversample for f, b in zip(fine, coarse, strict=True)])


def check_band_limited(images: Tensor, d: int) -> None:
    """Raise ``ValueError`` if more than round-off of an image lies at the Nyquist frequency."""
    tolerance = max(BAND_LIMIT_TOLERANCE, 10 * torch.finfo(images.dtype).eps)
    share = float(nyquist_share(images.detach(), d).max()) if images.numel() else 0.0
    if share > tolerance:
        raise ValueError(
            f"images must be band-limited for BandLimitedWarp, got {share:.1e} of the norm at the Nyquist frequency; "
            "call st.grid.band_limit(images) first"
        )


def refine(images: Tensor, factor: int, d: int, boundary: Boundary = PERIODIC) -> Tensor:
    """The same functions at the ``nodes`` of a grid ``factor`` times as fine, ``(..., C, *(factor size))``."""
    size = tuple(images.shape[-d:])
    coarse, fine = _grid_bases(size, 1, images, boundary), _grid_bases(size, factor, images, boundary)
    return _apply(images.double(), [f @ b.T for f, b in zip(fine, coarse, strict=True)])


def low_pass_norm(
    images: Tensor, antialiasing: float | None, oversample: int, d: int, boundary: Boundary = PERIODIC
) -> Tensor:
    """||A_0 y|| of images on a grid ``oversample`` times as fine, in units of the coarse grid's pixels.

    Args:
        images: ``(..., C, *size)``, float64.
        antialiasing: sigma_0 in coarse pixels; None or 0: no A_0.
        oversample: nodes per pixel and axis.
        d: number of spatial axes.
        boundary: ``Reflect()``: A_0 acts on the mirrored torus, the norm is that of the window.

    Returns:
        ``(...)``.
    """
    axes, area = tuple(range(-d, 0)), math.prod(images.shape[-d:])
    images = unfold(images, d, boundary)
    copies = math.prod(images.shape[-d:]) // area  # of the window on the torus
    energy = torch.fft.fftn(images, dim=axes, norm="ortho").abs().square()
    for axis, n in zip(axes, images.shape[-d:], strict=True):
        scaled = (antialiasing or 0.0) * oversample * frequencies(n, device=images.device)
        shape = [1] * d
        shape[axis] = n
        energy = energy * torch.exp(-scaled.square()).view(shape)
    return energy.sum((*axes, -d - 1)).div(oversample**d * copies).sqrt()
