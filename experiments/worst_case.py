"""How far deformations with two given norms move a representation: drawn, searched, and what the theory allows.

Largest found <= supremum <= bound of the supremum: the supremum lies between two numbers of the table.
"""

import argparse
from pathlib import Path

import pandas as pd
from common import HERE, Settings

from stability import plots
from stability.files import replacing
from stability.sweeps.files import read_spec
from stability.sweeps.result import RUN, read_rows
from stability.sweeps.run import run as run_sweep

NAME = "worst_case"
OBSERVED, A, B = "distance_over_input_norm", "asked_displacement_norm", "asked_jacobian_norm"
FIGURES = {NAME: "largest_found", "searched": "searched"}


def run(store: Path, settings: Settings = (), jobs: int = -1) -> pd.DataFrame:
    """The rows of the sweep.

    Raises:
        RuntimeError: if a cell failed.
    """
    done = run_sweep(read_spec(str(HERE / f"{NAME}.yaml"), settings), store, jobs=jobs, progress=True)
    if done.failures:
        raise RuntimeError(done.failures[0])
    return read_rows(store)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Medians over images for every representation and pair of norms, over ||x||: of every family the largest field."""
    found = []
    searched = rows[rows["search"]]
    for (name, a, b), part in searched.groupby(["representation", A, B]):
        own = rows[~rows["search"] & (rows["representation"] == name) & (rows[A] == a)]
        largest = {
            family: drawn.groupby("image")[OBSERVED].max().median()
            for family, drawn in own[(own[B] == b) | (own["family"] == "translation")].groupby("family")
        }
        middle = part[[OBSERVED, "distance_over_pairs", "bound_supremum", "spread"]].median()
        row = {"representation": name, "displacement_norm": a, "jacobian_norm": b, "largest_found": middle[OBSERVED]}
        row |= {f"largest_{family}": value for family, value in largest.items()}
        row |= {"bound_supremum": middle["bound_supremum"], "status_supremum": part["status_supremum"].iloc[0]}
        row |= {"found_over_pairs": middle["distance_over_pairs"], "spread": middle["spread"]}
        row |= {"gradient_evaluations": part["gradient_evaluations"].median(), "images": part["image"].nunique()}
        found.append(row)
    return pd.DataFrame(found)


def write(store: Path, out: Path) -> list[Path]:
    """Figures (for the screen and for print), captions, the table and the record of the run."""
    out.mkdir(parents=True, exist_ok=True)
    run_of_store = plots.read(store)
    files: dict[str, bytes] = {}
    captions = []
    for name, figure in FIGURES.items():
        files[f"{name}.png"], caption = plots.png(run_of_store, figure)
        files[f"{name}.pdf"] = plots.pdf(run_of_store, figure)
        captions.append(f"{name}: {caption}\n")
    files["caption.txt"] = "\n".join(captions).encode()
    files["table.csv"] = table(read_rows(store)).to_csv(index=False, float_format="%.6g").encode()
    files[RUN] = (store / RUN).read_bytes()
    for file, content in files.items():
        with replacing(out / file) as temporary:
            temporary.write_bytes(content)
    return [out / file for file in files]


def main() -> None:
    """``python experiments/worst_case.py [--store DIR] [--out DIR] [-j N]``."""
    parser = argparse.ArgumentParser(prog=f"experiments/{NAME}.py", description=f"The experiment {NAME}.")
    parser.add_argument("--store", type=Path, default=HERE.parent / "scratch" / NAME, help="parts of the sweep")
    parser.add_argument("--out", type=Path, default=HERE.parent / "reports" / NAME, help="figures, table, record")
    parser.add_argument("-j", "--jobs", type=int, default=-1, help="worker processes; -1: one per core")
    options = parser.parse_args()
    run(options.store, jobs=options.jobs)
    for path in write(options.store, options.out):
        print(path)


if __name__ == "__main__":
    main()
