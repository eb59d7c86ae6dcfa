r"""What patch offsets add to the commutator: K with (int ||R_c z||^2 dnu)^(1/2) <= K sigma ||grad A z||.

R_c y(u) = y(phi(u + c)) - y(phi(u) + c), y = A z. Along s -> phi(u + s c) + (1 - s) c the derivative is -J(u + s c) c,
and with u + s c in the place of u that point is phi(u) + (1 - s) c: the determinant that appears is D(u) itself. So
||R_c y|| <= sup_u |J c| D^(-1/2) ||grad y||, and K sigma is the root mean square of these suprema over the patch.
"""

import itertools
import math

import torch
from torch import Tensor

from stability.certificates.suprema import FieldSuprema

DIRECTIONS = 24
"""Most directions whose suprema are searched for one by one; for larger patches |J c| <= |c| ||J||."""


def offsets(patch_size: int, d: int) -> list[tuple[int, ...]]:
    """Positions of a patch, as ``Architecture`` places them: -((e - 1) // 2), ... along every axis.

    >>> offsets(3, 1)
    [(-1,), (0,), (1,)]
    """
    start = -((patch_size - 1) // 2)
    return list(itertools.product(range(start, start + patch_size), repeat=d))


def shift(suprema: FieldSuprema, patch_size: int, spacing: float) -> Tensor:
    """(mean over c of sup_u |J c|^2 / D)^(1/2) in pixels, ``(F,)``: sigma times K.

    Args:
        suprema: of the fields.
        patch_size: e >= 1.
        spacing: of the patch's positions in pixels.
    """
    places = [place for place in offsets(patch_size, suprema.d) if any(place)]
    lines = {tuple(c // math.gcd(*place) for c in place) for place in places}
    apart = len(lines) <= 2 * DIRECTIONS
    total = torch.zeros_like(suprema.jacobian)
    for place in places:
        steep = suprema.directional(place) if apart else suprema.jacobian
        total = total + sum(c * c for c in place) * steep.square()
    return spacing * (total / patch_size**suprema.d).sqrt()
