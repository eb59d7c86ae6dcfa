"""scikit-image's photographs, at any size, grey or RGB (extra ``images``)."""

import torch
from torch import Tensor

from stability.images.preparation import fill, luminance

NAMES = ("camera", "astronaut", "coffee", "chelsea", "brick", "grass", "gravel", "coins")
LICENCE = "CC0 or public domain, as stated in the docstrings of skimage.data"


def read(count: int, size: tuple[int, ...], channels: int) -> Tensor:
    """The first ``count`` photographs, centre-cropped to the size's aspect ratio and resampled.

    Args:
        count: between 1 and ``len(NAMES)``.
        size: ``(H, W)``; for ``(N,)`` the central row of an N x N picture.
        channels: 1 (grey) or 3 (RGB).

    Returns:
        Tensor ``(count, channels, *size)``, float64 in [0, 1].
    """
    try:
        import skimage.data
    except ImportError:
        raise ValueError(
            "the photographs must come from scikit-image, got no such package; "
            'pip install "deformation-stability[images]"'
        ) from None
    target = size if len(size) == 2 else (size[0], size[0])
    pictures = []
    for name in NAMES[:count]:
        pixels = torch.from_numpy(getattr(skimage.data, name)().copy()).to(torch.float64) / 255
        picture = pixels.movedim(-1, 0) if pixels.ndim == 3 else pixels[None]  # (C, h, w)
        if picture.shape[0] == 3 and channels == 1:
            picture = luminance(picture[None])[0]
        picture = picture.expand(channels, -1, -1)
        pictures.append(fill(picture, target))
    images = torch.stack(pictures)
    return images if len(size) == 2 else images[..., size[0] // 2, :]
