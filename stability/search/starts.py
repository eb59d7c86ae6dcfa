r"""Where ascents start. Every start is tried with both signs, which are equal to first order and differ in truth."""

import abc
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stability.deformations.base import Deformation
from stability.search.checks import check_count
from stability.search.frank_wolfe import COLD
from stability.search.problem import Problem

SMALL = 1 / 32
"""Share of the norms at which the objective is taken to be linear in the field."""


class Start(abc.ABC):
    """A way to make starts."""

    count: int
    """How many for each image."""

    @abc.abstractmethod
    def draw(self, problem: Problem, generator: torch.Generator) -> Tensor:
        """Fields of the problem's sets, ``(n, *shape)``; rows of one image follow each other."""


@dataclass(frozen=True)
class Saturated(Start):
    """argmax <g, tau> over C(a, b) for random smooth g: no gradient of Phi, yet near the norms on much of the torus.

    Args:
        count: starts of this kind for each image.
    """

    count: int = 4

    def __post_init__(self) -> None:
        check_count("count", self.count, 4)

    def draw(self, problem: Problem, generator: torch.Generator) -> Tensor:
        """One cold linear step."""
        return problem.space.step(problem.space.directions(generator), None, COLD).parameters


@dataclass(frozen=True)
class Linearised(Start):
    """Frank-Wolfe steps of full length from saturated fields in the small sets C(a, b) / 32, where f is near its slope.

    Args:
        count: starts of this kind for each image.
        steps: gradients that each of them costs.
    """

    count: int = 20
    steps: int = 2

    def __post_init__(self) -> None:
        check_count("count", self.count, 20)
        check_count("steps", self.steps, 2)

    def draw(self, problem: Problem, generator: torch.Generator) -> Tensor:
        """The end of the iteration, enlarged."""
        small = replace(problem, space=problem.space.scaled(SMALL))
        step = small.space.step(small.space.directions(generator), None, COLD)
        for _ in range(self.steps):
            step = small.space.step(small.gradients(step.parameters)[1], step.state, COLD // 3)
        return step.parameters / SMALL


@dataclass(frozen=True)
class Given(Start):
    """A field of the user's own, for example the one found for another size or another network.

    Args:
        field: batch shape ``()``, or ``(B,)`` with one field for each image; it is scaled into C(a, b).
    """

    field: Deformation
    count: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.field, Deformation):
            raise ValueError(f"a given start must be a deformation, got {self.field!r}; use found.field")
        check_count("count", self.count, 1)

    def draw(self, problem: Problem, generator: torch.Generator) -> Tensor:
        """The field in the parameters of the search.

        Raises:
            ValueError: if its batch or its size does not fit.
        """
        images = int(problem.owner.max()) + 1
        flat = self.field.flat()
        if flat.size != tuple(problem.images.shape[2:]) or flat.batch_shape[0] not in (1, images):
            raise ValueError(
                f"a given field must have size {tuple(problem.images.shape[2:])} and batch () or ({images},), got "
                f"{flat.size} and {tuple(self.field.batch_shape)}; give one field for each image"
            )
        rows = problem.owner if len(flat.mean) > 1 else torch.zeros_like(problem.owner)
        return problem.space.inside(flat[rows])


def signed(problem: Problem, parameters: Tensor) -> Tensor:
    """Every field or its negative, whichever has the larger objective."""
    better = problem.values(-parameters) > problem.values(parameters)
    return torch.where(better.reshape(-1, *[1] * (parameters.ndim - 1)), -parameters, parameters)
