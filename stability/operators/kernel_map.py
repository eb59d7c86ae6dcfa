r"""The Nyström kernel map: coordinates of the orthogonal projection of phi(z) on span(phi(z_1), ..., phi(z_m)).

    psi(z) = |z| kappa(Z^T Z)^(-1/2) kappa(Z^T z / |z|),    |psi(z) - psi(z')| <= |phi(z) - phi(z')| <= rho |z - z'|,

with the pseudo-inverse square root. psi(0) = 0 and |psi(z)| <= |z|, so that the theorem holds word for word.
"""

import math

import torch
from torch import Tensor

from stability.kernels import FromActivation, Kernel
from stability.operators.inverse_square_root import inverse_square_root

NODES, ROUND_OFF = 2001, 1e-9
"""Cosines at which a user's kernel is looked at, and what it may miss there."""
SLOPE_TOLERANCE = 1e-2
"""What kappa' may miss, relative to 1 + |kappa'|, of a central difference."""
RANK_TOLERANCE = 1e-12
"""Eigenvalues of kappa(Z^T Z) below this share of the largest count as zero."""


def check_kernel(kernel: Kernel) -> Kernel:
    """The kernel, if kappa is what the theorem asks for, as far as a grid of cosines can tell.

    kappa(1) = 1, so that norms are kept; |kappa| <= 1; and 1 - kappa(u) <= rho^2 (1 - u), so that the kernel map is
    rho-Lipschitz; and a formula for kappa', if there is one, agrees with differences. The closed forms of
    ``stability.kernels`` are known to do so; a user's own kernel is looked at, and the dual kernel of an activation.

    Raises:
        ValueError: says what fails, and where.

    >>> from stability.kernels import Linear
    >>> check_kernel(Linear())
    Linear()
    """
    own = not type(kernel).__module__.startswith("stability.kernels.")
    if not own and not isinstance(kernel, FromActivation):
        return kernel
    u = torch.linspace(-1.0, 1.0, NODES, dtype=torch.float64)
    value, name = kernel(u), type(kernel).__name__
    if not bool(torch.isfinite(value).all()) or abs(float(value[-1]) - 1.0) > ROUND_OFF:
        raise ValueError(
            f"kappa(1) of {name} must be 1 and kappa finite, got {float(value[-1]):.6g}; divide by kappa(1)"
        )
    if float(value.abs().max()) > 1.0 + ROUND_OFF:
        raise ValueError(f"|kappa| of {name} must be at most 1 on [-1, 1], got {float(value.abs().max()):.6g}; mend it")
    if math.isfinite(kernel.lipschitz):
        excess = 1.0 - value - kernel.lipschitz**2 * (1.0 - u)
        worst = int(excess.argmax())
        if float(excess[worst]) > ROUND_OFF:
            raise ValueError(
                f"derivative_at_one of {name} must give 1 - kappa(u) <= rho^2 (1 - u), got "
                f"{kernel.derivative_at_one:g}, which fails at u = {float(u[worst]):.4g}; state kappa'(1) of this kappa"
            )
    if type(kernel).derivative_ is not Kernel.derivative_:
        _check_slope(kernel, u, value)
    return kernel


def _check_slope(kernel: Kernel, u: Tensor, value: Tensor) -> None:
    """kappa' against central differences on [-0.9, 0.9], where they are good to 1e-3."""
    inner = slice(NODES // 20, -(NODES // 20))
    slope, differences = kernel.derivative(u)[inner], ((value[2:] - value[:-2]) / (u[2:] - u[:-2]))[NODES // 20 - 1 :]
    differences = differences[: len(slope)]
    wrong = ~((slope - differences).abs() <= SLOPE_TOLERANCE * (1.0 + differences.abs()))
    if bool(wrong.any()):
        at = int(wrong.to(torch.int8).argmax())
        raise ValueError(
            f"derivative_ of {type(kernel).__name__} must be kappa', got {float(slope[at]):.6g} at u = "
            f"{float(u[inner][at]):.4g}, where differences give {float(differences[at]):.6g}; mend it or leave it out"
        )


def inverse_root(kernel: Kernel, anchors: Tensor, ridge: float = 0.0, tolerance: float = RANK_TOLERANCE) -> Tensor:
    """(kappa(Z^T Z) + ridge I)^(-1/2), pseudo-inverse, ``(m, m)``, float64, symmetric; differentiable in Z.

    Args:
        kernel: kappa.
        anchors: ``(m, p)``, unit rows; nearly equal ones are allowed.
        ridge: >= 0, in units of kappa(1) = 1. 0: psi is the orthogonal projection. Above 0 it shrinks directions in
            which the anchors hardly differ, and is still non-expansive: (K + ridge I)^(-1) <= K^(-1).
        tolerance: directions with lambda + ridge at most this share of the largest eigenvalue are left out.

    >>> from stability.kernels import Linear
    >>> inverse_root(Linear(), torch.eye(2, dtype=torch.float64))
    tensor([[1., 0.],
            [0., 1.]], dtype=torch.float64)
    """
    return inverse_square_root(anchor_gram(kernel, anchors), ridge, tolerance)


def anchor_gram(kernel: Kernel, anchors: Tensor) -> Tensor:
    """kappa(Z^T Z), ``(m, m)``, float64, with an exact diagonal of ones that no gradient passes: anchors stay units.

    >>> from stability.kernels import Linear
    >>> anchor_gram(Linear(), torch.tensor([[1.0, 0.0], [0.6, 0.8]]))
    tensor([[1.0000, 0.6000],
            [0.6000, 1.0000]], dtype=torch.float64)
    """
    anchors = anchors.to(torch.float64)
    own = torch.eye(len(anchors), dtype=torch.bool, device=anchors.device)
    cosine = (anchors @ anchors.T).masked_fill(own, 0.0)  # kappa'(1) may be infinite
    return kernel(cosine.clamp(-1.0, 1.0)).masked_fill(own, 1.0)


def rank_tolerance(dtype: torch.dtype) -> float:
    """Share of the largest eigenvalue below which a direction is left out of a map that computes in a dtype.

    An error eps in kappa(Z^T z) becomes eps / sqrt(lambda) in psi: in single precision, eigenvalues as small as double
    precision allows would return noise as large as the image.

    >>> rank_tolerance(torch.float64)
    1e-12
    """
    return max(RANK_TOLERANCE, torch.finfo(dtype).eps)


def kernel_map(kernel: Kernel, anchors: Tensor, root: Tensor, patches: Tensor) -> Tensor:
    """psi(z) for patches along the channel axis.

    Args:
        kernel: kappa.
        anchors: ``(m, p)``, unit rows.
        root: ``inverse_root(kernel, anchors)``.
        patches: ``(B, p, N)``; the result can be differentiated in them, with derivative 0 at a patch that is 0.

    Returns:
        Tensor ``(B, m, N)``.
    """
    if torch.is_grad_enabled() and patches.requires_grad:
        return _with_graph(kernel, anchors, root, patches)
    norms = patches.norm(dim=1, keepdim=True)  # (B, 1, N)
    cosine = torch.matmul(anchors, patches) / norms.clamp_min(torch.finfo(patches.dtype).tiny)
    return torch.matmul(root, kernel.evaluate_(cosine.clamp_(-1.0, 1.0)).mul_(norms))


def _with_graph(kernel: Kernel, anchors: Tensor, root: Tensor, patches: Tensor) -> Tensor:
    """The same out of place, with derivatives of every order that the kernel has."""
    squares = patches.square().sum(1, keepdim=True)
    alive = squares > 0
    norms = torch.where(alive, squares, 1.0).sqrt()
    cosine = torch.matmul(anchors, patches) / norms
    return torch.matmul(root, kernel(cosine.clamp(-1.0, 1.0)) * torch.where(alive, norms, 0.0))
