"""Defaults of ``stability search`` and ``train`` that follow what was given, and what the commands advise."""

import shutil

import pytest
from PIL import Image

import stability as st
from stability import cli, plots
from stability.cli.searching import commands, specification
from stability.search.chances import CHANCES
from stability.sweeps.plan import plan
from stability.sweeps.result import read_rows
from stability.sweeps.store import Store

NORMS = ["--displacement", "1", "--jacobian", "0.25", "--fields", "translations"]
ONE_LAYER = ["--patch-sizes", "3", "--pooling-scales", "2"]


def asked(*options: str) -> st.SweepSpec:
    (command,) = commands()
    return specification(command.parser.parse_args(["-o", "x", *NORMS, *options]))


@pytest.fixture
def pictures(tmp_path):
    """A folder with three pictures, which all differ."""
    for i in range(3):
        (tmp_path / "pictures" / f"class {i % 2}").mkdir(parents=True, exist_ok=True)
        picture = Image.effect_noise((12, 12), 60 + 10 * i)
        picture.save(tmp_path / "pictures" / f"class {i % 2}" / f"{i}.png")
    return tmp_path / "pictures"


def test_anchors_of_a_small_set_of_ones_own_come_from_all_of_its_pictures(pictures, tmp_path, capsys):
    own = ["--images", "folder", "--root", str(pictures), "--count", "3", "--size", "12", "12"]
    out = tmp_path / "found"
    line = ["search", "-o", str(out), *own, *NORMS, *ONE_LAYER, "--widths", "4"]
    assert cli.main(line) == 0, capsys.readouterr().err
    assert len(read_rows(out)) == 3
    assert Store(out).spec().representations[0].images == 3
    assert cli.main([*line[:2], str(tmp_path / "other"), *line[3:], "--fit-images", "4"]) == 2
    assert "count must be at most 3, the size of the set 'folder', got 4" in capsys.readouterr().err


def test_anchors_of_a_large_set_come_from_as_many_images_as_the_help_says():
    assert asked().representations[0].images == 32
    assert asked("--fit-images", "5").representations[0].images == 5


@pytest.mark.parametrize("model", ["ckn", "cnn", "random-features"])
@pytest.mark.parametrize(("sizes", "widths"), [(["3"], (16,)), (["3", "3"], (16, 32)), (["3", "3", "2"], (16, 32, 32))])
def test_default_widths_are_as_many_as_the_layers(model, sizes, widths):
    scales = [str(2 + i) for i in range(len(sizes))]
    (chosen,) = asked("--model", model, "--patch-sizes", *sizes, "--pooling-scales", *scales).representations
    assert (chosen.filters if model == "ckn" else chosen.widths) == widths


@pytest.mark.parametrize(("sizes", "scales"), [(["3"], [2.0]), (["3", "5"], [2.0, 4.0]), (["3"] * 3, [2.0, 4.0, 8.0])])
def test_default_scales_are_as_many_as_the_layers(sizes, scales):
    assert [layer.pooling_scale for layer in asked("--patch-sizes", *sizes).architecture.layers] == scales


def test_a_number_behind_a_kind_that_has_none_is_told_which_have_one():
    with pytest.raises(ValueError, match=r"fourier must come without a number, got 'fourier:3'; only .* have one"):
        asked("--warp", "fourier:3")


@pytest.mark.parametrize("model", ["ckn", "cnn"])
def test_a_network_of_one_layer_is_trained_without_widths(model, tmp_path, capsys):
    out = tmp_path / "net.safetensors"
    line = ["train", "-o", str(out), "--model", model, *ONE_LAYER, "--count", "24", "--size", "12", "12"]
    assert cli.main([*line, "--epochs", "1"]) == 0, capsys.readouterr().err
    name = {"ckn": "filters", "cnn": "widths"}[model]
    trained = {"kind": model, name: [16], "checkpoint": str(out), **({"ridge": 1e-3} if model == "ckn" else {})}
    images = st.ImagesSpec(count=1, size=(12, 12))
    deformations = [st.TranslationSpec(displacement_norm=1.0, angles=1)]
    architecture = st.Architecture((st.Layer(3, 2.0),), 1.0)
    frame = st.sweep(
        st.SweepSpec(
            images=images, architecture=architecture, representations=[trained], deformations=deformations, fields=1
        )
    )  # fmt: skip
    assert frame["filters"].tolist() == ["16"]


def test_the_number_behind_a_warp_is_its_degree(tmp_path, capsys):
    assert asked("--warp", "spline:5").warp == st.SplineWarpSpec(degree=5)
    assert asked("--warp", "spline").warp == st.SplineWarpSpec(degree=3)
    assert asked("--fields", "spline:5").search[0].fields.lattice == 5
    for warp, words in (("spline:x", "spline:5"), ("spline:4", "degree"), ("bilinear:2", "without a number")):
        assert cli.main(["search", "-o", str(tmp_path / "x"), *NORMS, "--warp", warp]) == 2
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1


def test_an_interrupted_search_is_to_be_repeated(tmp_path, capsys):
    out = tmp_path / "found"
    line = ["search", "-o", str(out), *NORMS, *ONE_LAYER, "--model", "linear", "--size", "12", "12"]
    assert cli.main(line) == 0
    for name in ("rows.parquet", "run.json"):
        (out / name).unlink()
    shutil.rmtree(out / "parts")
    capsys.readouterr()
    for command in (["report", str(out)], ["plot", str(out), "--figure", "searched", "-o", str(tmp_path / "x.png")]):
        assert cli.main(command) == 2
        said = capsys.readouterr().err
        assert "repeat `stability search` with the same options" in said
        assert said.count("\n") == 1
    assert cli.main(line) == 0, "what is advised works"
    assert plots.read(out).rows["search"].all()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="run `stability run --store` first"):
        plots.read(tmp_path / "empty")


@pytest.mark.parametrize(
    ("families", "searches", "words"),
    [
        ([st.MixedSpec(displacement_norm=1.0, jacobian_norm=0.25)], (), "two norms are limits"),
        ([st.TranslationSpec(displacement_norm=1.0, angles=2)], (), "one norm is prescribed: every size"),
        ([], [{"displacement_norm": 1.0, "jacobian_norm": 0.25}], "two norms are limits"),
        (
            [st.TranslationSpec(displacement_norm=1.0), st.MixedSpec(displacement_norm=1.0, jacobian_norm=0.25)], (),
            "one norm is prescribed; two norms are limits",
        ),
    ],
)  # fmt: skip
def test_a_plan_says_one_norm_of_one_norm_only(families, searches, words):
    chosen = st.SweepSpec(
        images=st.ImagesSpec(count=1, size=(12, 12)), architecture=st.Architecture((st.Layer(3, 2.0),)),
        representations=[st.LinearSpec()], deformations=families, search=searches, fields=1,
    )  # fmt: skip
    (reach,) = [line for line in plan(chosen) if line.startswith("reach")]
    assert words in reach
    assert ("one norm is prescribed" in reach) == ("one norm" in words)
    assert reach.endswith("every size can be reached")


def test_second_chances_can_be_left_out_or_asked_for():
    of_ascents = ("--fields", "piecewise-linear")
    assert asked(*of_ascents, "--chances", "0").search[0].chances == 0
    assert asked(*of_ascents).search[0].chances == CHANCES
    with pytest.raises(ValueError, match="chances"):
        asked(*of_ascents, "--chances", "-1")


@pytest.mark.parametrize("option", ["saturated", "linearised", "kept", "steps", "chances"])
@pytest.mark.parametrize("fields", ["translations", "rigid-motions"])
def test_options_of_ascents_are_refused_where_all_fields_are_tried(fields, option):
    with pytest.raises(ValueError, match=f"--{option} must be left out for --fields {fields}, got 7"):
        asked("--fields", fields, f"--{option}", "7")
