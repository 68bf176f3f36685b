# The figure of several methods side by side.
from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from captum_infomask._messages import printable
from captum_infomask.report.colour_planes import (
    ARBITRARY,
    colour_limits,
    picture_size,
    shown_plane,
    smoothed_note,
)
from captum_infomask.report.colours import RGB, pale_grey, tint
from captum_infomask.report.page_content import (
    BoolArray,
    MapContent,
    PageContent,
    PhotoArray,
    PictureContent,
)

INK, GREY, PAPER = "#1b1f24", "#69707a", "#e9ebee"

# The page, in inches.
MARGIN, TOP, HEAD, GAP = 0.25, 0.5, 0.5, 0.2
PHOTO, PANEL, BAR = 3.3, 1.9, 0.1
PHOTO_TO_PANELS, OVERLAY_TO_MASK, MASK_TO_KEPT = 0.4, 0.85, 0.2
CAPTION = 4.7


def methods_figure(
    picture: PictureContent,
    notes: Sequence[str] = (),
    mask: str = "mask, 20% of the largest",
) -> tuple[Figure, list[Axes]]:
    """Draw the photograph and one row per method: overlay, mask, and the pixels that it keeps.

    Methods that count in bits share one colour scale; every other method has a scale of its own.
    Scales are centred at 0. Colours fade into the grey photograph where there is no information, so
    only the evidence that the network saw is tinted. Maps of windows are smoothed between window
    centres, and the small print says so. Masks and numbers are exact.

    Args:
        picture: The photograph, (H, W, 3), uint8, blank if nobody gave it; the target's name and
            facts; a map per method, with its mask if there is one.
        notes: Paragraphs in small print.
        mask: The head of the masks' column.

    Returns:
        The figure, on an Agg canvas (no window, no pyplot state), and its panels: the photograph,
        then three per method that has a map and a mask.

    Raises:
        ArgumentError: The picture and its maps differ in size.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.figure import methods_figure
        >>> from captum_infomask.report.page_content import MapContent, PictureContent
        >>> values = np.eye(8, dtype=np.float32)
        >>> made = MapContent("InfoMask crop", "bits", values, mask=values > 0.2)
        >>> photo = np.zeros((8, 8, 3), np.uint8)
        >>> figure, axes = methods_figure(PictureContent(photo, "espresso", (), (made,)))
        >>> len(axes)
        4
    """
    height, width = picture_size(picture)
    photo = picture.pixels
    if photo is None:
        photo = np.full((height, width, 3), 255, np.uint8)
    maps, aspect = picture.maps, height / width
    page = _Page(len(maps), PHOTO * aspect, PANEL * aspect)
    panels = [page.axes(MARGIN, TOP + HEAD, PHOTO, page.photo_height)]
    panels[0].imshow(photo)
    note = smoothed_note(made.plane for made in maps)
    _write_caption(page, picture, (*notes, *[note] * bool(note)))
    for column, title in enumerate(("attribution", mask, "what it keeps")):
        page.text(page.column_left(column), TOP - 0.16, title, 10.5, color=GREY)
    (limits,) = colour_limits(PageContent(picture.title, (picture,)))
    grey = pale_grey(photo)
    for place, made in enumerate(maps):
        top = page.row_top(place)
        _write_heading(page, place, made)
        if made.plane is None:
            continue
        shown = [tint(shown_plane(made.plane), limits[place], grey)]
        if made.mask is not None:
            shown += [_mask_picture(made.mask), _kept(photo, made.mask)]
        for column, pixels in enumerate(shown):
            axes = page.axes(page.column_left(column), top, PANEL, page.panel_height)
            axes.imshow(pixels)
            panels.append(axes)
    for places in _scale_groups(maps):
        _draw_scale(page, maps[places.start : places.stop], places, limits[places.start])
    return page.figure, panels


class _Page:
    """A figure whose positions are given in inches from its upper left corner."""

    def __init__(self, rows: int, photo_height: float, panel_height: float) -> None:
        self.photo_height, self.panel_height = photo_height, panel_height
        self.width = self.column_left(2) + PANEL + MARGIN
        rows_end = self.row_top(rows - 1) + panel_height
        self.height = max(rows_end, TOP + HEAD + photo_height + CAPTION) + MARGIN
        self.figure = Figure(figsize=(self.width, self.height), facecolor="white")
        self.figure.set_layout_engine("none")  # the user's own figures may have another layout
        FigureCanvasAgg(self.figure)

    def column_left(self, column: int) -> float:
        """Return the left edge of the overlays, the masks, or the kept pixels."""
        overlay = MARGIN + PHOTO + PHOTO_TO_PANELS
        mask = overlay + PANEL + OVERLAY_TO_MASK
        return (overlay, mask, mask + PANEL + MASK_TO_KEPT)[column]

    def row_top(self, place: int) -> float:
        """Return the upper edge of a method's panels."""
        return TOP + HEAD + place * (self.panel_height + GAP + HEAD)

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Add an empty panel without ticks or frame."""
        lower = self.height - top - height
        box = (left / self.width, lower / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(box)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        return axes

    def text(self, left: float, baseline: float, words: str, size: float, **style: Any) -> None:
        """Write words that start at the left, on a baseline."""
        place = (left / self.width, 1 - baseline / self.height)
        self.figure.text(
            *place,
            printable(words),
            fontsize=size,
            va="baseline",
            parse_math=False,  # a name may hold dollars
            **{"color": INK, **style},
        )


def _write_caption(page: _Page, picture: PictureContent, notes: Sequence[str]) -> None:
    """Write the target's name above the photograph, and numbers and small print below it."""
    page.text(MARGIN, TOP - 0.16, "what the network sees", 10.5, color=GREY)
    page.text(MARGIN, TOP + HEAD - 0.12, picture.title, 18, weight="bold")
    line = TOP + HEAD + page.photo_height + 0.42
    for number, meaning in picture.facts:
        page.text(MARGIN, line, number, 16)
        page.text(MARGIN, line + 0.2, meaning, 9, color=GREY)
        line += 0.62
    for note in notes:
        for part in textwrap.wrap(note, 47):
            page.text(MARGIN, line, part, 9)
            line += 0.19
        line += 0.12


def _write_heading(page: _Page, place: int, made: MapContent) -> None:
    """Write a method's name and meaning over its panels, and the share that its mask keeps."""
    line = page.row_top(place) - 0.11
    page.text(page.column_left(0), line - 0.2, made.name, 12, weight="bold")
    page.text(page.column_left(0), line, made.meaning, 9, color=GREY)
    if made.plane is None:
        for number, part in enumerate(textwrap.wrap(f"failed: {made.error}", 80), start=1):
            page.text(page.column_left(0), line + 0.22 * number, part, 9)
        return
    page.text(page.column_left(1), line, made.numbers, 9, color=GREY)


def _scale_groups(maps: Sequence[MapContent]) -> list[range]:
    """Return the rows of each colour bar: neighbours of one unit share one."""
    groups: list[range] = []
    for place, made in enumerate(maps):
        if made.plane is None:
            continue
        before = groups[-1] if groups else range(0)
        is_same = bool(before) and made.unit == maps[before.start].unit != ARBITRARY
        if before.stop == place and is_same:
            groups[-1] = range(before.start, place + 1)
        else:
            groups.append(range(place, place + 1))
    return groups


def _mask_picture(mask: BoolArray) -> RGB:
    """Return a picture that is dark where the mask keeps, pale elsewhere."""
    return np.where(mask[..., None], to_rgb(INK), to_rgb(PAPER))


def _kept(photo: PhotoArray, mask: BoolArray) -> RGB:
    """Return the photograph where the mask keeps it, pale elsewhere."""
    return np.where(mask[..., None], photo / 255.0, to_rgb(PAPER))


def _draw_scale(page: _Page, maps: Sequence[MapContent], places: range, limit: float) -> None:
    """Draw a colour bar beside the overlays that share it, over the range of their values."""
    top = page.row_top(places[0])
    height = page.row_top(places[-1]) + page.panel_height - top
    axes = page.axes(page.column_left(0) + PANEL + 0.1, top, BAR, height)
    shown = [made.plane for made in maps if made.plane is not None]
    low = min(0.0, *(float(values.min()) for values in shown))
    high = max(0.0, *(float(values.max()) for values in shown)) or limit
    steps = np.linspace(low, high, 256, dtype=np.float32)[:, None]
    bar = tint(steps, limit, np.full((256, 1, 3), 0.75))
    axes.imshow(bar, origin="lower", aspect="auto", extent=(0, 1, low, high))
    axes.yaxis.tick_right()
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.tick_params(length=2, width=0.6, labelsize=8.5, color=GREY, labelcolor=INK, pad=2)
    unit = maps[0].unit.replace(" per ", "\nper ")  # the mask's heading is beside it
    axes.set_title(unit, fontsize=9.5, color=INK, loc="left", pad=6)
