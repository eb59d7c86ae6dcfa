r"""``RandomFeatures``: a network of random layers whose kernel tends to that of the exact CKN as its widths grow."""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from stability.architecture import Architecture
from stability.boundaries import PERIODIC, NetworkBoundary
from stability.grid import check_images, spatial_size
from stability.operators.convolution import filtered
from stability.representations.explicit import ExplicitRepresentation
from stability.representations.maps import low_passed, pooled
from stability.representations.random_maps import RandomMap, random_map
from stability.representations.stages import ExplicitStages

BLOCK = 2**22
"""Entries of the unpooled map that a layer holds at a time (32 MB in float64), unless gradients are asked for."""


class RandomFeatures(ExplicitRepresentation):
    r"""Phi(x) = A_n psi_n(P_n A_{n-1} ... psi_1(P_1 A_0 F x)), psi_k random with E <psi_k(z), psi_k(z')> = K_k(z, z').

    The kernels of the architecture say which layers: ReLU for ``ArcCosine(1)``, step for ``ArcCosine(0)``, leaky ReLU
    for ``LeakyReLU``, cosines and sines for ``Exponential`` (``representations.random_maps``). Given the maps that
    enter it, the kernel of layer k is estimated without bias, with a standard deviation proportional to m_k^(-1/2). Of
    several layers the whole estimate has a bias of order 1 / m, because a layer's kernel is not linear in that of the
    layer below; its error still falls like m^(-1/2).

    ``lipschitz`` holds for the layers as they were drawn, not only in the mean: ||W_k||_2 (m_k / 2)^(-1/2) for ReLU,
    max(1, alpha^(1/2) ||W_k||_2 (m_k / 2)^(-1/2)) for Fourier features, infinity for the step. The constant of a ReLU
    layer is near 1 + (2 p_k / m_k)^(1/2) for patches with p_k entries: bounds are those of the exact kernel only for
    widths far above the number of entries of a patch.

    Args:
        architecture: patches, kernels, scales, strides.
        weights: one tensor ``(m_k / 2, p_k)`` for each layer, standard Gaussian, p_1 = C e^d, p_{k+1} = m_k e^d
            (offsets outer, channels inner, as ``extract_patches`` stacks them); use ``draw``.
        refinement: as in ``GramCKN``.

    Raises:
        ValueError: for a kernel without such a map, or weights that do not fit the architecture.

    Reference: Rahimi & Recht 2007; Cho & Saul 2009; Daniely, Frostig & Singer 2016 for several layers.

    >>> arch = Architecture.dyadic(depth=2)
    >>> phi = RandomFeatures.draw(arch, (64, 128), generator=torch.Generator().manual_seed(0))
    >>> x = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    >>> phi(x).shape, phi.keeps_norms
    (torch.Size([2, 128, 4, 4]), True)
    """

    architecture: Architecture

    def __init__(self, architecture: Architecture, weights: Sequence[Tensor], refinement: int = 1) -> None:
        super().__init__()
        self.random_maps = tuple(random_map(layer.kernel) for layer in architecture.layers)
        if len(weights) != architecture.depth or any(w.ndim != 2 for w in weights):
            raise ValueError(
                f"weights must be one matrix per layer ({architecture.depth}), got shapes "
                f"{[tuple(w.shape) for w in weights]}; use RandomFeatures.draw"
            )
        self.architecture, self.refinement = architecture, refinement
        self.keeps_norms = all(each.keeps_norms for each in self.random_maps)
        self.weights = nn.ParameterList([nn.Parameter(w, requires_grad=False) for w in weights])

    @classmethod
    def draw(
        cls,
        architecture: Architecture,
        widths: Sequence[int],
        *,
        channels: int = 1,
        d: int = 2,
        dtype: torch.dtype = torch.float64,
        generator: torch.Generator,
    ) -> "RandomFeatures":
        """Layers with independent standard Gaussian weights.

        Args:
            architecture: the network.
            widths: m_k, number of channels of every layer, even: two for every random vector.
            channels: C of F x, >= 1: those of the images unless a front end makes others.
            d: 2 for images, 1 for signals.
            dtype: of the weights, in which the network computes.
            generator: source of randomness.

        Raises:
            ValueError: for widths that are not even numbers >= 2, one per layer, or a kernel without random features.

        >>> phi = RandomFeatures.draw(Architecture.dyadic(depth=2), (8, 4), generator=torch.Generator().manual_seed(0))
        >>> [tuple(weight.shape) for weight in phi.weights]
        [(4, 9), (2, 72)]
        """
        if len(widths) != architecture.depth:
            raise ValueError(
                f"widths must have one number per layer ({architecture.depth}), got {tuple(widths)}; "
                "use for example widths=(256, 512)"
            )
        if isinstance(channels, bool) or not isinstance(channels, int) or channels < 1:
            raise ValueError(f"channels must be an integer >= 1, got {channels!r}; use 1 for grey images")
        for width in widths:
            if isinstance(width, bool) or not isinstance(width, int) or width < 2 or width % 2:
                raise ValueError(f"widths must be even integers >= 2, got {width!r}; use for example 256")
        if isinstance(d, bool) or d not in (1, 2):
            raise ValueError(f"d must be 1 or 2, got {d!r}; use d=2 for images and d=1 for signals")
        weights, inputs = [], channels
        for layer, width in zip(architecture.layers, widths, strict=True):
            shape = (width // 2, inputs * layer.patch_size**d)
            drawn = torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float64)
            weights.append(drawn.to(dtype))
            inputs = width
        return cls(architecture, weights)

    @property
    def dtype(self) -> torch.dtype:
        """That of the weights."""
        return self.weights[0].dtype

    @property
    def widths(self) -> tuple[int, ...]:
        """m_1, ..., m_n."""
        return tuple(2 * len(w) for w in self.weights)

    @property
    def lipschitz(self) -> tuple[float, ...]:
        """rho_k of the layers as they were drawn, spectral norms in float64."""
        return tuple(
            each.lipschitz(_spectral_norm(w) / math.sqrt(len(w)))
            for each, w in zip(self.random_maps, self.weights, strict=True)
        )

    def cell_area(self, size: tuple[int, ...], features: Tensor) -> float:
        """H W / (H' W') in pixels of the unrefined grid."""
        d = len(size)
        return math.prod(size) / math.prod(features.shape[-d:]) / self.refinement**d

    def refined(self, factor: int) -> "RandomFeatures":
        """The same weights on grids ``factor`` times as fine."""
        return RandomFeatures(self.architecture, list(self.weights), self.refinement * factor)

    def stages(self, image: Tensor) -> ExplicitStages:
        """z_0, ..., z_n of one image, in float64."""
        pairs = zip(self.random_maps, self.weights, strict=True)
        maps = [partial(_on_patches, each, w.double()) for each, w in pairs]
        return ExplicitStages(self.architecture, self.refinement, image, maps)

    def layers(self, images: Tensor) -> list[Tensor]:
        """The pooled maps A_k z_k of every layer, ``(B, m_k, *size_k)``, differentiable (zero gradients of a step)."""
        size = spatial_size(check_images(images))
        self.architecture.check_size(tuple(n // self.refinement for n in size))
        maps = [low_passed(self.architecture, images, self.refinement, self.dtype)]
        for k in range(self.architecture.depth):
            maps.append(self._layer(k, maps[-1], len(size)))
        return maps[1:]

    def forward(self, images: Tensor) -> Tensor:
        """A_n z_n, ``(B, m_n, *size')`` for images ``(B, C, *size)``."""
        return self.layers(images)[-1]

    def _layer(self, k: int, maps: Tensor, d: int) -> Tensor:
        """A_k psi_k(P_k y), some rows of W_k at a time, so that the unpooled map is never held whole."""
        weight, e = self.weights[k], self.architecture.layers[k].patch_size
        entries = maps.shape[1] * e**d
        if entries != weight.shape[1]:
            raise ValueError(
                f"the patches of layer {k + 1} must have {weight.shape[1]} entries (channels x positions), got "
                f"{entries}; give images with other channels or draw the features with channels=, d="
            )
        boundary = self.architecture.boundary
        norms = patch_norms(maps, e, d, self.refinement, boundary).flatten(2)  # (B, 1, N)
        found = []
        for rows in weight.split(max(1, BLOCK // max(1, 2 * norms.numel()))):
            products = filtered(maps, rows, e, d, self.refinement, boundary).flatten(2)
            halves = self.random_maps[k](products, norms, len(weight))
            two = torch.stack([half.unflatten(2, maps.shape[-d:]) for half in halves], dim=1)  # (B, 2, r, *size)
            found.append(pooled(self.architecture, k, two, d, self.refinement))
        return torch.cat(found, dim=2).flatten(1, 2)


def patch_norms(
    maps: Tensor, patch_size: int, d: int, dilation: int = 1, boundary: NetworkBoundary = PERIODIC
) -> Tensor:
    """|P y(u)|, ``(B, 1, *size)`` for maps ``(B, C, *size)``: a root of a mean of squares, whose gradient at 0 is 0.

    >>> patch_norms(torch.ones(1, 4, 5), 3, d=1)
    tensor([[[2., 2., 2., 2., 2.]]])
    """
    squares = maps.square().sum(dim=1, keepdim=True)
    mean = squares.new_full((1, patch_size**d), patch_size ** (-0.5 * d))
    total = filtered(squares, mean, patch_size, d, dilation, boundary)
    return total.clamp_min(torch.finfo(total.dtype).tiny).sqrt() * (total > 0)


def _spectral_norm(weight: Tensor) -> float:
    """||W||_2 in float64, from the smaller of the two Gram matrices."""
    rows = weight.double()
    gram = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    return math.sqrt(max(0.0, float(torch.linalg.eigvalsh(gram)[-1])))


def _on_patches(each: RandomMap, weight: Tensor, patches: Tensor) -> Tensor:
    """psi of patches ``(p, N)``."""
    halves = each(weight @ patches, patches.norm(dim=0, keepdim=True), len(weight))
    return torch.cat(halves)
