# The figure that says whether bits are true: what was observed against what was said.
from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from captum_infomask.report.colours import base64_text
from captum_infomask.report.drawn_figure import DrawnFigure
from captum_infomask.report.page_content import BitsCurve

# Okabe and Ito's colours: colour-blind readers can tell them apart. The marks differ too.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1b1f24")
_ON_BLACK = ("#56b4e9", "#ff9a52", "#2ed6a1", "#eb9ccf", "#e5cf3a", "#b3a1ff", "#f2f5f7")
_MARKS = "osD^vPX"
_OF_PAGE = (4.1, 5.0)  # inches: as wide as a narrow screen, so that letters keep their size there
_LINE = 0.2  # inches, of a legend above the panel
_DPI = 220
_LOWEST = -4.0  # bits: what lies below says "hardly", and would squeeze the rest
_SHIFT = 0.008  # of the axis, between the whiskers of two curves


class _Paper(NamedTuple):
    """The colours of a figure."""

    ink: str
    grey: str
    pale: str
    shade: str
    colours: tuple[str, ...]


_WHITE = _Paper("#1b1f24", "#69707a", "#d5d9de", "#f3f4f6", _COLOURS)
_PAGE = _WHITE._replace(shade="#eceef1")
_BLACK = _Paper("#e8ecef", "#9aa5b1", "#3a444e", "#1c2228", _ON_BLACK)


def bits_figure(
    curves: Sequence[BitsCurve], *, ax: Axes | None = None, title: str = ""
) -> tuple[Figure, list[Axes]]:
    """Draw curves over the diagonal, with intervals, and the expected counts below.

    Whiskers are intervals. An arrow down from a bar is a bound: there the class never occurred. In
    the shaded side below the diagonal a network says too many bits. Bins that say less than −4 bits
    are not drawn; a triangle at the bottom stands for less than what the axis shows.

    Args:
        curves: The curves; at least one.
        ax: A panel to draw into; None makes a figure with the panel of counts.
        title: Words above.

    Returns:
        The figure and its panels.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.page_content import BitsCurve
        >>> from captum_infomask.report.bits_figure import bits_figure
        >>> said = np.array([-1.0, 2.0])
        >>> curve = BitsCurve("crop", said, said, said - 0.1, said + 0.1, np.array([20.0, 80.0]))
        >>> figure, panels = bits_figure([curve])
        >>> len(panels)
        2

    Source: after Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599, Figure
    1, in bits.
    """
    if ax is not None:
        _draw(curves, [ax], _WHITE)
        panels, figure = [ax], ax.get_figure(root=True) or Figure()
    else:
        figure, panels = _whole(curves, (4.9, 6.1), _WHITE)  # so tall that the width limits both
    panels[0].set_title(title, fontsize=11, color=_WHITE.ink, loc="left")
    return figure, panels


def bits_pictures(curves: Sequence[BitsCurve]) -> tuple[str, str]:
    """Draw curves for a light page and for a dark one, as PNG data URIs without a ground.

    Args:
        curves: The curves; at least one.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.page_content import BitsCurve
        >>> from captum_infomask.report.bits_figure import bits_pictures
        >>> said = np.array([-1.0, 2.0])
        >>> curve = BitsCurve("crop", said, said, said - 0.1, said + 0.1, np.array([20.0, 80.0]))
        >>> light, dark = bits_pictures([curve])
        >>> light[:22], light == dark
        ('data:image/png;base64,', False)
    """
    light, dark = (_png(curves, paper) for paper in (_PAGE, _BLACK))
    return light, dark


def _png(curves: Sequence[BitsCurve], paper: _Paper) -> str:
    width, height = _OF_PAGE
    figure, panels = _whole(curves, (width, height + _LINE * len(curves)), paper, _DPI)
    for patch in (figure.patch, *(panel.patch for panel in panels)):
        patch.set_alpha(0)
    # Above the panel it covers no whisker; the page says what lies below the line.
    panels[0].legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        frameon=False,
        fontsize=8.5,
        handlelength=1,
        labelcolor=paper.ink,
    )
    file = io.BytesIO()
    # The user's own settings, which savefig would heed, may cut the margins.
    FigureCanvasAgg(figure).print_png(file)  # type: ignore[no-untyped-call]
    return f"data:image/png;base64,{base64_text(file.getvalue())}"


def _whole(
    curves: Sequence[BitsCurve], size: tuple[float, float], paper: _Paper, dpi: float | None = None
) -> tuple[Figure, list[Axes]]:
    """Draw the curves, and the expected counts below."""
    figure = DrawnFigure(size, "constrained", dpi)
    panels = list(figure.subplots(2, 1, sharex=True, height_ratios=(5, 1)))
    _draw(curves, panels, paper)
    return figure, panels


def _draw(curves: Sequence[BitsCurve], panels: Sequence[Axes], paper: _Paper) -> None:
    limits = _limits(curves)
    for counts in panels[1:]:
        _draw_counts(counts, curves, limits, paper)
    _draw_curves(panels[0], curves, limits, paper)
    panels[-1].set_xlabel("bits that regions say", color=paper.ink)
    for one in panels:
        one.spines[["top", "right"]].set_visible(False)
        one.spines[["bottom", "left"]].set_color(paper.ink)
        one.tick_params(length=2, color=paper.grey, labelcolor=paper.ink, labelsize=8.5)


def _limits(curves: Sequence[BitsCurve]) -> tuple[float, float]:
    """The range of both axes: that of what is said, and of what was seen there."""
    said = np.concatenate([curve.said for curve in curves])
    seen = np.concatenate([np.fmax(curve.observed, curve.upper) for curve in curves])
    ends = np.concatenate([said, seen[np.isfinite(seen)]])
    low = max(_LOWEST, math.floor(min(float(ends.min()), 0.0)) - 0.25)
    return low, max(float(ends.max()), 0.5) * 1.04 + 0.15


def _draw_curves(
    axes: Axes, curves: Sequence[BitsCurve], limits: tuple[float, float], paper: _Paper
) -> None:
    low, high = limits
    axes.fill_between([low, high], [low, high], low, color=paper.shade, linewidth=0, zorder=0)
    axes.axhline(0, color=paper.pale, linewidth=0.8, zorder=1)
    axes.axvline(0, color=paper.pale, linewidth=0.8, zorder=1)
    axes.plot(
        [low, high], [low, high], color=paper.ink, linewidth=0.9, linestyle=(0, (4, 3)), zorder=2
    )
    for number, curve in enumerate(curves):
        shift = (number - (len(curves) - 1) / 2) * _SHIFT * (high - low)
        colour = paper.colours[number % len(paper.colours)]
        _draw_curve(axes, curve, colour, _MARKS[number % len(_MARKS)], shift, low)
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_box_aspect(1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=high - low > 4))
    axes.set_ylabel("bits observed: log₂ (frequency / prior)", color=paper.ink)
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1, 0.05),
        facecolor=paper.shade,
        labelcolor=paper.ink,
        edgecolor="none",
        fontsize=8.5,
        handlelength=1,
        title="below the line: too many bits",
        title_fontsize=8.5,
        alignment="left",
    ).get_title().set_color(paper.ink)


def _draw_curve(
    axes: Axes, curve: BitsCurve, colour: str, mark: str, shift: float, low: float
) -> None:
    """Draw marks and whiskers; the whiskers of several curves stand beside each other."""
    shown = curve.said >= low
    is_seen = shown & np.isfinite(curve.observed) & (curve.observed >= low)
    places = curve.said + shift
    axes.plot(curve.said[is_seen], curve.observed[is_seen], color=colour, linewidth=1.1, alpha=0.45)
    axes.plot(
        *(places[is_seen], curve.observed[is_seen]),
        color=colour,
        marker=mark,
        markersize=4.5,
        linestyle="none",
        label=curve.name,
        zorder=4,
    )
    bottom, top = np.maximum(curve.lower, low)[is_seen], curve.upper[is_seen]
    axes.vlines(places[is_seen], bottom, top, color=colour, linewidth=1.1)
    is_bound = shown & ~is_seen
    ends = np.fmax(np.fmax(curve.upper, curve.observed), low)
    for place, end in zip(places[is_bound], ends[is_bound], strict=True):
        is_below = end <= low
        axes.plot(
            place, end, color=colour, marker="v" if is_below else "_", zorder=4, clip_on=False
        )
        if not is_below:
            arrow = {"arrowstyle": "-|>", "color": colour, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", (place, low), (place, end), arrowprops=arrow)


def _draw_counts(
    axes: Axes, curves: Sequence[BitsCurve], limits: tuple[float, float], paper: _Paper
) -> None:
    """Draw the share of the expected counts in each bin."""
    width = 0.012 * (limits[1] - limits[0])
    for number, curve in enumerate(curves):
        shift = (number - (len(curves) - 1) / 2) * width
        share = curve.expected / curve.expected.sum()
        axes.bar(
            *(curve.said + shift, share, width),
            color=paper.colours[number % len(paper.colours)],
            linewidth=0,
        )
    axes.set_box_aspect(0.18)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_ylabel("expected", color=paper.ink)
