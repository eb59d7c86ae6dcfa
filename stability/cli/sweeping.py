"""``stability run | plan | status | verify | export``: a sweep from a file, and its store."""

import re
import sys
from pathlib import Path

from jsonargparse import Namespace

from stability.cli.parser import Command, Parser, add_jobs, check_jobs, given

DONE, FAILED = 0, 1
SETTINGS = "Any key of the specification can be changed: --images.count 4 --vary.layers.-1.pooling_scale '[1, 2]'."


def commands() -> list[Command]:
    """``run``, ``plan``, ``status``, ``verify``, ``export``."""
    run = Parser(
        description="Run the sweep of a JSON or YAML file; what the store has is not computed again. " + SETTINGS
    )
    run.add_argument("spec", nargs="?", help="file with a SweepSpec; docs/spec.md has an example")
    run.add_argument("--store", required=True, help="folder for the results: new, or begun with the same spec")
    run.add_argument("--shard", default="1/1", help="i/N: the i-th of N shares; several machines may fill one store")
    add_jobs(run, 1)

    plan = Parser(description="What a run would do: cells, chunks, memory, time, pairs out of reach. " + SETTINGS)
    plan.add_argument("spec", nargs="?", help="file with a SweepSpec")
    plan.add_argument("--store", help="a store that may have a part of it already")
    add_jobs(plan, 1)

    status = Parser(description="How far a store is.")
    status.add_argument("store", help="folder")

    verify = Parser(description="Whether every part of a store is whole and belongs to its spec.")
    verify.add_argument("store", help="folder")
    verify.add_argument("--recompute", type=int, default=0, help="compute so many chunks again and compare")

    export = Parser(description="The table of a store as one file.")
    export.add_argument("store", help="folder")
    export.add_argument("-o", "--out", required=True, help="file.csv, file.json or file.parquet")
    export.add_argument(
        "--partial", action="store_true", help="the rows that are there, of a store that is not complete"
    )
    return [
        Command("run", "run the sweep of a specification file", run, _run, settings=True, resumes=True),
        Command("plan", "what a run would do, and how long it would take", plan, _plan, settings=True),
        Command("status", "how far a store is", status, _status),
        Command("verify", "whether a store is whole", verify, _verify),
        Command("export", "the table of a store as one file", export, _export),
    ]


def _run(options: Namespace) -> int:
    _here()
    folder, jobs = given("store", options.store), check_jobs(options.jobs)
    index, count = _shard(options.shard)
    from stability.sweeps.files import read_spec

    spec = read_spec(options.spec, options.settings)

    from stability.sweeps.run import Shard, run  # loads torch

    done = run(spec, folder, jobs=jobs, shard=Shard(index, count), progress=True)
    for name in done.torn:
        print(f"stability: part {name} was damaged and is computed again", file=sys.stderr)
    there = done.total - done.missing
    spent = f" in {done.seconds:.3g} s ({done.seconds_in_cells:.3g} s of them in cells)" if done.computed else ""
    print(f"{done.computed} chunks computed{spent}; {there} of {done.total} are there")
    if done.failures:
        more = f" (and {len(done.failures) - 1} more)" if len(done.failures) > 1 else ""
        print(f"stability: {len(done.failures)} chunks failed: {done.failures[0]}{more}", file=sys.stderr)
        return FAILED
    if done.missing:
        print(f"table: when the other {done.missing} chunks are there")
    else:
        from stability.sweeps.result import ROWS

        print(f"table: {Path(folder, ROWS)}")
    return DONE


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    index, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= index <= count:
        raise ValueError(f"shard must be i/N with 1 <= i <= N, got {text!r}; the first of two is 1/2")
    return index, count


def _plan(options: Namespace) -> int:
    _here()
    jobs = check_jobs(options.jobs)
    from stability.sweeps.files import read_spec

    spec = read_spec(options.spec, options.settings)
    from stability.sweeps.plan import plan  # loads torch: reach is a matter of the fields drawn
    from stability.sweeps.store import Store

    store = None if options.store is None else Store(given("store", options.store))
    for line in plan(spec, jobs=jobs, store=store):
        print(line)
    return DONE


def _status(options: Namespace) -> int:
    _here()
    from stability.sweeps.inspection import status
    from stability.sweeps.store import Store

    for line in status(Store(given("store", options.store))):
        print(line)
    return DONE


def _verify(options: Namespace) -> int:
    _here()
    from stability.sweeps.inspection import verify
    from stability.sweeps.store import Store

    if options.recompute < 0:
        raise ValueError(f"recompute must be a number of chunks >= 0, got {options.recompute}; use --recompute 3")
    found, lines = verify(Store(given("store", options.store)), recompute=options.recompute)
    for line in lines:
        print(line)
    for line in found:
        print(f"stability: {line}", file=sys.stderr)
    return FAILED if found else DONE


def _export(options: Namespace) -> int:
    _here()
    from stability.sweeps.inspection import export
    from stability.sweeps.store import Store

    rows = export(Store(given("store", options.store)), Path(options.out), partial=options.partial)
    print(f"{rows} rows: {options.out}")
    return DONE


def _here() -> None:
    """Classes of modules in the current folder can be named by ``class_path``, as with ``python -m``."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
