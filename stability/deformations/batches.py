"""Batches of fields that broadcast like tensors."""

from typing import TypeVar

import torch

from stability.deformations.base import Deformation

Field = TypeVar("Field", bound=Deformation)


def expanded(field: Field, shape: torch.Size) -> Field:
    """The fields with another batch shape, to which their own broadcasts.

    >>> from stability.deformations.translation import Translation
    >>> expanded(Translation((3.0, 0.0)), torch.Size([2, 1])).batch_shape
    torch.Size([2, 1])
    """
    own = field.batch_shape
    if own == shape:
        return field
    index = torch.arange(own.numel(), device=field.device).reshape(own).expand(shape)
    return field.flat()[index]
