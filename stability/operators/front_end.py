"""F x, the first thing that an architecture does to an image."""

from torch import Tensor

from stability.architecture import Architecture
from stability.boundaries import Periodic


def front_end_output(architecture: Architecture, images: Tensor, d: int, refinement: int = 1) -> Tensor:
    """F x, ``(..., C', *size)``, with the boundary of the architecture; x itself where there is no front end.

    Args:
        architecture: gives F and the boundary.
        images: ``(..., C, *size)``.
        d: number of spatial axes.
        refinement: the grid is so many times as fine as the architecture's pixels.
    """
    front_end = architecture.front_end
    if front_end is None:
        return images
    if isinstance(architecture.boundary, Periodic):
        return front_end.apply(images, d, refinement)
    return front_end.apply_to_window(images, d, refinement)
