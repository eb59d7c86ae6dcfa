"""One displacement field in pictures: the grid that it carries along, arrows, ||grad tau||_2 and det(I - grad tau)."""

import math
import re
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import CenteredNorm, Colormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stability.plots.drawing import on_paper, plain
from stability.plots.sampled import FLAT, Array, Sampled, extent, grid_lines, sample, spacing, values
from stability.plots.sheet import BAR, LEFT, RIGHT, WIDTH, Sheet
from stability.plots.strip import GRID_COLORS

if TYPE_CHECKING:
    from stability.deformations.base import Deformation
    from stability.deformations.norms import Interval

    Known = tuple[Interval, Interval]

ARROWS = 15
"""Arrows along the longer side."""
DIGITS = 5
ROUND_OFF = 1e-11
"""Relative round-off that a certified value may have."""
LETTERS = 136
"""Of a line of the caption."""
CURVE_COLOR, NORM_COLOR, GREY = "#0072B2", "#D55E00", "#999999"


def draw(field: "Deformation") -> Figure:
    """A figure of one field: the deformed grid, arrows on |tau|, ||grad tau||_2 and det(I - grad tau).

    d = 1: the curves tau and 1 - tau'. Title and caption say what is proof and what is seen. 7 inches wide.

    Args:
        field: of a batch the first field is drawn; ``field[index]`` picks another.

    Raises:
        ValueError: if the batch is empty.

    Convention: L_tau x(u) = x(u - tau(u)). A grid line p_1 = c (columns) or p_2 = c (rows) drawn on the image x is
    carried to {u : u - tau(u) on the line}. Arrows end at u and begin at u - tau(u). y points down.
    """
    shape = tuple(field.batch_shape)
    if 0 in shape:
        raise ValueError(f"field must hold at least one field to be drawn, got a batch {shape}; draw another one")
    one = field[(0,) * len(shape)] if shape else field
    norms = one.suprema()  # of this field alone: norms() of a batch's field would be computed for all its fields
    known = (norms.displacement, norms.jacobian)
    sampled = sample(one)
    factor = None if one.d == 1 else _factor(sampled)
    caption = wrapped(_caption(one, sampled, factor, known))
    with on_paper():
        sheet = _maps(one, sampled, factor, len(caption)) if one.d == 2 else _curves(one, sampled, known, len(caption))
        sheet.words(_title(field, known), caption)
        for axes in sheet.figure.axes:  # ticks are made when they are first asked for, in the style that is in force
            axes.get_xticklabels(), axes.get_yticklabels()
    return sheet.figure


def outward(lower: float, upper: float) -> tuple[str, str]:
    """Both ends with 5 digits, the lower rounded down and the upper rounded up.

    >>> outward(1.99999, 2.000001)
    ('1.9999', '2.0001')
    >>> outward(5.0, 5.0)
    ('5', '5')
    """
    down = Context(prec=DIGITS, rounding=ROUND_FLOOR).create_decimal(lower * (1 + ROUND_OFF))
    up = Context(prec=DIGITS, rounding=ROUND_CEILING).create_decimal(upper * (1 - ROUND_OFF))
    return f"{float(down):.{DIGITS}g}", f"{float(up):.{DIGITS}g}"


def _maps(field: "Deformation", sampled: Sampled, factor: float | None, lines: int) -> Sheet:
    """Four panels: in two rows, or in one where the image is much higher than wide."""
    ratio = field.size[0] / field.size[1]
    rows, columns = (2, 2) if ratio < 1.4 else (1, 4)
    width = min((WIDTH - LEFT) / columns - BAR - RIGHT, 4.5 / ratio)
    sheet = Sheet(rows, columns, (width, ratio * width), BAR, lines)
    grid, arrows, steep, volume = sheet.axes
    names = ("deformed grid", "displacement", "Jacobian", "determinant")
    for axes, name in zip(sheet.axes, names, strict=True):
        axes.set_title(name)
    for curves, color in zip(grid_lines(sampled, spacing(field.size)), GRID_COLORS, strict=True):
        grid.add_collection(LineCollection(curves, colors=color, linewidths=0.9))
    sheet.bar(arrows, _picture(arrows, sampled, sampled.length, light("Blues")), r"$|\tau|$ / px")
    sheet.bar(steep, _picture(steep, sampled, sampled.steepness, light("Oranges")), r"$\|\nabla\tau\|_2$")
    determinant = sampled.determinant
    mesh = _picture(volume, sampled, determinant, mpl.colormaps["PRGn"])
    spread = float(np.abs(determinant - 1).max())
    mesh.set_norm(CenteredNorm(1.0, spread if spread > FLAT else 0.1))
    sheet.bar(volume, mesh, r"$\det(I-\nabla\tau)$")
    if factor is not None:
        _arrows(arrows, field, factor)
    if sampled.folds:
        for axes in (volume, grid):
            axes.contour(*sampled.axes, determinant, levels=[0.0], colors="black", linewidths=1.1)
    for axes in sheet.axes:
        _frame(axes, field)
    return sheet


def _picture(axes: Axes, sampled: Sampled, shown: Array, colors: Colormap) -> ScalarMappable:
    """Values in colours; every sample fills the cell around its node."""
    x, y = sampled.axes
    h, k = (x[1] - x[0]) / 2, (y[1] - y[0]) / 2
    top = float(shown.max())
    return axes.imshow(
        shown,
        cmap=colors,
        extent=(x[0] - h, x[-1] + h, y[-1] + k, y[0] - k),
        vmin=0.0,
        vmax=top if top > FLAT else 1.0,
        interpolation="nearest",
    )


def _factor(sampled: Sampled) -> float | None:
    """How many times as long as tau(u) its arrow is drawn: round, the longest about as long as their distance."""
    longest = float(sampled.length.max())
    if longest < FLAT:
        return None
    wanted = 1.6 * max(axis[-1] - axis[0] for axis in sampled.axes) / ARROWS / longest
    decade = 10.0 ** math.floor(math.log10(wanted))
    return float(f"{max(step for step in (1, 1.5, 2, 3, 4, 5, 6, 8) if step * decade <= wanted) * decade:.2g}")


def _arrows(axes: Axes, field: "Deformation", factor: float) -> None:
    """Arrows that end at u, ``factor`` times as long as tau(u)."""
    step = max(field.size) / ARROWS
    at = []
    for low, high in extent(field):
        n = max(1, round((high - low) / step))
        at.append(low + (np.arange(n) + 0.5) * (high - low) / n)
    points = np.stack(np.meshgrid(*at), axis=-1)
    x, y = np.moveaxis(points, -1, 0)
    tau_x, tau_y = np.moveaxis(values(field, points)[0], -1, 0)
    length = np.hypot(tau_x, tau_y)
    seen = length > 0.02 * length.max()
    axes.quiver(
        x[seen], y[seen], tau_x[seen], tau_y[seen], pivot="tip", angles="xy", scale_units="xy", scale=1 / factor,
        units="inches", width=0.011, headwidth=3.6, headlength=4.2, headaxislength=3.8, minlength=0.5, zorder=3,
    )  # fmt: skip


def _frame(axes: Axes, field: "Deformation") -> None:
    """Borders, ticks and names; y points down."""
    (left, right), (top, bottom) = extent(field)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_aspect("equal")
    axes.grid(visible=False)
    if axes.xaxis.get_tick_params()["labelbottom"]:
        axes.set_xlabel("x / px")
    if axes.yaxis.get_tick_params()["labelleft"]:
        axes.set_ylabel("y / px")
    for axis, side in ((axes.xaxis, right - left), (axes.yaxis, bottom - top)):
        axis.set_major_locator(MaxNLocator(max(1, round(5 * side / max(field.size))), integer=True))
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_linestyle("-" if _window(field) else (0, (4, 2.5)))


def _curves(field: "Deformation", sampled: Sampled, known: "Known", lines: int) -> Sheet:
    """Two panels: tau and 1 - tau'."""
    sheet = Sheet(2, 1, (WIDTH - LEFT - RIGHT, 1.45), 0.0, lines)
    tau, slope = sheet.axes
    (u,) = sampled.axes
    determinant = sampled.determinant
    tau.plot(u, sampled.displacement[:, 0], color=CURVE_COLOR)
    slope.plot(u, determinant, color=CURVE_COLOR)
    for axes, centre, interval in zip(sheet.axes, (0.0, 1.0), known, strict=True):
        axes.axhline(centre, color=GREY, linewidth=0.6, zorder=1)
        radius = float(interval.upper)
        for value in (centre - radius, centre + radius) if math.isfinite(radius) else ():
            axes.axhline(value, color=NORM_COLOR, linestyle=(0, (4, 2)), linewidth=0.9)
        axes.set_xlim(*extent(field)[0])
    if sampled.folds:
        slope.axhline(0.0, color="black", linewidth=0.9)
        slope.fill_between(u, 0.0, determinant, where=determinant < 0, color=GREY, alpha=0.5, linewidth=0)
    tau.set_title("displacement")
    slope.set_title("derivative of the map")
    tau.set_ylabel(r"$\tau$ / px")
    slope.set_ylabel(r"$1-\mathrm{d}\tau/\mathrm{d}x$")
    slope.set_xlabel("x / px")
    return sheet


def _title(field: "Deformation", known: "Known") -> str:
    shape = tuple(field.batch_shape)
    which = f", field {[0] * len(shape)} of a batch {shape}" if math.prod(shape) != 1 else ""
    sides = " × ".join(map(str, field.size))
    norms = (
        _between(known[0], r"\|\tau\|_\infty", r"\ \mathrm{px}"),
        _between(known[1], r"\|\nabla\tau\|_\infty", ""),
    )
    return f"{plain(type(field).__name__)}, {sides} px{which}\n{',    '.join(norms)}"


def _between(interval: "Interval", symbol: str, unit: str) -> str:
    """seen <= norm <= certified."""
    lower, upper = float(interval.lower), float(interval.upper)
    if not math.isfinite(upper):
        return rf"${outward(lower, lower)[0]}{unit} \leq {symbol}$ (not certified)"
    seen, certified = outward(lower, upper)
    return rf"${symbol} = {seen}{unit}$" if seen == certified else rf"${seen} \leq {symbol} \leq {certified}{unit}$"


def _caption(field: "Deformation", sampled: Sampled, factor: float | None, known: "Known") -> str:
    """What the lines are, what is proof and what is seen; no blanks in formulas, where lines may break."""
    words = [r"$L_\tau\,x(u)=x(u-\tau(u))$."]
    if field.d == 2:
        longer = "" if factor in (None, 1.0) else f", drawn {factor:g} times as long"
        words.append(
            f"Grid: straight lines on x every {spacing(field.size):g} px (blue: columns, orange: rows), carried along. "
            rf"Arrows: from $u-\tau(u)$, where the content comes from, to $u${longer}."
        )
    else:
        words.append("Dashed lines: the right ends of the norms.")
    points = " × ".join(str(len(axis)) for axis in reversed(sampled.axes))
    where = "in the window" if _window(field) else "on the torus (opposite sides are one)"
    certified = any(math.isfinite(float(interval.upper)) for interval in known)
    words.append(f"Proof: nowhere {where} is a norm's right end exceeded." if certified else "No norm is certified.")
    words.append(f"Seen: the left ends are attained; the panels show {points} points.")
    upper = float(known[1].upper)
    if upper < 1 - ROUND_OFF:
        words.append(r"Proof: $\|\nabla\tau\|_\infty<1$, so $u\mapsto{}u-\tau(u)$ is one to one.")
    elif sampled.folds:
        words.append(r"Seen: $\det(I-\nabla\tau)$ takes both signs (black: 0), so $u\mapsto{}u-\tau(u)$ folds.")
    elif field.injective is not None and bool(field.injective):
        words.append(r"Proof: $u\mapsto{}u-\tau(u)$ is one to one by construction.")
    else:
        words.append("No fold is seen, which is no proof that there is none.")
    return " ".join(words)


def wrapped(text: str) -> list[str]:
    """Lines of about ``LETTERS`` letters; a formula's command counts as one."""
    lines, room = [""], LETTERS
    for word in text.split():
        letters = len(re.sub(r"\\[a-zA-Z]+|[\\{}$^_]", lambda found: found[0][1:2], word))
        if lines[-1] and letters + 1 > room:
            lines.append("")
            room = LETTERS
        lines[-1] = f"{lines[-1]} {word}".strip()
        room -= letters + 1
    return lines


def _window(field: "Deformation") -> bool:
    return hasattr(field.domain, "edge")


def light(name: str) -> Colormap:
    """The lighter part of a sequential map: black arrows stay visible."""
    return ListedColormap(mpl.colormaps[name](np.linspace(0.0, 0.72, 256)))
