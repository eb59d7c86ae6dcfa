"""Fourier series with every coefficient along a direction of its own: the two parts of Helmholtz' decomposition."""

import abc
import math
from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor

from stability.deformations.base import Deformation
from stability.deformations.checks import check_generator
from stability.deformations.modes import draw_disc
from stability.deformations.series import FourierSeries

TOLERANCE = 1e-9
"""How far a field's coefficients may be from their directions, relative to all of them (Euclidean norms)."""


class HelmholtzField(FourierSeries, abc.ABC):
    """A series with A_k, B_k parallel to a unit vector e_k. Scaling, tilting and adding keep that.

    The constructor is that of ``FourierSeries``.

    Raises:
        ValueError: if shapes do not fit, or the parts of the coefficients across e_k exceed 1e-9 of the coefficients
            (16 machine epsilons for shorter types; Euclidean norms). What is smaller is removed as round-off.
    """

    RULE: ClassVar[str]
    """What must hold, in words."""

    def __init__(
        self, modes: Tensor, cosine: Tensor, sine: Tensor, *, size: Sequence[int], mean: Tensor | None = None
    ) -> None:
        super().__init__(modes, cosine, sine, size=size, mean=mean)
        unit = self.directions(self.frequencies)
        along = {name: _cleared(unit, self._tensors[name]) for name in ("cosine", "sine")}
        whole = torch.cat([self.cosine, self.sine], dim=-2).detach().norm(dim=(-2, -1))  # batch_shape
        across = torch.cat([self._tensors[name] - value for name, value in along.items()], dim=-2).detach()
        share = across.norm(dim=(-2, -1)) / whole.clamp_min(torch.finfo(self.dtype).tiny)
        if not bool((share <= max(TOLERANCE, 16 * torch.finfo(self.dtype).eps)).all()):
            raise ValueError(
                f"cosine and sine must be {self.RULE} to the frequencies, got other parts of {float(share.max()):.3g} "
                f"of the coefficients; use {type(self).__name__}.sample, or FourierField for general coefficients"
            )
        self._tensors.update(along)

    @staticmethod
    @abc.abstractmethod
    def directions(frequencies: Tensor) -> Tensor:
        """e_k for omega_k, ``(M, d)``."""

    @classmethod
    def drawn(
        cls, size: tuple[int, ...], cutoff: float, batch_shape: Sequence[int], generator: torch.Generator
    ) -> Self:
        """sqrt(d) times the part along e_k of the flat-spectrum Gaussian field: E |tau|^2 = (shorter side / 32)^2."""
        modes, cosine, sine = draw_disc(size, cutoff, batch_shape, check_generator(generator))
        unit = cls.directions(FourierSeries(modes, cosine, sine, size=size).frequencies)
        root = math.sqrt(len(size))
        return cls(modes, root * _along(unit, cosine), root * _along(unit, sine), size=size)

    def plus(self, other: Deformation) -> Deformation | None:
        """A field of this family for two of them, else as for any two series."""
        if not isinstance(other, HelmholtzField) or type(other) is not type(self):
            return super().plus(other)
        first, second = (
            FourierSeries(one.modes, one.cosine, one.sine, size=one.size, mean=one.mean) for one in (self, other)
        )
        total = first.plus(second)
        assert isinstance(total, FourierSeries)
        unit = self.directions(total.frequencies)
        # what is left where coefficients cancel is round-off and need not be along e_k
        along = {"cosine": _cleared(unit, total.cosine), "sine": _cleared(unit, total.sine)}
        result = self._with({**along, "mean": total.mean})
        result._shared = {"modes": total.modes}
        return result


def _along(unit: Tensor, coefficients: Tensor) -> Tensor:
    """<A, e> e for each coefficient."""
    amplitude = (coefficients.to(torch.float64) * unit).sum(-1, keepdim=True)
    return (amplitude * unit).to(coefficients.dtype)


def _cleared(unit: Tensor, coefficients: Tensor) -> Tensor:
    """<A, e> e; coefficients that are along e to round-off already stay as they are, bit by bit."""
    part = _along(unit, coefficients)
    across = (coefficients - part).detach().norm(dim=-1, keepdim=True)
    exact = across <= 16 * torch.finfo(coefficients.dtype).eps * coefficients.detach().norm(dim=-1, keepdim=True)
    return torch.where(exact, coefficients, part)
