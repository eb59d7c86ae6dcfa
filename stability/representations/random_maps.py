r"""Random maps psi of one layer whose inner products estimate a kernel: E <psi(z), psi(z')> = |z| |z'| kappa(cos).

Every psi uses m / 2 independent standard Gaussian vectors w_j, each for two of its m channels, so that what is lost on
one is kept on the other: the norms of Fourier and step features are |z| exactly, and the Lipschitz constant of every
continuous psi is known, where m independent channels would only allow an upper bound. With W the matrix of the w_j and
M = m / 2,

    rectifier (leaky)   (f(W z), f(-W z)) / sqrt(M (1 + c^2)),  f(t) = max(t, 0) + c min(t, 0);  Lip = ||W||_2 / sqrt(M)
    step                |z| (1[W z > 0], 1[W z <= 0]) / sqrt(M);  not continuous, Lip = inf
    Fourier             |z| (cos(a W z / |z|), sin(a W z / |z|)) / sqrt(M);  Lip = max(1, a ||W||_2 / sqrt(M))

Proof for the rectifier: (f(s) - f(t))^2 + (f(-s) - f(-t))^2 <= (1 + c^2) (s - t)^2, with equality if s and t have the
same sign; so |psi(z) - psi(z')| <= |W (z - z')| / sqrt(M), with equality for z' = 2 z. For Fourier: on the sphere
F = psi has |F| = 1 and Jacobian J with J^T J = a^2 W^T W / M at every point (sin^2 + cos^2 = 1); F^T J = 0, so that the
derivative of |z| F(z / |z|) has the singular value 1 along z and those of J, restricted to the tangent plane, across;
and the segment between two points is convex, with at most one exceptional point, 0.

This module imports no torch.
"""

import abc
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stability import kernels

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class RandomMap(abc.ABC):
    """psi, given W z and |z|; two channels for every row of W."""

    @property
    @abc.abstractmethod
    def keeps_norms(self) -> bool:
        """Whether |psi(z)| = |z| for every W."""

    @abc.abstractmethod
    def lipschitz(self, spectral_norm: float) -> float:
        """Lipschitz constant of psi.

        Args:
            spectral_norm: ||W||_2 / sqrt(M).
        """

    @abc.abstractmethod
    def __call__(self, products: "Tensor", norms: "Tensor", rows: int) -> tuple["Tensor", "Tensor"]:
        """The two channels of every row of W.

        Args:
            products: W z for some of the rows, ``(..., r, N)``.
            norms: |z|, ``(..., 1, N)``.
            rows: M, all rows of W.

        Returns:
            Two tensors ``(..., r, N)``, differentiable; 0 where z is.
        """


@dataclass(frozen=True)
class RandomRectifier(RandomMap):
    """(f(W z), f(-W z)) / sqrt(M (1 + c^2)): the kernels ``ArcCosine(1)`` (c = 0) and ``LeakyReLU(c)``.

    Args:
        slope: c.

    Reference: Cho & Saul 2009.
    """

    slope: float = 0.0

    @property
    def keeps_norms(self) -> bool:
        """False: |psi(z)| = |W z| / sqrt(M), |z| in the mean square only."""
        return False

    def lipschitz(self, spectral_norm: float) -> float:
        """||W||_2 / sqrt(M), attained."""
        return spectral_norm

    def __call__(self, products: "Tensor", norms: "Tensor", rows: int) -> tuple["Tensor", "Tensor"]:
        """f(W z) and f(-W z), scaled."""
        positive, negative = products.relu(), (-products).relu()
        scale = 1.0 / math.sqrt(rows * (1.0 + self.slope**2))
        return (positive - self.slope * negative) * scale, (negative - self.slope * positive) * scale


@dataclass(frozen=True)
class RandomStep(RandomMap):
    """|z| (1[W z > 0], 1[W z <= 0]) / sqrt(M): the kernel ``ArcCosine(0)``.

    Reference: Cho & Saul 2009.

    >>> RandomStep().lipschitz(1.0), RandomStep().keeps_norms
    (inf, True)
    """

    @property
    def keeps_norms(self) -> bool:
        """True: one channel of every pair is |z| / sqrt(M), the other 0."""
        return True

    def lipschitz(self, spectral_norm: float) -> float:
        """Infinity: psi jumps."""
        return math.inf

    def __call__(self, products: "Tensor", norms: "Tensor", rows: int) -> tuple["Tensor", "Tensor"]:
        """The two indicators times |z|, scaled."""
        scaled = norms / math.sqrt(rows)
        above = (products > 0).to(scaled.dtype)
        return above * scaled, (1.0 - above) * scaled


@dataclass(frozen=True)
class RandomFourier(RandomMap):
    """|z| (cos(a W z / |z|), sin(a W z / |z|)) / sqrt(M): the kernel ``Exponential(a^2)``, Gaussian on the sphere.

    E cos(a w^T (v - v')) = exp(-a^2 |v - v'|^2 / 2) = exp(a^2 (cos - 1)) for unit v, v'.

    Args:
        frequency: a = sqrt(alpha) > 0.

    Reference: Rahimi & Recht 2007; Sutherland & Schneider 2015 for pairs of cosine and sine instead of random phases.
    """

    frequency: float

    @property
    def keeps_norms(self) -> bool:
        """True: cos^2 + sin^2 = 1."""
        return True

    def lipschitz(self, spectral_norm: float) -> float:
        """max(1, a ||W||_2 / sqrt(M))."""
        return max(1.0, self.frequency * spectral_norm)

    def __call__(self, products: "Tensor", norms: "Tensor", rows: int) -> tuple["Tensor", "Tensor"]:
        """Cosine and sine of the angles times |z|, scaled."""
        angles = products * (self.frequency / (norms + (norms == 0)))  # (..., r, N); where z = 0 any angle will do
        scaled = norms / math.sqrt(rows)
        return angles.cos() * scaled, angles.sin() * scaled


def random_map(kernel: kernels.Kernel) -> RandomMap:
    """The random map whose inner products estimate a kernel.

    Args:
        kernel: ``ArcCosine(0)``, ``ArcCosine(1)``, ``LeakyReLU`` or ``Exponential``.

    Raises:
        ValueError: for another kernel.

    >>> random_map(kernels.Exponential(4.0))
    RandomFourier(frequency=2.0)
    """
    match kernel:
        case kernels.ArcCosine(degree=1):
            return RandomRectifier()
        case kernels.ArcCosine():
            return RandomStep()
        case kernels.LeakyReLU(slope=slope):
            return RandomRectifier(slope)
        case kernels.Exponential(alpha=alpha):
            return RandomFourier(math.sqrt(alpha))
    raise ValueError(
        f"kernels of random features must be ArcCosine, LeakyReLU or Exponential, got {kernel!r}; use one of these, or "
        "CKN.fit for any kernel"
    )
