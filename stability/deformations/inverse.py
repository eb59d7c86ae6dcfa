"""``inverse``: the field sigma with phi_sigma = phi_tau^{-1}, in closed form where there is one."""

from typing import Protocol, runtime_checkable

from stability.deformations.base import Deformation
from stability.deformations.composition import Composition, compose
from stability.deformations.inverse_field import Inverse
from stability.deformations.solvers import FixedPoint, Newton, Solver
from stability.deformations.translation import Translation

__all__ = ["FixedPoint", "Inverse", "Newton", "inverse"]


@runtime_checkable
class Invertible(Protocol):
    """A field whose inverse is of its own family."""

    def inverted(self) -> Deformation | None:
        """The inverse, or None where it is not in the family."""
        ...


def inverse(tau: Deformation, solver: Solver | None = None) -> Deformation:
    """sigma with phi_sigma = phi_tau^{-1}: ``compose(tau, sigma)`` = 0 = ``compose(sigma, tau)``.

    Args:
        tau: a field whose id - tau is a diffeomorphism.
        solver: how u - tau(u) = v is solved where there is no closed form; None: ``Newton()``.

    Returns:
        Exact where it can be: -c for a translation, the flow backwards in time, an affine map's inverse, tau for
        ``inverse(tau)``, and part by part for a composition. Otherwise an ``Inverse``.

    Raises:
        ValueError: if a field is known not to have an inverse.

    >>> inverse(Translation((3.0, 4.0))).mean
    tensor([-3., -4.], dtype=torch.float64)
    """
    if not isinstance(tau, Deformation):
        raise ValueError(f"tau must be a Deformation, got {type(tau).__name__}; use FourierField.sample")
    if isinstance(tau, Translation):
        return -tau
    if isinstance(tau, Inverse) and tau.plain:
        return tau.forward
    if isinstance(tau, Composition) and tau.plain:
        return compose(inverse(tau.g, solver), inverse(tau.f, solver))
    known = tau.inverted() if isinstance(tau, Invertible) else None
    if known is not None:
        return known
    _check_invertible(tau)
    return Inverse(tau, solver=solver)


def _check_invertible(tau: Deformation) -> None:
    """Refuse fields that fold; the verdict is asked for only where neither construction nor b < 1 settles it."""
    known = tau.norms().jacobian.upper < 1
    known = known if tau.injective is None else known | tau.injective
    if bool(known.all()):
        return
    verdict = tau.is_diffeomorphism()
    if bool(verdict.fails.any()):
        first = int(verdict.fails.flatten().int().argmax())
        raise ValueError(
            f"tau must have an inverse, got a field that has none (field {first}: {verdict.reasons[first]}); "
            "control it to jacobian_norm < 1, or use FlowField"
        )
