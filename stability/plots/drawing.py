"""Shared marks: colours, lines, slope triangle, legend. Object API only; the style in force sets sizes and fonts."""

import math
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.style
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Polygon
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

SCREEN, PAPER = (Path(__file__).with_name(f"{name}.mplstyle") for name in ("screen", "paper"))
DISPLACEMENT = r"$\|\tau\|_\infty$ (px)"
JACOBIAN = r"$\|\nabla\tau\|_\infty$ (dimensionless)"
RELATIVE = r"$\|\Phi(L_\tau x)-\Phi(x)\|\,/\,\|x\|$"
IN_PAIRS = r"$\|\Phi(L_\tau x)-\Phi(x)\|$" + "\n/ distance of two images"


@contextmanager
def on_paper() -> Iterator[None]:
    """The style of the figures of a paper, whatever is in force."""
    with matplotlib.style.context(str(PAPER)):
        mpl.rcParams["font.family"] = mpl.rcParams["font.serif"]  # "serif" would be looked up after this block
        yield


def settled(figure: Figure) -> Figure:
    """The figure with everything that is made when it is first asked for, in the style that is in force."""
    for axes in figure.axes:
        axes.get_xticklabels(), axes.get_yticklabels()
    figure.canvas.draw()
    return figure


LONGEST = 48
"""Letters of a label that are shown."""
USUAL_ROWS = 6
"""Rows of a legend that a figure has room for."""


@dataclass(frozen=True)
class Drawn:
    """A figure and the text that belongs below it."""

    figure: Figure
    caption: str


@dataclass(frozen=True)
class Mark:
    """How one kind of number is drawn everywhere. Colours: Okabe & Ito, told apart by every kind of colour vision."""

    label: str
    color: str
    linestyle: Any
    marker: str = ""
    width: float = 1.0
    hollow: bool = False  # a larger open marker: what lies below it stays visible

    def style(self) -> dict[str, Any]:
        """Keyword arguments of ``Axes.plot``."""
        return {
            "label": plain(self.label),
            "color": self.color,
            "linestyle": self.linestyle,
            "marker": self.marker,
            "linewidth": self.width * float(mpl.rcParams["lines.linewidth"]),
            **(
                {"markerfacecolor": "none", "markersize": 1.6 * float(mpl.rcParams["lines.markersize"])}
                if self.hollow
                else {}
            ),
        }


CKN_MARK = Mark("exact CKN", "#0072B2", "-", "o")
LINEAR_MARK = Mark("linear kernel (control)", "#D55E00", (0, (4, 2)))
BOUND_MARK = Mark("closed-form bound", "#000000", (0, (6, 1.5, 1, 1.5)))
TRIVIAL_MARK = Mark("trivial bound", "#666666", (0, (1, 1.3)))
PAIRS_MARK = Mark("two different images", "#009E73", "-", width=0.7)


def panels(rows: int, columns: int, aspect: float, **axes: Any) -> tuple[Figure, npt.NDArray[Any]]:
    """A figure of the style's width with rows x columns axes.

    Args:
        rows: number of rows.
        columns: number of columns.
        aspect: height / width of the whole figure.
        axes: passed to ``Figure.subplots``.
    """
    width = float(mpl.rcParams["figure.figsize"][0])
    figure = Figure(figsize=(width, aspect * width), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **axes)


def line(axes: Axes, x: npt.ArrayLike, y: npt.ArrayLike, mark: Mark, **changes: Any) -> Line2D:
    """One line in the style of its kind."""
    return axes.plot(np.asarray(x, dtype=float), np.asarray(y, dtype=float), **(mark.style() | changes))[0]


def band(axes: Axes, x: npt.ArrayLike, spread: pd.DataFrame, mark: Mark) -> None:
    """The 10-90 % range around a median."""
    axes.fill_between(np.asarray(x, dtype=float), spread["low"], spread["high"], color=mark.color, alpha=0.18, lw=0)


def triangle(axes: Axes, x: tuple[float, float], y: float, slope: float) -> Polygon:
    """A right triangle whose long side has the given slope on log-log axes.

    Args:
        axes: log-log axes.
        x: its left and right end, in data units.
        y: its height at the left end, in data units.
        slope: d log y / d log x.
    """
    left, right = x
    top = y * (right / left) ** slope
    corner = (right, y) if slope > 0 else (left, top)
    shape = Polygon([(left, y), corner, (right, top)], closed=True, fill=False, edgecolor="#555555", linewidth=0.9)
    shape.set_label(f"slope {slope:g}")
    axes.add_patch(shape)
    ends = sorted((y, top))
    axes.annotate(
        f"{slope:g}".replace("-", "\N{MINUS SIGN}"),
        (right if slope > 0 else left, float(np.sqrt(ends[0] * ends[1]))),
        xytext=(3 if slope > 0 else -3, 0),
        textcoords="offset points",
        ha="left" if slope > 0 else "right",
        va="center",
        color="#555555",
        fontsize="small",
    )
    return shape


def band_handle(mark: Mark, label: str) -> Patch:
    """What the legend shows for a band."""
    return Patch(facecolor=mark.color, alpha=0.18, label=plain(label))


def handle(mark: Mark, **changes: Any) -> Line2D:
    """What the legend shows for a mark."""
    return Line2D([], [], **(mark.style() | changes))


def plain(text: str) -> str:
    """Words of a user as they are, cut where they would fill a legend: a dollar sign begins no formula.

    >>> plain("cost $x_1$")
    'cost \\\\$x_1\\\\$'
    """
    short = text if len(text) <= LONGEST else text[: LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return short.replace("$", r"\$")


def wrapped(label: str) -> str:
    """Words of a user in lines that fit into a legend."""
    return "\n".join(map(plain, textwrap.wrap(label, LONGEST)))


def legend_below(figure: Figure, handles: list[Any], columns: int | None = None) -> None:
    """One legend for all panels, outside them; as many columns as the longest words leave room for."""
    lines = [str(entry.get_label()).splitlines() for entry in handles]
    longest = max((len(line) for label in lines for line in label), default=0)
    points = FontProperties(size=mpl.rcParams["legend.fontsize"]).get_size_in_points()
    letters = 125 * float(figure.get_figwidth()) / points  # in one line
    fitting = max(1, min(4, int(letters / (longest + 9))))
    beyond = math.ceil(sum(map(len, lines)) / (columns or fitting)) - USUAL_ROWS
    if beyond > 0:  # the panels keep their height
        figure.set_figheight(figure.get_figheight() + beyond * 1.45 * points / 72)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns or fitting)


def same_limits(axes: list[Axes]) -> None:
    """The same y axis for panels in one unit."""
    if axes:
        ends = [one.get_ylim() for one in axes]
        for one in axes:
            one.set_ylim(min(low for low, _ in ends), max(high for _, high in ends))


def plain_log_ticks(axis: Axis, values: npt.ArrayLike) -> None:
    """Ticks at the given values of a log axis, written as plain numbers."""
    axis.set_ticks(np.asarray(values, dtype=float).tolist())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def round_log_ticks(axis: Axis, values: npt.ArrayLike) -> None:
    """Ticks of a log axis at powers of ten, at 2 and 5 times them too where the values span little."""
    span = np.ptp(np.log10(np.asarray(values, dtype=float)))
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if span < 1.7 else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
