"""What the experiments share: a spec from the YAML file beside them, a store, and what goes into ``reports/``."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stability import plots
from stability.files import replacing
from stability.sweeps.files import read_spec
from stability.sweeps.knobs import moved
from stability.sweeps.result import RUN, read_rows
from stability.sweeps.run import run as run_sweep

HERE = Path(__file__).resolve().parent
Settings = Sequence[tuple[str, str]]
FAST: Settings = (("images.count", "2"), ("images.size", "[16, 16]"), ("fields", "1"))
"""What a test changes: the same experiment in seconds."""
MEASURES = {
    "distance_over_input_norm": "measured", "distance_over_pairs": "in_pairs", "bound_closed_form": "bound",
    "trivial": "trivial",
}  # fmt: skip


@dataclass(frozen=True)
class Experiment:
    """One question: a spec, the knob that it turns, a figure and a table.

    Args:
        name: of the YAML file, of the figure and of the folder in ``reports/``.
        knob: the one of ``stability.sweeps.knobs.KNOBS`` that moves along a curve; None: none of them.
        table: from rows to what is written as ``table.csv``.
    """

    name: str
    knob: str | None
    table: Callable[[pd.DataFrame], pd.DataFrame]

    def run(self, store: Path, settings: Settings = (), jobs: int = -1) -> pd.DataFrame:
        """The rows, after a check that the curves move one knob and no other.

        Args:
            store: where parts are kept; a second call computes only what is missing.
            settings: changes of the spec.
            jobs: worker processes; -1: one per core.

        Raises:
            RuntimeError: if a cell failed, or another knob moved.
        """
        spec = HERE / f"{self.name}.yaml"
        done = run_sweep(read_spec(str(spec), settings), store, jobs=jobs, progress=True)
        if done.failures:
            raise RuntimeError(done.failures[0])
        rows = read_rows(store)
        found = moved(rows)
        if found != ({self.knob} if self.knob else set()):
            raise RuntimeError(f"{spec.name} must move {self.knob or 'no knob'} alone, got {sorted(found)}; mend it")
        return rows

    def draw(self, store: Path, out: Path) -> list[Path]:
        """The figure (for the screen and for print), its caption, the table and the record of the run."""
        out.mkdir(parents=True, exist_ok=True)
        run = plots.read(store)
        picture, caption = plots.png(run, self.name)
        files = {
            f"{self.name}.png": picture,
            f"{self.name}.pdf": plots.pdf(run, self.name),
            "caption.txt": f"{caption}\n".encode(),
            "table.csv": self.table(read_rows(store)).to_csv(index=False, float_format="%.6g").encode(),
            RUN: (store / RUN).read_bytes(),
        }
        for name, content in files.items():
            with replacing(out / name) as temporary:
                temporary.write_bytes(content)
        return [out / name for name in files]

    def main(self) -> None:
        """``python experiments/NAME.py [--store DIR] [--out DIR] [-j N]``."""
        root = HERE.parent
        parser = argparse.ArgumentParser(prog=f"experiments/{self.name}.py", description=f"The experiment {self.name}.")
        parser.add_argument("--store", type=Path, default=root / "scratch" / self.name, help="parts of the sweep")
        parser.add_argument("--out", type=Path, default=root / "reports" / self.name, help="figure, table, record")
        parser.add_argument("-j", "--jobs", type=int, default=-1, help="worker processes; -1: one per core")
        options = parser.parse_args()
        self.run(options.store, jobs=options.jobs)
        for path in self.draw(options.store, options.out):
            print(path)


def medians(by: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Medians over images and fields, for every value of one column."""

    def table(rows: pd.DataFrame) -> pd.DataFrame:
        keys = ["front_end", "family", by, "representation", "filters"]
        return rows.groupby(keys, dropna=False)[list(MEASURES)].median().rename(columns=MEASURES).reset_index()

    return table
