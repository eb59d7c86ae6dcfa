r"""The random law beside which worst-case search is judged: spectra of many shapes, scaled to the edge of C(a, b)."""

import math
from collections.abc import Sequence
from typing import Self, final

import torch
from torch import Tensor

from stability.deformations.base import Scalar
from stability.deformations.checks import check_generator
from stability.deformations.control import MARGIN
from stability.deformations.modes import disc
from stability.deformations.series import FourierSeries
from stability.grid import check_size, sides

CUTOFFS = (1, 2, 3, 5, 8)
"""Cutoffs of the spectra in cycles per shorter side."""

CONSTANTS = (0.0, 0.5, 1.0, 3.0)
"""Lengths of the constants in units of the field's root mean square."""


@final
class MixedField(FourierSeries):
    """tau_j(u) = s (c e_j + sum_k a_k cos(omega_k . u + phi_kj)), each field with a random spectrum and constant.

    The constructor is that of ``FourierSeries``. Fields of this law with a constant are not mean-free: ``control`` with
    both norms wants ``without_mean()`` first.
    """

    @classmethod
    def sample(
        cls,
        size: Sequence[int],
        *,
        displacement_norm: Scalar,
        jacobian_norm: Scalar,
        batch_shape: Sequence[int] = (),
        generator: torch.Generator,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> Self:
        """Fields of C(a, b) = {sup |tau| <= a, sup ||grad tau||_2 <= b} on its boundary, independent of each other.

        For each field: a cutoff of {1, 2, 3, 5, 8} cycles per shorter side; amplitudes a_k = 1 or 1 / |k|, |k| in
        cycles per shorter side; phases phi_kj uniform; a constant c e, e a uniform direction and c one of
        {0, 1/2, 1, 3} times the root mean square of the rest. Then tau is multiplied by the smaller of
        a / sup |tau| and b / sup ||grad tau||_2, less 1e-9 of it: one norm is attained, the other is below its target.

        Only cutoffs below min(size) / 2 are drawn: all five from 17 pixels on. Between such sizes equal seeds give the
        same field at every resolution: tau_2(2 u) = 2 tau_1(u) for twice the displacement norm.

        Args:
            size: ``(N,)`` or ``(H, W)``, at least 3 pixels a side.
            displacement_norm: a > 0 in pixels, a number or a tensor that broadcasts with ``batch_shape``: ``(T, 1)``
                against ``(B,)`` gives ``(T, B)``, the same B fields scaled.
            jacobian_norm: b > 0, dimensionless, likewise.
            batch_shape: shape of the batch of fields.
            generator: where the random numbers come from; drawn on its device in float64.
            dtype: floating-point type of the field.
            device: where the field is put, by default the generator's device.

        Returns:
            Fields with the modes of the largest cutoff drawn; coefficients beyond a field's own cutoff are 0.

        Raises:
            ValueError: if a norm is not positive and finite or does not broadcast, or no cutoff fits the size.
            TypeError: if there is no generator.

        >>> rng = torch.Generator().manual_seed(0)
        >>> field = MixedField.sample((32, 32), displacement_norm=2.0, jacobian_norm=0.25, generator=rng)
        >>> bool(field.norms().displacement.lower <= 2.0), bool(field.norms().jacobian.lower <= 0.25)
        (True, True)
        """
        size = check_size(size)
        check_generator(generator)
        a, b = (
            _target(name, value, batch_shape).to(generator.device)
            for name, value in (("displacement_norm", displacement_norm), ("jacobian_norm", jacobian_norm))
        )
        cutoffs = torch.tensor([cutoff for cutoff in CUTOFFS if cutoff < min(size) / 2])
        if not len(cutoffs):
            raise ValueError(f"size must have at least 3 pixels a side, got {size}; use (32, 32)")
        modes, cosine, sine, mean = _draw(size, cutoffs.to(generator.device), batch_shape, generator)
        used = (cosine != 0).flatten(0, -3).any(0).any(-1) if batch_shape else (cosine != 0).any(-1)
        field = cls(modes[used], cosine[..., used, :], sine[..., used, :], size=size, mean=mean)
        norms = field.norms()
        factor = torch.minimum(a / norms.displacement.lower, b / norms.jacobian.lower) * (1 - MARGIN)
        return field.scaled(factor).to(dtype=dtype, device=device)


def _draw(
    size: tuple[int, ...], cutoffs: Tensor, batch_shape: Sequence[int], generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Modes, cosine and sine coefficients and means, unscaled."""
    device, d, shape = generator.device, len(size), tuple(batch_shape)

    def choice(values: Tensor) -> Tensor:
        return values[torch.randint(len(values), shape, generator=generator, device=device)]

    modes = disc(size, float(cutoffs.max())).to(device)
    radius = (modes * (min(size) / sides(size, device=device))).norm(dim=-1)  # |k|, (M,)
    cutoff, power = choice(cutoffs)[..., None], choice(torch.tensor([0.0, 1.0], dtype=torch.float64, device=device))
    amplitude = radius ** -power[..., None] * (radius <= cutoff * (1 + 1e-12))  # (*batch_shape, M)
    phase = 2 * math.pi * torch.rand((*shape, *modes.shape), generator=generator, device=device, dtype=torch.float64)
    length = choice(torch.tensor(CONSTANTS, dtype=torch.float64, device=device))
    direction = torch.randn((*shape, d), generator=generator, device=device, dtype=torch.float64)
    direction = direction / direction.norm(dim=-1, keepdim=True)
    root_mean_square = (d / 2) ** 0.5 * amplitude.norm(dim=-1)
    # a cos(omega u + phi) = a cos(phi) cos(omega u) - a sin(phi) sin(omega u)
    cosine, sine = amplitude[..., None] * phase.cos(), -amplitude[..., None] * phase.sin()
    return modes, cosine, sine, (length * root_mean_square)[..., None] * direction


def _target(name: str, value: Scalar, batch_shape: Sequence[int]) -> Tensor:
    target = torch.as_tensor(value, dtype=torch.float64)
    if not bool((torch.isfinite(target) & (target > 0)).all()):
        raise ValueError(f"{name} must be positive and finite, got {value!r}; use Translation if nothing shall bend")
    try:
        torch.broadcast_shapes(target.shape, tuple(batch_shape))
    except RuntimeError:
        raise ValueError(
            f"{name} must broadcast with the batch {tuple(batch_shape)}, got shape {tuple(target.shape)}; "
            "use shape (T, 1) for T requests per field"
        ) from None
    return target
