"""Norms of the theorem's operators for a given field: two-sided enclosures, by matrices or by Lanczos iterations."""

from stability.operator_norms.enclosure import Enclosure
from stability.operator_norms.filters import FilterBank, stack
from stability.operator_norms.norms import OperatorNorms

__all__ = ["Enclosure", "FilterBank", "OperatorNorms", "stack"]
