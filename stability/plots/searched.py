"""What a search found in pictures: before and after, the grid carried along, both maps, the trace of every start."""

import textwrap
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import MaxNLocator

from stability.plots.architectures import controls, settings
from stability.plots.deformation import light, outward
from stability.plots.drawing import Drawn, on_paper, settled
from stability.plots.reading import Run, input_name
from stability.plots.sampled import FLAT, Array, Sampled, grid_lines, spacing
from stability.plots.searched_cell import Cell, cell_of_found, cell_of_store
from stability.plots.sheet import Shown
from stability.plots.strip import GRID_COLORS
from stability.sweeps.search_words import at_fixed_norm

if TYPE_CHECKING:
    from stability.search.found import Found

LETTERS, SHORT = 84, 44
"""Letters of a title's line, and of what is searched where both norms still fit beside it."""
TALL = 26
"""Letters of an objective along the height of a panel."""
ARROWS = 13
"""Arrows along the longer side."""
BEST, OTHER = "#0072B2", "#9a9a9a"
SHAPE = {2: (2, 3, 0.62), 1: (2, 2, 0.55)}
"""Rows and columns of panels, and height over width, in the plane and on the line."""
FOUND = (
    "Each block is one search: the field with the two norms of its title (and of the family that is named there) that "
    "moves the representation most, as far as found; what was found is a lower bound of the supremum, no more."
)
IN_THE_PLANE = (
    "Before: the image with a straight grid (blue: columns, orange: rows). After: L_tau x(u) = x(u - tau(u)) with the "
    "grid carried along. Arrows on |tau| end at u. The maps of |tau| (px) and of ||grad tau|| reach up to the norms "
    "that were asked for: where they are dark the field uses what it is allowed."
)
ON_THE_LINE = (
    "Before and after: the signal and L_tau x(u) = x(u - tau(u)). tau in px and its derivative; dashed: the norms that "
    "were asked for."
)
TRACE = (
    "Trace: the objective after every step of every start, the best one blue; only some starts go on after the first "
    "steps, those that end well below the best have second chances, and their agreement is a sign, no proof. The bound "
    "of the supremum is the closed form for the norms of the title, over all fields if not over translations or fields "
    "with a fixed border."
)
CHOSEN = (
    "Drawn is the search that moved each model most, of three models at most, and where there is room further ones, of "
    "other images first."
)
AT_FIXED_NORM = (
    "At fixed norm means that L_tau x was given the norm of x before it was measured, and that 'after' is drawn so."
)


def draw(found: "Found", index: int = 0) -> Figure:
    """A figure of one image of a search. 7 inches wide; see ``IN_THE_PLANE`` and ``TRACE`` for what it shows.

    Raises:
        ValueError: if there is no such image.
    """
    if not isinstance(index, int) or not 0 <= index < len(found.norm_x):
        raise ValueError(
            f"index must be from 0 to {len(found.norm_x) - 1}, got {index!r}; one image is drawn at a time"
        )
    cell = cell_of_found(found, index)
    with on_paper():
        figure = _figure(1, len(cell.sampled.axes))
        _block(figure, cell)
        return settled(figure)


def searched(run: Run) -> Drawn:
    """A few searches of a run.

    Args:
        run: needs the arrays of ``searched.npz``.

    Raises:
        ValueError: if there are none.
    """
    arrays = needed(run)
    count = len(arrays["before"])
    figure = _figure(count, 1 + ("y" in arrays))
    told = _settings(run)
    for k, block in enumerate(figure.subfigures(count, 1, squeeze=False)[:, 0]):
        _block(block, cell_of_store(arrays, k, told(str(arrays["architecture"][k]), str(arrays["front_end"][k]))))
    fixed = any(at_fixed_norm(str(objective)) for objective in arrays["objective"])
    seen = IN_THE_PLANE if "y" in arrays else ON_THE_LINE
    return Drawn(figure, " ".join([FOUND, seen, TRACE, CHOSEN, *([AT_FIXED_NORM] if fixed else [])]))


def _settings(run: Run) -> Callable[[str, str], str]:
    """An architecture and a front end in words, as far as they vary in the run."""
    rows = run.complete()
    rows = rows[rows["search"].fillna(False).astype(bool)]
    words, several = settings(rows["architecture"].unique(), controls(rows)), rows["front_end"].nunique() > 1
    return lambda architecture, front_end: ", ".join(
        word for word in (words.get(architecture, ""), input_name(front_end or "none") if several else "") if word
    )


def needed(run: Run) -> Mapping[str, Any]:
    """The arrays that the figure is drawn from; ``ValueError`` if the run has none."""
    if "before" not in run.searched or not len(run.searched["before"]):
        raise ValueError("the run must hold searched.npz, got none; give the specification a search")
    if "architecture" not in run.searched:
        raise ValueError("searched.npz must hold the architectures, got one of an older version; repeat the run")
    return run.searched


def _figure(blocks: int, d: int) -> Figure:
    width = float(mpl.rcParams["figure.figsize"][0])
    figure = Shown(figsize=(width, blocks * SHAPE[d][2] * width), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _block(figure: FigureBase, cell: Cell) -> None:
    """The panels of one search."""
    d = len(cell.sampled.axes)
    grid = figure.subplots(*SHAPE[d][:2], squeeze=False)
    (a, b), (_, upper_a), (_, upper_b) = cell.norms, *(outward(value, value) for value in cell.certified)
    found = cell.value.replace("||x||", r"$\|x\|$")
    words = "\n".join(textwrap.wrap(cell.words, LETTERS))
    norms = rf"$\|\tau\|_\infty\leq{a:g}$ px, $\|\nabla\tau\|_\infty\leq{b:g}$ (certified: {upper_a} px, {upper_b})"
    figure.suptitle(
        words + (", " if len(cell.words) <= SHORT else "\n") + norms + f"\nlargest found: {found}",
        fontsize=mpl.rcParams["axes.titlesize"],
    )
    if d == 2:
        _plane(figure, grid, cell)
    else:
        _line(grid, cell)
    _trace(grid[-1, -1], cell)


def _plane(figure: FigureBase, grid: Any, cell: Cell) -> None:
    sampled, size = cell.sampled, cell.before.shape[:2]
    step = spacing(size)
    still = Sampled(sampled.axes, np.zeros_like(sampled.displacement), sampled.jacobian)
    low, high = min(cell.before.min(), cell.after.min()), max(cell.before.max(), cell.after.max())
    colours = cell.before.ndim == 3
    scale = (high - low) or 1.0
    for axes, image, lines, name in (
        (grid[0, 0], cell.before, still, "before"),
        (grid[0, 1], cell.after, sampled, _after(cell)),
    ):
        image = (image - low) / scale if colours else image
        _picture(axes, sampled, image, cmap="gray", vmin=low, vmax=high)
        for curves, color in zip(grid_lines(lines, step), GRID_COLORS, strict=True):
            axes.add_collection(LineCollection(curves, colors=color, linewidths=0.7))
        axes.set_title(name)
    change = cell.after - cell.before
    change = np.linalg.norm(change, axis=-1) if colours else change
    most = float(np.abs(change).max()) or 1.0
    a, b = cell.norms
    ends = (
        {"cmap": light("Purples"), "vmin": 0.0, "vmax": most}
        if colours
        else {"cmap": "PuOr", "vmin": -most, "vmax": most}
    )
    difference = "after \N{MINUS SIGN} before"
    changed = (f"|{difference}|", "length over three colours") if colours else (difference, "grey level")
    tau = {"cmap": light("Blues"), "vmin": 0.0, "vmax": a}
    slope = {"cmap": light("Oranges"), "vmin": 0.0, "vmax": b}
    for axes, values, name, label, look in (
        (grid[0, 2], sampled.length, "displacement", r"$|\tau|$ / px", tau),
        (grid[1, 0], change, *changed, ends),
        (grid[1, 1], sampled.steepness, "gradient of the displacement", r"$\|\nabla\tau\|_2$ (px per px)", slope),
    ):
        mesh = _picture(axes, sampled, values, **look)
        axes.set_title(name)
        beside = axes.inset_axes((1.03, 0.0, 0.05, 1.0))
        figure.colorbar(mesh, cax=beside, label=label).locator = MaxNLocator(5)
    _arrows(grid[0, 2], sampled)
    for axes in grid.flat[:-1]:
        axes.grid(visible=False)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(True)


def _picture(axes: Axes, sampled: Sampled, values: Array, **look: Any) -> Any:
    """Values in colours over the domain; of a fine grid every node fills the cell around it."""
    x, y = sampled.axes
    fine = values.shape == (len(y), len(x))
    h, k = ((x[1] - x[0]) / 2, (y[1] - y[0]) / 2) if fine else (0.0, 0.0)
    mesh = axes.imshow(values, extent=(x[0] - h, x[-1] + h, y[-1] + k, y[0] - k), interpolation="nearest", **look)
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(y[-1], y[0])
    return mesh


def _arrows(axes: Axes, sampled: Sampled) -> None:
    """Arrows that end at u; the longest is about as long as their distance."""
    x, y = sampled.axes
    each = max(1, round(max(len(x), len(y)) / ARROWS))
    rows, columns = np.arange(each // 2, len(y), each), np.arange(each // 2, len(x), each)
    tau = sampled.displacement[np.ix_(rows, columns)]
    longest = float(sampled.length.max())
    if longest < FLAT:
        return
    at = np.meshgrid(x[columns], y[rows])
    seen = np.linalg.norm(tau, axis=-1) > 0.05 * longest
    axes.quiver(
        at[0][seen], at[1][seen], tau[..., 0][seen], tau[..., 1][seen], pivot="tip", angles="xy", scale_units="xy",
        scale=longest / (1.1 * each * (x[1] - x[0])), units="inches", width=0.011, headwidth=3.6, headlength=4.2,
        headaxislength=3.8, minlength=0.5, zorder=3,
    )  # fmt: skip


def _line(grid: Any, cell: Cell) -> None:
    """A signal before and after, tau and its derivative."""
    (u,) = cell.sampled.axes
    pixels = np.arange(len(cell.before))
    before, displacement, slope = grid[0, 0], grid[0, 1], grid[1, 0]
    before.plot(pixels, cell.before, color=OTHER, label="before")
    before.plot(pixels, cell.after, color=BEST, label=_after(cell))
    before.legend()
    before.set(xlabel="x / px", ylabel="grey level")
    displacement.plot(u, cell.sampled.displacement[:, 0], color=BEST)
    slope.plot(u, cell.sampled.jacobian[:, 0, 0], color=BEST)
    for axes, most, label in (
        (displacement, cell.norms[0], r"$\tau$ / px"),
        (slope, cell.norms[1], r"$\mathrm{d}\tau/\mathrm{d}x$"),
    ):
        for value in (-most, most):
            axes.axhline(value, color=OTHER, linestyle=(0, (4, 2)), linewidth=0.9)
        axes.set_ylabel(label)
        axes.set_xlabel("x / px")


def _after(cell: Cell) -> str:
    return "after, at the norm of x" if cell.fixed else "after"


def _trace(axes: Axes, cell: Cell) -> None:
    """The objective after every step, one line per start; the best one stands out."""
    trace = cell.trace
    steps = np.arange(len(trace))
    best = int(np.nanargmax(np.nanmax(trace, axis=0)))
    for start in [*(i for i in range(trace.shape[1]) if i != best), best]:
        chosen = start == best
        axes.plot(
            steps, trace[:, start], color=BEST if chosen else OTHER, linewidth=1.6 if chosen else 0.8,
            marker="o" if len(trace) == 1 else "", zorder=3 if chosen else 2,
        )  # fmt: skip
    count = trace.shape[1]
    axes.set_title(f"trace, {count} start{'s' if count > 1 else ''}")
    axes.yaxis.tick_right()  # its left is the colour bar's
    axes.yaxis.set_label_position("right")
    for side, there in (("left", False), ("right", True)):
        axes.spines[side].set_visible(there)
    axes.set_ylabel("\n".join(textwrap.wrap(cell.objective, TALL)))
    axes.set_xlabel("step")
    if len(trace) == 1:
        axes.set_xticks([0])
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
