"""What round-off leaves of a distance, measured: the same image again, moved by its last digits."""

from collections.abc import Callable

import torch
from torch import Tensor

PROBES = (1, 2, 3)
"""Units in the last place by which images are scaled."""
SAFETY, JUMPS = 3.0, 10.0
"""Over the largest change that was seen; once more for maps with jumps, which few probes may miss."""
UNITS = 10.0
"""Of ||Phi(x)||, at least."""


def measured_floor(
    layers: Callable[[Tensor], list[Tensor]], images: Tensor, known: list[Tensor], unit: float, *, jumps: bool = False
) -> Tensor:
    r"""3 max_k ||Phi_l((1 - k eps) x) - Phi_l(x)||, at least 10 eps ||Phi_l(x)|| and 10 eps_64 ||x||, ``(L, B)``.

    Scaled by 1 - k eps an image is the same up to the last digits of its pixels; every product and sum is rounded
    anew. What filters, inverse roots or means of the image cancel thus shows; a bound by norms of moduli would be up to
    10^10 times as large behind some layers. An estimate: a constant far above the image that a module adds and takes
    away again does not show.

    Args:
        layers: the rows of every layer, ``(B, K_l)``, float64.
        images: x, ``(B, C, *size)``.
        known: the rows of x.
        unit: eps of the arithmetic.
        jumps: whether maps have an infinite Lipschitz constant.
    """
    x = images.detach().double()
    seen = torch.zeros(len(known), len(x), dtype=torch.float64, device=known[0].device)
    for k in PROBES:  # smaller, so that pixels stay in their range
        changes = [(rows - own).norm(dim=1) for rows, own in zip(layers(x * (1.0 - k * unit)), known, strict=True)]
        seen = torch.maximum(seen, torch.stack(changes))
    least = UNITS * torch.finfo(torch.float64).eps * x.flatten(1).norm(dim=1)
    norms = torch.stack([rows.norm(dim=1) for rows in known])
    measured = SAFETY * (JUMPS if jumps else 1.0) * seen
    return torch.maximum(torch.maximum(measured, UNITS * unit * norms), least.to(norms.device))


def measured_value(function: Callable[[Tensor], Tensor], images: Tensor, unit: float) -> Tensor:
    """3 max_k |f((1 - k eps) x)|, ``(B,)``, for functions with f(x) = 0. An estimate.

    Args:
        function: images to ``(B,)``.
        images: x, ``(B, C, *size)``.
        unit: eps of the arithmetic.
    """
    with torch.no_grad():
        seen = [function(images * (1.0 - k * unit)).abs() for k in PROBES]
    return SAFETY * torch.stack(seen).amax(0)
