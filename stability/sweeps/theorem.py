"""The theorem in closed form for the fields of a chunk, once for all models that it cannot tell apart."""

import math

from stability.architecture import Architecture
from stability.bounds.closed_form import ClosedForm
from stability.ladders.closed import closed_forms
from stability.representations.base import Representation, own_lipschitz
from stability.sweeps.build import Fields

TheoremKey = tuple[Architecture, tuple[float, ...] | None, bool]
"""What of a model the theorem sees: architecture, constants that take the place of the kernels', whether 0 stays 0."""


def theorem(
    representation: Representation,
    fields: Fields,
    memo: dict[TheoremKey, list[ClosedForm]],
) -> list[ClosedForm] | None:
    """The theorem for every field of a chunk, once for all models of one architecture; None where it is silent."""
    architecture = representation.architecture
    if architecture is None:
        return None
    rho = own_lipschitz(representation)
    if rho is not None and math.inf in rho:
        return None
    key = architecture, rho, representation.keeps_zero
    if key not in memo:
        memo[key] = [
            form
            for deformation in fields.deformations
            for form in closed_forms(architecture, deformation, deformation.batch_shape.numel(), *key[1:])
        ]
    return memo[key]
