r"""``GramCKN``: the exact, infinite-dimensional convolutional kernel network, through its kernel."""

import torch
from torch import Tensor

from stability.architecture import Architecture
from stability.grid import check_images, spatial_size
from stability.operators.kernel_map import check_kernel
from stability.representations.base import KernelRepresentation, Reference, as_float64, paired
from stability.representations.pair_program import ImageState, PairProgram

FLOOR = 10.0
"""In units of sqrt(eps) ||Phi||: K(x, x) + K(y, y) - 2 K(x, y) cancels, and its round-off is up to 50 eps K."""


class GramReference(Reference):
    """Phi(x) held fixed: patches, patch norms of every layer and ||Phi(x)||^2 of each image."""

    def __init__(self, program: PairProgram, images: Tensor) -> None:
        self._program, self._images = program, images
        self._states = [program.complete(state) for state in program.prepare(images)]
        self.squared_norm = images.new_tensor([state.squared_norm for state in self._states])
        self.norm = self.squared_norm.clamp_min(0.0).sqrt()
        self.floor = FLOOR * torch.finfo(torch.float64).eps ** 0.5 * self.norm

    def distance(self, others: Tensor) -> Tensor:
        """sqrt(K(x, x) + K(y, y) - 2 K(x, y)), ``(B,)`` or ``(B, ...)``."""
        check_images(others, self._program.d)
        extra = paired(self._images, others, self._program.d)
        others = as_float64(others).flatten(1, len(extra)) if extra else as_float64(others)[:, None]
        values = others.new_empty(others.shape[:2])
        for i, state in enumerate(self._states):
            for j in range(others.shape[1]):  # one pair at a time stays in the cache; a batch does not
                (other,) = self._program.prepare(others[i, j : j + 1])
                self._program.complete(other)
                cross = self._program.kernel(state, other)
                values[i, j] = state.squared_norm + other.squared_norm - 2.0 * cross
        return values.clamp_min_(0.0).sqrt_().view(len(self._states), *extra)


class GramCKN(KernelRepresentation):
    r"""||Phi_n(x) - Phi_n(y)||^2 = K_n(x, x) + K_n(y, y) - 2 K_n(x, y), exact in the infinite-dimensional RKHS.

    K_0(u, v) = <A_0 F x(u), A_0 F y(v)>; each layer averages over its patch, K(u, v) = mean_c G(u + c, v + c), applies
    |z| |z'| kappa(cos) and pools in both arguments; K_n(x, y) is the cell area times the trace.

    Args:
        architecture: kernels, patches, scales and strides; periodic boundary.
        refinement: evaluate on grids r times as fine (the images must be given on such a grid), with scales and
            patch spacings in the same INPUT pixels: how much the value changes from r = 1 to r = 2 is the
            discretisation error of the network.

    Computes in float64 on the images' device, one pair of images at a time, holding at most 8 MB of the first
    layer's pairs and about six arrays of (H' W')^2 entries, H' x W' being the grid of layer 2.

    Reference: Bietti & Mairal 2019, section 2; Mairal 2016.

    >>> arch = Architecture.dyadic(depth=2, subsampling=1)
    >>> x = torch.ones(1, 1, 8, 8, dtype=torch.float64)
    >>> GramCKN(arch).norm(x)  # every kernel map preserves norms, and pooling a constant changes nothing
    tensor([8.0000], dtype=torch.float64)
    """

    architecture: Architecture

    def __init__(self, architecture: Architecture, refinement: int = 1) -> None:
        super().__init__()
        if refinement < 1 or int(refinement) != refinement:
            raise ValueError(f"refinement must be an integer >= 1, got {refinement!r}; use 2 to check the grid")
        for layer in architecture.layers:
            check_kernel(layer.kernel)
        self.architecture, self.refinement = architecture, int(refinement)
        self._programs: dict[tuple[tuple[int, ...], torch.device], PairProgram] = {}

    def refined(self, factor: int) -> "GramCKN":
        """The same network on grids ``factor`` times as fine."""
        return GramCKN(self.architecture, self.refinement * factor)

    def reference(self, images: Tensor) -> GramReference:
        """Patches and norms of every layer, computed once.

        Args:
            images: ``(B, C, H, W)`` or ``(B, C, N)``, finite floating point.
        """
        return GramReference(self._program(images), as_float64(images))

    def kernel(self, images: Tensor, others: Tensor) -> Tensor:
        """K(x_i, y_i), ``(B,)``, float64.

        Args:
            images: ``(B, C, *size)``.
            others: ``(B, C, *size)``.
        """
        program = self._program(images)
        paired(images, check_images(others), program.d)
        pairs = zip(self._states(program, images), self._states(program, others), strict=True)
        return as_float64(images).new_tensor([program.kernel(x, y) for x, y in pairs])

    def kernel_matrix(self, images: Tensor, others: Tensor | None = None) -> Tensor:
        """K(x_i, y_j) for all pairs, ``(Bx, By)``; with ``others=None`` the symmetric matrix of the images."""
        program = self._program(images)
        left = self._states(program, images)
        right = left if others is None else self._states(program, check_images(others))
        matrix = as_float64(images).new_empty(len(left), len(right))
        for i, x in enumerate(left):
            for j, y in enumerate(right):
                if others is None and j <= i:
                    matrix[i, j] = x.squared_norm if i == j else matrix[j, i]
                else:
                    matrix[i, j] = program.kernel(x, y)
        return matrix

    @staticmethod
    def _states(program: PairProgram, images: Tensor) -> list[ImageState]:
        return [program.complete(state) for state in program.prepare(as_float64(images))]

    def _program(self, images: Tensor) -> PairProgram:
        check_images(images)
        if images.ndim not in (3, 4):
            raise ValueError(
                f"images must have shape (B, C, H, W) or (B, C, N), got {tuple(images.shape)}; add the batch axis"
            )
        size = spatial_size(images)
        key = size, images.device
        if key not in self._programs:
            if any(n % self.refinement for n in size):
                raise ValueError(f"the grid must be a multiple of refinement={self.refinement}, got {size}; refine x")
            self.architecture.check_size(tuple(n // self.refinement for n in size))
            self._programs[key] = PairProgram(self.architecture, size, self.refinement, images.device)
        return self._programs[key]
