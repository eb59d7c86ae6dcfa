"""``recommend_ckn``: the cheapest CKN, exact, banded or finite, whose distances are as accurate as asked for."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.architecture import Architecture
from stability.boundaries import Periodic
from stability.grid import check_images, spatial_size
from stability.operators.front_end import front_end_output
from stability.representations.band_choice import banded_cost
from stability.representations.banded import BandedCKN
from stability.representations.ckn import CKN
from stability.representations.gram import GramCKN
from stability.representations.maps import low_passed
from stability.representations.pair_cost import Cost, exact_cost, finite_cost

SMALLEST, LARGEST = 16, 1024
"""First-layer anchors of the finite networks that are tried; every layer has twice those of the one below."""
MEGABYTE = 1e6
CHOSEN = "chosen"
Network = GramCKN | BandedCKN | CKN


@dataclass(frozen=True)
class _Candidate:
    """A network that is not made yet."""

    name: str
    cost: Cost
    built: Callable[[], tuple[Network, float]]
    """The network and its error over ||x||; ``ValueError`` if there is none."""
    finite: bool = False


@dataclass(frozen=True)
class CKNOption:
    """A network that was considered: what it costs, how far its distances may be off, and what became of it."""

    name: str
    seconds: float
    """Of one more deformed image on one core, counted."""
    memory: float
    """In MB, counted."""
    error: float
    """At most |distance - exact distance| / ||x|| between any two of the images; NaN: not computed."""
    verdict: str

    def __str__(self) -> str:
        shown = "" if math.isnan(self.error) else f", error {self.error:.1e}"
        return f"{self.name}: {1e3 * self.seconds:.3g} ms, {self.memory:.3g} MB{shown}: {self.verdict}"


@dataclass(frozen=True)
class CKNRecommendation:
    """The network that was chosen, and every one that was considered, from the cheapest to the dearest."""

    representation: Network
    chosen: CKNOption
    considered: tuple[CKNOption, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.considered))


def recommend_ckn(
    architecture: Architecture,
    images: Tensor,
    *,
    accuracy: float,
    memory: float,
    generator: torch.Generator,
    seconds: float | None = None,
    filters: Sequence[Sequence[int]] | None = None,
) -> CKNRecommendation:
    r"""The cheapest of ``GramCKN``, ``BandedCKN``, ``CKN``s with |d^ - d| <= accuracy ||x|| between any two images.

    Another network's distance d^ = ||Phi^(x) - Phi^(y)|| and the exact d = ||Phi(x) - Phi(y)|| differ by at most
    ||Phi^(x) - Phi(x)|| + ||Phi^(y) - Phi(y)||, each at most its ``approximation_error``, which is proved; the exact
    network errs by nothing (round-off: ``Reference.floor``). Truncated poolings (``BandedCKN``) are considered on the
    torus where their band of pairs pays, with the largest tolerance that the accuracy allows. Networks are taken from
    the cheapest to the dearest, by counted seconds; finite ones are fitted to the images by k-means, and the first
    within all limits is it.

    The error holds for these images: for others, ask the network's ``approximation_error``. Distances of small
    deformations are small: with 1 % of ||x|| as the accuracy a distance of 1 % means nothing.

    Args:
        architecture: the network.
        images: ``(B, C, *size)``, those that will be compared, deformed ones included.
        accuracy: >= 0, relative to ||x||; 0: exact.
        memory: MB that a network may hold, > 0.
        generator: source of randomness of the anchors.
        seconds: at most so many for one more deformed image on one core, > 0; None: no limit.
        filters: numbers of anchors of the finite networks to try; None: 16, 32, ..., 1024 in layer 1, doubled in every
            layer above.

    Returns:
        The network with its certified error, counted seconds and memory, and the same of all others.

    Raises:
        ValueError: for limits out of range, or if nothing is within them (the message has every network).

    Reference: Zhang, Tsang & Kwok 2008 (projections on anchors); Bietti & Mairal 2019, section 2.3.

    >>> from stability.images import load
    >>> x, rng = load("fashion", count=2, size=(28, 28)), torch.Generator().manual_seed(0)
    >>> found = recommend_ckn(Architecture.dyadic(depth=2), x, accuracy=1e-3, memory=100.0, generator=rng)
    >>> type(found.representation).__name__, found.chosen.error
    ('GramCKN', 0.0)
    """
    for chain in filters or ():
        if not isinstance(chain, Sequence):
            raise ValueError(f"filters must be one sequence of integers a network, got {filters}; use [(16, 32)]")
    chains = [tuple(chain) for chain in filters] if filters is not None else _chains(architecture.depth)
    _check(accuracy, memory, seconds, chains, architecture.depth)
    size = spatial_size(check_images(images))
    architecture.check_size(size)
    images = images.detach().double()
    channels = front_end_output(architecture, images[:1], len(size), 1).shape[1]
    candidates = [
        _Candidate("exact", exact_cost(architecture, channels, size), lambda: (GramCKN(architecture), 0.0)),
        *_banded(architecture, images, channels, accuracy),
        *(_finite(architecture, images, channels, chain, generator) for chain in chains),
    ]
    considered: list[CKNOption] = []
    found: tuple[Network, CKNOption] | None = None
    for candidate in sorted(candidates, key=lambda one: one.cost.seconds):
        verdict, error = _outside(candidate, accuracy, memory, seconds), math.nan
        network: Network | None = None
        if found is not None:
            verdict = "dearer"
        elif not verdict:
            try:
                network, error = candidate.built()
                verdict = CHOSEN if error <= accuracy else "not accurate enough"
            except ValueError as refusal:
                verdict = f"cannot be fitted ({refusal})"
        cost = candidate.cost
        considered.append(CKNOption(candidate.name, cost.seconds, cost.memory / MEGABYTE, error, verdict))
        if network is not None and verdict == CHOSEN:
            found = network, considered[-1]
    if found is None:
        listed = "; ".join(map(str, considered))
        raise ValueError(
            f"accuracy, memory and seconds must be met by a network, got {accuracy:g}, {memory:g} MB, {seconds} s and "
            f"{listed}; allow more of one, or subsample earlier"
        )
    return CKNRecommendation(*found, tuple(considered))


def _check(
    accuracy: float, memory: float, seconds: float | None, chains: Sequence[tuple[int, ...]], depth: int
) -> None:
    """Limits in their range."""
    if isinstance(accuracy, bool) or not isinstance(accuracy, int | float) or not 0 <= accuracy < math.inf:
        raise ValueError(f"accuracy must be finite and >= 0, got {accuracy!r}; 0.01 is one percent of ||x||")
    for name, value in (("memory", memory), ("seconds", seconds)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value > 0):
            raise ValueError(f"{name} must be > 0, got {value!r}; use for example {name}=1000.0")
    for chain in chains:
        whole = all(isinstance(count, int) and not isinstance(count, bool) and count > 0 for count in chain)
        if len(chain) != depth or not whole:
            raise ValueError(f"filters must be {depth} positive integers a network, got {chain}; leave them out")


def _chains(depth: int) -> list[tuple[int, ...]]:
    """(16, 32, ...), (32, 64, ...), ..., (1024, 2048, ...)."""
    count = round(math.log2(LARGEST / SMALLEST)) + 1
    return [tuple(SMALLEST * 2 ** (j + k) for k in range(depth)) for j in range(count)]


def _outside(candidate: _Candidate, accuracy: float, memory: float, seconds: float | None) -> str:
    """Which limit a network breaks before it is made; empty: none."""
    if candidate.cost.memory > memory * MEGABYTE:
        return "too much memory"
    if seconds is not None and candidate.cost.seconds > seconds:
        return "too slow"
    return "not exact" if candidate.finite and accuracy == 0 else ""


def _finite(
    architecture: Architecture, images: Tensor, channels: int, chain: tuple[int, ...], generator: torch.Generator
) -> _Candidate:
    """The network with so many anchors in its layers."""

    def built() -> tuple[Network, float]:
        network = CKN.fit(architecture, images, filters=chain, generator=generator)
        return network, _error(network, images)

    cost = finite_cost(architecture, channels, spatial_size(images), chain)
    return _Candidate(f"finite, {chain} anchors", cost, built, finite=True)


def _banded(architecture: Architecture, images: Tensor, channels: int, accuracy: float) -> list[_Candidate]:
    """The network with truncated poolings that is as accurate as asked for, if its band pays."""
    if accuracy == 0 or not isinstance(architecture.boundary, Periodic):
        return []
    norms, smooth = images.flatten(1).norm(dim=1), low_passed(architecture, images, 1).flatten(1).norm(dim=1)
    most = float(torch.where(norms > 0, norms / (smooth + smooth.max()), math.inf).min())  # of two images' errors
    tolerance = min(0.5, 0.999 * accuracy * most)
    if not tolerance > 0:
        return []
    network, size = BandedCKN(architecture, tolerance), spatial_size(images)
    truncation = network.choice(size).truncation
    if truncation is None:
        return []
    name, cost = (
        f"truncated poolings, tolerance {tolerance:.1e}",
        banded_cost(architecture, channels, size, truncation.radii),
    )
    return [_Candidate(name, cost, lambda: (network, _error(network, images)))]


def _error(network: CKN | BandedCKN, images: Tensor) -> float:
    """The largest (||Phi^(x) - Phi(x)|| + ||Phi^(y) - Phi(y)||) / ||x|| of two images."""
    errors, norms = network.approximation_error(images), images.flatten(1).norm(dim=1)
    both = errors + errors.max()
    return float(torch.where(norms > 0, both / norms, torch.where(both > 0, math.inf, 0.0)).max())
