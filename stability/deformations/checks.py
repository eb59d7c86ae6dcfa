"""What every family checks before it works."""

import torch
from torch import Tensor


def check_points(points: Tensor, d: int) -> Tensor:
    """The points, if their last axis has length d.

    Raises:
        ValueError: for any other shape.
    """
    if not isinstance(points, Tensor) or points.ndim == 0 or points.shape[-1] != d:
        got = tuple(points.shape) if isinstance(points, Tensor) else type(points).__name__
        raise ValueError(
            f"points must be a tensor (..., {d}) in pixels, got {got}; use stability.grid.coordinates(size)"
        )
    return points


def check_factor(factor: int) -> int:
    """The factor of ``refined``, if it is an integer >= 1.

    Raises:
        ValueError: otherwise.
    """
    if isinstance(factor, bool) or not isinstance(factor, int) or factor < 1:
        raise ValueError(f"factor must be an integer >= 1, got {factor!r}; use factor=2 for twice as many pixels")
    return factor


def check_scalar(factor: float | Tensor) -> float | Tensor:
    """The factor of ``factor * tau``, if it is a finite number, or several.

    Raises:
        ValueError: otherwise.
    """
    if not bool(torch.as_tensor(factor).isfinite().all()):
        raise ValueError(f"factor must be finite, got {factor!r}; a field has displacements in pixels")
    return factor


def check_generator(generator: object) -> torch.Generator:
    """The generator, if it is one.

    Raises:
        TypeError: otherwise.
    """
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {generator!r}; use torch.Generator().manual_seed(0)")
    return generator
