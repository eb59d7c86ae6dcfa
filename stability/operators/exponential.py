"""The exponential in place: what an exact CKN with an exponential kernel spends its time on."""

import numpy as np
import torch
from torch import Tensor


def exponential_(values: Tensor) -> Tensor:
    """exp(values) in place, by the fastest implementation at hand.

    With AVX-512 numpy's vectorised double-precision exponential is faster than torch's; without it numpy has none,
    and on other devices only torch will do. Both are accurate to a unit in the last place.

    Args:
        values: any shape.

    Returns:
        The same tensor.

    >>> exponential_(torch.zeros(2, dtype=torch.float64))
    tensor([1., 1.], dtype=torch.float64)
    """
    if values.device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX512":
        array = values.numpy()
        np.exp(array, out=array)
        return values
    return values.exp_()
