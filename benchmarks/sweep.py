"""What a sweep of 10,000 cheap cells loses to its machinery, and what a store adds to the same cells in memory.

    python benchmarks/sweep.py > reports/benchmarks/sweep.txt

Machinery is all that a run does besides computing cells: cutting and hashing the spec, handing out chunks, writing
parts, reading them again, the table. The start of Python and the import of torch are told apart: they are paid once.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import stability as st

REPEATS = 5


def spec() -> st.SweepSpec:
    """20 images of 16 x 16 pixels, 500 fields, the linear kernel: the cheapest cells that there are."""
    return st.SweepSpec(
        images=st.ImagesSpec(name="fashion", count=20, size=(16, 16)),
        architecture=st.Architecture((st.Layer(3, 2.0),)),
        representations=[st.LinearSpec()],
        deformations=[st.FourierSpec(cutoff=2, displacement_norm=[0.25, 0.5, 1, 2])],
        fields=125,
    )


def main() -> None:
    """Print a table of medians over ``REPEATS`` runs."""
    chosen = spec()
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import stability.sweeps.run"], check=True)
    started = time.perf_counter() - start
    rows, runs, memory = 0, [], []
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(st.run(chosen, Path(folder) / "store"))
        begin = time.perf_counter()
        rows = len(st.sweep(chosen))
        memory.append(time.perf_counter() - begin)
    lost = [(done.seconds - done.seconds_in_cells) / done.seconds for done in runs]
    print(f"{rows} cells in {runs[0].total} chunks, one process; medians of {REPEATS} runs")
    print(f"whole run              {statistics.median(done.seconds for done in runs):7.2f} s")
    print(f"in cells               {statistics.median(done.seconds_in_cells for done in runs):7.2f} s")
    print(f"lost to the machinery  {100 * statistics.median(lost):7.1f} %   (lowest {100 * min(lost):.1f} %)")
    print(f"store / memory         {statistics.median(d.seconds / m for d, m in zip(runs, memory, strict=True)):7.2f}")
    print(f"start of the process   {started:7.2f} s   (Python, torch; not counted above)")


if __name__ == "__main__":
    main()
