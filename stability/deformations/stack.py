"""Fields of one family drawn one by one, as one batch."""

from collections.abc import Sequence

from stability.deformations.base import Deformation
from stability.deformations.compact import CompactField
from stability.deformations.family import Family
from stability.deformations.flow import FlowField


def stack(fields: Sequence[Deformation]) -> Deformation:
    """tau_0, ..., tau_{n-1} of one family and batch shape along a new first axis of the batch.

    Raises:
        ValueError: if the fields are of different families, sizes or settings.

    >>> from stability.deformations.translation import Translation
    >>> stack([Translation((1.0, 0.0)), Translation((0.0, 2.0))]).mean
    tensor([[1., 0.],
            [0., 2.]], dtype=torch.float64)
    """
    first = fields[0]
    if any(type(one) is not type(first) or one.size != first.size for one in fields):
        raise ValueError(f"fields must be of one family and size to be stacked, got {list(fields)}; stack them apart")
    if isinstance(first, CompactField):
        inner = stack([one.inner for one in fields if isinstance(one, CompactField)])
        return first.around(inner)
    if isinstance(first, FlowField):
        return first.with_velocity(stack([one.velocity for one in fields if isinstance(one, FlowField)]))
    families = [one for one in fields if isinstance(one, Family)]
    if not isinstance(first, Family) or not all(first.stackable(one) for one in families):
        raise ValueError(f"fields must share modes and settings to be stacked, got {list(fields)}; stack them apart")
    return first.stacked(families)
