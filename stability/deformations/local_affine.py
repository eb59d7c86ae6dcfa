r"""Rotations, dilations and shears of a neighbourhood: affine fields times a smooth compact window."""

from collections.abc import Sequence
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from stability.deformations import lengths, linear_maps
from stability.deformations.base import Scalar
from stability.deformations.norms import Norms
from stability.deformations.parameters import Numbers, check_batches, parameter
from stability.deformations.radial import (
    BEND,
    FOURTH_BOUND,
    REACH,
    STRETCH,
    THIRD_BOUND,
    RadialField,
    covered,
    draw_places,
    place_and_width,
    profile,
)
from stability.grid import check_size

_TINY = 1e-300


@final
class LocalAffineField(RadialField):
    r"""tau(u) = A (u - c) psi(|u - c| / r), psi(t) = exp(1 - 1 / (1 - t^2)) for t < 1, exactly 0 outside; C-infinity.

    An affine field about c made local: ``AffineField`` with the same A agrees with it at c to first order. All norms
    are known: sup |tau| = 0.3590 ||A|| r, sup ||grad tau||_2 = 1.5011 ||A||, sup of the second derivative
    17.426 ||A|| / r, osc = 2 sup |tau|. So jacobian_norm / displacement_norm is 4.1817 / r: control of both chooses
    the radius.

    Args:
        matrix: A, dimensionless, ``(*batch_shape, d, d)``.
        centre: c in pixels, ``(*batch_shape, d)``; None: the image's centre.
        radius: r in pixels, ``batch_shape``, positive and at most half the shorter side.
        size: ``(N,)`` or ``(H, W)``.

    Raises:
        ValueError: if a shape does not fit, a number is not finite or the radius is out of range.

    Convention: u - c is taken to the nearest image of c on the torus. ``rotation``, ``dilation``, ``shear`` and
    ``general`` take the linear map B of the content at c, A = I - B^{-1}; away from c the map fades.

    >>> field = LocalAffineField.dilation(2.0, radius=8.0, size=(16, 16))
    >>> field.jacobian(torch.tensor([7.5, 7.5]))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.5000]], dtype=torch.float64)
    """

    AXES: ClassVar = {"matrix": 2, "centre": 1, "radius": 1}
    LINEAR: ClassVar = frozenset({"matrix"})
    LENGTHS: ClassVar = frozenset({"centre", "radius"})

    def __init__(self, matrix: Numbers, centre: Numbers | None, radius: Numbers, size: Sequence[int]) -> None:
        size = check_size(size)
        d = len(size)
        a = parameter("matrix", matrix, (d, d), f"use torch.zeros({d}, {d})")
        c, r = place_and_width(centre, radius, size, a)
        tensors = {"matrix": a, "centre": c, "radius": r}
        check_batches(tensors, self.AXES)
        self._keep(size, tensors)

    @classmethod
    def rotation(cls, angle: Scalar, *, centre: Numbers | None = None, radius: Numbers, size: Sequence[int]) -> Self:
        """Turns the content at c by an angle; see ``general``.

        Args:
            angle: in radians, a number or a tensor ``batch_shape``. Convention: positive angles turn x towards y,
                clockwise on the screen.
            centre: see the class.
            radius: see the class.
            size: ``(H, W)``.

        Raises:
            ValueError: for a signal, or as in the class.
        """
        return cls.general(linear_maps.rotation(angle, len(check_size(size))), centre=centre, radius=radius, size=size)

    @classmethod
    def dilation(cls, factor: Scalar, *, centre: Numbers | None = None, radius: Numbers, size: Sequence[int]) -> Self:
        """Magnifies the content at c by a factor; see ``general``.

        Args:
            factor: positive, above 1 to magnify; a number or a tensor ``batch_shape``.
            centre: see the class.
            radius: see the class.
            size: ``(N,)`` or ``(H, W)``.

        Raises:
            ValueError: if the factor is not positive, or as in the class.
        """
        return cls.general(linear_maps.dilation(factor, len(check_size(size))), centre=centre, radius=radius, size=size)

    @classmethod
    def shear(
        cls, amount: Scalar, axis: int, *, centre: Numbers | None = None, radius: Numbers, size: Sequence[int]
    ) -> Self:
        """Shears the content at c along an axis; see ``general``.

        Args:
            amount: displacement along the axis per pixel of the other coordinate; a number or a tensor ``batch_shape``.
            axis: 0: along x, 1: along y.
            centre: see the class.
            radius: see the class.
            size: ``(H, W)``.

        Raises:
            ValueError: for a signal or another axis, or as in the class.
        """
        content = linear_maps.shear(amount, axis, len(check_size(size)))
        return cls.general(content, centre=centre, radius=radius, size=size)

    @classmethod
    def general(cls, content: Numbers, *, centre: Numbers | None = None, radius: Numbers, size: Sequence[int]) -> Self:
        """tau(u) = (I - B^{-1}) (u - c) psi(|u - c| / r): at c the content is mapped by B.

        Args:
            content: B, invertible, ``(*batch_shape, d, d)``.
            centre: see the class.
            radius: see the class.
            size: ``(N,)`` or ``(H, W)``.

        Raises:
            ValueError: if B is singular, or as in the class.
        """
        d = len(check_size(size))
        b = parameter("content", content, (d, d), f"use torch.eye({d})")
        return cls(linear_maps.displacement_matrix(b), centre, radius, size)

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
        """A with independent Gaussian entries of standard deviation sqrt(12) / (32 d), at a uniform place of the torus.

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

        >>> LocalAffineField.sample((32, 32), batch_shape=(8,), generator=torch.Generator().manual_seed(0))
        LocalAffineField(size=(32, 32), batch_shape=(8,))
        """
        size = check_size(size)
        matrix = linear_maps.draw_matrices(len(size), batch_shape, generator)
        field = cls(matrix, *draw_places(size, radius, batch_shape, generator), size)
        return field.to(dtype=dtype, device=device)

    @property
    def matrix(self) -> Tensor:
        """A, ``(*batch_shape, d, d)``."""
        return self._tensors["matrix"]

    def derivative(self, points: Tensor, order: int) -> Tensor:
        """Derivatives of r A s g(|s|^2), s = (u - c) / r: of the order 1, A (g I + 2 g' s (x) s)."""
        s, radius = self._from_centre(points)
        g = profile(s.square().sum(-1), order)  # (n, P) each
        matrix = self._rows("matrix")[:, None]  # (n, 1, d, d)
        if order == 0:
            return torch.einsum("npij,npj->npi", matrix, s) * (g[0] * radius)[..., None]
        identity = torch.eye(self.d, dtype=self.dtype, device=self.device)
        if order == 1:
            return matrix @ (g[0][..., None, None] * identity + 2 * g[1][..., None, None] * _outer(s, s))
        # d_k d_l (s_j g) = 2 g' (delta_jk s_l + delta_jl s_k + delta_kl s_j) + 4 g'' s_j s_k s_l
        mixed = identity[:, :, None] * s[..., None, None, :]
        spread = mixed + mixed.transpose(-1, -2) + s[..., :, None, None] * identity
        second = 2 * g[1][..., None, None, None] * spread
        second = second + 4 * g[2][..., None, None, None] * s[..., :, None, None] * _outer(s, s)[..., None, :, :]
        return (matrix @ second.flatten(-2)).unflatten(-1, (self.d, self.d)) / radius[..., None, None, None]

    def suprema(self) -> Norms:
        r"""Multiples of ||A||, with s = u - c, t = |s| / r, P the projection on s and chi(t) = t psi(t).

        |tau| <= ||A|| r chi. grad tau = A (psi (I - P) + chi' P), and |psi| <= 1 < sup |chi'|. Along e at the angle phi
        to s the second derivative is A w / r, |w|^2 = (alpha + beta cos^2)^2 + 4 alpha^2 cos^2 sin^2 with alpha = psi',
        beta = psi' + t psi'': its maximum over phi is (alpha + beta)^2 = chi''^2 at phi = 0, or alpha^2, or, between
        t = 3^(-1/4) and (2/3)^(1/2), 4 alpha^3 / (2 alpha - beta), which falls there from 4 S_1^2, a value of chi''^2.
        All are attained with s or w along the first right singular vector of A. tau is odd about c.
        """
        norm, radius = self._norm(), self._width()
        farthest = norm * REACH.value * radius
        bent = norm * BEND.value / radius
        return Norms(
            covered(farthest), covered(norm * STRETCH.value), covered(bent), covered(self._divergence()),
            covered(2 * farthest),
        )  # fmt: skip

    def derivative_bounds(self) -> list[Tensor]:
        """The norms, and by Leibniz' rule ||A|| / r^(k - 1) (sup |t psi^(k)| + k sup |psi^(k - 1)|) for k = 3, 4."""
        n, norm, radius = self.norms(), self._norm(), self._width()
        third, fourth = norm * THIRD_BOUND / radius.square(), norm * FOURTH_BOUND / radius**3
        known = [n.displacement.upper, n.jacobian.upper, n.hessian.upper, covered(third).upper, covered(fourth).upper]
        return [bound.reshape(-1) for bound in known]

    def places(self) -> tuple[Tensor, Tensor]:
        """c + t r e, e the first right singular vector of A, where t psi and |(t psi)'| are largest."""
        direction = torch.linalg.svd(self._double("matrix")).Vh[..., 0, :]
        centre, arm = self._double("centre"), self._double("radius") * direction
        return (centre + REACH.place * arm).to(self.dtype), (centre + STRETCH.place * arm).to(self.dtype)

    def _norm(self) -> Tensor:
        """||A||_2, ``batch_shape``."""
        return lengths.spectral(self._double("matrix").flatten(-2).unbind(-1))

    def _divergence(self) -> Tensor:
        """sup over w >= 1 and lambda of |tr A - 2 lambda w (w - 1)| exp(1 - w), w as in ``radial``; ``batch_shape``.

        lambda = <e, A e>, e along s, runs through the range of the eigenvalues of (A + A^T) / 2; the ends suffice. The
        derivative in w vanishes at w = (3 +- (5 + 2 tr A / lambda)^(1/2)) / 2.
        """
        matrix = self._double("matrix")
        trace = matrix.diagonal(dim1=-2, dim2=-1).sum(-1)
        ends = torch.linalg.eigvalsh((matrix + matrix.mT) / 2)[..., [0, -1]]  # (*batch_shape, 2)
        ratio = 2 * trace[..., None] / torch.where(ends.abs() < _TINY, 1.0, ends)
        root = (5 + ratio).clamp(0.0, 1e6).sqrt()  # beyond, exp(1 - w) is 0 for all purposes
        w = torch.stack([torch.ones_like(root), (3 + root) / 2, (3 - root) / 2], dim=-1).clamp_min(1.0)
        values = (trace[..., None, None] - 2 * ends[..., None] * w * (w - 1)).abs() * (1 - w).exp()
        return values.flatten(-2).amax(-1)


def _outer(first: Tensor, second: Tensor) -> Tensor:
    return first[..., :, None] * second[..., None, :]
