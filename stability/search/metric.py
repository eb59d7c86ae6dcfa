r"""``Metric``: tau -> J^T J tau with J = d Phi(L_tau x) / d tau at tau = 0, all that slopes at zero ask for.

Features have a J (``FeatureMetric``). Of a kernel only D(y) = ||Phi(y) - Phi(x)||^2 is known, which at y = x has value
0, gradient 0 and Hessian 2 G, where D(x + e v) = e^2 <v, G v> + o(e^2). Hence

    G v = lim (grad D(x + e v) - grad D(x - e v)) / (4 e),    J^T J = T^T G T,    T = d L_tau x / d tau,

with exact gradients of D: one difference, not two (``KernelMetric``). At e max |v| = 1e-5 max |x| truncation and
round-off balance: the error is about 1e-9 of G v, for the kernel of ReLU, whose D has no third derivative, too. Images
with patches far below their largest pixel (a hot pixel, an offset that the front end takes away) ask for shorter steps:
the one of ``STEPS`` at which G is most nearly linear is taken. What is left of the error is measured by half the step.
Differentiating the graph of grad D once more is no faster, and fails where kappa''(1) = inf although G exists.

Where Phi has no derivative at x there is no G: what stands for it is then not linear, which is looked at first.
"""

import abc
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from stability.representations.base import LEAST_FLOOR, KernelRepresentation
from stability.representations.round_off import PROBES, SAFETY
from stability.search.compared import Compared, Vectors
from stability.search.jacobian import FieldJacobian
from stability.warps.base import Warp

STEPS = (1e-5, 1e-6, 1e-7, 1e-8, 1e-9)
"""e max |v| / max |x|, in turn."""

STILL = 1e-12
"""max |v| / max |x| up to which an image does not move: fields are in pixels, and that is round-off of the warp."""

LINEAR = 1e-4
"""|G (u + v) - G u - G v| / max(|G u|, |G v|) up to which G counts as linear."""

ENOUGH = 1e-7
"""And up to which no shorter step is tried."""

DENSE = 800
"""Entries of an image up to which G is formed: about as many G v are asked for otherwise."""


class Metric(abc.ABC):
    """J^T J for n fields at a time."""

    shape: tuple[int, ...]
    """``(n, *size, d)``."""
    device: torch.device

    @abc.abstractmethod
    def gram(self, fields: Tensor) -> Tensor:
        """J^T J tau, ``(n, *size, d)``."""

    @abc.abstractmethod
    def round_off(self, field: Tensor) -> float:
        """What the arithmetic may change of ||J tau|| for one field ``(*size, d)``: measured, an estimate."""


class FeatureMetric(Metric):
    """J^T (J tau).

    Args:
        jacobian: J.
        beside: makes J of the image with other last digits, ``(C, *size)``, for one field.
        image: x, ``(C, *size)``.
        unit: eps of the arithmetic.
    """

    def __init__(
        self, jacobian: FieldJacobian, beside: Callable[[Tensor], FieldJacobian], image: Tensor, unit: float
    ) -> None:
        self._jacobian, self.shape, self.device = jacobian, jacobian.shape, jacobian.device
        self._beside, self._image, self._unit = beside, image, unit

    def gram(self, fields: Tensor) -> Tensor:
        """One pass forward, one back."""
        return self._jacobian.adjoint(self._jacobian.apply(fields))

    def round_off(self, field: Tensor) -> float:
        """3 max_k ||J((1 - k eps) x) tau - J(x) tau||."""
        seen = [self._beside(self._image * (1.0 - k * self._unit)).apply(field[None]) for k in (0, *PROBES)]
        return SAFETY * max(float((rows - seen[0]).norm()) for rows in seen[1:])


class PixelMetric:
    """G of one image, by central differences of gradients.

    Args:
        compared: any representation whose squared distances have gradients.
        images: x_i, ``(B, C, *size)``, float64.
        index: i.
    """

    def __init__(self, compared: Compared, images: Tensor, index: int) -> None:
        self._compared, self._image = compared, images[index]
        self._owner = torch.tensor([index, index], device=images.device)
        self._matrix: Tensor | None = None
        self._step = STEPS[0]

    def settle(self, directions: Tensor) -> None:
        """Take the step at which G is most nearly linear.

        Args:
            directions: u and v, ``(2, C N)``.

        Raises:
            ValueError: if there is none: Phi has no derivative at x.
        """
        best = math.inf
        for step in self._steps():
            one, other, both = (self._apply(row, step) for row in (*directions, directions.sum(0)))
            size, apart = float(torch.maximum(one.norm(), other.norm())), float((both - one - other).norm())
            if apart < best * size:
                best, self._step = apart / size, step
            if apart == size == 0 and step == STEPS[0]:
                return  # nothing moves; shorter steps find nothing for want of digits
            if best <= ENOUGH:
                break
        if best <= LINEAR:
            return
        raise ValueError(
            "the representation must have a derivative at the image to be linearised, got a distance that is not a "
            "norm of the deformation near 0; kernels of a step, tangent kernels of ReLU and patches that are 0 have "
            "none: use another kernel or antialiasing, or worst_case with small norms"
        )

    def _steps(self) -> Sequence[float]:
        """Of kernels whose slope is infinite somewhere the longest: round-off hides small angles and thus the kink."""
        phi = self._compared.representation
        kinked = isinstance(phi, KernelRepresentation) and phi.relative_floor > LEAST_FLOOR
        return STEPS[:1] if kinked else STEPS

    def halved(self, direction: Tensor) -> Tensor:
        """G v, ``(C N,)``, by a step half as long."""
        return self._apply(direction, self._step / 2)

    def apply(self, directions: Tensor) -> Tensor:
        """G v, ``(n, C N)``, for ``(n, C N)``: two gradients each, or two for each entry of the image in all."""
        still = directions.abs().amax(1, keepdim=True) <= STILL * self._image.abs().max()
        directions = torch.where(still, 0.0, directions)
        if self._image.numel() > DENSE:
            return torch.stack([self._apply(row, self._step) for row in directions])
        if self._matrix is None:
            units = torch.eye(self._image.numel(), dtype=torch.float64, device=directions.device)
            columns = torch.stack([self._apply(unit, self._step) for unit in units])
            self._matrix = (columns + columns.T) / 2
        return directions @ self._matrix

    def _apply(self, direction: Tensor, step: float) -> Tensor:
        size = float(direction.abs().max())
        if size == 0:
            return direction
        e = step * float(self._image.abs().max()) / size
        moved = e * direction.view(self._image.shape)
        with torch.enable_grad():
            ends = torch.stack([self._image + moved, self._image - moved]).requires_grad_()
            squares = self._compared.squared_distance(ends, self._owner)
            (slopes,) = torch.autograd.grad(squares.sum(), ends)
        return (slopes[0] - slopes[1]).flatten() / (4 * e)


class KernelMetric(Metric):
    """T^T G (T tau).

    Args:
        pixels: G.
        tangent: T, the ``FieldJacobian`` of the image itself.
    """

    def __init__(self, pixels: PixelMetric, tangent: FieldJacobian) -> None:
        self._pixels, self._tangent, self.shape, self.device = pixels, tangent, tangent.shape, tangent.device

    def gram(self, fields: Tensor) -> Tensor:
        """One G v for each field."""
        return self._tangent.adjoint(self._pixels.apply(self._tangent.apply(fields)))

    def round_off(self, field: Tensor) -> float:
        """3 times what a step half as long changes."""
        moved = self._tangent.apply(field.expand(self.shape))[:1]
        squares = [float(moved[0] @ one) for one in (self._pixels.apply(moved)[0], self._pixels.halved(moved[0]))]
        one, other = (math.sqrt(max(square, 0.0)) for square in squares)
        return SAFETY * abs(one - other)


def metrics_at_zero(
    compared: Compared, images: Tensor, index: int, warp: Warp, counts: Sequence[int], generator: torch.Generator
) -> list[Metric]:
    """J^T J of one image, for several numbers of fields at a time.

    Args:
        compared: Phi(x_1), ..., Phi(x_B).
        images: x, ``(B, C, *size)``, float64.
        index: of the image.
        warp: L_tau, at the pixels, differentiable at tau = 0.
        counts: n of each.
        generator: of fields with which a kernel's J^T J is looked at.

    Raises:
        ValueError: for a representation without the derivatives that this takes.
    """
    image = images[index]
    if isinstance(compared, Vectors):

        def jacobian(one: Tensor, count: int = 1) -> FieldJacobian:
            return FieldJacobian(compared.rows, one, warp, count)

        return [FeatureMetric(jacobian(image, n), jacobian, image, compared.unit) for n in counts]
    pixels, probe = PixelMetric(compared, images, index), FieldJacobian(_entries, image, warp, 2)
    draw = torch.randn(probe.shape, generator=generator, dtype=torch.float64, device=generator.device)
    pixels.settle(probe.apply(draw.to(images.device)))
    return [KernelMetric(pixels, FieldJacobian(_entries, image, warp, n)) for n in counts]


def _entries(images: Tensor) -> Tensor:
    return images.flatten(1)
