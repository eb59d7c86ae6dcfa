"""The slope at zero: how wide its interval is, and how well it predicts the largest distance that a search finds.

    python benchmarks/slopes.py --images 10 --out slopes.txt

A two-layer finite CKN on 32 x 32 images. For every image and pair (a, b) the interval of ``linearised``, and
``worst_case`` at the norms t (a, b) with t a = 1/32 px over t ``lower``. Targets: upper / lower - 1 at most 20 per cent
on every image, prediction within 5 per cent.
"""

import argparse
import time
from pathlib import Path

import pandas as pd
import pictures
import torch

import stability as st
from stability.files import replacing

SIZE = (32, 32)
PAIRS = ((1.0, 0.1), (2.0, 0.25), (4.0, 0.5), (0.5, 0.5))
SMALL = 1 / 32
"""Displacement norm in pixels at which the slope predicts."""


def one(ckn: st.CKN, image: torch.Tensor, a: float, b: float, seed: int) -> dict[str, float]:
    """A row: both ends, the prediction and what was found, and processor seconds."""
    start = time.process_time()
    slope = st.linearised(
        ckn, image, displacement_norm=a, jacobian_norm=b, generator=torch.Generator().manual_seed(seed)
    )
    seconds, t = time.process_time() - start, SMALL / a
    found = st.worst_case(
        ckn, image, displacement_norm=t * a, jacobian_norm=t * b, generator=torch.Generator().manual_seed(seed)
    )
    lower, largest = float(slope.lower), float(found.largest_found)
    return {
        "lower": lower, "upper": float(slope.upper), "width": float(slope.width),
        "found / predicted": largest / t / lower, "seconds": seconds,
    }  # fmt: skip


def main() -> None:
    """Linearise, search, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pictures.add_source(parser)
    parser.add_argument("--filters", type=int, nargs=2, default=(32, 64))
    parser.add_argument("--pairs", type=int, default=len(PAIRS), help="the first so many pairs (a, b)")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    images, chosen = pictures.load(given, SIZE)
    generator = torch.Generator().manual_seed(0)
    ckn = st.CKN.fit(st.Architecture.dyadic(depth=2), images, filters=given.filters, generator=generator)
    rows = []
    for a, b in PAIRS[: given.pairs]:
        for i, image in enumerate(chosen[:, None]):
            rows.append({"a": a, "b": b, "image": given.first + i, **one(ckn, image, a, b, i)})
            print(rows[-1], flush=True)
    frame = pd.DataFrame(rows)
    table = frame.to_string(index=False, float_format="{:.4f}".format)
    print(table)
    if given.out is not None:
        with replacing(given.out) as part:
            part.write_text(f"{given.source}, anchors {tuple(given.filters)}\n\n{table}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
