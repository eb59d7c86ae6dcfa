"""A sheet of panels laid out in inches, between a title and a caption."""

import io
import itertools

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

WIDTH, LEFT, RIGHT, TITLE, FOOT, BAR, TOP, LEADING = 7.0, 0.5, 0.14, 0.27, 0.46, 0.66, 0.5, 0.152
"""Inches: the figure, its margins, a panel's title, its x axis, a colour bar with its words, the title, a line."""


class Shown(Figure):
    """A figure that a notebook shows without pyplot."""

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png")
        return stream.getvalue()


class Sheet:
    """Panels of equal size in rows, laid out in inches, between a title and a caption.

    Args:
        rows: number of rows of panels.
        columns: number of columns.
        panel: width and height of a panel.
        beside: width on the right of every panel.
        lines: of the caption.
    """

    def __init__(self, rows: int, columns: int, panel: tuple[float, float], beside: float, lines: int) -> None:
        (w, h), foot = panel, FOOT + 0.12 + lines * LEADING
        self.height = TOP + rows * (TITLE + h) + (rows - 1) * 0.1 + foot
        self.figure = Shown(figsize=(WIDTH, self.height))
        FigureCanvasAgg(self.figure)
        places = itertools.product(reversed(range(rows)), range(columns))
        across, up = w + beside + RIGHT, h + TITLE + 0.1
        self.axes = [self._add(LEFT + column * across, foot + row * up, w, h) for row, column in places]
        for i, axes in enumerate(self.axes):
            axes.tick_params(labelbottom=i >= (rows - 1) * columns, labelleft=i % columns == 0)

    def bar(self, axes: Axes, mesh: ScalarMappable, label: str) -> None:
        """A colour bar on the right of a panel, as high as it."""
        box = axes.get_position(original=True)
        height = box.height * self.height
        bar = self._add(box.x1 * WIDTH + 0.07, box.y0 * self.height, 0.09, height)
        self.figure.colorbar(mesh, cax=bar, label=label).locator = MaxNLocator(max(4, round(2.4 * height)))

    def words(self, title: str, caption: list[str]) -> None:
        """Title and caption."""
        self.figure.suptitle(title, y=1 - 0.07 / self.height, va="top", fontsize=mpl.rcParams["axes.titlesize"])
        size = mpl.rcParams["legend.fontsize"]
        self.figure.text(0.012, 0.06 / self.height, "\n".join(caption), va="bottom", fontsize=size, linespacing=1.25)

    def _add(self, x: float, y: float, width: float, height: float) -> Axes:
        return self.figure.add_axes((x / WIDTH, y / self.height, width / WIDTH, height / self.height))
