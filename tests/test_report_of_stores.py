"""The page of any store: its words have the medians of its rows, hostile words stay words."""

import html
import html.parser

import numpy as np
import pandas as pd
import plot_tables as tables
import pytest

from stability import plots, report
from stability.report import page as page_module
from stability.report.numbers import medians, paired, percent, violations


@pytest.fixture(scope="module")
def run():
    record = {"kind": "quickstart", "hash": {"curves": "ab" * 32}, "versions": {"stability": "9.9"}, "commit": None}
    return plots.Run(tables.make_rows(), record | {"images_sha256": "cd" * 32}, tables.make_strip())


RECORD = {
    "hash": "ef" * 32,
    "spec": {"note": "<b>&"},
    "versions": {"stability": "9.9"},
    "command": "stability run a.yaml",
}
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def store():
    return plots.Run(tables.store_rows(), RECORD)


def test_the_lines_of_a_store_have_the_medians_of_its_rows(store):
    lines = report.summary(store)
    rows = store.rows[(store.rows["asked_displacement_norm"] == 1.0) & (store.rows["representation"] == "gram")]
    for line, family in zip(lines[1:4], ("translation", "fourier", "Swirl"), strict=True):
        values = rows[rows["family"] == family][["distance_over_input_norm", "bound_closed_form", "trivial"]].median()
        assert [percent(value) in line for value in values] == [True] * 3
    apart = 1 - 1 / tables.LINEAR_OVER_CKN["none"]
    assert any(f"{percent(apart)} on raw images" in line for line in lines)
    assert f"{len(store.rows)} rows" in lines[-1]
    assert percent(float(rows[rows["family"] == "translation"]["distance_over_input_norm"].median())) in (
        report.headline(store)
    )


def test_models_without_theory_get_no_bound_in_words(store):
    (line,) = [line for line in report.summary(store) if "CNN, trained" in line and "says nothing" in line]
    rows = store.rows[(store.rows["asked_displacement_norm"] == 1.0) & (store.rows["family"] == "translation")]
    for label, layer in (("CNN, trained", "2"), ("my net", "conv1"), ("my net", "conv2")):
        own = rows[(rows["representation"] == label) & (rows["layer"] == layer)]
        assert percent(float(own["distance_over_pairs"].median())) in line
    alone = plots.Run(tables.store_rows(models=tables.MODELS[3:]), RECORD)
    for words in (report.headline(alone), *report.summary(alone)[:-1]):
        assert "allows" not in words
    assert "of the distance between two images" in report.headline(alone)


def test_medians_never_mix_architectures_families_or_representations():
    rows = tables.store_rows(sigmas=(1.0, 4.0))
    found = medians(rows)
    assert found["rows"].sum() == len(rows)
    keys = ["family", "pooling_scale", "representation", "layer", "asked_displacement_norm"]
    expected = rows.groupby(keys, dropna=False)["distance_over_input_norm"].median()
    modules = rows["architecture"] == ""
    assert len(found) == rows[~modules].groupby(keys).ngroups + rows[modules].groupby(keys, dropna=False).ngroups
    assert set(np.round(expected, 12)) == set(np.round(found["measured"], 12))


def test_a_model_without_a_bound_cannot_violate_one(store, bare):
    assert violations(store.rows).empty
    none = int((~np.isfinite(store.rows["bound_closed_form"]) & ~np.isfinite(store.rows["trivial"])).sum())
    assert none > 0
    assert f"{none} of the rows have no bound that could be violated" in page_module.page(store)
    assert len(violations(broken_store(store).rows)) == 1


def broken_store(run):
    rows = run.rows.copy()
    index = rows.index[(rows["family"] == "Swirl") & (rows["representation"] == "gram")][0]
    rows.loc[index, "distance_over_input_norm"] = rows.loc[index, "trivial"] * 1.01
    return plots.Run(rows, run.record)


def test_the_control_belongs_to_its_own_architecture():
    """Pairs are made per architecture, the first layer's values included."""
    one = tables.store_rows(models=tables.MODELS[:2], families=("translation",))
    other = one.assign(
        architecture=one["architecture"].str.replace('"pooling_scale":2.0', '"pooling_scale":3.0'),
        distance_over_input_norm=one["distance_over_input_norm"] * 3,
    )
    assert (one["architecture"] != other["architecture"]).all()
    both = paired(pd.concat([one, other], ignore_index=True))
    assert len(both) == len(one)
    np.testing.assert_allclose(both["linear"] / both["ckn"], tables.LINEAR_OVER_CKN["none"])


@pytest.mark.parametrize("column", ["representation", "family", "layer", "status_closed_form", "filters"])
def test_hostile_words_of_a_store_stay_words(bare, column):
    rows = tables.store_rows(families=("translation",))
    rows[column] = rows[column].mask(rows.index % 5 == 3, HOSTILE)
    assert HOSTILE not in page_module.page(plots.Run(rows, RECORD | {"command": HOSTILE, "spec": {"x": HOSTILE}}))


def test_hostile_words_cannot_end_the_script_of_the_chart(quick):
    rows = tables.store_rows(families=("translation",), sizes=(1.0,))
    rows["representation"] = rows["representation"].mask(rows.index % 5 == 3, "</script><script>alert(1)</script>")
    assert "</script><script>alert(1)" not in page_module.page(plots.Run(rows, RECORD))


def test_a_store_says_what_was_asked_and_how_to_ask_again(store, bare):
    text = html.unescape(page_module.page(store))
    for words in ("ef" * 32, "stability run a.yaml", "run SPEC.json --store STORE", '"note": "<b>&"', "How far from"):
        assert words in text
    assert "quickstart" not in text


def test_a_store_of_one_size_has_a_page_without_figures(bare):
    text = page_module.page(plots.Run(tables.store_rows(sizes=(1.0,)), RECORD))
    assert "These rows show no curve" in text
    assert "<figure" not in text


def test_a_store_without_optional_columns_has_a_page(bare):
    rows = tables.store_rows(models=tables.MODELS[:2])
    text = page_module.page(plots.Run(rows.drop(columns=["trivial", "filters", "representation_kind"]), RECORD))
    assert "Violations: 0 of" in text


def test_the_page_goes_where_it_is_told(tmp_path, bare):
    folder = tables.write_folder(tmp_path / "run", tables.store_rows(families=("translation",)))
    assert report.write_page(folder, tmp_path / "mine.html") == tmp_path / "mine.html"
    assert not (folder / "index.html").exists()
    with pytest.raises(ValueError, match="make the folder first"):
        report.write_page(folder, tmp_path / "no" / "mine.html")
