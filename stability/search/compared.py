r"""``Compared``: Phi(x_i) held fixed, and what an objective may ask about other images, differentiable in them."""

import abc
import math
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from stability.grid import spatial_size
from stability.operators.precision import unit
from stability.representations.base import Representation
from stability.representations.explicit import ExplicitRepresentation
from stability.representations.linear import LinearGram
from stability.representations.module import ModuleRepresentation
from stability.representations.pair_gradient import inner_products, inner_products_with, safe_root
from stability.representations.pair_plan import ImageState
from stability.representations.pairs import PairRepresentation

Kernels = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Images y ``(n, C, *size)`` to K(y_j, z_i), ``(n, m)``, and K(y_j, y_j), ``(n,)``, differentiable in y."""


class Compared(abc.ABC):
    """Phi(x_1), ..., Phi(x_B); other images y_j come with the index of the image that they are compared with.

    All results are float64 and can be differentiated in y, with derivative 0 where a distance is 0.
    """

    representation: Representation
    """Phi."""
    images: Tensor
    """x_i, ``(B, C, *size)``."""
    norm: Tensor
    """||Phi(x_i)||, ``(B,)``."""
    together: int = 16
    """How many other images are differentiated at a time."""

    @property
    @abc.abstractmethod
    def floor(self) -> Tensor:
        """What round-off leaves of a distance from x_i, ``(B,)``."""

    @property
    def unit(self) -> float:
        """eps of the arithmetic."""
        return torch.finfo(torch.float64).eps

    @abc.abstractmethod
    def squared_distance(self, others: Tensor, owner: Tensor) -> Tensor:
        """||Phi(y_j) - Phi(x_owner(j))||^2, ``(n,)``; of a kernel a difference, which round-off can take below 0.

        Args:
            others: y, ``(n, C, *size)``, float64.
            owner: ``(n,)`` indices of images.
        """

    def distance(self, others: Tensor, owner: Tensor) -> Tensor:
        """||Phi(y_j) - Phi(x_owner(j))||, ``(n,)``."""
        return safe_root(self.squared_distance(others, owner))

    @abc.abstractmethod
    def angle(self, others: Tensor, owner: Tensor) -> Tensor:
        """The angle between Phi(y_j) and Phi(x_owner(j)) in radians, ``(n,)``; 0 if one of them is 0."""

    @abc.abstractmethod
    def kernels(self, anchors: Tensor) -> Kernels:
        """K(y_j, z_i) and K(y_j, y_j) for images z that stay, ``(m, C, *size)``."""

    def features(self, others: Tensor) -> Tensor:
        """The raw output of the representation, ``(n, K, *size')``.

        Raises:
            ValueError: if the representation has none.
        """
        raise ValueError(
            "the representation must have features for an objective with a head, got one known through distances; "
            "use Distance() or Angle(), or a CKN or a module"
        )


def compared(representation: Representation | nn.Module, images: Tensor) -> Compared:
    """Phi(x_i) held fixed.

    Args:
        representation: one with features, an exact kernel, or any torch module, whose output counts.
        images: ``(B, C, *size)``, float64.

    Raises:
        ValueError: for a representation without derivatives, or one that is not finite on an image.
    """
    found = _compared(representation, images)
    finite = torch.isfinite(found.norm)
    if not bool(finite.all()):
        at = int((~finite).nonzero()[0])
        raise ValueError(
            f"the representation must be finite, got NaN or infinite values for image {at}; look for a root, a "
            "logarithm or a division by 0 in it"
        )
    return found


def _compared(representation: Representation | nn.Module, images: Tensor) -> Compared:
    if isinstance(representation, ExplicitRepresentation | ModuleRepresentation):
        return _Encoded(representation, images)
    if isinstance(representation, LinearGram):
        return _Linear(representation, images)
    if isinstance(representation, PairRepresentation):
        return _Paired(representation, images)
    if isinstance(representation, Representation):
        raise ValueError(
            "representation must have features or an exact kernel that can be differentiated, got "
            f"{type(representation).__name__}; derive it from ExplicitRepresentation"
        )
    return _Encoded(ModuleRepresentation(representation), images)


class Vectors(Compared):
    """Representations with coordinates: rows whose Euclidean distance is that of the representation."""

    representation: ExplicitRepresentation | ModuleRepresentation | LinearGram

    def __init__(self, images: Tensor) -> None:
        self.images = images
        with torch.no_grad():
            self._rows = torch.cat([self.rows(part) for part in images.split(16)])
        self.norm = self._rows.norm(dim=1)
        self._units = _unit(self._rows)

    @cached_property
    def floor(self) -> Tensor:
        """That of the representation."""
        return self.representation.reference(self.images).floor

    @abc.abstractmethod
    def rows(self, images: Tensor) -> Tensor:
        """``(n, K')``, float64."""

    def kernels(self, anchors: Tensor) -> Kernels:
        """Products of rows."""
        with torch.no_grad():
            fixed = torch.cat([self.rows(part.to(self.images)) for part in anchors.split(16)])

        def products(others: Tensor) -> tuple[Tensor, Tensor]:
            rows = self.rows(others)
            return rows @ fixed.T, rows.square().sum(1)

        return products

    def squared_distance(self, others: Tensor, owner: Tensor) -> Tensor:
        """The squared norm of a difference."""
        return (self.rows(others) - self._rows[owner]).square().sum(1)

    def angle(self, others: Tensor, owner: Tensor) -> Tensor:
        """2 atan(|u - v| / |u + v|) of unit vectors: precise for small angles (Kahan)."""
        u, v = _unit(self.rows(others)), self._units[owner]
        apart, together = (safe_root(part.square().sum(1)) for part in (u - v, u + v))
        known = (u.detach().any(1)) & (self.norm[owner] > 0)
        return torch.where(known, 2 * torch.atan2(apart, together), 0.0)


class _Encoded(Vectors):
    representation: ExplicitRepresentation | ModuleRepresentation

    def __init__(self, representation: ExplicitRepresentation | ModuleRepresentation, images: Tensor) -> None:
        self.representation = representation
        super().__init__(images)

    @property
    def unit(self) -> float:
        """That of the representation, or of what comes out of it."""
        with torch.no_grad():
            found = self.features(self.images[:1])
        return max(unit(self.representation.dtype, self.images.device), torch.finfo(found.dtype).eps)

    def features(self, others: Tensor) -> Tensor:
        phi = self.representation
        return phi(others if isinstance(phi, ModuleRepresentation) else phi.entered(others))

    def rows(self, images: Tensor) -> Tensor:
        raw = self.features(images)
        area = self.representation.cell_area(spatial_size(images), raw)
        return raw.flatten(1).to(images.device, torch.float64) * math.sqrt(area)


class _Linear(Vectors):
    representation: LinearGram

    def __init__(self, representation: LinearGram, images: Tensor) -> None:
        self.representation = representation
        super().__init__(images)

    def rows(self, images: Tensor) -> Tensor:
        return self.representation.features(images).flatten(1)


class _Paired(Compared):
    """Exact kernels, one pair at a time: the memory is that of one pair whatever the number of fields."""

    together = 1

    representation: PairRepresentation

    def __init__(self, representation: PairRepresentation, images: Tensor) -> None:
        self.representation, self.images = representation, images
        self._program = representation.program(images)
        plan = self._program.plan
        self._states = self._program.complete(plan.prepare(images))
        self.norm = images.new_tensor([state.squared_norm for state in self._states]).clamp_min(0.0).sqrt()

    @cached_property
    def floor(self) -> Tensor:
        """That of the kernel."""
        return self.representation.reference(self.images).floor

    def squared_distance(self, others: Tensor, owner: Tensor) -> Tensor:
        return torch.stack([own + itself - 2.0 * cross for own, itself, cross in self._products(others, owner)])

    def angle(self, others: Tensor, owner: Tensor) -> Tensor:
        """2 asin(c / 2), c^2 = (|p - q|^2 - (|p| - |q|)^2) / (|p| |q|) the squared chord of the directions."""
        angles = []
        for own, itself, cross in self._products(others, owner):
            sizes = math.sqrt(max(own, 0.0)) * safe_root(itself)
            if not bool(sizes > 0):
                angles.append(0.0 * itself)
                continue
            angles.append(2.0 * torch.asin((safe_root(2.0 - 2.0 * cross / sizes) / 2.0).clamp_max(1.0)))
        return torch.stack(angles)

    def kernels(self, anchors: Tensor) -> Kernels:
        """One pair after the other, of which one is held while derivatives are taken."""
        plan, tangent = self._program.plan, self._program.tangent
        states = self._program.complete(plan.prepare(anchors.to(self.images)))

        def products(others: Tensor) -> tuple[Tensor, Tensor]:
            found = []
            for y in others:
                values = self._values(states, y)
                graph = torch.is_grad_enabled() and y.requires_grad
                found.append(inner_products_with(plan, states, y, tangent, values) if graph else values)
            rows = torch.stack(found)
            return rows[:, 1:], rows[:, 0]

        return products

    def _products(self, others: Tensor, owner: Tensor) -> list[tuple[float, Tensor, Tensor]]:
        """K(x, x), K(y, y) and K(x, y) of each pair."""
        graph = torch.is_grad_enabled() and others.requires_grad
        found = []
        for y, i in zip(others, owner.tolist(), strict=True):
            state = self._states[i]
            if graph:
                itself, cross = inner_products(self._program.plan, state, y, self._program.tangent)
            else:
                itself, cross = self._values([state], y)
            found.append((state.squared_norm, itself, cross))
        return found

    def _values(self, states: Sequence[ImageState], other: Tensor) -> Tensor:
        """K(y, y), K(x_1, y), ..., ``(1 + m,)``, without derivatives."""
        (y,) = self._program.plan.prepare(other.detach()[None])
        return other.new_tensor(self._program.kernels([(y, y), *((x, y) for x in states)]))


def _unit(rows: Tensor) -> Tensor:
    """Rows over their norms; a zero row stays."""
    norms = safe_root(rows.square().sum(1, keepdim=True))
    return rows / torch.where(norms > 0, norms, 1.0)
