r"""What sampling on a coarser grid adds. All sums over aliases factorise into one-dimensional ones.

Q interpolates the samples at spacing S band-limitedly; f = A z with A of scale sigma. Only sigma / S matters:

    theta(w) = sum_m exp(-(sigma/S)^2 (w + 2 pi m)^2),    w in [-pi, pi] the frequency times S.
"""

import math

from stability.bounds.field import dimension, non_negative

POINTS = 65


def aliasing(pooling_scale: float, spacing: float, d: int = 2) -> float:
    """||Q A - A|| <= (q + sup_omega sum_{m != 0} exp(-sigma^2 |omega + 2 pi m / S|^2))^(1/2).

    q = exp(-pi^2 sigma^2 / S^2): what A leaves outside the cube |omega|_inf < pi / S. The sum: what folds into it.

    Args:
        pooling_scale: sigma of A in pixels; 0 gives infinity (sampling is no bounded operator on L2).
        spacing: S of the coarser grid in pixels, > 0.
        d: 1 or 2.

    >>> [round(aliasing(sigma, 2.0), 6) for sigma in (1.0, 2.0, 4.0)]
    [0.411859, 0.010171, 0.0]
    """
    ratio, d = _ratio(pooling_scale, spacing), dimension(d)
    if ratio == 0:
        return math.inf
    inside, folded = zip(*(_theta(ratio, math.pi * i / (POINTS - 1)) for i in range(POINTS)), strict=True)
    if d == 1:
        fold = max(folded)
    else:
        fold = max(
            inside[i] * folded[j] + folded[i] * (inside[j] + folded[j]) for i in range(POINTS) for j in range(i, POINTS)
        )
    return math.sqrt(math.exp(-((math.pi * ratio) ** 2)) + fold)


def interpolation_gain(pooling_scale: float, spacing: float, d: int = 2) -> float:
    """||Q A|| = theta(0)^(d/2): theta is largest at 0, its cosine coefficients (Poisson) being positive.

    Args:
        pooling_scale: sigma of A in pixels; 0 gives infinity.
        spacing: S in pixels, > 0.
        d: 1 or 2.

    >>> interpolation_gain(2.0, 2.0)
    1.0
    """
    ratio, d = _ratio(pooling_scale, spacing), dimension(d)
    return sum(_theta(ratio, 0.0)) ** (d / 2) if ratio else math.inf


def sampling_gain(sigma: float, spacing_before: float, spacing_after: float, d: int = 2) -> float:
    """sup_omega (sum over the s^d aliases of exp(-sigma^2 |omega_m|^2))^(1/2): norm of "pool, then subsample by s".

    Both norms weight the samples with the area of their cell; omega_m is wrapped to the Nyquist cube of the finer grid.

    Args:
        sigma: scale of the pooling in pixels; 0 gives s^(d/2).
        spacing_before: spacing of the finer grid in pixels, > 0.
        spacing_after: a multiple s of it.
        d: 1 or 2.

    >>> sampling_gain(2.0, 1.0, 2.0), sampling_gain(0.0, 1.0, 2.0), round(sampling_gain(0.5, 1.0, 2.0), 4)
    (1.0, 2.0, 1.1142)
    """
    sigma, d = non_negative("sigma", sigma), dimension(d)
    stride = _ratio(spacing_after, spacing_before)
    if stride < 1 or not math.isfinite(stride) or abs(stride - round(stride)) > 1e-9:
        raise ValueError(
            f"spacing_after must be a multiple of spacing_before, got {spacing_after!r} and {spacing_before!r}; "
            "use the grid spacings before and after a stride"
        )
    s, ratio = round(stride), sigma / float(spacing_before)

    def energy(w: float) -> float:  # w: frequency times spacing_before, in [0, pi / s]
        wrapped = (math.remainder(w + 2 * math.pi * j / s, 2 * math.pi) for j in range(s))
        return sum(math.exp(-((ratio * v) ** 2)) for v in wrapped)

    step = math.pi / s / (POINTS - 1)
    peak = max(range(POINTS), key=lambda i: energy(i * step)) * step
    low, high = max(peak - step, 0.0), min(peak + step, math.pi / s)
    value = energy(peak)
    for _ in range(50):  # smooth inside [0, pi / s]: ternary search around the best node
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (left, high) if energy(left) < energy(right) else (low, right)
        value = max(value, energy(left), energy(right))
    return float(value ** (d / 2))


def _ratio(scale: float, spacing: float) -> float:
    """scale / spacing; the spacing must be positive."""
    step = non_negative("spacing", spacing)
    if step == 0:
        raise ValueError(f"spacing must be > 0 pixels, got {spacing!r}; the finest grid has spacing 1")
    return non_negative("scale", scale) / step


def _theta(ratio: float, w: float) -> tuple[float, float]:
    """exp(-(ratio w)^2) and the sum of the same over the aliases w + 2 pi m, m != 0, for |w| <= pi."""
    inside = math.exp(-((ratio * w) ** 2))
    if ratio >= 0.25:
        shifts = (w + sign * 2 * math.pi * m for m in range(1, 6) for sign in (1, -1))
        return inside, sum(math.exp(-((ratio * v) ** 2)) for v in shifts)
    # Poisson: theta(w) = (1 + 2 sum_n exp(-n^2 / (4 ratio^2)) cos(n w)) / (2 sqrt(pi) ratio)
    waves = sum(math.exp(-((n / (2 * ratio)) ** 2)) * math.cos(n * w) for n in range(1, 5))
    return inside, (1 + 2 * waves) / (2 * math.sqrt(math.pi) * ratio) - inside
