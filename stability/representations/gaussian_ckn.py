r"""``GaussianCKN``: the first convolutional kernel network, with sums of Gaussians fitted by optimisation."""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from stability.anchors import KMeans
from stability.architecture import Architecture
from stability.grid import check_images, spatial_size
from stability.kernels import Exponential
from stability.operators.gaussian_fit import gaussian_fit
from stability.operators.kernel_convolution import kernel_convolution
from stability.operators.kernel_map import anchor_gram
from stability.representations.ckn import ENCODED, TRAINING_PATCHES, units_of
from stability.representations.explicit import ExplicitRepresentation
from stability.representations.exponents import exponents
from stability.representations.maps import low_passed, pooled
from stability.representations.sampled_patches import sampled_patches
from stability.representations.stages import ExplicitStages


class GaussianCKN(ExplicitRepresentation):
    r"""Phi_n with psi(z) = |z| (eta_j^(1/2) exp(2 alpha (<w_j, z> / |z| - 1)))_j for the kernel exp(alpha (cos - 1)).

    No projection: a layer may make maps longer or shorter, and may expand. ``lipschitz`` is a bound: with
    g(u)_j = eta_j^(1/2) exp(2 alpha (<w_j, u> - 1)) on the sphere, the derivative of psi in the direction v_r u + v_t
    is v_r g(u) + Dg(u) v_t, so that rho^2 <= sup |g|^2 + sup ||Dg||^2. With c_j = <w_j, u>,

        |g(u)|^2 = sum_j eta_j kappa_{4 alpha}(c_j) <= B_{4 alpha},    B_b = (eta^T kappa_b(W W^T) eta)^(1/2),

    as kappa_b(c_j) = <phi_b(w_j), phi_b(u)>, by Cauchy-Schwarz; and, as the part of w_j along the sphere is
    (1 - c_j^2)^(1/2) long and 1 - c^2 <= 2 (1 - c), (1 - c) e^(-2 alpha (1 - c)) <= 1 / (2 alpha e),

        ||Dg(u)||^2 <= 4 alpha^2 sum_j eta_j kappa_{4 alpha}(c_j) (1 - c_j^2)
                    <= min(4 alpha^2 B_{4 alpha}, (4 alpha / e) B_{2 alpha}).

    ``closed_form`` and ``ladder`` take it in place of the kernels' constants, as they take a CNN's. Weights do not ask
    for gradients until ``requires_grad_(True)``.

    Args:
        architecture: patches, scales, strides; kernels ``Exponential``.
        weights: w, one tensor ``(m_k, p_k)`` for each layer, rows scaled to unit length.
        masses: eta, one tensor ``(m_k,)`` for each layer, positive.
        refinement: as in ``GramCKN``.

    Raises:
        ValueError: for other kernels, or numbers of tensors that do not fit.

    Reference: Mairal, Koniusz, Harchaoui & Schmid 2014.

    >>> from stability.images import load
    >>> x = load("fashion", count=4, size=(16, 16))
    >>> rng = torch.Generator().manual_seed(0)
    >>> ckn = GaussianCKN.fit(Architecture.dyadic(depth=2), x, filters=(8, 16), generator=rng, iterations=10)
    >>> ckn(x).shape, all(1 < rho < 4 for rho in ckn.lipschitz)
    (torch.Size([4, 16, 4, 4]), True)
    """

    architecture: Architecture
    keeps_norms = False

    def __init__(
        self, architecture: Architecture, weights: Sequence[Tensor], masses: Sequence[Tensor], refinement: int = 1
    ) -> None:
        super().__init__()
        exponents(architecture)
        if not len(weights) == len(masses) == architecture.depth or any(
            w.ndim != 2 or eta.shape != w.shape[:1] or not bool((eta > 0).all())
            for w, eta in zip(weights, masses, strict=True)
        ):
            raise ValueError(
                f"weights and masses must be (m, p) and positive (m,) for each of {architecture.depth} layers, got "
                f"{[tuple(w.shape) for w in weights]} and {[tuple(eta.shape) for eta in masses]}; use GaussianCKN.fit"
            )
        self.architecture, self.refinement = architecture, refinement
        self.weights = nn.ParameterList([nn.Parameter(w, requires_grad=False) for w in weights])
        self.masses = nn.ParameterList([nn.Parameter(eta, requires_grad=False) for eta in masses])

    @classmethod
    def fit(
        cls,
        architecture: Architecture,
        images: Tensor,
        *,
        filters: Sequence[int],
        generator: torch.Generator,
        patches: int = TRAINING_PATCHES,
        pairs: int = 20_000,
        iterations: int = 50,
    ) -> "GaussianCKN":
        """Weights and masses fitted to the kernel on pairs of patches, layer after layer, started from k-means.

        Args:
            architecture: of the network.
            images: ``(B, C, *size)``, floating point; the network computes in their dtype.
            filters: m_k of every layer.
            generator: source of randomness.
            patches: of each layer, at most.
            pairs: on which the error is measured.
            iterations: of L-BFGS.

        Raises:
            ValueError: for other kernels, or ``filters`` of another length than the network.
        """
        architecture.check_size(spatial_size(check_images(images)))
        alphas = exponents(architecture)
        if len(filters) != architecture.depth:
            raise ValueError(
                f"filters must have one number per layer ({architecture.depth}), got {tuple(filters)}; "
                "use for example filters=(64, 128)"
            )
        weights: list[Tensor] = []
        masses: list[Tensor] = []
        for k, count in enumerate(filters):
            below = cls(Architecture(architecture.layers[:k], architecture.antialiasing, architecture.boundary,
                                     architecture.front_end), weights, masses) if k else None  # fmt: skip
            points = sampled_patches(architecture, k, images, below, patches, generator)
            start = KMeans().choose(points, count, architecture.layers[k].kernel, generator=generator)
            w, eta, _ = gaussian_fit(points, start, alphas[k], pairs=pairs, iterations=iterations, generator=generator)
            weights.append(w)
            masses.append(eta)
        return cls(architecture, weights, masses)

    @property
    def dtype(self) -> torch.dtype:
        """That of the weights."""
        return self.weights[0].dtype

    @property
    def lipschitz(self) -> tuple[float, ...]:
        """rho_k, the bound above, in float64."""
        found = []
        for alpha, w, eta in zip(exponents(self.architecture), self.weights, self.masses, strict=True):
            masses, units = eta.detach().double(), units_of(w.detach())
            broad, sharp = (
                math.sqrt(float(masses @ anchor_gram(Exponential(factor * alpha), units) @ masses))
                for factor in (2.0, 4.0)
            )
            found.append(math.sqrt(sharp + min(4.0 * alpha**2 * sharp, 4.0 * alpha / math.e * broad)))
        return tuple(found)

    def cell_area(self, size: tuple[int, ...], features: Tensor) -> float:
        """H W / (H' W') in pixels of the unrefined grid."""
        d = len(size)
        return math.prod(size) / math.prod(features.shape[-d:]) / self.refinement**d

    def refined(self, factor: int) -> "GaussianCKN":
        """The same network on grids ``factor`` times as fine."""
        return GaussianCKN(self.architecture, list(self.weights), list(self.masses), self.refinement * factor)

    def retract_(self) -> None:
        """Scale weights that learn back to unit length, and keep masses positive."""
        with torch.no_grad():
            for w, eta in zip(self.weights, self.masses, strict=True):
                if w.requires_grad:
                    w.copy_(units_of(w))
                if eta.requires_grad:
                    eta.clamp_min_(torch.finfo(eta.dtype).tiny)

    def stages(self, image: Tensor) -> ExplicitStages:
        """z_0, ..., z_n of one image, in float64."""
        maps = [
            partial(_layer_map, Exponential(2.0 * alpha), units_of(w.detach()), eta.detach().double().sqrt())
            for alpha, w, eta in zip(exponents(self.architecture), self.weights, self.masses, strict=True)
        ]
        return ExplicitStages(self.architecture, self.refinement, image, maps)

    def layers(self, images: Tensor) -> list[Tensor]:
        """The pooled maps A_k z_k of every layer, ``(B, m_k, *size_k)``, differentiable."""
        size = spatial_size(check_images(images))
        self.architecture.check_size(tuple(n // self.refinement for n in size))
        d, maps = len(size), [low_passed(self.architecture, images, self.refinement, self.dtype)]
        for k, (alpha, w, eta) in enumerate(zip(exponents(self.architecture), self.weights, self.masses, strict=True)):
            e = self.architecture.layers[k].patch_size
            units = units_of(w).to(w.dtype)
            mapped = kernel_convolution(
                Exponential(2.0 * alpha), units, maps[-1], e, d, self.refinement, self.architecture.boundary
            )
            reduced = pooled(self.architecture, k, mapped, d, self.refinement)
            maps.append(reduced * eta.sqrt().view(-1, *(1,) * d))  # on channels: commutes with pooling
        return maps[1:]

    def forward(self, images: Tensor) -> Tensor:
        """A_n z_n, ``(B, m_n, *size')`` for images ``(B, C, *size)``; without a graph, a few images at a time."""
        graph = torch.is_grad_enabled() and (images.requires_grad or any(p.requires_grad for p in self.parameters()))
        if graph or len(images) <= ENCODED:
            return self.layers(images)[-1]
        return torch.cat([self.layers(part)[-1] for part in images.split(ENCODED)])


def _layer_map(kernel: Exponential, units: Tensor, roots: Tensor, patches: Tensor) -> Tensor:
    """|z| (eta_j^(1/2) kappa(<w_j, z> / |z|))_j of patches ``(p, N)``."""
    norms = patches.norm(dim=0)
    cosine = (units @ patches / norms.clamp_min(torch.finfo(patches.dtype).tiny)).clamp(-1.0, 1.0)
    return roots[:, None] * kernel(cosine) * norms
