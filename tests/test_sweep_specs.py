"""Specifications hash, survive JSON and refuse in one line; runs are written whole or not at all."""

import json

import pandas as pd
import pytest
import torch
from sweep_cases import spec

import stability as st
from stability.sweeps import result
from stability.sweeps.result import read_rows, read_run, write_run


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return st.sweep(spec(vary={}, fields=1))


# --- specification ------------------------------------------------------------------------------------------------


def test_equal_specs_hash_equally_and_survive_json():
    a = spec(vary={"layers.-1.pooling_scale": [2, 4], "front_end": [None, st.front_ends.MeanRemoval()]})
    b = spec(vary={"layers.-1.pooling_scale": [2.0, 4.0], "front_end": [None, {"kind": "mean_removal"}]})
    assert a == b
    assert (hash(a), a.hash) == (hash(b), b.hash)
    assert st.SweepSpec.from_json(a.to_json()) == a
    assert spec(seed=1).hash != spec(seed=2).hash
    assert st.SweepSpec(**json.loads(a.to_json())).hash == a.hash


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": 1}, "did you mean 'images'"),
        ({"images": {"name": "fashoin"}}, "did you mean 'fashion'"),
        ({"images": {"count": 0}}, "count"),
        ({"deformations": []}, "deformations"),
        ({"deformations": [{"kind": "forier"}]}, "did you mean 'fourier'"),
        ({"deformations": [{"kind": "fourier", "cutof": 3}]}, "did you mean 'cutoff'"),
        ({"deformations": [{"kind": "fourier"}]}, "displacement_norm or jacobian_norm"),
        ({"deformations": [{"kind": "fourier", "jacobian_norm": 0.1, "shift": (1, 0)}]}, "both norms"),
        ({"deformations": [{"kind": "translation", "displacement_norm": float("nan")}]}, "nan"),
        ({"vary": {"layers.-1.poling_scale": [1]}}, "did you mean 'pooling_scale'"),
        ({"rungs": ["close_form"]}, "did you mean 'closed_form'"),
        (
            {"architecture": {"layers": [{"patch_size": 3, "pooling_scale": 1, "kernel": {"kind": "exp"}}]}},
            "exponential",
        ),
        ({"on_unreachable": "ignore"}, "on_unreachable"),
        ({"warp": {"kind": "bilinaer"}}, "did you mean 'bilinear'"),
    ],
)
def test_wrong_specs_are_told_in_one_line(changes, message):
    with pytest.raises(ValueError, match=message) as error:
        spec(**changes)
    assert "\n" not in str(error.value)


def test_wrong_sizes_and_jobs_are_told_before_any_work():
    with pytest.raises(ValueError, match="multiple of"):
        st.sweep(spec(images=st.ImagesSpec(size=(15, 15)), architecture=st.Architecture.dyadic(depth=2), vary={}))
    with pytest.raises(ValueError, match="jobs"):
        st.sweep(spec(), jobs=0)


# --- on disk ------------------------------------------------------------------------------------------------------


def test_run_is_written_with_its_provenance(tmp_path, frame):
    write_run(tmp_path / "run", frame, spec(), {"images_sha256": "0"})
    pd.testing.assert_frame_equal(read_rows(tmp_path / "run"), frame)
    run = read_run(tmp_path / "run")
    assert run["hash"] == spec().hash
    assert st.SweepSpec(**run["spec"]) == spec()
    assert run["versions"]["torch"] == torch.__version__
    assert "commit" in run
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["rows.parquet", "run.json"]


def test_rows_of_another_spec_are_never_overwritten(tmp_path, frame):
    write_run(tmp_path, frame, spec(), {})
    before = (tmp_path / "rows.parquet").read_bytes()
    with pytest.raises(ValueError, match="another folder"):
        st.sweep(spec(seed=5), out=tmp_path)
    assert (tmp_path / "rows.parquet").read_bytes() == before
    result.check_folder(tmp_path, spec())  # the same spec may be written again
    (tmp_path / "run.json").unlink()
    with pytest.raises(ValueError, match="another folder"):
        result.check_folder(tmp_path, spec())
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="folder"):
        result.check_folder(tmp_path / "file", spec())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "rows.parquet"
    target.write_text("old")
    with result.replacing(tmp_path / "other") as temporary:
        temporary.write_text("whole")
        written = temporary.stat().st_ino
    assert (tmp_path / "other").stat().st_ino == written  # moved into place, not copied
    (tmp_path / "other").unlink()
    with pytest.raises(RuntimeError), result.replacing(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]
    assert target.read_text() == "old"
