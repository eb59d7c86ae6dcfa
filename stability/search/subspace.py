r"""``SubspaceSpace``: C(a, b) in the linear space that constraints leave of a basis; its linear step.

c = Z theta with orthonormal columns of Z, the null space of the constraints' equations. The linear step is that of
``deformations.linear_step`` on dense matrices: max <g, theta> subject to |A_p theta| <= 1 at the points and
||l G_p theta||_2 <= 1, l = a / b, by the alternating direction method of multipliers. What it finds is scaled into the
balls by the certified norms of the field, so that the constraints hold between the points too.
"""

from typing import Self, cast

import torch
from torch import Tensor

from stability.deformations.base import Deformation
from stability.deformations.linear_step import ball, clip
from stability.search.basis import Basis
from stability.search.space import Space, Step

MARGIN = 1 - 1e-9
"""Distance kept from the norms."""

LARGEST = 1500
"""Dimensions of the space up to which dense matrices are reasonable."""

RANK = 1e-9
"""Singular values of the equations below this share of the largest count as 0."""

_RELAXATION, _PENALTY, _RATED = 1.7, 3.0, 10


class SubspaceSpace(Space):
    """Coordinates theta of fields, ``(n, r)``.

    Args:
        basis: of fields.
        null: Z, ``(M d, r)``.
        displacement_norm: a, ``(n,)`` in pixels.
        jacobian_norm: b, ``(n,)``.
    """

    def __init__(self, basis: Basis, null: Tensor, displacement_norm: Tensor, jacobian_norm: Tensor) -> None:
        self.basis, self.null, self.a, self.b = basis, null, displacement_norm, jacobian_norm
        d, r = basis.d, null.shape[1]
        z = null.reshape(basis.count, d, r)
        self._at = torch.einsum("pm,mir->ipr", basis.values(basis.points), z)  # (d, P, r)
        self._slope = torch.einsum("pmj,mir->ijpr", basis.gradients(), z)  # (d, d, P', r)
        self._tables: dict[bytes, Tensor] = {}

    def displacement(self, parameters: Tensor, points: Tensor) -> Tensor:
        """Products with a table that is kept."""
        key = points.cpu().numpy().tobytes()
        if key not in self._tables:
            z = self.null.reshape(self.basis.count, self.basis.d, -1)
            self._tables[key] = torch.einsum("pm,mir->pir", self.basis.values(points), z)
        return torch.einsum("pir,nr->npi", self._tables[key], parameters)

    def step(self, direction: Tensor, start: object | None, iterations: int) -> Step:
        """By the alternating direction method of multipliers."""
        length = self.a / self.b
        first = direction / self._sampled(direction, length).clamp_min(1e-300)[:, None]
        value = (direction * first).sum(1)
        g = direction / torch.where(value > 0, value, 1.0)[:, None]
        weight = _PENALTY / self._at.shape[1]
        system = weight * (
            torch.einsum("ipr,ips->rs", self._at, self._at)
            + length.square().reshape(-1, 1, 1) * torch.einsum("ijpr,ijps->rs", self._slope, self._slope)
        )
        largest = system.diagonal(dim1=1, dim2=2).amax(1).reshape(-1, 1, 1)
        factor = torch.linalg.cholesky(system + 1e-12 * largest * torch.eye(len(g[0])).to(g))
        n = len(g)
        z_p, z_q = (
            (
                g.new_zeros(*self._at.shape[:1], n, self._at.shape[1]),
                g.new_zeros(*self._slope.shape[:2], n, self._slope.shape[2]),
            )
            if start is None
            else cast(tuple[Tensor, Tensor], start)
        )
        best, score = first, (g * first).sum(1)
        stretch = length.reshape(1, 1, -1, 1)
        for k in range(1, iterations + 1):
            p, q = ball(z_p), clip(z_q)
            back = torch.einsum("inp,ipr->nr", z_p - 2 * p, self._at)
            back = back + torch.einsum("ijnp,ijpr->nr", stretch * (z_q - 2 * q), self._slope)
            x = torch.cholesky_solve((g - weight * back)[..., None], factor)[..., 0]
            at, slope = self._evaluated(x, stretch)
            if k % _RATED == 0 or k == iterations:
                candidate = x / self._sampled(x, length).clamp_min(1e-300)[:, None]
                reached = (g * candidate).sum(1)
                best = torch.where((reached > score)[:, None], candidate, best)
                score = torch.maximum(score, reached)
            z_p, z_q = z_p + _RELAXATION * (at - p), z_q + _RELAXATION * (slope - q)
        return Step(self.enlarged(best * self.a[:, None]), (z_p, z_q))

    def directions(self, generator: torch.Generator) -> Tensor:
        """Independent normal coordinates, the projection of independent normal coefficients.

        So that a field that is drawn does not depend on which orthonormal basis of the space was found.
        """
        shape = (len(self.a), self.null.shape[0])
        draw = torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float64)
        return draw.to(self.a.device) @ self.null

    def field(self, parameters: Tensor) -> Deformation:
        """The fields of the basis."""
        return self.basis.field((parameters @ self.null.T).unflatten(1, (self.basis.count, self.basis.d)))

    def enlarged(self, parameters: Tensor) -> Tensor:
        """By the certified norms."""
        norms = self.field(parameters.detach()).norms()
        share = torch.maximum(norms.displacement.upper / self.a, norms.jacobian.upper / self.b)
        return parameters * torch.where(share > 0, MARGIN / share, 1.0)[:, None]

    def inside(self, field: Deformation) -> Tensor:
        """The least-squares coordinates of the values at the points, smaller where a norm asks for it."""
        values = field.displacement(self.basis.points.to(field.dtype)).to(torch.float64).detach()  # (n, P, d)
        rows = self._at.movedim(0, 1).flatten(0, 1)  # (P d, r)
        parameters = torch.linalg.lstsq(rows, values.flatten(1).T).solution.T
        larger = self.enlarged(parameters)
        smaller = larger.norm(dim=1) < parameters.norm(dim=1)
        return torch.where(smaller[:, None], larger, parameters)

    def state_of(self, state: object, rows: Tensor) -> object:
        """Both split variables at some fields."""
        z_p, z_q = cast(tuple[Tensor, Tensor], state)
        return z_p[:, rows], z_q[:, :, rows]

    def __getitem__(self, rows: Tensor) -> Self:
        return self._with(self.a[rows], self.b[rows])

    def scaled(self, factor: float) -> Self:
        """The space is the same."""
        return self._with(factor * self.a, factor * self.b)

    def _with(self, a: Tensor, b: Tensor) -> Self:
        other = object.__new__(type(self))
        other.__dict__.update(vars(self) | {"a": a, "b": b})
        return other

    def _evaluated(self, x: Tensor, stretch: Tensor) -> tuple[Tensor, Tensor]:
        """tau / a at the points, ``(d, n, P)``, and grad tau / b, ``(d, d, n, P')``."""
        slope = torch.einsum("ijpr,nr->ijnp", self._slope, x) * stretch
        return torch.einsum("ipr,nr->inp", self._at, x), slope

    def _sampled(self, x: Tensor, length: Tensor) -> Tensor:
        """The larger of the two norms at the points, in units of a and b, ``(n,)``."""
        at, slope = self._evaluated(x, length.reshape(1, 1, -1, 1))
        far = at.square().sum(0).amax(1).sqrt()
        return torch.maximum(far, torch.linalg.matrix_norm(slope.movedim((0, 1), (-2, -1)), 2).amax(1))
