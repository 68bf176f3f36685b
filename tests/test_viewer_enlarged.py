# A map enlarged beside the picture, and the strip of pictures, in a real browser.
from __future__ import annotations

import base64

import numpy as np
import pytest
from browser import Offline, chromium_fixture
from page_content import HOSTILE, digit, maps, page_content, picture, windows_map

from captum_infomask.report.colour_planes import colour_limits, own_limit
from captum_infomask.report.page import page_html
from captum_infomask.report.page_content import MapContent, PageContent, PictureContent

pytestmark = pytest.mark.slow

chromium = chromium_fixture()

NAMES = [made.name for made in maps() if made.plane is not None]


@pytest.fixture
def open_page(chromium, tmp_path):
    """Open a page of some content; afterwards nothing may have been asked for or complained of."""
    made = []

    def open_content(content, **screen):
        path = tmp_path / "report.html"
        path.write_text(page_html(content), encoding="utf-8")
        made.append(Offline(chromium, **screen))
        return made[-1].open(path)

    yield open_content
    for opened in made:
        assert opened.complaints == []
        assert all(url.startswith(("file:", "data:", "blob:")) for url in opened.requests)
        opened.close()


def box_of(page, selector):
    return page.locator(selector).first.bounding_box()


def is_open(page):
    return page.locator("dialog.cim-enlarged").evaluate("(dialog) => dialog.open")


def focused(page):
    """The card and the panel that have the focus."""
    return page.evaluate(
        """() => {
          const at = document.activeElement;
          const card = at.closest(".cim-card")?.querySelector("h3").textContent ?? null;
          return [card, at.className.split(" ")[1] ?? at.tagName];
        }"""
    )


def layout(page):
    """Where every part of the cards and of the side stands, and the drawings' pixels."""
    return page.evaluate(
        """() => [...document.querySelectorAll(".cim-card > *, .cim-side > *")].map((part) => {
          const { left, top, width, height } = part.getBoundingClientRect();
          const canvas = part.querySelector("canvas");
          return [part.className, left, top + scrollY, width, height,
            canvas ? canvas.toDataURL() : ""];
        })"""
    )


@pytest.mark.parametrize("number", [0, 3])
@pytest.mark.parametrize("width", [1440, 800])
def test_a_click_enlarges_a_map_beside_the_picture(open_page, number, width):
    page = open_page(page_content(), viewport={"width": width, "height": 900})
    page.mouse.move(1, 1)
    before = layout(page)
    small = page.locator(".cim-card .cim-stage-overlay").nth(number)
    was = small.bounding_box()
    small.click(position={"x": was["width"] / 2, "y": was["height"] / 2})
    assert is_open(page)
    dialog = page.locator("dialog.cim-enlarged")
    assert dialog.get_attribute("aria-label") == f"{NAMES[number]}, enlarged"
    assert dialog.locator("h2").inner_text().startswith(NAMES[number])
    photo = box_of(page, "dialog .cim-stage-photo")
    shown = box_of(page, "dialog .cim-stage-overlay")
    assert shown["width"] > 1.8 * was["width"]
    assert (photo["width"], photo["height"], photo["y"]) == pytest.approx(
        (shown["width"], shown["height"], shown["y"])
    )
    assert photo["x"] + photo["width"] <= shown["x"]
    assert shown["x"] + shown["width"] <= width
    assert shown["y"] + shown["height"] <= 900
    assert shown["width"] / shown["height"] == pytest.approx(56 / 40, rel=0.01)
    # A second click closes, and all is as it was.
    page.mouse.click(shown["x"] + 30, shown["y"] + 30)
    assert not is_open(page)
    page.mouse.move(1, 1)
    page.wait_for_function("() => !document.querySelector('dialog .cim-stage-overlay')")
    assert layout(page) == before


@pytest.mark.parametrize("kind", ["Escape", "second Enter", "button", "beside"])
def test_the_keyboard_enlarges_and_the_focus_comes_back(open_page, kind):
    page = open_page(page_content(), viewport={"width": 1300, "height": 900})
    small = page.locator(".cim-card .cim-stage-overlay").nth(1)
    small.focus()
    assert focused(page) == ["labels", "cim-stage-overlay"]
    page.keyboard.press("Enter")
    assert is_open(page)
    assert focused(page) == [None, "cim-stage-overlay"]
    if kind == "Escape":
        page.keyboard.press("Escape")
    elif kind == "second Enter":
        page.keyboard.press("Enter")
    elif kind == "button":
        page.get_by_role("button", name="Close").click()
    else:
        page.mouse.click(3, 3)
    assert not is_open(page)
    page.wait_for_function("() => document.activeElement.closest('.cim-card')")
    assert focused(page) == ["labels", "cim-stage-overlay"]
    page.keyboard.press("Space")
    assert is_open(page)
    outline = page.locator("dialog .cim-stage-overlay").evaluate(
        "(e) => getComputedStyle(e).outlineStyle"
    )
    assert outline == "solid"


def test_values_and_regions_are_read_there_too(open_page):
    made = windows_map()
    page = open_page(page_content(), viewport={"width": 1300, "height": 900})
    page.locator(".cim-card .cim-stage-overlay").first.click()
    for selector in ("dialog .cim-stage-overlay", "dialog .cim-stage-photo"):
        box = box_of(page, selector)
        for x, y in ((3, 4), (41, 22)):
            page.mouse.move(
                box["x"] + (x + 0.5) / 56 * box["width"], box["y"] + (y + 0.5) / 40 * box["height"]
            )
            value = page.locator("dialog .cim-value").text_content().replace("\u2212", "-")
            assert float(value.split(" ")[0]) == pytest.approx(made.plane[y, x], abs=0.006)
            assert page.locator("dialog .cim-region-score").text_content().startswith("region ")
            for panel in ("overlay", "photo"):
                spot = page.locator(f"dialog .cim-stage-{panel} .cim-line.cim-place")
                assert spot.get_attribute("d") == f"M{x + 0.5} {y + 0.5}h0"
            outline = page.locator("dialog .cim-stage-overlay .cim-line.cim-region")
            assert outline.get_attribute("d").startswith("M")
    page.mouse.move(2, 2)
    page.locator("dialog .cim-stage-overlay").focus()
    page.keyboard.press("ArrowRight")
    x, y = page.locator(".cim-spot").text_content().replace("x ", "").split(", y ")
    value = page.locator("dialog .cim-value").text_content().replace("\u2212", "-")
    assert float(value.split(" ")[0]) == pytest.approx(made.plane[int(y), int(x)], abs=0.006)


@pytest.mark.parametrize("width", [360, 400])
def test_on_a_phone_the_map_fills_the_width_and_a_finger_reads_it(open_page, width):
    page = open_page(page_content(), viewport={"width": width, "height": 700}, has_touch=True)
    page.locator(".cim-card .cim-stage-overlay").first.tap()
    assert is_open(page)
    shown, photo = (
        box_of(page, "dialog .cim-stage-overlay"),
        box_of(page, "dialog .cim-stage-photo"),
    )
    assert (shown["x"], shown["width"]) == pytest.approx((0, width), abs=1)
    assert photo["width"] == shown["width"]
    assert photo["y"] >= shown["y"] + shown["height"]
    assert page.evaluate("document.querySelector('dialog').scrollWidth") <= width
    value = page.locator("dialog .cim-value")
    seen = set()
    for share in (0.1, 0.5, 0.9):
        page.touchscreen.tap(shown["x"] + share * width, shown["y"] + 20)
        assert is_open(page)
        seen.add(value.text_content())
    assert len(seen) == 3
    page.get_by_role("button", name="Close").tap()
    assert not is_open(page)


def test_a_map_without_a_picture_is_enlarged_alone(open_page):
    shown = PictureContent(None, "p", (), (windows_map(),))
    page = open_page(PageContent("p", (shown,)), viewport={"width": 1300, "height": 900})
    page.locator(".cim-stage-overlay").click()
    assert box_of(page, "dialog .cim-stage-overlay")["width"] > 600
    assert page.locator("dialog .cim-stage").count() == 1


def strip_of_maps(count=12):
    """Pictures of one map each, in two groups, as in the summary of a run."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)
    return tuple(
        PictureContent(
            pixels if k % 5 else None,
            f"picture {k}" if k else HOSTILE,
            (),
            (MapContent("m", "bits", windows_map(seed=k).plane * (1 + k)),),
            group="high" if k < count // 2 else "low",
        )
        for k in range(count)
    )


def pressed(page):
    return page.locator(".cim-pictures button").evaluate_all(
        "(all) => all.flatMap((b, k) => b.getAttribute('aria-pressed') === 'true' ? [k] : [])"
    )


def test_arrow_keys_go_from_picture_to_picture(open_page):
    page = open_page(PageContent("run", strip_of_maps()), viewport={"width": 1300, "height": 900})
    stops = page.locator(".cim-pictures button[tabindex='0']")
    assert stops.count() == 1
    stops.focus()
    for key, place in (
        ("ArrowLeft", 0), ("ArrowRight", 1), ("ArrowDown", 2), ("End", 11), ("ArrowRight", 11),
        ("ArrowUp", 10), ("Home", 0), ("ArrowRight", 1),
    ):  # fmt: skip
        page.keyboard.press(key)
        assert pressed(page) == [place]
        assert stops.evaluate("(button) => button === document.activeElement")
    page.locator(".cim-side h2", has_text="picture 1").wait_for()
    assert page.locator("img[src=x]").count() == 0


def test_the_last_of_pictures_chosen_fast_is_the_one_shown(open_page):
    page = open_page(PageContent("run", strip_of_maps()), viewport={"width": 1300, "height": 900})
    page.evaluate(
        """() => {
          for (const button of document.querySelectorAll(".cim-pictures button")) button.click();
        }"""
    )
    page.locator(".cim-side h2", has_text="picture 11").wait_for()
    page.wait_for_timeout(300)
    assert page.locator(".cim-side h2").text_content() == "picture 11"
    assert pressed(page) == [11]


def thumbnails(page):
    read = page.locator(".cim-pictures canvas").evaluate_all(
        """(all) => all.map((canvas) => {
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          return btoa(String.fromCharCode(...data));
        })"""
    )
    return [np.frombuffer(base64.b64decode(text), np.uint8).reshape(40, 56, 4) for text in read]


def test_the_strip_shows_each_pictures_map(open_page):
    shown = strip_of_maps()
    page = open_page(PageContent("run", shown), viewport={"width": 1300, "height": 900})
    page.wait_for_function(
        """() => [...document.querySelectorAll(".cim-pictures canvas")].every((canvas) =>
          canvas.getContext("2d").getImageData(0, 0, 1, 1).data[3] === 255)"""
    )
    drawn = thumbnails(page)
    assert len(drawn) == 12
    large = page.locator("canvas[data-panel=overlay]").evaluate(
        "(canvas) => btoa(String.fromCharCode(...canvas.getContext('2d')"
        ".getImageData(0, 0, canvas.width, canvas.height).data))"
    )
    first = np.frombuffer(base64.b64decode(large), np.uint8).reshape(40, 56, 4)
    assert (drawn[0] == first).all()
    differ = [np.abs(drawn[k].astype(int) - drawn[0]).max() for k in range(1, 12)]
    assert min(differ) > 40
    # On the same scale the pictures of small values fade; the largest stays as it is.
    limits = [limit for (limit,) in colour_limits(PageContent("", shown))]
    own = [own_limit(one.maps[0].plane) for one in shown]
    least, most = int(np.argmin(own)), int(np.argmax(own))
    assert own[least] < 0.2 * limits[0] == 0.2 * own[most]
    page.get_by_label("Same scale").check()
    page.wait_for_timeout(200)
    again = thumbnails(page)
    assert np.abs(again[least].astype(int) - drawn[least]).max() > 40
    assert (again[most] == drawn[most]).all()


@pytest.mark.parametrize("width", [360, 800, 1440])
def test_every_picture_can_be_reached_on_every_screen(open_page, width):
    page = open_page(PageContent("run", strip_of_maps()), viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator(".cim-pictures button").first.focus()
    for _ in range(11):
        page.keyboard.press("ArrowRight")
        box = page.locator(".cim-pictures button:focus").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width


def test_pictures_of_several_maps_keep_plain_thumbnails_and_wrap(open_page):
    content = page_content(pictures=(picture(), *[digit()] * 19))
    page = open_page(content, viewport={"width": 900, "height": 800})
    assert page.locator(".cim-pictures canvas").count() == 0
    boxes = page.locator(".cim-pictures button").evaluate_all(
        "(all) => all.map((one) => one.getBoundingClientRect().right)"
    )
    assert len(boxes) == 20
    assert max(boxes) <= 900
