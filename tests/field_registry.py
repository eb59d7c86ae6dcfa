"""Every family of deformations: how the laws draw it, and what it can do."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch

import stability as st


@dataclass(frozen=True)
class Entry:
    """``draw(size, count, seed, unit)``: fields on a grid whose pixels are 1 / unit of those of the base resolution."""

    draw: Callable[[tuple[int, ...], int, int, float], Any]
    knob: bool = True  # both norms at once
    dimensions: tuple[int, ...] = (1, 2)
    torus: bool = True  # a field of the torus: periodic, or vanishing at the border
    smooth: bool = True  # twice differentiable inside its domain
    certified: bool = True


def rng(seed):
    return torch.Generator().manual_seed(seed)


def _entry(cls, *, lengths=(), extra=None, **flags):
    """A family drawn by its ``sample``; ``lengths`` are keyword arguments in pixels, which follow the resolution."""

    def draw(size, count, seed, unit):
        scaled = {name: value * unit for name, value in dict(lengths).items()}
        return cls.sample(size, batch_shape=(count,), generator=rng(seed), **scaled, **(extra or {}))

    return Entry(draw, **flags)


def _translation(size, count, seed, unit):
    return st.Translation(2 * unit * torch.randn(count, len(size), generator=rng(seed), dtype=torch.float64), size)


def _mixed(size, count, seed, unit):
    return st.MixedField.sample(
        size, displacement_norm=2.0 * unit, jacobian_norm=0.3, batch_shape=(count,), generator=rng(seed)
    )


def _saturated(size, count, seed, unit):
    lattice = tuple(round(side / unit) for side in size)
    norms = {"displacement_norm": 2.0 * unit, "jacobian_norm": 0.3}
    return st.PiecewiseLinearField.saturated(size, **norms, lattice=lattice, batch_shape=(count,), generator=rng(seed))


def _linear(size, count, seed, unit):
    lattice = tuple(round(side / unit) for side in size)
    return st.PiecewiseLinearField.sample(size, cutoff=2, lattice=lattice, batch_shape=(count,), generator=rng(seed))


REGISTRY = {
    "translation": Entry(_translation, knob=False),
    "affine": _entry(st.AffineField, lengths={"edge": 0.5}, knob=False, torus=False),
    "fourier": _entry(st.FourierField, extra={"cutoff": 2}),
    "gradient": _entry(st.GradientField, extra={"cutoff": 2}),
    "divergence_free": _entry(st.DivergenceFreeField, extra={"cutoff": 2}, dimensions=(2,)),
    "gaussian": _entry(st.GaussianField, lengths={"smoothing": 4.0}),
    "mixed": Entry(_mixed, knob=False),
    "max_entropy": _entry(
        st.MaxEntropyField, lengths={"edge": 0.5, "typical_displacement": 1.0}, extra={"cutoff": 3}, smooth=False
    ),
    "spline": _entry(st.SplineField, extra={"lattice": 6}),
    "piecewise_linear": Entry(_linear, smooth=False),
    "saturated": Entry(_saturated, smooth=False),
    "bump": _entry(st.BumpField),
    "local_affine": _entry(st.LocalAffineField),
    "thin_plate": _entry(
        st.ThinPlateField, lengths={"edge": 0.5}, knob=False, torus=False, smooth=False, certified=False
    ),
    "flow": _entry(st.FlowField, extra={"cutoff": 2}),
    "compact": _entry(st.CompactField, lengths={"edge": 0.5}, extra={"cutoff": 2}),
}
"""By the names that specifications use."""

SIZES = {1: (24,), 2: (24, 20)}


LONG = {("flow", 1), ("flow", 2), ("compact", 2), ("thin_plate", 2)}
"""Cases whose laws take seconds: run with the slow tests."""


def cases(*, knob=False):
    """(name, d) of every family in every dimension; with ``knob`` those that take both norms at once."""
    every = [(name, d) for name, entry in REGISTRY.items() for d in entry.dimensions if entry.knob or not knob]
    return [pytest.param(*case, marks=pytest.mark.slow) if case in LONG else case for case in every]


@cache
def draw(name, d, count=3, seed=0, unit=1):
    """Fields of a family at ``unit`` times the base resolution; drawn once, like the norms that they keep."""
    return REGISTRY[name].draw(tuple(unit * side for side in SIZES[d]), count, seed, float(unit))
