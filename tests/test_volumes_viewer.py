# The viewer of a volume in a real browser: the slider moves the slice; the numbers are Python's.
from __future__ import annotations

import base64

import numpy as np
import pytest
import torch
from browser import Offline, chromium_fixture, page_fixtures, set_slider

from captum_infomask import MaxFraction, threshold_mask
from captum_infomask.report.page import page_html
from captum_infomask.report.page_content import (
    MapContent,
    PageContent,
    PictureContent,
    RegionScores,
)
from captum_infomask.report.smoothing import shown_mask

pytestmark = pytest.mark.slow

chromium = chromium_fixture()

SIZES = DEEP, TALL, WIDE = 10, 16, 12
SIDE, STEP = 4, 2


def windows():
    """Cubes of 4 voxels, 2 apart, and what they paint: the mean of their scores."""
    generator = np.random.default_rng(0)
    starts = np.array(
        [
            (d, h, w)
            for d in range(0, DEEP - SIDE + 1, STEP)
            for h in range(0, TALL - SIDE + 1, STEP)
            for w in range(0, WIDE - SIDE + 1, STEP)
        ]
    )
    scores = generator.normal(0, 1, len(starts))
    scores[np.flatnonzero((starts == (4, 8, 6)).all(1))[0]] = 30.0
    total, count = np.zeros(SIZES), np.zeros(SIZES)
    for (d, h, w), score in zip(starts, scores, strict=True):
        box = slice(d, d + SIDE), slice(h, h + SIDE), slice(w, w + SIDE)
        total[box] += score
        count[box] += 1
    boxes = np.concatenate([starts, starts + SIDE], axis=1)
    return (total / count).astype(np.float32), RegionScores(scores, boxes=boxes)


PLANE, REGIONS = windows()
SCAN = np.random.default_rng(1).integers(0, 256, SIZES, dtype=np.uint8)
TRUTH = np.zeros(SIZES, bool)
TRUTH[4:8, 8:12, 6:10] = True


def content(**settings):
    made = MapContent("windows", "bits", PLANE, regions=REGIONS)
    given = {"pixels": SCAN, "truth": TRUTH, **settings}
    return PageContent(
        "A volume", (PictureContent(title="A volume", facts=(), maps=(made,), **given),)
    )


viewer, page = page_fixtures(content)


def canvas(page, kind):
    text, height, width = page.locator(f"canvas[data-panel={kind}]").evaluate(
        """(canvas) => {
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          return [btoa(String.fromCharCode(...data)), canvas.height, canvas.width];
        }"""
    )
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)


def read_at(page, y, x, height, width):
    """What the card says where the pointer is over a pixel of the slice."""
    box = page.locator(".cim-stage-overlay").bounding_box()
    page.mouse.move(
        box["x"] + (x + 0.5) * box["width"] / width, box["y"] + (y + 0.5) * box["height"] / height
    )
    parts = (".cim-value", ".cim-region-score", ".cim-spot")
    return [page.locator(part).first.text_content() for part in parts]


def check_slice(page, axis, index):
    """The scan, the mask and its shares are those of the slice, and of the whole volume."""
    at = (slice(None),) * axis + (index,)
    scan = SCAN[at]
    np.testing.assert_array_equal(canvas(page, "photo")[..., :3], np.stack([scan] * 3, -1))
    kept = threshold_mask(torch.from_numpy(PLANE)[None, None], MaxFraction(0.2))[0, 0].numpy()
    expected = 255 * shown_mask(kept[at])
    np.testing.assert_array_equal(canvas(page, "mask")[..., 3], expected)
    words = page.locator(".cim-mask-words").text_content()
    whole, part = 100 * kept.mean(), 100 * kept[at].mean()
    assert words.startswith(f"mask {whole:.1f}% of the volume, {part:.1f}% of this slice")
    iou = (kept & TRUTH).sum() / (kept | TRUTH).sum()
    assert f"IoU {iou:.3f}" in words
    return scan.shape


def nearest_region(d, h, w):
    """The score of the cube around a voxel whose middle is nearest, in the slice first."""
    boxes, scores = REGIONS.boxes, REGIONS.scores
    inside = ((boxes[:, :3] <= (d, h, w)) & ((d, h, w) < boxes[:, 3:])).all(1)
    middles = (boxes[:, :3] + boxes[:, 3:] - 1) / 2
    far = np.abs(middles - (d, h, w))
    order = sorted(np.flatnonzero(inside), key=lambda k: (np.hypot(*far[k, 1:]), far[k, 0], k))
    return float(scores[order[0]])


def written(value, places=2):
    text = f"{abs(value):.{places}f}"
    return f"−{text}" if value < 0 and float(text) else text


def test_it_starts_at_the_peak_and_says_where(page):
    slider = page.get_by_role("slider", name="Slice")
    peak = np.unravel_index(np.abs(PLANE).argmax(), SIZES)
    start = int(slider.input_value())
    assert np.abs(PLANE[start]).max() == np.abs(PLANE).max()
    assert abs(start - peak[0]) < SIDE
    assert slider.get_attribute("aria-valuetext") == f"d = {start} (of 10)"
    assert page.locator(".cim-slice-words").text_content() == f"d = {start} (of 10)"
    assert page.get_by_role("button", name="Peak").is_disabled()
    check_slice(page, 0, start)
    assert "largest" in page.locator(".cim-scale .cim-readout").text_content()
    assert page.locator(".cim-spot").text_content() == "10 × 16 × 12 voxels"


@pytest.mark.parametrize("index", [0, 4, 9])
def test_the_slider_moves_the_slice_and_the_pointer_reads_its_bits(page, viewer, index):
    set_slider(page, ".cim-slice", index)
    viewer.settle()
    height, width = check_slice(page, 0, index)
    for y, x in ((0, 0), (9, 7), (15, 11)):
        value, region, spot = read_at(page, y, x, height, width)
        places = 1 if np.abs(PLANE).max() >= 10 else 2
        assert value == f"{written(float(PLANE[index, y, x]), places)} bits"
        assert region == f"region {written(nearest_region(index, y, x), places)} bits"
        assert spot == f"d {index}, h {y}, w {x}"


@pytest.mark.parametrize(("axis", "shape"), [(1, (DEEP, WIDE)), (2, (DEEP, TALL))])
def test_another_axis_can_be_cut(page, viewer, axis, shape):
    page.get_by_label("Across").select_option(str(axis))
    viewer.settle()
    index = int(page.locator(".cim-slice").input_value())
    said = page.locator(".cim-slice-words").text_content()
    assert said == f"{'dhw'[axis]} = {index} (of {SIZES[axis]})"
    set_slider(page, ".cim-slice", 7)
    viewer.settle()
    assert check_slice(page, axis, 7) == shape
    value, _, spot = read_at(page, 5, 8, *shape)
    at = [5, 8]
    at.insert(axis, 7)
    places = 1 if np.abs(PLANE).max() >= 10 else 2
    assert value == f"{written(float(PLANE[tuple(at)]), places)} bits"
    assert spot == ", ".join(f"{name} {place}" for name, place in zip("dhw", at, strict=True))


def test_the_keyboard_turns_slices_and_comes_back_to_the_peak(page, viewer):
    slider = page.locator(".cim-slice")
    start = int(slider.input_value())
    slider.focus()
    page.keyboard.press("ArrowRight")
    viewer.settle()
    check_slice(page, 0, start + 1)
    page.keyboard.press("Home")
    viewer.settle()
    check_slice(page, 0, 0)
    page.locator(".cim-stage-photo").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("PageDown")
    page.keyboard.press("PageDown")
    viewer.settle()
    assert slider.input_value() == "2"
    assert page.locator(".cim-spot").text_content().startswith("d 2, ")
    check_slice(page, 0, 2)
    page.get_by_role("button", name="Peak").click()
    viewer.settle()
    check_slice(page, 0, start)


def test_the_slider_and_the_axis_are_reached_by_the_keyboard(page):
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.className"))
    assert "cim-slice" in reached
    assert "cim-slice-axis" in reached


def test_a_video_has_frames_and_no_axis(chromium, tmp_path):
    colours = np.random.default_rng(2).integers(0, 256, (*SIZES, 3), dtype=np.uint8)
    path = tmp_path / "video.html"
    path.write_text(page_html(content(pixels=colours, is_video=True)), encoding="utf-8")
    opened = Offline(chromium, viewport={"width": 400, "height": 800}, color_scheme="dark")
    page = opened.open(path)
    set_slider(page, ".cim-slice", 3)
    opened.settle()
    np.testing.assert_array_equal(canvas(page, "photo")[..., :3], colours[3])
    slider = page.get_by_role("slider", name="Frame")
    assert slider.get_attribute("aria-valuetext") == "t = 3 (of 10)"
    assert page.locator(".cim-spot").text_content() == "10 frames of 16 × 12 px"
    assert page.locator(".cim-slice-axis").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    # On a phone the slider stays in sight while the map is looked at.
    page.evaluate("scrollTo(0, document.querySelector('.cim-stage-mask').offsetTop)")
    opened.settle()
    assert page.evaluate("scrollY") > 300
    assert 0 <= page.locator(".cim-slice").bounding_box()["y"] < 60
    assert opened.complaints == []
    opened.close()
