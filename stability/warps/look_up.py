r"""Look-ups v_p = f_c(u_p) linear in a table c, with derivatives of every order in table and points.

An ``Interpolant`` says how the derivative D^a f_c is evaluated at points and how that linear map of the table is
transposed. With D^a f_c (``look``) and its transpose (``spread``) at hand for every multi-index a, the calculus closes:

    d/du_k (D^a f_c)(u) = (D^(a + e_k) f_c)(u),
    d/du_k [(D^a)^T v] = (D^(a + e_k))^T v,

so that reverse mode, forward mode and their compositions never differentiate the arithmetic of a look-up, and the
adjoint of a warp is the exact transpose of what was computed.
"""

import abc
from typing import Protocol

import torch
from torch import Tensor

Orders = tuple[int, ...]
"""a: how often it is differentiated along each coordinate of the points, (x,) or (x, y)."""


class Interpolant(abc.ABC):
    """f_c for tables ``(B, C, *shape)``, evaluated at points ``(B, P, d)`` of the table's own coordinates."""

    @abc.abstractmethod
    def look(self, table: Tensor, points: Tensor, orders: Orders) -> Tensor:
        """D^a f_c at the points, ``(B, C, P)``."""

    @abc.abstractmethod
    def spread(self, values: Tensor, points: Tensor, orders: Orders, shape: tuple[int, ...]) -> Tensor:
        """The transpose of ``look`` in the table: values ``(B, C, P)`` to a table ``(B, C, *shape)``."""


def look(interpolant: Interpolant, table: Tensor, points: Tensor, orders: Orders | None = None) -> Tensor:
    """D^a f_c at the points, differentiable in table and points.

    Args:
        interpolant: what f_c is.
        table: ``(B, C, *shape)``.
        points: ``(B, P, d)``.
        orders: a; None: no derivative.

    Returns:
        ``(B, C, P)``.
    """
    result: Tensor = _Look.apply(interpolant, orders or (0,) * points.shape[-1], table, points)
    return result


def spread(
    interpolant: Interpolant, values: Tensor, points: Tensor, shape: tuple[int, ...], orders: Orders | None = None
) -> Tensor:
    """The transpose of ``look``: sum_p v_p times the row of point p, differentiable in values and points.

    Args:
        interpolant: what f_c is.
        values: ``(B, C, P)``.
        points: ``(B, P, d)``.
        shape: of the tables.
        orders: a; None: no derivative.

    Returns:
        ``(B, C, *shape)``.
    """
    result: Tensor = _Spread.apply(interpolant, orders or (0,) * points.shape[-1], shape, values, points)
    return result


class _Context(Protocol):
    """What autograd hands from one pass to the other."""

    interpolant: Interpolant
    orders: Orders
    shape: tuple[int, ...]
    needs_input_grad: tuple[bool, ...]

    @property
    def saved_tensors(self) -> tuple[Tensor, Tensor]: ...
    def save_for_backward(self, *tensors: Tensor) -> None: ...
    def save_for_forward(self, *tensors: Tensor) -> None: ...


def _raised(orders: Orders, axis: int) -> Orders:
    """a + e_k."""
    return tuple(order + (k == axis) for k, order in enumerate(orders))


class _Look(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(interpolant: Interpolant, orders: Orders, table: Tensor, points: Tensor) -> Tensor:
        return interpolant.look(table, points, orders)

    @staticmethod
    def setup_context(ctx: _Context, inputs: tuple[Interpolant, Orders, Tensor, Tensor], output: Tensor) -> None:
        ctx.interpolant, ctx.orders, table, points = inputs
        ctx.save_for_backward(table, points)
        ctx.save_for_forward(table, points)

    @staticmethod
    def backward(ctx: _Context, gradient: Tensor) -> tuple[None, None, Tensor | None, Tensor | None]:
        table, points = ctx.saved_tensors
        d = points.shape[-1]
        of_table = of_points = None
        if ctx.needs_input_grad[2]:
            of_table = spread(ctx.interpolant, gradient, points, tuple(table.shape[-d:]), ctx.orders)
        if ctx.needs_input_grad[3]:
            slopes = (look(ctx.interpolant, table, points, _raised(ctx.orders, k)) for k in range(d))
            of_points = torch.stack([(gradient * slope).sum(1) for slope in slopes], -1).to(points.dtype)
        return None, None, of_table, of_points

    @staticmethod
    def jvp(ctx: _Context, _i: None, _o: None, table_tangent: Tensor | None, tangent: Tensor | None) -> Tensor:
        table, points = ctx.saved_tensors
        total = None if table_tangent is None else look(ctx.interpolant, table_tangent, points, ctx.orders)
        if tangent is not None:
            for k in range(points.shape[-1]):
                slope = look(ctx.interpolant, table, points, _raised(ctx.orders, k))
                change = slope * tangent[..., k].to(slope.dtype).unsqueeze(1)
                total = change if total is None else total + change
        assert total is not None  # one of the two has a tangent
        return total


class _Spread(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        interpolant: Interpolant, orders: Orders, shape: tuple[int, ...], values: Tensor, points: Tensor
    ) -> Tensor:
        return interpolant.spread(values, points, orders, shape)

    @staticmethod
    def setup_context(
        ctx: _Context, inputs: tuple[Interpolant, Orders, tuple[int, ...], Tensor, Tensor], output: Tensor
    ) -> None:
        ctx.interpolant, ctx.orders, ctx.shape, values, points = inputs
        ctx.save_for_backward(values, points)
        ctx.save_for_forward(values, points)

    @staticmethod
    def backward(ctx: _Context, gradient: Tensor) -> tuple[None, None, None, Tensor | None, Tensor | None]:
        values, points = ctx.saved_tensors
        of_values = of_points = None
        if ctx.needs_input_grad[3]:
            of_values = look(ctx.interpolant, gradient, points, ctx.orders)
        if ctx.needs_input_grad[4]:
            slopes = (look(ctx.interpolant, gradient, points, _raised(ctx.orders, k)) for k in range(points.shape[-1]))
            of_points = torch.stack([(values * slope).sum(1) for slope in slopes], -1).to(points.dtype)
        return None, None, None, of_values, of_points

    @staticmethod
    def jvp(
        ctx: _Context, _i: None, _o: None, _s: None, values_tangent: Tensor | None, tangent: Tensor | None
    ) -> Tensor:
        values, points = ctx.saved_tensors
        total = None
        if values_tangent is not None:
            total = spread(ctx.interpolant, values_tangent, points, ctx.shape, ctx.orders)
        if tangent is not None:
            for k in range(points.shape[-1]):
                moved = values * tangent[..., k].to(values.dtype).unsqueeze(1)
                change = spread(ctx.interpolant, moved, points, ctx.shape, _raised(ctx.orders, k))
                total = change if total is None else total + change
        assert total is not None  # one of the two has a tangent
        return total
