"""The command line: exit codes, one-line errors, the main job on a small specification."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import stability as st
from stability import cli, quickstart
from stability.bounds import invariance
from stability.bounds.closed_form import closed_form
from stability.cli import searching, theory
from stability.sweeps.result import read_rows, read_run

BOUND = ["bound", "--patch-sizes", "3", "3", "--pooling-scales", "2", "4", "--displacement", "2", "--jacobian", ".2"]


def test_bound_prints_the_closed_form(capsys):
    assert cli.main([*BOUND, "--kernels", "exponential", "arc-cosine-1", "--hessian", "0.1"]) == 0
    printed = capsys.readouterr().out
    arch = st.Architecture((st.Layer(3, 2.0), st.Layer(3, 4.0, 1, st.kernels.ArcCosine(1))))
    form = closed_form(arch, displacement_norm=2, jacobian_norm=0.2, hessian_norm=0.1)
    assert printed.startswith(form.to_text())
    table = printed.partition("the first n layers\n")[2].splitlines()
    assert [line.split()[0] for line in table] == ["n", "1", "2"]
    assert table[2].endswith(form.combination)
    assert "proof, numerically evaluated" in printed


def test_bound_takes_every_option(capsys):
    more = "--subsampling 2 1 --antialiasing 0 --kernels exponential:2.37 --divergence .1 --mean 1 --residual 1.2"
    assert cli.main([*BOUND, *more.split()]) == 0
    assert "aliasing 1" in capsys.readouterr().out
    line = "bound --patch-sizes 3 --pooling-scales 2 --displacement 1 --jacobian .1 --dimension 1 --volume-preserving"
    assert cli.main(line.split()) == 0


def test_bound_takes_every_kernel_that_is_plain_data():
    from stability.plain_data import KERNELS

    assert {name.replace("-", "_") for name in theory.KERNELS} >= set(KERNELS) - {"from_activation"}
    assert theory.kernel("inverse-polynomial") == st.kernels.InversePolynomial()
    assert theory.kernel("polynomial:degree=3,offset=2") == st.kernels.Polynomial(3, 2.0)
    assert theory.kernel("leaky_relu:0.2") == st.kernels.LeakyReLU(0.2)
    assert theory.kernel("cosine:frequency=2,random_phase=False") == st.kernels.Cosine(2.0, random_phase=False)
    assert theory.kernel("arc-cosine-0") == st.kernels.ArcCosine(0)
    for name in theory.KERNELS:
        assert isinstance(theory.kernel(name), st.kernels.Kernel)


def test_bound_prints_tables(capsys):
    from stability import bounds
    from stability.bounds.ntk import tangent_kernel_form

    assert cli.main(["bound", "--constants", "--dimension", "1"]) == 0
    assert capsys.readouterr().out.strip() == bounds.constants_table(d=1).to_text()
    line = "bound --fixed-invariance 1 8 --most-layers 4 --displacement 1 --jacobian .1"
    assert cli.main(line.split()) == 0
    printed = capsys.readouterr().out
    norms = bounds.field_norms(displacement_norm=1.0, jacobian_norm=0.1)
    assert printed.strip() == invariance.to_text(bounds.over_layers(4, sigma_0=1.0, sigma_n=8.0, field=norms))
    assert cli.main([*BOUND, "--kernels", "leaky-relu:0.1", "--tangent-kernel"]) == 0
    kernel = st.kernels.LeakyReLU(0.1)
    arch = st.Architecture((st.Layer(3, 2.0, 1, kernel), st.Layer(3, 4.0, 1, kernel)))
    form = tangent_kernel_form(arch, bounds.field_norms(displacement_norm=2, jacobian_norm=0.2))
    assert capsys.readouterr().out.strip() == form.to_text()
    assert "shares" not in form.to_text()  # its terms add up as they are


def test_bound_passes_on_the_border_and_knows_that_a_signals_divergence_is_its_gradient(capsys):
    from stability import bounds
    from stability.bounds.ntk import tangent_kernel_form

    line = "bound --patch-sizes 3 --pooling-scales 2 --kernels arc-cosine-1 --displacement 1 --jacobian .1"
    assert cli.main([*line.split(), "--tangent-kernel", "--boundary", "zero", "--vanishing-border", "5"]) == 0
    arch = st.Architecture((st.Layer(3, 2.0, 1, st.kernels.ArcCosine(1)),), boundary=st.Zero())
    norms = bounds.field_norms(displacement_norm=1.0, jacobian_norm=0.1)
    assert capsys.readouterr().out.strip() == tangent_kernel_form(arch, norms, 5.0).to_text()
    line = "bound --dimension 1 --jacobian 1.2 --divergence .3 --patch-sizes 3 --pooling-scales 2 --displacement 1"
    assert cli.main(line.split()) == 0
    same = st.closed_form(
        st.Architecture((st.Layer(3, 2.0),), 1.0), displacement_norm=1.0, jacobian_norm=1.2, divergence_norm=0.3, d=1
    )
    assert f"<=  {same.value:.6g}" in capsys.readouterr().out


def test_norms_alone_are_recommended_only_where_nothing_valid_is_smaller():
    step = st.Architecture((st.Layer(3, 2.0, 1, st.kernels.ArcCosine(0)),))
    small, large = (st.closed_form(step, displacement_norm=a, jacobian_norm=b) for a, b in ((1.0, 0.1), (9.0, 0.5)))
    assert small.hoelder < small.trivial_norms
    assert "use it" not in small.to_text()
    assert large.trivial_norms < large.hoelder
    assert "use it" in large.to_text()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("bound --fixed-invariance 1 8 --displacement 1 --jacobian .1 --mean 1", "mean and residual must be left out"),
        ("bound --fixed-invariance 1 8 --displacement 1 --jacobian .1 --residual .1", "mean and residual must be"),
        ("bound --displacement 1 --jacobian .1", "--patch-sizes, --pooling-scales must be given"),
        ("bound --fixed-invariance 8 1 --displacement 1 --jacobian .1", "sigma_0 must be positive"),
        (
            "bound --patch-sizes 3 --pooling-scales 2 --displacement 2 --jacobian .2 --kernels polynomial:degre=2",
            "did you mean 'degree'",
        ),
        ("bound --patch-sizes 3 --pooling-scales 2 --displacement 2 --jacobian .2 --kernels gelu:2", "no parameters"),
        (
            "bound --patch-sizes 3 --pooling-scales 2 --displacement 2 --jacobian .2 --kernels exponential:x",
            "exponential:2.37",
        ),
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
            "did you mean 'arc-cosine'",
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
        ("run {spec} --store x --shard 3/2", "1 <= i <= N"),
        ("run {spec} --store x --shard two", "1 <= i <= N"),
        ("run {spec} --store x --images.cuont 3", "did you mean 'count'"),
        ("run {spec} --store x --imags.count 3", "did you mean '--images'"),
        ("run {spec} --store x --images.count", "followed by a value"),
        ("run --store x", "deformations"),
        ("plan {spec} -j 0", "jobs"),
        ("status x", "spec.json"),
        ("verify x", "spec.json"),
        ("verify x --recompute -1", "recompute"),
        ("export x -o rows.csv", "spec.json"),
        ("report x", "x"),
        ("plot x --figure strip -o strip.pdf", "x"),
        ("train -o net.pt", ".safetensors"),
        ("train -o nowhere/net.safetensors", "folder"),
        ("train -o net.safetensors --model lenett", "did you mean 'lenet'"),
        ("train -o net.safetensors --images fashoin", "did you mean 'fashion'"),
        ("train -o net.safetensors --count 999", "from 2 to 200"),
        ("train -o net.safetensors --test-share 1", "test-share"),
        ("train -o net.safetensors --epochs 0", "epochs"),
        ("train -o net.safetensors --model cnn --widths 4", "widths"),
        ("train -o net.safetensors --model ckn --widths 4", "filters"),
        ("train -o net.safetensors --model ckn --anchors kmeans", "did you mean 'k-means'"),
        ("train -o net.safetensors --schedule cosin", "did you mean 'cosine'"),
        ("train -o net.safetensors --flip 2", "flip must be a probability"),
        ("train -o net.safetensors --shift -1", "shift must be an integer"),
        ("train -o net.safetensors --model ckn --front-end gradients", "did you mean 'gradient'"),
        ("train -o net.safetensors --model ckn --kernels gauss", "kernel must be"),
        ("train -o net.safetensors --model ckn --ridge -1", "ridge must be"),
        ("train -o net.safetensors --model ckn --head exat", "did you mean 'exact'"),
        ("train -o net.safetensors --head exact", "StochasticHead"),
        ("train -o net.safetensors --patience 0", "patience"),
        ("train -o net.safetensors --patience 2 --validation-share 1", "validation-share"),
        ("train -o net.safetensors --state nowhere/at/all", "state must be in a folder"),
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


def test_settings_change_the_spec_and_plan_says_what_a_run_does(tmp_path, capsys):
    (tmp_path / "spec.yaml").write_text(SPEC)
    changes = ["--images.count", "3", "--fields=2", "--deformations.0.angles", "1"]
    assert cli.main(["plan", str(tmp_path / "spec.yaml"), *changes]) == 0
    printed = capsys.readouterr().out
    assert "12: 3 images x 2 fields x 2 models" in printed
    assert cli.main(["run", str(tmp_path / "spec.yaml"), "--store", str(tmp_path / "a"), *changes]) == 0
    rows = read_rows(tmp_path / "a")
    assert len(rows) == 3 * 2 * 2
    assert "in cells" in capsys.readouterr().out
    assert cli.main(["plan", str(tmp_path / "spec.yaml"), *changes, "--store", str(tmp_path / "a"), "-j", "2"]) == 0
    assert "4 chunks are there" in capsys.readouterr().out
    assert read_run(tmp_path / "a")["spec"]["images"]["count"] == 3


def test_plan_counts_what_is_out_of_reach(tmp_path, capsys):
    far = SPEC.replace("translation, displacement_norm: [1, 2], angles: 2", "fourier, " + FAR)
    (tmp_path / "spec.yaml").write_text(far)
    assert cli.main(["plan", str(tmp_path / "spec.yaml"), "--fields", "3"]) == 0
    assert "3 of 6 fields with two norms are out of reach: the run will refuse them" in capsys.readouterr().out
    assert cli.main(["plan", str(tmp_path / "spec.yaml"), "--fields", "3", "--on-unreachable", "record"]) == 0
    assert "rows without numbers" in capsys.readouterr().out


def test_classes_of_the_current_folder_can_be_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine_alone.py").write_text("from torch import nn\nclass Means(nn.AvgPool2d):\n    pass\n")
    monkeypatch.chdir(tmp_path)
    line = ["run", "--store", "s", "--images", "{count: 2, size: [12, 12]}", "--fields", "1"]
    mine = "[{class_path: mine_alone.Means, init_args: {kernel_size: 4}}]"
    assert cli.main([*line, "--representations", mine]) == 0
    assert set(read_rows("s").representation) == {"Means"}


def test_report_and_plot_of_a_store(bare, tmp_path, capsys):
    (tmp_path / "spec.yaml").write_text(SPEC)
    store = str(tmp_path / "store")
    assert cli.main(["run", str(tmp_path / "spec.yaml"), "--store", store]) == 0
    assert cli.main(["report", store, "-o", str(tmp_path / "page.html")]) == 0
    assert "<!doctype html>" in (tmp_path / "page.html").read_text()
    assert not (tmp_path / "store" / "index.html").exists()
    figure = ["plot", store, "--figure", "distance_versus_deformation"]
    assert cli.main([*figure, "--style", "paper", "-o", str(tmp_path / "f.pdf")]) == 0
    assert (tmp_path / "f.pdf").read_bytes().startswith(b"%PDF")
    capsys.readouterr()
    for wrong, message in (
        (["--figure", "distance"], "did you mean 'distance_versus_deformation'"),
        (["--figure", "pooling_scale"], "pooling_scale"),
        (["--style", "papper"], "did you mean 'paper'"),
        (["-o", str(tmp_path / "f.jpg")], "'png'"),
    ):
        line = [*figure, "-o", str(tmp_path / "g.pdf")]
        assert cli.main([*line, *wrong]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert not (tmp_path / "g.pdf").exists()


@pytest.mark.parametrize("model", ["lenet", "cnn", "ckn"])
def test_trained_weights_stand_in_a_sweep(model, tmp_path, capsys):
    out = str(tmp_path / "net.safetensors")
    train = ["train", "-o", out, "--model", model, "--epochs", "1", "--count", "24", "--size", "16", "16"]
    if model == "lenet":
        train += ["--hidden", "20", "--kernel-size", "3", "--padding", "1", "--batch-normalisation"]
    assert cli.main([*train, "--widths", "4", "8"]) == 0
    assert "test accuracy" in capsys.readouterr().out
    first = (tmp_path / "net.safetensors").read_bytes()
    assert cli.main([*train, "--widths", "4", "8"]) == 0
    assert (tmp_path / "net.safetensors").read_bytes() == first  # a seed gives the same weights
    spec = {
        "images": {"count": 2, "size": [16, 16]},
        "architecture": {"layers": [{"patch_size": 3, "pooling_scale": 2}, {"patch_size": 3, "pooling_scale": 4}]},
        "representations": [{"kind": model, "checkpoint": out, "name": "trained"}, {"kind": model, "name": "random"}],
        "deformations": [{"kind": "compact", "displacement_norm": 1}],
        "fields": 1,
    }
    for chosen in spec["representations"]:
        chosen["widths" if model == "cnn" else "filters"] = [4, 8]
        if model == "lenet":
            chosen.update(hidden=20, kernel_size=3, padding=1, batch_normalisation=True)
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    assert cli.main(["run", str(tmp_path / "spec.json"), "--store", str(tmp_path / "s")]) == 0
    rows = read_rows(tmp_path / "s")
    assert set(rows.representation) == {"trained", "random"}


def test_a_ckn_trained_in_two_sittings_is_that_of_one(tmp_path):
    """With an exact head, early stopping and another choice of anchors."""
    weights = []
    for name, sittings in (("one", (3,)), ("two", (1, 3))):
        for epochs in sittings:
            out, state = str(tmp_path / f"{name}.safetensors"), str(tmp_path / f"{name}.state")
            line = ["train", "-o", out, "--model", "ckn", "--state", state, "--epochs", str(epochs), "--count", "60"]
            line += ["--size", "12", "12", "--widths", "3", "4", "--anchors", "pivoted-cholesky", "--head", "exact"]
            assert cli.main([*line, "--patience", "5", "--front-end", "mean-removal"]) == 0
        weights.append(load_file(out))
    assert set(weights[0]) == {"anchors.0", "anchors.1"}
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


FAR = "displacement_norm: [0.01, 1.0], jacobian_norm: 0.4"
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
        (SPEC + "search: 3", "search.0 must be a mapping, got 3"),
        (SPEC + "seed: 1\nseed: 2", "the key 'seed' twice in line"),
        (SPEC + "search: [{displacement_norm: 1, jacobian_norm: 1}, {displacement_norm: 1, jacobian_norm: 1.0}]",
         "search must differ, got number 0 again as 1"),
        (SPEC + "search: {displacement_norm: one, jacobian_norm: 1}", "must be a valid number, got 'one'"),
        (SPEC + "search: {displacement_norm: 1, jacobian_norm: 1, starts: []}", "must have 1 entry or more, got []"),
        (SPEC + "search: {displacement_norm: 1, jacobian_norm: 1, steps: 2.5}", "must be a valid integer, got 2.5"),
        (SPEC + "vary: {layers.0.kernel: [exponential]}", "'kind'"),
        ("a: [", "valid yaml"),
    ],
)  # fmt: skip
def test_wrong_specification_files_write_nothing(text, message, tmp_path, capsys):
    (tmp_path / "spec.yaml").write_text(text)
    assert cli.main(["run", str(tmp_path / "spec.yaml"), "--store", str(tmp_path / "store")]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["spec.yaml"]


def test_a_search_can_be_asked_for_by_settings_alone(tmp_path, capsys):
    """One part may be given without its list, in settings as in files."""
    (tmp_path / "spec.yaml").write_text(SPEC)
    line = ["plan", str(tmp_path / "spec.yaml"), "--search.displacement_norm", "1"]
    assert cli.main(line) == 2
    assert "jacobian_norm must be given" in capsys.readouterr().err
    assert cli.main([*line, "--search.jacobian_norm", "1e-1"]) == 0
    assert "searches" in capsys.readouterr().out


def test_help_and_bound_start_in_under_a_second():
    for arguments in (["--help"], BOUND):
        times = []
        for _ in range(3):
            start = os.times()
            subprocess.run([sys.executable, "-m", "stability", *arguments], check=True, capture_output=True)
            stop = os.times()  # processor time of the child: on an idle machine the time it takes
            times.append(stop.children_user - start.children_user + stop.children_system - start.children_system)
        assert min(times) < 1.0


@pytest.fixture
def small(monkeypatch):
    specification = quickstart.specification
    monkeypatch.setattr(quickstart, "specification", lambda: specification(count=2, size=(12, 12), fields=1))


@pytest.mark.slow
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


def test_an_interrupted_command_that_goes_on_says_so(monkeypatch, capsys):
    def interrupt(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(searching, "_search", interrupt)
    assert cli.main(["search", "--displacement", "1", "--jacobian", "0.25", "-o", "unused"]) == 130
    said = capsys.readouterr().err
    assert "the same command goes on from there" in said
    assert "as it was" not in said


def test_a_reader_that_goes_away_is_no_error():
    """As of ``| head -0``: one would read of a broken pipe otherwise."""
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run(
        [sys.executable, "-m", "stability", *BOUND], stdout=writes, stderr=subprocess.PIPE, check=False
    )
    os.close(writes)
    assert (done.returncode, done.stderr) == (141, b"")
