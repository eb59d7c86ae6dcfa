"""Some of the fields that the searches of a sweep found, as arrays: what their pictures are drawn from."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stability.deformations.files import load_deformation
from stability.sweeps.build import build_warp
from stability.sweeps.chunks import ORDER, Chunk, Cut
from stability.sweeps.pictures import as_picture
from stability.sweeps.searching import TRACE
from stability.sweeps.store import Store, field_file

SHOWN = 3
"""Searches that are shown."""
NODES = 96
"""Intervals along the longer side of a picture, at least."""
SIZE = "distance_over_input_norm"
PICTURES = ("before", "after", "displacement", "jacobian")
WORDS = (
    "representation", "objective", "status_largest_found", "status_supremum", "family_parameters", "architecture",
    "front_end",
)  # fmt: skip
NUMBERS = (
    "image", "asked_displacement_norm", "asked_jacobian_norm", "displacement_norm_upper", "jacobian_norm_upper",
    "largest_found", "distance_over_input_norm", "norm_x", "spread", "bound_supremum", "floor", "gradient_evaluations",
)  # fmt: skip


def searched(store: Store, cut: Cut, images: Tensor) -> dict[str, Any]:
    """The searches that moved their representation most: the first of every model, then the next ones.

    Args:
        store: with all parts.
        cut: the sweep.
        images: ``(B, C, *size)``.

    Returns:
        Of K searches ``before`` and ``after``, ``(K, *size)`` or, of three channels, ``(K, *size, 3)``,
        ``displacement`` ``(K, *grid, d)`` in px and ``jacobian``
        ``(K, *grid, d, d)`` on the grid of ``x`` (and ``y``), ``trace`` ``(K, T, S)`` padded with NaN, and columns of
        their rows ``(K,)``.
    """
    rows: dict[str, list[Any]] = {
        name: [] for name in (*WORDS, *NUMBERS, "before", "after", "displacement", "jacobian")
    }
    traces: list[npt.NDArray[Any]] = []
    axes = _axes(cut.spec.images.size)
    points = torch.from_numpy(np.stack(np.meshgrid(*axes), axis=-1))
    warp = build_warp(cut.spec)
    for chunk in _chosen(store, cut):
        table = store.read(chunk)
        row = table.to_pandas().iloc[0]
        for name in (*WORDS, *NUMBERS):
            rows[name].append(row[name])
        field = load_deformation(store.folder / field_file(chunk))
        image = images[slice(*chunk.images)]
        rows["before"].append(as_picture(image[0].numpy()))
        rows["after"].append(as_picture(warp(image, field)[0].numpy()))
        flat = points.reshape(-1, points.shape[-1])
        rows["displacement"].append(field.displacement(flat)[0].reshape(points.shape).float().numpy())
        rows["jacobian"].append(field.jacobian(flat)[0].reshape(*points.shape, points.shape[-1]).float().numpy())
        traces.append(np.array(json.loads((table.schema.metadata or {})[TRACE.encode()])))
    longest = [max((trace.shape[i] for trace in traces), default=0) for i in (0, 1)]
    trace = np.full((len(traces), *longest), np.nan)
    for k, one in enumerate(traces):
        trace[k, : one.shape[0], : one.shape[1]] = one
    found = {name: np.array(values, dtype=str if name in WORDS else None) for name, values in rows.items()}
    return found | {"trace": trace, **dict(zip(("x", "y"), axes, strict=False))}


def _chosen(store: Store, cut: Cut) -> list[Chunk]:
    """The largest distance of every model, the larger models' first; then those of other images."""
    sizes = {chunk: _size(store, chunk) for chunk in cut.chunks if chunk.search}
    order = sorted(sizes, key=lambda chunk: (-sizes[chunk], chunk.address))
    firsts = {chunk.model: chunk for chunk in reversed(order)}
    chosen = sorted(firsts.values(), key=lambda chunk: chunk.model)
    others = [chunk for chunk in order if chunk not in chosen]
    while len(chosen) < SHOWN and others:
        new = [one for one in others if (one.model, one.images) not in {(c.model, c.images) for c in chosen}]
        chosen.append((new or others)[0])
        others.remove(chosen[-1])
    return chosen[:SHOWN]


def _size(store: Store, chunk: Chunk) -> float:
    rows = store.read(chunk).to_pandas().sort_values(list(ORDER))
    return float(np.nan_to_num(rows[SIZE].iloc[0], nan=-1.0))


def _axes(size: tuple[int, ...]) -> tuple[npt.NDArray[np.float64], ...]:
    """Coordinates along (x, y) or (x,) in px, both borders included."""
    each = max(2, round(NODES / max(size)))
    return tuple(np.linspace(-0.5, side - 0.5, each * side + 1) for side in reversed(size))
