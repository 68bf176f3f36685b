# The viewer in a real browser: masks, boxes and numbers are Python's, whatever is moved.
from __future__ import annotations

import base64
import math

import numpy as np
import pytest
import torch
from browser import chromium_fixture, page_fixtures, set_slider
from page_content import HEIGHT, WIDTH, maps, page_content, picture, rule_of

from captum_infomask import AtLeast, MaxFraction, bounding_boxes, threshold_mask
from captum_infomask.evaluation.object_localisation import mask_iou
from captum_infomask.report.smoothing import shown_mask

pytestmark = pytest.mark.slow

chromium = chromium_fixture()

READ = """() => [...document.querySelectorAll(".cim-card")].map((card) => {
  const read = (kind) => {
    const canvas = card.querySelector(`canvas[data-panel=${kind}]`);
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return btoa(String.fromCharCode(...data));
  };
  const text = (part) => card.querySelector(part).textContent;
  return {
    name: text("h3"), rule: text(".cim-own-rule"),
    mask: read("mask"), kept: read("kept"), share: text(".cim-share"),
    iou: text(".cim-iou"), box: text(".cim-box-text"),
    line: card.querySelector(".cim-stage-mask .cim-line.cim-box").getAttribute("d"),
  };
})"""

SHOWN = [made for made in maps() if made.plane is not None]


viewer, page = page_fixtures(page_content)


def pixels(text, height=HEIGHT, width=WIDTH):
    """RGBA of a canvas."""
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)


def python_mask(plane, rule):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *given, **named: None)  # empty masks are wanted here
        return threshold_mask(torch.from_numpy(plane)[None, None], rule)


def check_masks(page, rule):
    """Every mask, share, IoU and box on the page is what Python says of the same rule."""
    truth = torch.from_numpy(picture().truth)[None, None]
    photo = picture().pixels
    read = page.evaluate(READ)
    assert [card["name"] for card in read] == [made.name for made in SHOWN]
    for card, made in zip(read, SHOWN, strict=True):
        own = rule_of(made.unit, rule)
        expected = python_mask(made.plane, own)
        assert card["rule"] == (
            "at 20.0% of its maximum" if own != rule and made.unit == "a.u." else ""
        )
        shown = shown_mask(expected[0, 0].numpy())
        alpha = pixels(card["mask"])[..., 3]
        assert (alpha == 255 * shown).all(), (made.name, rule)
        kept = pixels(card["kept"])
        assert (kept[..., :3] == photo * shown[..., None]).all()
        share = 100 * float(expected.double().mean())
        assert card["share"].endswith("%")
        assert abs(float(card["share"][:-1]) - share) < 0.05 + 1e-9
        iou = float(mask_iou(expected, truth))
        assert abs(float(card["iou"].removeprefix("IoU ")) - iou) < 5e-4 + 1e-9
        boxes = bounding_boxes(expected)[0].tolist()
        if not boxes:
            assert (card["box"], card["line"]) == ("none", "")
            continue
        x0, y0, x1, y1 = boxes[0]
        assert card["box"] == f"{x0}, {y0} – {x1}, {y1}\u00a0px"
        assert card["line"] == f"M{x0} {y0}H{x1}V{y1}H{x0}Z"
    return read


def test_the_page_opens_without_a_network_and_without_a_word(page, viewer):
    assert viewer.requests[0].startswith("file:")
    assert page.title() == "Eight methods on espresso"
    assert page.evaluate("document.contentType") == "text/html"
    with pytest.raises(Exception, match=r"Failed to fetch"):
        page.evaluate("fetch('data:text/plain,x').then((answer) => answer.text())")
    viewer.complaints.clear()  # what the policy said of the fetch just tried


def test_the_page_starts_at_its_threshold(page):
    check_masks(page, MaxFraction(0.2))
    assert page.locator(".cim-threshold").input_value() == "0.2"


def test_the_slider_redraws_masks_shares_boxes_and_iou(page, viewer):
    seen = []
    for position in np.linspace(0.005, 1, 25):
        value = set_slider(page, ".cim-threshold", position)
        viewer.settle()
        read = check_masks(page, MaxFraction(float(value)))
        assert float(page.locator(".cim-number").input_value()) == float(value)
        seen.append((read[0]["share"], read[2]["share"], read[3]["share"]))
    # It moves, and far: each map kept much at the start and little at the end.
    for shares in zip(*seen, strict=True):
        assert len(set(shares)) > 8
        assert float(shares[0][:-1]) > 40
        assert float(shares[-1][:-1]) < 4


def test_the_slider_cuts_at_so_many_bits_too(page, viewer):
    note = page.locator(".cim-threshold-note")
    assert not note.is_visible()
    page.get_by_label("at least so many bits").check()
    assert page.locator(".cim-after").text_content() == "bits"
    words = "Nats are converted. Maps in a.u. stay cut at 20.0% of their maximum."
    assert note.text_content() == words
    values = []
    for position in (0, 0.3, 1, 2.2, 5, 100):
        values.append(float(set_slider(page, ".cim-threshold", position)))
        viewer.settle()
        check_masks(page, AtLeast(values[-1]))
    assert values == sorted(values)
    largest = max(
        float(made.plane.max()) / {"bits": 1, "nats": math.log(2)}[made.unit]
        for shown in page_content().pictures
        for made in shown.maps
        if made.plane is not None and made.unit != "a.u."
    )
    assert 0 < values[0] < 0.02 * largest
    assert largest <= values[-1] < 1.02 * largest


@pytest.mark.parametrize("typed", ["0.1234567", "0.7", "1"])
def test_a_typed_number_is_taken_as_it_is(page, viewer, typed):
    page.locator(".cim-number").fill(typed)
    viewer.settle()
    check_masks(page, MaxFraction(float(typed)))


@pytest.mark.parametrize("typed", ["", "-1", "7"])
def test_a_typed_number_out_of_range_changes_nothing(page, viewer, typed):
    page.locator(".cim-number").fill(typed)
    viewer.settle()
    check_masks(page, MaxFraction(0.2))
    page.locator(".cim-number").blur()
    assert page.locator(".cim-number").input_value() == "0.2"


def test_the_keyboard_moves_the_slider(page, viewer):
    page.locator(".cim-threshold").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    viewer.settle()
    assert page.locator(".cim-threshold").input_value() == "0.21"
    check_masks(page, MaxFraction(0.21))
    page.keyboard.press("End")
    viewer.settle()
    check_masks(page, MaxFraction(1.0))
    page.keyboard.press("Home")
    viewer.settle()
    check_masks(page, MaxFraction(0.005))


def test_the_keyboard_reaches_everything_and_shows_where_it_is(page):
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                """() => {
                  const at = document.activeElement;
                  const ring = at.type === "radio" ? at.nextElementSibling : at;
                  const name = at.className || at.type || at.tagName;
                  return [name, getComputedStyle(ring).outlineStyle];
                }"""
            )
        )
        if reached[-1][0] == "cim-page":  # the body: the end of the round
            reached.pop()
            break
    names = [name for name, _ in reached]
    for name in ("cim-threshold", "cim-number", "radio", "select-one", "cim-opacity", "cim-boxes"):
        assert name in names, name
    assert "cim-stage cim-stage-photo cim-fine" in names
    assert "cim-button" in names
    assert {outline for _, outline in reached} == {"solid"}


def test_another_picture_keeps_the_threshold(page, viewer):
    set_slider(page, ".cim-threshold", 0.5)
    page.get_by_role("button", name="one").click()
    page.wait_for_selector(".cim-side h2:text-is('one')")
    viewer.settle()
    assert page.locator("canvas[data-panel=mask]").count() == 1
    (card,) = page.evaluate(READ)
    plane = page_content().pictures[1].maps[0].plane
    alpha = pixels(card["mask"], 28, 28)[..., 3]
    assert (alpha == 255 * python_mask(plane, MaxFraction(0.5))[0, 0].numpy()).all()
    assert card["iou"] == ""
    pressed = page.locator(".cim-pictures button").evaluate_all(
        "(buttons) => buttons.map((button) => button.getAttribute('aria-pressed'))"
    )
    assert pressed == ["false", "true"]
    rendering = page.locator("canvas[data-panel=photo]").evaluate(
        "(canvas) => getComputedStyle(canvas).imageRendering"
    )
    assert rendering == "pixelated"


def test_a_method_that_failed_says_why_and_the_others_stand(page):
    failures = page.locator(".cim-failure").all_text_contents()
    assert failures == ["broken failed. RuntimeError: sizes 7 and 14 differ"]
    assert page.locator(".cim-card").count() == len(SHOWN)
