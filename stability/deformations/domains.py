"""Where a field lives and its norms are taken: a torus, or a window."""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Torus:
    """The torus R^d / (W Z x H Z) on which a field lives.

    Args:
        size: ``(N,)`` or ``(H, W)`` in pixels.
    """

    size: tuple[int, ...]

    @property
    def d(self) -> int:
        """Number of axes, 1 or 2."""
        return len(self.size)


@dataclass(frozen=True)
class Window:
    """The window [-edge, N - edge] per axis, by default the cells of all pixels.

    Args:
        size: ``(N,)`` or ``(H, W)`` in pixels.
        edge: how far the border lies before the centre of the first pixel, in pixels.
        vanishing: whether the field vanishes at the border, so that, repeated with the image's period, it is a
            Lipschitz field of the torus with the same |tau| and ||grad tau||. Otherwise no theorem of the torus covers
            it.
        gradient_jump: whether grad tau of that repeated field jumps across the seam; then it has no second derivative
            there and ``norms().hessian.upper`` is inf.
    """

    size: tuple[int, ...]
    edge: float = 0.5
    vanishing: bool = False
    gradient_jump: bool = False

    @property
    def d(self) -> int:
        """Number of axes, 1 or 2."""
        return len(self.size)


def narrowest(borders: Iterable[float | None]) -> float | None:
    """The width on which all of several fields vanish, from the widths of each; None where one need not vanish.

    >>> narrowest([2.0, 1.0]), narrowest([2.0, None])
    (1.0, None)
    """
    widths = [math.nan if border is None else border for border in borders]
    return None if any(map(math.isnan, widths)) else min(widths)
