r"""``GramNTK``: the neural tangent kernel of a convolutional network of infinite width."""

import math

from stability.architecture import Architecture
from stability.bounds.theorem import Theorem
from stability.representations.pairs import PairRepresentation


class GramNTK(PairRepresentation):
    r"""Sigma_k = |z| |z'| kappa(cos), Theta_k = Sigma_k + kappa'(cos) P A Theta_{k-1}, K = trace A_n Theta_n.

    P and A act on both arguments; Theta_0 is the Gram matrix of A_0 F x. The kernel of gradient descent on a network
    of layers sqrt(2 / m) sigma(W P .), pooled, and a linear last one, when the widths m grow: exact for activations
    with sigma(c s) = c sigma(s), c > 0 (``ArcCosine(1)``: ReLU, ``Linear``, ``LeakyReLU``), whose kernels are
    |z| |z'| kappa(cos). For other kernels it is the recursion as it stands.

    ||Phi(x)||^2 <= (1 + kappa'(1) + ... + kappa'(1)^n) ||x||^2 and, with kappa'(1) = 1, (n + 1) ||x||^2. Phi is not
    Lipschitz: kappa' of ReLU is the kernel of the step function, ||phi_0(z) - phi_0(z')|| <= |z/|z| - z'/|z'||^(1/2),
    and small deformations move it like their square root. The bounds of CKNs do not cover it; ladders have one of
    order b^(1/2) in their place (docs/theory-depth.md, section 7).

    Args:
        architecture: as in ``GramCKN``; by default its kernels should be ``ArcCosine(degree=1)``.
        refinement: as in ``GramCKN``.

    Raises:
        ValueError: if a kernel has kappa'(1) = inf: its activation jumps, and a gradient with respect to the weights
            below does not exist.

    Reference: Bietti & Mairal 2019 (On the inductive bias of neural tangent kernels), section 2; Arora et al. 2019.

    >>> import torch
    >>> from stability.kernels import ArcCosine
    >>> arch = Architecture.dyadic(depth=2, subsampling=1).replace("layers.*.kernel", ArcCosine(1))
    >>> x = torch.ones(1, 1, 8, 8, dtype=torch.float64)
    >>> GramNTK(arch).norm(x)**2 / 64  # (n + 1) ||x||^2: all patches are parallel
    tensor([3.0000], dtype=torch.float64)
    """

    keeps_norms = False
    _tangent = True

    def __init__(self, architecture: Architecture, refinement: int = 1) -> None:
        for layer in architecture.layers:
            if not math.isfinite(layer.kernel.derivative_at_one):
                raise ValueError(
                    f"kernels of a neural tangent kernel must have a finite kappa'(1), got {layer.kernel!r}; use "
                    "ArcCosine(degree=1) for ReLU"
                )
        super().__init__(architecture, refinement)

    @property
    def lipschitz(self) -> tuple[float, ...]:
        """Infinity for every layer."""
        return (math.inf,) * self._network.depth

    @property
    def theorem(self) -> Theorem:
        """That of tangent kernels."""
        return Theorem(self._network, tangent=True)
