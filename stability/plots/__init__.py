"""Figures of a run: tables in, matplotlib figures with captions out. No torch, no pyplot, no window.

>>> sorted(FIGURES)
['distance_versus_deformation', 'patch_size', 'plane', 'pooling_scale', 'strip']
"""

from stability.plots.drawing import PAPER, SCREEN, Drawn
from stability.plots.files import FIGURES, draw_all, pdf, png
from stability.plots.reading import Run, read

__all__ = ["FIGURES", "PAPER", "SCREEN", "Drawn", "Run", "draw_all", "pdf", "png", "read"]
