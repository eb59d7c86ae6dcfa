r"""The theorem's operator norms for given fields, from certificates or enclosures, and what they add up to.

    every image:  min( sum_k R_{k-1} N_k + N,  (sum_k R_{k-1}^2 g_k^2 + N^2)^(1/2) ),
    this image:   sum_k R_{k-1} min( N_k ||z_{k-1} - mean||, g_k Delta_k^(1/2) ) + N ||z_n - mean||,

N_k >= ||[P_k A_{k-1}, L]||, ||[P_k A_{k-1}, L] z|| <= g_k (||z||^2 - ||A_{k-1} z||^2)^(1/2), N >= ||A_n L - A_n||.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stability.architecture import Architecture
from stability.bounds.rows import times
from stability.bounds.rung import Parts, Status, told
from stability.certificates import Certificate, FieldCertificates
from stability.ladders.energies import Spectra
from stability.operator_norms import Enclosure, OperatorNorms


@dataclass(frozen=True)
class FieldConstants:
    """Those of one field.

    Args:
        layers: N_k, k = 1 ... n.
        energies: g_k; infinite where there is no energy form.
        last: N.
        status: the weakest of them.
        forms: which form gave each N_k, g_k (or "") and N.
        filtered: whether N_1 is the norm of [P_1 F A_0, L], which acts on x and not on F x.
    """

    layers: tuple[float, ...]
    energies: tuple[float, ...]
    last: float
    status: Status
    forms: tuple[tuple[str, ...], tuple[str, ...], str] = ((), (), "")
    filtered: bool = False

    def of_every_image(self, lipschitz: Sequence[float], keeps_norms: bool) -> Parts:
        """Addends of the smaller combination in units of ||x||; shares of the root where that is smaller.

        Args:
            lipschitz: rho_1, ..., rho_n.
            keeps_norms: whether ||z_k|| <= ||x|| whatever rho is; otherwise every term carries prod rho.
        """
        whole = math.prod(lipschitz)
        gains = [math.prod(lipschitz[k:]) if keeps_norms else whole for k in range(len(lipschitz))]
        end = times(1.0 if keeps_norms else whole, self.last)
        plain = [times(gain, norm) for gain, norm in zip(gains, self.layers, strict=True)]
        rooted = [times(gain, energy) for gain, energy in zip(gains, self.energies, strict=True)]
        outside = [p if math.isinf(r) else 0.0 for p, r in zip(plain, rooted, strict=True)]
        inside = [0.0 if math.isinf(r) else r for r in rooted]
        root = math.hypot(*inside, end)
        names = [f"layer {k}" for k in range(1, len(plain) + 1)] + ["last pooling"]
        if math.fsum(outside) + root < math.fsum(plain) + end:
            shares = [r * (r / root) for r in (*inside, end)] if root else [0.0] * len(names)
            values = [s + o for s, o in zip(shares, (*outside, 0.0), strict=True)]
            return Parts(dict(zip(names, values, strict=True)), told("quadrature", self.forms[1], self.forms[2]))
        return Parts(dict(zip(names, (*plain, end), strict=True)), told("sum", self.forms[0], self.forms[2]))

    def of_image(self, lipschitz: Sequence[float], spectra: Spectra) -> Parts:
        """Addends in the unit of ||x||, from the energies of the maps of one image.

        Args:
            lipschitz: rho_1, ..., rho_n.
            spectra: of the image and its maps.
        """
        terms, maps, forms = {}, list(spectra.maps), []
        if self.filtered:
            maps[0] = spectra.image
        for k, (norm, energy) in enumerate(zip(self.layers, self.energies, strict=True), start=1):
            before = maps[k - 1]
            by_norm, by_energy = times(norm, before.centred), times(energy, before.removed)
            amount, which = min(by_norm, by_energy), "centred norms" if by_norm <= by_energy else "removed energy"
            own = self.forms[by_norm > by_energy]
            forms.append(f"{which}, {own[k - 1]}" if own else which)
            terms[f"layer {k}"] = times(math.prod(lipschitz[k - 1 :]), amount)
        terms["last pooling"] = times(self.last, maps[-1].centred)
        return Parts(terms, told("sum", forms, self.forms[2]))


def certified(certificates: FieldCertificates, architecture: Architecture) -> list[FieldConstants]:
    """From suprema over the continuum: proofs."""
    places = list(zip(architecture.layers, architecture.scales, architecture.spacings, strict=False))
    norms = [certificates.patch_commutator(sigma, layer.patch_size, s) for layer, sigma, s in places]
    energies = [
        certificates.patch_energy(sigma, layer.patch_size, s) if sigma > 0 else None for layer, sigma, s in places
    ]
    return _rows(norms, energies, certificates.pooling_difference(architecture.scales[-1]))


def enclosed(norms: OperatorNorms, architecture: Architecture) -> list[FieldConstants]:
    """From enclosures of the norms; with a front end F the first one is ||[P_1 F A_0, L]||."""
    first, *rest = zip(architecture.layers, architecture.scales, architecture.spacings, strict=False)
    layer, sigma, s = first
    layers = [norms.front_end_commutator(architecture.front_end, sigma, layer.patch_size, s)]
    layers += [norms.patch_commutator(sigma, layer.patch_size, s) for layer, sigma, s in rest]
    rows = _rows(layers, [None] * len(layers), norms.pooling_difference(architecture.scales[-1]))
    return [replace(row, filtered=True) for row in rows]


def _rows(
    layers: Sequence[Certificate] | Sequence[Enclosure],
    energies: Sequence[Certificate | None],
    last: Certificate | Enclosure,
) -> list[FieldConstants]:
    """One per field."""
    parts = [part for part in (*layers, *energies, last) if part is not None]
    status = Status.weakest(*(part.status for part in parts))
    columns = [_upper(part) for part in layers]
    rooted = [[math.inf] * len(columns[0]) if part is None else _upper(part) for part in energies]
    words = zip(
        zip(*(_forms(part, len(columns[0])) for part in layers), strict=True),
        zip(*(_forms(part, len(columns[0])) for part in energies), strict=True),
        _forms(last, len(columns[0])),
        strict=True,
    )
    rows = zip(zip(*columns, strict=True), zip(*rooted, strict=True), _upper(last), words, strict=True)
    return [
        FieldConstants(norms, roots, end, status if math.isfinite(end) else Status.NOT_COVERED, forms)
        for norms, roots, end, forms in rows
    ]


def _forms(part: Certificate | Enclosure | None, count: int) -> tuple[str, ...]:
    """Which form gave the value of every field."""
    if part is None:
        return ("",) * count
    return part.forms if isinstance(part, Certificate) else (part.form,) * count


def _upper(part: Certificate | Enclosure) -> list[float]:
    values = part.upper if isinstance(part, Enclosure) else part.value
    return [float(value) for value in values.reshape(-1)]
