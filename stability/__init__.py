"""Measure how far a representation moves when an image is deformed, next to what the theory allows.

The public names, in the order in which data flows. They load on first use (PEP 562): ``import stability`` loads
neither torch nor kornia nor matplotlib.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_MODULES = ("grid", "images", "kernels", "front_ends", "bounds")
_EXPORTS = {
    # deformations
    "Deformation": "stability.deformations.base",
    "Translation": "stability.deformations.translation",
    "FourierField": "stability.deformations.fourier",
    "control": "stability.deformations.control",
    "reachable": "stability.deformations.control",
    # warps
    "Warp": "stability.warps.base",
    "BandLimitedWarp": "stability.warps.band_limited",
    "BilinearWarp": "stability.warps.bilinear",
    "IndexWarp": "stability.warps.index",
    # representations
    "Architecture": "stability.architecture",
    "Layer": "stability.architecture",
    "Periodic": "stability.architecture",
    "GramCKN": "stability.representations.gram",
    "LinearGram": "stability.representations.linear",
    "kernel_matrix": "stability.representations.matrix",
    # bounds
    "closed_form": "stability.bounds.closed_form",
    "ladder": "stability.ladders",
    "Ladder": "stability.ladders",
    "Rung": "stability.bounds.rung",
    # sweeps
    "SweepSpec": "stability.sweeps.spec",
    "ImagesSpec": "stability.sweeps.spec",
    "FourierSpec": "stability.sweeps.spec",
    "TranslationSpec": "stability.sweeps.spec",
    "GramSpec": "stability.sweeps.spec",
    "LinearSpec": "stability.sweeps.spec",
    "BandLimitedWarpSpec": "stability.sweeps.spec",
    "BilinearWarpSpec": "stability.sweeps.spec",
    "IndexWarpSpec": "stability.sweeps.spec",
    "sweep": "stability.sweeps.run",
}

__all__ = ["__version__", *_EXPORTS, *_MODULES]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name in _MODULES:
        return importlib.import_module(f"stability.{name}")
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'stability' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from stability import bounds, front_ends, grid, images, kernels
    from stability.architecture import Architecture, Layer, Periodic
    from stability.bounds.closed_form import closed_form
    from stability.bounds.rung import Rung
    from stability.deformations.base import Deformation
    from stability.deformations.control import control, reachable
    from stability.deformations.fourier import FourierField
    from stability.deformations.translation import Translation
    from stability.ladders import Ladder, ladder
    from stability.representations.gram import GramCKN
    from stability.representations.linear import LinearGram
    from stability.representations.matrix import kernel_matrix
    from stability.sweeps.run import sweep
    from stability.sweeps.spec import (
        BandLimitedWarpSpec,
        BilinearWarpSpec,
        FourierSpec,
        GramSpec,
        ImagesSpec,
        IndexWarpSpec,
        LinearSpec,
        SweepSpec,
        TranslationSpec,
    )
    from stability.warps.band_limited import BandLimitedWarp
    from stability.warps.base import Warp
    from stability.warps.bilinear import BilinearWarp
    from stability.warps.index import IndexWarp
