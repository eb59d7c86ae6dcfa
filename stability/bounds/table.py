"""The table behind a closed form: every constant that entered, by name."""

import math
from collections.abc import Mapping
from typing import Any

from stability.architecture import Architecture
from stability.bounds.constants import COMMUTATOR, c2, translation
from stability.bounds.field import FieldNorms
from stability.bounds.forms import Part, pooling_commutator
from stability.bounds.patches import joint, joint_energy, patch_shift
from stability.bounds.rows import patch_spread


def constants(
    architecture: Architecture,
    norms: FieldNorms,
    layers: list[Part],
    energies: list[Part | None],
    last: Mapping[str, Part],
) -> dict[str, Any]:
    """Every constant that entered: of the field, of the last pooling, of each layer."""
    b, d, sigma = norms.jacobian, norms.d, architecture.scales[-1]
    rows = []
    for k, (part, energy) in enumerate(zip(layers, energies, strict=True), start=1):
        scale, offset = architecture.scales[k - 1], patch_spread(architecture, k, d)
        kappa = offset / scale if scale else (math.inf if offset else 0.0)
        rows.append({
            "layer": k,
            "rho": architecture.lipschitz[k - 1],
            "R": math.prod(architecture.lipschitz[k - 1 :]),
            "sigma": scale,
            "kappa_rms": kappa,
            "spread": patch_spread(architecture, k, d),
            "C": pooling_commutator(norms, scale).value if scale else norms.warp,
            "S": patch_shift(kappa, b, d) if b else 0.0,
            "J": joint(kappa, d),
            "j": joint_energy(kappa, d),
            "bound": part.value,
            "form": part.form,
            "energy": energy.value if energy else math.nan,
            "energy_form": energy.form if energy else "none",
        })  # fmt: skip
    return {
        "a": norms.displacement,
        "b": b,
        "d": d,
        "H": norms.hessian,
        "mean": norms.mean,
        "residual": norms.residual,
        "divergence": math.nan if norms.divergence is None else norms.divergence,
        "volume_preserving": norms.volume_preserving,
        "L": norms.warp,
        "b_weighted": norms.weighted_jacobian,
        "c_d": COMMUTATOR[d],
        "C2": c2(b, d),
        "T": translation(norms.displacement / sigma) if sigma else math.nan,
        **{f"last{suffix}": part.value for suffix, part in last.items()},
        **{f"last{suffix}, form": part.form for suffix, part in last.items()},
        "layers": tuple(rows),
    }
