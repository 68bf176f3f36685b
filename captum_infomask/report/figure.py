# Figures of maps: one map over its picture, and several methods side by side.
from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from captum.attr import visualization
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from captum_infomask._messages import printable
from captum_infomask.report.colour_planes import ARBITRARY, SMOOTHED, shown_plane, smoothed_note
from captum_infomask.report.colours import RGB, pale_grey, tint
from captum_infomask.report.page_content import BoolArray, FloatArray, MethodRow, PhotoArray

_COLOURS = "RdBu_r"  # told apart without colour vision for red and green


def map_figure(
    plane: FloatArray, unit: str, title: str, picture: PhotoArray | None = None
) -> tuple[Figure, Axes]:
    """Draw a map, over its picture if there is one.

    Captum's ``visualize_image_attr`` rescales a map to its own largest magnitude; the colour bar
    says what that is. Maps of windows are smoothed between window centres, which is said below.

    Args:
        plane: (H, W), in ``unit``.
        unit: What the values are counted in.
        title: Above the map.
        picture: (H, W, 3), uint8.

    Returns:
        The figure, on an Agg canvas (no window, no pyplot state), and the map's axes.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.figure import map_figure
        >>> figure, axes = map_figure(np.eye(8, dtype=np.float32), "bits", "tripod")
        >>> figure.axes[1].get_ylabel()
        'bits'
    """
    figure = Figure(figsize=(5.5, 4.5))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    limit = float(np.abs(plane).max()) or 1.0
    visualization.visualize_image_attr(
        (plane / limit if plane.any() else np.ones_like(plane))[:, :, None],
        picture,
        method="heat_map" if picture is None else "blended_heat_map",
        sign="all",
        plt_fig_axis=(figure, axes),
        outlier_perc=0,
        cmap=_COLOURS,
        alpha_overlay=0.6,
        title=title,
        use_pyplot=False,
    )
    # Captum refuses a map that is 0 everywhere, and would stretch a smoothed one.
    shown = shown_plane(plane)
    axes.images[-1].set_data(shown / limit)
    if shown is not plane:
        axes.set_xlabel(SMOOTHED, fontsize=8, color=GREY)
    colours = ScalarMappable(Normalize(-limit, limit), _COLOURS)
    figure.colorbar(colours, ax=axes, label=unit)
    return figure, axes


INK, GREY, PAPER = "#1b1f24", "#69707a", "#e9ebee"

# The page, in inches.
MARGIN, TOP, HEAD, GAP = 0.25, 0.5, 0.5, 0.2
PHOTO, PANEL, BAR = 3.3, 1.9, 0.1
PHOTO_TO_PANELS, OVERLAY_TO_MASK, MASK_TO_KEPT = 0.4, 0.85, 0.2
CAPTION = 4.7


@dataclass(frozen=True)
class Caption:
    """What the figure says beside the photograph.

    Args:
        title: The name of the target's category.
        facts: Pairs of a number with its unit, and what it is.
        notes: Paragraphs in small print.
        mask: The head of the masks' column.

    Example:
        >>> from captum_infomask.report.figure import Caption
        >>> Caption("espresso", (("9.91 bits", "i(y; x)"),)).title
        'espresso'
    """

    title: str
    facts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    mask: str = "mask, 20% of the largest"


def methods_figure(
    photo: PhotoArray, rows: Sequence[MethodRow], caption: Caption
) -> tuple[Figure, list[Axes]]:
    """Draw the photograph and one row per method: overlay, mask, and what the mask keeps.

    Methods that count in bits share one colour scale; every other method has a scale of its own.
    Scales are centred at 0, and colours fade into the grey photograph where there is no
    information, so that only what the network saw evidence in is tinted. Maps of windows are
    smoothed between window centres, which the small print says; masks and numbers are exact.

    Args:
        photo: (H, W, 3), uint8, the pixels that the network saw.
        rows: One per method; attributions and masks are (H, W).
        caption: The words under the photograph.

    Returns:
        The figure, on an Agg canvas (no window, no pyplot state), and its panels: the photograph,
        then three per method that did not fail.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.figure import Caption, methods_figure
        >>> from captum_infomask.report.page_content import MethodResult, MethodRow
        >>> values = np.eye(8, dtype=np.float32)
        >>> row = MethodRow("InfoMask crop", "bits", MethodResult(values, values > 0.2))
        >>> fig, axes = methods_figure(np.zeros((8, 8, 3), np.uint8), [row], Caption("espresso"))
        >>> len(axes)
        4
    """
    aspect = photo.shape[0] / photo.shape[1]
    page = _Page(len(rows), PHOTO * aspect, PANEL * aspect)
    panels = [page.axes(MARGIN, TOP + HEAD, PHOTO, page.photo_height)]
    panels[0].imshow(photo)
    note = smoothed_note(row.result.attribution for row in rows if row.result)
    _write_caption(page, replace(caption, notes=(*caption.notes, *[note] * bool(note))))
    for column, title in enumerate(("attribution", caption.mask, "what it keeps")):
        page.text(page.column_left(column), TOP - 0.16, title, 10.5, color=GREY)
    limits = _limits(rows)
    grey = pale_grey(photo)
    for place, row in enumerate(rows):
        top = page.row_top(place)
        _write_heading(page, place, row)
        if row.result is None:
            continue
        pictures = (
            tint(shown_plane(row.result.attribution), limits[place], grey),
            _mask_picture(row.result.mask),
            _kept(photo, row.result.mask),
        )
        for column, picture in enumerate(pictures):
            axes = page.axes(page.column_left(column), top, PANEL, page.panel_height)
            axes.imshow(picture)
            panels.append(axes)
    for places in _scale_groups(rows):
        _draw_scale(page, rows, places, limits[places.start])
    return page.figure, panels


class _Page:
    """A figure whose places are given in inches from its upper left corner."""

    def __init__(self, rows: int, photo_height: float, panel_height: float) -> None:
        self.photo_height, self.panel_height = photo_height, panel_height
        self.width = self.column_left(2) + PANEL + MARGIN
        rows_end = self.row_top(rows - 1) + panel_height
        self.height = max(rows_end, TOP + HEAD + photo_height + CAPTION) + MARGIN
        self.figure = Figure(figsize=(self.width, self.height), facecolor="white")
        self.figure.set_layout_engine("none")  # whatever the user's own figures are laid out by
        FigureCanvasAgg(self.figure)

    def column_left(self, column: int) -> float:
        """Left edge of the overlays, the masks, or what the masks keep."""
        overlay = MARGIN + PHOTO + PHOTO_TO_PANELS
        mask = overlay + PANEL + OVERLAY_TO_MASK
        return (overlay, mask, mask + PANEL + MASK_TO_KEPT)[column]

    def row_top(self, place: int) -> float:
        """Upper edge of a method's panels."""
        return TOP + HEAD + place * (self.panel_height + GAP + HEAD)

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """An empty panel without ticks or frame."""
        lower = self.height - top - height
        box = (left / self.width, lower / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(box)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        return axes

    def text(self, left: float, baseline: float, words: str, size: float, **style: Any) -> None:
        """Words that start at the left, on a baseline."""
        place = (left / self.width, 1 - baseline / self.height)
        self.figure.text(
            *place,
            printable(words),
            fontsize=size,
            va="baseline",
            parse_math=False,  # a name may hold dollars
            **{"color": INK, **style},
        )


def _write_caption(page: _Page, caption: Caption) -> None:
    """The target's name above the photograph; numbers and small print below it."""
    page.text(MARGIN, TOP - 0.16, "what the network sees", 10.5, color=GREY)
    page.text(MARGIN, TOP + HEAD - 0.12, caption.title, 18, weight="bold")
    line = TOP + HEAD + page.photo_height + 0.42
    for number, meaning in caption.facts:
        page.text(MARGIN, line, number, 16)
        page.text(MARGIN, line + 0.2, meaning, 9, color=GREY)
        line += 0.62
    for note in caption.notes:
        for part in textwrap.wrap(note, 47):
            page.text(MARGIN, line, part, 9)
            line += 0.19
        line += 0.12


def _write_heading(page: _Page, place: int, row: MethodRow) -> None:
    """A method's name and meaning over its panels, and what its mask keeps."""
    line = page.row_top(place) - 0.11
    page.text(page.column_left(0), line - 0.2, row.name, 12, weight="bold")
    page.text(page.column_left(0), line, row.meaning, 9, color=GREY)
    if row.result is None:
        for number, part in enumerate(textwrap.wrap(f"failed: {row.error}", 80), start=1):
            page.text(page.column_left(0), line + 0.22 * number, part, 9)
        return
    page.text(page.column_left(1), line, row.numbers, 9, color=GREY)


def _limits(rows: Sequence[MethodRow]) -> list[float]:
    """Largest magnitude that each row's colours reach: common to all rows of one unit."""
    own = [float(np.abs(row.result.attribution).max()) if row.result else 0.0 for row in rows]
    shared: dict[str, float] = {}
    for limit, row in zip(own, rows, strict=True):
        shared[row.unit] = max(shared.get(row.unit, 0.0), limit)
    return [
        (limit if row.unit == ARBITRARY else shared[row.unit]) or 1.0
        for limit, row in zip(own, rows, strict=True)
    ]


def _scale_groups(rows: Sequence[MethodRow]) -> list[range]:
    """The rows of each colour bar: neighbours of one unit share one."""
    groups: list[range] = []
    for place, row in enumerate(rows):
        if row.result is None:
            continue
        before = groups[-1] if groups else range(0)
        is_same = bool(before) and row.unit == rows[before.start].unit != ARBITRARY
        if before.stop == place and is_same:
            groups[-1] = range(before.start, place + 1)
        else:
            groups.append(range(place, place + 1))
    return groups


def _mask_picture(mask: BoolArray) -> RGB:
    """Dark where the mask keeps, pale elsewhere."""
    return np.where(mask[..., None], to_rgb(INK), to_rgb(PAPER))


def _kept(photo: PhotoArray, mask: BoolArray) -> RGB:
    """The photograph where the mask keeps it, pale elsewhere."""
    return np.where(mask[..., None], photo / 255.0, to_rgb(PAPER))


def _draw_scale(page: _Page, rows: Sequence[MethodRow], places: range, limit: float) -> None:
    """A colour bar beside the overlays that share it, as far as their values reach."""
    top = page.row_top(places[0])
    height = page.row_top(places[-1]) + page.panel_height - top
    axes = page.axes(page.column_left(0) + PANEL + 0.1, top, BAR, height)
    shown = [row.result.attribution for row in rows[places.start : places.stop] if row.result]
    low = min(0.0, *(float(values.min()) for values in shown))
    high = max(0.0, *(float(values.max()) for values in shown)) or limit
    steps = np.linspace(low, high, 256, dtype=np.float32)[:, None]
    bar = tint(steps, limit, np.full((256, 1, 3), 0.75))
    axes.imshow(bar, origin="lower", aspect="auto", extent=(0, 1, low, high))
    axes.yaxis.tick_right()
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.tick_params(length=2, width=0.6, labelsize=8.5, color=GREY, labelcolor=INK, pad=2)
    unit = rows[places[0]].unit.replace(" per ", "\nper ")  # beside it stands the mask's heading
    axes.set_title(unit, fontsize=9.5, color=INK, loc="left", pad=6)
