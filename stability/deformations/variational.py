r"""The equations of a flow: displacement, Jacobian and second derivative along y' = -v(y), and the scales of v.

In tau = u - y, J = I - Dy and H = D^2 tau = -D^2 y, all 0 at time 0,

    tau' = v(u - tau),    J' = Dv (I - J),    H' = D^2 v [I - J, I - J] - Dv H.
"""

import itertools

import torch
from torch import Tensor

from stability.deformations.base import Deformation
from stability.deformations.pointwise import derivative_bounds
from stability.deformations.runge_kutta import integrate
from stability.deformations.series import FourierSeries
from stability.deformations.several_orders import Jet


def displaced(evaluate: Jet, u: Tensor, order: int, steps: int) -> list[Tensor]:
    """tau and its derivatives after time 1.

    Args:
        evaluate: from points to v and its derivatives, see ``several_orders``.
        u: ``(n, d, P)`` in pixels.
        order: of the highest derivative, 0, 1 or 2.
        steps: of the integrator.

    Returns:
        ``[tau (n, d, P), J (n, d, d, P), H (n, d, d, d, P)]``, the first ``order + 1`` of them.
    """
    d = u.shape[1]
    sizes = [d ** (k + 1) for k in range(order + 1)]
    identity = torch.eye(d, dtype=u.dtype, device=u.device)[..., None]

    def slope(state: Tensor) -> Tensor:
        parts = state.split(sizes, dim=1)
        v = evaluate(u - parts[0])
        if order == 0:
            return v[0]
        y = identity - parts[1].unflatten(1, (d, d))  # Y = Dy
        first = _product(v[1], y).flatten(1, 2)
        if order == 1:
            return torch.cat([v[0], first], dim=1)
        turned = _product(v[2].flatten(1, 2), y).unflatten(1, (d, d))  # D^2 v [., Y]
        turned = _product(turned.transpose(2, 3).flatten(1, 2), y).flatten(1, 2)
        bent = _product(v[1], parts[2].unflatten(1, (d, d * d))).flatten(1, 2)
        return torch.cat([v[0], first, turned - bent], dim=1)

    end = integrate(slope, u.new_zeros((len(u), sum(sizes), u.shape[2])), steps)
    return [part.unflatten(1, (d,) * (k + 1)) for k, part in enumerate(end.split(sizes, dim=1))]


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Products of many small matrices ``(n, I, J, P)`` and ``(n, J, K, P)``: ``(n, I, K, P)``."""
    result = a[:, :, :1] * b[:, :1]
    for j in range(1, b.shape[1]):
        result = torch.addcmul(result, a[:, :, j : j + 1], b[:, j : j + 1])
    return result


def frequency(velocity: Deformation) -> Tensor:
    """A frequency R near the velocity's highest, ``(n,)`` in radians per pixel: how fast it changes in space.

    Of a trigonometric polynomial (sum |c|^2 |omega|^10 / sum |c|^2 |omega|^2)^(1/8), otherwise from the bounds of its
    derivatives. It sets grids and steps; nothing that is certified depends on it.
    """
    if isinstance(velocity, FourierSeries):
        flat = velocity.flat()
        power = (flat.cosine.detach().square() + flat.sine.detach().square()).sum(-1).to(torch.float64)  # (n, M)
        omega = flat.frequencies.norm(dim=-1)
        weight = power * omega.square()
        total = weight.sum(1)
        moment = (weight * (omega / omega.max()) ** 8).sum(1)
        return torch.where(total > 0, (moment / total.clamp_min(1e-300)) ** (1 / 8), 0.0) * omega.max()
    bounds = derivative_bounds(velocity)
    ratios = [torch.where(low > 0, high / low.clamp_min(1e-300), 0.0) for low, high in itertools.pairwise(bounds[:4])]
    finite = [torch.where(torch.isfinite(ratio), ratio, 0.0) for ratio in ratios]
    return torch.stack(finite).amax(0)


def rate(velocity: Deformation) -> float:
    """The largest inverse time in which a velocity changes along its paths: sup ||Dv|| or R sup |v|."""
    n = velocity.norms()
    a, b = n.displacement.lower.reshape(-1), n.jacobian.lower.reshape(-1)
    return float(torch.maximum(b, a * frequency(velocity)).max()) if len(a) else 0.0
