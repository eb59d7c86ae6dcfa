"""``as_picture``: an image as it is stored to be drawn."""

from typing import Any

import numpy as np
import numpy.typing as npt


def as_picture(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An image ``(C, *size)`` as it is drawn: three channels as colours ``(H, W, 3)``, others by their mean.

    >>> as_picture(np.ones((3, 4, 5))).shape, as_picture(np.ones((2, 4, 5))).shape, as_picture(np.ones((3, 5))).shape
    ((4, 5, 3), (4, 5), (5,))
    """
    if len(image) == 3 and image.ndim == 3:
        return np.moveaxis(image, 0, -1)
    return np.asarray(image.mean(0))
