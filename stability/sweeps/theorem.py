"""The theorem in closed form for the fields of a chunk, once for all models that it cannot tell apart."""

from stability.bounds.form import ClosedForm
from stability.bounds.theorem import Theorem
from stability.ladders.closed import closed_forms
from stability.representations.base import Representation
from stability.sweeps.build import Fields


def theorem(
    representation: Representation,
    fields: Fields,
    memo: dict[Theorem, list[ClosedForm]],
) -> list[ClosedForm] | None:
    """The theorem for every field of a chunk, once for all models of one architecture; None where it is silent."""
    seen = representation.theorem
    if seen is None or seen.silent:
        return None
    if seen not in memo:
        memo[seen] = [
            form
            for deformation in fields.deformations
            for form in closed_forms(seen, deformation, deformation.batch_shape.numel())
        ]
    return memo[seen]
