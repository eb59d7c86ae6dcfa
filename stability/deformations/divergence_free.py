r"""Divergence-free fields: band-limited displacements tau = perp grad psi, the other part of Helmholtz."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from stability.deformations.helmholtz import HelmholtzField
from stability.deformations.norms import Interval, Norms
from stability.grid import check_size


@final
class DivergenceFreeField(HelmholtzField):
    """tau = mean + (-d psi / dy, d psi / dx), psi a trigonometric polynomial: A_k, B_k perpendicular to omega_k, d = 2.

    div tau = 0, so det(I - grad tau) = 1 + det grad tau: areas are kept to first order in tau (exactly only where
    det grad tau = 0). The eigenvalues of grad tau are opposite to each other. Scaling, tilting and adding
    divergence-free fields gives divergence-free fields. Coefficients are perpendicular up to the round-off of their
    type, and ``norms().divergence`` is 0.

    Args:
        modes: integers k = (k_x, k_y), ``(M, 2)``, nonzero, no two equal up to sign.
        cosine: A in pixels, ``(*batch_shape, M, 2)``, A_k perpendicular to omega_k = 2 pi (k_x / W, k_y / H).
        sine: B in pixels, likewise.
        size: ``(H, W)``.
        mean: the constant part in pixels, ``(*batch_shape, 2)``; 0 by default.

    Raises:
        ValueError: if d = 1, shapes do not fit, or the parts of the coefficients along omega exceed 1e-9 of the
            coefficients (16 machine epsilons for shorter types; Euclidean norms). What is smaller is removed as
            round-off.

    >>> wave = torch.tensor([[-4.0, 3.0]], dtype=torch.float64)
    >>> DivergenceFreeField(torch.tensor([[3, 4]]), wave, -wave, size=(16, 16)).norms().divergence.upper
    tensor(0., dtype=torch.float64)
    """

    RULE: ClassVar = "perpendicular"

    def __init__(
        self, modes: Tensor, cosine: Tensor, sine: Tensor, *, size: Sequence[int], mean: Tensor | None = None
    ) -> None:
        super().__init__(modes, cosine, sine, size=_plane(size), mean=mean)

    @staticmethod
    def directions(frequencies: Tensor) -> Tensor:
        """perp(omega) / |omega|, ``(M, 2)``."""
        x, y = (frequencies / frequencies.norm(dim=-1, keepdim=True)).unbind(-1)
        return torch.stack([-y, x], dim=-1)

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
        """sqrt(2) times the divergence-free part of a flat-spectrum field: E |tau(u)|^2 = (shorter side / 32)^2.

        The field is that of ``FourierField.sample`` with an equal generator, projected and rescaled to the same
        expected root mean square. The same field at every resolution: tau_2(2 u) = 2 tau_1(u) for ``size=(2 H, 2 W)``.

        Args:
            size: ``(H, W)``.
            cutoff: radius of the disc of frequencies in cycles per shorter side, 1 <= cutoff < min(size) / 2.
            batch_shape: shape of the batch of fields.
            generator: where the random numbers come from; drawn on its device in float64.
            dtype: floating-point type of the field.
            device: where the field is put, by default the generator's device.

        Raises:
            ValueError: if d = 1 or the cutoff is out of range.
            TypeError: if there is no generator.

        >>> field = DivergenceFreeField.sample((32, 32), cutoff=3, generator=torch.Generator().manual_seed(0))
        >>> bool(field.jacobian(torch.tensor([5.0, 7.0])).trace().abs() < 1e-15)
        True
        """
        return cls.drawn(_plane(size), cutoff, batch_shape, generator).to(dtype=dtype, device=device)

    def suprema(self) -> Norms:
        """Those of any series, and div tau = 0."""
        zero = torch.zeros(self.batch_shape, dtype=torch.float64, device=self.device)
        return dataclasses.replace(super().suprema(), divergence=Interval.exact(zero))


def _plane(size: Sequence[int]) -> tuple[int, ...]:
    size = check_size(size)
    if len(size) != 2:
        raise ValueError(
            f"size must be (H, W) for a divergence-free field, got {size}: on a line such fields are constant; "
            "use Translation"
        )
    return size
