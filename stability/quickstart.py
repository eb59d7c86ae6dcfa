r"""``stability quickstart``: one base architecture, one page.

Real Fashion images; translations and smooth mean-free fields; two one-knob sweeps through one base point (four pooling
scales, three patch sizes); raw and mean-removed inputs; the linear kernel of every architecture as a control; a few
distances once more on a grid twice as fine.
"""

import contextlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stability import images as image_sets
from stability.architecture import Architecture, Layer
from stability.files import replacing
from stability.front_ends import MeanRemoval
from stability.sweeps.result import ROWS, RUN, check_writable, image_digest, provenance
from stability.sweeps.run import sweep
from stability.sweeps.spec import FourierSpec, GramSpec, ImagesSpec, SweepSpec, TranslationSpec
from stability.sweeps.strip import strip

BASE = Architecture((Layer(3, 2.0), Layer(3, 4.0)), antialiasing=1.0)
"""Two layers, 3 x 3 patches, exponential kernel (rho = 1), scales 1, 2, 4 px, no subsampling."""
INPUTS = (None, MeanRemoval())
SIZES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
PLANE_DISPLACEMENTS = (0.25, 0.5, 1.0, 2.0, 4.0)
PLANE_JACOBIANS = (0.01, 0.03, 0.1, 0.2, 0.4)
STRIP_SIZES = (0.5, 1.0, 2.0, 4.0)
SPECIFICATION = "quickstart"


@dataclass(frozen=True)
class Quickstart:
    """What a quickstart is made of: named sweeps through one base point."""

    curves: SweepSpec
    pooling_scale: SweepSpec
    patch_size: SweepSpec
    plane: SweepSpec
    grid: SweepSpec

    def items(self) -> list[tuple[str, SweepSpec]]:
        """(name, spec) in the order in which they run."""
        return [(name, getattr(self, name)) for name in self.__dataclass_fields__]


def specification(count: int = 6, size: tuple[int, int] = (28, 28), fields: int = 3) -> Quickstart:
    """The sweeps of a quickstart.

    Args:
        count: number of images.
        size: grid in pixels.
        fields: smooth fields per size.
    """

    def spec(images: int, vary: dict[str, Any], deformations: tuple[Any, ...], **more: Any) -> SweepSpec:
        return SweepSpec(
            images=ImagesSpec(name="fashion", count=images, size=size),
            architecture=BASE,
            vary={"front_end": INPUTS, **vary},
            deformations=deformations,
            on_unreachable="record",
            **{"fields": fields, **more},
        )

    one_size = (
        FourierSpec(cutoff=3, displacement_norm=(1.0,)),
        TranslationSpec(displacement_norm=(2.0,), angles=4),
    )
    return Quickstart(
        curves=spec(
            count,
            {},
            (FourierSpec(cutoff=3, displacement_norm=SIZES), TranslationSpec(displacement_norm=SIZES, angles=4)),
        ),
        pooling_scale=spec(count, {"layers.-1.pooling_scale": (1, 2, 4, 8)}, one_size),
        patch_size=spec(count, {"layers.*.patch_size": (1, 3, 5)}, one_size),
        plane=spec(
            max(2, count // 2),
            {},
            (
                FourierSpec(
                    cutoff=4,
                    displacement_norm=PLANE_DISPLACEMENTS,
                    jacobian_norm=PLANE_JACOBIANS,
                    shift=(1.0, 0.0),
                ),
            ),
        ),
        grid=spec(
            2,
            {},
            (FourierSpec(cutoff=3, displacement_norm=(1.0,)), TranslationSpec(displacement_norm=(0.5,), angles=1)),
            fields=1,
            representations=(GramSpec(),),
            refinement=True,
        ),
    )


def run(quickstart: Quickstart, *, jobs: int = -1, progress: bool = True) -> pd.DataFrame:
    """All rows, with the name of their sweep in the column ``sweep``."""
    frames = []
    for name, spec in quickstart.items():
        frame = sweep(spec, jobs=jobs, progress=progress)
        frame.insert(0, "sweep", name)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def check_folder(folder: Path) -> None:
    """Raise ``ValueError`` if the folder holds anything that a quickstart did not write."""
    check_writable(folder)
    if folder.is_dir() and any(folder.iterdir()):
        try:
            mine = json.loads((folder / RUN).read_text()).get("kind") == SPECIFICATION
        except (OSError, json.JSONDecodeError, AttributeError):
            mine = False
        if not mine:
            raise ValueError(f"out must be empty or an earlier quickstart, got {str(folder)!r}; choose another folder")


@contextlib.contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """A new folder beside ``folder`` that takes its place if the block succeeds and vanishes if it does not."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as room:
        new, old = Path(room, "new"), Path(room, "old")
        new.mkdir()
        yield new
        if folder.exists():
            folder.rename(old)
        new.rename(folder)


def write(folder: Path, quickstart: Quickstart, frame: pd.DataFrame) -> None:
    """``rows.parquet``, ``run.json`` and ``strip.npz`` (the deformed images of the page's strip)."""
    folder.mkdir(parents=True, exist_ok=True)
    images = image_sets.load(
        quickstart.curves.images.name, count=quickstart.curves.images.count, size=quickstart.curves.images.size
    )
    specs = dict(quickstart.items())
    record = provenance(quickstart.curves, len(frame))
    record |= {
        "kind": SPECIFICATION,
        "hash": {name: spec.hash for name, spec in specs.items()},
        "spec": {name: json.loads(spec.to_json()) for name, spec in specs.items()},
        "images_sha256": image_digest(images),
    }
    with replacing(folder / "strip.npz") as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **strip(shown(quickstart.curves), images[:2]))
    with replacing(folder / ROWS) as temporary:
        frame.assign(floor=pd.to_numeric(frame["floor"], errors="coerce")).to_parquet(temporary, index=False)
    with replacing(folder / RUN) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n")


def shown(spec: SweepSpec) -> SweepSpec:
    """The fields of the page's strip: one smooth field at growing size and one translation."""
    families = (
        FourierSpec(cutoff=3, displacement_norm=STRIP_SIZES),
        TranslationSpec(displacement_norm=(3.0,), angles=1),
    )
    return SweepSpec(images=spec.images, deformations=families, fields=1)
