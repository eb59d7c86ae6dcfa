r"""``FieldCertificates``: bounds of the operator norms in the theorem for given fields, not for all with their norms.

Proofs: docs/theory-fields.md. L x(u) = x(u - tau(u)), A = A_sigma Gaussian pooling, P patches; b < 1 on the torus.
"""

import math
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from stability.bounds import forms
from stability.bounds.constants import SLOPE, translation
from stability.bounds.envelope import envelope, envelope_energy
from stability.bounds.field import FieldNorms, non_negative
from stability.bounds.patches import patch_symmetric_cross
from stability.bounds.rung import Status
from stability.certificates.certificate import Certificate, Form
from stability.certificates.shifts import shift
from stability.certificates.splittings import Splitting, splittings
from stability.certificates.suprema import FieldSuprema
from stability.certificates.weighted import operator_weighted
from stability.deformations.base import Deformation
from stability.deformations.checks import check_generator

FAILURE = 1e-6
"""Probability with which an operator-weighted bound of one sigma may be wrong, over all fields together."""

_Row = Callable[[int, FieldNorms], list[Form]]
"""The forms of one field, from its number and its norms."""


class FieldCertificates:
    """Bounds of ||L||, ||[A, L]||, ||[P A, L]||, ||A L - A||, ||L A - A|| for each field of a batch.

    Suprema are taken over the continuum, certified by branch and bound, computed when they are needed and kept. Every
    quantity is the least of several valid forms, among them the closed form of ``stability.bounds``.

    Args:
        deformation: fields of the torus, or of a window at whose border they vanish (repeated with its period). Fields
            with b = sup ||grad tau||_2 >= 1, and windows at whose border a field does not vanish, are not covered:
            their values are infinite.
        generator: with it ||[A, L]|| is bounded by ``operator_weighted`` as well: about a second a field and
            sigma, wrong with probability 1e-6 at most; where that is the least, the status is "high probability".

    Raises:
        ValueError: if it is not a ``Deformation``.

    >>> import torch
    >>> from stability import FourierField
    >>> field = FourierField.sample((32, 32), cutoff=2, generator=torch.Generator().manual_seed(0))
    >>> certificates = FieldCertificates(field * (0.1 / field.norms().jacobian.upper))
    >>> found = certificates.commutator(sigma=2.0)
    >>> found.forms, str(found.status), bool(found.value < 0.1618)  # the closed form for b = 0.1
    (('hessian',), 'proof, numerically evaluated', True)
    """

    def __init__(self, deformation: Deformation, generator: torch.Generator | None = None) -> None:
        if not isinstance(deformation, Deformation):
            raise ValueError(
                f"deformation must be a Deformation, got {type(deformation).__name__}; use FourierField.sample"
            )
        if generator is not None:
            check_generator(generator)
        self.deformation, self._generator = deformation, generator
        self._suprema = FieldSuprema(deformation)
        self._weighted: dict[float, Certificate] = {}

    @property
    def warp(self) -> Certificate:
        """||L|| = sup D^(-1/2)."""
        return self._named("supremum", self._suprema.warp)

    @property
    def jacobian(self) -> Certificate:
        """Sup ||grad tau||_2 D^(-1/2)."""
        return self._named("supremum", self._suprema.jacobian)

    @property
    def symmetric_jacobian(self) -> Certificate:
        """Sup ||(grad tau + grad tau^T) / 2||_F D^(-1/2)."""
        return self._named("supremum", self._suprema.symmetric_jacobian)

    @property
    def strain(self) -> Certificate:
        """Sup max_i |s_i - 1 / s_i| D^(-1/2)."""
        return self._named("supremum", self._suprema.strain)

    @property
    def anisotropy(self) -> Certificate:
        """Sup max_i |s_i - D / s_i| D^(-1/2)."""
        return self._named("supremum", self._suprema.anisotropy)

    @property
    def volume(self) -> Certificate:
        """Sup |1 - D| D^(-1/2)."""
        return self._named("supremum", self._suprema.volume)

    @property
    def bend(self) -> Certificate:
        """Sup |M^(-T) grad ln D| D^(-1/2) in 1 / pixel."""
        return self._named("supremum", self._suprema.bend)

    @property
    def density(self) -> Certificate:
        """Sup 1 / D = sup w, w = (1 / D) o phi^(-1)."""
        return self._named("supremum", self._suprema.density)

    @property
    def density_gradient(self) -> Certificate:
        """Sup |grad w| in 1 / pixel."""
        return self._named("supremum", self._suprema.density_gradient)

    @property
    def density_oscillation(self) -> Certificate:
        """Sup w - inf w."""
        return self._named("supremum", self._suprema.density_oscillation)

    def commutator(self, sigma: float) -> Certificate:
        """||[A, L]||.

        Args:
            sigma: scale of A in pixels, >= 0; 0 gives 0, A is the identity.

        >>> import torch
        >>> from stability import Translation
        >>> FieldCertificates(Translation((1.0, 2.0), (16, 16))).commutator(1.0).value
        tensor([0.], dtype=torch.float64)
        """
        sigma = non_negative("sigma", sigma)
        return self._smallest(lambda i, norms: [self._commutator(i, norms, sigma)])

    def patch_commutator(self, sigma: float, patch_size: int, spacing: float) -> Certificate:
        """||[P A, L]||.

        Args:
            sigma: scale of A in pixels; 0: only the norms of both products are left.
            patch_size: e >= 1 positions per axis, placed as in ``Architecture``.
            spacing: of these positions in pixels.
        """
        sigma, spacing, e = non_negative("sigma", sigma), non_negative("spacing", spacing), _patch(patch_size)
        radius = self._radius(e, spacing)
        shifts = None if radius == 0 or sigma == 0 else (shift(self._suprema, e, spacing) / sigma).tolist()

        def row(i: int, norms: FieldNorms) -> list[Form]:
            if radius == 0:
                return [self._commutator(i, norms, sigma)]
            found = [self._closed(forms.patch_commutator(norms, sigma, radius, e % 2 == 1))]
            if norms.jacobian == 0:
                return found
            found.append(Form(2 * float(self._suprema.warp[i]), "norms"))
            if shifts is None:
                return found
            kappa, pooling = shifts[i], self._commutator(i, norms, sigma)
            size = SLOPE * kappa
            status = Status.weakest(pooling.status, Status.NUMERICAL)
            found.append(Form(pooling.value + size, f"{pooling.name} + shift", status))
            if e % 2 == 1 and math.isfinite(norms.hessian):
                cross = patch_symmetric_cross(radius / sigma, norms.jacobian, norms.hessian, sigma, norms.d)
                square = pooling.value**2 + size**2 + 2 * pooling.value * min(size, cross)
                found.append(Form(math.sqrt(square), f"{pooling.name}, symmetric shift", status))
            return found + self._enveloped(i, sigma, envelope, kappa, "shift")

        return self._smallest(row)

    def patch_energy(self, sigma: float, patch_size: int, spacing: float) -> Certificate:
        """The least g with ||[P A, L] z|| <= g (||z||^2 - ||A z||^2)^(1/2); arguments as in ``patch_commutator``.

        For sigma = 0 the pooling removes no energy and nothing is claimed, unless tau is constant.
        """
        sigma, spacing, e = non_negative("sigma", sigma), non_negative("spacing", spacing), _patch(patch_size)
        radius = self._radius(e, spacing)
        shifts = None if radius == 0 or sigma == 0 else (shift(self._suprema, e, spacing) / sigma).tolist()

        def row(i: int, norms: FieldNorms) -> list[Form]:
            if norms.jacobian == 0 or (sigma == 0 and radius == 0):
                return [Form(0.0, "translation" if norms.jacobian == 0 else "identity", Status.PROOF)]
            if sigma == 0:
                return []
            kappa = 0.0 if shifts is None else shifts[i]
            found = [self._closed(forms.patch_energy(norms, sigma, radius))]
            return found + self._enveloped(i, sigma, envelope_energy, kappa, "shift" if radius else "")

        return self._smallest(row)

    def warp_difference(self, sigma: float) -> Certificate:
        """||L A - A||.

        Args:
            sigma: scale of A in pixels; 0 gives 1 + ||L||.

        >>> import torch
        >>> from stability import Translation, bounds
        >>> found = FieldCertificates(Translation((3.0, 4.0), (16, 16))).warp_difference(2.0)
        >>> found.value.item() == bounds.translation(5 / 2)
        True
        """
        sigma = non_negative("sigma", sigma)
        return self._smallest(lambda i, norms: self._moved(i, norms, sigma))

    def pooling_difference(self, sigma: float) -> Certificate:
        """||A L - A||.

        Args:
            sigma: scale of A in pixels; 0 gives 1 + ||L||.
        """
        sigma = non_negative("sigma", sigma)

        def row(i: int, norms: FieldNorms) -> list[Form]:
            found = [self._closed(forms.last_pooling(norms, sigma, norms.displacement))]
            if norms.mean and math.isfinite(norms.residual) and sigma:
                found.append(self._closed(forms.split_pooling(norms, sigma)))
            if norms.jacobian == 0:
                return found
            suprema = self._suprema
            warp = float(suprema.warp[i])
            found.append(Form(1 + warp, "norms"))
            if sigma == 0:
                return found
            low, high = (float(end[i]) for end in suprema.determinant)
            pooling, change = self._commutator(i, norms, sigma), max(1 / low - 1, 1 - 1 / high)
            status = Status.weakest(pooling.status, Status.NUMERICAL)
            for path, constant, suffix in self._paths(i, norms, sigma):
                found.append(Form(warp * SLOPE * path + change + constant, f"direct{suffix}"))
                moved = pooling.value + SLOPE * path + constant
                found.append(Form(moved, f"{pooling.name} + displacement{suffix}", status))
                joint = self._enveloped(i, sigma, envelope, path, "displacement")
                found += [Form(form.value + constant, form.name + suffix) for form in joint]
            return found

        return self._smallest(row)

    def _commutator(self, i: int, norms: FieldNorms, sigma: float) -> Form:
        """The best form of ||[A, L]|| for one field."""
        if sigma == 0 and norms.jacobian:
            return Form(0.0, "identity", Status.PROOF)
        closed = self._closed(forms.pooling_commutator(norms, sigma))
        if norms.jacobian == 0:
            return closed
        own = [closed, Form(float(self._suprema.warp[i]), "norms"), *self._enveloped(i, sigma, envelope)]
        if self._generator is not None:
            if sigma not in self._weighted:
                self._weighted[sigma] = operator_weighted(self._suprema.field, sigma, self._generator, failure=FAILURE)
            value = float(self._weighted[sigma].value[i])
            own.append(Form(value, "operator weighted", Status.PROBABLE))
        return min(own, key=lambda form: form.value)

    def _moved(self, i: int, norms: FieldNorms, sigma: float) -> list[Form]:
        """The forms of ||L A - A||."""
        if norms.jacobian == 0:
            if sigma == 0:
                return [Form(2.0 if norms.displacement else 0.0, "norms", Status.PROOF)]
            return [Form(translation(norms.displacement / sigma), "translation", Status.PROOF)]
        found = [Form(1 + float(self._suprema.warp[i]), "norms")]
        paths = self._paths(i, norms, sigma) if sigma else []
        return found + [Form(SLOPE * path + constant, f"displacement{name}") for path, constant, name in paths]

    def _paths(self, i: int, norms: FieldNorms, sigma: float) -> list[tuple[float, float, str]]:
        """int_0^1 sup |tau| det(I - r grad tau)^(-1/2) dr / sigma, what to add, suffix: of tau and of tau - mean.

        L_tau = L_c L' with a shifted copy of tau - c: a constant c costs T(|c| / sigma).
        """
        found = [(float(self._suprema.path[i]) / sigma, 0.0, "")]
        if norms.mean:
            rest = float(self._suprema.residual_path[i]) / sigma
            found.append((rest, translation(norms.mean / sigma), ", split"))
        return found

    def _enveloped(
        self, i: int, sigma: float, phi: Callable[..., float], kappa: float = 0.0, extra: str = ""
    ) -> list[Form]:
        """Phi(F, B, sigma G / sqrt(2), K) of every splitting."""
        suffix = f", {extra}" if extra else ""
        return [
            Form(phi(part.laplacian, part.divergence, sigma * part.gradient / math.sqrt(2), kappa), part.name + suffix)
            for part in self._splittings[i]
        ]

    def _named(self, name: str, value: Tensor) -> Certificate:
        return Certificate.smallest([[Form(one, name)] for one in value.tolist()], value.device)

    def _smallest(self, row: _Row) -> Certificate:
        rows = [[] if norms is None else row(i, norms) for i, norms in enumerate(self._suprema.norms)]
        return Certificate.smallest(rows, self._suprema.field.device)

    def _radius(self, patch_size: int, spacing: float) -> float:
        """Root mean square offset in pixels."""
        centre = 0.25 if patch_size % 2 == 0 else 0.0
        return spacing * math.sqrt(self._suprema.d * ((patch_size**2 - 1) / 12 + centre))

    @staticmethod
    def _closed(part: forms.Part) -> Form:
        return Form(part.value, f"closed form: {part.form}", part.status)

    @cached_property
    def _splittings(self) -> list[list[Splitting]]:
        return splittings(self._suprema)


def _patch(patch_size: object) -> int:
    if isinstance(patch_size, bool) or not isinstance(patch_size, int) or patch_size < 1:
        raise ValueError(f"patch_size must be an integer >= 1, got {patch_size!r}; 1 is no patch at all")
    return patch_size
