"""The claim behind ``control``: both norms met over the continuum, by a measurement that shares no code with it.

Random fields (sizes 24 to 64, square or not, d = 1 or 2, cutoffs 2 to 6) and random targets inside ``reachable`` (or,
in shift mode, below the largest Jacobian norm). Each controlled field is measured on a grid with at least 64 nodes per
shortest wavelength, followed by zooming into its largest nodes. Run it with

    python benchmarks/claims.py --requests 1000 --out claims.txt
"""

import argparse
import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from stability.deformations.base import Deformation
from stability.deformations.control import control, reachable
from stability.deformations.fourier import FourierField

NODES_PER_WAVELENGTH = 64
ZOOMS = 14
STARTS = 12
SLACK = 1e-12
FIELDS = 5
_CHUNK = 16_384


@dataclass(frozen=True)
class Outcome:
    """One request: targets, independently measured norms, the toolkit's own values, the mean and its direction."""

    d: int
    cutoff: int
    targets: tuple[float, float]
    measured: tuple[float, float]
    lower: tuple[float, float]
    upper: tuple[float, float]
    mean: tuple[float, ...]
    direction: tuple[float, ...] | None

    @property
    def excess(self) -> float:
        """Largest measured norm / target - 1; at most 0 if the claim holds."""
        return max(m / t - 1 for m, t in zip(self.measured, self.targets, strict=True))

    @property
    def shortfall(self) -> float:
        """Largest 1 - measured norm / target."""
        return max(1 - m / t for m, t in zip(self.measured, self.targets, strict=True))

    @property
    def certified(self) -> float:
        """Largest certified upper value / target."""
        return max(u / t for u, t in zip(self.upper, self.targets, strict=True))

    @property
    def certificate_holds(self) -> bool:
        """No measured value is above the certified upper value."""
        return all(m <= u for m, u in zip(self.measured, self.upper, strict=True))


def singular_value(matrix: Tensor) -> Tensor:
    """Largest singular value of ``(..., d, d)`` from the eigenvalues of J'J; returns ``(...)``."""
    if matrix.shape[-1] == 1:
        return matrix[..., 0, 0].abs()
    (a, b), (c, d) = (row.unbind(-1) for row in matrix.unbind(-2))
    trace = matrix.square().sum((-2, -1))
    discriminant = ((a + d) ** 2 + (b - c) ** 2) * (
        (a - d) ** 2 + (b + c) ** 2
    )  # trace^2 - 4 det^2, without cancelling
    return ((trace + discriminant.sqrt()) / 2).sqrt()


def lengths(field: Deformation, points: Tensor) -> tuple[Tensor, Tensor]:
    """|tau| and ||grad tau||_2 at points ``(..., d)``; returns ``(*batch_shape, ...)`` each."""
    return field.displacement(points).norm(dim=-1), singular_value(field.jacobian(points))


def measure(fields: Deformation, cutoff: float) -> Tensor:
    """sup |tau| and sup ||grad tau||_2: a dense grid, then zooming by 2 around its largest local maxima.

    Args:
        fields: batch shape ``(n,)``.
        cutoff: cycles per shorter side of the shortest wave.

    Returns:
        Tensor ``(n, 2)``.
    """
    size = fields.size
    counts = [math.ceil(NODES_PER_WAVELENGTH * cutoff * side / min(size)) for side in size]
    axes = [torch.arange(n, dtype=torch.float64) * (side / n) for n, side in zip(counts, size, strict=True)]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1).reshape(-1, len(size))
    spacing = max(side / n for n, side in zip(counts, size, strict=True))
    seen = [torch.cat(parts, dim=-1) for parts in zip(*(lengths(fields, p) for p in points.split(_CHUNK)), strict=True)]
    suprema = [
        [zoomed(fields[i], which, points, values[i].reshape(counts), spacing) for which, values in enumerate(seen)]
        for i in range(len(fields.mean))
    ]
    return torch.tensor(suprema, dtype=torch.float64)


def zoomed(field: Deformation, which: int, points: Tensor, values: Tensor, step: float) -> float:
    """The largest length of ONE field (``which`` of ``lengths``) after zooming into the grid's best local maxima."""
    d = points.shape[-1]
    around = values
    for axis in range(values.ndim):
        around = torch.stack([around.roll(shift, axis) for shift in (-1, 0, 1)]).amax(0)
    tops = torch.where(values >= around, values, 0.0).flatten()
    centres, best = points[tops.topk(min(STARTS, len(tops))).indices], float(values.max())
    zoom = torch.tensor(list(itertools.product((-1.0, -0.5, 0.0, 0.5, 1.0), repeat=d)), dtype=torch.float64)
    for _ in range(ZOOMS):
        near = centres[:, None] + step * zoom
        found = lengths(field, near)[which]
        centres = near[torch.arange(len(near)), found.argmax(1)]
        best, step = max(best, float(found.max())), step / 2
    return best


def requests(count: int, seed: int, *, shift_mode: bool = False) -> Iterator[Outcome]:
    """Draw ``count`` feasible requests, ``FIELDS`` at a time, control them and measure the results."""
    rng = torch.Generator().manual_seed(seed)

    def integer(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=rng))

    for start in range(0, count, FIELDS):
        fields = min(FIELDS, count - start)
        d, cutoff = 2 if integer(0, 3) else 1, integer(2, 6)
        side = integer(24, 64)
        size = (side,) if d == 1 else (side, side if integer(0, 1) else integer(24, 64))
        field = FourierField.sample(size, cutoff=cutoff, batch_shape=(fields,), generator=rng)
        displacement = 0.1 + 3.9 * torch.rand(fields, generator=rng, dtype=torch.float64)
        place = torch.rand(fields, generator=rng, dtype=torch.float64)
        direction = torch.randn(d, generator=rng, dtype=torch.float64) if shift_mode else None
        if shift_mode:
            norms = field.norms()
            ratio = place * norms.jacobian.lower / norms.displacement.lower * (1 - 1e-9)
        else:
            low, high = reachable(field)
            ratio = low + place * (high - low) if integer(0, 1) else low * (high / low) ** place
        jacobian = ratio * displacement
        found = control(field, displacement_norm=displacement, jacobian_norm=jacobian, shift=direction)
        norms, measured = found.norms(), measure(found, cutoff)
        for i in range(fields):
            yield Outcome(
                d,
                cutoff,
                (float(displacement[i]), float(jacobian[i])),
                (float(measured[i, 0]), float(measured[i, 1])),
                (float(norms.displacement.lower[i]), float(norms.jacobian.lower[i])),
                (float(norms.displacement.upper[i]), float(norms.jacobian.upper[i])),
                tuple(found.mean[i].tolist()),
                None if direction is None else tuple((direction / direction.norm()).tolist()),
            )


def report(outcomes: list[Outcome], seconds: float, title: str) -> str:
    """A small table of the claim."""
    quantiles = torch.tensor([0.5, 0.95, 0.99, 1.0], dtype=torch.float64)
    certified = torch.tensor([outcome.certified for outcome in outcomes], dtype=torch.float64).quantile(quantiles)
    close = sum(outcome.shortfall <= 1e-4 for outcome in outcomes) / len(outcomes)
    rows = [
        ("requests", f"{len(outcomes)}"),
        ("both norms within 1e-4 below", f"{100 * close:.1f} %"),
        ("within 1e-5 below", f"{100 * sum(o.shortfall <= 1e-5 for o in outcomes) / len(outcomes):.1f} %"),
        ("worst shortfall", f"{max(o.shortfall for o in outcomes):.1e}"),
        ("worst excess over a target", f"{max(o.excess for o in outcomes):.1e}"),
        ("norms above a target", f"{sum(o.excess > SLACK for o in outcomes)}"),
        ("measured above certified", f"{sum(not o.certificate_holds for o in outcomes)}"),
        ("certified / target, 50 95 99 100 %", " ".join(f"{float(value):.6f}" for value in certified)),
        ("seconds, measurement included", f"{seconds:.0f}"),
    ]
    return "\n".join([title, *(f"  {name:<36} {value}" for name, value in rows)])


def main() -> None:
    """Run both modes and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    tables = []
    for shift_mode, title in ((False, "two norms, spectrum tilted"), (True, "two norms, constant added")):
        begin = time.perf_counter()
        outcomes = list(requests(arguments.requests, arguments.seed, shift_mode=shift_mode))
        tables.append(report(outcomes, time.perf_counter() - begin, title))
        print(tables[-1], flush=True)
    if arguments.out is not None:
        arguments.out.write_text("\n".join(tables) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
