r"""Which of the seven knobs of a stability sweep moved: a curve means something only if one did.

    sigma     the pooling scales sigma_0 ... sigma_n
    kappa     patch radii over the scale before them, c_k / sigma_{k-1}
    n         depth
    a, b, H   sup |tau|, sup ||grad tau||, sup of the second derivatives
    spectrum  what the network is shown: image set, size, front end

Changing sigma_{k-1} at a fixed patch changes kappa_k; changing the depth at a fixed schedule of scales changes sigma_n;
scaling a field changes a, b and H together. No torch.
"""

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from stability.architecture import Architecture

KNOBS = ("sigma", "kappa", "n", "a", "b", "H", "spectrum")
SAME = 1e-6
"""Relative difference up to which a norm counts as unchanged."""
_NORMS = {"a": "displacement_norm", "b": "jacobian_norm", "H": "hessian_norm"}
_CURVE = ["image", "family", "cutoff", "family_parameters", "field_seed", "representation", "filters"]
_SHOWN = ["image_set", "size", "front_end"]


def knobs(architecture: Architecture, d: int = 2) -> dict[str, Any]:
    """The knobs that belong to a network: ``sigma``, ``kappa``, ``n``.

    Args:
        architecture: the network.
        d: 1 or 2.

    >>> knobs(Architecture.dyadic(depth=1, patch_size=3))["kappa"]
    (1.1547005383792515,)
    """
    scales = architecture.scales
    radii = [architecture.patch_radius(k, d) for k in range(1, architecture.depth + 1)]
    return {
        "sigma": scales,
        "kappa": tuple(c / s if s else float("inf") for c, s in zip(radii, scales, strict=False)),
        "n": architecture.depth,
    }


def moved(rows: pd.DataFrame, *, panels: Sequence[str] = ("front_end",), d: int = 2) -> set[str]:
    """The knobs that differ between the points of some curve.

    A curve is one image, one field (a seed of a family) and one layer of one representation; its points differ by
    what was varied.

    Args:
        rows: the rows of a sweep.
        panels: columns that set panels apart and are held fixed along a curve.
        d: 1 or 2.

    Returns:
        A subset of ``KNOBS``.
    """
    there = rows[rows["distance"].notna()]
    values = pd.DataFrame(index=there.index)
    for text in there["architecture"].unique():
        found = knobs(Architecture.from_dict(json.loads(text)), d) if text else dict.fromkeys(KNOBS, "")
        own = there["architecture"] == text
        for name in ("sigma", "kappa", "n"):
            values.loc[own, name] = repr(found[name])
    shown = [name for name in _SHOWN if name in there]
    values["spectrum"] = there[shown].astype(str).agg(" ".join, axis=1)
    module = there["architecture"] == ""  # of a network of the theory the layer is its depth, which is a knob
    keys = [there[name] for name in (*_CURVE, *panels) if name in there] + [there["layer"].where(module, "")]
    changed = {str(name) for name in values if (values[name].groupby(keys).nunique() > 1).any()}
    for name, column in _NORMS.items():
        curves = there[column].groupby(keys)
        low, high = curves.min(), curves.max()
        if (high - low > SAME * high).any():
            changed.add(name)
    return changed
