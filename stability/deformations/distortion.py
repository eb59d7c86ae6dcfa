"""Suprema of functions of I - grad tau: being written."""

from torch import Tensor

from stability.deformations.base import Deformation
from stability.deformations.norms import Distortion, Interval


def distortion(field: Deformation) -> Distortion:
    """Placeholder."""

    def fail() -> Tensor:
        raise NotImplementedError

    return Distortion(*(Interval(fail, fail) for _ in range(9)))
