r"""Translations and rigid motions: a grid of them needs no search and no gradient."""

import math
from dataclasses import dataclass

import torch

from stability.deformations.affine import AffineField
from stability.deformations.base import Deformation
from stability.deformations.translation import Translation
from stability.search.candidates import Candidates

MARGIN = 1 - 1e-9
"""Distance kept from the norms."""

MOST = 200_000
"""Fields of a grid."""


@dataclass(frozen=True)
class Translations(Candidates):
    """tau = c on a polar grid: |c| = a k / radii, k = 1, ..., radii, in equally spaced directions.

    Args:
        angles: directions; two for signals, whatever is asked for.
        radii: lengths.
    """

    angles: int = 64
    radii: int = 3

    def __post_init__(self) -> None:
        _check(angles=self.angles, radii=self.radii)
        _check_total(self.angles * self.radii)

    def fields(self, size: tuple[int, ...], displacement_norm: float, jacobian_norm: float) -> Deformation:
        """All of them, batch shape ``(angles radii,)``."""
        lengths = displacement_norm * MARGIN * torch.arange(1, self.radii + 1, dtype=torch.float64) / self.radii
        directions = _directions(self.angles, len(size))
        return Translation((lengths[:, None, None] * directions).flatten(0, 1), size)


@dataclass(frozen=True)
class RigidMotions(Candidates):
    """A rotation about the window's centre, then a translation that fills up a: a grid of both.

    A rotation by theta has sup ||grad tau||_2 = 2 |sin(theta / 2)| and is largest at the window's corners. These fields
    do not vanish at the border: no theorem of the torus covers them.

    Args:
        rotations: angles theta >= 0, equally spaced up to the largest that both norms allow; both signs of each.
        angles: directions of the translation.
        radii: lengths of the translation, up to what the rotation leaves of a; no translation counts as one more.
    """

    rotations: int = 8
    angles: int = 16
    radii: int = 2

    def __post_init__(self) -> None:
        _check(angles=self.angles, radii=self.radii, rotations=self.rotations)
        _check_total((2 * self.rotations + 1) * (self.radii + 1) * self.angles)

    def fields(self, size: tuple[int, ...], displacement_norm: float, jacobian_norm: float) -> Deformation:
        """All of them, one batch.

        Raises:
            ValueError: for signals.
        """
        if len(size) != 2:
            raise ValueError(f"rigid motions need images (H, W), got size {size}; use Translations()")
        corner = math.hypot(*size) / 2
        chord = min(jacobian_norm, displacement_norm / corner, 2.0) * MARGIN  # 2 sin(theta / 2)
        angles = 2 * math.asin(chord / 2) * torch.arange(self.rotations + 1, dtype=torch.float64) / self.rotations
        angles = torch.cat([angles, -angles[1:]])  # (R,)
        room = displacement_norm * MARGIN - 2 * (angles / 2).sin().abs() * corner
        lengths = room.clamp_min(0.0)[:, None] * torch.arange(self.radii + 1, dtype=torch.float64) / self.radii
        offsets = lengths[..., None, None] * _directions(self.angles, 2)  # (R, radii + 1, angles, 2)
        cosine, sine = angles.cos(), angles.sin()
        matrix = torch.stack([torch.stack([1 - cosine, -sine], -1), torch.stack([sine, 1 - cosine], -1)], -2)
        rows = offsets.flatten(0, 2)
        return AffineField(matrix.repeat_interleave(rows.shape[0] // len(angles), 0), rows, size=size)


def _directions(count: int, d: int) -> torch.Tensor:
    """Unit vectors, ``(count, d)``; +1 and -1 for d = 1."""
    if d == 1:
        return torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    phase = 2 * math.pi * torch.arange(count, dtype=torch.float64) / count
    return torch.stack([phase.cos(), phase.sin()], -1)


def _check(**numbers: int) -> None:
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {value!r}; use 8")


def _check_total(total: int) -> None:
    if total > MOST:
        raise ValueError(f"a grid must have at most {MOST} fields, got {total}; ask for fewer angles or radii")
