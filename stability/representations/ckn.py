r"""``CKN``: the finite-dimensional convolutional kernel network of any ``Architecture`` (Nyström)."""

import dataclasses
import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from stability.anchors import AnchorChoice, KMeans
from stability.architecture import Architecture
from stability.grid import check_images, spatial_size
from stability.kernels import Kernel
from stability.operators.kernel_convolution import kernel_convolution
from stability.operators.kernel_map import check_kernel, inverse_root, kernel_map, rank_tolerance
from stability.operators.patches import extract_patches
from stability.operators.pooling import sampling_gains
from stability.representations.explicit import BATCH, ExplicitRepresentation
from stability.representations.maps import low_passed, pooled
from stability.representations.sampled_patches import sampled_patches
from stability.representations.stages import ExplicitStages

ROUND_OFF = 1e-12
"""Of |P y|^2: what arithmetic may hide of the energy that a projection loses."""
TRAINING_PATCHES = 100_000
"""Patches per layer from which anchors are chosen."""
ENCODED = 32
"""Images that pass through the network at a time, without a graph."""
K_MEANS = KMeans()


class CKN(ExplicitRepresentation):
    r"""Phi_n with every kernel map phi replaced by its projection psi on the span of finitely many phi(z_i).

    psi(z) = |z| kappa(Z^T Z)^(-1/2) kappa(Z^T z / |z|) is rho-Lipschitz, psi(0) = 0 and |psi(z)| <= |z|, so that the
    theorem and every bound of ``Architecture`` hold as they stand, whatever the anchors. What the projection loses is
    ``captured_energy``. A single layer's distances never exceed the exact ones; of several layers that is not a
    theorem.

    As a network: a convolution with the filters Z, the pointwise function |z| kappa(. / |z|), Gaussian pooling with
    its stride, and a 1 x 1 convolution kappa(Z^T Z)^(-1/2), which commutes with pooling; ``ConvolutionalForm`` writes
    that in ordinary modules.

    Anchors do not ask for gradients until ``ckn.requires_grad_(True)``; then ``training.train`` learns them, too, on
    the sphere and through the inverse root. Take ``ridge`` = 1e-3 or so for that: without one the root is not
    continuous where anchors meet.

    Args:
        architecture: patches, kernels, scales, strides.
        anchors: one tensor ``(m_k, p_k)`` for each layer, rows scaled to unit length, p_1 = C e^d, p_{k+1} = m_k e^d;
            use ``fit``.
        refinement: as in ``GramCKN``.
        ridge: added to kappa(Z^T Z), >= 0. 0: true orthogonal projections. Above 0 the network stays non-expansive,
            loses more energy (the direction of an eigenvalue lambda keeps lambda / (lambda + ridge) of its own) and
            has no ``approximation_error``.

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
        for layer in architecture.layers:
            check_kernel(layer.kernel)
        self.architecture, self.refinement, self.ridge = architecture, refinement, float(ridge)
        self.anchors = nn.ParameterList([nn.Parameter(z, requires_grad=False) for z in anchors])
        self._held: list[tuple[Tensor, Tensor, Tensor] | None] = [None] * len(anchors)

    @classmethod
    def fit(
        cls,
        architecture: Architecture,
        images: Tensor,
        *,
        filters: Sequence[int],
        generator: torch.Generator,
        anchors: AnchorChoice = K_MEANS,
        ridge: float = 0.0,
        patches: int = TRAINING_PATCHES,
    ) -> "CKN":
        """Anchors chosen among patches of the images, layer after layer, without labels.

        Only the patches are held, never the maps of all images.

        Args:
            architecture: the network.
            images: ``(B, C, *size)``, floating point; the network computes in their dtype.
            filters: number of anchors of every layer.
            generator: source of randomness: which patches, and what the choice draws.
            anchors: how they are chosen: ``anchors.KMeans()``, ``RandomPatches()``, ``PivotedCholesky()``,
                ``Optimised()``.
            ridge: as in the class.
            patches: at most so many of each layer are drawn.

        Raises:
            ValueError: if ``filters`` has another length than the network, or there are fewer patches than anchors.
        """
        architecture.check_size(spatial_size(check_images(images)))
        if len(filters) != architecture.depth:
            raise ValueError(
                f"filters must have one number per layer ({architecture.depth}), got {tuple(filters)}; "
                "use for example filters=(64, 128)"
            )
        for name, value in (("patches", patches), *(("filters", count) for count in filters)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be integers >= 1, got {value!r}; use for example 64")
        if not isinstance(anchors, AnchorChoice):
            raise ValueError(f"anchors must be an AnchorChoice, got {anchors!r}; use anchors.KMeans()")
        chosen: list[Tensor] = []
        for k, (layer, count) in enumerate(zip(architecture.layers, filters, strict=True)):
            below = (
                cls(dataclasses.replace(architecture, layers=architecture.layers[:k]), chosen, ridge=ridge)
                if k
                else None
            )
            points = sampled_patches(architecture, k, images, below, patches, generator)
            chosen.append(anchors.choose(points, count, layer.kernel, generator=generator))
        return cls(architecture, chosen, ridge=ridge)

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
        maps = [
            partial(_projection, layer.kernel, z, self.ridge)
            for layer, z in zip(self.architecture.layers, self.anchors, strict=True)
        ]
        return ExplicitStages(self.architecture, self.refinement, image, maps)

    def layers(self, images: Tensor) -> list[Tensor]:
        """The pooled maps A_k z_k of every layer, ``(B, m_k, *size_k)``, differentiable."""
        size = spatial_size(check_images(images))
        self.architecture.check_size(tuple(n // self.refinement for n in size))
        d, maps = len(size), [low_passed(self.architecture, images, self.refinement, self.dtype)]
        for k, layer in enumerate(self.architecture.layers):
            units, root = self.kernel_map(k)
            mapped = kernel_convolution(
                layer.kernel, units, maps[-1], layer.patch_size, d, self.refinement, self.architecture.boundary
            )
            reduced = pooled(self.architecture, k, mapped, d, self.refinement)
            maps.append(_on_channels(root, reduced))
        return maps[1:]

    def kernel_map(self, k: int) -> tuple[Tensor, Tensor]:
        """Unit anchors Z ``(m, p)`` and (kappa(Z^T Z) + ridge)^(-1/2) ``(m, m)`` of layer k = 0 ... n - 1.

        In a graph where the anchors ask for gradients; else computed once and again when the anchors have changed.
        """
        z, kernel, tolerance = self.anchors[k], self.architecture.layers[k].kernel, rank_tolerance(self.dtype)
        if torch.is_grad_enabled() and z.requires_grad:
            units = units_of(z)
            return units.to(z.dtype), inverse_root(kernel, units, self.ridge, tolerance).to(z.dtype)
        held = self._held[k]
        if held is None or held[0].dtype != z.dtype or held[0].device != z.device or not torch.equal(held[0], z):
            with torch.inference_mode(False), torch.no_grad():  # what is kept must serve in a graph, too
                units = units_of(z.detach())
                root = inverse_root(kernel, units, self.ridge, tolerance)
                held = self._held[k] = z.detach().clone(), units.to(z.dtype), root.to(z.dtype)
        return held[1], held[2]

    @torch.no_grad()
    def retract_(self) -> None:
        """Scale anchors that learn back to unit length: what a step of an optimiser leaves is not on the sphere."""
        for z in self.anchors:
            if z.requires_grad:
                z.copy_(units_of(z))

    def forward(self, images: Tensor) -> Tensor:
        """A_n z_n, ``(B, m_n, *size')`` for images ``(B, C, *size)``; without a graph, a few images at a time."""
        graph = torch.is_grad_enabled() and (images.requires_grad or any(z.requires_grad for z in self.anchors))
        if graph or len(images) <= ENCODED:
            return self.layers(images)[-1]
        return torch.cat([self.layers(part)[-1] for part in images.split(ENCODED)])

    def captured_energy(self, images: Tensor) -> Tensor:
        """||psi(P y)|| / ||P y|| of every layer, y its own input: 1 where the projection loses nothing, ``(B, n)``."""
        d, boundary = len(spatial_size(check_images(images))), self.architecture.boundary
        shares = []
        for part in images.split(BATCH):
            inputs = [low_passed(self.architecture, part, self.refinement, self.dtype), *self.layers(part)[:-1]]
            columns = []
            for k, (y, layer) in enumerate(zip(inputs, self.architecture.layers, strict=True)):
                units, root = self.kernel_map(k)
                mapped = kernel_convolution(
                    layer.kernel, units, y, layer.patch_size, d, self.refinement, boundary
                ).flatten(2)
                patches = extract_patches(y, layer.patch_size, d, self.refinement, boundary).flatten(1)
                columns.append(torch.matmul(root, mapped).flatten(1).norm(dim=1) / patches.norm(dim=1))
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
                anchors = units_of(self.anchors[k].detach())
                root = inverse_root(layer.kernel, anchors, tolerance=rank_tolerance(self.dtype))
                patches = extract_patches(y, layer.patch_size, len(size), self.refinement, boundary).flatten(2)
                mapped = kernel_map(layer.kernel, anchors, root, patches)
                energy = patches.square().sum(1)
                lost = (energy - mapped.square().sum(1)).clamp_min(0.0) + ROUND_OFF * energy  # (B, N)
                cell = math.prod(size) / patches.shape[-1] / self.refinement ** len(size)
                total = gain * ((layer.kernel.lipschitz * total if k else total) + (cell * lost.sum(1)).sqrt())
                mapped = mapped.unflatten(2, y.shape[-len(size) :])
                y = pooled(self.architecture, k, mapped, len(size), self.refinement)
            parts.append(total)
        return torch.cat(parts)


def _on_channels(root: Tensor, maps: Tensor) -> Tensor:
    """A symmetric matrix times the channels of maps ``(B, m, *size)``, in the order in which they lie in memory."""
    last = maps.movedim(1, -1)
    if last.is_contiguous():
        return torch.matmul(last, root).movedim(-1, 1)
    return torch.matmul(root, maps.flatten(2)).unflatten(2, maps.shape[2:])


def _projection(kernel: Kernel, anchors: Tensor, ridge: float, patches: Tensor) -> Tensor:
    """psi of patches ``(p, N)``, in their dtype."""
    units = units_of(anchors.detach()).to(patches.dtype)
    return kernel_map(kernel, units, inverse_root(kernel, units, ridge, rank_tolerance(anchors.dtype)), patches[None])[
        0
    ]


def units_of(anchors: Tensor) -> Tensor:
    """Rows scaled to unit length in float64; a row of zeros stays one."""
    return torch.nn.functional.normalize(anchors.double(), dim=1, eps=torch.finfo(torch.float64).tiny)
