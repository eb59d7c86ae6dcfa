"""A run as words: five lines that matter, and one self-contained page. No torch."""

from stability.report.lines import headline, summary
from stability.report.numbers import apart_from_linear, violations
from stability.report.page import write_page

__all__ = ["apart_from_linear", "headline", "summary", "violations", "write_page"]
