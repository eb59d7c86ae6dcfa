r"""``Representation``: norm and distance in L2, and a frozen reference that a sweep asks for distances.

Convention: ||x||^2 sums over pixels and channels (pixel area 1); ||Phi||^2 is the cell area H W / (H' W') times the
sum over output positions and channels.
"""

import abc
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from stability.architecture import Architecture
from stability.bounds.theorem import Theorem

if TYPE_CHECKING:
    from stability.representations.stages import Stages


LEAST_FLOOR = 10.0 * math.sqrt(torch.finfo(torch.float64).eps)
"""The least floor over ||Phi(x)||: K(x, x) + K(y, y) - 2 K(x, y) cancels, and its round-off is up to 50 eps K."""


class Reference(abc.ABC):
    """Phi(x) held fixed: its norm, and the distance of other images from it."""

    norm: Tensor
    """||Phi(x)||, ``(B,)``, float64."""

    @property
    @abc.abstractmethod
    def floor(self) -> Tensor:
        """Distances below this are round-off, ``(B,)``."""

    @abc.abstractmethod
    def distance(self, others: Tensor) -> Tensor:
        """||Phi(x_i) - Phi(y_i...)||.

        Args:
            others: ``(B, C, *size)``, or ``(B, ..., C, *size)`` for several images per reference.

        Returns:
            ``(B,)`` or ``(B, ...)``, float64.
        """

    def distances(self, others: Tensor) -> Tensor:
        """``distance`` of every layer in ``Representation.layer_names``, ``(L, B)`` or ``(L, B, ...)``."""
        return self.distance(others)[None]

    @property
    def norms(self) -> Tensor:
        """``norm`` of every layer, ``(L, B)``."""
        return self.norm[None]

    @property
    def floors(self) -> Tensor:
        """``floor`` of every layer, ``(L, B)``."""
        return self.floor[None]


class Representation(nn.Module, abc.ABC):
    """A map Phi of images into a Hilbert space, known through norms and distances."""

    architecture: Architecture | None
    """What the theory sees; None: the theory says nothing about it."""
    keeps_norms: bool = True
    """Whether |phi_k(z)| <= |z| whatever rho_k is, as for kernel maps and their projections; a CNN says False."""

    @property
    def keeps_zero(self) -> bool:
        """Whether phi_k(0) = 0; with a boundary of zeros the theorem asks for it."""
        return True

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the L layers whose distances ``Reference.distances`` gives: by default the last layer's number."""
        return ("output",) if self.architecture is None else (str(self.architecture.depth),)

    @property
    def lipschitz(self) -> tuple[float, ...] | None:
        """rho_1, ..., rho_n of the layers as they are; None without an architecture."""
        return None if self.architecture is None else self.architecture.lipschitz

    @property
    def theorem(self) -> Theorem | None:
        """What bounds it; None without an architecture.

        A representation with other constants, or whose layers do not keep norms, is bounded by Theorem D alone.
        """
        architecture, stated = self.architecture, self.lipschitz
        if architecture is None:
            return None
        own = None if self.keeps_norms and stated == architecture.lipschitz else stated
        return Theorem(architecture, own, self.keeps_zero)

    @abc.abstractmethod
    def reference(self, images: Tensor) -> Reference:
        """Everything that belongs to x alone, computed once.

        Args:
            images: ``(B, C, *size)``.
        """

    @abc.abstractmethod
    def refined(self, factor: int) -> "Representation":
        """The same representation on grids ``factor`` times as fine: scales and patches keep their extent."""

    def stages(self, image: Tensor) -> "Stages | None":
        """z_0, ..., z_n of one image ``(C, *size)``; None where the theory says nothing about the layers."""
        return None

    def norm(self, images: Tensor) -> Tensor:
        """||Phi(x)||, ``(B,)``, float64."""
        return self.reference(images).norm

    def distance(self, images: Tensor, others: Tensor) -> Tensor:
        """||Phi(x_i) - Phi(y_i)||, ``(B,)``, float64."""
        return self.reference(images).distance(others)

    def distance_matrices(self, images: Tensor) -> Tensor:
        """||Phi(x_i) - Phi(x_j)|| for all pairs and every layer, ``(L, B, B)``, float64, symmetric.

        Args:
            images: ``(B, C, *size)``.
        """
        return self.reference(images).distances(images.expand(len(images), *images.shape))


class KernelRepresentation(Representation):
    """A representation known through its kernel K(x, y) = <Phi(x), Phi(y)>."""

    @property
    def relative_floor(self) -> float:
        """The least ``Reference.floor`` over ||Phi|| of exact kernels: what round-off may hide of a distance."""
        return LEAST_FLOOR

    @abc.abstractmethod
    def kernel_matrix(self, images: Tensor, others: Tensor | None = None) -> Tensor:
        """K(x_i, y_j) for all pairs, ``(Bx, By)``, float64; ``others=None``: the symmetric matrix of the images."""

    def distance_matrices(self, images: Tensor) -> Tensor:
        """(K(x_i, x_i) + K(x_j, x_j) - 2 K(x_i, x_j))^(1/2), ``(1, B, B)``."""
        gram = self.kernel_matrix(images)
        squared = gram.diagonal()[:, None] + gram.diagonal() - 2.0 * gram
        upper = squared.clamp_min(0.0).sqrt().triu(1)  # K comes from products that are symmetric up to round-off only
        return (upper + upper.T)[None]


def paired(images: Tensor, others: Tensor, d: int) -> tuple[int, ...]:
    """The axes between batch and channel of ``others``, after a check that it fits ``images``.

    Raises:
        ValueError: if batch, channels or size differ.
    """
    expected, given = tuple(images.shape), tuple(others.shape)
    if given[:1] != expected[:1] or given[-d - 1 :] != expected[-d - 1 :] or len(given) < len(expected):
        raise ValueError(
            f"the second images must have shape (B, ..., C, *size) = ({expected[0]}, ..., "
            f"{', '.join(map(str, expected[1:]))}), got {given}; pair x_i with y_i"
        )
    return given[1 : len(given) - d - 1]


def as_float64(images: Tensor) -> Tensor:
    """The images in float64, detached: Gram distances need it (in float32 small ones vanish)."""
    return images.detach().to(torch.float64)
