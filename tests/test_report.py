# The report: the terminal's table and the figures, from plain arrays.
from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from captum_infomask.report.figure import INK, map_figure, methods_figure
from captum_infomask.report.page_content import MapContent, PictureContent
from captum_infomask.report.words import text_table

HEIGHT, WIDTH = 6, 9


def row(name: str, unit: str, values: np.ndarray) -> MapContent:
    values = values.astype(np.float32)
    return MapContent(name, unit, values, mask=values >= 0.2 * values.max())


def content(photo: np.ndarray, rows: list[MapContent], *facts: tuple[str, str]) -> PictureContent:
    return PictureContent(photo, "espresso", facts, tuple(rows))


def ramp(largest: float, smallest: float = 0.0) -> np.ndarray:
    return np.linspace(smallest, largest, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture
def rows() -> list[MapContent]:
    return [
        row("InfoMask crop", "bits", ramp(8.0, -2.0)),
        row("InfoMask drop", "bits", ramp(2.0)),
        MapContent("Grad-CAM", "a.u.", None, error="no feature map " * 20),
        row("Occlusion", "nats", ramp(2.0)),
    ]


def words(figure) -> str:
    return "\n".join(text.get_text() for text in figure.texts)


def test_a_table_is_as_wide_as_its_words():
    head = ["method", "seconds"]
    rows = [["InfoMask crop", "1,234.50"], ["short", "2"]]
    assert text_table(head, rows, ["", "  failed: no"]).splitlines() == [
        "method          seconds",
        "-------------  --------",
        "InfoMask crop  1,234.50",
        "short                 2  failed: no",
    ]


def test_the_panels_show_the_photograph_the_mask_and_what_it_keeps(photo, rows):
    _, panels = methods_figure(content(photo, rows))
    assert len(panels) == 1 + 3 * 3  # the method that failed has no panels
    shown = [np.asarray(panel.images[0].get_array()) for panel in panels]
    assert (shown[0] == photo).all()
    mask = rows[0].mask
    assert 0 < mask.sum() < mask.size
    dark = (np.abs(shown[2] - to_rgb(INK)) < 1e-9).all(axis=2)
    assert (dark == mask).all()
    kept = (np.abs(shown[3] - photo / 255) < 1e-9).all(axis=2)
    assert (kept == mask).all()
    assert all(panel.images[0].get_array().shape == (HEIGHT, WIDTH, 3) for panel in panels)


def test_a_map_without_a_mask_is_drawn_on_blank_paper_without_a_photograph(rows):
    bare = MapContent("InfoMask crop", "bits", rows[0].plane)
    figure, panels = methods_figure(PictureContent(None, "espresso", (), (bare,)))
    assert len(panels) == 2
    assert np.asarray(panels[0].images[0].get_array()).min() == 255
    assert bare.numbers == "largest 8.00 bits"
    assert bare.numbers in words(figure)
    assert "of the picture" not in words(figure)


def test_rows_in_bits_share_one_scale_and_others_have_their_own(photo, rows):
    flat = np.full_like(photo, 128)
    figure, panels = methods_figure(content(flat, rows))
    crop, drop, occlusion = (np.asarray(panels[k].images[0].get_array()) for k in (1, 4, 7))
    # The same 2 bits have the same colour in both InfoMask rows, ...
    two_bits = np.abs(rows[0].plane - 2).argmin()
    assert np.abs(rows[0].plane - 2).min() < 0.1
    np.testing.assert_allclose(crop.reshape(-1, 3)[two_bits], drop.reshape(-1, 3)[-1], atol=0.02)
    # ... and a quarter of the scale is far from its end, which Occlusion's 2 nats reach.
    np.testing.assert_allclose(occlusion.reshape(-1, 3)[-1], crop.reshape(-1, 3)[-1], atol=1e-6)
    assert np.abs(drop.reshape(-1, 3)[-1] - occlusion.reshape(-1, 3)[-1]).max() > 0.2
    bars = [axes for axes in figure.axes if axes not in panels]
    assert [bar.get_title(loc="left") for bar in bars] == ["bits", "nats"]
    assert [bar.get_ylim() for bar in bars] == [(-2.0, 8.0), (0.0, 2.0)]
    assert bars[0].get_position().height > 2 * panels[1].get_position().height


def test_colours_are_centred_at_zero(photo):
    flat = np.full_like(photo, 128)
    signed = np.zeros((HEIGHT, WIDTH))
    signed[0, 0], signed[0, 1] = 1.0, -1.0
    _, panels = methods_figure(content(flat, [row("any", "a.u.", signed)]))
    shown = np.asarray(panels[1].images[0].get_array())
    positive, negative, nothing = shown[0, 0], shown[0, 1], shown[0, 2]
    assert positive[0] - positive[2] > 0.2  # red
    assert negative[2] - negative[0] > 0.2  # blue
    assert nothing.std() < 1e-9  # the grey photograph itself


def test_the_figure_names_what_it_shows(photo, rows):
    picture = content(photo, rows, ("9.88 bits", "i(y; x)"))
    figure, _ = methods_figure(picture, ("A note.",), mask="mask by Otsu")
    for part in (
        "mask by Otsu",
        "espresso",
        "9.88 bits",
        "i(y; x)",
        "A note.",
        "failed: no feature map",
    ):
        assert part in words(figure)
    assert "largest 8.00 bits" in words(figure)
    assert all(row.name in words(figure) for row in rows)


def test_words_stay_on_the_page_and_panels_apart(photo, rows):
    note = "One two three four five six seven eight nine ten. " * 6
    facts = [("9.88 bits", "i(y; x), what the picture says")] * 3
    figure, _ = methods_figure(content(photo, rows, *facts), (note,))
    page = figure.bbox
    renderer = figure.canvas.get_renderer()
    for text in figure.texts:
        box = text.get_window_extent(renderer)
        assert page.x0 <= box.x0 <= box.x1 <= page.x1, text
        assert page.y0 <= box.y0 <= box.y1 <= page.y1, text
    boxes = [axes.get_position() for axes in figure.axes]
    for k, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[k + 1 :])


@pytest.mark.parametrize("values", [np.zeros((HEIGHT, WIDTH)), ramp(-1.0, -2.0)])
def test_values_that_are_nothing_or_negative_are_drawn(values, photo, tmp_path):
    empty = np.zeros((HEIGHT, WIDTH), dtype=bool)
    rows = [MapContent("InfoMask drop", "bits", values.astype(np.float32), mask=empty)]
    figure, _ = methods_figure(content(photo, rows))
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_drawing_leaves_pyplot_alone(photo, rows):
    before = dict(mpl.rcParams)
    methods_figure(content(photo, rows))
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("with_photo", [True, False])
def test_one_map_is_drawn_by_captum_and_its_bar_is_in_its_unit(with_photo, photo):
    plane = ramp(3.0, -8.0).astype(np.float32)
    figure, axes = map_figure(plane, "bits", "a title", photo if with_photo else None)
    bar = figure.axes[1]
    assert bar.get_ylabel() == "bits"
    assert bar.get_ylim() == (-8, 8)
    assert axes.get_title() == "a title"
    drawn = axes.images[-1]
    np.testing.assert_allclose(np.asarray(drawn.get_array()), plane / 8, atol=1e-6)
    assert (drawn.norm.vmin, drawn.norm.vmax) == (-1, 1)
    assert drawn.get_cmap().name == figure.axes[1]._colorbar.cmap.name
    assert len(axes.images) == 1 + with_photo
    assert plt.get_fignums() == []


def test_a_map_of_nothing_is_drawn(photo):
    figure, axes = map_figure(np.zeros((HEIGHT, WIDTH), np.float32), "bits", "", photo)
    assert np.asarray(axes.images[-1].get_array()).max() == 0
    tiny_figure, tiny_axes = map_figure(ramp(1e-9).astype(np.float32), "bits", "")
    assert np.asarray(tiny_axes.images[-1].get_array()).max() == pytest.approx(1)
    assert len(figure.axes) == len(tiny_figure.axes) == 2
