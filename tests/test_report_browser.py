"""Claims about the page in a browser: it asks nothing, says no error, filters, and fits dark and narrow screens."""

import importlib.util
import json
import os
import shutil

import plot_tables as tables
import pytest
from pages import OPTIONAL, without_extra

from stability import plots
from stability.report import page as page_module

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
INSIDE = ("file:", "data:", "blob:", "about:", "chrome:")
MARKS = ".mark-symbol.role-mark path"
RECORD = {"hash": "ab" * 32, "spec": {}, "versions": {"stability": "0"}, "commit": None}
SECONDS = 20


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless browser. Where none is installed these tests are skipped; where CI is set they fail instead."""
    found, driver = next(filter(None, map(shutil.which, BROWSERS)), None), shutil.which("chromedriver")
    there = importlib.util.find_spec("selenium") is not None
    if not (found and driver and there):
        missing = [
            name for name, has in (("chromium", found), ("chromedriver", driver), ("selenium", there)) if not has
        ]
        reason = f"the page is tested in a browser, which needs {', '.join(missing)}"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}: CI is set, there these tests must run; install what is missing")
        pytest.skip(reason)
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = found
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    window.set_page_load_timeout(SECONDS)
    yield window
    window.quit()


@pytest.fixture(scope="module")
def rows():
    return tables.store_rows(families=("translation", "fourier"), sizes=(0.5, 1.0, 2.0))


@pytest.fixture(scope="module")
def with_chart(rows, tmp_path_factory):
    for name in OPTIONAL:
        pytest.importorskip(name)
    return written(rows, tmp_path_factory.mktemp("with"))


@pytest.fixture(scope="module")
def without_chart(rows, tmp_path_factory):
    """The page of an installation without the extra."""
    with pytest.MonkeyPatch.context() as patch:
        without_extra(patch)
        return written(rows, tmp_path_factory.mktemp("without"))


def written(rows, folder):
    path = folder / "index.html"
    path.write_text(page_module.page(plots.Run(rows, RECORD)), encoding="utf-8")
    return path


def opened(browser, path, *, width=1100, scheme="light"):
    """The page in a window of a width in px, with old logs thrown away."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get("about:blank")
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(path.as_uri())
    return browser


def marks(browser):
    return browser.execute_script(f"return document.querySelectorAll({MARKS!r}).length")


def until(browser, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, SECONDS, poll_frequency=0.05).until(condition)


def requests(browser):
    """Every address that the page asked for."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]


def choose(browser, name, words):
    """An entry of one of the chart's menus, by its words."""
    from selenium.webdriver.support.ui import Select

    menu = browser.find_element("css selector", f"select[name^={name}]")
    Select(menu).select_by_visible_text(words)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["with_chart", "without_chart"])
def test_the_page_asks_for_nothing_outside_and_reports_no_error(browser, kind, request):
    path = request.getfixturevalue(kind)
    opened(browser, path)
    if kind == "with_chart":
        until(browser, marks)
    asked = requests(browser)
    assert path.as_uri() in asked
    assert [address for address in asked if not address.startswith(INSIDE)] == []
    assert browser.get_log("browser") == []


def test_a_request_to_the_outside_would_have_been_seen(browser, without_chart, tmp_path):
    """The negative control of the claim above: a picture from elsewhere, with the policy taken out."""
    text = without_chart.read_text(encoding="utf-8").replace("Content-Security-Policy", "nothing")
    broken = tmp_path / "broken.html"
    broken.write_text(text.replace("</main>", '<img src="http://127.0.0.1:9/x.png"></main>'), encoding="utf-8")
    opened(browser, broken)
    assert [address for address in requests(browser) if not address.startswith(INSIDE)] == ["http://127.0.0.1:9/x.png"]


def test_the_policy_of_the_page_stops_a_request(browser, without_chart, tmp_path):
    broken = tmp_path / "stopped.html"
    text = without_chart.read_text(encoding="utf-8")
    broken.write_text(text.replace("</main>", '<img src="http://127.0.0.1:9/x.png"></main>'), encoding="utf-8")
    opened(browser, broken)
    assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))


def test_one_mark_for_every_row_and_a_filter_leaves_its_own(browser, with_chart, rows):
    opened(browser, with_chart)
    until(browser, marks)
    assert marks(browser) == len(rows)
    choose(browser, "chosen_family", "translation")
    chosen = rows["family"] == "translation"
    until(browser, lambda window: marks(window) == chosen.sum())
    choose(browser, "chosen_representation", "my net, conv1")
    until(browser, lambda window: marks(window) == (chosen & (rows["layer"] == "conv1")).sum())
    choose(browser, "chosen_family", "all")
    choose(browser, "chosen_representation", "all")
    until(browser, lambda window: marks(window) == len(rows))
    assert browser.get_log("browser") == []


def test_the_axes_can_be_chosen(browser, with_chart, rows):
    opened(browser, with_chart)
    until(browser, marks)

    def title(window):
        return window.execute_script("return document.querySelector('.role-title-text').textContent")

    assert title(browser).replace("  ", " ").endswith("/ ‖x‖ over ‖τ‖ (px)")
    choose(browser, "chosen_unit", "‖Φ(Lτ x) − Φ(x)‖ / distance of two images")
    choose(browser, "chosen_axis", "‖∇τ‖")
    until(browser, lambda window: title(window).replace("  ", " ").endswith("/ distance of two images over ‖∇τ‖"))
    assert marks(browser) == (rows["jacobian_norm"] > 0).sum(), "a translation has no gradient: no place on a log axis"


def test_a_dark_scheme_darkens_the_page_and_its_chart(browser, with_chart):
    found = {}
    for scheme in ("light", "dark"):
        opened(browser, with_chart, scheme=scheme)
        until(browser, marks)
        found[scheme] = browser.execute_script(
            "const look = (at, what) => getComputedStyle(document.querySelector(at))[what];"
            "return [look('body', 'backgroundColor'), look('.chart', 'backgroundColor'),"
            " look('.role-axis-label text', 'fill'), look('figure .picture', 'backgroundColor')]"
        )
    light, dark = ([brightness(color) for color in found[scheme]] for scheme in ("light", "dark"))
    assert light[0] > 240 > 60 > dark[0]
    assert light[1] > 240 > 60 > dark[1]
    assert light[2] < 60 < 200 < dark[2]
    assert light[3] == dark[3] == 255, "figures stand on a white card"


def brightness(color):
    """Mean of red, green and blue of "rgb(1, 2, 3)"."""
    return sum(float(part) for part in color.partition("(")[2].rstrip(")").split(",")[:3]) / 3


@pytest.mark.parametrize("kind", ["with_chart", "without_chart"])
@pytest.mark.parametrize("width", [360, 768])
def test_a_narrow_screen_scrolls_no_page_sideways(browser, kind, width, request):
    opened(browser, request.getfixturevalue(kind), width=width)
    if kind == "with_chart":
        until(browser, marks)
    wide, inner = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= inner == width


def test_without_the_extra_there_are_figures_and_a_hint(browser, without_chart):
    opened(browser, without_chart)
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('img[src^=\"data:image/svg+xml\"]')].map(at => at.naturalWidth)"
    )
    assert sizes
    assert all(size > 0 for size in sizes), "every figure is a picture that the browser can draw"
    assert browser.execute_script("return document.scripts.length") == 0
    assert "pip install" in browser.execute_script("return document.body.textContent")
