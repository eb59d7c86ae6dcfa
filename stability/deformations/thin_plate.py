r"""Thin-plate splines: the interpolants of given displacements at control points with the least bending energy."""

from collections.abc import Sequence
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from stability.deformations.base import Deformation
from stability.deformations.checks import check_factor, check_generator
from stability.deformations.domains import Window
from stability.deformations.family import Family, State
from stability.deformations.modes import ROOT_MEAN_SQUARE
from stability.deformations.norms import Norms
from stability.deformations.parameters import check_batches, check_edge, parameter, same
from stability.deformations.pointwise import searched
from stability.grid import check_size, sides

DEGENERATE = 1e-9
"""Distance of two control points, or of all from a line, relative to their extent, from which on they are refused."""

_NEAREST = 1e-24
"""Least squared distance in the logarithm, relative to the squared extent of the points."""


@final
class ThinPlateField(Family):
    r"""tau(u) = sum_k w_k U(|u - p_k|) + a + G u with tau(p_k) = v_k, U(r) = r^2 log r (d = 2) or r^3 (d = 1).

    Of all fields with these values the one with the least integral of the squared second derivatives over R^d: linear
    in v, and exactly affine where v is. In one dimension the natural cubic spline. It lives on the window
    [-edge, N - edge] and does not vanish at its border: no theorem of the torus covers it.

    Norms are seen only: ``lower`` by search over the window; ``upper`` is inf, because the second derivative, on which
    certificates rest, has a logarithmic singularity at every control point in two dimensions (``hessian.lower`` is
    what the search met, the supremum is infinite). For certified norms fit a ``SplineField``.

    Args:
        points: p in pixels, ``(*batch_shape, K, d)``, K > d, distinct and, in two dimensions, not on one line.
        displacements: v in pixels, ``(*batch_shape, K, d)``.
        size: ``(N,)`` or ``(H, W)``.
        edge: distance from the border to the centre of the first pixel, in pixels; 0.5: the border of its cell.

    Raises:
        ValueError: if shapes do not fit, a number is not finite, or points coincide or lie on one line.

    Convention: L_tau x(u) = x(u - tau(u)), so control points belong to the OUTPUT: the deformed image shows at p_k
    what x holds at p_k - v_k. At a control point itself, where no second derivative exists, ``hessian`` gives a finite
    number.

    Reference: Duchon 1977 (rotation-invariant splines); Bookstein 1989 (landmarks).

    >>> corners = torch.tensor([[0.0, 0.0], [7.0, 0.0], [0.0, 7.0], [7.0, 7.0], [3.0, 4.0]])
    >>> moves = torch.tensor([[0.0, 0.0]] * 4 + [[1.0, -0.5]])
    >>> ThinPlateField(corners, moves, (8, 8)).displacement(corners[-1]).round(decimals=5)
    tensor([ 1.0000, -0.5000])
    """

    AXES: ClassVar = {"displacements": 2, "points": 2, "weights": 2, "affine": 2}
    LINEAR: ClassVar = frozenset({"displacements", "weights", "affine"})

    def __init__(self, points: Tensor, displacements: Tensor, size: Sequence[int], edge: float = 0.5) -> None:
        size = check_size(size)
        d = len(size)
        v = parameter("displacements", displacements, (None, d), "give one row per control point")
        p = parameter("points", points, (None, d), "give one row (x, y) per control point", v)
        if p.shape[-2] != v.shape[-2] or p.shape[-2] <= d:
            raise ValueError(
                f"points and displacements must have the same number of rows, at least {d + 1}, "
                f"got {p.shape[-2]} and {v.shape[-2]}; give one displacement per control point"
            )
        tensors = {"displacements": v, "points": p}
        settings = {"edge": check_edge(edge)}
        check_batches(tensors, dict.fromkeys(tensors, 2))
        _check_places(p.detach().to(torch.float64).reshape(-1, *p.shape[-2:]))
        weights, affine = _solve(*torch.broadcast_tensors(p.to(torch.float64), v.to(torch.float64)))
        tensors |= {"weights": weights.to(v.dtype), "affine": affine.to(v.dtype)}
        self._keep(size, tensors, settings=settings)

    @classmethod
    def sample(
        cls,
        size: Sequence[int],
        *,
        lattice: int = 4,
        jitter: float = 0.5,
        batch_shape: Sequence[int] = (),
        generator: torch.Generator,
        edge: float = 0.5,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> Self:
        """Control points on a jittered lattice with independent Gaussian displacements: E |v_k|^2 = (side / 32)^2.

        Equal generators give the same field at every resolution: ``sample((2 H, 2 W))`` satisfies
        tau_2(2 u) = 2 tau_1(u); its window is that of the finer pixels unless ``edge`` is doubled as well.

        Args:
            size: ``(N,)`` or ``(H, W)``; the shorter side counts.
            lattice: points per axis, at least 2: K = lattice^d.
            jitter: 0 <= jitter < 1: points are uniform in this share, per axis, of their cells.
            batch_shape: shape of the batch of fields.
            generator: where the random numbers come from; drawn on its device in float64.
            edge: see the class.
            dtype: floating-point type of the field.
            device: where the field is put, by default the generator's device.

        Raises:
            ValueError: if the lattice or the jitter is out of range.
            TypeError: if there is no generator.

        >>> ThinPlateField.sample((32, 32), batch_shape=(8,), generator=torch.Generator().manual_seed(0))
        ThinPlateField(size=(32, 32), batch_shape=(8,))
        """
        size = check_size(size)
        check_generator(generator)
        d, where = len(size), generator.device
        if isinstance(lattice, bool) or not isinstance(lattice, int) or lattice < 2:
            raise ValueError(f"lattice must be an integer of at least 2 points per axis, got {lattice!r}; use 4")
        if isinstance(jitter, bool) or not isinstance(jitter, int | float) or not 0 <= jitter < 1:
            raise ValueError(f"jitter must be a share of the cell in [0, 1), got {jitter!r}; use 0.5")
        nodes = torch.cartesian_prod(*[torch.arange(lattice, dtype=torch.float64, device=where)] * d).reshape(-1, d)
        shape = (*batch_shape, *nodes.shape)
        moves = torch.randn(shape, generator=generator, device=where, dtype=torch.float64)
        place = torch.rand(shape, generator=generator, device=where, dtype=torch.float64)
        points = (nodes + 0.5 + jitter * (place - 0.5)) / lattice * sides(size, device=where)
        moves = moves * (ROOT_MEAN_SQUARE * min(size) / d**0.5)
        return cls(points, moves, size, edge).to(dtype=dtype, device=device)

    @property
    def points(self) -> Tensor:
        """Control points in pixels, ``(*batch_shape, K, d)``."""
        return self._tensors["points"]

    @property
    def displacements(self) -> Tensor:
        """Displacements at the control points in pixels, ``(*batch_shape, K, d)``."""
        return self._tensors["displacements"]

    def state(self) -> State:
        """Control points and displacements, size and edge."""
        return {"points": self.points, "displacements": self.displacements}, {"size": self.size, "edge": self._edge}

    @property
    def domain(self) -> Window:
        """[-edge, N - edge] on each axis; the field does not vanish at the border."""
        return Window(self.size, self._edge)

    def derivative(self, points: Tensor, order: int) -> Tensor:
        """Sums over the control points of the derivatives of U, and those of the affine part."""
        weights, affine = self._rows("weights"), self._rows("affine")
        nodes, middle, extent = _normalised(self._rows("points"))
        place = (points - middle) / extent  # (n, P, d)
        if order == 0:
            return _kernel(_squares(place, nodes), self.d) @ weights + affine[:, :1] + place @ affine[:, 1:]
        difference = place[:, :, None] - nodes[:, None]  # (n, P, K, d)
        gradient, curvature = _kernel_slopes(difference.square().sum(-1), self.d)
        # grad U(|s|) = gradient s, second derivative gradient I + curvature s (x) s
        if order == 1:
            columns = [(gradient * part) @ weights + affine[:, 1 + k, None] for k, part in _parts(difference)]
            return torch.stack(columns, dim=-1) / extent[..., None]
        second = [
            (curvature * part * other + (gradient if j == k else 0.0)) @ weights
            for j, part in _parts(difference)
            for k, other in _parts(difference)
        ]
        return torch.stack(second, dim=-1).unflatten(-1, (self.d, self.d)) / extent.square()[..., None, None]

    def suprema(self) -> Norms:
        """Seen by search over the window, not certified."""
        return searched(self)

    def refined(self, factor: int) -> Self:
        """The same field with ``factor`` times as many pixels per side and ``edge``: tau_f(f u) = f tau(u)."""
        check_factor(factor)
        larger = {name: tensor * factor for name, tensor in self._tensors.items()}
        result = self._with(larger, self.norms().refined(factor))
        result._size = tuple(factor * side for side in self.size)
        result._settings = {"edge": factor * self._edge}
        return result

    def plus(self, other: Deformation) -> Deformation | None:
        """The sum of two fields with equal control points and windows; None otherwise."""
        if not isinstance(other, ThinPlateField) or other.domain != self.domain or not same(self.points, other.points):
            return None
        return self._with({name: self._tensors[name] + other._tensors[name] for name in self.LINEAR})

    @property
    def _edge(self) -> float:
        return check_edge(self._settings["edge"])


def _solve(points: Tensor, displacements: Tensor) -> tuple[Tensor, Tensor]:
    """Weights ``(..., K, d)`` and affine part ``(..., 1 + d, d)``: [[U, Q], [Q^T, 0]] [w; affine] = [v; 0], Q = (1, p).

    In coordinates in which the points fill the unit disc: a change of the unit of length changes U by a quadratic,
    which the conditions Q^T w = 0 turn into an affine part.
    """
    nodes, _, _ = _normalised(points)
    count, d = nodes.shape[-2:]
    q = torch.cat([torch.ones_like(nodes[..., :1]), nodes], dim=-1)  # (..., K, 1 + d)
    zero = q.new_zeros(*q.shape[:-2], 1 + d, 1 + d)
    rows = torch.cat([_kernel(_squares(nodes, nodes), d), q], dim=-1), torch.cat([q.mT, zero], dim=-1)
    values = torch.cat([displacements, displacements.new_zeros(*displacements.shape[:-2], 1 + d, d)], dim=-2)
    found = torch.linalg.solve(torch.cat(rows, dim=-2), values)
    return found[..., :count, :], found[..., count:, :]


def _normalised(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The points ``(..., K, d)`` in the unit disc about their mean, the mean ``(..., 1, d)`` and their extent."""
    middle = points.mean(-2, keepdim=True)
    offset = points - middle
    extent = offset.norm(dim=-1, keepdim=True).amax(-2, keepdim=True)
    return offset / extent.clamp_min(torch.finfo(points.dtype).tiny), middle, extent


def _check_places(points: Tensor) -> None:
    """That the control points ``(n, K, d)`` determine a spline.

    Raises:
        ValueError: if two coincide, or all lie on one line.
    """
    nodes, _, _ = _normalised(points)
    distances = torch.cdist(nodes, nodes, compute_mode="donot_use_mm_for_euclid_dist")
    distances = distances + 2 * torch.eye(nodes.shape[1], dtype=nodes.dtype, device=nodes.device)
    twins = (distances <= DEGENERATE).nonzero()
    if len(twins):
        field, first, second = twins[0].tolist()
        raise ValueError(
            f"points must be distinct, got {points[field, first].tolist()} twice (rows {first} and {second} of field "
            f"{field}); leave one out"
        )
    flat = torch.linalg.svdvals(nodes)[:, -1] <= DEGENERATE
    if bool(flat.any()):
        field = int(flat.nonzero()[0, 0])
        raise ValueError(f"points must not lie on one line, got field {field} with such points; move or add one")


def _squares(first: Tensor, second: Tensor) -> Tensor:
    """Squared distances ``(..., P, K)`` of ``(..., P, d)`` and ``(..., K, d)``."""
    return (first[..., :, None, :] - second[..., None, :, :]).square().sum(-1)


def _parts(difference: Tensor) -> list[tuple[int, Tensor]]:
    """The coordinates of ``(n, P, K, d)`` with their numbers."""
    return list(enumerate(difference.unbind(-1)))


def _kernel(q: Tensor, d: int) -> Tensor:
    """U as a function of q = r^2: r^2 log r or r^3."""
    near = q.clamp_min(_NEAREST)
    return q * near.log() / 2 if d == 2 else q * near.sqrt()


def _kernel_slopes(q: Tensor, d: int) -> tuple[Tensor, Tensor]:
    """2 U'(q) and 4 U''(q): the gradient of U is 2 U' s."""
    near = q.clamp_min(_NEAREST)
    return (near.log() + 1, 2 / near) if d == 2 else (3 * q.sqrt(), 3 / near.sqrt())
