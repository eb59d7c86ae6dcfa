"""What experiments that are no sweeps share: their settings from YAML, and the files that go into ``reports/``."""

import argparse
import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import yaml
from matplotlib.figure import Figure

import stability
from stability.files import replacing
from stability.plots.drawing import PAPER, SCREEN

HERE = Path(__file__).resolve().parent


def settings(name: str, **changes: Any) -> dict[str, Any]:
    """The YAML file beside the experiments, with some values changed.

    Raises:
        ValueError: for a key that the file does not have.
    """
    found = yaml.safe_load((HERE / f"{name}.yaml").read_text())
    for key in changes:
        if key not in found:
            raise ValueError(f"a setting of {name} must be one of {', '.join(found)}, got {key!r}; mend it")
    return found | changes


def record(chosen: Mapping[str, Any], seconds: float) -> str:
    """What was run, with which versions, as JSON."""
    plain = json.dumps(chosen, sort_keys=True, separators=(",", ":"))
    versions = {
        "stability": stability.__version__, "torch": torch.__version__, "numpy": np.__version__,
        "python": platform.python_version(),
    }  # fmt: skip
    found = {"hash": hashlib.sha256(plain.encode()).hexdigest(), "spec": chosen, "versions": versions}
    return json.dumps(found | {"seconds": round(seconds, 1)}, indent=2, sort_keys=True) + "\n"


def write(
    out: Path,
    chosen: Mapping[str, Any],
    figures: Mapping[str, Callable[[], Figure]],
    caption: str,
    tables: Mapping[str, pd.DataFrame],
    seconds: float,
) -> list[Path]:
    """Figures (for the screen and for print), caption, tables and the record of the run."""
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, draw in figures.items():
        for suffix, style in (("png", SCREEN), ("pdf", PAPER)):
            written.append(out / f"{name}.{suffix}")
            with plt.style.context(str(style)), replacing(written[-1]) as temporary:
                draw().savefig(temporary, format=suffix)
    texts = {f"{table}.csv": rows.to_csv(index=False, float_format="%.6g") for table, rows in tables.items()}
    texts |= {"caption.txt": caption + "\n", "run.json": record(chosen, seconds)}
    for file, text in texts.items():
        with replacing(out / file) as temporary:
            temporary.write_text(text)
    return [*written, *(out / file for file in texts)]


def main(
    name: str,
    report: Callable[[dict[str, Any], Path, Callable[[], float]], list[Path]],
    others: Sequence[str] = (),
) -> None:
    """``python experiments/NAME.py [SETTINGS] [--out DIR]``.

    Args:
        name: of the YAML file with the settings, and of the folder in ``reports/``.
        report: runs, draws and writes.
        others: further YAML files for the same experiment, each with its own folder.
    """
    parser = argparse.ArgumentParser(prog=f"experiments/{name}.py", description=f"The experiment {name}.")
    if others:
        parser.add_argument("settings", nargs="?", default=name, choices=(name, *others), help="YAML file beside it")
    parser.add_argument("--out", type=Path, help="figure, tables, record (default: reports/SETTINGS)")
    options, start = parser.parse_args(), time.process_time()
    chosen = options.settings if others else name
    torch.set_num_threads(1)
    out = options.out or HERE.parent / "reports" / chosen
    for path in report(settings(chosen), out, lambda: time.process_time() - start):
        print(path)
