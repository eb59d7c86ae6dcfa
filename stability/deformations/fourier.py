r"""Band-limited Gaussian fields: trigonometric polynomials with frequencies in a disc."""

from collections.abc import Sequence
from typing import Self, final

import torch

from stability.deformations.checks import check_generator
from stability.deformations.modes import draw_disc
from stability.deformations.series import FourierSeries
from stability.grid import check_size


@final
class FourierField(FourierSeries):
    """tau_j(u) = mean_j + sum_k A_kj cos(omega_k . u) + B_kj sin(omega_k . u), independent coefficients, k in a disc.

    The constructor is that of ``FourierSeries``.
    """

    @classmethod
    def sample(
        cls,
        size: Sequence[int],
        *,
        cutoff: float,
        batch_shape: Sequence[int] = (),
        generator: torch.Generator,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> Self:
        """Mean-free stationary Gaussian fields with a flat spectrum: E |tau(u)|^2 = (shorter side / 32)^2.

        The order of the draws depends on ``cutoff`` and the ratio of the sides only, so ``sample((2 H, 2 W))`` with an
        equal generator is the same field at twice the resolution: tau_2(2 u) = 2 tau_1(u).

        Args:
            size: ``(N,)`` or ``(H, W)``.
            cutoff: radius of the disc of frequencies in cycles per shorter side, 1 <= cutoff < min(size) / 2:
                0 < |omega| <= 2 pi cutoff / min(size).
            batch_shape: shape of the batch of fields.
            generator: where the random numbers come from; drawn on its device in float64.
            dtype: floating-point type of the field.
            device: where the field is put, by default the generator's device.

        Raises:
            ValueError: if the cutoff is out of range.
            TypeError: if there is no generator.

        >>> rng = torch.Generator().manual_seed(0)
        >>> FourierField.sample((32, 32), cutoff=3, batch_shape=(8,), generator=rng)
        FourierField(size=(32, 32), batch_shape=(8,))
        """
        size = check_size(size)
        modes, cosine, sine = draw_disc(size, cutoff, batch_shape, check_generator(generator))
        return cls(modes, cosine, sine, size=size).to(dtype=dtype, device=device)
