"""Spherical k-means: unit anchors for a Nyström kernel map."""

import torch
from torch import Tensor

ITERATIONS = 50
TOLERANCE = 1e-4
CHUNK = 2**12
"""Points compared with all anchors at a time: their cosines stay in the cache until the largest is found."""
DRAFT = 2**14
"""Points on which k-means starts and first settles, when there are more."""


def spherical_kmeans(
    points: Tensor,
    count: int,
    *,
    generator: torch.Generator,
    iterations: int = ITERATIONS,
    tolerance: float = TOLERANCE,
) -> Tensor:
    """Unit vectors z_1 ... z_m that locally maximise sum_i max_j <x_i, z_j>.

    Started by k-means++ (each next anchor is drawn with probability proportional to 1 - max_j <x, z_j>); a cluster
    that runs empty is started again at the point that is worst represented. Of more than 2^14 points a random 2^14
    give the start and a first solution, from which few passes over all of them are left to be made.

    Args:
        points: ``(N, p)``, unit rows.
        count: m, between 1 and N.
        generator: source of randomness.
        iterations: passes at most, >= 1.
        tolerance: stop when a pass raises the mean cosine by less than this share of it.

    Returns:
        Tensor ``(m, p)`` with unit rows, in the points' dtype.

    Raises:
        ValueError: if there are fewer points than anchors.

    Reference: Hornik, Feinerer, Kober & Buchta 2012; Arthur & Vassilvitskii 2007 for the start.

    >>> points = torch.eye(3, dtype=torch.float64).repeat(5, 1)
    >>> anchors = spherical_kmeans(points, 3, generator=torch.Generator().manual_seed(0))
    >>> torch.allclose(anchors.sum(0), torch.ones(3, dtype=torch.float64))
    True
    """
    if not 1 <= count <= len(points):
        raise ValueError(
            f"the number of filters must be between 1 and the number of training patches {len(points)}, got {count}; "
            "give more images or ask for fewer filters"
        )
    if len(points) <= max(DRAFT, 4 * count):
        return _settle(points, _start(points, count, generator), iterations, tolerance)
    chosen = torch.randperm(len(points), generator=generator, device=generator.device)[: max(DRAFT, 4 * count)]
    draft = points[chosen.to(points.device)]
    return _settle(
        points, _settle(draft, _start(draft, count, generator), iterations, tolerance), iterations, tolerance
    )


def _settle(points: Tensor, anchors: Tensor, iterations: int, tolerance: float) -> Tensor:
    """Lloyd's iterations: assign, average, scale to unit length."""
    before = -float("inf")
    for _ in range(iterations):
        similarity, nearest = _assign(points, anchors)
        sums = torch.zeros_like(anchors).index_add_(0, nearest, points)
        sizes = torch.bincount(nearest, minlength=len(anchors))
        empty = torch.nonzero(sizes == 0).flatten().tolist()
        if empty:
            sums[empty] = points[similarity.argsort()[: len(empty)]]
        anchors = sums / sums.norm(dim=1, keepdim=True).clamp_min(torch.finfo(points.dtype).tiny)
        value = float(similarity.mean())
        if value - before <= tolerance * abs(value):
            break
        before = value
    return anchors


def _start(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    def draw(weights: Tensor) -> int:
        return int(torch.multinomial(weights.to(generator.device), 1, generator=generator))

    chosen = [draw(torch.ones(len(points), dtype=points.dtype))]
    similarity = points @ points[chosen[0]]
    while len(chosen) < count:
        far = (1.0 - similarity).clamp_min(0.0)
        far[chosen] = 0.0
        if float(far.sum()) <= 0.0:  # only copies of the anchors are left
            far = torch.ones_like(far)
            far[chosen] = 0.0
        chosen.append(draw(far))
        similarity = torch.maximum(similarity, points @ points[chosen[-1]])
    return points[chosen]


def _assign(points: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine of each point with its nearest anchor, and which one that is."""
    best = [(part @ anchors.T).max(dim=1) for part in points.split(CHUNK)]
    return torch.cat([part.values for part in best]), torch.cat([part.indices for part in best])
