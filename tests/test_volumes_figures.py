# How figures of volumes and videos look: outlines at borders, room for words, smooth colours.
from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.text import Text

from captum_infomask import ArgumentError, AtLeast, show
from captum_infomask.report.smoothing import window_steps


def test_slices_are_smoothed_alike_whatever_they_hold():
    """A slice with one cell does not show by itself how far windows are apart; the volume does."""
    cells = np.random.default_rng(0).random((8, 8, 8), np.float32)
    cells[0] = 0
    cells[0, 2, 2] = 0.9
    values = cells.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    assert window_steps(values) == (2, 2, 2)
    assert window_steps(values[1]) == (1, 1)
    _, axes = show(values, kind="volume", contour=None, at=(1, 4, 4))
    row = axes.images[0].get_array()[4].round(6)
    changes = np.flatnonzero((row[1:] != row[:-1]).any(1))
    assert changes.tolist() == [2, 3, 5, 6]  # a soft edge is one voxel wide


BORDERS = {
    "top": (slice(0, 3), slice(4, 9)),
    "right": (slice(4, 9), slice(9, 12)),
    "corner": (slice(6, 10), slice(0, 4)),
    "all": (slice(None), slice(None)),
}


@pytest.mark.parametrize("border", BORDERS)
def test_outlines_are_closed_at_the_border(border):
    """They run around the outer edges of the pixels, and leave the panel's limits alone."""
    mask = np.zeros((10, 12), np.float32)
    mask[BORDERS[border]] = 2.0
    _, axes = show(mask, contour=AtLeast(1.0), unit="bits", smooth=False)
    for lines in axes.collections:
        (line,) = lines.get_segments()
        assert (line[0] == line[-1]).all()
        down, across = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        assert line.min(0).tolist() == [across[0] - 0.5, down[0] - 0.5]
        assert line.max(0).tolist() == [across[-1] + 0.5, down[-1] + 0.5]
        if border in ("corner", "all"):  # the picture's own corner is not cut
            assert [-0.5, 9.5] in line.tolist()
    assert len(axes.collections) == 2
    assert (*axes.get_xlim(), *axes.get_ylim()) == (-0.5, 11.5, 9.5, -0.5)


def is_name(part):
    return isinstance(part, Text) and "(of " in part.get_text()


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((200, 20, 30), "volume"),
        ((20, 20, 300), "volume"),
        ((20, 300, 20), "volume"),
        ((2, 8, 80), "video"),
        ((130, 40, 20), "video"),
    ],
)
def test_no_words_lie_on_others(shape, kind):
    """Neither the names of narrow panels, nor the numbers of a short bar."""
    figure, _ = show(np.random.default_rng(0).normal(size=shape).astype(np.float32), kind=kind)
    figure.canvas.draw()
    *panels, bar = figure.axes
    low, high = bar.get_ylim()
    numbers = [
        label
        for at, label in zip(bar.get_yticks(), bar.get_yticklabels(), strict=True)
        if low <= at <= high
    ]
    names = [text for panel in panels for text in panel.get_children() if is_name(text)]
    boxes = [words.get_window_extent() for words in (*names, *numbers, bar.yaxis.label)]
    assert len(names) == len(panels)
    assert len(numbers) > 1
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    for box in boxes:
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1


@pytest.mark.parametrize(
    ("shape", "kind", "hint"),
    [
        (
            (4, 2, 16),
            "signal",
            r"one signal; got .*show\(attributions\[:1\], signal, kind='signal'\)",
        ),
        ((4, 1, 8, 8, 8), None, r"one volume; got .*show\(attributions\[:1\], volume\) draws"),
        ((4, 1, 8, 8, 8), "video", r"show\(attributions\[:1\], video, kind='video'\)"),
        ((4, 3, 8, 8, 8), None, r"show\(attributions\[:1\], video\)"),
        ((4, 3, 8, 8), None, r"one image; got .*show\(attributions\[:1\], picture\)"),
        ((4, 2, 32), None, r"one signal; got .*show\(attributions\[:1\], signal\)"),
    ],
)
def test_attributions_of_a_batch_are_told_how_the_first_is_drawn(shape, kind, hint):
    given = np.random.default_rng(0).random(shape, np.float32)
    with pytest.raises(ArgumentError, match=hint):
        show(given, kind=kind)
    figure, _ = show(given[:1], kind=kind)
    panels = {"signal": 4, "volume": 4, "video": 7, "picture": 2}
    asked = (
        kind or {5: "video" if shape[1] == 3 else "volume", 4: "picture", 3: "signal"}[len(shape)]
    )
    assert len(figure.axes) == (2 if asked == "signal" else panels[asked])
