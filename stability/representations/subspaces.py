r"""The subspaces that a finite CKN projects on: their dimensions, what they keep, and the angles between two networks'.

Coordinates of layer k are those of the isometry U_k = Phi(Z_k) kappa(Z_k^T Z_k)^(-1/2) from R^m into the kernel's
Hilbert space. Of two networks A and B of one architecture,

    C_k = U_A,k^T U_B,k = R_A kappa(Z_A (I (x) C_{k-1}) Z_B^T) R_B,    C_0 = I,

since an anchor of layer k stands for I (x) U_{k-1} of it, and inner products of such vectors go through C_{k-1}. The
singular values of C_k are the cosines of the principal angles between the two subspaces of layer k, whatever the
coordinates: the filters themselves, whose coordinates are each network's own, may not be compared. Cosines carry a
round-off of 1e-16 lambda_max / lambda_min of kappa(Z^T Z); angles below its root are no different from zero.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.grid import check_images, spatial_size
from stability.operators.kernel_map import anchor_gram, rank_tolerance
from stability.operators.patches import extract_patches
from stability.representations.ckn import CKN, units_of
from stability.representations.explicit import BATCH
from stability.representations.maps import low_passed


@dataclass(frozen=True, eq=False)
class LayerSubspace:
    """One layer's subspace span(phi(z_1), ..., phi(z_m)).

    Args:
        rank: its dimension: eigenvalues of kappa(Z^T Z) above the network's tolerance.
        effective_rank: exp(-sum_i p_i log p_i), p_i the eigenvalues over their sum: from 1 (all anchors alike) to m
            (orthogonal ones).
        captured_energy: mean over the images of ||psi(P y)|| / ||P y||.
        use: share of the patches' energy |z|^2 whose nearest anchor each one is, ``(m,)``; sums to 1.
        angles: principal angles to the other network's subspace, in radians, ascending; None without one.
    """

    rank: int
    effective_rank: float
    captured_energy: float
    use: Tensor
    angles: Tensor | None

    @property
    def unused(self) -> int:
        """Number of anchors that are nearest to no patch."""
        return int((self.use == 0).sum())


@torch.no_grad()
def subspaces(network: CKN, images: Tensor, other: CKN | None = None) -> tuple[LayerSubspace, ...]:
    """One ``LayerSubspace`` for each layer, in float64.

    Args:
        network: what is described; a ridge plays no part in rank and angles.
        images: ``(B, C, *size)``, for energy and use.
        other: a network of the same architecture, for example the one before training.

    Raises:
        ValueError: if the other network has another architecture.

    Reference: Roy & Vetterli 2007 for the effective rank; Bjoerck & Golub 1973 for the angles.

    >>> import stability as st
    >>> x = st.images.load("fashion", count=4, size=(16, 16))
    >>> arch, rng = st.Architecture.dyadic(depth=2), torch.Generator().manual_seed(0)
    >>> one, two = (st.CKN.fit(arch, x, filters=(4, 6), generator=rng) for _ in range(2))
    >>> found = subspaces(one, x, two)
    >>> found[1].rank, bool(found[1].angles.max() > 0.01), bool(subspaces(one, x, one)[1].angles.max() < 1e-4)
    (6, True, True)
    """
    if other is not None and other.architecture != network.architecture:
        raise ValueError(f"other must have the architecture of the network, got {other.architecture!r}; compare alike")
    energy, use = network.captured_energy(images).double().mean(0), _use(network, images)
    previous, found = None, []
    for k in range(network.architecture.depth):
        own, root, spectrum = _root(network, k)
        angles = None
        if other is not None:
            theirs, their_root, their_spectrum = _root(other, k)
            cosine = _through(own, previous) @ theirs.T
            previous = root @ network.architecture.layers[k].kernel(cosine.clamp(-1.0, 1.0)) @ their_root
            shared = min(len(spectrum), len(their_spectrum))
            angles = torch.linalg.svdvals(previous)[:shared].clamp(0.0, 1.0).acos()
        shares = spectrum / spectrum.sum()
        effective = math.exp(float(-(shares * shares.log()).sum()))
        found.append(LayerSubspace(len(spectrum), effective, float(energy[k]), use[k], angles))
    return tuple(found)


def _root(network: CKN, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Unit anchors, the pseudo-inverse root of their Gram matrix without ridge, its eigenvalues that count."""
    units = units_of(network.anchors[k].detach())
    values, vectors = torch.linalg.eigh(anchor_gram(network.architecture.layers[k].kernel, units))
    kept = values > rank_tolerance(network.dtype) * values[-1]
    return units, vectors[:, kept] / values[kept].sqrt() @ vectors[:, kept].T, values[kept]


def _through(anchors: Tensor, previous: Tensor | None) -> Tensor:
    """Z (I (x) C): every position's channels through C, ``(m, p')``."""
    if previous is None:
        return anchors
    return (anchors.unflatten(1, (-1, len(previous))) @ previous).flatten(1)


def _use(network: CKN, images: Tensor) -> list[Tensor]:
    d = len(spatial_size(check_images(images)))
    totals = [torch.zeros(count, dtype=torch.float64, device=images.device) for count in network.filters]
    for part in images.split(BATCH):
        inputs = [low_passed(network.architecture, part, network.refinement, network.dtype), *network.layers(part)[:-1]]
        for k, y in enumerate(inputs):
            e, boundary = network.architecture.layers[k].patch_size, network.architecture.boundary
            patches = extract_patches(y, e, d, network.refinement, boundary).flatten(2)  # (B, p, N)
            nearest = torch.matmul(network.kernel_map(k)[0], patches).argmax(1)
            totals[k].index_add_(0, nearest.flatten(), patches.double().square().sum(1).flatten())
    return [total / total.sum() for total in totals]
