r"""T = S A P: patches, pooled and subsampled, as a linear map of the signal; what it keeps and how to undo it.

A kernel map holds the linear functions of its patch, <f_w, phi(z)> = <w, z>, so that a linear decoder of A M P y gives
A P y at the positions that are kept: T y. With sides e and stride s, for every axis with n positions, s dividing n,

    ||T y||^2 = (1 / e) sum_c sum_j |A y(s j + c)|^2,

and a position u is met by between floor(e / s) and ceil(e / s) pairs (j, c). Hence, if e >= s,

    cond(T) <= (ceil(e / s) / floor(e / s))^(1/2) e^{sigma^2 w^2 / 2},    w the largest frequency of the grid,

per axis, an equality if s divides e (counted for other n and for dilated patches); and if e < s, T has n e / s < n rows
and a null space: two signals that differ by one of its elements have the same T y. Beyond a border of zeros pooling and
shifts do not commute, and there is no closed form.

Reference: Bietti & Mairal 2019, section 2.2 (signal recovery by linear measurements and deconvolution).
"""

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from stability.boundaries import PERIODIC, NetworkBoundary, Periodic
from stability.grid import frequencies
from stability.operators.patches import patch_offsets, shifted
from stability.operators.pooling import pooling_matrix

ROUND_OFF = 1e-13
"""Singular values below this share of the largest one of their axis are round-off."""
LARGEST_EXPONENT = 300.0
"""Beyond it a condition number is as good as infinite, and products of it would overflow."""


class PooledPatches:
    """T, by the singular value decomposition of each axis (T is their tensor product).

    Args:
        size: of the grid before the stride.
        patch_size: e.
        pooling_scale: sigma in pixels of this grid.
        stride: s.
        dilation: distance of neighbouring patch positions, in pixels of this grid.
        boundary: what patches and pooling read beyond the border.
        device: where its matrices are put.

    >>> PooledPatches((8, 8), patch_size=2, pooling_scale=0.0, stride=2).condition
    1.0
    >>> PooledPatches((8, 8), patch_size=2, pooling_scale=0.0, stride=4).condition
    inf
    """

    def __init__(
        self,
        size: Sequence[int],
        patch_size: int,
        pooling_scale: float,
        stride: int,
        dilation: int = 1,
        boundary: NetworkBoundary = PERIODIC,
        device: torch.device | str | None = None,
    ) -> None:
        self.size, self.patch_size, self.pooling_scale = tuple(size), patch_size, pooling_scale
        self.stride, self.dilation, self.boundary, self.device = stride, dilation, boundary, device

    @property
    def d(self) -> int:
        """Number of axes."""
        return len(self.size)

    def axis(self, n: int) -> Tensor:
        """T of one axis, ``(e n', n)``, float64: rows ordered by offset, then position."""
        return self._shifts(n, pooling_matrix(n, self.pooling_scale, self.stride, self.boundary, device=self.device))

    def _shifts(self, n: int, rows: Tensor) -> Tensor:
        """The rows applied to every shifted copy y(. + c) / e^(1/2)."""
        offsets = (c * self.dilation for c in patch_offsets(self.patch_size))
        here = torch.eye(n, dtype=torch.float64, device=self.device)
        copies = [rows @ shifted(here, (-c,), self.boundary) for c in offsets]
        return torch.cat(copies) / math.sqrt(self.patch_size)

    @cached_property
    def _factors(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """U, singular values and V^T of every axis, without those that are round-off."""
        found = []
        for n in self.size:
            left, values, right = torch.linalg.svd(self.axis(n), full_matrices=False)
            kept = values > ROUND_OFF * values[0]
            found.append((left[:, kept], values[kept], right[kept]))
        return found

    @property
    def injective(self) -> bool:
        """Whether no signal but 0 has T y = 0, up to round-off."""
        pairs = zip(self._factors, self.size, strict=True)
        return all(len(values) == n for (_, values, _), n in pairs)

    @property
    def condition(self) -> float:
        """Largest over smallest singular value; infinity for a null space (and beyond 1 / round-off)."""
        if not self.injective:
            return math.inf
        return float(math.prod(float(values[0] / values[-1]) for _, values, _ in self._factors))

    @property
    def bound(self) -> float:
        """The closed form above, at least ``condition``; infinity where no patch meets a position; for zeros."""
        if not isinstance(self.boundary, Periodic):
            return math.inf
        total = 1.0
        for n in self.size:
            kept = self._shifts(n, pooling_matrix(n, 0.0, self.stride, device=self.device))
            met = kept.square().sum(0)  # how often, over e
            if float(met.min()) == 0.0:
                return math.inf
            highest = float(frequencies(n, device=self.device).abs().max())
            amplified = math.exp(min(0.5 * (self.pooling_scale * highest) ** 2, LARGEST_EXPONENT))
            total *= math.sqrt(float(met.max() / met.min())) * amplified
        return total

    def apply(self, maps: Tensor) -> Tensor:
        """T y, ``(..., e n'_1, e n'_2)`` (in 1-D ``(..., e n')``) for maps ``(..., *size)``."""
        found = maps @ self.axis(self.size[-1]).T
        return found if self.d == 1 else self.axis(self.size[0]) @ found

    def arrange(self, patches: Tensor) -> Tensor:
        """Patch maps ``(..., e^d C, *size')`` (offsets outer) as in ``apply``: ``(..., C, e n'_1, e n'_2)``."""
        e, grid = self.patch_size, patches.shape[-self.d :]
        split = patches.unflatten(-self.d - 1, (*(e,) * self.d, -1))  # (..., e, e, C, n1, n2)
        if self.d == 1:
            return split.movedim(-3, -2).flatten(-2)  # (..., C, e, n) -> (..., C, e n)
        ordered = split.movedim(-3, -5)  # (..., C, e, e, n1, n2)
        return ordered.movedim(-3, -2).reshape(*ordered.shape[:-4], e * grid[0], e * grid[1])

    def solve(self, data: Tensor, regularisation: float = 0.0) -> Tensor:
        """argmin_y ||T y - data||^2 + r ||y||^2; r = 0: the solution of least norm.

        Args:
            data: ``(..., e n'_1, e n'_2)``, float64.
            regularisation: r >= 0.

        Returns:
            ``(..., *size)``.
        """
        weights = self._values / (self._values.square() + regularisation)
        return self._expand(self._coefficients(data) * weights)

    def seen(self, maps: Tensor) -> Tensor:
        """The part of y that T y determines: its projection on the complement of the null space, ``(..., *size)``.

        The rest, y - seen(y), is lost: y and 2 seen(y) - y have the same T y, so that whatever is made of T y is at
        least ||y - seen(y)|| away from one of the two.
        """
        return self._expand(self._analyse(maps))

    @property
    def _values(self) -> Tensor:
        """Singular values of the tensor product, ``(r_1, r_2)`` or ``(r,)``."""
        first, *rest = (values for _, values, _ in self._factors)
        return first[:, None] * rest[0] if rest else first

    def _coefficients(self, data: Tensor) -> Tensor:
        found = data @ self._factors[-1][0]
        return found if self.d == 1 else self._factors[0][0].T @ found

    def _analyse(self, maps: Tensor) -> Tensor:
        found = maps @ self._factors[-1][2].T
        return found if self.d == 1 else self._factors[0][2] @ found

    def _expand(self, coefficients: Tensor) -> Tensor:
        found = coefficients @ self._factors[-1][2]
        return found if self.d == 1 else self._factors[0][2].T @ found
