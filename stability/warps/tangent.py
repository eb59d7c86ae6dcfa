r"""``TangentPerturbation``: x - <tau, grad x>, the first order of L_tau x in tau. NOT a deformation.

"Infinite MNIST" (Loosli, Canu & Bottou 2007) and the figures drawn with it (Bietti & Mairal 2019) add such tangent
vectors to the images instead of moving them. L_tau x = x - <tau, grad x> + O(|tau|^2): pixels keep their places, values
leave the range of the image, ||y|| is not controlled by ||x||, and no theorem about L_tau covers it. It is here so that
those figures can be redone and set beside a warp by the same fields.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.boundaries import Boundary, Periodic, Zero, check_boundary
from stability.grid import frequencies
from stability.warps.base import Warp, nodes, unfold


@dataclass(frozen=True)
class TangentPerturbation(Warp):
    """x - <tau, grad G x>, G the Gaussian of standard deviation ``smoothing``: not a deformation.

    Args:
        smoothing: of the image whose gradient is taken, in pixels, >= 0.
        boundary: how x is continued.

    Raises:
        ValueError: if the smoothing is negative or not finite.

    Convention: the gradient is that of the trigonometric interpolant, taken in Fourier space; the frequency at half the
    sampling rate has derivative 0.

    >>> from stability.deformations.translation import Translation
    >>> x = torch.cos(2 * math.pi * torch.arange(8.0, dtype=torch.float64) / 8).reshape(1, 1, 8)
    >>> y = TangentPerturbation()(x, Translation((0.1,), size=(8,)))
    >>> bool((y - x - 0.1 * 2 * math.pi / 8 * x.roll(2, -1)).abs().max() < 1e-12)
    True
    """

    smoothing: float = 0.0
    boundary: Boundary = Periodic()

    def __post_init__(self) -> None:
        check_boundary(self.boundary)
        if isinstance(self.boundary, Zero):
            raise ValueError("boundary must be Periodic() or Reflect(), got Zero(); put images into a frame of zeros")
        if not isinstance(self.smoothing, int | float) or not 0 <= self.smoothing < math.inf:
            raise ValueError(f"smoothing must be at least 0 px, got {self.smoothing!r}; use 0 for none")

    @property
    def points_per_pixel(self) -> int:
        """1."""
        return 1

    @property
    def deforms(self) -> bool:
        """False."""
        return False

    def sample(self, images: Tensor, points: Tensor) -> Tensor:
        """x - <u - points, grad G x> at the pixels u, ``(..., C, *size)``."""
        d = points.shape[-1]
        size = tuple(images.shape[-d:])
        tau = nodes(size, 1, self.boundary, device=points.device) - points.double()  # (..., P, d)
        tau = tau.unflatten(-2, size).unsqueeze(-d - 2)  # (..., 1, *size, d)
        slope = self._gradient(images.double(), d)
        change = sum((tau[..., k] * slope[k] for k in range(d)), start=torch.zeros_like(tau[..., 0]))
        return (images.double() - change).to(images.dtype)

    def _gradient(self, images: Tensor, d: int) -> list[Tensor]:
        """Derivatives of G x along (x, y), each ``(..., C, *size)``."""
        size = images.shape[-d:]
        whole = unfold(images, d, self.boundary)
        axes = tuple(range(-d, 0))
        spectrum = torch.fft.fftn(whole, dim=axes)
        omega = []
        for axis in axes:
            n = whole.shape[axis]
            wave = frequencies(n, device=images.device).reshape(-1, *(1,) * (-axis - 1))
            spectrum = spectrum * torch.exp(-((self.smoothing * wave) ** 2) / 2)
            omega.append(torch.where(wave.abs() < math.pi * (1 - 1e-9), wave, 0.0))
        window = tuple(slice(0, n) for n in size)
        return [torch.fft.ifftn(spectrum * 1j * wave, dim=axes).real[(..., *window)] for wave in reversed(omega)]
