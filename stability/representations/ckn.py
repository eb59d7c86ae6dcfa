r"""``CKN``: the finite-dimensional convolutional kernel network of any ``Architecture`` (Nystroem, unsupervised)."""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from stability.architecture import Architecture, Layer
from stability.boundaries import NetworkBoundary
from stability.grid import check_images, spatial_size
from stability.kernels import Kernel
from stability.operators.kernel_map import check_kernel, inverse_root, kernel_map
from stability.operators.patches import extract_patches
from stability.operators.pooling import sampling_gains
from stability.operators.spherical_kmeans import spherical_kmeans
from stability.representations.explicit import BATCH, ExplicitRepresentation
from stability.representations.maps import low_passed, pooled
from stability.representations.stages import ExplicitStages

ROUND_OFF = 1e-12
"""Of |P y|^2: what arithmetic may hide of the energy that a projection loses."""
TRAINING_PATCHES = 100_000
"""Patches per layer that k-means sees."""


class CKN(ExplicitRepresentation):
    r"""Phi_n with every kernel map phi replaced by its projection psi on the span of finitely many phi(z_i).

    psi(z) = |z| kappa(Z^T Z)^(-1/2) kappa(Z^T z / |z|) is rho-Lipschitz, psi(0) = 0 and |psi(z)| <= |z|, so that the
    theorem and every bound of ``Architecture`` hold as they stand. What the projection loses is
    ``captured_energy``. A single layer's distances never exceed the exact ones; of several layers that is not a
    theorem.

    Args:
        architecture: patches, kernels, scales, strides.
        anchors: one tensor ``(m_k, p_k)`` with unit rows for each layer, p_1 = C e^d, p_{k+1} = m_k e^d; use ``fit``.
        refinement: as in ``GramCKN``.
        ridge: added to kappa(Z^T Z), >= 0. 0: true orthogonal projections. Above 0 the network stays non-expansive
            and loses a little more energy.

    Reference: Mairal 2016; Bietti & Mairal 2019, section 2.3.

    >>> from stability.images import load
    >>> x = load("fashion", count=4, size=(16, 16))
    >>> rng = torch.Generator().manual_seed(0)
    >>> ckn = CKN.fit(Architecture.dyadic(depth=2), x, filters=(8, 16), generator=rng)
    >>> ckn(x).shape, bool((ckn.captured_energy(x) > 0.9).all())
    (torch.Size([4, 16, 4, 4]), True)
    """

    architecture: Architecture

    def __init__(
        self, architecture: Architecture, anchors: Sequence[Tensor], refinement: int = 1, ridge: float = 0.0
    ) -> None:
        super().__init__()
        if len(anchors) != architecture.depth:
            raise ValueError(
                f"anchors must be one tensor per layer ({architecture.depth}), got {len(anchors)}; use CKN.fit"
            )
        if isinstance(ridge, bool) or not isinstance(ridge, int | float) or not 0 <= ridge < math.inf:
            raise ValueError(f"ridge must be finite and >= 0, got {ridge!r}; use 0 for true projections")
        self.architecture, self.refinement, self.ridge = architecture, refinement, float(ridge)
        self.anchors = nn.ParameterList([nn.Parameter(z, requires_grad=False) for z in anchors])
        roots = (
            inverse_root(check_kernel(la.kernel), z, ridge).to(z)
            for la, z in zip(architecture.layers, anchors, strict=True)
        )
        for k, root in enumerate(roots):
            self.register_buffer(f"root_{k}", root)

    @classmethod
    def fit(
        cls,
        architecture: Architecture,
        images: Tensor,
        *,
        filters: Sequence[int],
        generator: torch.Generator,
        ridge: float = 0.0,
    ) -> "CKN":
        """Anchors by spherical k-means on patches of the images, layer after layer.

        Args:
            architecture: the network.
            images: ``(B, C, *size)``, floating point; the network computes in their dtype.
            filters: number of anchors of every layer.
            generator: source of randomness: which patches, and the start of k-means.
            ridge: as in the class.

        Raises:
            ValueError: if ``filters`` has another length than the network, or there are fewer patches than anchors.
        """
        d = len(spatial_size(check_images(images)))
        architecture.check_size(spatial_size(images))
        if len(filters) != architecture.depth:
            raise ValueError(
                f"filters must have one number per layer ({architecture.depth}), got {tuple(filters)}; "
                "use for example filters=(64, 128)"
            )
        anchors: list[Tensor] = []
        maps = low_passed(architecture, images)
        for k, (layer, count) in enumerate(zip(architecture.layers, filters, strict=True)):
            if isinstance(count, bool) or not isinstance(count, int):
                raise ValueError(f"filters must be integers, got {count!r}; use for example 64")
            anchors.append(_anchors(maps, layer.patch_size, d, count, generator, architecture.boundary))
            root = inverse_root(layer.kernel, anchors[-1], ridge).to(maps)
            maps = torch.cat([_layer(architecture, k, anchors[-1], root, part, d, 1) for part in maps.split(BATCH)])
        return cls(architecture, anchors, ridge=ridge)

    @property
    def dtype(self) -> torch.dtype:
        """That of the anchors."""
        return self.anchors[0].dtype

    @property
    def filters(self) -> tuple[int, ...]:
        """m_1, ..., m_n."""
        return tuple(len(z) for z in self.anchors)

    def cell_area(self, size: tuple[int, ...], features: Tensor) -> float:
        """H W / (H' W') in pixels of the unrefined grid."""
        d = len(size)
        return math.prod(size) / math.prod(features.shape[-d:]) / self.refinement**d

    def refined(self, factor: int) -> "CKN":
        """The same network on grids ``factor`` times as fine."""
        return CKN(self.architecture, list(self.anchors), self.refinement * factor, self.ridge)

    def stages(self, image: Tensor) -> ExplicitStages:
        """z_0, ..., z_n of one image, in float64."""
        maps = [partial(_projection, layer.kernel, z, self.ridge) for layer, z in self._layers()]
        return ExplicitStages(self.architecture, self.refinement, image, maps)

    def layers(self, images: Tensor) -> list[Tensor]:
        """The pooled maps A_k z_k of every layer, ``(B, m_k, *size_k)``."""
        size = spatial_size(check_images(images))
        self.architecture.check_size(tuple(n // self.refinement for n in size))
        maps = [low_passed(self.architecture, images, self.refinement)]
        for k, z in enumerate(self.anchors):
            root = self.get_buffer(f"root_{k}")
            maps.append(_layer(self.architecture, k, z, root, maps[-1], len(size), self.refinement))
        return maps[1:]

    def _layers(self) -> list[tuple[Layer, Tensor]]:
        return list(zip(self.architecture.layers, self.anchors, strict=True))

    def forward(self, images: Tensor) -> Tensor:
        """A_n z_n, ``(B, m_n, *size')`` for images ``(B, C, *size)``."""
        return self.layers(images)[-1]

    def captured_energy(self, images: Tensor) -> Tensor:
        """||psi(P y)|| / ||P y|| of every layer, y its own input: 1 where the projection loses nothing, ``(B, n)``."""
        d, boundary = len(spatial_size(check_images(images))), self.architecture.boundary
        shares = []
        for part in images.to(self.dtype).split(BATCH):
            inputs = [low_passed(self.architecture, part, self.refinement), *self.layers(part)[:-1]]
            columns = []
            for k, (y, z) in enumerate(zip(inputs, self.anchors, strict=True)):
                layer, root = self.architecture.layers[k], self.get_buffer(f"root_{k}")
                patches = extract_patches(y, layer.patch_size, d, self.refinement, boundary).flatten(2)
                captured = kernel_map(layer.kernel, z, root, patches).flatten(1).norm(dim=1)
                columns.append(captured / patches.flatten(1).norm(dim=1))
            shares.append(torch.stack(columns, dim=1))
        return torch.cat(shares)

    def approximation_error(self, images: Tensor) -> Tensor:
        r"""sum_k g_k prod_{j > k} rho_j g_j eps_k(x) >= ||Phi^(x) - Phi(x)||, Phi^ this network, Phi the exact one.

        eps_k(x)^2 = sum_u |P y(u)|^2 - |psi(P y(u))|^2, y this network's own input of layer k, is what its projection
        loses, exactly; what an error of a layer becomes behind it is at most rho_j (kernel map) times g_j (pooling and
        stride, ``operators.pooling.sampling_gains``). Hence |distance of this network - exact distance| is at most the
        sum of the two images' errors: a proof, evaluated in float64 (round-off: 1e-6 ||x|| is added in quadrature).

        Args:
            images: ``(B, C, *size)``.

        Returns:
            ``(B,)``, float64, in the unit of ||x||; infinite with a kernel that is not Lipschitz above layer 1.

        Raises:
            ValueError: with a ridge, when psi is no projection.
        """
        if self.ridge:
            raise ValueError(f"ridge must be 0 for projections with a known error, got {self.ridge}; fit without one")
        size = spatial_size(check_images(images))
        gains, boundary = sampling_gains(self.architecture, size, self.refinement), self.architecture.boundary
        parts = []
        for part in images.double().split(BATCH):
            y, total = low_passed(self.architecture, part, self.refinement), part.new_zeros(len(part))
            for k, (layer, gain) in enumerate(zip(self.architecture.layers, gains, strict=True)):
                anchors = torch.nn.functional.normalize(self.anchors[k].detach().double(), dim=1)
                patches = extract_patches(y, layer.patch_size, len(size), self.refinement, boundary).flatten(2)
                mapped = kernel_map(layer.kernel, anchors, inverse_root(layer.kernel, anchors), patches)
                energy = patches.square().sum(1)
                lost = (energy - mapped.square().sum(1)).clamp_min(0.0) + ROUND_OFF * energy  # (B, N)
                cell = math.prod(size) / patches.shape[-1] / self.refinement ** len(size)
                total = gain * ((layer.kernel.lipschitz * total if k else total) + (cell * lost.sum(1)).sqrt())
                mapped = mapped.unflatten(2, y.shape[-len(size) :])
                y = pooled(self.architecture, k, mapped, len(size), self.refinement)
            parts.append(total)
        return torch.cat(parts)


def _projection(kernel: Kernel, anchors: Tensor, ridge: float, patches: Tensor) -> Tensor:
    """psi of patches ``(p, N)``, in their dtype."""
    units = anchors.detach().to(patches.dtype)
    return kernel_map(kernel, units, inverse_root(kernel, units, ridge), patches[None])[0]


def _layer(
    architecture: Architecture, k: int, anchors: Tensor, root: Tensor, maps: Tensor, d: int, refinement: int
) -> Tensor:
    """A_k M_k P_k y for maps ``(B, K, *size)``."""
    layer = architecture.layers[k]
    patches = extract_patches(maps, layer.patch_size, d, refinement, architecture.boundary).flatten(2)  # (B, p, N)
    mapped = kernel_map(layer.kernel, anchors, root, patches).unflatten(2, maps.shape[-d:])
    return pooled(architecture, k, mapped, d, refinement)


def _anchors(
    maps: Tensor, patch_size: int, d: int, count: int, generator: torch.Generator, boundary: NetworkBoundary
) -> Tensor:
    """k-means on at most ``TRAINING_PATCHES`` unit patches drawn from the maps; zero patches are left out."""
    per_image = maps[0, 0].numel()
    total = len(maps) * per_image
    chosen = torch.randperm(total, generator=generator, device=generator.device)[:TRAINING_PATCHES].to(maps.device)
    found = []
    for start in range(0, len(maps), BATCH):
        part = maps[start : start + BATCH]
        patches = extract_patches(part, patch_size, d, boundary=boundary).flatten(2).movedim(1, 2).flatten(0, 1)
        inside = chosen[(chosen >= start * per_image) & (chosen < start * per_image + len(patches))]
        found.append(patches[inside - start * per_image])
    patches = torch.cat(found)
    norms = patches.norm(dim=1, keepdim=True)
    patches = (patches / norms.clamp_min(torch.finfo(patches.dtype).tiny))[norms[:, 0] > 1e-6 * norms.max()]
    return spherical_kmeans(patches, count, generator=generator)
