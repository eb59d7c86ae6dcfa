"""What a figure is drawn from: the rows of a run, its record, its strip of deformed images. No torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from stability.plots.series import ABSCISSA, CONTROL, EXACT, SIZE, complete
from stability.sweeps.result import ROWS, RUN, SEARCHED, STRIP, below_floor, read_rows, read_run
from stability.sweeps.store import SPEC

Array: TypeAlias = npt.NDArray[np.float64]

CKN, LINEAR = EXACT, CONTROL
DISTANCE, PAIRS = "distance_over_input_norm", "distance_over_pairs"
INPUTS = {
    "none": "raw images",
    "mean_removal": "mean-removed images",
    "gradient": "gradient maps",
    "whitening": "whitened images",
}


@dataclass(frozen=True, eq=False)
class Run:
    """A run in memory.

    Args:
        rows: one row per image, field and representation; in a quickstart ``sweep`` names the part of the run.
        record: ``run.json``: versions, commit, specs, hashes.
        strip: ``strip.npz``: images ``(B, K, H, W)``, displacement ``(K, H, W, 2)`` in px, the norms and families
            ``(K,)``; empty if the run has none.
        searched: ``searched.npz``: a few of the fields that were searched; empty if the run has none.
    """

    rows: pd.DataFrame
    record: Mapping[str, Any] = field(default_factory=dict)
    strip: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    searched: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    _complete: dict[str | None, pd.DataFrame] = field(default_factory=dict, init=False, repr=False)

    def complete(self, sweep: str | None = None) -> pd.DataFrame:
        """The complete rows, or those of one sweep of a quickstart: found once, every caller gets a copy."""
        if sweep not in self._complete:
            self._complete[sweep] = complete(self.rows if sweep is None else of_sweep(self, sweep))
        return self._complete[sweep].copy()


def read(folder: str | Path) -> Run:
    """Rows, record, strip and searched fields of a folder.

    Args:
        folder: what ``stability quickstart --out`` or ``stability run --store`` wrote.

    Raises:
        ValueError: if the folder holds no run.
    """
    path = Path(folder)
    for name in (ROWS, RUN):
        if not (path / name).is_file():
            raise ValueError(f"folder must hold {name}, got {_lacking(path)}")
    return Run(read_rows(path), read_run(path), _arrays(path / STRIP), _arrays(path / SEARCHED))


def _lacking(folder: Path) -> str:
    """What a folder without a table is, and how it gets one."""
    if not (folder / SPEC).is_file():
        return f"{str(folder)!r}; run `stability run --store` first"
    try:
        spec = json.loads((folder / SPEC).read_text())["spec"]
        searched = bool(spec.get("search")) and not spec.get("deformations")
    except (ValueError, KeyError, AttributeError):
        searched = False
    how = (
        "`stability search` with the same options, or `stability run` with the same spec"
        if searched
        else ("`stability run` with the same spec")
    )
    return f"the store {str(folder)!r}, which is not complete; repeat {how}: it goes on"


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an npz file; none if there is no file."""
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def is_quickstart(run: Run) -> bool:
    """Whether the rows are the named sweeps of a quickstart."""
    return "sweep" in run.rows and {"curves", "pooling_scale"} <= set(run.rows["sweep"].unique())


def part(run: Run, sweep: str) -> pd.DataFrame:
    """The rows that a figure may use, complete: one sweep of a quickstart, every row of any other store.

    Raises:
        ValueError: if there is no such row with a number.
    """
    if "sweep" in run.rows:
        return run.complete(sweep)
    if not run.rows[DISTANCE].notna().any():
        raise ValueError("rows must hold a measured distance, got none; measure something with `stability run`")
    return run.complete()


def of_sweep(run: Run, sweep: str) -> pd.DataFrame:
    """Every row of one sweep, sizes out of reach included.

    Raises:
        ValueError: if the run has no such rows.
    """
    if "sweep" not in run.rows:
        raise ValueError("rows must have the column 'sweep', got none; read the folder of a `stability quickstart`")
    rows = run.rows[run.rows["sweep"] == sweep]
    if not rows[DISTANCE].notna().any():
        there = sorted(run.rows["sweep"].unique().tolist())
        raise ValueError(f"rows must hold the sweep {sweep!r}, got {there}; run `stability quickstart`")
    return rows


def measured(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that hold a number: sizes that a field cannot have are left out."""
    return rows[rows[DISTANCE].notna()]


def resolved(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose distance is more than round-off."""
    return rows[~below_floor(rows)]


def inputs(rows: pd.DataFrame) -> list[str]:
    """The front ends in a table, raw images first."""
    present = [str(name) for name in rows["front_end"].unique()]
    return sorted(present, key=lambda name: (list(INPUTS).index(name) if name in INPUTS else len(INPUTS), name))


def input_name(front_end: str) -> str:
    """The words for a front end.

    >>> input_name("mean_removal")
    'mean-removed images'
    """
    return INPUTS.get(front_end, front_end)


def spread(rows: pd.DataFrame, by: str, value: str) -> pd.DataFrame:
    """Median and 10-90 % range of the finite values of a column.

    Args:
        rows: any rows.
        by: the column that makes the groups, for example the asked size.
        value: the column that is summarised.

    Returns:
        Columns ``low``, ``median``, ``high``, indexed by ``by``; groups without a finite value are left out.
    """
    finite = rows[np.isfinite(rows[value].to_numpy(dtype=float))]
    groups = finite.groupby(by)[value]
    return pd.DataFrame({"low": groups.quantile(0.1), "median": groups.median(), "high": groups.quantile(0.9)})


def size_axis(rows: pd.DataFrame) -> "pd.Series[float]":
    """Asked size -> median of the realised norm over which it is drawn, over all rows of this size."""
    there = measured(rows)
    return there.groupby(SIZE)[str(there[ABSCISSA].iloc[0])].median()


def two_images(rows: pd.DataFrame) -> float:
    """Median over images of (distance of two different images) / ||x||; NaN for one image.

    The median distance of the pairs is distance / distance_over_pairs, the same in all rows of one representation.
    """
    finite = rows[(rows[PAIRS] > 0) & rows[DISTANCE].notna()]
    ratio = (finite[DISTANCE] / finite[PAIRS]).groupby(finite["image"]).median()
    return float(ratio.median()) if len(ratio) else float("nan")
