r"""Pointwise lengths of tau, grad tau and the second derivative in closed form, d in {1, 2}.

Each function takes the components as separate tensors of one shape and returns a tensor of that shape; each is a
supremum of |<component vector, fixed unit vector>|, which is what the certificate of ``suprema`` asks for.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Length = Callable[[Sequence[Tensor]], Tensor]
"""From the components of p(u), tensors of one shape, to a length of the same shape."""

_NEWTON_STEPS = 6


def euclidean(components: Sequence[Tensor]) -> Tensor:
    """|v|_2 of the components ``(v_1,)`` or ``(v_1, v_2)``.

    >>> euclidean((torch.tensor(3.0), torch.tensor(-4.0)))
    tensor(5.)
    """
    if len(components) == 1:
        return components[0].abs()
    x, y = components
    return (x * x).addcmul_(y, y).sqrt_()


def spectral(components: Sequence[Tensor]) -> Tensor:
    """Largest singular value of a matrix ``(J_11,)`` or ``(J_11, J_12, J_21, J_22)``.

    (|conformal part| + |anticonformal part|) / 2 = (|(a + d, c - b)| + |(a - d, b + c)|) / 2 for rows (a, b), (c, d).

    >>> spectral([torch.tensor(value) for value in (3.0, 0.0, 0.0, -2.0)])
    tensor(3.)
    """
    if len(components) == 1:
        return components[0].abs()
    a, b, c, d = components
    return euclidean((a + d, c - b)).add_(euclidean((a - d, b + c))).div_(2)


def conformal(components: Sequence[Tensor]) -> Tensor:
    """|(p, q)| + |(r, s)| of the components ``(p, q, r, s)``: the largest singular value in other coordinates.

    >>> conformal([torch.tensor(value) for value in (3.0, 4.0, 0.0, -2.0)])
    tensor(7.)
    """
    return euclidean(components[:2]).add_(euclidean(components[2:]))


SIMPLER: dict[Length, tuple[Tensor, Length]] = {
    spectral: (
        torch.tensor([[1, 0, 1, 0], [0, -1, 0, 1], [0, 1, 0, 1], [1, 0, -1, 0]], dtype=torch.float64) / 2,
        conformal,
    )
}
"""For a length its value as another length of the components (as a row) times a matrix, for four components.

(a, b, c, d) -> ((a + d), (c - b), (a - d), (b + c)) / 2.
"""


def trace(components: Sequence[Tensor]) -> Tensor:
    """|tr J| of a matrix ``(J_11,)`` or ``(J_11, J_12, J_21, J_22)``.

    >>> trace([torch.tensor(value) for value in (3.0, 7.0, 7.0, -5.0)])
    tensor(2.)
    """
    return components[0].abs() if len(components) == 1 else (components[0] + components[3]).abs()


def bilinear(components: Sequence[Tensor]) -> Tensor:
    r"""sup over unit e, w of |B(e, w)| for a symmetric bilinear map B with values in R^d.

    Args:
        components: ``(B_1,)`` for d = 1, else ``(B_1xx, B_1xy, B_1yy, B_2xx, B_2xy, B_2yy)``.

    The supremum is attained at w = e (fix the direction of B(e, w): a symmetric form is largest on the diagonal), where
    B(e, e) = m + p cos phi + q sin phi with m = (B_xx + B_yy) / 2, p = (B_xx - B_yy) / 2, q = B_xy. The largest
    |m + [p q] x|^2 over unit x in R^2 equals its Lagrange dual, the minimum over nu >= 0 of

        |m|^2 + alpha_1 + nu + b_1^2 / nu + b_2^2 / (nu + alpha_1 - alpha_2),

    alpha_1 >= alpha_2 and b the eigenvalues of [p q]'[p q] and [p q]'m in its eigenbasis. Every nu gives an upper
    value, and Newton's iteration for the secular equation converges to the minimiser from below.

    Reference: Moré & Sorensen 1983 (the secular equation).

    >>> bilinear([torch.tensor(value, dtype=torch.float64) for value in (2.0, 0.0, 0.0, 0.0, 0.0, 1.0)])
    tensor(2., dtype=torch.float64)
    """
    if len(components) == 1:
        return components[0].abs()
    xx_1, xy_1, yy_1, xx_2, xy_2, yy_2 = components
    m_1, m_2, p_1, p_2 = (xx_1 + yy_1) / 2, (xx_2 + yy_2) / 2, (xx_1 - yy_1) / 2, (xx_2 - yy_2) / 2
    pp, qq, pq = p_1 * p_1 + p_2 * p_2, xy_1 * xy_1 + xy_2 * xy_2, p_1 * xy_1 + p_2 * xy_2
    b_p, b_q = p_1 * m_1 + p_2 * m_2, xy_1 * m_1 + xy_2 * m_2
    tiny = torch.finfo(m_1.dtype).tiny
    half_gap = euclidean(((pp - qq) / 2, pq))
    cosine, sine = (pp - qq) / (2 * half_gap).clamp_min(tiny), pq / half_gap.clamp_min(tiny)
    squared = b_p * b_p + b_q * b_q
    first = ((squared + cosine * (b_p * b_p - b_q * b_q)) / 2 + sine * b_p * b_q).clamp_min(0.0)
    second = (squared - first).clamp_min(0.0)
    gap = 2 * half_gap
    nu = torch.maximum(first.sqrt(), second.sqrt() - gap).clamp_min(tiny)
    for _ in range(_NEWTON_STEPS):
        outer = (nu + gap).clamp_min(tiny)
        x_1, x_2 = first / nu / nu, second / outer / outer
        norm = (x_1 + x_2).sqrt()
        step = (norm - 1) * norm * norm / (x_1 / nu + x_2 / outer).clamp_min(tiny)
        nu = torch.where(torch.isfinite(step), nu + step.clamp_min(0.0), nu)
    dual = torch.where(squared > 0, nu + first / nu + second / (nu + gap).clamp_min(tiny), 0.0)
    return (m_1 * m_1 + m_2 * m_2 + (pp + qq) / 2 + half_gap + dual).sqrt()
