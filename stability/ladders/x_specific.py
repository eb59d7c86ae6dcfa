r"""The rung for this image and this field: how far W commutes with pooling and patches, on the network's own maps.

    ||Phi(W x) - Phi(x)|| <= sum_k R_{k-1} ||[P_k A_{k-1}, W] z_{k-1}|| + ||(A_n W - A_n) z_n||  +  defect,
    defect = sum_k (R_k / rho_k ...) ||A_k (M_k W y_k - W M_k y_k)||,   y_k = P_k A_{k-1} z_{k-1},

for the network as it is sampled and any matrices W on its grids: no allowance but the defect and round-off. With the
strides' gains in R. Stopping at layer j, where W is compared with the identity, is valid for every j.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from stability.representations.stages import Stages, compressed

BOTH = 4.0
"""Norm of a commutator [P A, W] at most: 2 ||W||, and ||W|| is below 2 for the fields that bounds cover."""


@dataclass(frozen=True)
class Telescope:
    """What each step costs when W moves from the image to the output, one image and field, in the unit of ||x||.

    Args:
        commutators: ||[P_k A_{k-1}, W] z_{k-1}||, k = 1 ... n.
        defects: ||A_k (M_k W y_k - W M_k y_k)||, k = 1 ... n.
        ends: ||(A_j W - A_j) z_j||, j = 0 ... n (j = 0: A_0 F).
        hidden: what round-off in the coordinates of an exact kernel may hide of each commutator and of the last end.
        following: G_0, ..., G_n, G_k the Lipschitz constant of all that follows A_k: prod_{j > k} rho_j g_j.
        mapping: g_k rho_k of layer k itself, its kernel map and A_k with its stride, k = 1 ... n.
    """

    commutators: tuple[float, ...]
    defects: tuple[float, ...]
    ends: tuple[float, ...]
    hidden: tuple[float, ...]
    following: tuple[float, ...]
    mapping: tuple[float, ...]

    @property
    def terms(self) -> tuple[float, ...]:
        """Addends of the rung: one per layer, one for the last pooling."""
        layers = (
            _times(g * rho, c) for g, rho, c in zip(self.following[1:], self.mapping, self.commutators, strict=True)
        )
        return (*layers, self.ends[-1])

    @property
    def value(self) -> float:
        """The rung."""
        return math.fsum(self.terms)

    @property
    def defect(self) -> float:
        """The allowance of the rung."""
        return math.fsum(self._defects(len(self.defects)))

    def _defects(self, j: int) -> list[float]:
        return [_times(g, e) for g, e in zip(self.following[1 : j + 1], self.defects[:j], strict=True)]

    @property
    def floor(self) -> float:
        """What round-off may hide of the rung: 0 for a finite network."""
        gains = (g * rho for g, rho in zip(self.following[1:], self.mapping, strict=True))
        return math.fsum(_times(gain, part) for gain, part in zip((*gains, 1.0), self.hidden, strict=True))

    def stopped(self, j: int) -> float:
        """The bound that compares W with the identity after layer j = 0 ... n, without its defects."""
        return math.fsum(self.terms[:j]) + _times(self.following[j], self.ends[j])

    @property
    def early(self) -> tuple[int, float, float]:
        """(j, bound, defect) of the layer to stop at: the smallest sum of both whose bound is not above the rung."""
        sums = [(self.stopped(j), math.fsum(self._defects(j))) for j in range(len(self.ends))]
        j = min((i for i, (bound, _) in enumerate(sums) if not bound > sums[-1][0]), key=lambda i: math.fsum(sums[i]))
        return j, *sums[j]


def telescope(
    stages: Stages, warped: Tensor, warps: dict[int, Tensor], lipschitz: tuple[float, ...], gains: tuple[float, ...]
) -> Telescope:
    """Every step of the telescoped sum, from the maps of one image.

    Args:
        stages: z_0, ..., z_n.
        warped: W x as the representation gets it, ``(C, *size)``.
        warps: W on the grid of every spacing of the network, ``grid_warp``.
        lipschitz: rho_1, ..., rho_n.
        gains: g_1, ..., g_n, ``sampling_gains``.
    """
    architecture, n = stages.architecture, len(lipschitz)

    def moved(k: int, maps: Tensor) -> Tensor:
        """W on the grid with the spacing of place k."""
        return (maps.flatten(1) @ warps[architecture.spacings[k]].T).view(maps.shape)

    mapping = tuple(_times(rho, gain) for rho, gain in zip(lipschitz, gains, strict=True))
    following = tuple(math.prod(mapping[k:]) for k in range(n + 1))
    commutators, defects, hidden, ends = [], [], [], [0.0] * (n + 1)
    images = warped.double()
    start = stages.entering(1, images) - stages.entering(1, stages.maps[0])
    ends[0] = float(start.norm()) * math.sqrt(stages.cell(1))  # ||P_1|| = 1
    for k in range(1, n + 1):
        before = images if k == 1 else moved(max(k - 2, 0), stages.maps[k - 1])
        (left, right), left_out = compressed([stages.smoothed(k, maps) for maps in (before, stages.maps[k - 1])])
        difference = stages.patches(k, left) - moved(k - 1, stages.patches(k, right))
        commutators.append(float(difference.norm()) * math.sqrt(stages.cell(k)))
        hidden.append(BOTH * (left_out * math.sqrt(stages.cell(k)) + stages.lost[k - 1]))
        defects.append(stages.defect(k, warps[architecture.spacings[k - 1]]))
        z = stages.maps[k]
        end = stages.pooled(k, moved(k - 1, z)) - stages.pooled(k, z)
        ends[k] = float(end.norm()) * math.sqrt(stages.cell(k + 1))
    hidden.append(BOTH * stages.lost[n])
    return Telescope(tuple(commutators), tuple(defects), tuple(ends), tuple(hidden), following, mapping)


def _times(gain: float, value: float) -> float:
    """gain * value with inf * 0 = 0."""
    return gain * value if value else 0.0
