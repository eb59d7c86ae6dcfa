"""``Deformation``: a batch of smooth displacement fields tau, d in {1, 2}. Functions, not arrays."""

import abc
import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from stability.deformations.checks import check_points, check_scalar
from stability.deformations.domains import Torus, Window
from stability.deformations.norms import Index, Norms
from stability.grid import coordinates

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from stability.deformations.diffeomorphism import Diffeomorphism

Scalar = float | Tensor


class Deformation(abc.ABC):
    """Displacement fields tau: L_tau x(u) = x(u - tau(u)), a batch with independent fields.

    Convention: points and displacements have their coordinates on the last axis in the order (x, y) = (column, row),
    in pixels; J[i, j] = d tau_i / d u_j.

    Fields form a vector space: ``0.5 * tau``, ``-tau``, ``tau / 2``, ``f + g``, ``f - g``. Fields of one family add
    inside the family; others give a ``Sum``.

    A new kind of field implements the abstract members; ``derivative`` may get its orders 1 and 2 from
    ``automatic.differentiated``.
    """

    _norms: Norms | None = None

    @property
    @abc.abstractmethod
    def size(self) -> tuple[int, ...]:
        """``(N,)`` or ``(H, W)`` of the torus in pixels."""

    @property
    @abc.abstractmethod
    def mean(self) -> Tensor:
        """The constant part, ``(*batch_shape, d)`` in pixels."""

    @abc.abstractmethod
    def derivative(self, points: Tensor, order: int) -> Tensor:
        """The derivative of the given order of the n fields of the flattened batch, each at its own points.

        Args:
            points: ``(n, P, d)`` in pixels, or ``(1, P, d)``: the same for all.
            order: 0, 1 or 2.

        Returns:
            Tensor ``(n, P, d)``, ``(n, P, d, d)`` or ``(n, P, d, d, d)``; derivatives on the last axes.
        """

    @abc.abstractmethod
    def suprema(self) -> Norms:
        """The norms of tau over its domain, lazily; ``norms`` keeps them and adds what follows from the derivatives."""

    @abc.abstractmethod
    def scaled(self, factor: Scalar) -> Self:
        """factor * tau.

        Args:
            factor: a number, or a tensor that broadcasts with ``batch_shape``: ``(T, 1)`` against ``(B,)`` gives
                ``(T, B)``.
        """

    @abc.abstractmethod
    def __getitem__(self, index: Index) -> Self: ...

    @abc.abstractmethod
    def refined(self, factor: int) -> Self:
        """The same field with ``factor`` times as many pixels per side: tau_f(f u) = f tau(u), factor >= 1."""

    @abc.abstractmethod
    def without_mean(self) -> Self:
        """tau - mean."""

    @abc.abstractmethod
    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        """The same field with another floating-point type or on another device; its norms are kept."""

    def plus(self, other: "Deformation") -> "Deformation | None":
        """tau + other as one field of this family, or None if it is not in the family."""
        return None

    def derivative_bounds(self) -> list[Tensor]:
        """A_0, ..., A_4, ``(n,)`` each: A_k >= sup of |d_e^k tau| over points and unit e; inf where unknown."""
        n = self.norms()
        known = [n.displacement.upper, n.jacobian.upper, n.hessian.upper]
        return [*(value.reshape(-1) for value in known), *(torch.full_like(known[0].reshape(-1), torch.inf),) * 2]

    def gradients(self) -> Tensor | None:
        """All values that grad tau takes, ``(n, T, d, d)``, where they are finitely many; else None."""
        return None

    @property
    def injective(self) -> Tensor | None:
        """Which maps id - tau are injective by construction, ``batch_shape`` bool; None: the family does not say."""
        return None

    def displacement(self, points: Tensor, *, each: bool = False) -> Tensor:
        """tau(u).

        Args:
            points: ``(..., d)`` in pixels, the same points for every field; with ``each`` ``(*batch_shape, ..., d)``,
                every field its own.
            each: see above.

        Returns:
            Tensor ``(*batch_shape, ..., d)`` in pixels.
        """
        return self._at(points, 0, each)

    def jacobian(self, points: Tensor, *, each: bool = False) -> Tensor:
        """grad tau(u), ``(*batch_shape, ..., d, d)`` with [i, j] = d tau_i / d u_j; points as in ``displacement``."""
        return self._at(points, 1, each)

    def hessian(self, points: Tensor, *, each: bool = False) -> Tensor:
        """Second derivatives, ``(*batch_shape, ..., d, d, d)`` with [i, j, k] = d^2 tau_i / d u_j d u_k, 1 / pixel."""
        return self._at(points, 2, each)

    def on_grid(self, oversample: int = 1) -> Tensor:
        """tau on the grid of (1 / oversample) pixels, ``(*batch_shape, *(oversample * size), d)`` in pixels."""
        return self.displacement(coordinates(self.size, oversample=oversample, dtype=self.dtype, device=self.device))

    def norms(self) -> Norms:
        """Suprema over the domain, seen and certified, each computed when it is read."""
        norms = self.homogeneous_norms()
        if norms.distortion is None:
            from stability.deformations.distortion import distortion  # looks at a Deformation from outside

            self._norms = norms = dataclasses.replace(norms, distortion=distortion(self))
        return norms

    def homogeneous_norms(self) -> Norms:
        """``norms``, perhaps without the distortion: what relatives of a field take over from it."""
        if self._norms is None:
            self._norms = self.suprema()
        return self._norms

    def is_diffeomorphism(self) -> "Diffeomorphism":
        """Whether u -> u - tau(u) is a diffeomorphism of the domain: yes, no or unknown per field, with a reason."""
        from stability.deformations.diffeomorphism import judge

        return judge(self)

    def plot(self) -> "Figure":
        """A figure of one field: deformed grid, arrows, |tau|, ||grad tau||_2 and det(I - grad tau)."""
        from stability.plots.deformation import draw  # matplotlib loads when something is drawn

        return draw(self)

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the field (npz, or safetensors by the suffix); ``load_deformation`` reads it. See ``files.save``."""
        from stability.deformations.files import save

        return save(self, path, overwrite=overwrite)

    @property
    def d(self) -> int:
        """Dimension, 1 or 2."""
        return len(self.size)

    @property
    def domain(self) -> Torus | Window:
        """Where the field lives and its norms are taken; a torus unless the family says otherwise."""
        return Torus(self.size)

    @property
    def vanishing_border(self) -> float | None:
        """Width of the strip along the border of the image in which tau = 0, px; 0: at the border only; None: unknown.

        The border is that of the field's window, if this holds the centres of all pixels and of no others; of a torus
        that of the pixels' cells.
        """
        domain = self.domain
        return 0.0 if isinstance(domain, Window) and domain.vanishing and 0 <= domain.edge <= 1 else None

    @property
    def volume_preserving(self) -> Tensor:
        """Which fields have det(I - grad tau) = 1 by their form, ``batch_shape`` bool; False: no, or unknown."""
        return torch.zeros(self.batch_shape, dtype=torch.bool, device=self.device)

    @property
    def batch_shape(self) -> torch.Size:
        """Shape of the batch of fields."""
        return self.mean.shape[:-1]

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the displacements."""
        return self.mean.dtype

    @property
    def device(self) -> torch.device:
        """Where the field's coefficients are."""
        return self.mean.device

    @property
    def requires_grad(self) -> bool:
        """Whether somebody differentiates with respect to what the field is made of."""
        return self.mean.requires_grad

    def flat(self) -> Self:
        """The fields in one row, batch shape ``(n,)``."""
        shape = self.batch_shape
        if len(shape) == 1:
            return self
        if not shape:
            return self[None]
        return self[torch.unravel_index(torch.arange(shape.numel(), device=self.device), shape)]

    def __mul__(self, factor: Scalar) -> Self:
        return self.scaled(check_scalar(factor))

    __rmul__ = __mul__

    def __truediv__(self, divisor: Scalar) -> Self:
        return self * (1 / divisor)

    def __neg__(self) -> Self:
        return self.scaled(-1.0)

    def __add__(self, other: "Deformation") -> "Deformation":
        from stability.deformations.sum import add  # a sum is itself a deformation

        return add(self, other)

    def __sub__(self, other: "Deformation") -> "Deformation":
        return self + -other

    def __getstate__(self) -> dict[str, object]:
        """Pickled without its cached values, which are computed again when they are read."""
        return {name: None if name == "_norms" else value for name, value in own_state(self).items()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(size={self.size}, batch_shape={tuple(self.batch_shape)})"

    def _repr_html_(self) -> str:
        from stability.deformations.html import html

        return html(self)

    def _at(self, points: Tensor, order: int, each: bool) -> Tensor:
        points = check_points(points, self.d).to(dtype=self.dtype)
        if points.device != self.device:
            raise ValueError(
                f"points must be on the field's device {self.device}, got {points.device}; use points.to(field.device)"
            )
        shape = self.batch_shape
        leading = points.shape[:-1]
        if each:
            if points.shape[: len(shape)] != shape:
                raise ValueError(
                    f"points must begin with the batch {tuple(shape)} when each field has its own, "
                    f"got {tuple(points.shape)}; leave each=True out for common points"
                )
            leading = leading[len(shape) :]
        flat = points.reshape(shape.numel() if each else 1, leading.numel(), self.d)
        return self.derivative(flat, order).reshape(*shape, *leading, *(self.d,) * (order + 1))


def own_state(field: Deformation) -> dict[str, object]:
    """What a field was made of: its attributes without cached properties."""
    cached = _cached_properties(type(field))
    return {name: value for name, value in vars(field).items() if name not in cached}


@functools.cache
def _cached_properties(kind: type) -> frozenset[str]:
    """Names of the class's cached properties."""
    classes = (vars(cls) for cls in kind.__mro__)
    return frozenset(
        name for own in classes for name, value in own.items() if isinstance(value, functools.cached_property)
    )


def common_shape(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that all broadcast to; ``torch.broadcast_shapes`` takes as long as a product of small matrices."""
    different = {tuple(shape) for shape in shapes} - {()}
    if len(different) > 1:
        try:
            return tuple(torch.broadcast_shapes(*different))
        except RuntimeError:
            raise ValueError(
                f"batches must broadcast, got shapes {', '.join(str(tuple(shape)) for shape in shapes)}; give equal "
                "numbers of images, fields and factors, or axes of length 1"
            ) from None
    return different.pop() if different else ()
