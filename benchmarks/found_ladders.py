"""The ladder at the fields that a search found: how far above the observed distance each rung stands.

    python benchmarks/found_ladders.py --images 10 --pairs 2 .25 1 .1 --out found_ladders.txt
    python benchmarks/found_ladders.py --images 10 --pairs 2 .25 1 .1 --exact --size 16 --out found_ladders_exact.txt

A two-layer CKN, finite, or with ``--exact`` the infinite-dimensional one. For each image and pair (a, b) the field of
``worst_case``, which is searched with the spline warp, and its ladder with the exact warp: observed distance and rungs
are those of one and the same deformed image, whatever the search saw. Operator norms are enclosed to ``--tolerance``
and count with their upper ends. Targets, medians over the images: x_specific at most 3 times the observed distance, the
centred operator norms at most 6 times, and no distance above any rung by more than its allowances. With ``--batch`` the
processor time of a search over all images at once stands beside that of one search per image.
"""

import argparse
import math
import statistics
import time
from pathlib import Path

import pictures
import torch

import stability as st
from stability.files import replacing
from stability.representations.base import Representation

SEED = 0


def rng() -> torch.Generator:
    """The same for every search."""
    return torch.Generator().manual_seed(SEED)


def search(representation: Representation, images: torch.Tensor, a: float, b: float) -> st.search.Found:
    """The field of C(a, b) that moves the representation most, as far as the search finds it."""
    return st.worst_case(representation, images, displacement_norm=a, jacobian_norm=b, generator=rng())


def ladders(representation: Representation, images: torch.Tensor, a: float, b: float, tolerance: float) -> list[str]:
    """One line per rung: least, median and largest ratio to the observed distance."""
    ratios: dict[str, list[float]] = {}
    verdicts: list[str] = []
    above = 0
    for image in images[:, None]:
        start = time.process_time()
        field = search(representation, image, a, b).field
        searched = time.process_time()
        norms = st.OperatorNorms(field, rng(), tolerance=tolerance)
        ladder = st.ladder(representation, image, field, operator_norms=norms)
        verdicts += [str(one) for one in ladder.violation]
        for rung in ladder.rungs:
            ratios.setdefault(rung.name, []).append(float(rung.value[0] / ladder.observed[0]))
        above += any(values[-1] < 1 for values in ratios.values())
        seconds = f"search {searched - start:.1f} s, ladder {time.process_time() - searched:.1f} s"
        row = ", ".join(f"{name} {values[-1]:.2f}" for name, values in ratios.items())
        print(f"({a:g} px, {b:g}) {len(verdicts)}: {row}; {verdicts[-1]}; {seconds}", flush=True)
    lines = [
        f"({a:g} px, {b:g}), {len(images)} images, above a rung without its allowances: {above}, verdicts: "
        f"{', '.join(sorted(set(verdicts)))}"
    ]
    for name, values in ratios.items():
        finite = [value for value in values if math.isfinite(value)]
        if finite:
            lines.append(f"  {name:<28} {min(finite):9.2f} {statistics.median(values):9.2f} {max(finite):9.2f}")
    return lines


def batch(representation: Representation, images: torch.Tensor, a: float, b: float) -> str:
    """Processor seconds an image, together and one by one."""
    search(representation, images[:1], a, b)
    begin = time.process_time()
    search(representation, images, a, b)
    together = time.process_time() - begin
    begin = time.process_time()
    for image in images[:, None]:
        search(representation, image, a, b)
    alone = time.process_time() - begin
    count = len(images)
    return (
        f"({a:g} px, {b:g}): {together / count:.2f} s an image in a batch of {count}, {alone / count:.2f} s one by one"
    )


def main() -> None:
    """Search, bound, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pictures.add_source(parser)
    parser.add_argument("--pairs", type=float, nargs="+", default=[2.0, 0.25], help="a b a b ..., px and no unit")
    parser.add_argument("--filters", type=int, nargs=2, default=(16, 32))
    parser.add_argument("--exact", action="store_true", help="the infinite-dimensional network")
    parser.add_argument("--size", type=int, default=32, help="pixels of a side")
    parser.add_argument("--tolerance", type=float, default=0.1, help="of the operator norms")
    parser.add_argument("--batch", action="store_true", help="time batches instead")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    images, chosen = pictures.load(given, (given.size, given.size))
    network = st.Architecture.dyadic(depth=2)
    representation: Representation = (
        st.GramCKN(network) if given.exact else st.CKN.fit(network, images, filters=given.filters, generator=rng())
    )
    name = "GramCKN" if given.exact else f"CKN of {tuple(given.filters)} anchors"
    grid = f"{given.size} x {given.size}"
    lines = [f"{name}, {given.source}, {grid}: rung / observed at the field found, least, median, largest"]
    for a, b in zip(given.pairs[::2], given.pairs[1::2], strict=True):
        lines += (
            [batch(representation, chosen, a, b)]
            if given.batch
            else ladders(representation, chosen, a, b, given.tolerance)
        )
    print("\n".join(lines))
    if given.out is not None:
        with replacing(given.out) as part:
            part.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
