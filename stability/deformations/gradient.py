r"""Gradient fields: band-limited displacements tau = grad phi, the curl-free part of the Helmholtz decomposition."""

from collections.abc import Sequence
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from stability.deformations.helmholtz import HelmholtzField
from stability.grid import check_size


@final
class GradientField(HelmholtzField):
    """tau = mean + grad phi, phi a trigonometric polynomial: every coefficient A_k, B_k is parallel to omega_k.

    grad tau is the matrix of second derivatives of phi, symmetric everywhere; so is I - grad tau. For d = 1 every field
    is one. Scaling, tilting and adding gradient fields gives gradient fields.

    Args:
        modes: integers k = (k_x, k_y), ``(M, d)``, nonzero, no two equal up to sign.
        cosine: A in pixels, ``(*batch_shape, M, d)``, A_k parallel to omega_k = 2 pi (k_x / W, k_y / H).
        sine: B in pixels, likewise.
        size: ``(N,)`` or ``(H, W)``.
        mean: the constant part in pixels, ``(*batch_shape, d)``; 0 by default.

    Raises:
        ValueError: if shapes do not fit, or the parts of the coefficients across omega exceed 1e-9 of the coefficients
            (16 machine epsilons for shorter types; Euclidean norms). What is smaller is removed as round-off.

    >>> wave = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    >>> GradientField(torch.tensor([[3, 4]]), wave, -wave, size=(16, 16)).jacobian(torch.zeros(2))
    tensor([[-3.5343, -4.7124],
            [-4.7124, -6.2832]], dtype=torch.float64)
    """

    RULE: ClassVar = "parallel"

    @staticmethod
    def directions(frequencies: Tensor) -> Tensor:
        """omega / |omega|, ``(M, d)``."""
        return frequencies / frequencies.norm(dim=-1, keepdim=True)

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
        """sqrt(d) times the gradient part of the flat-spectrum Gaussian field: E |tau(u)|^2 = (shorter side / 32)^2.

        The field is that of ``FourierField.sample`` with an equal generator, projected and rescaled to the same
        expected root mean square. The same field at every resolution: tau_2(2 u) = 2 tau_1(u) for ``size=(2 H, 2 W)``.

        Args:
            size: ``(N,)`` or ``(H, W)``.
            cutoff: radius of the disc of frequencies in cycles per shorter side, 1 <= cutoff < min(size) / 2.
            batch_shape: shape of the batch of fields.
            generator: where the random numbers come from; drawn on its device in float64.
            dtype: floating-point type of the field.
            device: where the field is put, by default the generator's device.

        Raises:
            ValueError: if the cutoff is out of range.
            TypeError: if there is no generator.

        >>> field = GradientField.sample((32, 32), cutoff=3, generator=torch.Generator().manual_seed(0))
        >>> jacobian = field.jacobian(torch.tensor([5.0, 7.0]))
        >>> torch.allclose(jacobian, jacobian.T)
        True
        """
        return cls.drawn(check_size(size), cutoff, batch_shape, generator).to(dtype=dtype, device=device)
