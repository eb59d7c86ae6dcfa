r"""``FieldJacobian``: J = d f(L_tau x) / d tau at tau = 0 and its adjoint, never formed.

The graph of w -> J^T w is recorded once. J^T w is a backward pass through f, and J tau = d <J^T w, tau> / dw one
through that graph, so that any f with second derivatives will do.
"""

import contextlib
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from stability.warps.base import Warp, nodes

ADJOINT = 0.1
"""Share by which J and its adjoint may disagree in coarse arithmetic."""


class FieldJacobian:
    """J and its adjoint for n fields at a time.

    Args:
        rows: f, from images ``(n, C, *size)`` to vectors ``(n, K)``.
        image: x, ``(C, *size)``, float64.
        warp: L_tau, at the pixels, differentiable at tau = 0.
        count: n.

    Raises:
        ValueError: for another warp, or an f without derivatives.
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
            with sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivatives
                self._rows = rows(warp.sample(image.expand(count, *image.shape), points))
            if not self._rows.requires_grad and _is_constant(rows, image, self._rows):
                self._rows = self._rows + 0.0 * self._tau.sum()
            self._dual = torch.zeros_like(self._rows, requires_grad=True)
            if not self._rows.requires_grad:
                raise ValueError(
                    "the representation must let gradients through, got values without a graph; remove no_grad and "
                    "detach from its forward pass"
                )
            with _second_derivatives():
                (back,) = torch.autograd.grad(self._rows, self._tau, self._dual, create_graph=True)
                self._back = back + 0.0 * self._dual.sum()  # where J does not depend on w it is 0
        self._check()

    def apply(self, fields: Tensor) -> Tensor:
        """J tau, ``(n, K)``, for ``(n, *size, d)``."""
        with _second_derivatives():
            return torch.autograd.grad(self._back, self._dual, fields, retain_graph=True)[0]

    def adjoint(self, rows: Tensor) -> Tensor:
        """J^T w, ``(n, *size, d)``, for ``(n, K)``."""
        return torch.autograd.grad(self._rows, self._tau, rows, retain_graph=True)[0]

    def _check(self) -> None:
        """Raise ``ValueError`` unless <w, J J^T w> = ||J^T w||^2 for some w.

        Where an operation has a first derivative only, its second one may be 0 without a word.
        """
        w = torch.sin(torch.arange(self._rows.numel(), device=self.device).double().square()).view(self._rows.shape)
        back = self.adjoint(w.to(self._rows.dtype))
        expected, found = float(back.square().sum()), float((w * self.apply(back)).sum())
        if math.isfinite(expected) and not abs(found - expected) <= ADJOINT * expected:
            raise ValueError(
                f"the representation must have second derivatives to be linearised, got <w, J J^T w> = {found:.6g} and "
                f"||J^T w||^2 = {expected:.6g}; replace operations that have a first derivative only, or use "
                "worst_case with small norms"
            )


def _is_constant(rows: Callable[[Tensor], Tensor], image: Tensor, found: Tensor) -> bool:
    """Whether f is the same for other images: then it has no graph because it looks at none."""
    with torch.no_grad():
        others = [image.flip(-1), 0.5 * image, torch.zeros_like(image)]
        return all(torch.equal(rows(one[None])[0], found[0]) for one in others)


@contextlib.contextmanager
def _second_derivatives() -> Iterator[None]:
    """Raise ``ValueError`` where an operation of the representation has none."""
    try:
        yield
    except RuntimeError as error:
        if "derivative" not in str(error) and "differentiate" not in str(error):
            raise
        raise ValueError(
            f"the representation must have second derivatives to be linearised, got {error}; replace that operation, "
            "or use worst_case with small norms"
        ) from error
