# The figure of a comparison: a photograph, and one map per method beside it.
from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from captum_infomask._messages import printable
from captum_infomask.report.colour_planes import picture_size
from captum_infomask.report.colours import Shades
from captum_infomask.report.drawn_figure import DrawnFigure
from captum_infomask.report.figure_layout import (
    MARGIN,
    ColourRange,
    Layout,
    Masks,
    Scale,
    Sheet,
    colour_ranges,
    make_sheet,
)
from captum_infomask.report.overlay import (
    BAR_GROUND,
    DIMMED,
    GROUND,
    OUTLINE,
    draw_map,
    draw_outline,
)
from captum_infomask.report.page_content import (
    BoolArray,
    FloatArray,
    MapContent,
    PhotoArray,
    PictureContent,
)
from captum_infomask.report.panel_figure import GREY, INK, PAPER
from captum_infomask.report.smoothing import shown_mask

_BETWEEN = 0.14  # inches between rows
_NOTE_LINES = 4
_SMALLEST = 0.005  # of the picture: a smaller mask has no outline
_DPI = 150


def comparison_figure(
    pictures: Sequence[PictureContent],
    *,
    layout: Layout = "row",
    masks: Masks | None = "contour",
    scale: Scale = "own",
    width: float | None = None,
    rule: str = "",
) -> tuple[Figure, list[Axes]]:
    """Draw photographs, and beside each the map of every method over it, with a colour bar.

    Args:
        pictures: The photographs, all of one size; the targets' names and facts; the maps of the
            same methods, with their masks.
        layout: ``row`` has a row of at most six panels per picture; more panels wrap. ``grid`` has
            two to four columns.
        masks: ``contour`` outlines each mask and dims the rest. ``panel`` shows what it keeps in a
            panel of its own. None shows no masks. Masks are smoothed for the eye.
        scale: ``own``: every map has a scale of its own. ``unit``: the maps of one unit share a
            scale; a map below a fifth of it is multiplied, and says by how much.
        width: The figure's width in inches. None is 7, or less if there are few panels.
        rule: The rule of the masks, in a few words.

    Returns:
        The figure, on an Agg canvas (no window, no pyplot state); and its panels: per picture the
        photograph and the methods' maps, and then with ``panel`` what each mask keeps.

    Raises:
        ArgumentError: A picture and its maps differ in size.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.figure import comparison_figure
        >>> from captum_infomask.report.page_content import MapContent, PictureContent
        >>> values = np.eye(8, dtype=np.float32)
        >>> made = MapContent("InfoMask crop", "bits", values, mask=values > 0.2)
        >>> photo = np.zeros((8, 8, 3), np.uint8)
        >>> figure, panels = comparison_figure([PictureContent(photo, "espresso", (), (made,))])
        >>> len(panels), figure.get_size_inches().round(1).tolist()
        (2, [4.6, 2.7])
    """
    sizes = [picture_size(picture) for picture in pictures]
    count = 1 + len(pictures[0].maps)
    height, across = sizes[0]
    sheet = make_sheet((height, across), count, layout, width)
    ranges = iter(colour_ranges([made for picture in pictures for made in picture.maps], scale))
    rows = []
    for place, (picture, size) in enumerate(zip(pictures, sizes, strict=True)):
        photo = picture.pixels
        if photo is None:
            photo = np.full((*size, 3), round(255 * GROUND), np.uint8)
        facts = [number for number, _ in picture.facts[:2]]
        below = sheet.fitting(", ".join(facts), *facts)
        note = f"outline: {rule}" if masks == "contour" and rule and not place else ""
        cells = [_Cell(sheet.name_lines(picture.title), below, photo, note=note)]
        for made in picture.maps:
            # In rows of one picture each, the methods' names stand over the first.
            is_named = not place or count > sheet.columns
            name = sheet.name_lines(made.name) if is_named else []
            below = sheet.fitting(made.meaning) if is_named else ""
            cells.append(_Cell(name, below, photo, made, next(ranges)))
        rows.append(cells)
    return _Page(sheet, rows, masks, rule).drawn()


class _Cell(NamedTuple):
    """A photograph, or a map over it: lines above it, and a note below it."""

    name: list[str]
    below: str
    photo: PhotoArray
    made: MapContent | None = None
    range: ColourRange = ColourRange(0.0, 1.0)
    note: str = ""

    @property
    def unit(self) -> str:
        """The colour bar's unit in words; nothing if there is no bar."""
        if self.made is None or self.made.plane is None:
            return ""
        return self.made.unit.replace(" per 1%", " per 1% of the picture")

    @property
    def bar_words(self) -> str:
        """Words as long as a colour bar whose unit stands in the middle between its limits."""
        longest = max(self.range.words, key=len)
        return f"{longest}  {self.unit}  {longest}"


class _Page:
    """A figure that is drawn from its top down, row by row; positions are in inches."""

    def __init__(
        self, sheet: Sheet, rows: Sequence[list[_Cell]], masks: Masks | None, rule: str
    ) -> None:
        self.sheet, self.masks, self.rule, self.rows = sheet, masks, rule, rows
        self.weight = min(max(sheet.panel / 2, 0.5), 1.0)  # of outlines: thinner in small panels
        barred = [cell for cell in chain(*rows) if cell.unit]
        # Units stand between the limits if there is room in every bar, else below them.
        fits = all(sheet.has_room(cell.bar_words) for cell in barred)
        units = [len(sheet.lines(cell.unit, 2)) for cell in barred]
        self.unit_lines = 0 if fits else max(units)
        notes = max(len(sheet.lines(cell.note, _NOTE_LINES)) for cell in chain(*rows))
        self.foot = max(
            sheet.pad + sheet.bar + sheet.line * (1 + self.unit_lines),
            sheet.line * (notes + 0.25),
        )
        kept = sheet.gap + sheet.tall + sheet.pad + sheet.line if masks == "panel" else 0.0
        self.bands = [
            (place, cells[start : start + sheet.columns])
            for place, cells in enumerate(rows)
            for start in range(0, len(cells), sheet.columns)
        ]
        self.heights = [
            sum(self._head(cells)) + sheet.tall + self.foot + kept for _, cells in self.bands
        ]
        whole = 2 * MARGIN + sum(self.heights) + _BETWEEN * (len(self.bands) - 1)
        self.height = whole
        self.figure = DrawnFigure((sheet.width, whole), dpi=_DPI)

    def _head(self, cells: Sequence[_Cell]) -> tuple[float, float]:
        """Return the heights of the names over a row, and of the lines below the names."""
        names = max(len(cell.name) for cell in cells) * self.sheet.name_line
        return names, self.sheet.line * any(cell.below for cell in cells) + self.sheet.pad / 2

    def drawn(self) -> tuple[Figure, list[Axes]]:
        """Draw all, and return the figure and its panels in the order of the pictures."""
        sheet = self.sheet
        shown: list[list[Axes]] = [[] for _ in self.rows]
        kept: list[list[Axes]] = [[] for _ in self.rows]
        top = MARGIN
        for (place, cells), height in zip(self.bands, self.heights, strict=True):
            names, below = self._head(cells)
            upper = top + names + below
            lower = upper + sheet.tall
            for column, cell in enumerate(cells):
                left = MARGIN + column * (sheet.panel + sheet.gap)
                self._write_head(cell, left, top + names)
                shown[place].append(self._draw_panel(cell, left, upper))
                self._draw_foot(cell, left, lower)
                if self.masks == "panel":
                    kept[place] += self._draw_kept(cell, left, lower + self.foot + sheet.gap)
            top += height + _BETWEEN
        panels = [[*first, *then] for first, then in zip(shown, kept, strict=True)]
        return self.figure, list(chain(*panels))

    def _write_head(self, cell: _Cell, left: float, lower: float) -> None:
        """Write a name whose last line ends at a height, and the line below it."""
        sheet = self.sheet
        first = lower - (len(cell.name) - 1) * sheet.name_line - 0.25 * sheet.name_line
        for number, words in enumerate(cell.name):
            baseline = first + number * sheet.name_line
            self._write(left, baseline, words, fontsize=sheet.name, weight="bold")
        self._write(left, lower + 0.75 * sheet.line, cell.below, color=GREY)

    def _draw_panel(self, cell: _Cell, left: float, top: float) -> Axes:
        """Draw a photograph, a map, or the reason why there is none."""
        axes = self._axes(left, top, self.sheet.panel, self.sheet.tall)
        made = cell.made
        if made is None:
            axes.imshow(cell.photo, origin="upper")
        elif made.plane is None:
            self._write_error(axes, made.error)
        else:
            self._draw_map(axes, cell, made.plane, made.mask)
        return axes

    def _draw_map(self, axes: Axes, cell: _Cell, plane: FloatArray, mask: BoolArray | None) -> None:
        """Draw a map; with ``contour`` outline its mask, and dim the photograph outside."""
        photo = cell.photo
        shown = None if mask is None or self.masks != "contour" else shown_mask(mask)
        if shown is not None and shown.mean() >= _SMALLEST:
            photo = np.where(shown[..., None], photo, DIMMED * photo).astype(np.uint8)
            draw_outline(axes, shown, weight=self.weight)
        draw_map(axes, plane, photo, Shades(cell.range.limit))
        if cell.range.times > 1:
            axes.text(
                0.04,
                0.96,
                f"× {cell.range.times:,}",
                transform=axes.transAxes,
                va="top",
                fontsize=self.sheet.small,
                color="white",
                usetex=False,
                bbox={"boxstyle": "round,pad=0.25", "color": INK, "alpha": 0.8, "linewidth": 0},
            )

    def _write_error(self, axes: Axes, error: str) -> None:
        """Say in the panel why there is no map."""
        sheet = self.sheet
        axes.set_facecolor(PAPER)
        most = max(1, int((sheet.tall - sheet.pad) / sheet.line))
        lines = sheet.lines(f"failed: {error}", most, sheet.panel - 2 * sheet.pad)
        axes.text(
            0.5,
            0.5,
            "\n".join(lines),
            transform=axes.transAxes,
            ha="center",
            va="center",
            fontsize=sheet.small,
            color=GREY,
            parse_math=False,
            usetex=False,
        )

    def _draw_foot(self, cell: _Cell, left: float, top: float) -> None:
        """Draw a map's colour bar with its limits and its unit; below a photograph its note."""
        sheet = self.sheet
        self._write_lines(left, top, sheet.lines(cell.note, _NOTE_LINES))
        made, (low, high, _) = cell.made, cell.range
        if made is None or made.plane is None:
            return
        axes = self._axes(left, top + sheet.pad, sheet.panel, sheet.bar)
        steps = np.linspace(low, high, 256, dtype=np.float32)[None]
        colours = Shades(cell.range.limit).over(steps, np.full((1, 256, 3), BAR_GROUND))
        axes.imshow(colours, origin="upper", aspect="auto", extent=(low, high, 0, 1))
        if self.masks is not None and made.mask is not None and made.mask.any():
            threshold = float(made.plane[made.mask].min())
            for width, colour, alpha in OUTLINE:
                axes.axvline(threshold, color=colour, linewidth=width * self.weight, alpha=alpha)
        axes.set_xlim(low, high)
        first = top + sheet.pad + sheet.bar
        baseline = first + 0.9 * sheet.line
        middle, right = left + sheet.panel / 2, left + sheet.panel
        self._write(left, baseline, cell.range.words[0])
        self._write(right, baseline, cell.range.words[1], ha="right")
        units = sheet.lines(cell.unit, max(1, self.unit_lines))
        self._write_lines(middle, first + sheet.line * (self.unit_lines > 0), units, ha="center")

    def _draw_kept(self, cell: _Cell, left: float, top: float) -> list[Axes]:
        """Draw what a mask keeps, and say below how much that is; beside it, say the rule."""
        sheet, made = self.sheet, cell.made
        if made is None:
            words = f"what masks keep: {self.rule}" if self.rule else "what masks keep"
            self._write_lines(left, top, sheet.lines(words, _NOTE_LINES))
            return []
        if made.mask is None:
            return []
        axes = self._axes(left, top, sheet.panel, sheet.tall)
        kept = shown_mask(made.mask)[..., None]
        axes.imshow(np.where(kept, cell.photo / 255, to_rgb(PAPER)), origin="upper")
        share = float(made.mask.mean())
        words = sheet.fitting(f"{100 * share:.2g}% of the picture", f"{100 * share:.2g}%")
        middle, lower = left + sheet.panel / 2, top + sheet.tall + sheet.pad
        self._write_lines(middle, lower, [words], ha="center")
        return [axes]

    def _axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Add a panel without ticks or frame."""
        across, down = self.sheet.width, self.height
        lower = down - top - height
        axes = self.figure.add_axes((left / across, lower / down, width / across, height / down))
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        return axes

    def _write_lines(self, left: float, top: float, lines: Sequence[str], **style: Any) -> None:
        """Write small lines below a height."""
        for number, words in enumerate(lines):
            self._write(left, top + (number + 0.9) * self.sheet.line, words, color=GREY, **style)

    def _write(self, left: float, baseline: float, words: str, **style: Any) -> None:
        """Write words on a baseline."""
        if words:
            self.figure.text(
                left / self.sheet.width,
                1 - baseline / self.height,
                printable(words),
                va="baseline",
                parse_math=False,  # a name may hold dollars
                usetex=False,
                **{"color": INK, "fontsize": self.sheet.small, **style},
            )
