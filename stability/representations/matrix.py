"""Kernel matrices between two sets of images."""

from torch import Tensor

from stability.representations.base import KernelRepresentation


def kernel_matrix(representation: KernelRepresentation, images: Tensor, others: Tensor | None = None) -> Tensor:
    """K(x_i, y_j) = <Phi(x_i), Phi(y_j)> for all pairs.

    Args:
        representation: one that has a kernel (``GramCKN``, ``LinearGram``).
        images: ``(Bx, C, *size)``.
        others: ``(By, C, *size)``; None: the symmetric matrix of the images with themselves.

    Returns:
        Tensor ``(Bx, By)``, float64, positive semi-definite if ``others`` is None.
    """
    return representation.kernel_matrix(images, others)
