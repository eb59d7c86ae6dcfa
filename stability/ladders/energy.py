r"""The rung for this image and every field with the given norms: only energies of x enter.

    sum_k R_{k-1} min( g_k Delta_k^(1/2), s_k, N_k ||z_{k-1} - mean|| )  +  last,    y = A_n z_n,    or
    (sum_k R_{k-1}^2 C_k^2 Delta_k)^(1/2) + sum_k R_{k-1} (gamma_k + g'_k) Delta_k^(1/2)  +  last,
    last = min( N ||z_n - mean||,  g Delta_{n+1}^(1/2) + c_{d/2}(b) r ||grad y|| + |c| sup_e ||e . grad y|| ),

with the constants of the closed form: N_k >= ||[P_k A_{k-1}, L]||, N >= ||A_n L - A_n||, g_k those of the energy forms
||[P_k A_{k-1}, L] z|| <= g_k (||z||^2 - ||A_{k-1} z||^2)^(1/2), g the same without a patch; s_k = ``spectral`` of
z_{k-1}; tau = c + a rest of sup r.
"""

import math
from collections.abc import Sequence

from stability.bounds.depth import ingredients, layer_error
from stability.bounds.field import FieldNorms, c_p
from stability.bounds.form import ClosedForm
from stability.bounds.forms import patch_energy
from stability.bounds.mixed import choices
from stability.bounds.rung import Parts, told
from stability.ladders.closed import of_strided_maps
from stability.ladders.energies import Spectrum
from stability.ladders.spectral import spectral


def energy_terms(
    form: ClosedForm, norms: FieldNorms, spectra: Sequence[Spectrum], lipschitz: Sequence[float], norm_x: float
) -> Parts:
    """The addends of the rung in the unit of ||x||: layers, last pooling, mean removal, aliasing.

    Args:
        form: the closed form of the same field, with its constants.
        norms: of the field.
        spectra: of F z_0, z_1, ..., z_n.
        lipschitz: rho_1, ..., rho_n.
        norm_x: ||x||, which multiplies what the closed form adds for strides.

    Returns:
        Terms by name, and what gave them; infinite where the closed form is not covered.
    """
    gain = math.prod(lipschitz)
    if not form.terms or math.isinf(gain):
        return Parts({"not covered": math.inf}, "none")
    layers, forms = {}, []
    for k, row in enumerate(form.constants["layers"], start=1):
        before, factor = spectra[k - 1], math.prod(lipschitz[k - 1 :])
        found = {"centred norms": row["bound"] * before.centred}
        if math.isfinite(row["energy"]):
            shift = norms.weighted_jacobian * row["spread"] / before.sigma
            found["removed energy"] = row["energy"] * before.removed
            found["spectral"] = spectral(before, choices(norms), shift) if norms.jacobian else 0.0
        which = min(found, key=lambda name: found[name])
        forms.append(which)
        layers[f"layer {k}"] = factor * found[which] if found[which] else 0.0
    separate = Parts(layers, told("layer by layer", forms))
    terms, words = min(
        (separate, _depth_free(form, norms, spectra, lipschitz)), key=lambda parts: math.fsum(parts.terms.values())
    )
    by_norm = min(value for name, value in form.constants.items() if name in ("last", "last, split"))
    terms["last pooling"] = pooled_change(norms, spectra[-1], by_norm)
    for term in form.terms:
        if term.name == "mean removal":  # ||mean(L x_c)|| <= this times ||x_c||
            terms[term.name] = float(term.value) * spectra[0].centred
        elif term.name.startswith("aliasing"):
            terms[term.name] = of_strided_maps(form) * float(term.value) * norm_x
    return Parts(terms, words)


def _depth_free(form: ClosedForm, norms: FieldNorms, spectra: Sequence[Spectrum], lipschitz: Sequence[float]) -> Parts:
    """(sum_k R_{k-1}^2 C_k^2 Delta_k)^(1/2) + sum_k R_{k-1} (gamma_k + g_k) Delta_k^(1/2) in its smallest form."""
    found = [Parts({"layers together": math.inf}, "none")]
    rows = list(zip(form.constants["layers"], spectra[:-1], strict=True))
    if all(before.sigma > 0 for _, before in rows):
        sizes = [math.prod(lipschitz[k:]) * before.removed for k, (_, before) in enumerate(rows)]
        for part in ingredients(norms):
            errors = [layer_error(part, before.sigma, row["spread"]) for row, before in rows]
            common = math.hypot(*(error.factor * size for error, size in zip(errors, sizes, strict=True)))
            growth = math.fsum(error.growth * size for error, size in zip(errors, sizes, strict=True) if size)
            parts = {"layers together": common, f"growth ({part.form})": growth}
            found.append(Parts(parts, told("depth-free", [part.form])))
    return min(found, key=lambda parts: math.fsum(parts.terms.values()))


def pooled_change(norms: FieldNorms, spectrum: Spectrum, by_norm: float) -> float:
    """The least bound of ||(A L - A) z||, in the unit of ||z||.

    Args:
        norms: of the field.
        spectrum: of z, with the scale of A.
        by_norm: a bound of ||A L - A||.
    """
    bounds = [by_norm * spectrum.centred]
    if spectrum.sigma > 0:
        disturbed = patch_energy(norms, spectrum.sigma, 0.0).value * spectrum.removed
        moved = c_p(norms.d / 2, norms.jacobian)
        bounds.append(disturbed + moved * norms.displacement * spectrum.gradient)
        if norms.jacobian > 0:
            shift = norms.displacement_path * norms.displacement / spectrum.sigma
            bounds.append(spectral(spectrum, choices(norms), shift))
        if math.isfinite(norms.residual):
            bounds.append(disturbed + moved * norms.residual * spectrum.gradient + spectrum.translated(norms.mean))
    if norms.jacobian == 0:
        bounds.append(spectrum.translated(norms.displacement))
    return min(bounds)
