"""Figures on disk and in memory. A figure that cannot be drawn leaves the old files as they are."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib.style

from stability.plots.distance import distance_versus_deformation
from stability.plots.drawing import PAPER, SCREEN, Drawn
from stability.plots.knobs import patch_size, pooling_scale
from stability.plots.plane import plane
from stability.plots.reading import Run, read
from stability.plots.strip import strip
from stability.sweeps.result import replacing

FIGURES: Mapping[str, Callable[[Run], Drawn]] = {
    "strip": strip,
    "distance_versus_deformation": distance_versus_deformation,
    "plane": plane,
    "pooling_scale": pooling_scale,
    "patch_size": patch_size,
}
"""Name of a figure -> the function that draws it, in the order of a page."""
FOLDER = "figures"


def png(run: Run, name: str) -> tuple[bytes, str]:
    """One figure of ``FIGURES`` in the screen style.

    Args:
        run: what it is drawn from.
        name: a key of ``FIGURES``.

    Returns:
        The PNG (150 dpi) and the caption.
    """
    with matplotlib.style.context(str(SCREEN)):
        drawn = FIGURES[name](run)
        return _saved(drawn, "png", {"Software": None}), drawn.caption


def pdf(run: Run, name: str) -> bytes:
    """One figure of ``FIGURES`` in the paper style, 7 inches wide; equal runs give equal bytes."""
    with matplotlib.style.context(str(PAPER)):
        return _saved(FIGURES[name](run), "pdf", {"CreationDate": None})


def draw_all(folder: str | Path) -> list[Path]:
    """``figures/<name>.png`` for the screen and ``figures/<name>.pdf`` for print, for every name of ``FIGURES``.

    Everything is drawn before the first file is written.

    Args:
        folder: what ``stability quickstart --out`` wrote.

    Returns:
        The paths of the files, in the order of ``FIGURES``.

    Raises:
        ValueError: if the folder lacks a sweep; no file is changed.
    """
    run = read(folder)
    contents: dict[str, bytes] = {}
    for name in FIGURES:
        contents[f"{name}.png"], contents[f"{name}.pdf"] = png(run, name)[0], pdf(run, name)
    target = Path(folder) / FOLDER
    target.mkdir(exist_ok=True)
    for file, content in contents.items():
        with replacing(target / file) as temporary:
            temporary.write_bytes(content)
    return [target / file for file in contents]


def _saved(drawn: Drawn, kind: str, metadata: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    drawn.figure.savefig(stream, format=kind, metadata=metadata)
    return stream.getvalue()
