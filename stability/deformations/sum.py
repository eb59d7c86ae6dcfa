"""Sums of fields of different families."""

from collections.abc import Callable, Sequence
from functools import cached_property, reduce
from typing import Self, final

import torch
from torch import Tensor

from stability.deformations import lengths
from stability.deformations.base import Deformation, Scalar, common_shape
from stability.deformations.checks import check_factor
from stability.deformations.domains import Torus, Window, narrowest
from stability.deformations.family import State
from stability.deformations.norms import Index, Interval, Norms
from stability.deformations.oscillation import oscillation
from stability.grid import coordinates

NODES_PER_PIXEL = 2
"""Density of the grid on which a sum's norms are seen from below."""


def add(first: Deformation, second: Deformation) -> Deformation:
    """first + second: inside the family where that is possible, else a ``Sum``.

    Raises:
        ValueError: if the fields live on different tori.
    """
    if not isinstance(second, Deformation):
        raise TypeError(f"only a Deformation can be added to a Deformation, got {type(second).__name__}")
    if first.size != second.size:
        raise ValueError(f"fields must have one size to be added, got {first.size} and {second.size}; use refined()")
    common_shape(first.batch_shape, second.batch_shape)  # batches that broadcast
    if first.device != second.device:
        raise ValueError(
            f"fields must be on one device to be added, got {first.device} and {second.device}; use to(device=...)"
        )
    parts = list(first.parts) if isinstance(first, Sum) else [first]
    for new in second.parts if isinstance(second, Sum) else (second,):
        for place, part in enumerate(parts):
            merged = part.plus(new)
            if merged is not None:
                parts[place] = merged
                break
        else:
            parts.append(new)
    return parts[0] if len(parts) == 1 else Sum(parts)


@final
class Sum(Deformation):
    """tau = tau_1 + ... + tau_m of different families; their batches broadcast.

    Norms: upper by the triangle inequality, sup |f + g| <= sup |f| + sup |g|; lower is the largest value on
    a grid of ``NODES_PER_PIXEL``. Where all parts but one vanish (derivatives of a translation), both ends are exactly
    those of the other part.

    Args:
        parts: at least one field, all on one torus.
    """

    def __init__(self, parts: Sequence[Deformation]) -> None:
        self.parts = tuple(parts)

    @property
    def size(self) -> tuple[int, ...]:
        """``(N,)`` or ``(H, W)`` of the torus in pixels."""
        return self.parts[0].size

    @cached_property
    def mean(self) -> Tensor:
        """Sum of the means, ``(*batch_shape, d)``."""
        return reduce(torch.add, (part.mean for part in self.parts))

    def state(self) -> State:
        """The parts."""
        return {"parts": self.parts}, {}

    def derivative(self, points: Tensor, order: int) -> Tensor:
        """Sum of the parts' derivatives, each with the common batch."""
        return reduce(torch.add, (part.flat().derivative(points, order) for part in self._broadcast))

    def suprema(self) -> Norms:
        """Upper by the triangle inequality, lower from a grid (see the class)."""
        parts = [part.norms() for part in self.parts]
        return Norms(
            self._interval([n.displacement for n in parts], self._seen_displacement),
            self._interval([n.jacobian for n in parts], self._seen_jacobian),
            self._interval([n.hessian for n in parts], self._seen_hessian),
            self._interval([n.divergence for n in parts], self._seen_divergence),
            oscillation(self),
        )

    def derivative_bounds(self) -> list[Tensor]:
        """Sums of those of the parts."""
        bounds = [part.flat().derivative_bounds() for part in self._broadcast]
        return [reduce(torch.add, column) for column in zip(*bounds, strict=True)]

    @property
    def domain(self) -> Torus | Window:
        """The window of a part that does not vanish at its border, else the first window, else the torus."""
        windows = [part.domain for part in self.parts if isinstance(part.domain, Window)]
        windows.sort(key=lambda window: window.vanishing)
        return windows[0] if windows else Torus(self.size)

    @property
    def vanishing_border(self) -> float | None:
        """The width on which all parts vanish."""
        return narrowest(part.vanishing_border for part in self.parts)

    def scaled(self, factor: Scalar) -> Self:
        """factor * tau_1 + ... + factor * tau_m; the norms are |factor| times those of the sum, at no cost."""
        value = torch.as_tensor(factor, dtype=self.dtype, device=self.device)
        return self._with([part.scaled(value) for part in self.parts], self.norms().scaled(value))

    def __getitem__(self, index: Index) -> Self:
        one = torch.ones(self.batch_shape, dtype=self.dtype, device=self.device)
        return self._with([part.scaled(one)[index] for part in self.parts], self.norms()[index])

    def refined(self, factor: int) -> Self:
        """Every part refined."""
        check_factor(factor)
        return self._with([part.refined(factor) for part in self.parts], self.norms().refined(factor))

    def without_mean(self) -> Self:
        """Every part without its mean."""
        return type(self)([part.without_mean() for part in self.parts])

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        """Every part with another floating-point type or on another device."""
        return type(self)([part.to(dtype=dtype, device=device) for part in self.parts])

    def plus(self, other: Deformation) -> Self | None:
        """None: ``add`` merges part by part."""
        return None

    def _with(self, parts: Sequence[Deformation], norms: Norms) -> Self:
        result = type(self)(parts)
        result._norms = norms
        return result

    @cached_property
    def _broadcast(self) -> list[Deformation]:
        """The parts with the common batch."""
        one = torch.ones(self.batch_shape, dtype=self.dtype, device=self.device)
        return [part if part.batch_shape == self.batch_shape else part.scaled(one) for part in self.parts]

    def _interval(self, parts: Sequence[Interval], seen: Callable[[], Tensor]) -> Interval:
        def lower() -> Tensor:
            shape = self.batch_shape
            moving = [part for part in parts if bool(part.lower.count_nonzero())]
            if len(moving) <= 1:  # the others vanish: exact
                return moving[0].lower.expand(shape) if moving else torch.zeros(shape, dtype=torch.float64)
            return seen()

        return Interval(lower, lambda: reduce(torch.add, (part.upper for part in parts)).expand(self.batch_shape))

    def _seen(self, values: Tensor, length: lengths.Length, order: int) -> Tensor:
        inner = values.flatten(values.ndim - order) if order else values[..., None]
        return length(inner.detach().to(torch.float64).unbind(-1)).flatten(len(self.batch_shape)).amax(-1)

    @cached_property
    def _nodes(self) -> Tensor:
        return coordinates(self.size, oversample=NODES_PER_PIXEL, dtype=self.dtype, device=self.device)

    def _seen_displacement(self) -> Tensor:
        return self._seen(self.displacement(self._nodes), lengths.euclidean, 1)

    def _seen_jacobian(self) -> Tensor:
        return self._seen(self.jacobian(self._nodes), lengths.spectral, 2)

    def _seen_divergence(self) -> Tensor:
        return self._seen(self.jacobian(self._nodes), lengths.trace, 2)

    def _seen_hessian(self) -> Tensor:
        second = self.hessian(self._nodes)
        if self.d == 2:  # the mixed derivative once
            second = torch.stack([second[..., 0, 0], second[..., 0, 1], second[..., 1, 1]], dim=-1)  # (..., i, 3)
            return self._seen(second, lengths.bilinear, 2)
        return self._seen(second, lengths.bilinear, 3)
