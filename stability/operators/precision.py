"""How exactly a device computes: the unit of round-off, and convolutions without NVIDIA's TF32."""

import contextlib
from collections.abc import Iterator

import torch

TF32 = 2.0**-10
"""TF32 keeps ten bits of the factors of a product in single precision."""


def unit(dtype: torch.dtype, device: torch.device) -> float:
    """The relative spacing of the numbers whose products a user's own module sums there.

    By default torch lets convolutions in float32 use TF32 on a GPU; ``torch.backends.cudnn.allow_tf32 = False`` and
    ``torch.backends.cuda.matmul.allow_tf32 = False`` ask for single precision itself.

    Args:
        dtype: of the tensors.
        device: where they are.

    >>> unit(torch.float64, torch.device("cpu")) == 2.0**-52
    True
    """
    if dtype == torch.float32 and device.type == "cuda" and _tf32_allowed():
        return TF32
    return torch.finfo(dtype).eps


@contextlib.contextmanager
def without_tf32(values: torch.Tensor) -> Iterator[None]:
    """Convolutions of these tensors in their own precision; torch's settings are back afterwards."""
    if values.dtype != torch.float32 or values.device.type != "cuda" or not _tf32_allowed():
        yield
        return
    own = torch.backends.cudnn
    with own.flags(enabled=own.enabled, benchmark=own.benchmark, deterministic=own.deterministic, allow_tf32=False):
        yield


def _tf32_allowed() -> bool:
    """Whether convolutions or products of matrices may; yes where torch does not say."""
    try:
        return torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32
    except RuntimeError:  # set through both of torch's ways, it refuses to tell
        return True
