"""A displacement field as arrays: what its pictures are drawn from."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from stability.deformations.base import Deformation

Array = npt.NDArray[Any]

NODES = (192, 256)
"""Intervals along the longer side, at least and at most; between them one a pixel."""
CURVE = 2048
"""Intervals of a curve, at least; beyond them four a pixel."""
PIECE = 8192
"""Points that are evaluated at once."""
LINES = 16
"""Lines of a deformed grid along the longer side, at most."""
FLAT = 1e-9
"""A determinant this close to zero has no sign."""


@dataclass(frozen=True)
class Sampled:
    """tau and grad tau on a grid over the domain, borders included.

    Args:
        axes: coordinates along (x, y) or (x,), in px.
        displacement: ``(*grid, d)`` in px; a grid of a plane has rows along y.
        jacobian: ``(*grid, d, d)``, [i, j] = d tau_i / d u_j.
    """

    axes: tuple[Array, ...]
    displacement: Array
    jacobian: Array

    @property
    def length(self) -> Array:
        """|tau| in px."""
        return np.linalg.norm(self.displacement, axis=-1)

    @property
    def steepness(self) -> Array:
        """||grad tau||_2: (|conformal part| + |anticonformal part|) / 2 for d = 2."""
        if len(self.axes) == 1:
            return np.abs(self.jacobian[..., 0, 0])
        (a, b), (c, d) = np.moveaxis(self.jacobian, (-2, -1), (0, 1))
        return (np.hypot(a + d, c - b) + np.hypot(a - d, b + c)) / 2

    @property
    def determinant(self) -> Array:
        """det(I - grad tau)."""
        return np.linalg.det(np.eye(len(self.axes)) - self.jacobian)

    @property
    def folds(self) -> bool:
        """Whether the determinant takes both signs."""
        return bool(self.determinant.min() < -FLAT and self.determinant.max() > FLAT)


def extent(field: "Deformation") -> tuple[tuple[float, float], ...]:
    """Borders of the domain along (x, y) or (x,), in px; a torus is cut half a pixel before the first centre."""
    edge = float(getattr(field.domain, "edge", 0.5))
    return tuple((-edge, side - edge) for side in reversed(field.size))


def sample(field: "Deformation", counts: tuple[int, ...] | None = None) -> Sampled:
    """A single field on a grid over its domain.

    Args:
        field: batch shape ``()``.
        counts: intervals along (x, y) or (x,); None: enough for a picture.
    """
    counts = _enough(field.size) if counts is None else counts
    axes = tuple(np.linspace(low, high, n + 1) for (low, high), n in zip(extent(field), counts, strict=True))
    points = np.stack(np.meshgrid(*axes), axis=-1)
    displacement, jacobian = values(field, points)
    return Sampled(axes, displacement, jacobian)


def values(field: "Deformation", points: Array) -> tuple[Array, Array]:
    """tau ``(..., d)`` and grad tau ``(..., d, d)`` of a single field at points ``(..., d)``, in pieces."""
    shape, d = points.shape[:-1], points.shape[-1]
    flat = points.reshape(-1, d)
    found: tuple[list[Array], list[Array]] = ([], [])
    for piece in np.array_split(flat, math.ceil(len(flat) / PIECE)):
        at = field.mean.detach().new_tensor(piece)
        for one, kept in zip((field.displacement(at), field.jacobian(at)), found, strict=True):
            kept.append(one.detach().double().cpu().numpy())
    return np.concatenate(found[0]).reshape(*shape, d), np.concatenate(found[1]).reshape(*shape, d, d)


def spacing(size: tuple[int, ...]) -> float:
    """Distance of the lines of a deformed grid in px: a power of two.

    >>> spacing((32, 32)), spacing((28, 28)), spacing((100, 60))
    (2.0, 2.0, 8.0)
    """
    return float(2.0 ** math.ceil(math.log2(max(size) / LINES)))


def grid_lines(sampled: Sampled, spacing: float) -> tuple[list[Array], list[Array]]:
    """Columns and rows of the deformed grid, {u : (u - tau(u))_i in spacing Z}, as polygonal lines ``(n, 2)``."""
    scratch = Figure().subplots()
    found: tuple[list[Array], list[Array]] = ([], [])
    for i, x in enumerate(np.meshgrid(*sampled.axes)):
        content = x - sampled.displacement[..., i]
        levels = np.arange(math.ceil(content.min() / spacing), math.floor(content.max() / spacing) + 1) * spacing
        if len(levels):
            lines = scratch.contour(*sampled.axes, content, levels=levels).allsegs
            found[i].extend(line for level in lines for line in level if len(line) > 1)
    return found


def _enough(size: tuple[int, ...]) -> tuple[int, ...]:
    longer = max(size)
    if len(size) == 1:
        return (max(CURVE, 4 * longer),)
    finest = min(max(longer, NODES[0]), NODES[1])
    return tuple(max(2, round(finest * side / longer)) for side in reversed(size))
