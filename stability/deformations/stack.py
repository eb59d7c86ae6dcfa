"""Fields of one family drawn one by one, as one batch."""

from collections.abc import Sequence

import torch

from stability.deformations.base import Deformation
from stability.deformations.compact import CompactField
from stability.deformations.family import Family
from stability.deformations.flow import FlowField
from stability.deformations.modes import half
from stability.deformations.series import FourierSeries


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
        windowed = [one for one in fields if isinstance(one, CompactField)]
        if any(one.state()[1] != first.state()[1] for one in windowed):
            raise ValueError(f"fields must share their window to be stacked, got {list(fields)}; stack them apart")
        return first.around(stack([one.inner for one in windowed]))
    if isinstance(first, FlowField):
        flows = [one for one in fields if isinstance(one, FlowField)]
        factor = torch.stack([one.factor.expand(one.batch_shape) for one in flows])
        steps = max(one.steps for one in flows)
        return FlowField(stack([one.velocity for one in flows]), factor=factor, steps=steps)
    if isinstance(first, FourierSeries):
        series = [one for one in fields if isinstance(one, FourierSeries)]
        modes = torch.unique(torch.cat([half(one.modes) for one in series]), dim=0)
        fields = series if all(torch.equal(one.modes, first.modes) for one in series) else [s.on(modes) for s in series]
        first = fields[0]
    families = [one for one in fields if isinstance(one, Family)]
    if not isinstance(first, Family) or not all(first.stackable(one) for one in families):
        raise ValueError(f"fields must share modes and settings to be stacked, got {list(fields)}; stack them apart")
    return first.stacked(families)
