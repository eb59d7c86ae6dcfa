r"""Bernstein-Bezier form of cubic B-spline fields, of their derivatives and of det(I - grad tau).

On every cell of its lattice a spline is a polynomial p(s) = sum_k p_k B_k(s), s in [0, 1]^d, in the Bernstein basis
B_k(s) = prod_a binom(m, k_a) s_a^{k_a} (1 - s_a)^{m - k_a}. As B_k >= 0 and sum_k B_k = 1, p(s) is a mean of its
control points p_k: a convex function of p is largest at one of them (``bernstein``).

Convention: cell k of an axis is [k h, (k + 1) h]; tau(u) = sum_{ij} c_ij B3(x / h_x - i) B3(y / h_y - j), periodic, B3
the cubic B-spline centred at 0. Lattices and control points have their axes in the order of ``size``, (y, x).

Reference: Farin 2002 (control points of B-splines, products, subdivision by de Casteljau).
"""

import functools
import itertools
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

_WEIGHTS = (
    ((1 / 6, 2 / 3, 1 / 6, 0), (0, 2 / 3, 1 / 3, 0), (0, 1 / 3, 2 / 3, 0), (0, 1 / 6, 2 / 3, 1 / 6)),
    ((1 / 2, 1 / 2, 0), (1 / 6, 5 / 6, 0), (0, 5 / 6, 1 / 6), (0, 1 / 2, 1 / 2)),
    ((1, 0), (2 / 3, 1 / 3), (1 / 3, 2 / 3), (0, 1)),
)
"""Control points 0 ... 3 on cell k from the m-th differences of c_{k-1} ... c_{k+2}, all elevated to degree 3."""


@dataclass(frozen=True, eq=False)
class Patches:
    """Polynomials on the cells of a periodic lattice, by their control points.

    Args:
        control: ``(C, *[m + 1] * d, n, *lattice)``, C components of degree m in each variable of n fields.
        cells: sides of a cell along (x, y) in pixels, ``(d,)``.
    """

    control: Tensor
    cells: Tensor

    @property
    def d(self) -> int:
        """Dimension, 1 or 2."""
        return len(self.cells)

    @property
    def degree(self) -> int:
        """m, in each variable."""
        return self.control.shape[1] - 1

    @property
    def lattice(self) -> tuple[int, ...]:
        """Cells per axis in the order of ``size``."""
        return tuple(self.control.shape[-self.d :])

    def __len__(self) -> int:
        return self.control.shape[1 + self.d]

    def __neg__(self) -> "Patches":
        return replace(self, control=-self.control)


def patches(coefficients: Tensor, cells: Tensor, order: int) -> Patches:
    r"""Control points of the derivatives of the given order of tau(u) = sum_i c_i B3(x / h - i) on every cell.

    Args:
        coefficients: ``(n, *lattice, d)`` in pixels, lattice ``(N,)`` or (rows, columns); converted to float64.
        cells: sides of a cell along (x, y) in pixels, ``(d,)``.
        order: 0: tau; 1: grad tau; 2: the second derivatives.

    Returns:
        Degree 3 in each variable, components in the order of ``lengths``: for d = 2 (1, 2), (1x, 1y, 2x, 2y) or
        (1xx, 1xy, 1yy, 2xx, 2xy, 2yy).

    Raises:
        ValueError: if the shapes do not fit, a side is not positive or the order is none of 0, 1, 2.

    >>> tau = patches(torch.tensor([[[0.0], [6.0], [0.0], [0.0]]]), torch.tensor([1.0]), order=0)
    >>> tau.control[0, :, 0].T  # (cell, control point)
    tensor([[1., 2., 4., 4.],
            [4., 4., 2., 1.],
            [1., 0., 0., 0.],
            [0., 0., 0., 1.]], dtype=torch.float64)
    """
    d = coefficients.shape[-1] if coefficients.ndim else 0
    if d not in (1, 2) or coefficients.ndim != d + 2 or not coefficients.is_floating_point():
        raise ValueError(
            "coefficients must be a floating-point tensor (n, N, 1) or (n, rows, columns, 2), got "
            f"{tuple(coefficients.shape)} of {coefficients.dtype}; flatten the batch"
        )
    if cells.shape != (d,) or not bool((cells > 0).all()):
        raise ValueError(f"cells must be {d} positive sides in pixels, got {cells.tolist()}; use size / lattice")
    if order not in (0, 1, 2):
        raise ValueError(f"order must be 0, 1 or 2, got {order!r}; 0 is the field itself")
    cells = cells.to(coefficients.device, torch.float64)
    c = coefficients.to(torch.float64).movedim(-1, 0)  # (d, n, *lattice)
    origin = c.flatten(2)[..., :1]
    c = (c.flatten(2) - origin).unflatten(2, c.shape[2:])  # constants are split off: they come out exactly
    parts = []
    for orders in sorted((m for m in itertools.product(range(order + 1), repeat=d) if sum(m) == order), reverse=True):
        part = c
        for axis, m in enumerate(orders):  # x first: the control points' axis y ends before it
            part = _along(part, -1 - axis, m, cells[axis])
        parts.append(part)
    control = torch.stack(parts, dim=1).flatten(0, 1)
    return Patches(control if order else control + origin.reshape(d, *[1] * d, -1, *[1] * d), cells)


def _along(c: Tensor, axis: int, order: int, side: Tensor) -> Tensor:
    """Control points along one axis of the lattice as a new axis 1."""
    for _ in range(order):
        c = (c.roll(-1, axis) - c) / side
    near = torch.stack([c.roll(1 - shift, axis) for shift in range(4 - order)], dim=1)
    return (c.new_tensor(_WEIGHTS[order]) @ near.flatten(2)).unflatten(2, c.shape[1:])


def determinant_patches(gradient: Patches) -> Patches:
    """det(I - grad tau) of degree 6 in each variable (d = 1: 3), one component, from ``patches(..., order=1)``.

    >>> gradient = patches(torch.zeros(1, 4, 4, 2), torch.tensor([2.0, 2.0]), order=1)
    >>> determinant_patches(gradient).control.unique()
    tensor([1.], dtype=torch.float64)
    """
    if gradient.d == 1:
        return replace(gradient, control=1 - gradient.control)
    xx, xy, yx, yy = gradient.control
    return replace(gradient, control=(_product(1 - xx, 1 - yy) - _product(xy, yx))[None])


def _product(first: Tensor, second: Tensor) -> Tensor:
    """Control points of a product, (3, 3) times (3, 3): with binomial weights it is a convolution."""
    three, six = (first.new_tensor([math.comb(m, k) for k in range(m + 1)]) for m in (3, 6))
    shape = (4, 4) + (1,) * (first.ndim - 2)
    weights = torch.outer(three, three).reshape(shape)
    first, second = first * weights, second * weights
    result = first.new_zeros(7, 7, *first.shape[2:])
    for i, j in itertools.product(range(4), repeat=2):
        result[i : i + 4, j : j + 4].addcmul_(first[i, j], second)
    return result / torch.outer(six, six).reshape(7, 7, *shape[2:])


def basis(points: Tensor, degree: int) -> Tensor:
    """The polynomials B_k at points ``(d, S, P)`` of [0, 1]^d: ``((m + 1)^d, S, P)``, the last axis of k fastest.

    >>> basis(torch.tensor([[[0.0, 0.5]]]), degree=2)[:, 0]
    tensor([[1.0000, 0.2500],
            [0.0000, 0.5000],
            [0.0000, 0.2500]])
    """
    t = points[:, None]
    each = torch.ones_like(t)  # (d, 1, S, P)
    for _ in range(degree):
        each = pad((1 - t) * each, (0, 0, 0, 0, 0, 1)) + pad(t * each, (0, 0, 0, 0, 1, 0))
    return functools.reduce(lambda first, second: (first[:, None] * second).flatten(0, 1), each)


@functools.cache
def halving(degree: int, axes: tuple[bool, ...]) -> Tensor:
    """De Casteljau's subdivision of a patch along some axes: matrices ``(S, K, K)``, S = 2^{axes}, K = (m + 1)^d.

    Args:
        degree: m, in each variable.
        axes: for each axis of the lattice whether it is halved.

    >>> halving(1, (True,))
    tensor([[[1.0000, 0.0000],
             [0.5000, 0.5000]],
    <BLANKLINE>
            [[0.5000, 0.5000],
             [0.0000, 1.0000]]], dtype=torch.float64)
    """
    m = range(degree + 1)
    left = torch.tensor([[math.comb(i, j) / 2**i for j in m] for i in m], dtype=torch.float64)
    parts = {True: (left, left.flip(0, 1)), False: (torch.eye(degree + 1, dtype=torch.float64),)}
    choices = itertools.product(*(parts[halved] for halved in axes))
    return torch.stack([functools.reduce(torch.kron, choice) for choice in choices])
