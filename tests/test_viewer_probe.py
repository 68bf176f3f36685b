# The viewer in a real browser: what is read off under the pointer, and how things are drawn.
from __future__ import annotations

import base64
import math
from dataclasses import replace

import numpy as np
import pytest
from browser import Offline, chromium_fixture, page_fixtures, set_slider
from page_content import HEIGHT, WIDTH, maps, page_content, picture, windows_map

from captum_infomask.report.colour_planes import joint_limits, own_limit
from captum_infomask.report.colours import Shades
from captum_infomask.report.page import page_html
from captum_infomask.report.page_content import MapContent, PageContent, PictureContent
from captum_infomask.report.smoothing import shown_plane

pytestmark = pytest.mark.slow

chromium = chromium_fixture()

READ = """() => ({
  spot: document.querySelector(".cim-spot").textContent,
  spoken: document.querySelector(".cim-side [role=status]").textContent,
  cards: Object.fromEntries([...document.querySelectorAll(".cim-card")].map((card) => [
    card.querySelector("h3").textContent,
    {
      value: card.querySelector(".cim-value").textContent,
      region: card.querySelector(".cim-region-score").textContent,
      outlines: [...card.querySelectorAll(".cim-line.cim-region")].map((p) => p.getAttribute("d")),
      places: [...card.querySelectorAll(".cim-line.cim-place")].map((p) => p.getAttribute("d")),
    },
  ])),
})"""

SHOWN = {made.name: made for made in maps() if made.plane is not None}
PLACES = [(0, 0), (WIDTH - 1, HEIGHT - 1), (17, 9), (30, 22), (41, 2), (8, 31)]


viewer, page = page_fixtures(page_content, height=1000)


def number(text):
    value, unit = text.split(" ")
    return float(value.replace("\u2212", "-")), unit


def point_at(page, x, y, selector=".cim-stage-photo"):
    """Rest the pointer on a pixel's middle."""
    box = page.locator(selector).first.bounding_box()
    page.mouse.move(
        box["x"] + (x + 0.5) / WIDTH * box["width"], box["y"] + (y + 0.5) / HEIGHT * box["height"]
    )
    return page.evaluate(READ)


def window_under(made, x, y):
    """The window around a pixel whose middle is nearest, the first of several: slowly."""
    best = None
    for region, (y0, x0, y1, x1) in enumerate(made.regions.boxes):
        if y0 <= y < y1 and x0 <= x < x1:
            distance = np.hypot((x0 + x1 - 1) / 2 - x, (y0 + y1 - 1) / 2 - y)
            if best is None or distance < best[0]:
                best = distance, region
    return best[1]


@pytest.mark.parametrize("kind", ["photo", "overlay", "mask", "kept"])
def test_the_pointer_reads_every_map_at_once(page, kind):
    for x, y in PLACES:
        read = point_at(page, x, y, f".cim-stage-{kind}")
        assert read["spot"] == f"x {x}, y {y}"
        for name, made in SHOWN.items():
            value, unit = number(read["cards"][name]["value"])
            assert unit == made.unit
            limit = float(np.abs(made.plane).max()) or 1.0
            assert abs(value - float(made.plane[y, x])) <= 0.006 * max(limit, abs(value))
            assert read["cards"][name]["places"] == [f"M{x + 0.5} {y + 0.5}h0"] * 3


def test_the_pointer_reads_the_window_and_draws_it(page):
    made = SHOWN["windows"]
    regions = set()
    for x, y in PLACES:
        read = point_at(page, x, y)["cards"]["windows"]
        region = window_under(made, x, y)
        regions.add(region)
        word, score = read["region"].split(" ", 1)
        assert word == "region"
        assert number(score)[0] == pytest.approx(made.regions.scores[region], abs=0.006)
        y0, x0, y1, x1 = made.regions.boxes[region]
        assert read["outlines"] == [f"M{x0} {y0}H{x1}V{y1}H{x0}Z"] * 3
    assert len(regions) == len(PLACES)


def test_the_pointer_reads_standard_errors_where_there_are_some(chromium, tmp_path):
    made = windows_map(seed=3)
    errors = np.full(len(made.regions.scores), np.nan)
    errors[::2] = np.linspace(0.001, 0.3, len(errors[::2]))
    with_errors = replace(made, regions=replace(made.regions, errors=errors))
    path = tmp_path / "report.html"
    picture_content = PictureContent(None, "", (), (with_errors,))
    path.write_text(page_html(PageContent("", (picture_content,))), encoding="utf-8")
    opened = Offline(chromium, viewport={"width": 1300, "height": 1000})
    page = opened.open(path)
    kinds = set()
    for x, y in [*PLACES, (12, 12), (25, 5), (33, 30), (20, 20)]:
        read = point_at(page, x, y, ".cim-stage-overlay")["cards"]["windows"]["region"]
        region = window_under(made, x, y)
        words = read.removeprefix("region ").removesuffix(" bits").replace("\u2212", "-")
        score, *error = map(float, words.split(" ± "))
        assert score == pytest.approx(made.regions.scores[region], abs=0.006)
        is_known = bool(np.isfinite(errors[region]))
        kinds.add(is_known)
        assert len(error) == is_known
        assert not error or error[0] == pytest.approx(errors[region], abs=0.006)
        title = page.locator(".cim-region-score").get_attribute("title")
        assert title == ("± one standard error" if is_known else "")
    assert kinds == {True, False}
    assert opened.complaints == []
    opened.close()


def test_the_pointer_reads_the_labelled_region_and_draws_its_outline(page):
    made = SHOWN["labels"]
    for x, y in PLACES:
        read = point_at(page, x, y)["cards"]["labels"]
        label = made.regions.labels[y, x]
        if label < 0:
            assert (read["region"], set(read["outlines"])) == ("", {""})
            continue
        score = number(read["region"].removeprefix("region "))[0]
        assert score == pytest.approx(made.regions.scores[label], abs=0.006)
        edges = set(read["outlines"][0].replace("M", " M").split(" M")[1:])
        assert edges == outline(made.regions.labels == label)


def outline(inside):
    """The edges between pixels that are inside and pixels that are not, slowly."""
    padded = np.pad(inside, 1)
    edges = set()
    for y, x in np.argwhere(inside):
        up, down = padded[y, x + 1], padded[y + 2, x + 1]
        left, right = padded[y + 1, x], padded[y + 1, x + 2]
        edges |= {f"{x} {y}h1"} if not up else set()
        edges |= {f"{x} {y + 1}h1"} if not down else set()
        edges |= {f"{x} {y}v1"} if not left else set()
        edges |= {f"{x + 1} {y}v1"} if not right else set()
    return edges


def test_without_a_pointer_the_extremes_are_said(page):
    point_at(page, 3, 3)
    page.mouse.move(2, 2)
    read = page.evaluate(READ)
    assert read["spot"] == f"{WIDTH} × {HEIGHT} pixels"
    for name, made in SHOWN.items():
        card = read["cards"][name]
        assert number(card["value"])[0] == pytest.approx(float(made.plane.max()), abs=0.006)
        low = card["region"].removesuffix(" smallest").replace("\u2212", "-")
        assert float(low) == pytest.approx(float(made.plane.min()), abs=0.006)
        assert set(card["outlines"] + card["places"]) == {""}


def test_arrow_keys_read_the_maps_aloud(page):
    page.locator(".cim-stage-photo").focus()
    page.keyboard.press("ArrowRight")
    first = page.evaluate(READ)
    assert first["spot"] == f"x {WIDTH // 2}, y {HEIGHT // 2}"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Shift+ArrowLeft")
    x, y = WIDTH // 2 - 1, HEIGHT // 2 + 2  # a step is 1/32 of the longer side
    read = page.evaluate(READ)
    assert read["spot"] == f"x {x}, y {y}"
    assert number(read["cards"]["noise"]["value"])[0] == pytest.approx(
        float(SHOWN["noise"].plane[y, x]), abs=0.006
    )
    assert read["spoken"].startswith(f"x {x}, y {y}: windows ")
    assert f"noise {read['cards']['noise']['value']}" in read["spoken"]
    for _ in range(60):
        page.keyboard.press("Shift+ArrowUp")
    assert page.evaluate(READ)["spot"] == f"x {x}, y 0"
    page.keyboard.press("Escape")
    assert page.evaluate(READ)["spot"] == f"{WIDTH} × {HEIGHT} pixels"


def overlays(page):
    read = page.evaluate(
        """() => [...document.querySelectorAll("canvas[data-panel=overlay]")].map((canvas) =>
          btoa(String.fromCharCode(
            ...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data)))"""
    )
    return [
        np.frombuffer(base64.b64decode(text), np.uint8).reshape(HEIGHT, WIDTH, 4)[..., :3]
        for text in read
    ]


def scales(page):
    return page.locator(".cim-card").evaluate_all(
        """(cards) => cards.map((card) => [
          [...card.querySelectorAll(".cim-scale-ends span")].map((end) => end.textContent),
          [...card.querySelectorAll(".cim-faint:not([hidden])")].map((e) => e.textContent).join(),
        ])"""
    )


def check_colours(page, limits):
    photo = picture().pixels / 255
    shown = [made for made in maps() if made.plane is not None]
    drawn_scales = scales(page)
    for k, (made, limit, drawn) in enumerate(zip(shown, limits, overlays(page), strict=True)):
        expected = 255 * Shades(limit).over(shown_plane(made.plane), photo)
        # 256 colours here, as many as matplotlib's table; its places lie half a step beside ours.
        assert np.abs(drawn - expected).max() < 4, made.name
        ends, faint = drawn_scales[k]
        low, middle, high = (float(end.replace("\u2212", "-")) for end in ends)
        assert low == -high
        assert middle == 0
        assert high == pytest.approx(limit, rel=0.05)
        reach = own_limit(made.plane) / limit
        assert faint == (f"Faint: it reaches {reach:.1%} of this scale." if reach < 0.25 else "")
    return [words for _, words in drawn_scales]


def test_each_map_has_a_scale_of_its_own_until_one_is_asked_for(page, viewer):
    shown = [made for made in maps() if made.plane is not None]
    own = [own_limit(made.plane) for made in shown]
    shared = joint_limits(page_content())[0][:7]
    assert shared[0] == shared[1] == shared[4] == max(shared)
    assert shared[3] == max(shared) * math.log(2)  # nats count the same as bits
    assert [a == b for a, b in zip(own, shared, strict=True)].count(False) == 4
    assert shared[5:] == own[5:]
    note = page.locator(".cim-scales")
    assert check_colours(page, own) == [""] * 7
    assert "of its own: compare their numbers" in note.text_content()
    page.get_by_label("Same scale").check()
    viewer.settle()
    check_colours(page, shared)
    assert f"Full colour is {max(shared):.2f} bits; " in note.text_content()
    page.get_by_label("Same scale").uncheck()
    viewer.settle()
    check_colours(page, own)


def test_a_map_that_fades_on_the_same_scale_says_so(chromium, tmp_path):
    plane = windows_map().plane
    faint = MapContent("faint", "bits", plane / 50)
    shown = PictureContent(picture().pixels, "p", (), (MapContent("strong", "bits", plane), faint))
    path = tmp_path / "faint.html"
    path.write_text(page_html(PageContent("p", (shown,))), encoding="utf-8")
    opened = Offline(chromium)
    page = opened.open(path)
    assert [words for _, words in scales(page)] == ["", ""]
    page.get_by_label("Same scale").check()
    opened.settle()
    assert [words for _, words in scales(page)] == ["", "Faint: it reaches 2.0% of this scale."]
    assert opened.complaints == []
    opened.close()


def test_one_map_has_no_switch_for_scales(chromium, tmp_path):
    shown = PictureContent(picture().pixels, "p", (), (windows_map(),))
    path = tmp_path / "one.html"
    path.write_text(page_html(PageContent("p", (shown,))), encoding="utf-8")
    opened = Offline(chromium)
    assert opened.open(path).locator(".cim-same-scale").count() == 0
    opened.close()


def test_strength_and_colours_change_the_overlay(page, viewer):
    photo, ground = picture().pixels, 76.5 + 0.7 * picture().pixels.mean(2, keepdims=True)
    before = overlays(page)
    assert np.abs(before[0] - photo).max() > 60
    set_slider(page, ".cim-opacity", 0)
    viewer.settle()
    for plain in overlays(page):
        np.testing.assert_array_equal(plain, photo)
    set_slider(page, ".cim-opacity", 1)
    page.get_by_label("Colours").select_option(label="cividis, positive only")
    viewer.settle()
    plane = shown_plane(SHOWN["windows"].plane)
    negative = plane < 0
    sequential = overlays(page)[0]
    assert 100 < negative.sum() < negative.size - 100
    assert np.abs(sequential - ground)[negative].max() <= 1
    assert np.abs(sequential - before[0])[~negative].max() > 60
    page.get_by_label("Colours").select_option(label="purple, white, orange")
    viewer.settle()
    largest = np.unravel_index(plane.argmax(), (HEIGHT, WIDTH))
    red, green, blue = (int(part) for part in overlays(page)[0][largest])
    assert red > green > blue


def test_boxes_and_truth_can_be_taken_off(page, viewer):
    def paths(name):
        return page.locator(f".cim-line.cim-{name}").evaluate_all(
            "(lines) => lines.map((line) => line.getAttribute('d')).filter(Boolean).length"
        )

    assert paths("box") > 10
    assert paths("truth") == 3 * len(SHOWN) + 1
    page.get_by_label("Boxes").uncheck()
    page.get_by_label("Truth").uncheck()
    viewer.settle()
    assert paths("box") == paths("truth") == 0
    assert "px" in page.locator(".cim-box-text").first.text_content()
