r"""``Problem``: the objective as a function of field parameters, with gradients, a few images at a time."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from stability.search.objectives import Score
from stability.search.space import Space
from stability.warps.base import Warp, nodes

CHUNK = 16
"""Deformed images that are represented, and differentiated, at a time."""


@dataclass
class Counts:
    """Deformed images whose objective was evaluated, without and with a gradient."""

    values: int = 0
    gradients: int = 0


@dataclass
class Problem:
    """score(L_tau x_i) for rows of fields, each with its own image.

    Args:
        score: of deformed images.
        images: ``(B, C, *size)``, float64.
        warp: L_tau.
        space: the n sets of fields.
        owner: ``(n,)`` which image a row deforms.
        counts: of evaluations so far.
        together: deformed images that are differentiated at a time, of which memory is held.
    """

    score: Score
    images: Tensor
    warp: Warp
    space: Space
    owner: Tensor
    counts: Counts = field(default_factory=Counts)
    together: int = CHUNK

    def __post_init__(self) -> None:
        size = tuple(self.images.shape[2:])
        self._nodes = nodes(size, self.warp.points_per_pixel, self.warp.boundary, device=self.images.device)

    def __getitem__(self, rows: Tensor) -> "Problem":
        """The same for some of the rows; evaluations count together."""
        return replace(self, space=self.space[rows], owner=self.owner[rows])

    @torch.no_grad()
    def values(self, parameters: Tensor) -> Tensor:
        """The objective, ``(n,)``, float64.

        Raises:
            ValueError: if it is not finite.
        """
        self.counts.values += len(parameters)
        chunks = torch.arange(len(parameters), device=parameters.device).split(CHUNK)
        result = torch.cat([self._value(parameters[rows], rows) for rows in chunks])
        self._check_finite("objective", result)
        return result

    def gradients(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The objective ``(n,)`` and its gradient ``(n, *shape)``.

        Raises:
            ValueError: if no gradient comes back, or one that is not finite.
        """
        self.counts.gradients += len(parameters)
        values, gradients = [], []
        for rows in torch.arange(len(parameters), device=parameters.device).split(self.together):
            with torch.enable_grad():
                part = parameters[rows].detach().requires_grad_()
                value = self._value(part, rows)
                (gradient,) = (
                    torch.autograd.grad(value.sum(), part, allow_unused=True) if value.requires_grad else (None,)
                )
                if gradient is None and not bool(value.any()):
                    gradient = torch.zeros_like(part)  # an output that does not depend on the image at all
                if gradient is None:
                    raise ValueError(
                        "the representation and the head must let gradients through, got values without a graph; "
                        "remove no_grad, detach and integers from their forward passes"
                    )
            values.append(value.detach())
            gradients.append(gradient)
        result = torch.cat(values), torch.cat(gradients)
        for name, tensor in zip(("objective", "gradient of the objective"), result, strict=True):
            self._check_finite(name, tensor)
        return result

    def _check_finite(self, name: str, tensor: Tensor) -> None:
        finite = torch.isfinite(tensor).flatten(1).all(1) if tensor.ndim > 1 else torch.isfinite(tensor)
        if not bool(finite.all()):
            at = int(self.owner[~finite][0])
            raise ValueError(
                f"the {name} must be finite, got NaN or infinite values for image {at}; look for a root, a "
                "logarithm or a division by 0 in the representation or the head"
            )

    def deformed(self, parameters: Tensor, rows: Tensor | None = None) -> Tensor:
        """L_tau x, ``(n, C, *size)``."""
        points = self._nodes - self.space.displacement(parameters, self._nodes)
        return self.warp.sample(self.images[self.owner if rows is None else self.owner[rows]], points)

    def _value(self, parameters: Tensor, rows: Tensor) -> Tensor:
        return self.score(self.deformed(parameters, rows), self.owner[rows])
