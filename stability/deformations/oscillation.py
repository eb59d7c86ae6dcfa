"""osc(tau): being written."""

from torch import Tensor

from stability.deformations.base import Deformation
from stability.deformations.norms import Interval


def oscillation(field: Deformation) -> Interval:
    """Placeholder."""

    def fail() -> Tensor:
        raise NotImplementedError

    return Interval(fail, fail)
