"""Claims about the page: its numbers are those of the rows, it asks nothing of the network, it tells of violations."""

import builtins
import html
import html.parser
import importlib.util
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stability import plots, report
from stability.report import page as page_module
from stability.report import parts
from stability.report.numbers import GLOSSARY, apart_from_linear, medians, paired, percent, table, violations

_spec = importlib.util.spec_from_file_location("plot_tables", Path(__file__).with_name("test_plots.py"))
tables = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tables)

OPTIONAL = ("altair", "vl_convert")


class Outside(html.parser.HTMLParser):
    """Collects what a browser would ask for: src and href of elements, url(...) of styles."""

    def __init__(self):
        super().__init__()
        self.asked, self.style = [], False

    def handle_starttag(self, tag, attrs):
        self.style = tag == "style"
        self.asked += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        self.asked += [url for name, value in attrs if name == "style" for url in re.findall(r"url\((.*?)\)", value)]

    def handle_data(self, data):
        if self.style:
            self.asked += re.findall(r"url\((.*?)\)|@import (.*?);", data)


@pytest.fixture(scope="module")
def run():
    record = {"kind": "quickstart", "hash": {"curves": "ab" * 32}, "versions": {"stability": "9.9"}, "commit": None}
    return plots.Run(tables.make_rows(), record | {"images_sha256": "cd" * 32}, tables.make_strip())


@pytest.fixture
def quick(monkeypatch):
    """Figures are tested elsewhere: an empty one stands for each."""
    monkeypatch.setattr(parts, "svg", lambda run, name: ("<svg/>", f"Caption of {name}."))


@pytest.fixture
def bare(monkeypatch, quick):
    """An installation without the extra."""
    there = builtins.__import__

    def importing(name, *arguments, **keywords):
        if name.partition(".")[0] in OPTIONAL:
            raise ImportError(name)
        return there(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", importing)


def broken(run):
    """The same run with one distance above its bound."""
    rows = run.rows.copy()
    index = rows.index[(rows["family"] == "translation") & (rows["sweep"] == "curves")][0]
    rows.loc[index, "distance_over_input_norm"] = rows.loc[index, "bound_closed_form"] + 0.1
    return plots.Run(rows, run.record, run.strip)


def test_five_lines_with_the_medians_of_the_rows(run):
    lines = report.summary(run)
    assert len(lines) == 5
    rows = run.rows[(run.rows["sweep"] == "curves") & (run.rows["asked_displacement_norm"] == 1.0)]
    rows = rows[(rows["front_end"] == "none") & (rows["representation"] == "gram")]
    for line, family in zip(lines, ("translation", "fourier"), strict=False):
        medians = rows[rows["family"] == family][["distance_over_input_norm", "bound_closed_form", "trivial"]].median()
        for value in medians:
            assert percent(value) in line
    assert f"{len(run.rows)} rows" in lines[4]


def test_distance_from_linear_is_the_factor_that_was_put_in(run):
    apart = apart_from_linear(run.rows)
    for front_end, factor in tables.LINEAR_OVER_CKN.items():
        assert apart[front_end] == pytest.approx(1 - 1 / factor)
        assert percent(1 - 1 / factor) in report.summary(run)[2]


def test_only_a_kernel_of_slope_one_is_said_to_be_nearly_linear(run):
    line = report.summary(run)[2]
    assert "hardly see a kernel with kappa'(1) = 1 (here: exponential, alpha = 1): over the curves" in line
    assert "kappa'(1) > 1 is further away" in line
    assert "a kernel with κ′(1) = 1 is nearly linear" in html.unescape(parts.linear(run))
    ckn = run.rows["representation"] == "gram"
    steep = run.rows["architecture"].str.replace('"alpha":1.0}},', '"alpha":2.37}},')  # the first layer only
    steeper = plots.Run(run.rows.assign(architecture=steep.where(ckn, run.rows["architecture"])), run.record, run.strip)
    line = report.summary(steeper)[2]
    assert "kappa'(1)" not in line
    assert "exponential, alpha = 2.37 or exponential, alpha = 1" in line
    assert "κ′" not in parts.linear(steeper)
    assert "Over the curves" in parts.linear(steeper)


def test_the_page_says_how_to_do_it_again_from_a_clone(run, bare):
    text = page_module.page(run)
    assert "In a checkout of the repository" in text
    assert "pip install deformation-stability" not in text
    for commit, words in (("ab12", "ab12</code>:"), ("ab12+changes", "ab12</code> (the run itself had changes")):
        text = page_module.page(plots.Run(run.rows, dict(run.record) | {"commit": commit}, run.strip))
        assert f"In a clone of the repository at commit <code>{words}" in text


def test_pooling_line_divides_medians(run):
    """The synthetic distance is proportional to 1 / sigma_n."""
    assert "sigma_n = 1 to 8 px" in report.summary(run)[3]
    assert "falls 8 times" in report.summary(run)[3]


def test_ratio_is_bound_over_measured(run):
    found = table(run.rows[run.rows["sweep"] == "curves"])
    rows = run.rows[(run.rows["sweep"] == "curves") & (run.rows["representation"] == "gram")]
    ratio = rows["bound_closed_form"] / rows["distance_over_input_norm"]
    keys = ["front_end", "family", "asked_displacement_norm"]
    expected = ratio.groupby([rows[key] for key in keys]).median()
    np.testing.assert_allclose(found.set_index(keys)["ratio"], expected)


def test_no_violation_in_consistent_rows_and_every_injected_one_is_found(run, bare):
    assert len(violations(run.rows)) == 0
    text = page_module.page(run)
    assert "Violations: 0 of" in text
    assert 'class="warning"' not in text
    bad = broken(run)
    assert len(violations(bad.rows)) == 1
    text = page_module.page(bad)
    assert "Violations: 1 of" in text
    assert "1 VIOLATION" in text
    assert 'class="warning"' in text


def test_allowances_are_granted_and_nothing_more(run):
    rows = run.rows[(run.rows["family"] == "translation") & (run.rows["sweep"] == "curves")].head(1).copy()
    allowed = rows["bound_closed_form"] + rows["interpolation_error"] + rows["floor"]
    rows["trivial"] = 10.0
    rows["distance_over_input_norm"] = allowed * (1 - 1e-12)
    assert violations(rows).empty
    rows["distance_over_input_norm"] = allowed * (1 + 1e-9)
    assert len(violations(rows)) == 1


def test_an_undefined_floor_is_no_violation(run):
    rows = run.rows.head(3).assign(floor="undefined", distance_over_input_norm=np.nan)
    assert violations(rows).empty


def test_the_page_asks_nothing_of_the_network(run, bare, tmp_path):
    reader = Outside()
    reader.feed(page_module.page(run))
    assert reader.asked
    assert all(address.startswith("data:") for address in reader.asked)


def test_the_interactive_chart_is_inlined(run, quick):
    for name in OPTIONAL:
        pytest.importorskip(name)
    text = page_module.page(run)
    reader = Outside()
    reader.feed(text)
    assert all(address.startswith("data:") for address in reader.asked)
    assert "chosen_representation" in text
    assert "default-src 'none'" in text
    assert "An interactive chart of the rows appears here" not in text
    assert re.search(
        r'"scale": ?\{"domain": ?\["smooth field", "translation"\], "range": ?\["square", "circle"\]\}', text
    )


def test_without_altair_the_page_says_what_to_install(run, bare):
    text = page_module.page(run)
    assert "An interactive chart of the rows appears here" in text
    assert ".venv/bin/pip install -c constraints.txt -e &quot;.[report]&quot;</code>" in text
    assert "<script" not in text
    assert "script-src 'none'" in text


def test_every_status_is_explained_and_counted(run, bare):
    text = page_module.page(run)
    counts = run.rows["status_closed_form"].value_counts()
    for status in GLOSSARY:
        assert re.search(rf"<td>{status}</td><td>{counts.get(str(status), 0)}</td>", text)


def test_provenance_and_captions_are_on_the_page(run, bare):
    text = page_module.page(run)
    for words in ("cd" * 32, "ab" * 32, "stability 9.9", "Caption of plane.", "draw_all", "stability quickstart --out"):
        assert words in text


def test_a_narrow_first_low_pass_is_warned_of(run, bare):
    narrow = plots.Run(run.rows.assign(antialiasing=0.5), run.record, run.strip)
    assert "antialiasing = 0.5" in page_module.page(narrow)
    assert "antialiasing = " not in page_module.page(run)


def test_words_of_the_rows_are_escaped(run, bare):
    record = dict(run.record) | {"platform": "<script>alert(1)</script>"}
    assert "<script>" not in page_module.page(plots.Run(run.rows, record, run.strip))


def test_writing_is_atomic(tmp_path, bare, monkeypatch):
    folder = tables.write_folder(tmp_path / "run")
    path = report.write_page(folder)
    before = path.read_bytes()
    assert path.name == "index.html"

    def failing(run, name):
        raise ValueError("cannot be drawn")

    monkeypatch.setattr(parts, "svg", failing)
    with pytest.raises(ValueError, match="cannot be drawn"):
        report.write_page(folder)
    assert path.read_bytes() == before
    assert not [file for file in folder.iterdir() if file.name.startswith(".")]


def test_the_real_figures_fit_on_the_page(run):
    content = parts.figures(run)
    names = plots.applicable(run)
    assert len(names) == 5
    assert content.count("data:image/svg+xml;base64,") == content.count("<figcaption>") == len(names)
    for name in names:
        assert f"stability plot STORE --figure {name} --style paper -o {name}.pdf" in content


# --- any store --------------------------------------------------------------------------------------------------

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
    for name in OPTIONAL:
        pytest.importorskip(name)
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
