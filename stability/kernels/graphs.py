"""How in-place functions of the cosines enter automatic differentiation, and how they run through a big block.

This module imports torch when it is first used.
"""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

InPlace = Callable[["Tensor"], "Tensor"]
CHUNK = 1 << 16
"""Entries that a chain of elementwise passes works on at a time: four buffers of them stay in a core's cache, and the
time to dispatch a pass (about 2 us) is small beside that of its arithmetic (20 us)."""


def apply(orders: Sequence[InPlace], cosine: "Tensor") -> "Tensor":
    """f(cosine) out of place, with f' in the backward pass, f'' in that of f', and so on.

    Args:
        orders: f, f', f'', ..., each elementwise and in place; the last one has no derivative.
        cosine: any shape.
    """
    import torch

    if not (torch.is_grad_enabled() and cosine.requires_grad):
        return orders[0](cosine.detach().clone())
    return _function().apply(cosine, tuple(orders))


def in_chunks(cosine: "Tensor", orders: Sequence[InPlace], action: Callable[["Tensor"], object]) -> "Tensor":
    """Overwrite a tensor by an elementwise action, a chunk at a time, as one operation of a graph if there is one.

    Args:
        cosine: any shape, layout and device.
        orders: what ``apply`` takes, for a tensor in a graph.
        action: overwrites a contiguous vector.
    """
    return with_buffers(cosine, orders, lambda chunk, _: action(chunk), 0)


def with_buffers(
    cosine: "Tensor", orders: Sequence[InPlace], action: Callable[["Tensor", "Tensor"], object], buffers: int
) -> "Tensor":
    """``in_chunks`` for an action that is given buffers, ``(buffers, n)`` for a chunk of n, the same for all chunks."""
    if cosine.requires_grad:
        return cosine.copy_(apply(orders, cosine.clone()))
    block = cosine.contiguous()  # the tensor itself unless it is transposed or strided
    flat = block.view(-1)
    size = min(CHUNK, flat.numel()) if flat.device.type == "cpu" else flat.numel()
    work = flat.new_empty(buffers, size)
    for chunk in flat.split(max(1, size)):
        action(chunk, work if len(chunk) == size else work[:, : len(chunk)])
    return cosine if block.data_ptr() == cosine.data_ptr() else cosine.copy_(block)


def automatic_derivative(function: InPlace, cosine: "Tensor") -> "Tensor":
    """f'(cosine) of an elementwise in-place function, itself differentiable if the cosines are in a graph."""
    import torch

    with torch.enable_grad():
        point = cosine.clone() if cosine.requires_grad else cosine.detach().clone().requires_grad_()
        value = function(point.clone())
        if not value.requires_grad:  # a constant
            return torch.zeros_like(cosine)
        (slope,) = torch.autograd.grad(value.sum(), point, create_graph=cosine.requires_grad, materialize_grads=True)
    return slope


@functools.cache
def _function() -> Any:
    """The autograd function f with backward f', made once."""
    import torch

    class Elementwise(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, cosine: "Tensor", orders: tuple[InPlace, ...]) -> "Tensor":
            ctx.save_for_backward(cosine)
            ctx.orders = orders
            return orders[0](cosine.detach().clone())

        @staticmethod
        def backward(ctx: Any, *gradients: "Tensor") -> tuple["Tensor", None]:
            (cosine,) = ctx.saved_tensors
            if len(ctx.orders) == 1:
                raise ValueError("a kernel must be differentiated at most twice, got a third time; there is no formula")
            return gradients[0] * apply(ctx.orders[1:], cosine), None

    return Elementwise
