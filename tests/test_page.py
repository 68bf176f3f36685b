# The page without a browser: data that is safe and comes back to the bit, and text that stays text.
from __future__ import annotations

import base64
import io
import json
import math
import re
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as arrays
from page_content import (
    HOSTILE,
    HOSTILE_END,
    hostile_content,
    label_map,
    maps,
    page_content,
    windows_map,
)
from PIL import Image

from captum_infomask import ArgumentError, AtLeast, MaxFraction, threshold_mask
from captum_infomask.report.colour_planes import (
    colour_limits,
    joint_limits,
    plane_mask,
    run_lengths,
    split_plane,
)
from captum_infomask.report.colours import LOSSLESS_UP_TO, picture_uri
from captum_infomask.report.page import page_html, static_html
from captum_infomask.report.page_content import (
    MapContent,
    PageContent,
    PictureContent,
    RegionScores,
)
from captum_infomask.report.payload import STEPS, packed_plane, page_payload, script_json


class Tags(HTMLParser):
    """The tags, attributes and text of a page, as a parser sees them."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self.scripts = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.tags[-1:] and self.tags[-1][0] == "script" and self.lasttag == "script":
            self.scripts[-1] += data
        self.text.append(data)

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data}")


def embedded(page):
    found = re.search(r'<script type="application/json" id="payload">(.*?)</script>', page, re.S)
    return json.loads(found[1])


def test_the_data_in_the_page_is_the_payload():
    content = page_content()
    assert embedded(page_html(content)) == page_payload(content)
    assert page_html(content) == page_html(content)


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(st.text())
def test_json_in_a_script_holds_nothing_that_html_reads(text):
    made = script_json({text: [text + HOSTILE_END]})
    assert json.loads(made) == {text: [text + HOSTILE_END]}
    assert made.isascii()
    assert not set("<>&") & set(made)


def test_json_holds_no_nan():
    regions = RegionScores(np.array([1.0, np.nan, -np.inf]), boxes=np.zeros((3, 4), np.int64))
    made = MapContent("a", "bits", np.eye(2, dtype=np.float32), regions=regions)
    payload = page_payload(PageContent("", (PictureContent(None, "", (), (made,)),)))
    assert payload["pictures"][0]["maps"][0]["regions"]["scores"] == [1.0, None, None]
    json.dumps(payload, allow_nan=False)


def test_hostile_text_becomes_no_tag_of_the_page():
    plain, hostile = Tags(page_html(page_content())), Tags(page_html(hostile_content()))
    allowed = {tag for tag, _ in plain.tags} | {"br"}
    assert {tag for tag, _ in hostile.tags} <= allowed
    assert len(hostile.scripts) == len(plain.scripts) == 2
    assert not any(name.startswith("on") for _, attrs in hostile.tags for name in attrs)
    assert HOSTILE in "".join(hostile.text)
    payload = embedded(page_html(hostile_content()))
    assert payload["title"] == HOSTILE_END
    assert payload["pictures"][0]["maps"][0]["name"] == HOSTILE


def test_hostile_text_becomes_no_tag_of_the_static_pictures():
    fragment = Tags(static_html(hostile_content()))
    assert {tag for tag, _ in fragment.tags} <= {
        "div",
        "p",
        "strong",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "img",
        "br",
    }
    for tag, attrs in fragment.tags:
        assert not any(name.startswith("on") for name in attrs)
        if tag == "img":
            assert attrs["src"].startswith("data:image/png;base64,")
    assert "".join(fragment.text).count(HOSTILE) >= 3


def test_the_policy_allows_the_pages_own_script_and_nothing_else():
    parsed = Tags(page_html(page_content()))
    (policy,) = [attrs["content"] for tag, attrs in parsed.tags if "http-equiv" in attrs]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data: blob:"
    assert set(rules) == {
        "default-src",
        "img-src",
        "style-src",
        "script-src",
        "base-uri",
        "form-action",
    }
    assert "unsafe" not in policy
    for tag, attrs in parsed.tags:
        address = attrs.get("src") or attrs.get("href")
        assert address is None or address.startswith("data:"), (tag, attrs)
        assert "style" not in attrs


@pytest.mark.parametrize("name", ["viewer.js", "viewer.css"])
def test_the_viewer_loads_nothing(name):
    from captum_infomask.report.page import viewer_script, viewer_style

    text = viewer_script() if name.endswith("js") else viewer_style()
    addresses = set(re.findall(r"https?://[^\s\"']+", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\bimport\b.*\bfrom\b|@import|url\(|\bfetch\(|innerHTML|</script", text)


def float_planes():
    shapes = arrays.array_shapes(min_dims=2, max_dims=2, max_side=9)
    any_number = st.floats(width=32)  # knows whether a library has turned subnormal numbers off
    few = st.sampled_from([0.0, -0.0, 1.5, -2.25, float("nan"), float("inf")])
    return arrays.arrays(np.float32, shapes, elements=few | any_number)


@settings(max_examples=100, deadline=None)
@given(float_planes())
def test_a_plane_comes_back_to_the_bit(plane):
    rows, columns, values = split_plane(plane)
    tall = np.diff([*rows, plane.shape[0]])
    wide = np.diff([*columns, plane.shape[1]])
    again = values.repeat(tall, axis=0).repeat(wide, axis=1)
    assert (again.view(np.uint32) == plane.view(np.uint32)).all()
    assert (tall > 0).all()
    assert (wide > 0).all()


def test_what_windows_paint_is_few_cells():
    made = windows_map(224, 224, side=56, step=14)
    rows, columns, values = split_plane(made.plane)
    assert rows.tolist() == columns.tolist() == list(range(0, 224, 14))
    assert values.shape == (16, 16)


@given(arrays.arrays(np.int64, (4, 5), elements=st.integers(-1, 2)))
def test_runs_come_back(plane):
    runs = run_lengths(plane)
    assert (np.repeat(runs["values"], runs["lengths"]).reshape(4, 5) == plane).all()
    assert all(a != b for a, b in zip(runs["values"], runs["values"][1:], strict=False))


@pytest.mark.filterwarnings("ignore:The mask of example")
@pytest.mark.parametrize("made", [made for made in maps() if made.plane is not None])
def test_masks_of_plain_arrays_are_those_of_tensors(made):
    tensor = torch.from_numpy(made.plane)[None]
    kept = set()
    for value in (0.001, 0.2, 1 / 3, 0.5, 1.0):
        mask = plane_mask(made.plane, ("max_fraction", value))
        assert (mask == threshold_mask(tensor, MaxFraction(value))[0].numpy()).all()
        kept.add(int(mask.sum()))
    for value in [float(v) for v in made.plane.ravel()[:50] if v > 0] + [0.1, 2.0]:
        mask = plane_mask(made.plane, ("at_least", value))
        assert (mask == threshold_mask(tensor, AtLeast(value))[0].numpy()).all()
    assert len(kept) > 3 or made.name in ("against", "nothing", "constant")


def test_maps_of_one_unit_share_a_scale_over_all_pictures():
    limits = colour_limits(page_content())
    pictures = page_content().pictures
    bits = [
        np.abs(made.plane).max()
        for shown in pictures
        for made in shown.maps
        if made.unit == "bits" and made.plane is not None
    ]
    assert limits[0][0] == limits[0][1] == limits[1][0] == max(bits)
    assert len(set(bits)) > 1
    own = {made.name: limit for made, limit in zip(pictures[0].maps, limits[0], strict=True)}
    assert own["smooth"] == pytest.approx(0.013, rel=1e-2)
    assert own["constant"] == pytest.approx(0.3)
    assert own["nothing"] == 1.0


def photo(side):
    """As hard to compress as a sharp photograph: smooth, with the noise of a camera."""
    y, x = np.mgrid[:side, :side] / side
    smooth = np.stack([np.sin(9 * x) + y, np.cos(7 * y * x), x - y], axis=2) * 60 + 128
    noise = np.random.default_rng(0).normal(0, 6, (side, side, 3))
    return (smooth + noise).clip(0, 255).astype(np.uint8)


def test_one_photo_of_224_pixels_and_6_methods_is_under_3_megabytes():
    rng = np.random.default_rng(0)
    noise = [rng.normal(size=(224, 224)).astype(np.float32) for _ in range(6)]
    shown = tuple(MapContent(f"method {k}", "bits", plane) for k, plane in enumerate(noise))
    content = PageContent("", (PictureContent(photo(224), "worst case", (), shown),))
    assert 500_000 < len(page_html(content).encode()) < 1_200_000
    painted = tuple(windows_map(224, 224, side=56, step=14, seed=k) for k in range(6))
    content = PageContent("", (PictureContent(photo(224), "windows", (), painted),))
    assert len(page_html(content).encode()) < 400_000
    assert len(static_html(content).encode()) < 1_000_000


def test_eight_photos_of_224_pixels_and_6_methods_are_under_6_megabytes():
    rng = np.random.default_rng(0)

    def one(k):
        noise = [rng.normal(size=(224, 224)).astype(np.float32) for _ in range(3)]
        large = [MapContent(f"noise {m}", "bits", plane) for m, plane in enumerate(noise)]
        small = [windows_map(224, 224, side=56, step=14, seed=9 * k + m) for m in range(3)]
        return PictureContent(photo(224), f"picture {k}", (), (*large, *small))

    content = PageContent("", tuple(one(k) for k in range(8)))
    assert 2_000_000 < len(page_html(content).encode()) < 6_000_000


def unpacked(packed, shape):
    """A packed plane again, as slowly as can be read: bytes, numbers, steps, cells."""
    data = zlib.decompress(base64.b64decode(packed["values"]))
    count = len(packed["rows"]) * len(packed["columns"])
    size = len(data) // count
    numbers, before = [], 0
    for k in range(count):
        step = sum(data[byte * count + k] << (8 * byte) for byte in range(size))
        before = (before + step) % 256**size
        numbers.append(before)
    if packed["step"] is None:
        cells = np.array(numbers, np.uint32).view(np.float32)
    else:
        signed = np.array(numbers, np.uint16).view(np.int16)
        cells = (signed * packed["step"]).astype(np.float32)
    tall = np.diff([*packed["rows"], shape[0]])
    wide = np.diff([*packed["columns"], shape[1]])
    grid = cells.reshape(len(packed["rows"]), -1)
    return grid.repeat(tall, axis=0).repeat(wide, axis=1)


@pytest.mark.parametrize("made", [*maps()[:7], windows_map(224, 224, side=56, step=14)])
def test_small_planes_are_packed_to_the_bit(made):
    packed = packed_plane(made.plane)
    assert packed["step"] is None
    again = unpacked(packed, made.plane.shape)
    assert (again.view(np.uint32) == made.plane.view(np.uint32)).all()


def test_superpixels_of_a_large_picture_are_packed_to_the_bit():
    made = label_map(224, 224)
    packed = packed_plane(made.plane)
    assert len(packed["rows"]) * len(packed["columns"]) > 40_000
    assert packed["step"] is None
    assert (unpacked(packed, (224, 224)) == made.plane).all()


def test_a_plane_that_differs_everywhere_is_rounded_and_it_is_said():
    plane = np.random.default_rng(0).normal(size=(224, 224)).astype(np.float32)
    packed = packed_plane(plane)
    magnitude = float(np.abs(plane).max())
    assert packed["step"] == magnitude / STEPS
    error = np.abs(unpacked(packed, plane.shape).astype(float) - plane).max()
    assert packed["step"] / 4 < error <= packed["step"] / 2 + magnitude * 2**-24
    for made, is_said in ((MapContent("a", "bits", plane), True), (windows_map(), False)):
        payload = page_payload(PageContent("", (PictureContent(None, "", (), (made,)),)))
        assert any("1/32,767" in note for note in payload["notes"]) == is_said


def test_the_title_names_where_a_page_comes_from():
    content = page_content(origin=("tiny", "<b>.png", "2026-11-28"), title="t")
    parsed = Tags(page_html(content))
    words = "".join(parsed.text)
    assert "t · tiny · <b>.png · 2026-11-28" in words
    assert "tiny · <b>.png · 2026-11-28 · 8 methods on 2 pictures" in " ".join(words.split())
    assert "b" not in {tag for tag, _ in parsed.tags}
    assert "t</strong> · tiny · &lt;b&gt;.png · 2026-11-28" in static_html(content)


def opened(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


def test_pixels_are_lossless_where_that_is_small():
    small, large = photo(224), photo(900)
    assert (opened(picture_uri(small)) == small).all()
    uri = picture_uri(large)
    assert uri.startswith("data:image/jpeg;base64,")
    assert np.abs(opened(uri).astype(int) - large).mean() < 6
    assert len(uri) < 3 * LOSSLESS_UP_TO


def test_static_pictures_show_masks_and_numbers():
    fragment = static_html(page_content())
    parsed = Tags(fragment)
    images = [attrs for tag, attrs in parsed.tags if tag == "img"]
    shown = [made for made in maps() if made.plane is not None]
    assert len(images) == 1 + 3 * len(shown) + 1 + 3
    words = "".join(parsed.text)
    share = plane_mask(shown[0].plane, ("max_fraction", 0.2)).mean()
    assert f"mask {share:.1%}" in words
    assert "broken failed. RuntimeError: sizes 7 and 14 differ" in words
    mask, _ = (attrs["src"] for attrs in images if attrs["alt"] == "mask by windows")
    drawn = opened(mask)[..., 0] < 128
    assert abs(drawn.mean() - share) < 0.03
    assert "<script" not in fragment


def test_static_pictures_say_how_many_are_left():
    (first, _) = page_content().pictures
    fragment = static_html(page_content(pictures=(first,) * 6))
    assert fragment.count('alt="the picture"') == 4
    assert "2 more pictures" in fragment


def test_a_page_can_be_of_a_failed_method_alone():
    failed = MapContent("a", "bits", None, error="it broke")
    content = PageContent("t", (PictureContent(None, "p", (), (failed,)),))
    assert "it broke" in page_html(content)
    assert "it broke" in static_html(content)


@pytest.mark.parametrize("make", [page_html, static_html])
def test_sizes_that_differ_are_refused(make):
    made = MapContent("a", "bits", np.zeros((3, 4), np.float32))
    content = PageContent("", (PictureContent(np.zeros((4, 3, 3), np.uint8), "", (), (made,)),))
    with pytest.raises(ArgumentError, match=r"pixels of \(4, 3\) and the plane of 'a' of \(3, 4\)"):
        make(content)


def test_nats_share_the_scale_of_bits_where_maps_share_one():
    pictures = page_content().pictures
    own, joint = colour_limits(page_content()), joint_limits(page_content())
    units = [[made.unit for made in shown.maps] for shown in pictures]
    most = max(own[0][0], own[0][3] / math.log(2))
    assert own[0][3] < own[0][0] * math.log(2)
    for line, limits, before in zip(units, joint, own, strict=True):
        for unit, limit, alone in zip(line, limits, before, strict=True):
            expected = {"bits": most, "nats": most * math.log(2)}.get(unit, alone)
            assert limit == expected
