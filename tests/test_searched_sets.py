"""Searches among different fields: told apart in pages, figures and on the command line."""

import json
from pathlib import Path

import pytest

import stability as st
from stability import cli, plots, report
from stability.cli.searching import lines
from stability.sweeps.result import read_rows
from stability.sweeps.run import run

SMALL = [
    *("--size", "12", "12", "--model", "linear", "--patch-sizes", "3", "--pooling-scales", "2"),
    *("--displacement", "1", "--jacobian", "0.25", "--fields", "translations"),
]
TWO_SETS = [
    {"displacement_norm": [0.5, 1.0], "jacobian_norm": 0.2, "starts": {"kind": "saturated", "count": 1}, "steps": 3},
    {"displacement_norm": [0.5, 1.0], "jacobian_norm": 0.2, "starts": {"kind": "saturated", "count": 1}, "steps": 3,
     "fields": {"kind": "piecewise_linear", "lattice": 5}, "constraints": ["fixed-border"]},
]  # fmt: skip


@pytest.fixture(scope="module")
def two_sets(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("two_sets") / "store"
    images = st.ImagesSpec(name="fashion", count=1, size=(12, 12))
    network = st.Architecture((st.Layer(3, 2.0),))
    run(
        st.SweepSpec(
            images=images, architecture=network, representations=[st.LinearSpec()], deformations=[], search=TWO_SETS
        ),
        folder,
    )
    return folder


def test_searches_of_two_sets_of_fields_are_told_apart(two_sets):
    rows, whole_run = read_rows(two_sets), plots.read(two_sets)
    bound = "0 within 1 px of the border"
    sentences = [line for line in report.summary(whole_run) if line.startswith("Largest found among")]
    assert [bound in line for line in sentences] == [False, True]
    assert "among all fields with" in sentences[0]
    assert "over all fields, which" in sentences[0]
    assert f"over all fields that are {bound}, which" in sentences[1]
    largest = rows[rows["asked_displacement_norm"] == 1.0].sort_values("distance")["distance_over_input_norm"]
    for value, line in zip(largest.iloc[::-1], sentences, strict=True):
        assert report.numbers.percent(float(value)) in line
    drawn = plots.FIGURES["largest_found"](whole_run)
    labels = [text.get_text().replace("\n", " ") for text in drawn.figure.legends[0].get_texts()]
    assert "largest found, all fields" in labels
    assert any(bound in label for label in labels)
    lines_of = {
        line.get_color(): line.get_ydata() for line in drawn.figure.axes[0].lines if line.get_linestyle() == "-"
    }
    dotted = [
        line
        for line in drawn.figure.axes[0].lines
        if line.get_color() in lines_of and line.get_label().startswith("trivial")
    ]
    assert len(lines_of) == len(dotted) == 2
    for line in dotted:  # the trivial bound of a search stands above what that search found
        assert bool((line.get_ydata() >= lines_of[line.get_color()]).all())
    assert bound in drawn.caption
    titles = [block._suptitle.get_text() for block in plots.FIGURES["searched"](whole_run).figure.subfigs]
    assert any(bound in title.replace("\n", " ") for title in titles)
    said = "\n".join(lines(rows))
    assert said.count(f"among piecewise linear fields on 5 nodes, {bound}") == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layer", "nosuch"], "--layer must be left out for the model 'linear'"),
        (["--widths", "3"], "--widths must be left out for the model 'linear', got [3]; it belongs to ckn"),
        (["--fit-images", "3"], "--fit-images must be left out"),
        (["--displacement", "1", "1.0"], "norms must differ"),
    ],
)
def test_options_that_would_do_nothing_are_refused(options, message, tmp_path, capsys):
    assert cli.main(["search", "-o", str(tmp_path / "found"), *SMALL, *options]) == 2
    assert message in capsys.readouterr().err


def test_a_set_with_few_images_fits_the_default_model(tmp_path):
    few = ["--images", "photographs", "--model", "ckn", "--widths", "4"]
    assert cli.main(["search", "-o", str(tmp_path / "found"), *SMALL, *few]) == 0
    written = json.loads((tmp_path / "found" / "spec.json").read_text())
    assert written["spec"]["representations"][0]["images"] == 8
