"""``PairRepresentation``: what exact kernels have in common, K(x, y) evaluated pair by pair."""

import abc
import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from stability.architecture import Architecture
from stability.grid import check_images, is_expanded, spatial_size
from stability.kernels import Kernel
from stability.operators.kernel_map import check_kernel
from stability.representations.base import LEAST_FLOOR, KernelRepresentation, Reference, as_float64, paired
from stability.representations.pair_gradient import safe_root, squared_distance
from stability.representations.pair_plan import ImageState, PairPlan
from stability.representations.pair_program import PairProgram, pairs_together
from stability.representations.stages import PairStages

FLOOR = 4.0
"""The floor in units of the distance that round-off puts between an image and itself."""
HIDDEN_ANGLE = 4.0 * math.sqrt(torch.finfo(torch.float64).eps)
"""Cosines within 8 units in the last place of 1 count as 1 where the slope of kappa or kappa' is infinite there."""
LARGEST, SMALLEST = 1e100, 1e-100
"""Of the largest number of an image: beyond, squares and products overflow or vanish."""
LARGEST_SINGLE, SMALLEST_SINGLE = 1e15, 1e-12
"""The same for kernels in single precision."""


class PrecisionNote(UserWarning):
    """Images of single precision were taken to float64, in which kernels are evaluated."""


class PairReference(Reference):
    """Phi(x) held fixed: patches, patch norms of every layer and ||Phi(x)||^2 of each image.

    An image that is expanded along the batch is evaluated once.
    """

    def __init__(self, program: PairProgram, images: Tensor) -> None:
        self._program, self._images = program, check_scale(images)
        self._different = program.complete(program.plan.prepare(images[:1] if is_expanded(images) else images))
        self._states = list(self._different) * (len(images) if is_expanded(images) else 1)
        self.squared_norm = images.new_tensor([state.squared_norm for state in self._states])
        self.norm = self.squared_norm.clamp_min(0.0).sqrt()

    @cached_property
    def floor(self) -> Tensor:  # when asked for: it costs as much as a kernel
        """4 times the distance that round-off puts between x and x, at least 10 sqrt(eps) ||Phi(x)||, ``(B,)``.

        K(x, x) is evaluated once as that of one image and once as that of two. Where small angles count like their
        square root, at least what ``HIDDEN_ANGLE`` becomes behind all layers: of two layers of a step the fourth root.
        """
        twins = (replace(state, norms=list(state.norms)) for state in self._different)
        cross = self._program.kernels(list(zip(self._different, twins, strict=True)))
        cross *= len(self._states) if is_expanded(self._images) else 1
        apart = (2.0 * (self.squared_norm - self.squared_norm.new_tensor(cross))).abs().sqrt()
        kernels = [layer.kernel for layer in self._program.layers]
        return torch.maximum(FLOOR * apart, least_floor(kernels, self._program.tangent) * self.norm)

    def distance(self, others: Tensor) -> Tensor:
        """sqrt(K(x, x) + K(y, y) - 2 K(x, y)), ``(B,)`` or ``(B, ...)``.

        Differentiable in the others, which costs a few times as much; the derivative is 0 where the distance is 0.
        """
        check_scale(check_images(others, self._program.plan.d))
        extra = paired(self._images, others, self._program.plan.d)
        flat = others.flatten(1, len(extra)) if extra else others[:, None]
        if torch.is_grad_enabled() and others.requires_grad:
            flat, plan, tangent = flat.double(), self._program.plan, self._program.tangent
            squares = [
                torch.stack([squared_distance(plan, state, y, tangent) for y in row])
                for state, row in zip(self._states, flat, strict=True)
            ]
            return safe_root(_stacked(squares, flat)).view(len(self._states), *extra)
        flat = as_float64(flat)
        values = [self._distances(state, row) for state, row in zip(self._states, flat, strict=True)]
        return _stacked(values, flat).view(len(self._states), *extra)

    def _distances(self, state: ImageState, others: Tensor) -> Tensor:
        """From one image to ``(M, C, *size)``, ``(M,)``."""
        program, squares = self._program, list[float]()
        for part in others.split(max(1, pairs_together(program.plan, program.tangent) // 2)):
            found = program.plan.prepare(part)
            pairs = [pair for other in found for pair in ((other, other), (state, other))]
            kernels = program.kernels(pairs)
            squares += [
                state.squared_norm + itself - 2.0 * cross
                for itself, cross in zip(kernels[::2], kernels[1::2], strict=True)
            ]
        return others.new_tensor(squares).clamp_min_(0.0).sqrt_()


def _stacked(rows: list[Tensor], images: Tensor) -> Tensor:
    """The rows, ``(B, M)``, also if there are none."""
    return torch.stack(rows) if rows else images.new_zeros(0, images.shape[1])


def check_scale(images: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """The images, if squares of their numbers are far from overflow and underflow.

    Raises:
        ValueError: otherwise.
    """
    least, most = (SMALLEST, LARGEST) if dtype == torch.float64 else (SMALLEST_SINGLE, LARGEST_SINGLE)
    largest = images.detach().flatten(1).abs().amax(1) if images.numel() else images.new_zeros(0)
    wrong = (largest > 0) & ~((largest >= least) & (largest <= most))
    if bool(wrong.any()):
        raise ValueError(
            f"the largest number of an image must be 0 or between {least:g} and {most:g} in {dtype}, got "
            f"{float(largest[wrong][0]):.3g}; rescale the images"
        )
    return images


def least_floor(kernels: Sequence[Kernel], tangent: bool) -> float:
    """The least floor over ||Phi||.

    Args:
        kernels: of the layers.
        tangent: of the neural tangent kernel, whose kappa' is taken to be that of a step.

    >>> from stability.kernels import ArcCosine, Exponential
    >>> [f"{least_floor(kernels, False):.1e}" for kernels in ([Exponential()], [ArcCosine(0)], [ArcCosine(0)] * 2)]
    ['1.5e-07', '2.8e-04', '1.9e-02']
    """
    hidden = 0.0
    for kernel in kernels:
        hidden = max(hidden, HIDDEN_ANGLE)
        hidden = kernel.lipschitz * hidden if math.isfinite(kernel.lipschitz) else _of_a_step(hidden)
    steps = tangent or any(math.isinf(kernel.lipschitz) for kernel in kernels)
    return max(LEAST_FLOOR, _of_a_step(hidden) if tangent else hidden) if steps else LEAST_FLOOR


def _of_a_step(angle: float) -> float:
    """The largest distance of unit features of a sign (a step's is smaller) at an angle: (2 (1 - kappa))^(1/2)."""
    return math.sqrt(4.0 / math.pi * angle)


class PairRepresentation(KernelRepresentation, abc.ABC):
    """An infinite-dimensional representation of an architecture.

    Args:
        architecture: kernels, patches, scales and strides.
        refinement: evaluate on grids r times as fine (the images must be given on such a grid), with scales and
            patch spacings in the same INPUT pixels.
    """

    _tangent = False

    def __init__(self, architecture: Architecture, refinement: int = 1) -> None:
        super().__init__()
        if refinement < 1 or int(refinement) != refinement:
            raise ValueError(f"refinement must be an integer >= 1, got {refinement!r}; use 2 to check the grid")
        for layer in architecture.layers:
            check_kernel(layer.kernel)
        self.architecture, self.refinement = architecture, int(refinement)
        self._network = architecture  # what is evaluated, whatever the theory may see of it
        self._programs: dict[tuple[tuple[int, ...], torch.device, torch.dtype], PairProgram] = {}

    @property
    def relative_floor(self) -> float:
        """The least floor over ||Phi||."""
        return least_floor([layer.kernel for layer in self._network.layers], self._tangent)

    def refined(self, factor: int) -> Self:
        """The same network on grids ``factor`` times as fine."""
        return type(self)(self._network, self.refinement * factor)

    def reference(self, images: Tensor) -> PairReference:
        """Patches and norms of every layer, computed once.

        Args:
            images: ``(B, C, H, W)`` or ``(B, C, N)``, finite floating point.
        """
        return PairReference(self.program(images), as_float64(images))

    def stages(self, image: Tensor) -> PairStages | None:
        """z_0, ..., z_n in coordinates, ``O(N^3)``; None for the tangent kernel, whose layers are no pointwise maps."""
        return None if self._tangent else PairStages(self._network, self.refinement, image)

    def norm(self, images: Tensor) -> Tensor:
        """||Phi(x)||, ``(B,)``, float64."""
        squares = [state.squared_norm for state in self._states(self.program(images), images)]
        return as_float64(images).new_tensor(squares).clamp_min(0.0).sqrt()

    def kernel(self, images: Tensor, others: Tensor) -> Tensor:
        """K(x_i, y_i), ``(B,)``, float64.

        Args:
            images: ``(B, C, *size)``.
            others: ``(B, C, *size)``.
        """
        program = self.program(images)
        paired(images, check_images(others), program.plan.d)
        pairs = zip(self._states(program, images), self._states(program, others), strict=True)
        return as_float64(images).new_tensor(program.kernels(list(pairs)))

    def kernel_matrix(
        self, images: Tensor, others: Tensor | None = None, *, dtype: torch.dtype = torch.float64
    ) -> Tensor:
        """K(x_i, y_j) for all pairs, ``(Bx, By)``; with ``others=None`` the symmetric matrix of the images.

        Args:
            images: ``(Bx, C, *size)``.
            others: ``(By, C, *size)``.
            dtype: of the arithmetic and the result. In float32 a pair takes little more than half the time. Entries
                are then off by a few 1e-7 (K(x, x) K(y, y))^(1/2), and by 1e-5 where a small angle counts like its
                square root: kernels of a step, tangent kernels of ReLU. No distances: small ones would vanish.
        """
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype must be torch.float64 or torch.float32, got {dtype}; use torch.float64")
        program = self.program(images, dtype)
        left = self._states(program, images)
        right = left if others is None else self._states(program, check_images(others))
        matrix = images.new_empty(len(left), len(right), dtype=dtype)
        for i, x in enumerate(left):
            first = i + 1 if others is None else 0
            found = images.new_tensor(program.kernels([(x, y) for y in right[first:]]), dtype=dtype)
            matrix[i, first:] = found
            if others is None:
                matrix[i, i] = x.squared_norm
                matrix[first:, i] = found
        return matrix

    @staticmethod
    def _states(program: PairProgram, images: Tensor) -> Sequence[ImageState]:
        return program.complete(program.plan.prepare(as_float64(check_scale(images, program.plan.dtype))))

    def program(self, images: Tensor, dtype: torch.dtype = torch.float64) -> PairProgram:
        """What evaluates the kernel for images of this size and on this device, kept for later calls.

        Args:
            images: ``(B, C, *size)``.
            dtype: of the arithmetic.
        """
        check_images(images)
        if images.ndim not in (3, 4):
            raise ValueError(
                f"images must have shape (B, C, H, W) or (B, C, N), got {tuple(images.shape)}; add the batch axis"
            )
        if images.dtype != dtype == torch.float64:
            warnings.warn(
                f"images of type {images.dtype} are taken to float64: small distances vanish otherwise",
                PrecisionNote,
                stacklevel=3,
            )
        size = spatial_size(images)
        key = size, images.device, dtype
        if key not in self._programs:
            if any(n % self.refinement for n in size):
                raise ValueError(f"the grid must be a multiple of refinement={self.refinement}, got {size}; refine x")
            self._network.check_size(tuple(n // self.refinement for n in size))
            self._programs[key] = self._made(images, dtype)
        return self._programs[key]

    def _made(self, images: Tensor, dtype: torch.dtype) -> PairProgram:
        plan = PairPlan(self._network, spatial_size(images), self.refinement, images.device, dtype)
        return PairProgram(plan, self._tangent)
