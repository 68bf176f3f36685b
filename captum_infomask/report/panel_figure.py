# A figure of panels whose places are in inches, under a title and a smaller line.
from __future__ import annotations

import math
import textwrap

from matplotlib.axes import Axes
from matplotlib.axis import Axis

from captum_infomask._messages import printable
from captum_infomask.report.drawn_figure import DrawnFigure
from captum_infomask.report.words import signed

INK, GREY, PAPER = "#1b1f24", "#69707a", "#e9ebee"
HEAD_POINTS = (11, 8.5)  # of the title's letters, and of those of the line below it
HEAD_LINES = (0.19, 0.15)  # inches of a line of each
MARGIN = 0.1
_LETTERS = (11, 17)  # in an inch of each
_DPI = 200
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def wrapped_heads(heads: tuple[str, str], inches: float) -> tuple[str, str]:
    """Break a title and the line below it into lines of some width, three at most."""
    title, below = (
        "\n".join(
            map(
                printable,
                textwrap.wrap(words, max(12, int(inches * letters)), max_lines=3, placeholder=" …"),
            )
        )
        for words, letters in zip(heads, _LETTERS, strict=True)
    )
    return title, below


def heads_height(heads: tuple[str, str]) -> float:
    """Return the height of a broken title and the line below it, in inches."""
    lines = [part.count("\n") + 1 if part else 0 for part in heads]
    return sum(a * b for a, b in zip(lines, HEAD_LINES, strict=True)) + 0.1


def scale_numbers(axis: Axis, largest: float) -> str:
    """Write an axis's numbers as multiples of a power of ten if they are long.

    Matplotlib would write the power into a corner, over other words.

    Args:
        axis: The axis.
        largest: The largest magnitude on it, finite.

    Returns:
        The power, to be written before the unit, or nothing.
    """
    if not largest or 1e-2 <= largest < 1e5:
        return ""
    power = math.floor(math.log10(largest))
    axis.set_major_formatter(lambda value, _: signed(round(value / 10.0**power, 6) + 0.0, "g"))
    return f"10{str(power).translate(_RAISED)} "


class PanelFigure(DrawnFigure):
    """A white figure under a title and a smaller line; panels are placed in inches.

    Args:
        width: The figure's width in inches.
        height: The height of what lies below the head, without margins.
        heads: The title and the smaller line; either may be empty.

    Example:
        >>> from captum_infomask.report.panel_figure import PanelFigure
        >>> figure = PanelFigure(5.0, 2.0, ("espresso", "9.9 bits"))
        >>> float(figure.panel(0.1, 0.0, 4.8, 2.0).get_position().width)
        0.96
    """

    def __init__(self, width: float, height: float, heads: tuple[str, str]) -> None:
        title, below = wrapped_heads(heads, width - 2 * MARGIN)
        self._top = MARGIN + heads_height((title, below)) * bool(title or below)
        super().__init__((width, self._top + height + MARGIN), dpi=_DPI)
        self._size = width, self._top + height + MARGIN
        first = MARGIN + HEAD_LINES[0] * (title.count("\n") + 1) * bool(title)
        for words, top, points, alpha in (
            (title, MARGIN, HEAD_POINTS[0], 1.0),
            (below, first + 0.02, HEAD_POINTS[1], 0.75),
        ):
            self.text(
                MARGIN / width,
                1 - top / self._size[1],
                words,
                va="top",
                fontsize=points,
                alpha=alpha,
                parse_math=False,
                usetex=False,
            )

    def panel(self, left: float, top: float, width: float, height: float) -> Axes:
        """Add a panel; ``top`` is counted from below the head."""
        across, down = self._size
        lower = down - self._top - top - height
        return self.add_axes((left / across, lower / down, width / across, height / down))
