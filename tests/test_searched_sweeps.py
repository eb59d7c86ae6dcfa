"""Searches in sweeps: rows are those of ``worst_case``, nothing is lost, figures, pages and the command show them."""

import dataclasses
import json
import signal
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
import worst_case
import yaml
from store_cases import copy, same
from test_store_killed import kill_and_go_on

import stability as st
from stability import cli, plots, report, search
from stability.cli.searching import commands, lines, specification
from stability.report import parts as parts_of_page
from stability.report.numbers import paired, violations
from stability.search import worst
from stability.sweeps.build import build_warp, load_images
from stability.sweeps.chunks import Cut
from stability.sweeps.files import read_spec
from stability.sweeps.inspection import verify
from stability.sweeps.job import Job
from stability.sweeps.plan import plan
from stability.sweeps.result import read_rows
from stability.sweeps.run import Shard, run
from stability.sweeps.searching import check_search, find
from stability.sweeps.store import Store

ARCH = st.Architecture((st.Layer(3, 2.0),))
QUICK = {"starts": [{"kind": "saturated", "count": 2}], "steps": 2}


def spec(**changes) -> st.SweepSpec:
    values = {
        "images": st.ImagesSpec(name="fashion", count=2, size=(12, 12)),
        "architecture": ARCH,
        "representations": [st.LinearSpec(), st.CKNSpec(filters=(4,), images=4)],
        "deformations": [
            st.MixedSpec(displacement_norm=1.0, jacobian_norm=0.25),
            st.TranslationSpec(displacement_norm=1.0, angles=4),
        ],
        "search": {"displacement_norm": 1.0, "jacobian_norm": 0.25, **QUICK},
        "fields": 3,
        "seed": 2,
    }
    return st.SweepSpec(**(values | changes))


TRANSLATIONS = {"displacement_norm": 1.0, "jacobian_norm": 0.25, "fields": {"kind": "translations", "angles": 4}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("searched") / "store"
    run(spec(), folder)
    return folder


@pytest.fixture(scope="module")
def rows(whole) -> pd.DataFrame:
    return read_rows(whole)


def of(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["search"]]


# --- the numbers ------------------------------------------------------------------------------------------------------


def test_a_searched_row_is_a_direct_call(rows):
    images, warp, chosen = load_images(spec(), 2), build_warp(spec()), of(rows)
    row = chosen[(chosen["representation"] == "linear") & (chosen["image"] == 1)].iloc[0]
    found = st.worst_case(
        st.LinearGram(ARCH),
        images[1:2],
        displacement_norm=1.0,
        jacobian_norm=0.25,
        generator=torch.Generator().manual_seed(int(row["field_seed"])),
        warp=warp,
        starts=(search.Saturated(2),),
        steps=2,
    )
    assert row["field_seed"] == 200_000
    expected = found.to_frame().iloc[0]
    names = ["largest_found", "distance", "angle", "norm_x", "norm_phi", "spread", "starts", "gradient_evaluations"]
    assert [row[name] for name in names] == pytest.approx([expected[name] for name in names], rel=1e-9)
    assert row["jacobian_norm_upper"] == pytest.approx(expected["jacobian_norm"])
    assert (row["status_largest_found"], row["family"]) == ("lower bound of the supremum", "search")


def test_what_is_found_is_the_distance_at_the_field(rows):
    found = of(rows)
    assert found["largest_found"].tolist() == pytest.approx(found["distance"].tolist(), rel=1e-9)


def test_a_search_that_runs_out_of_steps_says_the_value_of_the_field_that_it_returns(generator):
    x = load_images(spec(), 2)
    for steps in (1, 2, 3):
        found = st.worst_case(
            st.LinearGram(ARCH), x, displacement_norm=1.0, jacobian_norm=0.25, generator=generator,
            starts=(search.Saturated(1),), steps=steps,
        )  # fmt: skip
        assert torch.allclose(found.largest_found, found.distance, rtol=1e-12)
        assert torch.equal(found.trace[-1].amax(1), found.largest_found)


def test_the_field_that_is_kept_is_that_of_its_row(rows, whole):
    images, warp = load_images(spec(), 2), build_warp(spec())
    for _, row in of(rows)[of(rows)["representation"] == "linear"].iterrows():
        field = st.load_deformation(whole / row["field_file"])
        image = images[row["image"]][None]
        distance = st.LinearGram(ARCH).distance(image, warp(image, field))
        assert float(distance) == pytest.approx(row["distance"], rel=1e-9)
        assert float(field.norms().displacement.upper) == pytest.approx(row["displacement_norm_upper"])


def test_what_is_found_is_above_every_drawn_field_and_below_every_bound(rows):
    assert len(of(rows)) == 4
    keys = ["image", "representation"]
    found = of(rows).set_index(keys).sort_index()
    assert (found["distance"] > rows[~rows["search"]].groupby(keys)["distance"].max()).all()
    allowance = found["interpolation_error"] + found["floor"].astype(float)
    for name in ("bound_closed_form", "trivial", "bound_supremum"):
        assert (found["distance_over_input_norm"] <= found[name] + allowance).all()
    assert (found["bound_closed_form"] <= found["bound_supremum"] * (1 + 1e-9)).all()
    bound = st.closed_form(ARCH, displacement_norm=1.0, jacobian_norm=0.25)
    assert found["bound_supremum"].tolist() == pytest.approx([bound.value] * 4)
    assert violations(rows).empty
    assert (found[["displacement_norm_upper", "jacobian_norm_upper"]].to_numpy() <= [1.0, 0.25]).all()


def test_all_translations_are_the_largest_of_the_family():
    translations = {**TRANSLATIONS, "fields": {"kind": "translations", "angles": 4, "radii": 1}}
    frame = st.sweep(spec(representations=[st.LinearSpec()], search=translations))
    moved = frame[frame["family"] == "translation"].groupby("image")["distance"].max()
    assert of(frame)["distance"].tolist() == pytest.approx(moved.tolist(), rel=1e-6)
    closed = st.closed_form(ARCH, displacement_norm=1.0, jacobian_norm=0.0).value
    assert of(frame)["bound_supremum"].tolist() == pytest.approx([closed] * 2)


def test_another_objective_is_what_is_found():
    angle = {**TRANSLATIONS, "objective": "angle", "fixed_norm": True}
    frame = of(st.sweep(spec(representations=[st.LinearSpec()], deformations=[], search=angle)))
    assert frame["largest_found"].tolist() == pytest.approx(frame["angle"].tolist(), rel=1e-6)
    assert set(frame["objective"]) == {"angle_at_fixed_norm"}


@pytest.mark.parametrize(("objective", "unit"), [("distance", "||x||"), ("angle", "rad")])
def test_a_value_found_at_fixed_norm_is_said_in_the_unit_of_its_objective(objective, unit):
    search = {**TRANSLATIONS, "objective": objective, "fixed_norm": True}
    frame = of(st.sweep(spec(representations=[st.LinearSpec()], deformations=[], search=search)))
    row = frame.iloc[0]
    value = row["largest_found"] / (row["norm_x"] if objective == "distance" else 1.0)
    said, bounds = lines(frame)[:2]
    assert f"{objective} at fixed norm" in said
    assert f"{value:.4g} {unit}" in said
    assert ("rad" in said) == (objective == "angle")
    assert "supremum of the distance" in bounds


def test_constraints_hold_for_the_field_that_is_found():
    free = {"fields": {"kind": "fourier", "cutoff": 1}, "constraints": ["divergence-free", "translation-free"], **QUICK}
    chosen = spec(search={"displacement_norm": 1.0, "jacobian_norm": 0.25, **free})
    draw = Cut(chosen).draws[-1]
    found, _ = find(chosen.search[0], draw, st.LinearGram(ARCH), load_images(chosen, 1), build_warp(chosen))
    assert float(found.field.norms().divergence.upper) < 1e-9
    assert float(found.field.mean.norm()) < 1e-9


def test_rows_without_a_search_say_so(rows):
    drawn = rows[~rows["search"]]
    assert drawn[["largest_found", "bound_supremum", "spread"]].isna().all().all()
    assert (drawn[["status_largest_found", "field_file", "objective"]] == "").all().all()
    assert "largest_found" not in st.sweep(spec(search=(), representations=[st.LinearSpec()]))
    documented = (Path(__file__).parents[1] / "docs" / "columns.md").read_text()
    assert [name for name in rows.columns if f"`{name}`" not in documented] == []
    assert not [name for name in rows.columns if "worst" in name]


# --- the specification ------------------------------------------------------------------------------------------------


def test_a_specification_without_a_search_is_written_as_if_there_were_none():
    plain = spec(search=())
    assert "search" not in json.loads(plain.to_json())
    assert st.SweepSpec.from_json(plain.to_json()) == plain
    assert st.SweepSpec.from_json(spec().to_json()) == spec()
    assert plain.hash != spec().hash


def test_a_search_moves_no_other_chunk():
    without = {chunk.address for chunk in Cut(spec(search=())).chunks}
    assert without < {chunk.address for chunk in Cut(spec()).chunks}


def test_every_setting_of_a_search_has_an_address_of_its_own():
    addresses = set()
    changes = [{}, {"steps": 3}, {"kept": 2}, {"objective": "angle"}, {"fixed_norm": True}, {"jacobian_norm": 0.2},
               {"constraints": ["translation_free"]}, {"fields": "spline"}]  # fmt: skip
    for change in changes:
        chosen = spec(search={"displacement_norm": 1.0, "jacobian_norm": 0.25, **QUICK, **change})
        addresses |= {chunk.address for chunk in Cut(chosen).chunks if chunk.search}
    assert len(addresses) == 4 * len(changes)


def test_the_defaults_are_those_of_the_library():
    chosen = st.SearchSpec(displacement_norm=1, jacobian_norm=0.1)
    assert [start.count for start in chosen.starts] == [start.count for start in worst.STARTS]
    assert chosen.starts[1].steps == worst.STARTS[1].steps
    assert (chosen.kept, chosen.steps) == (worst.KEPT, worst.STEPS)


def test_the_command_line_searches_like_the_library_by_default():
    (command,) = commands()
    options = command.parser.parse_args(["-o", "x", "--displacement", "1", "--jacobian", "0.1"])
    (chosen,) = specification(options).search
    assert chosen == st.SearchSpec(displacement_norm=1, jacobian_norm=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"search": {"displacement_norm": 1.0}}, r"jacobian_norm must be given; see docs"),
        ({"search": {"displacement_norm": -1.0, "jacobian_norm": 0.1}}, "must be greater than 0, got -1.0; see docs"),
        ({"search": {"displacement_norm": 1.0, "jacobian_norm": 0.1, "steps": "x"}}, "got 'x'; see docs"),
        ({"search": {"displacement_norm": 1.0, "jacobian_norm": 0.1, "step": 3}}, "did you mean 'steps'"),
        ({"search": {"displacement_norm": 1.0, "jacobian_norm": 0.1, "fields": "fuorier"}}, "did you mean 'fourier'"),
        ({"search": {**TRANSLATIONS, "constraints": ["translation_free"]}}, "left out for translations"),
        ({"search": {"displacement_norm": 1.0, "jacobian_norm": 0.1, "constraints": "divergence_free"}}, "fourier"),
        ({"search": [TRANSLATIONS, TRANSLATIONS]}, "search must differ"),
        ({"warp": {"kind": "bilinear"}}, "a warp with derivatives"),
        ({"images": {"domain": "window"}, "representations": [{"kind": "lenet"}]}, "domain must be 'torus'"),
        (
            {"images": {"domain": "torus", "size": [28, 28]},
             "representations": [{"kind": "lenet", "layers": ["conv1", "conv2"]}]},
            "must have one layer",
        ),
    ],
)  # fmt: skip
def test_wrong_searches_are_told_in_one_line(change, message):
    with pytest.raises(ValueError, match=message) as told:
        spec(**change)
    assert "\n" not in str(told.value)


def test_a_search_that_cannot_run_is_refused_before_anything_is_written(tmp_path):
    large = {"displacement_norm": 1.0, "jacobian_norm": 0.25, "constraints": ["translation_free"]}
    chosen = spec(images=st.ImagesSpec(count=1, size=(32, 32)), representations=[st.LinearSpec()], search=large)
    with pytest.raises(ValueError, match=r"search\.0: a family with dense matrices must have at most"):
        run(chosen, tmp_path / "store")
    assert not (tmp_path / "store").exists()

    class Opaque(st.Representation):
        """Distances without derivatives."""

        layer_names = ("0",)

        def reference(self, images):
            raise NotImplementedError

        def refined(self):
            raise NotImplementedError

    with pytest.raises(ValueError, match="can be differentiated"):
        check_search(spec(), 0, spec().search[0], load_images(spec(), 1), [Opaque()])


# --- on disk ----------------------------------------------------------------------------------------------------------


def parts(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "parts").iterdir()}


def test_a_store_that_lacks_parts_goes_on_and_ends_in_the_same_table(whole, rows, tmp_path):
    folder = copy(whole, tmp_path / "store")
    lost, torn = (chunk for chunk in Cut(spec()).chunks if chunk.search and chunk.model == 0)
    (folder / "parts" / f"{lost.address}.parquet").unlink()
    (folder / "parts" / f"{torn.address}.npz").write_bytes(b"torn")
    assert any("field" in fault for fault in verify(Store(folder))[0])
    before = parts(folder)
    done = run(spec(), folder)
    assert (done.computed, done.missing, len(done.torn)) == (2, 0, 1)
    assert same(read_rows(folder), rows)
    after = parts(folder)
    touched = {name.partition(".")[0] for name in after if after[name] != before.get(name)}
    assert touched == {lost.address, torn.address}
    assert set(after) == set(parts(whole))
    for name in after:
        if name.endswith(".npz"):
            assert (folder / "parts" / name).read_bytes() == (whole / "parts" / name).read_bytes()


@pytest.mark.slow
def test_shards_find_the_same(rows, tmp_path):
    small = spec(representations=[st.LinearSpec()])
    for i in (1, 2):
        run(small, tmp_path / "store", shard=Shard(i, 2))
    expected = rows[rows["representation"] == "linear"].reset_index(drop=True)
    found = read_rows(tmp_path / "store")
    drop = ["field_file", "filters"]
    assert same(found.drop(columns=drop), expected.drop(columns=drop))


@pytest.mark.slow
def test_workers_side_by_side_find_the_same(rows):
    with joblib.parallel_config(backend="threading"):
        assert same(st.sweep(spec(), jobs=2), rows)


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_search_goes_on_and_ends_in_the_same_table(sent, whole, rows, tmp_path):
    (tmp_path / "spec.json").write_text(spec().to_json())
    folder = tmp_path / "store"
    there = kill_and_go_on([5, 8], sent, tmp_path / "spec.json", folder)
    total = len(Cut(spec()).chunks)
    done = run(spec(), folder)
    assert done.computed == total - there[1]
    assert same(read_rows(folder), rows)
    assert {name for name in parts(folder) if not name.startswith(".")} == set(parts(whole))
    assert verify(Store(folder), recompute=2)[0] == []


def test_a_plan_counts_searches():
    lines = plan(spec(representations=[st.LinearSpec()]))
    assert any(line.startswith("search    2 searches, about") for line in lines)
    cut = Cut(spec())
    dear = Cut(spec(search={"displacement_norm": 1.0, "jacobian_norm": 0.25, **QUICK, "steps": 20}))
    first, second = (sum(c.seconds(chunk) for chunk in c.chunks if chunk.search) for c in (cut, dear))
    assert second > 2 * first > 0


def test_searches_alone_are_a_sweep():
    frame = st.sweep(spec(deformations=[], representations=[st.LinearSpec()], search=TRANSLATIONS))
    assert frame["search"].all()
    job = Job(Cut(spec(deformations=[], search=TRANSLATIONS)), None, 1, progress=False)
    assert len([chunk for chunk in job.cut.chunks if chunk.search]) == 4


# --- figures, page, command -------------------------------------------------------------------------------------------


def test_the_figures_show_what_was_found(whole, rows):
    run_ = plots.read(whole)
    assert {"largest_found", "searched"} <= set(plots.applicable(run_))
    drawn = plots.FIGURES["largest_found"](run_)
    titles = [axes.get_title().split("\n")[0] for axes in drawn.figure.axes]
    assert len(titles) == 2
    chosen = of(rows)[of(rows)["representation"] == "linear"]
    axes = drawn.figure.axes[next(i for i, title in enumerate(titles) if title.startswith("linear"))]
    lines = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
    assert lines["largest found"] == pytest.approx([chosen["distance_over_input_norm"].median()])
    random = rows[(rows["family"] == "mixed") & (rows["representation"] == "linear")]
    largest = random.groupby("image")["distance_over_input_norm"].max().median()
    assert lines["mixed random fields: largest of 3"] == pytest.approx([largest])
    assert "lower bound of the supremum" in drawn.caption
    pictures = plots.FIGURES["searched"](run_).figure
    names = [axes.get_title() for axes in pictures.axes]
    assert names.count("before") == names.count("after") == names.count("displacement") == 3
    bars = [bar.get_ylabel() for axes in pictures.axes for bar in axes.child_axes]
    assert bars.count(r"$|\tau|$ / px") == bars.count(r"$\|\nabla\tau\|_2$ (px per px)") == 3
    with pytest.raises(ValueError, match="searched distance"):
        plots.FIGURES["largest_found"](plots.Run(rows[~rows["search"]]))
    with pytest.raises(ValueError, match=r"searched\.npz"):
        plots.FIGURES["searched"](plots.Run(rows))


def test_the_traces_that_are_drawn_end_at_what_was_found_and_never_fall(whole):
    arrays = plots.read(whole).searched
    for trace, value in zip(arrays["trace"], arrays["largest_found"], strict=True):
        assert np.nanmax(trace) == pytest.approx(value, rel=1e-12)
        assert (np.diff(trace[:, np.isfinite(trace).all(axis=0)], axis=0) >= 0).all()
    steep = np.linalg.norm(arrays["jacobian"], ord=2, axis=(-2, -1)).max(axis=(1, 2))
    assert (steep <= arrays["jacobian_norm_upper"] * (1 + 1e-6)).all()


def test_the_page_shows_searches_and_calls_nothing_worst(whole, monkeypatch):
    monkeypatch.setattr(parts_of_page, "applicable", lambda run: ("searched",))
    whole_run = plots.read(whole)
    first = {name: array if name in ("x", "y") else array[:1] for name, array in whole_run.searched.items()}
    run_ = dataclasses.replace(whole_run, searched=first)
    text = parts_of_page.figures(run_) + parts_of_page.medians(run_)
    assert 'id="searched"' in text
    assert "lower bound of the supremum" in text
    assert "searched field" in text
    assert "worst found" not in text
    lines = [line for line in report.summary(run_) if line.startswith("Largest found among all fields")]
    assert len(lines) == 2
    assert all("a lower bound of the supremum" in line for line in lines)


def test_searched_fields_of_two_models_are_never_compared(rows):
    exact = rows.assign(representation_kind="gram", representation="gram")
    twice = pd.concat([exact, rows], ignore_index=True)
    twice = twice[twice["representation_kind"].isin(("gram", "linear"))]
    assert len(paired(twice[~twice["search"]])) > 0
    assert not paired(twice)["search"].any()


def test_a_found_field_draws_itself(generator):
    x = st.images.load("fashion", count=2, size=(12, 12))
    signals = x[:1, :, 5]
    for images, panels in ((x, 6), (signals, 4)):
        found = st.worst_case(
            st.LinearGram(ARCH), images, displacement_norm=1.0, jacobian_norm=0.25, generator=generator,
            fields=search.Translations(4, 1),
        )  # fmt: skip
        assert len(found.plot().axes) == panels
        assert torch.equal(found.images, images.double())
        assert torch.allclose(found.deformed, worst.CUBIC(images.double(), found.field))
        with pytest.raises(ValueError, match="index must be from 0"):
            found.plot(len(images))


SMALL = [
    *("--size", "12", "12", "--model", "linear", "--patch-sizes", "3", "--pooling-scales", "2"),
    *("--displacement", "1", "--jacobian", "0.25", "--fields", "translations"),
]


def test_the_command_writes_fields_table_and_figure(tmp_path, capsys):
    out = tmp_path / "found"
    assert cli.main(["search", "-o", str(out), *SMALL]) == 0
    said = capsys.readouterr().out
    table = pd.read_csv(out / "table.csv")
    expected = st.sweep(
        spec(
            images=st.ImagesSpec(count=1, size=(12, 12)), representations=[st.LinearSpec()], deformations=[], seed=0,
            search={"displacement_norm": 1.0, "jacobian_norm": 0.25, "fields": "translations"},
        )
    )  # fmt: skip
    assert table["distance"].tolist() == pytest.approx(expected["distance"].tolist())
    assert (table["status_largest_found"] == "lower bound of the supremum").all()
    field = st.load_deformation(out / "field-0-1-0.25.npz")
    assert float(field.norms().displacement.upper) == pytest.approx(table["displacement_norm_upper"][0])
    assert (out / "searched.png").stat().st_size > 10_000
    for words in (
        "lower bound of the supremum",
        "certified norms",
        "distance / ||x||: ",
        "bounds there: ",
        "supremum of the distance at most",
        "closed form",
    ):
        assert said.count(words) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--constraints", "translation-free"], "left out for translations"),
        (["--fields", "fourier:x"], "must be a number"),
        (["--model", "gramm"], "did you mean 'gram'"),
        (["--saturated", "0", "--linearised", "0"], "one of them positive"),
        (["--jacobian", "-1"], "jacobian_norm"),
        (["--warp", "index"], "a warp with derivatives"),
    ],
)
def test_wrong_options_of_the_command_are_one_line_and_nothing_is_written(options, message, tmp_path, capsys):
    out = tmp_path / "found"
    assert cli.main(["search", "-o", str(out), *SMALL, *options]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not out.exists()


def test_yaml_takes_one_search_or_several():
    text = "displacement_norm: [0.5, 1]\njacobian_norm: 0.25\nfields: spline\nconstraints: [translation-free]\n"
    one = yaml.safe_load(text)
    assert spec(search=one) == spec(search=[one])
    assert spec(search=one).search[0].pairs == ((0.5, 0.25), (1.0, 0.25))


# --- the experiment ---------------------------------------------------------------------------------------------------


def test_the_committed_experiment_is_what_its_specification_asks_for_and_its_supremum_lies_between(whole):
    root = Path(__file__).parents[1]
    chosen = read_spec(str(root / "experiments" / "worst_case.yaml"))
    report_ = root / "reports" / "worst_case"
    assert json.loads((report_ / "run.json").read_text())["hash"] == chosen.hash
    table = pd.read_csv(report_ / "table.csv")
    assert len(table) == len(chosen.representations) * len(chosen.search[0].pairs)
    assert (table["images"] >= 4).all()
    drawn = [name for name in table if name.startswith("largest_") and name != "largest_found"]
    assert len(drawn) == 3
    assert (table[drawn].max(axis=1) < table["largest_found"]).all()
    assert (table["largest_found"] < table["bound_supremum"]).all()
    found = worst_case.table(read_rows(whole))
    assert found["largest_found"].tolist() == pytest.approx(
        of(read_rows(whole)).groupby("representation")["distance_over_input_norm"].median().tolist()
    )
    figures = {f"{name}.{suffix}" for name in worst_case.FIGURES for suffix in ("png", "pdf")}
    assert {path.name for path in report_.iterdir()} == figures | {"caption.txt", "table.csv", "run.json"}


@pytest.mark.slow
def test_the_experiment_writes_what_is_committed(whole, tmp_path):
    report_ = Path(__file__).parents[1] / "reports" / "worst_case"
    assert {path.name for path in report_.iterdir()} == {path.name for path in worst_case.write(whole, tmp_path)}
