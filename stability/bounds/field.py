"""What a bound may know of a displacement field tau: its norms, checked once."""

import math
from dataclasses import dataclass
from typing import SupportsFloat, cast


def non_negative(name: str, value: object) -> float:
    """The value as a float; ``ValueError`` unless it is a number >= 0 (infinity counts, NaN does not)."""
    try:
        plain = type(value) in (float, int)  # the usual case: asking for the protocol takes longer than the check
        usable = plain or (isinstance(value, SupportsFloat) and not isinstance(value, bool))
        number = float(cast(SupportsFloat, value)) if usable else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if not number >= 0:
        raise ValueError(f"{name} must be a number >= 0, got {value!r}; norms and scales are never negative")
    return number


def contraction(jacobian_norm: object) -> float:
    """b as a float in [0, 1), so that u -> u - tau(u) is a diffeomorphism."""
    b = non_negative("jacobian_norm", jacobian_norm)
    if b >= 1:
        raise ValueError(
            f"jacobian_norm must be in [0, 1) for id - tau to be a diffeomorphism, got {jacobian_norm!r}; "
            "scale the field down"
        )
    return b


def dimension(d: object) -> int:
    """1 or 2."""
    if isinstance(d, bool) or d not in (1, 2):
        raise ValueError(f"d must be 1 or 2, got {d!r}; use d=2 for images and d=1 for signals")
    return int(d)


def density_range(b: float, d: int = 2, divergence_norm: float | None = None) -> tuple[float, float]:
    """Interval of D(u) = det(I - grad tau(u)): [(1-b)^d, (1+b)^d], in d = 2 also [1 - delta - b^2, 1 + delta + b^2].

    Args:
        b: sup_u of the spectral norm of grad tau(u), in [0, 1).
        d: 1 or 2.
        divergence_norm: delta = sup |div tau|, if known.

    >>> low, high = density_range(0.1, 2, divergence_norm=0.02)
    >>> round(low, 4), round(high, 4)
    (0.97, 1.03)
    """
    b, d = contraction(b), dimension(d)
    low, high = (1 - b) ** d, (1 + b) ** d
    if divergence_norm is not None:
        spread = non_negative("divergence_norm", divergence_norm) + (b * b if d == 2 else 0.0)
        low, high = max(low, 1 - spread), min(high, 1 + spread)
    return low, high


@dataclass(frozen=True)
class FieldNorms:
    """The norms of tau on which the bounds depend; suprema over the domain, lengths in pixels.

    Args:
        displacement: a = sup |tau|.
        jacobian: b = sup of the spectral norm of grad tau, in [0, 1).
        hessian: H = sup over unit e of the spectral norm of d_e grad tau, per pixel; infinity if unknown.
        mean: |c| of a constant c that is split off.
        residual: sup |tau - c|.
        divergence: sup |div tau|; None if unknown.
        volume_preserving: whether det(I - grad tau) = 1 everywhere.
        d: 1 or 2.
    """

    displacement: float
    jacobian: float
    hessian: float = math.inf
    mean: float = 0.0
    residual: float = math.inf
    divergence: float | None = None
    volume_preserving: bool = False
    d: int = 2

    @property
    def density(self) -> tuple[float, float]:
        """Interval that contains D(u) = det(I - grad tau(u))."""
        if self.volume_preserving:
            return 1.0, 1.0
        return density_range(self.jacobian, self.d, self.divergence)

    @property
    def warp(self) -> float:
        """||L_tau|| = sup D^(-1/2), at most this; never more than (1-b)^(-d/2)."""
        return float(self.density[0] ** -0.5)

    @property
    def path(self) -> float:
        """(1-b)^(-d/2): the same for every path (1-t) phi(u) + t phi'(u) between two such maps."""
        return float((1 - self.jacobian) ** (-self.d / 2))

    @property
    def weighted_jacobian(self) -> float:
        """b (1-b)^(-d/2)."""
        return self.jacobian * self.path
