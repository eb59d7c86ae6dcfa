"""The claims behind ``ladder``: with exact warps no observed distance is above any rung by more than allowed.

Random images on the torus, fields of every family, scales, patches, strides, depths 1 to 3, d = 1 or 2, and kernels. Of
every draw the ratios rung / observed are kept, and the share of the allowances in the observed distance. Run it with

    python benchmarks/claims.py ladders --draws 2000 --jobs 2 --out ladder_claims.txt

Certificates of a field take most of the time; they are evaluated in every tenth draw. The grids are coarse, so that
sampling and the torus are felt: pooling over 8 pixels of 12 leaves next to nothing of a field, and what it leaves is
not far above what the grid adds. With ``--finer`` the same laws are drawn on grids twice as fine; with ``--resolved``
only those draws are, of which the allowances are above 2 per cent, and again on finer and finer grids: up to 16 times
as fine in one dimension, 4 times in two (``--device cuda``: 8 times, which takes some 35 GB; ``--only`` names draws).
"""

import argparse
import math
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

import stability as st
from stability.deformations.base import Deformation
from stability.files import replacing
from stability.ladders import Ladder

KERNELS = (
    st.kernels.Exponential(1.0),
    st.kernels.Exponential(2.37),
    st.kernels.InversePolynomial(),
    st.kernels.Polynomial(3, 2.0),
    st.kernels.ArcCosine(1),
    st.kernels.Linear(),
)
Sizes = dict[int, tuple[tuple[int, ...], ...]]
SIZES: Sizes = {1: ((24,), (32,), (48,)), 2: ((12, 12), (12, 16), (16, 16))}
FACTORS = (1, 2, 4, 8, 16)
"""How fine grids are, in units of those drawn."""
WORDS = ("the grid drawn", "twice as fine", "four times as fine", "eight times as fine", "16 times as fine")
MOST = {"cpu": {1: 16, 2: 4}, "cuda": {1: 16, 2: 8}}
"""By dimension."""
CERTIFIED_EVERY = 10
"""Draws of which one has certificates."""
CHEAP, SMALL = 1e-9, 1e-5
"""Observed distances below these shares of ||x||: round-off, left out of ratios; within a few digits of round-off."""
ALLOWED = 0.02
"""What the allowances may be of the observed distance."""


def _cutoff(family: Any) -> Callable[[tuple[int, ...], torch.Generator], Deformation]:
    def draw(size: tuple[int, ...], rng: torch.Generator) -> Deformation:
        field: Deformation = family.sample(size, cutoff=2, generator=rng)
        return field

    return draw


def _translation(size: tuple[int, ...], rng: torch.Generator) -> Deformation:
    return st.Translation(torch.randn(len(size), generator=rng, dtype=torch.float64), size)


FAMILIES: dict[str, Callable[[tuple[int, ...], torch.Generator], Deformation]] = {
    "translation": _translation,
    "fourier": _cutoff(st.FourierField),
    "gradient": _cutoff(st.GradientField),
    "divergence_free": _cutoff(st.DivergenceFreeField),
    "gaussian": lambda size, rng: st.GaussianField.sample(size, smoothing=2.5, generator=rng),
    "max_entropy": lambda size, rng: st.MaxEntropyField.sample(
        size, cutoff=3, typical_displacement=1.0, edge=0.5, generator=rng
    ),
    "spline": lambda size, rng: st.SplineField.sample(size, lattice=5, generator=rng),
    "piecewise_linear": lambda size, rng: st.PiecewiseLinearField.sample(size, cutoff=2, generator=rng),
    "bump": lambda size, rng: st.BumpField.sample(size, generator=rng),
    "local_affine": lambda size, rng: st.LocalAffineField.sample(size, generator=rng),
    "compact": _cutoff(st.CompactField),
    "mixed": lambda size, rng: st.MixedField.sample(size, displacement_norm=1.0, jacobian_norm=0.5, generator=rng),
    "saturated": lambda size, rng: st.PiecewiseLinearField.saturated(
        size, displacement_norm=1.0, jacobian_norm=0.5, generator=rng
    ),
    "flow": _cutoff(st.FlowField),
    "fourier and translation": lambda size, rng: _cutoff(st.FourierField)(size, rng) + _translation(size, rng),
}
"""Those of the torus, or that vanish at the border."""


@dataclass(frozen=True)
class Outcome:
    """One draw.

    Args:
        family: of the field.
        d: 1 or 2.
        verdict: of the ladder.
        ratios: rung / observed by name.
        allowed: allowances / observed, of the theorems.
        observed: in units of ||x||.
    """

    family: str
    d: int
    verdict: str
    ratios: dict[str, float]
    allowed: float
    observed: float


def draw(seed: int, sizes: Sizes = SIZES) -> tuple[str, st.Representation, torch.Tensor, Deformation]:
    """Family, network, image and field of one draw."""
    rng = torch.Generator().manual_seed(seed)

    def chosen(options: Sequence[Any]) -> Any:
        return options[int(torch.randint(len(options), (), generator=rng))]

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=rng))

    d = chosen((1, 2))
    size, depth = chosen(sizes[d]), chosen((1, 2, 3))
    stride = chosen((1, 1, 2))
    layers = tuple(
        st.Layer(
            chosen((1, 2, 3)), uniform(1.0, 4.0) * (stride if k == 0 else 1), stride if k == 0 else 1, chosen(KERNELS)
        )
        for k in range(depth)
    )
    front_end = chosen((None, None, st.front_ends.MeanRemoval()))
    architecture = st.Architecture(layers, uniform(1.0, 3.0), front_end=front_end)
    family = chosen([name for name in FAMILIES if d == 2 or name != "divergence_free"])
    field = FAMILIES[family](size, rng)
    b = 10 ** uniform(-3.0, math.log10(0.9))
    if family != "translation":
        own = float(field.norms().jacobian.upper)
        field = (b / own) * field if own > 0 else field
    images = st.images.load(chosen(("fashion", "blobs")), count=20, size=size)
    image = images[int(torch.randint(20, (), generator=rng))][None]
    kinds: tuple[Callable[[st.Architecture], st.Representation], ...] = (st.GramCKN, st.GramCKN, st.LinearGram)
    return family, chosen(kinds)(architecture), image, field


def finer(factor: int) -> Sizes:
    """The sizes times a factor."""
    return {d: tuple(tuple(factor * n for n in size) for size in sizes) for d, sizes in SIZES.items()}


def outcome(seed: int, *, certificates: bool = True, sizes: Sizes = SIZES, device: str = "cpu") -> Outcome:
    """One draw and its ladder, with or without the certificates of its field."""
    family, representation, image, field = draw(seed, sizes)
    image, field = image.to(device), field.to(device=device)
    maps = None if sizes == SIZES else False
    ladder = st.ladder(representation, image, field, refinement=True, certificates=certificates, maps=maps)
    observed = float(ladder.observed)
    known = observed > max(CHEAP, float(ladder.floor))
    ratios = {rung.name: float(rung.value) / observed for rung in ladder.rungs} if known else {}
    return Outcome(
        family,
        len(field.size),
        str(ladder.violation[0]),
        ratios,
        share(ladder) if known else 0.0,
        observed,
    )


def resolved(seed: int, device: str = "cpu") -> list[Outcome]:
    """A draw on finer and finer grids, up to the first on which the allowances are small."""
    found: list[Outcome] = []
    for factor in FACTORS:
        certificates = seed % CERTIFIED_EVERY == 0 and not found
        found.append(outcome(seed, certificates=certificates, sizes=finer(factor), device=device))
        if found[-1].allowed <= ALLOWED or factor == MOST[device][found[-1].d]:
            break
    return found


def share(ladder: Ladder) -> float:
    """(defect + refinement + floor) / observed."""
    return float(ladder.allowance / ladder.observed)


def report(outcomes: Sequence[Outcome], seconds: float) -> str:
    """Verdicts, ratios and allowances of all draws."""
    violated = sum("VIOLATED" in o.verdict for o in outcomes)
    explained = sum(o.verdict.startswith("explained") for o in outcomes)
    lines = [
        f"{len(outcomes)} draws, {seconds:.0f} s of one core: {violated} violations, {explained} within the allowances",
        "rung / observed                       d = 1: least   median      d = 2: least   median",
    ]
    names = list(dict.fromkeys(name for o in outcomes for name in o.ratios))
    for name in names:
        cells = []
        for d in (1, 2):
            values = sorted(o.ratios[name] for o in outcomes if o.d == d and name in o.ratios)
            finite = [value for value in values if math.isfinite(value)]
            cells.append(f"{finite[0]:8.4f} {finite[len(finite) // 2]:8.2f}" if finite else "       -        -")
        lines.append(f"  {name:<36}      {cells[0]}           {cells[1]}")
    shares, above = sorted(o.allowed for o in outcomes), [o for o in outcomes if o.allowed > ALLOWED]
    lines.append(
        f"allowances / observed (sigma_0 >= 1): median {shares[len(shares) // 2]:.1e}, largest {shares[-1]:.1e}, above "
        f"2 per cent in {len(above)} draws, of which {sum(o.observed < SMALL for o in above)} with less than "
        f"{SMALL:g} ||x|| observed"
    )
    return "\n".join(lines)


def report_resolved(outcomes: Sequence[Sequence[Outcome]]) -> str:
    """What became of the draws with large allowances."""
    lines = []
    for level, name in enumerate(WORDS):
        here = [found[level] for found in outcomes if len(found) > level]
        if not here:
            break
        above = sum(o.allowed > ALLOWED for o in here)
        violated = sum("VIOLATED" in o.verdict for o in here)
        largest = max((o.allowed for o in here), default=0.0)
        lines.append(
            f"{name:<20} {len(here):5d} draws, {violated} violations, allowances above 2 per cent in {above}, "
            f"the largest {largest:.1e}"
        )
    return "\n".join(lines)


def several(
    seeds: Sequence[int], sizes: Sizes | None = SIZES, device: str = "cpu"
) -> tuple[list[list[Outcome]], float]:
    """The outcomes of some seeds and the processor time they took.

    Args:
        seeds: of the draws.
        sizes: None: the grid drawn and, where the allowances are large, finer ones.
        device: where finer ones are evaluated.
    """
    torch.set_num_threads(1)
    begin = time.process_time()
    if sizes is None:
        found = [resolved(seed, device) for seed in seeds]
    else:
        found = [[outcome(seed, certificates=seed % CERTIFIED_EVERY == 0, sizes=sizes)] for seed in seeds]
    return found, time.process_time() - begin


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the draws and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes, one thread each")
    grids = parser.add_mutually_exclusive_group()
    grids.add_argument("--finer", action="store_true", help="grids twice as fine")
    grids.add_argument("--resolved", action="store_true", help="finer grids for draws with large allowances")
    parser.add_argument("--only", type=int, nargs="+", help="numbers of the draws, instead of --draws and --seed")
    parser.add_argument("--device", default="cpu", choices=sorted(MOST), help="with --resolved")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    seeds = given.only or range(given.seed, given.seed + given.draws)
    parts = [list(seeds[i : i + 20]) for i in range(0, len(seeds), 20)]
    sizes = None if given.resolved else finer(2) if given.finer else SIZES
    outcomes: list[list[Outcome]] = []
    seconds = 0.0
    with ProcessPoolExecutor(given.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for found, took in pool.map(partial(several, sizes=sizes, device=given.device), parts):
            outcomes += found
            seconds += took
            print(f"{len(outcomes)} of {len(seeds)}", flush=True)
    table = report([found[0] for found in outcomes], seconds)
    if given.resolved:
        table += "\n" + report_resolved(outcomes)
    with replacing(given.out) as part:
        part.write_text(table + "\n", encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
