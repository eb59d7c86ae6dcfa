r"""``SplineWarp``: cubic B-splines, twice continuously differentiable in the points.

x(u) = sum_k c_k beta(u - k) per axis, beta the cubic B-spline and c = x / ((4 + 2 cos w) / 6) in the Fourier domain:
the only coefficients for which x(k) is the image again.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from stability.boundaries import Boundary, Periodic, check_boundary
from stability.grid import frequencies
from stability.warps.base import Warp, one_to_one, unfold, wrap

CHUNK_ENTRIES = 2**18
"""Numbers of the output computed at a time: one or two megabytes stay in the cache."""


def cubic_weights(fraction: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """beta(t + 1), beta(t), beta(1 - t), beta(2 - t): the weights of the pixels floor(u) - 1, ..., floor(u) + 2.

    Args:
        fraction: t = u - floor(u) in [0, 1], any shape, floating point.

    Returns:
        Four tensors of that shape; they are positive and sum to 1.

    >>> [round(6 * float(weight), 6) for weight in cubic_weights(torch.tensor(0.0))]
    [1.0, 4.0, 1.0, 0.0]
    """
    rest = 1 - fraction
    return (
        rest**3 / 6,
        2 / 3 + fraction.square() * (fraction / 2 - 1),
        2 / 3 + rest.square() * (rest / 2 - 1),
        fraction**3 / 6,
    )


def spline_coefficients(images: Tensor, d: int) -> Tensor:
    """c with sum_k c_k beta(u - k) = x(u) at the pixels: x divided by prod over the axes of (4 + 2 cos w) / 6.

    Args:
        images: ``(..., C, *size)``, float32 or float64.
        d: number of spatial axes.

    Returns:
        Tensor of the same shape. Linear in x, commutes with translations by whole pixels, amplifies at most 3^d times
        (at the Nyquist frequency).

    >>> x = torch.tensor([[0.0, 0.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    >>> c = spline_coefficients(x, 1)
    >>> torch.allclose((c.roll(1, -1) + 4 * c + c.roll(-1, -1)) / 6, x)
    True
    """
    axes, size = tuple(range(-d, 0)), tuple(images.shape[-d:])
    spectrum = torch.fft.rfftn(images, dim=axes)
    for axis, n in zip(axes, size, strict=True):
        symbol = (4 + 2 * torch.cos(frequencies(n, dtype=images.dtype, device=images.device))) / 6
        spectrum = spectrum / symbol[: spectrum.shape[axis]].view(-1, *(1,) * (-axis - 1))
    return torch.fft.irfftn(spectrum, s=size, dim=axes)


@dataclass(frozen=True)
class SplineWarp(Warp):
    r"""Cubic B-spline interpolation of x at u - tau(u): error O(h^4), C^2 in tau, at tau = 0 too.

    For any image, band-limited or not: where ``BandLimitedWarp`` is exact and dear, and ``BilinearWarp`` is cheap and
    has no derivative at tau = 0, this is the warp for gradients, Jacobian-vector products and slopes at zero. It is
    what ``scipy.ndimage.map_coordinates(order=3, mode="grid-wrap")`` computes, or ``mode="reflect"``.

    The 4^d taps are gathered one by one. Merging them into 2^d bilinear look-ups (``grid_sample``) takes about as long
    on a CPU, is a hundred times less exact, has no forward-mode derivative, and close to whole pixels, where a search
    from tau = 0 starts, loses half the digits of the second derivative to the round-off of the look-up's own floor.

    Args:
        boundary: ``Periodic()`` or ``Reflect()``.

    Convention: sides >= 2 px. Differentiable in the image and in the points, forwards and backwards, twice in
    the points (the third derivative is the one from the right). Half precision is computed in float32. A point that is
    not finite gives NaN.

    >>> from stability.deformations.translation import Translation
    >>> x = torch.zeros(1, 1, 4, 5, dtype=torch.float64); x[..., 2, 1] = 1.0
    >>> y = SplineWarp()(x, Translation((3.0, 0.0), size=(4, 5)))
    >>> torch.allclose(y, x.roll(3, -1))
    True
    """

    boundary: Boundary = Periodic()

    def __post_init__(self) -> None:
        check_boundary(self.boundary)

    @property
    def points_per_pixel(self) -> int:
        """1."""
        return 1

    def sample(self, images: Tensor, points: Tensor) -> Tensor:
        """Spline values, ``(..., C, *size)``."""
        d = points.shape[-1]
        size = tuple(images.shape[-d:])
        precise = images.to(torch.promote_types(images.dtype, torch.float32))
        coefficients = spline_coefficients(unfold(precise, d, self.boundary), d)
        points = wrap(points, tuple(coefficients.shape[-d:]))
        coefficients, points, lead = one_to_one(_pad(coefficients, d), points)
        step = max(1, CHUNK_ENTRIES // max(1, coefficients.shape[1] * points.shape[1]))
        parts = zip(coefficients.split(step), points.split(step), strict=True)
        values = torch.cat([_evaluate(part, where) for part, where in parts])
        return values.reshape(*lead, values.shape[1], *size).to(images.dtype)


def _pad(coefficients: Tensor, d: int) -> Tensor:
    """One pixel before and two after on every axis, those of the other side of the torus."""
    for axis in range(-d, 0):
        n = coefficients.shape[axis]
        before, after = coefficients.narrow(axis, n - 1, 1), coefficients.narrow(axis, 0, 2)
        coefficients = torch.cat([before, coefficients, after], axis)
    return coefficients


def _evaluate(coefficients: Tensor, points: Tensor) -> Tensor:
    """sum_k c_k beta(u - k): padded ``(B, C, *(size + 3))`` at points ``(B, P, d)`` in [0, N)^d; ``(B, C, P)``."""
    d, stride = points.shape[-1], coefficients.shape[-1]
    corner = torch.floor(points)
    weights = cubic_weights((points - corner).to(coefficients.dtype).unsqueeze(1))  # four of (B, 1, P, d)
    index = corner.long()
    first = index[..., 0] if d == 1 else index[..., 1] * stride + index[..., 0]  # (B, P)
    flat = coefficients.flatten(-d)
    farthest = 3 if d == 1 else 3 * stride + 3  # from the first tap to the last
    first = first.clamp(0, flat.shape[-1] - 1 - farthest)  # NaN stays NaN in the weights, but must not index
    first = first.unsqueeze(1).expand(-1, flat.shape[1], -1)

    def line(offset: int) -> Tensor:
        """The four taps along x."""
        taps = (flat[..., offset + k :].gather(-1, first) for k in range(4))
        value = next(taps) * weights[0][..., 0]
        for weight, tap in zip(weights[1:], taps, strict=True):
            value = torch.addcmul(value, tap, weight[..., 0])
        return value

    if d == 1:
        return line(0)
    value = line(0) * weights[0][..., 1]
    for row, weight in enumerate(weights[1:], start=1):
        value = torch.addcmul(value, line(row * stride), weight[..., 1])
    return value
