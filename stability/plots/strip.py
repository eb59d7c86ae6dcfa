"""The strip: images and the grid that a deformation carries along."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from stability.plots.drawing import Drawn, panels
from stability.plots.reading import Array, Run
from stability.plots.series import FIELD

SPACING = 4
GRID_COLORS = ("#56B4E9", "#E69F00")
NEEDED = ("images", "displacement", "displacement_norm", "jacobian_norm", "family")


def strip(run: Run) -> Drawn:
    """L_tau x(u) = x(u - tau(u)) with the level lines of both components of u - tau(u) every 4 px.

    Args:
        run: needs the arrays of ``strip.npz``.

    Raises:
        ValueError: if an array is missing.
    """
    arrays = needed(run)
    images, displacement = arrays["images"], arrays["displacement"]
    count, steps = images.shape[:2]
    figure, grid = panels(count, steps, 0.07 + 0.99 * count / steps)
    for step in range(steps):
        lines = material(displacement[step])
        for image, axes in zip(images[:, step], grid[:, step], strict=True):
            axes.imshow(image.clip(0.0, 1.0), cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
            for component, color in zip((0, 1), GRID_COLORS, strict=True):
                part = lines[..., component]
                levels = np.arange(np.ceil(part.min() / SPACING), part.max() / SPACING + 1e-9) * SPACING
                axes.contour(part, levels=levels, colors=color, linewidths=0.8, linestyles="solid", alpha=0.9)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(visible=False)
            for spine in axes.spines.values():
                spine.set_visible(False)
        grid[0, step].set_title(_title(run, step), fontsize="small")
    folded = float(np.max(run.strip["jacobian_norm"])) >= 1
    caption = (
        f"Images under deformations of growing size. Lines: the material grid, level lines of the two components of "
        f"u - tau(u) every {SPACING} px (blue: columns, orange: rows), that is where a straight grid drawn on the "
        "original is carried; tau = (3, 0) moves the content 3 px to the right. "
        + _domain(run)
        + (" Where ||grad tau|| >= 1 the field may fold and the theorem does not cover it." if folded else "")
    )
    return Drawn(figure, caption)


def needed(run: Run) -> Mapping[str, Any]:
    """The arrays that the figure is drawn from; ``ValueError`` if the run lacks one."""
    missing = [name for name in NEEDED if name not in run.strip]
    if missing:
        raise ValueError(
            f"strip must hold {', '.join(NEEDED)}, got none of {missing}; run `stability quickstart` or write strip.npz"
        )
    if run.strip["images"].shape[1] < 2:
        raise ValueError(
            "strip must hold deformed images, got the originals alone; give the specification deformations"
        )
    return run.strip


def material(displacement: Array) -> Array:
    """u - tau(u) in px, (x, y) on the last axis.

    Args:
        displacement: ``(H, W, 2)`` in px.

    >>> material(np.zeros((2, 3, 2)))[1, 2].tolist()
    [2.0, 1.0]
    """
    height, width = displacement.shape[:2]
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y], axis=-1) - displacement


def _domain(run: Run) -> str:
    boundaries = set(run.rows["boundary"].unique()) if "boundary" in run.rows else {"periodic"}
    if "reflect" in boundaries:
        domain = (
            "The domain is a window: beyond the border the image is reflected. Both norms are suprema over the window."
        )
    else:
        domain = (
            "The domain is a torus: what leaves on one side enters on the other. Both norms are suprema over the torus."
        )
    return domain + (" Networks with a boundary of zeros read 0 beyond it." if "zero" in boundaries else "")


def _title(run: Run, step: int) -> str:
    family = str(run.strip["family"][step])
    if family == "original":
        return "original"
    a, b = float(run.strip["displacement_norm"][step]), float(run.strip["jacobian_norm"][step])
    return f"{FIELD.get(family, family)}\n$\\|\\tau\\|_\\infty$ = {a:.3g} px\n$\\|\\nabla\\tau\\|_\\infty$ = {b:.2g}"
