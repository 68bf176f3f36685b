# What pictures of maps show: windows run into each other, all else is sharp, and it is said.
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from page_content import label_map, windows_map

from captum_infomask import grid, sliding_windows, superpixels
from captum_infomask.report.colours import Shades
from captum_infomask.report.figure import comparison_figure
from captum_infomask.report.page import static_html
from captum_infomask.report.page_content import MapContent, PageContent, PictureContent
from captum_infomask.report.payload import page_payload
from captum_infomask.report.smoothing import (
    SMOOTHED,
    limit_of,
    shown_plane,
    smooth_plane,
    smoothed_note,
    window_steps,
)


def scores_of(count, seed=0):
    return torch.randn(1, count, generator=torch.Generator().manual_seed(seed))


def painted(regions, seed=0):
    return regions.paint(scores_of(len(regions), seed), "mean", 1.0)[0][0, 0].numpy()


def between_centres(plane, down, across):
    """Straight lines between the centres of cells, first down and then across."""
    height, width = plane.shape
    rows, columns = np.arange(height), np.arange(width)
    middles = np.arange(down / 2 - 0.5, height, down), np.arange(across / 2 - 0.5, width, across)
    lines = np.stack(
        [np.interp(rows, middles[0], plane[::down, x].astype(float)) for x in columns], axis=1
    )
    return np.stack([np.interp(columns, middles[1], line[::across]) for line in lines])


def test_grids_are_interpolated_between_the_centres_of_their_windows():
    plane = painted(grid(torch.zeros(1, 1, 32, 42), 4, 6))
    assert window_steps(plane) == (8, 7)
    shown = shown_plane(plane)
    np.testing.assert_allclose(shown, between_centres(plane, 8, 7), atol=1e-6)
    assert np.abs(shown - plane).max() > 0.3
    assert shown.dtype == np.float32
    assert np.abs(np.diff(shown, axis=0)).max() < np.abs(np.diff(plane, axis=0)).max() / 4


@given(
    st.integers(2, 9),
    st.integers(1, 3),
    st.integers(20, 60),
    st.integers(20, 60),
    st.integers(0, 99),
)
@settings(deadline=None, max_examples=25)
def test_windows_that_overlap_and_end_at_the_border(step, times, height, width, seed):
    # Two windows or more each way: along a side that one window fills there is no step to find.
    window = min(step * times, height - 1, width - 1) // step * step
    regions = sliding_windows(
        torch.zeros(1, 1, height, width), (1, window, window), (1, step, step)
    )
    plane = painted(regions, seed)
    assert window_steps(plane) == (step, step)
    shown = shown_plane(plane)
    # The mean over one step around a pixel, by hand.
    padded = np.pad(plane.astype(float), step, mode="edge")
    weights = np.array([0.5, *[1.0] * (step - 1), 0.5] if step % 2 == 0 else [1.0] * step) / step
    reach = len(weights) // 2
    for y, x in ((0, 0), (height // 2, width // 3), (height - 1, width - 1)):
        around = padded[y + step - reach :, x + step - reach :][: len(weights), : len(weights)]
        assert shown[y, x] == pytest.approx(float(weights @ around @ weights), abs=1e-5)
    assert plane.min() - 1e-5 <= shown.min() <= shown.max() <= plane.max() + 1e-5
    if height % step == width % step == 0:
        turned = plane[::-1, ::-1].copy()
        np.testing.assert_allclose(shown_plane(turned), shown[::-1, ::-1], atol=1e-5)


def test_parts_of_a_side_that_are_not_quite_equal_and_windows_that_say_nothing():
    assert window_steps(painted(grid(torch.zeros(1, 1, 230, 47), 8, 5))) == (29, 9)
    plane = painted(grid(torch.zeros(1, 1, 64, 64), 8, 8))
    plane[:24, 40:] = 0
    assert window_steps(plane) == (8, 8)
    assert window_steps(np.repeat(plane[:1], 64, 0)) == (64, 8)
    assert window_steps(painted(grid(torch.zeros(1, 1, 24, 24), 1, 1))) == (1, 1)


def sharp():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:48, :64]
    picture = torch.from_numpy(np.sin(y / 5) + np.cos(x / 7)).float().expand(1, 3, -1, -1)
    boxes = np.zeros((48, 64), np.float32)
    boxes[5:31, 12:40], boxes[17:44, 33:51] = 1, 2
    nan = painted(grid(torch.zeros(1, 1, 32, 32), 4, 4))
    nan[0, 0] = np.nan
    return {
        "superpixels": painted(superpixels((picture + 2) / 4, 20)),
        "labels": label_map().plane,
        "boxes": boxes,
        "pixels": rng.normal(size=(48, 64)).astype(np.float32),
        "smooth": np.exp(-((y - 20) ** 2 + (x - 30) ** 2) / 90).astype(np.float32),
        "nothing": np.zeros((48, 64), np.float32),
        "not a number": nan,
    }


def test_all_else_is_sharp():
    for name, plane in sharp().items():
        assert shown_plane(plane) is plane, name
        assert not smoothed_note([plane, None]), name


def test_figures_are_smoothed_and_pages_and_notebooks_say_so():
    windows, labels = windows_map(), label_map()
    photo = np.zeros((*windows.plane.shape, 3), np.uint8)
    note = smoothed_note([windows.plane])
    assert SMOOTHED in note
    for made, is_smoothed in ((windows, True), (labels, False)):
        shown = replace(made, mask=made.plane > 0)
        before = made.plane.copy()
        _, panels = comparison_figure([PictureContent(photo, "any", (), (shown,))], masks=None)
        pixels = np.asarray(panels[1].images[0].get_array())
        smooth = Shades(limit_of(made.plane)).over(smooth_plane(made.plane), photo / 255)
        np.testing.assert_allclose(pixels, smooth, atol=1e-6)
        sharp_pixels = Shades(limit_of(made.plane)).over(made.plane, photo / 255)
        assert np.abs(pixels - sharp_pixels).max() > 0.05
        assert np.array_equal(made.plane, before)
        page = PageContent("any", (PictureContent(photo, "any", (), (made,)),), notes=("one",))
        assert (note in static_html(page)) == is_smoothed
        payload = page_payload(page)
        assert payload["notes"] == (["one", note] if is_smoothed else ["one"])
        assert payload["pictures"][0]["maps"][0]["steps"] == ([8, 8] if is_smoothed else [1, 1])
    failed = MapContent("failed", "bits", None, error="why")
    page = PageContent("any", (PictureContent(photo, "any", (), (failed,)),))
    assert page_payload(page)["notes"] == []
