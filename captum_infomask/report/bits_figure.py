# The figure that says whether bits are true: what was observed against what was said.
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from captum_infomask.report.drawn_figure import DrawnFigure

_INK, _GREY, _PALE = "#1b1f24", "#69707a", "#d5d9de"
# Okabe and Ito's colours: colour-blind readers can tell them apart. The marks differ too.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1b1f24")
_MARKS = "osD^vPX"
_SHADE = "#f3f4f6"
_LOWEST = -4.0  # bits: what lies below says "hardly", and would squeeze the rest
_SHIFT = 0.008  # of the axis, between the whiskers of two curves

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BitsCurve:
    """One curve: bins from the lowest bits to the highest.

    Args:
        name: Its words in the legend.
        said: (B,), in bits.
        observed: (B,); −inf if the class never occurred.
        lower: Lower ends of the intervals, (B,); NaN if there are none.
        upper: Upper ends, (B,).
        expected: Expected counts, (B,).
    """

    name: str
    said: Numbers
    observed: Numbers
    lower: Numbers
    upper: Numbers
    expected: Numbers


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
        >>> from captum_infomask.report.bits_figure import BitsCurve, bits_figure
        >>> said = np.array([-1.0, 2.0])
        >>> curve = BitsCurve("crop", said, said, said - 0.1, said + 0.1, np.array([20.0, 80.0]))
        >>> figure, panels = bits_figure([curve])
        >>> len(panels)
        2

    Source: after Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599, Figure
    1, in bits.
    """
    low, high = _limits(curves)
    if ax is None:
        own = DrawnFigure((4.9, 5.4), "constrained")
        panel, counts = own.subplots(2, 1, sharex=True, height_ratios=(5, 1))
        panels = [panel, counts]
        _draw_counts(counts, curves, (low, high))
        counts.set_xlabel("bits that regions say", color=_INK)
        figure: Figure = own
    else:
        panels, figure = [ax], ax.get_figure(root=True) or Figure()
        ax.set_xlabel("bits that regions say", color=_INK)
    _draw_curves(panels[0], curves, (low, high))
    panels[0].set_title(title, fontsize=11, color=_INK, loc="left")
    for one in panels:
        one.spines[["top", "right"]].set_visible(False)
        one.tick_params(length=2, color=_GREY, labelcolor=_INK, labelsize=8.5)
    return figure, panels


def _limits(curves: Sequence[BitsCurve]) -> tuple[float, float]:
    """The range of both axes: that of what is said, and of what was seen there."""
    said = np.concatenate([curve.said for curve in curves])
    seen = np.concatenate([np.fmax(curve.observed, curve.upper) for curve in curves])
    ends = np.concatenate([said, seen[np.isfinite(seen)]])
    low = max(_LOWEST, math.floor(min(float(ends.min()), 0.0)) - 0.25)
    return low, max(float(ends.max()), 0.5) * 1.04 + 0.15


def _draw_curves(axes: Axes, curves: Sequence[BitsCurve], limits: tuple[float, float]) -> None:
    low, high = limits
    axes.fill_between([low, high], [low, high], low, color=_SHADE, linewidth=0, zorder=0)
    axes.axhline(0, color=_PALE, linewidth=0.8, zorder=1)
    axes.axvline(0, color=_PALE, linewidth=0.8, zorder=1)
    axes.plot([low, high], [low, high], color=_INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=2)
    for number, curve in enumerate(curves):
        shift = (number - (len(curves) - 1) / 2) * _SHIFT * (high - low)
        _draw_curve(axes, curve, number, shift, low)
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_box_aspect(1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=high - low > 4))
    axes.set_ylabel("bits observed: log₂ (frequency / prior)", color=_INK)
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1, 0.05),
        facecolor=_SHADE,
        edgecolor="none",
        fontsize=8.5,
        handlelength=1,
        title="below the line: too many bits",
        title_fontsize=8.5,
        alignment="left",
    )


def _draw_curve(axes: Axes, curve: BitsCurve, number: int, shift: float, low: float) -> None:
    """Draw marks and whiskers; the whiskers of several curves stand beside each other."""
    colour, mark = _COLOURS[number % len(_COLOURS)], _MARKS[number % len(_MARKS)]
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


def _draw_counts(axes: Axes, curves: Sequence[BitsCurve], limits: tuple[float, float]) -> None:
    """Draw the share of the expected counts in each bin."""
    width = 0.012 * (limits[1] - limits[0])
    for number, curve in enumerate(curves):
        shift = (number - (len(curves) - 1) / 2) * width
        share = curve.expected / curve.expected.sum()
        axes.bar(
            curve.said + shift, share, width, color=_COLOURS[number % len(_COLOURS)], linewidth=0
        )
    axes.set_box_aspect(0.18)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_ylabel("expected", color=_INK)
