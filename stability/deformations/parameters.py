"""Checks of the numbers that fields are made of: shape, finiteness, one type and device, batches that broadcast."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Numbers = float | Sequence[float] | Sequence[Sequence[float]] | Tensor
"""A scalar, a vector or a matrix, or a batch of them as a tensor."""


def parameter(
    name: str, value: Numbers, trailing: tuple[int | None, ...], advice: str, like: Tensor | None = None
) -> Tensor:
    """The value as a finite floating-point tensor ``(*batch_shape, *trailing)``.

    Args:
        name: for the message.
        value: numbers or a tensor; integers become float64.
        trailing: lengths of the last axes; None: any length.
        advice: what to do, for the message.
        like: the first parameter of the field, whose type and device the others have; numbers are put there.

    Raises:
        ValueError: for another shape, for NaN and infinities, or for a tensor on another device.

    >>> parameter("vector", (3, 4), (2,), "use (1.0, 0.0)")
    tensor([3., 4.], dtype=torch.float64)
    """
    if not isinstance(value, Tensor):
        try:
            value = torch.tensor(value, dtype=torch.float64, device=None if like is None else like.device)
        except (TypeError, ValueError):
            raise ValueError(f"{name} must be numbers, got {value!r}; {advice}") from None
    shape = tuple(value.shape[value.ndim - len(trailing) :])
    fits = len(shape) == len(trailing) and all(
        wanted in (None, got) for wanted, got in zip(trailing, shape, strict=True)
    )
    if not fits or value.is_complex() or not bool(torch.isfinite(value).all()):
        wanted = ", ".join(["*batch_shape", *("K" if side is None else str(side) for side in trailing)])
        raise ValueError(f"{name} must be finite numbers of shape ({wanted}), got {_described(value, fits)}; {advice}")
    if like is not None and value.device != like.device:
        raise ValueError(
            f"{name} must be on the device {like.device} of the other tensors, got {value.device}; move it"
        )
    if like is not None:
        return value.to(like.dtype)
    return value if value.is_floating_point() else value.to(torch.float64)


def check_batches(tensors: Mapping[str, Tensor], axes: Mapping[str, int]) -> None:
    """That the axes before the last ``axes[name]`` broadcast.

    Raises:
        ValueError: if they do not.
    """
    batches = {name: tuple(tensor.shape[: tensor.ndim - axes[name]]) for name, tensor in tensors.items()}
    try:
        torch.broadcast_shapes(*batches.values())
    except RuntimeError:
        listed = ", ".join(f"{batch} of {name}" for name, batch in batches.items())
        raise ValueError(f"batches must broadcast, got {listed}; give every tensor one row per field") from None


def check_edge(edge: object) -> float:
    """The distance from a window's border to the centre of the first pixel, if it is a finite number >= 0.

    Raises:
        ValueError: otherwise.
    """
    if isinstance(edge, bool) or not isinstance(edge, int | float) or not 0 <= edge < float("inf"):
        raise ValueError(f"edge must be a finite number of pixels >= 0, got {edge!r}; use 0.5")
    return float(edge)


def same(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors are equal, shape, type and device included."""
    return (
        first.shape == second.shape
        and first.dtype == second.dtype
        and first.device == second.device
        and torch.equal(first, second)
    )


def _described(value: Tensor, fits: bool) -> str:
    """What is wrong with the tensor."""
    return f"NaN, infinite or complex values of shape {tuple(value.shape)}" if fits else f"{tuple(value.shape)}"
