"""Runs and workers that are killed: the next run ends in the same table, and at most the chunks in flight are lost."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from store_cases import SMALL, copy, files, same

from stability import cli
from stability.sweeps import tasks
from stability.sweeps.chunks import Cut
from stability.sweeps.inspection import verify
from stability.sweeps.result import read_rows
from stability.sweeps.run import run
from stability.sweeps.store import Store


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "store"
    run(SMALL, folder)
    return folder


def start(spec_file: Path, folder: Path, *more: str) -> subprocess.Popen:
    # behind whoever watches: on a busy machine a run may else end before it is seen and killed
    polite = ["nice", "-n", "15"] if shutil.which("nice") else []
    arguments = [*polite, sys.executable, "-m", "stability", "run", str(spec_file), "--store", str(folder), *more]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def until(folder: Path, parts: int, process: subprocess.Popen) -> None:
    """Wait until so many parts are there."""
    end = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < end:
        if len(list((folder / "parts").glob("[!.]*.parquet"))) >= parts:
            return
        time.sleep(0.005)


def kill_and_go_on(moments: list[int], sent: signal.Signals, spec_file: Path, folder: Path) -> list[int]:
    """Kill the run when it has so many parts, again and again; the chunks that each run computed."""
    there = []
    for moment in moments:
        process = start(spec_file, folder)
        until(folder, moment, process)
        os.killpg(process.pid, sent)
        process.communicate()
        there.append(len(list((folder / "parts").glob("[!.]*.parquet"))))
    return there


@pytest.fixture
def spec_file(tmp_path) -> Path:
    (tmp_path / "spec.json").write_text(SMALL.to_json())
    return tmp_path / "spec.json"


@pytest.mark.parametrize(
    ("sent", "moments"),
    [(signal.SIGKILL, [5]), pytest.param(signal.SIGINT, [2, 9], marks=pytest.mark.slow)],
)
def test_a_killed_run_loses_the_chunk_it_was_at_and_no_more(sent, moments, whole, spec_file, tmp_path):
    total = len(Cut(SMALL).chunks)
    for attempt in range(10):  # a run may end before it is seen and killed
        folder = tmp_path / f"store{attempt}"
        there = kill_and_go_on(moments, sent, spec_file, folder)
        if there[-1] < total:
            break
    assert moments[0] <= there[0] <= there[-1] < total
    before = {name: (folder / name).stat().st_mtime_ns for name in files(folder) if not Path(name).name.startswith(".")}
    done = run(SMALL, folder)
    assert done.computed == total - there[-1]
    kept = {name: (folder / name).stat().st_mtime_ns for name in before}
    assert {name for name in before if kept[name] != before[name]} <= {"run.json"}
    assert same(read_rows(folder), read_rows(whole))
    assert files(folder) == files(whole)


@pytest.mark.slow
def test_twenty_kills_at_random_moments_end_in_the_undisturbed_table(whole, spec_file, tmp_path, generator):
    folder = tmp_path / "store"
    total = len(Cut(SMALL).chunks)
    for _ in range(20):
        process = start(spec_file, folder, *(["-j", "2"] if torch.rand((), generator=generator) < 0.5 else []))
        there = len(list((folder / "parts").glob("[!.]*.parquet")))
        if there < total:
            until(folder, there + int(torch.randint(0, 2, (), generator=generator)), process)
        time.sleep(0.3 * float(torch.rand((), generator=generator)))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    run(SMALL, folder)
    assert same(read_rows(folder), read_rows(whole))
    assert files(folder) == files(whole)
    assert verify(Store(folder), recompute=3)[0] == []


def _dies_once(task):
    """A worker that is killed the first time it is given a chunk."""
    marker = Path(os.environ["STABILITY_TEST_MARKER"])
    if not marker.exists():
        marker.write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return tasks.work(task)


@pytest.mark.slow
def test_a_killed_worker_is_replaced(whole, tmp_path, monkeypatch):
    from joblib.externals.loky import get_reusable_executor

    from stability.sweeps import job as module

    monkeypatch.setenv("STABILITY_TEST_MARKER", str(tmp_path / "marker"))
    get_reusable_executor().shutdown(wait=True)  # workers that are started now see the variable
    monkeypatch.setattr(module, "work", _dies_once)
    done = run(SMALL, tmp_path / "store", jobs=2)
    assert (tmp_path / "marker").exists()
    assert done.missing == 0
    assert same(read_rows(tmp_path / "store"), read_rows(whole))


def _always_dies(task):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_worker_does_not_pass_a_torn_part_for_a_written_one(whole, tmp_path, monkeypatch):
    from joblib.externals.loky import get_reusable_executor

    from stability.sweeps import job as module

    folder = copy(whole, tmp_path / "store")
    for part in folder.glob("parts/*.parquet"):
        part.write_bytes(part.read_bytes()[:-100])
    monkeypatch.setenv("STABILITY_TEST_MARKER", str(tmp_path / "marker"))
    get_reusable_executor().shutdown(wait=True)
    monkeypatch.setattr(module, "work", _dies_once)
    done = run(SMALL, folder, jobs=2)
    assert (tmp_path / "marker").exists()
    assert len(done.torn) == done.total
    assert same(read_rows(folder), read_rows(whole))


@pytest.mark.slow
def test_workers_that_always_die_are_not_replaced_for_ever(tmp_path, monkeypatch, capsys):
    from stability.sweeps import job as module

    monkeypatch.setattr(module, "work", _always_dies)
    (tmp_path / "spec.json").write_text(SMALL.to_json())
    assert cli.main(["run", str(tmp_path / "spec.json"), "--store", str(tmp_path / "store"), "-j", "2"]) == 1
    assert "killed" in capsys.readouterr().err


def test_another_engine_can_be_set(whole, tmp_path):
    import joblib

    with joblib.parallel_config(backend="threading"):
        run(SMALL, tmp_path / "store", jobs=2)
    assert same(read_rows(tmp_path / "store"), read_rows(whole))


@pytest.mark.slow
def test_an_interrupt_is_told_in_one_line_and_no_thread_complains(whole, spec_file, tmp_path):
    folder = tmp_path / "store"
    process = start(spec_file, folder, "-j", "2")
    until(folder, 2, process)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate()
    if process.returncode != 0:  # it may have finished first
        assert process.returncode == 130
        assert "interrupted" in said.decode()
        assert "Exception in thread" not in said.decode()
    run(SMALL, folder)
    assert same(read_rows(folder), read_rows(whole))
