"""The search for the field of two sup-norm balls that moves a representation most: lower bounds of the supremum."""

from stability.search.constraints import DivergenceFree, FixedBorder, TranslationFree
from stability.search.curve import Curve, worst_case_curve
from stability.search.families import Fourier, PiecewiseLinear, Spline
from stability.search.found import Found
from stability.search.grids import RigidMotions, Translations
from stability.search.objectives import Angle, AtFixedNorm, Change, Distance, DistanceOverPairs, Margin, Objective
from stability.search.slope import Slope, linearised
from stability.search.smallest import Flip, Level, Smallest, smallest_deformation
from stability.search.starts import Given, Linearised, Saturated
from stability.search.worst import worst_case

__all__ = [
    "Angle", "AtFixedNorm", "Change", "Curve", "Distance", "DistanceOverPairs", "DivergenceFree", "FixedBorder", "Flip",
    "Found", "Fourier", "Given", "Level", "Linearised", "Margin", "Objective", "PiecewiseLinear", "RigidMotions",
    "Saturated", "Slope", "Smallest", "Spline", "TranslationFree", "Translations", "linearised",
    "smallest_deformation", "worst_case", "worst_case_curve",
]  # fmt: skip
