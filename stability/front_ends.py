"""Linear maps applied to the image before A_0. Frozen values without tensors, part of an ``Architecture``."""

import abc
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FrontEnd(abc.ABC):
    """A linear map F of images with ||F|| <= 1 that commutes with translations."""

    @property
    def in_closed_form(self) -> bool:
        """Whether the bounds in closed form cover it: a filter F takes the place of A_0 by F A_0, and they do not."""
        return False

    @abc.abstractmethod
    def apply(self, images: "Tensor", d: int, refinement: int = 1) -> "Tensor":
        """F x, ``(..., C', *size)``, for images ``(..., C, *size)``.

        Args:
            images: on the torus.
            d: number of spatial axes.
            refinement: the grid is so many times as fine as the pixels in which F is defined.
        """

    def apply_to_window(self, images: "Tensor", d: int, refinement: int = 1) -> "Tensor":
        """1 F 1 x: the image followed by as many zeros along each axis, F on this torus of twice the side, cut back.

        A compression, so that ||1 F 1|| <= ||F|| <= 1. No copy of the window is nearer than its own side.

        Args:
            images: ``(..., C, *size)`` on a window beyond which they are 0.
            d: number of spatial axes.
            refinement: as in ``apply``.
        """
        from torch.nn.functional import pad

        sizes = images.shape[-d:]
        maps = self.apply(pad(images, [width for n in reversed(sizes) for width in (0, n)]), d, refinement)
        for axis, n in zip(range(-d, 0), sizes, strict=True):
            maps = maps.narrow(axis, 0, n)
        return maps


@dataclass(frozen=True)
class MeanRemoval(FrontEnd):
    """F x = x - mean(x), the mean over the pixels of each image and channel.

    F is an orthogonal projection and commutes with A_0. It does not commute with a deformation that changes areas:
    mean(L_tau x) - mean(x) is a constant image, and the bound carries one more term for it (see
    ``stability.bounds.mean_removal``). On raw grey images all kernels act almost linearly; mean-removed inputs show
    the kernel.
    """

    @property
    def in_closed_form(self) -> bool:
        """True."""
        return True

    def apply(self, images: "Tensor", d: int, refinement: int = 1) -> "Tensor":
        """x - mean(x)."""
        return images - images.mean(tuple(range(-d, 0)), keepdim=True)

    def apply_to_window(self, images: "Tensor", d: int, refinement: int = 1) -> "Tensor":
        """x - mean(x), the mean over the window."""
        return self.apply(images, d, refinement)


@dataclass(frozen=True)
class Gradient(FrontEnd):
    """F x = d^(-1/2) ((x(u + e_j) - x(u - e_j)) / 2)_j: central differences along every axis, as d C channels.

    The symbol is d^(-1/2) (i sin w_j)_j, of norm at most 1 and, for even sides, equal to 1 at w = (pi / 2, pi / 2). Two
    channels a pixel, orientation and contrast, are what the first CKNs were fed.

    Convention: channels are those of d/dx, then those of d/dy. With a boundary of zeros the differences at the border
    see the step from the image to 0.

    Reference: Mairal, Koniusz, Harchaoui & Schmid 2014, gradient maps.

    >>> import torch
    >>> Gradient().apply(torch.tensor([[[0.0, 1.0, 4.0, 1.0]]]), d=1)
    tensor([[[ 0.,  2.,  0., -2.]]])
    """

    def apply(self, images: "Tensor", d: int, refinement: int = 1) -> "Tensor":
        """Central differences over one pixel to either side."""
        import torch

        slopes = [
            (images.roll(-refinement, axis) - images.roll(refinement, axis)) / 2 for axis in range(-1, -d - 1, -1)
        ]
        return torch.cat(slopes, dim=-d - 1) / math.sqrt(d)


@dataclass(frozen=True)
class Whitening(FrontEnd):
    """F = r exp(-(r / r_0)^4) / max, r = |w| / 2 pi in cycles per pixel: flattens the 1 / r spectrum of natural images.

    Scaled to ||F|| = 1 on the plane; the exponential keeps the corners of the spectrum, which are noise, out. With a
    boundary of zeros it is the filter of the torus of twice the side, in which the image lies among zeros.

    Args:
        cutoff: r_0 in cycles per pixel, > 0.

    Raises:
        ValueError: if the cutoff is not positive.

    Reference: Olshausen & Field 1996 (r_0 = 200 cycles a picture of 512 pixels, 0.39 a pixel).

    >>> import torch
    >>> bool(Whitening().apply(torch.ones(1, 1, 8, 8), d=2).abs().max() < 1e-6)
    True
    """

    cutoff: float = 0.39

    def __post_init__(self) -> None:
        if isinstance(self.cutoff, bool) or not isinstance(self.cutoff, int | float) or not 0 < self.cutoff < math.inf:
            raise ValueError(f"cutoff must be positive, got {self.cutoff!r}; 0.39 cycles per pixel is the default")
        object.__setattr__(self, "cutoff", float(self.cutoff))

    def apply(self, images: "Tensor", d: int, refinement: int = 1) -> "Tensor":
        """The filter, by the Fourier transform."""
        import torch

        from stability.grid import frequencies

        axes = tuple(range(-d, 0))
        square = images.new_zeros(1)
        for axis in axes:
            n = images.shape[axis]
            w = frequencies(n, dtype=images.dtype, device=images.device) * (refinement / (2 * math.pi))
            square = square + w.square().view(-1, *(1,) * (-axis - 1))
        largest = self.cutoff * math.exp(-0.25) / math.sqrt(2)  # of r exp(-(r / r_0)^4), at r = r_0 / 4^(1/4)
        symbol = square.sqrt() * torch.exp(-(square / self.cutoff**2).square()) / largest
        return torch.fft.ifftn(torch.fft.fftn(images, dim=axes) * symbol, dim=axes).real
