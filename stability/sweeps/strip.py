"""The strip of a sweep: two of its images under some of its fields, with the grid that the fields carry along."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from stability.grid import coordinates
from stability.sweeps.build import build_fields, build_warp
from stability.sweeps.cells import deform
from stability.sweeps.chunks import Cut
from stability.sweeps.pictures import as_picture
from stability.sweeps.spec import SweepSpec

SHOWN_IMAGES = 2
SHOWN_FIELDS = 5


def strip(spec: SweepSpec, images: Tensor) -> dict[str, Any]:
    """The first images under the first field of every family at sizes spread over those asked for.

    Args:
        spec: where the fields come from.
        images: ``(B, C, H, W)``; three channels are shown as colours, others by their mean. Signals have no strip.

    Returns:
        ``images`` ``(B, K, H, W)`` or ``(B, K, H, W, 3)``: the original, then K - 1 deformed; ``displacement``
        ``(K, H, W, 2)`` in pixels, (x, y); ``displacement_norm``, ``jacobian_norm`` ``(K,)``; ``family`` ``(K,)``.
    """
    cut, u, warp = Cut(spec), coordinates(spec.images.size), build_warp(spec)
    firsts = {draw.family: draw for draw in reversed(cut.draws) if draw.family < len(spec.deformations)}
    sizes = {family: len(draw.pairs) for family, draw in firsts.items()}
    warped, displacement = [images[:, None]], [torch.zeros(1, *u.shape, dtype=torch.float64)]
    norms, families = [(0.0, 0.0)], ["original"]
    for family in sorted(firsts):
        each = max(1, round(SHOWN_FIELDS * sizes[family] / sum(sizes.values())))
        fields = build_fields(spec, [firsts[family]])
        if not fields.present:  # every size is out of reach
            continue
        shown = np.unique(np.linspace(0, len(fields.present) - 1, min(each, len(fields.present))).round().astype(int))
        deformed = deform(images, fields.deformations, warp).warped  # (B, F, C, H, W)
        moved = [one.displacement(u).reshape(-1, *u.shape) for one in fields.deformations]
        a = torch.cat([one.norms().displacement.lower.expand(one.batch_shape).flatten() for one in fields.deformations])
        b = torch.cat([one.norms().jacobian.lower.expand(one.batch_shape).flatten() for one in fields.deformations])
        warped.append(deformed[:, shown])
        displacement.append(torch.cat(moved)[shown])
        norms += [(float(a[i]), float(b[i])) for i in shown]
        families += [fields.family] * len(shown)
    return {
        "images": np.array([[as_picture(one) for one in row] for row in torch.cat(warped, dim=1).numpy()]),
        "displacement": torch.cat(displacement).numpy(),
        "displacement_norm": np.array([a for a, _ in norms]),
        "jacobian_norm": np.array([b for _, b in norms]),
        "family": np.array(families),
    }
