"""How long each rung of a ladder takes, one image and one field, at 28, 56 and 112 pixels; one thread, processor time.

A two-layer exact CKN of 3 x 3 patches and a finite one (16 and 32 anchors), sigma = 1, 2, 4 px, without strides and, on
larger grids, with strides 2, 2. Rungs that need the maps of an exact kernel are O(N^3) in the number of pixels and are
left out beyond 40 pixels a side without strides. Run it with

    python benchmarks/bounds.py --out bounds.txt
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

import stability as st
from stability.bounds.theorem import Theorem
from stability.deformations.base import Deformation
from stability.deformations.stack import stack
from stability.files import replacing
from stability.ladders.closed import closed_forms
from stability.ladders.field_constants import certified, enclosed
from stability.ladders.grid_warp import grid_warp
from stability.ladders.x_specific import telescope
from stability.operators.pooling import sampling_gains
from stability.representations.base import Representation

FIELDS = 8
"""Fields of one image whose ladder is taken at once."""
LARGEST_MAPS = 40
"""Pixels a side up to which an exact kernel's maps are decomposed."""


def seconds(call: Callable[[], object], repeats: int) -> float:
    """Least processor time of a call."""
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        call()
        times.append(time.process_time() - begin)
    return min(times)


def anew(field: st.FourierField) -> st.FourierField:
    """The same field, of which no norm is known yet."""
    return st.FourierField(field.modes, field.cosine, field.sine, size=field.size)


def several(field: Deformation) -> Deformation:
    """Fields of about the same norms, of which none is known yet."""
    return stack([field.scaled(1.0 - 0.05 * k) for k in range(FIELDS)])


def of_maps(
    phi: Representation, x: torch.Tensor, warped: torch.Tensor, field: Deformation, repeats: int
) -> list[tuple[str, float]]:
    """What needs the network's maps of x, and the whole ladder without operator norms."""
    stages, arch = phi.stages(x[0]), phi.architecture
    assert stages is not None
    assert arch is not None
    warps = {spacing: grid_warp(field, st.BandLimitedWarp(), spacing) for spacing in set(arch.spacings[:-1])}
    gains = sampling_gains(arch, field.size)
    return [
        ("distance", seconds(lambda: phi.distance(x, warped), repeats)),
        ("maps of the image", seconds(lambda: phi.stages(x[0]), repeats)),
        (
            "x-specific, early stop",
            seconds(lambda: telescope(stages, warped[0], warps, arch.lipschitz, gains), repeats),
        ),
        ("ladder, without refinement", seconds(lambda: st.ladder(phi, x, field, refinement=False, maps=True), 2)),
        ("ladder, as asked by default", seconds(lambda: st.ladder(phi, x, field), 2)),
        (f"{FIELDS} ladders of the image, each", seconds(lambda: st.ladder(phi, x, several(field)), 1) / FIELDS),
    ]


def rows(side: int, subsampling: int, repeats: int, *, norms: bool) -> list[str]:
    """One line per rung."""
    size = (side, side)
    arch = st.Architecture.dyadic(depth=2, subsampling=subsampling)
    x = st.images.load("fashion", count=4, size=size)
    rng = torch.Generator().manual_seed(0)
    field = st.control(st.FourierField.sample(size, cutoff=3, generator=rng), jacobian_norm=0.1)
    warped = st.BandLimitedWarp()(x[:1], field)
    finite = st.CKN.fit(arch, x, filters=(16, 32), generator=rng)
    found: list[tuple[str, float]] = [
        ("norms of the field", seconds(lambda: anew(field).norms().hessian.upper, repeats)),
        ("closed form", seconds(lambda: closed_forms(Theorem(arch), field, 1), repeats)),
        ("certificates", seconds(lambda: certified(st.FieldCertificates(field), arch), 1)),
    ]
    if norms:
        generator = torch.Generator().manual_seed(0)
        found.append(("operator norms", seconds(lambda: enclosed(st.OperatorNorms(field, generator), arch), 1)))
    kinds: list[tuple[str, Representation]] = [("finite CKN", finite)]
    if side <= LARGEST_MAPS or (subsampling > 1 and side <= 2 * LARGEST_MAPS):
        kinds.insert(0, ("exact CKN", st.GramCKN(arch)))
    for name, phi in kinds:
        found += [(f"{name}: {what}", value) for what, value in of_maps(phi, x[:1], warped, field, repeats)]
    return [f"{side:>4} {subsampling:>6}   {name:<36} {value:9.3f}" for name, value in found]


def main() -> None:
    """Time the rungs and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[28, 56, 112])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-operator-norms", action="store_true", help="leave out what takes longest")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    lines = ["side stride   rung                                   seconds"]
    for side in given.sides:
        for subsampling in (1, 2):
            norms = not given.no_operator_norms and subsampling == 1
            lines += rows(side, subsampling, given.repeats, norms=norms)
            print("\n".join(lines[-12:]), flush=True)
    with replacing(given.out) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
