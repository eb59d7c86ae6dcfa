"""A run on disk: ``rows.parquet`` with the rows, ``run.json`` with everything needed to repeat them."""

import hashlib
import json
import platform
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stability import __version__
from stability.sweeps.spec import SweepSpec

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

ROWS, RUN, STRIP, SEARCHED = "rows.parquet", "run.json", "strip.npz", "searched.npz"
UNDEFINED, BELOW, RESOLVED = "undefined", "below floor", "resolved"
ROUND_OFF = f"{BELOW}: round-off"
"""What is written instead of a status where the distance found is not above what round-off leaves."""
PACKAGES = ("torch", "numpy", "kornia", "pandas", "pyarrow")


def read_rows(folder: str | Path) -> "pd.DataFrame":
    """The rows of a run; where Phi(x) = 0 the column ``floor`` says "undefined" again."""
    import pandas as pd
    import pyarrow as pa

    try:
        frame = pd.read_parquet(Path(folder) / ROWS)
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())[:80]
        raise ValueError(
            f"{ROWS} of {str(folder)!r} must be a whole parquet file, got a torn one ({reason}); run `stability run` "
            "again: it writes the table from its parts"
        ) from None
    return told(frame)


def told(frame: "pd.DataFrame") -> "pd.DataFrame":
    """What the floor says of each distance: the column ``resolution``; "undefined" in ``floor`` too if Phi(x) = 0."""
    zero = frame["floor"].isna() & frame["distance"].notna()
    frame["resolution"] = (
        below_floor(frame).map({True: BELOW, False: RESOLVED}).mask(zero, UNDEFINED).mask(frame["distance"].isna())
    )
    if zero.any():
        frame["floor"] = frame["floor"].astype(object).mask(zero, UNDEFINED)
    return frame


def below_floor(frame: "pd.DataFrame") -> "pd.Series[bool]":
    """Whether a row's distance is round-off, not above ``floor``; of a search whether the objective is."""
    import pandas as pd

    below = frame["distance_over_input_norm"] <= pd.to_numeric(frame["floor"], errors="coerce")
    if "status_largest_found" not in frame:
        return below
    status = frame["status_largest_found"]
    searched = status.notna() & (status != "")
    return below.where(~searched, status == ROUND_OFF) | (below & searched & (frame["objective"] == "distance"))


def read_run(folder: str | Path) -> dict[str, Any]:
    """The provenance of a run."""
    return dict(json.loads((Path(folder) / RUN).read_text()))


def provenance(spec: SweepSpec, rows: int) -> dict[str, Any]:
    """Versions, commit (or null), spec and hash."""
    versions = {name: metadata.version(name) for name in PACKAGES}
    return {
        "hash": spec.hash,
        "spec": json.loads(spec.to_json()),
        "rows": rows,
        "versions": {"stability": __version__, "python": platform.python_version(), **versions},
        "commit": commit(),
        "platform": f"{platform.system()} {platform.machine()}",
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def commit() -> str | None:
    """The commit of the checkout that the package runs from, "+changes" if the package was changed; None elsewhere."""
    package = Path(__file__).resolve().parents[1]
    here = package.parent
    if not (here / ".git").exists():
        return None
    try:
        run = [
            subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True, timeout=10)
            for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain", "-uno", "--", package.name))
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return run[0].stdout.strip() + ("+changes" if run[1].stdout.strip() else "")


def image_digest(images: "Tensor") -> str:
    """SHA-256 of the prepared images' values rounded to 1e-9: the same on every machine."""
    return hashlib.sha256((images.cpu() * 1e9).round().long().numpy().tobytes()).hexdigest()


def check_writable(folder: Path) -> None:
    """Raise ``ValueError`` unless files can be written into a folder that is there or can be made."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        reason = "a file is in the way" if not there.is_dir() else error.strerror
        raise ValueError(f"out must be a writable folder, got {str(folder)!r} ({reason}); choose another") from None
