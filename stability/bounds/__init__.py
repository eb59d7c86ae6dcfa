"""The constants of the theorem: pure arithmetic, no tensors. ``stability.bounds.closed_form`` combines them."""

from stability.bounds.constants import (
    c2,
    c_p,
    commutator,
    commutator_divergence,
    commutator_hessian,
    commutator_volume_preserving,
    mean_removal,
    translation,
)
from stability.bounds.forms import pooling_difference
from stability.bounds.patches import (
    c1,
    joint,
    joint_commutator,
    joint_energy,
    patch_additive,
    patch_shift,
    patch_symmetric,
)
from stability.bounds.rung import Rung, Scope, Status, Term, certifying
from stability.bounds.sampling import aliasing, interpolation_gain, sampling_gain

__all__ = [
    "Rung",
    "Scope",
    "Status",
    "Term",
    "aliasing",
    "c1",
    "c2",
    "c_p",
    "certifying",
    "commutator",
    "commutator_divergence",
    "commutator_hessian",
    "commutator_volume_preserving",
    "interpolation_gain",
    "joint",
    "joint_commutator",
    "joint_energy",
    "mean_removal",
    "patch_additive",
    "patch_shift",
    "patch_symmetric",
    "pooling_difference",
    "sampling_gain",
    "translation",
]
