"""The claims behind ``control``: norms met over the continuum, by a measurement that shares no code with it.

Random fields of every family with a knob for the ratio of the two norms (sizes 24 to 64, square or not, d = 1 or 2)
and random feasible targets: both norms at once by the knob (most requests), both by an added constant, or one alone.
Each controlled field is measured on a grid with at least 64 nodes per shortest wavelength, followed by zooming into its
largest nodes. Run it with

    python benchmarks/claims.py control --requests 10000 --jobs 2 --out claims

The requests are cut into shards; each has a seed of its own and is a file in the folder ``claims`` as soon as it is
done. The same command goes on where an interrupted one stopped; the report of all shards is ``claims/report.txt``.
"""

import argparse
import itertools
import json
import math
import multiprocessing
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import stability as st
from stability.deformations.base import Deformation
from stability.deformations.control import SHORTFALL, ShortfallWarning, control, reachable

NODES_PER_WAVELENGTH = 64
ZOOMS = 14
STARTS = 12
SLACK = 1e-12
FIELDS = 5
_CHUNK = 16_384


@dataclass(frozen=True)
class Outcome:
    """One request: targets (None: left free), independently measured norms, the toolkit's own values, the mean."""

    family: str
    d: int
    targets: tuple[float | None, float | None]
    measured: tuple[float, float]
    lower: tuple[float, float]
    upper: tuple[float, float]
    mean: tuple[float, ...]
    direction: tuple[float, ...] | None
    warned: bool

    @property
    def excess(self) -> float:
        """Largest measured norm / target - 1; at most 0 if the claim holds."""
        return max(m / t - 1 for m, t in zip(self.measured, self.targets, strict=True) if t is not None)

    @property
    def shortfall(self) -> float:
        """Largest 1 - measured norm / target."""
        return max(1 - m / t for m, t in zip(self.measured, self.targets, strict=True) if t is not None)

    @property
    def certified(self) -> float:
        """Largest certified / seen."""
        return max(u / low for u, low in zip(self.upper, self.lower, strict=True) if low > 0)

    @property
    def certificate_holds(self) -> bool:
        """No measured value is above the certified upper value."""
        return all(m <= u * (1 + SLACK) for m, u in zip(self.measured, self.upper, strict=True))


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


def measure(fields: Deformation, waves: float) -> Tensor:
    """sup |tau| and sup ||grad tau||_2: a dense grid, then zooming by 2 around its largest local maxima.

    Args:
        fields: batch shape ``(n,)``.
        waves: shortest wavelengths per shorter side.

    Returns:
        Tensor ``(n, 2)``.
    """
    size, edge = fields.size, getattr(fields.domain, "edge", 0.0)
    counts = [math.ceil(NODES_PER_WAVELENGTH * waves * side / min(size)) for side in size]
    axes = [
        (torch.arange(n, dtype=torch.float64) + 0.5) * (side / n) - edge for n, side in zip(counts, size, strict=True)
    ]
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


@dataclass(frozen=True)
class Family:
    """How a family is drawn for the claims, and its shortest wavelength.

    Args:
        draw: ``draw(size, count, parameter, rng)``, mean-free fields.
        waves: ``waves(side, parameter)``: shortest wavelengths per shorter side.
        parameters: values of the parameter to choose from.
        weight: how often it is drawn, relative to the others.
        dimensions: 1, 2 or both.
    """

    draw: Callable[[tuple[int, ...], int, int, torch.Generator], Deformation]
    waves: Callable[[int, int], float]
    parameters: tuple[int, ...]
    weight: int = 2
    dimensions: tuple[int, ...] = (1, 2)


def _cutoff(cls: Any) -> Callable[[tuple[int, ...], int, int, torch.Generator], Deformation]:
    return lambda size, count, cutoff, rng: cls.sample(size, cutoff=cutoff, batch_shape=(count,), generator=rng)


FAMILIES = {
    "fourier": Family(_cutoff(st.FourierField), lambda side, cutoff: cutoff, (2, 3, 4, 5), 6),
    "gradient": Family(_cutoff(st.GradientField), lambda side, cutoff: cutoff, (2, 3, 4)),
    "divergence_free": Family(_cutoff(st.DivergenceFreeField), lambda side, cutoff: cutoff, (2, 3, 4), 2, (2,)),
    "gaussian": Family(  # the amplitude at four times 1 / sigma is 3e-4
        lambda size, count, sigma, rng: st.GaussianField.sample(
            size, smoothing=float(sigma), batch_shape=(count,), generator=rng
        ).without_mean(),
        lambda side, sigma: 4 * side / (2 * math.pi * sigma),
        (4, 5, 6), 1,
    ),
    "max_entropy": Family(
        lambda size, count, cutoff, rng: st.MaxEntropyField.sample(
            size, cutoff=cutoff, typical_displacement=1.0, batch_shape=(count,), generator=rng
        ),
        lambda side, cutoff: cutoff / 2,
        (2, 3, 5),
    ),
    "spline": Family(
        lambda size, count, lattice, rng: st.SplineField.sample(
            size, lattice=lattice, batch_shape=(count,), generator=rng
        ),
        lambda side, lattice: lattice / 2,
        (4, 6, 8),
    ),
    "piecewise_linear": Family(  # 16 nodes per cell
        lambda size, count, cutoff, rng: st.PiecewiseLinearField.sample(
            size, cutoff=cutoff, lattice=16, batch_shape=(count,), generator=rng
        ).without_mean(),
        lambda side, cutoff: 4,
        (2, 3, 4),
    ),
    "bump": Family(
        lambda size, count, share, rng: st.BumpField.sample(size, batch_shape=(count,), generator=rng),
        lambda side, share: 4,
        (1,), 1,
    ),
    "local_affine": Family(
        lambda size, count, share, rng: st.LocalAffineField.sample(size, batch_shape=(count,), generator=rng),
        lambda side, share: 4,
        (1,), 1,
    ),
    "compact": Family(_cutoff(st.CompactField), lambda side, cutoff: cutoff + 2, (2, 3), 1),
    "flow": Family(_cutoff(st.FlowField), lambda side, cutoff: 2 * cutoff, (2,), 1, (1, 1, 1, 2)),
}  # fmt: skip


def requests(count: int, seed: int, families: Sequence[str] = tuple(FAMILIES), *, before: int = 0) -> Iterator[Outcome]:
    """Draw ``count`` feasible requests, ``FIELDS`` at a time, control them and measure the results.

    Args:
        count: how many.
        seed: of what is drawn.
        families: which take turns.
        before: number of requests before these; says whose turn it is.
    """
    rng = torch.Generator().manual_seed(seed)

    def integer(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=rng))

    names = [name for name in families for _ in range(FAMILIES[name].weight)]
    for start in range(0, count, FIELDS):
        name, fields = names[(before + start) // FIELDS % len(names)], min(FIELDS, count - start)
        family = FAMILIES[name]
        d = family.dimensions[integer(0, len(family.dimensions) - 1)]
        parameter = family.parameters[integer(0, len(family.parameters) - 1)]
        side = integer(24, 64)
        size = (side,) if d == 1 else (side, side if integer(0, 1) else integer(24, 64))
        field = family.draw(size, fields, parameter, rng)
        displacement = 0.1 + 3.9 * torch.rand(fields, generator=rng, dtype=torch.float64)
        place = torch.rand(fields, generator=rng, dtype=torch.float64)
        mode = integer(0, 9)
        direction = torch.randn(d, generator=rng, dtype=torch.float64) if name == "fourier" and mode < 3 else None
        wanted: dict[str, Tensor]
        if name == "flow":
            jacobian = 0.1 + 1.2 * place
            wanted = {"jacobian_norm": jacobian} if mode < 5 else both_norms_of_a_flow(field, jacobian)
        elif direction is None and mode == 9:
            wanted = {"displacement_norm": displacement}
        else:
            if direction is not None:
                norms = field.norms()
                ratio = place * norms.jacobian.lower / norms.displacement.lower * (1 - 1e-9)
            else:
                low, high = reachable(field)
                ratio = low + place * (high - low) if integer(0, 1) else low * (high / low) ** place
            wanted = {"displacement_norm": displacement, "jacobian_norm": ratio * displacement}
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", ShortfallWarning)
            found = control(field, **wanted, shift=direction)
        norms, measured = found.norms(), measure(found, family.waves(min(size), parameter))
        asked = (wanted.get("displacement_norm"), wanted.get("jacobian_norm"))
        for i in range(fields):
            first, second = (None if target is None else float(target[i]) for target in asked)
            yield Outcome(
                name,
                d,
                (first, second),
                (float(measured[i, 0]), float(measured[i, 1])),
                (float(norms.displacement.lower[i]), float(norms.jacobian.lower[i])),
                (float(norms.displacement.upper[i]), float(norms.jacobian.upper[i])),
                tuple(found.mean[i].tolist()),
                None if direction is None else tuple((direction / direction.norm()).tolist()),
                bool(told),
            )


def both_norms_of_a_flow(field: Deformation, jacobian: Tensor) -> dict[str, Tensor]:
    """A pair that a flow has: the norms of the same velocity, tilted and scaled, which ``control`` does not know."""
    alone = control(field, jacobian_norm=jacobian).norms()
    return {"displacement_norm": alone.displacement.lower, "jacobian_norm": jacobian}


def report(outcomes: list[Outcome], seconds: float) -> str:
    """The claims, and one line per family."""
    short = [o for o in outcomes if o.shortfall > SHORTFALL]
    lines = [
        f"{len(outcomes)} requests, {seconds:.0f} s of one thread, measurement included",
        f"  norms above a target                        {sum(o.excess > SLACK for o in outcomes)}",
        f"  more than 1e-3 below without a warning      {sum(not o.warned for o in short)}",
        f"  more than 1e-3 below, with a warning        {sum(o.warned for o in short)}",
        f"  measured above certified                    {sum(not o.certificate_holds for o in outcomes)}",
        f"  certified / seen, median and largest        {quantiles(outcomes)}",
        "",
        f"  {'family':<18} {'requests':>8} {'worst excess':>13} {'worst shortfall':>16}   certified / seen, 50, 100 %",
    ]
    for name in FAMILIES:
        own = [o for o in outcomes if o.family == name]
        if own:
            excess, shortfall = max(o.excess for o in own), max(o.shortfall for o in own)
            lines.append(f"  {name:<18} {len(own):>8} {excess:>13.1e} {shortfall:>16.1e}   {quantiles(own)}")
    return "\n".join(lines)


def quantiles(outcomes: list[Outcome]) -> str:
    """Median and largest certified / seen."""
    values = sorted(o.certified for o in outcomes)
    return f"{values[len(values) // 2]:.6f} {values[-1]:.6f}"


@dataclass(frozen=True)
class Task:
    """All requests of a run.

    Args:
        requests: how many.
        seed: of the run; shard k has the seed (seed, k), as one number.
        families: which take turns.
        shard: requests per shard.
    """

    requests: int
    seed: int
    families: tuple[str, ...] = tuple(FAMILIES)
    shard: int = 100

    @property
    def shards(self) -> range:
        """Their numbers k."""
        return range(math.ceil(self.requests / self.shard))

    def outcomes(self, k: int) -> list[Outcome]:
        """Those of shard k."""
        first = k * self.shard
        count = min(self.shard, self.requests - first)
        return list(requests(count, self.seed * 1_000_003 + k, self.families, before=first))


def finish(task: Task, k: int, folder: Path) -> Path:
    """The file of shard k, made unless it is there."""
    path = folder / f"shard-{k:05d}.json"
    if not path.exists():
        torch.set_num_threads(1)
        begin = time.perf_counter()
        outcomes = [asdict(outcome) for outcome in task.outcomes(k)]
        part = path.with_suffix(".part")
        text = json.dumps({"seconds": time.perf_counter() - begin, "outcomes": outcomes})
        part.write_text(text, encoding="utf-8")
        part.replace(path)  # all of it or nothing
    return path


def run(task: Task, folder: Path, jobs: int) -> str:
    """The report of a task, whose shards are in the folder or are made by ``jobs`` processes of one thread each.

    Raises:
        ValueError: if the folder holds shards of another task.
    """
    folder.mkdir(parents=True, exist_ok=True)
    told, text = folder / "task.json", json.dumps(asdict(task))
    if told.exists() and told.read_text(encoding="utf-8") != text:
        raise ValueError(f"out must be the folder of the same task, got {folder} of {told.read_text()}; use another")
    told.write_text(text, encoding="utf-8")
    begin, paths = time.perf_counter(), []
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for future in as_completed([pool.submit(finish, task, k, folder) for k in task.shards]):
            paths.append(future.result())
            seconds = time.perf_counter() - begin
            print(f"shard {len(paths)} of {len(task.shards)}, {seconds:.0f} s", flush=True)
    parts = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(paths)]
    outcomes = [Outcome(**outcome) for part in parts for outcome in part["outcomes"]]
    table = report(outcomes, sum(part["seconds"] for part in parts))
    (folder / "report.txt").write_text(table + "\n", encoding="utf-8")
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the requests and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--families", nargs="+", choices=tuple(FAMILIES), default=tuple(FAMILIES))
    parser.add_argument("--jobs", type=int, default=1, help="processes, one thread each")
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards and the report")
    given = parser.parse_args(arguments)
    print(run(Task(given.requests, given.seed, tuple(given.families)), given.out, given.jobs))


if __name__ == "__main__":
    main()
