r"""``FieldJacobian``: J = d f(L_tau x) / d tau at tau = 0 and its adjoint, never formed.

The graph of w -> J^T w is recorded once. J^T w is a backward pass through f, and J tau = d <J^T w, tau> / dw one
through that graph, so that any f with second derivatives will do.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from stability.warps.base import Warp, nodes


class FieldJacobian:
    """J and its adjoint for n fields at a time.

    Args:
        rows: f, from images ``(n, C, *size)`` to vectors ``(n, K)``.
        image: x, ``(C, *size)``, float64.
        warp: L_tau, at the pixels, differentiable at tau = 0.
        count: n.

    Raises:
        ValueError: for another warp, or an f without second derivatives.
    """

    def __init__(self, rows: Callable[[Tensor], Tensor], image: Tensor, warp: Warp, count: int = 1) -> None:
        size = tuple(image.shape[1:])
        if warp.points_per_pixel != 1:
            raise ValueError(f"warp must look images up at the pixels, got {warp!r}; use SplineWarp()")
        self.shape: tuple[int, ...] = (count, *size, len(size))
        self.device = image.device
        with torch.enable_grad():
            self._tau = torch.zeros(self.shape, dtype=torch.float64, device=image.device, requires_grad=True)
            points = nodes(size, 1, warp.boundary, device=image.device) - self._tau.flatten(1, -2)
            self._rows = rows(warp.sample(image.expand(count, *image.shape), points))
            self._dual = torch.zeros_like(self._rows, requires_grad=True)
            if not self._rows.requires_grad:
                raise ValueError(
                    "the representation must let gradients through, got values without a graph; remove no_grad and "
                    "detach from its forward pass"
                )
            (back,) = torch.autograd.grad(self._rows, self._tau, self._dual, create_graph=True)
            self._back = back + 0.0 * self._dual.sum()  # where J does not depend on w it is 0

    def apply(self, fields: Tensor) -> Tensor:
        """J tau, ``(n, K)``, for ``(n, *size, d)``."""
        return torch.autograd.grad(self._back, self._dual, fields, retain_graph=True)[0]

    def adjoint(self, rows: Tensor) -> Tensor:
        """J^T w, ``(n, *size, d)``, for ``(n, K)``."""
        return torch.autograd.grad(self._rows, self._tau, rows, retain_graph=True)[0]
