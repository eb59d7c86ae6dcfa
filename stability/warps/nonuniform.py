r"""``NonuniformFFT``: band-limited images at many points by the nonuniform fast Fourier transform of finufft.

x(u) = N^-d sum_k x^(k) exp(i k.u) costs O(N^d log N + P log(1/tolerance)^d) instead of the O(N^d P) of the matrix
products; the price is the tolerance. Two real images are the real and the imaginary part of one transform.
"""

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from stability.boundaries import Boundary, Reflect
from stability.grid import frequencies
from stability.warps.base import unfold
from stability.warps.look_up import Interpolant, Orders


class _Plan(Protocol):
    """What of finufft's plan is used here."""

    def setpts(self, *axes: np.ndarray) -> None: ...
    def execute(self, values: np.ndarray) -> np.ndarray: ...


@cache
def has_finufft() -> bool:
    """Whether the extra ``finufft`` is installed."""
    return find_spec("finufft") is not None


@dataclass(frozen=True)
class NonuniformFFT:
    """Exact warps through finufft, to a tolerance: for images of more than about 64 pixels a side. On the CPU.

    Args:
        tolerance: relative to ||x||_2 of an image, 1e-14 to 1e-1.

    Raises:
        ValueError: for another tolerance.
        ImportError: if finufft is not installed.
    """

    tolerance: float = 1e-12

    def __post_init__(self) -> None:
        if not isinstance(self.tolerance, float) or not 1e-14 <= self.tolerance <= 0.1:
            raise ValueError(f"tolerance must lie in [1e-14, 0.1], got {self.tolerance!r}; 1e-12 is the default")
        if not has_finufft():
            raise ImportError(
                'NonuniformFFT needs finufft, which is not installed: pip install "deformation-stability[finufft]"'
            )

    def interpolant(self, boundary: Boundary) -> Interpolant:
        """``FastTrigonometric``."""
        return FastTrigonometric(boundary, self.tolerance)


@dataclass(frozen=True)
class FastTrigonometric(Interpolant):
    """x(u) = N^-d sum_k x^(k) exp(i k.u) by finufft, for images ``(B, C, *size)``.

    Args:
        boundary: ``Periodic()``: what lies at the Nyquist frequency is dropped. ``Reflect()``: the torus of twice
            the side.
        tolerance: of finufft.
    """

    boundary: Boundary
    tolerance: float

    def look(self, table: Tensor, points: Tensor, orders: Orders) -> Tensor:
        """D^a x at the points, ``(B, C, P)``."""
        d, count = len(orders), table.shape[1]
        images = unfold(table, d, self.boundary)
        axes, size = tuple(range(-d, 0)), tuple(images.shape[-d:])
        spectra = torch.fft.fftn(_packed(images), dim=axes, norm="forward") * _multiplier(size, orders, table.device)
        plan, values = self._plan(2, size, spectra.shape[1]), []
        for spectrum, where in zip(spectra.cpu().numpy(), _angles(points, size), strict=True):
            plan.setpts(*where)
            values.append(torch.from_numpy(plan.execute(spectrum)).view(len(spectrum), -1))
        return _unpacked(torch.stack(values).to(table.device), count)

    def spread(self, values: Tensor, points: Tensor, orders: Orders, shape: tuple[int, ...]) -> Tensor:
        """The transpose of ``look``: ``(B, C, P)`` to ``(B, C, *shape)``."""
        d, count = len(orders), values.shape[1]
        size = tuple(2 * n for n in shape) if isinstance(self.boundary, Reflect) else shape
        packed = _packed(values).cpu()
        plan, spectra = self._plan(1, size, packed.shape[1]), []
        for strengths, where in zip(packed.numpy(), _angles(points, size), strict=True):
            plan.setpts(*where)
            spectra.append(torch.from_numpy(plan.execute(strengths)).view(len(strengths), *size))
        axes = tuple(range(-d, 0))
        tables = torch.fft.fftn(
            torch.stack(spectra).to(values.device) * _multiplier(size, orders, values.device), dim=axes, norm="forward"
        )
        return _folded(_unpacked(tables, count), shape)

    def _plan(self, kind: int, size: tuple[int, ...], images: int) -> "_Plan":
        """finufft's plan for so many images at the same points."""
        import finufft

        plan: _Plan = finufft.Plan(
            kind, size, n_trans=images, eps=self.tolerance, isign=1, modeord=1, nthreads=torch.get_num_threads()
        )
        return plan


def _angles(points: Tensor, size: tuple[int, ...]) -> list[list[np.ndarray]]:
    """The points on the torus [0, 2 pi)^d, an array per axis in the order of the axes, for each set."""
    scaled = points.detach().double().cpu() * (2 * torch.pi / torch.tensor(size[::-1], dtype=torch.float64))
    scaled = torch.remainder(scaled, 2 * torch.pi).flip(-1)
    return [list(np.ascontiguousarray(where.T.numpy())) for where in scaled]


def _multiplier(size: tuple[int, ...], orders: Orders, device: torch.device) -> Tensor:
    """prod over the axes of (i w)^a, 0 at the Nyquist frequency, ``(*size)``."""
    product = torch.ones((), dtype=torch.complex128, device=device)
    for axis, (n, order) in enumerate(zip(size, orders[::-1], strict=True)):
        w = frequencies(n, device=device)
        factor = torch.where(w.abs() < torch.pi * (1 - 1e-9), (1j * w) ** order, 0.0)
        product = product * factor.view(-1, *(1,) * (len(size) - 1 - axis))
    return product


def _packed(values: Tensor) -> Tensor:
    """Channels 2 j and 2 j + 1 as the real and imaginary parts of one, ``(B, ceil(C / 2), ...)``."""
    odd = values[:, 1::2]
    if values.shape[1] % 2:
        odd = torch.cat([odd, torch.zeros_like(values[:, :1])], 1)
    return torch.complex(values[:, 0::2].contiguous(), odd)


def _unpacked(values: Tensor, count: int) -> Tensor:
    """The inverse of ``_packed``."""
    return torch.stack([values.real, values.imag], 2).flatten(1, 2)[:, :count]


def _folded(images: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The transpose of ``unfold``: a torus of twice the side summed on the window; the image if it is no larger."""
    for axis, n in zip(range(-len(shape), 0), shape, strict=True):
        if images.shape[axis] == 2 * n:
            images = images.narrow(axis, 0, n) + images.narrow(axis, n, n).flip(axis)
    return images
