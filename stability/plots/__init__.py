"""Figures of a run: tables in, matplotlib figures with captions out. No torch, no pyplot, no window.

>>> sorted(FIGURES)
['anchors', 'distance_versus_deformation', 'largest_found', 'patch_size', 'plane', 'pooling_scale', 'searched', 'strip']
"""

from stability.plots.drawing import PAPER, SCREEN, Drawn
from stability.plots.files import FIGURES, applicable, check, draw, draw_all, pdf, png, svg
from stability.plots.reading import Run, read

__all__ = ["FIGURES", "PAPER", "SCREEN", "Drawn", "Run", "applicable", "check", "draw", "draw_all", "pdf", "png",
           "read", "svg"]  # fmt: skip
