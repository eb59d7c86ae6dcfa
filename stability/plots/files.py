"""Figures on disk and in memory. A figure that cannot be drawn leaves the old files as they are."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import matplotlib.style

from stability.files import replacing
from stability.names import resolve, unknown
from stability.plots import anchors, distance, knobs, largest, plane, searched, strip
from stability.plots.drawing import PAPER, SCREEN, Drawn
from stability.plots.reading import Run, read

FIGURES: Mapping[str, Callable[[Run], Drawn]] = {
    "strip": strip.strip,
    "largest_found": largest.largest_found,
    "searched": searched.searched,
    "distance_versus_deformation": distance.distance_versus_deformation,
    "plane": plane.plane,
    "pooling_scale": knobs.pooling_scale,
    "patch_size": knobs.patch_size,
    "anchors": anchors.anchors,
}
"""Name of a figure -> the function that draws it, in the order of a page."""
NEEDS: Mapping[str, Callable[[Run], object]] = {
    "strip": strip.needed,
    "largest_found": largest.needed,
    "searched": searched.needed,
    "distance_versus_deformation": distance.needed,
    "plane": plane.needed,
    "pooling_scale": knobs.needed_for_pooling_scale,
    "patch_size": knobs.needed_for_patch_size,
    "anchors": anchors.needed,
}
"""Name of a figure -> what it is drawn from; a ``ValueError`` says why a run cannot be drawn so."""
STYLES = {"screen": SCREEN, "paper": PAPER}
METADATA: Mapping[str, dict[str, Any]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
}
"""Suffix of a file -> what keeps the day and the machine out of its bytes."""
FOLDER = "figures"
SALT = "stability"


def applicable(run: Run) -> tuple[str, ...]:
    """The figures that a run can show, in the order of ``FIGURES``."""
    return tuple(name for name in FIGURES if not lacks(run, name))


def lacks(run: Run, name: str) -> str:
    """Why a run cannot show a figure; "" if it can."""
    try:
        NEEDS[name](run)
    except ValueError as error:
        return str(error)
    return ""


def check(run: Run, name: str) -> None:
    """Raise ``ValueError`` unless a run can show a figure: the message names those that it can, or what is missing."""
    resolve("figure", name, FIGURES)
    reason = lacks(run, name)
    if reason:
        there = ", ".join(map(repr, applicable(run))) or "none"
        raise ValueError(f"figure must be one of {there} for this store, got {name!r}; {reason}")


def draw(folder: str | Path, name: str, *, style: Literal["screen", "paper"] = "screen", out: str | Path) -> Path:
    """One figure of a store as a file: png, pdf or svg, by the suffix.

    Args:
        folder: what ``stability run --store`` or ``stability quickstart --out`` wrote.
        name: a key of ``FIGURES`` that ``applicable`` lists.
        style: "screen" (10 inches, large sans-serif letters) or "paper" (7 inches, serif).
        out: the file; it replaces an older one only when it is complete.

    Returns:
        The path of the file.

    Raises:
        ValueError: for an unknown figure, style or suffix, or if the store lacks what the figure needs; no file is
            changed.
    """
    path = Path(out)
    kind = path.suffix.removeprefix(".").lower()
    if kind not in METADATA:
        raise ValueError(unknown("suffix of out", kind, METADATA))
    sheet = resolve("style", style, STYLES)
    if not path.parent.is_dir():
        raise ValueError(f"out must be in a folder that is there, got {str(out)!r}; make the folder first")
    resolve("figure", name, FIGURES)
    run = read(folder)
    check(run, name)
    content = _drawn(run, name, sheet, kind)[0]
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return path


def png(run: Run, name: str) -> tuple[bytes, str]:
    """One figure of ``FIGURES`` in the screen style.

    Args:
        run: what it is drawn from.
        name: a key of ``FIGURES``.

    Returns:
        The PNG (150 dpi) and the caption.
    """
    return _drawn(run, name, SCREEN, "png")


def svg(run: Run, name: str) -> tuple[str, str]:
    """One figure of ``FIGURES`` in the screen style as SVG text, and the caption; equal runs give equal text."""
    content, caption = _drawn(run, name, SCREEN, "svg")
    return content.decode("utf-8"), caption


def pdf(run: Run, name: str) -> bytes:
    """One figure of ``FIGURES`` in the paper style, 7 inches wide; equal runs give equal bytes."""
    return _drawn(run, name, PAPER, "pdf")[0]


def draw_all(folder: str | Path) -> list[Path]:
    """``figures/<name>.png`` for the screen and ``figures/<name>.pdf`` for print, for every figure that applies.

    Everything is drawn before the first file is written.

    Args:
        folder: what ``stability quickstart --out`` or ``stability run --store`` wrote.

    Returns:
        The paths of the files, in the order of ``FIGURES``.

    Raises:
        ValueError: if the folder holds no run; no file is changed.
    """
    run = read(folder)
    contents: dict[str, bytes] = {}
    for name in applicable(run):
        contents[f"{name}.png"], contents[f"{name}.pdf"] = png(run, name)[0], pdf(run, name)
    target = Path(folder) / FOLDER
    target.mkdir(exist_ok=True)
    for file, content in contents.items():
        with replacing(target / file) as temporary:
            temporary.write_bytes(content)
    return [target / file for file in contents]


def _drawn(run: Run, name: str, sheet: Path, kind: str) -> tuple[bytes, str]:
    with matplotlib.style.context(str(sheet)), mpl.rc_context({"svg.hashsalt": SALT}):
        drawn = FIGURES[name](run)
        stream = io.BytesIO()
        drawn.figure.savefig(stream, format=kind, metadata=METADATA[kind])
    return stream.getvalue(), drawn.caption
