# The layout of a comparison's figure: columns, sizes, lines of words, and the maps' colour scales.
from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from captum_infomask._messages import printable
from captum_infomask._process import quiet
from captum_infomask.report.colour_planes import ARBITRARY
from captum_infomask.report.page_content import FloatArray, MapContent
from captum_infomask.report.smoothing import smooth_plane
from captum_infomask.report.words import signed

Layout: TypeAlias = Literal["row", "grid"]
Masks: TypeAlias = Literal["contour", "panel"]
Scale: TypeAlias = Literal["own", "unit"]

# In inches: the figure's width and the widest panel if nobody chose; the parts of a figure.
_WIDTH, _WIDEST = 7.0, 2.3
MARGIN, _GAP, _PAD, _BAR = 0.06, 0.1, 0.05, 0.07
_NARROWEST, _MOST = 0.78, 6  # a panel of a row in inches, and the most panels of a row
_ASPECTS = (0.2, 2.0)  # the place of a panel, height by width; other pictures are centred in it
# Points of letters in a figure of 7 inches; the least and the most in another.
_NAME, _SMALL = (8.0, 6.2, 14.0), (7.0, 6.0, 12.0)
_LINE = 1.25 / 72  # inches of a line per point
_SLACK = 1.03  # pixels round letters up
_RATIO = 5  # a map whose peak is less than one in so many of its unit's scale is multiplied


@dataclass(frozen=True)
class Sheet:
    """The measures of a figure, in inches; letters are in points."""

    width: float
    columns: int
    panel: float  # the width of a panel's place
    tall: float  # its height
    gap: float
    pad: float
    bar: float
    name: float
    small: float

    @property
    def line(self) -> float:
        """The height of a small line."""
        return _LINE * self.small

    @property
    def name_line(self) -> float:
        """The height of a line of a name."""
        return _LINE * self.name

    def name_lines(self, name: str) -> list[str]:
        """Break a name into bold lines as wide as a panel."""
        return _wrapped(name, self.panel, self.name, 3, "bold")

    def lines(self, words: str, most: int, room: float | None = None) -> list[str]:
        """Break words into small lines as wide as a panel, or as ``room``."""
        return _wrapped(words, self.panel if room is None else room, self.small, most)

    def fitting(self, *choices: str) -> str:
        """Return the first of several texts that fits into one small line; nothing if none does."""
        return next((words for words in choices if self.has_room(words)), "")

    def has_room(self, words: str) -> bool:
        """Whether words fit into one small line."""
        return _inches(words, self.small) <= self.panel


def make_sheet(
    size: tuple[int, int], count: int, layout: Layout, width: float | None = None
) -> Sheet:
    """Measure a figure.

    Args:
        size: The pictures' height and width, in pixels.
        count: The number of panels of a picture.
        layout: ``row`` has up to six columns, if panels are not too narrow; ``grid`` two to four.
        width: The figure's width in inches. None is 7, or less if there are few columns.

    Example:
        >>> from captum_infomask.report.figure_layout import make_sheet
        >>> sheets = [make_sheet((8, 8), 5, layout) for layout in ("row", "grid")]
        >>> [(sheet.columns, round(sheet.panel, 1)) for sheet in sheets]
        [(5, 1.3), (3, 2.2)]
    """
    asked = _WIDTH if width is None else width
    if layout == "grid":
        columns = min((2, 3, 4), key=lambda columns: _blanks(count, columns))
    else:
        most = max(2, min(_MOST, int(asked / _NARROWEST)))
        columns = -(-count // -(-count // most))  # the rows are equally long, or nearly
    whole = min(_WIDTH, columns * _WIDEST) if width is None else width
    larger = asked / _WIDTH
    gap, pad, bar = (part * min(max(larger, 0.6), 2.0) for part in (_GAP, _PAD, _BAR))
    panel = (whole - 2 * MARGIN - (columns - 1) * gap) / columns
    low, high = _ASPECTS
    tall = panel * min(max(size[0] / size[1], low), high)
    name, small = (min(max(size * larger, least), most) for size, least, most in (_NAME, _SMALL))
    return Sheet(whole, columns, panel, tall, gap, pad, bar, name, small)


def _blanks(count: int, columns: int) -> tuple[int, int]:
    """Return how far a grid is from wide enough, and the number of places that stay empty."""
    rows = -(-count // columns)
    return max(0, rows - columns), rows * columns - count


def _wrapped(
    words: str, room: float, points: float, most: int, weight: str = "normal"
) -> list[str]:
    """Break words into lines that fit a width in inches; what is too long ends in …."""
    line = printable(words)
    widest = max(1, int(room * 72 / (0.3 * points)))  # no letter is narrower, but for a few
    for letters in range(min(len(line), widest), 0, -1):
        lines = textwrap.wrap(line, letters, max_lines=most, placeholder="…")
        if letters == 1 or all(_inches(part, points, weight) <= room for part in lines):
            return lines
    return []


def _inches(words: str, points: float, weight: str = "normal") -> float:
    """Return the width of words."""
    with quiet("Glyph "):  # the font may not have a letter
        width, _, _ = text_to_path.get_text_width_height_descent(
            printable(words), FontProperties(size=points, weight=weight), False
        )
    return _SLACK * float(width) / 72


class ColourRange(NamedTuple):
    """A map's colour bar, from ``low`` to ``high``, and how many times its unit's colours it has.

    Args:
        low: The least value, at most 0.
        high: The largest value, at least 0.
        times: 1, or the number that colours are multiplied by.
    """

    low: float
    high: float
    times: int = 1

    @property
    def limit(self) -> float:
        """The magnitude of full colour."""
        return max(-self.low, self.high)

    @property
    def words(self) -> tuple[str, str]:
        """Both ends in words."""
        return short_number(self.low), short_number(self.high)


def short_number(value: float) -> str:
    """Write a limit with two digits that count."""
    return signed(value, ",.0f" if abs(value) >= 100 else ".2g")


def colour_ranges(maps: Sequence[MapContent], scale: Scale) -> list[ColourRange]:
    """Return each map's colours.

    Args:
        maps: The maps of a figure.
        scale: ``own``: the map's own values. ``unit``: the maps of one unit share a scale, but for
            arbitrary units. A map whose peak is below a fifth of it is multiplied by 5, 10, 20, …

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.figure_layout import colour_ranges
        >>> from captum_infomask.report.page_content import MapContent
        >>> maps = [MapContent("", "bits", np.full((1, 1), v, np.float32)) for v in (8, 4, 0.25)]
        >>> [tuple(found) for found in colour_ranges(maps, "unit")]
        [(0.0, 8.0, 1), (0.0, 8.0, 1), (0.0, 0.4, 20)]
    """
    own = [_extremes(made.plane) for made in maps]
    ranges = [ColourRange(low, high if high > low else low + 1) for low, high in own]
    if scale == "own":
        return ranges
    for place, (made, (low, high)) in enumerate(zip(maps, own, strict=True)):
        if made.unit != ARBITRARY:
            same = [one for one, other in zip(own, maps, strict=True) if other.unit == made.unit]
            lows, highs = zip(*same, strict=True)
            shared = ColourRange(min(lows), max(highs))
            peak = max(-low, high)
            times = _nice(shared.limit / peak) if 0 < peak < shared.limit / _RATIO else 1
            if shared.limit:
                low_shown, high_shown = min(low, shared.low / times), max(high, shared.high / times)
                ranges[place] = ColourRange(low_shown, high_shown, times)
    return ranges


def _extremes(plane: FloatArray | None) -> tuple[float, float]:
    """Return the smallest and the largest finite value, and 0 among them.

    If single pixels stand out so much that smoothing takes half of them, a map drawn in its own
    scale would be blank. It has the scale of what is drawn.
    """
    if plane is None:
        return 0.0, 0.0
    low, high = _finite_extremes(plane)
    shown = _finite_extremes(smooth_plane(plane))
    return shown if max(-shown[0], shown[1]) < max(-low, high) / 2 else (low, high)


def _finite_extremes(plane: FloatArray) -> tuple[float, float]:
    finite = plane[np.isfinite(plane)]
    return float(finite.min(initial=0)), float(finite.max(initial=0))


def _nice(ratio: float) -> int:
    """Return the largest of 1, 2, 5, 10, 20, … that is not above a ratio."""
    power: int = 10 ** int(np.log10(ratio))
    return max(step * power for step in (1, 2, 5) if step * power <= ratio)
