# The page in a real browser: hostile text, tables, the call, and screens of all sizes.
from __future__ import annotations

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
from browser import LUMINANCE, Offline, chromium_fixture
from page_content import HOSTILE, HOSTILE_END, hostile_content, page_content, picture

from captum_infomask.report.page import page_html
from captum_infomask.report.page_content import (
    Cell,
    MapContent,
    PageContent,
    PictureContent,
    TableRow,
)

pytestmark = pytest.mark.slow

chromium = chromium_fixture()


@pytest.fixture
def open_page(chromium, tmp_path):
    """Open a page of some content; afterwards nothing may have been asked for or complained of."""
    made = []

    def open_content(content, **screen):
        path = tmp_path / "report <b> &amp; 'ünï'.html"
        path.write_text(page_html(content), encoding="utf-8")
        made.append(Offline(chromium, **screen))
        return made[-1].open(path)

    yield open_content
    for opened in made:
        assert opened.complaints == []
        assert all(url.startswith(("file:", "data:", "blob:")) for url in opened.requests)
        opened.close()


def test_hostile_text_is_shown_as_text(open_page):
    page = open_page(hostile_content())
    assert page.locator("img[src=x], [onerror]").count() == 0
    assert page.locator("script").count() == 2
    assert page.locator("h1").text_content() == HOSTILE_END
    assert page.locator(".cim-side h2").text_content() == HOSTILE
    assert page.locator(".cim-card h3").text_content() == HOSTILE
    assert page.locator(".cim-numbers tbody th").first.inner_text().startswith(HOSTILE)
    assert page.locator(".cim-call code").text_content() == HOSTILE_END
    assert HOSTILE in page.locator(".cim-value").text_content()
    box = page.locator(".cim-stage-overlay").bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.click(box["x"] + 20, box["y"] + 20)
    assert page.locator("dialog h2").text_content() == f"{HOSTILE} {HOSTILE_END}"
    assert page.locator("dialog[open]").get_attribute("aria-label") == f"{HOSTILE}, enlarged"
    page.keyboard.press("Escape")
    page.get_by_role("button", name=re.escape("</script>")).first.click()
    page.locator(".cim-side h2", has_text=re.compile("^./")).wait_for()
    assert page.locator("img[src=x], [onerror]").count() == 0


def names(page):
    return page.locator(".cim-numbers tbody tr > th").evaluate_all(
        "(heads) => heads.map((head) => head.firstChild.textContent)"
    )


def orders(page):
    return page.locator(".cim-numbers thead th").evaluate_all(
        "(heads) => heads.map((head) => head.getAttribute('aria-sort'))"
    )


def test_heads_sort_the_table_best_first(open_page):
    page = open_page(page_content())
    assert names(page) == ["windows", "labels", "smooth", "broken"]
    assert orders(page) == ["none"] * 4
    lower = page.get_by_role("button", name="Deletion AUC")
    lower.click()
    assert names(page) == ["labels", "windows", "smooth", "broken"]
    assert orders(page) == ["none", "ascending", "none", "none"]
    lower.click()
    assert names(page) == ["smooth", "windows", "labels", "broken"]
    assert orders(page) == ["none", "descending", "none", "none"]
    page.get_by_role("button", name="Insertion AUC").focus()
    page.keyboard.press("Enter")  # by keyboard, and a missing number stays last
    assert names(page) == ["labels", "windows", "smooth", "broken"]
    assert orders(page) == ["none", "none", "descending", "none"]
    page.get_by_role("button", name="Method").click()
    assert names(page) == ["broken", "labels", "smooth", "windows"]


def test_the_table_shows_differences_intervals_and_the_best(open_page):
    page = open_page(page_content())
    cells = page.locator(".cim-numbers tbody tr").nth(1).locator("td")
    assert cells.first.inner_text().split("\n") == [
        "0.100",
        "\u22120.100 (\u22120.150 to \u22120.050)",
    ]
    assert cells.nth(1).inner_text().split("\n") == ["0.70", "+0.20"]
    best = page.locator(".cim-numbers td strong").all_text_contents()
    assert best == ["0.100", "0.70"]
    assert page.locator(".cim-reason").text_content() == "RuntimeError: sizes differ"
    square = page.locator(".cim-agreement tbody td").all_text_contents()
    assert square == ["1.00", "\u22120.50", "\u22120.50", "1.00"]


def test_curves_are_told_apart_without_colour(open_page):
    page = open_page(page_content(), viewport={"width": 1300, "height": 900})
    figures = page.locator(".cim-curves figure")
    assert figures.count() == 2
    lines = figures.first.locator("path.cim-curve").evaluate_all(
        "(paths) => paths.map((path) => path.getAttribute('stroke-dasharray'))"
    )
    assert len(set(lines)) == 2
    assert len(lines) == 4  # two curves, and a sample of each beside its name
    labels = figures.first.locator("text.cim-label").evaluate_all(
        "(texts) => texts.map((text) => text.firstChild.textContent)"
    )
    assert sorted(labels) == ["noise", "smooth"]


@pytest.mark.parametrize("count", [9, 40])
def test_the_names_of_many_methods_all_stand_beside_their_curves(open_page, count):
    steps = np.linspace(1, 0, 9)
    plane = picture().maps[0].plane
    many = tuple(
        MapContent(f"method {k}", "bits", plane, curves={"deletion": steps ** (1 + k / 9)})
        for k in range(count)
    )
    shown = PictureContent(picture().pixels, "p", (), many)
    page = open_page(page_content(pictures=(shown,)), viewport={"width": 1300, "height": 900})
    svg = page.locator(".cim-chart svg").bounding_box()
    boxes = page.locator(".cim-chart text.cim-label").evaluate_all(
        "(all) => all.map((one) => one.getBoundingClientRect().toJSON())"
    )
    assert len(boxes) == count
    assert min(box["top"] for box in boxes) >= svg["y"]
    assert max(box["bottom"] for box in boxes) <= svg["y"] + svg["height"]
    tops = sorted(box["top"] for box in boxes)
    assert min(b - a for a, b in itertools.pairwise(tops)) >= 13
    styles = page.locator(".cim-chart path.cim-curve").evaluate_all(
        "(all) => all.map((e) => e.getAttribute('class') + e.getAttribute('stroke-dasharray'))"
    )
    assert len(set(styles)) == count


def test_rows_of_many_methods_are_all_on_the_page(open_page):
    rows = tuple(TableRow(f"method {k}", (Cell(k / 60),) * 3) for k in range(60))
    page = open_page(page_content(rows=rows), viewport={"width": 1300, "height": 900})
    heights = page.locator(".cim-scroll").evaluate_all(
        "(all) => all.map((one) => [one.scrollHeight, one.clientHeight])"
    )
    assert all(inside == shown for inside, shown in heights)
    assert page.locator(".cim-numbers tbody tr").count() == 60
    assert page.locator(".cim-numbers tbody tr").last.is_visible()


def test_a_browser_that_cannot_unpack_maps_says_so(chromium, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(page_html(page_content()), encoding="utf-8")
    opened = Offline(chromium)
    opened.page.add_init_script("delete window.DecompressionStream")
    opened.page.goto(path.as_uri())
    assert "need a browser that can unpack them" in opened.page.locator(".cim-main").text_content()
    assert opened.page.locator(".cim-numbers tbody tr").count() == 4
    assert opened.complaints == []
    opened.close()


def test_the_heading_says_where_the_page_comes_from(open_page):
    first, second = page_content().pictures
    files = (replace(first, source=HOSTILE), replace(second, source="two.png"))
    page = open_page(page_content(pictures=files, origin=("tiny", HOSTILE, "2026-11-28")))
    assert page.title() == f"Eight methods on espresso · tiny · {HOSTILE} · 2026-11-28"
    summary = page.locator(".cim-page > header p").text_content()
    assert summary == f"tiny · {HOSTILE} · 2026-11-28 · 8 methods on 2 pictures"
    assert page.locator(".cim-source").text_content() == HOSTILE
    names = page.locator(".cim-pictures small").all_text_contents()
    assert names == [HOSTILE, "two.png"]
    assert page.locator("img[src=x]").count() == 0


@pytest.mark.parametrize("source", ["", "a.png"])
@pytest.mark.parametrize("title", ["espresso", "two"])
def test_on_a_phone_the_facts_stand_beside_the_picture(open_page, title, source):
    shown = replace(picture(), source=source)
    page = open_page(
        page_content(pictures=(shown,), title=title), viewport={"width": 400, "height": 800}
    )
    photo = page.locator(".cim-stage-photo").bounding_box()
    facts = page.locator(".cim-side .cim-facts").bounding_box()
    assert photo["x"] < 30
    assert photo["width"] > 150
    assert facts["x"] >= photo["x"] + photo["width"]
    assert facts["y"] == pytest.approx(photo["y"], abs=2)


def test_one_picture_with_the_pages_own_heading_says_it_once(open_page):
    shown = page_content(pictures=(picture(),), title="espresso")
    page = open_page(shown)
    assert page.get_by_text("espresso", exact=True).locator("visible=true").count() == 1


def test_the_call_is_copied_or_selected(open_page, chromium):
    page = open_page(page_content())
    page.get_by_role("button", name="Copy").click()
    said = page.locator(".cim-call [role=status]")
    said.filter(has_text=re.compile("^(Copied|Selected)")).wait_for()
    page.evaluate(
        """() => {
          Object.defineProperty(navigator, "clipboard", { value: undefined });
          document.execCommand = () => false;
        }"""
    )
    page.get_by_role("button", name="Copy").click()
    said.filter(has_text=re.compile("^Selected")).wait_for()
    assert page.evaluate("getSelection().toString()") == page_content().call


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(open_page, scheme):
    page = open_page(page_content(), color_scheme=scheme)

    def luminance(selector, of):
        colour = page.locator(selector).first.evaluate(f"(e) => getComputedStyle(e).{of}")
        return page.evaluate(LUMINANCE, colour)

    paper = luminance("body", "backgroundColor")
    assert paper > 0.9 if scheme == "light" else paper < 0.02
    for selector in (
        ".cim h2",
        ".cim-soft",
        ".cim-error",
        ".cim summary",
        ".cim-number",
        ".cim th",
    ):
        text = luminance(selector, "color")
        contrast = (max(text, paper) + 0.05) / (min(text, paper) + 0.05)
        assert contrast > 4.5, (selector, contrast)
    ground = luminance(".cim-stage-mask", "backgroundColor")
    kept = page.locator(".cim-stage-mask canvas").first.evaluate(
        """(canvas) => {
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          const place = data.findIndex((part, i) => i % 4 === 3 && part === 255);
          return `rgb(${data.slice(place - 3, place).join(" ")})`;
        }"""
    )
    mask = page.evaluate(LUMINANCE, kept)
    assert (max(mask, ground) + 0.05) / (min(mask, ground) + 0.05) > 3
    for number in range(8):
        page.evaluate(f"document.querySelector('.cim-curve').className.baseVal = 'cim-m{number}'")
        line = luminance(f".cim-m{number}", "stroke")
        contrast = (max(line, paper) + 0.05) / (min(line, paper) + 0.05)
        page.evaluate(
            f"document.querySelector('.cim-m{number}').setAttribute('class', 'cim-curve')"
        )
        assert contrast > 3, (number, contrast)


@pytest.mark.parametrize("width", [360, 768, 1100, 1920])
def test_screens_of_all_sizes_need_no_scrolling_sideways(open_page, width):
    long_name = "AnAttributionMethodWithAVeryLongNameAndNoSpaces" * 2
    renamed = MapContent(long_name, "bits", picture().maps[0].plane, "m" * 60)
    shown = PictureContent(picture().pixels, "p" * 90, (("9.91 bits", "w" * 60),), (renamed,) * 6)
    page = open_page(page_content(pictures=(shown,)), viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    stages = page.locator(".cim-stage-overlay").evaluate_all(
        "(all) => all.map((one) => one.getBoundingClientRect().toJSON())"
    )
    for box in stages:
        assert box["left"] >= 0
        assert box["right"] <= width
        assert box["width"] >= 130
        assert box["width"] / box["height"] == pytest.approx(56 / 40, rel=0.02)
    rows = {round(box["top"]) for box in stages}
    assert len(rows) == {360: 3, 768: 2, 1100: 2, 1920: 1}[width]


def test_a_map_without_a_picture_is_shown_alone(open_page):
    plane = np.linspace(-1, 3, 63, dtype=np.float32).reshape(7, 9)
    shown = PictureContent(None, "one map", (), (MapContent("InfoMask crop", "bits", plane),))
    page = open_page(PageContent("one map", (shown,)))
    assert page.locator("canvas[data-panel=photo], canvas[data-panel=kept]").count() == 0
    page.locator(".cim-stage-overlay").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".cim-spot").text_content() == "x 4, y 3"
    assert page.locator(".cim-value").text_content() == f"{plane[3, 4]:.2f} bits"
    assert page.locator(".cim-after").text_content() == "of the maximum"
    page.get_by_label("at least so many bits").check()
    assert page.locator(".cim-after").text_content() == "bits"
