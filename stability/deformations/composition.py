r"""Composition of warps: L_{compose(f, g)} = L_f L_g.

phi_{compose(f, g)} = phi_g o phi_f, so with M = I - J_f(u) and v = phi_f(u) = u - f(u) the displacement h obeys

    h(u) = f(u) + g(v),    J_h = J_f + J_g(v) M,    D^2 h = (I - J_g(v)) D^2 f + D^2 g(v) [M, M].

With |d_e^k f| <= f_k and |d_e^k g| <= g_k everywhere, Faa di Bruno's formula for g o phi_f, phi_f' = M and
phi_f^(k) = -D^k f beyond, gives along unit vectors

    h_0 = f_0 + g_0,    h_1 = f_1 + g_1 m,    m = 1 + f_1,    h_2 = f_2 (1 + g_1) + g_2 m^2,
    h_3 = f_3 (1 + g_1) + 3 g_2 m f_2 + g_3 m^3,
    h_4 = f_4 (1 + g_1) + g_2 (3 f_2^2 + 4 m f_3) + 6 g_3 m^2 f_2 + g_4 m^4.
"""

import dataclasses
from collections.abc import Sequence
from typing import Self, final

import torch
from torch import Tensor

from stability.deformations.base import Deformation, Scalar
from stability.deformations.compound import Compound
from stability.deformations.domains import Torus, Window
from stability.deformations.family import State
from stability.deformations.norms import Interval, Norms
from stability.deformations.pointwise import searched
from stability.deformations.translation import Translation
from stability.grid import sides


def compose(f: Deformation, g: Deformation) -> Deformation:
    """h(u) = f(u) + g(u - f(u)), so that L_h = L_f L_g: ``warp(warp(x, g), f)`` = ``warp(x, compose(f, g))``.

    Args:
        f: first field; the warp that is applied last.
        g: second field; batch shapes broadcast.

    Returns:
        A field with the broadcast batch: the sum of two translations, otherwise a ``Composition``.

    Raises:
        ValueError: if the fields have different sizes or devices, or their batches do not broadcast.

    >>> compose(Translation((1.0, 0.0)), Translation((2.0, 0.5))).mean
    tensor([3.0000, 0.5000], dtype=torch.float64)
    """
    for name, field in (("f", f), ("g", g)):
        if not isinstance(field, Deformation):
            raise ValueError(f"{name} must be a Deformation, got {type(field).__name__}; use Translation((3.0, 0.0))")
    if f.size != g.size:
        raise ValueError(f"fields must have one size to be composed, got {f.size} and {g.size}; use refined()")
    if f.device != g.device:
        raise ValueError(f"fields must be on one device, got {f.device} and {g.device}; use g.to(device=f.device)")
    try:
        torch.broadcast_shapes(f.batch_shape, g.batch_shape)
    except RuntimeError:
        raise ValueError(
            f"batches must broadcast, got {tuple(f.batch_shape)} and {tuple(g.batch_shape)}; "
            "use f[:, None] for all pairs"
        ) from None
    if isinstance(f, Translation) and isinstance(g, Translation):
        return f + g
    return Composition(f, g)


@final
class Composition(Compound):
    """factor * (f(u) + g(u - f(u))): for factor 1 the field with L = L_f L_g.

    Norms: upper by the rules of the module and, where the parts' derivatives are bounded, by branch and bound; lower by
    search. Where f or g is a translation the norms of the derivatives are those of the other.

    Args:
        f: the warp that is applied last.
        g: the warp that is applied first.
        factor: of the displacement; broadcasts with the batches.

    Convention: fields that vanish at the border of their window are continued with its period. If f or g does not, the
    composition lives on that window; g is then evaluated outside it where f leads there, and nothing is certified
    unless grad g is constant.
    """

    def __init__(self, f: Deformation, g: Deformation, *, factor: Scalar = 1.0) -> None:
        self._keep((f, g), factor)

    @property
    def f(self) -> Deformation:
        """f, with the common batch."""
        return self._parts[0]

    @property
    def g(self) -> Deformation:
        """g, with the common batch."""
        return self._parts[1]

    def state(self) -> State:
        """f, g and the factor."""
        return {"f": self.f, "g": self.g, "factor": self.factor}, {}

    @property
    def domain(self) -> Torus | Window:
        """The window of a part that does not vanish at its border; one window of both; otherwise the torus."""
        first, second = self.f.domain, self.g.domain
        for own in (first, second):
            if not periodic(own):
                return own
        if isinstance(first, Window) and isinstance(second, Window) and first.edge == second.edge:
            jump = _jumps(first) or _jumps(second)
            return Window(self.size, first.edge, vanishing=True, gradient_jump=jump)
        return Torus(self.size)

    @property
    def injective(self) -> Tensor | None:
        """Where f and g are, on the torus or by certified Jacobian norms below 1, and the factor is 1."""
        if not periodic(self.domain):
            return None
        known = [part.norms().jacobian.upper < 1 if part.injective is None else part.injective for part in self._parts]
        return known[0] & known[1] & (self.factor.detach() == 1)

    def suprema(self) -> Norms:
        """Lower by search, upper by branch and bound from the rules of the module."""
        n = searched(self)
        if not self._covered:
            return n
        size, first, second = self.factor.detach().abs(), self.f.norms(), self.g.norms()
        for part, other in ((self.g, self.f), (self.f, self.g)):
            if isinstance(other, Translation) and periodic(part.domain):
                return dataclasses.replace(part.norms().scaled(size), displacement=n.displacement)

        def divergence() -> Tensor:  # |tr(J_g J_f)| <= d ||J_g|| ||J_f||
            mixed = self.d * first.jacobian.upper * second.jacobian.upper
            return torch.minimum(n.divergence.upper, size * (first.divergence.upper + second.divergence.upper + mixed))

        def oscillation() -> Tensor:  # h(u) - h(w) = f(u) - f(w) + g(..) - g(..)
            return torch.minimum(n.oscillation.upper, size * (first.oscillation.upper + second.oscillation.upper))

        def hessian() -> Tensor:
            smooth = torch.isfinite(first.hessian.upper) & torch.isfinite(second.hessian.upper)
            return torch.where(smooth, n.hessian.upper, torch.inf)

        return dataclasses.replace(
            n,
            hessian=Interval(lambda: n.hessian.lower, hessian),
            divergence=Interval(lambda: n.divergence.lower, divergence),
            oscillation=Interval(lambda: n.oscillation.lower, oscillation),
        )

    @property
    def _covered(self) -> bool:
        """Whether the norms of g hold wherever f leads."""
        return periodic(self.g.domain)

    def _unit(self, points: Tensor, order: int) -> Tensor:
        """See the module."""
        f, g = self.f.flat(), self.g.flat()
        u = inside(points, f)
        tau = f.derivative(u, 0)
        v = inside(points - tau, g)
        if order == 0:
            return tau + g.derivative(v, 0)
        first, outer = f.derivative(u, 1), g.derivative(v, 1)
        m = torch.eye(self.d, dtype=self.dtype, device=self.device) - first
        if order == 1:
            return first + outer @ m
        second = torch.einsum("npijk,npja,npkb->npiab", g.derivative(v, 2), m, m)
        bent = f.derivative(u, 2)
        return bent + second - torch.einsum("npij,npjab->npiab", outer, bent)

    def _unit_bounds(self) -> list[Tensor]:
        """h_0, ..., h_4 of the module."""
        f, g = self.f.flat().derivative_bounds(), self.g.flat().derivative_bounds()
        if not self._covered:
            values = self.g.gradients()
            if values is None or values.shape[1] > 1:
                return [torch.full_like(bound, torch.inf) for bound in f]
            g[0] = g[0] + g[1] * f[0]  # an affine map beyond its window
        if isinstance(self.domain, Torus) and any(_jumps(part.domain) for part in self._parts):
            # the seam of a window lies inside the torus: the gradient is not continuous
            f[2:], g[2:] = ([torch.full_like(bound, torch.inf) for bound in bounds[2:]] for bounds in (f, g))
        m = 1 + f[1]
        return [
            f[0] + g[0],
            f[1] + g[1] * m,
            f[2] * (1 + g[1]) + g[2] * m**2,
            f[3] * (1 + g[1]) + 3 * g[2] * m * f[2] + g[3] * m**3,
            f[4] * (1 + g[1]) + g[2] * (3 * f[2] ** 2 + 4 * m * f[3]) + 6 * g[3] * m**2 * f[2] + g[4] * m**4,
        ]

    def _remade(self, parts: Sequence[Deformation], factor: Tensor) -> Self:
        f, g = parts
        return type(self)(f, g, factor=factor)


def _jumps(domain: Torus | Window) -> bool:
    """Whether gradients of the domain's fields jump across its seam."""
    return isinstance(domain, Window) and domain.gradient_jump


def periodic(domain: Torus | Window) -> bool:
    """Whether fields of the domain are, or continue to, Lipschitz fields of the torus."""
    return isinstance(domain, Torus) or domain.vanishing


def inside(points: Tensor, field: Deformation) -> Tensor:
    """Points ``(..., d)``, moved by periods into the window of a field that vanishes at its border."""
    domain = field.domain
    if isinstance(domain, Torus) or not domain.vanishing:
        return points
    period = sides(domain.size, dtype=points.dtype, device=points.device)
    return points - period * torch.floor((points.detach() + domain.edge) / period)
