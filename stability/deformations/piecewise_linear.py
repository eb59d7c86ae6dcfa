"""Fields that are linear on two triangles a cell of a periodic lattice: both sup norms are finite maxima, so exact."""

import functools
from collections.abc import Callable, Sequence
from typing import Self, final

import torch
from torch import Tensor

from stability.deformations import lengths
from stability.deformations.base import Scalar
from stability.deformations.checks import check_generator
from stability.deformations.lattice import LatticeField, check_lattice, lattice_nodes
from stability.deformations.linear_step import linear_step
from stability.deformations.modes import draw_disc
from stability.deformations.norms import Interval, Norms
from stability.deformations.series import FourierSeries
from stability.deformations.triangulation import gradient_at, gradients, interpolate
from stability.grid import check_size


@final
class PiecewiseLinearField(LatticeField):
    """tau interpolates its values at the nodes; every cell is cut from its node (r, c) to (r + 1, c + 1).

    |tau| is convex on each triangle, so its supremum is the largest value at a node; grad tau is constant on each
    triangle, so its supremum is the largest of finitely many. Both are exact, and a field that meets them can meet them
    on many triangles at once. grad tau jumps: there is no second derivative, ``hessian.upper`` is inf.

    The constructor is that of ``LatticeField``; in 1-D the cells are intervals.

    >>> rng = torch.Generator().manual_seed(0)
    >>> field = PiecewiseLinearField.sample((16, 16), cutoff=2, batch_shape=(4,), generator=rng)
    >>> n = field.norms()
    >>> bool((n.jacobian.lower == n.jacobian.upper).all())
    True
    """

    REACH = 1

    @classmethod
    def sample(
        cls,
        size: Sequence[int],
        *,
        cutoff: float,
        lattice: int | Sequence[int] | None = None,
        batch_shape: Sequence[int] = (),
        generator: torch.Generator,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> Self:
        """The interpolant of a band-limited Gaussian field, the one that ``FourierField.sample`` draws.

        Equal generators give fields that agree at common nodes at every resolution; with an equal ``lattice`` the same
        field: tau_2(2 u) = 2 tau_1(u).

        Args:
            size: ``(N,)`` or ``(H, W)``.
            cutoff: of the interpolated field, cycles per shorter side.
            lattice: nodes per axis in the order of ``size``, or on the shorter side; None: one per pixel.
            batch_shape: shape of the batch of fields.
            generator: where the random numbers come from; drawn on its device in float64.
            dtype: floating-point type of the field.
            device: where the field is put, by default the generator's device.

        Raises:
            ValueError: if the cutoff is out of range or the lattice too small.
            TypeError: if there is no generator.
        """
        size = check_size(size)
        values = _direction(size, cutoff, lattice, batch_shape, check_generator(generator))
        return cls(values.to(dtype=dtype, device=device), size)

    @classmethod
    def saturated(
        cls,
        size: Sequence[int],
        *,
        displacement_norm: Scalar,
        jacobian_norm: Scalar,
        cutoff: float = 3,
        lattice: int | Sequence[int] | None = None,
        batch_shape: Sequence[int] = (),
        generator: torch.Generator,
    ) -> Self:
        """argmax <g, tau> over sup |tau| <= a, sup ||grad tau||_2 <= b for a random smooth direction g.

        A scaled random field meets its constraints at about one pixel in a hundred; this one on a large share of them,
        which makes it the field to draw when a sweep speaks about the worst case. Both norms are at most their
        targets, and at least one is attained up to 1e-9.

        Args:
            size: ``(N,)`` or ``(H, W)``.
            displacement_norm: a > 0 in pixels, a number or a tensor that broadcasts with ``batch_shape``.
            jacobian_norm: b > 0, dimensionless, likewise.
            cutoff: of the direction g, cycles per shorter side.
            lattice: nodes per axis, as in ``sample``.
            batch_shape: shape of the batch of directions.
            generator: where the random numbers come from.

        Returns:
            Fields with the broadcast batch shape, float64 on the generator's device.

        Raises:
            ValueError: if a norm is not positive and finite, or as in ``sample``.

        >>> rng = torch.Generator().manual_seed(0)
        >>> tau = PiecewiseLinearField.saturated((16, 16), displacement_norm=1.0, jacobian_norm=0.3, generator=rng)
        >>> bool(tau.norms().jacobian.upper <= 0.3)
        True
        """
        size = check_size(size)
        g = _direction(size, cutoff, lattice, batch_shape, check_generator(generator))
        a, b = (
            _positive(name, value, g.device)
            for name, value in (("displacement_norm", displacement_norm), ("jacobian_norm", jacobian_norm))
        )
        shape = torch.broadcast_shapes(torch.Size(batch_shape), a.shape, b.shape)
        d = len(size)
        g = g.expand(*shape, *g.shape[-d - 1 :])
        cells = cls(g, size).sides_of_cells
        step = linear_step(
            g.reshape(-1, *g.shape[-d - 1 :]), cells, a.expand(shape).reshape(-1), b.expand(shape).reshape(-1)
        )
        return cls(step.values.reshape(g.shape), size)

    def derivative(self, points: Tensor, order: int) -> Tensor:
        """Interpolation, the gradient of the triangle, or 0 (almost everywhere)."""
        values, cells = self._flat_values(), self.sides_of_cells
        if order == 0:
            return interpolate(values, cells, points)
        if order == 1:
            return gradient_at(values, cells, points)
        return values.new_zeros((len(values), points.shape[1], self.d, self.d, self.d))

    def gradients(self) -> Tensor:
        """grad tau on every triangle, ``(n, T, d, d)``."""
        return gradients(self._flat_values(), self.sides_of_cells).flatten(1, self.d + 1)

    def suprema(self) -> Norms:
        """Maxima over nodes and triangles, exact; second derivative: 0 seen, inf certified unless tau is constant."""
        return Norms(
            self._exact(lambda: self._at_nodes.amax(1)),
            self._exact(lambda: self._on_triangles(lengths.spectral).amax(1)),
            Interval(lambda: torch.zeros(self.batch_shape, dtype=torch.float64, device=self.device), self._bend),
            self._exact(lambda: self._on_triangles(lengths.trace).amax(1)),
            self._exact(self._diameter),
        )

    def places(self) -> tuple[Tensor, Tensor]:
        """The node where |tau| and the midpoint of the triangle where ||grad tau||_2 is largest, in pixels."""
        nodes = self.nodes().reshape(-1, self.d)
        far = nodes[self._at_nodes.argmax(1)]
        steep = self._on_triangles(lengths.spectral).argmax(1)
        if self.d == 1:
            middle = nodes[steep] + self.cells / 2
        else:  # triangles above and below the diagonal alternate
            inside = torch.tensor([[2 / 3, 1 / 3], [1 / 3, 2 / 3]], dtype=torch.float64, device=self.device)
            middle = nodes[steep // 2] + inside[steep % 2] * self.cells
        shape = (*self.batch_shape, self.d)
        return far.reshape(shape), middle.reshape(shape)

    @functools.cached_property
    def _at_nodes(self) -> Tensor:
        """|tau| at the nodes, ``(n, L)``."""
        return self._flat_values().detach().to(torch.float64).norm(dim=-1).flatten(1)

    def _on_triangles(self, length: lengths.Length) -> Tensor:
        """A length of grad tau on the triangles, ``(n, T)``."""
        return length(self.gradients().detach().to(torch.float64).flatten(-2).unbind(-1))

    def _exact(self, value: Callable[[], Tensor]) -> Interval:
        once = functools.cache(lambda: value().reshape(self.batch_shape))
        return Interval(once, once)

    def _bend(self) -> Tensor:
        moving = self.norms().jacobian.upper > 0
        return torch.where(moving, torch.inf, 0.0).to(torch.float64)

    def _diameter(self) -> Tensor:
        """The largest distance between two values, ``(n,)``."""
        rows = self._flat_values().detach().to(torch.float64).flatten(1, self.d)
        return torch.stack([_diameter(row) for row in rows])


def _diameter(points: Tensor) -> Tensor:
    """max |p - q| over rows of ``(L, d)``."""
    return torch.stack(
        [torch.cdist(part, points, compute_mode="donot_use_mm_for_euclid_dist").amax() for part in points.split(1024)]
    ).amax()


def _direction(
    size: tuple[int, ...],
    cutoff: float,
    lattice: int | Sequence[int] | None,
    batch_shape: Sequence[int],
    generator: torch.Generator,
) -> Tensor:
    """Values of a band-limited Gaussian field at the nodes, ``(*batch_shape, *lattice, d)`` in pixels."""
    shape = size if lattice is None else check_lattice(lattice, size)
    modes, cosine, sine = draw_disc(size, cutoff, batch_shape, generator)
    smooth = FourierSeries(modes, cosine, sine, size=size)
    nodes = lattice_nodes(size, shape, device=generator.device)
    return smooth.displacement(nodes)


def _positive(name: str, value: Scalar, device: torch.device) -> Tensor:
    target = torch.as_tensor(value, dtype=torch.float64, device=device)
    if not bool((torch.isfinite(target) & (target > 0)).all()):
        raise ValueError(f"{name} must be positive and finite, got {value!r}; use {name}=0.5")
    return target
