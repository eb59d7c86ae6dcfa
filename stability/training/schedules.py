"""How the learning rate changes in the course of a training."""

import abc
import math
from dataclasses import dataclass


class Schedule(abc.ABC):
    """A factor of the learning rate for every step; a class of your own needs ``factor`` (make it a frozen dataclass).

    ``train`` writes its ``repr`` into the state of a training, so that another one is refused.
    """

    @abc.abstractmethod
    def factor(self, step: int, steps: int) -> float:
        """What the learning rate is multiplied by.

        Args:
            step: 0 ... steps - 1.
            steps: of the whole training, all epochs.
        """


@dataclass(frozen=True)
class Constant(Schedule):
    """1 throughout. The only schedule with which an interrupted training may go on to more epochs."""

    def factor(self, step: int, steps: int) -> float:
        """1."""
        return 1.0


@dataclass(frozen=True)
class Cosine(Schedule):
    r"""min(1, (t + 1) / (w T)) (1 + cos(pi t / T)) / 2 at step t of T: up from 0, then down to 0 along half a cosine.

    Args:
        warm_up: w, share of the steps in which the rate rises, in [0, 1).

    Reference: Loshchilov & Hutter 2017; Goyal et al. 2017 for the rise.

    >>> [round(Cosine(0.5).factor(step, 4), 3) for step in range(4)]
    [0.5, 0.854, 0.5, 0.146]
    """

    warm_up: float = 0.05

    def __post_init__(self) -> None:
        if isinstance(self.warm_up, bool) or not isinstance(self.warm_up, int | float) or not 0 <= self.warm_up < 1:
            raise ValueError(f"warm_up must be a share in [0, 1), got {self.warm_up!r}; use 0.05")

    def factor(self, step: int, steps: int) -> float:
        """The formula above."""
        rise = min(1.0, (step + 1) / (self.warm_up * steps)) if self.warm_up else 1.0
        return rise * 0.5 * (1.0 + math.cos(math.pi * step / steps))
