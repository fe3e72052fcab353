"""The page in a real browser: what a reader clicks, with the keyboard, on a phone, in the dark and without JavaScript."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import synthetic
from browser import CHROMIUM, Tab, chromium
from PIL import Image

from clbench.report import build_all

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)")

TABLE = "bleeding-t-effects-success"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A report of two suites, one of them over several numbers of steps."""
    out = tmp_path_factory.mktemp("report")
    failed = frozenset({"effect_2/source_03/s0"})
    bleeding = synthetic.make_runs(out / "bleeding", failed=failed)
    steps = synthetic.make_runs(
        out / "steps", ("teacher", "cascade", "collection", "identity"), sources=2, steps=(1, 4, 28), suite=synthetic.STEP_SUITE
    )
    parts = [(bleeding, synthetic.about()), (steps, synthetic.about(suite=synthetic.STEP_SUITE))]
    return build_all(parts, out)[0].as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Tab]:
    with chromium() as tab:
        yield tab


@pytest.fixture
def tab(browser: Tab, page: str) -> Tab:
    """The page, freshly opened in a wide, light window."""
    browser.view()
    browser.open(page)
    return browser


def turn(tab: Tab, selector: str, value: str, event: str) -> None:
    """Set a field as a reader would: its value, then the event that the browser sends."""
    field = f"document.querySelector('{selector}')"
    tab.run(f"{field}.value = '{value}', {field}.dispatchEvent(new Event('{event}')), true")


def column(tab: Tab, index: int, table: str = TABLE) -> list[str]:
    """The texts of one column, top to bottom, hidden rows left out."""
    return tab.run(
        f"[...document.querySelectorAll('#{table} tbody tr')].filter(row => !row.hidden)"
        f".map(row => row.children[{index}].querySelector('.val').textContent)"
    )


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_fetches_nothing_and_breaks_no_policy(browser: Tab, page: str, width: int, dark: bool, tmp_path: Path) -> None:
    browser.view(width, 844, dark)
    browser.open(page)
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert [url for url in browser.requests if not url.startswith(("data:image/webp", page))] == []
    assert browser.complaints == []
    browser.picture(tmp_path / "page.png")
    shown = np.asarray(Image.open(tmp_path / "page.png").convert("L"), dtype=np.float64)
    assert (np.median(shown) < 60) == dark and shown.std() > 10, "the paper follows the colour scheme, and there is ink"


def test_the_policy_forbids_a_strangers_script(tab: Tab) -> None:
    tab.run("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.hit = 1'}))")
    assert tab.run("window.hit === undefined")
    assert tab.run("fetch('https://example.org').then(() => 'sent', () => 'stopped')") == "stopped"


def test_columns_sort_and_say_so(tab: Tab) -> None:
    heads = f"[...document.querySelectorAll('#{TABLE} thead th')].map(head => head.getAttribute('aria-sort'))"
    assert tab.run(heads)[3] == "ascending" and set(tab.run(heads)) == {"none", "ascending"}, "the worst for the candidate first"
    first = column(tab, 3)
    assert [float(text.split()[0]) for text in first] == sorted(float(text.split()[0]) for text in first)
    tab.click(f"#{TABLE} thead th:nth-child(3) button")
    assert tab.run(heads)[2] == "descending" and tab.run(heads)[3] == "none"
    found = [float(text.split()[0]) for text in column(tab, 2)]
    assert found == sorted(found, reverse=True)
    tab.click(f"#{TABLE} thead th:nth-child(3) button")
    assert [float(text.split()[0]) for text in column(tab, 2)] == sorted(found)
    assert tab.run("location.hash") == f"#{TABLE}~2~ascending"


def test_a_link_to_a_sorted_table_opens_it_sorted(browser: Tab, page: str) -> None:
    browser.view()
    browser.open(f"{page}#{TABLE}~0~descending")
    names = column(browser, 0)
    assert names == sorted(names, key=str.lower, reverse=True)
    top = browser.run(f"document.getElementById('{TABLE}').getBoundingClientRect().top")
    assert 0 <= top < 300, "and it is in sight"


def test_missing_values_come_last_both_ways(tab: Tab) -> None:
    table = "bleeding-t-effects-success"
    tab.run(f"document.querySelectorAll('#{table} tbody td:nth-child(2)')[2].classList.add('missing')")
    missing = column(tab, 0)[2]
    for _ in range(2):
        tab.click(f"#{table} thead th:nth-child(2) button")
        assert column(tab, 0)[-1] == missing


def test_keys_reach_what_the_mouse_reaches(tab: Tab) -> None:
    tab.run(f"document.querySelector('#{TABLE} thead button').focus()")
    tab.key("Tab")
    assert tab.run("document.activeElement.tagName") == "BUTTON"
    outline = "getComputedStyle(document.activeElement).outline"
    assert tab.run(f"{outline}Style") == "solid" and tab.run(f"{outline}Width") == "2px", "the focus is seen"
    tab.key("Enter")
    assert tab.run("document.activeElement.closest('th').getAttribute('aria-sort')") == "descending"
    tab.key("Enter")
    assert tab.run("document.activeElement.closest('th').getAttribute('aria-sort')") == "ascending"


def test_the_filter_keeps_some_effects_everywhere_in_its_suite(tab: Tab) -> None:
    turn(tab, "#bleeding-effects input", "sepia", "input")
    assert column(tab, 0) == ["Sepia"] and len(column(tab, 0, "steps-t-effects-success")) == 8
    shown = "[...document.querySelectorAll('#bleeding-gallery .effect')].filter(e => !e.hidden).length"
    assert tab.run(shown) == 1 and tab.run("document.querySelector('#bleeding-gallery .found').textContent") == "1 effect"
    tab.run("location.hash = 'bleeding-g-effect_0'")
    assert tab.run("new Promise(done => setTimeout(() => done(!document.getElementById('bleeding-g-effect_0').hidden), 100))")
    assert tab.run(shown) == 8, "a link to what is filtered out lifts the filter"


def test_only_failed_rows(tab: Tab) -> None:
    tab.click("#bleeding-gallery input[type=checkbox]")
    rows = "[...document.querySelectorAll('#bleeding-gallery .case')].filter(e => e.checkVisibility())"
    assert tab.run(f"{rows}.length") > 0 and tab.run(f"{rows}.every(row => row.hasAttribute('data-failed'))")


def test_a_coloured_cell_opens_its_pictures(tab: Tab) -> None:
    tab.click("#bleeding-t-attribution-collection td[class*=bad-] a")
    target = tab.run("document.querySelector('.strip:target').id")
    assert target.startswith("bleeding-b-collection-effect_")
    assert tab.run("document.querySelector('.strip:target').getBoundingClientRect().top") >= 0
    assert tab.run("document.querySelectorAll('.strip:target .pic').length") >= 4


def test_a_link_to_a_row_behind_a_cell_shows_it_and_opens_the_viewer(browser: Tab, page: str) -> None:
    browser.view()
    browser.open(page)
    browser.click("#bleeding-t-attribution-collection td[class*=bad-] a")
    browser.click(".strip:target .row .pic")
    shown = "[...document.querySelectorAll('.strip')].filter(s => s.checkVisibility()).map(s => s.id)"
    link = browser.run("location.href")
    browser.key("Escape")
    left = browser.run("location.href")
    assert "~" in link and left == link.split("~")[0]
    strip = left.split("#")[1].rpartition("-")[0]
    browser.open(left)
    assert browser.run(shown) == [strip] and not browser.run("document.querySelector('.viewer').open")
    browser.open(link)
    assert browser.run(shown) == [strip] and browser.run("document.querySelector('.viewer').open")
    browser.key("Escape")
    assert browser.run(shown) == [strip], "the pictures stay when the viewer is closed"
    assert browser.run(f"document.getElementById('{strip}').getBoundingClientRect().top") >= 0
    browser.click(f"#{strip} p a:last-child")
    assert browser.run(f"new Promise(done => setTimeout(() => done({shown}), 100))") == []
    browser.view(script=False)
    browser.open(left)
    assert browser.run(shown) == [strip], "the address alone suffices"


def mode(tab: Tab, name: str) -> None:
    tab.click(f".modes [data-mode={name}]")


def test_the_viewer_compares_by_slider_toggle_and_difference(tab: Tab, tmp_path: Path) -> None:
    tab.click("#bleeding-gallery .case [data-who=cascade] .pic")
    assert tab.run("document.querySelector('.viewer').open")
    assert tab.run("[...document.querySelectorAll('.viewer select')].map(s => s.value)") == ["truth", "cascade"]
    tab.run("document.querySelector('.stage').focus()")
    tab.key("ArrowRight")
    assert tab.run("getComputedStyle(document.querySelector('.over')).clipPath") == "inset(0px 0px 0px 55%)"
    mode(tab, "toggle")
    tab.click(".viewer .flip")
    assert tab.run("getComputedStyle(document.querySelector('.over')).visibility") == "visible"
    mode(tab, "difference")
    turn(tab, ".side-b select", "truth", "change")
    assert stage(tab, tmp_path).max() == 0, "a picture does not differ from itself"
    turn(tab, ".side-b select", "source", "change")
    assert stage(tab, tmp_path).mean() > 5
    tab.key("Escape")
    assert not tab.run("document.querySelector('.viewer').open")
    assert tab.run("location.hash").startswith("#bleeding-c-effect_"), "what is left is a link to the row"


def stage(tab: Tab, folder: Path) -> np.ndarray:
    """The middle of the stage as it is drawn."""
    tab.picture(folder / "stage.png")
    box = tab.run("(() => { const b = document.querySelector('.stage').getBoundingClientRect(); return [b.x, b.y, b.width]; })()")
    x, y, side = (round(number) for number in box)
    picture = Image.open(folder / "stage.png").convert("L").crop((x + 20, y + 20, x + side - 20, y + side - 20))
    return np.asarray(picture, dtype=np.float64)


def test_steps_are_scrubbed_and_linked(browser: Tab, page: str, tab: Tab) -> None:
    tab.click("#steps-gallery .case .steps [data-who=collection][data-step='4'] .pic")
    knob = "document.querySelector('.knob-step input')"
    assert tab.run(f"[{knob}.checkVisibility(), {knob}.max, {knob}.value]") == [True, "2", "1"]
    before = tab.run("document.querySelector('.over').src")
    turn(tab, ".knob-step input", "2", "input")
    after, link = tab.run("document.querySelector('.over').src"), tab.run("location.href")
    assert before != after and link.endswith("~truth~collection~slider~28")
    browser.open(link)
    assert browser.run("document.querySelector('.viewer').open && document.querySelector('.over').src") == after


def copied(tab: Tab, label: str, table: str) -> str:
    tab.run("navigator.clipboard.writeText = text => { window.copied = text; return Promise.resolve(); }")
    tab.run(f"[...document.querySelectorAll('#{table} .take button')].find(b => b.textContent === '{label}').click()")
    return tab.run("window.copied")


def test_tables_are_taken_away_as_csv_and_markdown(tab: Tab) -> None:
    rows = list(csv.reader(io.StringIO(copied(tab, "CSV", "bleeding-t-summary"))))
    assert {len(row) for row in rows} == {len(rows[0])}
    success, low, high = (rows[0].index(name) for name in ("Success ↑", "Success ↑ low", "Success ↑ high"))
    for row in rows[1:]:
        assert float(row[low]) <= float(row[success]) <= float(row[high])
    assert [row[0] for row in rows[1:4]] == ["teacher", "cascade", "collection"]
    lines = copied(tab, "Markdown", "bleeding-t-summary").splitlines()
    assert {line.count("|") for line in lines} == {lines[0].count("|")} and lines[1].startswith("| --- | ---: |")


def test_a_copy_holds_what_is_shown_and_never_a_key_to_sort_by(tab: Tab) -> None:
    rows = list(csv.reader(io.StringIO(copied(tab, "CSV", TABLE))))
    confused = rows[0].index("collection: mistaken for")
    assert all(row[confused] == "never" or "×" in row[confused] for row in rows[1:])
    success = rows[0].index("collection")
    assert all(0 <= float(row[success]) <= 1 for row in rows[1:]), "a share in full precision"
    rows = list(csv.reader(io.StringIO(copied(tab, "CSV", "steps-t-steps"))))
    reached = [row[rows[0].index("Surely reaches it interval")] for row in rows[1:]]
    assert all(text == "not reached" or " steps" in text or " step " in text for text in reached) and "not reached" in reached
    rows = {row[0]: row for row in csv.reader(io.StringIO(copied(tab, "CSV", "bleeding-t-scales")))}
    assert rows["Dose"][-1] == "" and 0 < float(rows["Success"][-1]) < 1, "nothing for a place that is missing"


def test_a_missing_value_comes_last_whatever_its_key(tab: Tab) -> None:
    table = "bleeding-t-scales"
    tab.run(f"document.querySelector('#{table}').closest('details').open = true")
    index = tab.run(f"document.querySelectorAll('#{table} thead th').length") - 1
    assert tab.run(f"document.querySelectorAll('#{table} td[data-missing]').length") > 0
    tab.run(f"document.querySelectorAll('#{table} td[data-missing]').forEach(cell => cell.setAttribute('data-sort', '-1'))")
    for _ in range(2):
        tab.click(f"#{table} thead th:nth-child({index + 1}) button")
        shown = column(tab, index, table)
        assert shown.count("–") and set(shown[-shown.count("–") :]) == {"–"}


def test_a_plot_is_saved_as_png(tab: Tab) -> None:
    tab.run("HTMLAnchorElement.prototype.click = function () { window.saved = [this.download, this.href]; }")
    tab.run("document.querySelector('#bleeding-p-by-effect .take button').click()")
    name, url = tab.run(
        "new Promise(done => { const look = () => window.saved ? done(window.saved) : setTimeout(look, 50); look(); })"
    )
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB"), dtype=np.float64)
    assert name == "bleeding-p-by-effect.png" and picture.shape[1] > 1000
    assert (picture[0, 0] == 255).all() and len(np.unique(picture.reshape(-1, 3), axis=0)) > 20, "ink on the card's colour"


def test_without_javascript_everything_is_readable(browser: Tab, page: str) -> None:
    browser.view(script=False)
    browser.open(f"{page}#bleeding-b-collection-effect_5-effect_6")
    seen = "document.querySelector('{}').checkVisibility()"
    assert browser.run(seen.format(f"#{TABLE} td")) and browser.run(seen.format("#bleeding-gallery .pic"))
    assert not browser.run(seen.format(".tools")) and not browser.run(seen.format(".viewer"))
    assert browser.run("document.querySelector('.take') === null"), "no button that does nothing"
    strips = browser.run("[...document.querySelectorAll('.strip')].filter(s => s.checkVisibility()).map(s => s.id)")
    assert strips == ["bleeding-b-collection-effect_5-effect_6"], "the address alone opens the pictures behind a cell"
    assert browser.run(
        "(() => { const d = document.querySelector('details.more'); d.querySelector('summary').click(); return d.open; })()"
    )
