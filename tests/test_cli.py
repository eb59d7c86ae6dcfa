"""The command line: exit codes, one-line errors, the main job on a small specification."""

import json
import subprocess
import sys
import time

import pandas as pd
import pytest

import stability as st
from stability import cli, quickstart
from stability.bounds.closed_form import closed_form
from stability.cli import theory
from stability.sweeps.result import read_rows, read_run

BOUND = ["bound", "--patch-sizes", "3", "3", "--pooling-scales", "2", "4", "--displacement", "2", "--jacobian", ".2"]


def test_bound_prints_the_closed_form(capsys):
    assert cli.main([*BOUND, "--kernels", "exponential", "arc-cosine-1", "--hessian", "0.1"]) == 0
    printed = capsys.readouterr().out
    arch = st.Architecture((st.Layer(3, 2.0), st.Layer(3, 4.0, 1, st.kernels.ArcCosine(1))))
    form = closed_form(arch, displacement_norm=2, jacobian_norm=0.2, hessian_norm=0.1)
    assert printed.strip() == form.to_text()
    assert "proof, numerically evaluated" in printed


def test_bound_takes_every_option(capsys):
    more = "--subsampling 2 1 --antialiasing 0 --kernels exponential:2.37 --divergence .1 --mean 1 --residual 1.2"
    assert cli.main([*BOUND, *more.split()]) == 0
    assert "aliasing 1" in capsys.readouterr().out
    line = "bound --patch-sizes 3 --pooling-scales 2 --displacement 1 --jacobian .1 --dimension 1 --volume-preserving"
    assert cli.main(line.split()) == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("bund", "did you mean 'bound'"),
        ("bound --patch-size 3", "did you mean '--patch-sizes'"),
        ("bound --patch-sizes 3 --pooling-scales 2 --displacement 2 --jacobian 1.2", "diffeomorphism"),
        ("bound --patch-sizes 3 --pooling-scales 2 --displacement -2 --jacobian .2", "displacement_norm"),
        ("bound --patch-sizes 3 --pooling-scales 2 --displacement nan --jacobian .2", "displacement"),
        ("bound --patch-sizes 3 --pooling-scales 2 4 --displacement 2 --jacobian .2", "one value per layer"),
        (
            "bound --patch-sizes 3 --pooling-scales 2 --displacement 2 --jacobian .2 --kernels exponentail",
            "'exponential'",
        ),
        (
            "bound --patch-sizes 3 --pooling-scales 2 --displacement 2 --jacobian .2 --kernels arc:2",
            "exponential:ALPHA",
        ),
        ("bound --patch-sizes three --pooling-scales 2 --displacement 2 --jacobian .2", "--patch-sizes"),
        ("bound", "--jacobian"),
        ("quickstart -j -3", "jobs"),
        ("quickstart --out /dev/null/x", "a file is in the way"),
        ("run {spec} --store /dev/null/x", "a file is in the way"),
        ("run {spec} --store=", "name of a folder"),
        ("", "command"),
        ("--bogus", "bogus"),
        ("quickstart -j 0", "jobs"),
        ("quickstart --uot x", "did you mean '--out'"),
        ("run nowhere.yaml --store x", "nowhere.yaml"),
    ],
)
def test_wrong_input_gets_one_line_and_exit_code_2(line, message, capsys, tmp_path, monkeypatch):
    spec = tmp_path / "spec.yaml"
    if "{spec}" in line:
        spec.write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    assert cli.main(line.format(spec=spec).split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert [path for path in tmp_path.iterdir() if path != spec] == []


SPEC = """
images: {name: blobs, count: 2, size: [12, 12]}
architecture: {layers: [{patch_size: 3, pooling_scale: 2}]}
deformations: [{kind: translation, displacement_norm: [1, 2], angles: 2}]
"""


def test_run_reads_yaml_and_json(tmp_path, capsys):
    (tmp_path / "spec.yaml").write_text(SPEC)
    assert cli.main(["run", str(tmp_path / "spec.yaml"), "--store", str(tmp_path / "a")]) == 0
    rows = read_rows(tmp_path / "a")
    assert len(rows) == 2 * 4 * 2
    (tmp_path / "spec.json").write_text(json.dumps(read_run(tmp_path / "a")["spec"]))
    assert cli.main(["run", str(tmp_path / "spec.json"), "--store", str(tmp_path / "b"), "-j", "1"]) == 0
    pd.testing.assert_series_equal(rows.distance, read_rows(tmp_path / "b").distance)
    assert "rows.parquet" in capsys.readouterr().out


UNREACHABLE = "fourier, displacement_norm: 0.01, jacobian_norm: 0.9"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SPEC.replace("images", "imagse"), "did you mean 'images'"),
        (SPEC.replace("translation, displacement_norm: [1, 2], angles: 2", UNREACHABLE), "must lie in"),
        ("- 1", "mapping"),
        ("1: 2", "must be a name"),
        (SPEC.replace("[{patch_size: 3, pooling_scale: 2}]", "3"), "list of mappings"),
        (SPEC.replace(", pooling_scale: 2", ""), "must have pooling_scale"),
        (SPEC.replace("pooling_scale: 2}", "pooling_scale: 2, kernel: {kind: exponential, alpha: 'x'}}"), "alpha"),
        (SPEC.replace("count: 2", "count: 10000000"), "ask for fewer"),
        (SPEC.replace("size: [12, 12]", "size: 12"), "must be a list"),
        (SPEC.replace("size: [12, 12]", "size: [0, 12]"), "ImagesSpec.size"),
        (SPEC.replace("kind: translation", "kin: translation"), "'kind'"),
        (SPEC + "vary: {layers.0.pooling_scale: []}", "at least one"),
        (SPEC + "vary: {layers.0.kernel: [exponential]}", "'kind'"),
        ("a: [", "valid yaml"),
    ],
)  # fmt: skip
def test_wrong_specification_files_write_nothing(text, message, tmp_path, capsys):
    (tmp_path / "spec.yaml").write_text(text)
    assert cli.main(["run", str(tmp_path / "spec.yaml"), "--store", str(tmp_path / "store")]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["spec.yaml"]


def test_help_and_bound_start_in_under_a_second():
    for arguments in (["--help"], BOUND):
        times = []
        for _ in range(3):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-m", "stability", *arguments], check=True, capture_output=True)
            times.append(time.perf_counter() - start)
        assert min(times) < 1.0


@pytest.fixture
def small(monkeypatch):
    specification = quickstart.specification
    monkeypatch.setattr(quickstart, "specification", lambda: specification(count=2, size=(12, 12), fields=1))


def test_quickstart_writes_one_page_with_everything(small, tmp_path, capsys):
    folder = tmp_path / "quick"
    assert cli.main(["quickstart", "--out", str(folder), "-j", "1"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[-1].endswith("index.html")
    assert len(lines) == 6  # the five lines that matter, and where the page is
    page = (folder / "index.html").read_text()
    assert all(name in page for name in ("proof", "estimate", "stability quickstart"))
    rows = read_rows(folder)
    assert set(rows["sweep"]) == {"curves", "pooling_scale", "patch_size", "plane", "grid"}
    assert rows[rows["sweep"] == "grid"].refinement.notna().all()
    assert "grid twice as fine" in page
    assert set(rows.front_end) == {"none", "mean_removal"}
    run = read_run(folder)
    assert run["kind"] == "quickstart"
    quickstart.check_folder(folder)  # an earlier quickstart may be replaced


def test_quickstart_touches_no_foreign_folder(small, tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert cli.main(["quickstart", "--out", str(tmp_path)]) == 2
    assert cli.main(["quickstart", "--out", str(tmp_path / "thesis.tex")]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    assert "another folder" in capsys.readouterr().err


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    folder = tmp_path / "quick"
    for content in ("first", "second"):
        with quickstart.replaced(folder) as new:
            (new / content).write_text("")
        assert [path.name for path in folder.iterdir()] == [content]
        assert [path.name for path in tmp_path.iterdir()] == ["quick"]


def test_a_failed_quickstart_leaves_the_earlier_one_whole(small, tmp_path, monkeypatch, capsys):
    from stability import plots

    folder = tmp_path / "quick"
    folder.mkdir()
    (folder / "run.json").write_text('{"kind": "quickstart"}')

    def fail(where):
        raise OSError("no space left on device")

    monkeypatch.setattr(plots, "draw_all", fail)
    assert cli.main(["quickstart", "--out", str(folder), "-j", "1"]) == 1
    assert "no space left" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["quick"]
    assert [path.name for path in folder.iterdir()] == ["run.json"]


def test_interrupt_is_told(monkeypatch, capsys):
    def interrupt(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(theory, "run", interrupt)
    assert cli.main(BOUND) == 130
    assert "as it was" in capsys.readouterr().err
