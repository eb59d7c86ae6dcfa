r"""Periodic Gaussian blobs: images whose continuous form is known."""

from dataclasses import dataclass

import torch
from torch import Tensor

from stability.grid import check_size, coordinates

PERIODS = 4
"""Copies summed on each side; with widths below a quarter of the side the next one is below 1e-60."""


@dataclass(frozen=True, eq=False)
class Blobs:
    r"""x(u) = sum_i a_i sum_{n in Z^d} exp(-|u - c_i - n N|^2 / (2 s_i^2)).

    Args:
        centres: ``(B, m, d)`` in pixels, (x, y).
        widths: s, ``(B, m)`` in pixels. From about 2.2 px on, the image is band-limited to 1e-10.
        amplitudes: a, ``(B, m)``.
        size: the torus.
    """

    centres: Tensor
    widths: Tensor
    amplitudes: Tensor
    size: tuple[int, ...]

    @classmethod
    def sample(cls, size: tuple[int, ...], *, count: int, blobs: int = 6, generator: torch.Generator) -> "Blobs":
        """Random blobs: uniform centres, widths from 2.2 px to an eighth of the side, amplitudes in [0.2, 0.7].

        Args:
            size: ``(N,)`` or ``(H, W)``.
            count: B, number of images.
            blobs: m, blobs per image.
            generator: source of randomness.
        """
        size = check_size(size)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, dtype=torch.float64, generator=generator, device=generator.device)

        centres = uniform(count, blobs, len(size)) * torch.tensor(size[::-1], dtype=torch.float64)
        widths = 2.2 + max(0.0, min(size) / 8 - 2.2) * uniform(count, blobs)
        return cls(centres, widths, 0.2 + 0.5 * uniform(count, blobs), size)

    def evaluate(self, points: Tensor) -> Tensor:
        """x at any points ``(B, P, d)`` or ``(P, d)`` in pixels; returns ``(B, P)``."""
        value: Tensor | float = 1.0
        offset = points[..., :, None, :] - self.centres[:, None]  # (B, P, m, d)
        for axis, n in enumerate(self.size[::-1]):
            copies = offset[..., axis, None] + n * torch.arange(-PERIODS, PERIODS + 1, dtype=torch.float64)
            value = value * torch.exp(-0.5 * (copies / self.widths[:, None, :, None]).square()).sum(-1)
        assert isinstance(value, Tensor)  # d >= 1
        return (value * self.amplitudes[:, None]).sum(-1)

    def images(self) -> Tensor:
        """Samples on the pixel grid, ``(B, 1, *size)``, float64."""
        return self.evaluate(coordinates(self.size).flatten(0, -2)).unflatten(-1, self.size).unsqueeze(1)
