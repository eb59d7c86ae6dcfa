"""Words and types that several makers of columns share."""

from typing import Any

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[Any]
"""One value per row."""
OUT_OF_REACH = "out of reach"
"""Status of a size that the field cannot have."""

RUNGS = (
    "closed_form", "trivial", "x_specific", "early_stop", "centred_operator_norms", "centred_certificates",
    "operator_norms", "certificates", "energy", "hoelder",
)  # fmt: skip
"""The bounds that a row may hold."""
CHEAP_RUNGS = RUNGS[:2]
"""Those that cost nothing beside a distance."""
DISCRETE = ("x_specific", "early_stop")
OF_MAPS = ("x_specific", "early_stop", "energy", "centred_operator_norms", "centred_certificates")
OF_NORMS = ("operator_norms", "centred_operator_norms")
OF_CERTIFICATES = ("certificates", "centred_certificates")
"""Rungs of the discrete theorem; those that need the maps of an image, norms of a field, its certificates."""


def over_items(values: list[str], shape: tuple[int, int, int]) -> Column:
    """One word per item, repeated over images and layers.

    Args:
        values: one per item.
        shape: images, items, layers.
    """
    column = np.array(values, dtype=object).reshape(1, shape[1], 1)
    return np.broadcast_to(column, shape).reshape(-1)
