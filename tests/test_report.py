"""Claims about the page: its numbers are those of the rows, it asks nothing of the network, it tells of violations."""

import html
import html.parser
import re

import numpy as np
import plot_tables as tables
import pytest
from pages import bare_page

from stability import plots, report
from stability.report import page as page_module
from stability.report import parts
from stability.report.numbers import GLOSSARY, apart_from_linear, percent, table, violations


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


@pytest.fixture(scope="module")
def text(run):
    """Its page, without figures and chart."""
    return bare_page(run)


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


def test_the_page_says_how_to_do_it_again_from_a_clone(run, text):
    assert "In a checkout of the repository" in text
    assert "pip install deformation-stability" not in text
    for commit, words in (("ab12", "ab12</code>:"), ("ab12+changes", "ab12</code> (the run itself had changes")):
        again = parts.again(plots.Run(run.rows, dict(run.record) | {"commit": commit}, run.strip))
        assert f"In a clone of the repository at commit <code>{words}" in again
    assert parts.again(run) in text


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


def test_no_violation_in_consistent_rows_and_every_injected_one_is_found(run, text):
    assert len(violations(run.rows)) == 0
    assert "Violations: 0 of" in text
    assert 'class="warning"' not in text
    bad = broken(run)
    assert len(violations(bad.rows)) == 1
    worse = bare_page(bad)
    assert "Violations: 1 of" in worse
    assert "1 VIOLATION" in worse
    assert 'class="warning"' in worse


def test_allowances_are_granted_and_nothing_more(run):
    rows = run.rows[(run.rows["family"] == "translation") & (run.rows["sweep"] == "curves")].head(1).copy()
    allowed = rows["bound_closed_form"] + rows["interpolation_error"] + rows["floor"]
    rows["trivial"] = 10.0
    rows["distance_over_input_norm"] = allowed * (1 - 1e-12)
    assert violations(rows).empty
    rows["distance_over_input_norm"] = allowed * (1 + 1e-9)
    assert len(violations(rows)) == 1
    rows = rows.assign(bound_closed_form=10.0, trivial=0.1)  # the trivial bound alone, to which only the floor is added
    rows["distance_over_input_norm"] = (0.1 + rows["floor"]) * (1 - 1e-12)
    assert violations(rows).empty
    rows["distance_over_input_norm"] = (0.1 + rows["floor"]) * (1 + 1e-9)
    assert len(violations(rows)) == 1


def test_an_undefined_floor_is_no_violation(run):
    rows = run.rows.head(3).assign(floor="undefined", distance_over_input_norm=np.nan)
    assert violations(rows).empty


def test_the_page_asks_nothing_of_the_network(text):
    reader = Outside()
    reader.feed(text)
    assert reader.asked
    assert all(address.startswith("data:") for address in reader.asked)


def test_the_interactive_chart_is_inlined(run, quick):
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


def test_without_altair_the_page_says_what_to_install(text):
    assert "An interactive chart of the rows appears here" in text
    assert ".venv/bin/pip install -c constraints.txt -e &quot;.[report]&quot;</code>" in text
    assert "<script" not in text
    assert "script-src 'none'" in text


def test_every_status_is_explained_and_counted(run, text):
    counts = run.rows["status_closed_form"].value_counts()
    for status in GLOSSARY:
        assert re.search(rf"<td>{status}</td><td>{counts.get(str(status), 0)}</td>", text)


def test_provenance_and_captions_are_on_the_page(text):
    for words in ("cd" * 32, "ab" * 32, "stability 9.9", "Caption of plane.", "draw_all", "stability quickstart --out"):
        assert words in text


def test_a_narrow_first_low_pass_is_warned_of(run, text):
    narrow = plots.Run(run.rows.assign(antialiasing=0.5), run.record, run.strip)
    assert "antialiasing = 0.5" in bare_page(narrow)
    assert "antialiasing = " not in text


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


@pytest.mark.slow
def test_the_real_figures_fit_on_the_page(run):
    content = parts.figures(run)
    names = plots.applicable(run)
    assert len(names) == 5
    assert content.count("data:image/svg+xml;base64,") == content.count("<figcaption>") == len(names)
    for name in names:
        assert f"stability plot STORE --figure {name} --style paper -o {name}.pdf" in content
