r"""Fixed invariance: one sigma_0, one sigma_n, and the size of the patches decides how many layers lie between them.

With patches as large as the scale they reach, |c| <= kappa sigma_{k-1} and sigma_k = kappa sigma_{k-1},

    n(kappa) = log(sigma_n / sigma_0) / log(kappa),

so that small patches need many layers. Published constants grow like kappa^(d+1) and prefer kappa = e^(1/(d+1)) (to
leading order in n); constants that grow linearly with kappa prefer larger ones, and the depth-free bound the smallest.

Reference: Bietti & Mairal 2019 (the argument, with kappa^(d+1)).
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from stability.bounds.constants import DIVERGENCE, SLOPE
from stability.bounds.depth import Ingredients, ingredients, layer_error
from stability.bounds.field import FieldNorms, contraction, non_negative
from stability.bounds.forms import last_pooling, patch_energy
from stability.bounds.patches import c1

RMS = 3**-0.5
"""Root-mean-square over largest offset of a continuous square patch, in every dimension."""
FORMS = ("power", "linear", "quadrature", "depth_free")


class Invariance(NamedTuple):
    """The bounds at one patch size, in units of ||x||.

    Args:
        kappa: largest patch offset over sigma_{k-1}, and sigma_k / sigma_{k-1}.
        layers: n(kappa), a real number.
        power: C1 (1 + n) b + C2 a / sigma_n with C1 proportional to kappa^(d+1), equal to ``linear`` at kappa = 1:
            the shape of published constants, their size unknown.
        linear: the same with C1 of ``bounds.c1``, linear in kappa.
        quadrature: the square-root-of-n theorem.
        depth_free: the depth-free theorem.
    """

    kappa: float
    layers: float
    power: float
    linear: float
    quadrature: float
    depth_free: float


def layers_between(sigma_0: float, sigma_n: float, kappa: float) -> float:
    """n(kappa) = log(sigma_n / sigma_0) / log(kappa).

    Args:
        sigma_0: first scale in pixels, > 0.
        sigma_n: last scale in pixels, > sigma_0.
        kappa: ratio of one scale to the one before, > 1.

    Raises:
        ValueError: if the scales do not grow.

    >>> round(layers_between(1.0, 8.0, 2.0), 12)
    3.0
    """
    first, final, kappa = (
        non_negative(name, value) for name, value in (("sigma_0", sigma_0), ("sigma_n", sigma_n), ("kappa", kappa))
    )
    if not (0 < first < final < math.inf):
        raise ValueError(
            f"sigma_0 must be positive and below sigma_n, got {sigma_0!r} and {sigma_n!r}; use 1.0 and 8.0"
        )
    if not 1 < kappa < math.inf:
        raise ValueError(f"kappa must be > 1 for scales to grow, got {kappa!r}; use for example 2.0")
    return math.log(final / first) / math.log(kappa)


def fixed_invariance(kappa: float, *, sigma_0: float, sigma_n: float, field: FieldNorms) -> Invariance:
    """Every bound between sigma_0 and sigma_n with patches of size kappa; rho = 1, no strides, n real.

    Args:
        kappa: > 1; patches have the root-mean-square offset kappa sigma_{k-1} / sqrt(3), as continuous squares.
        sigma_0: first scale in pixels.
        sigma_n: last scale in pixels.
        field: the norms of tau, b < 1.

    Raises:
        ValueError: if the scales do not grow or b >= 1.

    >>> row = fixed_invariance(2.0, sigma_0=1.0, sigma_n=8.0, field=FieldNorms(0.0, 0.1, volume_preserving=True))
    >>> round(row.layers, 6), round(row.linear, 3), round(row.depth_free, 3)
    (3.0, 0.959, 0.245)
    """
    n, b, d = layers_between(sigma_0, sigma_n, kappa), contraction(field.jacobian), field.d
    last = last_pooling(field, sigma_n, field.displacement).value
    moved = SLOPE * field.displacement_path * field.displacement / sigma_n
    kappa_rms = RMS * kappa
    # (sum of the squares of sigma_0, ..., sigma_{n-1})^(1/2): a geometric series, its formula for real n
    scales = math.sqrt((sigma_n**2 - sigma_0**2) / (kappa**2 - 1))
    energies = [math.sqrt(n) * patch_energy(replace(field, hessian=math.inf), 1.0, kappa_rms).value]
    if math.isfinite(field.hessian) and b:
        flat = patch_energy(replace(field, hessian=0.0), 1.0, kappa_rms).value
        bend = d * field.hessian / (1 - b) ** 2 * field.warp / 2
        energies.append(math.sqrt(n) * flat + scales * bend)  # Minkowski's inequality over the layers
    free = [
        layer_error(part, 1.0, kappa_rms).factor + _growth(part, kappa_rms, n, scales) for part in ingredients(field)
    ]
    return Invariance(
        kappa=kappa,
        layers=n,
        power=c1(RMS, b, d) * kappa ** (d + 1) * (1 + n) * b + moved,
        linear=c1(kappa_rms, b, d) * (1 + n) * b + moved,
        quadrature=math.hypot(min(energies), last),
        depth_free=math.hypot(min(free), last),
    )


def over_layers(most: int, *, sigma_0: float, sigma_n: float, field: FieldNorms) -> tuple[Invariance, ...]:
    """``fixed_invariance`` for n = 1, ..., most layers: kappa = (sigma_n / sigma_0)^(1/n).

    Args:
        most: largest number of layers, >= 1.
        sigma_0: first scale in pixels.
        sigma_n: last scale in pixels.
        field: the norms of tau, b < 1.

    Raises:
        ValueError: if ``most`` is no integer >= 1, or as in ``fixed_invariance``.

    >>> rows = over_layers(8, sigma_0=1.0, sigma_n=8.0, field=FieldNorms(0.0, 0.1))
    >>> [round(best_layers(rows, form).layers) for form in ("power", "linear", "quadrature")]
    [7, 2, 2]
    """
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise ValueError(f"most must be an integer >= 1, got {most!r}; use for example 8")
    layers_between(sigma_0, sigma_n, 2.0)
    ratio = sigma_n / sigma_0
    found = (
        fixed_invariance(ratio ** (1 / n), sigma_0=sigma_0, sigma_n=sigma_n, field=field) for n in range(1, most + 1)
    )
    return tuple(row._replace(layers=float(n)) for n, row in enumerate(found, start=1))


def best_layers(rows: Sequence[Invariance], form: str) -> Invariance:
    """The row where one form is smallest; the first among equals.

    Args:
        rows: one or more.
        form: one of ``FORMS``.

    Raises:
        ValueError: if there is no such form.
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}; use for example {FORMS[0]!r}")
    return min(rows, key=lambda row: float(getattr(row, form)))


def to_text(rows: Sequence[Invariance]) -> str:
    """A table to read: one line per row, and where each form is smallest."""
    head = ["n", "kappa", *FORMS]
    cells = [[f"{row.layers:g}", *(f"{value:.4g}" for value in (row.kappa, *row[2:]))] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    lines = ["  ".join(map(str.rjust, line, widths)) for line in (head, *cells)]
    for form in FORMS:
        least = best_layers(rows, form)
        end = " (the last one)" if least is rows[-1] and len(rows) > 1 else ""
        lines.append(f"{form}: smallest at n = {least.layers:g}, kappa = {least.kappa:.3g}{end}")
    return "\n".join(lines)


def _growth(part: Ingredients, kappa_rms: float, n: float, scales: float) -> float:
    """At least Gamma: what is proportional to sigma_k sums to ``scales``, what is not to n^(1/2) (Minkowski)."""
    root = math.sqrt(n)
    patch = min(scales * kappa_rms * part.slope, root * part.jump) if part.jump else 0.0
    bend = scales * part.bend / 2 if part.bend else 0.0
    return root * DIVERGENCE * part.volume + bend + kappa_rms * patch / (2 * math.sqrt(part.d))
