"""Certified classification: sizes up to which no deformation can change a label, beside those at which one does."""

from stability.robustness.decision import AffineHead, Decision, decide
from stability.robustness.radius import robustness_radius
from stability.robustness.result import RobustnessRadii
from stability.robustness.sizes import certified_sizes

__all__ = ["AffineHead", "Decision", "RobustnessRadii", "certified_sizes", "decide", "robustness_radius"]
