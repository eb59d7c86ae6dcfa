"""Accidents that a stranger provoked, each with the behaviour that was promised."""

import json
import threading
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from store_cases import SMALL, copy, files, same
from sweep_cases import spec
from torch import nn

import stability as st
from stability import cli
from stability.sweeps.inspection import status, verify
from stability.sweeps.result import read_rows
from stability.sweeps.run import run
from stability.sweeps.store import Store


class Zero(nn.Module):
    """Sees nothing."""

    def forward(self, images):
        return 0.0 * images


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "store"
    run(SMALL, folder)
    return folder


def test_a_damaged_model_is_found_and_learnt_again(whole, tmp_path):
    folder = copy(whole, tmp_path / "store")
    (model, *_) = sorted(folder.glob("parts/*.safetensors"))
    content = bytearray(model.read_bytes())
    content[-2] ^= 0x41
    model.write_bytes(bytes(content))
    faults, _ = verify(Store(folder))
    assert len(faults) == 1
    assert model.name in faults[0]
    for part in folder.glob("parts/*.parquet"):
        part.unlink()
    run(SMALL, folder)
    assert same(read_rows(folder), read_rows(whole))
    assert verify(Store(folder))[0] == []


@pytest.mark.parametrize("how", ["torn", "edited", "gone", "no record"])
def test_a_table_that_is_not_what_the_parts_hold_is_written_again(how, whole, tmp_path, capsys):
    folder = copy(whole, tmp_path / "store")
    rows = folder / "rows.parquet"
    if how == "torn":
        rows.write_bytes(rows.read_bytes()[:200])
    elif how == "edited":
        pd.read_parquet(rows).assign(distance=9.0).to_parquet(rows)
    elif how == "gone":
        rows.unlink()
    else:
        (folder / "run.json").unlink()
    assert "missing or changed" in status(Store(folder))[-1]
    if how == "torn":
        assert cli.main(["report", str(folder)]) == 2
        assert "writes the table from its parts" in capsys.readouterr().err
    assert cli.main(["export", str(folder), "-o", str(tmp_path / "rows.parquet")]) == 0  # from the parts
    assert same(pd.read_parquet(tmp_path / "rows.parquet"), read_rows(whole))
    assert run(SMALL, folder).computed == 0
    assert same(read_rows(folder), read_rows(whole))
    assert status(Store(folder))[-1].endswith("written")


def test_rows_that_are_all_out_of_reach_are_rows(tmp_path):
    far = spec(
        vary={},
        fields=1,
        on_unreachable="record",
        deformations=[st.FourierSpec(cutoff=2, displacement_norm=6.0, jacobian_norm=0.01)],
    )
    frame = st.sweep(far, out=tmp_path / "store")
    assert set(frame.status_closed_form) == {"out of reach"}
    assert frame.distance.isna().all()


def test_a_varied_antialiasing_of_none_is_a_number_in_its_column(tmp_path):
    frame = st.sweep(
        spec(
            vary={"antialiasing": [None, 1, 2]},
            representations=[st.LinearSpec()],
            deformations=[st.TranslationSpec(displacement_norm=[1.0, 2.0], angles=1)],
            fields=1,
        ),
        out=tmp_path / "store",
    )
    assert sorted(frame.antialiasing.unique()) == [0.0, 1.0, 2.0]
    assert cli.main(["report", str(tmp_path / "store")]) == 0


def test_a_store_without_a_distance_above_zero_has_a_page(tmp_path):
    st.sweep(
        st.SweepSpec(
            images={"count": 2, "size": [12, 12]},
            fields=1,
            representations=[{"class_path": "test_accidents.Zero"}],
        ),
        out=tmp_path / "store",
    )
    assert cli.main(["report", str(tmp_path / "store")]) == 0
    assert "nothing to draw" in (tmp_path / "store" / "index.html").read_text()


@pytest.mark.slow
def test_words_with_dollars_and_a_dozen_representations_can_be_drawn(tmp_path, recwarn):
    many = [{"kind": "cnn", "widths": [2, 2], "seed": i, "name": f"network {i}, a rather long name"} for i in range(11)]
    chosen = spec(
        images={"name": "fashion", "count": 2, "size": [16, 16]},
        vary={},
        fields=1,
        representations=[*many, {"kind": "linear", "name": r"loss $\frac$ x $x_1$ % \alpha"}],
        deformations=[st.TranslationSpec(displacement_norm=[1.0, 2.0], angles=1)],
    )
    st.sweep(chosen, out=tmp_path / "store")
    line = ["plot", str(tmp_path / "store"), "--figure", "distance_versus_deformation", "--style", "paper"]
    assert cli.main([*line, "-o", str(tmp_path / "f.png")]) == 0
    assert not [str(one.message) for one in recwarn if "constrained_layout" in str(one.message)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"deformations": [{"kind": "fourier", "cutoff": 30, "displacement_norm": 1}]},
        {"deformations": [{"class_path": "own_classes.Drift", "init_args": {"sped": 1}, "displacement_norm": 1}]},
        {"representations": [{"class_path": "torch.nn.Linear", "init_args": {"in_features": 7, "out_features": 2}}]},
        {"images": {"name": "fashion", "count": 100_000, "size": [16, 16]}},
    ],
)
def test_what_run_refuses_plan_refuses_and_nothing_is_written(wrong, tmp_path, capsys):
    data = json.loads(spec(vary={}, fields=1).to_json()) | wrong
    if "representations" in wrong:
        data |= {"deformations": [], "warp": None}
        data["images"]["domain"] = None
    (tmp_path / "spec.json").write_text(json.dumps(data))
    assert cli.main(["run", str(tmp_path / "spec.json"), "--store", str(tmp_path / "store")]) == 2
    first = capsys.readouterr().err
    assert cli.main(["plan", str(tmp_path / "spec.json")]) == 2
    assert capsys.readouterr().err == first
    assert files(tmp_path) == ["spec.json"]
    if "representations" in wrong:
        assert "'Linear'" in first


@pytest.mark.slow
def test_an_engine_that_hands_results_back_at_the_end_will_do(whole, tmp_path):
    with joblib.parallel_config(backend="multiprocessing"):
        run(SMALL, tmp_path / "store", jobs=2)
    assert same(read_rows(tmp_path / "store"), read_rows(whole))
    assert threading.active_count() < 50


def test_specs_are_frozen_to_the_core():
    one = spec()
    with pytest.raises(TypeError, match="frozen"):
        one.vary["antialiasing"] = (1,)
    assert np.all([spec().hash == one.hash, one.model_copy().hash == one.hash])
    assert st.SweepSpec(**one.model_dump()).hash == one.hash


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"kind": "arc_cosine", "degree": 1}, {"kind": "arc_cosine", "degree": 1.0}),
        ({"kind": "polynomial", "degree": 2}, {"kind": "polynomial", "degree": 2.0, "offset": 1}),
        ({"kind": "exponential", "alpha": 2}, {"kind": "exponential", "alpha": 2.0}),
    ],
)
def test_equal_kernels_hash_equally(one, other):
    assert spec(vary={"layers.0.kernel": [one]}).hash == spec(vary={"layers.0.kernel": [other]}).hash


def test_a_name_that_is_the_kind_is_no_other_spec_and_repetitions_are_refused():
    assert (
        spec(representations=[{"kind": "gram", "name": "gram"}]).hash == spec(representations=[{"kind": "gram"}]).hash
    )
    with pytest.raises(ValueError, match="must differ"):
        spec(vary={"antialiasing": [1, 1]})
    with pytest.raises(ValueError, match="must differ"):
        spec(deformations=[st.TranslationSpec(displacement_norm=1)] * 2)
    with pytest.raises(ValueError, match="did you mean 'record'"):
        spec(on_unreachable="recrd")
    with pytest.raises(ValueError, match="must be a SweepSpec"):
        st.sweep({"fields": 1})
