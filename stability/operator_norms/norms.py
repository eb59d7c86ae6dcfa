r"""``OperatorNorms``: the operator norms of the theorem for given fields, each computed once."""

import math
from collections.abc import Callable, Hashable
from dataclasses import replace

import torch

from stability.bounds.field import non_negative
from stability.bounds.rung import Status
from stability.deformations.base import Deformation
from stability.deformations.domains import Window
from stability.front_ends import FrontEnd
from stability.operator_norms.commutator import Commutator
from stability.operator_norms.differences import PoolingDifference, WarpDifference
from stability.operator_norms.enclosure import Enclosure, Ends, gathered
from stability.operator_norms.filters import FilterBank, Patches
from stability.operator_norms.operators import Effort, Operator
from stability.operator_norms.sampling import strip

PATIENCE = 2
"""Balls may grow so often without a narrower enclosure."""
ESTIMATED = 1e-3
"""Gap at which the search ends for fields whose quadrature has no proved error."""
PROVED = 1e-4
"""Gap at which what matrices prove is not given up for what Lanczos iterations make probable."""
FINER = 1.5
"""Nodes per pixel of the second sampling of a field that is not trigonometric, over those of the first."""
NOTHING = Ends(0.0, math.inf, Status.NOT_COVERED, "not covered")


class OperatorNorms:
    r"""lower <= ||K|| <= upper for [A, L], [P A, L], [P F A, L], A L - A, L A - A on L2 of the torus.

    Small cases by matrices, with both ends proved for trigonometric fields; larger ones by Lanczos iterations, whose
    upper end fails with a probability of at most ``failure``. Results are kept and computed once.

    Args:
        deformation: fields of the torus, or of a window at whose border they vanish; batch shape ``(F,)`` or any.
        generator: for the first vectors of Lanczos iterations; without one, larger cases get what
            matrices up to ``largest_matrix`` give, or are refused.
        failure: probability that an upper end by Lanczos iterations is too small, per number, in (0, 1).
        tolerance: (upper - lower) / upper at which the search for more accuracy ends.
        largest_matrix: frequencies up to which matrices are used, at most.

    Raises:
        ValueError: for anything but a deformation, or numbers out of range.

    Convention: everything is computed on the CPU in float64; ends are on the field's device. Fields with jacobian norm
    >= 1, and fields of a window that do not vanish at its border, get [0, inf] and the status "not covered".

    Reference: docs/theory-norms.md; Kuczynski & Wozniakowski 1992, van Dorsselaer, Hochstenbach & van der Vorst 2001
    (bounds of eigenvalues by Lanczos iterations from a random start).

    >>> from stability.deformations.translation import Translation
    >>> norms = OperatorNorms(Translation((2.0, 0.0), size=(32, 32)))
    >>> float(norms.commutator(2.0).upper), str(norms.pooling_difference(2.0).status)
    (0.0, 'proof')
    """

    def __init__(
        self,
        deformation: Deformation,
        generator: torch.Generator | None = None,
        failure: float = 1e-3,
        *,
        tolerance: float = 1e-5,
        largest_matrix: int = 2600,
    ) -> None:
        if not isinstance(deformation, Deformation):
            raise ValueError(
                f"deformation must be a Deformation, got {type(deformation).__name__}; use FourierField.sample"
            )
        for name, value in (("failure", failure), ("tolerance", tolerance)):
            if not 0 < value < 1:
                raise ValueError(f"{name} must lie in (0, 1), got {value!r}; the default is a good choice")
        if isinstance(largest_matrix, bool) or not isinstance(largest_matrix, int) or largest_matrix < 1:
            raise ValueError(f"largest_matrix must be an integer >= 1, got {largest_matrix!r}; 2600 takes seconds")
        self.deformation, self.generator, self.failure = deformation, generator, failure
        self.tolerance, self.largest_matrix = tolerance, largest_matrix
        self._fields = deformation.flat().to(dtype=torch.float64, device="cpu")
        self._known: dict[Hashable, Enclosure] = {}

    def commutator(self, sigma: float, energy: bool = False) -> Enclosure:
        """||[A, L]||, or the best g with ||[A, L] z|| <= g (||z||^2 - ||A z||^2)^(1/2) for all z.

        Args:
            sigma: scale of A in pixels, >= 0; 0 gives 0.
            energy: the second.
        """
        return self.patch_commutator(sigma, 1, 1.0, energy)

    def patch_commutator(self, sigma: float, patch_size: int, spacing: float = 1.0, energy: bool = False) -> Enclosure:
        """||[P A, L]||, or the best g with ||[P A, L] z|| <= g (||z||^2 - ||A z||^2)^(1/2) for all z.

        Args:
            sigma: scale of A in pixels, >= 0; for 0 (no pooling) the upper end is 2 (1-b)^(-d/2), the lower 0.
            patch_size: e, as in ``Layer``.
            spacing: distance of neighbouring offsets in pixels.
            energy: the second; not covered without pooling.
        """
        return self._filtered(None, sigma, patch_size, spacing, energy)

    def front_end_commutator(
        self, front_end: FrontEnd | None, sigma: float, patch_size: int = 1, spacing: float = 1.0
    ) -> Enclosure:
        """||[P F A, L]|| for a linear front end F: gradient maps, mean removal, whitening.

        Args:
            front_end: F; None: the identity.
            sigma: scale of A in pixels, >= 0; for 0 the upper end is 2 (1-b)^(-d/2), the lower 0.
            patch_size: e.
            spacing: distance of neighbouring offsets in pixels.
        """
        return self._filtered(front_end, sigma, patch_size, spacing, False)

    def bank_commutator(self, bank: FilterBank) -> Enclosure:
        """||[V, L]|| for a bank of filters, see ``stack``.

        Args:
            bank: V f = (v_c * f)_c with sum_c |v_c|^2 <= 1, on the torus of the fields.

        Raises:
            ValueError: if it lives on another torus.
        """
        if not isinstance(bank, FilterBank):
            raise ValueError(f"bank must be a FilterBank, got {type(bank).__name__}; use stack(symbols, size)")
        if bank.size != self.deformation.size:
            raise ValueError(f"bank must live on the torus {self.deformation.size}, got {bank.size}; stack it anew")
        return self._enclosed(Commutator(bank))

    def pooling_difference(self, sigma: float) -> Enclosure:
        """||A L - A||.

        Args:
            sigma: scale of A in pixels, >= 0; for 0 the upper end is 1 + (1-b)^(-d/2), the lower 0.
        """
        sigma = non_negative("sigma", sigma)
        return self._enclosed(PoolingDifference(Patches(sigma))) if sigma else self._by_norms("identity", 1.0)

    def warp_difference(self, sigma: float) -> Enclosure:
        """||L A - A||.

        Args:
            sigma: scale of A in pixels, >= 0; for 0 the upper end is 1 + (1-b)^(-d/2), the lower 0.
        """
        sigma = non_negative("sigma", sigma)
        return self._enclosed(WarpDifference(Patches(sigma))) if sigma else self._by_norms("identity", 1.0)

    def _filtered(
        self, front_end: FrontEnd | None, sigma: float, patch_size: int, spacing: float, energy: bool
    ) -> Enclosure:
        sigma, spacing = non_negative("sigma", sigma), non_negative("spacing", spacing)
        if isinstance(patch_size, bool) or not isinstance(patch_size, int) or patch_size < 1:
            raise ValueError(f"patch_size must be an integer >= 1, got {patch_size!r}; 3 is usual")
        if front_end is not None and not isinstance(front_end, FrontEnd):
            raise ValueError(f"front_end must be a FrontEnd or None, got {front_end!r}; use front_ends.Gradient()")
        if sigma == 0:
            if energy:
                return self._collected("energy", lambda row, b: NOTHING)
            still = front_end is None and patch_size == 1
            return self._by_norms("zero" if still else "patches", 0.0 if still else None)
        return self._enclosed(Commutator(Patches(sigma, patch_size, spacing, front_end), sigma if energy else None))

    def _by_norms(self, form: str, other: float | None) -> Enclosure:
        """0 <= ||K|| <= ||L|| + other without pooling (other: None for ||L||); 0 where K = 0."""

        def ends(row: int, b: float) -> Ends:
            still = b == 0 and (form != "identity" or not bool(self._fields.mean[row].any()))
            if form == "zero" or still:
                return Ends(0.0, 0.0, Status.PROOF, "translation")
            norm = (1 - b) ** (-self.deformation.d / 2)
            return Ends(0.0, norm + (norm if other is None else other), Status.PROOF, "norms")

        return self._collected((form,), ends)

    def _enclosed(self, operator: Operator) -> Enclosure:
        return self._collected(operator, lambda row, b: self._single(operator, row, b))

    def _collected(self, key: Hashable, ends: Callable[[int, float], Ends]) -> Enclosure:
        """The fields' ends in one, computed once; those that are not covered are left out."""
        if key not in self._known:
            domain = self._fields.domain
            covered = not isinstance(domain, Window) or domain.vanishing
            slopes = self._fields.norms().jacobian.upper.tolist() if covered else [math.inf] * len(self._fields.mean)
            found = [ends(row, b) if b < 1 else NOTHING for row, b in enumerate(slopes)]
            self._known[key] = gathered(found, self.deformation.batch_shape, self.deformation.device)
        return self._known[key]

    def _single(self, operator: Operator, row: int, b: float) -> Ends:
        """One field, with balls that grow until the enclosure is narrow or grows no narrower."""
        field = self._fields[row]
        if b == 0:
            return operator.of_translation(field)
        tolerance = self.tolerance if strip(field) is not None else max(self.tolerance, ESTIMATED)
        effort, best, patience = operator.start(b, 0.3 * b).at_least(field.size), None, PATIENCE
        failure = self.failure
        while True:
            large = self._modes(effort) > self.largest_matrix
            if large and best is not None and (self.generator is None or best.gap <= PROVED):
                return best
            failure /= 2  # of the attempts together: less than twice the first
            last, ends = best, self._sampled(operator, field, effort, failure if large else None)
            best = ends.with_earlier(last)
            patience -= last is not None and best.gap > 0.9 * last.gap
            if best.gap <= tolerance or patience == 0 or (large and ends.settled):
                return best
            effort = operator.grown(effort, best.lower)

    def _sampled(self, operator: Operator, field: Deformation, effort: Effort, failure: float | None) -> Ends:
        """By matrices or Lanczos; where no error is proved, widened by the change under finer sampling."""

        def run(one: Effort) -> Ends:
            if failure is None:
                return operator.by_matrices(field, one)
            if self.generator is None:
                raise ValueError(
                    f"generator must be given for {self._modes(one)} frequencies, more than largest_matrix = "
                    f"{self.largest_matrix}, got None; use torch.Generator().manual_seed(0)"
                )
            return operator.by_iterations(field, one, self.generator, failure, self.tolerance)

        if strip(field) is not None:
            return run(effort)
        return run(replace(effort, finer=FINER)).widened(run(effort))

    def _modes(self, effort: Effort) -> int:
        """About how many frequencies the larger ball holds."""
        volume = 2.0 if self.deformation.d == 1 else math.pi
        radius = max(effort.inner, effort.outer) / (2 * math.pi)
        return math.ceil(volume * radius**self.deformation.d * math.prod(self.deformation.size))
