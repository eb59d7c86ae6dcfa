"""The temperature of max-entropy displacements and their typical size in pixels, each from the other.

Reference: Petrini, Favero, Geiger & Wyart 2021, Relative stability toward diffeomorphisms indicates performance in deep
nets (the law, its temperature, its range).
"""

import math

import torch
from torch import Tensor


def temperature(typical_displacement: float, cutoff: float, side: int, d: int = 2) -> float:
    """T = 4 delta^2 / (pi n^2 ln c): the temperature at which points move typically by delta.

    Args:
        typical_displacement: delta > 0 in pixels.
        cutoff: c, largest |k|: at least sqrt(2), for d = 1 at least 1.
        side: n, the shorter side in pixels.
        d: 1 or 2. For d = 1 the sum itself is taken, T = 2 delta^2 / (n^2 sum_(k <= c) 1 / k^2).

    Returns:
        T, dimensionless; ``typical_displacement`` is the inverse.

    Raises:
        ValueError: if an argument is out of range.

    >>> round(typical_displacement(temperature(1.5, 3.0, 32), 3.0, 32), 12)
    1.5
    """
    delta = _positive("typical_displacement", typical_displacement, 1.0)
    return (delta / _positive("side", side, 32)) ** 2 / _typical_variance(cutoff, d)


def typical_displacement(temperature: float, cutoff: float, side: int, d: int = 2) -> float:
    """delta, delta^2 = (pi / 4) T n^2 ln c: root mean square of |tau| by the paper's approximation.

    (1 / 4) sum_k T / |k|^2 per component, sin^2 being 1 / 2 on average on each axis, with the sum over a quarter of a
    disc replaced by the integral from 1 to c: (pi / 2) ln c. ``root_mean_square`` keeps the sum: 23 % less at c = 3.

    Args:
        temperature: T > 0, dimensionless.
        cutoff: as in ``temperature``.
        side: n, the shorter side in pixels.
        d: 1 or 2; for d = 1 the sum itself is taken.

    Returns:
        delta in pixels.

    Raises:
        ValueError: if an argument is out of range.

    Reference: Petrini, Favero, Geiger & Wyart 2021.

    >>> round(typical_displacement(1e-3, 3.0, 32), 4)
    0.94
    """
    t = _positive("temperature", temperature, 1e-3)
    return _positive("side", side, 32) * math.sqrt(t * _typical_variance(cutoff, d))


def temperature_range(side: int, cutoff: float) -> tuple[float, float]:
    """T from 1 / (pi n^2 ln c) to 4 / (pi^3 c^2 ln c), where typical fields move points visibly and do not fold, d = 2.

    At the lower end points move typically by half a pixel, at the upper one by n / (pi c), the wave number's inverse.
    Both speak of typical fields: fields below the upper end can fold; ``is_diffeomorphism`` judges those drawn.

    Args:
        side: n, the shorter side in pixels.
        cutoff: c, largest |k|, at least sqrt(2).

    Returns:
        The ends; the first is the larger where c > 2 n / pi, and no temperature is admissible then.

    Raises:
        ValueError: if the cutoff is out of range.

    Reference: Petrini, Favero, Geiger & Wyart 2021.

    >>> [round(end, 6) for end in temperature_range(32, 3.0)]
    [0.000283, 0.013047]
    """
    logarithm = math.log(_check_reach(cutoff, 2))
    return 1 / (math.pi * _positive("side", side, 32) ** 2 * logarithm), 4 / (math.pi**3 * cutoff**2 * logarithm)


def root_mean_square(temperature: float, cutoff: float, side: int, d: int = 2) -> float:
    """n sqrt(d 2^-d T sum_(|k| <= c) 1 / |k|^2): the law's exact root mean square of |tau| over the window.

    Args:
        temperature: T > 0, dimensionless.
        cutoff: c, largest |k|.
        side: n, the shorter side in pixels.
        d: 1 or 2.

    Returns:
        In pixels.

    Raises:
        ValueError: if an argument is out of range.

    >>> round(root_mean_square(1e-3, 3.0, 32), 4)
    0.7244
    """
    t = _positive("temperature", temperature, 1e-3)
    return _positive("side", side, 32) * math.sqrt(t * _variance(cutoff, d))


def _variance(cutoff: float, d: int) -> float:
    """Mean square of |tau| for T = n = 1."""
    squared = half_waves(_check_reach(cutoff, d), d).to(torch.float64).square().sum(-1)
    return d / 2**d * float((1 / squared).sum())


def _typical_variance(cutoff: float, d: int) -> float:
    """The same by the paper's integral for d = 2."""
    return _variance(cutoff, d) if d == 1 else math.pi / 4 * math.log(_check_reach(cutoff, d))


def half_waves(cutoff: float, d: int) -> Tensor:
    """k >= 1 with |k| <= cutoff, ``(M, d)``."""
    axis = torch.arange(1, math.floor(cutoff * (1 + 1e-12)) + 1)
    modes = torch.cartesian_prod(*[axis] * d).reshape(-1, d)
    return modes[modes.square().sum(-1) <= cutoff**2 * (1 + 1e-12)]


def one_temperature(given: float | None, typical: float | None, cutoff: float, side: int, d: int) -> float:
    """The temperature, given itself or by the typical displacement.

    Raises:
        ValueError: unless exactly one of them is given.
    """
    if given is not None and typical is None:
        return _positive("temperature", given, 1e-3)
    if typical is not None and given is None:
        return temperature(typical, cutoff, side, d)
    raise ValueError(
        f"exactly one of temperature and typical_displacement must be given, got {given!r} and {typical!r}; "
        "use typical_displacement=1.0"
    )


def _check_reach(cutoff: float, d: int) -> float:
    if d not in (1, 2):
        raise ValueError(f"d must be 1 or 2, got {d!r}; use d=2 for images")
    least = math.sqrt(d)
    if isinstance(cutoff, bool) or not isinstance(cutoff, int | float) or not least <= cutoff < math.inf:
        raise ValueError(f"cutoff must be at least {least:.6g} half waves, got {cutoff!r}; use cutoff=3")
    return cutoff


def _positive(name: str, value: float, example: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a positive finite number, got {value!r}; use {name}={example:g}")
    return float(value)
