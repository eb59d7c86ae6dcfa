r"""The theorem as a calculator: ||Phi(L_tau x) - Phi(x)|| <= value ||x|| for every x and every tau with these norms.

    sum:         sum_k R_{k-1} ||[P_k A_{k-1}, L]|| + ||A_n L - A_n||
    quadrature:  (sum_k R_{k-1}^2 g_k^2 + ||A_n L - A_n||^2)^(1/2)
    depth-free:  ((max_k R_{k-1} C_k + Gamma)^2 + ||A_n L - A_n||^2)^(1/2), see ``stability.bounds.depth``

with R_{k-1} = prod_{j >= k} rho_j and ||[P_k A_{k-1}, L] z|| <= g_k (||z||^2 - ||A_{k-1} z||^2)^(1/2): what one pooling
removes no later one can see. The smallest one is the value. Proofs: docs/theory.md, docs/theory-depth.md.

Reference: Bietti & Mairal 2019, stability theorem (the sum, without numerical constants).
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from stability.architecture import Architecture
from stability.boundaries import Zero
from stability.bounds.border import folds, not_covered, uncovered
from stability.bounds.combine import combine
from stability.bounds.field import FieldNorms, field_norms, non_negative
from stability.bounds.form import ClosedForm
from stability.bounds.hoelder import given_lipschitz
from stability.bounds.rows import times
from stability.bounds.rung import Scope, Term
from stability.kernels import Linear


def closed_form(
    architecture: Architecture,
    *,
    displacement_norm: float,
    jacobian_norm: float,
    hessian_norm: float | None = None,
    mean_displacement: float = 0.0,
    residual_displacement: float | None = None,
    divergence_norm: float | None = None,
    volume_preserving: bool = False,
    d: int = 2,
    lipschitz: Sequence[float] | None = None,
    centred_norm: float = 1.0,
    vanishing_border: float | None = None,
    keeps_zero: bool = True,
) -> ClosedForm:
    """||Phi(L_tau x) - Phi(x)|| / ||x|| from the norms of tau alone.

    Args:
        architecture: the network; its kernels preserve norms, as all of ``stability.kernels`` do.
        displacement_norm: a = sup |tau| in pixels.
        jacobian_norm: b = sup of the spectral norm of grad tau; >= 1 is not covered (value infinity).
        hessian_norm: H per pixel, or None if unknown.
        mean_displacement: |c| of a constant c to split off, in pixels, and
        residual_displacement: sup |tau - c|; None: unknown, nothing is split off.
        divergence_norm: sup |div tau|, or None if unknown.
        volume_preserving: whether det(I - grad tau) = 1 everywhere.
        d: 1 or 2.
        lipschitz: rho_1, ..., rho_n >= 0 of pointwise layers that take the place of the kernel maps and need not
            preserve norms (spectral norms of a ``CNN``). The bound is then prod rho times that for rho = 1.
        centred_norm: at least ||x - mean x|| / ||x|| of the images that the bound is for; 1: every image. Below 1 the
            combinations ", centred" are tried too: prod rho times the bound for rho = 1, times this number.
        vanishing_border: width in pixels of the strip along the image's border in which tau = 0; 0: at the border
            only; None: it need not vanish. Asked for with the boundary ``Zero()``: covered is a tau that vanishes as
            far from the border as patches reach (``Architecture.patch_reach``); no constant is split off then.
        keeps_zero: whether the layers of ``lipschitz`` map 0 to 0, which ``Zero()`` asks for too.

    Raises:
        ValueError: if a norm is negative, NaN or no number, or the architecture is none.

    >>> from stability.architecture import Architecture
    >>> bound = closed_form(Architecture.dyadic(depth=2, subsampling=1), displacement_norm=1.0, jacobian_norm=0.1)
    >>> round(bound.value, 4), bound.combination, str(bound.status)
    (0.3713, 'quadrature', 'proof, numerically evaluated')
    >>> round(closed_form(Architecture.dyadic(depth=2), displacement_norm=4.0, jacobian_norm=0.0).terms[-1].value, 4)
    0.0203
    >>> arch = Architecture.dyadic(depth=2, subsampling=1)
    >>> round(closed_form(arch, displacement_norm=1.0, jacobian_norm=0.1, lipschitz=(2.0, 0.5)).value, 4)
    0.3713
    """
    if not isinstance(architecture, Architecture):
        raise ValueError(
            f"architecture must be an Architecture, got {architecture!r}; use Architecture.dyadic(depth=3)"
        )
    norms = field_norms(
        displacement_norm=displacement_norm,
        jacobian_norm=jacobian_norm,
        hessian_norm=hessian_norm,
        mean_displacement=mean_displacement,
        residual_displacement=residual_displacement,
        divergence_norm=divergence_norm,
        volume_preserving=volume_preserving,
        d=d,
    )
    return form_of(
        architecture,
        norms,
        lipschitz=lipschitz,
        centred_norm=centred_norm,
        vanishing_border=vanishing_border,
        keeps_zero=keeps_zero,
    )


def form_of(
    architecture: Architecture,
    norms: FieldNorms,
    *,
    lipschitz: Sequence[float] | None = None,
    centred_norm: float = 1.0,
    vanishing_border: float | None = None,
    keeps_zero: bool = True,
) -> ClosedForm:
    """``closed_form`` for norms that are together already.

    Args:
        architecture: the network.
        norms: of tau.
        lipschitz: as in ``closed_form``, like all that follow.

    Raises:
        ValueError: for a constant, a width or a share that is out of range.
    """
    border = None if vanishing_border is None else non_negative("vanishing_border", vanishing_border)
    centred = non_negative("centred_norm", centred_norm)
    if centred > 1:
        raise ValueError(f"centred_norm must be at most 1, got {centred_norm!r}; 1 stands for every image")
    given, b = None if lipschitz is None else given_lipschitz(architecture, lipschitz), norms.jacobian
    if b >= 1:
        return uncovered(folds(b), norms)
    reason = not_covered(architecture, border, keeps_zero)
    if isinstance(architecture.boundary, Zero):
        norms = replace(norms, mean=0.0, residual=math.inf)  # a constant does not vanish at the border
        centred = 1.0  # nor does it pass through the layers as a constant
    if reason:
        return uncovered(reason, norms, (1 + norms.warp) * math.prod(given or ()))
    if given is not None:
        return _scaled(combine(architecture.replace("layers.*.kernel", Linear()), norms), given, centred)
    form = combine(architecture, norms)
    return form if centred == 1 or math.inf in architecture.lipschitz else _centred(architecture, norms, form, centred)


def _centred(architecture: Architecture, norms: FieldNorms, form: ClosedForm, centred: float) -> ClosedForm:
    """The smaller one of the bound in ||x|| and prod rho times that for rho = 1 in ||x - mean x||.

    On the torus constants pass through every layer as constants, so that ||z_k - mean z_k|| never exceeds
    rho_1 ... rho_k ||x - mean x||, and no operator of the theorem sees them.
    """
    flat = combine(architecture.replace("layers.*.kernel", Linear()), norms)
    other = _scaled(flat, architecture.lipschitz, centred)
    both = {**form.alternatives, **other.alternatives}
    chosen = other if other.value < form.value else form
    return replace(chosen, alternatives=both, trivial_norms=form.trivial_norms)


def _scaled(form: ClosedForm, rho: tuple[float, ...], centred: float = 1.0) -> ClosedForm:
    """prod rho times a bound for rho = 1: Phi / prod rho is a network of the maps y -> M_k(R y) / (R rho_k).

    R = rho_1 ... rho_{k-1}; these maps are 1-Lipschitz and vanish at 0, all that the theorem asks. For rho_k < 1 the
    factor of the terms before layer k is less than 1 as well: ||z_{k-1}|| <= R ||x||. The same without the means.
    """
    gain, suffix = math.prod(rho) * centred, ", centred" if centred < 1 else ""
    rows = [row | {"rho": own, "R": math.prod(rho)} for row, own in zip(form.constants["layers"], rho, strict=True)]
    return replace(
        form,
        value=times(form.value, gain),  # gain = 0: the network is constant, whatever else is infinite
        combination=form.combination + suffix,
        scope=Scope(every_image=centred == 1, every_field=True),
        trivial_norms=math.prod(rho) * form.trivial_norms,
        terms=tuple(Term(term.name, times(float(term.value), gain)) for term in form.terms),
        alternatives={name + suffix: times(value, gain) for name, value in form.alternatives.items()},
        constants={**form.constants, "layers": tuple(rows)},
    )
