import importlib.util
import sys
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("claims", Path(__file__).parents[1] / "benchmarks" / "control_claims.py")
claims = importlib.util.module_from_spec(_spec)
sys.modules["claims"] = claims
_spec.loader.exec_module(claims)

TASK = claims.Task(requests=12, seed=3, families=("bump",), shard=6)


@pytest.fixture
def here(monkeypatch):
    """Shards are made in this process: the module is no installed one."""

    class Future:
        def __init__(self, value):
            self.result = lambda: value

    class Pool:
        def __init__(self, *arguments, **options):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def submit(self, function, *arguments):
            return Future(function(*arguments))

    monkeypatch.setattr(claims, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(claims, "as_completed", lambda futures: reversed(futures))


def without_seconds(report):
    return report.split(" of one thread")[1]


def test_shards_make_up_all_requests_and_have_seeds_of_their_own():
    outcomes = [claims.Task.outcomes(TASK, k) for k in TASK.shards]
    assert [len(part) for part in outcomes] == [6, 6]
    assert outcomes[0] == TASK.outcomes(0)
    assert outcomes[0] != outcomes[1]
    assert claims.Task(12, 4, ("bump",), 6).outcomes(0) != outcomes[0]


def test_families_take_turns_across_shards():
    task = claims.Task(requests=15, seed=0, families=("bump", "local_affine"), shard=5)
    assert [task.outcomes(k)[0].family for k in task.shards] == ["bump", "local_affine", "bump"]


def test_the_report_is_about_every_request_in_any_order(tmp_path, here):
    outcomes = [outcome for k in TASK.shards for outcome in TASK.outcomes(k)]
    table = claims.run(TASK, tmp_path, jobs=2)
    assert without_seconds(table) == without_seconds(claims.report(outcomes, 0.0))
    assert (tmp_path / "report.txt").read_text() == table + "\n"


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, here, monkeypatch):
    table = claims.run(TASK, tmp_path, jobs=1)
    (tmp_path / "shard-00000.json").unlink()
    (tmp_path / "shard-00001.json").rename(tmp_path / "shard-00001.part")  # killed while it was written
    made, outcomes = [], claims.Task.outcomes
    monkeypatch.setattr(claims.Task, "outcomes", lambda task, k: (made.append(k), outcomes(task, k))[1])
    assert without_seconds(claims.run(TASK, tmp_path, jobs=1)) == without_seconds(table)
    assert sorted(made) == [0, 1]


def test_shards_of_another_task_are_not_mixed_in(tmp_path, here):
    claims.run(TASK, tmp_path, jobs=1)
    with pytest.raises(ValueError, match="same task"):
        claims.run(claims.Task(12, 4, ("bump",), 6), tmp_path, jobs=1)
