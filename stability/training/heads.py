"""How the linear head of a classifier learns: with the representation, step by step, or exactly, once an epoch."""

import abc
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

ITERATIONS = 500
GRADIENT = 1e-7
"""Largest entry of the gradient at which an exact head counts as found."""


class HeadLearning(abc.ABC):
    """A way in which the head W, w_0 of ``Classifier`` learns."""

    @property
    @abc.abstractmethod
    def stepped(self) -> bool:
        """Whether the optimiser of the representation steps the head, too."""

    @property
    def beginning(self) -> "HeadLearning | None":
        """What settles the head once, before the first epoch; None: it begins at zero."""
        return None if self.stepped else self

    @abc.abstractmethod
    def settle_(self, head: nn.Linear, features: Tensor, labels: Tensor) -> None:
        """Before every epoch and after the last one, unless it is stepped: the head for the features as they are.

        Args:
            head: changed in place.
            features: Phi(x), ``(N, K)``.
            labels: ``(N,)``, int64.
        """


@dataclass(frozen=True)
class StochasticHead(HeadLearning):
    """Adam steps the head with the representation.

    Args:
        start: what finds the head to begin with, for example ``ExactHead(1e-5)``: where features are small a head that
            begins at zero takes many epochs to grow; None: zero.
    """

    start: "ExactHead | None" = None

    @property
    def stepped(self) -> bool:
        """True."""
        return True

    @property
    def beginning(self) -> HeadLearning | None:
        """``start``."""
        return self.start

    def settle_(self, head: nn.Linear, features: Tensor, labels: Tensor) -> None:
        """Nothing."""


@dataclass(frozen=True)
class ExactHead(HeadLearning):
    r"""The head that is best for the representation as it is; the epoch's steps then change the representation alone.

        minimise over W, w_0    mean_i -log softmax(W Phi(x_i) + w_0)_{label_i} + penalty / 2 |W|^2

    Convex, and strictly so in W: by L-BFGS in double precision until no entry of the gradient exceeds 1e-7.

    Args:
        penalty: > 0, in units of 1 / |Phi|^2 (features are taken as they are, without the cell area).

    Reference: Mairal 2016, section 4 (alternation of an exact head and steps in the filters).
    """

    penalty: float = 1e-3

    def __post_init__(self) -> None:
        if (
            isinstance(self.penalty, bool)
            or not isinstance(self.penalty, int | float)
            or not 0 < self.penalty < math.inf
        ):
            raise ValueError(f"penalty must be finite and positive, got {self.penalty!r}; use 1e-3")

    @property
    def stepped(self) -> bool:
        """False."""
        return False

    def settle_(self, head: nn.Linear, features: Tensor, labels: Tensor) -> None:
        """The minimum, from the head as it is."""
        rows, weight = features.detach().double(), head.weight.detach().double().clone().requires_grad_()
        bias = head.bias.detach().double().clone().requires_grad_()
        optimiser = torch.optim.LBFGS(
            [weight, bias], max_iter=ITERATIONS, tolerance_grad=GRADIENT, tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )  # fmt: skip

        def closure() -> Tensor:
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(rows @ weight.T + bias, labels)
            value = loss + 0.5 * self.penalty * weight.square().sum()
            value.backward()
            return value

        with torch.enable_grad():
            optimiser.step(closure)
        with torch.no_grad():
            head.weight.copy_(weight)
            head.bias.copy_(bias)
