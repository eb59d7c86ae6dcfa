r"""Products w f of a taper and a trigonometric field: their derivatives, and constants that bound them.

Along a unit vector e, d_e^n (w f) = sum_k binom(n, k) d_e^k w d_e^(n - k) f, so

    A_n = sum_k binom(n, k) W_k F_(n - k) >= sup |d_e^n (w f)|,    W_k >= sup |d_e^k w|,    F_j >= sup |d_e^j f|,

and a symmetric form is largest on the diagonal: A_1 and A_2 bound the spectral norm of the gradient and the norm of
the second derivative. F_0, F_1, F_2 are the certified norms of f; beyond, Bernstein's inequality F_(j + 1) <= R F_j.

Reference: Bernstein 1912 (|g'| <= R sup |g| for type R); Banach 1938 (symmetric forms).
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from stability.deformations.lengths import Length
from stability.deformations.norms import Norms
from stability.deformations.taper import ORDERS, Taper
from stability.deformations.trigonometric import TrigonometricBatch

_CHUNK = 2**14
"""Points evaluated at a time: the memory does not depend on the number of cells."""


def product_rule(taper: Sequence[Tensor], field: Sequence[Tensor]) -> Tensor:
    """The derivative of order len(field) - 1 <= 2 of w f.

    Args:
        taper: w ``(...)``, grad w ``(..., d)``, second derivatives ``(..., d, d)``, as many as of the field.
        field: f ``(*batch_shape, ..., d)``, grad f ``(*batch_shape, ..., d, d)``, second derivatives likewise.

    Returns:
        ``(*batch_shape, ..., d)``, ``(..., d, d)`` or ``(..., d, d, d)``; derivatives on the last axes.
    """
    w, f = taper[0], field[0]
    if len(field) == 1:
        return w[..., None] * f
    gradient = taper[1]
    if len(field) == 2:
        return w[..., None, None] * field[1] + f[..., :, None] * gradient[..., None, :]
    mixed = field[1][..., :, :, None] * gradient[..., None, None, :]
    outer = f[..., :, None, None] * taper[2][..., None, :, :]
    return w[..., None, None, None] * field[2] + mixed + mixed.transpose(-1, -2) + outer


class TaperedLengths:
    """u -> length(D^order (w f_i)(u)) for a batch of fields: the ``Lengths`` of an ``Enclosure``.

    Args:
        taper: w.
        fields: f and its derivatives up to the order, stacked as components (d of f, d^2 of grad f, d^3 of the second).
        order: 0, 1 or 2.
        length: from the different components of the derivative, see ``lengths``.
    """

    def __init__(self, taper: Taper, fields: TrigonometricBatch, order: int, length: Length) -> None:
        self._taper = taper
        self._fields = fields
        self._order = order
        self._length = length

    @property
    def sides(self) -> Tensor:
        """The periods along (x, y) in pixels, ``(d,)``."""
        return self._fields.sides

    def __len__(self) -> int:
        return len(self._fields)

    def origin(self, spacing: Tensor) -> Tensor:
        """0."""
        return torch.zeros_like(spacing)

    def chunks(self, counts: tuple[int, ...]) -> Iterator[tuple[int, Tensor]]:
        """First index and values ``(chunk, *counts)``, a few fields at a time."""
        sides = self.sides.flip(0)
        axes = [
            torch.arange(count, dtype=sides.dtype, device=sides.device) * (side / count)
            for count, side in zip(counts, sides, strict=True)
        ]
        nodes = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1)
        taper = self._taper.derivatives(nodes, self._order)
        for start, components in self._fields.chunks(counts):
            yield start, self._lengths(taper, components)

    def around(self, index: Tensor, points: Tensor, offsets: Tensor) -> Tensor:
        """Field ``index[a]`` at ``points[a] + offsets[b]``, ``(P, S)``."""
        parts = []
        for chunk, at in zip(index.split(_CHUNK), points.split(_CHUNK), strict=True):
            taper = self._taper.derivatives(at[:, None] + offsets, self._order)
            parts.append(self._lengths(taper, self._fields.around(chunk, at, offsets)))
        return torch.cat(parts)

    def _lengths(self, taper: list[Tensor], components: list[Tensor]) -> Tensor:
        d, start, field = len(self.sides), 0, []
        for order in range(self._order + 1):
            stop = start + d ** (order + 1)
            field.append(torch.stack(components[start:stop], dim=-1).unflatten(-1, (d,) * (order + 1)))
            start = stop
        derivative = product_rule(taper, field)
        derivative = derivative.reshape(*derivative.shape[: derivative.ndim - self._order - 1], d, d**self._order)
        if self._order == 2 and d == 2:
            derivative = derivative[..., [0, 1, 3]]  # the mixed derivative once
        return self._length(derivative.flatten(-2).unbind(-1))


def directional_bounds(taper: Taper, norms: Norms, bandwidths: Tensor) -> list[Tensor]:
    """A_0, ..., A_4, ``(n,)`` each: A_n >= sup over points and unit e of |d_e^n (w f)|.

    Args:
        taper: w.
        norms: of f, batch shape ``(n,)``; their upper ends are read.
        bandwidths: R, ``(n,)`` in radians per pixel.
    """
    w = taper.constants()
    f = _directional(norms, bandwidths)
    return [_leibniz(w, f, n) for n in range(ORDERS + 1)]


def divergence_bounds(taper: Taper, norms: Norms, bandwidths: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds of |div (w f)| and of its second derivative along unit vectors, ``(n,)`` each.

    div (w f) = w div f + <grad w, f>; d_e^j div f is at most R^j sup |div f|, d_e^k grad w at most W_(k + 1).
    """
    w = taper.constants()
    f = _directional(norms, bandwidths)
    divergence = [norms.divergence.upper * bandwidths**j for j in range(3)]
    bounds = [_leibniz(w, divergence, n) + _leibniz(w[1:], f, n) for n in (0, 2)]
    return bounds[0], bounds[1]


def _directional(norms: Norms, bandwidths: Tensor) -> list[Tensor]:
    """F_0, ..., F_4."""
    f = [norms.displacement.upper, norms.jacobian.upper, norms.hessian.upper]
    while len(f) <= ORDERS:
        f.append(f[-1] * bandwidths)
    return f


def _leibniz(w: Sequence[float], f: Sequence[Tensor], n: int) -> Tensor:
    terms = [math.comb(n, k) * w[k] * f[n - k] for k in range(n + 1)]
    return torch.stack(terms).sum(0)
