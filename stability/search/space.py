r"""``Space``: where is searched, C(a, b) = {sup |tau| <= a, sup ||grad tau||_2 <= b} in a linear space of fields."""

import abc
from typing import NamedTuple, Self

import torch
from torch import Tensor

from stability.deformations.base import Deformation


class Step(NamedTuple):
    """A field of C(a, b) that goes far in a direction.

    Args:
        parameters: ``(n, *shape)``.
        state: where the iteration ended, the start of a later one.
    """

    parameters: Tensor
    state: object


class Space(abc.ABC):
    """n convex sets of fields, all given by parameters ``(n, *shape)``, on which displacements depend linearly."""

    a: Tensor
    """sup |tau| at most, ``(n,)`` in pixels."""
    b: Tensor
    """sup ||grad tau||_2 at most, ``(n,)``."""

    @abc.abstractmethod
    def displacement(self, parameters: Tensor, points: Tensor) -> Tensor:
        """tau(u) at common points, ``(n, P, d)`` in pixels, differentiable in the parameters.

        Args:
            parameters: ``(n, *shape)``.
            points: ``(P, d)`` in pixels.
        """

    @abc.abstractmethod
    def step(self, direction: Tensor, start: object | None, iterations: int) -> Step:
        """max <direction, parameters> over the sets, nearly; the sets' norms hold whatever the iterations.

        Args:
            direction: ``(n, *shape)``; its scale does not matter.
            start: state of an earlier step.
            iterations: at least 1.
        """

    @abc.abstractmethod
    def directions(self, generator: torch.Generator) -> Tensor:
        """Random smooth directions, ``(n, *shape)``, float64."""

    @abc.abstractmethod
    def field(self, parameters: Tensor) -> Deformation:
        """The fields, batch shape ``(n,)``."""

    @abc.abstractmethod
    def enlarged(self, parameters: Tensor) -> Tensor:
        """The largest multiples of fields of the sets that are in them; of 0: 0."""

    @abc.abstractmethod
    def inside(self, field: Deformation) -> Tensor:
        """The parameters of fields of batch shape ``(n,)``, or near them, in the sets, ``(n, *shape)``."""

    @abc.abstractmethod
    def state_of(self, state: object, rows: Tensor) -> object:
        """The part of a state that belongs to rows."""

    @abc.abstractmethod
    def __getitem__(self, rows: Tensor) -> Self:
        """The sets of some rows."""

    @abc.abstractmethod
    def scaled(self, factor: float) -> Self:
        """The sets C(factor a, factor b)."""
