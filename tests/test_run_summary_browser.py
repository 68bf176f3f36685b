# A run's summary in a real browser: nothing asked for, nothing complained of, on all screens.
from __future__ import annotations

import re

import numpy as np
import pytest
from browser import LUMINANCE, Offline, chromium_fixture, set_slider
from page_content import HOSTILE, HOSTILE_END
from run_folders import SIDE, bad, good, many_classes, write_run

from captum_infomask import DatasetRun
from captum_infomask.dataset_run.summary.summary_content import run_content
from captum_infomask.report.page import run_html

pytestmark = pytest.mark.slow

chromium = chromium_fixture()

MINUS = "\u2212"


@pytest.fixture
def open_run(chromium, tmp_path, monkeypatch):
    """Open a run's summary; afterwards nothing may have been asked for or complained of."""
    made = []
    photo = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    monkeypatch.setattr(DatasetRun, "picture", lambda run, key: photo)

    def open_one(run, **screen):
        path = tmp_path / "report <b> &amp; 'ünï'.html"
        path.write_text(run_html(run_content(run)), encoding="utf-8")
        made.append(Offline(chromium, **screen))
        made[-1].page.goto(path.as_uri())
        if run.table["error"].null_count:
            made[-1].page.wait_for_selector(".cim-side")
        made[-1].settle()
        return made[-1].page

    yield open_one
    for opened in made:
        assert opened.complaints == []
        assert all(url.startswith(("file:", "data:", "blob:")) for url in opened.requests)
        opened.close()


def three_classes(folder):
    totals = np.random.default_rng(0).normal(0.5, 0.6, 90).clip(-2, 1.58).tolist()
    rows = [good(f"k{k:02d}.png", k % 3, total) for k, total in enumerate(totals)]
    rows[7] = good("k07.png", 1, -3.5, predicted=0, mask=np.eye(SIDE, dtype=bool))
    return write_run(folder, [*rows, bad("bad.png")], pictures=100)


def test_the_examples_are_in_two_groups_in_the_viewer(open_run, tmp_path):
    page = open_run(three_classes(tmp_path / "run"), viewport={"width": 1300, "height": 900})
    assert page.locator(".cim-group h3").all_text_contents() == [
        "Highest i(y; x)",
        "Lowest i(y; x)",
    ]
    buttons = page.locator(".cim-group").nth(1).locator("button")
    assert buttons.count() == 6
    assert buttons.first.text_content() == f"bee, {MINUS}3.50 bits"
    buttons.first.click()
    page.locator(".cim-side h2", has_text="3.50").wait_for()
    pressed = page.locator(".cim-chooser button[aria-pressed=true]")
    assert pressed.all_text_contents() == [f"bee, {MINUS}3.50 bits"]
    facts = page.locator(".cim-side .cim-facts > div").evaluate_all(
        "(all) => all.map((one) => [...one.children].map((part) => part.textContent))"
    )
    assert facts == [
        [f"{MINUS}3.50 bits", "i(y; x), the whole picture"],
        ["1.00 bits", "score of the best region"],
        ["12.5%", "of the picture is kept by the run's mask"],
        ["ant", "predicted, not the target"],
        ["k07.png", "key"],
    ]
    assert page.locator(".cim-share").text_content() == "50.0%"
    set_slider(page, ".cim-threshold", 0.75)
    page.locator(".cim-share", has_text=re.compile("^25.0%$")).wait_for()


def names(page):
    return page.locator(".cim-sortable tbody th").all_text_contents()


def test_the_table_of_classes_is_sorted_by_its_heads(open_run, tmp_path):
    rows = [
        *[good(f"a{k}", 0, 1.0 + k / 10, predicted=k) for k in range(3)],
        *[good(f"b{k}", 1, -0.5 - k / 10) for k in range(2)],
        good("c", 2, -12.0),
    ]
    page = open_run(write_run(tmp_path / "run", rows))
    assert names(page) == ["ant", "bee", "cat"]
    page.get_by_role("button", name="Pictures").click()
    assert names(page) == ["ant", "bee", "cat"]
    page.get_by_role("button", name="Pictures").click()
    assert names(page) == ["cat", "bee", "ant"]
    median = page.get_by_role("button", name="Median")
    median.focus()
    page.keyboard.press("Enter")
    assert names(page) == ["ant", "bee", "cat"]
    median.click()
    assert names(page) == ["cat", "bee", "ant"]
    page.get_by_role("button", name="Accuracy").click()
    assert names(page)[-1] == "ant"
    orders = page.locator(".cim-sortable thead th").evaluate_all(
        "(heads) => heads.map((head) => head.getAttribute('aria-sort'))"
    )
    assert orders == ["none"] * 7 + ["descending"]
    page.get_by_role("button", name="Class").click()
    assert names(page) == ["ant", "bee", "cat"]


def test_hostile_text_is_shown_as_text(open_run, tmp_path):
    rows = [
        good(HOSTILE, 0, 1.0, engine=HOSTILE),
        good(HOSTILE_END, 1, 0.5),
        bad(HOSTILE_END + "2", HOSTILE),
    ]
    run = write_run(tmp_path / "<b>", rows, categories=[HOSTILE, HOSTILE_END], **{HOSTILE: HOSTILE})
    page = open_run(run)
    assert page.locator("img[src=x], [onerror], h1 b").count() == 0
    assert page.locator("script").count() == 2
    assert page.locator("h1").text_content() == "<b>"
    assert page.locator(".cim-strips .cim-name").nth(2).text_content() == HOSTILE
    assert page.locator(".cim-failures tbody th").text_content() == HOSTILE
    assert page.locator(".cim-failures code").text_content() == HOSTILE_END + "2"
    assert page.locator(".cim-side h2").text_content() == f"{HOSTILE}, 1.00 bits"


def test_a_run_without_a_single_number_opens(open_run, tmp_path):
    page = open_run(write_run(tmp_path / "run", [bad("a"), bad("b")]))
    assert page.locator("#viewer, .cim-side, .cim-strips").count() == 0
    assert page.locator(".cim-failures tbody tr").count() == 1


@pytest.mark.parametrize("width", [360, 1440])
def test_every_row_of_a_thousand_classes_is_on_the_page(open_run, tmp_path, width):
    page = open_run(many_classes(tmp_path / "run"), viewport={"width": width, "height": 800})
    page.locator("details summary").first.click()
    table = page.locator(".cim-tall")
    assert table.evaluate("(e) => e.scrollHeight - e.clientHeight") <= 1
    assert table.locator("tbody tr").count() == 1000
    last = table.locator("tbody tr").last
    last.scroll_into_view_if_needed()
    assert last.is_visible()
    head = table.locator("thead th").first.bounding_box()
    assert (0 <= head["y"] < 10) == (width == 1440)  # where the table fits, its heads stay


def test_the_strip_of_a_run_shows_maps_and_follows_the_keyboard(open_run, tmp_path):
    page = open_run(three_classes(tmp_path / "run"), viewport={"width": 1300, "height": 900})
    assert page.title() == "run · tiny · 2026-01-02"
    assert page.locator(".cim-page > header p").text_content().endswith(" · 2026-01-02")
    canvases = page.locator(".cim-strip-of-maps canvas")
    assert canvases.count() == 12
    page.wait_for_function(
        """() => [...document.querySelectorAll(".cim-strip-of-maps canvas")].every((canvas) =>
          canvas.getContext("2d").getImageData(0, 0, 1, 1).data[3] === 255)"""
    )
    chosen = page.locator(".cim-pictures button[tabindex='0']")
    chosen.focus()
    page.keyboard.press("End")
    title = page.locator(".cim-pictures button").last.text_content()
    page.locator(".cim-side h2", has_text=title).wait_for()
    assert page.locator(".cim-side h2").text_content() == title


@pytest.mark.parametrize("width", [360, 800, 1440])
@pytest.mark.parametrize("make", [three_classes, many_classes])
def test_screens_of_all_sizes_need_no_scrolling_sideways(open_run, tmp_path, make, width):
    page = open_run(make(tmp_path / ("r" * 200)), viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    axis = page.locator(".cim-axis svg").bounding_box()
    strips = page.locator(".cim-strip").evaluate_all(
        "(all) => all.map((one) => one.getBoundingClientRect().toJSON())"
    )
    for box in strips:
        assert box["left"] == pytest.approx(axis["x"])
        assert box["width"] == pytest.approx(axis["width"])
        assert box["width"] > 250
        assert box["right"] <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_figure_can_be_read_in_light_and_dark(open_run, tmp_path, scheme):
    page = open_run(three_classes(tmp_path / "run"), color_scheme=scheme)

    def luminance(selector, of):
        colour = page.locator(selector).first.evaluate(f"(e) => getComputedStyle(e).{of}")
        return page.evaluate(LUMINANCE, colour)

    paper = luminance("body", "backgroundColor")
    assert paper > 0.9 if scheme == "light" else paper < 0.02
    for selector, of, least in (
        (".cim-axis text", "fill", 4.5),
        (".cim-bound-words", "fill", 4.5),
        (".cim-name", "color", 4.5),
        (".cim-tiles dd", "color", 4.5),
        (".cim-silhouette", "stroke", 3),
        (".cim-median", "stroke", 3),
        (".cim-quartiles", "stroke", 3),
        (".cim-bound", "stroke", 3),
        ("path.cim-part-done", "stroke", 3),
        ("path.cim-part-failed", "stroke", 3),
    ):
        shade = luminance(selector, of)
        contrast = (max(shade, paper) + 0.05) / (min(shade, paper) + 0.05)
        assert contrast > least, (selector, contrast)


def test_without_scripts_the_numbers_are_there(open_run, tmp_path, chromium):
    run = three_classes(tmp_path / "run")
    path = tmp_path / "plain.html"
    path.write_text(run_html(run_content(run)), encoding="utf-8")
    plain = Offline(chromium, java_script_enabled=False)
    plain.page.goto(path.as_uri())
    words = plain.page.locator("body").inner_text()
    assert f"Lowest i(y; x): bee, {MINUS}3.50 bits" in words
    assert plain.page.locator(".cim-strip path.cim-dots").count() == 3
    assert plain.page.locator(".cim-sortable tbody tr").count() == 3
    assert [url for url in plain.requests if not url.startswith(("file:", "data:"))] == []
    plain.close()
