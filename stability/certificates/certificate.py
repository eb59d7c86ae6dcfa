"""``Certificate``: a bound per field, the form that gave it, and how far it can be trusted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from stability.bounds.rung import Status


class Form(NamedTuple):
    """One bound of a quantity of one field.

    Args:
        value: the bound; infinity where the form says nothing.
        name: of the form.
        status: what it rests on.
    """

    value: float
    name: str
    status: Status = Status.NUMERICAL


@dataclass(frozen=True)
class Certificate:
    """value >= the quantity, for every field of a batch.

    Args:
        value: ``(F,)`` float64; infinity where nothing is claimed.
        forms: which form gave it, one per field; "none" where nothing is claimed.
        status: the weakest among the fields that are covered; not covered if none is.
    """

    value: Tensor
    forms: tuple[str, ...]
    status: Status

    @classmethod
    def smallest(cls, rows: Iterable[Sequence[Form]], device: torch.device | None = None) -> "Certificate":
        """For each field the smallest of its forms, the first among equals.

        Args:
            rows: the forms of each field; an empty row is not covered.
            device: of ``value``.

        >>> Certificate.smallest([[Form(2.0, "norms"), Form(1.0, "jacobian")], []])
        Certificate(value=tensor([1., inf], dtype=torch.float64), forms=('jacobian', 'none'),
                    status=<Status.NUMERICAL: 'proof, numerically evaluated'>)
        """
        nothing = Form(torch.inf, "none", Status.NOT_COVERED)
        best = [min((*forms, nothing), key=lambda form: form.value) for forms in rows]
        covered = [form.status for form in best if form.value < torch.inf]
        return cls(
            torch.tensor([form.value for form in best], dtype=torch.float64, device=device),
            tuple(form.name if form.value < torch.inf else "none" for form in best),
            Status.weakest(*covered) if covered else Status.NOT_COVERED,
        )

    @property
    def covered(self) -> Tensor:
        """Which fields it says something about, ``(F,)`` bool."""
        return torch.isfinite(self.value)
