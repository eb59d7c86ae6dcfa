"""Words and types that several makers of columns share."""

from typing import Any

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[Any]
"""One value per row."""
OUT_OF_REACH = "out of reach"
"""Status of a size that the field cannot have."""


def over_items(values: list[str], shape: tuple[int, int, int]) -> Column:
    """One word per item, repeated over images and layers.

    Args:
        values: one per item.
        shape: images, items, layers.
    """
    column = np.array(values, dtype=object).reshape(1, shape[1], 1)
    return np.broadcast_to(column, shape).reshape(-1)
