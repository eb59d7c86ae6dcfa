"""The ladder at the fields that a search found: how far above the observed distance each rung stands.

    python benchmarks/found_ladders.py --images 10 --out found_ladders.txt

A two-layer finite CKN on 32 x 32 images; for each image and pair (a, b) the field of ``worst_case`` with the exact
warp, and its ladder with the enclosed operator norms. Targets, medians over the images: x_specific at most 3 times the
observed distance, the centred operator norms at most 6 times. With ``--batch`` the processor time of a search over all
images at once stands beside that of one search per image.
"""

import argparse
import math
import statistics
import time
from pathlib import Path

import torch

import stability as st
from stability.files import replacing

SIZE = (32, 32)
SEED = 0


def rng() -> torch.Generator:
    """The same for every search."""
    return torch.Generator().manual_seed(SEED)


def search(ckn: st.CKN, images: torch.Tensor, a: float, b: float) -> st.search.Found:
    """With the exact warp, so that the ladder's rungs are theorems about the very same images."""
    return st.worst_case(ckn, images, displacement_norm=a, jacobian_norm=b, warp=st.BandLimitedWarp(), generator=rng())


def ladders(ckn: st.CKN, images: torch.Tensor, a: float, b: float) -> list[str]:
    """One line per rung: least, median and largest ratio to the observed distance."""
    ratios: dict[str, list[float]] = {}
    verdicts: list[str] = []
    for image in images[:, None]:
        found = search(ckn, image, a, b)
        field = found.field
        ladder = st.ladder(ckn, image, field, operator_norms=st.OperatorNorms(field, rng()))
        verdicts += [str(one) for one in ladder.violation]
        for rung in ladder.rungs:
            ratios.setdefault(rung.name, []).append(float(rung.value[0] / ladder.observed[0]))
        print(f"({a:g} px, {b:g}): {len(verdicts)} of {len(images)} images", flush=True)
    lines = [f"({a:g} px, {b:g}), {len(images)} images, verdicts: {', '.join(sorted(set(verdicts)))}"]
    for name, values in ratios.items():
        finite = [value for value in values if math.isfinite(value)]
        if finite:
            lines.append(f"  {name:<28} {min(finite):9.2f} {statistics.median(values):9.2f} {max(finite):9.2f}")
    return lines


def batch(ckn: st.CKN, images: torch.Tensor, a: float, b: float) -> str:
    """Processor seconds an image, together and one by one."""
    search(ckn, images[:1], a, b)
    begin = time.process_time()
    search(ckn, images, a, b)
    together = time.process_time() - begin
    begin = time.process_time()
    for image in images[:, None]:
        search(ckn, image, a, b)
    alone = time.process_time() - begin
    count = len(images)
    return (
        f"({a:g} px, {b:g}): {together / count:.2f} s an image in a batch of {count}, {alone / count:.2f} s one by one"
    )


def main() -> None:
    """Search, bound, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--pairs", type=float, nargs="+", default=[2.0, 0.25], help="a b a b ..., px and no unit")
    parser.add_argument("--filters", type=int, nargs=2, default=(16, 32))
    parser.add_argument("--batch", action="store_true", help="time batches instead")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    images = st.images.load("fashion", count=max(20, given.images), size=SIZE)
    ckn = st.CKN.fit(st.Architecture.dyadic(depth=2), images, filters=given.filters, generator=rng())
    lines = [f"rung / observed at the field found, anchors {given.filters}: least, median, largest"]
    for a, b in zip(given.pairs[::2], given.pairs[1::2], strict=True):
        some = images[: given.images]
        lines += [batch(ckn, some, a, b)] if given.batch else ladders(ckn, some, a, b)
    print("\n".join(lines))
    if given.out is not None:
        with replacing(given.out) as part:
            part.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
