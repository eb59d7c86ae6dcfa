"""``Enclosure``: lower <= ||K|| <= upper for each field of a batch, with the status of either claim."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stability.bounds.rung import Status


@dataclass(frozen=True)
class Enclosure:
    """lower <= ||K|| <= upper, one value per field.

    Args:
        lower: ``batch_shape``, float64, dimensionless.
        upper: the same shape; infinity where nothing is claimed.
        statuses: one per field in the order of the flattened batch. "proof": a closed form. "enclosure": both ends are
            proved but for round-off. "high probability": the upper end fails with probability at most ``failure``.
            "estimate": the error of the quadrature was seen, not proved. "not covered": no upper end.
        forms: how each was computed: "translation", "norms", "matrix", "Lanczos" or why not.
    """

    lower: Tensor
    upper: Tensor
    statuses: tuple[Status, ...]
    forms: tuple[str, ...]

    @property
    def status(self) -> Status:
        """The weakest among the fields."""
        return Status.weakest(*self.statuses)

    @property
    def form(self) -> str:
        """All forms that occur."""
        return ", ".join(dict.fromkeys(self.forms))

    @property
    def gap(self) -> Tensor:
        """(upper - lower) / upper; 0 where both ends are 0, NaN where nothing is claimed. ``batch_shape``."""
        return torch.where(self.upper > 0, (self.upper - self.lower) / self.upper, torch.zeros_like(self.upper))


@dataclass(frozen=True)
class Ends:
    """Those of one field.

    Args:
        lower: never above the norm.
        upper: never below it.
        status: of both claims.
        form: how they were computed.
    """

    lower: float
    upper: float
    status: Status
    form: str

    settled: bool = True
    """Whether larger balls of frequencies cannot make it narrower."""

    def widened(self, coarse: "Ends") -> "Ends":
        """Both ends moved by what they changed since a coarser sampling: an estimate."""
        return replace(
            self,
            lower=max(0.0, self.lower - abs(self.lower - coarse.lower)),
            upper=self.upper + abs(self.upper - coarse.upper),
            status=Status.ESTIMATE,
        )

    def with_earlier(self, other: "Ends | None") -> "Ends":
        """What both claim about the same norm; of two estimates the narrower."""
        if other is None:
            return self
        if self.status is Status.ESTIMATE:
            return self if self.gap < other.gap else other
        return replace(self, lower=max(self.lower, other.lower), upper=min(self.upper, other.upper))

    @property
    def gap(self) -> float:
        """(upper - lower) / upper; 0 for 0."""
        return (self.upper - self.lower) / self.upper if self.upper > 0 else 0.0


def gathered(ends: Sequence[Ends], shape: torch.Size, device: torch.device) -> Enclosure:
    """The fields' ends as one ``Enclosure`` of batch shape ``shape``."""
    values = torch.tensor([(one.lower, one.upper) for one in ends], dtype=torch.float64, device=device)
    lower, upper = values.reshape(*shape, 2).unbind(-1)
    return Enclosure(lower, upper, tuple(one.status for one in ends), tuple(one.form for one in ends))
