r"""Upper values of int_0^1 sup_u |tau(u)| det(I - r grad tau(u))^(-1/2) dr: how far L moves smooth functions.

For y in the range of A, y(u - tau) - y(u) = -int_0^1 tau . (grad y)(u - r tau) dr, and by Minkowski's inequality
||L y - y|| is at most this integral times ||grad y||.

Quadrature from above. On [r_0, r_1] of length h put r = (1 - s) r_0 + s r_1. q(r) = det(I - r J) is a polynomial of
degree d <= 2, so q(r) = (1 - s) q_0 + s q_1 - s (1 - s) h^2 det J for d = 2 (without the last term for d = 1).
Between its ends q is at least m = (1 - r_1 b)^2, so q >= ((1 - s) q_0 + s q_1) (1 - h^2 b^2 / (4 m)); x -> x^(-1/2) is
convex, therefore

    q(r)^(-1/2) <= (1 - h^2 b^2 / (4 m))^(-1/2) ((1 - s) q_0^(-1/2) + s q_1^(-1/2)),

and the integral over [r_0, r_1] is at most the trapezoid of the suprema at the ends times that factor.
"""

import torch
from torch import Tensor

from stability.deformations.base import Deformation
from stability.deformations.distortion import DistortionSuprema

PARTS = 8
"""Subintervals of [0, 1]; the trapezoids exceed the integral by .5 % at b = .5, less for smaller b."""


def path_integral(field: Deformation, displacement: Tensor, jacobian: Tensor) -> Tensor:
    """An upper value of int_0^1 sup_u |tau| det(I - r grad tau)^(-1/2) dr in pixels, ``(F,)``.

    Args:
        field: F fields, batch shape ``(F,)``.
        displacement: certified sup |tau|, ``(F,)`` in pixels.
        jacobian: b, certified, ``(F,)``; infinity is returned for b >= 1.

    >>> from stability.deformations.translation import Translation
    >>> field = Translation((3.0, 4.0), (16, 16)).flat()
    >>> path_integral(field, torch.tensor([5.0], dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
    tensor([5.], dtype=torch.float64)
    """
    b, d = jacobian.clamp_max(1.0), field.d
    times = torch.arange(PARTS + 1, dtype=torch.float64, device=b.device) / PARTS
    most = displacement * (1 - times[:, None] * b).pow(-d / 2)  # (PARTS + 1, F)
    if bool((displacement > 0).any()):
        scaled = field.scaled(times[1:, None].to(field.dtype))  # (PARTS, F)
        found = DistortionSuprema(scaled).displacement.upper.reshape(PARTS, -1)
        most[1:] = torch.minimum(most[1:], found / times[1:, None])
    slack = 1.0 if d == 1 else 1 - (b / PARTS / (1 - times[1:, None] * b)).square() / 4
    factor = torch.as_tensor(slack, dtype=torch.float64).clamp_min(0.0).rsqrt()
    trapezoids = ((most[:-1] + most[1:]) / 2 * factor).sum(0) / PARTS
    return torch.where(displacement > 0, torch.where(b < 1, trapezoids, torch.inf), displacement)
