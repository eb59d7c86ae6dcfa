r"""Affine fields on a window: rotations, dilations, shears and general linear maps of the content about any centre."""

from collections.abc import Sequence
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from stability.deformations import lengths, linear_maps
from stability.deformations.base import Deformation, Scalar
from stability.deformations.checks import check_factor
from stability.deformations.domains import Window
from stability.deformations.family import Family
from stability.deformations.norms import Interval, Norms
from stability.deformations.parameters import Numbers, check_batches, check_edge, parameter, same
from stability.grid import check_size, sides


@final
class AffineField(Family):
    r"""tau(u) = A (u - c) + o on the window [-edge, N - edge] per axis; all norms are exact.

    |tau| is convex, so it is largest at a corner of the window, and |tau(u) - tau(v)| at a pair of opposite corners;
    the derivatives are constant. tau does not vanish at the border: no theorem of the torus covers it
    (``LocalAffineField`` does). Outside the window the same formula holds.

    Args:
        matrix: A, dimensionless, ``(*batch_shape, d, d)``.
        offset: o in pixels, ``(*batch_shape, d)``: the displacement at the centre; None: 0.
        centre: c in pixels, ``(*batch_shape, d)``; None: the window's centre, (N - 1) / 2 by default.
        size: ``(N,)`` or ``(H, W)``.
        edge: distance from the border to the centre of the first pixel, in pixels; 0.5: the border of its cell.

    Raises:
        ValueError: if a shape does not fit or a number is not finite.

    Convention: L_tau x(u) = x(u - tau(u)). ``rotation``, ``dilation``, ``shear`` and ``general`` take the linear map B
    of the content, which moves from p to c + B (p - c): u - tau(u) = c + B^{-1} (u - c), so A = I - B^{-1}.

    >>> field = AffineField.dilation(2.0, size=(8, 8))
    >>> field.displacement(torch.tensor([7.5, 3.5]))
    tensor([2., 0.], dtype=torch.float64)
    >>> field.norms().jacobian.upper
    tensor(0.5000, dtype=torch.float64)
    """

    AXES: ClassVar = {"matrix": 2, "offset": 1, "centre": 1}
    LINEAR: ClassVar = frozenset({"matrix", "offset"})

    def __init__(
        self,
        matrix: Numbers,
        offset: Numbers | None = None,
        centre: Numbers | None = None,
        *,
        size: Sequence[int],
        edge: float = 0.5,
    ) -> None:
        size = check_size(size)
        d = len(size)
        settings = {"edge": check_edge(edge)}
        a = parameter("matrix", matrix, (d, d), f"use torch.zeros({d}, {d})")
        o = parameter("offset", (0.0,) * d if offset is None else offset, (d,), f"use {(0.0,) * d}", a)
        middle = tuple(side / 2 - edge for side in reversed(size))
        c = parameter("centre", middle if centre is None else centre, (d,), f"use {middle}", a)
        tensors = {"matrix": a, "offset": o, "centre": c}
        check_batches(tensors, self.AXES)
        self._keep(size, tensors, settings=settings)

    @classmethod
    def rotation(cls, angle: Scalar, *, centre: Numbers | None = None, size: Sequence[int], edge: float = 0.5) -> Self:
        """Turns the content about the centre by an angle; see ``general``.

        Args:
            angle: in radians, a number or a tensor ``batch_shape``. Convention: positive angles turn x towards y,
                clockwise on the screen.
            centre: see the class.
            size: ``(H, W)``.
            edge: see the class.

        Raises:
            ValueError: for a signal, or as in the class.
        """
        return cls.general(linear_maps.rotation(angle, len(check_size(size))), centre=centre, size=size, edge=edge)

    @classmethod
    def dilation(cls, factor: Scalar, *, centre: Numbers | None = None, size: Sequence[int], edge: float = 0.5) -> Self:
        """Magnifies the content from the centre by a factor; see ``general``.

        Args:
            factor: positive, above 1 to magnify; a number or a tensor ``batch_shape``.
            centre: see the class.
            size: ``(N,)`` or ``(H, W)``.
            edge: see the class.

        Raises:
            ValueError: if the factor is not positive, or as in the class.
        """
        return cls.general(linear_maps.dilation(factor, len(check_size(size))), centre=centre, size=size, edge=edge)

    @classmethod
    def shear(
        cls, amount: Scalar, axis: int, *, centre: Numbers | None = None, size: Sequence[int], edge: float = 0.5
    ) -> Self:
        """Shears the content along an axis; the line through the centre stays; see ``general``.

        Args:
            amount: displacement along the axis per pixel of the other coordinate; a number or a tensor ``batch_shape``.
            axis: 0: along x, 1: along y.
            centre: see the class.
            size: ``(H, W)``.
            edge: see the class.

        Raises:
            ValueError: for a signal or another axis, or as in the class.
        """
        return cls.general(linear_maps.shear(amount, axis, len(check_size(size))), centre=centre, size=size, edge=edge)

    @classmethod
    def general(
        cls, content: Numbers, *, centre: Numbers | None = None, size: Sequence[int], edge: float = 0.5
    ) -> Self:
        """tau(u) = (I - B^{-1}) (u - c): the content moves from p to c + B (p - c).

        Args:
            content: B, invertible, ``(*batch_shape, d, d)``.
            centre: see the class.
            size: ``(N,)`` or ``(H, W)``.
            edge: see the class.

        Raises:
            ValueError: if B is singular, or as in the class.
        """
        d = len(check_size(size))
        b = parameter("content", content, (d, d), f"use torch.eye({d})")
        return cls(linear_maps.displacement_matrix(b), None, centre, size=size, edge=edge)

    @classmethod
    def sample(
        cls,
        size: Sequence[int],
        *,
        centre: Numbers | None = None,
        batch_shape: Sequence[int] = (),
        generator: torch.Generator,
        edge: float = 0.5,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> Self:
        """A with independent Gaussian entries of standard deviation sqrt(12) / (32 d), about a uniform place; o = 0.

        On a square window about its centre the mean of |tau|^2 is (side / 32)^2. Equal generators give the same field
        at every resolution: ``sample((2 H, 2 W))`` satisfies tau_2(2 u) = 2 tau_1(u) (a given centre doubled too); its
        window is that of the finer pixels unless ``edge`` is doubled as well.

        Args:
            size: ``(N,)`` or ``(H, W)``.
            centre: c in pixels, ``(*batch_shape, d)``; None: uniform in [0, W) x [0, H).
            batch_shape: shape of the batch of fields.
            generator: where the random numbers come from; drawn on its device in float64.
            edge: see the class.
            dtype: floating-point type of the field.
            device: where the field is put, by default the generator's device.

        Raises:
            ValueError: if the centre does not fit.
            TypeError: if there is no generator.

        >>> AffineField.sample((32, 32), batch_shape=(8,), generator=torch.Generator().manual_seed(0))
        AffineField(size=(32, 32), batch_shape=(8,))
        """
        size = check_size(size)
        d = len(size)
        matrix = linear_maps.draw_matrices(d, batch_shape, generator)
        share = torch.rand((*batch_shape, d), generator=generator, device=generator.device, dtype=torch.float64)
        place = share * sides(size, device=share.device) if centre is None else centre
        return cls(matrix, None, place, size=size, edge=edge).to(dtype=dtype, device=device)

    @property
    def matrix(self) -> Tensor:
        """A, ``(*batch_shape, d, d)``."""
        return self._tensors["matrix"]

    @property
    def offset(self) -> Tensor:
        """The displacement at the centre in pixels, ``(*batch_shape, d)``."""
        return self._tensors["offset"]

    @property
    def centre(self) -> Tensor:
        """c in pixels, ``(*batch_shape, d)``."""
        return self._tensors["centre"]

    @property
    def edge(self) -> float:
        """Distance from the window's border to the centre of the first pixel, in pixels."""
        return check_edge(self._settings["edge"])

    @property
    def domain(self) -> Window:
        """[-edge, N - edge] on each axis; the field does not vanish at the border."""
        return Window(self.size, self.edge)

    @property
    def mean(self) -> Tensor:
        """The mean over the window, tau at its centre, ``(*batch_shape, d)`` in pixels."""
        middle = sides(self.size, dtype=self.dtype, device=self.device) / 2 - self.edge
        return self._apply(middle - self.centre) + self.offset

    @property
    def injective(self) -> Tensor:
        """Where I - A is invertible, ``batch_shape`` bool."""
        return ~linear_maps.singular(self._map())

    def derivative(self, points: Tensor, order: int) -> Tensor:
        """A (u - c) + o, A, or zeros."""
        matrix = self._rows("matrix")
        if order == 0:
            return (points - self._rows("centre")[:, None]) @ matrix.mT + self._rows("offset")[:, None]
        shape = (len(matrix), points.shape[1], *(self.d,) * (order + 1))
        return matrix[:, None].expand(shape) if order == 1 else matrix.new_zeros(shape)

    def gradients(self) -> Tensor:
        """A, the one value of grad tau, ``(n, 1, d, d)``."""
        return self._rows("matrix")[:, None]

    def suprema(self) -> Norms:
        """|tau| at the corners, ||A||, 0, |tr A| and |A (difference of opposite corners)|."""
        matrix, mean = (value.detach().to(torch.float64) for value in (self.matrix, self.mean))
        corners = _corners(sides(self.size, device=self.device))  # (C, d) from the window's centre
        arms = corners @ matrix.mT  # (*batch_shape, C, d)
        components = matrix.flatten(-2).unbind(-1)
        return Norms(
            Interval.exact((arms + mean[..., None, :]).norm(dim=-1).amax(-1)),
            Interval.exact(lengths.spectral(components)),
            Interval.exact(torch.zeros_like(components[0])),
            Interval.exact(lengths.trace(components)),
            Interval.exact(2 * arms.norm(dim=-1).amax(-1)),
        )

    def derivative_bounds(self) -> list[Tensor]:
        """sup |tau|, ||A|| and zeros."""
        n = self.norms()
        known = [value.upper.reshape(-1) for value in (n.displacement, n.jacobian)]
        return [*known, *(torch.zeros_like(known[0]),) * 3]

    def without_mean(self) -> Self:
        """tau - mean: A (u - the window's centre)."""
        return self._with({"offset": self.offset - self.mean})

    def refined(self, factor: int) -> Self:
        """The same field with ``factor`` times as many pixels per side: tau_f(f u) = f tau(u), ``edge`` times factor.

        Pixel centres stay multiples of each other, so the window's border moves from 1/2 to factor / 2 pixels before
        the first one.
        """
        check_factor(factor)
        lengths_in_pixels = {"offset": self.offset * factor, "centre": self.centre * factor}
        result = self._with(lengths_in_pixels, self.norms().refined(factor))
        result._size = tuple(factor * side for side in self.size)
        result._settings = {"edge": factor * self.edge}
        return result

    def plus(self, other: Deformation) -> Deformation | None:
        """A + A' about this field's centre, o + o' + A' (c - c'); None for another family or window."""
        if not isinstance(other, AffineField) or other.edge != self.edge:
            return None
        offset = self.offset + other.offset
        if not same(self.centre, other.centre):
            offset = offset + other._apply(self.centre - other.centre)
        return self._with({"matrix": self.matrix + other.matrix, "offset": offset})

    def inverted(self) -> Self:
        """tau' with I - tau' = (I - tau)^{-1}: matrix I - M^{-1}, offset -M^{-1} o, M = I - A, the same centre.

        Raises:
            ValueError: where I - A is singular.

        >>> tau = AffineField.rotation(0.3, size=(8, 8))
        >>> torch.allclose(tau.inverted().matrix, AffineField.rotation(-0.3, size=(8, 8)).matrix)
        True
        """
        inverse = linear_maps.inverse_of(self._map(), "I - A")
        identity = torch.eye(self.d, dtype=self.dtype, device=self.device)
        return self._with({"matrix": identity - inverse, "offset": -(inverse @ self.offset[..., None])[..., 0]})

    def _map(self) -> Tensor:
        """I - A."""
        return torch.eye(self.d, dtype=self.dtype, device=self.device) - self.matrix

    def _apply(self, vector: Tensor) -> Tensor:
        """A v."""
        return (self.matrix @ vector[..., None])[..., 0]


def _corners(side: Tensor) -> Tensor:
    """The corners of the box [-side / 2, side / 2], ``(2^d, d)``."""
    halves = torch.stack([-side / 2, side / 2])  # (2, d)
    return torch.cartesian_prod(*halves.T).reshape(-1, len(side))
