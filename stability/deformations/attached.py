"""Derivatives of controlled fields with respect to what they were made of: maxima stay in place, the knob follows."""

import torch
from torch import Tensor

from stability.deformations.base import Deformation
from stability.deformations.spectral import Tiltable


def differentiates(field: Deformation, *targets: Tensor) -> bool:
    """Whether somebody differentiates."""
    return torch.is_grad_enabled() and (field.requires_grad or any(value.requires_grad for value in targets))


def lengths_at_places(field: Tiltable, places: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """|tau| and ||grad tau||_2 where they are largest: a maximum has the derivative of the value at its place."""
    far, steep = (place.detach().to(field.dtype) for place in places or field.places())
    displacement, jacobian = field.displacement(far, each=True), field.jacobian(steep, each=True)
    return displacement.norm(dim=-1).to(torch.float64), _spectral(jacobian).to(torch.float64)


def _spectral(matrix: Tensor) -> Tensor:
    """The largest singular value of ``(..., d, d)``, differentiable; see ``lengths.spectral``."""
    if matrix.shape[-1] == 1:
        return matrix[..., 0, 0].abs()
    (a, b), (c, d) = (row.unbind(-1) for row in matrix.unbind(-2))
    return (torch.hypot(a + d, c - b) + torch.hypot(a - d, b + c)) / 2


def with_derivative_of(differentiable: Tensor, value: Tensor) -> Tensor:
    """The value with the relative derivative of the first."""
    return value * (differentiable / differentiable.detach())


def followed(
    fields: Tiltable, theta: Tensor, a: Tensor, b: Tensor, places: tuple[Tensor, Tensor], factor: Tensor
) -> tuple[Tiltable, Tensor]:
    """The solved fields and their factors as functions of coefficients and targets, by the implicit function theorem.

    With F(theta) = ln ||grad tau||_2 - ln |tau| - ln(b / a) at the places of the maxima, d theta = -dF / F'(theta).
    """
    turned = theta.detach().requires_grad_()
    with torch.enable_grad():
        far, steep = lengths_at_places(fields.tilted(turned), places)
        (slope,) = torch.autograd.grad((steep.log() - far.log()).sum(), turned)
    far, steep = lengths_at_places(fields.tilted(theta), places)
    change = -(steep.log() - far.log() - (b / a).log()) / slope
    fixed = torch.isfinite(theta) & torch.isfinite(slope) & (slope != 0)  # at the ends of the range theta stays
    solved = fields.tilted(torch.where(fixed, theta + (change - change.detach()), theta))
    far, _ = lengths_at_places(solved, places)
    return solved, with_derivative_of(a / far, factor)
