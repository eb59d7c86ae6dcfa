r"""The strength contract: which sup norms a randomly drawn field is given.

One uniform number s in (0, 1] per sample fixes both norms, a = a_0 + s (a_1 - a_0) and b = b_0 + s (b_1 - b_0): each is
uniform in its range, and b / a is monotone in s, so that what the ends of the ranges can reach, all of it can.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor

Range = tuple[float, float]
"""(low, high)."""

Value = float | Range
"""One number, or a range from which every sample draws its own."""


@dataclass(frozen=True)
class Pixels:
    """A length in pixels.

    Args:
        value: a number, or a range (low, high): uniform per sample.

    Raises:
        ValueError: for numbers that are negative, not finite or in the wrong order, and if the largest is 0.

    >>> Pixels((0.5, 2.0)).within((64, 96))
    (0.5, 2.0)
    """

    value: Value

    def __post_init__(self) -> None:
        as_range("displacement_norm", self.value)

    def within(self, size: tuple[int, ...]) -> Range:
        """(low, high) in pixels for images of this size."""
        return as_range("displacement_norm", self.value)


@dataclass(frozen=True)
class Share:
    """A length as a share of the image's shorter side: the same deformation at every resolution.

    Args:
        value: a number, or a range (low, high): uniform per sample.

    Raises:
        ValueError: as ``Pixels``.

    >>> Share(0.05).within((64, 96))
    (3.2, 3.2)
    """

    value: Value

    def __post_init__(self) -> None:
        as_range("displacement_norm", self.value)

    def within(self, size: tuple[int, ...]) -> Range:
        """(low, high) in pixels for images of this size."""
        low, high = as_range("displacement_norm", self.value)
        return low * min(size), high * min(size)


Length = Value | Pixels | Share
"""A plain number, or a range of plain numbers, means pixels."""


@dataclass(frozen=True)
class Strength:
    """The norms asked for.

    Args:
        displacement: of a = sup |tau|; None: follows from the field.
        jacobian: (low, high) of b = sup ||grad tau||, dimensionless; None: likewise.
    """

    displacement: Pixels | Share | None
    jacobian: Range | None

    @classmethod
    def of(cls, displacement_norm: Length | None, jacobian_norm: Value | None, *, injective: bool) -> Self:
        """The norms as people write them.

        Raises:
            ValueError: if both are None, a number does not make sense, or maps are promised to be injective and
                jacobian_norm reaches 1.

        >>> Strength.of(2.0, (0.1, 0.3), injective=True)
        Strength(displacement=Pixels(value=2.0), jacobian=(0.1, 0.3))
        """
        if displacement_norm is None and jacobian_norm is None:
            raise ValueError(
                "displacement_norm or jacobian_norm must be given, got neither; use displacement_norm=Share(0.05)"
            )
        if displacement_norm is not None and not isinstance(displacement_norm, Pixels | Share):
            displacement_norm = Pixels(displacement_norm)
        jacobian = None if jacobian_norm is None else as_range("jacobian_norm", jacobian_norm)
        if jacobian is not None and injective and jacobian[1] >= 1:
            raise ValueError(
                f"jacobian_norm must be below 1 where maps must not fold, got {jacobian[1]}; ask for less, or pass "
                "injective=False"
            )
        return cls(displacement_norm, jacobian)

    def ends(self, size: tuple[int, ...]) -> tuple[tuple[float | None, float | None], ...]:
        """(a, b) for s = 0 and s = 1, a in pixels."""
        a = (None, None) if self.displacement is None else self.displacement.within(size)
        b = (None, None) if self.jacobian is None else self.jacobian
        return tuple(zip(a, b, strict=True))

    def requests(self, size: tuple[int, ...], s: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """A and b per sample, of the shape of s: numbers in (0, 1]."""
        (a_0, b_0), (a_1, b_1) = self.ends(size)
        return _between(a_0, a_1, s), _between(b_0, b_1, s)


def as_range(name: str, value: object) -> Range:
    """(low, high) of a number or a pair of numbers, 0 <= low <= high, high > 0.

    Raises:
        ValueError: for anything else.
    """
    ends = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value, value)
    if len(ends) != 2 or not all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends):
        raise ValueError(f"{name} must be a number or a range (low, high), got {value!r}; use (0.0, 2.0)")
    low, high = (float(end) for end in ends)
    if not (math.isfinite(low) and math.isfinite(high)) or low < 0 or high <= 0:
        raise ValueError(f"{name} must be finite and positive, got {value!r}; for no deformation use p=0.0")
    if low > high:
        raise ValueError(f"{name} must be a range with low <= high, got {value!r}; swap the ends")
    return low, high


def _between(low: float | None, high: float | None, s: Tensor) -> Tensor | None:
    return None if low is None or high is None else low + (high - low) * s
