# The report: the terminal's table and the figure of a comparison, from plain arrays.
from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from captum_infomask import ArgumentError
from captum_infomask.report.colours import Shades
from captum_infomask.report.figure import comparison_figure
from captum_infomask.report.figure_layout import colour_ranges, make_sheet
from captum_infomask.report.overlay import DIMMED
from captum_infomask.report.page_content import MapContent, PictureContent
from captum_infomask.report.panel_figure import PAPER
from captum_infomask.report.smoothing import shown_mask, smooth_plane
from captum_infomask.report.words import text_table

HEIGHT, WIDTH = 60, 90


def row(name: str, unit: str, values: np.ndarray, meaning: str = "") -> MapContent:
    values = values.astype(np.float32)
    return MapContent(name, unit, values, meaning, mask=values >= 0.5 * values.max())


def ramp(largest: float, smallest: float = 0.0, size=(HEIGHT, WIDTH)) -> np.ndarray:
    return np.linspace(smallest, largest, size[0] * size[1]).reshape(size)


def picture_of(size=(HEIGHT, WIDTH), methods: int = 4, title: str = "espresso") -> PictureContent:
    """A picture with some maps; the second method failed."""
    photo = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    maps = [
        row("InfoMask", "bits per 1%", ramp(8.0, -2.0, size), "what each part adds"),
        MapContent("Grad-CAM", "a.u.", None, error="no feature map " * 20),
        row("InfoMask evidence over superpixels", "bits", ramp(12345.0, 0.0, size), "m " * 60),
        row("Occlusion", "nats", ramp(0.00321, -0.0123, size), "Captum's, of log p(y | x)"),
    ]
    several = [replace(maps[n % 4], name=f"{maps[n % 4].name}{n}") for n in range(methods)]
    facts = (("9.88%", "p(y | x)"), ("9.88 bits", "i(y; x)"), ("9.97 bits", "at most"))
    return PictureContent(photo, title, facts, tuple(several))


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_text()]


def drawn(panel) -> np.ndarray:
    return np.asarray(panel.images[0].get_array())


def bars(figure, panels) -> list:
    return [axes for axes in figure.axes if axes not in panels]


def test_a_table_is_as_wide_as_its_words():
    head = ["method", "seconds"]
    rows = [["InfoMask crop", "1,234.50"], ["short", "2"]]
    assert text_table(head, rows, ["", "  failed: no"]).splitlines() == [
        "method          seconds",
        "-------------  --------",
        "InfoMask crop  1,234.50",
        "short                 2  failed: no",
    ]


def test_the_panels_are_the_photograph_and_each_methods_map():
    picture = picture_of()
    figure, panels = comparison_figure([picture], rule="at least 50% of the maximum")
    assert len(panels) == 1 + 4
    assert (drawn(panels[0]) == picture.pixels).all()
    assert not panels[2].images  # the method that failed
    for panel, made in zip(panels[1:], picture.maps, strict=True):
        if made.plane is None:
            continue
        shown = shown_mask(made.mask)
        assert 0.1 < shown.mean() < 0.8
        ground = np.where(shown[..., None], picture.pixels, DIMMED * picture.pixels).astype(int)
        limit = float(np.abs(made.plane).max())
        expected = Shades(limit).over(smooth_plane(made.plane), ground / 255)
        np.testing.assert_allclose(drawn(panel), expected, atol=1e-6)
        assert len(panel.collections) == 2  # the outline and its rim
    assert len(bars(figure, panels)) == 3
    said = " ".join(texts(figure))
    for part in (
        "espresso", "9.88%, 9.88 bits", "outline: at least", "failed: no feature", "InfoMask0",
        "what each part adds", "of the picture", "8", "−2", "12,345", "0.0032", "−0.012", "nats",
    ):  # fmt: skip
        assert part in said, part
    assert "m m" not in said  # a meaning that does not fit is left out
    assert "9.97" not in said


def test_words_on_one_line_are_left_whole_and_names_wrap():
    figure, _ = comparison_figure([picture_of()])
    said = texts(figure)
    assert "bits per 1% of the picture" in said
    start = said.index("InfoMask evidence")
    assert " ".join(said[start : start + 2]) == "InfoMask evidence over superpixels2"


@pytest.mark.parametrize("masks", ["contour", "panel", None])
@pytest.mark.parametrize(
    ("size", "methods", "layout", "width"),
    [
        ((HEIGHT, WIDTH), 4, "row", None),
        ((HEIGHT, HEIGHT), 3, "row", 3.3),
        ((HEIGHT, HEIGHT), 4, "row", 13),
        ((HEIGHT, WIDTH), 1, "row", None),
        ((HEIGHT, WIDTH), 9, "row", None),
        ((HEIGHT, WIDTH), 8, "grid", None),
        ((HEIGHT, 12 * HEIGHT), 3, "row", None),
        ((6 * HEIGHT, HEIGHT), 4, "row", None),
    ],
)
def test_panels_are_of_one_size_and_no_words_overlap(size, methods, layout, width, masks):
    pictures = [picture_of(size, methods), picture_of(size, methods, "a long name " * 9)]
    figure, panels = comparison_figure(
        pictures, layout=layout, width=width, masks=masks, rule="at least 50% of the maximum"
    )
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    page = figure.bbox
    places = [axes.get_position(original=True) for axes in panels]
    assert len({(round(box.width, 6), round(box.height, 6)) for box in places}) == 1
    for one, other in combinations([axes.get_position() for axes in figure.axes], 2):
        assert not one.overlaps(other)
    words = [text for text in figure.texts if text.get_text()]
    boxes = [text.get_window_extent(renderer) for text in words]
    for text, box in zip(words, boxes, strict=True):
        assert page.x0 - 1 <= box.x0 <= box.x1 <= page.x1 + 1, text
        assert page.y0 - 1 <= box.y0 <= box.y1 <= page.y1 + 1, text
        for axes in figure.axes:
            assert not box.overlaps(axes.get_window_extent().padded(-2)), text
    for (one, first), (other, second) in combinations(zip(words, boxes, strict=True), 2):
        assert not first.padded(-1).overlaps(second.padded(-1)), (one, other)
    for axes in panels:  # the reason of a failure stays in its panel
        for text in axes.texts:
            inside, around = text.get_window_extent(renderer), axes.get_window_extent()
            assert around.x0 <= inside.x0 <= inside.x1 <= around.x1
            assert around.y0 <= inside.y0 <= inside.y1 <= around.y1
    sizes = {text.get_fontsize() for text in words}
    assert all(6 <= one <= 14 for one in sizes)
    if width is None:
        assert sizes == {7, 8}
    assert figure.get_figwidth() == (width or (4.6 if methods == 1 else figure.get_figwidth()))
    assert figure.get_figwidth() <= (width or 7)


def test_rows_columns_and_wrapping():
    columns = {
        layout: [make_sheet((8, 8), count, layout).columns for count in range(2, 13)]
        for layout in ("row", "grid")
    }
    assert columns["row"] == [2, 3, 4, 5, 6, 4, 4, 5, 5, 6, 6]
    assert columns["grid"] == [2, 3, 2, 3, 3, 4, 4, 3, 4, 4, 4]
    assert make_sheet((8, 8), 4, "row", 3.3).columns == 4
    assert make_sheet((8, 8), 5, "row", 3.3).columns == 3
    wide = make_sheet((8, 8), 5, "row", 13.0)
    assert (wide.columns, wide.width) == (5, 13.0)
    assert wide.small > make_sheet((8, 8), 5, "row").small == 7
    for size, place in (((5, 50), 0.2), ((50, 5), 2.0), ((8, 16), 0.5)):
        sheet = make_sheet(size, 5, "row")
        assert sheet.tall == pytest.approx(place * sheet.panel)


def test_several_pictures_are_rows_and_name_the_methods_once():
    pictures = [picture_of(title=title) for title in ("espresso", "tripod", "missile")]
    figure, panels = comparison_figure(pictures, rule="Otsu")
    assert len(panels) == 3 * 5
    said = texts(figure)
    assert [said.count(title) for title in ("espresso", "tripod", "missile")] == [1, 1, 1]
    assert said.count("InfoMask0") == said.count("outline: Otsu") == 1
    boxes = [axes.get_position(original=True) for axes in panels]
    assert len({round(box.x0, 6) for box in boxes}) == 5
    assert len({round(box.y0, 6) for box in boxes}) == 3
    # Where a picture takes several rows, each of its rows names its methods.
    figure, panels = comparison_figure([picture_of(methods=8)] * 2)
    assert len(panels) == 2 * 9
    assert texts(figure).count("InfoMask0") == texts(figure).count("InfoMask4") == 2


def test_a_panel_shows_what_a_mask_keeps():
    picture = picture_of()
    figure, panels = comparison_figure([picture], masks="panel", rule="Otsu")
    assert len(panels) == 5 + 3  # the method that failed has no mask
    masked = [made for made in picture.maps if made.mask is not None]
    for panel, made in zip(panels[5:], masked, strict=True):
        kept = shown_mask(made.mask)
        assert 0.1 < kept.mean() < 0.8
        np.testing.assert_allclose(drawn(panel)[kept], picture.pixels[kept] / 255)
        np.testing.assert_allclose(drawn(panel)[~kept], [to_rgb(PAPER)] * int((~kept).sum()))
    assert not any(axes.collections for axes in panels)  # no outline
    share = 100 * picture.maps[0].mask.mean()
    assert f"{share:.2g}% of the picture" in texts(figure)
    assert "what masks keep: Otsu" in texts(figure)


def test_without_masks_nothing_is_outlined_and_nothing_dimmed():
    picture = picture_of()
    figure, panels = comparison_figure([picture], masks=None, rule="Otsu")
    made = picture.maps[0]
    expected = Shades(8.0).over(smooth_plane(made.plane), picture.pixels / 255)
    np.testing.assert_allclose(drawn(panels[1]), expected, atol=1e-6)
    assert not any(axes.collections or axes.lines for axes in figure.axes)
    assert "Otsu" not in " ".join(texts(figure))


def test_shown_masks_are_clean():
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[10:40, 10:50] = True
    speckled = mask.copy()
    speckled[20, 20], speckled[50, 80] = False, True
    plane = np.where(mask, 1.0, 0.5).astype(np.float32)
    photo = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)

    def panel_of(given):
        made = MapContent("any", "bits", plane, mask=given)
        before = given.copy()
        _, panels = comparison_figure([PictureContent(photo, "any", (), (made,))])
        assert (given == before).all()
        return drawn(panels[1]), len(panels[1].collections)

    clean, specks = panel_of(mask), panel_of(speckled)
    assert clean[1] == specks[1] == 2
    np.testing.assert_array_equal(clean[0], specks[0])
    # A mask of nothing but specks has no outline, and the picture is not dimmed.
    only_specks = np.zeros_like(mask)
    only_specks[50, 80] = True
    pixels, outlines = panel_of(only_specks)
    assert outlines == 0
    expected = Shades(1.0).over(smooth_plane(plane), photo / 255)
    np.testing.assert_allclose(pixels, expected, atol=1e-6)


def test_colour_bars_have_the_limits_of_their_maps_and_mark_the_mask():
    picture = picture_of()
    figure, panels = comparison_figure([picture])
    found = bars(figure, panels)
    shown = [made for made in picture.maps if made.plane is not None]
    for bar, made in zip(found, shown, strict=True):
        low, high = min(0.0, float(made.plane.min())), float(made.plane.max())
        assert bar.get_xlim() == pytest.approx((low, high))
        threshold = float(made.plane[made.mask].min())
        assert low < threshold < high
        assert [line.get_xdata()[0] for line in bar.lines] == pytest.approx([threshold] * 2)
    # Grey where a map says nothing; the map's colours at its ends.
    pixels = drawn(found[0])[0]
    nothing = pixels[round(255 * 0.2)]
    assert np.ptp(nothing) < 1e-6
    assert pixels[-1][0] > pixels[-1][2] + 0.4  # yellow
    assert pixels[0][2] > pixels[0][0]  # blue


def test_a_unit_shares_a_scale_and_says_what_it_multiplies():
    maps = [
        row("large", "bits", ramp(8.0, -1.0)),
        row("small", "bits", ramp(0.3)),
        row("half", "bits", ramp(4.0)),
        row("nothing", "bits", np.zeros((HEIGHT, WIDTH))),
        row("other", "nats", ramp(0.3)),
        row("one", "a.u.", ramp(100.0)),
        row("two", "a.u.", ramp(0.1)),
    ]
    found = colour_ranges(maps, "unit")
    assert [one.times for one in found] == [1, 20, 1, 1, 1, 1, 1]
    assert [one.limit for one in found] == pytest.approx([8, 0.4, 8, 8, 0.3, 100, 0.1])
    assert found[1][:2] == pytest.approx((-0.05, 0.4))
    assert found[2][:2] == pytest.approx((-1, 8))
    own = colour_ranges(maps, "own")
    assert [one.limit for one in own] == pytest.approx([8, 0.3, 4, 1, 0.3, 100, 0.1])
    assert {one.times for one in own} == {1}
    photo = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    picture = PictureContent(photo, "any", (), tuple(maps))
    figure, panels = comparison_figure([picture], scale="unit")
    assert [[text.get_text() for text in panel.texts] for panel in panels[1:4]] == [
        [], ["× 20"], [],
    ]  # fmt: skip
    assert {"0.4", "−0.05"} <= set(texts(figure))
    # 8, 0.4 and 8 are full colour: the last pixel of the second map has three quarters of it.
    end = drawn(panels[2])[-1, -1]
    expected = Shades(0.4).over(smooth_plane(maps[1].plane), photo / 255)[-1, -1]
    np.testing.assert_allclose(end, expected, atol=1e-6)
    assert np.abs(end - drawn(panels[1])[-1, -1]).max() > 0.02
    assert "×" not in " ".join(texts(comparison_figure([picture])[0]))


@pytest.mark.parametrize(
    ("peak", "times"), [(1.7, 1), (1.5, 5), (0.9, 5), (0.79, 10), (0.2, 20), (0.0079, 1000)]
)
def test_what_a_map_is_multiplied_by(peak, times):
    maps = [row("large", "bits", ramp(8.0)), row("small", "bits", ramp(peak))]
    small = colour_ranges(maps, "unit")[1]
    assert small.times == times
    assert small.limit == pytest.approx(8 / times)
    assert small.limit >= peak


def test_a_map_of_single_pixels_is_not_blank():
    plane = np.zeros((224, 224), np.float32)
    plane[::12, ::12] = np.random.default_rng(0).uniform(0.2, 1, plane[::12, ::12].shape)
    (found,) = colour_ranges([row("Saliency", "a.u.", plane)], "own")
    assert found.limit == pytest.approx(float(smooth_plane(plane).max()))
    assert found.limit < 0.5 * plane.max()


@pytest.mark.parametrize("values", [np.zeros((HEIGHT, WIDTH)), ramp(-1.0, -2.0)])
def test_values_that_are_nothing_or_negative_are_drawn(values, tmp_path):
    empty = np.zeros((HEIGHT, WIDTH), dtype=bool)
    made = MapContent("InfoMask drop", "bits", values.astype(np.float32), mask=empty)
    figure, panels = comparison_figure([PictureContent(None, "any", (), (made,))])
    low = float(values.min())
    assert bars(figure, panels)[0].get_xlim() == ((0, 1) if low == 0 else (low, 0))
    assert not panels[1].collections
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5_000


def test_values_that_are_no_numbers_have_no_colour():
    plane = ramp(1.0).astype(np.float32)
    for column, value in enumerate((np.nan, np.inf, -np.inf)):
        plane[:9, 9 * column : 9 * column + 9] = value
    made = MapContent("any", "bits", plane)
    photo = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    figure, panels = comparison_figure([PictureContent(photo, "any", (), (made,))])
    figure.draw_without_rendering()
    assert bars(figure, panels)[0].get_xlim() == (0, 1)
    pixels = drawn(panels[1])
    np.testing.assert_allclose(pixels[4, 4], 128 / 255)
    np.testing.assert_allclose(pixels[4, 13], pixels[-1, -1], atol=1e-3)  # the strongest colour
    assert pixels[4, 22][2] > pixels[4, 22][0]  # blue


def test_a_figure_of_methods_that_all_failed_says_why():
    failed = [MapContent(name, "bits", None, error=f"no {name}") for name in ("one", "two")]
    figure, panels = comparison_figure([replace(picture_of(), maps=tuple(failed))])
    assert len(figure.axes) == len(panels) == 3
    assert {"failed: no one", "failed: no two"} <= set(texts(figure))


def test_the_users_style_changes_no_layout():
    picture = picture_of()
    plain, plain_panels = comparison_figure([picture])
    style = {
        "image.origin": "lower", "axes.grid": True, "figure.autolayout": True,
        "axes.facecolor": "black", "figure.facecolor": "black", "text.color": "white",
        "font.size": 30,
    }  # fmt: skip
    with mpl.rc_context(style):
        styled, panels = comparison_figure([picture])
    for figure in (plain, styled):
        figure.draw_without_rendering()
    assert (plain.get_size_inches() == styled.get_size_inches()).all()
    for one, other in zip(plain_panels, panels, strict=True):
        assert one.get_position().bounds == other.get_position().bounds
        assert one.get_ylim() == other.get_ylim()
    pixels = []
    for figure in (plain, styled):
        figure.canvas.draw()
        pixels.append(np.asarray(figure.canvas.buffer_rgba()))
    np.testing.assert_array_equal(*pixels)


def test_a_map_and_its_picture_of_other_sizes_are_refused():
    picture = picture_of()
    small = MapContent("small", "bits", np.ones((3, 4), np.float32))
    with pytest.raises(ArgumentError, match=r"'small' of \(3, 4\)"):
        comparison_figure([picture, replace(picture, maps=(small,))])


def test_names_stay_words(tmp_path):
    hostile = "$\\frac{1}{0}$ <b>\x1b[2J\u202e & %s_{}^"
    made = row(hostile, hostile, ramp(1.0), hostile)
    failed = MapContent(hostile, "bits", None, error=hostile)
    picture = PictureContent(picture_of().pixels, hostile, ((hostile, ""),), (made, failed))
    with mpl.rc_context({"text.usetex": True}):
        figure, _ = comparison_figure([picture], rule=hostile)
    figure.savefig(tmp_path / "figure.svg")
    said = "".join(texts(figure))
    assert "$" in said
    assert "<b>" in said
    assert "\x1b" not in said
    assert "\u202e" not in said


def test_drawing_leaves_pyplot_alone():
    before = dict(mpl.rcParams)
    comparison_figure([picture_of()])
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == before
