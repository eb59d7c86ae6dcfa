r"""``Ball``: the frequencies |omega| <= radius of a torus, and real coordinates for real operators between two balls.

The order is 0, then one of each pair +-k, then their opposites. A real operator has M[-m, -k] = conj(M[m, k]); in the
orthonormal functions 1, sqrt(2) cos, sqrt(2) sin its matrix is real.
"""

import itertools
import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from stability.grid import sides


class Ball:
    """All frequencies omega = 2 pi k / side with |omega| <= radius.

    Args:
        size: ``(N,)`` or ``(H, W)`` in pixels.
        radius: in radians per pixel, >= 0.

    >>> Ball((8,), 1.6).modes.flatten().tolist()
    [0, 1, 2, -1, -2]
    >>> round(Ball((8,), 1.6).next / (2 * math.pi / 8), 6)
    3.0
    """

    def __init__(self, size: tuple[int, ...], radius: float) -> None:
        self.size, self.radius = size, radius
        self.highest = tuple(math.floor(radius * n / (2 * math.pi)) for n in size)
        """Largest |k| per axis, in the order of ``size``."""
        axes = [range(-k - 1, k + 2) for k in self.highest[::-1]]  # (x, y)
        every = torch.tensor(list(itertools.product(*axes)), dtype=torch.int64)
        length = self._omega(every).norm(dim=-1)
        inside = length <= radius
        self.next = float(length[~inside].min())
        """The smallest |omega| outside."""
        kept = every[inside]
        first = kept[:, 0] > 0
        if len(size) == 2:
            first |= (kept[:, 0] == 0) & (kept[:, 1] > 0)
        plus = kept[first]
        self.modes = torch.cat([torch.zeros_like(kept[:1]), plus, -plus])
        """k, ``(M, d)`` integers in the order (x, y)."""
        self.half = len(plus)

    def __len__(self) -> int:
        return len(self.modes)

    @cached_property
    def omega(self) -> Tensor:
        """``(M, d)`` in radians per pixel."""
        return self._omega(self.modes)

    @cached_property
    def opposite(self) -> Tensor:
        """Index of -k, ``(M,)``."""
        plus, minus = torch.arange(1, 1 + self.half), torch.arange(1 + self.half, 1 + 2 * self.half)
        return torch.cat([torch.zeros(1, dtype=torch.int64), minus, plus])

    def index(self, shape: Sequence[int]) -> tuple[Tensor, ...]:
        """Where the frequencies stand in a discrete Fourier transform of that shape, one index per axis of it."""
        return tuple(self.modes[:, -1 - axis] % n for axis, n in enumerate(shape))

    def places(self, others: "Ball") -> tuple[Tensor, Tensor]:
        """Indices (i, j) of the frequencies that both balls hold."""
        known = {tuple(k): j for j, k in enumerate(others.modes.tolist())}
        pairs = [(i, known[tuple(k)]) for i, k in enumerate(self.modes.tolist()) if tuple(k) in known]
        left, right = torch.tensor(pairs, dtype=torch.int64).T
        return left, right

    def _omega(self, modes: Tensor) -> Tensor:
        return 2 * math.pi * modes.to(torch.float64) / sides(self.size)


def at(spectra: Tensor, ball: Ball) -> Tensor:
    """The entries of discrete Fourier transforms ``(C, *shape)`` at the ball's frequencies, ``(C, M)``."""
    if spectra.ndim == 2:
        return spectra[:, ball.index(spectra.shape[1:])[0]]
    rows, columns = ball.index(spectra.shape[1:])
    return spectra[:, rows, columns]


def real_form(matrix: Tensor) -> Tensor:
    """The matrix of a real operator in 1, sqrt(2) cos, sqrt(2) sin, from its matrix in exp(i omega u).

    Args:
        matrix: ``(M', M)`` complex, rows and columns in the order of a ``Ball``.

    Returns:
        ``(M', M)`` real, the same singular values.

    >>> quarter = torch.diag(torch.tensor([1, 1j, -1j]))  # f(u + side / 4)
    >>> (real_form(quarter) + 0.0).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]
    """
    rows, columns = (1 + (n - 1) // 2 for n in matrix.shape)
    plus, minus = matrix[1:rows, 1:columns], matrix[1:rows, columns:]
    total, difference = plus + minus, plus - minus
    real = matrix.real.new_empty(matrix.shape)
    real[0, 0] = matrix[0, 0].real
    real[0, 1:columns] = math.sqrt(2) * matrix[0, 1:columns].real
    real[0, columns:] = math.sqrt(2) * matrix[0, 1:columns].imag
    real[1:rows, 0] = math.sqrt(2) * matrix[1:rows, 0].real
    real[rows:, 0] = -math.sqrt(2) * matrix[1:rows, 0].imag
    real[1:rows, 1:columns], real[rows:, 1:columns] = total.real, -total.imag
    real[1:rows, columns:], real[rows:, columns:] = difference.imag, difference.real
    return real
