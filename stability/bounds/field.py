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


def c_p(p: float, b: float) -> float:
    """c_p(b) = int_0^1 (1 - t b)^(-p) dt: -log(1-b) / b for p = 1, ((1-b)^(1-p) - 1) / ((p-1) b) otherwise.

    Args:
        p: a real number.
        b: in [0, 1); b = 0 gives 1.

    >>> round(c_p(1, 0.5), 4), c_p(0.5, 0.0)
    (1.3863, 1.0)
    """
    b = contraction(b)
    if b < 1e-100:
        return 1.0
    exponent = (1 - p) * math.log1p(-b)
    return -math.log1p(-b) / b * (math.expm1(exponent) / exponent if exponent else 1.0)


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
    def weighted_jacobian(self) -> float:
        """b ||L_tau|| >= sup ||grad tau||_2 D^(-1/2), at most b (1-b)^(-d/2)."""
        return self.jacobian * self.warp

    @property
    def displacement_path(self) -> float:
        """int_0^1 sup det(I - t grad tau)^(-1/2) dt <= c_{d/2}(b); the determinant is >= inf D - b^2 / 4 in d = 2."""
        b, below = self.jacobian, self.density[0] - self.jacobian**2 / 4
        crude = c_p(self.d / 2, b)
        return min(crude, below**-0.5) if self.d == 2 and below > 0 else crude


def field_norms(
    *,
    displacement_norm: float,
    jacobian_norm: float,
    hessian_norm: float | None = None,
    mean_displacement: float = 0.0,
    residual_displacement: float | None = None,
    divergence_norm: float | None = None,
    volume_preserving: bool = False,
    d: int = 2,
) -> FieldNorms:
    """``FieldNorms`` from what a user may know; None: unknown. The arguments are those of ``closed_form``.

    In d = 1, div tau = tau' and only constants preserve length: b is the smaller of the two norms, or 0.

    Raises:
        ValueError: if a norm is negative, NaN or no number, d is neither 1 nor 2, or no field has these norms.

    >>> field_norms(displacement_norm=1.0, jacobian_norm=0.2, divergence_norm=0.1, d=1).jacobian
    0.1
    """
    if not isinstance(volume_preserving, bool):
        raise ValueError(f"volume_preserving must be True or False, got {volume_preserving!r}; the default is False")
    d, b = dimension(d), non_negative("jacobian_norm", jacobian_norm)
    divergence = None if divergence_norm is None else non_negative("divergence_norm", divergence_norm)
    if d == 1:
        b = 0.0 if volume_preserving else min(b, math.inf if divergence is None else divergence)
    a, mean = (
        non_negative("displacement_norm", displacement_norm),
        non_negative("mean_displacement", mean_displacement),
    )
    residual = math.inf
    if residual_displacement is not None:
        residual = non_negative("residual_displacement", residual_displacement)
    if mean > (a + residual) * (1 + 1e-9) + 1e-12:  # |c| <= |tau| + |tau - c|; certified values carry round-off
        raise ValueError(
            f"mean_displacement must be at most displacement_norm + residual_displacement, got {mean:g} > {a:g} + "
            f"{residual:g}; no field has these norms"
        )
    return FieldNorms(
        displacement=a,
        jacobian=b,
        hessian=math.inf if hessian_norm is None else non_negative("hessian_norm", hessian_norm),
        mean=mean,
        residual=residual,
        divergence=divergence,
        volume_preserving=volume_preserving,
        d=d,
    )
