# A picture's map beside the bars of a table's columns: two inputs of one network, on one scale.
from __future__ import annotations

import textwrap
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from captum_infomask._messages import printable
from captum_infomask.masks import Rule
from captum_infomask.report.colours import Shades
from captum_infomask.report.drawn_figure import DrawnFigure
from captum_infomask.report.overlay import BAR_GROUND, draw_bar, draw_map
from captum_infomask.report.page_content import FloatArray, PhotoArray
from captum_infomask.report.words import decimals

_PICTURE, _BARS, _MARGIN, _BAR_ROOM, _DPI = 3.6, 2.5, 0.12, 0.95, 200  # inches, dots per inch
_MOST = 12  # bars
_LONGEST = 22  # letters of a column's name
_LETTER, _ROW = 0.075, 0.27  # inches: the width of a letter, the height of a bar and its gap
_SIZES = (11, 8.5)  # points
_INK, _GREY = "#1b1f24", "#69707a"


@dataclass(frozen=True, eq=False)
class Bars:
    """The columns of a table, as they are drawn.

    Attributes:
        names: The columns' names.
        values: Their values, (F,), in the unit of the map.
        errors: Half the widths of their intervals, (F,), if these are known.
    """

    names: tuple[str, ...]
    values: FloatArray
    errors: FloatArray | None = None

    def largest(self) -> tuple[Bars, FloatArray]:
        """Return the bars that are drawn, the largest first, and the values of all others."""
        order = np.argsort(-np.abs(np.nan_to_num(self.values)), kind="stable")
        shown, left = order[:_MOST], order[_MOST:]
        errors = None if self.errors is None else self.errors[shown]
        names = tuple(self.names[place] for place in shown)
        return Bars(names, self.values[shown], errors), self.values[left]


def beside_tables(
    plane: FloatArray,
    unit: str,
    photo: PhotoArray | None,
    bars: Bars,
    shades: Shades,
    *,
    heads: tuple[str, str] = ("", ""),
    panels: tuple[str, str] = ("", ""),
    smooth: bool = True,
    contour: Rule | None = None,
) -> tuple[Figure, Axes]:
    """Draw a picture's map and the bars of a table's columns, with one colour bar for both.

    The longest twelve bars are drawn. A line below them says what the others are.

    Args:
        plane: (H, W), in ``unit``.
        unit: The unit of the values.
        photo: (H, W, 3), uint8, or None.
        bars: The table's columns, in the same unit.
        shades: The colours of both; their limit is the largest magnitude of both.
        heads: The title, and a smaller line below it.
        panels: The words above the picture, and above the bars.
        smooth: Whether the map's colours and outline are smoothed for the eye.
        contour: The rule of the map's mask to outline; None for no outline.

    Returns:
        The figure on an Agg canvas (no window, no pyplot state), and the picture's axes.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.beside_tables import Bars, Shades, beside_tables
        >>> plane = np.eye(8, dtype=np.float32)
        >>> bars = Bars(("age", "dose"), np.array([0.5, -2.0], np.float32))
        >>> figure, axes = beside_tables(plane, "bits", None, bars, Shades(2.0, signed=True))
        >>> [label.get_text() for label in figure.axes[1].get_yticklabels()]
        ['dose', 'age']
    """
    shown, others = bars.largest()
    names = [textwrap.shorten(printable(name), _LONGEST, placeholder="…") for name in shown.names]
    figure, (picture, table, scale) = _axes(plane.shape, names, heads, bool(others.size))
    threshold = draw_map(picture, plane, photo, shades, smooth=smooth, contour=contour)
    values = np.concatenate([plane.ravel(), bars.values]).astype(np.float32)
    draw_bar(picture, values[None], unit, shades, threshold=threshold, own=scale)
    _draw_bars(table, shown, names, shades, unit)
    for axes, words in zip((picture, table), panels, strict=True):
        axes.set_title(
            printable(words), loc="left", fontsize=9.5, color=_INK, pad=5, parse_math=False
        )
    if others.size:
        table.annotate(
            _left_out(others, unit),
            (0, 0),
            (0, -34),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=_SIZES[1],
            color=_GREY,
            parse_math=False,
        )
    return figure, picture


def _draw_bars(axes: Axes, bars: Bars, names: list[str], shades: Shades, unit: str) -> None:
    places = np.arange(len(names))
    # The colours of the colour bar, in which values near 0 are grey.
    colours = shades.over(bars.values[None], np.full((1, len(places), 3), BAR_GROUND))[0]
    axes.barh(places, bars.values, 0.68, color=np.clip(colours, 0, 1), linewidth=0)
    if bars.errors is not None:
        known = np.nan_to_num(bars.errors)
        axes.errorbar(
            bars.values, places, xerr=known, fmt="none", ecolor=_INK, elinewidth=1, capsize=2
        )
    axes.axvline(0, color=_GREY, linewidth=0.8)
    axes.set_ylim(len(names) - 0.5, -0.5)
    reach = 0.0 if bars.errors is None else np.nan_to_num(bars.errors)
    low = min(0.0, float((bars.values - reach).min(initial=0)))
    high = max(0.0, float((bars.values + reach).max(initial=0)))
    room = 0.3 * (high - low or 1)  # for the numbers at the ends of the bars
    axes.set_xlim(low - (room if low < 0 else 0), high + room)
    ends = bars.values + np.where(bars.values < 0, -1, 1) * reach
    for place, value, end in zip(places, bars.values, ends, strict=True):
        is_left = value < 0
        axes.annotate(
            decimals(float(value)),
            (end, place),
            (-3 if is_left else 3, 0),
            textcoords="offset points",
            ha="right" if is_left else "left",
            va="center",
            fontsize=_SIZES[1],
            color=_INK,
        )
    axes.set_yticks(places, names, fontsize=9, parse_math=False)
    words = unit if bars.errors is None else f"{unit}, with 95% intervals"
    axes.set_xlabel(words, fontsize=9, color=_INK, parse_math=False)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", length=3, labelsize=_SIZES[1])
    axes.spines[["top", "right", "left"]].set_visible(False)


def _left_out(others: FloatArray, unit: str) -> str:
    """Say how many columns are not drawn, and the most that one of them says."""
    most = float(np.abs(np.nan_to_num(others)).max())
    columns = "column says" if len(others) == 1 else "columns say"
    return f"{len(others)} more {columns} at most ±{decimals(most)} {unit} each"


def _axes(
    size: tuple[int, ...], names: list[str], heads: tuple[str, str], has_note: bool
) -> tuple[DrawnFigure, tuple[Axes, Axes, Axes]]:
    """Make a figure with its title, and axes for the picture, the bars and the colour bar."""
    height = min(max(_PICTURE * size[0] / size[1], 1.0), 2 * _PICTURE)
    label = _LETTER * max(map(len, names)) + 0.25
    width = 2 * _MARGIN + _PICTURE + _BAR_ROOM + label + _BARS + 0.35
    title, below = (
        textwrap.wrap(printable(words), int(width * letters), max_lines=2, placeholder=" …")
        for words, letters in zip(heads, (11, 15), strict=True)
    )
    head = 0.22 * len(title) + 0.18 * len(below) + 0.45
    bars = max(_ROW * len(names), 0.5)
    foot = 0.5 + 0.25 * has_note  # below the bars: ticks, the unit, and the note
    room = max(height, bars + foot)
    whole = head + room + _MARGIN
    figure = DrawnFigure((width, whole), dpi=_DPI)
    top = whole - head
    for words, points, inches in (
        (title, _SIZES[0], whole - 0.1),
        (below, _SIZES[1], whole - 0.12 - 0.22 * len(title)),
    ):
        figure.text(
            *(_MARGIN / width, inches / whole, "\n".join(words)),
            va="top",
            fontsize=points,
            color=_INK,
            parse_math=False,
        )

    def placed(left: float, across: float, down: float) -> Axes:
        return figure.add_axes((left / width, (top - down) / whole, across / width, down / whole))

    picture = placed(_MARGIN, _PICTURE, height)
    table = placed(_MARGIN + _PICTURE + _BAR_ROOM + label, _BARS, bars)
    scale = placed(_MARGIN + _PICTURE + 0.08, 0.14, height)
    return figure, (picture, table, scale)
