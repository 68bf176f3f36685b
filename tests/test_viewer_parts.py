# The viewer's arithmetic, in a browser without a page: planes, masks and boxes against Python's.
from __future__ import annotations

import base64
import math

import numpy as np
import pytest
import torch
from browser import Offline, chromium_fixture
from page_content import label_map, windows_map

from captum_infomask import AtLeast, MaxFraction, threshold_mask
from captum_infomask.evaluation.object_localisation import mask_iou
from captum_infomask.masks.outlines import component_boxes
from captum_infomask.report.colour_planes import unit_threshold
from captum_infomask.report.page import viewer_script
from captum_infomask.report.page_content import MapContent, PageContent, PictureContent
from captum_infomask.report.payload import STEPS, page_payload
from captum_infomask.report.smoothing import shown_mask, shown_plane, window_steps

pytestmark = pytest.mark.slow

chromium = chromium_fixture()


@pytest.fixture(scope="module")
def module(chromium):
    """Call an exported function of viewer.js: what it gives is made of numbers."""
    opened = Offline(chromium)
    source = base64.b64encode(viewer_script().encode()).decode()
    opened.page.evaluate(
        """async (source) => {
          window.viewer = await import(`data:text/javascript;base64,${source}`);
        }""",
        source,
    )
    yield opened.page
    assert opened.complaints == []
    opened.close()


def bits_in_browser(page, plane):
    made = MapContent("any", "bits", plane)
    content = PageContent("", (PictureContent(None, "", (), (made,)),))
    packed = page_payload(content)["pictures"][0]["maps"][0]["plane"]
    numbers = page.evaluate(
        """async ([packed, height, width]) => {
          const plane = await viewer.decodePlane(packed, height, width);
          return Array.from(new Uint32Array(plane.buffer));
        }""",
        [packed, *plane.shape],
    )
    return np.array(numbers, "<u4").reshape(plane.shape), packed


@pytest.mark.parametrize(
    ("score", "error", "places", "words"),
    [
        (3.214, 0.0512, 2, "3.21 ± 0.05"),
        (-3.214, 0.0512, 2, "\u22123.21 ± 0.05"),
        (3.2144, 0.0034, 2, "3.214 ± 0.003"),
        (3.2144, 1e-9, 2, "3.2144 ± 0.0000"),
        (3.214, 0, 2, "3.21 ± 0.00"),
        (3.214, 12.34, 2, "3.21 ± 12.34"),
        (3.214, None, 2, "3.21"),
    ],
)
def test_scores_are_written_with_their_errors(module, score, error, places, words):
    read = module.evaluate("(given) => viewer.scoreWords(...given)", [score, error, places])
    assert read == words


@pytest.mark.parametrize("size", [(61, 200), (224, 224), (7, 9), (130, 121)])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.7, 0.99])
def test_a_mask_is_shown_as_figures_show_it(module, size, share):
    rng = np.random.default_rng(0)
    coarse = rng.random((-(-size[0] // 9), -(-size[1] // 9))).repeat(9, 0).repeat(9, 1)
    mask = (coarse[: size[0], : size[1]] < share) ^ (rng.random(size) < 0.03)
    shown = module.evaluate(
        """([mask, height, width]) =>
          Array.from(viewer.shownMask(Uint8Array.from(mask), height, width))""",
        [mask.astype(int).ravel().tolist(), *size],
    )
    np.testing.assert_array_equal(np.array(shown, bool).reshape(size), shown_mask(mask))


def special():
    plane = np.zeros((5, 7), np.float32)
    plane[0] = [-0.0, np.nan, np.inf, -np.inf, 1e-45, -1e-45, np.finfo(np.float32).max]
    plane[3, 2:5] = 0.1
    return plane


def test_windows_are_smoothed_as_in_python(module):
    for plane in (windows_map().plane, windows_map(35, 42, side=14, step=7).plane):
        shown = module.evaluate(
            """([values, height, width, steps]) => Array.from(
              viewer.shownPlane(Float32Array.from(values), height, width, steps))""",
            [plane.flatten().tolist(), *plane.shape, list(window_steps(plane))],
        )
        np.testing.assert_allclose(np.reshape(shown, plane.shape), shown_plane(plane), atol=1e-5)
        assert np.abs(shown_plane(plane) - plane).max() > 0.5


@pytest.mark.parametrize(
    ("plane", "cells"),
    [
        (windows_map().plane, 5 * 7),
        (label_map().plane, None),
        (special(), None),
        (np.full((9, 4), 0.3, np.float32), 1),
        (np.zeros((1, 1), np.float32), 1),
        (np.random.default_rng(0).normal(size=(11, 6)).astype(np.float32), 66),
    ],
)
def test_planes_arrive_to_the_bit(module, plane, cells):
    bits, packed = bits_in_browser(module, plane)
    assert (bits == np.ascontiguousarray(plane).view(np.uint32)).all()
    if cells is not None:
        assert len(packed["rows"]) * len(packed["columns"]) == cells


def large_planes():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(150, 170)).astype(np.float32)
    noise[:40] = 0
    y, x = np.mgrid[:200, :180]
    smooth = (np.exp(-((y - 90) ** 2 + (x - 60) ** 2) / 900) - 0.1).astype(np.float32)
    return {"noise": noise, "smooth": smooth, "negative": -np.abs(noise) - 1}


@pytest.mark.parametrize("name", ["noise", "smooth", "negative"])
def test_a_large_plane_arrives_within_half_a_step(module, name):
    plane = large_planes()[name]
    bits, packed = bits_in_browser(module, plane)
    arrived = bits.view("<f4")
    magnitude = float(np.abs(plane).max())
    assert packed["step"] == magnitude / STEPS
    error = np.abs(arrived.astype(np.float64) - plane).max()
    assert packed["step"] / 8 < error <= packed["step"] / 2 + magnitude * 2**-24
    assert np.abs(arrived).max() == np.float32(magnitude)
    assert ((arrived == 0) | (plane != 0)).all()
    assert (arrived[plane == 0] == 0).all()
    # Nobody sees the difference: three digits of a number are at most one apart in the last.
    for value in (0.005, 0.2, 0.5):
        cut = np.float32(value * plane.max())
        differs = (arrived >= cut) != (plane >= cut)
        assert differs.mean() < 1e-3
        assert np.abs(plane - cut)[differs].max(initial=0) <= packed["step"]


def test_a_plane_with_infinities_stays_exact_however_large(module):
    plane = large_planes()["noise"]
    plane[3, 4] = np.inf
    bits, packed = bits_in_browser(module, plane)
    assert packed["step"] is None
    assert (bits == plane.view(np.uint32)).all()


@pytest.mark.parametrize(
    ("unit", "rule", "cut"),
    [
        ("bits", ("at_least", 1.25), ("at_least", 1.25)),
        ("nats", ("at_least", 2.0), ("at_least", 2 * math.log(2))),
        ("a.u.", ("at_least", 1.25), ("max_fraction", 0.2)),
        ("bits per 1%", ("at_least", 1.25), ("max_fraction", 0.2)),
        ("nats", ("max_fraction", 0.7), ("max_fraction", 0.7)),
        ("constructor", ("at_least", 1.25), ("max_fraction", 0.2)),
    ],
)
def test_bits_are_counted_in_bits_and_nats_alone(module, unit, rule, cut):
    assert unit_threshold(rule, unit) == cut
    found = module.evaluate(
        "([unit, rule, amount]) => viewer.ruleFor(unit, { rule, amount, share: 0.2 })",
        [unit, *rule],
    )
    assert (found["rule"], found["amount"]) == cut


def masks_in_browser(page, plane, cuts):
    return page.evaluate(
        """([values, cuts]) => {
          const plane = Float32Array.from(values);
          const maximum = plane.reduce((a, b) => Math.max(a, b));
          return cuts.map(([rule, amount]) =>
            [...viewer.keptPixels(plane, viewer.smallestKept(maximum, rule, amount))]);
        }""",
        [plane.ravel().tolist(), cuts],
    )


@pytest.mark.filterwarnings("ignore:The mask of example")
@pytest.mark.parametrize("seed", range(3))
def test_a_value_at_the_threshold_falls_on_pythons_side(module, seed):
    """Thresholds right at, just below and just above values, where a comparison in float64 errs."""
    rng = np.random.default_rng(seed)
    plane = np.round(rng.normal(0, 1, (6, 10)), 2).astype(np.float32)
    maximum = float(plane.max())
    positive = plane[plane > 0].astype(np.float64)
    fractions = [f for value in positive for f in (value / maximum, round(value / maximum, 2))]
    fractions = [fraction for fraction in fractions if 0 < fraction <= 1]
    amounts = [
        a for v in positive for a in (v, round(v, 2), np.nextafter(v, 0), np.nextafter(v, 9))
    ]
    cuts = [("max_fraction", f) for f in fractions] + [("at_least", float(a)) for a in amounts]
    rules = [MaxFraction(f) for f in fractions] + [AtLeast(float(a)) for a in amounts]
    in_double = 0
    masks = masks_in_browser(module, plane, cuts)
    for drawn, (kind, amount), rule in zip(masks, cuts, rules, strict=True):
        expected = threshold_mask(torch.from_numpy(plane)[None], rule).numpy().ravel()
        assert (np.array(drawn, bool) == expected).all(), (kind, amount)
        naive = plane.astype(np.float64) >= (amount * maximum if kind == "max_fraction" else amount)
        in_double += int((naive.ravel() & (plane.ravel() > 0)).tolist() != expected.tolist())
    assert in_double > 10  # the difference is real, so that the test can fail


def test_boxes_are_pythons_also_where_parts_are_equally_large(module):
    rng = np.random.default_rng(0)
    masks = []
    ties = 0
    for number in range(400):
        height, width = rng.integers(1, 14, 2)
        mask = rng.random((height, width)) < (0.15, 0.3, 0.5)[number % 3]
        masks.append(mask)
        every = component_boxes(mask, "all")
        ties += len(every) > 1
    drawn = module.evaluate(
        """(masks) => masks.map(([flat, height, width]) =>
          viewer.largestBox(Uint8Array.from(flat), height, width))""",
        [[mask.ravel().astype(int).tolist(), *mask.shape] for mask in masks],
    )
    for mask, box in zip(masks, drawn, strict=True):
        expected = component_boxes(mask, "largest").tolist()
        assert ([] if box is None else [box]) == expected, mask.astype(int)
    assert ties > 200


def test_iou_is_pythons(module):
    rng = np.random.default_rng(1)
    for share in (0.0, 0.2, 0.9):
        mask, truth = rng.random((2, 8, 9)) < share
        found = module.evaluate(
            "([mask, truth]) => viewer.maskIou(mask, truth)",
            [mask.ravel().astype(int).tolist(), truth.ravel().astype(int).tolist()],
        )
        pair = (torch.from_numpy(part)[None, None] for part in (mask, truth))
        assert found == pytest.approx(float(mask_iou(*pair)), abs=1e-12)
