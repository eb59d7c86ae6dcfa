"""The store: whole parts or none; resumed, sharded and parallel runs end in the same table; nothing is lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from store_cases import SMALL, copy, files, same
from sweep_cases import spec

import stability as st
from stability import cli
from stability.sweeps import tasks
from stability.sweeps.chunks import Cut
from stability.sweeps.inspection import first_difference, verify
from stability.sweeps.result import read_rows, read_run
from stability.sweeps.run import Shard, run, share
from stability.sweeps.store import Store, TornPartError


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "store"
    run(SMALL, folder)
    return folder


# --- one run ------------------------------------------------------------------------------------------------------


def test_a_store_holds_its_spec_parts_table_and_provenance(whole):
    cut = Cut(SMALL)
    models = sum(model.chosen.kind == "ckn" for model in cut.models)
    assert len(files(whole)) == len(cut.chunks) + models + 4
    assert {"spec.json", "rows.parquet", "run.json", "strip.npz"} <= set(files(whole))
    record = read_run(whole)
    assert record["hash"] == SMALL.hash
    assert st.SweepSpec(**record["spec"]) == SMALL
    assert record["versions"]["torch"] == torch.__version__
    assert "commit" in record
    assert len(record["images_sha256"]) == 64


def test_a_store_gives_the_rows_of_a_sweep_in_memory(whole):
    assert same(read_rows(whole), st.sweep(SMALL))
    assert same(st.sweep(SMALL, out=whole), read_rows(whole))


def test_tables_that_differ_are_told_apart(whole):
    rows = read_rows(whole)
    changed = rows.assign(distance=rows.distance * (1 + 1e-6))
    assert first_difference(rows, changed) == "'distance'"
    assert first_difference(rows, rows.iloc[1:]) is not None
    assert first_difference(rows, rows.assign(seconds=0.0)) is None


def test_a_complete_store_is_not_computed_again(whole, monkeypatch):
    def never(task):
        raise AssertionError("computed again")

    before = {name: (whole / name).stat().st_mtime_ns for name in files(whole)}
    monkeypatch.setattr(tasks, "work", never)
    done = run(SMALL, whole)
    assert (done.computed, done.missing) == (0, 0)
    assert before == {name: (whole / name).stat().st_mtime_ns for name in files(whole)}


def test_a_part_that_is_missing_or_torn_is_computed_again_and_no_other(whole, tmp_path):
    folder = copy(whole, tmp_path / "store")
    store, cut = Store(folder), Cut(SMALL)
    gone, torn, swapped = cut.chunks[0], cut.chunks[-1], cut.chunks[-2]
    store.discard(gone)
    path = folder / "parts" / f"{torn.address}.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    other = folder / "parts" / f"{swapped.address}.parquet"
    other.write_bytes((folder / "parts" / f"{cut.chunks[-3].address}.parquet").read_bytes())
    with pytest.raises(TornPartError, match="torn"):
        store.read(torn)
    with pytest.raises(TornPartError, match="chunk of its name"):
        store.read(swapped)
    faults, _ = verify(store)
    assert len(faults) == 2
    done = run(SMALL, folder)
    assert done.computed == 3
    assert set(done.torn) == {torn.address[:12], swapped.address[:12]}
    assert same(read_rows(folder), read_rows(whole))
    assert verify(store) == ([], verify(store)[1])


def test_one_flipped_byte_is_found(whole, tmp_path):
    folder = copy(whole, tmp_path / "store")
    path = folder / "parts" / f"{Cut(SMALL).chunks[-1].address}.parquet"
    content = bytearray(path.read_bytes())
    content[300] ^= 1
    path.write_bytes(bytes(content))
    faults, _ = verify(Store(folder))
    assert len(faults) == 1
    assert path.name in faults[0]


def test_verify_computes_again_and_finds_a_number_that_is_not_its_chunks(whole, tmp_path):
    folder = copy(whole, tmp_path / "store")
    store, cut = Store(folder), Cut(SMALL)
    assert verify(store, recompute=4)[0] == []
    for chunk in cut.chunks:
        if not chunk.pairs:
            table = store.read(chunk).to_pandas()
            import pyarrow as pa

            store.write(chunk, pa.Table.from_pandas(table.assign(distance=table.distance + 1e-3), preserve_index=False))
    faults, _ = verify(store, recompute=len(cut.chunks))
    assert sum("what its chunk gives" in fault for fault in faults) == sum(not chunk.pairs for chunk in cut.chunks)
    assert any("rows.parquet" in fault for fault in faults)


# --- many runs ------------------------------------------------------------------------------------------------------


def test_two_shards_give_the_same_numbers(whole, tmp_path):
    first = run(SMALL, tmp_path / "shards", shard=Shard(1, 2))
    assert first.missing == first.total - first.computed > 0
    assert not (tmp_path / "shards" / "rows.parquet").exists()
    assert run(SMALL, tmp_path / "shards", shard=Shard(2, 2)).missing == 0
    assert same(read_rows(tmp_path / "shards"), read_rows(whole))
    assert files(tmp_path / "shards") == files(whole)


@pytest.mark.slow
def test_two_processes_give_the_same_numbers(whole, tmp_path):
    run(SMALL, tmp_path / "two", jobs=2)
    assert same(read_rows(tmp_path / "two"), read_rows(whole))
    assert files(tmp_path / "two") == files(whole)


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_shards_share_all_chunks_out_once(count):
    cut = Cut(SMALL)
    parts = [share(cut, Shard(i, count)) for i in range(1, count + 1)]
    addresses = [chunk.address for part in parts for chunk in part]
    assert sorted(addresses) == sorted(chunk.address for chunk in cut.chunks)
    with pytest.raises(ValueError, match="1 <= i <= N"):
        share(cut, Shard(count + 1, count))


def test_a_failing_class_costs_its_own_chunks_only(tmp_path, capsys):
    broken = st.SweepSpec(
        images={"count": 4, "size": [16, 16]},
        fields=1,
        representations=[
            {"class_path": "own_classes.Broken"},
            {"class_path": "own_classes.Net", "layers": ["features.1"]},
        ],
    )
    done = run(broken, tmp_path / "store")
    assert len(done.failures) >= 1
    assert all("no such batch" in failure for failure in done.failures)
    assert done.missing == len(done.failures)
    assert not (tmp_path / "store" / "rows.parquet").exists()
    frame = Path(tmp_path / "spec.json")
    frame.write_text(broken.to_json())
    assert cli.main(["run", str(frame), "--store", str(tmp_path / "store")]) == 1
    assert "no such batch" in capsys.readouterr().err
    assert cli.main(["export", str(tmp_path / "store"), "-o", str(tmp_path / "rows.csv"), "--partial"]) == 0
    assert set(pd.read_csv(tmp_path / "rows.csv").representation) == {"Net"}
    with pytest.raises(RuntimeError, match="no such batch"):
        st.sweep(broken)


# --- nothing is lost --------------------------------------------------------------------------------------------------


def test_a_store_of_another_spec_is_left_alone(whole, tmp_path, capsys):
    before = {name: (whole / name).read_bytes() for name in files(whole)}
    with pytest.raises(ValueError, match="another folder"):
        run(spec(seed=5), whole)
    (tmp_path / "spec.json").write_text(spec(seed=5).to_json())
    assert cli.main(["run", str(tmp_path / "spec.json"), "--store", str(whole)]) == 2
    assert "hold the same spec" in capsys.readouterr().err
    assert before == {name: (whole / name).read_bytes() for name in files(whole)}


def test_a_folder_with_other_files_or_changed_images_is_refused(tmp_path, monkeypatch):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="new or empty"):
        run(SMALL, tmp_path)
    assert files(tmp_path) == ["thesis.tex"]
    run(SMALL, tmp_path / "store", shard=Shard(1, 2))
    from stability import images

    load = images.load
    monkeypatch.setattr(images, "load", lambda *a, **k: 0.5 * load(*a, **k))
    with pytest.raises(ValueError, match="images_sha256"):
        run(SMALL, tmp_path / "store", shard=Shard(2, 2))


def test_temporary_files_of_dead_processes_are_swept_away_and_others_are_not(whole, tmp_path):
    from stability.files import HOST

    folder = copy(whole, tmp_path / "store")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name in (f".x.parquet.{HOST}.{dead.pid}", f".y.parquet.{HOST}.{os.getpid()}", ".z.parquet.elsewhere.17"):
        (folder / "parts" / name).write_text("half")
    run(SMALL, folder)
    assert sorted(path.name[:2] for path in (folder / "parts").glob(".*")) == [".y", ".z"]


def test_a_full_disk_is_told_and_leaves_whole_parts(tmp_path, monkeypatch, capsys):
    write = Store.write
    count = iter(range(100))

    def full(self, chunk, table):
        if next(count) == 3:
            raise OSError(28, "No space left on device")
        write(self, chunk, table)

    monkeypatch.setattr(Store, "write", full)
    (tmp_path / "spec.json").write_text(SMALL.to_json())
    assert cli.main(["run", str(tmp_path / "spec.json"), "--store", str(tmp_path / "store")]) == 1
    assert "No space left" in capsys.readouterr().err
    store = Store(tmp_path / "store")
    assert len(store.there()) == 3
    assert verify(store)[0] == []


def test_status_and_export_say_what_is_there(whole, tmp_path, capsys):
    run(SMALL, tmp_path / "half", shard=Shard(1, 2))
    assert cli.main(["status", str(tmp_path / "half")]) == 0
    printed = capsys.readouterr().out
    assert f"{len(share(Cut(SMALL), Shard(1, 2)))} of {len(Cut(SMALL).chunks)}" in printed
    assert "not yet" in printed
    assert cli.main(["export", str(tmp_path / "half"), "-o", str(tmp_path / "x.csv")]) == 2
    assert "must be complete" in capsys.readouterr().err
    assert cli.main(["export", str(tmp_path / "half"), "-o", str(tmp_path / "x.csv"), "--partial"]) == 0
    rows = read_rows(whole)
    assert 0 < len(pd.read_csv(tmp_path / "x.csv")) < len(rows)
    for name, read in (("a.csv", pd.read_csv), ("a.parquet", pd.read_parquet), ("a.json", pd.read_json)):
        assert cli.main(["export", str(whole), "-o", str(tmp_path / name)]) == 0
        assert read(tmp_path / name).distance.tolist() == pytest.approx(rows.distance.tolist(), rel=1e-9)
    assert cli.main(["export", str(whole), "-o", str(tmp_path / "a.cvs")]) == 2
    assert "'.csv'" in capsys.readouterr().err
    assert cli.main(["status", str(tmp_path)]) == 2
    assert "spec.json" in capsys.readouterr().err
    assert cli.main(["verify", str(whole), "--recompute", "2"]) == 0
    assert "0 faults" in capsys.readouterr().out


def test_parts_of_another_version_of_the_code_are_kept_but_not_used(whole, tmp_path, monkeypatch, capsys):
    folder = copy(whole, tmp_path / "store")
    monkeypatch.setattr("stability.sweeps.chunks.code_version", lambda: "another")
    assert cli.main(["status", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert f"others    {len(Cut(SMALL).chunks)} parts" in printed
    assert run(SMALL, folder).computed == len(Cut(SMALL).chunks)
    assert len(Store(folder).there()) == 2 * len(Cut(SMALL).chunks)


def test_a_changed_spec_file_is_found(whole, tmp_path):
    folder = copy(whole, tmp_path / "store")
    entries = json.loads((folder / "spec.json").read_text())
    entries["hash"] = "0" * 64
    (folder / "spec.json").write_text(json.dumps(entries))
    assert any("hash" in fault for fault in verify(Store(folder))[0])
