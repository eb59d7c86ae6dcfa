"""The constants of the theorem: pure arithmetic, no tensors. ``stability.bounds.closed_form`` combines them."""

from stability.bounds.constants import (
    c2,
    commutator,
    commutator_divergence,
    commutator_hessian,
    commutator_volume_preserving,
    mean_removal,
    translation,
)
from stability.bounds.constants_table import constants_table
from stability.bounds.depth import Ingredients, LayerError, depth_free, ingredients, layer_error
from stability.bounds.field import c_p, field_norms
from stability.bounds.forms import pooling_difference, published_form
from stability.bounds.invariance import best_layers, fixed_invariance, layers_between, over_layers
from stability.bounds.mixed import mixed_commutator, mixed_norms
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
    "Ingredients",
    "LayerError",
    "Rung",
    "Scope",
    "Status",
    "Term",
    "aliasing",
    "best_layers",
    "c1",
    "c2",
    "c_p",
    "certifying",
    "commutator",
    "commutator_divergence",
    "commutator_hessian",
    "commutator_volume_preserving",
    "constants_table",
    "depth_free",
    "field_norms",
    "fixed_invariance",
    "ingredients",
    "interpolation_gain",
    "joint",
    "joint_commutator",
    "joint_energy",
    "layer_error",
    "layers_between",
    "mean_removal",
    "mixed_commutator",
    "mixed_norms",
    "over_layers",
    "patch_additive",
    "patch_shift",
    "patch_symmetric",
    "pooling_difference",
    "published_form",
    "sampling_gain",
    "translation",
]
