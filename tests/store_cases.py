"""A small sweep and its store, for the tests of stores."""

from pathlib import Path

import pandas as pd
from sweep_cases import spec

import stability as st
from stability.sweeps.inspection import first_difference

SMALL = spec(
    vary={"layers.-1.pooling_scale": [2, 4]},
    fields=2,
    representations=[st.GramSpec(), st.LinearSpec(), st.CKNSpec(filters=(4, 8), images=4)],
)


def same(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    return first_difference(one, other) is None


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def copy(folder: Path, target: Path) -> Path:
    import shutil

    shutil.copytree(folder, target)
    return target
