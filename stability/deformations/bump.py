r"""Bumps: one displacement vector times a smooth compact window."""

from collections.abc import Sequence
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from stability.deformations.checks import check_generator
from stability.deformations.modes import ROOT_MEAN_SQUARE
from stability.deformations.norms import Interval, Norms
from stability.deformations.parameters import Numbers, check_batches, parameter
from stability.deformations.radial import (
    CURVATURE,
    FOURTH,
    SLOPE,
    THIRD,
    RadialField,
    covered,
    draw_places,
    place_and_width,
    profile,
)
from stability.grid import check_size

_S = (SLOPE, CURVATURE, THIRD, FOURTH)


@final
class BumpField(RadialField):
    r"""tau(u) = v psi(|u - c| / r), psi(t) = exp(1 - 1 / (1 - t^2)) for t < 1, exactly 0 outside; C-infinity.

    All norms are known: sup |tau| = osc = |v|, sup ||grad tau||_2 = sup |div tau| = S_1 |v| / r and the second
    derivative S_2 |v| / r^2 with S_1 = sup |psi'| = 2.1704 and S_2 = sup |psi''| = 21.066. So jacobian_norm /
    displacement_norm is S_1 / r: control of both chooses the radius.

    Args:
        vector: v in pixels, ``(*batch_shape, d)``: the displacement at the centre.
        centre: c in pixels, ``(*batch_shape, d)``; None: the image's centre.
        radius: r in pixels, ``batch_shape``, positive and at most half the shorter side.
        size: ``(N,)`` or ``(H, W)``.

    Raises:
        ValueError: if a shape does not fit, a number is not finite or the radius is out of range.

    Convention: |u - c| is the distance to the nearest image of c on the torus.

    >>> field = BumpField((2.0, 0.0), (8.0, 8.0), 4.0, (16, 16))
    >>> field.displacement(torch.tensor([[8.0, 8.0], [12.0, 8.0]]))
    tensor([[2., 0.],
            [0., 0.]], dtype=torch.float64)
    """

    AXES: ClassVar = {"vector": 1, "centre": 1, "radius": 1}
    LINEAR: ClassVar = frozenset({"vector"})
    LENGTHS: ClassVar = frozenset({"vector", "centre", "radius"})

    def __init__(self, vector: Numbers, centre: Numbers | None, radius: Numbers, size: Sequence[int]) -> None:
        size = check_size(size)
        v = parameter("vector", vector, (len(size),), f"use {(1.0, 0.0) if len(size) == 2 else (1.0,)}")
        c, r = place_and_width(centre, radius, size, v)
        tensors = {"vector": v, "centre": c, "radius": r}
        check_batches(tensors, self.AXES)
        self._keep(size, tensors)

    @classmethod
    def sample(
        cls,
        size: Sequence[int],
        *,
        radius: Numbers | None = None,
        batch_shape: Sequence[int] = (),
        generator: torch.Generator,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> Self:
        """A vector of length (shorter side / 32) in a uniform direction at a uniform place of the torus.

        Equal generators give the same field at every resolution: ``sample((2 H, 2 W), radius=2 radius)`` satisfies
        tau_2(2 u) = 2 tau_1(u). The radius does not change what is drawn else.

        Args:
            size: ``(N,)`` or ``(H, W)``.
            radius: r in pixels, broadcasts with ``batch_shape``; None: uniform between 1/8 and 1/2 of the shorter side.
            batch_shape: shape of the batch of fields.
            generator: where the random numbers come from; drawn on its device in float64.
            dtype: floating-point type of the field.
            device: where the field is put, by default the generator's device.

        Raises:
            ValueError: if the radius is out of range.
            TypeError: if there is no generator.

        >>> BumpField.sample((32, 32), batch_shape=(8,), generator=torch.Generator().manual_seed(0))
        BumpField(size=(32, 32), batch_shape=(8,))
        """
        size = check_size(size)
        check_generator(generator)
        draw = torch.randn((*batch_shape, len(size)), generator=generator, device=generator.device, dtype=torch.float64)
        vector = draw / draw.norm(dim=-1, keepdim=True) * (ROOT_MEAN_SQUARE * min(size))
        field = cls(vector, *draw_places(size, radius, batch_shape, generator), size)
        return field.to(dtype=dtype, device=device)

    @property
    def vector(self) -> Tensor:
        """v in pixels, ``(*batch_shape, d)``."""
        return self._tensors["vector"]

    def derivative(self, points: Tensor, order: int) -> Tensor:
        """Derivatives of v g(|s|^2), s = (u - c) / r: v times g, 2 g' s / r or (4 g'' s (x) s + 2 g' I) / r^2."""
        s, radius = self._from_centre(points)
        g = profile(s.square().sum(-1), order)  # (n, P) each
        vector = self._rows("vector")[:, None]
        if order == 0:
            return g[0][..., None] * vector
        if order == 1:
            return vector[..., None] * (2 * g[1] / radius)[..., None, None] * s[..., None, :]
        outer = (4 * g[2])[..., None, None] * s[..., :, None] * s[..., None, :]
        second = outer + (2 * g[1])[..., None, None] * torch.eye(self.d, dtype=self.dtype, device=self.device)
        return vector[..., None, None] * (second / radius.square()[..., None, None])[..., None, :, :]

    def suprema(self) -> Norms:
        """|v|, S_1 |v| / r and S_2 |v| / r^2.

        grad tau = v (x) grad psi has norm |v| |psi'| / r; the divergence <v, grad psi> attains it along v. The second
        derivative of psi has the eigenvalues psi'' and psi' / t. The values v psi fill the segment from 0 to v.
        """
        length, radius = self._double("vector").norm(dim=-1), self._width()
        steep = covered(length * SLOPE.value / radius)
        bent = covered(length * CURVATURE.value / radius.square())
        return Norms(Interval.exact(length), steep, bent, steep, Interval.exact(length))

    def derivative_bounds(self) -> list[Tensor]:
        """S_k |v| / r^k."""
        length, radius = self._double("vector").norm(dim=-1).reshape(-1), self._width().reshape(-1)
        return [length, *(covered(length * s.value / radius**k).upper for k, s in enumerate(_S, start=1))]

    def places(self) -> tuple[Tensor, Tensor]:
        """The centre, and a point on the circle of radius 3^(-1/4) r about it, ``(*batch_shape, d)`` each."""
        centre = self.centre.detach()
        unit = torch.zeros_like(centre)
        unit[..., 0] = 1.0
        return centre, centre + SLOPE.place * self._tensors["radius"].detach() * unit
