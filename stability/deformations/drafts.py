"""Suprema of fields whose values are dear, by cheaper fields that are a little off."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from stability.deformations.base import Deformation
from stability.deformations.enclosure import Enclosure, Losses
from stability.deformations.jets import Jet
from stability.deformations.norms import Interval, Norms
from stability.deformations.oscillation import oscillation
from stability.deformations.pointwise import (
    FieldLengths,
    bending,
    box,
    derivative_bounds,
    expansion,
    length,
    steepness,
)


class Drafted:
    """Suprema of a field: places and certificates from a draft, values and bounds of derivatives from the field.

    Args:
        field: any fields.
        draft: fields near them, of the same batch shape.
        counts: nodes of the first grid per axis, in the order of ``size``.
        error: from an order to upper values of |D^order field - D^order draft|, ``(n,)``.
    """

    def __init__(
        self, field: Deformation, draft: Deformation, counts: tuple[int, ...], error: Callable[[int], Tensor]
    ) -> None:
        self._field = field
        self._draft = draft
        self._counts = counts
        self._error = error

    def norms(self) -> Norms:
        """From the field's ``derivative_bounds``, each computed when it is read."""

        def jet(order: int, factor: float = 1.0) -> Jet:
            return Jet(*derivative_bounds(self._field)[order : order + 3]).scaled(factor)

        def scale(seen: Tensor) -> Tensor:  # div tau = 0 must not ask for a certificate relative to 0
            return torch.maximum(seen, steepest.lower.reshape(-1))

        steepest = self.supremum(1, steepness, lambda: jet(1))
        d = float(self._field.d)
        return Norms(
            self.supremum(0, length, lambda: jet(0)),
            steepest,
            self.supremum(2, bending, lambda: jet(2)),
            self.supremum(1, expansion, lambda: jet(1, d), scale, lambda: d * self._error(1)),
            oscillation(self._field),
        )

    def supremum(
        self,
        order: int,
        function: Callable[[Tensor], Tensor],
        bounds: Callable[[], Jet],
        scale: Callable[[Tensor], Tensor] = torch.abs,
        error: Callable[[], Tensor] | None = None,
    ) -> Interval:
        """Of function(D^order tau).

        Args:
            order: of the derivative.
            function: from ``(n, P, d, ...)`` to ``(n, P)``.
            bounds: gives bounds of the function of the field and of its derivatives along lines.
            scale: see ``Enclosure``.
            error: gives upper values of what the function of the draft is off; None: that of the derivative.
        """
        shape, once = self._field.batch_shape, functools.cache(bounds)
        off = error or (lambda: self._error(order))

        @functools.cache
        def enclosure() -> Enclosure:
            return Enclosure(
                FieldLengths(self._draft, (order,), function),
                self._counts,
                lambda: Losses(curvature=once().second, slope=once().first),
                lambda: once().value,
                scale,
                box(self._field),
            )

        @functools.cache
        def lower() -> Tensor:
            with torch.no_grad():
                at = enclosure().argument[:, None].to(self._field.dtype)
                return function(self._field.flat().derivative(at, order).to(torch.float64))[:, 0]

        def upper() -> Tensor:
            found = torch.minimum(enclosure().upper + off(), once().value)
            return torch.maximum(found, lower())

        return Interval(lambda: lower().reshape(shape), lambda: upper().reshape(shape))
