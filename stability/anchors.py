"""How the anchors of a finite CKN are chosen among patches. Frozen values without tensors, for ``CKN.fit``."""

import abc
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stability.kernels import Kernel

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class AnchorChoice(abc.ABC):
    """A way of choosing unit vectors z_1, ..., z_m; a class of your own needs ``choose``.

    Whatever it chooses, the map is the orthogonal projection on span(phi(z_1), ..., phi(z_m)), and no bound changes.
    """

    @abc.abstractmethod
    def choose(self, points: "Tensor", count: int, kernel: Kernel, *, generator: "torch.Generator") -> "Tensor":
        """Anchors ``(m, p)`` with unit rows, in the dtype of the points.

        Args:
            points: unit patches, ``(N, p)``, in random order.
            count: m.
            kernel: kappa of the layer.
            generator: source of randomness.

        Raises:
            ValueError: if there are fewer points than anchors.
        """


@dataclass(frozen=True)
class KMeans(AnchorChoice):
    """Centres of spherical k-means, started by k-means++, with empty clusters started again.

    Args:
        iterations: passes at most, >= 1.
        tolerance: stop when a pass raises the mean cosine by less than this share of it, >= 0.

    Reference: Mairal 2016; Zhang, Tsang & Kwok 2008.
    """

    iterations: int = 50
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        _check_count("iterations", self.iterations)
        _check_number("tolerance", self.tolerance)

    def choose(self, points: "Tensor", count: int, kernel: Kernel, *, generator: "torch.Generator") -> "Tensor":
        """The centres."""
        from stability.operators.spherical_kmeans import spherical_kmeans

        return spherical_kmeans(
            points, count, generator=generator, iterations=self.iterations, tolerance=self.tolerance
        )


@dataclass(frozen=True)
class RandomPatches(AnchorChoice):
    """Patches drawn without replacement, all equally likely.

    Reference: Williams & Seeger 2001.
    """

    def choose(self, points: "Tensor", count: int, kernel: Kernel, *, generator: "torch.Generator") -> "Tensor":
        """The patches."""
        import torch

        _check_points(points, count)
        chosen = torch.randperm(len(points), generator=generator, device=generator.device)[:count]
        return points[chosen.to(points.device)]


@dataclass(frozen=True)
class PivotedCholesky(AnchorChoice):
    """One patch after the other: the one whose phi(x) is farthest from the span of those chosen before.

    Greedy for the largest loss over the candidates, where k-means is for the mean. When the candidates' span is
    exhausted, patches drawn at random fill up the number: they change nothing.

    Args:
        candidates: so many of the patches at most are looked at, >= 1; memory is 8 m bytes for each.

    Reference: Fine & Scheinberg 2001; Harbrecht, Peters & Schneider 2012.
    """

    candidates: int = 20_000

    def __post_init__(self) -> None:
        _check_count("candidates", self.candidates)

    def choose(self, points: "Tensor", count: int, kernel: Kernel, *, generator: "torch.Generator") -> "Tensor":
        """The pivots."""
        import torch

        from stability.operators.pivoted_cholesky import pivoted_cholesky

        points = points[: max(self.candidates, count)]
        _check_points(points, count)
        pivots, _ = pivoted_cholesky(points, count, kernel)
        if len(pivots) < count:
            order = torch.randperm(len(points), generator=generator, device=generator.device).to(points.device)
            rest = order[~torch.isin(order, pivots)]
            pivots = torch.cat([pivots, rest[: count - len(pivots)]])
        return points[pivots]


@dataclass(frozen=True)
class Optimised(AnchorChoice):
    r"""Anchors that make the kernel's approximation best on pairs of patches, by L-BFGS: the idea of the first CKN.

        minimise over Z    mean over pairs (x, y) of (kappa(<x, y>) - <psi(x), psi(y)>)^2.

    The CKN of 2014 minimised this for the map sqrt(eta_j) exp(-|x - w_j|^2 / sigma^2) of the Gaussian kernel; here psi
    is the projection, so that any kernel will do and the bounds hold. Started from k-means.

    Args:
        pairs: how many pairs of patches, drawn at random, >= 1; a quarter of them are patches close to each other.
        iterations: of L-BFGS, >= 1.

    Reference: Mairal, Koniusz, Harchaoui & Schmid 2014.
    """

    pairs: int = 20_000
    iterations: int = 50

    def __post_init__(self) -> None:
        _check_count("pairs", self.pairs)
        _check_count("iterations", self.iterations)

    def choose(self, points: "Tensor", count: int, kernel: Kernel, *, generator: "torch.Generator") -> "Tensor":
        """The optimum that is found."""
        from stability.operators.kernel_fit import kernel_fit

        start = KMeans().choose(points, count, kernel, generator=generator)
        return kernel_fit(points, start, kernel, pairs=self.pairs, iterations=self.iterations, generator=generator)


def _check_points(points: "Tensor", count: int) -> None:
    if not 1 <= count <= len(points):
        raise ValueError(
            f"the number of filters must be between 1 and the number of training patches {len(points)}, got {count}; "
            "give more images or ask for fewer filters"
        )


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be an integer >= 1, got {value!r}; use the default")


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{name} must be finite and >= 0, got {value!r}; use the default")
