"""Every warp with every boundary rule that it obeys."""

import importlib.util

import stability as st

RULES = (st.Periodic(), st.Reflect(), st.Zero())
LOOK_UPS = [
    warp
    for rule in RULES
    for warp in (st.IndexWarp(rule), st.BilinearWarp(rule), st.SplineWarp(rule), st.SplineWarp(rule, degree=5))
]
EXACT = [
    st.BandLimitedWarp(oversample, rule, evaluation)
    for rule in RULES[:2]
    for oversample in (1, 4)
    for evaluation in (
        st.MatrixProducts(),
        *([st.NonuniformFFT(1e-13)] if importlib.util.find_spec("finufft") else []),
    )
]
WARPS = [*LOOK_UPS, *EXACT]
POINTWISE = [warp for warp in WARPS if warp.points_per_pixel == 1]
SMOOTH = [warp for warp in WARPS if isinstance(warp, st.SplineWarp | st.BandLimitedWarp)]
"""Twice differentiable in the field."""


def label(warp) -> str:
    """Short, for the names of tests."""
    parts = [type(warp).__name__, type(warp.boundary).__name__]
    parts += [str(getattr(warp, name)) for name in ("degree", "oversample") if hasattr(warp, name)]
    parts += [type(warp.evaluation).__name__] if isinstance(warp, st.BandLimitedWarp) else []
    return "-".join(parts)
